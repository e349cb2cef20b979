"""Exercises of chapter 03: squeeze, excite and scale, CBAM's and ECA's gates, their place."""

# The right and the wrong answers are code as a learner would write it in a notebook: they import
# what they need besides torch themselves, and a solution is shown as it stands here.

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from .engine import Exercise, Inputs
from .preparing import as_function, marked_if_cut_off, module_from


def _spread(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    """Features whose channels differ in level, so that no two ways of pooling agree by chance."""
    level = torch.randn(*shape[:2], *(1 for _ in shape[2:]), generator=rng)
    return torch.randn(shape, generator=rng) + level


# Squeeze ---------------------------------------------------------------------------------------


def squeeze(x):
    return x.mean(dim=(2, 3))


def squeeze_channels(x):
    return x.mean(1)


def squeeze_the_batch(x):
    return x.mean((0, 2, 3))


def squeeze_one_axis(x):
    return x.mean(-1)


def squeeze_all_but_the_batch(x):
    return x.mean((1, 2, 3))


def squeeze_everything(x):
    return x.mean()


def squeeze_by_sum(x):
    return x.sum((2, 3))


def squeeze_by_maximum(x):
    return x.amax((2, 3))


def squeeze_and_keep_axes(x):
    return x.mean((2, 3), keepdim=True)


def squeeze_and_lose_the_batch(x):
    return x.mean((2, 3)).squeeze()


def squeeze_by_square_root(x):
    return x.sum((2, 3)) / x.shape[2] ** 2


def squeeze_by_the_height(x):
    return x.sum((2, 3)) / x.shape[2]


def squeeze_by_the_width(x):
    return x.sum((2, 3)) / x.shape[3]


_ONE_LENGTH = "You sum over both axes and divide by the length of one of them."


def _features(rng: torch.Generator) -> Inputs:
    shapes = ((1, 2, 4, 4), (1, 3, 2, 5), (3, 4, 3, 3), (2, 5, 4, 1), (4, 1, 3, 6), (5, 4, 5, 5))
    return [(_spread(shape, rng),) for shape in shapes]


SQUEEZE = Exercise(
    name="channel.squeeze",
    question=(
        "Write squeeze(x), which says in one number per channel how strong the channel is on "
        "average over the image. "
        "`x` is a float tensor (N, C, H, W) of any size, N and C may be 1. "
        "Return a float tensor (N, C): each image has its own C numbers."
    ),
    reference=squeeze,
    make_inputs=_features,
    wrong={
        "mean-over-channels": (
            squeeze_channels,
            "You average over the channels. That leaves a number for each place, (N, H, W), which "
            "is what spatial attention begins with. Asked for is a number for each channel.",
        ),
        "mean-over-the-batch": (
            squeeze_the_batch,
            "You average over the images of the batch as well. The gate of one patient would then "
            "depend on who else is in the batch.",
        ),
        "only-one-spatial-axis": (
            squeeze_one_axis,
            "Only one of the two spatial axes is gone: what is left has a number for each row.",
        ),
        "mean-over-channels-too": (
            squeeze_all_but_the_batch,
            "One number per image is left. The channels must survive: they are what is weighed.",
        ),
        "mean-over-everything": (
            squeeze_everything,
            "Everything is averaged into a single number. Say over which axes to take the mean.",
        ),
        "sum-instead-of-mean": (
            squeeze_by_sum,
            "This is the sum. It grows with the size of the image, so the same gate would see "
            "other numbers at another resolution.",
        ),
        "maximum-instead-of-mean": (
            squeeze_by_maximum,
            "This is the largest value, and not the average. It hears of a single bright pixel "
            "only (CBAM uses both; here the average alone is asked for).",
        ),
        "axes-kept": (
            squeeze_and_keep_axes,
            "The numbers are right, but two axes of length one are left. Asked for is (N, C).",
        ),
        "lost-axes-of-length-one": (
            squeeze_and_lose_the_batch,
            "Right until the batch holds one image, or there is one channel: `squeeze()` removes "
            "every axis of length one, these too. Name the axes that you want to lose.",
        ),
        "right-only-for-square": (
            squeeze_by_square_root,
            "Right for square images only: you divide by the height twice.",
        ),
        "divided-by-the-height": (squeeze_by_the_height, _ONE_LENGTH),
        "divided-by-the-width": (squeeze_by_the_width, _ONE_LENGTH),
    },
    hints=(
        "Which axes of (N, C, H, W) does the result (N, C) no longer have?",
        "`mean` takes a tuple of axes and removes them.",
        "The two axes to average over are numbers 2 and 3, height and width.",
    ),
    why=(
        "The mean over height and width leaves one number per image and channel. It does not "
        "depend on the size of the image, so that the same gate works at any resolution."
    ),
)


# Squeeze and excitation as a module --------------------------------------------------------------


class SEGate(torch.nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.down = torch.nn.Linear(channels, hidden)
        self.up = torch.nn.Linear(hidden, channels)

    def weights(self, x):
        squeezed = x.mean((2, 3))
        hidden = torch.relu(self.down(squeezed))
        return torch.sigmoid(self.up(hidden))[:, :, None, None]

    def forward(self, x):
        return x * self.weights(x)


class SoftmaxGate(SEGate):
    def weights(self, x):
        return self.up(self.down(x.mean((2, 3))).relu()).softmax(1)[:, :, None, None]


class NoRelu(SEGate):
    def weights(self, x):
        return self.up(self.down(x.mean((2, 3)))).sigmoid()[:, :, None, None]


class SqueezedAndViewed(SEGate):
    def weights(self, x):
        squeezed = x.mean((2, 3)).squeeze()
        return self.up(self.down(squeezed).relu()).sigmoid().view(*x.shape[:2], 1, 1)


class SqueezedAndIndexed(SEGate):
    def weights(self, x):
        squeezed = x.mean((2, 3)).squeeze()
        return self.up(self.down(squeezed).relu()).sigmoid()[:, :, None, None]


class GatesSqueezed(SEGate):
    def weights(self, x):
        return super().weights(x).squeeze()[..., None, None]


class SigmoidTwice(SEGate):
    def weights(self, x):
        return self.up(self.down(x.mean((2, 3))).sigmoid()).sigmoid()[:, :, None, None]


class ReluBeforeSigmoid(SEGate):
    def weights(self, x):
        return self.up(self.down(x.mean((2, 3))).relu()).relu().sigmoid()[:, :, None, None]


class NoSigmoid(SEGate):
    def weights(self, x):
        return self.up(self.down(x.mean((2, 3))).relu())[:, :, None, None]


class ReluForSigmoid(SEGate):
    def weights(self, x):
        return self.up(self.down(x.mean((2, 3))).relu()).relu()[:, :, None, None]


class MaximumSqueezed(SEGate):
    def weights(self, x):
        return self.up(self.down(x.amax((2, 3))).relu()).sigmoid()[:, :, None, None]


class SumSqueezed(SEGate):
    def weights(self, x):
        return self.up(self.down(x.sum((2, 3))).relu()).sigmoid()[:, :, None, None]


class BatchSqueezed(SEGate):
    def weights(self, x):
        return self.up(self.down(x.mean((0, 2, 3))).relu()).sigmoid()[None, :, None, None]


class ChannelsSqueezed(SEGate):
    def weights(self, x):
        return self.up(self.down(x.mean(1)).relu()).sigmoid()[:, :, None, None]


class EachPixelGated(SEGate):
    def weights(self, x):
        pixels = x.permute(0, 2, 3, 1)
        return self.up(self.down(pixels).relu()).sigmoid().permute(0, 3, 1, 2)


class GateReturned(SEGate):
    def forward(self, x):
        return self.weights(x)


class GateReturnedFlat(SEGate):
    def forward(self, x):
        return self.weights(x).flatten(1)


class GateAdded(SEGate):
    def forward(self, x):
        return x + self.weights(x)


class InputAdded(SEGate):
    def forward(self, x):
        return x + x * self.weights(x)


class AxesMissing(SEGate):
    def forward(self, x):
        return x * self.up(self.down(x.mean((2, 3))).relu()).sigmoid()


class AxesMissingInFront(SEGate):
    def forward(self, x):
        return self.up(self.down(x.mean((2, 3))).relu()).sigmoid() * x


class InPlace(SEGate):
    def forward(self, x):
        return x.mul_(self.weights(x))


class WithoutReduction(SEGate):
    def __init__(self, channels, reduction):
        super().__init__(channels, 1)


class WithoutGuard(SEGate):
    def __init__(self, channels, reduction):
        super().__init__(channels, reduction)
        self.down = nn.Linear(channels, channels // reduction)
        self.up = nn.Linear(channels // reduction, channels)


class HiddenIsReduction(SEGate):
    def __init__(self, channels, reduction):
        super().__init__(channels, reduction)
        self.down = nn.Linear(channels, reduction)
        self.up = nn.Linear(reduction, channels)


class HiddenRoundedUp(SEGate):
    def __init__(self, channels, reduction):
        super().__init__(channels, reduction)
        self.down = nn.Linear(channels, -(-channels // reduction))
        self.up = nn.Linear(-(-channels // reduction), channels)


class DetachedGate(SEGate):
    def weights(self, x):
        return super().weights(x).detach()


def _run_module(candidate: Any) -> Callable[..., Any]:
    """Calls a module built from (channels, reduction). What cannot learn comes back marked."""

    def run(channels: int, reduction: int, x: torch.Tensor) -> Any:
        return marked_if_cut_off(module_from(candidate, channels, reduction), x)

    return run


def _module_inputs(rng: torch.Generator) -> Inputs:
    # With one channel `squeeze()` takes away the axis of the channels.
    cases = ((1, 4, 2, 3, 3), (2, 6, 3, 4, 2), (3, 8, 4, 5, 5), (1, 9, 3, 1, 6), (4, 3, 4, 3, 5))
    # With 11 channels and r = 4 a width that is rounded is not C // r.
    cases_and_more = (*cases, (3, 1, 1, 4, 3), (2, 11, 4, 4, 3))
    return [(c, r, _spread((n, c, h, w), rng)) for n, c, r, h, w in cases_and_more]


_ROUNDED = (
    "Where C / r is no whole number, your hidden layer has one unit too many: you round up, or to "
    "the nearest. C // r drops what stands behind the point."
)
_INPUT_ADDED = (
    "You add the input to the weighed features. In a residual block the shortcut does that; within "
    "the gate it makes weights between 1 and 2, which close no channel."
)
_AXES_MISSING = (
    "The gates have shape (N, C) when they meet features (N, C, H, W). Broadcasting lines shapes "
    "up from the right, so C falls on the width. Give the gates two more axes."
)
_NEVER_BELOW_A_HALF = (
    "A ReLU stands right before the sigmoid. Then no gate can go below 0.5, and no channel can be "
    "closed."
)
_ONE_CHANNEL = (
    "Right until there is one channel: `squeeze()` removes every axis of length one, then the axis "
    "of the channels too. Name the axes that you want to lose."
)
_ONE_IMAGE_OR_CHANNEL = (
    "Right until the batch holds one image, or there is one channel: `squeeze()` removes every "
    "axis of length one, these too. Name the axes that you want to lose."
)

SE_GATE = Exercise(
    name="channel.SEGate",
    question=(
        "Write the module class SEGate(channels, reduction): squeeze, excite, scale. "
        "`channels` is C and `reduction` is r, both at least 1. Its two linear layers, with bias, "
        "lead from C numbers to C // r, but to no fewer than one, and back to C, with a ReLU "
        "between them and a sigmoid behind them. `forward(x)` gets a float tensor (N, C, H, W), "
        "N and C may be 1, and returns the weighed features, of the same shape; `x` itself "
        "stays as it was. Your weights are overwritten before the check: how you initialise "
        "them does not matter."
    ),
    reference=SEGate,
    make_inputs=_module_inputs,
    prepare=_run_module,
    wrong={
        "softmax-instead-of-sigmoid": (
            SoftmaxGate,
            "Your gates of an image sum to one: that is a softmax. It makes channels compete, and "
            "with 64 channels each gets a weight of about 1/64. A sigmoid weighs each by itself.",
        ),
        "relu-missing": (
            NoRelu,
            "Nothing stands between your two linear layers, so that they could be one. A ReLU is "
            "asked for there. (If you have one behind the sigmoid: it does nothing, as a sigmoid "
            "is never negative.)",
        ),
        "channel-axis-lost": (SqueezedAndViewed, _ONE_CHANNEL),
        "lost-axes-of-length-one": (SqueezedAndIndexed, _ONE_IMAGE_OR_CHANNEL),
        "channel-axis-of-gates-lost": (
            GatesSqueezed,
            "Right until there is one channel: `squeeze()` removes every axis of length one from "
            "your gates, then the axis of the channels too. Name the axes that you want to lose.",
        ),
        "sigmoid-instead-of-relu": (
            SigmoidTwice,
            "The sigmoid stands in both places. Between the two layers a ReLU is asked for.",
        ),
        "gates-never-below-a-half": (
            ReluBeforeSigmoid,
            "A second ReLU stands right before the sigmoid. Then no gate can go below 0.5, and no "
            "channel can be closed.",
        ),
        "sigmoid-missing": (
            NoSigmoid,
            "Your gates can be negative or large: the sigmoid at the end is missing.",
        ),
        "relu-instead-of-sigmoid": (
            ReluForSigmoid,
            "Your gates have no upper bound: the last step is a ReLU where a sigmoid is asked for.",
        ),
        "maximum-squeezed": (
            MaximumSqueezed,
            "You squeeze by the maximum. SE takes the mean of each channel.",
        ),
        "sum-squeezed": (
            SumSqueezed,
            "You squeeze by the sum. It grows with the size of the image; SE takes the mean.",
        ),
        "squeezed-over-the-batch": (
            BatchSqueezed,
            "You squeeze over the batch as well: all images get the same gates.",
        ),
        "squeezed-over-channels": (
            ChannelsSqueezed,
            "You average over axis 1, the channels. What is left is (N, H, W), and the first layer "
            "waits for C numbers. Average over height and width.",
        ),
        "not-squeezed": (
            EachPixelGated,
            "You do not squeeze: the two layers are applied at each place by itself. A gate of SE "
            "looks at the whole image and is the same at each place.",
        ),
        "gate-returned": (
            GateReturned,
            "You return the gates themselves. The features, weighed by them, are asked for.",
        ),
        "gate-returned-flat": (
            GateReturnedFlat,
            "You return the gates (N, C). The features, weighed by them, are asked for.",
        ),
        "gate-added": (
            GateAdded,
            "You add the gates to the features. They are to weigh them: multiply.",
        ),
        "input-added": (InputAdded, _INPUT_ADDED),
        "broadcasting-axes-missing": (AxesMissing, _AXES_MISSING),
        "axes-missing-of-the-first-factor": (AxesMissingInFront, _AXES_MISSING),
        "input-changed-in-place": (
            InPlace,
            "Your code changes `x` itself. The caller, a shortcut for instance, still needs it as "
            "it was: compute a new tensor.",
        ),
        "reduction-ignored": (
            WithoutReduction,
            "Your hidden layer has C units, whatever the reduction.",
        ),
        "no-guard-for-few-channels": (
            WithoutGuard,
            "With fewer channels than the reduction, C // r is 0, and a layer with no units gives "
            "gates that never look at the image. The question says the least number of units.",
        ),
        "hidden-is-the-reduction": (
            HiddenIsReduction,
            "Your hidden layer has r units. It should have C divided by r of them.",
        ),
        "hidden-width-rounded": (HiddenRoundedUp, _ROUNDED),
        "gate-cut-off": (
            DetachedGate,
            "The values are right, but the gates are cut off from the graph (detach, .data, "
            "no_grad or a trip through NumPy): their weights would never learn.",
        ),
    },
    hints=(
        "Build the two linear layers in `__init__`. In `forward`, do the three steps: one number "
        "per channel, two layers, a product.",
        "Linear layers work on the last axis: give them the (N, C) of the squeeze. ReLU comes "
        "after the first, sigmoid after the second.",
        "Before the product the gates need the shape (N, C, 1, 1): index with [:, :, None, None]. "
        "`max(..., 1)` keeps one hidden unit.",
    ),
    why=(
        "Squeeze to (N, C), two layers with a bottleneck, a sigmoid, and a product that spreads "
        "each gate over its channel. The course's class raises an error where C // r is 0 instead "
        "of taking one unit: a reduction that does not fit is more often a slip than a wish."
    ),
)


# Parameters ------------------------------------------------------------------------------------


def se_parameters():
    channels, reduction = 96, 8
    hidden = channels // reduction
    in_weights = 2 * channels * hidden
    in_biases = hidden + channels
    return in_weights, in_biases


_WEIGHTS = {
    "weights": (2304, "The weights are right."),
    "one-matrix": (
        1152,
        "Your weights are those of a single matrix. There are two, one down and one up.",
    ),
    "square-matrix": (
        9216,
        "Your weights are those of one matrix of C by C. Count the layers, and what the reduction "
        "does to them.",
    ),
    "no-reduction": (
        18432,
        "Your weights are those of a hidden layer as wide as the input. The reduction makes it "
        "narrower.",
    ),
    "reduction-squared": (
        288,
        "You have divided the weights by the reduction twice: only one side of each matrix is "
        "shorter.",
    ),
    "squared-and-one-matrix": (
        144,
        "You have divided the weights by the reduction twice, where only one side of each matrix "
        "is shorter; and there are two matrices.",
    ),
    "eight-hidden-units": (
        1536,
        "Your weights are those of 8 hidden units. The hidden layer does not have r units, nor is "
        "its width rounded: it has C divided by r of them.",
    ),
    "sixteen-hidden-units": (
        3072,
        "Your weights are those of 16 hidden units. Nothing is rounded here, neither to a power of "
        "two nor to a multiple of eight: the hidden layer has C divided by r units.",
    ),
    "sum": (2412, "Your first number is the sum of both: give the weights alone."),
}
_BIASES = {
    "biases": (108, "The biases are right."),
    "no-biases": (0, "The layers have biases as well, one for each unit."),
    "biases-of-the-last-layer": (
        96,
        "Your biases are those of one layer only. The hidden units have biases, too.",
    ),
    "biases-of-the-hidden-layer": (
        12,
        "Your biases are those of the hidden layer only. The last layer has one for each channel.",
    ),
    "biases-of-two-wide-layers": (
        192,
        "One bias belongs to each unit of each layer. The hidden layer has fewer units than the "
        "last.",
    ),
    "biases-of-eight-hidden-units": (
        104,
        "Your biases are those of 8 hidden units and of the last layer: look at the width of the "
        "hidden one.",
    ),
    "biases-of-sixteen-hidden-units": (
        112,
        "Your biases are those of 16 hidden units and of the last layer: look at the width of the "
        "hidden one.",
    ),
}


def _miscounted() -> dict[str, tuple[Callable[[], tuple[int, int]], str]]:
    """Each count of weights with each count of biases, but for the right pair."""

    def answer(weights: int, biases: int) -> Callable[[], tuple[int, int]]:
        return lambda: (weights, biases)

    return {
        f"{one}-and-{other}": (answer(weights, biases), f"{about_weights} {about_biases}")
        for one, (weights, about_weights) in _WEIGHTS.items()
        for other, (biases, about_biases) in _BIASES.items()
        if (one, other) != ("weights", "biases")
    }


SE_PARAMETERS = Exercise(
    name="channel.se_parameters",
    question=(
        "A squeeze-and-excitation module with reduction 8 stands on 96 channels; how many "
        "numbers does it learn, in its weight matrices and in its biases? "
        "Answer with a tuple (weights, biases) of two whole numbers, before you ask the module."
    ),
    reference=se_parameters,
    wrong={
        **_miscounted(),
        "order-swapped": (
            lambda: (108, 2304),
            "Both numbers are right, in the wrong order: weights first.",
        ),
        "weights-alone": (
            lambda: 2304,
            "These are the weights. Answer with a tuple of two numbers: the biases come second.",
        ),
        "layer-by-layer": (
            lambda: (1164, 1248),
            "These are the numbers of the two layers, each with its biases. Count the other way: "
            "the weights of both layers, then the biases of both.",
        ),
        "sum-alone": (
            lambda: 2412,
            "This is the sum of both. Answer with a tuple of two numbers, weights and biases.",
        ),
    },
    hints=(
        "Draw the layers: 96 numbers, the hidden units, 96 numbers. A linear layer from a to b "
        "numbers has a times b weights and b biases.",
        "The hidden layer has 96 / 8 units.",
        "Weights: twice 96 times the hidden units. Biases: the hidden units, and 96.",
    ),
    why=(
        "Two matrices of C by C/r make 2 C^2 / r weights; the biases are C/r + C. Doubling the "
        "channels makes four times as many weights, so that wide late stages hold most of them."
    ),
)


# CBAM's channel attention ------------------------------------------------------------------------


class MeanMaxGate(torch.nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.down = torch.nn.Linear(channels, hidden)
        self.up = torch.nn.Linear(hidden, channels)

    def judge(self, pooled):
        return self.up(torch.relu(self.down(pooled)))

    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.amax((2, 3)))
        return x * torch.sigmoid(logits)[:, :, None, None]


class NoReluForBoth(MeanMaxGate):
    def judge(self, pooled):
        return self.up(self.down(pooled))


class BothSqueezedAndViewed(MeanMaxGate):
    def forward(self, x):
        mean, peak = x.mean((2, 3)).squeeze(), x.amax((2, 3)).squeeze()
        return x * (self.judge(mean) + self.judge(peak)).sigmoid().view(*x.shape[:2], 1, 1)


class BothSqueezedAndIndexed(MeanMaxGate):
    def forward(self, x):
        mean, peak = x.mean((2, 3)).squeeze(), x.amax((2, 3)).squeeze()
        return x * (self.judge(mean) + self.judge(peak)).sigmoid()[:, :, None, None]


class TwoPerceptrons(MeanMaxGate):
    def __init__(self, channels, reduction):
        super().__init__(channels, reduction)
        hidden = max(channels // reduction, 1)
        self.other = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.other(x.amax((2, 3)))
        return x * logits.sigmoid()[:, :, None, None]


class SigmoidsSummed(MeanMaxGate):
    def forward(self, x):
        gates = self.judge(x.mean((2, 3))).sigmoid() + self.judge(x.amax((2, 3))).sigmoid()
        return x * gates[:, :, None, None]


class SigmoidsAveraged(MeanMaxGate):
    def forward(self, x):
        gates = self.judge(x.mean((2, 3))).sigmoid() + self.judge(x.amax((2, 3))).sigmoid()
        return x * (gates / 2)[:, :, None, None]


class SigmoidsMultiplied(MeanMaxGate):
    def forward(self, x):
        gates = self.judge(x.mean((2, 3))).sigmoid() * self.judge(x.amax((2, 3))).sigmoid()
        return x * gates[:, :, None, None]


class PooledFirst(MeanMaxGate):
    def forward(self, x):
        return x * self.judge(x.mean((2, 3)) + x.amax((2, 3))).sigmoid()[:, :, None, None]


class LogitsAveraged(MeanMaxGate):
    def forward(self, x):
        logits = (self.judge(x.mean((2, 3))) + self.judge(x.amax((2, 3)))) / 2
        return x * logits.sigmoid()[:, :, None, None]


class MeanAlone(MeanMaxGate):
    def forward(self, x):
        return x * self.judge(x.mean((2, 3))).sigmoid()[:, :, None, None]


class MaximumAlone(MeanMaxGate):
    def forward(self, x):
        return x * self.judge(x.amax((2, 3))).sigmoid()[:, :, None, None]


class MaximumOverOneAxis(MeanMaxGate):
    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.amax(3).mean(2))
        return x * logits.sigmoid()[:, :, None, None]


class MaximumOverChannels(MeanMaxGate):
    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.amax(1))
        return x * logits.sigmoid()[:, :, None, None]


class MaximumOfSizes(MeanMaxGate):
    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.abs().amax((2, 3)))
        return x * logits.sigmoid()[:, :, None, None]


class SoftmaxOfBoth(MeanMaxGate):
    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.amax((2, 3)))
        return x * logits.softmax(1)[:, :, None, None]


class NoSigmoidOfBoth(MeanMaxGate):
    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.amax((2, 3)))
        return x * logits[:, :, None, None]


class GateOfBothReturned(MeanMaxGate):
    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.amax((2, 3)))
        return logits.sigmoid()[:, :, None, None]


class MaximumOverTheBatch(MeanMaxGate):
    def forward(self, x):
        peak = x.amax((0, 2, 3))[None]
        return x * (self.judge(x.mean((2, 3))) + self.judge(peak)).sigmoid()[:, :, None, None]


class GateOfBothReturnedFlat(MeanMaxGate):
    def forward(self, x):
        return (self.judge(x.mean((2, 3))) + self.judge(x.amax((2, 3)))).sigmoid()


class DeviationForMaximum(MeanMaxGate):
    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.std((2, 3)))
        return x * logits.sigmoid()[:, :, None, None]


class PlainDeviationForMaximum(MeanMaxGate):
    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.std((2, 3), unbiased=False))
        return x * logits.sigmoid()[:, :, None, None]


class VarianceForMaximum(MeanMaxGate):
    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.var((2, 3)))
        return x * logits.sigmoid()[:, :, None, None]


