"""Phantoms: synthetic images that stand in for the real sets, each with its ground truth.

`pneumonia.xrays`, `isic2017.lesions`, `bccd.smears` and `hippocampus.volumes` draw any number of
images; what they share is here. The same seed gives the same images on the same machine.

They serve where no data can be reached, and where a truth must be known that no real image comes
with, such as the pixels that decide a label. A result on a phantom says nothing about patients.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .catalog import Entry
from .forms import PARTS, Dataset, Split, pack

Drawn = tuple[Tensor, Tensor, dict[str, Tensor]]
"""Images, targets, and further truth by name."""


def draw_phantom(
    entry: Entry, draw: Callable[[int, int], Drawn], counts: tuple[int, int, int], seed: int
) -> Dataset:
    """A phantom whose train, val and test `draw(n, seed)` draws with seeds of their own."""
    splits = {}
    for i, (part, n) in enumerate(zip(PARTS, counts, strict=True)):
        x, y, extra = draw(n, 3 * seed + i)
        splits[part] = Split(x, y, tuple(f"phantom/{part}/{k:04d}" for k in range(n)), extra)
    return as_phantom(entry, splits, f"seed {seed}")


def as_phantom(entry: Entry, splits: dict[str, Split], drawn: str) -> Dataset:
    """Synthetic splits as a data set; `drawn` says with which seed."""
    notes = ("synthetic images: no result on them says anything about patients",)
    return pack(entry, "phantom", splits, f"phantom, {drawn}", notes)


class Draw:
    """Random numbers for n images from one seed. A number of each image has shape (n, 1, 1).

    Of volumes, `dims=3`, it has (n, 1, 1, 1).
    """

    def __init__(self, n: int, seed: int, dims: int = 2) -> None:
        self.n, self.ones = n, (1,) * dims
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> Tensor:
        """One number for each image, from `low` to `high`."""
        return low + (high - low) * torch.rand(self.n, *self.ones, generator=self.generator)

    def grain(self, *size: int) -> Tensor:
        """Independent normal numbers (n, *size)."""
        return torch.randn(self.n, *size, generator=self.generator)

    def noise(self, cells: int, *size: int) -> Tensor:
        """Smooth noise (n, *size): about `cells` blotches from edge to edge."""
        coarse = torch.randn(self.n, 1, *(cells for _ in size), generator=self.generator)
        mode = "bicubic" if len(size) == 2 else "trilinear"
        return F.interpolate(coarse, size, mode=mode)[:, 0]


def grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Vertical and horizontal position of each pixel, -1 to 1: (1, height, 1), (1, 1, width)."""
    y, x = ((torch.arange(n) + 0.5) / n * 2 - 1 for n in (height, width))
    return y.view(1, -1, 1), x.view(1, 1, -1)


def to_uint8(values: Tensor) -> Tensor:
    """Rounded, and clipped to 0 to 255."""
    return values.round().clamp(0, 255).to(torch.uint8)


def enlarge(images: Tensor, scale: int) -> Tensor:
    """Images (n, C, H, W), uint8, at so many times their height and width."""
    return to_uint8(F.interpolate(images.float(), scale_factor=scale, mode="bilinear"))
