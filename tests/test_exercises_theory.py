"""Chapter 02's exercises: right answers in other forms, answers wrong in several ways, facts."""

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
from course_utils.exercises.theory import GRADIENT_RATIO, WEIGHTS_MEGABYTES


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))


# Right answers written differently ------------------------------------------------------------


def gate_by_convolution(x, weight, bias):
    return x * F.conv2d(x, weight[None, :, None, None], bias[None]).sigmoid()


def gate_by_einsum(x, weight, bias):
    weights = torch.einsum("nchw,c->nhw", x, weight).add(bias).sigmoid()
    return torch.einsum("nchw,nhw->nchw", x, weights)


def gate_with_a_module(x, weight, bias):
    layer = nn.Conv2d(len(weight), 1, 1)
    with torch.no_grad():
        layer.weight.copy_(weight[None, :, None, None])
        layer.bias.fill_(bias.item())
    return layer(x).sigmoid() * x


def gate_channels_last(x, weight, bias):
    last = x.movedim(1, -1)
    weights = 1 / (1 + torch.exp(-(last @ weight + bias)))
    return (last * weights[..., None]).movedim(-1, 1)


class GateModule(nn.Module):
    def forward(self, x, weight, bias):
        return gate_by_convolution(x, weight, bias)


def gate_by_loop(x, weight, bias):
    result = torch.empty_like(x)
    for n, row, column in np.ndindex(len(x), *x.shape[2:]):
        place = x[n, :, row, column]
        result[n, :, row, column] = place * torch.sigmoid(place @ weight + bias)
    return result


def softmax_in_torch(scores, temperature):
    return torch.softmax(scores / temperature, dim=-1)


def softmax_by_hand(scores, temperature):
    scores = scores / temperature
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    return exponentials / exponentials.sum(-1, keepdim=True)


def softmax_by_logsumexp(scores, temperature):
    scores = scores.double() / temperature
    return (scores - scores.logsumexp(-1, keepdim=True)).exp().float()


def softmax_by_loop(scores, temperature):
    rows = [row - max(row.tolist()) for row in scores.reshape(-1, scores.shape[-1])]
    powers = [torch.exp(row / temperature) for row in rows]
    return torch.stack([power / power.sum() for power in powers]).view(scores.shape)


def attention_of_keys_and_queries(query, key, value):
    scores = (key @ query.mT).mT / query.shape[-1] ** 0.5
    return scores.softmax(-1) @ value


def attention_in_torch(query, key, value):
    return F.scaled_dot_product_attention(query, key, value)


def attention_by_einsum(query, key, value):
    scores = torch.einsum("...ld,...sd->...ls", query, key) / math.sqrt(key.shape[-1])
    return torch.einsum("...ls,...se->...le", scores.softmax(-1), value)


def attention_scaled_first(query, key, value):
    query = query * query.size(-1) ** -0.5
    weights = torch.softmax(torch.matmul(query, key.transpose(-2, -1)), dim=-1)
    return torch.matmul(weights, value)


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


def heads_by_chunks(query, key, value, heads):
    parts = zip(*(x.chunk(heads, -1) for x in (query, key, value)), strict=True)
    return torch.cat([attention_by_einsum(q, k, v) for q, k, v in parts], -1)


def heads_by_einops(query, key, value, heads):
    query, key, value = (
        einops.rearrange(x, "n l (h d) -> n h l d", h=heads) for x in (query, key, value)
    )
    taken = F.scaled_dot_product_attention(query, key, value)
    return einops.rearrange(taken, "n h l d -> n l (h d)")