class BothHiddenRoundedUp(MeanMaxGate):
    def __init__(self, channels, reduction):
        super().__init__(channels, reduction)
        self.down = nn.Linear(channels, -(-channels // reduction))
        self.up = nn.Linear(-(-channels // reduction), channels)


class ReluOfTheSum(MeanMaxGate):
    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.amax((2, 3)))
        return x * logits.relu().sigmoid()[:, :, None, None]


class ReluOfEachVerdict(MeanMaxGate):
    def judge(self, pooled):
        return super().judge(pooled).relu()


class LargerVerdict(MeanMaxGate):
    def forward(self, x):
        logits = torch.maximum(self.judge(x.mean((2, 3))), self.judge(x.amax((2, 3))))
        return x * logits.sigmoid()[:, :, None, None]


class BothConcatenated(MeanMaxGate):
    def __init__(self, channels, reduction):
        super().__init__(channels, reduction)
        self.down = nn.Linear(2 * channels, max(channels // reduction, 1))

    def forward(self, x):
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        return x * self.judge(pooled).sigmoid()[:, :, None, None]


class AxesOfBothMissing(MeanMaxGate):
    def forward(self, x):
        return x * (self.judge(x.mean((2, 3))) + self.judge(x.amax((2, 3)))).sigmoid()


class AxesOfBothMissingInFront(MeanMaxGate):
    def forward(self, x):
        return (self.judge(x.mean((2, 3))) + self.judge(x.amax((2, 3)))).sigmoid() * x


class InputAddedToBoth(MeanMaxGate):
    def forward(self, x):
        return x + super().forward(x)


class BothInPlace(MeanMaxGate):
    def forward(self, x):
        logits = self.judge(x.mean((2, 3))) + self.judge(x.amax((2, 3)))
        return x.mul_(logits.sigmoid()[:, :, None, None])


_SPREAD = "You take how far the values are spread (std or var) where their maximum is asked for."

MEAN_MAX_GATE = Exercise(
    name="channel.MeanMaxGate",
    question=(
        "Write the module class MeanMaxGate(channels, reduction), the channel attention of CBAM: "
        "one perceptron judges the mean and the maximum of each channel, the two verdicts are "
        "added, and a sigmoid makes gates of the sum. "
        "The perceptron has two linear layers, with bias, from C numbers to C // r, but to no "
        "fewer than one, and back to C, with a ReLU between them. Mean and maximum are taken over "
        "height and width. `forward(x)` gets a float tensor (N, C, H, W), N and C may be 1, and "
        "returns the weighed features, of the same shape; `x` itself stays as it was. Your weights "
        "are overwritten before the check."
    ),
    reference=MeanMaxGate,
    make_inputs=_module_inputs,
    prepare=_run_module,
    wrong={
        "two-perceptrons": (
            TwoPerceptrons,
            "Mean and maximum have a perceptron each. In CBAM there is ONE, which sees both in "
            "turn: half the parameters.",
        ),
        "relu-missing": (
            NoReluForBoth,
            "Nothing stands between the two layers of your perceptron, so that they could be one. "
            "A ReLU is asked for there.",
        ),
        "channel-axis-lost": (BothSqueezedAndViewed, _ONE_CHANNEL),
        "lost-axes-of-length-one": (BothSqueezedAndIndexed, _ONE_IMAGE_OR_CHANNEL),
        "sigmoid-before-the-sum": (
            SigmoidsSummed,
            "Each verdict goes through a sigmoid, and then they are added: gates of up to 2. Add "
            "first.",
        ),
        "sigmoids-averaged": (
            SigmoidsAveraged,
            "Two gates are averaged. In CBAM the verdicts are added before there is a gate.",
        ),
        "sigmoids-multiplied": (
            SigmoidsMultiplied,
            "Two gates are multiplied, one from the mean and one from the maximum. In CBAM the "
            "verdicts are added before there is a gate.",
        ),
        "pooled-values-added": (
            PooledFirst,
            "You add mean and maximum before the perceptron. Because of the ReLU in between that "
            "is not the same as adding its two verdicts.",
        ),
        "verdicts-averaged": (
            LogitsAveraged,
            "You average the two verdicts. CBAM adds them.",
        ),
        "maximum-missing": (
            MeanAlone,
            "This looks at the mean alone: it is squeeze-and-excitation.",
        ),
        "mean-missing": (MaximumAlone, "This looks at the maximum alone. The mean is missing."),
        "maximum-over-one-axis": (
            MaximumOverOneAxis,
            "Your maximum runs over the width only, and is then averaged over the height. It is to "
            "be the largest value of the whole channel.",
        ),
        "pooled-over-channels": (
            MaximumOverChannels,
            "You take the maximum (or the mean) over axis 1, the channels. What is left is "
            "(N, H, W), and the perceptron waits for C numbers. Pool over height and width.",
        ),
        "maximum-of-absolute-values": (
            MaximumOfSizes,
            "You take the largest absolute value. A strongly negative feature is not a maximum.",
        ),
        "maximum-over-the-batch": (
            MaximumOverTheBatch,
            "Your maximum runs over the batch as well: the gates of one image depend on others.",
        ),
        "deviation-instead-of-maximum": (DeviationForMaximum, _SPREAD),
        "plain-deviation-instead-of-maximum": (PlainDeviationForMaximum, _SPREAD),
        "variance-instead-of-maximum": (VarianceForMaximum, _SPREAD),
        "hidden-width-rounded": (BothHiddenRoundedUp, _ROUNDED),
        "gates-never-below-a-half": (ReluOfTheSum, _NEVER_BELOW_A_HALF),
        "verdicts-never-negative": (
            ReluOfEachVerdict,
            "A ReLU stands behind the second layer as well. Then no verdict is negative, no gate "
            "goes below 0.5, and no channel can be closed.",
        ),
        "larger-verdict": (
            LargerVerdict,
            "You take the larger of the two verdicts. CBAM adds them.",
        ),
        "pooled-values-concatenated": (
            BothConcatenated,
            "Your first layer gets mean and maximum side by side, 2 C numbers. The perceptron of "
            "CBAM takes C numbers, and is asked twice.",
        ),
        "broadcasting-axes-missing": (AxesOfBothMissing, _AXES_MISSING),
        "axes-missing-of-the-first-factor": (AxesOfBothMissingInFront, _AXES_MISSING),
        "input-added": (InputAddedToBoth, _INPUT_ADDED),
        "softmax-instead-of-sigmoid": (
            SoftmaxOfBoth,
            "Your gates of an image sum to one: that is a softmax. A sigmoid is asked for.",
        ),
        "sigmoid-missing": (
            NoSigmoidOfBoth,
            "Your gates can be negative or large: the sigmoid at the end is missing.",
        ),
        "gate-returned": (
            GateOfBothReturned,
            "You return the gates themselves. The features, weighed by them, are asked for.",
        ),
        "gate-returned-flat": (
            GateOfBothReturnedFlat,
            "You return the gates (N, C). The features, weighed by them, are asked for.",
        ),
        "input-changed-in-place": (
            BothInPlace,
            "Your code changes `x` itself. The caller still needs it as it was: compute a new "
            "tensor.",
        ),
    },
    hints=(
        "Start from SEGate. What is new is a second look at the channels, and a sum.",
        "`amax` takes a tuple of axes, as `mean` does. Both results have shape (N, C) and go "
        "through the same two layers.",
        "Put the perceptron in a method or an nn.Sequential, call it twice, add, then sigmoid.",
    ),
    why=(
        "The same layers are called twice, so that they are shared. The sum is taken before the "
        "sigmoid; after it, a gate could reach 2."
    ),
)


# ECA -------------------------------------------------------------------------------------------


def eca_kernel(x):
    from math import log2

    channels = x.shape[1]
    nearest = int((log2(channels) + 1) / 2)
    return nearest if nearest % 2 == 1 else nearest + 1


def kernel_even(x):
    from math import log2

    return int((log2(x.shape[1]) + 1) / 2)


def kernel_rounded_down(x):
    k = kernel_even(x)
    return k if k % 2 else max(k - 1, 1)


def kernel_one_less(x):
    k = kernel_even(x)
    return k if k % 2 else k - 1


def kernel_rounded(x):
    from math import log2

    k = round((log2(x.shape[1]) + 1) / 2)
    return k if k % 2 else k + 1


def kernel_rounded_up(x):
    from math import ceil, log2

    k = ceil((log2(x.shape[1]) + 1) / 2)
    return k if k % 2 else k + 1


def kernel_as_float(x):
    return float(eca_kernel(x))


def kernel_natural_logarithm(x):
    from math import log

    k = int((log(x.shape[1]) + 1) / 2)
    return k if k % 2 else k + 1


def kernel_without_half(x):
    from math import log2

    k = int(log2(x.shape[1]) + 1)
    return k if k % 2 else k + 1


def kernel_without_one(x):
    from math import log2

    k = int(log2(x.shape[1]) / 2)
    return k if k % 2 else k + 1


def kernel_without_brackets(x):
    from math import log2

    k = int(log2(x.shape[1]) + 1 / 2)
    return k if k % 2 else k + 1


def kernel_one_within_the_logarithm(x):
    from math import log2

    k = int(log2(x.shape[1] + 1) / 2)
    return k if k % 2 else k + 1


def kernel_tie_down(x):
    from math import log2

    t = (log2(x.shape[1]) + 1) / 2
    return min((1, 3, 5, 7, 9), key=lambda k: abs(k - t))


def kernel_tie_by_round(x):
    from math import log2

    t = (log2(x.shape[1]) + 1) / 2
    return 2 * round((t - 1) / 2) + 1


def kernel_of_the_width(x):
    return eca_kernel(x.transpose(1, 3))


def kernel_of_the_batch(x):
    return eca_kernel(x.transpose(0, 1))


def kernel_always_three(x):
    return 3


def kernel_at_least_three(x):
    return max(eca_kernel(x), 3)


def kernel_always_raised(x):
    return kernel_even(x) + 1


def _wide_features(rng: torch.Generator) -> Inputs:
    # 8 and 128 are ties between two odd numbers; 15 and 255 are one less than a power of two.
    channels = (64, 16, 256, 2, 512, 48, 128, 1024, 6, 1, 24, 8, 12, 15, 255)
    sizes = ((1, 2, 3), (20, 1, 1), (2, 1, 40), (5, 3, 2))
    cases = []
    for i, c in enumerate(channels):
        n, h, w = sizes[i % len(sizes)]
        cases.append((torch.randn(n, c, h, w, generator=rng),))
    return cases


def _whole_number(candidate: Any) -> Callable[..., Any]:
    """The answer's kernel; one that is right but for its type comes back marked."""
    measure = as_function(candidate)

    def run(x: torch.Tensor) -> Any:
        k = measure(x)
        if isinstance(k, float | np.floating) and k == eca_kernel(x):
            return k, "a float"
        return k

    return run


ECA_KERNEL = Exercise(
    name="channel.eca_kernel",
    question=(
        "Write eca_kernel(x), the length of ECA's kernel for features x by the authors' rule. "
        "`x` is a float tensor (N, C, H, W). Take t = (log2(C) + 1) / 2 and drop what stands "
        "behind the point; if the whole number that is left is even, take the next higher one. "
        "(In the paper: the odd number nearest to t.) Return an int."
    ),
    reference=eca_kernel,
    make_inputs=_wide_features,
    prepare=_whole_number,
    wrong={
        "even-kernel": (
            kernel_even,
            "Some of your kernels are even. An even kernel has no middle, so that a channel would "
            "not see as many neighbours on either side.",
        ),
        "rounded-down-to-odd": (
            kernel_rounded_down,
            "Where the number is even you take the next lower one; the rule takes the next higher.",
        ),
        "one-less-where-even": (
            kernel_one_less,
            "Where the number is even you take one less; the rule takes one more. And 0 is even, "
            "too: a kernel of length -1 there is none.",
        ),
        "rounded": (
            kernel_rounded,
            "Before you look whether it is even, your number is rounded to the nearest one, or the "
            "one is added after the division (which comes to the same). The rule adds one, then "
            "divides, then drops what stands behind the point.",
        ),
        "rounded-up": (
            kernel_rounded_up,
            "You round up before you look whether the number is even. The rule drops what stands "
            "behind the point.",
        ),
        "float-instead-of-int": (
            kernel_as_float,
            "You return a float, and a layer takes no kernel of length 3.0. (`//` of floats gives "
            "a float, and so does NumPy's `floor`.) An int is asked for.",
        ),
        "always-one-more": (
            kernel_always_raised,
            "You add one to odd numbers as well, and they become even.",
        ),
        "natural-logarithm": (
            kernel_natural_logarithm,
            "This is the natural logarithm (or another one). The rule counts doublings: base 2.",
        ),
        "half-forgotten": (kernel_without_half, "You forgot to divide by two."),
        "brackets-missing": (
            kernel_without_brackets,
            "Only the one is divided by two. Put brackets around the sum.",
        ),
        "one-forgotten": (kernel_without_one, "You forgot to add one before dividing."),
        "one-within-the-logarithm": (
            kernel_one_within_the_logarithm,
            "You add one to C. The one is added after the logarithm has been taken.",
        ),
        "tie-goes-down": (
            kernel_tie_down,
            "You take the nearest odd number, but where two are equally near, the lower one. On a "
            "tie the rule goes up.",
        ),
        "tie-goes-to-even": (
            kernel_tie_by_round,
            "You take the nearest odd number, but on a tie Python's `round` goes now up, now down. "
            "The rule goes up.",
        ),
        "width-instead-of-channels": (
            kernel_of_the_width,
            "You count the width of the image. Which axis of (N, C, H, W) holds the channels?",
        ),
        "batch-instead-of-channels": (
            kernel_of_the_batch,
            "You count the images of the batch. Which axis of (N, C, H, W) holds the channels?",
        ),
        "always-three": (
            kernel_always_three,
            "3 is right for many networks, but the rule depends on the number of channels.",
        ),
        "at-least-three": (
            kernel_at_least_three,
            "Right except for few channels, where your kernel is never below 3. Some libraries do "
            "that; the rule as asked for does not.",
        ),
    },
    hints=(
        "Only one number of x counts: how many channels it has.",
        "`math.log2` gives the logarithm; `int` drops what stands behind the point.",
        "If the number is even (its remainder by 2 is 0), add one.",
    ),
    why=(
        "The more channels, the longer the kernel, but slowly: squaring the number of channels "
        "doubles the logarithm. An odd kernel keeps the number of channels with k // 2 zeros at "
        "either end."
    ),
)


class ECAGate(torch.nn.Module):
    def __init__(self, channels, kernel_size):
        super().__init__()
        self.conv = torch.nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x):
        row = x.mean((2, 3))[:, None, :]
        gates = torch.sigmoid(self.conv(row))[:, 0, :]
        return x * gates[:, :, None, None]


class ECAWithBias(ECAGate):
    def __init__(self, channels, kernel_size):
        super().__init__(channels, kernel_size)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2)


class ECADense(ECAGate):
    def __init__(self, channels, kernel_size):
        super().__init__(channels, kernel_size)
        del self.conv
        self.full = nn.Linear(channels, channels, bias=False)

    def forward(self, x):
        return x * self.full(x.mean((2, 3))).sigmoid()[:, :, None, None]


class ECAChannelwise(ECAGate):
    def __init__(self, channels, kernel_size):
        super().__init__(channels, kernel_size)
        self.conv = nn.Conv1d(
            channels, channels, kernel_size, padding=kernel_size // 2, bias=False, groups=channels
        )

    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, :, None]).sigmoid()[..., None]


class ECAMixing(ECAChannelwise):
    def __init__(self, channels, kernel_size):
        super().__init__(channels, kernel_size)
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)


