"""Exercises of chapter 09: pooling of bags, plain and gated attention, where its weights point."""

from typing import Any

import torch

from .engine import Inputs, Setup
from .trial import Trial, with_gradients


def _masks(b: int, n: int, rng: torch.Generator) -> torch.Tensor:
    """Filling anywhere in a bag, and in the first one if it can; no bag is empty."""
    mask = torch.rand(b, n, generator=rng) < 0.6
    mask[0, 0] = False
    mask[:, -1] = True
    return mask


def _features_and_masks(rng: torch.Generator) -> Inputs:
    """Bags with filling of any size, and an instance of zeros that is real."""
    shapes = ((1, 3, 2), (2, 4, 3), (3, 3, 3), (4, 6, 2), (2, 1, 4), (3, 8, 1), (5, 4, 6))
    for (b, n, c), filling in zip(shapes, (7, 0, 1e30, -5, 1, -1e30, 100), strict=True):
        mask, x = _masks(b, n, rng), 2 * torch.randn(b, n, c, generator=rng) + 1
        if n > 3:
            x[0, 1], mask[0, 1] = 0, True
        yield x.masked_fill(~mask[..., None], filling), mask


def _scores(rng: torch.Generator) -> Inputs:
    """Scores of every r; exp overflows in some bags and is 0 in others, side by side in one."""
    cases = ((1, 3, 2.0, 0), (2, 4, 0.5, 0), (4, 4, 1.0, 0), (3, 6, 5.0, 3), (3, 1, 3.0, 0))
    for b, n, r, level in (*cases, (2, 5, 1.5, 1000), (5, 8, 0.7, -1000)):
        x = torch.randn(b, n, generator=rng) + level
        if abs(level) > 100:
            x[-1] *= -1
        yield x, r


def _scores_and_masks(rng: torch.Generator) -> Inputs:
    """Scores around a level and filling; in most cases exp overflows, or all of it is 0."""
    cases = ((1, 4, 0, 3), (2, 3, 0, 0), (3, 5, -1, -2), (4, 4, 200, 1e30), (2, 1, 1, 0))
    for b, n, level, filling in (*cases, (3, 6, -2000, 0), (5, 7, 0, -1e30)):
        mask, scores = _masks(b, n, rng), 1.5 * torch.randn(b, n, generator=rng) + level
        yield scores.masked_fill(~mask, filling), mask


def _bags(rng: torch.Generator) -> Inputs:
    """Settings of a module, its mode, and bags; large features saturate tanh and sigmoid."""
    cases = ((1, 3, 2, 4), (2, 5, 3, 2), (4, 4, 4, 3), (3, 6, 5, 5), (2, 1, 3, 6), (3, 9, 6, 4))
    for i, (b, n, channels, hidden) in enumerate(cases):
        x = torch.randn(b, n, channels, generator=rng) * (200 if i == 5 else 2)
        yield channels, hidden, i % 2 == 0, x


def _with_weights(answer: Trial, channels: int, hidden: int, training: bool, x: Any) -> Any:
    """What a module pools, and its weights; beside them the gradient.

    A bias of the last layer, which the softmax cancels, does not count as a parameter.
    """
    module: Any = answer.module(channels, hidden, train=training)
    answer.parameters = tuple(p for p in answer.parameters if p[0])
    found = with_gradients(answer, lambda x: (module(x), module.weights(x)), x)
    return dict(zip(("forward(x)", "weights(x)"), found, strict=True))


def _maps_and_places(rng: torch.Generator) -> Inputs:
    """Bags with a hit, a miss where the map is lowest, none positive; index 0 and the last."""
    for i, (b, n) in enumerate(((1, 4), (3, 5), (4, 4), (6, 3), (8, 10), (7, 6))):
        map = torch.randn(b, n, generator=rng) - 5 * (i % 2)
        place = torch.randint(n, (b,), generator=rng)
        place[0] = 0 if i else 2
        map[0, place[0]] = map[0].max() + 1
        if b > 1:
            place[1], map[1, -1] = -1, map[1].max() + 1
            place[2], map[2, 1] = 1, map[2].min() - 1
        if b > 4:
            place[3] = -1
            place[4], map[4, -1] = n - 1, map[4].max() + 1
        yield map, place


def _as_number(answer: Trial, map: torch.Tensor, place: torch.Tensor) -> Any:
    """The answer's number, whether it is a float or a tensor without axes."""
    found = answer(map, place)
    return found.item() if isinstance(found, torch.Tensor) and found.ndim == 0 else found


def _probabilities(rng: torch.Generator) -> Inputs:
    """Bags of few and of many, a sure instance, a bag of zeros."""
    sizes = ((1, 3), (2, 4), (3, 3), (3, 1), (4, 100), (5, 6))
    for (b, n), highest in zip(sizes, (0.6, 0.9, 0.5, 1.0, 0.02, 0.3), strict=True):
        p = highest * torch.rand(b, n, generator=rng)
        if b > 3:
            p[0, 1], p[1] = 1, 0
        yield (p,)


EXERCISES = {
    "pooling.masked_mean": Setup(_features_and_masks),
    "pooling.log_sum_exp": Setup(_scores),
    "pooling.bag_weights": Setup(_scores_and_masks),
    "pooling.AttentionPool": Setup(_bags, call=_with_weights),
    "pooling.GatedPool": Setup(_bags, call=_with_weights),
    "pooling.top_one": Setup(_maps_and_places, call=_as_number),
    "pooling.noisy_or": Setup(_probabilities),
}