def heads_by_view(query, key, value, heads):
    n, length, d = query.shape
    query, key, value = (x.view(n, -1, heads, d // heads).permute(0, 2, 1, 3) for x in
                         (query, key, value))  # fmt: skip
    taken = at.scaled_dot_product_attention(query, key, value)
    return taken.permute(0, 2, 1, 3).contiguous().view(n, length, d)


def heads_by_multihead_attention(query, key, value, heads):
    d = query.shape[-1]
    layer = nn.MultiheadAttention(d, heads, bias=False, batch_first=True)
    layer.in_proj_weight.data.copy_(torch.eye(d).repeat(3, 1))
    layer.out_proj.weight.data.copy_(torch.eye(d))
    return layer(query, key, value, need_weights=False)[0]


def heads_by_einsum(query, key, value, heads):
    query, key, value = (x.unflatten(-1, (heads, -1)) for x in (query, key, value))
    weights = torch.einsum("nlhd,nshd->nhls", query, key) / math.sqrt(query.shape[-1])
    return torch.einsum("nhls,nshd->nlhd", weights.softmax(-1), value).flatten(2)


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


def pixels_by_einsum(x):
    scores = torch.einsum("nchw,ncyx->nhwyx", x, x) / x.shape[1] ** 0.5
    weights = scores.flatten(3).softmax(-1).view_as(scores)
    return torch.einsum("nhwyx,ncyx->nchw", weights, x)


def pixels_by_einops(x):
    pixels = einops.rearrange(x, "n c h w -> n (h w) c")
    taken = F.scaled_dot_product_attention(pixels, pixels, pixels)
    return einops.rearrange(taken, "n (h w) c -> n c h w", h=x.shape[2])


def places_by_loop(x):
    n, c, height, width = x.shape
    tokens = torch.zeros(n, height * width, c + 2)
    for image in range(n):
        for row in range(height):
            for column in range(width):
                token = tokens[image, row * width + column]
                token[:c] = x[image, :, row, column]
                token[c] = 2 * row / (height - 1) - 1 if height > 1 else 0
                token[c + 1] = 2 * column / (width - 1) - 1 if width > 1 else 0
    return tokens


def places_by_einops(x):
    def scaled(length):
        return (torch.arange(length) - (length - 1) / 2) / max((length - 1) / 2, 0.5)

    n, _, h, w = x.shape
    rows = einops.repeat(scaled(h), "h -> n (h w) 1", n=n, w=w)
    columns = einops.repeat(scaled(w), "w -> n (h w) 1", n=n, h=h)
    return torch.cat([einops.rearrange(x, "n c h w -> n (h w) c"), rows, columns], -1)


def places_channels_last(x):
    n, _, h, w = x.shape
    steps = [torch.linspace(-1, 1, k) if k > 1 else torch.tensor([0.0]) for k in (h, w)]
    places = torch.cartesian_prod(*steps).view(1, h, w, 2).repeat(n, 1, 1, 1)
    return torch.cat([x.permute(0, 2, 3, 1), places], 3).reshape(n, h * w, -1)


def state_by_loop(weights):
    values = weights.tolist()
    flat = weights.flatten().tolist()
    if max(w * (1 - w) for w in flat) < 1e-3:
        return "stuck"
    for channel in range(len(values[0])):
        seen = [w for image in values for row in image[channel] for w in row]
        if max(seen) - min(seen) >= 1e-3:
            return "works"
    return "folds"


def state_by_the_middle(weights):
    if weights.mul(1 - weights).max().item() < 0.001:
        return "stuck"
    # Nearer than half of it to the middle of the largest and the smallest.
    each = weights.double().movedim(1, 0).flatten(1)
    middle = (each.amax(1, keepdim=True) + each.amin(1, keepdim=True)) / 2
    return "folds" if torch.all((each - middle).abs() < 0.0005) else "works"


def state_by_numpy(weights):
    w = weights.numpy()
    if np.all(w * (1 - w) < 0.001):
        return "stuck"
    return "folds" if np.ptp(w, axis=(0, 2, 3)).max() < 0.001 else "works"


def state_by_all_pairs(weights):
    if (weights * (1 - weights)).max() < 0.001:
        return "stuck"
    each = weights.transpose(0, 1).flatten(1).sort().values
    return "works" if (each[:, -1:] - each >= 0.001).any() else "folds"


RIGHT = {
    "theory.gate": [
        gate_by_convolution,
        gate_by_einsum,
        gate_with_a_module,
        gate_channels_last,
        gate_by_loop,
        GateModule,
    ],
    "theory.temperature_softmax": [
        softmax_in_torch,
        softmax_by_hand,
        softmax_by_logsumexp,
        softmax_by_loop,
    ],
    "theory.dot_product_attention": [
        attention_in_torch,
        attention_by_einsum,
        attention_scaled_first,
        attention_by_loop,
        attention_of_keys_and_queries,
        AttentionModule,
        AttentionModule(),
        F.scaled_dot_product_attention,
        at.scaled_dot_product_attention,
    ],
    "theory.multi_head": [
        heads_by_chunks,
        heads_by_einops,
        heads_by_view,
        heads_by_multihead_attention,
        heads_by_einsum,
    ],
    "theory.with_places": [places_by_loop, places_by_einops, places_channels_last],
    "theory.gate_state": [
        state_by_loop,
        state_by_the_middle,
        state_by_numpy,
        state_by_all_pairs,
    ],
    "theory.pixel_attention": [
        pixels_by_permute,
        pixels_by_einsum,
        pixels_by_einops,
        pixels_by_loop,
    ],
    "theory.weights_megabytes": [314.7, 315, 8 * 3136**2 * 4 / 1e6, torch.tensor(314.703872)],
    "theory.gradient_ratio": [
        5507,
        5506.6,
        5500,
        math.exp(10) / 4,
        Fraction(11013, 2),
        np.float32(5506.5),
    ],
}


@pytest.mark.parametrize(
    ("name", "answer"), [(name, answer) for name, answers in RIGHT.items() for answer in answers]
)
def test_right_answer_written_differently_passes(name, answer):
    result = exercise(name).check(answer)
    assert result.passed, result.message


# Answers wrong in several ways, or in ways nobody listed ----------------------------------------


def gate_in_place(x, weight, bias):
    x *= gate_by_convolution(x, weight, bias) / x
    return x


def attention_with_two_mistakes(query, key, value):
    return (query @ key.mT).softmax(-2) @ value


def attention_of_one_image(query, key, value):
    return attention_by_einsum(query, key, value)[:1] if query.ndim > 2 else None


def two_heads_of_the_chapter(query, key, value, heads):
    parts = zip(*(tokens.chunk(2, dim=-1) for tokens in (query, key, value)), strict=True)
    taken = [at.scaled_dot_product_attention(q, k, v) for q, k, v in parts]
    return torch.cat(taken, dim=-1)


def heads_by_split(query, key, value, heads):
    parts = zip(*(x.split(heads, dim=-1) for x in (query, key, value)), strict=True)
    return torch.cat([at.scaled_dot_product_attention(*part) for part in parts], dim=-1)


def heads_reversed(query, key, value, heads):
    parts = zip(*(x.tensor_split(heads, dim=-1) for x in (query, key, value)), strict=True)
    return torch.cat([at.scaled_dot_product_attention(*part) for part in parts][::-1], dim=-1)


def mean_of_heads_with_all_values(query, key, value, heads):
    parts = zip(query.chunk(heads, -1), key.chunk(heads, -1), strict=True)
    taken = [at.attention_weights(q, k) @ value for q, k in parts]
    return torch.stack(taken).mean(0)


def softmax_to_a_power(scores, temperature):
    p = scores.softmax(-1) ** (1 / temperature)
    return p / p.sum(-1, keepdim=True)


def softmax_of_logarithms(scores, temperature):
    return (scores.softmax(-1).log() / temperature).softmax(-1)


def softmax_with_the_wrong_maximum(scores, temperature):
    e = torch.exp(scores / temperature - scores.amax(dim=-1, keepdim=True))
    return e / e.sum(dim=-1, keepdim=True)


def softmax_with_a_small_number(scores, temperature):
    e = torch.exp(scores / temperature)
    return e / (e.sum(-1, keepdim=True) + 1e-8)


def softmax_clamped(scores, temperature):
    e = torch.exp(torch.clamp(scores / temperature, -60, 60))
    return e / e.sum(-1, keepdim=True)


def softmax_without_keepdim(scores, temperature):
    e = torch.exp(scores / temperature - scores.amax(-1, keepdim=True) / temperature)
    return e / e.sum(-1)


def attention_by_capital_t(query, key, value):
    return F.softmax(query @ key.T / math.sqrt(query.shape[-1]), dim=-1) @ value


def attention_with_len(query, key, value):
    return torch.softmax(query @ key.mT / len(query) ** 0.5, dim=-1) @ value


def gate_of_an_image(x, weight, bias):
    score = torch.einsum("nchw,c->n", x, weight) + bias
    return x * score.sigmoid()[:, None, None, None]


def places_with_equal_numbers(x):
    n, _, h, w = x.shape
    rows = torch.linspace(-1, 1, h).view(1, 1, h, 1).expand(n, 1, h, w)
    columns = torch.linspace(-1, 1, w).view(1, 1, 1, w).expand(n, 1, h, w)
    return torch.cat([x, rows, columns], 1).flatten(2).transpose(1, 2)


def state_by_standard_deviation_over_images(weights):
    if bool((weights * (1 - weights)).max() < 1e-3):
        return "stuck"
    return "folds" if bool((weights.amax(0) - weights.amin(0)).max() < 1e-3) else "works"


def state_by_standard_deviation(weights):
    w = weights.double()
    if (w * (1 - w)).max() < 1e-3:
        return "stuck"
    return "folds" if w.std((0, 2, 3)).max() < 1e-3 else "works"


def state_by_variance(weights):
    if (weights * (1 - weights)).max() < 1e-3:
        return "stuck"
    return "folds" if weights.var((0, 2, 3)).max() < 1e-3 else "works"


def state_by_distance_from_the_mean(weights):
    if (weights * (1 - weights)).max() < 1e-3:
        return "stuck"
    away = (weights - weights.mean((0, 2, 3), keepdim=True)).abs().mean((0, 2, 3))
    return "folds" if away.max() < 1e-3 else "works"


def pixels_of_all_images(x):
    n, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(-1, c)
    taken = at.scaled_dot_product_attention(pixels, pixels, pixels)
    return taken.reshape(n, h, w, c).permute(0, 3, 1, 2)


def gate_along_an_axis(axis):
    def gate(x, weight, bias):
        return x * F.conv2d(x, weight[None, :, None, None], bias[None]).softmax(axis)

    return gate


def gate_without_keepdim(x, weight, bias):
    return x * torch.sigmoid((x * weight.view(-1, 1, 1)).sum(dim=1) + bias)


def softmax_less_a(statistic):
    def temperature_softmax(scores, temperature):
        e = torch.exp((scores - statistic(scores)) / temperature)
        return e / e.sum(-1, keepdim=True)

    return temperature_softmax


def softmax_in_place(scores, temperature):
    scores /= temperature
    return torch.softmax(scores, -1)


def attention_of_the_keys(query, key, value):
    return torch.softmax(torch.matmul(key, query.mT) / math.sqrt(key.shape[-1]), -1) @ value


def attention_with_one_batch_axis(query, key, value):
    weights = F.softmax(query @ key.transpose(1, 2) / math.sqrt(query.shape[-1]), dim=-1)
    return weights @ value


def attention_by_bmm(query, key, value):
    weights = F.softmax(torch.bmm(query, key.mT) / math.sqrt(query.shape[-1]), dim=-1)
    return torch.bmm(weights, value)


def attention_without_keepdim(query, key, value):
    e = (query @ key.mT / math.sqrt(query.shape[-1])).exp()
    return (e / e.sum(dim=-1)) @ value


def attention_in_place(query, key, value):
    query /= math.sqrt(query.shape[-1])
    return (query @ key.mT).softmax(-1) @ value


def heads_with_softmax_along(axis):
    def multi_head(query, key, value, heads):
        q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
        weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), axis)
        return (weights @ v).transpose(1, 2).flatten(2)

    return multi_head


