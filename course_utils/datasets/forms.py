"""The one form in which every data set reaches a chapter: whole, in memory, as tensors."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set. A batch is an index: `split.x[index], split.y[index]`.

    `x` and `y` have the cases in their first dimension; their shapes stand in the module of the
    data set. `extra` holds further tensors of as many rows, by name. `ids` names the cases.
    """

    x: Tensor
    y: Tensor
    ids: tuple[str, ...]
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Iterable[int]) -> "Split":
        """The cases at these positions, in this order."""
        index = [int(i) for i in index]
        extra = {name: rows[index] for name, rows in self.extra.items()}
        return Split(self.x[index], self.y[index], tuple(self.ids[i] for i in index), extra)

    def __repr__(self) -> str:
        parts = {"x": self.x, "y": self.y, **self.extra}
        shapes = ", ".join(
            f"{k} {tuple(v.shape)} {str(v.dtype).removeprefix('torch.')}" for k, v in parts.items()
        )
        return f"Split({len(self)} cases: {shapes})"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split. `sha256` covers its content in order, whatever the source or the split.

    `source` is "upstream", "mirror" or "phantom"; `split` names the split; `report` says what was
    counted, dropped or mended on loading.
    """

    name: str
    title: str
    task: str
    source: str
    sha256: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    split: str
    report: tuple[str, ...] = ()

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
