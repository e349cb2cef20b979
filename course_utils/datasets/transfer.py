"""One file over HTTP, within bounds of size and time; where that fails, the cause in words."""

import contextlib
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .errors import disk


class Failed(Exception):
    """Why a source did not answer. `again`: another try may help, after `pause` seconds."""

    def __init__(self, words: str, again: bool = False, pause: float | None = None) -> None:
        super().__init__(words)
        self.again, self.pause = again, pause


def transfer(url: str, path: Path, size: int, seconds: float, timeout: tuple[float, float]) -> None:
    """Write what `url` sends to `path`.

    Args:
        url: http or https.
        path: the file; its folder is there.
        size: bytes, at most.
        seconds: for all of it.
        timeout: seconds to wait for a connection, and for the next bytes.

    Raises:
        Failed: the source did not send a file within these bounds.
        DataError: this machine could not store it.
    """

    def work(stop: threading.Event) -> None:
        with _answer(url, timeout) as response, disk(path), path.open("wb") as file:
            for block in _blocks(response, url, size, timeout, stop):
                file.write(block)
                file.flush()  # a full disk is noticed here, not on closing

    _within(seconds, work)


def ask(url: str, size: int, seconds: float) -> str:
    """Whether a source would send the file: an empty text, else why not; within twice `seconds`."""

    def work(_: threading.Event) -> None:
        with _answer(url, (seconds, seconds)) as response:  # the header is enough
            length = response.headers.get("Content-Length", "")
            page = "html" in response.headers.get("Content-Type", "")
            if page or (length.isdecimal() and int(length[:20]) < size / 100):
                raise Failed("something else than the file came: does this network ask to log in?")

    try:
        _within(2 * seconds, work)  # the time-outs come first, and say more
    except Failed as why:
        return str(why)
    return ""


def agent() -> str:
    """The course and its version. Zenodo, for one, refuses the agent `python-requests`."""
    try:
        number = version("attention-in-medical-imaging")
    except PackageNotFoundError:
        number = "unknown"
    return f"attention-in-medical-imaging/{number}"


def _within(seconds: float, work: Callable[[threading.Event], None]) -> None:
    """Do `work` in a thread and wait so long: no time-out of a library covers a name that is looked
    up for ever, or a header that comes drop by drop."""
    stop, done = threading.Event(), Future[None]()

    def run() -> None:
        try:
            work(stop)
            done.set_result(None)
        except BaseException as problem:  # raised again below, in the caller's thread
            done.set_exception(problem)

    threading.Thread(target=run, daemon=True).start()
    try:
        done.result(max(seconds, 0))
    except TimeoutError as late:
        why = f"not finished within {seconds:.0f} s: the line or the server is too slow"
        raise Failed(why) from late
    finally:
        stop.set()