def heads_in_a_result_that_is_the_query(query, key, value, heads):
    width = query.shape[-1] // heads
    for start in range(0, query.shape[-1], width):
        part = slice(start, start + width)
        taken = attention_by_einsum(query[..., part], key[..., part], value[..., part])
        query[..., part] = taken
    return query


def places_reshaped(x):
    n, c, h, w = x.shape
    images = places_by_loop(x).mT.unflatten(2, (h, w))
    return images.reshape(n, h * w, c + 2)


def places_with_sides_exchanged(x):
    n, _, w, h = x.shape
    rows, columns = (torch.linspace(-1, 1, k) if k > 1 else torch.zeros(1) for k in (h, w))
    rows, columns = rows[:, None].expand(n, 1, h, w), columns.expand(n, 1, h, w)
    return torch.cat([x, rows, columns], 1).flatten(2).mT


def pixels_of_a_row(x):
    rows = x.movedim(1, -1)
    return at.scaled_dot_product_attention(rows, rows, rows).movedim(-1, 1)


def state_with_mean_slope(weights):
    if weights.mul(1 - weights).mean() < 1e-3:
        return "stuck"
    return state_by_loop(weights)


def state_without_stuck(weights):
    away = weights.amax((0, 2, 3)) - weights.amin((0, 2, 3))
    return "folds" if (away < 1e-3).all() else "works"


