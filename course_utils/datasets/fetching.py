"""Getting a data set's file: from the cache, else a mirror, else upstream, always by checksum.

All environment variables of the data layer are read in `settings`:

COURSE_DATA         auto (default): a phantom where nothing can be reached; real: an error there;
                    phantom: always a phantom
COURSE_DATA_CACHE   the folder for downloads; default data/cache
COURSE_DATA_MIRROR  a folder or an http(s) address that holds the files; default data/mirror, else
                    ../shared/datasets beside the course, where one of them exists

A relative folder counts from the course's folder, for notebooks run in folders of their own.
"""

import contextlib
import hashlib
import os
import re
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from course_utils.runtime import ROOT

from .archives import UNPACKED, manifest
from .catalog import CATALOG, Entry
from .errors import DataError, Unreachable, disk_error
from .transfer import Failed, transfer

TIMEOUT = (5.0, 30.0)
"""Seconds to wait for a connection (to each of a host's addresses), and for the next bytes."""
TRIES = 3
"""How often a download is begun when the connection is cut or the server has a hiccup."""
PAUSE = 0.5
"""Seconds before the second try; twice as long before the third. A server may ask for longer."""
LONGEST_PAUSE = 10.0
START, SLOWEST = 60.0, 50_000.0
"""A download may take so many seconds, and one more for so many bytes (0.4 Mbit/s)."""

MODES = ("auto", "real", "phantom")


@dataclass(frozen=True)
class Settings:
    """Where data is looked for. `mirror` is a folder, an address, or None."""

    mode: str
    cache: Path
    mirror: str | None


def settings() -> Settings:
    """The data layer's settings, from the environment variables named above."""
    mode = os.environ.get("COURSE_DATA", "") or "auto"
    if mode not in MODES:
        raise ValueError(f"COURSE_DATA is {mode!r}. Expected one of: {', '.join(MODES)}.")
    cache = Path(os.environ.get("COURSE_DATA_CACHE", "") or "data/cache").expanduser()
    mirror: str | None = os.environ.get("COURSE_DATA_MIRROR", "") or None
    if mirror is not None and "://" in mirror and not _is_address(mirror):
        raise ValueError(
            f"COURSE_DATA_MIRROR is {mirror!r}. Expected a folder, or an address that begins with "
            "http:// or https://."
        )
    if mirror is not None and not _is_address(mirror):
        mirror = str(ROOT / Path(mirror).expanduser())
    elif mirror is None:
        places = (ROOT / "data" / "mirror", ROOT.parent / "shared" / "datasets")
        mirror = next((str(place) for place in places if place.is_dir()), None)
    return Settings(mode, ROOT / cache, mirror)


def _is_address(mirror: str) -> bool:
    return mirror.lower().startswith(("http://", "https://"))


@dataclass(frozen=True)
class Fetched:
    """A verified file. `source` says where it came from: "upstream" or "mirror"."""

    path: Path
    source: str


def find_entry(name: str) -> Entry:
    """The catalogue's entry, or a ValueError that lists the names."""
    if name not in CATALOG:
        raise ValueError(f"No data set is called {name!r}. There are: {', '.join(CATALOG)}.")
    return CATALOG[name]


def fetch(name: str) -> Fetched:
    """A verified file of the data set, fetched if need be. A mirror's folder is used in place.

    A download is written beside its target and takes the target's name only after its checksum
    was found right. So the cache never holds a bad file, and of two processes that fetch the same
    set each leaves the same good one.

    Raises:
        Unreachable: no source answered.
        DataError: a source answered with a wrong file, or this machine could not store it.
    """
    entry, where = find_entry(name), settings()
    failures: list[str] = []
    wrong = False
    for place in places(entry, where):
        if place.url is not None:
            try:
                problem = download(
                    place.url, place.path, place.checksums, entry.size, entry.unpacked
                )
            except Unreachable as reason:
                failures.append(f"{place.source}: {reason}")
                continue
        elif _is_file(place.path):
            problem = check(place.path, place.checksums, entry.unpacked)
        else:
            lacking = (
                place.path if place.path.parent.is_dir() else f"the folder {place.path.parent}"
            )
            failures.append(f"{place.source}: {lacking} does not exist")
            continue
        if problem is None:
            if wrong:
                print("Passed over:\n  " + "\n  ".join(failures))
            return Fetched(place.path, place.source)
        failures.append(f"{place.source}: {problem}")
        if place.own:
            _remove(place.path)
            failures[-1] += ", so it was removed from the cache"
        else:
            wrong = True
    filename = " or ".join(dict.fromkeys(source.filename for source in entry.sources))
    message = (
        f"{entry.title}: no usable {filename}.\n  "
        + "\n  ".join(failures)
        + f"\nConnect to the internet, or set COURSE_DATA_MIRROR to a folder or http address that "
        f"holds {filename}, or put that file into data/mirror."
    )
    raise DataError(message) if wrong else Unreachable(message)


@dataclass(frozen=True)
class Place:
    """One place to look at: a file, or an address and the file it is to become.

    `own`: the file is a download of ours, which may be deleted.
    """

    source: str
    path: Path
    checksums: tuple[str, ...]
    url: str | None = None
    own: bool = False


