"""What a task consists of: data, arms, loss, scores, and hyperparameters per profile."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import runtime
from ..datasets import Dataset, Split
from ..losses import Loss
from ..training import Fit, fit


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
        profiles: per profile `size` (arguments of the network), `fit` (arguments of `fit`),
            `images` (at most so many training images; None for all), and where images are shrunk
            `side` (their width in pixels).
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

    def model(self, arm: str = "attention", seed: int = 0, profile: str | None = None) -> nn.Module:
        """A new network of one arm. The same seed gives all arms equal shared weights.

        Raises:
            ValueError: there is no such arm.
        """
        if arm not in self.arms:
            raise ValueError(f"{self.name} has no arm {arm!r}. Expected: {', '.join(self.arms)}.")
        runtime.set_seed(seed)
        return self.arms[arm](**self.profiles[profile or runtime.profile()]["size"])

    def settings(self, profile: str | None = None) -> dict[str, Any]:
        """The arguments of `fit` that a profile decides: epochs, batch size, learning rate."""
        return dict(self.profiles[profile or runtime.profile()]["fit"])

    def training_images(self, data: Dataset, profile: str | None = None) -> tuple[Tensor, Tensor]:
        """Images and labels to train on: all, or in the smoke profile a few spread over the set."""
        x, y = self.arrays(data.train, **self.options(profile))
        limit = self.profiles[profile or runtime.profile()]["images"] or len(x)
        if limit >= len(x):
            return x, y
        chosen = torch.linspace(0, len(x) - 1, limit).long()
        return x[chosen], y[chosen]

    def options(self, profile: str | None = None) -> dict[str, Any]:
        """What `arrays`, `loss`, `score` and `report` take beside the data: `side`, or nothing."""
        chosen = self.profiles[profile or runtime.profile()]
        return {"side": chosen["side"]} if "side" in chosen else {}

    def fit(
        self,
        model: nn.Module,
        data: Dataset,
        seed: int = 0,
        profile: str | None = None,
        arm: str = "attention",
        **more: Any,
    ) -> Fit:
        """Train a network of this experiment; `more` goes to `training.fit` (`checkpoint`, say)."""
        loss = self.own_loss.get(arm, self.loss)
        train = self.training_images(data, profile)
        val = self.arrays(data.val, **self.options(profile))
        options, arguments = self.options(profile), self.settings(profile) | more
        return fit(
            model,
            loss(train[1], **options),
            train,
            val,
            score=partial(self.score, **options),
            monitor=self.monitor,
            augment=self.augment,
            seed=seed,
            **arguments,
        )
