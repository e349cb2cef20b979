"""The attention mechanisms of the course, one short class each. Taught in chapters 02 to 06.

Every module computes its map in `weights(x)`, the gate in `weights(x, g)`, and `forward` multiplies
the features by it; self-attention adds what it gathers. Nothing is stored on the module: stored
maps break deepcopy and export.

    module                what it asks       shape of the map       paper
    SqueezeExcitation     which channel?     (N, C, 1, 1)           1709.01507
    ECA                   which channel?     (N, C, 1, 1)           1910.03151
    ChannelAttention      which channel?     (N, C, 1, 1)           1807.06521
    SpatialAttention      where?             (N, 1, H, W)           1807.06521
    CBAM                  which, then where  (N, C, H, W)           1807.06521
    AttentionGate         where in the skip? (N, 1, H, W)           1804.03999
    SelfAttention2d       which other place? (N, heads, H W, H W)   1711.07971, 1706.03762

All but the last end in a sigmoid: their weights lie in (0, 1) and need not sum to one. Only
dot-product attention uses a softmax, whose weights do.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]
"""Called with a number of channels, for instance `nn.BatchNorm2d`."""


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
        hidden = _hidden(type(self).__name__, channels, reduction)
        # A linear layer does what a 1x1 convolution does to one number per channel, in less time.
        self.down = nn.Linear(channels, hidden)
        self.up = nn.Linear(hidden, channels)

    def weights(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        expect_images(self, x, self.down.in_features)
        squeezed = x.mean((2, 3))  # (N, C)
        hidden = torch.relu(self.down(squeezed))  # (N, C // r)
        return torch.sigmoid(self.up(hidden))[:, :, None, None]  # (N, C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)  # (N, C, H, W)


class ECA(nn.Module):
    """Weigh each channel by its own mean and those of its neighbours in the list of channels.

    Wang et al. 2020, ECA-Net, https://arxiv.org/abs/1910.03151: s = sigmoid(conv_k(mean(x))), a
    1-D convolution along the channels with k weights and no bias. By default k is the odd number
    nearest to log2(C) / 2 + 1 / 2 (equation 12 with gamma 2 and b 1).

    Args:
        channels: C, the number of channels of the input.
        kernel_size: k, odd; None for the paper's rule.

    Raises:
        ValueError: `kernel_size` is even, or an argument is below one.
    """

    def __init__(self, channels: int, kernel_size: int | None = None):
        super().__init__()
        if channels < 1:
            raise ValueError(f"ECA(channels={channels}): expected at least one channel.")
        if kernel_size is None:
            nearest = int((math.log2(channels) + 1) / 2)
            kernel_size = nearest if nearest % 2 else nearest + 1
        _odd("ECA", kernel_size)
        self.channels = channels
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def weights(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        expect_images(self, x, self.channels)
        squeezed = x.mean((2, 3))[:, None]  # (N, 1, C): channels are the places of a sequence
        return torch.sigmoid(self.conv(squeezed))[:, 0, :, None, None]  # (N, C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)  # (N, C, H, W)


class ChannelAttention(nn.Module):
    """The first half of CBAM: one shared perceptron looks at the mean and at the maximum.

    Woo et al. 2018, CBAM, https://arxiv.org/abs/1807.06521, equation 2:
    s = sigmoid(MLP(mean(x)) + MLP(max(x))). The sum is taken before the sigmoid.

    Args:
        channels: C, the number of channels of the input.
        reduction: r; the hidden layer has C // r units. The paper takes 16.

    Raises:
        ValueError: `reduction` leaves no hidden unit, or an argument is below one.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = _hidden(type(self).__name__, channels, reduction)
        self.channels = channels
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def weights(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        expect_images(self, x, self.channels)
        mean, peak = x.mean((2, 3)), x.amax((2, 3))  # (N, C) each
        return torch.sigmoid(self.mlp(mean) + self.mlp(peak))[:, :, None, None]  # (N, C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)  # (N, C, H, W)


class SpatialAttention(nn.Module):
    """The second half of CBAM: weigh each place by what stands around it ("where" matters).

    Woo et al. 2018, CBAM, https://arxiv.org/abs/1807.06521, equation 3:
    s = sigmoid(conv_7x7([mean over channels; max over channels])). The convolution takes TWO
    channels. The order (mean, max) is the paper's and timm's; the authors' code has (max, mean).
    Both codes put a batch norm after the convolution.

    Args:
        kernel_size: of the convolution, odd. The paper takes 7.
        norm: called with 1, the number of channels after the convolution; None for a bias instead.

    Raises:
        ValueError: `kernel_size` is even or below one.
    """

    def __init__(self, kernel_size: int = 7, norm: Norm | None = None):
        super().__init__()
        _odd("SpatialAttention", kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=norm is None)
        self.norm = norm(1) if norm else nn.Identity()

    def weights(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        expect_images(self, x)
        check_batch_norm(self, len(x) * x.shape[2:].numel())
        pooled = torch.stack([x.mean(1), x.amax(1)], 1)  # (N, 2, H, W)
        return torch.sigmoid(self.norm(self.conv(pooled)))  # (N, 1, H, W)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)  # (N, C, H, W)


class CBAM(nn.Module):
    """Convolutional block attention module: first which channel, then where.

    Woo et al. 2018, https://arxiv.org/abs/1807.06521, equation 1. The spatial half sees features
    that the channel half has weighed already. In a residual block it stands after the last norm,
    before the addition.

    Args:
        channels, reduction: as in `ChannelAttention`.
        kernel_size, norm: as in `SpatialAttention`.
    """

    def __init__(
        self, channels: int, reduction: int = 16, kernel_size: int = 7, norm: Norm | None = None
    ):
        super().__init__()
        self.channel = ChannelAttention(channels, reduction)
        self.spatial = SpatialAttention(kernel_size, norm)

    def weights(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        channel = self.channel.weights(x)  # (N, C, 1, 1)
        return channel * self.spatial.weights(x * channel)  # (N, C, H, W)

    def forward(self, x: Tensor) -> Tensor:
        return self.spatial(self.channel(x))  # x * self.weights(x), with one product less


class AttentionGate(nn.Module):
    """Weigh the places of a skip connection by asking the coarser decoder level what matters.

    Oktay et al. 2018, Attention U-Net, https://arxiv.org/abs/1804.03999, equations 1 and 2:
    alpha = sigmoid(psi(relu(W_x x + W_g g))), and the SKIP x is multiplied by it, not g. All three
    layers are 1x1 convolutions. g may be coarser than x: W_g g is interpolated to x.

    `authors=True` gives the arrangement of the authors' code: W_x is a 2x2 convolution of stride 2
    without bias, so that the map is computed at half the size and then interpolated, and a 1x1
    convolution with norm follows the product. Without it, this is the common form with everything
    at the size of x, which MONAI has too (there with a norm after each of the three layers).

    Args:
        channels: of the skip x.
        gate_channels: of the gating signal g.
        hidden: channels of the sum; None for channels // 2.
        authors: the authors' arrangement.
        norm: called with a number of channels; None for no norm.

    Raises:
        ValueError: a number of channels is below one.
    """

    def __init__(
        self,
        channels: int,
        gate_channels: int,
        hidden: int | None = None,
        authors: bool = False,
        norm: Norm | None = None,
    ):
        super().__init__()
        hidden = max(channels // 2, 1) if hidden is None else hidden
        if min(channels, gate_channels, hidden) < 1:
            raise ValueError(
                f"AttentionGate(channels={channels}, gate_channels={gate_channels}, "
                f"hidden={hidden}): expected at least one channel in each place."
            )
        norm = norm or nn.Identity
        of = nn.Identity if authors else norm
        self.channels, self.gate_channels = channels, gate_channels
        self.step = step = 2 if authors else 1
        skip = nn.Conv2d(channels, hidden, step, step, bias=not authors)
        self.skip = nn.Sequential(skip, of(hidden))
        self.gate = nn.Sequential(nn.Conv2d(gate_channels, hidden, 1), of(hidden))
        self.psi = nn.Sequential(nn.Conv2d(hidden, 1, 1), of(1))
        self.out: nn.Module = nn.Identity()
        if authors:
            self.out = nn.Sequential(nn.Conv2d(channels, channels, 1), norm(channels))

    def weights(self, x: Tensor, g: Tensor) -> Tensor:  # (N, C, H, W), (N, C_g, H', W')
        expect_images(self, x, self.channels)
        expect_images(self, g, self.gate_channels)
        smallest = [n // self.step for n in x.shape[2:]]  # rounded down: this stride has no padding
        check_batch_norm(self, len(x) * min(math.prod(smallest), g.shape[2:].numel()))
        skip = self.skip(x)  # (N, hidden, H, W), half of that in the authors' form
        gate = _resize(self.gate(g), skip)  # a 1x1 convolution is cheaper before than after
        return _resize(torch.sigmoid(self.psi(torch.relu(skip + gate))), x)  # (N, 1, H, W)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return self.out(x * self.weights(x, g))  # (N, C, H, W)


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """How much each query takes from each key: softmax(q k^T / sqrt(d)).

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1.

    Args:
        query: (..., L, d).
        key: (..., S, d).

    Returns:
        (..., L, S); each row lies in (0, 1) and sums to one.
    """
    return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), dim=-1)


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Each query's weighted mean of the values: softmax(q k^T / sqrt(d)) v.

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1. PyTorch's function of the
    same name gives the same numbers and never holds the (L, S) weights as a whole.

    Args:
        query: (..., L, d).
        key: (..., S, d).
        value: (..., S, e).

    Returns:
        (..., L, e).
    """
    return attention_weights(query, key) @ value


class SelfAttention2d(nn.Module):
    """Each place of an image takes from all others what resembles its query (non-local block).

    Wang et al. 2018, Non-local neural networks, https://arxiv.org/abs/1711.07971, equation 6, in
    its embedded Gaussian form and with the scaling and the heads of Vaswani et al. 2017,
    https://arxiv.org/abs/1706.03762. As in the paper the block adds to its input and starts as the
    identity, and its inner width is C // 2. Time and memory of the map grow with (H W)^2.

    Args:
        channels: C, the number of channels of the input.
        heads: the inner width is cut into so many parts, each with a map of its own.

    Raises:
        ValueError: `heads` does not divide C // 2, or an argument is below one.
    """

    def __init__(self, channels: int, heads: int = 1):
        super().__init__()
        if channels < 2 or heads < 1 or (channels // 2) % heads:
            raise ValueError(
                f"SelfAttention2d(channels={channels}, heads={heads}): expected at least two "
                f"channels, and a number of heads that divides the inner width {channels // 2}."
            )
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * (channels // 2), 1)
        self.out = nn.Conv2d(channels // 2, channels, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        expect_images(self, x, self.qkv.in_channels)
        parts = self.qkv(x).flatten(2)  # (N, 3 C // 2, H W)
        parts = parts.unflatten(1, (3, self.heads, -1))  # (N, 3, heads, C // 2 // heads, H W)
        # contiguous: PyTorch's fast kernels want the numbers of one place side by side
        query, key, value = parts.mT.contiguous().unbind(1)
        return query, key, value  # (N, heads, H W, C // 2 // heads) each

    def weights(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        query, key, _ = self.queries_keys_values(x)
        return attention_weights(query, key)  # (N, heads, H W, H W)

    def forward(self, x: Tensor) -> Tensor:
        # weights(x) @ value, by the function that does not hold the weights as a whole
        taken = F.scaled_dot_product_attention(*self.queries_keys_values(x))
        image = taken.mT.flatten(1, 2).unflatten(2, x.shape[2:])  # (N, C // 2, H, W)
        return x + self.out(image)  # (N, C, H, W)


def _hidden(name: str, channels: int, reduction: int) -> int:
    if channels < 1 or not 1 <= reduction <= channels:
        raise ValueError(
            f"{name}(channels={channels}, reduction={reduction}) leaves no hidden unit. "
            f"Expected 1 <= reduction <= channels: try reduction={max(1, channels // 4)}."
        )
    return channels // reduction


def _odd(name: str, kernel_size: int) -> None:
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(
            f"{name}(kernel_size={kernel_size}): expected an odd number, so that the map has a "
            f"middle and keeps its size: try {max(1, kernel_size + 1)}."
        )


def expect_images(
    module: nn.Module, x: Tensor, channels: int | None = None, pixels: int = 1
) -> None:
    """Refuse what is no batch of images; else PyTorch would speak of a matrix, or not at all.

    Args:
        module: in its name.
        x: images or features, (N, C, H, W).
        channels: C, for which the module was built; None for any.
        pixels: each image has so many at least.

    Raises:
        ValueError: other axes, another number of channels, or fewer pixels.
    """
    if x.ndim != 4 or channels not in (None, x.shape[1]) or x.shape[2:].numel() < pixels:
        raise ValueError(
            f"{type(module).__name__} got a tensor of shape {tuple(x.shape)}. Expected "
            f"(N, {channels or 'C'}, H, W), for which it was built, where H times W is {pixels} or "
            "more. x[None] makes a batch of one; volumes go in slice by slice; pad small images."
        )


def check_batch_norm(module: nn.Module, values: int) -> None:
    """Refuse to train batch norm on one value per channel, whose deviation is 0.

    Args:
        module: holds the norms, if it has any.
        values: images times positions of the smallest features in it.

    Raises:
        ValueError: there is one value alone, and a batch norm in training mode.
    """
    if values == 1 and any(
        isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in module.modules()
    ):
        raise ValueError(
            f"{type(module).__name__} in training mode: batch norm gets a single value per "
            "channel, one image of 1 pixel by then. Expected at least two: take larger batches or "
            "images, or norm=lambda c: nn.GroupNorm(1, c); to predict, call model.eval() first."
        )


def _resize(x: Tensor, like: Tensor) -> Tensor:
    """`x` interpolated to the height and width of `like`."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


@contextmanager
def own_random_stream() -> Iterator[None]:
    """Draw initial weights inside without moving the random stream of the layers that follow.

    A gate inserted between layers would otherwise shift the stream, so that a network with the
    gate and its control without it start from different weights.
    """
    with torch.random.fork_rng(devices=[]):
        # One draw, made in the copy of the stream, seeds it: each place gets weights of its own,
        # and not those that the layer behind it is about to draw.
        torch.default_generator.manual_seed(int(torch.randint(2**62, ())) ^ 0x5EED)
        yield
