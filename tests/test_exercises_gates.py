"""Chapter 06: right answers written differently pass, and what its solutions rest on holds."""

from functools import partial

import numpy as np
import pytest
import torch
from einops import rearrange
from scipy.stats import sem, t
from torch import nn
from torch.nn import functional as F

from course_utils import ledger
from course_utils.attention import AttentionGate
from course_utils.exercises import exercise

# Right answers written differently ---------------------------------------------------------------


def gate_raised_first(x, g, skip, gate, psi):
    up = nn.Upsample(size=tuple(x.shape[2:]), mode="bilinear")
    return psi(F.relu(gate(up(g)) + skip(x))).sigmoid()


def gate_by_einsum(x, g, skip, gate, psi):
    raised = F.interpolate(g, size=x.shape[-2:], mode="bilinear", align_corners=False)
    a = torch.einsum("nchw,oc->nohw", x, skip.weight[:, :, 0, 0]) + skip.bias[:, None, None]
    b = torch.einsum("nchw,oc->nohw", raised, gate.weight[:, :, 0, 0]) + gate.bias[:, None, None]
    z = torch.einsum("nchw,c->nhw", (a + b).clamp(min=0), psi.weight[0, :, 0, 0]) + psi.bias
    return 1 / (1 + torch.exp(-z.unsqueeze(1)))


def gate_joined(x, g, skip, gate, psi):
    """One convolution of both maps behind each other is the sum of two convolutions."""
    both = torch.cat([x, F.interpolate(g, x.shape[2:], mode="bilinear")], 1)
    kernel = torch.cat([skip.weight, gate.weight], 1)
    return torch.sigmoid(psi(F.conv2d(both, kernel, skip.bias + gate.bias).relu()))


class GateModule(nn.Module):
    def forward(self, x, g, skip, gate, psi):
        return torch.special.expit(
            psi(nn.ReLU()(skip(x) + F.interpolate(gate(g), x.shape[2:], mode="bilinear")))
        )


class GridOfSequentials(nn.Module):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__()
        self.w_out = nn.Sequential(nn.Conv2d(channels, channels, kernel_size=1))
        self.to_logit = nn.Sequential(nn.ReLU(), nn.Conv2d(hidden, 1, 1), nn.Sigmoid())
        self.w_g = nn.Conv2d(gate_channels, hidden, kernel_size=(1, 1))
        self.w_x = nn.Conv2d(channels, hidden, kernel_size=(2, 2), stride=(2, 2), bias=False)

    def forward(self, x, g):
        found = self.w_x(x)
        found = found + F.interpolate(self.w_g(g), found.shape[2:], mode="bilinear")
        alpha = F.interpolate(self.to_logit(found), x.shape[2:], mode="bilinear")
        return self.w_out(alpha.expand_as(x) * x)


class GridListedTwice(GridOfSequentials):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.all = [self.w_x, self.w_g, self.to_logit, self.w_out]  # known to the module as well


class GridWithBiasAtTheSkip(GridOfSequentials):
    """An interpolated constant is that constant, so both places of the bias are right."""

    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.w_x = nn.Conv2d(channels, hidden, 2, 2)
        self.w_g = nn.Conv2d(gate_channels, hidden, 1, bias=False)


def step_by_weights(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.hstack((skip * gate.weights(skip, raised), raised)))


def step_by_filling(x, skip, up, gate, merge):
    raised = up(x)
    both = torch.empty(len(skip), 2 * skip.shape[1], *skip.shape[2:])
    both[:, : skip.shape[1]] = gate(x=skip, g=raised)
    both[:, skip.shape[1] :] = raised
    return merge(both)


class StepModule(nn.Module):
    def forward(self, x, skip, up, gate, merge):
        x = up(x)
        return merge(rearrange([gate(skip, x), x], "k n c h w -> n (k c) h w"))


def paired_by_hand(attention, control):
    d = [a - c for a, c in zip(attention.tolist(), control.tolist(), strict=True) if a - c == a - c]
    mean = sum(d) / len(d)
    variance = sum((x - mean) ** 2 for x in d) / (len(d) - 1)
    return torch.tensor([mean, (variance / len(d)) ** 0.5])