def state_of_weights_below_a_hundredth(weights):
    if ((weights < 0.01) | (weights > 0.99)).all():
        return "stuck"
    return state_by_loop(weights)


def state_if_near(near):
    def gate_state(weights):
        if (weights * (1 - weights)).max() < 0.001:
            return "stuck"
        return "folds" if near(weights) else "works"

    return gate_state


def near_the_first(w):
    return torch.allclose(w, w[:1, :, :1, :1].expand_as(w), rtol=0, atol=0.001)


def near_the_mean(w):
    return bool(((w - w.mean(dim=(0, 2, 3), keepdim=True)).abs() < 0.001).all())


def near_the_next(w):
    return all(bool((torch.diff(w, dim=axis).abs() < 0.001).all()) for axis in (0, 2, 3))


def near_in_images_and_in_places(w):
    each = (w.amax(0) - w.amin(0)).max(), (w.flatten(2).amax(2) - w.flatten(2).amin(2)).max()
    return max(each) < 0.001


def the_same_when_unique(w):
    return all(len(w[:, c].unique()) == 1 for c in range(w.shape[1]))


def the_same_when_rounded(w):
    return the_same_when_unique((w * 1000).round())


def state_of_any_channel(weights):
    flat = (weights * (1 - weights)).amax((0, 2, 3)) < 0.001
    return "stuck" if flat.any() else state_by_loop(weights)


