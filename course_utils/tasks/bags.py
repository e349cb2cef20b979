"""Bags of chest X-rays: is there one with pneumonia among them? Chapter 09.

The label of a bag says yes or no. Which image it is about only `report` knows.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import metrics
from ..datasets import Dataset, Split
from ..losses import Loss
from ..pooling import AttentionPooling, BagClassifier, LogSumExpPooling, MaxPooling, MeanPooling
from ..training import as_float, evaluating, predict
from . import pneumonia
from .experiment import Experiment, profile

POOLINGS: dict[str, Callable[[int], BagClassifier]] = {
    "gated attention": lambda channels: BagClassifier(channels, AttentionPooling(channels)),
    "attention": lambda channels: BagClassifier(channels, AttentionPooling(channels, gated=False)),
    "mean": lambda channels: BagClassifier(channels, MeanPooling()),
    "mean with batch norm": lambda channels: BagClassifier(channels, MeanPooling(), norm=True),
    "maximum of features": lambda channels: BagClassifier(channels, MaxPooling(), norm=True),
    "maximum": lambda channels: BagClassifier(channels, MaxPooling(), pool_scores=True),
    "log-sum-exp": lambda channels: BagClassifier(channels, LogSumExpPooling(5), pool_scores=True),
}
"""What is compared, behind equal encoders."""


def encoder(in_channels: int, width: int) -> nn.Sequential:
    """Four 3x3 convolutions, three of which halve the image: (N, 4 width, H / 8, W / 8)."""
    layers: list[nn.Module] = [nn.InstanceNorm2d(in_channels)]
    for channels, stride in ((width, 2), (2 * width, 2), (4 * width, 2), (4 * width, 1)):
        layers += [
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
        in_channels = channels
    return nn.Sequential(*layers)


class XrayBags(nn.Module):
    """An encoder for each image of a bag, then a pooling: (B, n, H, W) to (B, 2) logits."""

    def __init__(self, pooling: Callable[[int], BagClassifier], width: int = 16):
        super().__init__()
        self.encoder = encoder(1, width)
        self.classifier = pooling(4 * width)

    def features(self, x: Tensor) -> Tensor:  # (B, n, H, W)
        images = x.flatten(0, 1).flatten(1)  # (B n, H W)
        # An image can be in many bags. It is encoded once, which saves most of the time.
        unique, place = images.cpu().unique(dim=0, return_inverse=True)  # (U, H W), (B n,)
        unique = unique.to(x.device).view(-1, 1, *x.shape[2:])
        encoded = self.encoder(unique).mean((2, 3))  # (U, C)
        return encoded[place.to(x.device)].view(*x.shape[:2], -1)  # (B, n, C)

    def map(self, x: Tensor) -> Tensor:  # (B, n, H, W)
        return self.classifier.map(self.features(x))  # (B, n)

    def forward(self, x: Tensor) -> Tensor:  # (B, n, H, W)
        return self.classifier(self.features(x))  # (B, 2)


def mapped(model: nn.Module, x: Tensor, batch_size: int = 64) -> Tensor:
    """What points in each bag: `model.map` in evaluation mode, on the CPU."""
    where = next(model.parameters()).device
    with evaluating(model):
        parts = [model.map(as_float(part.to(where))) for part in x.split(batch_size)]  # type: ignore[operator]
    return torch.cat(parts).float().cpu()


def draw(labels: Tensor, n: int, bags: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bags of images: half of them with one positive image among negative ones, half without.

    Args:
        labels: (N,) of 0 and 1, both present.
        n: images in a bag. Where there are fewer negative images, some are in it twice.
        bags: how many bags.

    Returns:
        which image of the N is where, (bags, n); the bag's label, (bags,) of 0 and 1; and the
        place of the positive image, (bags,), -1 where there is none.

    Raises:
        ValueError: one of the classes is absent.
    """
    negative, positive = (labels == 0).nonzero()[:, 0], (labels == 1).nonzero()[:, 0]
    if min(len(negative), len(positive)) == 0:
        raise ValueError(
            f"{len(negative)} images without pneumonia and {len(positive)} with it. Expected both: "
            "take a larger batch."
        )
    where = labels.device
    order = torch.rand(bags, max(n, len(negative)), device=where).argsort(1)[:, :n]
    chosen = negative[order % len(negative)]  # (bags, n)
    label = torch.arange(bags, device=where) % 2
    place = torch.where(label == 1, torch.randint(n, (bags,), device=where), -1)
    found = positive[torch.randint(len(positive), (bags,), device=where)]
    at_place = torch.arange(n, device=where) == place[:, None]  # (bags, n)
    return torch.where(at_place, found[:, None], chosen), label, place


def drawn(split: Split, n: int = 40, bags: int = 200, seed: int = 0) -> tuple[Tensor, ...]:
    """The same bags of a split each time: images (bags, n, H, W), labels and places (bags,)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chosen, label, place = draw(split.y, n, bags)
    return split.x[chosen][:, :, 0], label, place


def arrays(split: Split, n: int = 40, bags: int = 200) -> tuple[Tensor, Tensor]:
    """Bags and their labels, without the places."""
    x, label, _ = drawn(split, n, bags)
    return x, label


def balanced(split: Split) -> tuple[Tensor, Tensor]:
    """As many images with pneumonia as without, from which each step draws its bags."""
    positive, negative = (split.y == 1).nonzero()[:, 0], (split.y == 0).nonzero()[:, 0]
    spread = torch.linspace(0, len(positive) - 1, min(len(negative), len(positive))).long()
    chosen = torch.cat([negative, positive[spread]])
    return split.x[chosen], split.y[chosen]


def fresh(x: Tensor, y: Tensor, n: int = 40, bags: int = 64) -> tuple[Tensor, Tensor]:
    """New bags from a batch of single images (N, 1, H, W) and their labels (N,)."""
    x, _ = pneumonia.augment(x, y)
    chosen, label, _ = draw(y, n, bags)
    return x[chosen][:, :, 0], label


def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each image of each bag (B, n, H, W) changed as in `pneumonia.augment`."""
    images = x.flatten(0, 1).unsqueeze(1)
    return pneumonia.augment(images, y)[0].view_as(x), y


