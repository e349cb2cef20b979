"""A small residual network whose blocks take an attention module, or none. Taught in 00 and 07.

`SEResNet(attention=None)` is the matched control of `SEResNet(attention=SqueezeExcitation)`: with
the same seed all shared weights start equal.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .attention import SqueezeExcitation, check_batch_norm, expect_images, own_random_stream


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; attention after the last norm, before the addition.

    He et al. 2016, https://arxiv.org/abs/1512.03385, figure 2; the place of the attention module
    is that of Hu et al. 2018, https://arxiv.org/abs/1709.01507, figure 3.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        attention: Callable[[int], nn.Module] | None = None,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.norm1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norm(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), norm(channels)
            )
        with own_random_stream():
            self.attention = attention(channels) if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (N, in_channels, H, W)
        y = torch.relu(self.norm1(self.conv1(x)))  # (N, channels, H / stride, W / stride)
        y = self.attention(self.norm2(self.conv2(y)))
        return torch.relu(y + self.shortcut(x))


class SEResNet(nn.Module):
    """Residual network with attention in each block: a stem, stages of blocks, mean, linear head.

    Each stage after the first halves the image and doubles the channels. With `small_images` the
    stem keeps the size; without it, it is that of ResNet and divides it by 4, and with `width=64,
    blocks=(2, 2, 2, 2)` the network is SE-ResNet-18. https://arxiv.org/abs/1709.01507.

    Args:
        in_channels: channels of the image.
        outputs: numbers per image; 1 for a yes-or-no question.
        width: channels of the first stage.
        blocks: residual blocks in each stage.
        attention: called with the number of channels of a block; None for the plain network.
        norm: called with the number of channels.
        instance_norm: bring each channel of each image to mean 0 and deviation 1 first, so that
            the exposure of an X-ray does not matter.
        small_images: for 28 to 64 px; False for larger ones.

    Shapes: (N, in_channels, H, W) to (N, outputs), which are logits, not probabilities.

    Raises:
        ValueError: when called: images of another form, of no pixel, or of one with
            `instance_norm`, for which 1 x 2 is the smallest size; in training mode, a single image
            of which the last stage has one pixel, since batch norm cannot learn from one value.
    """

    def __init__(
        self,
        in_channels: int = 1,
        outputs: int = 1,
        width: int = 32,
        blocks: Sequence[int] = (2, 2, 2),
        attention: Callable[[int], nn.Module] | None = SqueezeExcitation,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        instance_norm: bool = True,
        small_images: bool = True,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.least = 2 if instance_norm else 1  # pixels: one alone has no deviation
        self.step = 2 ** sum(count > 0 for count in blocks[1:]) * (1 if small_images else 4)
        kernel, stride = (3, 1) if small_images else (7, 2)
        self.stem = nn.Sequential(
            nn.InstanceNorm2d(in_channels) if instance_norm else nn.Identity(),
            nn.Conv2d(in_channels, width, kernel, stride, padding=kernel // 2, bias=False),
            norm(width),
            nn.ReLU(),
            nn.Identity() if small_images else nn.MaxPool2d(3, stride=2, padding=1),
        )
        # The stage of each block: a new one doubles the channels, and only then the stride is 2.
        stages = [stage for stage, count in enumerate(blocks) for _ in range(count)]
        channels = [width, *(width * 2**stage for stage in stages)]
        layers = (
            ResidualBlock(before, after, 1 if after == before else 2, attention, norm)
            for before, after in pairwise(channels)
        )
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:  # (N, in_channels, H, W)
        expect_images(self, x, self.in_channels, self.least)
        last = [-(-n // self.step) for n in x.shape[2:]]  # rounded up: the strides have padding
        check_batch_norm(self, len(x) * math.prod(last))
        features = self.blocks(self.stem(x))  # (N, 4 width, H / 4, W / 4) with three stages
        return self.head(features.mean((2, 3)))  # (N, outputs)