class ECASoftmax(ECAGate):
    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None]).softmax(-1)[:, 0, :, None, None]


class ECANoSigmoid(ECAGate):
    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None])[:, 0, :, None, None]


class ECAMaximum(ECAGate):
    def forward(self, x):
        return x * self.conv(x.amax((2, 3))[:, None]).sigmoid()[:, 0, :, None, None]


class ECACircular(ECAGate):
    def __init__(self, channels, kernel_size):
        super().__init__(channels, kernel_size)
        self.conv = nn.Conv1d(
            1, 1, kernel_size, padding=kernel_size // 2, bias=False, padding_mode="circular"
        )


class ECAReturned(ECAGate):
    def forward(self, x):
        return self.conv(x.mean((2, 3))[:, None]).sigmoid()[:, 0, :, None, None]


class ECAReturnedFlat(ECAGate):
    def forward(self, x):
        return self.conv(x.mean((2, 3))[:, None]).sigmoid()[:, 0]


class ECASum(ECAGate):
    def forward(self, x):
        return x * self.conv(x.sum((2, 3))[:, None]).sigmoid()[:, 0, :, None, None]


class ECAReluBeforeSigmoid(ECAGate):
    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None]).relu().sigmoid()[:, 0, :, None, None]


class ECAReplicated(ECAGate):
    def __init__(self, channels, kernel_size):
        super().__init__(channels, kernel_size)
        self.conv.padding_mode = "replicate"


