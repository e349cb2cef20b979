"""Exercises of chapter 04: pooling over channels, spatial attention, CBAM, scores of a map."""

# The right and the wrong answers are code as a learner would write it in a notebook: they import
# what they need besides torch themselves, and a solution is shown as it stands here.

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .engine import Exercise, Inputs
from .preparing import as_function, marked_if_cut_off, module_from


def _features(rng: torch.Generator) -> Inputs:
    """Features (N, C, H, W): wide and high ones, one of a single channel, one of a single image."""
    shapes = ((1, 2, 3, 3), (2, 3, 4, 4), (3, 5, 6, 4), (2, 4, 5, 7), (1, 1, 4, 6), (4, 4, 4, 4))
    return [(2 * torch.randn(shape, generator=rng),) for shape in shapes]


# Pooling over channels ---------------------------------------------------------------------------


def pool_channels(x):
    mean = x.mean(dim=1, keepdim=True)
    peak = x.amax(dim=1, keepdim=True)
    return torch.cat([mean, peak], dim=1)


def pooled_over_places(x):
    return torch.cat([x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)], 1)


def pooled_over_the_batch(x):
    return torch.stack([x.mean(0), x.amax(0)], 1)


def peak_then_mean(x):
    return torch.stack([x.amax(1), x.mean(1)], 1)


def axis_lost(x):
    return torch.cat([x.mean(1), x.amax(1)], dim=1)


def stacked_in_front(x):
    return torch.stack([x.mean(1), x.amax(1)])


def cut_into_the_batch(x):
    return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=0)


def indices_of_the_peak(x):
    return torch.stack([x.mean(1), x.max(1).indices.float()], 1)


def summed_channels(x):
    return torch.stack([x.sum(1), x.amax(1)], 1)


def largest_amount(x):
    return torch.stack([x.mean(1), x.abs().amax(1)], 1)


def maps_added(x):
    return x.mean(1, keepdim=True) + x.amax(1, keepdim=True)


def one_peak_for_the_image(x):
    peak = x.amax((1, 2, 3), keepdim=True).expand(-1, 1, *x.shape[2:])
    return torch.cat([x.mean(1, keepdim=True), peak], 1)


def values_and_indices_joined(x):
    return torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)], 1)


def places_lost(x):
    return torch.stack([x.mean((2, 3)), x.amax((2, 3))], 1)


def pooled_over_the_last_axis(x):
    return torch.stack([x.mean(-1), x.amax(-1)], 1)


def last_axis_joined(x):
    return torch.cat([x.mean(-1, keepdim=True), x.amax(-1, keepdim=True)], 1)


def last_axis_in_place(x):
    return torch.cat([x.mean(-1, keepdim=True), x.amax(-1, keepdim=True)], -1)


def batch_joined(x):
    return torch.cat([x.mean(0, keepdim=True), x.amax(0, keepdim=True)], 1)


def batch_in_place(x):
    return torch.cat([x.mean(0, keepdim=True), x.amax(0, keepdim=True)], 0)


_OVER_PLACES = (
    "This pools over height and width: one number per channel, which is what channel attention "
    "needs. Spatial attention asks `where`, so the places must stay."
)
_ORDER = (
    "Both maps are right, in the wrong order: asked for is the mean first. The authors' code has "
    "it the other way round, so this slip is common when weights are carried over."
)
_OVER_THE_BATCH = "Axis 0 is the batch: you mix different images. Which axis holds the channels?"
_OVER_WIDTH = (
    "You pool over the last axis, the width. The axes are (N, C, H, W): some other libraries have "
    "the channels last, torch has them behind the batch."
)
_INDICES = (
    "One map holds the indices of the largest channels, 0 to C - 1, and not their values: "
    "torch.max along an axis returns both."
)

POOL_CHANNELS = Exercise(
    name="spatial.pool_channels",
    question=(
        "Write pool_channels(x), which keeps of all channels two maps: at each place their mean "
        "and their maximum. "
        "`x` is a float32 tensor (N, C, H, W) with values of both signs; C may be 1. Return a "
        "float tensor (N, 2, H, W): channel 0 holds the mean, channel 1 the maximum."
    ),
    reference=pool_channels,
    make_inputs=_features,
    wrong={
        "pooled-over-places": (pooled_over_places, _OVER_PLACES),
        "places-lost": (
            places_lost,
            "This pools over height and width, and no places are left, (N, 2, C). Spatial "
            "attention asks `where`: keep the places, and lose the channels.",
        ),
        "values-and-indices": (
            values_and_indices_joined,
            "torch.max along an axis returns a pair, the values and their indices; torch.cat and "
            "torch.stack take tensors only. Which of the two do you want?",
        ),
        "pooled-over-the-batch": (pooled_over_the_batch, _OVER_THE_BATCH),
        "pooled-over-the-batch-joined": (batch_joined, _OVER_THE_BATCH),
        "pooled-over-the-batch-in-place": (batch_in_place, _OVER_THE_BATCH),
        "pooled-over-the-last-axis": (pooled_over_the_last_axis, _OVER_WIDTH),
        "pooled-over-the-last-axis-joined": (last_axis_joined, _OVER_WIDTH),
        "pooled-over-the-last-axis-in-place": (last_axis_in_place, _OVER_WIDTH),
        "order-swapped": (peak_then_mean, _ORDER),
        "axis-lost": (
            axis_lost,
            "The channel axis is gone before the two maps are joined, so that axis 1 is the height "
            "by then: one map stands below the other. Keep an axis of length one, or stack.",
        ),
        "stacked-in-front": (
            stacked_in_front,
            "The two maps stand on a new first axis, (2, N, H, W). They belong on axis 1, behind "
            "the batch.",
        ),
        "joined-along-the-batch": (
            cut_into_the_batch,
            "The maps are joined along the batch: twice as many images of one channel. Asked for "
            "are N images of two channels.",
        ),
        "indices-instead-of-values": (indices_of_the_peak, _INDICES),
        "sum-instead-of-mean": (
            summed_channels,
            "Channel 0 is the sum: it grows with the number of channels. Asked for is the mean.",
        ),
        "largest-amount": (
            largest_amount,
            "Channel 1 ignores the sign: the maximum of -3 and 1 is 1, not 3.",
        ),
        "added-instead-of-joined": (
            maps_added,
            "The two maps are added into one. Then nobody can tell a place where one channel is "
            "high from one where all are a little higher.",
        ),
        "one-peak-per-image": (
            one_peak_for_the_image,
            "Channel 1 is the same at all places: the maximum of the whole image. Take it at each "
            "place by itself.",
        ),
    },
    hints=(
        "Which axis do you want to lose, and which should be as long as before?",
        "mean and amax both take dim and keepdim. With keepdim=True the result is (N, 1, H, W).",
        "Two tensors (N, 1, H, W) are joined along axis 1 with torch.cat; two of shape (N, H, W) "
        "with torch.stack.",
    ),
    why=(
        "Pooling over axis 1 leaves two numbers per place, however many channels there are. "
        "amax gives values only, where max along an axis gives values and indices."
    ),
)


# Find the bug: the broken snippet -----------------------------------------------------------------


class CopiedGate(torch.nn.Module):
    def __init__(self, kernel_size):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, x):
        mean = x.mean(dim=1, keepdim=True)
        peak = x.amax(dim=1, keepdim=True)
        return torch.sigmoid(self.conv(torch.cat([mean, peak], dim=1)))


class Unmended(nn.Module):
    def __init__(self, kernel_size):
        super().__init__()
        padding = 3 if kernel_size == 7 else 1
        self.conv = nn.Conv2d(1, 1, kernel_size, padding=padding)

    def forward(self, x):
        mean = torch.mean(x, dim=1, keepdim=True)
        peak, _ = torch.max(x, dim=1, keepdim=True)
        return torch.sigmoid(self.conv(torch.cat([mean, peak], dim=1)))


class PaddingForTwoSizes(CopiedGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=3 if kernel_size == 7 else 1)


