"""ISIC 2017: photographs of skin lesions; which pixels belong to the lesion?

x: uint8 (N, 3, 256, 256). y: uint8 (N, 256, 256), 1 in the lesion. `extra` holds the diagnosis,
"melanoma" and "seborrheic_keratosis" (int64, 0 or 1; both 0 is a nevus), and "age" in years
(float32, NaN where unknown).

Photographs and truth come apart: the JPEG files from a public repository or a mirror, the outlines
and the tables from `data/isic2017-truth.zip`, which comes with the course.

Split: the official 150 validation images are the test set. The masks of the 600 official test
images are public, too, but every run of the course was recorded on the 150, so do not compare our
figures with published ones for the 600 as if they were of the same images. Of the 2000 training
images those that show the lesion of a test image are dropped, and every tenth group of the rest is
val. A group is a lesion: the images of one lesion never stand on both sides. Persons are not named
in any file, so one person can be on both sides (see data/README.md).
"""

import csv
import math
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.runtime import ROOT

from .archives import read_members
from .catalog import Fetched, read_entry
from .decoding import decode_images
from .drawing import Draw, Drawn, draw_phantom, enlarge, grid, to_uint8
from .errors import DataError
from .forms import Dataset, Split, pack

ENTRY = read_entry(__file__)
DIAGNOSES = ("melanoma", "seborrheic_keratosis")
TRUTH = ROOT / "data" / "isic2017-truth.zip"
"""Outlines (PNG) and tables (CSV) of the 2150 images, CC0. The outlines were drawn at full size,
averaged over each of 256 x 256 pixels, and cut at one half."""
SIZE = (256, 256)
VAL_EVERY = 10
PHANTOMS = (200, 40, 60)
"""Images of the phantom for train, val and test."""

_PAIRS = (  # the numbers behind ISIC_
    "12970-12127 157-14946 171-15124 215-15313 164-14795 165-14788 177-14657 204-14748 "
    "205-14742 206-14739 222-14846 223-14818 224-14791 225-14778 229-14771 240-9998 420-9910 "
    "449-11082 1131-11126 1134-10016 12290-13594 12672-12673 12756-13184 13712-13935"
)
SAME_LESION = [[f"ISIC_{int(n):07}" for n in pair.split("-")] for pair in _PAIRS.split()]
"""Pairs of images of one lesion, the second often with another crop or other colours.

The first pair is pixel-identical; the second image of the first four pairs is a test image.

Found with `similarity.perceptual_hash` and the correlation of fine detail over shifts and scales;
each was then looked at. The table is fixed, so that the split does not hang on a threshold. There
may be more: two photographs from different directions would not be found.
"""


class Case(NamedTuple):
    """One image with its mask, both as files, and its row of the table of diagnoses."""

    official: str  # "train" or "val"
    photo: bytes
    mask: bytes
    row: dict[str, str]


def load(fetched: Fetched) -> Dataset:
    """The data set, split as above."""
    cases = read_cases(fetched.path)
    splits = {name: _decode(ids, cases) for name, ids in split_names(cases).items()}
    pieces = list[tuple[str, bytes]]()
    for name, case in cases.items():
        parts = case.photo, case.mask, repr(sorted(case.row.items())).encode()
        pieces += [(f"{name} {case.official}", part) for part in parts]
    how = "official val as test, every tenth lesion of train as val"
    return pack(ENTRY, fetched.source, splits, how, _notes(splits, len(cases)), pieces)


def read_cases(path: Path) -> dict[str, Case]:
    """All cases by name, sorted. `path` is the archive of the repository, or the mirror's."""
    files = read_members(path, ENTRY.members, ENTRY.unpacked)
    photos = {PurePosixPath(name).stem: content for name, content in files.items()}
    pattern = r"(train|val)(\.csv|/ISIC_\d{7}_segmentation\.png)"
    truth = read_members(TRUTH, pattern, ENTRY.unpacked)
    cases = {}
    try:
        for part in ("train", "val"):
            for row in csv.DictReader(truth[f"{part}.csv"].decode().splitlines()):
                name = row["image_id"]
                mask = truth[f"{part}/{name}_segmentation.png"]
                cases[name] = Case(part, photos[name], mask, row)
    except (KeyError, UnicodeDecodeError) as e:
        remedy = f"Delete the first and load again, or `git checkout -- data/{TRUTH.name}`."
        raise DataError(f"{path} or {TRUTH} lacks a file or a column ({e}). {remedy}") from e
    return dict(sorted(cases.items()))