def state_of_any_image(weights):
    if any(bool((image * (1 - image) < 0.001).all()) for image in weights):
        return "stuck"
    return state_by_loop(weights)


def near_the_median(w):
    each = w.transpose(0, 1).flatten(1)
    return bool(((each - each.median(1, keepdim=True).values).abs() < 0.001).all())


def heads_of_every_nth_channel(query, key, value, heads):
    taken = [
        at.scaled_dot_product_attention(query[..., i::heads], key[..., i::heads],
                                        value[..., i::heads]) for i in range(heads)
    ]  # fmt: skip
    return torch.cat(taken, -1)


def heads_with_all_values(query, key, value, heads):
    parts = zip(query.chunk(heads, -1), key.chunk(heads, -1), strict=True)
    return torch.cat([at.attention_weights(q, k) @ value for q, k in parts], -1)


def heads_joined_along(axis):
    def multi_head(query, key, value, heads):
        parts = zip(*(x.chunk(heads, -1) for x in (query, key, value)), strict=True)
        return torch.cat([attention_by_einsum(*part) for part in parts], axis)

    return multi_head


def heads_overwritten(query, key, value, heads):
    for part in zip(*(x.chunk(heads, -1) for x in (query, key, value)), strict=True):
        taken = attention_by_einsum(*part)
    return taken


def places_scaled(scaled):
    def with_places(x):
        n, _, h, w = x.shape
        rows, columns = scaled(h, x), scaled(w, x)
        rows, columns = rows[:, None].expand(n, 1, h, w), columns.expand(n, 1, h, w)
        return torch.cat([x, rows, columns], 1).flatten(2).mT

    return with_places


def by_the_length(length, x):
    return torch.arange(length) / length * 2 - 1 if length > 1 else torch.zeros(1)


def by_the_longer_side(length, x):
    return torch.arange(length) / (max(x.shape[2:]) - 1) * 2 - 1


def by_the_longer_side_but_for_one(length, x):
    return by_the_longer_side(length, x) if length > 1 else torch.zeros(1)


def from_one_down(length, x):
    return torch.linspace(1, -1, length) if length > 1 else torch.zeros(1)


def pixels_back_by_another_order(x):
    n, c, h, w = x.shape
    pixels = x.flatten(2).transpose(1, 2)
    taken = at.scaled_dot_product_attention(pixels, pixels, pixels)
    return taken.view(n, h, w, c).permute(0, 3, 2, 1)


