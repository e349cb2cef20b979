"""Phantoms: synthetic images that stand in for the real sets, each with its ground truth.

`xrays`, `lesions`, `smears` and `volumes` draw any number of images at any size. The same seed
gives the same images on the same machine. `phantom(name)` packs them in the form of a real set.

They serve where no data can be reached, and where a truth must be known that no real image comes
with, such as the pixels that decide a label. A result on a phantom says nothing about patients.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from . import bccd, hippocampus, isic2017, pneumonia
from .fetching import find_entry
from .forms import Dataset, Split, digest

COUNTS = {"pneumonia": (2000, 300, 600), "bccd": (96, 24, 40), "isic2017": (200, 40, 60)}
"""Images for train, val and test. The hippocampus has 100 volumes, cut by the real set's rule."""


def phantom(name: str, seed: int = 0, fold: int = 0) -> Dataset:
    """A synthetic data set in the form of the real one; `source` is "phantom".

    `extra` holds further truth: "mask" (N, 28, 28) of the opacities for "pneumonia".
    `fold` concerns the hippocampus only.
    """
    entry = find_entry(name)
    classes = {
        "pneumonia": pneumonia.CLASSES,
        "hippocampus": hippocampus.CLASSES,
        "bccd": bccd.CLASSES,
        "isic2017": isic2017.CLASSES,
    }[name]
    if name == "hippocampus":
        splits = hippocampus.split_folds(volumes(100, seed), fold)
    else:
        draw = {"pneumonia": _pneumonia, "bccd": _bccd, "isic2017": _isic}[name]
        parts = zip(("train", "val", "test"), COUNTS[name], strict=True)
        splits = {part: draw(part, n, 3 * seed + i) for i, (part, n) in enumerate(parts)}
    pieces = [(f"{k}/{part}", getattr(v, part)) for k, v in splits.items() for part in ("x", "y")]
    return Dataset(
        name=name,
        title=entry.title,
        task=entry.task,
        source="phantom",
        sha256=digest(pieces),
        classes=classes,
        splits=splits,
        split=f"phantom, seed {seed}" + (f", fold {fold}" if name == "hippocampus" else ""),
        notes=("synthetic images: no result on them says anything about patients",),
    )


def _pneumonia(part: str, n: int, seed: int) -> Split:
    images, masks, labels = xrays(n, 28, seed)
    return Split(images, labels, _ids(part, n), {"mask": masks})


def _isic(part: str, n: int, seed: int) -> Split:
    images, masks, _ = lesions(n, 128, seed, channels=3)
    big = F.interpolate(images.float(), scale_factor=2, mode="bilinear").round().to(torch.uint8)
    mask = masks.repeat_interleave(2, 1).repeat_interleave(2, 2)
    nothing = torch.zeros(n, dtype=torch.int64)
    extra = {
        "melanoma": nothing,
        "seborrheic_keratosis": nothing,
        "age": torch.full((n,), math.nan),
    }
    return Split(big, mask, _ids(part, n), extra)


def _bccd(part: str, n: int, seed: int) -> Split:
    images, boxes = smears(n, (bccd.HEIGHT // 4, bccd.WIDTH // 4), seed)
    big = F.interpolate(images.float(), scale_factor=4, mode="bilinear").round().to(torch.uint8)
    boxes[:, :, 1:] *= 4
    return Split(big, boxes, _ids(part, n))


def _ids(part: str, n: int) -> tuple[str, ...]:
    return tuple(f"phantom/{part}/{i:04d}" for i in range(n))


def xrays(
    n: int, size: int = 64, seed: int = 0, prevalence: float = 0.5
) -> tuple[Tensor, Tensor, Tensor]:
    """Chest-like images: lungs, ribs, blurred clutter, and in some a soft opacity in one lung.

    Brightness, contrast and anatomy vary more than the opacity adds, so that no single pixel and
    no mean tells the classes apart.

    Returns:
        images uint8 (n, 1, size, size); masks uint8 (n, size, size), 1 where the opacity has more
        than half of its strength; labels int64 (n,), 1 with an opacity.
    """
    draw = _Draw(n, seed)
    y, x = _grid(size, size)
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
    labels = (draw.uniform(0, 1).flatten() < prevalence).long()
    right = draw.uniform(0, 1) < 0.5
    cx, cy, rx, ry = (torch.where(right, a, b) for a, b in zip(*centres, strict=True))
    px, py = cx + rx * draw.uniform(-0.5, 0.5), cy + ry * draw.uniform(-0.6, 0.6)
    spread = draw.uniform(0.1, 0.2)
    blob = torch.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * spread**2))
    present = labels.view(-1, 1, 1)
    scene = scene + present * draw.uniform(0.7, 1.8) * blob
    masks = ((blob > 0.5) & (present == 1)).to(torch.uint8)
    scene = scene * draw.uniform(0.7, 1.2) + draw.uniform(-0.3, 0.3) + 0.1 * draw.grain(size, size)
    return _to_uint8(150 + 45 * scene).unsqueeze(1), masks, labels


