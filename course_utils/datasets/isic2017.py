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
import io
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch

from course_utils.runtime import ROOT

from .archives import read_members
from .catalog import CATALOG
from .decoding import decode_images
from .errors import DataError
from .fetching import Fetched
from .forms import Dataset, Split, digest

CLASSES = ("background", "lesion")
TRUTH = ROOT / "data" / "isic2017-truth.zip"
"""Outlines (PNG) and tables (CSV) of the 2150 images, CC0. The outlines were drawn at full size,
averaged over each of 256 x 256 pixels, and cut at one half."""
PHOTOS = r"[^/]+/(ISIC-2017_(Training|Validation)_Data|(train|val)/images)/ISIC_\d{7}\.jpg"
SIZE = (256, 256)
VAL_EVERY = 10

SAME_LESION = (
    ("ISIC_0012970", "ISIC_0012127"),  # pixel-identical; the second of these four is a test image
    ("ISIC_0000157", "ISIC_0014946"),
    ("ISIC_0000171", "ISIC_0015124"),
    ("ISIC_0000215", "ISIC_0015313"),
    ("ISIC_0000164", "ISIC_0014795"),
    ("ISIC_0000165", "ISIC_0014788"),
    ("ISIC_0000177", "ISIC_0014657"),
    ("ISIC_0000204", "ISIC_0014748"),
    ("ISIC_0000205", "ISIC_0014742"),
    ("ISIC_0000206", "ISIC_0014739"),
    ("ISIC_0000222", "ISIC_0014846"),
    ("ISIC_0000223", "ISIC_0014818"),
    ("ISIC_0000224", "ISIC_0014791"),
    ("ISIC_0000225", "ISIC_0014778"),
    ("ISIC_0000229", "ISIC_0014771"),
    ("ISIC_0000240", "ISIC_0009998"),
    ("ISIC_0000420", "ISIC_0009910"),
    ("ISIC_0000449", "ISIC_0011082"),
    ("ISIC_0001131", "ISIC_0011126"),
    ("ISIC_0001134", "ISIC_0010016"),
    ("ISIC_0012290", "ISIC_0013594"),
    ("ISIC_0012672", "ISIC_0012673"),
    ("ISIC_0012756", "ISIC_0013184"),
    ("ISIC_0013712", "ISIC_0013935"),
)
"""Pairs of images of one lesion, the second often with another crop or other colours.

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
    entry = CATALOG["isic2017"]
    cases = read_cases(fetched.path)
    splits = {name: _decode(ids, cases) for name, ids in split_names(cases).items()}
    pieces = [
        (f"{name} {case.official}", piece)
        for name, case in cases.items()
        for piece in (case.photo, case.mask, repr(sorted(case.row.items())).encode())
    ]
    return Dataset(
        name=entry.name,
        title=entry.title,
        task=entry.task,
        source=fetched.source,
        sha256=digest(pieces),
        classes=CLASSES,
        splits=splits,
        split="official val as test, every tenth lesion of train as val",
        notes=_notes(splits, len(cases)),
    )


def read_cases(path: Path) -> dict[str, Case]:
    """All cases by name, sorted. `path` is the archive of the repository, or the mirror's."""
    limit = CATALOG["isic2017"].unpacked
    photos = {PurePosixPath(k).stem: v for k, v in read_members(path, PHOTOS, limit).items()}
    truth = read_members(TRUTH, r"(train|val)(\.csv|/ISIC_\d{7}_segmentation\.png)", limit)
    cases = {}
    try:
        for part in ("train", "val"):
            table = io.StringIO(truth[f"{part}.csv"].decode())
            for row in csv.DictReader(table):
                name = row["image_id"]
                mask = truth[f"{part}/{name}_segmentation.png"]
                cases[name] = Case(part, photos[name], mask, row)
    except (KeyError, UnicodeDecodeError) as e:
        raise DataError(
            f"{path} or {TRUTH} lacks a file or a column ({e}). Delete the first and load the set "
            f"again; `git checkout -- data/{TRUTH.name}` brings back the second."
        ) from e
    return dict(sorted(cases.items()))


def split_names(cases: Mapping[str, Case]) -> dict[str, list[str]]:
    """The names of train, val and test, each sorted; images dropped from train are in none."""
    lesion = {name: name for name in cases}
    for first, second in SAME_LESION:
        lesion[first] = lesion[second] = min(lesion[first], lesion[second])
    test = [name for name in cases if cases[name].official == "val"]
    tested = {lesion[name] for name in test}
    rest = [name for name in cases if lesion[name] not in tested]
    in_val = set(sorted({lesion[name] for name in rest})[::VAL_EVERY])
    return {
        "train": [name for name in rest if lesion[name] not in in_val],
        "val": [name for name in rest if lesion[name] in in_val],
        "test": test,
    }


def _decode(names: list[str], cases: Mapping[str, Case]) -> Split:
    x = decode_images({f"{name}.jpg": cases[name].photo for name in names}, SIZE)
    masks = decode_images({f"{name} mask": cases[name].mask for name in names}, SIZE, "L")
    rows = [cases[name].row for name in names]
    age = [
        math.nan if r["age_approximate"] == "unknown" else float(r["age_approximate"]) for r in rows
    ]
    extra = {"age": torch.tensor(age)}
    for diagnosis in ("melanoma", "seborrheic_keratosis"):
        extra[diagnosis] = torch.tensor([int(float(row[diagnosis])) for row in rows])
    return Split(x, masks[:, 0].gt(127).to(torch.uint8), tuple(names), extra)


def _notes(splits: dict[str, Split], total: int) -> tuple[str, ...]:
    kept = sum(len(part) for part in splits.values())
    lines = [
        f"{total - kept} images dropped from train because they show the lesion of a test image"
    ]
    held = {name for part in ("train", "val") for name in splits[part].ids}
    pairs = sum(a in held and b in held for a, b in SAME_LESION)
    lines.append(f"{pairs} pairs of near-duplicates kept, none of them across train and val")
    for name, part in splits.items():
        melanoma, keratosis = (part.extra[k].sum() for k in ("melanoma", "seborrheic_keratosis"))
        lines.append(
            f"{name}: {len(part)} images, {melanoma} melanoma, {keratosis} seborrheic keratosis, "
            f"{part.extra['age'].isnan().sum()} of unknown age"
        )
    return tuple(lines)
