"""What `course data list | get NAME | verify | path` prints; each returns the exit status. And what
`course check` says of the data."""

from urllib.parse import urlsplit

from .catalog import CATALOG
from .errors import DataError
from .fetching import check, fetch, find_entry, places, settings
from .transfer import ask


def show() -> int:
    """Print the catalogue: name, task, size, licence, and where the file lies now."""
    for entry in CATALOG.values():
        have = [p.source for p in places(entry, settings()) if p.url is None and p.path.is_file()]
        state = f"at hand: {have[0]}" if have else "not here yet"
        size = f"{entry.size / 1e6:.0f} MB"
        print(f"{entry.name:12} {entry.task:15} {size:>6}  {entry.licence:13} {state}")
        print(f"{'':12} {entry.title}; {entry.split}")
    return 0


def get(names: list[str]) -> int:
    """Fetch these data sets, or all."""
    failed = 0
    for name in names or CATALOG:
        try:
            find_entry(name)
            fetched = fetch(name)
            print(f"[OK] {name}: {fetched.source}, {fetched.path}")
        except (DataError, ValueError) as problem:
            failed += 1
            print(f"[!!] {name}: {problem}")
    return 1 if failed else 0


def verify() -> int:
    """Hold every file at hand, in the cache and in a mirror's folder, against its checksum."""
    failed = 0
    for entry in CATALOG.values():
        here = [p for p in places(entry, settings()) if p.url is None and p.path.is_file()]
        if not here:
            print(f"[--] {entry.name}: not here yet; fetch it with: course data get {entry.name}")
        for place in here:
            problem = check(place.path, place.checksums, entry.unpacked)
            failed += problem is not None
            remedy = f"{problem}. Delete the file, then: course data get {entry.name}"
            print(f"[!!] {entry.name}: {remedy}" if problem else f"[OK] {entry.name}: {place.path}")
    return 1 if failed else 0


def path() -> int:
    """Print the folders."""
    where = settings()
    print(f"cache   {where.cache}\nmirror  {where.mirror or 'none'}")
    return 0


def in_reach(name: str, seconds: float = 8) -> tuple[bool, str]:
    """Whether a data set can be had now, and from where, in words.

    A file at hand is held against its checksum; a mirror's address and the publishers are asked,
    for so many seconds each. Who did not answer is named.
    """
    entry, where = find_entry(name), settings()
    failures: list[str] = []
    for place in places(entry, where):
        if place.url is not None:
            why, source = ask(place.url, seconds), urlsplit(place.url).netloc
        elif place.path.is_file():
            try:
                why = check(place.path, place.checksums, entry.unpacked) or ""
            except DataError as problem:
                why = str(problem)
            source = str(place.path)
        else:
            continue
        if not why:
            but = f"; but {'; '.join(failures)}" if failures else ""
            return True, f"{place.source}: {source}{but}"
        failures.append(f"{source}: {why}")
    return False, "; ".join(failures) or "no source is known"
