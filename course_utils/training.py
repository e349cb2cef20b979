"""One training loop for every model and loss of the course, on Lightning Fabric. Taught in 00.

Chapter 00 writes the loop by hand in a dozen lines. This one adds what real runs need: the fast
number format, a learning rate that rises and falls, averaged weights, clipping, the best epoch by
validation, a stop that says why, and checkpoints from which a killed run goes on bit for bit.
"""

import copy
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import AdamW, lr_scheduler

from course_utils import fingerprint, runtime, storage
from course_utils.datasets.forms import digest
from course_utils.metrics import expect_tensors

Arrays = tuple[Tensor, Tensor]
"""Images (N, C, ...) and targets (N, ...), the whole set in memory; uint8 stands for x / 255."""

Score = Callable[[Tensor, Tensor], dict[str, float]]
"""Outputs and targets to named numbers."""


@dataclass(frozen=True)
class Fit:
    """What `fit` returns: the model with its best weights, and how it got there."""

    model: nn.Module  # in evaluation mode, on the device
    history: pd.DataFrame  # a row per finished epoch: lr, loss, val_loss, scores, seconds
    best_epoch: int  # counted from 1; 0 when no epoch was completed
    seconds: float
    interrupted: bool


def fit(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    train: Arrays,
    val: Arrays,
    *,
    epochs: int,
    batch_size: int = 128,
    lr: float = 2e-3,
    weight_decay: float = 0.05,
    score: Score | None = None,
    monitor: str | None = None,
    augment: Callable[[Tensor, Tensor], Arrays] | None = None,
    ema: float = 0.99,
    seed: int = 0,
    precision: str | None = None,
    checkpoint: Path | str | None = None,
    on_epoch: Callable[[list[dict]], object] | None = None,
) -> Fit:
    """Train a model; keep the weights of the epoch that validation likes best.

    AdamW (https://arxiv.org/abs/1711.05101) with a one-cycle learning rate
    (https://arxiv.org/abs/1708.07120), and gradients clipped to a norm of 1. Validation sees the
    exponential moving average of the weights. The same seed on the same machine with as many
    threads gives the same result, bit for bit; `runtime.share_cores` says when the number of
    threads changes. Where somebody is watching (see `runtime.quiet`) a bar shows how far it is.

    Args:
        model: called with floats (B, C, ...). One that an earlier `fit` has trained is trained on,
            and a line says so: the seed decides about a run only from a fresh start.
        loss: called with the model's outputs and targets of a batch; returns a scalar.
        train, val: images (N, C, ...) and targets (N, ...). uint8 images are scaled to [0, 1];
            floats become float32.
        epochs: passes over `train`.
        batch_size: at most so many images a step; an epoch is cut into equal batches.
        lr: the highest learning rate of the cycle.
        weight_decay: of the weight matrices; biases and norms have none.
        score: called with all validation outputs and targets; returns named numbers.
        monitor: which of them chooses the best epoch (highest wins). None, or where it is
            undefined in every epoch (AUROC of one class): the lowest validation loss. "epoch": no
            choice, the last one.
        augment: called with images and targets of a batch on the device; returns both changed.
        ema: decay of the averaged weights per step; 0 for none.
        seed: of batch order, augmentation and dropout.
        precision: of Fabric, for instance "32-true"; None: what the device does fast.
        checkpoint: a file; written at each epoch's end. If it is there, training goes on from it,
            provided that arguments, arrays, functions and the fresh network are the same: where
            they are your own, their code as well. "~" is your home.
        on_epoch: called after each epoch with the rows of the history so far
            (`figures.live_history` draws them).

    Raises:
        ValueError: arguments do not fit, the checkpoint belongs to another run, or, after the first
            epoch, `score` gives no number called `monitor`.
        FloatingPointError: the loss is not finite (the message names the batch), or an image, an
            output or the loss of validation is not.

    An interrupt (Ctrl-C, the stop button) ends training and returns the best weights so far; in the
    first epoch those of the steps made, with an empty history.
    """
    from tqdm.auto import tqdm

    train, val = _checked("train", train), _checked("val", val)
    _check(val, epochs, batch_size, score, monitor)
    if augment and hasattr(augment, "check"):
        augment.check(train[0])  # see `augment`: the range of values, once
    where = runtime.device()
    precision = precision or runtime.precision(where)[0]
    fabric = _fabric(where.type, precision)
    runtime.set_seed(seed)
    order = torch.Generator().manual_seed(seed)  # of batches, and of the seeds for augmentation

    if train[0].ndim == 4:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
    x, y = (tensor.to(where) for tensor in train)
    steps = math.ceil(len(x) / batch_size)
    total = epochs * steps
    # Fused, it can skip a step in fp16 that overflows without asking the GPU whether it did.
    optimizer = AdamW(_groups(model, weight_decay), lr=lr, fused=where.type == "cuda" or None)
    cycle = lr_scheduler.OneCycleLR(optimizer, lr, total_steps=total)
    wrapped, stepper = fabric.setup(model, optimizer)
    state = _State(model, optimizer, order, fabric.strategy.precision)
    # What two runs must have in common for one to go on where the other stopped.
    plan: dict[str, Any] = dict(epochs=epochs, batch_size=batch_size, lr=lr, ema=ema, seed=seed)
    plan |= dict(weight_decay=weight_decay, precision=precision, monitor=monitor, images=len(x))
    if checkpoint is not None:
        checkpoint = Path(checkpoint).expanduser()
        plan |= _identity(model, state.tensors(), *train, *val)
        functions = dict(loss=loss, score=score, augment=augment)
        plan |= {name: fingerprint.named(function, model) for name, function in functions.items()}
        if checkpoint.exists():
            state.load(checkpoint, plan)
    done = state.epoch * steps
    for _ in range(done):
        cycle.step()
    if not done and _trained(model):
        print(
            "This model has been trained before: it goes on from its weights, so this seed gives "
            "another run than a fresh start. For that, build the model again in the training cell."
        )

    quiet = runtime.quiet()
    bar = tqdm(
        initial=done, total=total, mininterval=0.5, leave=False, disable=quiet, file=sys.stdout
    )
    start = time.perf_counter() - sum(row["seconds"] for row in state.history)
    epoch: _Epoch | None = None  # an interrupt may come before the first one
    with bar, suppress(KeyboardInterrupt):
        while state.epoch < epochs:
            began = time.perf_counter()
            rate = float(cycle.get_last_lr()[0])
            epoch = _Epoch(state.epoch, x, y, steps, order, augment, rate)
            bar.set_description(f"epoch {state.epoch + 1}/{epochs}", refresh=False)
            wrapped.train()
            for step in range(steps):
                if where.type == "cpu":
                    runtime.share_cores()
                xb, yb = epoch.batch(step)
                with fabric.autocast():
                    value = loss(wrapped(xb), yb)
                epoch.losses.append(value.detach())
                stepper.zero_grad()
                fabric.backward(value)
                if scaler := getattr(fabric.strategy.precision, "scaler", None):  # fp16
                    scaler.unscale_(optimizer)  # Fabric's own clipping refuses a fused one
                nn.utils.clip_grad_norm_(fabric.strategy.precision.main_params(optimizer), 1.0)
                stepper.step()
                cycle.step()
                _blend(state.average, model, ema, state.epoch * steps + step)
                model._trained_by_fit = True  # type: ignore[assignment]
                if bar.update():  # it has been drawn: at most twice a second
                    bar.set_postfix(loss=f"{epoch.checked_losses()[-1]:.3f}", refresh=False)
            row = {"epoch": state.epoch + 1, "lr": rate, "loss": epoch.mean_loss()}
            row |= _validate(state.average, loss, val, score, monitor, state.epoch)
            row["seconds"] = time.perf_counter() - began
            state.close_epoch(row, monitor)
            if checkpoint is not None:
                state.save(checkpoint, plan)
            if on_epoch is not None:
                on_epoch(state.history)
    seconds, interrupted = time.perf_counter() - start, state.epoch < epochs
    history = pd.DataFrame(state.history)
    if not state.history:  # no epoch was completed: what has been learned, and an empty table
        if epoch and epoch.losses:
            epoch.checked_losses()
        state.best = state.average.state_dict()
        scores: dict[str, float] = {}
        with suppress(Exception):  # a few cases give the names of its columns, or there are none
            if score:
                scores = score(predict(state.average, val[0][:8]), val[1][:8].cpu())
        history = pd.DataFrame(columns=["epoch", "lr", "loss", "val_loss", *scores, "seconds"])
    model.load_state_dict(state.best)
    if not quiet:
        said = f"{state.epoch or 'none'} of {epochs} epochs in {seconds:.0f} s"
        best = f", best: epoch {state.best_epoch}" if state.best_epoch else ""
        print(said + best + ", interrupted" * interrupted, flush=True)
    return Fit(model.eval(), history, state.best_epoch, seconds, interrupted)


