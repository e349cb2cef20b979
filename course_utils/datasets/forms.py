"""The one form in which every data set reaches a chapter: whole, in memory, as tensors."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from .catalog import Entry

PARTS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set. A batch is an index: `split.x[index], split.y[index]`.

    `x` and `y` have the cases in their first dimension; their shapes stand in the module of the
    data set. `extra` holds further tensors of as many rows, by name. `ids` names the cases.

    `split[3]` is the pair (x, y) of one case, and a loop gives such pairs, so that
    `DataLoader(split)` works; `split[10:20]` and `split[split.y == 1]` are splits, as of `take`.

    Raises:
        ValueError: x, y, ids or an extra have another number of cases than the others.
    """

    x: Tensor
    y: Tensor
    ids: tuple[str, ...]
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {"x": len(self.x), "y": len(self.y), "ids": len(self.ids)}
        counts |= {name: len(rows) for name, rows in self.extra.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(
                f"A split has {counts} cases. Give as many of each; ids are any names."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if hasattr(index, "__index__") and getattr(index, "ndim", 0) == 0:
            (row,) = _positions([index], len(self))
            return self.x[row], self.y[row]
        return self.take(index)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.x, self.y, strict=True)

    def take(self, index: Iterable[int] | slice) -> "Split":
        """Some of the cases.

        Args:
            index: positions, in the order wanted, negative ones from the end; or a slice; or a
                mask with True or False for each case, for instance `split.y == 1`.

        Raises:
            ValueError: a mask of another length or of numbers, floats, or not one axis.
            IndexError: there is no case at a position.
        """
        rows = _positions(index, len(self))
        extra = {name: values[rows] for name, values in self.extra.items()}
        return Split(self.x[rows], self.y[rows], tuple(self.ids[i] for i in rows), extra)

    def __repr__(self) -> str:
        parts = {"x": self.x, "y": self.y, **self.extra}
        shapes = ", ".join(f"{k} {tuple(v.shape)} {v.dtype}" for k, v in parts.items())
        return f"Split({len(self)} cases: {shapes.replace('torch.', '')})"


def _positions(index: Any, cases: int) -> list[int]:
    """What selects cases, as positions from 0 on."""
    every = np.arange(cases)
    if isinstance(index, slice):
        return every[index].tolist()
    if isinstance(index, Tensor):
        index = index.detach().cpu()
    elif not isinstance(index, np.ndarray) and isinstance(index, Iterable):
        index = list(index)
    found = np.asarray(index)
    if found.dtype == bool and found.shape == (cases,):
        return every[found].tolist()
    if found.dtype != bool and found.shape == (0,):  # an empty list is one of floats to NumPy
        return []
    if found.ndim != 1 or found.dtype.kind not in "iu":
        ways = f"a mask of shape ({cases},), True or False, whole numbers in one list, or a slice"
        raise ValueError(f"Select by {ways}, not by {found.dtype} of shape {found.shape}.")
    first, last = int(found.min()), int(found.max())  # small types overflow below
    if first >= 0 and last < cases - 1 and len(found) > max(7, 3 * last + 3):  # not by chance
        remedy = "Expected positions, or a mask: compare first, for instance split.y == 1."
        raise ValueError(f"Numbers from {first} to {last}, repeated as labels do. {remedy}")
    wrong = found[(found >= cases) | (found < -cases)]
    if len(wrong):
        raise IndexError(
            f"There is no case {wrong[0]} among {cases}. Expected -{cases} to {cases - 1}."
        )
    return every[found].tolist()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split. `sha256` covers its content in order, whatever the source or the split.

    `source` is "upstream", "mirror" or "phantom"; `split` names the split; `notes` says what was
    counted, dropped or mended on loading.
    """

    name: str
    title: str
    task: str
    classes: tuple[str, ...]
    source: str
    sha256: str
    splits: dict[str, Split]
    split: str
    notes: tuple[str, ...] = ()

    @property
    def synthetic(self) -> bool:
        """True for a phantom, whose results must never stand beside real ones."""
        return self.source == "phantom"

    @property
    def label(self) -> str:
        """The name for a figure's title; it says so where the images are synthetic."""
        return f"SYNTHETIC (phantom of {self.title})" if self.synthetic else self.title

    @property
    def train(self) -> Split:
        return self.splits["train"]

    @property
    def val(self) -> Split:
        return self.splits["val"]

    @property
    def test(self) -> Split:
        return self.splits["test"]

    def __repr__(self) -> str:
        lines = [f"{self.label} ({self.task}; {', '.join(self.classes)}; split: {self.split})"]
        lines += [f"  {name}: {part!r}" for name, part in self.splits.items()]
        return "\n".join(lines)


def pack(
    entry: Entry,
    source: str,
    splits: dict[str, Split],
    split: str,
    notes: tuple[str, ...],
    pieces: Iterable[tuple[str, bytes | Tensor]] | None = None,
) -> Dataset:
    """The data set of an entry. `sha256` covers `pieces`, else x and y of each split."""
    if pieces is None:
        pieces = [(f"{k}/{part}", getattr(v, part)) for k, v in splits.items() for part in "xy"]
    named = entry.name, entry.title, entry.task, entry.classes
    return Dataset(*named, source, digest(pieces), splits, split, notes)


def digest(parts: Iterable[tuple[str, bytes | Tensor]]) -> str:
    """sha256 over named pieces of content in the order given; tensors count with type and shape."""
    total = hashlib.sha256()
    for name, content in parts:
        if isinstance(content, Tensor):
            name = f"{name} {content.dtype} {tuple(content.shape)}"
            content = content.numpy().tobytes()  # in the order of the indices
        total.update(f"{name} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()
