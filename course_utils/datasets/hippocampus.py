"""MSD Hippocampus: MRI crops of the human hippocampus; which voxels are its two parts?

x: float16 (N, 1, 48, 64, 48), y: uint8 (N, 48, 64, 48) with 0 background, 1 anterior, 2 posterior.
By the header the axes run to the right, the front and the top of the head. The labels bear out
front and top: in every case the anterior part lies in front of the posterior one, and below it. To
which side the first axis runs cannot be told: all crops lie the same way round, so if they show
both sides of heads, one side was mirrored. A voxel is 1 mm wide.

Volumes differ in shape. Each lies in the corner of its row and zeros fill the rest, so that
batches, 2-D slices with their neighbours (x[i, 0, :, j - 1 : j + 2]) and 3-D patches are plain
indexing. `extra["shape"]` (N, 3) holds the true shapes in voxels, `extra["person"]` (N,) a
number for the person.

Each volume is normalised by itself, for scanners share no scale: clipped to its 0.5th and 99.5th
percentile, less its mean, divided by its standard deviation.

Persons: the files do not name them. But scanners stored integers times a step that is particular
to a scan, and in every pair of cases 2k - 1 and 2k for which the step can be read from both
volumes, it is the same; in no pair 2k and 2k + 1 it is. So two such cases are taken for the two
sides of one head. nnU-Net's folds, which the course uses to be comparable, do not respect this.
"""

import math
import zlib
from pathlib import Path

import numpy as np
import torch

from .archives import read_members
from .catalog import Fetched, read_entry
from .drawing import Draw, as_phantom
from .errors import damaged
from .forms import Dataset, Split, pack

ENTRY = read_entry(__file__)
SIZE = (48, 64, 48)
"""Room for every volume (the largest has 43 x 59 x 47 voxels); four halvings stay whole."""
FOLDS = 5
Case = tuple[np.ndarray, np.ndarray]
"""Image and labels (uint8)."""


def load(fetched: Fetched, fold: int = 0) -> Dataset:
    """The data set with the held-out cases of one fold (0 to 4) as test. See `split_folds`."""
    cases = read_cases(fetched.path)
    splits = split_folds(_stack(cases), fold)
    pieces = list[tuple[str, torch.Tensor]]()
    for name, case in cases.items():
        pieces += [(f"{name}/{i}", torch.from_numpy(part)) for i, part in enumerate(case)]
    how = f"fold {fold} of {FOLDS}"
    return pack(ENTRY, fetched.source, splits, how, _notes(cases, splits), pieces)


def read_cases(path: Path) -> dict[str, Case]:
    """The labelled cases as stored, by sorted name."""
    images, labels = dict[str, np.ndarray](), dict[str, np.ndarray]()
    for member, content in read_members(path, ENTRY.members, ENTRY.unpacked).items():
        name = Path(member).name.removesuffix(".nii.gz")
        kind = images if "/imagesTr/" in member else labels
        kind[name] = read_volume(content, f"{path}: {member}")
    if not images or images.keys() != labels.keys():
        raise damaged(f"{path}: {len(images)} images and {len(labels)} labels do not pair up")
    cases = {}
    for name, volume in sorted(images.items()):
        label = labels[name]
        said = f"{path}: the labels of {name}"
        if volume.shape != label.shape:
            raise damaged(f"{said} are {label.shape}, expected {volume.shape} as in its image")
        if not np.isin(label, (0, 1, 2)).all():
            raise damaged(f"{said} reach from {label.min()} to {label.max()}, expected 0, 1 and 2")
        cases[name] = volume, label.astype(np.uint8)
    return cases


def read_volume(content: bytes, name: str) -> np.ndarray:
    """The voxels of a gzipped NIfTI file.

    Raises:
        DataError: the file is damaged, is not one 3-D volume, or holds NaN or infinite values.
    """
    import nibabel as nib

    most = 1024 + 8 * math.prod(SIZE)  # a header, and 8 bytes a voxel
    stream = zlib.decompressobj(31)  # gzip
    try:
        unpacked = stream.decompress(content, most)
        if not stream.eof:
            raise ValueError(f"cut short, or larger than {most} bytes")
        image = nib.Nifti1Image.from_bytes(unpacked)
        # What the header says comes first: it decides how much memory the voxels take.
        shape, kind = image.shape, image.get_data_dtype().kind
        if len(shape) != 3 or any(n > room for n, room in zip(shape, SIZE, strict=True)):
            raise ValueError(f"its shape is {shape}, expected at most {SIZE}")
        if kind not in "uif":
            raise ValueError(f"its voxels are {image.get_data_dtype()}, not numbers")
        volume = np.asarray(image.dataobj)
    except Exception as e:  # a damaged header raises almost anything
        why = " ".join(str(e).split())
        raise damaged(f"{name} is not a readable NIfTI volume ({why})") from e
    if bad := int((~np.isfinite(volume)).sum()):
        raise damaged(f"{name} holds {bad} voxels that are NaN or infinite")
    return volume


