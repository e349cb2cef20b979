"""Exercises of chapter 02: gates, softmax, dot-product attention, places, cost, stuck gates."""

import torch

from .engine import Inputs, Setup


def _features_and_layers(rng: torch.Generator) -> Inputs:
    sizes = ((1, 2, 4, 4), (2, 3, 5, 4), (3, 3, 4, 6), (1, 1, 3, 3), (2, 3, 4, 5))
    for i, size in enumerate(sizes):
        weight = torch.randn(size[1], generator=rng) * (200 if i == 4 else 1)  # exp overflows
        bias = (0.5 + torch.rand((), generator=rng)) * (-1 if i == 1 else 1)
        yield torch.randn(size, generator=rng), weight, bias


def _queries_keys_values(rng: torch.Generator) -> Inputs:
    sizes = (((), 3, 5, 4, 2), ((2,), 3, 5, 4, 6), ((2, 3), 4, 6, 8, 5), ((1,), 6, 6, 6, 6))
    for batch, n, m, d, e in (*sizes, ((3,), 1, 2, 3, 4), ((2,), 5, 6, 3, 2)):
        query, key = (torch.randn(*batch, k, d, generator=rng) for k in (n, m))
        query *= 150 if n == 5 else 1  # scores whose exponential is infinite
        yield query, key, torch.randn(*batch, m, e, generator=rng)


def _scores_and_temperatures(rng: torch.Generator) -> Inputs:
    cases = (((5,), 0.5), ((3, 4), 2.0), ((2, 3, 6), 5.0), ((1, 7), 0.25))
    inputs = [(2 * torch.randn(size, generator=rng), t) for size, t in cases]
    # Rows beyond what exp can hold in float32, but not in float64; beyond both; and one row of
    # large differences at a temperature that makes them small.
    apart = torch.randn(7, 3, generator=rng) + 200 * torch.arange(-3, 4)[:, None]
    far_apart = torch.randn(6, 4, generator=rng) + 300 * torch.arange(-2, 4)[:, None]
    hot = 30 * torch.randn(2, 6, generator=rng) + 200 * torch.arange(-2, 4)
    wide = torch.randn(2, 4, generator=rng) + 250 * torch.arange(4)  # far apart within a row
    cold = 0.001 * torch.randn(2, 3, generator=rng)
    return [*inputs, (apart, 1.0), (far_apart, 0.5), (hot, 250.0), (wide, 0.5), (cold, 0.001)]


def _heads(rng: torch.Generator) -> Inputs:
    sizes = ((2, 3, 3, 4, 2), (1, 5, 4, 6, 3), (3, 2, 6, 8, 4), (2, 4, 4, 6, 1), (2, 6, 6, 12, 3))
    for n, length, keys, d, heads in sizes:
        query = torch.randn(n, length, d, generator=rng) * (150 if d == 12 else 1)  # exp overflows
        yield query, *torch.randn(2, n, keys, d, generator=rng), heads


def _images(rng: torch.Generator) -> Inputs:
    """Some of a single row or column; the last one has scores whose exponential is infinite."""
    sizes = ((1, 2, 4, 4), (2, 3, 5, 3), (3, 1, 2, 6), (2, 2, 1, 5), (2, 4, 4, 1), (2, 3, 3, 5))
    for i, size in enumerate(sizes):
        yield (torch.randn(size, generator=rng) * (20 if i == 5 else 1),)


def _recorded_gates(rng: torch.Generator) -> Inputs:
    def draw(*size: int) -> torch.Tensor:
        return 0.2 + 0.6 * torch.rand(size, generator=rng)

    yield (draw(1, 3, 1, 1) + 0.0008 * torch.rand(4, 3, 5, 4, generator=rng),)  # folds
    yield (torch.tensor([0.006, 0.008]).view(2, 1, 1).repeat(2, 1, 4, 5),)  # folds, nearly closed
    yield (torch.full((2, 2, 3, 3), 0.5),)  # folds
    spatial = draw(1, 1, 4, 5).repeat(3, 2, 1, 1)
    spatial[..., :2, :] = 0
    yield (spatial,)  # the same for all images, partly closed
    channel = draw(4, 3, 1, 1).repeat(1, 1, 2, 3)
    channel[0] = channel[:, 0] = 0
    yield (channel,)  # differs from image to image; one image and one channel are closed
    yield (0.0002 * draw(3, 2, 3, 5),)  # stuck, and the same everywhere
    yield (1 - 0.0002 * draw(2, 3, 6, 4),)  # stuck
    ends = (torch.rand(2, 3, 4, 4, generator=rng) > 0.5).float()
    ends[0, :, 0, :2], ends[1, :, 0, 0] = torch.tensor([0.0, 1.0]), 1
    yield (0.0001 + 0.9998 * ends,)  # stuck: some closed, the others open
    one_open = torch.zeros(4, 2, 20, 20)
    one_open[3, 1, 3, 4] = 0.5
    yield (one_open,)  # in the last image and channel
    one_apart = draw(1, 2, 1, 1).repeat(3, 1, 40, 40)
    one_apart[1, 0, 7, 9] += 0.03
    yield (one_apart,)  # the standard deviation of the channel stays below 0.001
    halves = draw(1, 2, 4, 6).repeat(4, 1, 1, 1)
    halves[::2] = halves[::2].flip(3)
    yield (halves,)  # the same mean in each image, at other positions
    images, rows = torch.arange(8.0).view(8, 1, 1, 1), torch.arange(5.0).view(5, 1)
    yield (0.4 + 0.0009 * (images + rows).expand(8, 2, 5, 3),)  # a slow drift: neighbours are near
    yield (0.6 + 0.0009 * (images + rows)[:2, :, :2].expand(2, 2, 2, 3),)  # both add up to 0.0018
    middle = torch.full((2, 2, 3, 3), 0.5)
    middle[0, 0, 1, 1], middle[0, 0, 2, 2] = 0.5 - 0.0009, 0.5 + 0.0009
    yield (middle,)  # each near the middle one, the outer two apart


EXERCISES = {
    "theory.gate": Setup(_features_and_layers),
    "theory.dot_product_attention": Setup(_queries_keys_values),
    "theory.temperature_softmax": Setup(_scores_and_temperatures),
    "theory.multi_head": Setup(_heads),
    "theory.with_places": Setup(_images),
    "theory.pixel_attention": Setup(_images),
    "theory.weights_megabytes": Setup(tolerance=0.01),
    "theory.gradient_ratio": Setup(tolerance=0.02),
    "theory.gate_state": Setup(_recorded_gates),
}