def softmax_less_max(scores, temperature):
    scores = scores / temperature
    e = torch.exp(scores - scores.max(dim=-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


CAUGHT = [
    ("theory.gate", lambda x, w, b: x * torch.einsum("nchw,c->nhw", x, w)[:, None].sigmoid() + b,
     "bias-after-product"),
    ("theory.gate", lambda x, w, b: gate_by_convolution(x, w, -b), "bias-subtracted"),
    ("theory.temperature_softmax", softmax_less_max, "maximum-with-places"),
    ("theory.multi_head", heads_of_every_nth_channel, "every-nth-channel-head-after-head"),
    ("theory.multi_head", heads_with_all_values, "values-not-cut"),
    ("theory.multi_head", heads_joined_along(1), "joined-along-tokens"),
    ("theory.multi_head", heads_overwritten, "last-head-only"),
    ("theory.with_places", places_scaled(by_the_length), "divided-by-length-but-for-one"),
    ("theory.with_places", places_scaled(by_the_longer_side), "one-scale-for-both"),
    ("theory.with_places", places_scaled(by_the_longer_side_but_for_one), "one-scale-but-for-one"),
    ("theory.with_places", places_scaled(from_one_down), "signs-exchanged"),
    ("theory.pixel_attention", pixels_back_by_another_order, "width-before-height"),
    ("theory.weights_megabytes", 9.83, "pairs-alone"),
    ("theory.gate_state", lambda w: "works", "always-works"),
    ("theory.gate_state", state_if_near(lambda w: False), "never-folds"),
    ("theory.gate_state", state_if_near(lambda w: True), "never-works"),
    ("theory.gate_state", state_of_any_channel, "one-stuck-channel-is-enough"),
    ("theory.gate_state", state_of_any_image, "one-stuck-image-is-enough"),
    ("theory.gate_state", state_if_near(near_the_median), "compared-with-mean"),
    ("theory.gate_state", state_if_near(near_the_first), "compared-with-first"),
    ("theory.gate_state", state_if_near(near_the_mean), "compared-with-mean"),
    ("theory.gate_state", state_if_near(near_the_next), "neighbours-compared"),
    ("theory.gate_state", state_if_near(near_in_images_and_in_places), "images-and-places-apart"),
    ("theory.gate_state", state_if_near(the_same_when_unique), "exactly-the-same"),
    ("theory.gate_state", state_if_near(the_same_when_rounded), "rounded"),
    ("theory.gate", gate_along_an_axis(-1), "softmax-over-columns"),
    ("theory.gate", gate_along_an_axis(2), "softmax-over-rows"),
    ("theory.gate", gate_along_an_axis(0), "softmax-over-batch"),
    ("theory.gate", gate_along_an_axis(1), "softmax-over-one-channel"),
    ("theory.gate", gate_without_keepdim, "axis-lost"),
    ("theory.temperature_softmax", softmax_less_a(lambda s: s.mean(-1, keepdim=True)),
     "mean-subtracted"),
    ("theory.temperature_softmax", softmax_less_a(lambda s: s.amin(-1, keepdim=True)),
     "minimum-subtracted"),
    ("theory.temperature_softmax", softmax_in_place, "input-changed-in-place"),
    ("theory.dot_product_attention", attention_of_the_keys, "queries-and-keys-exchanged"),
    ("theory.dot_product_attention", attention_with_one_batch_axis,
     "axes-one-and-two-transposed"),
    ("theory.dot_product_attention", attention_by_bmm, "bmm"),
    ("theory.dot_product_attention", attention_without_keepdim, "axis-of-the-sum-lost"),
    ("theory.dot_product_attention", attention_in_place, "input-changed-in-place"),
    ("theory.multi_head", heads_with_softmax_along(-2), "softmax-over-queries"),
    ("theory.multi_head", heads_with_softmax_along(1), "softmax-over-heads"),
    ("theory.multi_head", heads_in_a_result_that_is_the_query, "input-changed-in-place"),
    ("theory.with_places", places_reshaped, "all-by-reshape"),
    ("theory.with_places", places_with_sides_exchanged, "meshgrid-xy"),
    ("theory.pixel_attention", pixels_of_a_row, "rows-attend"),
    ("theory.pixel_attention", lambda x: pixels_by_einsum(x).numpy(), "numpy-instead-of-tensor"),
    ("theory.gate_state", state_with_mean_slope, "mean-of-slopes"),
    ("theory.gate_state", state_without_stuck, "never-stuck"),
    ("theory.gate_state", state_of_weights_below_a_hundredth, "nearly-closed-is-stuck"),
    ("theory.weights_megabytes", 630, "twice-too-much"),
    ("theory.weights_megabytes", 157.3, "half-precision"),
    ("theory.multi_head", two_heads_of_the_chapter, "always-two-heads"),
    ("theory.multi_head", heads_by_split, "heads-of-that-width"),
    ("theory.multi_head", heads_reversed, "heads-in-reverse"),
    ("theory.multi_head", mean_of_heads_with_all_values, "mean-of-maps"),
    ("theory.temperature_softmax", softmax_to_a_power, "power-with-sum"),
    ("theory.temperature_softmax", softmax_of_logarithms, "power-with-sum"),
    ("theory.temperature_softmax", softmax_with_the_wrong_maximum, "maximum-not-divided"),
    ("theory.temperature_softmax", softmax_with_a_small_number, "little-added-below"),
    ("theory.temperature_softmax", softmax_clamped, "clamped-on-both-sides"),
    ("theory.temperature_softmax", softmax_without_keepdim, "axis-of-the-sum-lost"),
    ("theory.dot_product_attention", attention_by_capital_t, "all-axes-transposed"),
    ("theory.dot_product_attention", attention_with_len, "root-of-first-axis"),
    ("theory.gate", gate_of_an_image, "one-score-per-image"),
    ("theory.with_places", places_with_equal_numbers, "length-one-forgotten"),
    ("theory.gate_state", state_by_standard_deviation_over_images, "same-for-all-images"),
    ("theory.gate_state", state_by_standard_deviation, "apart-on-average"),
    ("theory.gate_state", state_by_variance, "variance-for-spread"),
    ("theory.gate_state", state_by_distance_from_the_mean, "apart-on-average"),
    ("theory.gate_state", lambda w: True, "wrong-type"),
    ("theory.pixel_attention", pixels_of_all_images, "images-attend-to-each-other"),
    ("theory.gradient_ratio", 4.5e-5, "inverted"),
    ("theory.gradient_ratio", 0, "inverted"),
    ("theory.gradient_ratio", 0.25, "slope-at-zero"),
    ("theory.gradient_ratio", 1, "no-difference"),
    ("theory.gradient_ratio", 8.6, "logarithm"),
    ("theory.weights_megabytes", 0.3147, "gigabytes"),
    ("theory.weights_megabytes", 300, "mebibytes"),
    ("theory.weights_megabytes", 3.21, "features-not-pairs"),
    ("theory.weights_megabytes", 80564, "size-of-the-input-image"),
    ("theory.weights_megabytes", 2517.6, "eight-times-too-much"),
    ("theory.gate", gate_in_place, "input-changed-in-place"),
    ("theory.gate", lambda x, w, b: gate_by_einsum(x, w, b).numpy(), "numpy-instead-of-tensor"),
    ("theory.gate", lambda x, w: x, "wrong-arguments"),
    ("theory.gate", lambda x, w, b: x * undefined, "raised"),  # noqa: F821
    ("theory.temperature_softmax", lambda s, t: softmax_by_hand(s, t).tolist(),
     "list-instead-of-tensor"),
    ("theory.dot_product_attention", lambda q, k, v: attention_by_einsum(q, k, v).mT,
     "wrong-shape"),
    ("theory.dot_product_attention", attention_by_einsum(*(torch.ones(2, 2) for _ in range(3))),
     "not-a-function"),
    ("theory.multi_head", lambda q, k, v, h: None, "not-answered"),
    ("theory.weights_megabytes", 12.0, "wrong-value"),
    ("theory.gradient_ratio", "much", "wrong-type"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "answer", "mistake"), CAUGHT)
def test_wrong_answer_is_caught(name, answer, mistake):
    result = exercise(name).check(answer)
    assert (result.passed, result.mistake) == (False, mistake), result.message


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("theory.dot_product_attention", attention_with_two_mistakes),
        ("theory.dot_product_attention", attention_of_one_image),
    ],
)
def test_wrong_answer_of_several_mistakes_does_not_pass(name, answer):
    result = exercise(name).check(answer)
    assert not result.passed and result.message


