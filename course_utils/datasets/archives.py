"""Reading archives into memory. Nothing is ever extracted, so nothing can land outside a folder."""

import hashlib
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path

from .errors import damaged

OUTSIDE = "is a link or a path outside the archive"


def read_members(path: Path, pattern: str, limit: int) -> dict[str, bytes]:
    """The files of a zip or tar archive whose path matches, sorted by path.

    All members are looked at before any is unpacked.

    Args:
        path: the archive.
        pattern: a regular expression for the whole path inside the archive.
        limit: bytes that the matching files may have together.

    Raises:
        DataError: the archive is damaged, or holds what no honest data archive holds: a link, a
            path outside the archive (absolute, or with `..`), an encrypted, sparse or doubled
            member, another packing than deflate, or more than `limit` bytes.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                members = [(i.filename, i.file_size, _odd_in_zip(i)) for i in packed.infolist()]
                names = _wanted(path, members, pattern, limit)
                return {name: _unzipped(packed, name) for name in names}
        with tarfile.open(path, "r:") as tar:  # not packed: none of the course's is
            members = [(m.name, m.size, _odd_in_tar(m)) for m in tar]
            names = _wanted(path, members, pattern, limit)
            return {name: tar.fileobject(tar, tar.getmember(name)).read() for name in names}
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError) as e:
        why = str(e).split(":\n")[0]
        raise damaged(f"{path} is not a readable archive ({why})") from e


def _unzipped(packed: zipfile.ZipFile, name: str) -> bytes:
    """One file, of which no more is unpacked than the header says: `read` would unpack it all."""
    with packed.open(name) as file:
        return file.read(packed.getinfo(name).file_size + 1)


def _odd_in_zip(member: zipfile.ZipInfo) -> str:
    if member.external_attr >> 28 == 0o12:  # the upper half is the Unix file mode
        return OUTSIDE
    if member.flag_bits & 1:
        return "is encrypted"
    usual = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return "" if usual else "is packed in an unusual way"


def _odd_in_tar(member: tarfile.TarInfo) -> str:
    if not (member.isreg() or member.isdir()):
        return OUTSIDE
    return "is sparse" if member.issparse() else ""


def _wanted(path: Path, members: list[tuple[str, int, str]], pattern: str, limit: int) -> list[str]:
    """The names that match, sorted. A member is a name, its bytes, and what is odd about it."""
    chosen = [(name, size) for name, size, _ in members if re.fullmatch(pattern, name)]
    count = Counter(name for name, _ in chosen)
    for name, _, odd in members:
        place = name.replace("\\", "/")
        if place.startswith("/") or ".." in place.split("/") or place[1:2] == ":":
            odd = OUTSIDE
        elif not name or not name.isprintable():
            odd = "has an odd name"
        elif count[name] > 1:
            odd = "is there more than once"
        if odd:
            raise damaged(f"{path} holds the member {name!r}, which {odd}")
    total = sum(size for _, size in chosen)
    if total > limit:
        raise damaged(f"{path} holds files of {total} bytes, {limit} at most were expected")
    return sorted(count)


def manifest(path: Path, pattern: str, limit: int) -> str:
    """One sha256 for the files of an archive that match, whatever else it holds.

    It covers the sorted lines "path blob-id", the path without the archive's first folder and the
    blob id as Git computes it, so that it can be held against a commit's tree. GitHub packs the
    archive of a commit on demand and promises no checksum for it; the files inside do not change.
    """
    lines = []
    for name, content in read_members(path, pattern, limit).items():
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        lines.append(f"{name.split('/', 1)[-1]} {blob.hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