class ECAWithoutSequence(ECAGate):
    def forward(self, x):
        return x * self.conv(x.mean((2, 3))).sigmoid()[:, :, None, None]


class ECAWithLengthOne(ECAGate):
    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, :, None]).sigmoid()[..., None]


class ECAWithFourAxes(ECAGate):
    def forward(self, x):
        return x * self.conv(x.mean((2, 3), keepdim=True)).sigmoid()


class ECAAxesMissing(ECAGate):
    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None]).sigmoid()[:, 0]


class ECAAxesMissingInFront(ECAGate):
    def forward(self, x):
        return self.conv(x.mean((2, 3))[:, None]).sigmoid()[:, 0] * x


class ECAInputAdded(ECAGate):
    def forward(self, x):
        return x + super().forward(x)


class ECAUnpadded(ECAGate):
    def __init__(self, channels, kernel_size):
        super().__init__(channels, kernel_size)
        self.conv = nn.Conv1d(1, 1, kernel_size, bias=False)


class ECAPaddedForThree(ECAGate):
    def __init__(self, channels, kernel_size):
        super().__init__(channels, kernel_size)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=1, bias=False)


class ECAPaddedByKernel(ECAGate):
    def __init__(self, channels, kernel_size):
        super().__init__(channels, kernel_size)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size - 1, bias=False)