def lesions(
    n: int, size: int = 64, seed: int = 0, channels: int = 1, prevalence: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """One dark lesion with a ragged border, on blotches, small dark spots and uneven light.

    The spots are as dark as the lesion, only smaller, so that a threshold does not find it.

    Returns:
        images uint8 (n, channels, size, size), channels 1 or 3; masks uint8 (n, size, size), 1 in
        the lesion; labels int64 (n,), 1 with a lesion. Without one the mask is empty.
    """
    draw = _Draw(n, seed)
    y, x = _grid(size, size)
    scene = 0.5 * draw.noise(4, size, size) + 0.3 * draw.noise(10, size, size)
    scene = scene + draw.uniform(-0.5, 0.5) * x + draw.uniform(-0.5, 0.5) * y
    depth = draw.uniform(1.2, 2.6)
    for _ in range(6):
        r = ((x - draw.uniform(-1, 1)) ** 2 + (y - draw.uniform(-1, 1)) ** 2).sqrt()
        spot = torch.sigmoid((draw.uniform(0.04, 0.09) - r) * 60)
        scene = scene - depth * spot
    dx, dy = x - draw.uniform(-0.45, 0.45), y - draw.uniform(-0.45, 0.45)
    angle = torch.atan2(dy, dx)
    border = draw.uniform(0.18, 0.42)
    for k in (2, 3, 5):
        border = border * (1 + draw.uniform(0, 0.16) * torch.cos(k * angle + draw.uniform(0, 6.3)))
    inside = (border - (dx.square() + dy.square()).sqrt()) * size / 4  # soft over about 4 pixels
    labels = (draw.uniform(0, 1).flatten() < prevalence).long()
    present = labels.view(-1, 1, 1)
    texture = 1 + 0.25 * draw.noise(8, size, size)
    scene = scene - present * depth * texture * torch.sigmoid(4 * inside)
    masks = ((inside > 0) & (present == 1)).to(torch.uint8)
    scene = scene + 0.15 * draw.grain(size, size)
    if channels == 1:
        return _to_uint8(165 + 35 * scene).unsqueeze(1), masks, labels
    skin = torch.tensor([200.0, 150.0, 130.0]).view(1, 3, 1, 1)
    gain = torch.tensor([30.0, 40.0, 38.0]).view(1, 3, 1, 1)
    tint = torch.stack([draw.uniform(-15, 15) for _ in range(3)], dim=1)
    return _to_uint8(skin + tint + gain * scene.unsqueeze(1)), masks, labels


def smears(n: int, size: int | tuple[int, int] = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Blood-smear-like images: pale-centred red cells, white cells with a nucleus, platelets.

    Args:
        size: of the square, or (height, width), in pixels.

    Returns:
        images uint8 (n, 3, height, width); boxes float32 (n, 30, 5), rows (class, x1, y1, x2, y2)
        in pixels, class 0 red cell, 1 white cell, 2 platelet, -1 for a row without a box.
    """
    height, width = (size, size) if isinstance(size, int) else size
    draw = _Draw(n, seed)
    y = torch.arange(height).view(1, -1, 1) + 0.5
    x = torch.arange(width).view(1, 1, -1) + 0.5
    kinds = torch.tensor([1] + [2] * 2 + [0] * 11)
    seats = torch.rand(n, 20, 1, 1, generator=draw.generator).argsort(dim=1)  # on a 4 x 5 board
    rows = torch.zeros(n, len(kinds), 5)
    nearest = torch.full((n, height, width), math.inf)  # squared distance in radii of that cell
    owner = torch.zeros(n, height, width, dtype=torch.int64)
    for i, kind in enumerate(kinds.tolist()):
        there = draw.uniform(0, 1) < (0.85, 0.5, 0.4)[kind]
        cy = (seats[:, i] // 5 + 0.5 + draw.uniform(-0.25, 0.25)) * height / 4
        cx = (seats[:, i] % 5 + 0.5 + draw.uniform(-0.25, 0.25)) * width / 5
        low, high = ((0.085, 0.115), (0.15, 0.19), (0.025, 0.04))[kind]
        ry, rx = draw.uniform(low, high) * height, draw.uniform(low, high) * height
        away = torch.where(there, 0, 1e6)  # a cell that is not there is far from every pixel
        distance = ((y - cy) / ry) ** 2 + (((x - cx) / rx) ** 2 + away)
        owner[distance < nearest] = i
        nearest = torch.minimum(nearest, distance)
        rows[:, i, 0] = torch.where(there, kind, -1).flatten()
        edges = ((cx - rx, width), (cy - ry, height), (cx + rx, width), (cy + ry, height))
        for j, (edge, limit) in enumerate(edges):
            rows[:, i, 1 + j] = (edge.clamp(0, limit) * there).flatten()
    absent = (rows[:, :, :1] < 0).to(torch.uint8).argsort(dim=1, stable=True)
    boxes = bccd.pad(list(rows.take_along_dim(absent, dim=1)))

    r, kind_of = nearest.sqrt(), kinds[owner]
    inner = torch.rand(n, len(kinds), generator=draw.generator)  # size of nucleus or pale centre
    inner = inner.take_along_dim(owner.flatten(1), dim=1).view_as(r)
    pale = torch.exp(-((r / (0.3 + 0.3 * inner)) ** 2)) * (kind_of == 0)
    nucleus = torch.sigmoid((0.55 + 0.25 * inner - r) * 15) * (kind_of == 1)
    body = torch.sigmoid((1 - r) * 12) * (1 - 0.7 * pale)
    stains = torch.tensor([[-25.0, -75, -65], [-30, -40, -5], [-80, -110, -40]])  # by kind
    dye = torch.tensor([-90.0, -100, -35])
    shade = 8 * draw.noise(4, height, width) + 5 * draw.grain(height, width)
    images = torch.stack(
        [
            _to_uint8(paper + shade + body * stains[:, c][kind_of] + nucleus * dye[c])
            for c, paper in enumerate((225, 205, 205))
        ],
        dim=1,
    )
    return images, boxes


def volumes(n: int, seed: int = 0) -> Split:
    """MRI-like crops with a bent two-part body on clutter, in the form of `hippocampus`.

    Returns:
        a Split: x float16 (n, 1, 48, 64, 48), normalised; y uint8 (n, 48, 64, 48), 1 the front
        part, 2 the back part; `extra` as the real set's.
    """
    room = hippocampus.SIZE
    draw = _Draw(n, seed, dims=3)
    spans = ((31, 43), (40, 59), (24, 47))  # voxels, as in the real set
    shape = torch.stack([draw.uniform(a, b + 1).flatten().long() for a, b in spans], dim=1)
    a, b, c = (
        ((torch.arange(m) + 0.5) / shape[:, [k]] * 2 - 1).view(
            n, *(m if j == k else 1 for j in range(3))
        )
        for k, m in enumerate(room)
    )  # -1 to 1 across each volume, beyond 1 in the filling
    bend = draw.uniform(-0.3, 0.3)
    thick = draw.uniform(0.22, 0.34) * (1 + 0.5 * b)  # the front part is thicker
    tube = ((a - bend * b.square()) / thick) ** 2 + ((c + 0.4 * bend * b) / thick) ** 2
    inside = (tube < 1) & (b.abs() < draw.uniform(0.6, 0.8))
    front = b > draw.uniform(0, 0.3)
    image = 0.6 * draw.noise(5, *room) + 0.4 * draw.noise(12, *room)
    image = image + 1.2 * inside + 0.15 * draw.grain(*room)
    x = torch.zeros(n, 1, *room, dtype=torch.float16)
    for i, (p, q, r) in enumerate(shape.tolist()):
        x[i, 0, :p, :q, :r] = torch.from_numpy(hippocampus.normalise(image[i, :p, :q, :r].numpy()))
    y = torch.where(inside & (a < 1) & (c < 1), torch.where(front, 1, 2), 0).to(torch.uint8)
    ids = tuple(f"phantom_{i + 1:03d}" for i in range(n))
    person = torch.tensor([hippocampus.person_of(name) for name in ids])
    return Split(x, y, ids, {"shape": shape, "spacing": torch.ones(n, 3), "person": person})


class _Draw:
    """Random numbers for n images from one seed. A number of each image has shape (n, 1, 1)."""

    def __init__(self, n: int, seed: int, dims: int = 2) -> None:
        self.n, self.ones = n, (1,) * dims
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(self.n, *self.ones, generator=self.generator)

    def grain(self, *size: int) -> Tensor:
        return torch.randn(self.n, *size, generator=self.generator)

    def noise(self, cells: int, *size: int) -> Tensor:
        """Smooth noise (n, *size): about `cells` blotches from edge to edge."""
        coarse = torch.randn(self.n, 1, *(cells for _ in size), generator=self.generator)
        mode = "bicubic" if len(size) == 2 else "trilinear"
        return F.interpolate(coarse, size, mode=mode)[:, 0]


def _grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Vertical and horizontal position of each pixel, -1 to 1: (1, height, 1), (1, 1, width)."""
    y = (torch.arange(height) + 0.5) / height * 2 - 1
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    return y.view(1, -1, 1), x.view(1, 1, -1)


def _to_uint8(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
