"""Inputs of chapter 05: the parts of a U-Net, its loss, and how a segmentation is scored."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .engine import Inputs, Setup
from .trial import Trial, built, differentiated


def _stamps(rng: torch.Generator) -> Inputs:
    cases = (((2, 2), (2, 2), 2), ((2, 3), (2, 3), 1), ((3, 2), (3, 3), 2), ((4, 3), (3, 2), 1))
    # At last no stamp reaches every third column.
    for size, kernel, stride in (*cases, ((3, 3), (4, 3), 2), ((1, 4), (2, 2), 3)):
        yield torch.randn(size, generator=rng), torch.randn(kernel, generator=rng), stride


def _encoder_inputs(rng: torch.Generator) -> Inputs:
    sizes = ((1, 2, 1, 8, 8), (3, 4, 2, 4, 12), (2, 3, 3, 7, 9), (1, 5, 1, 16, 4), (2, 5, 2, 6, 10))
    for i, (channels, width, n, h, w) in enumerate(sizes):
        yield channels, width, i % 2 == 0, torch.randn(n, channels, h, w, generator=rng)


def _decoder_inputs(rng: torch.Generator) -> Inputs:
    for n, c, h, w in ((1, 2, 4, 6), (2, 3, 5, 4), (3, 1, 6, 7), (1, 4, 7, 9), (2, 2, 8, 8)):
        up, merge = nn.ConvTranspose2d(2 * c, c, 2, stride=2), nn.Conv2d(2 * c, c, 3, padding=1)
        for parameter in (*up.parameters(), *merge.parameters()):
            parameter.requires_grad_(False).normal_(generator=rng)
        x = torch.randn(n, 2 * c, h // 2, w // 2, generator=rng)
        yield x, torch.randn(n, c, h, w, generator=rng), up, merge


class _Choosy(nn.Module):
    """A model that refuses sizes that are no multiple, and a second call; all it sees counts."""

    def __init__(self, multiple: int):
        super().__init__()
        self.multiple, self.called = multiple, False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.called:
            raise RuntimeError("the model is called a second time")
        self.called = True
        if any(n % self.multiple or n == 0 for n in x.shape[2:]):
            raise ValueError(f"an image of {tuple(x.shape[2:])}: no multiples of {self.multiple}")
        nearby = F.avg_pool2d(x, 3, 1, 1).sum(1, keepdim=True)
        return torch.cat([nearby, x[:, :1] * x.mean((1, 2, 3), keepdim=True)], 1)


def _sizes(rng: torch.Generator) -> Inputs:
    cases = ((1, 1, 8, 12, 4), (1, 2, 10, 14, 4), (2, 3, 9, 14, 6), (3, 1, 16, 13, 8))
    for n, c, h, w, multiple in (*cases, (2, 1, 11, 24, 12), (1, 1, 3, 20, 16)):
        yield _Choosy(multiple), torch.randn(n, c, h, w, generator=rng) + 1, multiple


def _loss_inputs(rng: torch.Generator) -> Inputs:
    for n, h, w in ((1, 2, 2), (2, 4, 3), (3, 5, 5), (2, 6, 4), (4, 3, 7)):
        masks = (torch.rand(n, h, w, generator=rng) < 0.4).to(torch.uint8)
        logits = 2 * torch.randn(n, h, w, generator=rng)
        masks[0, 0, 0], logits[0, 0, 0] = 1, 100.0  # exp(100) overflows, a sigmoid does not
        if n > 1:  # nothing there, nothing found
            masks[1], logits[1] = 0, -40.0
        yield logits, masks


def _stacks(rng: torch.Generator) -> Inputs:
    """Volumes that are found, with nothing there and nothing found, missed, a false alarm."""
    cases = (([2], 3, 4), ([3, 5], 4, 4), ([4, 2, 3], 5, 3), ([1, 6, 2, 2, 3], 4, 6))
    for depths, h, w in cases:
        truth = torch.rand(sum(depths), h, w, generator=rng) < 0.4
        prediction = truth ^ (torch.rand(truth.shape, generator=rng) < 0.25)
        for i, (p, t) in enumerate(zip(prediction.split(depths), truth.split(depths), strict=True)):
            p[0], t[0] = False, False  # an empty slice, where there are more
            p[-1, 0, :2], t[-1, 0, 0] = True, True
            if i in (1, 2):
                p[:] = False
            if i in (1, 3):
                t[:] = False
        yield prediction, truth, depths


def _run_scores(answer: Trial, prediction: Any, truth: Any, depths: list[int]) -> Any:
    """The scores; noted is whether one is nearly 0, as a small number makes it."""
    found = answer(prediction, truth, depths)
    if isinstance(found, torch.Tensor) and ((found > 0) & (found < 1e-3)).any():
        answer.beside = "a volume without overlap scores a little more than 0"
    return found


EXERCISES = {
    "unet.block_parameters": Setup(),
    "unet.transposed_convolution": Setup(_stamps),
    "unet.Encoder": Setup(_encoder_inputs, call=built),
    "unet.decoder_step": Setup(_decoder_inputs),
    "unet.receptive_field": Setup(),
    "unet.at_any_size": Setup(_sizes),
    "unet.soft_dice_loss": Setup(_loss_inputs, call=differentiated),
    "unet.volume_dice": Setup(_stacks, call=_run_scores),
}