class ECAGatesSqueezed(ECAGate):
    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None]).sigmoid().squeeze()[..., None, None]


class ECAGatesSqueezedAndIndexed(ECAGate):
    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None]).sigmoid().squeeze()[:, :, None, None]


class ECAAcrossBatch(ECAGate):
    def forward(self, x):
        return x * self.conv(x.mean((2, 3)).T[:, None]).sigmoid()[:, 0].T[:, :, None, None]


class ECAInPlace(ECAGate):
    def forward(self, x):
        return x.mul_(self.conv(x.mean((2, 3))[:, None]).sigmoid()[:, 0, :, None, None])


def _eca_inputs(rng: torch.Generator) -> Inputs:
    cases = ((1, 4, 3, 3, 3), (3, 8, 3, 4, 2), (2, 12, 5, 5, 5), (4, 7, 5, 2, 6), (5, 9, 3, 1, 4))
    cases_and_one = (*cases, (2, 1, 3, 4, 5))
    return [(c, k, _spread((n, c, h, w), rng)) for n, c, k, h, w in cases_and_one]


def _run_eca(candidate: Any) -> Callable[..., Any]:
    def run(channels: int, kernel_size: int, x: torch.Tensor) -> Any:
        return marked_if_cut_off(module_from(candidate, channels, kernel_size), x)

    return run


