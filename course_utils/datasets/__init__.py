"""The data sets of the course: `load(name)` gives whole sets as tensors, real or phantom.

    data = load("pneumonia")
    data.train.x, data.train.y      # tensors, a row per case
    data.source                     # "upstream", "mirror" or "phantom"

Taught in chapter 01; the cards of the sets are in data/README.md.
"""

from .errors import DataError, Unreachable
from .fetching import fetch, reachable, settings
from .forms import Dataset, Split
from .sets import CATALOG, SETS, find_entry
from .similarity import copied_masks, duplicates, perceptual_hash

__all__ = [
    "CATALOG",
    "DataError",
    "Dataset",
    "Split",
    "Unreachable",
    "copied_masks",
    "duplicates",
    "fetch",
    "load",
    "perceptual_hash",
    "phantom",
    "reachable",
    "settings",
]


def load(name: str, **options: int) -> Dataset:
    """Load a data set of the catalogue into memory.

    Where no source can be reached, this is said and a phantom of the same task is given; with
    COURSE_DATA=real it is an error, and with COURSE_DATA=phantom the phantom is always given.

    Args:
        name: of the catalogue, for instance "bccd".
        options: of the set's module; `fold=0` to `fold=4` for the hippocampus.

    Raises:
        DataError: the data is damaged, cannot be stored, or (COURSE_DATA=real) not reached.
        ValueError: no such name, or COURSE_DATA holds an unknown word.
    """
    entry, mode = find_entry(name), settings().mode
    if mode != "phantom":
        try:
            return SETS[name].load(fetch(name), **options)
        except Unreachable as problem:
            if mode == "real":
                raise
            print(f"{problem}\nSYNTHETIC: a phantom of {entry.title} takes its place.")
    return phantom(name, **options)


def phantom(name: str, seed: int = 0, **options: int) -> Dataset:
    """A synthetic data set in the form of the real one; `source` is "phantom".

    Args:
        name, options: as for `load`.
        seed: the same seed draws the same images.
    """
    find_entry(name)
    return SETS[name].phantom(seed, **options)
