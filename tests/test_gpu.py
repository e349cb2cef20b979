"""What differs on a GPU. With the stand-in of card.py everywhere; tests marked gpu need a GPU."""

import dataclasses
import functools
import math
import sys

import card
import gpu
import pytest
import torch
from torch import nn

from course_utils import attention, cli, experiments, runtime, training
from course_utils.datasets import phantom
from course_utils.exercises.sandbox import preserved_state

ARMS = [(name, arm) for name, e in experiments.EXPERIMENTS.items() for arm in e.arms]
# The same code with another number, or the network or the poolings of another task once more.
APART = [
    (name, arm)
    for name, arm in ARMS
    if name != "pneumonia" and "SE r=" not in arm and not name.startswith("bags_")
    if name != "weak_smears" or arm == "gated attention"
] + [("bags_fixed", "gated attention")]


@functools.cache
def few(name: str, images: int):
    """The phantom of a data set, cut to a few cases of each split; made once for all tests."""
    data = phantom(name)
    splits = {key: split.take(range(images)) for key, split in data.splits.items()}
    return dataclasses.replace(data, splits=splits)


def train(name, arm, profile="smoke", images=8, **more):
    experiment = experiments.get(name)
    data = few(experiment.dataset, images)
    model = experiment.model(arm, 0, profile)
    more = {"epochs": 1, "batch_size": 4} | more
    if name.startswith("bags"):  # a batch has to hold both classes
        data, more = few(experiment.dataset, 80), more | {"batch_size": 40}
    return experiment.fit(model, data, 0, profile, arm, **more), data


@pytest.mark.parametrize(("name", "arm"), APART)
def test_nothing_mixes_the_card_with_the_cpu(name, arm, monkeypatch):
    experiment = experiments.get(name)
    with card.inserted(monkeypatch):
        fitted, data = train(name, arm)
        assert next(fitted.model.parameters()).device == card.CARD
        found = experiment.report(fitted.model, data, **experiment.options("smoke"))
    assert found


def test_the_stand_in_finds_what_a_gpu_would_refuse(monkeypatch):
    with card.inserted(monkeypatch) as waits:
        x = torch.arange(4.0).to(card.CARD)
        with pytest.raises(RuntimeError, match="on the CPU and on the card"):
            x + torch.ones(4)
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        waits.clear()
        torch.zeros(4, device=x.device) + x * 2 + torch.rand_like(x)
        assert waits == []
        assert x.sum().item() == 6 and bool((x > 0).any()) and len(x[x > 1]) == 2
        assert len(waits) == 3


def linear_data(images: int):
    torch.manual_seed(0)
    return torch.rand(images, 3), torch.arange(images) % 2


def test_an_epoch_waits_for_the_card_at_its_ends_only(monkeypatch):
    """A number read in each step would leave a GPU idle until the next step has been prepared."""
    found = {}
    with card.inserted(monkeypatch) as waits:
        for images in (8, 80):
            waits.clear()
            training.fit(
                nn.Linear(3, 1),
                lambda out, y: (out[:, 0] - y).square().mean(),
                linear_data(images),
                linear_data(4),
                epochs=1,
                batch_size=4,
                augment=lambda x, y: (x + torch.randn_like(x), y),
            )
            found[images] = list(waits)
    assert found[8] == found[80] and len(found[80]) < 20


@pytest.mark.parametrize("name", ["first_model", "isic2017"])
def test_neither_do_the_losses_of_classes_and_masks(name, monkeypatch):
    counts = []
    with card.inserted(monkeypatch) as waits:
        for images in (8, 16):
            waits.clear()
            train(name, "attention", images=images)
            counts.append(len(waits))
    # Validation and predictions are the same; what Kornia reads of a batch is its own affair.
    assert counts[0] == counts[1], waits


def test_a_step_in_fp16_reads_nothing_either(monkeypatch):
    """The scaler asks whether a gradient overflowed, unless the optimizer skips steps by itself."""
    made, build = [], training.AdamW
    monkeypatch.setattr(training, "AdamW", lambda *a, **k: made.append(build(*a, **k)) or made[-1])
    with card.inserted(monkeypatch):
        loss = lambda out, y: (out[:, 0] - y).square().mean()  # noqa: E731
        training.fit(nn.Linear(3, 1), loss, linear_data(8), linear_data(4), epochs=1)
    assert made[0]._step_supports_amp_scaling


# The command --------------------------------------------------------------------------------------


def test_the_command_knows_what_each_chapter_trains():
    trained = {name for name, arm in ARMS if arm == experiments.get(name).main}
    assert set(gpu.ORDER) == {name for name in trained if not name.startswith("bags_")}
    names = [name for name, _, _ in gpu.pieces()]
    assert names == ["tests", "bench attention", "bench train", *gpu.ORDER]
    for _, words, _ in gpu.pieces()[1:]:
        cli._parser().parse_args(words[3:])  # of `python -m course_utils.cli`


