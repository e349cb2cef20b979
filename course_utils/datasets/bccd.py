"""BCCD: blood smears under the microscope; where are the cells, and of which kind?

x: uint8 (N, 3, 480, 640). y: float32 (N, 30, 5), rows (class, x1, y1, x2, y2) in pixels as the
annotators gave them (1 to 640 and 1 to 480), class 0 red cell, 1 white cell, 2 platelet. Rows that
hold no box have class -1. Official split.
"""

import math
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from .archives import read_members
from .catalog import Fetched, read_entry
from .decoding import decode_images
from .drawing import Draw, Drawn, draw_phantom, enlarge, to_uint8
from .errors import damaged
from .forms import PARTS, Dataset, Split, pack

ENTRY = read_entry(__file__)
CLASSES = ENTRY.classes
HEIGHT, WIDTH = 480, 640
MAX_BOXES = 30
PHANTOMS = (96, 24, 40)
"""Images of the phantom for train, val and test."""


def load(fetched: Fetched) -> Dataset:
    """The data set. Boxes without area are dropped; images without red-cell labels are kept."""
    photos, drawn, splits = _read(fetched.path)
    boxes = {name: rows[(rows[:, 3:] > rows[:, 1:3]).all(1)] for name, rows in drawn.items()}
    dropped = {name: n for name in drawn if (n := len(drawn[name]) - len(boxes[name]))}
    parts = {}
    for split, names in splits.items():
        x = decode_images({f"{name}.jpg": photos[name] for name in names}, (HEIGHT, WIDTH))
        parts[split] = Split(x, pad([boxes[name] for name in names]), names)
    pieces = [(name, piece) for name in photos for piece in (photos[name], boxes[name])]
    return pack(ENTRY, fetched.source, parts, "official", _notes(parts, dropped), pieces)


def _read(path: Path) -> tuple[dict[str, bytes], dict[str, Tensor], dict[str, tuple[str, ...]]]:
    photos, boxes, splits = {}, {}, {}
    for member, content in read_members(path, ENTRY.members, ENTRY.unpacked).items():
        name = PurePosixPath(member)
        if name.suffix == ".jpg":
            photos[name.stem] = content
        elif name.suffix == ".xml":
            boxes[name.stem] = parse(content, f"{path}: {member}")
        else:
            splits[name.stem] = tuple(sorted(content.decode("ascii", "replace").split()))
    listed = [name for split in PARTS for name in splits.get(split, ())]
    if sorted(listed) != sorted(photos) or photos.keys() != boxes.keys() or not listed:
        counts = f"{len(photos)} photographs, {len(boxes)} annotations, {len(listed)} listed names"
        raise damaged(f"{path}: {counts} do not match")
    return photos, boxes, {split: splits[split] for split in PARTS}


def parse(content: bytes, name: str) -> Tensor:
    """The boxes of one Pascal VOC annotation: float32 (n, 5), rows (class, x1, y1, x2, y2).

    Raises:
        DataError: not XML, XML with entities or a DTD (no annotation needs them, and they can
            exhaust the memory or read other files), or a box that is not one of a BCCD image.
    """
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root = fromstring(content, forbid_dtd=True)
    except (ParseError, ValueError) as e:  # the latter for a DTD, too
        raise damaged(f"{name} is not a harmless XML file ({e!r})") from e
    rows, corners = [], ("xmin", "ymin", "xmax", "ymax")
    for thing in root.iter("object"):
        try:
            kind = CLASSES.index(thing.findtext("name", ""))
            box = [float(thing.findtext(f"bndbox/{k}", "")) for k in corners]
        except ValueError as e:
            raise damaged(f"{name} holds an object that is not a box ({e})") from e
        x1, y1, x2, y2 = box
        if not (0 <= x1 <= x2 <= WIDTH and 0 <= y1 <= y2 <= HEIGHT):
            raise damaged(f"{name} holds {box}, expected x1 <= x2 <= {WIDTH}, y1 <= y2 <= {HEIGHT}")
        rows.append([kind, *box])
    if len(rows) > MAX_BOXES:
        raise damaged(f"{name} holds {len(rows)} boxes, expected {MAX_BOXES} at most")
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


