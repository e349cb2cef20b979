"""Blood smears with one label each: is there a platelet? Chapter 09.

The boxes of BCCD say it, and after training they score where the map points. Training sees no box.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from .. import maps, metrics
from ..augment import UNIT, moved
from ..datasets import Dataset, Split
from ..pooling import BagClassifier
from ..training import predict
from . import bags, bccd
from .experiment import Experiment, profile


class SmearBags(nn.Module):
    """An encoder whose places are the instances of an image: (B, 3, H, W) to (B, 2) logits."""

    def __init__(self, pooling: Callable[[int], BagClassifier], width: int = 16):
        super().__init__()
        self.encoder = bags.encoder(3, width)
        self.classifier = pooling(4 * width)

    def map(self, x: Tensor) -> Tensor:  # (B, 3, H, W)
        features = self.encoder(x)  # (B, C, H / 8, W / 8)
        return self.classifier.map(features.flatten(2).mT).unflatten(1, features.shape[2:])

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W)
        return self.classifier(self.encoder(x).flatten(2).mT)  # (B, n, C) to (B, 2)


def platelets(split: Split) -> tuple[Tensor, Tensor]:
    """Smears at 320 x 240, and masks (N, 240, 320) of the boxes around platelets."""
    x, boxes = bccd.shrunk(split)
    height, width = x.shape[2:]
    rows, columns = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    masks = torch.zeros(len(x), height, width, dtype=torch.uint8)
    for i, k in (boxes[:, :, 0] == bccd.CLASSES.index("Platelets")).nonzero().tolist():
        _, x1, y1, x2, y2 = boxes[i, k]
        masks[i] |= (rows > y1) & (rows < y2) & (columns > x1) & (columns < x2)
    return x, masks


def arrays(split: Split) -> tuple[Tensor, Tensor]:
    """Smears at 320 x 240, and whether each holds a platelet: (N,) of 0 and 1."""
    x, masks = platelets(split)
    return x, masks.amax((1, 2)).long()


@cache
def _moved() -> nn.Module:
    import kornia.augmentation as K

    return moved((K.RandomHorizontalFlip(), K.RandomVerticalFlip()), 0, 0.05, (0.9, 1.1))


@UNIT
def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change smears: side, place, distance, and the stain, by a power for each colour.

    Shifts are small: of a platelet that left the image the label would still tell.
    """
    x = _moved()(x).clamp(0, 1)
    power = torch.empty(len(x), 3, 1, 1, device=x.device).uniform_(-0.3, 0.3).exp()
    return x**power, y


def scored(model: nn.Module, split: Split) -> dict[str, float]:
    """AUROC of the images, and whether the map's peak lies in the box of a platelet."""
    logits, label, hits = _looked(model, split)
    return bags.score(logits, label) | {"pointing": hits.mean().item()}


def report(model: nn.Module, data: Dataset) -> dict[str, float]:
    """`scored` on test, and on validation with `val_` before the names."""
    val = {f"val_{name}": value for name, value in scored(model, data.val).items()}
    return scored(model, data.test) | val


def cases(model: nn.Module, data: Dataset) -> dict[str, tuple[float, float]]:
    """AUROC by bootstrap, pointing by Wilson."""
    logits, label, hits = _looked(model, data.test)
    return {
        "auroc": metrics.bootstrap(metrics.auroc, logits[:, 0], label),
        "pointing": metrics.wilson(hits),
    }


def _looked(model: nn.Module, split: Split) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, 2), labels (N,), and of each image with a platelet whether the map hit one."""
    x, masks = platelets(split)
    label = masks.amax((1, 2)).long()
    maps_ = maps.at_size(bags.mapped(model, x, 8), *x.shape[2:])
    return predict(model, x), label, maps.pointing_game(maps_, masks)[label == 1]


_ARMS = bags.arms(SmearBags)
# Small batches and short steps: with 16 images and 3e-3 one start in five led nowhere.
_TRAINING: dict[str, Any] = {"batch_size": 8, "lr": 1e-3}

EXPERIMENTS = (
    Experiment(
        name="weak_smears",
        title="Blood smears told only whether they hold a platelet",
        dataset="bccd",
        arms=_ARMS | {"own logit alone": _ARMS["gated attention"]},
        main="gated attention",
        arrays=arrays,
        loss=bags.bag_loss,
        own_loss={"own logit alone": bags.own_logit_alone},
        score=bags.score,
        monitor="epoch",
        augment=augment,
        report=report,
        cases=cases,
        shown={"auroc": "AUROC", "pointing": "pointing"},
        profiles={
            "smoke": profile({"width": 8}, images=32, epochs=1, **_TRAINING),
            "standard": profile({"width": 16}, epochs=40, **_TRAINING),
            "full": profile({"width": 32}, epochs=100, **_TRAINING),
        },
    ),
)
