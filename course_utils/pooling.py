"""Pooling: many images, or many places, become one answer. Taught in chapter 09.

A *bag* has one label and many instances: the slices of a study, the tiles of a slide, the places of
an image. Features of bags are (B, n, C). Bags of unequal size are filled up, and a mask (B, n) says
which instances are real.

| class | the bag's features |
|---|---|
| `MeanPooling` | the mean |
| `MaxPooling` | the highest value, in each channel |
| `LogSumExpPooling` | between the two, by a sharpness (Pinheiro and Collobert 2015) |
| `AttentionPooling` | a weighted mean with learned weights, plain or gated (Ilse et al. 2018) |
"""

import math

import torch
from torch import Tensor, nn

from course_utils.attention import own_random_stream


class MeanPooling(nn.Module):
    """Every instance counts the same: z = sum of x_k / n."""

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # (B, n, C), (B, n)
        _, mask = real(self, x, mask)
        return mask / mask.sum(1, keepdim=True)  # (B, n)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x, mask = real(self, x, mask)
        return weighted_sum(self.weights(x, mask), x)  # (B, C)


class MaxPooling(nn.Module):
    """The highest instance counts alone, in each channel: z_c = max of x_kc."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # (B, n, C), (B, n)
        x, mask = real(self, x, mask)
        return x.masked_fill(~mask[..., None], -math.inf).amax(1)  # (B, C)


class LogSumExpPooling(nn.Module):
    """A smooth maximum: z_c = log(mean of exp(r x_kc)) / r.

    Pinheiro and Collobert 2015, https://arxiv.org/abs/1411.6228, equation 6. It tends to the mean
    as r goes to 0, and to the maximum as r grows.

    Args:
        sharpness: r, above 0.

    Raises:
        ValueError: `sharpness` is not above 0.
    """

    def __init__(self, sharpness: float = 1.0):
        super().__init__()
        if not sharpness > 0:
            raise ValueError(f"LogSumExpPooling(sharpness={sharpness}): expected a number above 0.")
        self.sharpness = sharpness

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # (B, n, C), (B, n)
        x, mask = real(self, x, mask)
        scaled = (self.sharpness * x.float()).masked_fill(~mask[..., None], -math.inf)
        count = mask.sum(1, keepdim=True)  # (B, 1)
        return (scaled.logsumexp(1) - count.log()) / self.sharpness  # (B, C)


class AttentionPooling(nn.Module):
    """A weighted mean whose weights are learned: z = sum of a_k x_k, where the a_k sum to one.

    Ilse, Tomczak and Welling 2018, https://arxiv.org/abs/1802.04712. Plain, equation 8:
    a = softmax(w^T tanh(V x)). Gated, equation 9: a = softmax(w^T (tanh(V x) * sigmoid(U x))). The
    softmax runs over the instances of a bag, so they compete.

    Args:
        channels: C, features of an instance.
        hidden: rows of V and U.
        gated: multiply by the sigmoid.

    Raises:
        ValueError: an argument is below one; when called, features or mask do not fit, or a bag is
            empty.
    """

    def __init__(self, channels: int, hidden: int = 64, gated: bool = True):
        super().__init__()
        if min(channels, hidden) < 1:
            raise ValueError(
                f"AttentionPooling(channels={channels}, hidden={hidden}): expected at least one."
            )
        self.channels = channels
        with own_random_stream():
            self.tanh = nn.Sequential(nn.Linear(channels, hidden), nn.Tanh())  # V
            # U; None leaves the plain form
            self.gate = nn.Sequential(nn.Linear(channels, hidden), nn.Sigmoid()) if gated else None
            self.score = nn.Linear(hidden, 1, bias=False)  # w; softmax would cancel a bias

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # (B, n, C), (B, n)
        x, mask = real(self, x, mask, self.channels)
        hidden = self.tanh(x)  # (B, n, hidden)
        if self.gate is not None:
            hidden = hidden * self.gate(x)
        scores = self.score(hidden)[..., 0].float()  # (B, n)
        return scores.masked_fill(~mask, -math.inf).softmax(1)  # (B, n)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x, mask = real(self, x, mask, self.channels)
        return weighted_sum(self.weights(x, mask), x)  # (B, C)


class BagClassifier(nn.Module):
    """One logit for each bag, and one for each of its instances, from the same linear layer.

    Args:
        channels: C, features of an instance.
        pool: one of the classes above.
        pool_scores: score each instance, then pool the scores; else pool the features, then score.
        norm: bring the pooled features to mean 0 and deviation 1 over the batch, before the score.

    Shapes: (B, n, C) to (B, 2): the bag's logit, and the highest of its instances' logits.
    """

    def __init__(
        self, channels: int, pool: nn.Module, pool_scores: bool = False, norm: bool = False
    ):
        super().__init__()
        self.score = nn.Linear(channels, 1)
        self.pool, self.pool_scores = pool, pool_scores
        self.norm = nn.BatchNorm1d(channels) if norm else nn.Identity()

    def map(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What points: the weights of attention, else each instance's own logit: (B, n)."""
        if isinstance(self.pool, AttentionPooling):
            return self.pool.weights(x, mask)
        scores = self.score(x)[..., 0]
        return scores if mask is None else scores.masked_fill(~mask, -math.inf)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # (B, n, C), (B, n)
        scores = self.score(x)  # (B, n, 1)
        if self.pool_scores:
            bag = self.pool(scores, mask)  # (B, 1)
        else:
            bag = self.score(self.norm(self.pool(x, mask)))  # (B, 1)
        return torch.cat([bag, MaxPooling()(scores, mask)], 1)  # (B, 2)


def weighted_sum(weights: Tensor, x: Tensor) -> Tensor:
    """Sum of the instances' features, each times its weight: (B, n) and (B, n, C) to (B, C)."""
    return (weights[..., None] * x).sum(1)


def real(
    module: nn.Module, x: Tensor, mask: Tensor | None, channels: int | None = None
) -> tuple[Tensor, Tensor]:
    """Features with 0 in place of filling, whatever it was, and the mask of real instances.

    Returns:
        (B, n, C), and (B, n) of True and False; all are real where no mask is given.

    Raises:
        ValueError: features or mask have other axes or types, or a bag is empty.
    """
    name = type(module).__name__
    if x.ndim != 3 or channels not in (None, x.shape[2]):
        raise ValueError(
            f"{name} got features of shape {tuple(x.shape)}. Expected (B, n, {channels or 'C'}): "
            "bags, instances, features. x[None] makes one bag of (n, C)."
        )
    if mask is None and x.shape[1]:
        return x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if mask is None:
        mask = torch.zeros(x.shape[:2], dtype=torch.bool)
    if mask.shape != x.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            f"{name} got a mask of {mask.dtype} and shape {tuple(mask.shape)}. Expected True for "
            f"each real instance, False for filling: torch.bool, {tuple(x.shape[:2])}."
        )
    empty = (~mask.any(1)).nonzero()[:, 0].tolist()
    if empty:
        raise ValueError(
            f"{name}: bag {empty[0]} is empty. Expected an instance in each: leave it out."
        )
    return x.masked_fill(~mask[..., None], 0), mask
