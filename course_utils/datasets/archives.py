"""Reading archives into memory. Nothing is ever extracted, so nothing can land outside a folder."""

import hashlib
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path

from .errors import DataError, damaged

UNPACKED = 64_000_000
"""Bytes that an archive may hold where its catalogue entry does not say: twice the largest set."""


def read_members(path: Path, pattern: str, limit: int = UNPACKED) -> dict[str, bytes]:
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
    wanted = re.compile(pattern)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
                for info in infos:
                    # The upper half of a zip's external attributes is the Unix file mode.
                    _refuse_odd(path, info.filename, info.external_attr >> 28 == 0o12)
                    if info.flag_bits & 1:
                        raise _refused(path, info.filename, "is encrypted")
                    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise _refused(path, info.filename, "is packed in an unusual way")
                chosen = [info for info in infos if wanted.fullmatch(info.filename)]
                _refuse_many(path, [(info.filename, info.file_size) for info in chosen], limit)
                found = {info.filename: archive.read(info) for info in chosen}
        else:
            with tarfile.open(path, "r:") as archive:  # not packed: none of the course's is
                members = archive.getmembers()
                for member in members:
                    _refuse_odd(path, member.name, not (member.isreg() or member.isdir()))
                    if member.issparse():
                        raise _refused(path, member.name, "is sparse")
                kept = [m for m in members if m.isreg() and wanted.fullmatch(m.name)]
                _refuse_many(path, [(member.name, member.size) for member in kept], limit)
                found = {member.name: _whole(archive, member) for member in kept}
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError) as e:
        why = str(e).split(":\n")[0]
        raise damaged(f"{path} is not a readable archive ({why})") from e
    return dict(sorted(found.items()))


def _whole(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    content = b"" if stream is None else stream.read()
    if len(content) != member.size:
        raise tarfile.ReadError(f"{member.name} is cut short")
    return content


def _refuse_odd(archive: Path, member: str, is_link: bool) -> None:
    path = member.replace("\\", "/")
    if is_link or path.startswith("/") or ".." in path.split("/") or path[1:2] == ":":
        raise _refused(archive, member, "is a link or a path outside the archive")
    if not member or not member.isprintable():
        raise _refused(archive, member, "has an odd name")


def _refuse_many(archive: Path, members: list[tuple[str, int]], limit: int) -> None:
    names = Counter(name for name, _ in members)
    for name, count in names.most_common(1):
        if count > 1:
            raise _refused(archive, name, "is there more than once")
    total = sum(size for _, size in members)
    if total > limit:
        raise damaged(f"{archive} holds files of {total} bytes, {limit} at most were expected")


def _refused(archive: Path, member: str, why: str) -> DataError:
    return DataError(
        f"{archive} holds the member {member!r}, which {why}. No data archive needs such a member: "
        "delete the file, and fetch the set from another source."
    )


def manifest(path: Path, pattern: str, limit: int = UNPACKED) -> str:
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
