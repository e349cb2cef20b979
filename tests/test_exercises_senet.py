"""Chapter 07: right answers written differently pass, half-right ones are named, facts hold."""

import inspect
import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification  # noqa: F401  a cold import takes its time
from einops import reduce
from torch import nn
from torch.nn import functional as F

from course_utils import metrics
from course_utils.attention import CBAM, ECA, SqueezeExcitation
from course_utils.exercises import exercise, senet
from course_utils.notebooks import chapters
from course_utils.senet import ResidualBlock, SEResNet


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))


# Right answers written differently ---------------------------------------------------------------


class BlockOfAttributes(nn.Module):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__()
        self.shortcut = None
        if stride > 1 or channels != in_channels:
            self.shortcut = nn.Conv2d(
                in_channels, channels, kernel_size=1, stride=stride, bias=False
            )
            self.shortcut_norm = nn.BatchNorm2d(channels)
        self.norm2, self.norm1 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding="same", bias=False)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.attention = attention(channels) if attention is not None else None

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.attention is not None:
            y = self.attention(y)
        if self.shortcut is not None:
            x = self.shortcut_norm(self.shortcut(x))
        return (x + y).clamp(min=0)


class BlockInPlace(nn.Module):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__()
        layers = [nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)]
        layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)]
        layers += [attention(channels)] if attention else []
        self.branch = nn.Sequential(*layers)
        same = stride == 1 and in_channels == channels
        self.short = nn.Identity() if same else self.projected(in_channels, channels, stride)
        self.relu = nn.ReLU(inplace=True)

    def projected(self, before, after, stride):
        conv = nn.Conv2d(before, after, 1, stride, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after))

    def forward(self, x):
        out = self.branch(x)
        out += self.short(x)
        return self.relu(out)


class BlockOfAModuleList(BlockOfAttributes):
    """The gate is registered by another name, in a list that is a module."""

    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, None)
        self.gates = nn.ModuleList([attention(channels)] if attention else [])

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        for gate in self.gates:
            y = gate(y)
        return F.relu(y + (x if self.shortcut is None else self.shortcut_norm(self.shortcut(x))))


def block_factory(in_channels, channels, stride, attention):
    return BlockInPlace(in_channels, channels, stride, attention)


def course_block(in_channels, channels, stride, attention):
    return ResidualBlock(in_channels, channels, stride, attention)


def threshold_by_rank(probabilities, labels, wanted):
    ill = sorted(probabilities[labels == 1].tolist(), reverse=True)
    return ill[math.ceil(wanted * len(ill)) - 1]


def threshold_by_quantile(probabilities, labels, wanted):
    ill = probabilities[labels == 1].double()
    return torch.quantile(ill, 1 - wanted, interpolation="lower").item()


def threshold_by_roc(probabilities, labels, wanted):
    from sklearn.metrics import roc_curve

    _, found, thresholds = roc_curve(labels, probabilities, drop_intermediate=False)
    return float(thresholds[np.argmax(found >= wanted)])


def threshold_by_while(probabilities, labels, wanted):
    for t in probabilities.unique().flip(0):
        if ((probabilities >= t) & (labels == 1)).sum() >= wanted * labels.sum():
            return float(t)
    return None


def threshold_by_higher_quantile(probabilities, labels, wanted):
    ill = probabilities[labels == 1]
    return -np.quantile(-ill.numpy(), wanted, method="inverted_cdf").item()


def honest_by_loop(val_p, val_labels, test_p, test_labels):
    best, chosen = -1.0, None
    for t in sorted(val_p.tolist()):
        right = sum((p >= t) == bool(y) for p, y in zip(val_p.tolist(), val_labels, strict=True))
        if right > best:
            best, chosen = right, t
    decided = torch.tensor([p >= chosen for p in test_p.tolist()])
    return (decided.int() == test_labels).float().mean().item()


def honest_by_matrix(val_p, val_labels, test_p, test_labels):
    t = torch.unique(val_p)
    right = ((val_p[None] >= t[:, None]).long() == val_labels).sum(1)
    return metrics.accuracy(test_p, test_labels, t[right.argmax()].item())


