"""Fetching from servers, mirrors and archives that misbehave."""

import dataclasses
import errno
import gzip
import hashlib
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from course_utils import datasets
from course_utils.datasets import CATALOG, DataError, Unreachable, bccd, commands, fetching
from course_utils.datasets import hippocampus as hippo
from course_utils.datasets.archives import manifest, read_members
from course_utils.datasets.catalog import Source
from course_utils.datasets.decoding import decode_images
from course_utils.datasets.fetching import fetch
from course_utils.runtime import ROOT

CONTENT = bytes(range(256)) * 1000
FILE = "pneumoniamnist.npz"
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def offer(monkeypatch, url: str, checksum: str = SHA256) -> None:
    sources = (Source(FILE, checksum, url), Source(FILE, checksum))
    entry = dataclasses.replace(CATALOG["pneumonia"], sources=sources)
    monkeypatch.setitem(CATALOG, "pneumonia", entry)


def cached(tmp_path: Path) -> list[str]:
    """All files of the cache."""
    folder = tmp_path / "cache"
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_good_file_is_fetched_once(course, tmp_path):
    course.answers[f"/{FILE}"] = [course.whole(CONTENT)]
    fetched = fetch("pneumonia")
    assert fetched.source == "upstream"
    assert fetched.path.read_bytes() == CONTENT
    assert fetch("pneumonia") == fetched
    assert len(course.requests) == 1
    assert cached(tmp_path) == [f"upstream/{FILE}"]


@pytest.mark.parametrize(
    "content", [CONTENT[:-1], CONTENT[:-1] + b"x", b"<html>log in</html>", b""]
)
def test_a_wrong_or_truncated_file_never_enters_the_cache(course, tmp_path, content):
    course.answers[f"/{FILE}"] = [course.whole(content)]
    with pytest.raises(DataError, match=rf"{FILE}.*wrong checksum") as caught:
        fetch("pneumonia")
    assert not isinstance(caught.value, Unreachable)
    assert "COURSE_DATA_MIRROR" in str(caught.value)
    assert cached(tmp_path) == []


def test_a_wrong_file_is_not_answered_with_a_phantom(course):
    course.answers[f"/{FILE}"] = [course.whole(b"wrong")]
    with pytest.raises(DataError, match="wrong checksum"):
        datasets.load("pneumonia")


@pytest.mark.parametrize(("code", "tries"), [(404, 1), (403, 3), (429, 3), (500, 3), (503, 3)])
def test_an_error_of_the_server(course, tmp_path, code, tries):
    course.answers[f"/{FILE}"] = [course.status(code)]
    with pytest.raises(Unreachable, match=rf"{FILE}.*the server answered {code}"):
        fetch("pneumonia")
    assert len(course.requests) == tries
    assert cached(tmp_path) == []


def test_a_passing_error_of_the_server_is_survived(course):
    course.answers[f"/{FILE}"] = [course.status(503), course.whole(CONTENT)]
    assert fetch("pneumonia").path.read_bytes() == CONTENT


@pytest.mark.parametrize("sent", [None, CONTENT])
def test_a_server_that_hangs(course, tmp_path, sent):
    course.answers[f"/{FILE}"] = [course.hang(sent)]
    start = time.monotonic()
    with pytest.raises(Unreachable, match=rf"{FILE}.*silence for 1 s"):
        fetch("pneumonia")
    assert time.monotonic() - start < 5
    assert cached(tmp_path) == []


def test_a_cut_connection_is_tried_again(course, tmp_path):
    course.answers[f"/{FILE}"] = [course.cut(CONTENT), course.cut(CONTENT), course.whole(CONTENT)]
    assert fetch("pneumonia").path.read_bytes() == CONTENT
    assert len(course.requests) == 3
    assert cached(tmp_path) == [f"upstream/{FILE}"]


def test_a_connection_cut_every_time(course, tmp_path):
    course.answers[f"/{FILE}"] = [course.cut(CONTENT)]
    with pytest.raises(Unreachable, match=rf"{FILE}.*cut 3 times"):
        fetch("pneumonia")
    assert len(course.requests) == fetching.TRIES
    assert cached(tmp_path) == []


