"""One table of what the course trains: data, model, loss, hyperparameters per profile.

The notebooks, `course experiment` and the stored weights all read it, so that they cannot differ.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import augment, ledger, metrics, runtime
from course_utils.attention import CBAM, ECA, SqueezeExcitation
from course_utils.datasets import Dataset, load
from course_utils.senet import SEResNet
from course_utils.training import Fit, fit, predict


@dataclass(frozen=True)
class Experiment:
    """One task of the course with its arms: the same network with and without attention.

    Attributes:
        arms: name to what builds its network from a size; "control" has no attention.
        loss: built from the training labels, as class weights depend on them.
        score: validation outputs and labels to numbers; `monitor` names the one that chooses.
        test: outputs and labels of validation and test to the metrics of the ledger.
        profiles: per profile `size` (arguments of the network), `fit` (arguments of `fit`) and
            `images` (at most so many training images; None for all).
    """

    name: str
    title: str
    dataset: str
    chapter: str
    arms: dict[str, Callable[..., nn.Module]]
    loss: Callable[[Tensor], Callable[[Tensor, Tensor], Tensor]]
    score: Callable[[Tensor, Tensor], dict[str, float]]
    monitor: str
    augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None
    test: Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, float]]
    profiles: dict[str, dict[str, Any]]

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
        train = data.splits["train"]
        limit = self.profiles[profile or runtime.profile()]["images"] or len(train)
        chosen = torch.linspace(0, len(train) - 1, min(limit, len(train))).long()
        return train.x[chosen], train.y[chosen]

    def fit(
        self,
        model: nn.Module,
        data: Dataset,
        seed: int = 0,
        profile: str | None = None,
        **more: Any,
    ) -> Fit:
        """Train a network of this experiment; `more` goes to `training.fit` (`checkpoint`, say)."""
        train, val = self.training_images(data, profile), data.splits["val"]
        arguments = self.settings(profile) | more
        return fit(
            model,
            self.loss(train[1]),
            train,
            (val.x, val.y),
            score=self.score,
            monitor=self.monitor,
            augment=self.augment,
            seed=seed,
            **arguments,
        )


def weighted_bce(labels: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Binary cross-entropy on logits in which both classes weigh the same in sum.

    Args:
        labels: (N,) of 0 and 1, the training labels. A class that is absent leaves the loss
            unweighted.
    """
    positive = int(labels.sum())
    negative = len(labels) - positive
    weight = negative / positive if positive and negative else 1.0

    def loss(logits: Tensor, labels: Tensor) -> Tensor:  # (B, 1), (B,)
        pos_weight = torch.tensor(weight, device=logits.device)
        return F.binary_cross_entropy_with_logits(
            logits[:, 0], labels.to(logits.dtype), pos_weight=pos_weight
        )

    return loss


def score_binary(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """AUROC, and accuracy at threshold 0.5, of logits (N, 1)."""
    return {
        "auroc": metrics.auroc(logits[:, 0], labels),
        "accuracy": metrics.accuracy(logits[:, 0].sigmoid(), labels),
    }


def report_binary(
    val_logits: Tensor, val: Tensor, logits: Tensor, labels: Tensor
) -> dict[str, float]:
    """`score_binary` on test, and accuracy at the threshold that was best on validation."""
    threshold = metrics.best_threshold(val_logits[:, 0].sigmoid(), val)
    tuned = metrics.accuracy(logits[:, 0].sigmoid(), labels, threshold)
    return score_binary(logits, labels) | {
        "accuracy_at_val_threshold": tuned,
        "val_threshold": threshold,
        "val_auroc": metrics.auroc(val_logits[:, 0], val),
    }


def resnet(attention: Callable[[int], nn.Module] | None) -> Callable[..., nn.Module]:
    """What builds a residual network with this attention in each block from its size."""
    return partial(SEResNet, attention=attention)


def squeeze_excitation(reduction: int) -> Callable[[int], nn.Module]:
    return partial(SqueezeExcitation, reduction=reduction)


FIRST_MODEL_PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "size": {"width": 16, "blocks": (1, 2, 2)},
        "fit": {"epochs": 1, "batch_size": 64, "lr": 3e-3},
        "images": 512,
    },
    "standard": {
        "size": {"width": 16, "blocks": (1, 2, 2)},
        "fit": {"epochs": 8, "batch_size": 64, "lr": 3e-3},
        "images": None,
    },
    "full": {
        "size": {"width": 32},
        "fit": {"epochs": 15, "batch_size": 64, "lr": 3e-3},
        "images": None,
    },
}

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="first_model",
            title="PneumoniaMNIST, a small SE-ResNet in about a minute",
            dataset="pneumonia",
            chapter="00",
            arms={"attention": resnet(SqueezeExcitation), "control": resnet(None)},
            loss=weighted_bce,
            score=score_binary,
            monitor="auroc",
            augment=augment.xray,
            test=report_binary,
            profiles=FIRST_MODEL_PROFILES,
        ),
        Experiment(
            name="channel_attention",
            title="PneumoniaMNIST, the same network with other gates on its channels",
            dataset="pneumonia",
            chapter="03",
            arms={
                "control": resnet(None),
                "SE r=2": resnet(squeeze_excitation(2)),
                "SE r=4": resnet(squeeze_excitation(4)),
                "SE r=8": resnet(squeeze_excitation(8)),
                "SE r=16": resnet(squeeze_excitation(16)),
                "ECA": resnet(ECA),
                "CBAM": resnet(CBAM),
            },
            loss=weighted_bce,
            score=score_binary,
            monitor="auroc",
            augment=augment.xray,
            test=report_binary,
            profiles=FIRST_MODEL_PROFILES,
        ),
    )
}


