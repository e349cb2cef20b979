"""The training loop: the same seed, the same result; killed runs go on; mistakes are named."""

import copy
import json
import logging
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

from course_utils import experiments, figures, ledger, metrics, runtime, training
from course_utils.tasks import pneumonia
from course_utils.training import fit, predict


def blobs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images (n, 2, 8, 8); those of class 1 are brighter in one corner."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    x = torch.randint(0, 120, (n, 2, 8, 8), generator=generator)
    x[y == 1, :, :3, :3] += 60
    return x.to(torch.uint8), y


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, bias=False),  # with one channel, channels-last would be contiguous
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 1),
    )


def bce(logits, labels):
    return F.binary_cross_entropy_with_logits(logits[:, 0], labels.float())


def score(logits, labels):
    return {"auroc": metrics.auroc(logits[:, 0], labels)}


def jitter(x, y):
    return x + 0.05 * torch.randn_like(x), y


def train(**changes):
    arguments = {"epochs": 3, "batch_size": 16, "lr": 1e-2, "augment": jitter, "score": score}
    arguments |= {"monitor": "auroc", "precision": "32-true"} | changes
    return fit(network(), bce, blobs(70, 0), blobs(40, 1), **arguments)


def test_each_epoch_is_told_and_the_telling_changes_nothing():
    told = []
    fitted = train(on_epoch=lambda rows: told.append([row["epoch"] for row in rows]))
    assert told == [[1], [1, 2], [1, 2, 3]]
    columns = ["loss", "val_loss", "auroc"]
    pd.testing.assert_frame_equal(fitted.history[columns], train().history[columns])


def test_it_learns_and_reports_each_epoch():
    fitted = train(epochs=8)
    assert fitted.history["auroc"].iloc[-1] > 0.95
    assert fitted.history["loss"].iloc[-1] < fitted.history["loss"].iloc[0]
    assert list(fitted.history["epoch"]) == list(range(1, 9))
    assert not fitted.model.training


def test_same_seed_same_weights_other_seed_other_weights():
    first, again, other = train(seed=3), train(seed=3), train(seed=4)
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    assert not torch.equal(first.model[0].weight, other.model[0].weight)
    columns = ["epoch", "lr", "loss", "val_loss", "auroc"]
    assert first.history[columns].equals(again.history[columns])


def test_the_returned_weights_are_those_of_the_best_epoch_on_validation():
    marks = iter([0.2, 0.9, 0.5, 0.4])
    kept = []

    def scripted(outputs, labels):
        kept.append(outputs)
        return {"mark": next(marks)}

    fitted = train(epochs=4, score=scripted, monitor="mark")
    assert fitted.best_epoch == 2
    outputs = predict(fitted.model, blobs(40, 1)[0])
    torch.testing.assert_close(outputs, kept[1], rtol=0, atol=0)
    assert not torch.equal(outputs, kept[3])


def test_the_epoch_as_monitor_keeps_the_last():
    marks = iter([3.0, 2.0, 1.0])
    fitted = train(epochs=3, score=lambda o, y: {"mark": next(marks)}, monitor="epoch")
    assert fitted.best_epoch == 3
    assert train(epochs=2, score=None, monitor="epoch").best_epoch == 2


def test_without_a_monitor_the_lowest_validation_loss_wins():
    fitted = train(epochs=5, monitor=None)
    assert fitted.best_epoch == int(fitted.history["val_loss"].argmin()) + 1


def test_an_undefined_score_never_wins():
    marks = iter([float("nan"), 0.1, float("nan")])
    fitted = train(score=lambda o, y: {"mark": next(marks)}, monitor="mark")
    assert fitted.best_epoch == 2


def test_every_image_once_an_epoch_in_nearly_equal_batches():
    seen = []

    def watch(x, y):
        seen.append(x)
        return x, y

    x, y = blobs(70, 0)
    x[:, 0, 0, 0] = torch.arange(70, dtype=torch.uint8)
    fit(network(), bce, (x, y), blobs(20, 1), epochs=1, batch_size=16, augment=watch)
    sizes = [len(batch) for batch in seen]
    assert sum(sizes) == 70 and max(sizes) <= 16 and max(sizes) - min(sizes) <= 1
    marks = (torch.cat(seen)[:, 0, 0, 0] * 255).round().long()
    assert sorted(marks.tolist()) == list(range(70))
    assert torch.cat(seen).max() <= 1


