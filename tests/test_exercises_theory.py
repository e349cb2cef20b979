"""Chapter 02's exercises: right answers in other forms, and the facts that they rest on."""

import math
from fractions import Fraction

import einops
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import attention as at
from course_utils.exercises import exercise

# Right answers written differently --------------------------------------------------------------


def gate_by_convolution(x, weight, bias):
    return x * F.conv2d(x, weight[None, :, None, None], bias[None]).sigmoid()


def gate_channels_last(x, weight, bias):
    last = x.movedim(1, -1)
    weights = 1 / (1 + torch.exp(-(last @ weight + bias)))
    return (last * weights[..., None]).movedim(-1, 1)


class GateModule(nn.Module):
    def forward(self, x, weight, bias):
        weights = torch.einsum("nchw,c->nhw", x, weight).add(bias).sigmoid()
        return torch.einsum("nchw,nhw->nchw", x, weights)


def attention_by_einsum(query, key, value):
    scores = torch.einsum("...ld,...sd->...ls", query, key) / math.sqrt(key.shape[-1])
    return torch.einsum("...ls,...se->...le", scores.softmax(-1), value)


def attention_by_loop(query, key, value):
    result = torch.zeros(*query.shape[:-1], value.shape[-1])
    for place in np.ndindex(*query.shape[:-1]):
        batch = place[:-1]
        scores = torch.stack([k @ query[place] for k in key[batch]]) / query.shape[-1] ** 0.5
        result[place] = sum(w * v for w, v in zip(scores.softmax(0), value[batch], strict=True))
    return result


class AttentionModule(nn.Module):
    def forward(self, query, key, value):
        return at.scaled_dot_product_attention(query, key, value)


def softmax_by_logsumexp(scores, temperature):
    scores = scores.double() / temperature
    return (scores - scores.logsumexp(-1, keepdim=True)).exp().float()


def softmax_by_loop(scores, temperature):
    rows = [row - max(row.tolist()) for row in scores.reshape(-1, scores.shape[-1])]
    powers = [torch.exp(row / temperature) for row in rows]
    return torch.stack([power / power.sum() for power in powers]).view(scores.shape)


def heads_by_chunks(query, key, value, heads):
    parts = zip(*(x.chunk(heads, -1) for x in (query, key, value)), strict=True)
    return torch.cat([attention_by_einsum(q, k, v) for q, k, v in parts], -1)


def heads_by_einops(query, key, value, heads):
    query, key, value = (
        einops.rearrange(x, "n l (h d) -> n h l d", h=heads) for x in (query, key, value)
    )
    taken = F.scaled_dot_product_attention(query, key, value)
    return einops.rearrange(taken, "n h l d -> n l (h d)")


def heads_by_multihead_attention(query, key, value, heads):
    d = query.shape[-1]
    layer = nn.MultiheadAttention(d, heads, bias=False, batch_first=True)
    layer.in_proj_weight.data.copy_(torch.eye(d).repeat(3, 1))
    layer.out_proj.weight.data.copy_(torch.eye(d))
    return layer(query, key, value, need_weights=False)[0]


def places_by_loop(x):
    n, c, height, width = x.shape
    tokens = torch.zeros(n, height * width, c + 2)
    for image, row, column in np.ndindex(n, height, width):
        token = tokens[image, row * width + column]
        token[:c] = x[image, :, row, column]
        token[c] = 2 * row / (height - 1) - 1 if height > 1 else 0
        token[c + 1] = 2 * column / (width - 1) - 1 if width > 1 else 0
    return tokens


def pixels_by_loop(x):
    result = torch.zeros_like(x)
    for n, row, column in np.ndindex(len(x), *x.shape[2:]):
        scores = torch.einsum("c,chw->hw", x[n, :, row, column], x[n]) / x.shape[1] ** 0.5
        weights = scores.flatten().softmax(0).view(x.shape[2:])
        result[n, :, row, column] = (weights * x[n]).sum((1, 2))
    return result


def pixels_by_permute(x):
    n, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(n, h * w, c)
    taken = at.scaled_dot_product_attention(pixels, pixels, pixels)
    return taken.reshape(n, h, w, c).permute(0, 3, 1, 2)


def state_by_loop(weights):
    if max(w * (1 - w) for w in weights.flatten().tolist()) < 1e-3:
        return "stuck"
    for channel in weights.transpose(0, 1).flatten(1).tolist():
        if max(channel) - min(channel) >= 1e-3:
            return "works"
    return "folds"


def state_by_numpy(weights):
    w = weights.numpy()
    if np.all(w * (1 - w) < 0.001):
        return "stuck"
    return "folds" if np.ptp(w, axis=(0, 2, 3)).max() < 0.001 else "works"


RIGHT = {
    "gate": [gate_by_convolution, gate_channels_last, GateModule],
    "dot_product_attention": [
        attention_by_einsum,
        attention_by_loop,
        AttentionModule,
        AttentionModule(),
        F.scaled_dot_product_attention,
    ],
    "temperature_softmax": [
        lambda scores, temperature: torch.softmax(scores / temperature, dim=-1),
        softmax_by_logsumexp,
        softmax_by_loop,
    ],
    "multi_head": [heads_by_chunks, heads_by_einops, heads_by_multihead_attention],
    "with_places": [places_by_loop],
    "pixel_attention": [pixels_by_loop, pixels_by_permute],
    "weights_megabytes": [314.7, 315, 8 * 3136**2 * 4 / 1e6, torch.tensor(314.703872)],
    "gradient_ratio": [5507, 5506.6, 5500, Fraction(11013, 2), np.float32(5506.5)],
    "gate_state": [state_by_loop, state_by_numpy],
}


# What inputs and texts rest on ------------------------------------------------------------------


def test_code_to_fix_is_the_listed_unmended_one():
    space = {}
    ex = exercise("theory.pixel_attention")
    exec(ex.text.start, space)
    assert ex.check(space["pixel_attention"]).mistake == "unmended"


def test_all_states_of_a_gate_occur():
    ex = exercise("theory.gate_state")
    assert {ex.reference(*x) for x in ex.inputs()} == {"stuck", "folds", "works"}


# The values, worked out another way -------------------------------------------------------------


def test_values_are_what_running_it_gives():
    module = at.SelfAttention2d(32, heads=8)
    small = module.weights(torch.zeros(1, 32, 7, 7))  # 56 = 8 * 7, so 8**4 as many pairs
    weights = small.numel() * 8**4 * small.element_size() / 1e6
    assert exercise("theory.weights_megabytes").reference() == pytest.approx(weights)
    score = torch.tensor([0.0, -10.0], dtype=torch.float64, requires_grad=True)
    score.sigmoid().sum().backward()
    ratio = (score.grad[0] / score.grad[1]).item()
    assert exercise("theory.gradient_ratio").reference() == pytest.approx(ratio)


# Facts that the chapter states ------------------------------------------------------------------


def test_the_class_attends_head_by_head():
    block = at.SelfAttention2d(channels=8, heads=2)  # the inner width is 4
    parts = block.queries_keys_values(torch.randn(3, 8, 5, 6))
    at_once = at.scaled_dot_product_attention(*parts)  # (3, 2, 30, 2)
    joined = [torch.cat([part[:, 0], part[:, 1]], -1) for part in parts]  # (3, 30, 4) each
    by_loop = heads_by_chunks(*joined, heads=2)
    torch.testing.assert_close(torch.cat([at_once[:, 0], at_once[:, 1]], -1), by_loop)
