"""A learner with an internet line and nothing else; and publishers who refuse, mislead or flood."""

import contextlib
import dataclasses
import email.utils
import gzip
import hashlib
import io
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from test_fetch import CONTENT, FILE, SHA256, cached, offer

from course_utils import datasets
from course_utils.datasets import (
    CATALOG,
    DataError,
    Unreachable,
    commands,
    fetching,
    load,
    transfer,
)
from course_utils.datasets.archives import manifest
from course_utils.datasets.catalog import Source
from course_utils.datasets.commands import in_reach
from course_utils.datasets.fetching import fetch
from course_utils.runtime import ROOT


def mirrored(name: str) -> Path:
    """The mirror's archive, or a skip."""
    path = next((place.path for place in fetching.at_hand(name)), None)
    if path is None:
        pytest.skip(f"no copy of {name} at hand")
    return path


def as_published(name: str) -> bytes:
    """What the publisher sends: the mirror's file, and of ISIC the repository's archive.

    Of the X-rays and the hippocampus the mirror holds editions of its own, served here under their
    own checksums; `test_upstream_is_what_monai_and_medmnist_name` holds those of the publishers.
    """
    path = mirrored(name)
    if name != "isic2017" or path.name != "isic2017-256.zip":
        return path.read_bytes()
    folders = {"train": "ISIC-2017_Training_Data", "val": "ISIC-2017_Validation_Data"}
    target = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as archive:
        for member in source.namelist():
            _, part, *rest = member.split("/")
            if rest[:1] == ["images"]:
                archive.writestr(
                    f"image_mining-04943b8f/{folders[part]}/{rest[1]}", source.read(member)
                )
        archive.writestr("image_mining-04943b8f/Exam_tp.py", "print('not read')")
    return target.getvalue()


@pytest.fixture
def publishers(loopback, tmp_path, monkeypatch):
    """Every publisher's address leads to the loopback server, and nothing is cached."""
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("COURSE_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(tmp_path / "nothing"))
    monkeypatch.setenv("COURSE_DATA", "real")
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    return loopback


def redirect(web, monkeypatch, name: str, content: bytes) -> None:
    """Serve `content` where the publishers of a set do, and refuse `python-requests`."""
    entry = CATALOG[name]
    own = "sha256:" + hashlib.sha256(content).hexdigest()
    sources = []
    for source in entry.sources:
        if source.url is None:
            sources.append(source)
            continue
        parts = urlsplit(source.url)
        path = f"/{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        checksum = source.checksum if source.checksum.startswith("manifest") else own
        sources.append(dataclasses.replace(source, url=web.url + path, checksum=checksum))

        def answer(handler):
            if handler.headers["User-Agent"].startswith("python-requests"):
                return web.status(403)(handler)
            return web.whole(content)(handler)

        web.answers[path] = [answer]
    monkeypatch.setitem(CATALOG, name, dataclasses.replace(entry, sources=tuple(sources)))


@pytest.mark.parametrize("name", CATALOG)
def test_a_learner_with_internet_gets_the_data_of_the_ledger(name, publishers, monkeypatch):
    with monkeypatch.context() as before:
        before.delenv("COURSE_DATA_MIRROR")
        before.delenv("COURSE_DATA_CACHE")
        content = as_published(name)
    redirect(publishers, monkeypatch, name, content)
    data = load(name)
    assert data.source == "upstream" and not data.synthetic
    experiment = "first_model" if name == "pneumonia" else name
    lines = (ROOT / "results" / f"{experiment}.jsonl").read_text().splitlines()
    assert {json.loads(line)["data_sha256"] for line in lines} == {data.sha256}
    assert len(publishers.requests) == 1
    (agent,) = publishers.agents
    assert agent.startswith("attention-in-medical-imaging/0.")
    assert fetch(name).source == "upstream" and len(publishers.requests) == 1  # from the cache


def test_every_set_has_a_publisher():
    for entry in CATALOG.values():
        urls = [source.url for source in entry.sources if source.kind == "upstream"]
        assert urls and all(url.startswith("https://") for url in urls)


def test_the_truth_of_isic_comes_with_the_course():
    with zipfile.ZipFile(ROOT / "data" / "isic2017-truth.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert len(names) == 2152 and {"train.csv", "val.csv"} < set(names)
    assert (ROOT / "data" / "isic2017-truth.zip").stat().st_size < 1_500_000


# Several sources, and sources that refuse --------------------------------------------------------


def two(monkeypatch, first: str, second: str, checksum: str) -> None:
    sources = tuple(Source(FILE, checksum, url) for url in (first, second))
    entry = dataclasses.replace(CATALOG["pneumonia"], sources=sources)
    monkeypatch.setitem(CATALOG, "pneumonia", entry)


@pytest.mark.parametrize("code", [403, 404, 429, 500, 503])
def test_the_next_source_is_asked(course, tmp_path, monkeypatch, code):
    two(monkeypatch, f"{course.url}/first", f"{course.url}/second", SHA256)
    course.answers["/first"] = [course.status(code)]
    course.answers["/second"] = [course.whole(CONTENT)]
    assert fetch("pneumonia").path.read_bytes() == CONTENT
    tries = 1 if code == 404 else fetching.TRIES
    assert course.requests == ["/first"] * tries + ["/second"]
    assert cached(tmp_path) == [f"upstream/{FILE}"]


def test_a_wrong_file_at_the_first_source_is_said_and_the_next_is_asked(
    course,
    monkeypatch,
    capsys,
):
    two(monkeypatch, f"{course.url}/first", f"{course.url}/second", SHA256)
    course.answers["/first"] = [course.whole(b"<html>log in</html>")]
    course.answers["/second"] = [course.whole(CONTENT)]
    assert fetch("pneumonia").path.read_bytes() == CONTENT
    assert "/first" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("1", 1, 2.5),
        ("0", 0, 0.9),
        ("99999", 0.4, 2),
        ("soon", 0, 0.9),
        ("-5", 0, 0.9),
        ("date", 0.9, 3),
    ],
)
def test_a_server_may_ask_for_a_pause_within_bounds(
    course,
    monkeypatch,
    header,
    least,
    most,
):
    monkeypatch.setattr(fetching, "LONGEST_PAUSE", 0.4 if header == "99999" else 5.0)
    if header == "date":
        header = email.utils.formatdate(time.time() + 2, usegmt=True)
    limited = course.says("429 Too Many", f"Retry-After: {header}", "Content-Length: 0")
    course.answers[f"/{FILE}"] = [limited, course.whole(CONTENT)]
    start = time.monotonic()
    assert fetch("pneumonia").path.read_bytes() == CONTENT
    assert least <= time.monotonic() - start < most
    assert len(course.requests) == 2


