"""Chest X-rays: is it pneumonia? Small SE-ResNets, one logit. Chapters 00, 03 and 07."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from torch import Tensor, nn

from .. import metrics
from ..attention import CBAM, ECA, SqueezeExcitation
from ..augment import UNIT, moved
from ..datasets import Dataset
from ..losses import one_logit, weighted_bce
from ..senet import SEResNet
from ..training import predict
from .experiment import Experiment, profile


@cache
def _changes() -> nn.Module:
    import kornia.augmentation as K

    # Exposure as a curve: brightness that is added would clip a bright chest to white. These
    # powers leave the mean brightness of all images as it is.
    exposure = K.RandomGamma((0.4, 1.6), p=1.0)
    return moved((), 10, 0.1, (0.9, 1.1), K.RandomHorizontalFlip(), exposure)


@UNIT
def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change chest X-rays as patients and machines do: pose, side, exposure. Labels stay.

    Args:
        x: (N, 1, H, W) in [0, 1].
        y: (N,) labels, returned unchanged.

    Raises:
        ValueError: values below -0.5 or above 1.5, which would be clipped.
    """
    return _changes()(x), y


def score(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """AUROC (NaN for one class only), and accuracy at threshold 0.5, of logits (N, 1)."""
    one_logit(logits, labels)
    return {
        "auroc": metrics.auroc(logits[:, 0], labels),
        "accuracy": metrics.accuracy(logits[:, 0].sigmoid(), labels),
    }


def report(model: nn.Module, data: Dataset) -> dict[str, float]:
    """`score` on test, and accuracy at the threshold that was best on validation."""
    val, test = predict(model, data.val.x), predict(model, data.test.x)  # (N, 1)
    threshold = metrics.best_threshold(val[:, 0].sigmoid(), data.val.y)
    tuned = metrics.accuracy(test[:, 0].sigmoid(), data.test.y, threshold)
    return score(test, data.test.y) | {
        "accuracy_at_val_threshold": tuned,
        "val_threshold": threshold,
        "val_auroc": metrics.auroc(val[:, 0], data.val.y),
    }


def cases(model: nn.Module, data: Dataset) -> dict[str, tuple[float, float]]:
    """AUROC by bootstrap, accuracy at 0.5 by Wilson."""
    logits, labels = predict(model, data.test.x)[:, 0], data.test.y
    return {
        "auroc": metrics.bootstrap(metrics.auroc, logits, labels),
        "accuracy": metrics.wilson((logits >= 0).long() == labels),
    }


_SMALL = {"width": 16, "blocks": (1, 2, 2)}
FIRST_MODEL_PROFILES = {
    "smoke": profile(_SMALL, images=512, epochs=1, batch_size=64, lr=3e-3),
    "standard": profile(_SMALL, epochs=8, batch_size=64, lr=3e-3),
    "full": profile({"width": 32}, epochs=15, batch_size=64, lr=3e-3),
}


def _size(width: int) -> dict[str, Any]:
    return {"width": width, "instance_norm": False}


def _arms(gates: dict[str, Any]) -> dict[str, Callable[..., nn.Module]]:
    return {arm: partial(SEResNet, attention=gate) for arm, gate in gates.items()}


_ARMS = _arms({"attention": SqueezeExcitation, "control": None})
_REDUCED = {f"SE r={r}": partial(SqueezeExcitation, reduction=r) for r in (2, 4, 8, 16)}

_experiment = partial(
    Experiment,
    dataset="pneumonia",
    loss=weighted_bce,
    score=score,
    monitor="auroc",
    augment=augment,
    report=report,
    cases=cases,
    shown={"auroc": "AUROC", "accuracy": "accuracy"},
)

EXPERIMENTS = (
    _experiment(
        name="first_model",
        title="PneumoniaMNIST, a small SE-ResNet in about a minute",
        arms=_ARMS,
        profiles=FIRST_MODEL_PROFILES,
    ),
    _experiment(
        name="channel_attention",
        main="SE r=16",
        title="PneumoniaMNIST, the same network with other gates on its channels",
        arms=_arms({"control": None, **_REDUCED, "ECA": ECA, "CBAM": CBAM}),
        profiles=FIRST_MODEL_PROFILES,
    ),
    _experiment(
        name="pneumonia",
        title="PneumoniaMNIST, SE-ResNet",
        arms=_ARMS,
        profiles={
            "smoke": FIRST_MODEL_PROFILES["smoke"],
            "standard": profile(_size(32), epochs=20, batch_size=64, lr=3e-3),
            "full": profile(_size(64), epochs=60, batch_size=128, lr=3e-3),
        },
    ),
)