@contextlib.contextmanager
def _answer(url: str, timeout: tuple[float, float]) -> Iterator[Any]:
    """The open response. Whatever the network does wrong becomes `Failed`."""
    import requests

    # Unpacked sizes could not be bounded: ask for the file as it is.
    headers = {"User-Agent": agent(), "Accept-Encoding": "identity"}
    with _network(url, timeout):
        response = requests.get(url, stream=True, timeout=timeout, headers=headers)
    with response:
        if (code := response.status_code) != 200:
            again = code in (403, 408, 425, 429) or code >= 500
            words = f"the server answered {code} {response.reason}"
            if code in (403, 429):
                words += ", so it refuses this machine or limits downloads for now"
            raise Failed(words, again, _retry_after(response.headers.get("Retry-After", "")))
        if (packing := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise Failed(f"a malformed answer: packed as {packing!r}, which was not asked for")
        yield response


def _retry_after(header: str) -> float | None:
    """Seconds from a number or a date; None where it is neither."""
    import urllib3

    with contextlib.suppress(urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return urllib3.Retry().parse_retry_after(header)
    return None


def _blocks(
    response: Any, url: str, size: int, timeout: tuple[float, float], stop: threading.Event
) -> Iterator[bytes]:
    """What arrives, piece by piece, until the end or until `stop`; no more than `size` bytes."""
    from tqdm import tqdm

    arrived, length = 0, response.headers.get("Content-Length", "")
    if length and not (length.isdecimal() and len(length) < 20):
        raise Failed(f"a malformed answer: Content-Length is {length!r}")
    total = int(length) if length else None
    if total and total > size:
        raise Failed(f"a file of {total} bytes, where {size} at most were expected")
    # None: a bar on a terminal only, for in a stored notebook it would be noise
    with tqdm(total=total, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        while not stop.is_set():
            with _network(url, timeout):
                block = response.raw.read1(1 << 16)  # what is there: a slow drip, too
            if not block:
                return
            arrived += len(block)
            if arrived > size:
                raise Failed(f"more than the {size} bytes that were expected at most")
            bar.update(len(block))
            yield block


@contextlib.contextmanager
def _network(url: str, timeout: tuple[float, float]) -> Iterator[None]:
    """No error in here is one of this machine's disk, though many of them are an OSError."""
    try:
        yield
    except Exception as problem:  # a malformed answer raises almost anything
        raise _failed(problem, url, timeout) from problem


def _failed(problem: Exception, url: str, timeout: tuple[float, float]) -> Failed:
    """The cause in words, and whether it may pass: a cut may, a refusal or silence rarely does."""
    import urllib3

    server, proxy, chain = host(url), _proxy(url), _causes(problem)

    def has(*kinds: Any) -> bool:
        return any(isinstance(cause, kinds) for cause in chain)

    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if "CA certificate bundle" in str(problem) or (has(FileNotFoundError) and bundle):
        named = f"the certificates in REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, {bundle},"
        return Failed(f"{named} do not exist: correct that variable, or unset it")
    blamed = proxy and any(word in str(problem) for word in ("SOCKS", proxy.split("://")[-1]))
    if has(urllib3.exceptions.ProxyError) or blamed:
        remedy = "Correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or for a mirror set NO_PROXY=HOST"
        return Failed(f"the proxy {proxy} does not let us through. {remedy}")
    if has(ssl.SSLCertVerificationError) or "[X509" in str(problem):
        trusted = f"REQUESTS_CA_BUNDLE, {bundle}," if bundle else "REQUESTS_CA_BUNDLE"
        remedy = f"Is the clock right? If traffic is inspected, {trusted} has to name certificates"
        return Failed(f"the certificate of {server} is not trusted ({chain[-1]}). {remedy}")
    if has(ssl.SSLError):
        words = f"no secure connection to {server} ({chain[-1]}): cut, or no https server is there"
        return Failed(words, again=True)
    if has(urllib3.exceptions.NameResolutionError):
        return Failed(f"no connection: the name {server} cannot be looked up (is there internet?)")
    if has(ConnectionRefusedError):
        return Failed(f"no connection: {server} refused it (no server runs there)")
    if has(urllib3.exceptions.NewConnectionError):
        return Failed(f"no connection to {server} (no internet, or the host is down or blocked)")
    if has(urllib3.exceptions.TimeoutError, TimeoutError):
        return Failed(f"no answer within {timeout[0]:g} s, or silence for {timeout[1]:g} s")
    if has(urllib3.exceptions.ProtocolError, ConnectionError):
        return Failed("the connection was cut before the file was complete", again=True)
    return Failed(f"no usable address or answer ({type(problem).__name__}: {problem})")


def _causes(problem: BaseException) -> list[BaseException]:
    """An exception and what led to it, outermost first; requests and urllib3 tell it both ways."""
    chain = [problem]
    for one in chain:  # which grows meanwhile
        chain.extend(c for c in (one.__cause__, one.__context__) if c and c not in chain)
    return chain


def host(url: str) -> str:
    """The server of an address, without a name and a password that may stand in it."""
    return url.split("/")[2].rpartition("@")[2]


def public(url: str) -> str:
    """An address without a name and a password that may stand in it."""
    return re.sub("//[^/]*@", "//", url)


def _proxy(url: str) -> str:
    """The proxy in use, without a name and a password that may stand in its address."""
    from requests.utils import get_environ_proxies, select_proxy

    return (select_proxy(url, get_environ_proxies(url)) or "").rpartition("@")[2]