def test_what_the_model_draws_does_not_shift_batches_or_augmentation():
    """The ground of the matched control: both arms see the same images, changed the same way."""

    def watched(model):
        seen = []

        def watch(x, y):
            x, y = jitter(x, y)
            seen.append(x)
            return x, y

        fit(model, bce, blobs(64, 0), blobs(20, 1), epochs=2, batch_size=16, augment=watch)
        return torch.cat(seen)

    greedy = network()
    greedy[3] = nn.Dropout(0.5)  # draws more numbers a step
    plain = network()
    plain[3] = nn.Identity()  # draws none
    assert torch.equal(watched(greedy), watched(plain))


def test_an_interrupt_returns_what_has_been_learned():
    calls = []

    def stop_in_third_epoch(x, y):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return jitter(x, y)

    fitted = train(epochs=9, augment=stop_in_third_epoch)
    assert fitted.interrupted and len(fitted.history) == 2 and fitted.best_epoch in (1, 2)
    whole = train(epochs=9, augment=jitter)
    assert fitted.history["loss"].tolist() == whole.history["loss"][:2].tolist()


def test_an_interrupt_in_the_first_epoch_keeps_the_steps_made():
    calls = []

    def stop_in_first_epoch(x, y):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return x, y

    fitted = train(augment=stop_in_first_epoch)
    assert fitted.interrupted and fitted.best_epoch == 0 and len(fitted.history) == 0
    assert not torch.equal(fitted.model[0].weight, network()[0].weight)
    scored = []

    def score(outputs, targets):
        scored.append(len(outputs))
        return {"rate": 0.0}

    calls.clear()
    fitted = train(augment=stop_in_first_epoch, score=score, monitor="rate")
    assert "rate" in fitted.history and scored == [8], "a few cases name the columns"

    def broken(outputs, targets):
        raise ZeroDivisionError

    calls.clear()
    fitted = train(augment=stop_in_first_epoch, score=broken, monitor="rate")
    assert fitted.interrupted and list(fitted.history)[-2:] == ["val_loss", "seconds"]


