"""What a task consists of: data, arms, loss, scores, and hyperparameters per profile."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import runtime, training
from ..datasets import Dataset, Split
from ..losses import Loss
from ..training import Fit


def profile(
    size: dict[str, Any], images: int | None = None, side: int | None = None, **fit: Any
) -> dict[str, Any]:
    """The size of everything: of the network, of the data, and of the training.

    Args:
        size: arguments of the network.
        images: at most so many training images; None for all.
        side: width of the images in pixels, where the task shrinks them.
        fit: arguments of `training.fit`.
    """
    chosen = {"size": size, "fit": fit, "images": images}
    return chosen | {"side": side} if side else chosen


def averaged(images: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 images averaged down to (height, width)."""
    if images.dtype != torch.uint8:
        raise ValueError(f"The images are {images.dtype}. Expected uint8, as data sets have them.")
    parts = [F.adaptive_avg_pool2d(part.float(), size).round() for part in images.split(64)]
    return torch.cat([part.to(torch.uint8) for part in parts])


def whole(split: Split) -> tuple[Tensor, Tensor]:
    """Images and targets as the data set has them."""
    return split.x, split.y


@dataclass(frozen=True)
class Experiment:
    """One task of the course with its arms: the same network with and without attention.

    Attributes:
        arms: name to what builds its network from a size; "control" has no attention.
        arrays: a split to images and targets, as `training.fit` takes them.
        loss: built from the training targets, as class weights depend on them.
        score: validation outputs and targets to numbers; `monitor` names the one that chooses.
        report: the model and the data to the metrics of the ledger.
        cases: likewise to 95% intervals of the metrics in `shown` over test cases.
        own_loss: of an arm that is trained with another loss than the rest.
        training: like `arrays`, for the training split, where that is seen otherwise.
        main: the arm that a chapter trains, and whose weights are stored.
        profiles: name to what `profile` makes.
    """

    name: str
    title: str
    dataset: str
    arms: dict[str, Callable[..., nn.Module]]
    loss: Callable[..., Loss]
    score: Callable[..., dict[str, float]]
    monitor: str
    augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None
    report: Callable[..., dict[str, float]]
    cases: Callable[..., dict[str, tuple[float, float]]]
    shown: dict[str, str]
    profiles: dict[str, dict[str, Any]]
    arrays: Callable[..., tuple[Tensor, Tensor]] = whole
    own_loss: dict[str, Callable[..., Loss]] = field(default_factory=dict)
    training: Callable[..., tuple[Tensor, Tensor]] | None = None
    main: str = "attention"

    def model(self, arm: str = "", seed: int = 0, profile: str | None = None) -> nn.Module:
        """A new network of one arm, `main` if none is named; arms of a seed share equal weights.

        Raises:
            ValueError: there is no such arm.
        """
        runtime.set_seed(seed)
        return self.arms[self._known(arm)](**self._profile(profile)["size"])

    def _known(self, arm: str) -> str:
        arm = arm or self.main
        if arm not in self.arms:
            raise ValueError(f"{self.name} has no arm {arm!r}. Expected: {', '.join(self.arms)}.")
        return arm

    def _profile(self, name: str | None) -> dict[str, Any]:
        return self.profiles[name or runtime.profile()]

    def settings(self, profile: str | None = None) -> dict[str, Any]:
        """The arguments of `fit` that a profile decides: epochs, batch size, learning rate."""
        return dict(self._profile(profile)["fit"])

    def training_images(self, data: Dataset, profile: str | None = None) -> tuple[Tensor, Tensor]:
        """Images and labels to train on: all, or as many as a profile says, spread over the set."""
        x, y = (self.training or self.arrays)(data.train, **self.options(profile))
        limit = self._profile(profile)["images"] or len(x)
        if limit >= len(x):
            return x, y
        chosen = torch.linspace(0, len(x) - 1, limit).long()
        return x[chosen], y[chosen]

    def options(self, profile: str | None = None) -> dict[str, Any]:
        """What `arrays`, `loss`, `score` and `report` take beside the data: `side`, or nothing."""
        return {k: v for k, v in self._profile(profile).items() if k == "side"}

    def fit(
        self,
        model: nn.Module,
        data: Dataset,
        seed: int = 0,
        profile: str | None = None,
        arm: str = "",
        **more: Any,
    ) -> Fit:
        """Train a network of this experiment; `more` goes to `training.fit` (`checkpoint`, say)."""
        options = self.options(profile)
        train, val = self.training_images(data, profile), self.arrays(data.val, **options)
        loss = self.own_loss.get(self._known(arm), self.loss)(train[1], **options)
        more = {"monitor": self.monitor, "augment": self.augment, "seed": seed, **more}
        more = {"score": partial(self.score, **options), **self.settings(profile), **more}
        return training.fit(model, loss, train, val, **more)
