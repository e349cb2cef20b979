"""Chapter 05: right answers written differently pass, and the facts of the chapter hold."""

import math
from itertools import pairwise

import numpy as np
import torch
from einops import reduce
from monai.losses import DiceLoss  # here: the import may take longer than an answer may
from torch import nn
from torch.nn import functional as F

from course_utils import metrics
from course_utils.exercises import exercise
from course_utils.unet import DoubleConv, UNet


def solution(topic):
    return exercise(f"unet.{topic}").reference


# Right answers written differently ---------------------------------------------------------------


def stamps_by_torch(x, kernel, stride):
    return F.conv_transpose2d(x[None, None], kernel[None, None], stride=stride)[0, 0]


class EncoderOfBlocks(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairwise(widths)
        )
        self.also = list(self.blocks)  # a list of layers that are registered besides

    def forward(self, x):
        skips = []
        for i, block in enumerate(self.blocks):
            x = block(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        return skips


class EncoderWalkingASequential(nn.Module):
    """The layers may well stay in an nn.Sequential, if one walks through it."""

    def __init__(self, channels, width):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.ReLU(inplace=True)),
        )

    def forward(self, x):
        found = []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x)
        return tuple(found)


def encoder_factory(channels, width):
    return EncoderOfBlocks(channels, width)


def decoder_by_repeating(x, skip, up, merge):
    x = up(x)
    if x.size(2) < skip.size(2):
        x = torch.cat([x, x[:, :, -1:]], 2)
    if x.size(3) < skip.size(3):
        x = torch.cat([x, x[..., -1:]], 3)
    both = torch.empty(len(x), 2 * x.shape[1], *x.shape[2:])
    both[:, : x.shape[1]], both[:, x.shape[1] :] = skip, x
    return merge(both)


def size_by_ceiling(model, x, multiple):
    h, w = x.shape[-2:]
    new = [math.ceil(n / multiple) * multiple for n in (h, w)]
    out = model(nn.ReplicationPad2d((0, new[1] - w, 0, new[0] - h))(x))
    return out[..., :h, :w]


def size_by_index(model, x, multiple):
    h, w = x.shape[2], x.shape[3]
    rows = torch.arange(-(-h // multiple) * multiple).clamp(max=h - 1)
    columns = torch.arange(-(-w // multiple) * multiple).clamp(max=w - 1)
    return model(x[:, :, rows][:, :, :, columns]).narrow(2, 0, h).narrow(3, 0, w)


def loss_einops(logits, masks):
    p, t = 1 / (1 + torch.exp(-logits)), masks.float()
    both, found, there = (reduce(z, "n h w -> n", "sum") for z in (p * t, p, t))
    return 1 - reduce((2 * both + 1) / (found + there + 1), "n -> ", "mean")


def loss_by_loop(logits, masks):
    total = 0
    for z, t in zip(logits, masks, strict=True):
        p = z.sigmoid()
        total = total + 1 - (2 * p[t == 1].sum() + 1) / (p.sum() + (t == 1).sum() + 1)
    return total / len(logits)


def loss_by_monai(logits, masks):
    dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
    return dice(logits[:, None], masks[:, None].float())


class LossModule(nn.Module):
    def forward(self, logits, masks):
        p, t = logits.sigmoid(), masks.double()
        both = (p * t).sum((-1, -2))
        return (1 - (both + 0.5) / ((p.sum((1, 2)) + t.sum((1, 2)) + 1) / 2)).mean()


def volumes_by_places(prediction, truth, depths):
    ends = np.cumsum(depths)
    result = torch.empty(len(depths))
    for i, (end, depth) in enumerate(zip(ends, depths, strict=True)):
        p, t = prediction[end - depth : end], truth[end - depth : end]
        both, areas = (p & t).sum(), p.sum() + t.sum()
        result[i] = 1.0 if areas == 0 else 2 * both / areas
    return result


def volumes_by_the_course(prediction, truth, depths):
    pairs = zip(prediction.split(depths), truth.split(depths), strict=True)
    return torch.cat([metrics.dice(p[None], t[None]) for p, t in pairs])


RIGHT = {
    "block_parameters": [[3456.0, 64], torch.tensor([3456, 64]), np.array([3456, 64])],
    "transposed_convolution": [stamps_by_torch],
    "Encoder": [EncoderOfBlocks, EncoderWalkingASequential, encoder_factory],
    "decoder_step": [decoder_by_repeating],
    "receptive_field": [46, 46.0, torch.tensor(46), np.int64(46)],
    "at_any_size": [size_by_ceiling, size_by_index],
    "soft_dice_loss": [loss_einops, loss_by_loop, loss_by_monai, LossModule],
    "volume_dice": [volumes_by_places, volumes_by_the_course],
}


def test_the_encoder_to_be_fixed_has_the_bug_that_is_named():
    ex, cell = exercise("unet.Encoder"), {"nn": nn}
    exec(ex.text.start, cell)
    assert ex.check(cell["Encoder"]).mistake == "only-the-coarsest"


# The chapter's facts ------------------------------------------------------------------------------


def test_values_to_predict_are_what_running_it_gives():
    block = DoubleConv(8, 16, nn.Conv2d, nn.BatchNorm2d)
    kernels = sum(p.numel() for p in block.parameters() if p.ndim == 4)
    norms = sum(p.numel() for p in block.parameters() if p.ndim == 1)
    assert solution("block_parameters")() == (kernels, norms)
    image = features = torch.ones(1, 1, 128, 128, requires_grad=True)
    for level in range(3):
        features = F.avg_pool2d(features, 2) if level else features
        for _ in range(3):
            features = F.conv2d(features, torch.ones(1, 1, 3, 3), padding=1)
    (gradient,) = torch.autograd.grad(features[0, 0, 16, 16], image)
    assert int((gradient[0, 0] > 0).any(0).sum()) == solution("receptive_field")()


def test_the_decoder_of_the_exercise_is_that_of_the_course():
    torch.manual_seed(0)
    model = UNet(1, 1, width=4, levels=2).eval()
    x = torch.randn(2, 1, 8, 10)
    fine = model.down[0](x)
    coarse = model.down[1](F.max_pool2d(fine, 2))
    merged = solution("decoder_step")(coarse, fine, model.up[0], model.merge[0])
    torch.testing.assert_close(model.head(merged), model(x))


def test_every_inner_pixel_gets_equally_many_stamps_only_where_the_stride_divides_the_kernel():
    for size in range(1, 7):
        for stride in range(1, min(size, 3) + 1):
            counts = solution("transposed_convolution")(
                torch.ones(9, 9), torch.ones(size, size), stride
            )
            inner = counts[size:-size, size:-size]
            assert (len(inner.unique()) == 1) == (size % stride == 0)