def split_names(cases: dict[str, Case]) -> dict[str, list[str]]:
    """The names of train, val and test, each sorted; images dropped from train are in none."""
    lesion = {name: name for name in cases}  # the first image stands for it; none is in two pairs
    for first, second in SAME_LESION:
        lesion[first] = lesion[second] = min(lesion[first], lesion[second])
    test = [name for name in cases if cases[name].official == "val"]
    tested = {lesion[name] for name in test}
    rest = [name for name in cases if lesion[name] not in tested]
    in_val = set(sorted({lesion[name] for name in rest})[::VAL_EVERY])
    train = [name for name in rest if lesion[name] not in in_val]
    val = [name for name in rest if lesion[name] in in_val]
    return {"train": train, "val": val, "test": test}


def _decode(names: list[str], cases: dict[str, Case]) -> Split:
    x = decode_images({f"{name}.jpg": cases[name].photo for name in names}, SIZE)
    masks = decode_images({f"{name} mask": cases[name].mask for name in names}, SIZE, "L")
    rows = [cases[name].row for name in names]
    ages = [float(row["age_approximate"].replace("unknown", "nan")) for row in rows]
    extra = {"age": torch.tensor(ages)}
    for diagnosis in DIAGNOSES:
        extra[diagnosis] = torch.tensor([int(float(row[diagnosis])) for row in rows])
    return Split(x, masks[:, 0].gt(127).to(torch.uint8), tuple(names), extra)


def _notes(splits: dict[str, Split], total: int) -> tuple[str, ...]:
    dropped = total - sum(len(part) for part in splits.values())
    held = {*splits["train"].ids, *splits["val"].ids}
    pairs = sum(a in held and b in held for a, b in SAME_LESION)
    lines = [
        f"{dropped} images dropped from train because they show the lesion of a test image",
        f"{pairs} pairs of near-duplicates kept, none of them across train and val",
    ]
    for name, part in splits.items():
        counts = ", ".join(f"{part.extra[k].sum()} {k.replace('_', ' ')}" for k in DIAGNOSES)
        unknown = part.extra["age"].isnan().sum()
        lines.append(f"{name}: {len(part)} images, {counts}, {unknown} of unknown age")
    return tuple(lines)


def phantom(seed: int = 0) -> Dataset:
    """Lesions drawn by `lesions` at half the size, and enlarged; no diagnosis, no age."""
    return draw_phantom(ENTRY, _drawn, PHANTOMS, seed)


def _drawn(n: int, seed: int) -> Drawn:
    images, masks, _ = lesions(n, 128, seed, channels=3)
    mask = masks.repeat_interleave(2, 1).repeat_interleave(2, 2)
    extra = dict.fromkeys(DIAGNOSES, torch.zeros(n, dtype=torch.int64))
    return enlarge(images, 2), mask, extra | {"age": torch.full((n,), math.nan)}


def lesions(
    n: int, size: int = 64, seed: int = 0, channels: int = 1, prevalence: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """One dark lesion with a ragged border, on blotches, small dark spots and uneven light.

    The spots are as dark as the lesion, only smaller, so that a threshold does not find it.

    Returns:
        images uint8 (n, channels, size, size), channels 1 or 3; masks uint8 (n, size, size), 1 in
        the lesion; labels int64 (n,), 1 with a lesion. Without one the mask is empty.
    """
    draw = Draw(n, seed)
    y, x = grid(size, size)
    scene = 0.5 * draw.noise(4, size, size) + 0.3 * draw.noise(10, size, size)
    scene = scene + draw.uniform(-0.5, 0.5) * x + draw.uniform(-0.5, 0.5) * y
    depth = draw.uniform(1.2, 2.6)
    for _ in range(6):
        r = ((x - draw.uniform(-1, 1)) ** 2 + (y - draw.uniform(-1, 1)) ** 2).sqrt()
        scene = scene - depth * torch.sigmoid((draw.uniform(0.04, 0.09) - r) * 60)
    dx, dy = x - draw.uniform(-0.45, 0.45), y - draw.uniform(-0.45, 0.45)
    angle = torch.atan2(dy, dx)
    border = draw.uniform(0.18, 0.42)
    for k in (2, 3, 5):
        border = border * (1 + draw.uniform(0, 0.16) * torch.cos(k * angle + draw.uniform(0, 6.3)))
    inside = (border - (dx.square() + dy.square()).sqrt()) * size / 4  # soft over about 4 pixels
    present = draw.uniform(0, 1) < prevalence
    labels = present.flatten().long()
    texture = 1 + 0.25 * draw.noise(8, size, size)
    scene = scene - present * depth * texture * torch.sigmoid(4 * inside)
    masks = ((inside > 0) & present).to(torch.uint8)
    scene = scene + 0.15 * draw.grain(size, size)
    if channels == 1:
        return to_uint8(165 + 35 * scene).unsqueeze(1), masks, labels
    skin, gain = torch.tensor([[200.0, 150, 130], [30, 40, 38]]).view(2, 1, 3, 1, 1)
    tint = torch.stack([draw.uniform(-15, 15) for _ in range(3)], dim=1)
    return to_uint8(skin + tint + gain * scene.unsqueeze(1)), masks, labels