def test_an_interrupt_before_the_first_step_returns_the_model_as_it_was(monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_Epoch", stopped)
    fitted = train()
    assert fitted.interrupted and fitted.best_epoch == 0 and len(fitted.history) == 0
    assert torch.equal(fitted.model[0].weight, network()[0].weight)


def test_a_loss_that_is_not_finite_stops_and_names_the_batch():
    x, y = blobs(48, 0)
    x = x.float()
    x[37] = float("nan")
    with pytest.raises(FloatingPointError, match=r"epoch 1, batch \d.*NOT finite") as caught:
        fit(network(), bce, (x, y), blobs(20, 1), epochs=1, batch_size=48)
    assert "training images" in str(caught.value)

    def diverges(logits, labels):
        return bce(logits, labels) * torch.tensor(float("inf"))

    with pytest.raises(FloatingPointError, match=r"images are finite.*learning rate"):
        fit(network(), diverges, blobs(48, 0), blobs(20, 1), epochs=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "expected at least 1"),
        ({"batch_size": 0}, "expected at least 1"),
        ({"monitor": "auroc", "score": None}, "needs `score`"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        train(**changes)


def test_images_and_targets_of_different_length_are_refused():
    x, y = blobs(10, 0)
    with pytest.raises(ValueError, match="10 images and 9 targets"):
        fit(network(), bce, (x, y[:9]), (x, y), epochs=1)


# Wrong results that would come without a word ----------------------------------------------------


def test_validation_images_that_are_not_finite_are_named_before_training():
    x, y = blobs(20, 1)
    x = x.float()
    x[7, 1, 3, 3] = float("nan")
    calls = []
    with pytest.raises(
        FloatingPointError, match=r"1 of 20 validation images are NOT finite.*image 7"
    ):
        fit(network(), bce, blobs(48, 0), (x, y), epochs=1, augment=lambda *a: calls.append(a) or a)
    assert not calls


def test_weights_that_become_nan_in_the_last_step_are_said():
    model = network()
    # The loss of the step is finite still: the weights are spoiled on the way back.
    model[6].weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FloatingPointError, match=r"The outputs for 20 of 20 .*weights"):
        fit(model, bce, blobs(16, 0), blobs(20, 1), epochs=1, batch_size=16)


def test_a_validation_loss_that_is_not_finite_is_said():
    x, y = blobs(20, 1)
    y = y.float()
    y[3] = float("nan")
    with pytest.raises(FloatingPointError, match=r"validation loss is nan after epoch 1.*targets"):
        fit(network(), bce, blobs(48, 0), (x, y), epochs=1)


@pytest.mark.parametrize("monitor", ["auruc", "val_loss", "loss"])
def test_a_monitor_that_is_no_score_is_refused_after_the_first_one(monitor):
    scored = []
    with pytest.raises(ValueError, match=rf"monitor='{monitor}' is no number.*one of: auroc; None"):
        train(monitor=monitor, score=lambda o, y: scored.append(1) or score(o, y))
    assert scored == [1]


def test_an_interrupt_after_a_loss_that_is_nan_gives_no_weights():
    def loss(logits, labels):
        if loss.steps:
            raise KeyboardInterrupt
        loss.steps += 1
        return bce(logits, labels) * float("nan")

    loss.steps = 0
    with pytest.raises(FloatingPointError, match=r"loss is nan in epoch 1, batch 1"):
        fit(network(), loss, blobs(16, 0), blobs(20, 1), epochs=1, batch_size=4)


def stopped_at_once(x, y):
    raise KeyboardInterrupt


def test_the_history_of_no_finished_epoch_has_its_columns(capsys, monkeypatch):
    monkeypatch.setattr(runtime, "quiet", lambda: False)
    fitted = train(augment=stopped_at_once)
    assert list(fitted.history) == ["epoch", "lr", "loss", "val_loss", "auroc", "seconds"]
    assert list(fitted.history) == list(train(epochs=1).history)
    assert fitted.history[["epoch", "auroc"]].round(3).empty
    assert "none of 3 epochs" in capsys.readouterr().out
    figure = figures.history(fitted.history, "auroc")
    assert figure.axes[0].texts[0].get_text() == "no epoch was finished"


def test_a_model_that_was_trained_before_is_no_fresh_start(capsys):
    model, arguments = network(), (bce, blobs(16, 0), blobs(20, 1))
    fitted = fit(model, *arguments, epochs=1)
    assert "trained before" not in capsys.readouterr().out
    for again in (model, copy.deepcopy(fitted.model), nn.Sequential(model)):
        fit(again, *arguments, epochs=1)
        said = capsys.readouterr().out
        assert "has been trained before" in said and "build the model again" in said


def test_a_run_that_goes_on_from_a_checkpoint_needs_no_fresh_model(tmp_path, capsys):
    model, arguments = network(), (bce, blobs(16, 0), blobs(20, 1))
    for _ in range(2):
        fit(model, *arguments, epochs=1, checkpoint=tmp_path / "run.safetensors")
        assert "trained before" not in capsys.readouterr().out


def weighted(weight):
    return lambda logits, labels: weight * bce(logits, labels)


class Weighted(nn.Module):
    """A loss with another loss inside, whose tensor no text of the module shows."""

    def __init__(self, weight):
        super().__init__()
        self.inner = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight))

    def forward(self, logits, labels):
        return self.inner(logits[:, 0], labels.float())

    def call(self, logits, labels):
        return self(logits, labels)


def nested(weight, *, power=1.0):
    def scale(value, by=weight):
        return by * value**power

    return lambda logits, labels: scale(bce(logits, labels))


class Plain:
    def __init__(self, weight):
        self.weight = weight

    def __call__(self, logits, labels):
        return self.weight * bce(logits, labels)


class Focal(nn.Module):
    """A loss whose number is neither tensor nor text."""

    def __init__(self, gamma):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, labels):
        return bce(logits, labels) ** self.gamma


def with_array(weight):
    weights = np.array([1.0, weight])
    return lambda logits, labels: float(weights[1]) * bce(logits, labels)


def with_object(weight):
    inner = Plain(weight)
    return lambda logits, labels: inner(logits, labels)


def written(source):
    """What a learner's own cell or file defines, as `loss`."""
    return lambda number: eval_in_notebook(source.format(number))


def eval_in_notebook(source):
    world = {"bce": bce, "nn": nn, "__name__": "__main__"}
    exec(source, world)
    return world["loss"]


