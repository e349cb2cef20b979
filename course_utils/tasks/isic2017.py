"""Photographs of skin: which pixels are the lesion? U-Nets, one logit a pixel. Chapter 06."""

from functools import cache, partial

import torch
from torch import Tensor, nn

from .. import metrics
from ..attention import AttentionGate
from ..augment import UNIT, both, moved
from ..datasets import Dataset, Split
from ..losses import dice_and_cross_entropy, one_logit
from ..maps import at_size
from ..training import predict
from ..unet import UNet
from .experiment import Experiment, averaged, profile


def shrunk(split: Split, side: int = 112) -> tuple[Tensor, Tensor]:
    """ISIC images and masks averaged down to `side` pixels: uint8 (N, 3, side, side), (N, ...)."""

    masks = averaged((split.y[:, None] > 0).byte() * 255, (side, side))[:, 0] > 127
    return averaged(split.x, (side, side)), masks.to(torch.uint8)


@cache
def _changes() -> nn.Module:
    import kornia.augmentation as K

    flips = K.RandomHorizontalFlip(), K.RandomVerticalFlip()
    return moved(flips, 180, 0.1, (0.75, 1.3), K.ColorJiggle(0.2, 0.2, 0.2, 0.03, p=1.0))


@UNIT
def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change photographs of skin and their masks: side, pose, distance, light and colour.

    Args:
        x: (N, 3, H, W) in [0, 1].
        y: (N, H, W) masks; moved with the image, by the nearest pixel.

    Raises:
        ValueError: values below -0.5 or above 1.5, which would be clipped; other shapes.
    """
    return both(_changes(), x, y)


def score(logits: Tensor, masks: Tensor, side: int = 0) -> dict[str, float]:
    """Mean Jaccard index and Dice over images, at probability 0.5."""
    one_logit(logits, masks)
    metrics.refuse_nan(logits)
    return {name: each.mean().item() for name, each in _overlaps(logits, masks).items()}


def report(model: nn.Module, data: Dataset, side: int = 112) -> dict[str, float]:
    """`score` on the test images at full resolution; images are shrunk for the network.

    Beside it the mean Dice of the third of the images with the smallest lesions, and of that with
    the largest (in pixels of the mask): attention is said to help with small objects.
    """
    large = _at_full_size(model, data, side)
    dice = _overlaps(large, data.test.y.bool())["dice"]
    thirds = data.test.y.flatten(1).sum(1).argsort(stable=True).tensor_split(3)
    return score(large, data.test.y) | {
        "dice_smallest_third": dice[thirds[0]].mean().item(),
        "dice_largest_third": dice[thirds[2]].mean().item(),
    }


def cases(model: nn.Module, data: Dataset, side: int = 112) -> dict[str, tuple[float, float]]:
    """Mean Jaccard index and Dice, images drawn again."""
    found = _overlaps(_at_full_size(model, data, side), data.test.y.bool())
    return {name: metrics.bootstrap(torch.mean, each) for name, each in found.items()}


def _overlaps(logits: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Jaccard index and Dice of each image: (N,)."""
    found = logits[:, 0] > 0
    return {"jaccard": metrics.iou(found, masks), "dice": metrics.dice(found, masks)}


def _at_full_size(model: nn.Module, data: Dataset, side: int) -> Tensor:
    logits = predict(model, shrunk(data.test, side)[0])
    return at_size(logits, *data.test.y.shape[1:])[:, None]


def _size(width: int, levels: int) -> dict[str, int]:
    return {"in_channels": 3, "width": width, "levels": levels}


EXPERIMENTS = (
    Experiment(
        name="isic2017",
        title="ISIC 2017 skin lesions, U-Net",
        dataset="isic2017",
        arms={"attention": partial(UNet, gate=AttentionGate), "control": partial(UNet, gate=None)},
        arrays=shrunk,
        loss=dice_and_cross_entropy,
        score=score,
        monitor="jaccard",
        augment=augment,
        report=report,
        cases=cases,
        shown={"jaccard": "Jaccard", "dice": "Dice"},
        profiles={
            "smoke": profile(_size(8, 4), images=32, side=64, epochs=1, batch_size=8, lr=3e-3),
            "standard": profile(_size(16, 5), side=112, epochs=12, batch_size=16, lr=3e-3),
            "full": profile(_size(32, 6), side=256, epochs=80, batch_size=16, lr=2e-3),
        },
    ),
)