def bag_loss(labels: Tensor) -> Loss:
    """Binary cross-entropy of both logits of a bag: its own, and the highest of its images'.

    The second gives the encoder a signal from the first step on, whatever the pooling does.
    """

    def loss(logits: Tensor, labels: Tensor) -> Tensor:  # (B, 2), (B,)
        wanted = labels.to(logits.dtype)[:, None].expand_as(logits)
        return nn.functional.binary_cross_entropy_with_logits(logits, wanted)

    return loss


def own_logit_alone(labels: Tensor) -> Loss:
    """Binary cross-entropy of the bag's own logit alone."""
    loss = bag_loss(labels)
    return lambda logits, labels: loss(logits[:, :1], labels)


def shuffled(labels: Tensor) -> Loss:
    """`bag_loss` with labels that say nothing: those of a batch, in another order."""
    loss = bag_loss(labels)
    return lambda logits, labels: loss(logits, labels[torch.randperm(len(labels))])


def score(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """AUROC of the bags' own logits, the first of (B, 2)."""
    return {"auroc": metrics.auroc(logits[:, 0], labels)}


def pointed(map: Tensor, place: Tensor) -> dict[str, float]:
    """Whether the map (B, n) is highest at the positive image, in bags that have one.

    Returns:
        "top1", the share of bags in which it is; "rank", how many of the other images of the bag
        score lower, on average: an AUROC within bags.
    """
    metrics.refuse_nan(map)
    map, place = map[place >= 0], place[place >= 0]
    own = map.gather(1, place[:, None])  # (B, 1)
    lower, equal = (map < own).sum(1), (map == own).sum(1) - 1
    return {
        "top1": (map.argmax(1) == place).double().mean().item(),
        "rank": ((lower + equal / 2) / (map.shape[1] - 1)).double().mean().item(),
    }


def scored(model: nn.Module, split: Split, n: int = 40) -> dict[str, float]:
    """AUROC of bags, and whether the map points at the image."""
    x, label, place = drawn(split, n)
    return score(predict(model, x, 64), label) | pointed(mapped(model, x), place)


def report(model: nn.Module, data: Dataset, n: int = 40) -> dict[str, float]:
    """`scored` on test, and on validation with `val_` before the names."""
    val = {f"val_{name}": value for name, value in scored(model, data.val, n).items()}
    return scored(model, data.test, n) | val


def cases(model: nn.Module, data: Dataset, n: int = 40) -> dict[str, tuple[float, float]]:
    """Intervals over test images: bags share images, so images are drawn again, then bags."""

    def measured(key: str, images: Tensor) -> float:
        return scored(model, data.test.take(images.tolist()), n)[key]

    images, keys = torch.arange(len(data.test)), ("auroc", "top1")
    return {k: metrics.bootstrap(partial(measured, k), images, resamples=100) for k in keys}


def arms(network: Callable[..., nn.Module]) -> dict[str, Callable[..., nn.Module]]:
    """The same network with each of `POOLINGS`."""
    return {arm: partial(network, pooling) for arm, pooling in POOLINGS.items()}


_ARMS = arms(XrayBags)


def _experiment(name: str, n: int, fixed: int = 0, **more: Any) -> Experiment:
    """Bags of n images: new ones each step, or a fixed number of them."""
    bags = f"{fixed} bags" if fixed else "Bags"
    how: dict[str, Any] = {"arms": _ARMS, "training": balanced, "augment": partial(fresh, n=n)}
    fit: dict[str, Any] = {"batch_size": 320, "lr": 3e-3, "ema": 0.98, "epochs": 25}
    # 320 single images a step, of which `fresh` makes 64 bags; fixed bags are counted themselves.
    if fixed:
        how |= {"training": partial(arrays, n=n, bags=fixed), "augment": augment}
        fit |= {"epochs": 5000 // fixed, "batch_size": 16}  # some 300 steps
    return Experiment(
        name=name,
        title=f"{bags} of {n} chest X-rays, one label each",
        dataset="pneumonia",
        main="gated attention",
        arrays=partial(arrays, n=n),
        loss=bag_loss,
        score=score,
        monitor="epoch",
        report=partial(report, n=n),
        cases=partial(cases, n=n),
        shown={"auroc": "AUROC", "top1": "top-1"},
        profiles={
            "smoke": profile({"width": 8}, **(fit | {"epochs": 1})),
            "standard": profile({"width": 16}, **fit),
            "full": profile({"width": 32}, **(fit | {"epochs": 100})),
        },
        **(how | more),
    )


EXPERIMENTS = (
    _experiment(
        "bags",
        40,
        arms=_ARMS | {"shuffled labels": _ARMS["gated attention"]},
        own_loss={"shuffled labels": shuffled},
    ),
    _experiment("bags_10", 10),
    _experiment("bags_20", 20),
    _experiment("bags_80", 80),
    _experiment("bags_fixed", 40, fixed=300),
    _experiment("bags_fixed_100", 40, fixed=100),
    _experiment("bags_fixed_1000", 40, fixed=1000),
)
