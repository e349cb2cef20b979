"""What test files share: a web server that can misbehave, and the check that a mistake is named."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Loopback:
    """`answers[path]` is a list of functions of the handler; the last one answers for good."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.answers: dict[str, list] = {}
        self.requests: list[str] = []
        self.released = threading.Event()

    def whole(self, content: bytes):
        return lambda handler: _send(handler, content, len(content))

    def status(self, code: int):
        return lambda handler: handler.send_error(code)

    def cut(self, content: bytes):
        """Promise everything, send half, hang up."""
        return lambda handler: _send(handler, content[: len(content) // 2], len(content))

    def hang(self, content: bytes | None = None):
        """Stay silent; with content, only after half of it was sent."""

        def answer(handler):
            if content is not None:
                _send(handler, content[: len(content) // 2], len(content))
            self.released.wait(60)

        return answer


def _send(handler: BaseHTTPRequestHandler, content: bytes, length: int) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(content)
    handler.wfile.flush()


@pytest.fixture
def loopback():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            web.requests.append(self.path)
            queue = web.answers.get(self.path, [web.status(404)])
            answer = queue.pop(0) if len(queue) > 1 else queue[0]
            answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web = Loopback(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield web
    web.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy_for_loopback(monkeypatch):
    """A proxy for the internet must not stand between a test and its server on this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@pytest.fixture
def named():
    """Asserts that an exercise refuses an answer and names this mistake, and no other, in words."""
    from course_utils.exercises import exercise

    def check(name, answer, mistake, words):
        result = exercise(name).check(answer)
        message = " ".join(result.message.split())
        assert (result.passed, result.mistake) == (False, mistake), message
        assert words in message and "more than one thing" not in message

    return check
