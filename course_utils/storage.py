"""Files on machines as people have them: a full disk, a read-only folder, a file that is damaged.

What is written here is written whole or not at all, and an error names the file. `in_words` says
what is wrong with a disk or a folder, and what to do; `course` shows that instead of a traceback.
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from course_utils import runtime

_FULL = ("ENOSPC", "EDQUOT", "EFBIG")
_REFUSED = ("EROFS", "EACCES", "EPERM", "ENOTDIR", "EISDIR", "EEXIST")
_PLACES = {
    "COURSE_RESULTS": "results",
    "COURSE_DATA_CACHE": "data/cache",
    "COURSE_PROGRESS": "my_course/progress.json",
}
"""What may lie elsewhere: the variable that says where, and the place in the checkout."""


class Damaged(ValueError):
    """A file is not what its name promises. The message names it and says what to do."""

    def __init__(self, path: Path, why: object, remedy: str) -> None:
        reason = (str(why) or repr(why)).splitlines()[0]
        super().__init__(f"{path} is damaged ({reason}). {remedy}")


def in_words(problem: OSError) -> str:
    """What this machine refused: the file, the reason, and what to do about it."""
    what = problem.strerror or str(problem)
    kind = errno.errorcode.get(problem.errno or 0)
    if "temporary directory" in what:  # Python's message lists the folders that it has tried
        return f"{what}. Free some space, or set TMPDIR to a folder that you may write."
    if not isinstance(problem.filename, str):  # a stream: what is printed goes to a full disk
        return f"{what}. Free some space on the disk." if kind in _FULL else f"{what}."
    path = Path(problem.filename)
    there = nearest(path)
    if kind == "ENOENT" and path.is_relative_to(runtime.ROOT):
        back = f"`git checkout -- {path.relative_to(runtime.ROOT).as_posix()}` brings it back"
        return f"{path}: {what}. If it belongs to the course, {back}."
    remedy = f"Make {path.parent} a folder that you may write"
    if kind in _FULL:
        remedy = "Free some space on that disk"
    elif kind not in _REFUSED:
        return f"{path}: {what}."
    elif kind == "EISDIR" and path.is_dir():
        remedy = "A folder is where a file is needed: move it away"
    elif there.is_file() and (there != path or kind == "EEXIST"):
        remedy = f"{there} is a file where a folder is needed: move it away"
    return f"{path}: {what}. {remedy}{_or_elsewhere(path)}."


def _or_elsewhere(path: Path) -> str:
    for name, usual in _PLACES.items():
        if path.absolute().is_relative_to(runtime.ROOT / (os.environ.get(name) or usual)):
            return f", or set {name} to another place"
    if {"jupyter", "Jupyter"} & set(path.parts):
        return ", or set JUPYTER_DATA_DIR and JUPYTER_RUNTIME_DIR to folders that you may write"
    if path.is_relative_to(runtime.ROOT):
        return ", or copy the course to a folder of your own and set it up there (`make course`)"
    if path.is_relative_to(os.environ.get("TMPDIR") or "/tmp"):
        return ", or set TMPDIR to another folder"
    return ""


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write under. What was written becomes `path` at the end, and is deleted on errors.

    Raises:
        OSError: it could not be written; `path` is as it was, and the error names it.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let every error name this file: Python tells the name for `open`, and not for `write`."""
    try:
        yield
    except OSError as problem:
        if problem.filename is None or str(problem.filename).endswith(".part"):
            problem.filename = str(path)
        raise


def write(path: Path, text: str) -> None:
    """Write a text file, whole or not at all, with the ends of lines that the text has."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def try_writing(folder: Path, size: int = 1 << 16) -> None:
    """Write so many bytes into a folder, and delete them: before hours of work, not after them.

    Raises:
        OSError: the folder cannot be made or written.
    """
    probe = folder / f".course-{os.getpid()}"
    with whole(probe) as part, part.open("wb") as file:
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())  # some disks say only now that they are full
    with contextlib.suppress(OSError):  # Windows: somebody looks at it
        probe.unlink()


def nearest(path: Path) -> Path:
    """The path itself if there is one, else the folder that is there and would hold it."""
    # Unlike `Path.exists` it says False, too, of what lies in a folder that may not be entered.
    return next(filter(os.path.exists, (path, *path.parents)), path)


def read_json(path: Path, remedy: str) -> Any:
    """The content of a JSON file.

    Raises:
        Damaged: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise Damaged(path, problem, remedy) from problem


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that a new one can take its place and nothing is lost."""
    return path.replace(path.with_name(path.name + ".damaged"))


def save_tensors(tensors: dict, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all; tensors of any device and memory layout."""
    import torch
    from safetensors.torch import save

    # Clones: safetensors refuses memory that is shared or not contiguous (channels-last).
    plain = {k: v.cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    with whole(path) as part:
        part.write_bytes(save(plain, metadata))  # its `save_file` has errors that are no OSError


def load_tensors(path: Path, remedy: str) -> tuple[dict, dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        Damaged: it was cut, or is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except SafetensorError as problem:
        raise Damaged(path, problem, remedy) from problem