def places(entry: Entry, where: Settings) -> list[Place]:
    """The places of a data set in the order in which they are tried.

    A mirror may hold the upstream file or the course's own edition of it: both are accepted there.
    """
    cached, remote = dict[Path, Place](), list[Place]()
    for source in entry.sources:
        path = where.cache / source.kind / source.filename
        same_name = [s.checksum for s in entry.sources if s.filename == source.filename]
        checksums = tuple(same_name) if source.kind == "mirror" else (source.checksum,)
        if _is_file(path):
            cached[path] = Place(source.kind, path, checksums, own=not _in_mirror(path, where))
        if source.kind == "upstream":
            remote.append(Place("upstream", path, checksums, source.url))
        elif where.mirror is not None and _is_address(where.mirror):
            url = f"{where.mirror.rstrip('/')}/{source.filename}"
            remote.append(Place("mirror", path, checksums, url))
        elif where.mirror is not None:
            remote.append(Place("mirror", Path(where.mirror) / source.filename, checksums))
    # "mirror" before "upstream", else in the order of the catalogue
    return [*cached.values(), *sorted(remote, key=lambda place: place.source)]


def _in_mirror(path: Path, where: Settings) -> bool:
    """Whether a file of the cache is one of a mirror that somebody keeps inside the cache."""
    if where.mirror is None or _is_address(where.mirror):
        return False
    return path.resolve().is_relative_to(Path(where.mirror).resolve())


def check(path: Path, checksums: tuple[str, ...], unpacked: int = UNPACKED) -> str | None:
    """What is wrong with a file, or None where one of the checksums is right.

    `unpacked` is how many bytes an archive may hold.

    Raises:
        DataError: the file cannot be read.
    """
    for checksum in checksums:
        algorithm, expected = checksum.split(":")
        try:
            if algorithm == "manifest":
                found = manifest(path, limit=unpacked)
            else:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, algorithm).hexdigest()
        except DataError as problem:
            return str(problem)
        except OSError as problem:
            raise disk_error(problem, path) from problem
        if found == expected:
            return None
    return (
        f"{path.name} ({path.stat().st_size} bytes) has a wrong checksum, {algorithm} {found} "
        f"where {expected} was expected: it was cut short, damaged or is another file"
    )


def download(
    url: str,
    target: Path,
    checksums: tuple[str, ...],
    size: int = UNPACKED,
    unpacked: int = UNPACKED,
) -> str | None:
    """Download to `target`, which comes into being whole and verified, or not at all.

    It ends when the file is a tenth larger than `size` (in bytes), or takes longer than that size
    needs on the slowest line.

    Returns:
        None, or what was wrong with the file that the server sent.

    Raises:
        Unreachable: the server did not answer, or not with the file.
        DataError: this machine could not store the file.
    """
    # Named after this process, so that two that fetch the same set do not write into one file.
    part = target.with_name(f"{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _drop_abandoned(part.parent)
        _try(url, part, size)
        if not part.exists():  # another process has tidied up
            _try(url, part, size)
        problem = check(part, checksums, unpacked)
        if problem is None:
            part.replace(target)
        return problem if problem is None else f"{url}: {problem}"
    except OSError as problem:
        # On Windows a file that another process has just fetched and reads cannot be replaced.
        if _is_file(target) and check(target, checksums, unpacked) is None:
            return None
        raise disk_error(problem, target) from problem
    finally:
        _remove(part)


def _try(url: str, part: Path, size: int) -> None:
    most = size + size // 10
    end = time.monotonic() + START + most / SLOWEST
    for attempt in range(1, TRIES + 1):
        try:
            transfer(url, part, most, end - time.monotonic(), TIMEOUT)
            return
        except Failed as why:
            words = f"{url}: {why}".replace(" was cut ", f" was cut {attempt} times ")
            pause = PAUSE * attempt if why.pause is None else min(why.pause, LONGEST_PAUSE)
            if attempt == TRIES or not why.again or time.monotonic() + pause > end:
                raise Unreachable(words) from why
        time.sleep(pause)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:
        return
    except OSError as problem:
        raise disk_error(problem, path) from problem


def _drop_abandoned(folder: Path) -> None:
    """Delete what a killed process left behind; one hour is longer than any download here."""
    for part in folder.glob("*.part"):
        ours = re.search(r"\.\d+-[0-9a-f]{8}\.part$", part.name)
        with contextlib.suppress(FileNotFoundError):  # its process has just finished
            if ours and time.time() - part.stat().st_mtime > 3600:
                part.unlink()


def reachable(name: str = "pneumonia") -> str:
    """Where a data set would come from now, without asking the network.

    Returns:
        "mirror" or "upstream" for a file at hand or a mirror's address; "phantom" where COURSE_DATA
        says so; else "upstream, by download" (COURSE_DATA=real) or "upstream, else phantom".
    """
    where = settings()
    if where.mode == "phantom":
        return "phantom"
    for place in places(find_entry(name), where):
        if place.url is None and _is_file(place.path):
            return place.source
    if where.mirror is not None and _is_address(where.mirror):
        return "mirror"
    return "upstream, by download" if where.mode == "real" else "upstream, else phantom"