class OneChannel(CopiedGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(1, 1, kernel_size, padding=kernel_size // 2)


class OnlyMean(OneChannel):
    def forward(self, x):
        return self.conv(x.mean(1, keepdim=True)).sigmoid()


class OnlyPeak(OneChannel):
    def forward(self, x):
        return self.conv(x.amax(1, keepdim=True)).sigmoid()


class MapsAdded(OneChannel):
    def forward(self, x):
        return self.conv(x.mean(1, keepdim=True) + x.amax(1, keepdim=True)).sigmoid()


class JoinedAlongTheBatch(OneChannel):
    def forward(self, x):
        joined = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 0)
        return self.conv(joined).sigmoid()


class GroupsOfOne(CopiedGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 2, kernel_size, padding=kernel_size // 2, groups=2)


class TwoMaps(CopiedGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 2, kernel_size, padding=kernel_size // 2)


class OrderSwapped(CopiedGate):
    def forward(self, x):
        return self.conv(torch.stack([x.amax(1), x.mean(1)], 1)).sigmoid()


class PeakIndices(CopiedGate):
    def forward(self, x):
        return self.conv(torch.stack([x.mean(1), x.argmax(1).float()], 1)).sigmoid()


class MultipliedAtOnce(CopiedGate):
    def forward(self, x):
        return x * super().forward(x)


class GateWithoutSigmoid(CopiedGate):
    def forward(self, x):
        return self.conv(torch.stack([x.mean(1), x.amax(1)], 1))


class GateReflected(CopiedGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, padding_mode="reflect")


class GateRepeated(CopiedGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, padding_mode="replicate")


class PaddingOfTheWholeKernel(CopiedGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size - 1)


class PaddingOfKernelAndMore(CopiedGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size)


class PaddingRoundedUp(CopiedGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=(kernel_size + 1) // 2)


def _padded_for(sizes: tuple[int, ...], otherwise: int | None) -> type[nn.Module]:
    """The right padding for some sizes of the kernel, another one (or a KeyError) for others."""

    class PaddedFor(CopiedGate):
        def __init__(self, kernel_size):
            super().__init__(kernel_size)
            table = {k: k // 2 for k in sizes}
            padding = table[kernel_size] if otherwise is None else table.get(kernel_size, otherwise)
            self.conv = nn.Conv2d(2, 1, kernel_size, padding=padding)

    return PaddedFor


class GateCutOff(CopiedGate):
    def forward(self, x):
        return super().forward(x).detach()


class GateNormed(CopiedGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        return self.norm(self.conv(torch.stack([x.mean(1), x.amax(1)], 1))).sigmoid()


def _built(candidate: Any) -> Callable[..., Any]:
    def run(kernel_size: int, x: torch.Tensor) -> Any:
        return marked_if_cut_off(module_from(candidate, kernel_size), x)

    return run


def _kernels_and_features(rng: torch.Generator) -> Inputs:
    kernels = (3, 7, 5, 1, 9, 5)
    shapes = ((1, 2, 6, 6), (2, 3, 8, 8), (3, 5, 8, 6), (2, 4, 5, 8), (1, 1, 7, 6), (4, 3, 7, 7))
    return [(k, torch.randn(s, generator=rng)) for k, s in zip(kernels, shapes, strict=True)]


_CUT_OFF = (
    "The values are right, but the weights are cut off from the graph (detach, .data, no_grad or a "
    "trip through NumPy): they would never learn."
)
_NO_SIGMOID = (
    "The weights are the bare output of the convolution: they can be negative or large. "
    "What brings any number into (0, 1)?"
)
_REFLECTED = "The maps are mirrored at their border. The question asks for zeros outside."
_REPEATED = "The border of the maps is repeated outside. The question asks for zeros."
_WHOLE_KERNEL = (
    "The padding is too wide: the map comes out larger than the features. A kernel has a middle, "
    "and reaches to each side of it by how many places?"
)
_NORMED = (
    "There is a batch norm behind the convolution, as in the authors' code. The question asks for "
    "a convolution and a sigmoid alone."
)
_PADDING = (
    "The convolution fits its input. But its padding was chosen for some kernel sizes only: "
    "with others the map comes out smaller or larger than the features. What does a kernel of "
    "any odd size need?"
)

COPIED_GATE = Exercise(
    name="spatial.CopiedGate",
    question=(
        "Mend the class CopiedGate(kernel_size), whose forward(x) gives the weights of spatial "
        "attention. "
        "`kernel_size` is any odd number from 1 to 9. `x` is a float32 tensor (N, C, H, W) with "
        "any number of channels, larger or smaller than the kernel. Return the weights "
        "(N, 1, H, W): the sigmoid of one convolution, with a bias and zeros as padding, of the "
        "mean over channels and the maximum over channels, in this order. There are two bugs. One "
        "raises at once; the other one makes maps of another size, with some kernels only."
    ),
    reference=CopiedGate,
    make_inputs=_kernels_and_features,
    prepare=_built,
    wrong={
        "unmended": (
            Unmended,
            "This behaves like the code you started from. The message names two numbers of "
            "channels: which one is in the layer, which in the tensor?",
        ),
        "padding-for-two-sizes": (PaddingForTwoSizes, _PADDING),
        "only-mean": (
            OnlyMean,
            "It runs, because the maximum has been dropped: the mean alone is one channel. That "
            "is another mechanism. Let the layer fit the data, not the data the layer.",
        ),
        "only-maximum": (
            OnlyPeak,
            "It runs, because the mean has been dropped: the maximum alone is one channel. That "
            "is another mechanism. Let the layer fit the data, not the data the layer.",
        ),
        "maps-added": (
            MapsAdded,
            "It runs, because mean and maximum are added into one channel. Then the convolution "
            "cannot weigh them differently.",
        ),
        "joined-along-the-batch": (
            JoinedAlongTheBatch,
            "It runs, because the maps are joined along the batch: there are twice as many maps "
            "as images now.",
        ),
        "two-maps": (
            TwoMaps,
            "The convolution puts out two channels, so that there are two weights for each place. "
            "Asked for is one.",
        ),
        "groups": (
            GroupsOfOne,
            "With groups, mean and maximum never meet: each gets a map of its own, and there are "
            "two weights for each place.",
        ),
        "multiplied-at-once": (
            MultipliedAtOnce,
            "The features have been multiplied by the weights already. Asked for are the weights "
            "themselves; the product is the matter of a later exercise.",
        ),
        "no-sigmoid": (GateWithoutSigmoid, _NO_SIGMOID),
        "border-reflected": (GateReflected, _REFLECTED),
        "border-repeated": (GateRepeated, _REPEATED),
        "padding-of-the-whole-kernel": (PaddingOfTheWholeKernel, _WHOLE_KERNEL),
        "padding-of-the-kernel-and-more": (PaddingOfKernelAndMore, _WHOLE_KERNEL),
        "padding-rounded-up": (PaddingRoundedUp, _WHOLE_KERNEL),
        **{
            f"padding-for-{len(sizes)}-sizes-else-{otherwise}": (
                _padded_for(sizes, otherwise),
                _PADDING,
            )
            for sizes, otherwise in (
                *(((3, 5, 7), n) for n in (1, 3)),
                *(((1, 3, 5, 7), n) for n in (0, 1, 3, None)),
            )
        },
        "gate-cut-off": (GateCutOff, _CUT_OFF),
        "norm": (GateNormed, _NORMED),
        "order-swapped": (OrderSwapped, _ORDER),
        "indices-instead-of-values": (PeakIndices, _INDICES),
    },
    hints=(
        "Read the message from behind: what did the convolution get, what did it expect?",
        "Print the shape of what goes into the convolution. Its axis 1 is as long as the layer's "
        "in_channels has to be.",
        "That is one bug. For the other, try kernel_size=5 and compare the shapes of map and "
        "features: an odd kernel of size k reaches k // 2 places to each side.",
    ),
    why=(
        "Two maps joined along axis 1 are two channels, and the convolution takes two. A kernel of "
        "odd size k needs k // 2 zeros at each side, whatever k is."
    ),
)


# How many numbers it learns -----------------------------------------------------------------------


def gate_parameters():
    channels_in, channels_out, kernel_size = 2, 1, 7
    weights = channels_in * channels_out * kernel_size**2
    biases = channels_out
    return float(weights + biases)


GATE_PARAMETERS = Exercise(
    name="spatial.gate_parameters",
    question=(
        "How many numbers, biases included, does spatial attention learn whose convolution has a "
        "kernel of seven by seven, in a layer of 256 channels? "
        "Mean and maximum are pooled as in this chapter; no norm. Answer with a number before you "
        "run anything."
    ),
    reference=gate_parameters,
    tolerance=1e-3,
    wrong={
        "one-channel": (
            lambda: 50.0,
            "This is a convolution with one input channel, as in the broken snippet. How many maps "
            "go in?",
        ),
        "bias-forgotten": (
            lambda: 98.0,
            "These are the weights of the kernel. One number that is added at every place is "
            "missing.",
        ),
        "one-channel-no-bias": (
            lambda: 49.0,
            "This is the area of the kernel. It has that many weights for each input channel.",
        ),
        "all-channels": (
            lambda: 256.0 * 49 + 1,
            "This is a convolution over all channels. But they were pooled before: how many maps "
            "does the convolution see?",
        ),
        "all-channels-out": (
            lambda: 256.0 * 98 + 256,
            "This would give a map for every channel. There is one map, shared by all of them.",
        ),
        "two-maps-of-each-channel": (
            lambda: 256.0 * 98 + 1,
            "This counts two maps for each channel. Mean and maximum are taken over the channels: "
            "how many maps are left, whatever their number?",
        ),
        "two-biases": (
            lambda: 100.0,
            "The kernel is right. A bias belongs to a channel that comes out, not to one that "
            "goes in.",
        ),
        "kernel-not-squared": (
            lambda: 15.0,
            "The kernel is a square: it has a height and a width.",
        ),
        "two-maps-out": (
            lambda: 198.0,
            "Two channels go in, and you let two come out. There is one weight for each place.",
        ),
        "two-maps-out-one-bias": (
            lambda: 197.0,
            "You let two channels come out, with one bias for both. There is one weight for each "
            "place.",
        ),
        "two-maps-out-no-bias": (
            lambda: 196.0,
            "These are the weights of a convolution from two channels to two. How many come out?",
        ),
        "one-kernel-two-biases": (
            lambda: 51.0,
            "This is one kernel and two biases. The kernel has its 49 weights for each channel "
            "that goes in; a bias belongs to a channel that comes out.",
        ),
        "channel-attention": (
            lambda: 2.0 * 256**2 / 16,
            "This is what squeeze-and-excitation learns with a reduction of 16: it does depend on "
            "the number of channels.",
        ),
    },
    hints=(
        "What is the shape of the convolution's weight?",
        "It is (channels out, channels in, height, width). Which of these depend on the features?",
        "One channel comes out, two go in, and the kernel has a height and a width. Add one bias.",
    ),
    why=(
        "The channels are pooled to two maps first, so their number does not matter: two kernels "
        "and one bias. That is next to nothing beside the layers around it."
    ),
)


# Spatial attention as a module --------------------------------------------------------------------


class SpatialGate(torch.nn.Module):
    def __init__(self, kernel_size):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)

    def weights(self, x):
        pooled = torch.stack([x.mean(dim=1), x.amax(dim=1)], dim=1)
        return torch.sigmoid(self.conv(pooled))

    def forward(self, x):
        return x * self.weights(x)


class SoftmaxOverPlaces(SpatialGate):
    def weights(self, x):
        logits = self.conv(torch.stack([x.mean(1), x.amax(1)], 1))
        return logits.flatten(2).softmax(2).view_as(logits)


class SoftmaxOverOneChannel(SpatialGate):
    def weights(self, x):
        return self.conv(torch.stack([x.mean(1), x.amax(1)], 1)).softmax(1)


class NoSigmoid(SpatialGate):
    def weights(self, x):
        return self.conv(torch.stack([x.mean(1), x.amax(1)], 1))


class SigmoidTwice(SpatialGate):
    def weights(self, x):
        return super().weights(x).sigmoid()


class ReluBehind(SpatialGate):
    def weights(self, x):
        return self.conv(torch.stack([x.mean(1), x.amax(1)], 1)).relu().sigmoid()


class WeightsReturned(SpatialGate):
    def forward(self, x):
        return self.weights(x)


class WeightsExpanded(SpatialGate):
    def forward(self, x):
        return self.weights(x).expand_as(x)


class AddedToItself(SpatialGate):
    def forward(self, x):
        return x + x * self.weights(x)


class WeightsAdded(SpatialGate):
    def forward(self, x):
        return x + self.weights(x)


class PooledMultiplied(SpatialGate):
    def forward(self, x):
        return x.mean(1, keepdim=True) * self.weights(x)


class InPlace(SpatialGate):
    def forward(self, x):
        x *= self.weights(x)
        return x


class PaddingForgotten(SpatialGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size)


class PaddingFixed(SpatialGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=3)


class BorderRepeated(SpatialGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, padding_mode="replicate")


class BorderReflected(SpatialGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, padding_mode="reflect")


class PaddedByWholeKernel(SpatialGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size - 1)


class NormedGate(SpatialGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.norm = nn.BatchNorm2d(1)

    def weights(self, x):
        return self.norm(self.conv(torch.stack([x.mean(1), x.amax(1)], 1))).sigmoid()


class KernelIgnored(SpatialGate):
    def __init__(self, kernel_size):
        super().__init__(7)


class BiasForgotten(SpatialGate):
    def __init__(self, kernel_size):
        super().__init__(kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)


class PooledOverHeight(SpatialGate):
    def weights(self, x):
        pooled = torch.stack([x.mean(2), x.amax(2)], 1)
        return torch.sigmoid(self.conv(pooled))


class PooledOverPlaces(SpatialGate):
    def weights(self, x):
        pooled = torch.cat([x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)], 0)
        return torch.sigmoid(self.conv(pooled.transpose(0, 1).reshape(-1, 2, 1, 1)))[: len(x)]


class GateOrderSwapped(SpatialGate):
    def weights(self, x):
        return torch.sigmoid(self.conv(torch.stack([x.amax(1), x.mean(1)], 1)))


class GateOfIndices(SpatialGate):
    def weights(self, x):
        return torch.sigmoid(self.conv(torch.stack([x.mean(1), x.argmax(1).float()], 1)))


class MeanTwice(SpatialGate):
    def weights(self, x):
        return torch.sigmoid(self.conv(torch.stack([x.mean(1), x.mean(1)], 1)))


class GatePooledOverBatch(SpatialGate):
    def weights(self, x):
        return torch.sigmoid(self.conv(torch.stack([x.mean(0), x.amax(0)], 1)))


class GateJoinedOverBatch(SpatialGate):
    def weights(self, x):
        return torch.sigmoid(self.conv(batch_joined(x)))


class GateBatchInPlace(SpatialGate):
    def weights(self, x):
        return torch.sigmoid(self.conv(batch_in_place(x)))


SPATIAL_GATE = Exercise(
    name="spatial.SpatialGate",
    question=(
        "Write the module class SpatialGate(kernel_size), whose forward(x) multiplies the features "
        "by the weights of spatial attention. "
        "`kernel_size` is an odd number; `x` is a float32 tensor (N, C, H, W), not always square. "
        "The weights are the sigmoid of one convolution (an nn.Conv2d, or a weight of shape "
        "(1, 2, k, k) and a bias), with zeros as padding, of the mean and the maximum over "
        "channels, in this order: one weight for each place, shared by all channels. Return the "
        "weighted features (N, C, H, W); leave `x` as it was."
    ),
    reference=SpatialGate,
    make_inputs=_kernels_and_features,
    prepare=_built,
    wrong={
        "softmax-over-places": (
            SoftmaxOverPlaces,
            "The weights sum to one over the image, so in a large image each is tiny. A gate asks "
            "of each place by itself whether it may pass: it needs another function.",
        ),
        "softmax-over-one-channel": (
            SoftmaxOverOneChannel,
            "Every weight is 1: a softmax over an axis of length one can give nothing else.",
        ),
        "no-sigmoid": (NoSigmoid, _NO_SIGMOID),
        "sigmoid-twice": (
            SigmoidTwice,
            "All weights lie above one half: a sigmoid of a sigmoid. One is enough.",
        ),
        "relu-before-sigmoid": (
            ReluBehind,
            "No weight is below one half: a ReLU has cut off what the sigmoid would have made "
            "small.",
        ),
        "weights-returned": (
            WeightsReturned,
            "These are the weights alone, (N, 1, H, W). Asked for are the features weighed by "
            "them.",
        ),
        "weights-expanded": (
            WeightsExpanded,
            "The shape is right, but these are the weights themselves, repeated for each channel: "
            "the features are gone.",
        ),
        "added-to-itself": (
            AddedToItself,
            "This adds the weighed features to the features, as a residual block does around the "
            "gate. The gate itself only multiplies.",
        ),
        "weights-added": (
            WeightsAdded,
            "The weights are added to the features. A gate lets through a share: which operation "
            "does that?",
        ),
        "pooled-features-weighed": (
            PooledMultiplied,
            "The weights multiply the pooled mean. The mean only helps to find the weights; what "
            "is weighed are all channels of `x`.",
        ),
        "input-changed-in-place": (
            InPlace,
            "The result is right, but `x` itself was changed: a shortcut that still needs `x` "
            "would get the weighed one.",
        ),
        "padding-forgotten": (
            PaddingForgotten,
            "Without padding the map is smaller than the features and cannot multiply them.",
        ),
        "padding-fixed": (
            PaddingFixed,
            "The padding is always 3: right for a kernel of 7 and for no other. It has to follow "
            "from the size of the kernel.",
        ),
        "border-repeated": (BorderRepeated, _REPEATED),
        "border-reflected": (BorderReflected, _REFLECTED),
        "padding-of-the-whole-kernel": (PaddedByWholeKernel, _WHOLE_KERNEL),
        "norm": (NormedGate, _NORMED),
        "kernel-size-ignored": (
            KernelIgnored,
            "The kernel always has size 7: the argument is not used.",
        ),
        "bias-forgotten": (
            BiasForgotten,
            "The convolution has no bias. A convolution of torch has one unless it is told not to.",
        ),
        "pooled-over-height": (
            PooledOverHeight,
            "You pool over axis 2, the height. The axes are (N, C, H, W): channels are axis 1.",
        ),
        "pooled-over-places": (PooledOverPlaces, _OVER_PLACES),
        "pooled-over-the-batch": (GatePooledOverBatch, _OVER_THE_BATCH),
        "pooled-over-the-batch-joined": (GateJoinedOverBatch, _OVER_THE_BATCH),
        "pooled-over-the-batch-in-place": (GateBatchInPlace, _OVER_THE_BATCH),
        "order-swapped": (GateOrderSwapped, _ORDER),
        "indices-instead-of-values": (GateOfIndices, _INDICES),
        "mean-twice": (
            MeanTwice,
            "Both maps are the mean. The second one has to be the maximum.",
        ),
    },
    hints=(
        "Four steps: pool, convolve, squash, multiply. You have all of them above.",
        "One layer is made in __init__: a convolution of two channels to one, with a padding that "
        "keeps the size. The rest stands in forward.",
        "The weights have shape (N, 1, H, W): they multiply (N, C, H, W) by broadcasting. Write "
        "the product as a new tensor.",
    ),
    why=(
        "Pooling leaves two maps, the convolution makes one number per place of a neighbourhood, "
        "the sigmoid makes it a share, and broadcasting gives each channel the same share."
    ),
)


def _times_features(weights: Any) -> type[nn.Module]:
    class Gate(weights):
        def forward(self, x):
            return x * super().forward(x)

    return Gate


def _weights_alone(gate: Any) -> type[nn.Module]:
    class Weights(gate):
        def forward(self, x):
            return self.weights(x)

    return Weights


# What goes wrong in the mended snippet goes wrong in the module as well, and the other way round.
for _mistake in (
    *("padding-for-two-sizes", "only-mean", "only-maximum", "maps-added", "two-maps", "groups"),
    *("joined-along-the-batch", "gate-cut-off"),
):
    _wrong, _text = COPIED_GATE.wrong[_mistake]
    SPATIAL_GATE.wrong[_mistake] = (_times_features(_wrong), _text)
for _mistake in (
    *("softmax-over-places", "softmax-over-one-channel", "sigmoid-twice", "relu-before-sigmoid"),
    *("padding-forgotten", "padding-fixed", "kernel-size-ignored", "mean-twice"),
    *("pooled-over-height", "pooled-over-places", "pooled-over-the-batch"),
    *("pooled-over-the-batch-joined", "pooled-over-the-batch-in-place"),
):
    _wrong, _text = SPATIAL_GATE.wrong[_mistake]
    COPIED_GATE.wrong[_mistake] = (_weights_alone(_wrong), _text)


# The order of channel and spatial attention -------------------------------------------------------


def seen_in_both_orders():
    spot, flat = 8.0, 1.0
    weighed = spot * 0.5, flat * 1.0
    channel_first = sum(weighed) / 2, max(weighed)
    spatial_first = (spot + flat) / 2, max(spot, flat)
    return (*channel_first, *spatial_first)


SEEN_IN_BOTH_ORDERS = Exercise(
    name="spatial.seen_in_both_orders",
    question=(
        "What does the spatial half of CBAM see at the brightest place of `spot`, mean and maximum "
        "over channels, if the channel half comes first, and what if the spatial half comes first? "
        "The features are the channels `spot` and `flat` of this chapter, and the channel half "
        "gives `spot` the weight 0.5 and `flat` the weight 1. Answer with four numbers before you "
        "run anything: (mean, maximum) with the channel half first, then (mean, maximum) with the "
        "spatial half first."
    ),
    reference=seen_in_both_orders,
    tolerance=1e-3,
    wrong={
        "orders-swapped": (
            lambda: (4.5, 8.0, 2.5, 4.0),
            "All four are right, but the two pairs are swapped: the channel half changes what the "
            "spatial half sees only if it comes before it.",
        ),
        "no-difference": (
            lambda: (4.5, 8.0, 4.5, 8.0),
            "The second pair is right. In the first order the features have been weighed already "
            "when they are pooled.",
        ),
        "always-weighed": (
            lambda: (2.5, 4.0, 2.5, 4.0),
            "The first pair is right. If the spatial half comes first, nothing has been weighed "
            "yet.",
        ),
        "mean-and-maximum-swapped": (
            lambda: (4.0, 2.5, 8.0, 4.5),
            "The numbers are right, but the mean comes before the maximum in each pair.",
        ),
        "both-channels-halved": (
            lambda: (2.25, 4.0, 4.5, 8.0),
            "The second pair is right, and the first maximum. In the first mean you have halved "
            "both channels, but the weight of `flat` is 1.",
        ),
        "both-swapped": (
            lambda: (8.0, 4.5, 4.0, 2.5),
            "The numbers are right, and their order is not: the mean comes before the maximum, and "
            "the pair with the channel half first comes first.",
        ),
        "other-channel-halved": (
            lambda: (4.25, 8.0, 4.5, 8.0),
            "The second pair is right. In the first one you have halved `flat`; the weight 0.5 "
            "belongs to `spot`.",
        ),
        "weighted-mean": (
            lambda: (10 / 3, 4.0, 4.5, 8.0),
            "The second pair is right, and the first maximum. In the first mean you divide by the "
            "sum of the weights; a mean over channels divides by their number.",
        ),
        "spot-alone": (
            lambda: (4.0, 4.0, 8.0, 8.0),
            "The maxima are right. Your means look at `spot` alone; `flat` has a value there, too.",
        ),
        "sum-instead-of-mean": (
            lambda: (5.0, 4.0, 9.0, 8.0),
            "The maxima are right. The other two are sums over the channels: there are two "
            "channels.",
        ),
        "whole-image-pooled": (
            lambda: (1.0, 4.0, 1.5, 8.0),
            "The maxima are right. Your means are over the whole image; asked for is one place.",
        ),
        "weights-not-features": (
            lambda: (0.75, 1.0, 4.5, 8.0),
            "The second pair is right. The first one pools the channel weights; what is pooled are "
            "the features times these weights.",
        ),
    },
    hints=(
        "Which two values stand at the brightest place, one in each channel?",
        "If the channel half comes first, multiply each value by its channel's weight before you "
        "pool. If it comes second, do not.",
        "One pair is the mean and the maximum of the two values as they are, the other one of half "
        "of `spot` and the whole of `flat`.",
    ),
    why=(
        "The half that comes second sees what the first has left. With the channel half first, the "
        "spatial half looks at weighed features; so the order matters, in numbers at least."
    ),
)


# CBAM from its two halves -------------------------------------------------------------------------


class CBAMBlock(torch.nn.Module):
    def __init__(self, channels, reduction, kernel_size):
        from course_utils.attention import ChannelAttention, SpatialAttention

        super().__init__()
        self.channel = ChannelAttention(channels, reduction)
        self.spatial = SpatialAttention(kernel_size)

    def forward(self, x):
        which = self.channel.weights(x)  # (N, C, 1, 1)
        weighed = x * which
        where = self.spatial.weights(weighed)  # (N, 1, H, W)
        return weighed * where


class SpatialFirst(CBAMBlock):
    def forward(self, x):
        return self.channel(self.spatial(x))


class BothFromX(CBAMBlock):
    def forward(self, x):
        return x * self.channel.weights(x) * self.spatial.weights(x)


class SideBySide(CBAMBlock):
    def forward(self, x):
        return self.channel(x) + self.spatial(x)


class OnlyChannelHalf(CBAMBlock):
    def forward(self, x):
        return self.channel(x)


class OnlySpatialHalf(CBAMBlock):
    def forward(self, x):
        return self.spatial(x)


class ChannelWeightsLost(CBAMBlock):
    def forward(self, x):
        return x * self.spatial.weights(self.channel(x))


class SpatialSigmoidTwice(CBAMBlock):
    def forward(self, x):
        x = self.channel(x)
        return x * self.spatial.weights(x).sigmoid()


class BothSigmoidsTwice(CBAMBlock):
    def forward(self, x):
        x = x * self.channel.weights(x).sigmoid()
        return x * self.spatial.weights(x).sigmoid()


class MultipliedTwice(CBAMBlock):
    def forward(self, x):
        x = x * self.channel(x)
        return x * self.spatial(x)


class AllWeightsReturned(CBAMBlock):
    def forward(self, x):
        which = self.channel.weights(x)
        return which * self.spatial.weights(x * which)


class PlacesReturned(CBAMBlock):
    def forward(self, x):
        return self.spatial.weights(self.channel(x))


class BlockAroundIt(CBAMBlock):
    def forward(self, x):
        return x + self.spatial(self.channel(x))


class BlockInPlace(CBAMBlock):
    def forward(self, x):
        x *= self.channel.weights(x)
        return x * self.spatial.weights(x)


class WeighedOnceMore(CBAMBlock):
    def forward(self, x):
        x = self.channel(x)
        return x * self.spatial(x)


class MapOfTheWeights(CBAMBlock):
    def forward(self, x):
        which = self.channel.weights(x)
        return x * which * self.spatial.weights(which)


class MapOfTheWeightsAlone(CBAMBlock):
    def forward(self, x):
        return self.spatial.weights(self.channel.weights(x))


class FeaturesByMapOfTheWeights(CBAMBlock):
    def forward(self, x):
        return x * self.spatial.weights(self.channel.weights(x))


class ChannelHalfTwice(CBAMBlock):
    def forward(self, x):
        return self.channel(self.channel(x))


class ChannelsWeighedTwice(CBAMBlock):
    def forward(self, x):
        return self.spatial(self.channel(self.channel(x)))


class OwnChannelHalf(CBAMBlock):
    def logits(self, x):
        return self.channel.mlp(x.mean((2, 3)) + x.amax((2, 3)))

    def forward(self, x):
        return self.spatial(x * self.logits(x).sigmoid()[:, :, None, None])


class ChannelMeanOnly(OwnChannelHalf):
    def logits(self, x):
        return self.channel.mlp(x.mean((2, 3)))


class ChannelPeakOnly(OwnChannelHalf):
    def logits(self, x):
        return self.channel.mlp(x.amax((2, 3)))


class TwoPerceptrons(CBAMBlock):
    def __init__(self, channels, reduction, kernel_size):
        from course_utils.attention import ChannelAttention

        super().__init__(channels, reduction, kernel_size)
        self.other = ChannelAttention(channels, reduction)

    def logits(self, x):
        return self.channel.mlp(x.mean((2, 3))) + self.other.mlp(x.amax((2, 3)))

    def forward(self, x):
        return self.spatial(x * self.logits(x).sigmoid()[:, :, None, None])


class SigmoidBeforeTheSum(CBAMBlock):
    def forward(self, x):
        mlp = self.channel.mlp
        s = mlp(x.mean((2, 3))).sigmoid() + mlp(x.amax((2, 3))).sigmoid()
        return self.spatial(x * s[:, :, None, None])


class WithoutReLU(CBAMBlock):
    def forward(self, x):
        down, _, up = self.channel.mlp
        s = (up(down(x.mean((2, 3)))) + up(down(x.amax((2, 3))))).sigmoid()
        return self.spatial(x * s[:, :, None, None])


class SpatialSettingsFixed(CBAMBlock):
    def __init__(self, channels, reduction, kernel_size):
        super().__init__(channels, reduction, 7)


class ReductionFixed(CBAMBlock):
    def __init__(self, channels, reduction, kernel_size):
        super().__init__(channels, min(16, channels), kernel_size)


class TimesAHalfThatMultiplies(CBAMBlock):
    def forward(self, x):
        return self.spatial(x * self.channel(x))


class BlockCutOff(CBAMBlock):
    def forward(self, x):
        return super().forward(x).detach()


def _built_block(candidate: Any) -> Callable[..., Any]:
    def run(channels: int, reduction: int, kernel_size: int, x: torch.Tensor) -> Any:
        return marked_if_cut_off(module_from(candidate, channels, reduction, kernel_size), x)

    return run


def _blocks_and_features(rng: torch.Generator) -> Inputs:
    settings = ((4, 2, 3), (6, 2, 5), (8, 4, 1), (6, 3, 7), (9, 3, 3))
    shapes = ((1, 4, 4, 4), (2, 6, 5, 7), (3, 8, 6, 4), (2, 6, 8, 6), (4, 9, 4, 5))
    return [
        (*s, 1.5 * torch.randn(shape, generator=rng))
        for s, shape in zip(settings, shapes, strict=True)
    ]


_MAP_OF_WEIGHTS = (
    "The spatial half gets the weights of the channels, which have no places. It has to see the "
    "features that they have weighed."
)

CBAM_BLOCK = Exercise(
    name="spatial.CBAMBlock",
    question=(
        "Write the module class CBAMBlock(channels, reduction, kernel_size), whose forward(x) "
        "weighs the features with both halves of CBAM, in the paper's order. "
        "`x` is a float32 tensor (N, channels, H, W); the hidden layer of the channel half has "
        "`channels // reduction` units; `kernel_size` is odd; no norm. You may take "
        "ChannelAttention(channels, reduction) and SpatialAttention(kernel_size) from "
        "course_utils.attention: of each, weights(x) gives the weights, and calling it gives the "
        "weighed features. Or write your own. Return (N, channels, H, W); leave `x` as it was."
    ),
    reference=CBAMBlock,
    make_inputs=_blocks_and_features,
    prepare=_built_block,
    wrong={
        "spatial-first": (
            SpatialFirst,
            "Both halves are there, in the other order: yours asks where, and then which.",
        ),
        "both-from-x": (
            BothFromX,
            "Both halves look at the raw features. The spatial half has to see what the channel "
            "half has left.",
        ),
        "side-by-side": (
            SideBySide,
            "The halves stand side by side, and their results are added. In CBAM they stand in a "
            "row: each lets through a share of what the other has left.",
        ),
        "only-the-channel-half": (
            OnlyChannelHalf,
            "This is the channel half alone: no place is weighed.",
        ),
        "only-the-spatial-half": (
            OnlySpatialHalf,
            "This is the spatial half alone: no channel is weighed.",
        ),
        "channel-weights-lost": (
            ChannelWeightsLost,
            "The spatial half sees weighed features, as it should. But then its weights multiply "
            "the raw ones, and what the channel half has done is lost.",
        ),
        "spatial-sigmoid-twice": (
            SpatialSigmoidTwice,
            "There is a sigmoid on the weights of the places, which have been through one already.",
        ),
        "both-sigmoids-twice": (
            BothSigmoidsTwice,
            "There is a sigmoid on weights that have been through one already, in both halves: "
            "none of yours lies below one half.",
        ),
        "multiplied-twice": (
            MultipliedTwice,
            "A half that is called gives weighed features, not weights. You multiply by the "
            "features once more.",
        ),
        "places-weighed-twice": (
            WeighedOnceMore,
            "The spatial half, when called, multiplies already. You multiply its result by the "
            "features once more.",
        ),
        "map-of-the-weights": (MapOfTheWeights, _MAP_OF_WEIGHTS),
        "map-of-the-weights-alone": (MapOfTheWeightsAlone, _MAP_OF_WEIGHTS),
        "features-by-map-of-the-weights": (FeaturesByMapOfTheWeights, _MAP_OF_WEIGHTS),
        "channel-half-twice": (
            ChannelHalfTwice,
            "This is the channel half twice: no place is weighed.",
        ),
        "channels-weighed-twice": (
            ChannelsWeighedTwice,
            "The channels are weighed twice: a half that is called weighs already. Each of the "
            "two comes once.",
        ),
        "pooled-features-added": (
            OwnChannelHalf,
            "You add mean and maximum, and send the sum through the perceptron. With a ReLU in "
            "it, that is not the same as adding what it makes of each.",
        ),
        "mean-only": (
            ChannelMeanOnly,
            "Your channel half sees the mean alone, as squeeze-and-excitation does. In CBAM the "
            "maximum goes through the same perceptron, too.",
        ),
        "maximum-only": (
            ChannelPeakOnly,
            "Your channel half sees the maximum alone. In CBAM the mean goes through the same "
            "perceptron, too.",
        ),
        "two-perceptrons": (
            TwoPerceptrons,
            "Mean and maximum go through a perceptron each. In CBAM they share one.",
        ),
        "sigmoid-before-the-sum": (
            SigmoidBeforeTheSum,
            "In the channel half the sigmoid stands before the sum, so that a weight can be as "
            "large as 2. Add first.",
        ),
        "relu-missing": (
            WithoutReLU,
            "There is no ReLU between the two layers of the perceptron: they are one linear layer "
            "in two steps.",
        ),
        "weights-returned": (
            AllWeightsReturned,
            "These are the weights of both halves together. Asked for are the features weighed by "
            "them.",
        ),
        "weights-of-the-places-returned": (
            PlacesReturned,
            "These are the weights of the places alone, (N, 1, H, W). Asked for are the features.",
        ),
        "added-to-itself": (
            BlockAroundIt,
            "This adds `x`, as the residual block around CBAM does. CBAM itself only multiplies.",
        ),
        "input-changed-in-place": (
            BlockInPlace,
            "The result is right, but `x` itself was changed: a shortcut that still needs `x` "
            "would get the weighed one.",
        ),
        "kernel-size-ignored": (
            SpatialSettingsFixed,
            "The kernel always has size 7: the argument is not used.",
        ),
        "reduction-ignored": (
            ReductionFixed,
            "The argument `reduction` is not used. Without it, ChannelAttention takes 16.",
        ),
        "times-a-half-that-multiplies": (
            TimesAHalfThatMultiplies,
            "The channel half, called, gives the weighed features already. You multiply them by "
            "`x` once more.",
        ),
        "gate-cut-off": (BlockCutOff, _CUT_OFF),
    },
    hints=(
        "Which half has to see the features as they are, and which one what the other has left?",
        "Make both halves in __init__. In forward, first weigh the channels, then give the "
        "result to the spatial half.",
        "A half that is called multiplies already. So one is called with `x`, the other one with "
        "the result.",
    ),
    why=(
        "Each half multiplies by weights of its own, and the second is computed from what the "
        "first has left. Calling one after the other does the same in one line."
    ),
)


# Pointing game ------------------------------------------------------------------------------------


def pointing_game(maps, masks):
    inside = masks.bool()
    highest = maps == maps.amax(dim=(1, 2), keepdim=True)
    hits = (highest & inside).sum(dim=(1, 2)) / highest.sum(dim=(1, 2))
    return torch.where(inside.any(dim=2).any(dim=1), hits, torch.nan)


def _empty(masks: torch.Tensor) -> torch.Tensor:
    return masks.flatten(1).sum(1) == 0


def first_of_ties(maps, masks):
    hits = masks.flatten(1).gather(1, maps.flatten(1).argmax(1, keepdim=True))[:, 0].float()
    return hits.masked_fill(_empty(masks), torch.nan)


def last_of_ties(maps, masks):
    hits = masks.flatten(1).gather(1, maps.flatten(1).argsort(dim=1, stable=True)[:, -1:])[:, 0]
    return hits.float().masked_fill(_empty(masks), torch.nan)


def one_of_ties(maps, masks):
    hits = masks.flatten(1).gather(1, maps.flatten(1).topk(1).indices)[:, 0].float()
    return hits.masked_fill(_empty(masks), torch.nan)


def one_of_sorted_ties(maps, masks):
    hits = masks.flatten(1).gather(1, maps.flatten(1).argsort(1)[:, -1:])[:, 0].float()
    return hits.masked_fill(_empty(masks), torch.nan)


def argmax_only(maps, masks):
    return masks.flatten(1).gather(1, maps.flatten(1).argmax(1, keepdim=True))[:, 0].float()


def ties_won(maps, masks):
    highest = maps == maps.amax((1, 2), keepdim=True)
    hits = (highest & masks.bool()).flatten(1).any(1).float()
    return hits.masked_fill(_empty(masks), torch.nan)


def ties_lost(maps, masks):
    highest = maps == maps.amax((1, 2), keepdim=True)
    hits = 1 - (highest & ~masks.bool()).flatten(1).any(1).float()
    return hits.masked_fill(_empty(masks), torch.nan)


def empty_is_a_miss(maps, masks):
    highest = maps == maps.amax((1, 2), keepdim=True)
    return (highest & masks.bool()).sum((1, 2)) / highest.sum((1, 2))


def hits_averaged(maps, masks):
    return pointing_game(maps, masks).nanmean()


def highest_of_the_batch(maps, masks):
    highest = maps == maps.max()
    hits = (highest & masks.bool()).sum((1, 2)) / highest.sum((1, 2)).clamp(min=1)
    return hits.masked_fill(_empty(masks), torch.nan)


def highest_of_each_row(maps, masks):
    highest = maps == maps.amax(2, keepdim=True)
    hits = (highest & masks.bool()).sum((1, 2)) / highest.sum((1, 2))
    return hits.masked_fill(_empty(masks), torch.nan)


def lowest(maps, masks):
    return pointing_game(-maps, masks)


def masked_by_multiplying(maps, masks):
    hits = (maps * masks).amax((1, 2)) == maps.amax((1, 2))
    return hits.float().masked_fill(_empty(masks), torch.nan)


def masked_by_multiplying_only(maps, masks):
    return ((maps * masks).amax((1, 2)) == maps.amax((1, 2))).float()


def largest_absolute_value(maps, masks):
    return pointing_game(maps.abs(), masks)


def above_half(maps, masks):
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    bright = maps >= (low + high) / 2
    hits = (bright & masks.bool()).sum((1, 2)) / bright.sum((1, 2))
    return hits.masked_fill(_empty(masks), torch.nan)


def rounded_first(maps, masks):
    return pointing_game((100 * maps).round(), masks)


def within_a_tolerance(maps, masks):
    highest = maps >= maps.amax((1, 2), keepdim=True) - 1e-5
    hits = (highest & masks.bool()).sum((1, 2)) / highest.sum((1, 2))
    return hits.masked_fill(_empty(masks), torch.nan)


def by_size_of_the_mask(maps, masks):
    highest = maps == maps.amax((1, 2), keepdim=True)
    return (highest & masks.bool()).sum((1, 2)) / masks.bool().sum((1, 2))


def _maps_and_masks(rng: torch.Generator) -> Inputs:
    """Maps of both signs, with ties and near ties, constant, all negative; some masks empty."""
    shapes = ((1, 3, 3), (2, 4, 4), (4, 5, 7), (5, 6, 4), (6, 4, 4), (5, 3, 8), (1, 4, 5))
    cases = []
    for i, shape in enumerate(shapes):
        maps = torch.randn(shape, generator=rng)
        masks = torch.rand(shape, generator=rng) < 0.4
        masks[:, 0, 0], masks[:, -1, -1] = True, False
        if i in (3, 5):
            maps = (1.5 * maps).round()  # ties
        if len(maps) > 1:
            maps[1, 0, 0] = maps[1].max() + 1  # a hit, on a map that is negative everywhere
            maps[1] -= maps[1].max() + 1
        if (
            i < 6
        ):  # nearly a tie, which inside the mask wins every other time; the first two by a hair
            gap = 0.002 if len(maps) > 3 else 7e-7
            maps[0, 0, 0] = maps[0, -1, -1] = maps[0].max() + 1
            maps[0, 0, 0] += gap if i % 2 else -gap
        if len(maps) > 3:
            masks[3] = False
            masks[4:5, -1, -1] = True  # the last of equal pixels may be a hit, too
            maps[2], maps[4:] = 0.25, -1  # all pixels are equally high
            masks[2, 0, 0] = False
        if i == 6:  # a batch of one is no easy case: ties below zero, one of them in the mask
            maps[0] -= maps.max() + 1
            maps[0, 0, 0] = maps[0, -1, -1] = -0.5
        cases.append((maps, masks.to(torch.uint8) if i % 3 else masks))
    return cases


_NEARLY = (
    "Right if one pixel is clearly the highest. Pixels that are only nearly as high count as equal "
    "for you, by rounding or by a tolerance. Equally high means equal."
)
_ONE_OF_TIES = (
    "Right without ties. If several pixels are equally high, you take {} of them, so that its "
    "place decides. Asked for is the share of them that lies in the mask."
)

POINTING_GAME = Exercise(
    name="spatial.pointing_game",
    question=(
        "Write pointing_game(maps, masks), which says for each map whether its highest pixel lies "
        "in the mask. "
        "`maps` is a float tensor (N, H, W) of any finite values, negative ones too; `masks` has "
        "the same shape, dtype bool or uint8, values 0 and 1. Return a float tensor (N,): 1 for a "
        "hit, 0 for a miss. If several pixels of a map are equally high, the value is the share of "
        "them that lies in the mask. Where the mask is empty, it is NaN: no map could hit."
    ),
    reference=pointing_game,
    make_inputs=_maps_and_masks,
    wrong={
        "first-of-ties": (
            first_of_ties,
            "Right without ties. If several pixels are equally high, argmax takes the first, which "
            "favours the upper left corner: a constant map would always point there.",
        ),
        "argmax-only": (
            argmax_only,
            "Right in the plain case, and two special ones are missing: several pixels that are "
            "equally high, of which argmax takes the first, and masks without a pixel.",
        ),
        "last-of-ties": (last_of_ties, _ONE_OF_TIES.format("the last")),
        "one-of-ties": (one_of_ties, _ONE_OF_TIES.format("one")),
        "one-of-sorted-ties": (one_of_sorted_ties, _ONE_OF_TIES.format("one")),
        "ties-won": (
            ties_won,
            "Right without ties. If several pixels are equally high, one in the mask is enough for "
            "you: a constant map would always win.",
        ),
        "ties-lost": (
            ties_lost,
            "Right without ties. If several pixels are equally high, you demand that all of them "
            "lie in the mask. Asked for is their share.",
        ),
        "empty-is-a-miss": (
            empty_is_a_miss,
            "Right except for empty masks: they count as a miss, although nothing could be hit. "
            "The question says which value they get.",
        ),
        "averaged-over-the-batch": (
            hits_averaged,
            "This is the mean over the batch. Asked for are the N values themselves.",
        ),
        "highest-of-the-batch": (
            highest_of_the_batch,
            "You look for the highest pixel of the whole batch. Each map has one of its own.",
        ),
        "highest-of-each-row": (
            highest_of_each_row,
            "You take the maximum over one axis only: that is a highest pixel in each row. A map "
            "has two spatial axes.",
        ),
        "lowest-pixel": (lowest, "You point at the lowest pixel of each map."),
        "masked-by-multiplying": (
            masked_by_multiplying,
            "You multiply map and mask first. That puts zeros outside, and where the map is "
            "negative a zero is the highest value; and ties count as hits.",
        ),
        "masked-by-multiplying-only": (
            masked_by_multiplying_only,
            "You multiply map and mask first. That puts zeros outside, and where the map is "
            "negative a zero is the highest value. Besides, ties count as hits, and an empty mask "
            "as a miss.",
        ),
        "largest-absolute-value": (
            largest_absolute_value,
            "You look for the largest absolute value. In a map of both signs that may be the "
            "lowest pixel; asked for is the highest.",
        ),
        "bright-half": (
            above_half,
            "You count all pixels of the brighter half of the range. The pointing game looks at "
            "the highest value only.",
        ),
        "nearly-highest": (rounded_first, _NEARLY),
        "nearly-highest-by-a-hair": (within_a_tolerance, _NEARLY),
        "divided-by-the-mask": (
            by_size_of_the_mask,
            "You divide by the size of the mask. The share asked for is of the highest pixels: by "
            "how many of them must you divide?",
        ),
    },
    hints=(
        "Which pixels are as high as the highest? A comparison gives all of them at once.",
        "amax takes two axes and keepdim=True, so that the result can be compared with the maps. "
        "How many of these pixels are in the mask, and how many are there?",
        "Divide the two counts, then put NaN where a mask holds no pixel: torch.where or "
        "masked_fill.",
    ),
    why=(
        "Comparing with the maximum finds all highest pixels, so that ties cost nothing extra. An "
        "empty mask says nothing about a map, and NaN says so."
    ),
)


# Enrichment ---------------------------------------------------------------------------------------


def enrichment(maps, masks):
    inside = masks.flatten(1).float()
    energy = maps.flatten(1)
    energy_share = (energy * inside).sum(dim=1) / energy.sum(dim=1)
    area_share = inside.mean(dim=1)
    return energy_share / area_share


def _parts(maps, masks):
    return maps.flatten(1), masks.flatten(1).float()


def share_without_area(maps, masks):
    m, s = _parts(maps, masks)
    return (m * s).sum(1) / m.sum(1)


def area_of_the_image_forgotten(maps, masks):
    m, s = _parts(maps, masks)
    return (m * s).sum(1) / m.sum(1) / s.sum(1)


def mean_inside(maps, masks):
    m, s = _parts(maps, masks)
    return (m * s).sum(1) / s.sum(1)


def inside_by_outside(maps, masks):
    m, s = _parts(maps, masks)
    return ((m * s).sum(1) / s.sum(1)) / ((m * (1 - s)).sum(1) / (1 - s).sum(1))


def map_cut_at_half(maps, masks):
    return enrichment((maps >= 0.5 * maps.amax((1, 2), keepdim=True)).float(), masks)


def highest_pixel_only(maps, masks):
    return enrichment((maps == maps.amax((1, 2), keepdim=True)).float(), masks)


def lowest_value_removed(maps, masks):
    return enrichment(maps - maps.amin((1, 2), keepdim=True), masks)


def pooled_area(maps, masks):
    m, s = _parts(maps, masks)
    return (m * s).sum(1) / m.sum(1) / s.mean()


def pooled_energy(maps, masks):
    m, s = _parts(maps, masks)
    return (m * s).sum(1) / m.sum() / s.mean(1)


def empty_is_zero(maps, masks):
    m, s = _parts(maps, masks)
    return (m * s).sum(1) / m.sum(1) / s.mean(1).clamp(min=1e-9)


def multiplied_by_area(maps, masks):
    m, s = _parts(maps, masks)
    return (m * s).sum(1) / m.sum(1) * s.mean(1)


def outside_the_mask(maps, masks):
    m, s = _parts(maps, masks)
    return (m * (1 - s)).sum(1) / m.sum(1) / (1 - s).mean(1)


def upside_down(maps, masks):
    return 1 / enrichment(maps, masks)


def enrichment_averaged(maps, masks):
    return enrichment(maps, masks).nanmean()


def softmax_first(maps, masks):
    return enrichment(maps.flatten(1).softmax(1).view_as(maps), masks)


def _weights_and_masks(rng: torch.Generator) -> Inputs:
    """Maps in (0, 1) and masks of many sizes; from four cases on, one of the masks is empty."""
    shapes = ((1, 3, 3), (2, 4, 4), (4, 5, 7), (5, 6, 4), (3, 8, 3), (6, 4, 4))
    cases = []
    for i, shape in enumerate(shapes):
        maps = torch.sigmoid(2 * torch.randn(shape, generator=rng))
        size = 0.15 + 0.6 * torch.rand(shape[0], 1, 1, generator=rng)
        masks = torch.rand(shape, generator=rng) < size
        masks[:, 0, 0], masks[:, -1, -1] = True, False
        if len(maps) > 3:
            masks[2] = False
            maps[3] = 0.25
        cases.append((maps, masks.to(torch.uint8) if i % 2 else masks))
    return cases


ENRICHMENT = Exercise(
    name="spatial.enrichment",
    question=(
        "Write enrichment(maps, masks): the share of each map's sum that lies in its mask, divided "
        "by the share of the image that the mask covers. "
        "`maps` is a float32 tensor (N, H, W) of values above 0; `masks` has the same shape, dtype "
        "bool or uint8, values 0 and 1. Return a float tensor (N,): 1 means that the mask gets "
        "what it would get from a uniform map. Where the mask is empty, the value is NaN."
    ),
    reference=enrichment,
    make_inputs=_weights_and_masks,
    wrong={
        "share-without-area": (
            share_without_area,
            "This is the share of the energy alone. A mask of half the image gets half of any "
            "uniform map: the area has to be taken into account.",
        ),
        "image-area-forgotten": (
            area_of_the_image_forgotten,
            "You divide by the number of pixels in the mask. Asked for is the share of the image "
            "that it covers: how large is the image?",
        ),
        "mean-inside": (
            mean_inside,
            "This is the mean weight inside the mask. If the map is high everywhere, so is your "
            "value.",
        ),
        "inside-by-outside": (
            inside_by_outside,
            "This compares inside with outside. A sensible score, but another one: asked for is "
            "the comparison with the whole image.",
        ),
        "map-cut": (
            map_cut_at_half,
            "The map has been cut at half of its maximum first. Then the score depends on where "
            "one cuts; use the weights as they are.",
        ),
        "highest-pixel-only": (
            highest_pixel_only,
            "Only the highest pixel counts in yours: that is the pointing game by area. All "
            "weights belong into the sum.",
        ),
        "stretched-first": (
            lowest_value_removed,
            "The lowest value of each map has been subtracted first, as one does to draw it. That "
            "makes any map look sharper than it is; use the weights as they are.",
        ),
        "softmax-first": (
            softmax_first,
            "A softmax has been put on the map. The weights are positive already: dividing by "
            "their sum is enough.",
        ),
        "area-over-the-batch": (
            pooled_area,
            "The area is that of all masks together. Each case has its own.",
        ),
        "energy-over-the-batch": (
            pooled_energy,
            "You divide by the sum of all maps together. Each case has its own.",
        ),
        "empty-is-zero": (
            empty_is_zero,
            "Right except for empty masks: a small number below the line, or a rule of yours, "
            "makes 0 of them. No map can score on an empty mask; the question says its value.",
        ),
        "multiplied-by-area": (
            multiplied_by_area,
            "You multiply by the area. A large mask gets much of any map, so its size must count "
            "against it.",
        ),
        "upside-down": (
            upside_down,
            "The quotient is upside down: a map that is high in its mask gets less than 1.",
        ),
        "outside-the-mask": (
            outside_the_mask,
            "This is the enrichment of the background: mask and rest are swapped.",
        ),
        "averaged-over-the-batch": (
            enrichment_averaged,
            "This is the mean over the batch. Asked for are the N values themselves.",
        ),
    },
    hints=(
        "Two shares, each a number per case: of the map's sum, and of the image's area.",
        "flatten(1) makes (N, H W) of both. The sum of the map times the mask is the energy "
        "inside; by what do you divide it?",
        "The mean of a mask of 0 and 1 is the share of the area. Divide the one share by the "
        "other; zero by zero is NaN by itself.",
    ),
    why=(
        "Both shares are ratios within one case, so neither the brightness of the map nor the size "
        "of the image counts. It equals the mean weight inside the mask by the mean of the map."
    ),
)


# Intervening on a map -----------------------------------------------------------------------------


def intervene(gate, x, change):
    return x * change(gate.weights(x))


def output_changed(gate, x, change):
    return change(gate(x))


def features_changed(gate, x, change):
    return gate(change(x))


def map_of_changed_features(gate, x, change):
    return x * gate.weights(change(x))


def changed_output_times_x(gate, x, change):
    return x * change(gate(x))


def weighed_twice(gate, x, change):
    return gate(x) * change(gate.weights(x))


def changed_map_alone(gate, x, change):
    return change(gate.weights(x))


def change_ignored(gate, x, change):
    return gate(x)


def gate_left_out(gate, x, change):
    return x * change(x)


def logits_changed(gate, x, change):
    pooled = torch.stack([x.mean(1), x.amax(1)], 1)
    return x * torch.sigmoid(change(gate.conv(pooled)))


def sigmoid_on_the_map(gate, x, change):
    return x * torch.sigmoid(change(gate.weights(x)))


def changed_one_by_one(gate, x, change):
    return torch.cat([image * change(gate.weights(image)) for image in x.split(1)])


def map_added(gate, x, change):
    return x + change(gate.weights(x))


def features_in_place(gate, x, change):
    x *= change(gate.weights(x))
    return x


def hook_left(gate, x, change):
    gate.register_forward_hook(
        lambda gate, inputs, output: inputs[0] * change(gate.weights(*inputs))
    )
    return gate(x)


def _leaving_the_gate(candidate: Any) -> Callable[..., Any]:
    def run(gate: Any, x: torch.Tensor, change: Any) -> Any:
        probe = x.clone()
        before = gate(probe)
        found = as_function(candidate)(gate, x, change)
        # Not an exception: a learner would be told that their own code had raised it.
        return found if torch.equal(gate(probe), before) else "a gate left changed"

    return run


def _gates_and_changes(rng: torch.Generator) -> Inputs:
    """Gates, features, and what is done to the map; from three images on it may be exchanged."""
    from course_utils.attention import SpatialAttention

    cases = []
    kernels = (1, 3, 5, 3, 7, 3)
    shapes = ((1, 3, 3, 4), (2, 2, 4, 5), (3, 4, 5, 4), (4, 3, 6, 3), (3, 5, 4, 4), (2, 3, 5, 5))
    changes: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda w: 1 - w,
        lambda w: w.mean((2, 3), keepdim=True).expand_as(w),
        lambda w: w.roll(1, dims=0),
        lambda w: w.flip(0),
        lambda w: w**2,
        lambda w: w.roll(1, dims=3),
    )
    for kernel, shape, change in zip(kernels, shapes, changes, strict=True):
        gate = SpatialAttention(kernel)
        for parameter in gate.parameters():
            parameter.data = torch.randn(parameter.shape, generator=rng)
        cases.append((gate, 2 * torch.randn(shape, generator=rng), change))
    return cases


INTERVENE = Exercise(
    name="spatial.intervene",
    question=(
        "Write intervene(gate, x, change), which gives what the gate would put out if its map "
        "were another one. "
        "`gate` is a SpatialAttention of the course: gate.weights(x) is its map (N, 1, H, W), and "
        "gate(x) the weighed features. `x` is a float32 tensor (N, C, H, W). `change` is a "
        "function of the maps of the whole batch; it returns the maps to use instead. Return the "
        "features weighed by these, (N, C, H, W); leave `gate` and `x` as they were."
    ),
    reference=intervene,
    make_inputs=_gates_and_changes,
    prepare=_leaving_the_gate,
    wrong={
        "output-changed": (
            output_changed,
            "The gate's output is changed, features and all. What is to be replaced is its map.",
        ),
        "features-changed": (
            features_changed,
            "The features are changed, and the gate makes a map of those. What is to be replaced "
            "is the map; the features stay.",
        ),
        "map-of-changed-features": (
            map_of_changed_features,
            "The map is made of changed features. `change` is a function of maps: let the gate "
            "look at `x` as it is, and change what it gives.",
        ),
        "changed-output-times-features": (
            changed_output_times_x,
            "gate(x) is the weighed features, not the map, and you multiply by the features once "
            "more. What is to be changed is the map alone.",
        ),
        "weighed-twice": (
            weighed_twice,
            "The features are weighed twice, by the gate's own map and by the new one. The new "
            "map stands in place of the old one.",
        ),
        "map-alone": (
            changed_map_alone,
            "This is the new map, (N, 1, H, W). Asked for are the features weighed by it.",
        ),
        "change-ignored": (
            change_ignored,
            "This is the gate as it is: `change` has not been used.",
        ),
        "gate-left-out": (
            gate_left_out,
            "`change` gets the features. It is a function of the maps: where do they come from?",
        ),
        "before-the-sigmoid": (
            logits_changed,
            "You change the logits, before the sigmoid. The map is what comes behind it.",
        ),
        "sigmoid-on-the-map": (
            sigmoid_on_the_map,
            "There is a sigmoid on the new map, whose weights need none.",
        ),
        "image-by-image": (
            changed_one_by_one,
            "Each image is treated by itself. Then `change` cannot give one image the map of "
            "another: call it once, with the maps of the whole batch.",
        ),
        "map-added": (
            map_added,
            "The map is added. A gate multiplies.",
        ),
        "gate-changed": (
            hook_left,
            "The gate itself is not as it was: called after yours, it gives something else. A hook "
            "must be removed, and a method that was replaced put back.",
        ),
        "input-changed-in-place": (
            features_in_place,
            "The result is right, but `x` itself was changed: the next intervention on it would "
            "start from weighed features.",
        ),
    },
    hints=(
        "The gate does two things: it makes a map, and multiplies by it. Where do you cut?",
        "Ask the gate for its map only, and hand it to `change`.",
        "What comes out of `change` has shape (N, 1, H, W) and takes the place of the weights in "
        "the product.",
    ),
    why=(
        "A gate is a map and a product. Whoever has both can put any other map between them and "
        "see what the rest of the network makes of it."
    ),
)


EXERCISES = (
    POOL_CHANNELS,
    COPIED_GATE,
    GATE_PARAMETERS,
    SPATIAL_GATE,
    SEEN_IN_BOTH_ORDERS,
    CBAM_BLOCK,
    POINTING_GAME,
    ENRICHMENT,
    INTERVENE,
)
