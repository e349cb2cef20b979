"""What test files share: a web server that can misbehave, tiny wheels, and `named`."""

import contextlib
import os
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from course_utils import runtime

# One number of threads for all tests and what they start: with another, sums are rounded
# differently, and some tests compare bits.
runtime.share_cores()
os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))


class Loopback:
    """`answers[path]` is a list of functions of the handler; the last one answers for good."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.answers: dict[str, list] = {}
        self.requests: list[str] = []
        self.agents: list[str] = []
        self.released = threading.Event()

    def whole(self, content: bytes):
        return lambda handler: _send(handler, content, len(content))

    def status(self, code: int):
        return lambda handler: handler.send_error(code)

    def says(self, *lines: str, content: bytes = b""):
        """These lines as they are: a status, then headers, right or wrong."""
        head = "\r\n".join(["HTTP/1.1 " + lines[0], *lines[1:], "", ""]).encode()
        return lambda handler: handler.wfile.write(head + content)

    def drip(self, content: bytes = b"x", every: float = 0.05, header: bool = False):
        """Bytes without an end, slowly; with `header` inside a header that never ends."""

        def answer(handler):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"X-Long: " if header else b"\r\n"))
            while not self.released.wait(every):
                handler.wfile.write(content)
                handler.wfile.flush()

        return answer

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
        def handle(self):
            with contextlib.suppress(ConnectionError):  # the client has had enough
                super().handle()

        def do_GET(self):
            web.requests.append(self.path)
            web.agents.append(self.headers["User-Agent"])
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


@pytest.fixture
def course(loopback, tmp_path, monkeypatch):
    """A catalogue whose X-rays lie on the loopback server; an empty cache; no mirror."""
    from test_fetch import FILE, offer

    from course_utils.datasets import fetching

    offer(monkeypatch, f"{loopback.url}/{FILE}")
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("COURSE_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(tmp_path / "nothing"))
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.setattr(fetching, "TIMEOUT", (2.0, 1.0))
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    return loopback


@pytest.fixture(autouse=True)
def _no_proxy_for_loopback(monkeypatch):
    """A proxy for the internet must not stand between a test and its server on this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@pytest.fixture(scope="session")
def wheel():
    """Writes an installable wheel with one empty module into a folder."""

    def write(folder, name, number, needs=()):
        info = f"{name}-{number}.dist-info"
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {number}"]
        lines += [f"Requires-Dist: {need}" for need in needs]
        kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        with zipfile.ZipFile(folder / f"{name}-{number}-py3-none-any.whl", "w") as file:
            file.writestr(f"{name}.py", "")
            file.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
            file.writestr(f"{info}/WHEEL", kind)
            file.writestr(f"{info}/RECORD", "")

    return write


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    """No test writes into the list of exercises that whoever runs it has solved."""
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))
