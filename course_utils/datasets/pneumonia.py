"""PneumoniaMNIST: chest X-rays of children, 28 x 28; is it pneumonia?

x: uint8 (N, 1, 28, 28), 0 to 255. y: int64 (N,), 0 normal, 1 pneumonia. Official split.
"""

import io
import math
from pathlib import Path

import numpy as np
import torch

from .archives import read_members
from .catalog import CATALOG
from .errors import DataError
from .fetching import Fetched
from .forms import Dataset, Split, digest
from .similarity import duplicates, repeats

CLASSES = ("normal", "pneumonia")
SPLITS = ("train", "val", "test")


def load(fetched: Fetched) -> Dataset:
    """The data set in one order, whichever order its file has.

    Mirror and upstream hold the same training images in different orders. Each split is sorted by
    its pixels, then its label, so that one seed draws the same batches from both.
    """
    entry = CATALOG["pneumonia"]
    splits = {name: _sorted(name, *arrays) for name, arrays in _read(fetched.path).items()}
    pieces = [(f"{k}/{part}", getattr(v, part)) for k, v in splits.items() for part in ("x", "y")]
    return Dataset(
        name=entry.name,
        title=entry.title,
        task=entry.task,
        source=fetched.source,
        sha256=digest(pieces),
        classes=CLASSES,
        splits=splits,
        split="official",
        notes=_notes(splits),
    )


def _read(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    arrays = {}
    try:
        files = read_members(
            path, r"(train|val|test)_(images|labels)\.npy", CATALOG["pneumonia"].unpacked
        )
        for name in SPLITS:
            images, labels = (_array(files[f"{name}_{kind}.npy"]) for kind in ("images", "labels"))
            arrays[name] = images, labels.reshape(-1)
    except (DataError, ValueError, KeyError, EOFError) as e:
        raise DataError(
            f"{path} is not the PneumoniaMNIST archive ({e}). Delete it and load the set again."
        ) from e
    for name, (images, labels) in arrays.items():
        if images.dtype != np.uint8 or images.shape != (len(labels), 28, 28):
            raise DataError(
                f"{path}: {name}_images is {images.dtype} {images.shape}, expected uint8 "
                f"({len(labels)}, 28, 28). Delete the file and load the set again."
            )
    return arrays


def _array(content: bytes) -> np.ndarray:
    """An .npy file; ValueError where its header promises more than it holds."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("another version of the .npy format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"{len(content)} bytes for an array of {shape} {dtype}")
    return np.load(io.BytesIO(content), allow_pickle=False)


def _sorted(name: str, images: np.ndarray, labels: np.ndarray) -> Split:
    order = sorted(range(len(labels)), key=lambda i: (images[i].tobytes(), int(labels[i])))
    x = torch.from_numpy(images[order]).unsqueeze(1)
    y = torch.from_numpy(labels[order]).long()
    return Split(x, y, tuple(f"{name}/{i:04d}" for i in range(len(y))))


def _notes(splits: dict[str, Split]) -> tuple[str, ...]:
    lines = [
        f"{name}: {len(part)} images, prevalence of pneumonia {part.y.float().mean():.3f}, "
        f"{repeats(part.x)} repeat an earlier image (kept)"
        for name, part in splits.items()
    ]
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = {j for _, j in duplicates(splits[a].x, splits[b].x)}
        lines.append(f"{len(shared)} images of {b} also stand in {a} (kept: the split is official)")
    return tuple(lines)