def get(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: there is none; the message lists them.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"No experiment {name!r}. Expected one of: {', '.join(EXPERIMENTS)}.")
    return EXPERIMENTS[name]


def run(
    name: str, arm: str, seed: int, profile: str | None = None, progress: bool | None = None
) -> dict:
    """Train one arm with one seed, look at the test set once, and return the line of the ledger.

    Training goes on from a checkpoint in `build/checkpoints/` when an earlier call was cut off.
    """
    experiment, profile = get(name), profile or runtime.profile()
    data = load(experiment.dataset)
    model = experiment.model(arm, seed, profile)
    settings = (profile, data.sha256, sorted(experiment.profiles[profile].items()), str(model))
    key = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    checkpoint = runtime.ROOT / "build" / "checkpoints" / f"{name}-{arm}-{seed}-{key}.safetensors"
    fitted = experiment.fit(model, data, seed, profile, checkpoint=checkpoint, progress=progress)
    if fitted.interrupted:
        raise KeyboardInterrupt
    began = time.perf_counter()
    val, test = data.splits["val"], data.splits["test"]
    found = experiment.test(
        predict(fitted.model, val.x), val.y, predict(fitted.model, test.x), test.y
    )
    checkpoint.unlink(missing_ok=True)
    return {
        "experiment": name,
        "dataset": data.name,
        "arm": arm,
        "seed": seed,
        "profile": profile,
        "source": data.source,
        "data_sha256": data.sha256,
        "split": data.split,
        "metrics": found | {"best_epoch": fitted.best_epoch},
        "seconds": round(fitted.seconds + time.perf_counter() - began, 1),
        "device": runtime.hardware(),
        "precision": runtime.precision()[0],
        "versions": runtime.versions(),
        "revision": runtime.revision(),
    }


def run_all(
    name: str, arms: list[str] | None = None, seeds: int = 5, profile: str | None = None
) -> None:
    """Record every arm with seeds 0 to `seeds - 1`; runs that stand in the ledger are not repeated.

    Raises:
        ValueError: the ledger holds runs of this experiment on other data: they would not compare.
    """
    experiment, profile = get(name), profile or runtime.profile()
    data = load(experiment.dataset)
    old = [run for run in ledger.read(name) if run["profile"] == profile]
    other = {run["data_sha256"] for run in old} - {data.sha256}
    if other:
        raise ValueError(
            f"results/{name}.jsonl holds {profile} runs on other data ({', '.join(sorted(other))}) "
            f"than can be reached now ({data.sha256}, source {data.source}). Runs on different "
            "data do not compare: reach the first data again, or move the file away."
        )
    done = {(run["arm"], run["seed"]) for run in old}
    for seed in range(seeds):
        for arm in arms or list(experiment.arms):
            if (arm, seed) in done:
                print(f"{name} {arm} seed {seed}: recorded already")
                continue
            found = run(name, arm, seed, profile)
            ledger.record(found)
            shown = ", ".join(f"{k} {v:.3f}" for k, v in found["metrics"].items())
            print(f"{name} {arm} seed {seed}: {shown} ({found['seconds']:.0f} s)", flush=True)


def readme(text: str) -> str:
    """README.md with the table of results renewed from the ledger, between its two marks."""
    before, mark, rest = text.partition("<!-- results: written by `course results --readme` -->\n")
    _, end, after = rest.partition("<!-- end of results -->")
    if not mark or not end:
        raise ValueError("README.md lacks the marks between which the table of results stands.")
    lines = ["| task | arm | AUROC | accuracy | seconds a run |", "|---|---|---|---|---|"]
    for name, experiment in EXPERIMENTS.items():
        for arm, row in ledger.table(name, ["auroc", "accuracy"]).iterrows():
            cells = (experiment.title, arm, row["auroc"], row["accuracy"], row["seconds"])
            lines.append("| " + " | ".join(cells) + " |")
    return before + mark + "\n".join(lines) + "\n" + end + after
