"""The two errors of the data layer. Each message names the file and says what to do."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from course_utils import storage


class DataError(RuntimeError):
    """A file is bad, or this machine cannot store it. Never answered with a phantom."""


class Unreachable(DataError):
    """No source of a data set answered. Unless COURSE_DATA=real, a phantom takes its place."""


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """An OSError in here is one of this machine, not of a source: in words that say what to do."""
    try:
        yield
    except OSError as problem:
        if not isinstance(problem.filename, str):
            problem.filename = str(path)
        raise DataError(storage.in_words(problem)) from problem
