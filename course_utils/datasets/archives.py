"""Reading archives into memory. Nothing is ever extracted, so nothing can land outside a folder."""

import hashlib
import re
import tarfile
import zipfile
import zlib
from pathlib import Path

from .errors import DataError


def read_members(path: Path, pattern: str) -> dict[str, bytes]:
    """The files of a zip or tar archive whose path matches, sorted by path.

    Args:
        path: the archive.
        pattern: a regular expression for the whole path inside the archive.

    Raises:
        DataError: the archive is damaged, or one of its members is a link or points outside the
            archive (an absolute path or one with `..`). No honest data archive holds such a member,
            so that the whole archive is refused, even though nothing is extracted.
    """
    wanted = re.compile(pattern)
    found = {}
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    # The upper half of a zip's external attributes is the Unix file mode.
                    _refuse_escape(path, info.filename, info.external_attr >> 28 == 0o12)
                    if wanted.fullmatch(info.filename):
                        found[info.filename] = archive.read(info)
        else:
            with tarfile.open(path) as archive:
                for member in archive:
                    _refuse_escape(path, member.name, not (member.isreg() or member.isdir()))
                    stream = archive.extractfile(member)
                    if stream is not None and wanted.fullmatch(member.name):
                        found[member.name] = stream.read()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError) as e:
        why = str(e).split(":\n")[0]
        raise DataError(
            f"{path} is not a readable archive ({why}). Delete it and load the data set again."
        ) from e
    return dict(sorted(found.items()))


def _refuse_escape(archive: Path, member: str, is_link: bool) -> None:
    path = member.replace("\\", "/")
    if is_link or path.startswith("/") or ".." in path.split("/") or path[1:2] == ":":
        raise DataError(
            f"{archive} holds the member {member!r}, a link or a path outside the archive. No data "
            "archive needs such a member: delete the file, and fetch the set from another source."
        )


BCCD_FILES = (
    r"[^/]+/BCCD/(Annotations/[^/]+\.xml|JPEGImages/[^/]+\.jpg|"
    r"ImageSets/Main/(train|val|test)\.txt)"
)
"""The files of the BCCD repository that the course reads. The first folder's name may vary."""


def manifest(path: Path, pattern: str = BCCD_FILES) -> str:
    """One sha256 for the files of an archive that match, whatever else it holds.

    It covers the sorted lines "path blob-id", the path without the archive's first folder and the
    blob id as Git computes it, so that it can be held against a commit's tree. GitHub packs the
    archive of a commit on demand and promises no checksum for it; the files inside do not change.
    """
    lines = []
    for name, content in read_members(path, pattern).items():
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        lines.append(f"{name.split('/', 1)[1]} {blob.hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
