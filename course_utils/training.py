"""One training loop for every model and loss of the course, on Lightning Fabric. Taught in 00.

Chapter 00 writes the loop by hand in a dozen lines. This one adds what real runs need: the fast
number format, a learning rate that rises and falls, averaged weights, clipping, the best epoch by
validation, a stop that says why, and checkpoints from which a killed run goes on bit for bit.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from course_utils import runtime

if TYPE_CHECKING:
    import pandas as pd

Arrays = tuple[Tensor, Tensor]
"""Images (N, C, ...) and targets (N, ...), the whole set in memory; uint8 stands for x / 255."""


@dataclass(frozen=True)
class Fit:
    """What `fit` returns: the model with its best weights, and how it got there."""

    model: nn.Module  # in evaluation mode, on the device
    history: "pd.DataFrame"  # a row per epoch: lr, loss, val_loss, scores, seconds
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
    score: Callable[[Tensor, Tensor], dict[str, float]] | None = None,
    monitor: str | None = None,
    augment: Callable[[Tensor, Tensor], Arrays] | None = None,
    ema: float = 0.99,
    clip: float = 1.0,
    seed: int = 0,
    precision: str | None = None,
    checkpoint: Path | str | None = None,
    progress: bool | None = None,
    on_epoch: Callable[[list[dict]], object] | None = None,
) -> Fit:
    """Train a model; keep the weights of the epoch that validation likes best.

    AdamW (https://arxiv.org/abs/1711.05101) with a one-cycle learning rate
    (https://arxiv.org/abs/1708.07120). Validation sees the exponential moving average of the
    weights. The same seed on the same machine gives the same result.

    Args:
        model: called with floats (B, C, ...).
        loss: called with the model's outputs and targets of a batch; returns a scalar.
        train, val: images (N, C, ...) and targets (N, ...). uint8 images are scaled to [0, 1].
        epochs: passes over `train`.
        batch_size: at most so many images a step; an epoch is cut into equal batches.
        lr: the highest learning rate of the cycle.
        weight_decay: of the weight matrices; biases and norms have none.
        score: called with all validation outputs and targets; returns named numbers.
        monitor: which of them chooses the best epoch (highest wins). None, or where it is
            undefined in every epoch (AUROC of one class): the lowest validation loss.
        augment: called with images and targets of a batch on the device; returns both changed.
        ema: decay of the averaged weights per step; 0 for none.
        clip: highest norm of the gradient.
        seed: of batch order, augmentation and dropout.
        precision: of Fabric, for instance "32-true"; None: what the device does fast.
        checkpoint: a file; written at each epoch's end. If it is there, training goes on from it.
        progress: show progress; None: on where somebody is watching (see `runtime.quiet`).
        on_epoch: called after each epoch with the rows of the history so far
            (`figures.live_history` draws them).

    Raises:
        ValueError: arguments do not fit, or the checkpoint belongs to another run.
        FloatingPointError: the loss is not finite; the message names the batch.

    An interrupt (Ctrl-C, the stop button) ends training and returns the best weights so far.
    """
    import pandas as pd
    from lightning_fabric import Fabric

    _check(train, val, epochs, batch_size, score, monitor)
    where = runtime.device()
    precision = precision or runtime.precision(where)[0]
    # Fabric announces the number format on stderr; the notebooks say it in their first line.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(accelerator=where.type, devices=1, precision=precision)  # type: ignore[arg-type]
    runtime.set_seed(seed)
    order = torch.Generator().manual_seed(seed)  # of batches, and of the seeds for augmentation

    if train[0].ndim == 4:
        model = model.to(memory_format=torch.channels_last)
    x, y = (tensor.to(where) for tensor in train)
    steps = math.ceil(len(x) / batch_size)
    optimizer = torch.optim.AdamW(_groups(model, weight_decay), lr=lr)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * steps)
    wrapped, optimizer = fabric.setup(model, optimizer)
    average = _average(model, ema)
    state = _State(model, average, optimizer, cycle, order)
    plan = _Plan(
        epochs, batch_size, lr, weight_decay, ema, clip, seed, precision, monitor, len(x)
    )._asdict()
    if checkpoint is not None and Path(checkpoint).exists():
        state.load(Path(checkpoint), plan)

    bar = _Progress(epochs, steps, state.epoch, progress)
    start = time.perf_counter() - sum(row["seconds"] for row in state.history)
    interrupted = False
    try:
        while state.epoch < epochs:
            began, total = time.perf_counter(), 0.0
            rate = cycle.get_last_lr()[0]
            wrapped.train()
            batches = torch.randperm(len(x), generator=order).tensor_split(steps)
            for step, batch in enumerate(batches):
                draw = int(torch.randint(2**62, (), generator=order))
                xb, yb = as_float(x[batch.to(where)]), y[batch.to(where)]
                if augment:
                    # In a stream of its own: dropout or a gate in the model cannot shift it.
                    with torch.random.fork_rng(), torch.no_grad():
                        torch.manual_seed(draw)
                        xb, yb = augment(xb, yb)
                with fabric.autocast():
                    value = loss(wrapped(xb), yb)
                _stop_if_not_finite(value, state.epoch, step, batch, xb, rate)
                optimizer.zero_grad()
                fabric.backward(value)
                fabric.clip_gradients(wrapped, optimizer, max_norm=clip, error_if_nonfinite=False)
                optimizer.step()
                cycle.step()
                average.update_parameters(model)
                total += value.item() * len(batch)
                bar.step(state.epoch, step, value.item())
            row = {"epoch": state.epoch + 1, "lr": rate, "loss": total / len(x)}
            row |= _validate(average.module, loss, val, score)
            row["seconds"] = time.perf_counter() - began
            state.close_epoch(row, monitor)
            if checkpoint is not None:
                state.save(Path(checkpoint), plan)
            if on_epoch is not None:
                on_epoch(state.history)
    except KeyboardInterrupt:
        interrupted = True
    if not state.history and interrupted:
        state.best = _weights(average.module)  # no epoch was completed: what has been learned
    model.load_state_dict(state.best)
    seconds = time.perf_counter() - start
    bar.close(state, monitor, seconds, interrupted)
    return Fit(model.eval(), pd.DataFrame(state.history), state.best_epoch, seconds, interrupted)


def predict(model: nn.Module, x: Tensor, batch_size: int | None = None) -> Tensor:
    """Outputs of a model on many images, in evaluation mode, without gradients, on the CPU.

    Args:
        model: its mode (training or evaluation) is restored afterwards.
        x: (N, C, ...); uint8 stands for x / 255.
        batch_size: None for as many images as have 400 000 pixels together. Features then stay in
            the cache of a CPU, which takes a third less time than larger batches do.
    """
    batch_size = batch_size or max(400_000 // x.shape[2:].numel(), 1)
    where = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            found = [model(as_float(part.to(where))).float().cpu() for part in x.split(batch_size)]
    finally:
        model.train(training)
    return torch.cat(found)


def as_float(x: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]; half precision as float32; others as they are."""
    if x.dtype == torch.uint8:
        return x.float() / 255
    return x.float() if x.dtype == torch.float16 else x


def _check(train: Arrays, val: Arrays, epochs: int, batch_size: int, score, monitor) -> None:
    for name, (x, y) in (("train", train), ("val", val)):
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(
                f"{name} holds {len(x)} images and {len(y)} targets. "
                "Expected as many targets as images, and at least one."
            )
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs={epochs}, batch_size={batch_size}: expected at least 1 for both.")
    if monitor and not score:
        raise ValueError(f"monitor={monitor!r} needs `score`, the function that computes it.")


def _groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay for matrices and kernels only: it would pull norms and biases to zero."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _average(model: nn.Module, decay: float):
    """Exponential moving average of weights and norm statistics.

    The decay warms up as min(decay, (1 + n) / (10 + n)), so that short runs forget their start.
    """
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    def blend(averaged, current, count):
        get_ema_multi_avg_fn(min(decay, (1 + int(count)) / (10 + int(count))))(
            averaged, current, count
        )

    return AveragedModel(model, multi_avg_fn=blend, use_buffers=True)


def _stop_if_not_finite(
    value: Tensor, epoch: int, step: int, batch: Tensor, x: Tensor, rate
) -> None:
    if torch.isfinite(value):
        return
    where = "finite" if bool(torch.isfinite(x).all()) else "NOT finite: mend the data first"
    shown = ", ".join(str(i) for i in batch[:8].tolist())
    raise FloatingPointError(
        f"The loss is {value.item()} in epoch {epoch + 1}, batch {step + 1} (training images "
        f"{shown}{', ...' if len(batch) > 8 else ''}). Its images are {where}. "
        f"The learning rate was {rate:.2g}: try a tenth of it, or precision='32-true'."
    )


def _validate(model: nn.Module, loss, val: Arrays, score) -> dict[str, float]:
    outputs = predict(model, val[0])
    targets = val[1].cpu()
    # In the loss functions class weights may lie on the device of the model.
    where = next(model.parameters()).device
    row = {"val_loss": float(loss(outputs.to(where), targets.to(where)))}
    return row | (score(outputs, targets) if score else {})


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


class _Plan(NamedTuple):
    """What two runs must have in common for one to go on where the other stopped."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    ema: float
    clip: float
    seed: int
    precision: str
    monitor: str | None
    images: int


class _State:
    """All that a run needs to go on: weights, their average, optimiser, cycle, randomness."""

    def __init__(self, model, average, optimizer, cycle, order):
        self.model, self.average = model, average
        self.optimizer, self.cycle, self.order = optimizer, cycle, order
        self.epoch, self.best_epoch = 0, 0
        self.history: list[dict] = []
        self.best = _weights(model)

    def close_epoch(self, row: dict, monitor: str | None) -> None:
        """Add a row to the history; keep the weights if no earlier epoch was better."""
        self.history.append(row)
        self.epoch += 1
        # A score can be undefined (AUROC of a single class): then it never wins.
        marks = [r[monitor] if monitor else math.nan for r in self.history]
        if all(math.isnan(mark) for mark in marks):
            marks = [-r["val_loss"] for r in self.history]
        marks = [-math.inf if math.isnan(mark) else mark for mark in marks]
        if self.best_epoch == 0 or marks[-1] > marks[self.best_epoch - 1]:
            self.best_epoch = self.epoch
            self.best = _weights(self.average.module)

    def save(self, path: Path, plan: dict) -> None:
        """One safetensors file, whose header holds the numbers as JSON; replaced in one step."""
        from safetensors.torch import save_file

        tensors = {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.state_dict().items()}
        optimizer = self.optimizer.state_dict()
        for index, moments in optimizer["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in moments.items()}
        tensors["random.order"] = self.order.get_state()
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        numbers = {
            "plan": plan,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "history": self.history,
            "cycle": {k: v for k, v in self.cycle.state_dict().items() if _is_plain(v)},
            "groups": optimizer["param_groups"],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        # Clones: safetensors refuses memory that is shared or not contiguous (channels-last).
        plain = {
            name: t.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)
            for name, t in tensors.items()
        }
        part = path.with_name(path.name + ".part")
        save_file(plain, part, metadata={"run": json.dumps(numbers)})
        part.replace(path)

    def load(self, path: Path, plan: dict) -> None:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            numbers = json.loads((file.metadata() or {}).get("run", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        old = numbers.get("plan", {})
        if old != plan:
            differ = [
                f"{k}: {old.get(k)!r} there, {plan[k]!r} here"
                for k in plan
                if old.get(k) != plan[k]
            ]
            raise ValueError(
                f"The checkpoint {path.name} belongs to another run ({'; '.join(differ)}). "
                "Delete it, or name another file."
            )

        def part(prefix: str) -> dict[str, Tensor]:
            cut = len(prefix) + 1
            return {k[cut:]: v for k, v in tensors.items() if k.startswith(prefix + ".")}

        self.model.load_state_dict(part("model"))
        self.average.load_state_dict(part("average"))
        where = next(self.model.parameters()).device
        self.best = {name: tensor.to(where) for name, tensor in part("best").items()}
        self._load_optimizer(part("optimizer"), numbers["groups"])
        self.cycle.__dict__.update(numbers["cycle"])
        self.order.set_state(tensors["random.order"])
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        self.epoch, self.best_epoch = numbers["epoch"], numbers["best_epoch"]
        self.history = numbers["history"]

    def _load_optimizer(self, moments: dict[str, Tensor], groups: list[dict]) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in moments.items():
            index, key = name.split(".", 1)
            like = parameters[int(index)]
            if tensor.shape == like.shape:
                # In the memory layout of the weight, else sums are rounded in another order.
                tensor = torch.empty_like(like).copy_(tensor)
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _is_plain(value) -> bool:
    """True for what JSON keeps: the scheduler's state holds functions beside its numbers."""
    return isinstance(value, int | float | str | list | type(None))


class _Progress:
    """One line that says where training stands: updated in place, never a bar in stored outputs."""

    def __init__(self, epochs: int, steps: int, done: int, show: bool | None):
        self.epochs, self.steps, self.done = epochs, steps, done
        self.show = (not runtime.quiet()) if show is None else show
        self.began = self.drawn = time.perf_counter()
        self.handle = None

    def step(self, epoch: int, step: int, loss: float) -> None:
        now = time.perf_counter()
        if not self.show or now - self.drawn < 0.5:
            return
        self.drawn = now
        steps = (epoch - self.done) * self.steps + step + 1
        left = (now - self.began) / steps * ((self.epochs - self.done) * self.steps - steps)
        estimate = f", about {left:.0f} s left" if steps >= 10 else ""  # the first ones are slow
        self._write(
            f"epoch {epoch + 1}/{self.epochs}, batch {step + 1}/{self.steps}: loss {loss:.3f}, "
            f"{now - self.began:.0f} s gone{estimate}"
        )

    def close(self, state: _State, monitor: str | None, seconds: float, interrupted: bool) -> None:
        if not self.show:
            return
        text = f"{state.epoch} of {self.epochs} epochs in {seconds:.0f} s"
        if state.best_epoch:
            name = monitor or "val_loss"
            best = state.history[state.best_epoch - 1][name]
            text += f", best: epoch {state.best_epoch} ({name} {best:.3f})"
        self._write(text + (", interrupted" if interrupted else ""))
        if self.handle is None:
            print(flush=True)

    def _write(self, text: str) -> None:
        if runtime.in_notebook():
            from IPython.display import display

            content = {"text/plain": text}
            if self.handle is None:
                self.handle = display(content, raw=True, display_id=True)
            else:
                self.handle.update(content, raw=True)
        else:
            print(f"\r{text:<90}", end="", flush=True)