A_GLOBAL = """
weight = {}
def loss(logits, labels): return weight * bce(logits, labels)
"""
A_HELPER = """
def scaled(value): return {} * value
def loss(logits, labels): return scaled(bce(logits, labels))
"""
A_PRIVATE_NUMBER = """
class Loss:
    def __init__(self): self._weight = {}
    def __call__(self, logits, labels): return self._weight * bce(logits, labels)
loss = Loss()
"""
A_MODULE = """
import types
helpers = types.ModuleType("helpers")
exec("def scaled(value): return {} * value", vars(helpers))
def loss(logits, labels): return helpers.scaled(bce(logits, labels))
"""
A_CLASS = """
class Loss(nn.Module):
    def _scaled(self, value): return {} * value
    def forward(self, logits, labels): return self._scaled(bce(logits, labels))
loss = Loss()
"""


@pytest.mark.parametrize(
    "make",
    [
        *(Weighted, lambda w: Weighted(w).call, nested, partial(nested, 1.0)),
        *(Plain, Focal, with_array, with_object),
        *map(written, (A_GLOBAL, A_HELPER, A_PRIVATE_NUMBER, A_MODULE, A_CLASS)),
    ],
)
def test_a_checkpoint_of_a_loss_with_other_numbers_inside_is_refused(tmp_path, make):
    def run(number):
        loss = make(power=number) if isinstance(make, partial) else make(number)
        fit(network(), loss, blobs(16, 0), blobs(20, 1), epochs=1, checkpoint=tmp_path / "run")

    run(1.0)
    run(1.0)
    with pytest.raises(ValueError, match=r"belongs to another run .*loss: "):
        run(9.0)


class Scaled(nn.Module):
    """Its number is in no text of the network."""

    def __init__(self, scale):
        super().__init__()
        self.scale, self.inner = scale, network()

    def forward(self, x):
        return self.inner(self.scale * x)


def pixel(arrays):
    x, y = arrays[0].clone(), arrays[1]
    x[0, 0, 0, 0] += 1
    return x, y


def label(arrays):
    return arrays[0], 1 - arrays[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": pixel(blobs(16, 0))}, "data: "),
        ({"train": label(blobs(16, 0))}, "data: "),
        ({"val": pixel(blobs(20, 1))}, "data: "),
        ({"val": label(blobs(20, 1))}, "data: "),
        ({"loss": bce}, "loss: 'weighted.*there, 'bce"),
        ({"loss": weighted(2.0)}, "loss: 'weighted"),
        ({"loss": lambda logits, labels: 2 * bce(logits, labels)}, "loss: "),
        ({"loss": partial(bce)}, "loss: "),
        ({"augment": lambda x, y: (x + 0.1, y)}, "augment: 'jitter.*there, '<lambda>"),
        ({"augment": None}, "augment: 'jitter.*there, 'NoneType"),
        ({"score": None}, "score: 'score"),
        ({"score": lambda o, y: score(-o, y)}, "score: 'score"),
        ({"model": network(seed=1)}, "weights: "),
        ({"model": nn.Sequential(*network(), nn.Identity())}, "model: "),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(128, 1))}, "model: "),
    ],
)
def test_a_checkpoint_of_other_data_loss_or_network_is_refused(tmp_path, changes, said):
    def run(**changes):
        arguments = {"model": network(), "loss": weighted(1.0), "epochs": 1}
        arguments |= {"augment": jitter, "score": score}
        arguments |= {"train": blobs(16, 0), "val": blobs(20, 1)} | changes
        return fit(checkpoint=tmp_path / "run.safetensors", **arguments)

    run()
    run()  # the same functions, made anew
    with pytest.raises(ValueError, match=f"belongs to another run .*{said}"):
        run(**changes)


def test_a_checkpoint_of_a_network_with_another_number_is_refused(tmp_path):
    def run(scale):
        arrays = blobs(16, 0), blobs(20, 1)
        fit(Scaled(scale).eval(), bce, *arrays, epochs=1, checkpoint=tmp_path / "run")

    run(1.0)
    run(1.0)
    with pytest.raises(ValueError, match=r"belongs to another run \(model: "):
        run(2.0)


def test_predict_leaves_each_part_in_its_own_mode():
    model = network().train()
    model[1].eval()  # a frozen batch norm
    predict(model, blobs(4, 0)[0])
    assert model[3].training and not model[1].training


def test_a_checkpoint_may_be_in_your_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    train(epochs=1, checkpoint="~/runs/first.safetensors")
    assert (tmp_path / "runs" / "first.safetensors").exists()