ECA_GATE = Exercise(
    name="channel.ECAGate",
    question=(
        "Write the module class ECAGate(channels, kernel_size): each channel's gate comes from its "
        "own mean and those of its neighbours in the list of channels, by one convolution along "
        "that list, followed by a sigmoid. "
        "`kernel_size` is odd, and there is no bias; beyond the ends of the list stand zeros. "
        "`forward(x)` gets a float tensor (N, C, H, W), N and C may be 1, and returns the weighed "
        "features, of the same shape; `x` itself stays as it was. Your weights are overwritten "
        "before the check."
    ),
    reference=ECAGate,
    make_inputs=_eca_inputs,
    prepare=_run_eca,
    wrong={
        "bias-added": (
            ECAWithBias,
            "Your convolution has a bias, which is there unless you say otherwise.",
        ),
        "dense-layer": (
            ECADense,
            "Each gate looks at all channels: that is a full layer, with C times C weights. ECA "
            "looks at the neighbours only.",
        ),
        "kernel-for-each-channel": (
            ECAChannelwise,
            "Each channel has a kernel of its own, and moves it along an axis of length one. The "
            "channels are the places of the sequence here: ONE kernel slides along them.",
        ),
        "channels-as-channels": (
            ECAMixing,
            "Your convolution treats the C means as channels, and so has C times C kernels. Here "
            "they are the places of a sequence that has a single channel.",
        ),
        "softmax-instead-of-sigmoid": (
            ECASoftmax,
            "Your gates of an image sum to one: that is a softmax. A sigmoid is asked for.",
        ),
        "sigmoid-missing": (
            ECANoSigmoid,
            "Your gates can be negative or large: the sigmoid at the end is missing.",
        ),
        "maximum-squeezed": (ECAMaximum, "You squeeze by the maximum. ECA takes the mean."),
        "ends-joined": (
            ECACircular,
            "Right but for the first and last channels: yours see each other as neighbours. "
            "Beyond the ends stand zeros.",
        ),
        "gate-returned": (
            ECAReturned,
            "You return the gates themselves. The features, weighed by them, are asked for.",
        ),
        "gate-returned-flat": (
            ECAReturnedFlat,
            "You return the gates (N, C). The features, weighed by them, are asked for.",
        ),
        "sum-squeezed": (
            ECASum,
            "You squeeze by the sum. It grows with the size of the image; ECA takes the mean.",
        ),
        "gates-never-below-a-half": (ECAReluBeforeSigmoid, _NEVER_BELOW_A_HALF),
        "ends-repeated": (
            ECAReplicated,
            "Right but for the first and last channels: beyond the ends you repeat their values. "
            "Zeros stand there.",
        ),
        "sequence-axis-missing": (
            ECAWithoutSequence,
            "Your convolution gets the means as (N, C), and takes that for a single sequence with "
            "N channels. It waits for three axes: images, channels of the sequence, places.",
        ),
        "sequence-of-length-one": (
            ECAWithLengthOne,
            "Your convolution gets the means as (N, C, 1): C channels, one place. Here the means "
            "are the places of a sequence that has a single channel.",
        ),
        "four-axes": (
            ECAWithFourAxes,
            "Your convolution gets four axes, (N, C, 1, 1). It waits for three: images, channels "
            "of the sequence, places. The C means are the places.",
        ),
        "broadcasting-axes-missing": (ECAAxesMissing, _AXES_MISSING),
        "axes-missing-of-the-first-factor": (ECAAxesMissingInFront, _AXES_MISSING),
        "input-added": (ECAInputAdded, _INPUT_ADDED),
        "padding-missing": (
            ECAUnpadded,
            "Without zeros at the ends a convolution makes the list shorter, and there is no gate "
            "left for the outer channels.",
        ),
        "padding-for-three": (
            ECAPaddedForThree,
            "Your padding is 1, whatever the kernel: right for a length of 3 only. With a longer "
            "one the list of gates comes out shorter than the list of channels.",
        ),
        "padding-of-the-whole-kernel": (
            ECAPaddedByKernel,
            "There are too many zeros at the ends: your list of gates comes out longer than the "
            "list of channels.",
        ),
        "channel-axis-of-gates-lost": (
            ECAGatesSqueezed,
            "Right until there is one channel: `squeeze()` removes every axis of length one, then "
            "the axis of the channels too. Name the axis that you want to lose.",
        ),
        "lost-axes-of-length-one": (
            ECAGatesSqueezedAndIndexed,
            "Right until the batch holds one image, or there is one channel: `squeeze()` removes "
            "every axis of length one, these too. Name the axis that you want to lose.",
        ),
        "along-the-batch": (
            ECAAcrossBatch,
            "Your kernel slides along the images of the batch. It is to slide along the channels "
            "of each image.",
        ),
        "input-changed-in-place": (
            ECAInPlace,
            "Your code changes `x` itself. The caller still needs it as it was: compute a new "
            "tensor.",
        ),
    },
    hints=(
        "After the squeeze an image has C numbers in a row. Which layer slides a kernel along a "
        "row?",
        "`nn.Conv1d` wants (N, channels, length). The row has one channel and is C long: insert an "
        "axis.",
        "One channel in, one out, padding of half the kernel, no bias. Then sigmoid, take the "
        "inserted axis out, and add two for the product.",
    ),
    why=(
        "Seen as a sequence with one channel, the C means can be convolved. Only k numbers are "
        "learned, and no hidden layer throws anything away."
    ),
)


# Find the bug ------------------------------------------------------------------------------------


def reweigh(x, down, up):
    squeezed = x.mean((2, 3))
    hidden = torch.relu(squeezed @ down.T)
    gates = torch.sigmoid(hidden @ up.T)
    return x * gates[:, :, None, None]


def reweigh_as_given(x, down, up):
    squeezed = x.mean((2, 3)).squeeze()
    hidden = torch.relu(down @ squeezed)
    gates = torch.sigmoid(up @ hidden)
    return x * gates[:, None, None]


