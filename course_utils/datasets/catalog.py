"""What a catalogue entry holds. Each data set's module has its own, `ENTRY`, from `NAME.toml`.

Nothing is fetched here. `fetching.fetch` reads where to look from an entry and which checksum a
file must have. The long form of the entries, with how each defect is handled, is data/README.md.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Source:
    """One form in which a data set is published.

    `checksum` is "sha256:..." or "md5:..." of the file, or "manifest:..." where the publisher packs
    the archive anew for each download: then the digest covers the files inside
    (see `archives.manifest`). `url` is None where the file comes from a mirror only.
    """

    filename: str
    checksum: str
    url: str | None = None

    @property
    def kind(self) -> str:
        """The word "upstream" or "mirror"."""
        return "mirror" if self.url is None else "upstream"


@dataclass(frozen=True)
class Entry:
    """What a learner must know before using a data set.

    `size` is the largest download in bytes, `unpacked` the most that the files read from it may
    have together; more is refused. `members` is a regular expression for those files' whole paths
    inside the archive. Sources are tried in their order, a mirror before the publishers.
    """

    name: str
    title: str
    task: str  # "classification", "segmentation" or "detection"
    classes: tuple[str, ...]
    licence: str
    citation: str
    credit: str
    size: int
    unpacked: int
    members: str
    split: str
    sources: tuple[Source, ...]
    defects: tuple[str, ...]


def read_entry(module: str) -> Entry:
    """The entry of a data set, from the file of its name beside the file of its module."""
    path = Path(module).with_suffix(".toml")
    facts: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    facts["sources"] = (Source(**source) for source in facts["sources"])
    facts |= {key: tuple(facts[key]) for key in ("classes", "sources", "defects")}
    return Entry(path.stem, **facts)


@dataclass(frozen=True)
class Fetched:
    """A verified file. `source` says where it came from: "upstream" or "mirror"."""

    path: Path
    source: str
