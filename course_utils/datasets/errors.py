"""The two errors of the data layer. Each message names the file and says what to do."""

import errno
from pathlib import Path


class DataError(RuntimeError):
    """A file is bad, or this machine cannot store it. Never answered with a phantom."""


class Unreachable(DataError):
    """No source of a data set answered. Unless COURSE_DATA=real, a phantom takes its place."""


def disk_error(problem: OSError, path: Path) -> DataError:
    """An error of this machine, not of a source, in words that say what to do."""
    if errno.errorcode.get(problem.errno or 0) in ("ENOSPC", "EFBIG", "EDQUOT"):
        remedy = "The disk is full: free some space, or set COURSE_DATA_CACHE to another disk."
    else:
        remedy = (
            f"Make {path.parent} a folder that you may read and write, "
            "or set COURSE_DATA_CACHE to such a folder."
        )
    return DataError(f"{path}: {problem.strerror or problem}. {remedy}")
