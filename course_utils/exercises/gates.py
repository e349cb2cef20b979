"""Exercises of chapter 06: the attention gate in both its forms, and how two arms are compared."""

import torch
from torch import nn

from .engine import Inputs, Setup
from .trial import built


def _filled(module: nn.Module, rng: torch.Generator) -> nn.Module:
    """A module with weights drawn from `rng`, large enough that steps left out are seen."""
    for parameter in module.parameters():
        parameter.data.normal_(generator=rng)
    return module


def _signals(rng: torch.Generator) -> Inputs:
    """Numbers of channels, a mode, x, and a signal: half its size, rounded, smaller, or equal."""
    halves = ((1, 2, 3, 5, (4, 4), (2, 2)), (2, 3, 4, 2, (4, 6), (2, 3)))
    rounded = (3, 2, 5, 4, (15, 7), (11, 4))  # 11 * (15 / 11) is rounded to less than 15
    smaller, equal = (1, 3, 5, 4, (8, 6), (2, 3)), (2, 1, 2, 3, (3, 5), (3, 5))
    for i, (n, c, c_g, hidden, size, coarse) in enumerate((*halves, rounded, smaller, equal)):
        scale = 100 if size == (8, 6) else 2  # a logit beyond exp's range
        x, g = torch.randn(n, c, *size, generator=rng), torch.randn(n, c_g, *coarse, generator=rng)
        yield c, c_g, hidden, i % 2 == 0, scale * x, scale * g


def _gates(rng: torch.Generator) -> Inputs:
    for c, c_g, hidden, _, x, g in _signals(rng):
        layers = nn.Conv2d(c, hidden, 1), nn.Conv2d(c_g, hidden, 1), nn.Conv2d(hidden, 1, 1)
        yield x, g, *(_filled(layer, rng) for layer in layers)


def _steps(rng: torch.Generator) -> Inputs:
    from course_utils.attention import AttentionGate

    for n, c, h, w in ((1, 2, 2, 2), (2, 3, 2, 3), (3, 4, 4, 2), (2, 2, 3, 5), (1, 5, 1, 4)):
        x = 2 * torch.randn(n, 2 * c, h, w, generator=rng)
        skip = 2 * torch.randn(n, c, 2 * h, 2 * w, generator=rng)
        layers = nn.ConvTranspose2d(2 * c, c, 2, 2), AttentionGate(c, c), nn.Conv2d(2 * c, c, 1)
        yield x, skip, *(_filled(layer, rng) for layer in layers)


def _arms(rng: torch.Generator) -> Inputs:
    """Gains, losses, a tie; runs missing in one arm, in the other, in both for the same seed."""
    none: list[int] = []
    cases = ((3, 0.1, none, none), (5, -0.2, none, [1]), (2, 0.1, none, none), (6, 0.2, [5], [0]))
    both = (8, -0.1, [2, 6], [2, 7])  # in seed 2
    for seeds, gain, no_attention, no_control in (*cases, both, (7, 0.1, [3], none)):
        shared = 0.5 * torch.randn(seeds, generator=rng)
        control, attention = 8 + shared + 0.3 * torch.randn(2, seeds, generator=rng)
        attention += gain
        if seeds == 3:
            attention[1] = control[1]
        attention[no_attention] = control[no_control] = float("nan")
        yield attention, control


def _cases(rng: torch.Generator) -> Inputs:
    # Quantiles fall between two cases, or on one by a fraction without rounding.
    for n, groups in ((4, 1), (6, 2), (8, 3), (11, 4), (5, 5), (17, 5), (60, 7)):
        dice = torch.rand(n, generator=rng)
        areas = (torch.randperm(n, generator=rng) + 1) ** 2 * 12
        yield dice, areas, groups


EXERCISES = {
    "gates.gate_weights": Setup(_gates),
    "gates.lowest_weight": Setup(tolerance=0.005),
    "gates.GridGate": Setup(_signals, call=built),
    "gates.gated_step": Setup(_steps),
    "gates.gate_parameters": Setup(),
    "gates.paired_difference": Setup(_arms),
    "gates.dice_by_size": Setup(_cases),
}
