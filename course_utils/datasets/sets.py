"""The data sets of the course by name. A new one is a module of its own and its name in `SETS`."""

from . import bccd, hippocampus, isic2017, pneumonia
from .catalog import Entry

SETS = {module.ENTRY.name: module for module in (pneumonia, hippocampus, bccd, isic2017)}
CATALOG: dict[str, Entry] = {name: module.ENTRY for name, module in SETS.items()}


def find_entry(name: str) -> Entry:
    """The catalogue's entry, or a ValueError that lists the names."""
    if name not in CATALOG:
        raise ValueError(f"No data set is called {name!r}. There are: {', '.join(CATALOG)}.")
    return CATALOG[name]
