"""Exercises of chapter 07: a residual block, thresholds, calibration."""

from typing import Any

import torch
from torch import nn

from .engine import Inputs, Setup
from .trial import Trial, with_gradients


class MeanGate(nn.Module):
    """A gate for the check: each channel by the sigmoid of its mean, times a weight.

    The check overwrites the weights of a block. A gate that is no part of it keeps its own.
    """

    called = False

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.factor = nn.Parameter(torch.full((channels,), 3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != self.channels:
            raise ValueError(
                f"The gate was built for {self.channels} channels and got {x.shape[1]}."
            )
        MeanGate.called = True
        return x * (self.factor[:, None, None] * x.mean((2, 3), keepdim=True) + 0.3).sigmoid()


def _run_block(
    answer: Trial, in_channels: int, channels: int, stride: int, attention: Any, x: Any, mode: str
) -> Any:
    """The answer's block; noted is whether it uses a gate that is no part of it."""
    block = answer.module(in_channels, channels, stride, attention)
    MeanGate.called = False
    found = with_gradients(answer, block, x)
    if MeanGate.called and not any(isinstance(part, MeanGate) for part in block.modules()):
        answer.beside = "the gate is no part of the module"
        return found
    # In training mode a norm hides the bias before it, and one norm would do for two places.
    return found if mode == "train" else with_gradients(answer, block.eval(), x)


def _block_inputs(rng: torch.Generator) -> Inputs:
    """Stride or more channels, both, neither; fewer channels; an odd size."""
    for in_channels, channels, stride, gate, size, mode in (
        (3, 3, 1, MeanGate, (2, 3, 5, 6), "train"),
        (2, 4, 1, MeanGate, (3, 2, 4, 4), "train"),
        (4, 4, 2, MeanGate, (1, 4, 7, 8), "train"),
        (3, 3, 3, MeanGate, (2, 3, 9, 5), "train"),
        (3, 3, 1, None, (2, 3, 4, 7), "train"),
        (4, 2, 1, None, (2, 4, 3, 5), "train"),
        (3, 3, 1, MeanGate, (2, 3, 6, 5), "eval"),
        (2, 6, 2, MeanGate, (2, 2, 8, 6), "eval"),
        (2, 4, 2, None, (3, 2, 4, 6), "eval"),
    ):
        yield in_channels, channels, stride, gate, torch.randn(size, generator=rng), mode


def _sensitivity_inputs(rng: torch.Generator) -> Inputs:
    """On an uneven grid, so that ties occur; `wanted` is met exactly in halves and by all alone.

    So rounding a share to float32 or in a product decides nothing: it is not what is learned here.
    """
    for positive, negative, wanted, dtype in (
        (1, 2, 0.5, torch.float32),
        (4, 3, 0.5, torch.float32),
        (6, 8, 0.3, torch.float64),
        (8, 5, 0.75, torch.float32),
        (9, 12, 0.8, torch.float64),
        (6, 12, 1.0, torch.float64),
        (16, 30, 0.5, torch.float32),
        (68, 45, 0.9, torch.float32),
    ):
        labels = torch.cat([torch.ones(positive), torch.zeros(negative)]).long()
        probabilities = torch.rand(len(labels), generator=rng, dtype=torch.float64)
        steps = 100 if positive < 9 else 5000
        probabilities = ((0.75 * probabilities + 0.2 * labels) * steps).round() / steps
        probabilities = 0.0313 + 0.94 * probabilities.sqrt()  # no whole hundredths
        if positive > 10:
            probabilities[: positive // 5] = probabilities[0]
        if wanted == 1:
            probabilities[:2] = torch.tensor([0.0, 1.0])
        order = torch.randperm(len(labels), generator=rng)
        yield probabilities[order].to(dtype), labels[order], wanted


def _val_and_test(rng: torch.Generator) -> Inputs:
    """On a grid of twentieths, so that some images lie at the threshold; test is another mix.

    Few positives on validation, or few negatives: there other scores want other thresholds than
    accuracy does. Test sets are large, so that another threshold gives another accuracy.
    """
    sizes = ((9, 8, 0.7, 0.3), (25, 150, 0.6, 0.35), (120, 200, 0.15, 0.5), (90, 160, 0.8, 0.35))
    for n, m, before, after in sizes:
        parts = []
        for size, share, gap in ((n, before, 0.4), (m, after, 0.2)):
            labels = (torch.rand(size, generator=rng) < share).long()
            labels[:2] = torch.tensor([0, 1])
            noise = 0.3 * torch.randn(size, generator=rng)
            p = (0.45 + gap * (labels - 0.5) + noise).clamp(0, 1)
            parts += [(p * 20).round() / 20, labels]
        yield tuple(parts)
    for val_p, val_labels, test_p, test_labels in (
        # Two thresholds are equally good on validation; no test image lies just below the lower.
        ([0.7, 0.1, 0.5, 0.2], [1, 0, 0, 1], [0.3, 0.4, 0.6, 0.9, 0.8], [0, 0, 0, 1, 1]),
        # A wide gap on validation, and test images in it.
        ([0.05, 0.15, 0.8, 0.85], [0, 0, 1, 1], [0.1, 0.25, 0.65, 0.7, 0.9, 0.95], [0] * 6),
        # The best threshold is the lowest probability, then the highest one, of a negative.
        ([0.2, 0.4, 0.6, 0.8], [1, 1, 1, 0], [0.05, 0.1, 0.3, 0.5, 0.7], [0, 0, 1, 1, 0]),
        (
            [0.1, 0.3, 0.4, 0.5, 0.7, 0.8],
            [0, 1, 0, 0, 0, 0],
            [0.6, 0.45, 0.75, 0.8, 0.9, 0.2],
            [1, 1, 0, 0, 0, 0],
        ),
    ):
        parts = [torch.tensor(val_p), torch.tensor(val_labels)]
        yield *parts, torch.tensor(test_p), torch.tensor(test_labels)


def _said_and_found(rng: torch.Generator) -> Inputs:
    """Bins from `low` on and below `high` hold images: all, or a range that ends within (0, 1).

    Beside 0 and 1, ends of bins occur only where they are exact floats.
    """
    for n, bins, low, high, dtype in (
        (6, 2, 0, 2, torch.float32),
        (5, 1, 0, 1, torch.float64),
        (13, 4, 1, 3, torch.float64),
        (24, 10, 1, 8, torch.float32),
        (60, 7, 2, 6, torch.float64),
        (200, 15, 0, 15, torch.float32),
    ):
        place = torch.randint(low, high, (n,), generator=rng)
        place[: n // 3] = low
        place[n // 3 : n // 2] = high - 1
        inside = 0.1 + 0.8 * torch.rand(n, generator=rng, dtype=torch.float64)
        probabilities = (place + inside) / bins
        labels = (torch.rand(n, generator=rng) < 0.2 + 0.5 * probabilities).long()
        if high - low == bins > 1:
            probabilities[:2] = torch.tensor([0.0, 1.0])
            labels[:2] = torch.tensor([1, 0])
        order = torch.randperm(n, generator=rng)
        yield probabilities[order].to(dtype), labels[order], bins
    probabilities = torch.rand(21, generator=rng)
    probabilities[:10] = torch.randint(1, 8, (10,), generator=rng) / 8
    probabilities[:2] = torch.tensor([0.0, 1.0])
    labels = (torch.rand(21, generator=rng) < 0.5).long()
    labels[:2] = torch.tensor([1, 0])
    yield probabilities, labels, 8
    # In the last bin, 1 errs in one direction and all others in the other one.
    probabilities = torch.tensor([0.9, 1.0, 0.8, 0.3, 0.85, 0.1, 0.95])
    yield probabilities, torch.tensor([1, 0, 1, 0, 1, 0, 1]), 4


def _tempered(rng: torch.Generator) -> Inputs:
    """Logits that are too large or too small by a known factor, and a coarse grid around it."""
    for n, factor, count in ((60, 3.0, 5), (90, 0.4, 6), (75, 1.9, 9), (120, 4.5, 8)):
        z = 2 * torch.randn(n, generator=rng) + 0.5
        labels = (torch.rand(n, generator=rng) < z.sigmoid()).long()
        labels[:2] = torch.tensor([0, 1])
        candidates = factor * 1.45 ** (torch.arange(count).float() - count // 2)
        candidates = candidates[torch.randperm(count, generator=rng)]
        yield factor * z, labels, candidates
    # Nine of ten are positive and often missed, the negatives are cleared for sure: there, weights
    # that balance the classes sharpen.
    for n, factor in ((60, 1.0), (90, 2.5)):
        labels = torch.ones(n).long()
        z = torch.tensor([2.0, 2, -2]).repeat(n // 3) + 0.2 * torch.randn(n, generator=rng)
        labels[: n // 10], z[: n // 10] = 0, -6.0
        yield factor * z, labels, factor * torch.tensor([0.6, 1.1, 1.8, 0.4, 3.2])
    # One sure mistake weighs much more in the logarithm than in a square.
    z = torch.tensor([3.0, -3] * 20 + [-12]) + 0.2 * torch.randn(41, generator=rng)
    labels = torch.tensor([1, 0] * 20 + [1])
    yield z, labels, torch.tensor([1.6, 0.8, 20.0, 1.1, 5.0])
    # Many false alarms.
    z = torch.tensor([2.0] * 38 + [-2] * 3) + 0.2 * torch.randn(41, generator=rng)
    labels = (torch.arange(41) < 22).long()
    yield z, labels, torch.tensor([0.7, 4.0, 12.0, 1.5, 40.0, 2.4])
    # A mistake so sure that in float32 its probability is 0, at T = 2 as well.
    labels = (torch.arange(51) > 0).long()
    yield torch.tensor([36.0] + [3] * 50), labels, torch.tensor([1.0, 2])
    # Too hesitant: the best is below 1, others are not.
    labels = (torch.arange(53) < 50).long()
    yield 0.6 * labels - 0.3, labels, torch.tensor([2.0, 0.5, 1])


EXERCISES = {
    "senet.Block": Setup(_block_inputs, call=_run_block),
    "senet.threshold_for_sensitivity": Setup(_sensitivity_inputs, tolerance=1e-6),
    "senet.honest_accuracy": Setup(_val_and_test),
    "senet.calibration_error": Setup(_said_and_found),
    "senet.after_shift": Setup(tolerance=0.004),
    "senet.best_temperature": Setup(_tempered),
}