def reweigh_products_as_given(x, down, up):
    squeezed = x.mean((2, 3))
    gates = torch.sigmoid(up @ torch.relu(down @ squeezed))
    return x * gates[:, :, None, None]


def reweigh_without_squeeze(x, down, up):
    squeezed = x.mean((2, 3))
    gates = torch.sigmoid(up @ torch.relu(down @ squeezed))
    return x * gates[:, None, None]


def reweigh_gates_as_given(x, down, up):
    gates = torch.sigmoid(torch.relu(x.mean((2, 3)) @ down.T) @ up.T)
    return x * gates[:, None, None]


def reweigh_products_alone(x, down, up):
    gates = torch.sigmoid(torch.relu(x.mean((2, 3)).squeeze() @ down.T) @ up.T)
    return x * gates[:, None, None]


def reweigh_last_line_alone(x, down, up):
    squeezed = x.mean((2, 3)).squeeze()
    gates = torch.sigmoid(up @ torch.relu(down @ squeezed))
    return x * gates[:, :, None, None]


def reweigh_last_axes_alone(x, down, up):
    squeezed = x.mean((2, 3)).squeeze()
    gates = torch.sigmoid(up @ torch.relu(down @ squeezed))
    return x * gates[..., None, None]


def reweigh_wrong_for_one_channel(x, down, up):
    squeezed = x.mean((2, 3)).squeeze()
    gates = torch.sigmoid(torch.relu(squeezed @ down.T) @ up.T)
    return x * gates[..., None, None]


def reweigh_in_columns(x, down, up):
    squeezed = x.mean((2, 3))
    gates = torch.sigmoid(up @ torch.relu(down @ squeezed.T))
    return x * gates[:, :, None, None]


def reweigh_in_columns_as_given(x, down, up):
    squeezed = x.mean((2, 3))
    gates = torch.sigmoid(up @ torch.relu(down @ squeezed.T))
    return x * gates[:, None, None]


def reweigh_the_first(x, down, up):
    squeezed = x.mean((2, 3))[0]
    gates = torch.sigmoid(up @ torch.relu(down @ squeezed))
    return x * gates[:, None, None]


def reweigh_by_the_batch(x, down, up):
    squeezed = x.mean((0, 2, 3))
    gates = torch.sigmoid(up @ torch.relu(down @ squeezed))
    return x * gates[:, None, None]


def reweigh_wrong_for_one(x, down, up):
    squeezed = x.mean((2, 3)).squeeze()
    hidden = torch.relu(squeezed @ down.T)
    gates = torch.sigmoid(hidden @ up.T)
    return x * gates[:, :, None, None]


def reweigh_one_image_only(x, down, up):
    squeezed = x[0].mean((1, 2))
    gates = torch.sigmoid(up @ torch.relu(down @ squeezed))
    return x[:1] * gates[:, None, None]


def reweigh_gates(x, down, up):
    return torch.sigmoid(torch.relu(x.mean((2, 3)) @ down.T) @ up.T)


def reweigh_without_relu(x, down, up):
    return x * torch.sigmoid(x.mean((2, 3)) @ down.T @ up.T)[:, :, None, None]


def reweigh_by_softmax(x, down, up):
    return x * torch.softmax(torch.relu(x.mean((2, 3)) @ down.T) @ up.T, 1)[:, :, None, None]


def reweigh_without_sigmoid(x, down, up):
    return x * (torch.relu(x.mean((2, 3)) @ down.T) @ up.T)[:, :, None, None]


def reweigh_viewed(x, down, up):
    hidden = torch.relu(x.mean((2, 3)) @ down.view(down.shape[1], -1))
    return x * torch.sigmoid(hidden @ up.view(up.shape[1], -1))[:, :, None, None]


def reweigh_exchanged(x, down, up):
    return x * torch.sigmoid(torch.relu(x.mean((2, 3)) @ up) @ down)[:, :, None, None]


def _reweigh_inputs(rng: torch.Generator) -> Inputs:
    # In the last case but one N, C, H and W are equal, so that a mix-up of axes raises nothing.
    cases = ((1, 4, 3, 3, 2), (3, 6, 2, 5, 3), (1, 3, 4, 1, 1), (2, 1, 3, 3, 1), (4, 4, 4, 4, 2))
    return [
        (
            _spread((n, c, h, w), rng),
            torch.randn(hidden, c, generator=rng),
            torch.randn(c, hidden, generator=rng),
        )
        for n, c, h, w, hidden in (*cases, (5, 8, 3, 2, 2))
    ]


_LAST_LINE_ALONE = (
    "The last line is made for a batch now: that was one thing. Above it, `squeeze()` still "
    "removes every axis of length one, and the two products still wait for a single vector."
)
_COLUMNS = (
    "The products work for a batch now, but each image has become a column: your gates have shape "
    "(C, N)."
)

REWEIGH = Exercise(
    name="channel.reweigh",
    question=(
        "Mend reweigh(x, down, up), which squeezes, excites and scales with two given matrices and "
        "no biases: it works for one image and not for a batch. "
        "`x` is a float tensor (N, C, H, W), N and C may be 1; `down` is (hidden, C) and `up` is "
        "(C, hidden). A ReLU stands between the two products, a sigmoid behind them. Return the "
        "weighed features (N, C, H, W), each image with gates of its own; `x` stays as it was."
    ),
    reference=reweigh,
    make_inputs=_reweigh_inputs,
    wrong={
        "unmended": (
            reweigh_as_given,
            "This behaves like the code you started from, and is right for a single image only. "
            "More than one line is written for that: look at the shape after each.",
        ),
        "products-as-given": (
            reweigh_products_as_given,
            "The batch axis stays now, and the gates get their axes. What is left are the two "
            "products, which still wait for a single vector: write down the shapes that meet "
            "there.",
        ),
        "squeeze-alone-mended": (
            reweigh_without_squeeze,
            "The batch axis stays now: that was one thing. The two products and the last line "
            "still wait for a single vector of C numbers.",
        ),
        "last-line-as-given": (
            reweigh_gates_as_given,
            "The gates are right for a batch now. What is left is the last line: which axis of "
            "your gates meets which axis of x there?",
        ),
        "products-alone-mended": (
            reweigh_products_alone,
            "The two products work for a batch now: that was one thing. `squeeze()` still removes "
            "every axis of length one, and the last line still waits for the gates of a single "
            "image.",
        ),
        "last-line-alone-mended": (reweigh_last_line_alone, _LAST_LINE_ALONE),
        "last-axes-alone-mended": (reweigh_last_axes_alone, _LAST_LINE_ALONE),
        "wrong-for-one-channel": (
            reweigh_wrong_for_one_channel,
            "Nearly: batches work, and so does the single image. But with a single channel "
            "`squeeze()` still removes an axis that the products need.",
        ),
        "gates-in-columns": (reweigh_in_columns, _COLUMNS),
        "gates-in-columns-and-last-line-as-given": (
            reweigh_in_columns_as_given,
            f"{_COLUMNS} And the last line still waits for the gates of a single image.",
        ),
        "gates-of-the-first-image": (
            reweigh_the_first,
            "All images get the gates of the first one.",
        ),
        "gates-of-the-mean-image": (
            reweigh_by_the_batch,
            "All images get the same gates, those of the mean over the batch.",
        ),
        "wrong-for-a-batch-of-one": (
            reweigh_wrong_for_one,
            "Now batches work, and the single image (or the single channel) does not: `squeeze()` "
            "still removes every axis of length one.",
        ),
        "only-the-first-image": (
            reweigh_one_image_only,
            "Only the first image comes back.",
        ),
        "gate-returned": (
            reweigh_gates,
            "You return the gates themselves. The features, weighed by them, are asked for.",
        ),
        "relu-missing": (reweigh_without_relu, "The ReLU between the two products is gone."),
        "sigmoid-missing": (reweigh_without_sigmoid, "The sigmoid behind the products is gone."),
        "viewed-instead-of-transposed": (
            reweigh_viewed,
            "The shapes fit, but `view` (or `reshape`) deals the numbers out anew, row by row. A "
            "transpose exchanges rows and columns.",
        ),
        "matrices-exchanged": (
            reweigh_exchanged,
            "`up` comes first in your code, and `down` second. The shapes fit that way, too.",
        ),
        "softmax-instead-of-sigmoid": (
            reweigh_by_softmax,
            "Your gates of an image sum to one: that is a softmax. A sigmoid is asked for.",
        ),
    },
    hints=(
        "Write down the shape after each line, once for one image and once for three.",
        "The mean over the two spatial axes is (N, C) already. What does `squeeze()` do to it?",
        "A batch of rows is multiplied from the left: (N, C) times the transpose of (hidden, C). "
        "At the end the gates (N, C) need two more axes.",
    ),
    why=(
        "With the batch axis always there, (N, C) times (C, hidden) does all images at once. A "
        "`squeeze()` without an axis is a bug that waits for the last batch of an epoch."
    ),
)


