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

    def __init__(self, channels: int):
        super().__init__()
        self.factor = nn.Parameter(torch.full((channels,), 3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != len(self.factor):
            raise ValueError(f"a gate for {len(self.factor)} channels got {x.shape[1]}")
        return x * (self.factor[:, None, None] * x.mean((2, 3), keepdim=True) + 0.3).sigmoid()


def _run_block(answer: Trial, *given: Any) -> Any:
    """The answer's block; noted is whether its gate is no part of it."""
    *settings, attention, training, x = given
    block = answer.module(*settings, attention)
    found = with_gradients(answer, block, x)
    if attention and not any(isinstance(part, MeanGate) for part in block.modules()):
        answer.beside = "the gate is no part of the module"
        return found
    # In training mode a norm hides the bias before it, and one norm would do for two places.
    return found if training else with_gradients(answer, block.eval(), x)


def _block_inputs(rng: torch.Generator) -> Inputs:
    """Stride or more channels, both, neither; fewer channels; an odd size; every third no gate."""
    first = (((2, 3, 5, 6), 3, 1), ((3, 2, 4, 4), 4, 1), ((2, 3, 4, 7), 3, 1), ((1, 4, 7, 8), 4, 2))
    then = (((2, 3, 9, 5), 3, 3), ((2, 4, 3, 5), 2, 1), ((2, 3, 6, 5), 3, 1), ((2, 2, 8, 6), 6, 2))
    for i, (size, channels, stride) in enumerate((*first, *then, ((3, 2, 4, 6), 4, 2))):
        gate = None if i % 3 == 2 else MeanGate
        yield size[1], channels, stride, gate, i < 6, torch.randn(size, generator=rng)


def _sensitivity_inputs(rng: torch.Generator) -> Inputs:
    """On an uneven grid, so that ties occur; `wanted` is met exactly in halves and by all alone.

    So rounding a share to float32 or in a product decides nothing: it is not what is learned here.
    """
    cases = ((1, 2, 0.5), (4, 3, 0.5), (6, 8, 0.3), (8, 5, 0.75), (9, 12, 0.8), (6, 12, 1.0))
    for positive, negative, wanted in (*cases, (16, 30, 0.5), (68, 45, 0.9)):
        labels = (torch.arange(positive + negative) < positive).long()
        probabilities = torch.rand(len(labels), generator=rng, dtype=torch.float64)
        steps = 100 if positive < 9 else 5000
        probabilities = ((0.75 * probabilities + 0.2 * labels) * steps).round() / steps
        probabilities = 0.0313 + 0.94 * probabilities.sqrt()  # no whole hundredths
        if positive > 10:
            probabilities[: positive // 5] = probabilities[0]
        if wanted == 1:
            probabilities[:2] = torch.tensor([0.0, 1.0])
        order = torch.randperm(len(labels), generator=rng)
        dtype = torch.float64 if positive in (6, 9) else torch.float32
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
            p = 0.45 + gap * (labels - 0.5) + 0.3 * torch.randn(size, generator=rng)
            parts += [(20 * p.clamp(0, 1)).round() / 20, labels]
        yield tuple(parts)
    for case in (
        # Two thresholds are equally good on validation; no test image lies just below the lower.
        ([0.7, 0.1, 0.5, 0.2], [1, 0, 0, 1], [0.3, 0.4, 0.6, 0.9, 0.8], [0, 0, 0, 1, 1]),
        # A wide gap on validation, and test images in it.
        ([0.05, 0.15, 0.8, 0.85], [0, 0, 1, 1], [0.1, 0.25, 0.65, 0.7, 0.9, 0.95], [0] * 6),
        # The best threshold is the lowest probability, then the highest one, of a negative.
        ([0.2, 0.4, 0.6, 0.8], [1, 1, 1, 0], [0.05, 0.1, 0.3, 0.5, 0.7], [0, 0, 1, 1, 0]),
        ([0.1, 0.3, 0.4, 0.5, 0.8], [0, 1, 0, 0, 0], [0.6, 0.45, 0.75, 0.8, 0.9], [1, 1, 0, 0, 0]),
    ):
        yield tuple(map(torch.tensor, case))


def _said_and_found(rng: torch.Generator) -> Inputs:
    """Bins from `low` on and below `high` hold images: all, or a range that ends within (0, 1).

    Beside 0 and 1, ends of bins occur only where they are exact floats.
    """
    cases = ((6, 2, 0, 2), (5, 1, 0, 1), (13, 4, 1, 3), (21, 8, 0, 8), (24, 10, 1, 8))
    for n, bins, low, high in (*cases, (60, 7, 2, 6), (200, 15, 0, 15)):
        place = torch.randint(low, high, (n,), generator=rng)
        place[: n // 3] = low
        place[n // 3 : n // 2] = high - 1
        probabilities = (place + 0.1 + 0.8 * torch.rand(n, generator=rng)) / bins
        labels = (torch.rand(n, generator=rng) < 0.2 + 0.5 * probabilities).long()
        if high - low == bins > 1:
            probabilities[:2], labels[:2] = torch.tensor([0.0, 1]), torch.tensor([1, 0])
        if bins == 8:
            probabilities[2:10] = torch.randint(1, 8, (8,), generator=rng) / 8
        yield probabilities.double() if n % 2 else probabilities, labels, bins
    # In the last bin, 1 errs in one direction and all others in the other one.
    probabilities = torch.tensor([0.9, 1.0, 0.8, 0.3, 0.85, 0.1, 0.95])
    yield probabilities, torch.tensor([1, 0, 1, 0, 1, 0, 1]), 4


def _tempered(rng: torch.Generator) -> Inputs:
    """Logits that are too large or too small by a known factor, and a coarse grid around it."""
    # With 0.7 the best is below 1, others are not.
    for n, factor, count in ((60, 3.0, 5), (90, 0.7, 6), (75, 1.9, 9), (120, 4.5, 8)):
        z = 2 * torch.randn(n, generator=rng) + 0.5
        labels = (torch.rand(n, generator=rng) < z.sigmoid()).long()
        labels[:2] = torch.tensor([0, 1])
        steps = torch.randperm(count, generator=rng) - count // 2
        yield factor * z, labels, factor * 1.45**steps
    # Nine of ten are positive and often missed, the negatives are cleared for sure: there, weights
    # that balance the classes sharpen.
    labels = (torch.arange(90) > 8).long()
    z = torch.tensor([2.0, 2, -2]).repeat(30) + 0.2 * torch.randn(90, generator=rng)
    z[:9] = -6
    yield 2.5 * z, labels, 2.5 * torch.tensor([0.6, 1.1, 1.8, 0.4, 3.2])
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


EXERCISES = {
    "senet.Block": Setup(_block_inputs, call=_run_block),
    "senet.threshold_for_sensitivity": Setup(_sensitivity_inputs, tolerance=1e-6),
    "senet.honest_accuracy": Setup(_val_and_test),
    "senet.calibration_error": Setup(_said_and_found),
    "senet.after_shift": Setup(tolerance=0.004),
    "senet.best_temperature": Setup(_tempered),
}