# Bounds ------------------------------------------------------------------------------------------


def size_of_entry(monkeypatch, size: int) -> None:
    monkeypatch.setitem(CATALOG, "pneumonia", dataclasses.replace(CATALOG["pneumonia"], size=size))


def test_a_file_may_be_a_tenth_larger_than_its_entry_says(course, monkeypatch):
    size_of_entry(monkeypatch, int(len(CONTENT) / 1.05))
    course.answers[f"/{FILE}"] = [course.whole(CONTENT)]
    assert fetch("pneumonia").path.read_bytes() == CONTENT


@pytest.mark.parametrize("announced", [True, False])
def test_a_stream_that_is_too_large_is_ended(
    course,
    tmp_path,
    monkeypatch,
    announced,
):
    size_of_entry(monkeypatch, 100_000)
    sizes = []

    def watched(part, *more):
        sizes.append(part.stat().st_size if part.exists() else 0)

    monkeypatch.setattr(fetching, "_remove", lambda part: (watched(part), part.unlink(True)))
    flood = course.drip(b"x" * 65536, every=0.0)
    course.answers[f"/{FILE}"] = [course.whole(CONTENT) if announced else flood]
    with pytest.raises(Unreachable, match=r"110000.*at most|at most.*110000|expected at most"):
        fetch("pneumonia")
    assert len(course.requests) == 1
    assert max(sizes) <= 110_000
    assert cached(tmp_path) == []


@pytest.mark.parametrize("header", [True, False])
def test_a_slow_drip_is_ended(course, tmp_path, monkeypatch, header):
    monkeypatch.setattr(fetching, "START", 1.0)
    monkeypatch.setattr(fetching, "SLOWEST", 1e9)
    course.answers[f"/{FILE}"] = [course.drip(header=header)]
    start = time.monotonic()
    with pytest.raises(Unreachable, match=r"not finished within 1 s.*too slow"):
        fetch("pneumonia")
    assert time.monotonic() - start < 4
    assert cached(tmp_path) == []


def test_what_is_cut_off_at_the_end_is_never_taken_for_whole(monkeypatch):
    class Slow(threading.Event):
        def set(self):
            super().set()
            time.sleep(0.2)  # the work has ended before anyone looks

    monkeypatch.setattr(transfer.threading, "Event", Slow)
    with pytest.raises(transfer.Failed, match="not finished"):
        transfer._within(0.01, lambda stop: stop.wait())


def test_the_time_allowed_suits_the_size():
    for entry in CATALOG.values():
        seconds = fetching.START + 1.1 * entry.size / fetching.SLOWEST
        assert 60 < seconds < 900
        assert seconds > entry.size * 8 / 0.5e6  # half a megabit a second is enough


