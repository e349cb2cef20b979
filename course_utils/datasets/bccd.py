"""BCCD: blood smears under the microscope; where are the cells, and of which kind?

x: uint8 (N, 3, 480, 640). y: float32 (N, 30, 5), rows (class, x1, y1, x2, y2) in pixels as the
annotators gave them (1 to 640 and 1 to 480), class 0 red cell, 1 white cell, 2 platelet. Rows that
hold no box have class -1. Official split.
"""

from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from .archives import REPOSITORY_FILES, read_members
from .catalog import CATALOG
from .decoding import decode_images
from .errors import DataError
from .fetching import Fetched
from .forms import Dataset, Split, digest

CLASSES = ("RBC", "WBC", "Platelets")
HEIGHT, WIDTH = 480, 640
MAX_BOXES = 30
_REMEDY = "Delete the archive and load the data set again, or use another source."


def load(fetched: Fetched) -> Dataset:
    """The data set. Boxes without area are dropped; images without red-cell labels are kept."""
    entry = CATALOG["bccd"]
    photos, boxes, splits = _read(fetched.path)
    dropped = {name: int((~_has_area(rows)).sum()) for name, rows in boxes.items()}
    boxes = {name: rows[_has_area(rows)] for name, rows in boxes.items()}
    parts = {}
    for split, names in splits.items():
        x = decode_images({f"{name}.jpg": photos[name] for name in names}, (HEIGHT, WIDTH))
        parts[split] = Split(x, pad([boxes[name] for name in names]), names)
    pieces = [(name, piece) for name in photos for piece in (photos[name], boxes[name])]
    return Dataset(
        name=entry.name,
        title=entry.title,
        task=entry.task,
        source=fetched.source,
        sha256=digest(pieces),
        classes=CLASSES,
        splits=parts,
        split="official",
        notes=_notes(parts, {name: n for name, n in dropped.items() if n}),
    )


def _read(path: Path) -> tuple[dict[str, bytes], dict[str, Tensor], dict[str, tuple[str, ...]]]:
    photos, boxes, splits = {}, {}, {}
    for member, content in read_members(path, REPOSITORY_FILES, CATALOG["bccd"].unpacked).items():
        name = PurePosixPath(member)
        if name.suffix == ".jpg":
            photos[name.stem] = content
        elif name.suffix == ".xml":
            boxes[name.stem] = parse(content, f"{path}: {member}")
        else:
            splits[name.stem] = tuple(sorted(content.decode("ascii", "replace").split()))
    listed = [name for split in ("train", "val", "test") for name in splits.get(split, ())]
    if sorted(listed) != sorted(photos) or photos.keys() != boxes.keys() or not listed:
        raise DataError(
            f"{path}: {len(photos)} photographs, {len(boxes)} annotations and {len(listed)} names "
            f"in the lists of the splits do not match. {_REMEDY}"
        )
    return photos, boxes, {split: splits[split] for split in ("train", "val", "test")}


def parse(content: bytes, name: str) -> Tensor:
    """The boxes of one Pascal VOC annotation: float32 (n, 5), rows (class, x1, y1, x2, y2).

    Raises:
        DataError: not XML, XML with entities or a DTD (no annotation needs them, and they can
            exhaust the memory or read other files), or a box that is not one of a BCCD image.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as e:
        raise DataError(f"{name} is not a harmless XML file ({e!r}). {_REMEDY}") from e
    rows = []
    for thing in root.iter("object"):
        try:
            row = [float(CLASSES.index(thing.findtext("name", "")))]
            row += [
                float(thing.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax")
            ]
        except ValueError as e:
            raise DataError(f"{name} holds an object that is not a box ({e}). {_REMEDY}") from e
        _, x1, y1, x2, y2 = row
        if not (0 <= x1 <= x2 <= WIDTH and 0 <= y1 <= y2 <= HEIGHT):
            raise DataError(
                f"{name} holds the box {row[1:]}, expected x1 <= x2 <= {WIDTH} and "
                f"y1 <= y2 <= {HEIGHT}. {_REMEDY}"
            )
        rows.append(row)
    if len(rows) > MAX_BOXES:
        raise DataError(f"{name} holds {len(rows)} boxes, expected {MAX_BOXES} at most. {_REMEDY}")
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


def _has_area(rows: Tensor) -> Tensor:
    return (rows[:, 3] > rows[:, 1]) & (rows[:, 4] > rows[:, 2])


def pad(boxes: list[Tensor], room: int = MAX_BOXES) -> Tensor:
    """Boxes of n images, (m_i, 5) each, as one tensor (n, room, 5); spare rows have class -1."""
    out = torch.zeros(len(boxes), room, 5)
    out[:, :, 0] = -1
    for i, rows in enumerate(boxes):
        out[i, : len(rows)] = rows
    return out


def _notes(splits: dict[str, Split], dropped: dict[str, int]) -> tuple[str, ...]:
    lines = [f"{sum(dropped.values())} boxes without area dropped ({', '.join(dropped)})"]
    for name, part in splits.items():
        counts = [int((part.y[:, :, 0] == k).sum()) for k in range(len(CLASSES))]
        bare = int((part.y[:, :, 0] != 0).all(dim=1).sum())
        boxes = ", ".join(f"{n} {kind}" for n, kind in zip(counts, CLASSES, strict=True))
        lines.append(f"{name}: {len(part)} images, {boxes}; {bare} without any RBC label (kept)")
    if "BloodImage_00037" in splits["val"].ids and "BloodImage_00038" in splits["train"].ids:
        lines.append("1 pair of near-duplicates crosses the split: 00037 (val), 00038 (train)")
    return tuple(lines)
