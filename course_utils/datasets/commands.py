"""What `course data list | get NAME | verify | path` prints; each returns the exit status. And what
`course check` says of the data."""

from .errors import DataError, Unreachable
from .fetching import at_hand, check, fetch, places, settings
from .sets import CATALOG
from .transfer import ask, host, public


def show() -> int:
    """Print the catalogue: name, task, size, licence, and where the file lies now."""
    for entry in CATALOG.values():
        here = at_hand(entry.name)
        state = f"at hand: {here[0].source}" if here else "not here yet"
        size = f"{entry.size / 1e6:.0f} MB"
        print(f"{entry.name:12} {entry.task:15} {size:>6}  {entry.licence:13} {state}")
        print(f"{'':12} {entry.title}; {entry.split}")
    return 0


def get(names: list[str]) -> int:
    """Fetch these data sets, or all."""
    failed = 0
    for name in names or CATALOG:
        try:
            fetched = fetch(name)
            print(f"[OK] {name}: {fetched.source}, {fetched.path}")
        except (DataError, ValueError) as problem:
            failed = 1
            print(f"[!!] {name}: {problem}")
    return failed


def verify(names: list[str]) -> int:
    """Hold files at hand, in the cache and in a mirror's folder, against their checksums."""
    failed = 0
    for name in names or CATALOG:
        here = at_hand(name)
        if not here:
            print(f"[--] {name}: not here yet; fetch it with: course data get {name}")
        for place in here:
            try:
                problem = check(place)
            except DataError as unreadable:
                problem = str(unreadable)
            if problem:
                failed = 1
                print(f"[!!] {name}: {problem}. Delete the file, then: course data get {name}")
            else:
                print(f"[OK] {name}: {place.path}")
    return failed


def path() -> int:
    """Print the folders."""
    where = settings()
    print(f"cache   {where.cache}\nmirror  {public(where.address or str(where.folder or 'none'))}")
    return 0


def in_reach(name: str, seconds: float = 8) -> tuple[bool, str]:
    """Whether a data set can be had now, and from where, in words.

    A file at hand is held against its checksum; a mirror's address and the publishers are asked,
    for so many seconds each. Who did not answer is named.
    """
    failures = list[str]()
    for place in places(name):
        source = host(place.url) if place.url else str(place.path)
        try:
            why = ask(place.url, place.entry.size, seconds) if place.url else check(place)
        except Unreachable:  # no such file
            continue
        except DataError as problem:
            why = str(problem)
        if not why:
            but = f"; but {'; '.join(failures)}" if failures else ""
            # A file by its name alone: notebooks are stored with what `course check` prints.
            return True, f"{place.source}: {source if place.url else place.path.name}{but}"
        failures.append(f"{source}: {why}")
    return False, "; ".join(failures) or "no source is known"