def test_floats_of_any_precision_are_converted_and_other_types_named():
    (x, y), val = blobs(16, 0), blobs(20, 1)
    one = fit(network(), bce, (x.float() / 255, y), val, epochs=1).history["loss"]
    for kind in (torch.float64, torch.bfloat16, torch.float16):
        again = fit(network(), bce, ((x.double() / 255).to(kind), y), val, epochs=1)
        assert again.history["loss"].tolist() == pytest.approx(one.tolist(), rel=0.05)
        assert predict(network(), x.to(kind) / 255).dtype == torch.float32

    def strict(logits, labels):  # wants both of one type
        return F.binary_cross_entropy(logits[:, 0].sigmoid(), labels)

    exact = ((images, labels.double()) for images, labels in ((x, y), val))
    fit(network(), strict, *exact, epochs=1, precision="32-true")
    for wrong, said in (
        ((x.long(), y), r"images are torch.int64. Expected uint8"),
        ((x > 9, y), r"images are torch.bool. Expected uint8"),
        ((x.numpy(), y), "images and targets of train are given as ndarray. Expected a tensor"),
        ((x, y.tolist()), "images and targets of train are given as list. Expected a tensor"),
        (x, r"train is a Tensor. Expected images and targets, .*\(split.x, split.y\)"),
        ((x.float(), y), r"float32, from 0 to 1\d\d. Expected uint8 up to 255, or .*divide by"),
        (((x > 90).to(torch.uint8), y), r"uint8, from 0 to 1. Expected uint8 up to 255"),
    ):
        with pytest.raises(ValueError, match=said):
            fit(network(), bce, wrong, val, epochs=1)
    for other, said in (
        (x.long(), "images are torch.int64"),
        (x.float(), "float32, from 0 to"),
        (x.float() * 16 - 999, "float32, from -999 to"),
        (x.numpy(), "images are given as ndarray"),
    ):
        with pytest.raises(ValueError, match=said):
            predict(network(), other)
    assert predict(network(), x.float() - 100).shape == (16, 1)  # of CT, for instance


def test_outputs_that_are_not_finite_are_no_answer():
    x = blobs(20, 0)[0].float() / 255
    x[3] = float("nan")
    with pytest.raises(
        FloatingPointError, match=r"outputs for 1 of 20 images, .* image 3, are not"
    ):
        predict(network(), x)


def test_augmentation_looks_at_the_range_of_all_images_once():
    seen = []
    change = partial(jitter)
    change.check = seen.append
    x, y = blobs(16, 0)
    fit(network(), bce, (x, y), blobs(20, 1), epochs=2, augment=change)
    assert len(seen) == 1 and torch.equal(seen[0], x)
    with pytest.raises(ValueError, match="divide values of 0 to 255 by 255"):
        fit(network(), bce, (x.float() / 10, y), blobs(20, 1), epochs=1, augment=pneumonia.augment)


def test_predict_restores_the_mode_and_ignores_batch_size():
    model, x = network().train(), blobs(30, 0)[0]
    whole, parts = predict(model, x), predict(model, x, batch_size=7)
    assert model.training and not whole.requires_grad
    torch.testing.assert_close(whole, parts)


SCRIPT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_training import network, blobs, bce, score, jitter
from course_utils.training import fit
from safetensors.torch import save_file

def loud(x, y):
    print("step", flush=True)
    return jitter(x, y)

fitted = fit(network(), bce, blobs(70, 0), blobs(40, 1), epochs=4, batch_size=16, lr=1e-2,
             augment=loud, score=score, monitor="auroc", seed=5, checkpoint=sys.argv[2])