def test_the_command_goes_on_after_a_failure_and_stops_in_time(monkeypatch, capsys, tmp_path):
    def piece(name, code):
        return name, (sys.executable, "-c", code), {"MARK": str(tmp_path / name)}

    wrote = "import os, pathlib; pathlib.Path(os.environ['MARK']).touch()"
    pieces = [
        piece("fails", "raise SystemExit(3)"),
        piece("works", wrote),
        piece("endless", wrote + "\nwhile True: pass"),
        piece("late", wrote),
    ]
    monkeypatch.setattr(gpu, "pieces", lambda: pieces)
    assert gpu.gpu(minutes=15 / 60) == 1  # 5 s, as it leaves 10 s to spare
    lines = [line.split(",")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["fails: failed (3)", "works: done", "endless: cut off", "late: no time left"]
    assert {path.name for path in tmp_path.iterdir()} == {"works", "endless"}
    monkeypatch.setattr(gpu, "pieces", lambda: pieces[1:2])
    assert gpu.gpu(minutes=1) == 0


# On a GPU -----------------------------------------------------------------------------------------

on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]


class TestOnAGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize(("name", "arm"), ARMS)
    def test_a_step_of_the_full_profile_with_its_report(self, name, arm):
        fitted, data = train(name, arm, "full", batch_size=8)
        assert next(fitted.model.parameters()).is_cuda
        (row,) = fitted.history.to_dict("records")
        assert math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])
        experiment = experiments.get(name)
        assert experiment.report(fitted.model, data, **experiment.options("full"))

    @pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
    @pytest.mark.parametrize("name", gpu.ORDER)
    def test_mixed_precision_learns_what_fp32_learns(self, name, precision, recwarn):
        exact, _ = train(name, "attention", epochs=4, precision="32-true")
        mixed, _ = train(name, "attention", epochs=4, precision=precision)
        losses = [fitted.history["loss"].iloc[0] for fitted in (exact, mixed)]
        assert losses[0] == pytest.approx(losses[1], rel=0.1)
        assert all(torch.isfinite(p).all() for p in mixed.model.parameters())
        assert not [w for w in recwarn if "lr_scheduler" in str(w.message)]

    @pytest.mark.parametrize(("name", "arm"), ARMS)
    def test_networks_say_what_they_say_on_the_cpu(self, name, arm, monkeypatch):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        experiment = experiments.get(name)
        model = experiment.model(arm, 0, "smoke")
        x, _ = experiment.training_images(few(experiment.dataset, 2), "smoke")
        on_cpu = training.predict(model, x[:4])
        found = training.predict(model.cuda(), x[:4])
        torch.testing.assert_close(found, on_cpu, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize(
        "module",
        [
            attention.SqueezeExcitation(32),
            attention.ECA(32),
            attention.CBAM(32),
            attention.SelfAttention2d(32, 2),
        ],
        ids=lambda module: type(module).__name__,
    )
    def test_modules_weigh_as_on_the_cpu(self, module, monkeypatch):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        x = torch.randn(2, 32, 9, 7)
        wanted = module(x), module.weights(x)
        module.cuda()
        for found, want in zip((module(x.cuda()), module.weights(x.cuda())), wanted, strict=True):
            torch.testing.assert_close(found.cpu(), want, rtol=1e-4, atol=1e-4)
        module.cpu()

    def test_augmentation_has_a_stream_of_its_own(self):
        x = torch.rand(8, 3, device="cuda")
        order = torch.Generator().manual_seed(0)

        def jitter(x, y):
            return x + torch.randn_like(x), y

        before = torch.cuda.get_rng_state(), torch.get_rng_state()
        epoch = training._Epoch(0, x, x, 2, order, jitter, 0.1)
        first, _ = epoch.batch(1)
        assert first.is_cuda and torch.equal(first, epoch.batch(1)[0])
        assert not torch.equal(first, epoch.batch(0)[0])
        assert torch.equal(before[0], torch.cuda.get_rng_state())
        assert torch.equal(before[1], torch.get_rng_state())

    @pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
    def test_a_run_goes_on_where_it_was_cut_off(self, precision, tmp_path):
        calls = []

        def start(stop: int, checkpoint=None):
            calls.clear()
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))

            def augment(x, y):
                calls.append(1)
                if len(calls) == stop:
                    raise KeyboardInterrupt
                return x + 0.1 * torch.randn_like(x), y

            return training.fit(
                model,
                lambda out, y: (out[:, 0].float() - y).square().mean(),
                linear_data(40),
                linear_data(8),
                epochs=4,
                batch_size=10,
                augment=augment,
                precision=precision,
                checkpoint=checkpoint,
            )

        whole, path = start(0), tmp_path / "run.safetensors"
        assert start(10, path).interrupted  # in the third epoch
        again = start(0, path)
        assert len(calls) == 8
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(tensor, again.model.state_dict()[name]), name

    def test_exercises_leave_the_stream_of_the_gpu_alone(self):
        before = torch.cuda.get_rng_state()
        with preserved_state():
            torch.rand(3, device="cuda")
        assert torch.equal(before, torch.cuda.get_rng_state())

    def test_the_best_number_format_of_this_gpu_is_taken(self):
        assert runtime.precision()[0] in ("bf16-mixed", "16-mixed", "32-true")
        assert runtime.hardware() == torch.cuda.get_device_name()
