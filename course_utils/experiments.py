"""One table of what the course trains: data, model, loss, hyperparameters per profile.

The notebooks, `course experiment` and the stored weights all read it, so that they cannot differ.
"""

import csv
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_utils import augment, ledger, runtime, storage, tasks
from course_utils.attention import CBAM, ECA, AttentionGate, SqueezeExcitation
from course_utils.datasets import Dataset, load
from course_utils.senet import SEResNet
from course_utils.training import Fit, fit
from course_utils.unet import UNet
from course_utils.yolo import YOLO


@dataclass(frozen=True)
class Experiment:
    """One task of the course with its arms: the same network with and without attention.

    Attributes:
        arms: name to what builds its network from a size; "control" has no attention.
        arrays: a split to images and targets, as `fit` takes them (see `tasks`).
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
    chapter: str
    arms: dict[str, Callable[..., nn.Module]]
    loss: Callable[..., tasks.Loss]
    score: Callable[..., dict[str, float]]
    monitor: str
    augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None
    report: Callable[..., dict[str, float]]
    cases: Callable[..., dict[str, tuple[float, float]]]
    profiles: dict[str, dict[str, Any]]
    arrays: Callable[..., tuple[Tensor, Tensor]] = tasks.whole
    shown: tuple[str, ...] = ("auroc", "accuracy")  # in tables
    own_loss: dict[str, Callable[..., tasks.Loss]] = field(default_factory=dict)

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


def resnet(attention: Callable[[int], nn.Module] | None) -> Callable[..., nn.Module]:
    """What builds a residual network with this attention in each block from its size."""
    return partial(SEResNet, attention=attention)


def squeeze_excitation(reduction: int) -> Callable[[int], nn.Module]:
    return partial(SqueezeExcitation, reduction=reduction)


def detector(attention: Callable[[int], nn.Module] | None) -> Callable[..., nn.Module]:
    """What builds a detector of blood cells from its width and that of its images."""

    def build(width: int, side: int) -> nn.Module:
        return YOLO(3, tasks.cell_anchors(side), width, attention)

    return build


def unet(gate: Callable[[int, int], nn.Module] | None) -> Callable[..., nn.Module]:
    """What builds a U-Net with this gate on each skip from its size."""
    return partial(UNet, gate=gate)


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

XRAYS: dict[str, Any] = {
    "dataset": "pneumonia",
    "loss": tasks.weighted_bce,
    "score": tasks.score_binary,
    "monitor": "auroc",
    "augment": augment.xray,
    "report": tasks.report_binary,
    "cases": tasks.cases_binary,
}
"""What all experiments on chest X-rays have in common."""

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="first_model",
            title="PneumoniaMNIST, a small SE-ResNet in about a minute",
            chapter="00",
            arms={"attention": resnet(SqueezeExcitation), "control": resnet(None)},
            **XRAYS,
            profiles=FIRST_MODEL_PROFILES,
        ),
        Experiment(
            name="channel_attention",
            title="PneumoniaMNIST, the same network with other gates on its channels",
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
            **XRAYS,
            profiles=FIRST_MODEL_PROFILES,
        ),
        Experiment(
            name="pneumonia",
            title="PneumoniaMNIST, SE-ResNet",
            chapter="07",
            arms={"attention": resnet(SqueezeExcitation), "control": resnet(None)},
            **XRAYS,
            profiles={
                "smoke": FIRST_MODEL_PROFILES["smoke"],
                "standard": {
                    "size": {"width": 32, "instance_norm": False},
                    "fit": {"epochs": 20, "batch_size": 64, "lr": 3e-3},
                    "images": None,
                },
                "full": {
                    "size": {"width": 64, "instance_norm": False},
                    "fit": {"epochs": 60, "batch_size": 128, "lr": 3e-3},
                    "images": None,
                },
            },
        ),
        Experiment(
            name="hippocampus",
            title="Hippocampus fold 0, U-Net on slices with their neighbours",
            dataset="hippocampus",
            chapter="06",
            arms={"attention": unet(AttentionGate), "control": unet(None)},
            arrays=tasks.slices,
            loss=tasks.dice_and_cross_entropy,
            score=tasks.score_slices,
            monitor="dice",
            augment=augment.mri,
            report=tasks.report_hippocampus,
            cases=tasks.cases_hippocampus,
            shown=("dice_anterior", "dice_posterior"),
            profiles={
                "smoke": {
                    "size": {"in_channels": 3, "outputs": 3, "width": 8, "levels": 3},
                    "fit": {"epochs": 1, "batch_size": 16, "lr": 3e-3},
                    "images": 64,
                },
                "standard": {
                    "size": {"in_channels": 3, "outputs": 3, "width": 16, "levels": 5},
                    "fit": {"epochs": 12, "batch_size": 32, "lr": 3e-3},
                    "images": None,
                },
                "full": {
                    "size": {"in_channels": 3, "outputs": 3, "width": 32, "levels": 5},
                    "fit": {"epochs": 60, "batch_size": 32, "lr": 3e-3},
                    "images": None,
                },
            },
        ),
        Experiment(
            name="isic2017",
            title="ISIC 2017 skin lesions, U-Net",
            dataset="isic2017",
            chapter="06",
            arms={"attention": unet(AttentionGate), "control": unet(None)},
            arrays=tasks.skin,
            loss=tasks.dice_and_cross_entropy,
            score=tasks.score_lesion,
            monitor="jaccard",
            augment=augment.skin,
            report=tasks.report_lesion,
            cases=tasks.cases_lesion,
            shown=("jaccard", "dice"),
            profiles={
                "smoke": {
                    "size": {"in_channels": 3, "width": 8, "levels": 4},
                    "fit": {"epochs": 1, "batch_size": 8, "lr": 3e-3},
                    "images": 32,
                    "side": 64,
                },
                "standard": {
                    "size": {"in_channels": 3, "width": 16, "levels": 5},
                    "fit": {"epochs": 12, "batch_size": 16, "lr": 3e-3},
                    "images": None,
                    "side": 112,
                },
                "full": {
                    "size": {"in_channels": 3, "width": 32, "levels": 6},
                    "fit": {"epochs": 80, "batch_size": 16, "lr": 2e-3},
                    "images": None,
                    "side": 256,
                },
            },
        ),
        Experiment(
            name="bccd",
            title="BCCD blood smears, YOLO with ideas of other versions",
            dataset="bccd",
            chapter="08",
            arms={
                "attention": detector(CBAM),
                "control": detector(None),
                "YOLOv3": detector(None),
            },
            own_loss={"YOLOv3": tasks.yolo_v3},
            arrays=tasks.smears,
            loss=tasks.yolo_mixed,
            score=tasks.score_cells,
            monitor="map",
            augment=augment.smears,
            report=tasks.report_cells,
            cases=tasks.cases_cells,
            shown=("map50", "map"),
            profiles={
                "smoke": {
                    "size": {"width": 8, "side": 160},
                    "fit": {"epochs": 1, "batch_size": 8, "lr": 3e-3},
                    "images": 16,
                    "side": 160,
                },
                "standard": {
                    "size": {"width": 16, "side": 320},
                    "fit": {"epochs": 60, "batch_size": 8, "lr": 3e-3, "ema": 0.995},
                    "images": None,
                    "side": 320,
                },
                "full": {
                    "size": {"width": 24, "side": 640},
                    "fit": {"epochs": 200, "batch_size": 8, "lr": 2e-3, "ema": 0.998},
                    "images": None,
                    "side": 640,
                },
            },
        ),
    )
}


NAMES = {
    "auroc": "AUROC",
    "dice_anterior": "Dice anterior",
    "dice_posterior": "Dice posterior",
    "jaccard": "Jaccard",
    "dice": "Dice",
    "map50": "mAP50",
    "map": "mAP",
}
"""How the tables call a metric of the ledger."""


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
    """Train one arm with one seed, look at the test set once, and record the line of the ledger.

    Training goes on from a checkpoint in `build/checkpoints/` when an earlier call was cut off; it
    is deleted last, so that a full disk costs no training. The weights are left in
    `build/weights/`; `weights.publish` takes them from there.
    """
    experiment, profile = get(name), profile or runtime.profile()
    data = load(experiment.dataset)
    model = experiment.model(arm, seed, profile)
    settings = (profile, data.sha256, sorted(experiment.profiles[profile].items()), str(model))
    key = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    checkpoint = runtime.ROOT / "build" / "checkpoints" / f"{name}-{arm}-{seed}-{key}.safetensors"
    whole, busy = not checkpoint.exists(), time.process_time()
    fitted = experiment.fit(
        model, data, seed, profile, arm, checkpoint=checkpoint, progress=progress
    )
    if fitted.interrupted:
        raise KeyboardInterrupt
    began = time.perf_counter()
    found = experiment.report(fitted.model, data, **experiment.options(profile))
    if whole:  # of all threads
        found["core_seconds"] = round(time.process_time() - busy, 1)
    path = weights_file(name, arm, seed, profile)
    tensors = fitted.model.state_dict()
    storage.save_tensors(
        {k: v.cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}, path
    )
    line = {
        "experiment": name,
        "dataset": data.name,
        "arm": arm,
        "seed": seed,
        "profile": profile,
        "source": data.source,
        "data_sha256": data.sha256,
        "split": data.split,
        "settings": recorded_settings(experiment, arm, model, profile),
        "metrics": found | {"best_epoch": fitted.best_epoch},
        "seconds": round(fitted.seconds + time.perf_counter() - began, 1),
        "device": runtime.hardware(),
        "precision": runtime.precision()[0],
        "versions": runtime.versions(),
        "revision": runtime.revision(),
    }
    ledger.record(line)
    checkpoint.unlink(missing_ok=True)
    return line


def recorded_settings(
    experiment: Experiment, arm: str, model: nn.Module, profile: str
) -> dict[str, Any]:
    """What decided a run, for the ledger; under "arm" what only this arm has."""
    chosen = experiment.profiles[profile]
    own = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": experiment.own_loss.get(arm, experiment.loss).__name__,
    }
    return json.loads(json.dumps(chosen)) | {"arm": own}  # as it is read back: lists, no tuples


def weights_file(name: str, arm: str, seed: int, profile: str) -> Path:
    """Where a run leaves its weights on this machine."""
    return runtime.ROOT / "build" / "weights" / f"{name}-{arm}-{seed}-{profile}.safetensors"


def run_all(
    name: str, arms: list[str] | None = None, seeds: int = 5, profile: str | None = None
) -> None:
    """Record every arm with seeds 0 to `seeds - 1`; runs that stand in the ledger are not repeated.

    Raises:
        ValueError: the ledger holds runs of this experiment on other data: they would not compare;
            or the course's files were changed: nobody could repeat such a run.
    """
    experiment, profile = get(name), profile or runtime.profile()
    if runtime.revision().endswith("+") and ledger.folder() == runtime.ROOT / "results":
        raise ValueError(
            "The course's files differ from the last commit, so nobody could repeat this run. "
            "First commit your changes, or set COURSE_RESULTS to a folder of your own."
        )
    storage.try_writing(ledger.folder())
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
            shown = ", ".join(f"{k} {v:.3f}" for k, v in found["metrics"].items())
            print(f"{name} {arm} seed {seed}: {shown} ({found['seconds']:.0f} s)", flush=True)


def readme(text: str) -> str:
    """README.md with the table of results renewed from the ledger, between its two marks."""
    lines = ["| task | arm | mean ± 95% over seeds | ± 95% over test cases |", "|---|---|---|---|"]
    notes = []
    for name, experiment in EXPERIMENTS.items():
        keys = {metric: ledger.single_view(name, metric) for metric in experiment.shown}
        measured = ledger.measured(name)
        if not measured:  # the small runs of 00 and 03: results/README.md has them
            continue
        cases = "; ".join(
            f"{NAMES.get(metric, metric)} {(high - low) / 2:.3f}"
            for metric, key in keys.items()
            for low, high in [measured.get("cases", {}).get(key, (math.nan, math.nan))]
            if low == low
        )
        for arm, row in ledger.table(name, list(keys.values())).iterrows():
            found = "; ".join(f"{NAMES.get(m, m)} {row[key]}" for m, key in keys.items())
            lines.append(f"| {experiment.title} | {arm} | {found} | {cases} |")
        one = {m: f"{m}_one_view" for m, key in keys.items() if key == m}
        both = measured.get("metrics", {})
        if worth := [f"{NAMES[m]} {both[m] - both[k]:.3f}" for m, k in one.items() if k in both]:
            notes.append(
                f"{experiment.title}: these runs average the outputs for an image with those for "
                "its mirror image, published figures mostly do not. In the stored network that "
                f"adds {' and '.join(worth)}."
            )
    return _between(text, "results", [*lines, *([""] if notes else []), *notes])


def all_metrics(text: str) -> str:
    """results/README.md with its tables of all metrics and of published figures renewed."""
    lines = []
    for name in EXPERIMENTS:
        table = ledger.table(name)
        lines += [f"`{name}.jsonl`", "", "| metric | " + " | ".join(table.index) + " |"]
        lines.append("|---" * (1 + len(table)) + "|")
        lines += [f"| {key} | " + " | ".join(table[key]) + " |" for key in table]
        lines.append("")
    text = _between(text, "metrics", lines[:-1])
    lines = ["| data | system | figures | source | standing |", "|---|---|---|---|---|"]
    with (runtime.ROOT / "results" / "published.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            about = [row.pop(key) for key in ("dataset", "system", "source", "standing")]
            figures = ", ".join(f"{key} {value}" for key, value in row.items() if value)
            lines.append("| " + " | ".join([*about[:2], figures, *about[2:]]) + " |")
    return _between(text, "published", lines)


def _between(text: str, block: str, lines: list[str]) -> str:
    """The text with other lines between the two marks of a block.

    Raises:
        ValueError: a mark is missing.
    """
    begin = f"<!-- {block}: written by `course results --readme` -->\n"
    end = f"<!-- end of {block} -->"
    before, mark, rest = text.partition(begin)
    _, stop, after = rest.partition(end)
    if not mark or not stop:
        raise ValueError(f"The marks {begin!r} and {end!r} must stand in the text.")
    return before + mark + "\n".join(lines) + "\n" + end + after