def test_an_answer_that_would_have_to_be_unpacked_is_refused(course, tmp_path):
    bomb = gzip.compress(bytes(50_000_000))
    lines = "200 OK", "Content-Encoding: gzip", f"Content-Length: {len(bomb)}"
    course.answers[f"/{FILE}"] = [course.says(*lines, content=bomb)]
    with pytest.raises(Unreachable, match="packed as 'gzip'"):
        fetch("pneumonia")
    assert cached(tmp_path) == []


@pytest.mark.parametrize(
    "lines",
    [
        ("200 OK", "Content-Length: abc"),
        ("200 OK", "Content-Length: -1"),
        ("200 OK", "Content-Length: " + 5000 * "9"),
        ("302 Found", "Location: http://[::1", "Content-Length: 0"),
        ("302 Found", "Location: nonsense://x/y", "Content-Length: 0"),
        ("302 Found", "Location: http://a..b/", "Content-Length: 0"),
        ("302 Found", f"Location: /{FILE}", "Content-Length: 0"),
        ("302 Found", "Content-Length: 0"),
        ("200 OK", "Transfer-Encoding: chunked"),
        ("OK that is no status",),
    ],
)
def test_a_malformed_answer_is_unreachable(course, tmp_path, lines):
    course.answers[f"/{FILE}"] = [course.says(*lines, content=b"zz\r\n" * 9)]
    with pytest.raises(Unreachable, match=FILE):
        fetch("pneumonia")
    assert cached(tmp_path) == []


def test_an_address_may_begin_with_capitals(course, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_MIRROR", course.url.replace("http://", "HTTP://") + "/mirror")
    course.answers[f"/mirror/{FILE}"] = [course.whole(CONTENT)]
    assert fetch("pneumonia").source == "mirror"
    monkeypatch.setenv("COURSE_DATA_MIRROR", "ftp://example.org/x")
    with pytest.raises(ValueError, match=r"ftp://example\.org/x.*http:// or https://"):
        fetch("pneumonia")
    monkeypatch.setenv("COURSE_DATA_MIRROR", "http://")
    with pytest.raises(ValueError, match="address of a host"):
        fetch("pneumonia")


# The cause is named ------------------------------------------------------------------------------


def test_certificates_that_point_nowhere(course, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    offer(monkeypatch, f"https://127.0.0.1:{urlsplit(course.url).port}/{FILE}")
    with pytest.raises(Unreachable, match=r"REQUESTS_CA_BUNDLE.*gone\.pem.*do not exist") as caught:
        fetch("pneumonia")
    assert "cache" not in str(caught.value)
    assert datasets.load("pneumonia").synthetic


@pytest.mark.parametrize("bundle", [None, "empty"])
def test_a_certificate_that_is_not_trusted(course, tmp_path, monkeypatch, bundle):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    import http.server

    pem, key = tmp_path / "a.pem", tmp_path / "a.key"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run(
        [*command, "-keyout", key, "-out", pem, *subject], check=True, capture_output=True
    )
    if bundle:
        (tmp_path / "empty.pem").write_text("")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "empty.pem"))
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # the client hangs up
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        offer(monkeypatch, f"https://127.0.0.1:{server.server_address[1]}/{FILE}")
        with pytest.raises(Unreachable, match=r"certificate.*REQUESTS_CA_BUNDLE"):
            fetch("pneumonia")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("hung_up", [True, False])
def test_a_host_without_https_is_not_blamed_for_its_certificate(course, monkeypatch, hung_up):
    port = urlsplit(course.url).port
    with contextlib.ExitStack() as stack:
        if hung_up:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            threading.Thread(target=hang_up, args=[server], daemon=True).start()
            port = server.getsockname()[1]
        offer(monkeypatch, f"https://127.0.0.1:{port}/{FILE}")
        with pytest.raises(Unreachable, match=f"127.0.0.1:{port}|cut") as caught:
            fetch("pneumonia")
    assert "certificate" not in str(caught.value)


def hang_up(server: socket.socket) -> None:
    """Read what a client says first, and close."""
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            client.recv(100)
            client.close()


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "http://host:99999999", "http://[::1"])
def test_a_proxy_that_cannot_be_one_is_named(course, monkeypatch, proxy):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(Unreachable, match=r"the proxy .*HTTP_PROXY"):
        fetch("pneumonia")


