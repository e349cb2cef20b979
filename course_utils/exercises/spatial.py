"""Exercises of chapter 04: pooling over channels, spatial attention, CBAM, scores of a map."""

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import torch
from torch import nn

from course_utils.attention import SpatialAttention

from .engine import Inputs, Setup
from .trial import Shape, Trial, built


def _features(rng: torch.Generator) -> Inputs:
    shapes = ((1, 2, 3, 3), (2, 3, 4, 4), (3, 5, 6, 4), (2, 4, 5, 7), (1, 1, 4, 6), (4, 4, 4, 4))
    return [(2 * torch.randn(shape, generator=rng),) for shape in shapes]


def _block_inputs(rng: torch.Generator) -> Inputs:
    """Channels, a reduction with or without a rest, a kernel's size, either mode, features."""
    cases = ((1, 4, 6, 6, 2, 3), (2, 6, 8, 8, 2, 7), (3, 6, 5, 8, 3, 1), (1, 1, 7, 6, 1, 9))
    for i, (n, c, h, w, reduction, kernel) in enumerate((*cases, (4, 9, 7, 7, 4, 5))):
        x = torch.randn(n, c, h, w, generator=rng) * (150 if i == 4 else 1.5)  # exp overflows
        yield c, reduction, kernel, i % 2 == 0, x


def _gate_inputs(rng: torch.Generator) -> Inputs:
    return [given[2:] for given in _block_inputs(rng)]


def _maps_and_masks(rng: torch.Generator) -> Inputs:
    """Maps with ties and near ties, constant ones, negative ones, also with one 0; empty masks."""
    shapes = ((1, 3, 3), (2, 4, 4), (4, 5, 7), (5, 6, 4), (6, 4, 4), (5, 3, 8))
    for i, shape in enumerate(shapes):
        maps = torch.randn(shape, generator=rng)
        masks = torch.rand(shape, generator=rng) < 0.4
        masks[:, 0, 0], masks[:, -1, -1] = True, False
        if i in (3, 5):
            maps = (1.5 * maps).round()  # ties
        if len(maps) > 1:
            maps[1, 0, 0] = maps[1].max() + 1  # a hit, on a map that is negative everywhere
            maps[1] -= maps[1].max() + (i > 1)  # in the second case its highest value is 0
        # Nearly a tie, by a hair in the first two; the mask wins every other time.
        gap = 0.002 if len(maps) > 3 else 7e-7
        maps[0, 0, 0] = maps[0, -1, -1] = maps[0].max() + 1
        maps[0, 0, 0] += gap if i % 2 else -gap
        if len(maps) > 3:
            masks[3] = False
            masks[4:5, -1, -1] = True  # the last of equal pixels may be a hit, too
            maps[2], maps[4:] = 0.25 * (i % 2), -1  # all pixels tie, also below 0
            masks[2, 0, 0] = False
        yield maps, masks.to(torch.uint8) if i % 3 else masks


def _weights_and_masks(rng: torch.Generator) -> Inputs:
    """Maps on any scale and masks of many sizes; from four cases on, one of the masks is empty."""
    shapes = ((1, 3, 3), (2, 4, 4), (4, 5, 7), (5, 6, 4), (3, 8, 3), (6, 4, 4))
    for i, shape in enumerate(shapes):
        maps = torch.sigmoid(2 * torch.randn(shape, generator=rng))
        size = 0.15 + 0.6 * torch.rand(shape[0], 1, 1, generator=rng)
        masks = torch.rand(shape, generator=rng) < size
        masks[:, 0, 0], masks[:, -1, -1] = True, False
        if len(maps) > 3:
            masks[2] = False
            maps[3] = 0.25
        maps *= {3: 50, 4: 1e-4, 5: 1e-9}.get(i, 1)
        yield maps, masks.to(torch.uint8) if i % 2 else masks


def _leaving_the_gate(answer: Trial, gate: Any, x: torch.Tensor, change: Any) -> Any:
    """The answer's features; noted is whether it calls `change` twice, or alters the gate."""
    probe, counted = x.clone(), Mock(side_effect=change)
    before = gate(probe)
    found = answer(gate, x, counted)
    # Not an exception: a learner would be told that their own code had raised it.
    if counted.call_count > 1:
        answer.beside = "`change` is called more than once"
    if not torch.equal(gate(probe), before):
        answer.beside = "a gate left changed"
    return found


def _gates_and_changes(rng: torch.Generator) -> Inputs:
    """Gates in either mode, one with a norm, and what is done to the maps of a batch.

    In the second case half of the features are 0, in the fourth all weights are.
    """
    cases: tuple[tuple[int, Shape, Callable[[torch.Tensor], torch.Tensor]], ...] = (
        (1, (1, 3, 3, 4), lambda w: 1 - w),
        (3, (2, 2, 4, 5), lambda w: w.mean((2, 3), keepdim=True).expand_as(w)),
        (5, (3, 4, 5, 4), lambda w: w.roll(1, dims=0)),
        (3, (4, 3, 6, 3), lambda w: 1 - w.flip(0)),
        (7, (3, 5, 4, 4), lambda w: 3 * w**2 - 1),  # leaves (0, 1)
        (3, (2, 3, 5, 5), lambda w: w.roll(1, dims=3)),
    )
    for i, (kernel, shape, change) in enumerate(cases):
        gate = SpatialAttention(kernel, norm=nn.BatchNorm2d if i == 5 else None).train(i % 2 == 0)
        for parameter in gate.parameters():
            parameter.data.normal_(generator=rng)
        if i == 3 and gate.conv.bias is not None:
            gate.conv.bias.data -= 200
        x = 2 * torch.randn(shape, generator=rng)
        yield gate, x.relu() if i == 1 else x, change


EXERCISES = {
    "spatial.pool_channels": Setup(_features),
    "spatial.CopiedGate": Setup(_gate_inputs, call=built),
    "spatial.SpatialGate": Setup(_gate_inputs, call=built),
    "spatial.seen_in_both_orders": Setup(tolerance=1e-3),
    "spatial.CBAMBlock": Setup(_block_inputs, call=built),
    "spatial.pointing_game": Setup(_maps_and_masks),
    "spatial.enrichment": Setup(_weights_and_masks),
    "spatial.intervene": Setup(_gates_and_changes, call=_leaving_the_gate),
}