def normalise(volume: np.ndarray) -> np.ndarray:
    """Clip to the 0.5th and 99.5th percentile, then zero mean and unit variance. float32."""
    low, high = np.percentile(volume, (0.5, 99.5))
    clipped = np.clip(volume.astype(np.float64), low, high)
    return ((clipped - clipped.mean()) / max(clipped.std(), 1e-8)).astype(np.float32)


def person_of(name: str) -> int:
    """A number for the person: cases 2k - 1 and 2k are the two sides of one head (see above)."""
    return (int(name.rpartition("_")[2]) + 1) // 2


def stretch(volume: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """A volume (a, b, c) in another shape: each voxel takes what lies at its relative place."""
    sizes = zip(shape, volume.shape, strict=True)
    i, j, k = (((torch.arange(n) + 0.5) * m / n).long() for n, m in sizes)
    return volume[i[:, None, None], j[:, None], k]


def _stack(cases: dict[str, Case]) -> Split:
    x = np.zeros((len(cases), 1, *SIZE), dtype=np.float16)
    y = np.zeros((len(cases), *SIZE), dtype=np.uint8)
    for i, (image, label) in enumerate(cases.values()):
        a, b, c = image.shape
        x[i, 0, :a, :b, :c] = normalise(image)
        y[i, :a, :b, :c] = label
    shapes = torch.tensor([image.shape for image, _ in cases.values()])
    extra = {"shape": shapes, "person": torch.tensor([person_of(name) for name in cases])}
    return Split(torch.from_numpy(x), torch.from_numpy(y), tuple(cases), extra)


def split_folds(every: Split, fold: int) -> dict[str, Split]:
    """Cut all cases, sorted by name, into train, val and test.

    Test is the held-out part of KFold(5, shuffle=True, random_state=12345), as in nnU-Net. Of the
    persons in the rest every sixth goes to val with all its cases, so that val shares no person
    with train.
    """
    from sklearn.model_selection import KFold

    if fold not in range(FOLDS):
        raise ValueError(f"fold is {fold!r}, expected 0 to {FOLDS - 1}.")
    rest, test = list(KFold(FOLDS, shuffle=True, random_state=12345).split(every.ids))[fold]
    person = every.extra["person"].numpy()
    in_val = np.isin(person[rest], np.unique(person[rest])[::6])
    parts = {"train": rest[~in_val], "val": rest[in_val], "test": test}
    return {name: every.take(rows) for name, rows in parts.items()}


def _notes(cases: dict[str, Case], splits: dict[str, Split]) -> tuple[str, ...]:
    peaks = [image.max() for image, _ in cases.values()]
    span = f"{min(peaks):.0f} to {max(peaks):.0f}"
    lines = [f"{len(cases)} volumes, largest intensity from {span} (each normalised by itself)"]
    for name in ("val", "test"):
        person = splits[name].extra["person"]
        n = torch.isin(person, splits["train"].extra["person"]).sum()
        lines.append(f"{name}: {n} of {len(person)} cases have their partner case in train")
    return tuple(lines)


def phantom(seed: int = 0, fold: int = 0) -> Dataset:
    """A hundred volumes drawn by `volumes`, cut into folds by the real set's rule."""
    splits = split_folds(volumes(100, seed), fold)
    return as_phantom(ENTRY, splits, f"seed {seed}, fold {fold}")


def volumes(n: int, seed: int = 0) -> Split:
    """MRI-like crops with a bent two-part body on clutter, in the form of the real set.

    Returns:
        a Split: x float16 (n, 1, 48, 64, 48), normalised; y uint8 (n, 48, 64, 48), 1 the front
        part, 2 the back part; `extra` as the real set's.
    """
    draw = Draw(n, seed, dims=3)
    spans = ((31, 43), (40, 59), (24, 47))  # voxels, as in the real set
    shape = torch.stack([draw.uniform(a, b + 1).flatten().long() for a, b in spans], dim=1)
    # -1 to 1 across each volume, beyond 1 in the filling
    a, b, c = ((torch.arange(m) + 0.5) / shape[:, [k]] * 2 - 1 for k, m in enumerate(SIZE))
    a, b, c = a[:, :, None, None], b[:, None, :, None], c[:, None, None, :]
    bend = draw.uniform(-0.3, 0.3)
    thick = draw.uniform(0.22, 0.34) * (1 + 0.5 * b)  # the front part is thicker
    tube = ((a - bend * b.square()) / thick) ** 2 + ((c + 0.4 * bend * b) / thick) ** 2
    inside = (tube < 1) & (b.abs() < draw.uniform(0.6, 0.8))
    front = b > draw.uniform(0, 0.3)
    image = 0.6 * draw.noise(5, *SIZE) + 0.4 * draw.noise(12, *SIZE)
    image = image + 1.2 * inside + 0.15 * draw.grain(*SIZE)
    label = torch.where(inside, torch.where(front, 1, 2), 0).to(torch.uint8)
    cases = dict[str, Case]()
    for i, (p, q, r) in enumerate(shape.tolist()):
        cases[f"phantom_{i + 1:03d}"] = image[i, :p, :q, :r].numpy(), label[i, :p, :q, :r].numpy()
    return _stack(cases)
