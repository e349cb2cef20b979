"""The two errors of the data layer. Each message names the file and says what to do."""


class DataError(RuntimeError):
    """A file is bad, or this machine cannot store it. Never answered with a phantom."""


class Unreachable(DataError):
    """No source of a data set answered. Unless COURSE_DATA=real, a phantom takes its place."""