def paired_by_nan_functions(attention, control):
    d = attention.double() - control.double()
    n = d.isfinite().sum()
    variance = (d - d.nanmean()).square().nansum() / (n - 1)
    return torch.cat([d.nanmean()[None], (variance / n).sqrt()[None]])


def paired_by_scipy(attention, control):
    d = (attention - control)[torch.isfinite(attention + control)]
    return torch.tensor([d.mean().item(), sem(d.numpy())])


def sizes_by_numpy(dice, areas, groups):
    parts = np.array_split(dice.numpy()[np.argsort(areas.numpy())], groups)
    return torch.tensor([part.mean() for part in parts])


def sizes_by_group_number(dice, areas, groups):
    rank = areas.argsort().argsort()
    sizes = torch.tensor([len(p) for p in torch.arange(len(dice)).tensor_split(groups)])
    number = torch.repeat_interleave(torch.arange(groups), sizes)[rank]
    return torch.zeros(groups).index_add(0, number, dice) / sizes


RIGHT = {
    "gates.gate_weights": [gate_raised_first, gate_by_einsum, gate_joined, GateModule],
    "gates.lowest_weight": [0.27, 0.269, torch.tensor(-1.0).sigmoid(), np.float64(0.2689)],
    "gates.GridGate": [
        GridOfSequentials,
        GridOfSequentials(4, 8, 2),  # a module of a learner's class is built again for each size
        GridListedTwice,
        GridWithBiasAtTheSkip,
        partial(AttentionGate, authors=True),
    ],
    "gates.gated_step": [step_by_weights, step_by_filling, StepModule],
    "gates.gate_parameters": [409, 409.0, torch.tensor(409)],
    "gates.paired_difference": [paired_by_hand, paired_by_nan_functions, paired_by_scipy],
    "gates.dice_by_size": [sizes_by_numpy, sizes_by_group_number],
}


# What the solutions and the chapter rest on ------------------------------------------------------


def test_the_gate_of_the_exercise_is_that_of_the_course():
    ex = exercise("gates.gate_weights")
    for x, g, *layers in ex.inputs(seed=5):
        ours = AttentionGate(x.shape[1], g.shape[1], hidden=layers[0].out_channels)
        for mine, given in zip((ours.skip, ours.gate, ours.psi), layers, strict=True):
            mine[0].load_state_dict(given.state_dict())
        torch.testing.assert_close(ex.reference(x, g, *layers), ours.weights(x, g))


def test_the_error_times_t_is_the_interval_of_the_ledger():
    ex = exercise("gates.paired_difference")
    for attention, control in ex.inputs(seed=5):
        both = [x for x in (attention - control).tolist() if x == x]
        mean, error = ex.reference(attention, control).tolist()
        interval = mean, error * t.ppf(0.975, len(both) - 1)
        assert interval == pytest.approx(ledger.mean_interval(both), rel=1e-3, abs=1e-5)


def test_values_to_predict_are_what_running_it_gives():
    common = AttentionGate(16, 32, hidden=8)
    learned = sum(p.numel() for p in common.parameters())
    assert exercise("gates.gate_parameters").reference() == learned
    gate = AttentionGate(1, 1, hidden=1)
    nn.init.constant_(gate.psi[0].weight, 2.0)
    nn.init.constant_(gate.psi[0].bias, -1.0)
    x, g = 20 * torch.randn(1, 1, 32, 32), 20 * torch.randn(1, 1, 16, 16)
    lowest = gate.weights(x, g).min().item()
    assert exercise("gates.lowest_weight").reference() == pytest.approx(lowest)


def test_the_step_weights_the_skip_and_not_the_raised_map():
    ex = exercise("gates.gated_step")
    for x, skip, up, gate, _ in ex.inputs(seed=5):
        weighted, raised = ex.reference(x, skip, up, gate, nn.Identity()).chunk(2, 1)
        ratio = weighted / skip
        same = ratio.mean(1, keepdim=True).expand_as(ratio)
        torch.testing.assert_close(ratio, same, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(raised, up(x))
