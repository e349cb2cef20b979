"""Getting a data set's file: from the cache, else a mirror, else upstream, always by checksum.

All environment variables of the data layer are read in `settings`:

COURSE_DATA         auto (default): a phantom where nothing can be reached; real: an error there;
                    phantom: always a phantom
COURSE_DATA_CACHE   the folder for downloads; default data/cache
COURSE_DATA_MIRROR  a folder or an http(s) address that holds the files; default data/mirror, else
                    ../shared/datasets beside the course, where one of them exists

A relative folder counts from the course's folder, for notebooks run in folders of their own.
"""

import errno
import hashlib
import os
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from course_utils.runtime import ROOT

from .archives import manifest
from .catalog import CATALOG, Entry
from .errors import DataError, Unreachable

TIMEOUT = (5.0, 30.0)
"""Seconds to wait for a connection (to each of a host's addresses), and for the next bytes."""
TRIES = 3
"""How often a download is begun when the connection is cut or the server has a hiccup."""
PAUSE = 0.5
"""Seconds before the second try; twice as long before the third."""

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
    if mirror is not None and not _is_address(mirror):
        mirror = str(ROOT / Path(mirror).expanduser())
    elif mirror is None:
        places = (ROOT / "data" / "mirror", ROOT.parent / "shared" / "datasets")
        mirror = next((str(place) for place in places if place.is_dir()), None)
    return Settings(mode, ROOT / cache, mirror)


def _is_address(mirror: str) -> bool:
    return mirror.startswith(("http://", "https://"))


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
                problem = download(place.url, place.path, place.checksums)
            except Unreachable as reason:
                failures.append(f"{place.source}: {reason}")
                continue
        elif _is_file(place.path):
            problem = check(place.path, place.checksums)
        else:
            failures.append(f"{place.source}: {place.path} does not exist")
            continue
        if problem is None:
            if wrong:
                print("Passed over:\n  " + "\n  ".join(failures))
            return Fetched(place.path, place.source)
        failures.append(f"{place.source}: {problem}")
        if place.url is None and place.path.is_relative_to(where.cache):
            _remove(place.path)
            failures[-1] += ", so it was removed from the cache"
        else:
            wrong = True
    filename = entry.sources[0].filename
    message = (
        f"{entry.title}: no usable {filename}.\n  "
        + "\n  ".join(failures)
        + f"\nConnect to the internet, or set COURSE_DATA_MIRROR to a folder or http address that "
        f"holds {filename}, or put that file into data/mirror. COURSE_DATA=phantom works without."
    )
    raise DataError(message) if wrong else Unreachable(message)


@dataclass(frozen=True)
class Place:
    """One place to look at: a file, or an address and the file it is to become."""

    source: str
    path: Path
    checksums: tuple[str, ...]
    url: str | None = None


def places(entry: Entry, where: Settings) -> list[Place]:
    """The places of a data set in the order in which they are tried.

    A mirror may hold the upstream file or the course's own edition of it: both are accepted there.
    """
    cached, remote = [], []
    for source in entry.sources:
        path = where.cache / source.kind / source.filename
        same_name = [s.checksum for s in entry.sources if s.filename == source.filename]
        checksums = tuple(same_name) if source.kind == "mirror" else (source.checksum,)
        if _is_file(path):
            cached.append(Place(source.kind, path, checksums))
        if source.kind == "upstream":
            remote.append(Place("upstream", path, checksums, source.url))
        elif where.mirror is not None and _is_address(where.mirror):
            url = f"{where.mirror.rstrip('/')}/{source.filename}"
            remote.append(Place("mirror", path, checksums, url))
        elif where.mirror is not None:
            remote.append(Place("mirror", Path(where.mirror) / source.filename, checksums))
    return cached + sorted(remote, key=lambda place: place.source)  # "mirror" before "upstream"


def check(path: Path, checksums: tuple[str, ...]) -> str | None:
    """What is wrong with a file, or None where one of the checksums is right.

    Raises:
        DataError: the file cannot be read.
    """
    for checksum in checksums:
        algorithm, expected = checksum.split(":")
        try:
            if algorithm == "manifest":
                found = manifest(path)
            else:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, algorithm).hexdigest()
        except DataError as problem:
            return str(problem)
        except OSError as problem:
            raise _machine(problem, path) from problem
        if found == expected:
            return None
    return (
        f"{path.name} ({path.stat().st_size} bytes) has a wrong checksum, {algorithm} {found} "
        f"where {expected} was expected: it was cut short, damaged or is another file"
    )


def download(url: str, target: Path, checksums: tuple[str, ...]) -> str | None:
    """Download to `target`, which comes into being whole and verified, or not at all.

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
        _download(url, part)
        problem = check(part, checksums)
        if problem is None:
            part.replace(target)
        return problem if problem is None else f"{url}: {problem}"
    except OSError as problem:
        raise _machine(problem, target) from problem
    finally:
        _remove(part)


def _download(url: str, part: Path) -> None:
    import pooch
    import requests

    show = sys.stderr.isatty()  # a bar in a stored notebook would be noise
    get = pooch.HTTPDownloader(progressbar=show, timeout=TIMEOUT, chunk_size=1 << 16)
    for attempt in range(1, TRIES + 1):
        try:
            get(url, str(part), None)
            return
        except requests.RequestException as problem:
            if attempt == TRIES or not _worth_another_try(problem):
                raise Unreachable(f"{url}: {_in_words(problem)}") from problem
        time.sleep(PAUSE * attempt)


def _worth_another_try(problem: Exception) -> bool:
    """True for a cut connection or a server error: these pass. Refusal and silence rarely do."""
    import requests
    import urllib3

    if isinstance(problem, requests.HTTPError) and problem.response is not None:
        return problem.response.status_code in (429, 500, 502, 503, 504)
    cause = problem.args[0] if problem.args else None
    return isinstance(cause, urllib3.exceptions.ProtocolError)


def _in_words(problem: Exception) -> str:
    import requests

    if isinstance(problem, requests.HTTPError) and problem.response is not None:
        return f"the server answered {problem.response.status_code} {problem.response.reason}"
    if isinstance(problem, requests.Timeout) or "timed out" in str(problem):
        return f"no answer within {TIMEOUT[0]:g} s, or silence for {TIMEOUT[1]:g} s"
    if isinstance(problem, requests.exceptions.ChunkedEncodingError):
        return f"the connection was cut {TRIES} times before the file was complete"
    if isinstance(problem, requests.ConnectionError):
        return "no connection (no internet, or the host is down or blocked)"
    return str(problem)


def _machine(problem: OSError, path: Path) -> DataError:
    """An error of this machine, not of a source, in words that say what to do."""
    if errno.errorcode.get(problem.errno or 0) in ("ENOSPC", "EFBIG", "EDQUOT"):
        remedy = "The disk is full: free some space, or set COURSE_DATA_CACHE to another disk."
    else:
        remedy = (
            f"Make {path.parent} a folder that you may read and write, "
            "or set COURSE_DATA_CACHE to such a folder."
        )
    return DataError(f"{path}: {problem.strerror or problem}. {remedy}")


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
        raise _machine(problem, path) from problem


def _drop_abandoned(folder: Path) -> None:
    """Delete what a killed process left behind; one hour is longer than any download here."""
    for part in folder.glob("*.part"):
        if time.time() - part.stat().st_mtime > 3600:
            part.unlink(missing_ok=True)


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