save_file({k: v.contiguous() for k, v in fitted.model.state_dict().items()}, sys.argv[3])
fitted.history.drop(columns="seconds").to_json(sys.argv[4])
"""


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_goes_on_bit_for_bit(tmp_path):
    def start(name):
        words = [sys.executable, "-c", SCRIPT, __file__.rpartition("/")[0]]
        words += [str(tmp_path / f"{name}.{end}") for end in ("run", "safetensors", "json")]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def steps(process):
        return sum(line == "step\n" for line in process.stdout)

    whole = start("whole")
    assert steps(whole) == 4 * 5 and whole.wait() == 0

    killed = start("killed")
    for _ in range(12):  # two epochs of five steps, and two steps of the third
        assert killed.stdout.readline() == "step\n"
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    assert not (tmp_path / "killed.safetensors").exists()

    resumed = start("killed")
    assert steps(resumed) == 2 * 5 and resumed.wait() == 0, "the killed epoch is replayed"

    for end in ("safetensors", "json"):
        assert (tmp_path / f"killed.{end}").read_bytes() == (tmp_path / f"whole.{end}").read_bytes()


def test_a_finished_checkpoint_trains_no_more_and_another_run_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"

    def count(x, y):
        count.calls += 1
        return jitter(x, y)

    count.calls = 0
    first = train(checkpoint=path, augment=count)
    calls = count.calls
    again = train(checkpoint=path, augment=count)
    assert count.calls == calls == 15
    assert torch.equal(first.model[0].weight, again.model[0].weight)
    assert first.best_epoch == again.best_epoch
    with pytest.raises(ValueError, match=r"run.safetensors belongs to another run \(lr: 0.01"):
        train(checkpoint=path, augment=count, lr=2e-2)


@pytest.mark.parametrize(
    "changes", [{"epochs": 2}, {"batch_size": 8}, {"seed": 1}, {"ema": 0.9}, {"weight_decay": 0.1},
                {"precision": "bf16-mixed"}, {"monitor": None}],
)  # fmt: skip
def test_a_checkpoint_of_other_settings_is_refused(changes, tmp_path):
    path, (name,) = tmp_path / "run.safetensors", changes
    train(epochs=1, checkpoint=path)
    with pytest.raises(ValueError, match=rf"belongs to another run \({name}: "):
        train(**{"epochs": 1, "checkpoint": path} | changes)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "header"])
def test_a_damaged_checkpoint_is_set_aside_and_training_begins_again(damage, tmp_path, capsys):
    path = tmp_path / "run.safetensors"
    first = train(checkpoint=path)
    content = path.read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "garbage": b"\xff" * 200,
        "empty": b"",
        "header": content.replace(b'"run":"{', b'"run":"}', 1),
    }[damage]
    assert damaged != content
    path.write_bytes(damaged)
    again = train(checkpoint=path)
    said = capsys.readouterr().out
    assert "run.safetensors is damaged: training begins again." in said
    assert (tmp_path / "run.safetensors.damaged").read_bytes() == damaged
    assert torch.equal(first.model[0].weight, again.model[0].weight)
    assert "damaged" not in capsys.readouterr().out and path.exists()


def test_a_checkpoint_is_safetensors_with_json_and_holds_all_state(tmp_path):
    path = tmp_path / "run.safetensors"
    fitted = train(checkpoint=path)
    assert not fitted.model[0].weight.is_contiguous(), "safetensors would refuse it as it is"
    with safe_open(path, "pt") as file:
        numbers = json.loads(file.metadata()["run"])
        prefixes = {name.split(".")[0] for name in file.keys()}  # noqa: SIM118
    assert numbers["epoch"] == 3 and len(numbers["history"]) == 3
    assert prefixes == {"model", "average", "optimizer", "random", "best"}
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"], "nothing is left beside it"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_leaves_stderr_alone(precision, capfd):
    """Fabric's log goes to stderr, which stored notebooks must not hold."""
    said = []
    logger, handler = logging.getLogger("lightning_fabric"), logging.Handler()
    handler.emit = said.append
    logger.addHandler(handler)
    try:
        train(epochs=1, precision=precision)
    finally:
        logger.removeHandler(handler)
    assert said == [] and capfd.readouterr().err == ""


# A full disk --------------------------------------------------------------------------------------


def test_a_run_that_cannot_be_recorded_is_not_trained_again(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("COURSE_DATA", "phantom")
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    record, steps = ledger.record, []

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger, "record", full)
    with pytest.raises(OSError, match="No space"):
        experiments.run_all("first_model", ["attention"], seeds=1)
    (checkpoint,) = (tmp_path / "build" / "checkpoints").iterdir()
    weights = experiments.weights_file("first_model", "attention", 0, "smoke")
    kept = weights.read_bytes()

    monkeypatch.setattr(ledger, "record", record)
    monkeypatch.setattr(training._Epoch, "batch", lambda *_: steps.append(1))
    experiments.run_all("first_model", ["attention"], seeds=1)
    assert steps == [] and not checkpoint.exists()
    assert weights.read_bytes() == kept and len(ledger.read("first_model")) == 1
