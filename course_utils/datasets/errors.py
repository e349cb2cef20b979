"""The two errors of the data layer. Each message names the file and says what to do."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from course_utils import storage


class DataError(RuntimeError):
    """A file is bad, or this machine cannot store it. Never answered with a phantom."""


class Unreachable(DataError):
    """No source of a data set answered. Unless COURSE_DATA=real, a phantom takes its place."""


def damaged(said: str) -> DataError:
    """What is wrong with an archive or a file in it, and what to do about it."""
    remedy = "Delete the archive and load the data set again, or fetch the set from another place."
    return DataError(f"{said}. {remedy}")


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """An OSError in here is one of this machine, not of a source: in words that say what to do."""
    try:
        with storage.naming(path):
            yield
    except OSError as problem:
        raise DataError(storage.in_words(problem)) from problem