def error_by_numpy(probabilities, labels, bins):
    p, y = probabilities.double().numpy(), labels.numpy()
    place = np.minimum(np.floor(p * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    said, found = (np.bincount(place, weights=v, minlength=bins) for v in (p, y))
    return float(np.abs(said - found).sum() / count.sum())


def error_by_edges(probabilities, labels, bins):
    edges, total = torch.linspace(0, 1, bins + 1).tolist(), 0.0
    for k, (low, high) in enumerate(pairwise(edges)):
        inside = (probabilities >= low) & ((probabilities < high) | (k == bins - 1))
        if inside.sum() > 0:
            share = inside.double().mean()
            said, found = probabilities[inside].mean(), labels[inside].float().mean()
            total += (share * (said - found).abs()).item()
    return total


def error_by_bucketize(probabilities, labels, bins):
    edges = torch.linspace(0, 1, bins + 1)[1:-1]
    place = torch.bucketize(probabilities.float(), edges, right=True)
    gap = [(probabilities - labels)[place == k].sum().abs().item() for k in range(bins)]
    return sum(gap) / len(labels)


def error_by_torchmetrics(probabilities, labels, bins):
    return metrics.calibration_error(probabilities, labels, bins)


def error_by_one_hot(probabilities, labels, bins):
    place = (probabilities * bins).floor().long().clamp(0, bins - 1)
    gap = F.one_hot(place, bins).double().T @ (probabilities.double() - labels.double())
    return (gap.abs().sum() / len(labels)).item()


def temperature_by_loss(logits, labels, candidates):
    loss = nn.BCEWithLogitsLoss()
    return min(candidates.tolist(), key=lambda t: loss(logits / t, labels.float()).item())


def temperature_by_softplus(logits, labels, candidates):
    signed = torch.where(labels == 1, logits, -logits)
    costs = F.softplus(-signed[:, None] / candidates).mean(0)
    return float(candidates[costs.argmin()])


def temperature_by_clamping(logits, labels, candidates):
    costs = []
    for t in candidates:
        log_p = torch.sigmoid(logits.double() / t).clamp(1e-300, 1).log()
        log_q = torch.sigmoid(-logits.double() / t).clamp(1e-300, 1).log()
        costs.append(-(labels * log_p + (1 - labels) * log_q).mean())
    return candidates[torch.stack(costs).argmin()].item()


def temperature_by_einops(logits, labels, candidates):
    p = torch.sigmoid(logits.double()[None] / candidates.double()[:, None])
    right = torch.where(labels[None] == 1, p, 1 - p).clamp(min=1e-300)
    return candidates[reduce(-right.log(), "k n -> k", "sum").argmin()].item()


class Temperature(nn.Module):
    def forward(self, logits, labels, candidates):
        return temperature_by_softplus(logits, labels, candidates)


RIGHT = {
    "senet.Block": [
        BlockOfAttributes, BlockInPlace, BlockOfAModuleList, block_factory, course_block,
    ],
    "senet.threshold_for_sensitivity": [
        threshold_by_rank, threshold_by_roc, threshold_by_while, threshold_by_higher_quantile,
    ],
    "senet.honest_accuracy": [honest_by_loop, honest_by_matrix],
    "senet.calibration_error": [
        error_by_numpy, error_by_edges, error_by_torchmetrics, error_by_one_hot,
        error_by_bucketize,
    ],
    "senet.after_shift": [0.18, 2 / 11, 0.182, torch.tensor(0.1818), np.float64(0.18)],
    "senet.best_temperature": [
        temperature_by_loss, temperature_by_softplus, temperature_by_clamping,
        temperature_by_einops, Temperature,
    ],
}  # fmt: skip


def test_each_exercise_has_another_right_answer():
    assert list(RIGHT) == [ex.name for ex in senet.EXERCISES]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_written_differently_pass(name):
    for answer in RIGHT[name]:
        result = exercise(name).check(answer)
        assert result.passed, (answer, result.message)


# Half-right answers ------------------------------------------------------------------------------


class OneNormTheOtherUnused(BlockOfAttributes):
    def forward(self, x):
        y = self.norm1(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        y = self.attention(y) if self.attention is not None else y
        x = x if self.shortcut is None else self.shortcut_norm(self.shortcut(x))
        return F.relu(x + y)


class OneBias(senet.Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.branch[3] = nn.Conv2d(channels, channels, 3, padding=1)


class GateAfterAndNoReLU(senet.Block):
    def forward(self, x):
        return self.gate(self.branch(x) + self.shortcut(x))


class AlwaysSE(senet.Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.gate = SqueezeExcitation(channels, 1)


class WithBias(BlockOfAttributes):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1)


class GateBuiltInForward(BlockOfAttributes):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, None)
        self.build = lambda: attention(channels) if attention else nn.Identity()

    def forward(self, x):
        y = self.build()(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut_norm(self.shortcut(x))))


class ProjectionBuiltInForward(BlockOfAttributes):
    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        y = y if self.attention is None else self.attention(y)
        if self.shortcut is not None:
            conv = nn.Conv2d(x.shape[1], y.shape[1], 1, self.shortcut.stride, bias=False)
            x = self.shortcut_norm(conv(x))
        return F.relu(x + y)


class FirstNormNeverMade(senet.Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.branch[1] = nn.Identity()


def test_layers_that_no_optimizer_sees_are_named():
    ex = exercise("senet.Block")
    assert ex.check(GateBuiltInForward).mistake == "gate-not-registered"
    result = ex.check(ProjectionBuiltInForward)
    assert not result.passed and "Does `forward` create" in result.message.replace("\n", " ")
    assert ex.check(FirstNormNeverMade).mistake == "first-norm-missing"

    class ChangesItsInput(BlockOfAttributes):
        def forward(self, x):
            return super().forward(x.mul_(2))

    class NoReturn(BlockOfAttributes):
        def forward(self, x):
            super().forward(x)

    assert ex.check(ChangesItsInput).mistake == "input-changed-in-place"
    assert "different results" not in ex.check(NoReturn).message


def test_blocks_that_are_wrong_in_unlisted_ways_are_told_something_useful():
    ex = exercise("senet.Block")
    assert ex.check(AlwaysSE).mistake == "other-parameters"
    assert ex.check(WithBias).mistake == "bias-too-many"
    assert ex.check(OneBias).mistake == "bias-too-many", "training mode alone would let it pass"
    assert ex.check(OneNormTheOtherUnused).mistake == "one-norm-for-both"
    assert not ex.check(GateAfterAndNoReLU).passed
    assert ex.check(SEResNet(width=16)).mistake is not None
    assert ex.check(lambda a, b, s, g: ResidualBlock(a, b, s, None)).mistake == "gate-missing"
    for stub in (..., None, type("Block", (nn.Module,), {"forward": lambda self, x: ...})):
        assert not ex.check(stub).passed


def tuned_among(candidates):
    def honest_accuracy(val_p, val_labels, test_p, test_labels):
        best, chosen = -1.0, 0.0
        for t in candidates(val_p):
            found = ((val_p >= t).long() == val_labels).float().mean().item()
            if found > best:
                best, chosen = found, t
        return ((test_p >= chosen).long() == test_labels).float().mean().item()

    return honest_accuracy


def tuned_by_the_course(val_p, val_labels, test_p, test_labels):
    threshold = metrics.best_threshold(val_p, val_labels)
    return ((test_p >= threshold) == test_labels).float().mean().item()


def temperature_of_a_pair(logits, labels, candidates):
    def cost(t):
        return F.cross_entropy(torch.stack([-logits, logits], 1) / t, labels).item()

    return min(candidates.tolist(), key=cost)


class ProjectionWithoutNorm(nn.Module):
    bias = False

    def __init__(self, in_channels, channels, stride, attention):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=self.bias)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=self.bias)
        self.norm2 = nn.BatchNorm2d(channels)
        self.gate = attention(channels) if attention is not None else nn.Identity()
        self.projection = None
        if stride != 1 or in_channels != channels:
            self.projection = nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride)

    def forward(self, x):
        y = self.gate(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
        return F.relu(y + (x if self.projection is None else self.projection(x)))


class BiasesForTheNorm(ProjectionWithoutNorm):
    bias = True


def first_too_few(chosen):
    def threshold(probabilities, labels, wanted):
        for t in sorted(probabilities[chosen(labels)].tolist()):
            if (probabilities[labels == 1] >= t).double().mean() < wanted:
                return t
        return None

    return threshold


def only_above(chosen):
    def threshold(probabilities, labels, wanted):
        ill = probabilities[labels == 1].tolist()
        candidates = sorted(probabilities[chosen(labels)].tolist(), reverse=True)
        for t in candidates:
            if sum(p > t for p in ill) >= wanted * len(ill):
                return t
        return candidates[-1]

    return threshold


def error_by_place(place, bins_asked):
    def error(probabilities, labels, bins):
        at, total = place(probabilities, bins), 0.0
        for k in bins_asked(at, bins):
            gap = (probabilities.double() - labels)[at == k]
            total += gap.sum().abs().item() / len(labels)
        return total

    return error


def error_between(inside):
    def error(probabilities, labels, bins):
        total = 0.0
        for k in range(bins):
            chosen = inside(probabilities, k / bins, (k + 1) / bins)
            if chosen.any():
                said, found = probabilities[chosen].mean(), labels[chosen].float().mean()
                total += ((said - found).abs() * chosen.sum() / len(labels)).item()
        return total

    return error


def bucketized(probabilities, bins, **settings):
    return torch.bucketize(probabilities.float(), torch.linspace(0, 1, bins + 1), **settings)


WRONG = [
    (
        "senet.honest_accuracy",
        tuned_among(lambda p: torch.linspace(0, 1, 101)),
        "grid-of-candidates",
        "that do not occur on validation",
    ),
    (
        "senet.honest_accuracy",
        tuned_among(lambda p: np.arange(0, 1.0001, 0.001)),
        "grid-of-candidates",
        "that do not occur on validation",
    ),
    (
        "senet.honest_accuracy",
        tuned_among(lambda p: [k / 10 for k in range(11)]),
        "coarse-grid-of-candidates",
        "tenths",
    ),
    (
        "senet.honest_accuracy",
        tuned_among(lambda p: (p.unique()[1:] + p.unique()[:-1]) / 2),
        "half-way-between",
        "half way",
    ),
    ("senet.honest_accuracy", tuned_by_the_course, "rule-of-the-course", "nearest to 0.5"),
    ("senet.best_temperature", temperature_of_a_pair, "pair-of-opposites", "a factor of 2"),
    ("senet.Block", ProjectionWithoutNorm, "shortcut-with-bias-for-norm", "lacks its batch norm"),
    ("senet.Block", BiasesForTheNorm, "biases-and-shortcut-without-norm", "lacks its batch norm"),
    (
        "senet.threshold_for_sensitivity",
        first_too_few(lambda labels: labels >= 0),
        "first-that-finds-too-few",
        "of all images",
    ),
    (
        "senet.threshold_for_sensitivity",
        first_too_few(lambda labels: labels == 1),
        "first-of-the-ill-that-finds-too-few",
        "of the ill",
    ),
    (
        "senet.threshold_for_sensitivity",
        only_above(lambda labels: labels >= 0),
        "one-step-too-low",
        "One step too low",
    ),
    (
        "senet.threshold_for_sensitivity",
        only_above(lambda labels: labels == 1),
        "one-step-of-the-ill-too-low",
        "One step too low",
    ),
    (
        "senet.calibration_error",
        error_by_place(bucketized, lambda at, bins: at.unique()),
        "zero-in-a-bin-of-its-own",
        "torch.bucketize as it stands",
    ),
    (
        "senet.calibration_error",
        error_by_place(bucketized, lambda at, bins: range(bins)),
        "bucketized-without-the-last",
        "never comes to the last one",
    ),
    (
        "senet.calibration_error",
        error_by_place(lambda p, bins: bucketized(p, bins) - 1, lambda at, bins: range(bins)),
        "zero-dropped",
        "exactly 0",
    ),
    (
        "senet.calibration_error",
        error_by_place(
            lambda p, bins: bucketized(p, bins, right=True), lambda at, bins: range(bins)
        ),
        "last-bin-lost",
        "never comes to the last one",
    ),
    (
        "senet.calibration_error",
        error_by_place(
            lambda p, bins: bucketized(p, bins, right=True), lambda at, bins: at.unique()
        ),
        "one-in-a-bin-of-its-own",
        "exactly 1",
    ),
    (
        "senet.calibration_error",
        error_between(lambda p, low, high: (low <= p) & (p <= high)),
        "both-ends-closed",
        "counts twice",
    ),
    (
        "senet.calibration_error",
        error_between(lambda p, low, high: (low < p) & (p < high)),
        "both-ends-open",
        "neither of their ends",
    ),
]


@pytest.mark.parametrize(("name", "answer", "mistake", "words"), WRONG)
def test_wrong_answers_written_differently_are_named(named, name, answer, mistake, words):
    named(name, answer, mistake, words)


def stub_cell(name):
    """The learner's cell as the chapter shows it."""
    cells = chapters.assemble("07_senet").cells
    return next(c.source for c in cells if f"exercise-{name}" in c.metadata.get("tags", []))


@pytest.mark.parametrize("name", RIGHT)
def test_the_chapters_own_stub_is_not_an_answer(name):
    space = {"torch": torch, "nn": nn, "F": F}
    exec(stub_cell(name), space)
    result = exercise(name).check(space[name.split(".")[1]])
    if name == "senet.honest_accuracy":
        assert result.mistake == "as-it-was" and "code you started from" in result.message
    else:
        assert result.mistake == "not-answered"


def test_half_mended_accuracies_are_told_that_one_bug_is_gone():
    source = stub_cell("senet.honest_accuracy")
    lines = source.splitlines()
    tuning = [re.sub("test_", "val_", line) for line in lines[1:3]]
    for mended, mistake in (
        ([lines[0], *tuning, *lines[3:]], "decided-above"),
        ([*lines[:4], lines[4].replace(">", ">=")], "tuned-on-test"),
        ([lines[0], tuning[0], *lines[2:]], "tuned-on-test-among-val-decided-above"),
        ([lines[0], lines[1], tuning[1], *lines[3:]], "candidates-of-test-decided-above"),
        ([lines[0], tuning[0].replace(">=", ">"), tuning[1].replace(">=", ">"), *lines[3:]],
         "above-throughout"),
        ([lines[0], lines[1], tuning[1], *lines[3:4], lines[4].replace(">", ">=")],
         "candidates-of-test"),
    ):  # fmt: skip
        space = {"torch": torch}
        exec("\n".join(mended), space)
        result = exercise("senet.honest_accuracy").check(space["honest_accuracy"])
        assert not result.passed and result.mistake == mistake, mended
        assert "more than one thing" not in result.message
    space = {"torch": torch}
    exec("\n".join([lines[0], *tuning, lines[3], lines[4].replace(">", ">=")]), space)
    assert exercise("senet.honest_accuracy").check(space["honest_accuracy"]).passed


def test_two_mistakes_in_a_calibration_error_name_one():
    def unweighted_and_one_dropped(probabilities, labels, bins):
        kept = probabilities < 1
        return senet.bins_unweighted(probabilities[kept], labels[kept], bins)

    def lower_bin(probabilities, labels, bins):
        place = torch.bucketize(probabilities.float(), torch.linspace(0, 1, bins + 1)[1:-1])
        gap = [(probabilities - labels)[place == k].sum().abs().item() for k in range(bins)]
        return sum(gap) / len(labels)

    ex = exercise("senet.calibration_error")
    assert ex.check(lower_bin).mistake == "upper-end"
    assert not ex.check(unweighted_and_one_dropped).passed
    result = ex.check(lambda p, y, bins: senet.error_as_tensor(p, y, bins).numpy())
    assert not result.passed
    assert ex.check(lambda p, y, bins: metrics.calibration_error(p, y)).passed is False


def test_other_wrong_thresholds_and_temperatures():
    ex = exercise("senet.threshold_for_sensitivity")
    assert ex.check(threshold_by_quantile).mistake == "lower-quantile"

    def more_than(probabilities, labels, wanted):
        ill = probabilities[labels == 1].sort(descending=True).values
        good = [t.item() for t in ill if (ill >= t).double().mean() > wanted]
        return good[0] if good else ill[-1].item()

    result = ex.check(more_than)
    assert not result.passed and "more than that share" in result.message.replace("\n", " ")
    for steps in (100, 1000):

        def on_a_grid(p, y, wanted, steps=steps):
            for t in np.linspace(1, 0, steps + 1):
                if (p[y == 1] >= t).double().mean() >= wanted:
                    return float(t)
            return 0.0

        assert "grid" in ex.check(on_a_grid).mistake
    assert ex.check(lambda p, y, wanted: wanted).passed is False
    assert ex.check(lambda p, y, wanted: 0.5).passed is False
    rounded = ex.check(
        lambda p, y, wanted: (
            p[y == 1].sort(descending=True).values[round(wanted * int(y.sum())) - 1].item()
        )
    )
    assert rounded.mistake == "rounded-to-nearest"
    ex = exercise("senet.best_temperature")
    assert ex.check(lambda z, y, candidates: candidates.median().item()).passed is False
    for change in (
        lambda z, y: (z, y.float(), (y == 0).sum() / y.sum()),
        lambda z, y: (z.double(), y.double(), ((1 - y).sum() / y.sum()).double()),
    ):

        def weighted(z, y, candidates, change=change):
            z, y, w = change(z, y)
            costs = [F.binary_cross_entropy_with_logits(z / t, y, pos_weight=w) for t in candidates]
            return candidates[torch.stack(costs).argmin()].item()

        assert ex.check(weighted).mistake == "class-weight"

    def balanced(z, y, candidates):
        def cost(t):
            losses = F.binary_cross_entropy_with_logits(z / t, y.float(), reduction="none")
            return (losses[y == 0].mean() + losses[y == 1].mean()).item()

        return min(candidates.tolist(), key=cost)

    assert ex.check(balanced).mistake == "class-weight"

    def by_hand(z, y, candidates):
        y, costs = y.float(), []
        for t in candidates:
            p = torch.sigmoid(z / t)
            costs.append(-(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean().item())
        return candidates[int(np.argmin(costs))].item()

    assert ex.check(by_hand).mistake == "log-of-zero"
    one_image = ex.check(
        lambda z, y, candidates: min(
            candidates.tolist(), key=lambda t: F.cross_entropy(z / t, y.float()).item()
        )
    )
    assert one_image.mistake == "softmax-over-the-images"
    fitted = ex.check(lambda z, y, candidates: metrics.temperature(z, y))
    assert not fitted.passed, "the best candidate is asked for, not the best number"


def test_values_near_the_answer_are_told_apart():
    ex = exercise("senet.after_shift")
    assert ex.check(0.08).mistake == "probabilities-multiplied"
    assert ex.check(0.22).mistake == "odds-not-turned-back"
    assert ex.check(0.67).mistake == "old-mix-only"
    assert ex.check(0.2).passed is False and ex.check(18.2).mistake == "in-percent"
    assert ex.check(18).mistake == "in-whole-percent" and ex.check(-1.5).mistake == "logit"
    assert ex.check(0.82).mistake == "of-being-healthy"
    assert ex.check(0.444).mistake == "new-mix-only-as-odds"


# Facts that the chapter states -------------------------------------------------------------------


def test_the_value_to_predict_is_what_the_course_computes():
    z = torch.logit(torch.tensor(0.8))
    answer = metrics.prior_shift(z, 2 / 3, 1 / 10).sigmoid().item()
    assert senet.after_shift() == pytest.approx(answer, abs=1e-6)


def test_references_agree_with_the_course():
    for p, y, bins in exercise("senet.calibration_error").inputs(seed=3):
        expected = metrics.calibration_error(p, y, bins)
        assert senet.calibration_error(p, y, bins) == pytest.approx(expected, abs=1e-6)
    for z, y, candidates in exercise("senet.best_temperature").inputs(seed=3):
        chosen = senet.best_temperature(z, y, candidates)
        ratio = (candidates / metrics.temperature(z, y)).log().abs()
        assert chosen in candidates[ratio.argsort()[:2]].tolist()


def test_attention_stands_where_the_chapter_says_for_every_kind():
    torch.manual_seed(0)
    x = torch.randn(2, 32, 6, 6).relu()
    for attention in (SqueezeExcitation, ECA, CBAM):
        block = ResidualBlock(32, 32, attention=attention).eval()
        found = block.norm2(block.conv2(block.norm1(block.conv1(x)).relu()))
        expected = (block.attention.weights(found) * found + x).relu()
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("attention", [SqueezeExcitation, ECA, CBAM])
def test_all_arms_of_the_chapter_share_their_start(attention):
    states = []
    for kind in (None, attention):
        torch.manual_seed(3)
        states.append(SEResNet(width=32, attention=kind).state_dict())
    plain, gated = states
    assert all(torch.equal(gated[key], value) for key, value in plain.items())
    more = sum(v.numel() for k, v in gated.items() if k not in plain)
    assert 0 < more < 0.02 * sum(v.numel() for v in plain.values())


def test_a_weighted_loss_trains_for_equal_classes():
    """The best constant answer under the weight N0 / N1 is one half, whatever the prevalence."""
    for ill in (1, 3, 7):
        labels = torch.tensor([1.0] * ill + [0.0] * 2)
        z = torch.zeros((), requires_grad=True)
        weight = torch.tensor(2 / ill)
        loss = F.binary_cross_entropy_with_logits(z.expand(len(labels)), labels, pos_weight=weight)
        loss.backward()
        assert z.grad.item() == pytest.approx(0, abs=1e-6)


def test_published_figures_stand_in_the_chapter_with_their_standing():
    text = inspect.cleandoc((chapters.NOTEBOOKS / "source" / "07_senet.md").read_text())
    for fact in ("13.5%", "20% less", "1.19", "0.29", "-0.37", "0.27", "-1.02", ".973"):
        assert fact in text, fact
    assert "chosen on the test set" in text and "not comparable" in text