def test_a_password_of_a_mirror_is_not_told(course, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA_MIRROR", course.url.replace("//", "//me:secret@"))
    with pytest.raises(Unreachable, match="answered 404") as caught:
        fetch("pneumonia")
    commands.path()
    assert "secret" not in str(caught.value) + capsys.readouterr().out


def test_a_proxy_is_named_without_its_password(course, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://me:secret@127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"proxy 127\.0\.0\.1:9.*NO_PROXY") as caught:
        fetch("pneumonia")
    assert "secret" not in str(caught.value)
    course.answers[f"/{FILE}"] = [course.whole(CONTENT)]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert fetch("pneumonia").path.read_bytes() == CONTENT


def test_no_line_refused_limited_and_cut_are_told_apart(course, monkeypatch):
    course.answers[f"/{FILE}"] = [course.status(429)]
    with pytest.raises(Unreachable, match=r"answered 429.*limits"):
        fetch("pneumonia")
    course.answers[f"/{FILE}"] = [course.cut(CONTENT)]
    with pytest.raises(Unreachable, match="was cut 3 times"):
        fetch("pneumonia")
    offer(monkeypatch, "http://127.0.0.1:9/x")
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9 refused it"):
        fetch("pneumonia")
    offer(monkeypatch, "http://nowhere.invalid/x")
    with pytest.raises(Unreachable, match=r"nowhere\.invalid cannot be looked up"):
        fetch("pneumonia")


# Two at once, and files that are not ours --------------------------------------------------------


def test_a_part_that_vanishes_is_no_fault(course, tmp_path, monkeypatch):
    course.answers[f"/{FILE}"] = [course.whole(CONTENT)]
    (tmp_path / "cache" / "upstream").mkdir(parents=True)
    for i in range(3):  # of other processes; gone when they are looked at
        (tmp_path / "cache" / "upstream" / f"x.{i}-0123abcd.part").write_bytes(b"")
    look = Path.stat

    def gone(path, **more):
        if path.name.startswith("x."):
            path.unlink(missing_ok=True)
        return look(path, **more)

    monkeypatch.setattr(Path, "stat", gone)
    assert fetch("pneumonia").path.read_bytes() == CONTENT


def test_our_own_part_that_vanishes_is_fetched_again(course, tmp_path, monkeypatch):
    course.answers[f"/{FILE}"] = [course.whole(CONTENT)]
    real, calls = fetching.transfer, []

    def robbed(url, part, *more):
        real(url, part, *more)
        calls.append(part)
        if len(calls) == 1:
            part.unlink()

    monkeypatch.setattr(fetching, "transfer", robbed)
    assert fetch("pneumonia").path.read_bytes() == CONTENT
    assert len(calls) == 2


@pytest.mark.parametrize("folder", ["cache", "cache/mirror", "cache/upstream"])
def test_a_mirror_inside_the_cache_is_never_deleted(
    course,
    tmp_path,
    monkeypatch,
    folder,
):
    (tmp_path / folder).mkdir(parents=True)
    theirs = tmp_path / folder / FILE
    theirs.write_bytes(b"another edition")
    part = tmp_path / folder / "their own.part"
    part.write_bytes(b"")
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(tmp_path / folder))
    with pytest.raises(DataError, match="wrong checksum"):
        fetch("pneumonia")
    assert theirs.read_bytes() == b"another edition" and part.exists()


# `course check` ----------------------------------------------------------------------------------


def test_check_says_who_answers_and_who_does_not(course, tmp_path, monkeypatch):
    two(monkeypatch, f"{course.url}/first", f"{course.url}/second", SHA256)
    course.answers["/first"] = [course.status(403)]
    course.answers["/second"] = [course.whole(CONTENT)]
    good, words = in_reach("pneumonia")
    assert good and words.startswith("upstream: 127.0.0.1") and "answered 403" in words
    assert cached(tmp_path) == []
    course.answers["/second"] = [course.hang()]
    start = time.monotonic()
    good, words = in_reach("pneumonia", seconds=1)
    assert not good and "answered 403" in words and "no answer within 1 s" in words
    assert time.monotonic() - start < 4


def test_check_takes_no_login_page_for_the_file(course):
    course.answers[f"/{FILE}"] = [course.whole(b"<html>log in</html>")]
    good, words = in_reach("pneumonia", seconds=1)
    assert not good and "log in" in words


def test_check_looks_into_a_file_before_it_calls_it_good(course, tmp_path):
    (tmp_path / "nothing" / FILE).write_bytes(CONTENT[1:])
    good, words = in_reach("pneumonia", seconds=1)
    assert not good and "wrong checksum" in words
    (tmp_path / "nothing" / FILE).write_bytes(CONTENT)
    assert in_reach("pneumonia", seconds=1)[0]


def test_the_mirrors_photographs_are_those_of_the_repository(tmp_path, monkeypatch):
    entry = CATALOG["isic2017"]
    source = entry.sources[0]
    (tmp_path / "mirror").mkdir()
    path = tmp_path / "mirror" / source.filename
    path.write_bytes(as_published("isic2017"))
    assert "manifest:" + manifest(path, entry.members, entry.unpacked) == source.checksum
    # What one machine has fetched is a mirror for the others.
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(path.parent))
    monkeypatch.setenv("COURSE_DATA_CACHE", str(tmp_path / "cache"))
    assert fetch("isic2017") == fetching.Fetched(path, "mirror")
