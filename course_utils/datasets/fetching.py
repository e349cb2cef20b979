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
from dataclasses import dataclass, replace
from pathlib import Path

from course_utils.runtime import ROOT

from .archives import manifest
from .catalog import Entry, Fetched
from .errors import DataError, Unreachable, disk
from .sets import find_entry
from .transfer import Failed, public, transfer

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

# Unlike `Path.is_file` it says False, too, of what lies in a folder that may not be read.
_is_file = os.path.isfile


@dataclass(frozen=True)
class Settings:
    """Where data is looked for. A mirror is a folder or an address; both are None without one."""

    mode: str
    cache: Path
    folder: Path | None
    address: str | None


def settings() -> Settings:
    """The data layer's settings, from the environment variables named above.

    Raises:
        ValueError: one of them holds what it cannot mean.
    """
    mode = os.environ.get("COURSE_DATA", "") or "auto"
    if mode not in MODES:
        raise ValueError(f"COURSE_DATA is {mode!r}. Expected one of: {', '.join(MODES)}.")
    cache = ROOT / Path(os.environ.get("COURSE_DATA_CACHE", "") or "data/cache").expanduser()
    mirror = os.environ.get("COURSE_DATA_MIRROR", "")
    if re.match("https?://[^/]", mirror, re.IGNORECASE):
        return Settings(mode, cache, None, mirror)
    if "://" in mirror:
        expected = "Expected a folder, or the address of a host after http:// or https://."
        raise ValueError(f"COURSE_DATA_MIRROR is {mirror!r}. {expected}")
    if mirror:
        return Settings(mode, cache, ROOT / Path(mirror).expanduser(), None)
    usual = (ROOT / "data" / "mirror", ROOT.parent / "shared" / "datasets")
    return Settings(mode, cache, next((place for place in usual if place.is_dir()), None), None)


@dataclass(frozen=True)
class Place:
    """One place to look at: a file, or an address (`url`) and the file it is to become.

    `own`: the file is a download of ours, which may be deleted.
    """

    entry: Entry
    source: str
    path: Path
    checksums: tuple[str, ...]
    url: str = ""
    own: bool = False


def places(name: str) -> list[Place]:
    """The places of a data set in the order in which they are tried.

    A mirror may hold the upstream file or the course's own edition of it: both are accepted there.
    """
    entry, where = find_entry(name), settings()
    cached, remote = dict[Path, Place](), list[Place]()
    for source in entry.sources:
        path = where.cache / source.kind / source.filename
        any_of = tuple(s.checksum for s in entry.sources if s.filename == source.filename)
        checksums = any_of if source.kind == "mirror" else (source.checksum,)
        place = Place(entry, source.kind, path, checksums)
        if _is_file(path):
            # A mirror that somebody keeps inside the cache is not ours.
            theirs = where.folder and path.resolve().is_relative_to(where.folder.resolve())
            cached[path] = replace(place, checksums=any_of, own=not theirs)
        if source.url:
            remote.append(replace(place, url=source.url))
        elif where.address:
            remote.append(replace(place, url=f"{where.address.rstrip('/')}/{source.filename}"))
        elif where.folder:
            remote.append(replace(place, path=where.folder / source.filename))
    # "mirror" before "upstream", else in the order of the catalogue
    return [*cached.values(), *sorted(remote, key=lambda place: place.source)]


def at_hand(name: str) -> list[Place]:
    """The files of a data set on this machine, not yet held against their checksums."""
    return [place for place in places(name) if not place.url and _is_file(place.path)]


def reachable(name: str = "pneumonia") -> str:
    """Where a data set would come from now, without asking the network.

    Returns:
        "mirror" or "upstream" for a file at hand or a mirror's address; "phantom" where COURSE_DATA
        says so; else "upstream, by download" (COURSE_DATA=real) or "upstream, else phantom".
    """
    where = settings()
    if where.mode == "phantom":
        return "phantom"
    if here := at_hand(name):
        return here[0].source
    if where.address:
        return "mirror"
    return "upstream, by download" if where.mode == "real" else "upstream, else phantom"


