"""U-Net whose skips take a gate, or none. Taught in chapters 05 and 06.

`UNet(gate=None)` is the matched control of `UNet(gate=AttentionGate)`: Attention U-Net is U-Net
plus gates, and with the same seed all shared weights start equal.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from .attention import Norm, check_batch_norm, expect_images, own_random_stream


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each followed by a norm and a ReLU; the size stays."""

    def __init__(self, in_channels: int, channels: int, conv: type, norm: Norm):
        super().__init__(
            conv(in_channels, channels, 3, padding=1, bias=False),
            norm(channels),
            nn.ReLU(inplace=True),
            conv(channels, channels, 3, padding=1, bias=False),
            norm(channels),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Encoder, decoder, and skips that carry fine detail from one to the other.

    Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597, with padded convolutions, so that the
    output is as large as the input. With a gate on each skip it is the Attention U-Net of Oktay et
    al. 2018, https://arxiv.org/abs/1804.03999; the gate asks the next coarser level of the decoder.
    In the authors' network the finest skip has no gate: `gate_finest=False`. The others have batch
    norm and as many inner channels as the skip: `gate` returns
    `AttentionGate(channels, signal, hidden=channels, authors=True, norm=nn.BatchNorm2d)`.

    Args:
        in_channels: channels of the image.
        outputs: numbers per pixel: 1 for a yes-or-no question, else one per class.
        width: channels of the finest level; each coarser level doubles them.
        levels: of resolution, at least 2; each after the first halves the image.
        gate: called with the channels of a skip and of the coarser level; None for the plain U-Net.
        gate_finest: whether the finest skip has a gate too.
        norm: called with a number of channels.

    Shapes: (N, in_channels, H, W) to (N, outputs, H, W), logits. Any H and W: the image is padded
    to a multiple of 2^(levels - 1) by repeating its border, and the output is cut back. (MONAI's
    `AttentionUnet` raises where a size is no such multiple, and ignores strides beyond the number
    of its levels.)

    Raises:
        ValueError: fewer than two levels. In `forward`: the image has other axes or another number
            of channels, or no pixels; in training mode, a single image of one pixel at the
            coarsest level, of which batch norm cannot learn.
    """

    def __init__(
        self,
        in_channels: int = 1,
        outputs: int = 1,
        width: int = 32,
        levels: int = 4,
        gate: Callable[[int, int], nn.Module] | None = None,
        gate_finest: bool = True,
        norm: Norm = nn.BatchNorm2d,
    ):
        super().__init__()
        if levels < 2:
            raise ValueError(f"UNet(levels={levels}): expected at least 2 levels.")
        self.in_channels = in_channels
        widths = [width * 2**level for level in range(levels)]
        pairs = list(pairwise(widths))  # (finer, coarser), finest first
        self.pool = nn.MaxPool2d(2)
        # Separate levels, not one nn.Sequential: forward must get hold of what each level found.
        self.down = nn.ModuleList(
            DoubleConv(a, b, nn.Conv2d, norm) for a, b in pairwise([in_channels, *widths])
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in pairs)
        self.merge = nn.ModuleList(
            DoubleConv(coarse, fine, nn.Conv2d, norm) for fine, coarse in pairs
        )
        self.head = nn.Conv2d(width, outputs, 1)
        with own_random_stream():
            self.gates = nn.ModuleList(
                gate(fine, coarse) if gate and (level or gate_finest) else _Open()
                for level, (fine, coarse) in enumerate(pairs)
            )

    def forward(self, x: Tensor) -> Tensor:  # (N, in_channels, H, W)
        expect_images(self, x, self.in_channels)
        height, width = x.shape[2:]
        step = 2 ** (len(self.down) - 1)
        below, right = -height % step, -width % step
        if below or right:
            x = nn.functional.pad(x, (0, right, 0, below), mode="replicate")
        check_batch_norm(self, len(x) * x.shape[2:].numel() // step**2)
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)  # (N, width 2^level, H / 2^level, ...)
            skips.append(x)
        skips.pop()  # the coarsest level is where the decoder starts
        for level in reversed(range(len(skips))):
            skip = self.gates[level](skips[level], x)  # weighed by what the coarser level knows
            x = self.merge[level](torch.cat([skip, self.up[level](x)], 1))
        return self.head(x)[:, :, :height, :width]  # (N, outputs, H, W)


class _Open(nn.Module):
    """The skip of the plain U-Net: nothing is weighed."""

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return x