# Half-right answers: each spoils one axis only on some inputs -------------------------------------


def test_softmax_right_only_without_a_batch_is_named():
    result = exercise("theory.dot_product_attention").check(
        lambda q, k, v: (q @ k.mT / math.sqrt(q.size(-1))).softmax(dim=1) @ v
    )
    assert result.mistake == "softmax-over-axis-one"


def test_einsum_without_ellipsis_is_an_answer():
    def answer(query, key, value):
        scores = torch.einsum("nld,nsd->nls", query, key) / query.shape[-1] ** 0.5
        return scores.softmax(-1) @ value

    result = exercise("theory.dot_product_attention").check(answer)
    assert result.mistake == "raised" and "einsum" in result.message


def test_heads_cut_by_view_are_named():
    def answer(query, key, value, heads):
        n, length, d = query.shape
        query, key, value = (x.view(n, heads, -1, d // heads) for x in (query, key, value))
        taken = F.scaled_dot_product_attention(query, key, value)
        return taken.permute(0, 2, 1, 3).reshape(n, length, d)

    assert exercise("theory.multi_head").check(answer).mistake == "split-by-view"


def test_code_of_the_notebook_is_the_listed_unmended_one():
    def answer(x):
        n, c, h, w = x.shape
        pixels = x.reshape(n, h * w, c)
        scores = pixels @ pixels.mT / c**0.5
        taken = scores.softmax(dim=1) @ pixels
        return taken.mT.reshape(n, c, h, h)

    assert exercise("theory.pixel_attention").check(answer).mistake == "unmended"


def test_untouched_code_does_not_tell_the_bugs():
    ex = exercise("theory.pixel_attention")
    message = ex.check(ex.wrong["unmended"][0]).message
    assert "three bugs" in message and "N = 2" in message
    assert not any(word in message for word in ("softmax", "reshape", "sum to one", "row"))
    assert all(word in ex.hints[0] for word in ("row", "sum to one", "square"))


# The values, worked out another way --------------------------------------------------------------


def test_values_are_what_running_it_gives():
    module = at.SelfAttention2d(32, heads=8)
    small = module.weights(torch.zeros(1, 32, 7, 7))  # 56 = 8 * 7, so 8**4 as many pairs
    weights = small.numel() * 8**4 * small.element_size() / 1e6
    assert WEIGHTS_MEGABYTES.reference() == pytest.approx(weights)
    score = torch.tensor([0.0, -10.0], dtype=torch.float64, requires_grad=True)
    score.sigmoid().sum().backward()
    assert GRADIENT_RATIO.reference() == pytest.approx((score.grad[0] / score.grad[1]).item())


# FACTS that the chapter states -------------------------------------------------------------------

GATES = {
    "channel": [at.SqueezeExcitation(8, 2), at.ECA(8), at.ChannelAttention(8, 2)],
    "spatial": [at.SpatialAttention(3), at.AttentionGate(8, 8)],
}


@pytest.mark.parametrize("kind", GATES)
def test_gates_lie_between_zero_and_one_and_need_not_sum_to_one(kind):
    torch.manual_seed(0)
    x = torch.randn(3, 8, 5, 6)
    for module in GATES[kind]:
        both = isinstance(module, at.AttentionGate)
        weights = module.weights(x, x) if both else module.weights(x)
        assert weights.shape == ((3, 8, 1, 1) if kind == "channel" else (3, 1, 5, 6))
        assert bool(((weights > 0) & (weights < 1)).all())
        assert bool(((weights.flatten(1).sum(1) - 1).abs() > 0.1).all())


def test_only_dot_product_attention_sums_to_one():
    weights = at.SelfAttention2d(8, heads=2).weights(torch.randn(3, 8, 5, 6))
    assert weights.shape == (3, 2, 30, 30)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 30))


def test_the_class_attends_head_by_head():
    block = at.SelfAttention2d(channels=8, heads=2)  # the inner width is 4
    parts = block.queries_keys_values(torch.randn(3, 8, 5, 6))
    at_once = at.scaled_dot_product_attention(*parts)  # (3, 2, 30, 2)
    joined = [torch.cat([part[:, 0], part[:, 1]], -1) for part in parts]  # (3, 30, 4) each
    by_loop = two_heads_of_the_chapter(*joined, heads=2)
    torch.testing.assert_close(torch.cat([at_once[:, 0], at_once[:, 1]], -1), by_loop)