def pad(boxes: list[Tensor]) -> Tensor:
    """Boxes of n images, (m_i, 5) each, as one tensor (n, 30, 5); spare rows have class -1."""
    out = torch.zeros(len(boxes), MAX_BOXES, 5)
    out[:, :, 0] = -1
    for i, rows in enumerate(boxes):
        out[i, : len(rows)] = rows
    return out


def _notes(splits: dict[str, Split], dropped: dict[str, int]) -> tuple[str, ...]:
    lines = [f"{sum(dropped.values())} boxes without area dropped ({', '.join(dropped)})"]
    for name, part in splits.items():
        kinds = part.y[:, :, 0]
        boxes = ", ".join(f"{(kinds == k).sum()} {kind}" for k, kind in enumerate(CLASSES))
        bare = (kinds != 0).all(dim=1).sum()
        lines.append(f"{name}: {len(part)} images, {boxes}; {bare} without any RBC label (kept)")
    if "BloodImage_00037" in splits["val"].ids and "BloodImage_00038" in splits["train"].ids:
        lines.append("1 pair of near-duplicates crosses the split: 00037 (val), 00038 (train)")
    return tuple(lines)


def phantom(seed: int = 0) -> Dataset:
    """Smears drawn by `smears` at a quarter of the size, and enlarged."""
    return draw_phantom(ENTRY, _drawn, PHANTOMS, seed)


def _drawn(n: int, seed: int) -> Drawn:
    images, boxes = smears(n, (HEIGHT // 4, WIDTH // 4), seed)
    boxes[:, :, 1:] *= 4
    return enlarge(images, 4), boxes, {}


def smears(n: int, size: int | tuple[int, int] = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Blood-smear-like images: pale-centred red cells, white cells with a nucleus, platelets.

    Args:
        size: of the square, or (height, width), in pixels.

    Returns:
        images uint8 (n, 3, height, width); boxes float32 (n, 30, 5), rows (class, x1, y1, x2, y2)
        in pixels, class 0 red cell, 1 white cell, 2 platelet, -1 for a row without a box.
    """
    height, width = (size, size) if isinstance(size, int) else size
    draw = Draw(n, seed)
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
        edges = ((cx - rx, width), (cy - ry, height), (cx + rx, width), (cy + ry, height))
        corners = [edge.clamp(0, limit) * there for edge, limit in edges]
        rows[:, i] = torch.stack([torch.where(there, kind, -1), *corners], 1).flatten(1)
    absent = (rows[:, :, :1] < 0).to(torch.uint8).argsort(dim=1, stable=True)
    boxes = pad(list(rows.take_along_dim(absent, dim=1)))

    r, kind_of = nearest.sqrt(), kinds[owner]
    inner = torch.rand(n, len(kinds), generator=draw.generator)  # size of nucleus or pale centre
    inner = inner.take_along_dim(owner.flatten(1), dim=1).view_as(r)
    pale = torch.exp(-((r / (0.3 + 0.3 * inner)) ** 2)) * (kind_of == 0)
    nucleus = torch.sigmoid((0.55 + 0.25 * inner - r) * 15) * (kind_of == 1)
    body = torch.sigmoid((1 - r) * 12) * (1 - 0.7 * pale)
    paper, dye = torch.tensor([[225.0, 205, 205], [-90, -100, -35]]).view(2, 3, 1, 1, 1)
    stains = torch.tensor([[-25.0, -30, -80], [-75, -40, -110], [-65, -5, -40]])  # channel, kind
    shade = 8 * draw.noise(4, height, width) + 5 * draw.grain(height, width)
    images = to_uint8(paper + shade + body * stains[:, kind_of] + nucleus * dye)
    return images.transpose(0, 1).contiguous(), boxes