def predict(model: nn.Module, x: Tensor, batch_size: int | None = None) -> Tensor:
    """Outputs of a model on many images, in evaluation mode, without gradients, on the CPU.

    Args:
        model: its mode (training or evaluation) is restored afterwards.
        x: (N, C, ...); uint8 stands for x / 255.
        batch_size: None for as many images as have 400 000 pixels together. Features then stay in
            the cache of a CPU, which takes a third less time than larger batches do.
    """
    check_images(x)
    batch_size = batch_size or max(400_000 // x.shape[2:].numel(), 1)
    where = next(model.parameters()).device
    found = []
    with evaluating(model):
        for part in x.split(batch_size):
            if where.type == "cpu":
                runtime.share_cores()
            found.append(model(as_float(part.to(where))).float().cpu())
    outputs = torch.cat(found)
    if wrong := _not_finite(outputs):
        raise FloatingPointError(
            f"The outputs for {len(wrong)} of {len(outputs)} images, the first of them image "
            f"{wrong[0]}, are not finite. If these images are, weights are NaN or far too large: "
            "build the network again and try a tenth of the learning rate, or precision='32-true'."
        )
    return outputs


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each part of the model is in its own again."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def as_float(x: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]; floats of any precision as float32.

    Raises:
        ValueError: other images: their scale is not known.
    """
    if x.dtype == torch.uint8:
        return x.float() / 255
    if not x.is_floating_point():
        raise ValueError(
            f"The images are {x.dtype}. Expected uint8 or floats: x.to(torch.uint8) or x.float()."
        )
    return x.float()


def check_images(x: Tensor) -> None:
    """Refuse images whose scale is not known or not the network's; the first 64 are looked at.

    Raises:
        ValueError: no tensor, whole numbers other than uint8, uint8 of 0 and 1, or floats beyond
            100 on either side.
    """
    expect_tensors("images", x)
    as_float(x[:1])  # refuses other types
    least, most = (value.item() for value in (x[:64] if len(x) else torch.zeros(1)).aminmax())
    wrong = most == 1 if x.dtype == torch.uint8 else max(-least, most) > 100
    if wrong:
        raise ValueError(
            f"The images are {x.dtype}, from {least:.4g} to {most:.4g}. Expected uint8 up to 255, "
            "or floats near 0 to 1: divide by the highest value of a pixel (say 255), or normalise."
        )


def _fabric(accelerator: str, precision: Any) -> Any:
    """Fabric, which knows devices and number formats, without words that say nothing here."""
    from lightning_fabric import Fabric

    # It announces the number format on stderr; the notebooks say it in their first line.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # In fp16 the first steps may be skipped on purpose, until the gradients are scaled to fit.
    warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step\(\)` before")
    return Fabric(accelerator=accelerator, devices=1, precision=precision)


def _checked(name: str, arrays: Arrays) -> Arrays:
    """Both tensors, in a type that the loop can use."""
    if not isinstance(arrays, tuple | list) or len(arrays) != 2:
        raise ValueError(
            f"{name} is a {type(arrays).__name__}. Expected images and targets, (split.x, split.y)."
        )
    expect_tensors(f"images and targets of {name}", *arrays)
    x, y = arrays
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(
            f"{name} holds {len(x)} images and {len(y)} targets. Expected as many, one at least."
        )
    check_images(x)
    x, y = (t.float() if t.dtype in (torch.float64, torch.bfloat16) else t for t in (x, y))
    return x, y


def _check(val: Arrays, epochs: int, batch_size: int, score: Any, monitor: str | None) -> None:
    if wrong := _not_finite(val[0]):
        raise FloatingPointError(
            f"{len(wrong)} of {len(val[0])} validation images are NOT finite, the first of them "
            f"image {wrong[0]}: mend the data first."
        )
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs={epochs}, batch_size={batch_size}: expected at least 1 for both.")
    if monitor not in (None, "epoch") and not score:
        raise ValueError(f"monitor={monitor!r} needs `score`, the function that computes it.")


def _not_finite(rows: Tensor) -> list[int]:
    return (~torch.isfinite(rows)).unsqueeze(-1).flatten(1).any(1).nonzero()[:, 0].tolist()


def _groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay for matrices and kernels only: it would pull norms and biases to zero."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def _blend(average: nn.Module, model: nn.Module, decay: float, count: int) -> None:
    """One step of the exponential moving average of weights and norm statistics.

    The decay warms up as min(decay, (1 + n) / (10 + n)), so that short runs forget their start.
    PyTorch's `AveragedModel` has no warm-up, and reads n from the device in every step.
    """
    decay = min(decay, (1 + count) / (10 + count)) if count else 0.0
    ours, theirs = ([*m.parameters(), *m.buffers()] for m in (average, model))
    pairs = list(zip(ours, theirs, strict=True))
    weights = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_([a for a, _ in weights], [b for _, b in weights], 1 - decay)
    for mean, value in pairs:
        if not mean.is_floating_point():  # numbers of batches
            mean.copy_(mean * decay + value * (1 - decay))


class _Epoch:
    """The batches of an epoch, and their losses, which stay on the device until someone looks.

    To read a number from a GPU is to wait until all that was asked of it is done, and then it is
    idle until the next step has been prepared. So the loop reads none, but to show progress.
    """

    def __init__(
        self, number: int, x: Tensor, y: Tensor, steps: int, order: Any, augment: Any, rate: float
    ):
        self.number, self.x, self.y, self.augment, self.rate = number, x, y, augment, rate
        chosen = torch.randperm(len(x), generator=order)
        self.batches = chosen.to(x.device).tensor_split(steps)
        self.draws = [int(torch.randint(2**62, (), generator=order)) for _ in range(steps)]
        self.losses: list[Tensor] = []

    def batch(self, step: int) -> Arrays:
        """Images and targets of a step, the same however often one asks."""
        chosen = self.batches[step]
        x, y = as_float(self.x[chosen]), self.y[chosen]
        if self.augment is None:
            return x, y
        # In a stream of its own: dropout or a gate in the model cannot shift it.
        streams = [] if x.device.type == "cpu" else [x.device]
        with torch.random.fork_rng(streams), torch.no_grad():
            torch.manual_seed(self.draws[step])
            return self.augment(x, y)

    def checked_losses(self) -> list[float]:
        """The losses so far, read from the device.

        Raises:
            FloatingPointError: one is not finite; the message names the first.
        """
        found = torch.stack(self.losses).flatten().tolist()
        step = next((i for i, value in enumerate(found) if not math.isfinite(value)), None)
        if step is None:
            return found
        batch, (x, _) = self.batches[step], self.batch(step)
        where = "finite" if bool(torch.isfinite(x).all()) else "NOT finite: mend the data first"
        raise FloatingPointError(
            f"The loss is {found[step]} in epoch {self.number + 1}, batch {step + 1}, which begins "
            f"with the training images {batch[:8].tolist()}. Its images are {where}. The learning "
            f"rate was {self.rate:.2g}: try a tenth of it, or precision='32-true'."
        )

    def mean_loss(self) -> float:
        found = self.checked_losses()
        return sum(v * len(b) for v, b in zip(found, self.batches, strict=True)) / len(self.x)


def _trained(model: nn.Module) -> bool:
    """Whether a `fit` has marked it: the mark goes with copies, and not with weights alone."""
    return any(getattr(part, "_trained_by_fit", False) for part in model.modules())


def _identity(model: nn.Module, tensors: dict[str, Tensor], *data: Tensor) -> dict[str, str]:
    """What a checkpoint was trained on and with, in short: names, and the start of a digest."""
    arrays = zip(("x", "y", "val x", "val y"), data, strict=True)
    shapes = [(name, tuple(tensor.shape)) for name, tensor in tensors.items()]
    found = {
        "data": digest((name, array.detach().cpu()) for name, array in arrays)[:12],
        "model": f"{type(model).__name__} {fingerprint.short(shapes, fingerprint.settings(model))}",
    }
    if not _trained(model):  # one that was stopped in this notebook has other weights by now
        found["weights"] = fingerprint.short(model.state_dict())
    return found


def _validate(
    model: nn.Module, loss: Any, val: Arrays, score: Score | None, monitor: str | None, epoch: int
) -> dict[str, float]:
    outputs = predict(model, val[0])
    targets = val[1].cpu()
    # In the loss functions class weights may lie on the device of the model.
    where = next(model.parameters()).device
    value = float(loss(outputs.to(where), targets.to(where)))
    if not math.isfinite(value):
        raise FloatingPointError(
            f"The validation loss is {value} after epoch {epoch + 1}, of finite outputs: look at "
            "the validation targets, and at the loss for a logarithm or a division."
        )
    found = score(outputs, targets) if score else {}
    if monitor not in (None, "epoch", *found):
        raise ValueError(
            f"monitor={monitor!r} is no number that `score` gives. Expected one of: "
            f"{', '.join(found) or 'none'}; None chooses by the lowest validation loss."
        )
    return {"val_loss": value} | found


class _State:
    """All that a run needs to go on: weights, their average, optimiser, randomness."""

    def __init__(self, model: nn.Module, optimizer: AdamW, order: torch.Generator, scaling: Any):
        self.model, self.average = model, copy.deepcopy(model)
        self.best = copy.deepcopy(model.state_dict())
        self.moments: dict[str, dict[str, Tensor]] = {}
        for group in optimizer.param_groups:
            for p in group["params"]:
                # As AdamW begins, but before the first step: a checkpoint is copied into them.
                first, second = torch.zeros_like(p), torch.zeros_like(p)
                step = torch.zeros((), device=p.device if optimizer.defaults["fused"] else None)
                moments = {"step": step, "exp_avg": first, "exp_avg_sq": second}
                optimizer.state[p] = self.moments[f"optimizer.{len(self.moments)}"] = moments
        self.streams = {"order": order, "cpu": torch.default_generator}
        if torch.cuda.is_available():
            self.streams["cuda"] = torch.cuda.default_generators[torch.cuda.current_device()]
        self.scaling = scaling  # of fp16
        self.epoch, self.best_epoch = 0, 0
        self.history: list[dict] = []

    def close_epoch(self, row: dict, monitor: str | None) -> None:
        """Add a row to the history; keep the weights if no earlier epoch was better."""
        self.history.append(row)
        self.epoch += 1
        # A score can be undefined (AUROC of a single class): then it never wins. Of "epoch", a
        # column like the scores, the last is always the highest.
        marks = [r[monitor] if monitor else math.nan for r in self.history]
        if all(math.isnan(mark) for mark in marks):
            marks = [-r["val_loss"] for r in self.history]
        if int(np.nanargmax(marks)) == self.epoch - 1:
            self.best_epoch, self.best = self.epoch, copy.deepcopy(self.average.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, by name: the tensors themselves, no copies."""
        parts = {"best": self.best, "model": self.model.state_dict()}
        parts |= {"average": self.average.state_dict(), **self.moments}
        return {f"{part}.{k}": tensor for part, held in parts.items() for k, tensor in held.items()}

    def save(self, path: Path, plan: dict[str, Any]) -> None:
        """One safetensors file, whose header holds the numbers as JSON; replaced in one step."""
        states = {f"random.{name}": stream.get_state() for name, stream in self.streams.items()}
        numbers = {"plan": plan, "epoch": self.epoch, "best_epoch": self.best_epoch}
        numbers |= {"history": self.history, "scaling": self.scaling.state_dict()}
        storage.save_tensors(self.tensors() | states, path, {"run": json.dumps(numbers)})

    def load(self, path: Path, plan: dict[str, Any]) -> None:
        """Go on from a checkpoint; a damaged one is said and set aside, and training begins."""
        try:
            tensors, metadata = storage.load_tensors(path, "")
            numbers = dict(json.loads(metadata.get("run", "{}")))
        except (TypeError, ValueError):  # cut while it was copied, or by a disk that was full
            aside = storage.set_aside(path).name
            print(f"{path.name} is damaged: training begins again. The file is kept as {aside}.")
            return
        old = {k: numbers.get("plan", {}).get(k) for k in plan}
        differ = [f"{k}: {old[k]!r} there, {v!r} here" for k, v in plan.items() if old[k] != v]
        if differ:
            raise ValueError(
                f"{path.name} belongs to another run ({'; '.join(differ)}). Delete or rename it."
            )
        with torch.no_grad():  # in place: the memory layout decides in which order sums are rounded
            for name, tensor in self.tensors().items():
                tensor.copy_(tensors[name])
        for name, stream in self.streams.items():
            if f"random.{name}" in tensors:
                stream.set_state(tensors[f"random.{name}"])
        self.scaling.load_state_dict(numbers["scaling"])
        self.epoch, self.best_epoch = numbers["epoch"], numbers["best_epoch"]
        self.history = numbers["history"]
