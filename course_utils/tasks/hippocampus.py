"""MRI of the hippocampus: which voxels are its front and its back part? Chapters 05 and 06."""

from collections.abc import Iterator
from functools import cache, partial

import torch
from torch import Tensor, nn

from .. import metrics
from ..attention import AttentionGate
from ..augment import NORMAL, both, moved
from ..datasets import Dataset, Split
from ..losses import dice_and_cross_entropy
from ..training import predict
from ..unet import UNet
from .experiment import Experiment, profile


def slices(split: Split) -> tuple[Tensor, Tensor]:
    """Hippocampus volumes as horizontal slices, each with its two neighbours as channels.

    Returns:
        x float16 (n, 3, 48, 64): the slice below, the slice, the slice above (at the ends the
        slice itself again); y uint8 (n, 48, 64). The volumes follow each other; volume i gives
        `split.extra["shape"][i, 2]` slices.
    """
    xs, ys = [], []
    for volume, labels, shape in zip(split.x, split.y, split.extra["shape"], strict=True):
        depth = int(shape[2])
        planes = volume[0].permute(2, 0, 1)[:depth]  # (depth, 48, 64)
        padded = torch.cat([planes[:1], planes, planes[-1:]])
        xs.append(torch.stack([padded[:-2], planes, padded[2:]], 1))  # (depth, 3, 48, 64)
        ys.append(labels.permute(2, 0, 1)[:depth])
    return torch.cat(xs), torch.cat(ys)


@cache
def _changes() -> nn.Module:
    import kornia.augmentation as K

    return moved((), 15, 0.08, (0.85, 1.18), K.RandomGaussianNoise(std=0.1, p=0.5))


@NORMAL
def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change MRI slices and their masks: pose, size, contrast, noise.

    Args:
        x: (N, C, H, W), normalised to mean 0 and deviation 1.
        y: (N, H, W) labels; moved with the image, by the nearest pixel.

    Raises:
        ValueError: values beyond 50, for which 0.1 of noise would be nothing; other shapes.
    """
    gain = 1 + 0.2 * (2 * torch.rand(len(x), 1, 1, 1, device=x.device) - 1)
    shift = 0.2 * (2 * torch.rand(len(x), 1, 1, 1, device=x.device) - 1)
    return both(_changes(), x * gain + shift, y)


def score(logits: Tensor, masks: Tensor) -> dict[str, float]:
    """Dice of each part of the hippocampus, over all slices together, and their mean."""
    metrics.refuse_nan(logits)
    if logits.ndim != 4 or logits.shape[1] != 3:
        raise ValueError(f"The outputs have shape {tuple(logits.shape)}. Expected (N, 3, H, W).")
    found = logits.argmax(1)
    parts = {
        f"dice_{name}": metrics.pooled_dice(found == label, masks == label)
        for label, name in ((1, "anterior"), (2, "posterior"))
    }
    return parts | {"dice": sum(parts.values()) / 2}


def report(model: nn.Module, data: Dataset) -> dict[str, float]:
    """Mean Dice over the test volumes, for each part; 95th percentile of the surface distance."""
    found = {}
    for name, pairs, dice in _volumes(model, data):
        distance = torch.stack([metrics.hd95(a[None], b[None])[0] for a, b in pairs])
        found[f"dice_{name}"] = dice.mean().item()
        found[f"hd95_{name}"] = distance.nanmean().item()  # NaN where nothing was found
    return found


def cases(model: nn.Module, data: Dataset) -> dict[str, tuple[float, float]]:
    """Mean Dice of each part, volumes drawn again."""
    found = _volumes(model, data)
    return {f"dice_{name}": metrics.bootstrap(torch.mean, dice) for name, _, dice in found}


def _volumes(model: nn.Module, data: Dataset) -> Iterator[tuple[str, list, Tensor]]:
    """For each part its name, found and true masks of each test volume, and the Dice of each."""
    x, y = slices(data.test)
    found = predict(model, x).argmax(1)
    depths = data.test.extra["shape"][:, 2].tolist()
    for label, name in ((1, "anterior"), (2, "posterior")):
        pairs = list(zip((found == label).split(depths), (y == label).split(depths), strict=True))
        yield name, pairs, torch.stack([metrics.dice(a[None], b[None])[0] for a, b in pairs])


def _size(width: int, levels: int) -> dict[str, int]:
    return {"in_channels": 3, "outputs": 3, "width": width, "levels": levels}


EXPERIMENTS = (
    Experiment(
        name="hippocampus",
        title="Hippocampus fold 0, U-Net on slices with their neighbours",
        dataset="hippocampus",
        arms={"attention": partial(UNet, gate=AttentionGate), "control": partial(UNet, gate=None)},
        arrays=slices,
        loss=dice_and_cross_entropy,
        score=score,
        monitor="dice",
        augment=augment,
        report=report,
        cases=cases,
        shown={"dice_anterior": "Dice anterior", "dice_posterior": "Dice posterior"},
        profiles={
            "smoke": profile(_size(8, 3), images=64, epochs=1, batch_size=16, lr=3e-3),
            "standard": profile(_size(16, 5), epochs=12, batch_size=32, lr=3e-3),
            "full": profile(_size(32, 5), epochs=60, batch_size=32, lr=3e-3),
        },
    ),
)
