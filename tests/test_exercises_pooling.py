"""Chapter 09: right answers written differently pass, and the solutions are those of the course."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from course_utils import pooling
from course_utils.exercises import exercise
from course_utils.tasks import bags

# Right answers written differently ---------------------------------------------------------------


def mean_by_loop(x, mask):
    return torch.stack([bag[real].mean(0) for bag, real in zip(x, mask, strict=True)])


def mean_by_nan(x, mask):
    return x.masked_fill(~mask.unsqueeze(2), math.nan).nanmean(1)


def mean_by_matrix(x, mask):
    weights = mask.float() / mask.float().sum(1, keepdim=True)
    return torch.einsum("bn,bnc->bc", weights, x)


def lse_shifted_by_hand(x, r):
    top = x.max(1, keepdim=True).values
    return top[:, 0] + (r * (x - top)).exp().mean(1).log() / r


def lse_shifted_by_log_n(x, r):
    return (r * x - np.log(x.shape[1])).logsumexp(1) / r


def weights_by_hand(scores, mask):
    scores = torch.where(mask, scores, -torch.inf)
    e = torch.exp(scores - scores.amax(1, keepdim=True))
    return e / e.sum(1, keepdim=True)


def weights_by_large_number(scores, mask):
    return torch.softmax(scores.masked_fill(mask.logical_not(), -1e9), 1)


def weights_by_loop(scores, mask):
    found = torch.zeros_like(scores)
    for row, one, real in zip(found, scores, mask, strict=True):
        row[real] = one[real].softmax(0)
    return found


class PoolOfSequential(nn.Module):
    def __init__(self, channels, hidden, bias=False):
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(channels, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=bias), nn.Softmax(1)
        )

    def weights(self, x):
        return self.score(x).squeeze(-1)

    def forward(self, x):
        return torch.einsum("bn,bnc->bc", self.weights(x), x)


class PoolOfParameters(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(hidden))
        self.v, self.b = nn.Parameter(torch.zeros(hidden, channels)), nn.Parameter(self.w.detach())

    def weights(self, x):
        e = torch.exp(torch.tanh(x @ self.v.T + self.b) @ self.w)
        return e / e.sum(1, keepdim=True)

    def forward(self, x):
        return (self.weights(x).unsqueeze(1) @ x).squeeze(1)


class GateFirst(nn.Module):
    """U is created before V, and w has a bias or none."""

    def __init__(self, channels, hidden, bias=True):
        super().__init__()
        self.score = nn.Linear(hidden, 1, bias=bias)
        self.gate = nn.Sequential(nn.Linear(channels, hidden), nn.Sigmoid())
        self.feature = nn.Sequential(nn.Linear(channels, hidden), nn.Tanh())

    def weights(self, x):
        return torch.flatten(self.score(self.gate(x) * self.feature(x)), 1).softmax(-1)

    def forward(self, x):
        return torch.bmm(self.weights(x)[:, None], x)[:, 0]


class BothInOneLayer(GateFirst):
    """The convolution of one pixel is a linear layer, too."""

    def __init__(self, channels, hidden):
        super().__init__(channels, hidden)
        self.feature = nn.Sequential(nn.Conv1d(channels, hidden, 1), nn.Tanh())

    def weights(self, x):
        hidden = self.gate(x) * self.feature(x.mT).mT
        return self.score(hidden)[:, :, 0].softmax(1)


def top_by_gather(map, place):
    kept = [k for k, p in enumerate(place.tolist()) if p >= 0]
    own = map[kept].gather(1, place[kept, None])[:, 0]
    return (own >= map[kept].amax(1)).double().mean()


def top_by_loop(map, place):
    pairs = [(m.tolist(), p) for m, p in zip(map, place.tolist(), strict=True) if p != -1]
    return sum(m.index(max(m)) == p for m, p in pairs) / len(pairs)


def top_by_count(map, place):
    return (map.argmax(1) == place).sum() / (place >= 0).sum()


def or_by_loop(p):
    found = torch.zeros(len(p))
    for column in p.T:
        found = found + (1 - found) * column
    return found


RIGHT = {
    "masked_mean": (mean_by_loop, mean_by_nan, mean_by_matrix, pooling.MeanPooling()),
    "log_sum_exp": (
        lse_shifted_by_hand,
        lse_shifted_by_log_n,
        lambda x, r: pooling.LogSumExpPooling(r)(x[..., None])[:, 0],
    ),
    "bag_weights": (weights_by_hand, weights_by_large_number, weights_by_loop),
    "AttentionPool": (
        partial(pooling.AttentionPooling, gated=False),
        PoolOfSequential,
        partial(PoolOfSequential, bias=True),
        PoolOfParameters,
    ),
    "GatedPool": (
        pooling.AttentionPooling,
        GateFirst,
        partial(GateFirst, bias=False),
        BothInOneLayer,
    ),
    "top_one": (
        top_by_gather,
        top_by_loop,
        top_by_count,
        lambda map, place: bags.pointed(map, place)["top1"],
    ),
    "noisy_or": (or_by_loop, lambda p: -torch.expm1(torch.log1p(-p).sum(1))),
}


# Inputs, and what the solutions rest on ----------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_inputs_hold_what_they_are_meant_to(seed):
    for name in ("pooling.masked_mean", "pooling.bag_weights"):
        masks = [mask for _, mask in exercise(name).inputs(seed)]
        assert all(mask.any(1).all() for mask in masks)
        assert not any(mask[0].all() for mask in masks if mask.shape[1] > 1)
    scores = exercise("pooling.log_sum_exp").inputs(seed)
    assert {(r * x).exp().isinf().any().item() for x, r in scores} == {True, False}
    for map, place in exercise("pooling.top_one").inputs(seed):
        hits = (map.argmax(1) == place)[place >= 0]
        assert hits.any() and (len(map) == 1 or (not hits.all() and (place < 0).any()))
        assert len(map.unique()) == map.numel()  # no ties
    sure = [p for (p,) in exercise("pooling.noisy_or").inputs(seed) if (p == 1).any()]
    assert sure and all((p == 0).all(1).any() for p in sure)


@pytest.mark.parametrize(("topic", "gated"), [("AttentionPool", False), ("GatedPool", True)])
def test_the_module_is_that_of_the_course(topic, gated):
    ex = exercise(f"pooling.{topic}")
    for channels, hidden, _, x in ex.inputs(seed=5):
        mine, ours = (
            ex.reference(channels, hidden),
            pooling.AttentionPooling(channels, hidden, gated),
        )
        ours.tanh[0].load_state_dict(mine.V.state_dict())
        ours.score.weight.data.copy_(mine.w.weight.data)
        if gated:
            ours.gate[0].load_state_dict(mine.U.state_dict())
        torch.testing.assert_close(mine.weights(x), ours.weights(x))
        torch.testing.assert_close(mine(x), ours(x))


def test_many_small_probabilities_add_up():
    p = exercise("pooling.noisy_or").reference(torch.full((1, 100), 0.01))
    assert p.item() == pytest.approx(0.63, abs=0.005)  # the number of the text