def fetch(name: str) -> Fetched:
    """A verified file of the data set, fetched if need be. A mirror's folder is used in place.

    A download is written beside its target and takes the target's name only after its checksum
    was found right. So the cache never holds a bad file, and of two processes that fetch the same
    set each leaves the same good one. A damaged file that cannot be removed is passed over aloud.

    Raises:
        Unreachable: no source answered.
        DataError: a source answered with a wrong file, or this machine could not store it.
    """
    failures, wrong = "", False
    for place in places(name):
        problem = None
        try:
            problem = download(place) if place.url else check(place)
            if problem is None:
                if wrong:
                    print(f"Passed over:{failures}")
                return Fetched(place.path, place.source)
            if place.own:
                _remove(place.path)
                problem += ", so it was removed from the cache"
            else:
                wrong = True
        except Unreachable as reason:
            problem = str(reason)
        except DataError as reason:
            if place.url:
                raise
            # What cannot be read or removed, as in a cache that is read-only, hides no good file.
            problem = f"{problem}, and cannot be removed ({reason})" if problem else str(reason)
            wrong = True
        failures += f"\n  {place.source}: {problem}"
    entry = find_entry(name)
    filename = " or ".join(dict.fromkeys(source.filename for source in entry.sources))
    message = (
        f"{entry.title}: no usable {filename}.{failures}\nConnect to the internet, put that file "
        "into data/mirror, or set COURSE_DATA_MIRROR to a folder or http address that holds it."
    )
    raise DataError(message) if wrong else Unreachable(message)


def check(place: Place) -> str | None:
    """What is wrong with a file, or None where one of the checksums is right.

    Raises:
        Unreachable: there is no such file.
        DataError: the file cannot be read.
    """
    path, entry = place.path, place.entry
    if not _is_file(path):
        lacking = path if path.parent.is_dir() else f"the folder {path.parent}"
        raise Unreachable(f"{lacking} does not exist")
    for checksum in place.checksums:
        algorithm, expected = checksum.split(":")
        with disk(path):
            try:
                if algorithm == "manifest":
                    found = manifest(path, entry.members, entry.unpacked)
                else:
                    with path.open("rb") as file:
                        found = hashlib.file_digest(file, algorithm).hexdigest()
            except DataError as problem:
                return str(problem)
        if found == expected:
            return None
    wrong = f"a wrong checksum, {algorithm} {found} where {expected} was expected"
    return f"{path.name} ({path.stat().st_size} bytes) is cut short or another file: {wrong}"


def download(place: Place) -> str | None:
    """Download to `place.path`, which comes into being whole and verified, or not at all.

    It ends when the file is a tenth larger than its entry says, or takes longer than that size
    needs on the slowest line.

    Returns:
        None, or what was wrong with the file that the server sent.

    Raises:
        Unreachable: the server did not answer, or not with the file.
        DataError: this machine could not store the file.
    """
    # Named after this process, so that two that fetch the same set do not write into one file.
    name = f"{place.path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part"
    part = replace(place, path=place.path.with_name(name))
    with disk(place.path):
        try:
            part.path.parent.mkdir(parents=True, exist_ok=True)
            _drop_abandoned(part.path.parent)
            _try(part)
            if not part.path.exists():  # another process has tidied up
                _try(part)
            problem = check(part)
            if problem is None:
                part.path.replace(place.path)
            return problem and f"{public(place.url)}: {problem}"
        except OSError:
            # On Windows a file that another process has just fetched and reads cannot be replaced.
            if _is_file(place.path) and check(place) is None:
                return None
            raise
        finally:
            _remove(part.path)


def _try(part: Place) -> None:
    most = part.entry.size + part.entry.size // 10
    end = time.monotonic() + START + most / SLOWEST
    for attempt in range(1, TRIES + 1):
        try:
            transfer(part.url, part.path, most, end - time.monotonic(), TIMEOUT)
            return
        except Failed as why:
            words = f"{public(part.url)}: {why}".replace(" was cut ", f" was cut {attempt} times ")
            pause = PAUSE * attempt if why.pause is None else min(why.pause, LONGEST_PAUSE)
            if attempt == TRIES or not why.again or time.monotonic() + pause > end:
                raise Unreachable(words) from why
        time.sleep(pause)


def _remove(path: Path) -> None:
    with disk(path), contextlib.suppress(NotADirectoryError):
        path.unlink(missing_ok=True)


def _drop_abandoned(folder: Path) -> None:
    """Delete what a killed process left behind; one hour is longer than any download here."""
    for part in folder.glob("*.part"):
        ours = re.search(r"\.\d+-[0-9a-f]{8}\.part$", part.name)
        with contextlib.suppress(FileNotFoundError):  # its process has just finished
            if ours and time.time() - part.stat().st_mtime > 3600:
                part.unlink()
