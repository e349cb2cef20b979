"""PneumoniaMNIST: chest X-rays of children, 28 x 28; is it pneumonia?

x: uint8 (N, 1, 28, 28), 0 to 255. y: int64 (N,), 0 normal, 1 pneumonia. Official split.
"""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .archives import read_members
from .catalog import Fetched, read_entry
from .drawing import Draw, Drawn, draw_phantom, grid, to_uint8
from .errors import DataError, damaged
from .forms import PARTS, Dataset, Split, pack
from .similarity import duplicates

ENTRY = read_entry(__file__)
PHANTOMS = (2000, 300, 600)
"""Images of the phantom for train, val and test."""


def load(fetched: Fetched) -> Dataset:
    """The data set in one order, whichever order its file has.

    Mirror and upstream hold the same training images in different orders. Each split is sorted by
    its pixels, then its label, so that one seed draws the same batches from both.
    """
    splits = {name: _sorted(name, *arrays) for name, arrays in _read(fetched.path).items()}
    return pack(ENTRY, fetched.source, splits, "official", _notes(splits))


def _read(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    arrays = {}
    try:
        files = read_members(path, ENTRY.members, ENTRY.unpacked)
        for name in PARTS:
            images, labels = (_array(files[f"{name}_{kind}.npy"]) for kind in ("images", "labels"))
            arrays[name] = images, labels.reshape(-1)
            found, expected = f"{images.dtype} {images.shape}", f"uint8 {(labels.size, 28, 28)}"
            if found != expected:
                raise ValueError(f"{name}_images is {found}, expected {expected}")
    except (DataError, ValueError, KeyError, EOFError) as e:
        raise damaged(f"{path} is not the PneumoniaMNIST archive ({e})") from e
    return arrays


def _array(content: bytes) -> np.ndarray:
    """An .npy file; ValueError where its header promises more than it holds."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("another version of the .npy format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if fortran else "C")


def _sorted(name: str, images: np.ndarray, labels: np.ndarray) -> Split:
    order = sorted(range(len(labels)), key=lambda i: (images[i].tobytes(), int(labels[i])))
    x = torch.from_numpy(images[order]).unsqueeze(1)
    y = torch.from_numpy(labels[order]).long()
    return Split(x, y, tuple(f"{name}/{i:04d}" for i in range(len(y))))


def _notes(splits: dict[str, Split]) -> tuple[str, ...]:
    lines = [
        f"{name}: {len(part)} images, prevalence of pneumonia {part.y.float().mean():.3f}, "
        f"{len(part) - len(part.x.unique(dim=0))} repeat an earlier image (kept)"
        for name, part in splits.items()
    ]
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = {j for _, j in duplicates(splits[a].x, splits[b].x)}
        lines.append(f"{len(shared)} images of {b} also stand in {a} (kept: the split is official)")
    return tuple(lines)


def phantom(seed: int = 0) -> Dataset:
    """X-rays drawn by `xrays`; `extra["mask"]` (N, 28, 28) is 1 in the opacities."""
    return draw_phantom(ENTRY, _drawn, PHANTOMS, seed)


def _drawn(n: int, seed: int) -> Drawn:
    images, masks, labels = xrays(n, 28, seed)
    return images, labels, {"mask": masks}


def xrays(n: int, size: int = 64, seed: int = 0, prevalence: float = 0.5) -> tuple[Tensor, ...]:
    """Chest-like images: lungs, ribs, blurred clutter, and in some a soft opacity in one lung.

    Brightness, contrast and anatomy vary more than the opacity adds, so that no single pixel and
    no mean tells the classes apart.

    Returns:
        images uint8 (n, 1, size, size); masks uint8 (n, size, size), 1 where the opacity has more
        than half of its strength; labels int64 (n,), 1 with an opacity.
    """
    draw = Draw(n, seed)
    y, x = grid(size, size)
    scene = 0.25 * draw.noise(3, size, size) + 0.15 * draw.noise(7, size, size)
    lungs = torch.zeros(n, size, size)
    centres = []
    for side in (-1, 1):
        cx, cy = side * draw.uniform(0.36, 0.5), draw.uniform(-0.12, 0.12)
        rx, ry = draw.uniform(0.24, 0.34), draw.uniform(0.5, 0.7)
        r = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2
        lungs = torch.maximum(lungs, torch.sigmoid((1 - r) * 6))
        centres.append((cx, cy, rx, ry))
    ribs = torch.sin(draw.uniform(14, 20) * (y + 0.35 * x.square()) + draw.uniform(0, 6.3))
    vessels = draw.noise(max(size // 4, 2), size, size)
    scene = scene + lungs * (0.18 * ribs + 0.16 * vessels - draw.uniform(1.2, 2.0))
    present = draw.uniform(0, 1) < prevalence
    right = draw.uniform(0, 1) < 0.5
    cx, cy, rx, ry = (torch.where(right, a, b) for a, b in zip(*centres, strict=True))
    px, py = cx + rx * draw.uniform(-0.5, 0.5), cy + ry * draw.uniform(-0.6, 0.6)
    spread = draw.uniform(0.1, 0.2)
    blob = torch.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * spread**2))
    scene = scene + present * draw.uniform(0.7, 1.8) * blob
    masks = ((blob > 0.5) & present).to(torch.uint8)
    scene = scene * draw.uniform(0.7, 1.2) + draw.uniform(-0.3, 0.3) + 0.1 * draw.grain(size, size)
    return to_uint8(150 + 45 * scene).unsqueeze(1), masks, present.flatten().long()
