"""The attention mechanisms of the course, one short class each. Taught in chapters 02 to 06.

Every module computes its map in `weights(x)`, and `forward` is `x * self.weights(x)`. Nothing is
stored on the module: stored maps break deepcopy and export.
"""

from contextlib import contextmanager

import torch
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Weigh each channel by a gate computed from the whole image ("what" matters).

    Hu et al. 2018, Squeeze-and-Excitation Networks, https://arxiv.org/abs/1709.01507, equations
    2 to 4: s = sigmoid(W2 relu(W1 mean(x))). The gates lie in (0, 1) and need not sum to one. The
    two layers hold 2 C^2 / r weights, and C / r + C biases.

    Args:
        channels: C, the number of channels of the input.
        reduction: r; the hidden layer has C // r units. The paper takes 16.

    Raises:
        ValueError: `reduction` leaves no hidden unit, or an argument is below one.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        if channels < 1 or not 1 <= reduction <= channels:
            raise ValueError(
                f"SqueezeExcitation(channels={channels}, reduction={reduction}) leaves no hidden "
                f"unit. Expected 1 <= reduction <= channels: try reduction={max(1, channels // 4)}."
            )
        # A linear layer does what a 1x1 convolution does to one number per channel, in less time.
        self.down = nn.Linear(channels, channels // reduction)
        self.up = nn.Linear(channels // reduction, channels)

    def weights(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        squeezed = x.mean((2, 3))  # (N, C)
        hidden = torch.relu(self.down(squeezed))  # (N, C // r)
        return torch.sigmoid(self.up(hidden))[:, :, None, None]  # (N, C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)  # (N, C, H, W)


@contextmanager
def own_random_stream():
    """Draw initial weights inside without moving the random stream of the layers that follow.

    A gate inserted between layers would otherwise shift the stream, so that a network with the
    gate and its control without it start from different weights.
    """
    with torch.random.fork_rng(devices=[]):
        # One draw, made in the copy of the stream, so that each place gets weights of its own.
        torch.default_generator.manual_seed(int(torch.randint(2**62, ())) ^ 0x5EED)
        yield