def test_no_connection_is_noticed_at_once(course, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        offer(monkeypatch, f"http://127.0.0.1:{closed.getsockname()[1]}/{FILE}")
        start = time.monotonic()
        with pytest.raises(Unreachable, match="no connection"):
            fetch("pneumonia")
    assert time.monotonic() - start < 2


def run(course, code: str, **options) -> subprocess.Popen:
    """A second process with the same catalogue; it prints the error it ends with."""
    prepare = (
        "import dataclasses, sys\n"
        "from course_utils.datasets import CATALOG, fetching\n"
        "from course_utils.datasets.catalog import Source\n"
        f"source = Source({FILE!r}, {SHA256!r}, {course.url + '/' + FILE!r})\n"
        "old = CATALOG['pneumonia']\n"
        "CATALOG['pneumonia'] = dataclasses.replace(old, sources=(source,))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-B", "-c", prepare + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_full_disk(course, tmp_path):
    resource = pytest.importorskip("resource")  # a limit on a file's size stops root as well
    course.answers[f"/{FILE}"] = [course.whole(CONTENT)]

    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 3, len(CONTENT) // 3))

    process = run(course, "fetching.fetch('pneumonia')", preexec_fn=small)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert "DataError" in last
    assert FILE in last
    assert "Free some space" in last
    assert "COURSE_DATA_CACHE" in last
    assert cached(tmp_path) == []


def test_a_file_where_the_cache_should_be(course, tmp_path):
    course.answers[f"/{FILE}"] = [course.whole(CONTENT)]
    (tmp_path / "cache").write_text("mine")
    with pytest.raises(DataError, match=r"move it away.*COURSE_DATA_CACHE") as caught:
        fetch("pneumonia")
    assert not isinstance(caught.value, Unreachable)
    assert (tmp_path / "cache").read_text() == "mine"


def test_two_processes_that_fetch_the_same_set(course, tmp_path):
    both = threading.Barrier(2, timeout=60)
    whole = course.whole(CONTENT)

    def together(handler):
        both.wait()  # no answer before both have asked
        whole(handler)

    course.answers[f"/{FILE}"] = [together]
    processes = [run(course, "print(fetching.fetch('pneumonia').path)") for _ in range(2)]
    outputs = [process.communicate(timeout=90) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert course.requests == [f"/{FILE}"] * 2
    assert cached(tmp_path) == [f"upstream/{FILE}"]
    assert (tmp_path / "cache/upstream" / FILE).read_bytes() == CONTENT


def test_a_file_that_is_being_read_is_replaced_and_never_rewritten(course, tmp_path):
    course.answers[f"/{FILE}"] = [course.whole(CONTENT)]
    path = fetch("pneumonia").path
    with path.open("rb") as reader:
        (place,) = (place for place in fetching.places("pneumonia") if place.url)
        assert fetching.download(place) is None
        assert os.fstat(reader.fileno()).st_ino != path.stat().st_ino
        assert reader.read() == CONTENT
    assert cached(tmp_path) == [f"upstream/{FILE}"]


def test_a_killed_process_leaves_nothing_that_is_taken_for_data(course, tmp_path):
    course.answers[f"/{FILE}"] = [course.hang(CONTENT), course.whole(CONTENT)]
    process = run(course, "fetching.fetch('pneumonia')")
    deadline = time.monotonic() + 60
    while not any(len(p.read_bytes()) for p in tmp_path.rglob("*.part")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    (left,) = cached(tmp_path)
    os.utime(tmp_path / "cache" / left, (0, 0))  # long ago
    assert fetch("pneumonia").path.read_bytes() == CONTENT
    assert cached(tmp_path) == [f"upstream/{FILE}"]


def test_a_damaged_file_in_the_cache_is_fetched_anew(course, tmp_path):
    course.answers[f"/{FILE}"] = [course.whole(CONTENT)]
    fetch("pneumonia").path.write_bytes(CONTENT[:-7])
    assert fetch("pneumonia").path.read_bytes() == CONTENT
    assert len(course.requests) == 2


def test_a_damaged_file_in_the_cache_is_removed_even_without_a_source(course, tmp_path):
    course.answers[f"/{FILE}"] = [course.whole(CONTENT), course.status(404)]
    fetch("pneumonia").path.write_bytes(CONTENT[:-7])
    with pytest.raises(DataError, match="removed from the cache"):
        fetch("pneumonia")
    assert cached(tmp_path) == []


def test_a_damaged_file_in_a_read_only_cache_hides_no_mirror(course, tmp_path, monkeypatch, capsys):
    damaged = tmp_path / "cache" / "mirror" / FILE
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(CONTENT[:-7])

    def refuse(path, missing_ok=False, unlink=Path.unlink):  # root, too, whom no mode stops
        if path == damaged:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        unlink(path, missing_ok)

    def unreadable(path, mode="r", opened=Path.open):
        if path == damaged:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, mode)

    damaged.parent.chmod(0o500)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DataError, match=r"cannot be removed \(.*COURSE_DATA_CACHE") as caught:
        datasets.load("pneumonia")
    assert not isinstance(caught.value, Unreachable), "a phantom would hide it"
    good = tmp_path / "nothing" / FILE
    good.write_bytes(CONTENT)
    assert fetch("pneumonia").path == good
    said = capsys.readouterr().out
    assert "Passed over" in said and "wrong checksum" in said and "cannot be removed" in said
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", unreadable)
        assert fetch("pneumonia").path == good
    assert "Permission denied" in capsys.readouterr().out
    assert damaged.read_bytes() == CONTENT[:-7]
    damaged.parent.chmod(0o700)


def test_a_mirror_in_a_folder_is_used_in_place(course, tmp_path):
    (tmp_path / "nothing" / FILE).write_bytes(CONTENT)
    fetched = fetch("pneumonia")
    assert (fetched.path, fetched.source) == (tmp_path / "nothing" / FILE, "mirror")
    assert course.requests == []
    assert cached(tmp_path) == []


def test_a_mirror_at_an_address(course, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_MIRROR", f"{course.url}/mirror/")
    course.answers[f"/mirror/{FILE}"] = [course.whole(CONTENT)]
    assert fetch("pneumonia").source == "mirror"
    assert fetch("pneumonia").source == "mirror"  # from the cache
    assert course.requests == [f"/mirror/{FILE}"]
    assert cached(tmp_path) == [f"mirror/{FILE}"]


def test_a_bad_mirror_is_passed_over_aloud_and_left_alone(course, tmp_path, capsys):
    bad = tmp_path / "nothing" / FILE
    bad.write_bytes(b"old edition")
    course.answers[f"/{FILE}"] = [course.whole(CONTENT)]
    assert fetch("pneumonia").source == "upstream"
    assert bad.read_bytes() == b"old edition"
    assert "Passed over" in capsys.readouterr().out


def test_without_any_source_a_phantom_is_given_and_this_is_said(course, capsys):
    data = datasets.load("pneumonia")
    assert data.synthetic
    assert data.source == "phantom"
    assert data.label == "SYNTHETIC (phantom of PneumoniaMNIST)"
    said = capsys.readouterr().out
    assert "SYNTHETIC" in said
    assert FILE in said
    assert "COURSE_DATA_MIRROR" in said


def test_real_data_can_be_insisted_on(course, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "real")
    with pytest.raises(Unreachable, match=FILE):
        datasets.load("pneumonia")


def test_a_phantom_can_be_asked_for(course, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "phantom")
    assert datasets.load("pneumonia").synthetic
    assert course.requests == []


def test_words_that_are_not_known(monkeypatch):
    with pytest.raises(ValueError, match="pneumonia, hippocampus, bccd, isic2017"):
        datasets.load("chest")
    monkeypatch.setenv("COURSE_DATA", "fake")
    with pytest.raises(ValueError, match="auto, real, phantom"):
        datasets.load("pneumonia")


def test_a_relative_folder_counts_from_the_course(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DATA_MIRROR", "data/elsewhere")
    monkeypatch.setenv("COURSE_DATA_CACHE", "somewhere")
    assert fetching.settings().folder == ROOT / "data/elsewhere"
    assert fetching.settings().cache == ROOT / "somewhere"
    monkeypatch.setenv("COURSE_DATA_MIRROR", "https://example.org/a")
    monkeypatch.delenv("COURSE_DATA_CACHE")
    assert fetching.settings().address == "https://example.org/a"
    assert fetching.settings().cache == ROOT / "data" / "cache"


def test_verify_finds_the_damaged_file(course, tmp_path, capsys):
    (tmp_path / "nothing" / FILE).write_bytes(CONTENT)
    assert commands.verify([]) == 0
    assert "[OK] pneumonia" in capsys.readouterr().out
    (tmp_path / "nothing" / FILE).write_bytes(CONTENT[1:])
    assert commands.verify([]) == 1
    assert "[!!] pneumonia" in capsys.readouterr().out
    assert commands.verify(["bccd"]) == 0
    assert "pneumonia" not in capsys.readouterr().out


def test_verify_goes_on_behind_a_file_that_cannot_be_read(course, tmp_path, capsys, monkeypatch):
    (tmp_path / "nothing" / FILE).write_bytes(CONTENT)

    def unreadable(place):
        raise DataError(f"{place.path}: Input/output error")

    monkeypatch.setattr(commands, "check", unreadable)
    assert commands.verify(["pneumonia", "bccd"]) == 1
    said = capsys.readouterr().out
    assert "[!!] pneumonia: " in said and "error. Delete the file" in said and "[--] bccd" in said


def zip_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tar_of(files: dict[str, bytes], link: str | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link is not None:
            info = tarfile.TarInfo("folder/link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return out.getvalue()


def link_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("folder/link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


OUTSIDE = ("../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:\\evil.txt")


@pytest.mark.parametrize("pack", [zip_of, tar_of])
@pytest.mark.parametrize("member", OUTSIDE)
def test_an_archive_that_points_outside_is_refused(tmp_path, pack, member):
    path = tmp_path / "inner" / "set.archive"
    path.parent.mkdir()
    path.write_bytes(pack({"good.txt": b"1", member: b"2"}))
    with pytest.raises(DataError, match=r"set\.archive.*outside.*fetch the set"):
        read_members(path, ".*", 64_000_000)
    assert [p.name for p in tmp_path.rglob("*")] == ["inner", "set.archive"]


@pytest.mark.parametrize("content", [tar_of({}, "../../evil"), tar_of({}, "good"), link_zip()])
def test_an_archive_with_a_link_is_refused(tmp_path, content):
    path = tmp_path / "set.archive"
    path.write_bytes(content)
    with pytest.raises(DataError, match="a link"):
        read_members(path, ".*", 64_000_000)


def test_a_hostile_archive_never_enters_the_cache(course, tmp_path, monkeypatch):
    offer(monkeypatch, f"{course.url}/{FILE}", "manifest:" + "0" * 64)
    course.answers[f"/{FILE}"] = [course.whole(zip_of({"a/BCCD/../../../x": b""}))]
    with pytest.raises(DataError, match="outside"):
        fetch("pneumonia")
    assert cached(tmp_path) == []


def odd_archives() -> dict[str, bytes]:
    """Archives that no honest publisher sends, by what is to be said of them."""
    out = {}
    encrypted = bytearray(zip_of({"a.txt": b"1"}))
    for start, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        encrypted[encrypted.index(start) + offset] |= 1
    out["is encrypted"] = bytes(encrypted)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.txt", b"1" * 1000)
    out["is packed in an unusual way"] = file.getvalue()
    out["odd name"] = zip_of({"a\nb.txt": b"1"})
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.txt", b"1")
            archive.writestr("a.txt", b"2")
    out["more than once"] = file.getvalue()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(4):
            archive.writestr(f"{i}.txt", bytes(20_000_000))
    out["80000000 bytes, 64000000 at most"] = file.getvalue()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("a.bin")
        info.size = 10**12  # promised, not there
        archive.addfile(info)
    out["not a readable archive|bytes, 64000000 at most"] = file.getvalue()
    lying = bytearray(zip_of({"a.txt": bytes(90_000_000)}))
    for at in (lying.index(b"PK\3\4") + 22, lying.index(b"PK\1\2") + 24):  # bytes when unpacked
        lying[at : at + 4] = (100).to_bytes(4, "little")
    out["not a readable archive .*CRC"] = bytes(lying)
    out["not a readable archive"] = gzip.compress(tar_of({"a.txt": bytes(100_000_000)}))
    return out


def test_an_archive_is_looked_at_before_it_is_unpacked(tmp_path):
    tracemalloc.start()
    for words, content in odd_archives().items():
        path = tmp_path / "set.archive"
        path.write_bytes(content)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        with pytest.raises(DataError, match=rf"set\.archive.*({words})"):
            read_members(path, ".*", 64_000_000)
        assert tracemalloc.get_traced_memory()[1] - before < 2_000_000, words
    tracemalloc.stop()


def test_a_flood_of_members_never_enters_the_cache(course, tmp_path, monkeypatch):
    """A manifest is computed before anything is known to be right."""
    offer(monkeypatch, f"{course.url}/{FILE}", "manifest:" + "0" * 64)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_images.npy", bytes(20_000_000))
    course.answers[f"/{FILE}"] = [course.whole(file.getvalue())]
    with pytest.raises(DataError, match=r"20000000 bytes, 4700000 at most"):
        fetch("pneumonia")
    assert cached(tmp_path) == []


def picture(kind: str, size: tuple[int, int] = (6, 4)) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", size).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (picture("TIFF"), "not a readable image"),
        (picture("GIF"), "not a readable image"),
        (picture("PNG")[:40], "not a readable image"),
        (picture("JPEG", (4, 6)), "6 x 4 pixels, expected 4 x 6"),
        # A header alone that promises 40 gigapixels: nothing is unpacked to find out.
        (picture("PNG")[:16] + struct.pack(">II", 200_000, 200_000) + picture("PNG")[24:], "a.jpg"),
    ],
)
def test_an_image_of_another_size_or_format_is_refused_by_its_header(content, words):
    with pytest.raises(DataError, match=words):
        decode_images({"a.jpg": content}, (4, 6))
    for kind in ("PNG", "JPEG"):
        assert decode_images({"a.jpg": picture(kind)}, (4, 6)).shape == (1, 3, 4, 6)


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_a_damaged_archive_is_named(tmp_path, pack):
    path = tmp_path / "set.archive"
    whole = pack({f"{i}.txt": np.random.default_rng(i).bytes(2000) for i in range(3)})
    path.write_bytes(whole)
    assert len(read_members(path, ".*", 64_000_000)) == 3
    path.write_bytes(whole[:3500])
    with pytest.raises(DataError, match=r"set\.archive is not a readable archive.*load"):
        read_members(path, ".*", 64_000_000)


def test_the_manifest_sees_our_files_only(tmp_path):
    files = {
        "BCCD/Annotations/a.xml": b"<a/>",
        "BCCD/JPEGImages/a.jpg": b"jpg",
        "BCCD/ImageSets/Main/train.txt": b"a\n",
    }

    def digest(content):
        (tmp_path / "x.zip").write_bytes(zip_of(content))
        return manifest(tmp_path / "x.zip", CATALOG["bccd"].members, 9_000_000)

    mirror = digest({f"one/{k}": v for k, v in files.items()})
    upstream = dict(reversed(files.items())) | {"README.md": b"more", "BCCD/notes.txt": b""}
    assert digest({f"two/{k}": v for k, v in upstream.items()}) == mirror
    for name in files:
        assert digest({f"one/{k}": v + b" " * (k == name) for k, v in files.items()}) != mirror
        assert digest({f"one/{k}": v for k, v in files.items() if k != name}) != mirror
    # "git hash-object" of a file that holds <a/>
    blob = hashlib.sha1(b"blob 4\0<a/>").hexdigest()
    alone = hashlib.sha256(f"BCCD/Annotations/a.xml {blob}\n".encode()).hexdigest()
    assert digest({"one/BCCD/Annotations/a.xml": b"<a/>"}) == alone


BOX = (
    "<annotation><object><name>RBC</name><bndbox><xmin>{}</xmin><ymin>2</ymin>"
    "<xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)
LAUGHS = (
    '<!DOCTYPE z [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation>&c;</annotation>'
)
ENTITY = (
    '<!DOCTYPE z [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>'
    "<object><name>&x;</name></object></annotation>"
)


def test_a_good_annotation():
    assert bccd.parse(BOX.format(1).encode(), "a.xml").tolist() == [[0, 1, 2, 30, 40]]
    assert bccd.parse(b"<annotation></annotation>", "a.xml").shape == (0, 5)


@pytest.mark.parametrize(
    "text",
    [
        BOX.format(1)[:-20],
        "",
        "\0\xff",
        LAUGHS,
        ENTITY,
        BOX.format("&lol;"),
        BOX.format("left"),
        BOX.format("nan"),
        BOX.format(31),
        BOX.format(-1),
        BOX.format(1).replace("RBC", "cat"),
        BOX.format(1).replace("ymax", "ymux"),
    ],
)
def test_a_malformed_or_hostile_annotation(text):
    with pytest.raises(DataError, match=r"set\.zip: a\.xml .*[Dd]elete the archive"):
        bccd.parse(text.encode("latin-1"), "set.zip: a.xml")


def nifti(volume: np.ndarray) -> bytes:
    import nibabel as nib

    return gzip.compress(nib.Nifti1Image(volume, np.eye(4)).to_bytes())


def promising(shape: tuple[int, int, int], code: int = 2) -> bytes:
    """A header that promises so many voxels of a type, and 64 bytes of them."""
    plain = bytearray(gzip.decompress(nifti(np.zeros((4, 4, 4), np.uint8))))
    plain[40:48] = struct.pack("<4h", 3, *shape)
    plain[70:72] = struct.pack("<h", code)
    return gzip.compress(bytes(plain))


@pytest.mark.parametrize("label", [0.5, 3.0, 257.0, -1.0])
def test_a_label_that_is_none_is_refused(tmp_path, label):
    image, truth = np.ones((8, 8, 8), np.float32), np.zeros((8, 8, 8), np.float32)
    truth[2, 2, 2] = label
    path = tmp_path / "Task04_Hippocampus.tar"
    folder = "Task04_Hippocampus"
    path.write_bytes(
        tar_of({
            f"{folder}/imagesTr/hippocampus_001.nii.gz": nifti(image),
            f"{folder}/labelsTr/hippocampus_001.nii.gz": nifti(truth),
        })
    )  # fmt: skip
    with pytest.raises(
        DataError, match=r"labels of hippocampus_001 reach from .* expected 0, 1 and 2"
    ):
        hippo.read_cases(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_volume_with_nan_is_refused_by_name(tmp_path, bad):
    good = np.random.default_rng(0).random((31, 40, 24), dtype=np.float32)
    spoilt = good.copy()
    spoilt[3, 4, 5] = bad
    label = np.zeros(good.shape, dtype=np.uint8)
    path = tmp_path / "Task04_Hippocampus.tar"

    def pack(second):
        members = {}
        for i, image in ((1, good), (2, second)):
            members[f"Task04_Hippocampus/imagesTr/hippocampus_{i:03d}.nii.gz"] = nifti(image)
            members[f"Task04_Hippocampus/labelsTr/hippocampus_{i:03d}.nii.gz"] = nifti(label)
        path.write_bytes(tar_of(members))
        return hippo.read_cases(path)

    assert list(pack(good)) == ["hippocampus_001", "hippocampus_002"]
    with pytest.raises(DataError, match=r"hippocampus_002.*1 voxels.*NaN or infinite.*another"):
        pack(spoilt)


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip",
        gzip.compress(b"not nifti"),
        nifti(np.zeros((4, 4, 4), np.uint8))[:-30],
        gzip.compress(gzip.decompress(nifti(np.zeros((4, 4, 4), np.uint8)))[:-8]),
        nifti(np.zeros((4, 4), np.uint8)),
        nifti(np.zeros((49, 4, 4), np.uint8)),
        promising((32000, 32000, 32000)),
        promising((4, 4, 4), 128),  # colours
        promising((4, 4, 4), 32),  # complex
        gzip.compress(bytes(40_000_000)),
    ],
    ids=range(10),  # gzip writes the time, and each worker has to find the same tests
)
def test_a_volume_that_is_none(content):
    with pytest.raises(DataError, match=r"a\.tar: b\.nii\.gz .*[Dd]elete the archive"):
        hippo.read_volume(content, "a.tar: b.nii.gz")


def test_the_timeouts_for_learners_are_bearable():
    assert fetching.TIMEOUT == (5.0, 30.0)
    assert 1 <= fetching.TRIES <= 5
