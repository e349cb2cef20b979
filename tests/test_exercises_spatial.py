"""Chapter 04: right answers written differently pass, inputs tell shortcuts apart, facts hold."""

import math

import pytest
import torch
from einops import reduce
from torch import nn
from torch.nn import functional as F

from course_utils import maps
from course_utils.attention import CBAM, ChannelAttention, SpatialAttention
from course_utils.exercises import exercise, texts

# Right answers written differently ---------------------------------------------------------------


def pooled_einops(x):
    return torch.cat([reduce(x, "n c h w -> n 1 h w", how) for how in ("mean", "max")], 1)


def pooled_einsum(x):
    mean = torch.einsum("nchw->nhw", x) / x.shape[1]
    return torch.stack((mean, torch.max(x, dim=1)[0]), dim=1)


def pooled_in_parts(x):
    result = x.new_empty(len(x), 2, *x.shape[2:])
    result[:, 0], result[:, 1] = x.sum(1) / x.size(1), x.sort(1, descending=True)[0][:, 0]
    return result


class PoolModule(nn.Module):
    def forward(self, x):
        return torch.concat([torch.mean(x, 1, True), torch.max(x, 1, True).values], 1)


class SameGate(nn.Module):
    def __init__(self, kernel_size=7):
        super().__init__()
        self.weigh = nn.Sequential(nn.Conv2d(2, 1, kernel_size, padding="same"), nn.Sigmoid())

    def forward(self, x):
        return self.weigh(pooled_einsum(x))


class PaddedByHand(nn.Module):
    def __init__(self, kernel_size):
        super().__init__()
        self.reach = (kernel_size - 1) // 2
        self.kernel = nn.Parameter(torch.zeros(1, 2, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        padded = F.pad(pooled_einops(x), [self.reach] * 4)
        return 1 / (1 + torch.exp(-F.conv2d(padded, self.kernel, self.bias)))


def gate_of(weights):
    class Gate(weights):
        def forward(self, x):
            return x * super().forward(x)

    return Gate


def pointing_flat(maps, masks):
    maps, masks = maps.flatten(1), masks.flatten(1).double()
    top = (maps >= maps.max(1, keepdim=True).values).double()
    share = torch.einsum("np,np->n", top, masks) / top.sum(1)
    share[masks.sum(1) == 0] = float("nan")
    return share


def pointing_loop(maps, masks):
    found = []
    for m, s in zip(maps, masks, strict=True):
        found.append(s.bool()[m == m.max()].float().mean() if s.any() else torch.tensor(math.nan))
    return torch.stack(found)


def enrichment_of_means(maps, masks):
    found = [m[s.bool()].mean() / m.mean() for m, s in zip(maps, masks, strict=True)]
    return torch.stack(found)


def enrichment_normalised_first(maps, masks):
    maps = maps / maps.sum((-2, -1), keepdim=True) * maps[0].numel()
    return (maps * masks).sum((-2, -1)) / masks.sum((-2, -1))


class BlockOfLayers(nn.Module):
    """Both halves written by hand: 1x1 convolutions, one perceptron for mean and maximum."""

    def __init__(self, channels, reduction, kernel_size):
        super().__init__()
        hidden = channels // reduction
        self.down, self.up = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding="same")

    def forward(self, x):
        pooled = (x.mean((2, 3), keepdim=True), F.adaptive_max_pool2d(x, 1))
        x = x * sum(self.up(self.down(p).relu()) for p in pooled).sigmoid()
        return x * self.conv(pooled_einsum(x)).sigmoid()


class HalvesInARow(nn.Sequential):
    def __init__(self, channels, reduction, kernel_size):
        super().__init__(ChannelAttention(channels, reduction), SpatialAttention(kernel_size))


def intervene_through_a_hook(gate, x, change):
    handle = gate.register_forward_hook(lambda g, given, out: given[0] * change(g.weights(*given)))
    try:
        return gate(x)
    finally:
        handle.remove()


def intervene_through_a_method_put_back(gate, x, change):
    weights = gate.weights
    gate.weights = lambda x: change(weights(x))
    try:
        return gate(x)
    finally:
        del gate.weights


FOUR = (2.5, 4.0, 4.5, 8.0)
GATES = (SameGate, PaddedByHand)
RIGHT = {
    "pool_channels": (pooled_einops, pooled_einsum, pooled_in_parts, PoolModule, PoolModule()),
    "CopiedGate": (*GATES, SameGate(3)),
    "SpatialGate": (SpatialAttention, lambda k: SpatialAttention(k), *map(gate_of, GATES)),
    "seen_in_both_orders": (FOUR, (FOUR[:2], FOUR[2:]), torch.tensor(FOUR).view(2, 2)),
    "CBAMBlock": (CBAM, BlockOfLayers, HalvesInARow, lambda c, r, k: CBAM(c, r, k)),
    "pointing_game": (maps.pointing_game, pointing_flat, pointing_loop),
    "enrichment": (maps.enrichment, enrichment_of_means, enrichment_normalised_first),
    "intervene": (intervene_through_a_hook, intervene_through_a_method_put_back),
}


# Inputs, and what the solutions rest on ----------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_inputs_hold_what_they_are_meant_to(seed):
    inputs = exercise("spatial.pointing_game").inputs(seed)
    for drawn, masks in ((d, m.bool()) for d, m in inputs if len(d) > 3):
        assert (drawn[1] < 0).all() and not masks[3].any() and len(drawn[2].unique()) == 1
        second, first = drawn[0].flatten().sort().values[-2:]
        assert 0.001 < first - second < 0.004  # nearly a tie, across the border of the mask
        assert masks[0][drawn[0] >= second].sum() == 1
    assert any((maps == maps.amax((1, 2), keepdim=True)).sum() > len(maps) for maps, _ in inputs)
    scores = exercise("spatial.enrichment").inputs(seed)
    assert {masks.dtype for _, masks in (*inputs, *scores)} == {torch.bool, torch.uint8}
    assert all((maps > 0).all() for maps, _ in scores) and max(m.max() for m, _ in scores) > 1
    gates = exercise("spatial.SpatialGate").inputs(seed)
    assert {k for k, *_ in gates} == {1, 3, 5, 7, 9} and any(k > x.shape[-1] for k, _, x in gates)
    blocks = exercise("spatial.CBAMBlock").inputs(seed)
    assert {training for *_, training, _ in (*gates, *blocks)} == {True, False}
    assert any(channels % reduction for channels, reduction, *_ in blocks)


def test_the_copied_gate_raises_as_the_chapter_says():
    snippet = texts.run(exercise("spatial.CopiedGate").text.start, texts.NAMES, "<start>")
    with pytest.raises(RuntimeError, match="to have 1 channels, but got 2 channels"):
        snippet(7)(torch.randn(8, 32, 16, 16))


def test_values_are_what_running_it_gives():
    spot = torch.tensor([[0.0, 1, 0, 1], [1, 2, 6, 2], [0, 2, 8, 3], [1, 0, 3, 2]])
    x = torch.stack([spot, torch.ones(4, 4)])[None]
    weighted = x * torch.tensor([0.5, 1]).view(1, 2, 1, 1)
    found = [p(v, 1)[0, 2, 2].item() for v in (weighted, x) for p in (torch.mean, torch.amax)]
    assert list(exercise("spatial.seen_in_both_orders").reference()) == found
