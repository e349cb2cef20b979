"""Exercises of chapter 03: squeeze, excite and scale, CBAM's and ECA's gates, their place."""

from typing import Any

import numpy as np
import torch
from torch import nn

from course_utils.attention import ECA, SqueezeExcitation

from .engine import Inputs, Setup
from .trial import Trial, built


def _spread(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    """Features whose channels differ in level, so that no two ways of pooling agree by chance."""
    level = torch.randn(*shape[:2], *(1 for _ in shape[2:]), generator=rng)
    return torch.randn(shape, generator=rng) + level


def _features(rng: torch.Generator) -> Inputs:
    shapes = ((1, 2, 4, 4), (1, 3, 2, 5), (3, 4, 3, 3), (2, 5, 4, 1), (4, 1, 3, 6), (5, 4, 5, 5))
    return [(_spread(shape, rng),) for shape in shapes]


def _module_inputs(rng: torch.Generator) -> Inputs:
    """Channels, reduction or size of a kernel, either mode, features; in the third exp overflows.

    With one channel `squeeze()` takes away the axis of the channels. With 11 channels and r = 3 a
    width that is rounded is not C // r.
    """
    cases = ((1, 6, 3, 3, 3), (2, 7, 3, 4, 2), (3, 8, 3, 5, 5), (1, 9, 1, 1, 6), (4, 4, 7, 3, 5))
    for i, (n, c, setting, h, w) in enumerate((*cases, (3, 1, 1, 4, 3), (2, 11, 3, 4, 3))):
        yield c, setting, i % 2 == 0, _spread((n, c, h, w), rng) * (1000 if i == 2 else 1)


def _wide_features(rng: torch.Generator) -> Inputs:
    # 8 and 2048 are ties between two odd numbers, 7 is the last one before a tie; 512 tells
    # another logarithm from a 1 left out, 40 tells rounding from rounding up.
    sizes = ((1, 2, 3), (20, 1, 1), (2, 1, 40), (5, 3, 2))
    for c, (n, h, w) in zip((512, 12, 1, 8, 24, 7, 40, 2048), 2 * sizes, strict=True):
        yield (torch.randn(n, c, h, w, generator=rng),)


def _whole_number(answer: Trial, x: torch.Tensor) -> Any:
    """The answer's kernel; of one that is right but for its type, that is noted."""
    k = answer(x)
    if isinstance(k, float | np.floating) and k == ECA(x.shape[1]).conv.kernel_size[0]:
        answer.beside = "a float"
    return k


def _reweigh_inputs(rng: torch.Generator) -> Inputs:
    # In the last case but one N, C, H and W are equal, so that a mix-up of axes raises nothing; in
    # the last one exp overflows where a sigmoid does not.
    cases = ((1, 4, 3, 3, 2), (3, 6, 2, 5, 3), (1, 3, 4, 1, 1), (2, 1, 3, 3, 1), (4, 4, 4, 4, 2))
    for n, c, h, w, hidden in (*cases, (5, 8, 3, 2, 2)):
        x = _spread((n, c, h, w), rng) * (1000 if n == 5 else 1)
        yield x, torch.randn(hidden, c, generator=rng), torch.randn(c, hidden, generator=rng)


def _blocks(rng: torch.Generator) -> Inputs:
    """Branches in either mode, a gate without `weights`, a shortcut that is `x` itself."""
    shapes = ((1, 2, 4, 4), (2, 3, 5, 3), (3, 4, 3, 3), (2, 2, 6, 1), (4, 6, 2, 5))
    for i, shape in enumerate(shapes):
        c = shape[1]
        branch = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c)).train(i % 2 == 0)
        gate = nn.SiLU() if i == 3 else SqueezeExcitation(c, 2)
        shortcut = nn.Identity() if i == 2 else nn.Conv2d(c, c, 1)
        for parameter in nn.ModuleList((branch, gate, shortcut)).parameters():
            parameter.requires_grad_(False).normal_(generator=rng).div_(3)
        yield 4 * _spread(shape, rng), branch, gate, shortcut


def _run_block(answer: Trial, x: Any, branch: Any, gate: Any, shortcut: Any) -> Any:
    """The answer's block; noted is whether the branch's norm has counted a batch twice."""
    found = answer(x, branch, gate, shortcut)
    if branch[1].num_batches_tracked > 1:
        answer.beside = "the branch runs twice, so its norm counts the batch twice"
    return found


EXERCISES = {
    "channel.squeeze": Setup(_features),
    "channel.SEGate": Setup(_module_inputs, call=built),
    "channel.se_parameters": Setup(),
    "channel.gated_block": Setup(_blocks, call=_run_block),
    "channel.MeanMaxGate": Setup(_module_inputs, call=built),
    "channel.eca_kernel": Setup(_wide_features, call=_whole_number),
    "channel.ECAGate": Setup(_module_inputs, call=built),
    "channel.reweigh": Setup(_reweigh_inputs),
}
