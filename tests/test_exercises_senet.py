"""Chapter 07: right answers written differently pass, inputs are not too kind, facts hold."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import metrics
from course_utils.exercises import exercise
from course_utils.senet import ResidualBlock

# Right answers written differently ---------------------------------------------------------------


class BlockOfAttributes(nn.Module):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__()
        self.shortcut = None
        if stride > 1 or channels != in_channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
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


def threshold_by_rank(probabilities, labels, wanted):
    positives = sorted(probabilities[labels == 1].tolist(), reverse=True)
    return positives[math.ceil(wanted * len(positives)) - 1]


def threshold_by_roc(probabilities, labels, wanted):
    from sklearn.metrics import roc_curve

    _, found, thresholds = roc_curve(labels, probabilities, drop_intermediate=False)
    return float(thresholds[np.argmax(found >= wanted)])


def threshold_by_while(probabilities, labels, wanted):
    for t in probabilities.unique().flip(0):
        if ((probabilities >= t) & (labels == 1)).sum() >= wanted * labels.sum():
            return float(t)
    return None


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


def temperature_by_softplus(logits, labels, candidates):
    signed = torch.where(labels == 1, logits, -logits)
    costs = F.softplus(-signed[:, None] / candidates).mean(0)
    return float(candidates[costs.argmin()])


def temperature_by_hand(logits, labels, candidates):
    p = torch.sigmoid(logits.double() / candidates.double()[:, None])
    right = torch.where(labels == 1, p, 1 - p).clamp(min=1e-300)
    return candidates[right.log().sum(1).argmax()].item()


RIGHT = {
    "senet.Block": [BlockOfAttributes, BlockInPlace, ResidualBlock],
    "senet.threshold_for_sensitivity": [threshold_by_rank, threshold_by_roc, threshold_by_while],
    "senet.honest_accuracy": [honest_by_loop, honest_by_matrix],
    "senet.calibration_error": [
        error_by_numpy, error_by_edges, metrics.calibration_error,
    ],
    "senet.after_shift": [0.18, 2 / 11, 0.182, torch.tensor(0.1818), np.float64(0.18)],
    "senet.best_temperature": [temperature_by_softplus, temperature_by_hand],
}  # fmt: skip


# Wrong answers that no edit of a solution makes --------------------------------------------------


def test_layers_made_in_forward_are_refused():
    class Made(BlockOfAttributes):
        def forward(self, x):
            return super().forward(nn.Conv2d(x.shape[1], x.shape[1], 1)(x))

    assert exercise("senet.Block").check(Made).mistake == "not-a-module"


def test_the_code_with_two_bugs_is_recognised():
    space = {"torch": torch}
    exec(exercise("senet.honest_accuracy").text.start, space)
    assert exercise("senet.honest_accuracy").check(space["honest_accuracy"]).mistake == "as-it-was"


# Inputs ------------------------------------------------------------------------------------------


def test_probabilities_reach_0_and_1_and_elsewhere_do_not_fill_the_range():
    seen = [p for p, _, _ in exercise("senet.calibration_error").inputs()]
    assert sum(p.min() == 0 and p.max() == 1 for p in seen) >= 3
    assert sum(p.min() > 0 and p.max() < 1 for p in seen) >= 4
    seen = [p[y == 1] for p, y, _ in exercise("senet.threshold_for_sensitivity").inputs()]
    assert any(p.min() == 0 and p.max() == 1 for p in seen)


def test_a_wanted_sensitivity_is_met_exactly_and_is_not():
    at = []
    for p, y, wanted in exercise("senet.threshold_for_sensitivity").inputs():
        t = exercise("senet.threshold_for_sensitivity").reference(p, y, wanted)
        at.append((p[y == 1] >= t).double().mean().item() - wanted)
    assert min(at) == 0 and at.count(0) >= 3 and sum(gap > 0.01 for gap in at) >= 3


def test_every_candidate_for_a_temperature_but_one_costs_more():
    """No rounding decides: the second best is worse by more than float32 can err."""
    for z, y, candidates in exercise("senet.best_temperature").inputs():
        costs = F.softplus((1 - 2 * y) * z.double() / candidates[:, None]).mean(1)
        best, second = costs.sort().values[:2]
        assert second - best > 1e-4


# Facts that the chapter states -------------------------------------------------------------------


def test_the_value_to_predict_is_what_the_course_computes():
    z = torch.logit(torch.tensor(0.8))
    answer = metrics.prior_shift(z, 2 / 3, 1 / 10).sigmoid().item()
    assert exercise("senet.after_shift").reference() == pytest.approx(answer, abs=1e-6)


def test_references_agree_with_the_course():
    ex = exercise("senet.calibration_error")
    for p, y, bins in ex.inputs(seed=3):
        expected = metrics.calibration_error(p, y, bins)
        assert ex.reference(p, y, bins) == pytest.approx(expected, abs=1e-6)
    ex = exercise("senet.best_temperature")
    for z, y, candidates in ex.inputs(seed=3):
        ratio = (candidates / metrics.temperature(z, y)).log().abs()
        assert ex.reference(z, y, candidates) in candidates[ratio.argsort()[:2]].tolist()