# Where the gate stands ---------------------------------------------------------------------------


def gated_block(x, branch, gate, shortcut):
    weighed = gate(branch(x))
    return torch.relu(weighed + shortcut(x))


def gate_after_the_addition(x, branch, gate, shortcut):
    return torch.relu(gate(branch(x) + shortcut(x)))


def gate_after_the_relu(x, branch, gate, shortcut):
    return gate(torch.relu(branch(x) + shortcut(x)))


def gate_before_the_branch(x, branch, gate, shortcut):
    return torch.relu(branch(gate(x)) + shortcut(x))


def gate_on_the_shortcut(x, branch, gate, shortcut):
    return torch.relu(branch(x) + gate(shortcut(x)))


def gate_on_both(x, branch, gate, shortcut):
    return torch.relu(gate(branch(x)) + gate(shortcut(x)))


def gated_branch_times_branch(x, branch, gate, shortcut):
    found = branch(x)
    return torch.relu(gate(found) * found + shortcut(x))


def gated_paths_times_themselves(x, branch, gate, shortcut):
    found, past = branch(x), shortcut(x)
    return torch.relu(gate(found) * found + gate(past) * past)


def gated_branch_times_sum(x, branch, gate, shortcut):
    found = branch(x)
    return torch.relu(gate(found) * (found + shortcut(x)))


def gated_input_times_branch(x, branch, gate, shortcut):
    return torch.relu(gate(x) * branch(x) + shortcut(x))


def gate_on_both_and_no_relu(x, branch, gate, shortcut):
    return gate(branch(x)) + gate(shortcut(x))


def gate_missing(x, branch, gate, shortcut):
    return torch.relu(branch(x) + shortcut(x))


def shortcut_missing(x, branch, gate, shortcut):
    return torch.relu(gate(branch(x)))


def shortcut_of_the_input(x, branch, gate, shortcut):
    return torch.relu(gate(branch(x)) + x)


def last_relu_missing(x, branch, gate, shortcut):
    return gate(branch(x)) + shortcut(x)


def relu_before_the_addition(x, branch, gate, shortcut):
    return torch.relu(gate(branch(x))) + shortcut(x)


def relu_before_the_gate(x, branch, gate, shortcut):
    return torch.relu(gate(torch.relu(branch(x))) + shortcut(x))


def gate_before_both_paths(x, branch, gate, shortcut):
    x = gate(x)
    return torch.relu(branch(x) + shortcut(x))


def relu_on_the_shortcut(x, branch, gate, shortcut):
    return torch.relu(gate(branch(x)) + torch.relu(shortcut(x)))


def relu_on_each_path(x, branch, gate, shortcut):
    return torch.relu(gate(branch(x))) + torch.relu(shortcut(x))


def gate_of_the_branch_on_the_shortcut(x, branch, gate, shortcut):
    return torch.relu(gate(branch(x)) * shortcut(x))


class _Parts(nn.Module):
    """A branch, a gate and a shortcut of a block, with weights from a generator."""

    def __init__(self, channels: int, out: int, rng: torch.Generator):
        super().__init__()
        self.branch = nn.Conv2d(channels, out, 3, padding=1)
        self.gate = SEGate(out, 2)
        self.shortcut = nn.Conv2d(channels, out, 1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=rng) / 3
        self.requires_grad_(False)


def _blocks(rng: torch.Generator) -> Inputs:
    cases = ((1, 2, 2, 4, 4), (2, 3, 3, 5, 3), (3, 4, 4, 3, 3), (2, 2, 2, 6, 1), (4, 6, 6, 2, 5))
    inputs: Inputs = []
    for n, channels, out, h, w in cases:
        parts = _Parts(channels, out, rng)
        x = _spread((n, channels, h, w), rng)
        inputs.append((x, parts.branch, parts.gate, copy.deepcopy(parts.shortcut)))
    return inputs


GATED_BLOCK = Exercise(
    name="channel.gated_block",
    question=(
        "Write gated_block(x, branch, gate, shortcut), the output of a residual block whose gate "
        "stands where the papers put it. "
        "`x` is a float tensor (N, C, H, W). `branch`, `gate` and `shortcut` are modules: `branch` "
        "holds the convolutions and ends with its last norm, `gate` returns weighed features, and "
        "`shortcut` fits x to the branch. A ReLU closes the block. Return a float tensor "
        "(N, C, H, W)."
    ),
    reference=gated_block,
    make_inputs=_blocks,
    wrong={
        "gate-after-the-addition": (
            gate_after_the_addition,
            "The gate stands after the addition: it damps the shortcut as well, in each block "
            "again.",
        ),
        "gate-after-the-relu": (
            gate_after_the_relu,
            "The gate stands at the very end, and damps the shortcut as well.",
        ),
        "gate-before-the-branch": (
            gate_before_the_branch,
            "The gate stands before the convolutions. It is to weigh what they found.",
        ),
        "gate-on-the-shortcut": (
            gate_on_the_shortcut,
            "The gate stands on the shortcut, which is to stay free. The other path is weighed.",
        ),
        "gate-on-both-paths": (
            gate_on_both,
            "Both paths are weighed. The shortcut is to stay free.",
        ),
        "gated-branch-times-branch": (
            gated_branch_times_branch,
            "`gate` returns the weighed features already, and not the weights alone: you multiply "
            "by the branch a second time.",
        ),
        "gated-paths-times-themselves": (
            gated_paths_times_themselves,
            "Both paths are weighed, and the shortcut is to stay free. Besides, `gate` returns the "
            "weighed features already, and not the weights alone: you multiply a second time.",
        ),
        "gated-branch-times-sum": (
            gated_branch_times_sum,
            "`gate` returns the weighed features already, and not the weights alone; and you "
            "multiply them with the shortcut as well, which is to stay free.",
        ),
        "gated-input-times-branch": (
            gated_input_times_branch,
            "The gate looks at the input of the block, and what it returns, weighed features, is "
            "multiplied with the branch. It is to weigh what the branch gives.",
        ),
        "gate-on-both-paths-and-no-relu": (
            gate_on_both_and_no_relu,
            "Both paths are weighed. The shortcut is to stay free. And the ReLU that closes the "
            "block is missing.",
        ),
        "gate-missing": (gate_missing, "The gate is not used: this is a plain residual block."),
        "shortcut-missing": (shortcut_missing, "The shortcut is missing."),
        "input-added-as-it-is": (
            shortcut_of_the_input,
            "You add x itself. The block has a module that fits it to the branch.",
        ),
        "relu-missing": (last_relu_missing, "The ReLU that closes the block is missing."),
        "relu-before-the-addition": (
            relu_before_the_addition,
            "The ReLU comes before the addition. Then the branch can add, and never take away.",
        ),
        "relu-before-the-gate": (
            relu_before_the_gate,
            "There is a ReLU between the last norm and the gate. The branch goes to the gate as it "
            "is.",
        ),
        "gate-before-both-paths": (
            gate_before_both_paths,
            "The gate weighs x before the paths part, the shortcut's x too. It is to weigh what "
            "the branch gives, and nothing else.",
        ),
        "relu-on-the-shortcut": (
            relu_on_the_shortcut,
            "There is a ReLU on the shortcut. It is to stay free; the block has one ReLU, at the "
            "end.",
        ),
        "relu-on-each-path": (
            relu_on_each_path,
            "Each path has a ReLU of its own. The block has one, behind the addition.",
        ),
        "paths-multiplied": (
            gate_of_the_branch_on_the_shortcut,
            "You multiply the two paths. A residual block adds them.",
        ),
    },
    hints=(
        "Two paths begin at x and meet at a plus sign. On which one does the gate stand?",
        "In words: convolutions and norm, gate, addition, ReLU.",
        "The gate gets what the branch gives; what the gate gives is added to the shortcut of x.",
    ),
    why=(
        "The shortcut carries x past the block unweighed, so that a chain of closed gates still "
        "lets the signal and its gradient through."
    ),
)


EXERCISES = (
    SQUEEZE,
    SE_GATE,
    SE_PARAMETERS,
    GATED_BLOCK,
    MEAN_MAX_GATE,
    ECA_KERNEL,
    ECA_GATE,
    REWEIGH,
)
