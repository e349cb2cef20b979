"""Exercises of chapter 05: the parts of a U-Net, its loss, and how a segmentation is scored."""

# The right and the wrong answers are code as a learner would write it in a notebook: they import
# what they need besides torch themselves, and a solution is shown as it stands here.

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .engine import Exercise, Inputs
from .preparing import module_from

# Parameters of a block --------------------------------------------------------------------------


def block_parameters():
    before, after = 8, 16
    kernels = before * after * 9 + after * after * 9
    norms = 2 * (after + after)
    return kernels, norms


BLOCK_PARAMETERS = Exercise(
    name="unet.block_parameters",
    question=(
        "A block leads from 8 to 16 channels: convolution, batch norm, ReLU, convolution, batch "
        "norm, ReLU; how many numbers does it learn, in its convolutions and in its norms? "
        "The convolutions are 3 by 3, padded, and have no bias; the second one leads from 16 to 16 "
        "channels. Answer with a tuple (convolutions, norms) of two whole numbers, before you ask "
        "the module."
    ),
    reference=block_parameters,
    wrong={
        "second-convolution-from-8": (
            lambda: (2 * 8 * 16 * 9, 64),
            "The norms are right. The second convolution does not see the input: how many channels "
            "does the first one hand to it?",
        ),
        "both-sixteen": (
            lambda: (2 * 16 * 16 * 9, 64),
            "The norms are right. The first convolution starts from fewer channels.",
        ),
        "one-convolution": (
            lambda: (8 * 16 * 9, 64),
            "The norms are right, and this is the first convolution. There are two.",
        ),
        "channels-not-multiplied": (
            lambda: (2 * 16 * 9, 64),
            "The norms are right. Each of the 16 filters has a kernel of its own for every channel "
            "that comes in.",
        ),
        "nine-forgotten": (
            lambda: (8 * 16 + 16 * 16, 64),
            "The norms are right. You count one number for each kernel, as in a convolution of 1 "
            "by 1.",
        ),
        "nine-once": (
            lambda: (8 * 16 * 9 + 16 * 16, 64),
            "The norms are right, and so is the first convolution. The kernels of the second one "
            "are 3 by 3 as well.",
        ),
        "biases-counted": (
            lambda: (8 * 16 * 9 + 16 * 16 * 9 + 32, 64),
            "The norms are right. You count a bias for each filter, and these convolutions have "
            "none: the norm behind them has a shift of its own.",
        ),
        "norm-without-shift": (
            lambda: (8 * 16 * 9 + 16 * 16 * 9, 32),
            "The convolutions are right. A batch norm learns more than one number for a channel.",
        ),
        "running-statistics-counted": (
            lambda: (8 * 16 * 9 + 16 * 16 * 9, 128),
            "The convolutions are right. The running mean and variance of a norm are kept, but not "
            "learned by gradients.",
        ),
        "norms-once-for-all-channels": (
            lambda: (8 * 16 * 9 + 16 * 16 * 9, 4),
            "The convolutions are right. A batch norm has a scale and a shift for each channel.",
        ),
        "norm-of-eight": (
            lambda: (8 * 16 * 9 + 16 * 16 * 9, 48),
            "The convolutions are right. Both norms stand behind a convolution that makes 16 "
            "channels.",
        ),
        "order-swapped": (
            lambda: (64, 8 * 16 * 9 + 16 * 16 * 9),
            "Both numbers are right, in the wrong order: the convolutions come first.",
        ),
    },
    hints=(
        "Count one convolution first: each filter has a 3 by 3 kernel for every channel that comes "
        "in, and there are as many filters as channels that go out.",
        "The first holds 8 times 16 kernels, the second 16 times 16, with nine numbers each.",
        "A batch norm learns a scale and a shift for each channel, and there are two norms.",
    ),
    why=(
        "A kernel of 3 by 3 for every pair of a channel that comes in and one that goes out. The "
        "norms hold a scale and a shift for each of 16 channels, twice. The second convolution is "
        "twice as large as the first: width is what a network pays for."
    ),
)


# Transposed convolution ---------------------------------------------------------------------------


def transposed_convolution(x, kernel, stride):
    (h, w), (a, b) = x.shape, kernel.shape
    result = torch.zeros((h - 1) * stride + a, (w - 1) * stride + b)
    for i in range(h):
        for j in range(w):
            top, left = i * stride, j * stride
            result[top : top + a, left : left + b] += x[i, j] * kernel
    return result


def overlaps_overwritten(x, kernel, stride):
    (h, w), (a, b) = x.shape, kernel.shape
    out = torch.zeros((h - 1) * stride + a, (w - 1) * stride + b)
    for i in range(h):
        for j in range(w):
            out[i * stride : i * stride + a, j * stride : j * stride + b] = x[i, j] * kernel
    return out


def kernel_flipped(x, kernel, stride):
    return transposed_convolution(x, kernel.flip(0, 1), stride)


def kernel_turned(x, kernel, stride):
    return transposed_convolution(x, kernel.T, stride)


def stride_ignored(x, kernel, stride):
    return transposed_convolution(x, kernel, 1)


def stride_of_the_kernel(x, kernel, stride):
    return torch.kron(x, kernel)


def ordinary_convolution(x, kernel, stride):
    a, b = kernel.shape
    padded = F.pad(x, (b, b, a, a))
    return F.conv2d(padded[None, None], kernel[None, None], stride=stride)[0, 0]


def overlaps_averaged(x, kernel, stride):
    count = transposed_convolution(torch.ones_like(x), torch.ones_like(kernel), stride)
    return transposed_convolution(x, kernel, stride) / count.clamp(min=1)


def size_times_stride(x, kernel, stride):
    whole = transposed_convolution(x, kernel, stride)
    out = torch.zeros(x.shape[0] * stride, x.shape[1] * stride)
    h, w = min(len(whole), len(out)), min(whole.shape[1], out.shape[1])
    out[:h, :w] = whole[:h, :w]
    return out


def border_cut(x, kernel, stride):
    return transposed_convolution(x, kernel, stride)[1:-1, 1:-1]


def stride_in_the_size_only(x, kernel, stride):
    (h, w), (a, b) = x.shape, kernel.shape
    out = torch.zeros((h - 1) * stride + a, (w - 1) * stride + b)
    for i in range(h):
        for j in range(w):
            out[i : i + a, j : j + b] += x[i, j] * kernel
    return out


def kernel_as_stride_in_the_right_size(x, kernel, stride):
    (h, w), (a, b) = x.shape, kernel.shape
    out = torch.zeros((h - 1) * stride + a, (w - 1) * stride + b)
    for i in range(h):
        for j in range(w):
            out[i * a : i * a + a, j * b : j * b + b] += x[i, j] * kernel
    return out


def value_forgotten(x, kernel, stride):
    return transposed_convolution(torch.ones_like(x), kernel, stride)


def pixels_repeated(x, kernel, stride):
    return x.repeat_interleave(stride, 0).repeat_interleave(stride, 1)


def kernel_summed(x, kernel, stride):
    return transposed_convolution(x, torch.ones_like(kernel) * kernel.sum(), stride)


def _stamps(rng: torch.Generator) -> Inputs:
    cases = (
        ((2, 2), (2, 2), 2),
        ((2, 3), (2, 3), 1),
        ((3, 2), (3, 3), 2),
        ((1, 4), (2, 4), 3),
        ((4, 3), (3, 2), 1),
        ((3, 3), (4, 3), 2),
    )
    return [
        (torch.randn(size, generator=rng), torch.randn(kernel, generator=rng), stride)
        for size, kernel, stride in cases
    ]


TRANSPOSED_CONVOLUTION = Exercise(
    name="unet.transposed_convolution",
    question=(
        "Write transposed_convolution(x, kernel, stride): each value stamps the kernel, times "
        "itself, into the result; stamps lie `stride` pixels apart, and where they overlap they "
        "add up. "
        "`x` is a float tensor (H, W), `kernel` a float tensor (a, b), `stride` a whole number, at "
        "least 1, for both axes. The stamp of x[0, 0] begins in the upper left corner. Return a "
        "new float tensor in which all stamps just fit, (H - 1) * stride + a high and "
        "(W - 1) * stride + b wide. Places that no stamp reaches are 0."
    ),
    reference=transposed_convolution,
    make_inputs=_stamps,
    wrong={
        "overlaps-overwritten": (
            overlaps_overwritten,
            "Right where stamps do not overlap. Where they do, your last stamp wipes out the "
            "others: add to what is there.",
        ),
        "kernel-flipped": (
            kernel_flipped,
            "Your stamps are turned upside down. The kernel is stamped as it is.",
        ),
        "kernel-turned": (
            kernel_turned,
            "Your stamps have rows and columns exchanged.",
        ),
        "stride-ignored": (
            stride_ignored,
            "Your stamps always lie one pixel apart: where does the stride come in?",
        ),
        "stride-of-the-kernel": (
            stride_of_the_kernel,
            "Your stamps lie one kernel apart, side by side. The stride says how far; it may be "
            "smaller, so that they overlap, or larger.",
        ),
        "stride-in-the-size-only": (
            stride_in_the_size_only,
            "Your result has the right size, but the stamps lie one pixel apart in it. Where does "
            "the stamp of pixel (i, j) begin?",
        ),
        "kernel-as-stride-in-the-right-size": (
            kernel_as_stride_in_the_right_size,
            "Your result has the right size, but the stamps lie one kernel apart in it, so that "
            "some do not fit. The stride says how far.",
        ),
        "value-forgotten": (
            value_forgotten,
            "Each of your stamps is the bare kernel. It is to be multiplied by the value of x that "
            "it belongs to.",
        ),
        "ordinary-convolution": (
            ordinary_convolution,
            "This is an ordinary convolution with a stride: it collects many pixels into one. "
            "Asked for is the way back, which spreads one pixel over many.",
        ),
        "overlaps-averaged": (
            overlaps_averaged,
            "Where stamps overlap you take their mean. They add up.",
        ),
        "size-times-stride": (
            size_times_stride,
            "Your result is exactly `stride` times as large as the input. That holds where kernel "
            "and stride are equal; in general the last stamp must fit, and not more.",
        ),
        "border-cut": (
            border_cut,
            "A rim of one pixel is cut off. That is what padding=1 does; here nothing is cut.",
        ),
        "pixels-repeated": (
            pixels_repeated,
            "You repeat pixels. The kernel is to say how each one is spread.",
        ),
        "kernel-summed": (
            kernel_summed,
            "Each of your stamps is flat. A stamp is the kernel, place by place, times the value.",
        ),
    },
    hints=(
        "Begin with zeros of the size that the question gives, then go through the pixels of x.",
        "Pixel (i, j) stamps into the rows from i * stride on, as many as the kernel has, and into "
        "the columns from j * stride on.",
        "Add x[i, j] times the kernel to that window of the result with `+=`.",
    ),
    why=(
        "A convolution collects, a transposed convolution spreads. The result is as large as the "
        "outermost stamps reach, and overlapping stamps add up."
    ),
)


# An encoder that returns its skips ----------------------------------------------------------------


class Encoder(torch.nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.first = torch.nn.Conv2d(channels, width, 3, padding=1)
        self.second = torch.nn.Conv2d(width, 2 * width, 3, padding=1)
        self.third = torch.nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        self.pool = torch.nn.MaxPool2d(2)

    def forward(self, x):
        fine = torch.relu(self.first(x))
        middle = torch.relu(self.second(self.pool(fine)))
        coarse = torch.relu(self.third(self.pool(middle)))
        return [fine, middle, coarse]


class OnlyTheCoarsest(Encoder):
    def forward(self, x):
        return super().forward(x)[-1]


class CoarsestInAList(Encoder):
    def forward(self, x):
        return super().forward(x)[-1:]


class WithoutTheCoarsest(Encoder):
    def forward(self, x):
        return super().forward(x)[:-1]


class CoarsestFirst(Encoder):
    def forward(self, x):
        return super().forward(x)[::-1]


class AfterThePool(Encoder):
    def forward(self, x):
        fine, middle, coarse = super().forward(x)
        return [self.pool(fine), self.pool(middle), coarse]


class BeforeTheReLU(Encoder):
    def forward(self, x):
        fine = self.first(x)
        middle = self.second(self.pool(fine.relu()))
        return [fine, middle, self.third(self.pool(middle.relu()))]


class WithoutReLU(Encoder):
    def forward(self, x):
        fine = self.first(x)
        middle = self.second(self.pool(fine))
        return [fine, middle, self.third(self.pool(middle))]


class NeverPooled(Encoder):
    def forward(self, x):
        fine = self.first(x).relu()
        middle = self.second(fine).relu()
        return [fine, middle, self.third(middle).relu()]


class MeanPooled(Encoder):
    def forward(self, x):
        fine = self.first(x).relu()
        middle = self.second(F.avg_pool2d(fine, 2)).relu()
        return [fine, middle, self.third(F.avg_pool2d(middle, 2)).relu()]


class EveryLayer(Encoder):
    def forward(self, x):
        found = []
        for i, layer in enumerate((self.first, self.second, self.third)):
            x = layer(self.pool(x) if i else x)
            found.append(x)
            x = x.relu()
            found.append(x)
            if i < 2:
                found.append(self.pool(x))
        return found


class InputToo(Encoder):
    def forward(self, x):
        return [x, *super().forward(x)]


class PlainList(Encoder):
    def __init__(self, channels, width):
        super().__init__(channels, width)
        self.layers = [self.first, self.second, self.third]
        del self.first, self.second, self.third

    def forward(self, x):
        return x  # never called


class CutOffSkips(Encoder):
    def forward(self, x):
        fine, middle, coarse = super().forward(x)
        return [fine.detach(), middle.detach(), coarse]


def _holds_unregistered(module: nn.Module) -> bool:
    """Whether a plain list or tuple holds layers that are not registered."""
    known = set(module.modules())
    held = [x for value in vars(module).values() if isinstance(value, list | tuple) for x in value]
    return any(isinstance(x, nn.Module) and x not in known for x in held)


def _run_encoder(candidate: Any) -> Callable[..., Any]:
    """Calls a module built from (channels, width). Skips that teach nothing come back marked."""

    def run(channels: int, width: int, x: torch.Tensor) -> Any:
        module = module_from(candidate, channels, width)
        if _holds_unregistered(module):
            return "a list holds layers that the module does not know"
        with torch.enable_grad():
            found = module(x)
        if isinstance(found, list | tuple) and found:
            tensors = [item for item in found if isinstance(item, torch.Tensor)]
            cut = [not t.requires_grad for t in tensors if t is not x and t.shape != x.shape]
            if any(cut):
                return list(found), "cut off from the graph"
        return found

    return run


def _encoder_inputs(rng: torch.Generator) -> Inputs:
    cases = ((1, 1, 2, 8, 8), (2, 3, 4, 4, 12), (3, 2, 3, 7, 9), (1, 1, 5, 16, 4), (2, 2, 5, 6, 10))
    return [(c, w, torch.randn(n, c, h, v, generator=rng)) for n, c, w, h, v in cases]


ENCODER = Exercise(
    name="unet.Encoder",
    question=(
        "Mend the module class Encoder(channels, width), so that it hands out what each of its "
        "three levels has found. "
        "`forward(x)` gets a float tensor (N, channels, H, W), H and W at least 4, and returns a "
        "list of three tensors, finest first, each taken behind its ReLU and before it is pooled: "
        "(N, width, H, W), (N, 2 * width, H // 2, W // 2) and (N, 4 * width, H // 4, W // 4). The "
        "layers stay as they are: three convolutions, 3 by 3, padding 1, with bias, and max "
        "pooling by 2. Your weights are overwritten before the check."
    ),
    reference=Encoder,
    make_inputs=_encoder_inputs,
    prepare=_run_encoder,
    wrong={
        "only-the-coarsest": (
            OnlyTheCoarsest,
            "Only the coarsest map comes out, as a tensor: what the finer levels have found is "
            "gone once the next layer has run. Get hold of each of them on the way.",
        ),
        "coarsest-in-a-list": (
            CoarsestInAList,
            "The list holds the coarsest map alone. The two finer ones are missing.",
        ),
        "without-the-coarsest": (
            WithoutTheCoarsest,
            "The coarsest map is missing: the decoder starts from it.",
        ),
        "coarsest-first": (CoarsestFirst, "All three are there, but the finest is to come first."),
        "after-the-pool": (
            AfterThePool,
            "You hand out the finer maps after they were pooled. Then the fine detail, which the "
            "skips are for, is lost already.",
        ),
        "before-the-relu": (
            BeforeTheReLU,
            "You take the maps before their ReLU. Asked for is what stands behind it.",
        ),
        "without-relu": (
            WithoutReLU,
            "The ReLUs are missing. Without them the convolutions are one linear map.",
        ),
        "never-pooled": (
            NeverPooled,
            "All three maps have the size of the image: nothing is pooled between the levels.",
        ),
        "mean-pooled": (MeanPooled, "You pool by the mean. The layers of the question pool by the "
            "maximum."),
        "every-layer": (
            EveryLayer,
            "You hand out the result of every layer. Asked for are three: one for each level.",
        ),
        "input-too": (
            InputToo,
            "Your list begins with the image itself. Asked for is what the three levels make of "
            "it.",
        ),
        "plain-list": (
            PlainList,
            "Your layers stand in a plain list, where the module does not find them: their weights "
            "are not among its parameters, so that no optimizer would train them. Use an "
            "nn.ModuleList.",
        ),
        "skips-cut-off": (
            CutOffSkips,
            "The values are right, but the skips are cut off from the graph (detach, .data, "
            "no_grad): the decoder's gradient would never reach the encoder through them.",
        ),
    },
    hints=(
        "An nn.Sequential keeps nothing of what lies between its layers. `forward` has to call the "
        "levels one by one.",
        "Make three attributes, one for each convolution with its ReLU (or an nn.ModuleList), and "
        "pool between them in `forward`.",
        "After each level append x to a list, then pool x for the next level. Return the list.",
    ),
    why=(
        "What a later layer needs, `forward` must get hold of. An nn.Sequential passes each result "
        "on and forgets it, so the levels stand apart, and the pooling stands between them."
    ),
)  # fmt: skip


# A step of the decoder ----------------------------------------------------------------------------


def decoder_step(x, skip, up, merge):
    x = up(x)
    down, right = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
    x = torch.nn.functional.pad(x, (0, right, 0, down), mode="replicate")
    return merge(torch.cat([skip, x], dim=1))


def _padded_to(x, skip, mode="replicate"):
    missing = (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2])
    return F.pad(x, missing, mode=mode)


def decoder_swapped(x, skip, up, merge):
    return merge(torch.cat([_padded_to(up(x), skip), skip], 1))


def decoder_added(x, skip, up, merge):
    both = skip + _padded_to(up(x), skip)
    return merge(torch.cat([both, both], 1))


def decoder_without_skip(x, skip, up, merge):
    x = _padded_to(up(x), skip)
    return merge(torch.cat([x, x], 1))


def decoder_closed_skip(x, skip, up, merge):
    return merge(torch.cat([torch.zeros_like(skip), _padded_to(up(x), skip)], 1))


def decoder_skip_only(x, skip, up, merge):
    return merge(torch.cat([skip, skip], 1))


def decoder_cropped(x, skip, up, merge):
    x = up(x)
    return merge(torch.cat([skip[:, :, : x.shape[2], : x.shape[3]], x], 1))


def decoder_zeros(x, skip, up, merge):
    return merge(torch.cat([skip, _padded_to(up(x), skip, "constant")], 1))


def decoder_top_left(x, skip, up, merge):
    x = up(x)
    missing = (skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2], 0)
    return merge(torch.cat([skip, F.pad(x, missing, mode="replicate")], 1))


def decoder_resized(x, skip, up, merge):
    return merge(torch.cat([skip, F.interpolate(up(x), skip.shape[2:], mode="bilinear")], 1))


def decoder_only_added(x, skip, up, merge):
    return merge(skip + _padded_to(up(x), skip))


def decoder_without_up(x, skip, up, merge):
    return merge(torch.cat([skip, x], 1))


def decoder_axes_swapped(x, skip, up, merge):
    x = up(x)
    missing = (0, skip.shape[2] - x.shape[2], 0, skip.shape[3] - x.shape[3])
    return merge(torch.cat([skip, F.pad(x, missing, mode="replicate")], 1))


def decoder_even_only(x, skip, up, merge):
    return merge(torch.cat([skip, up(x)], 1))


def decoder_even_only_swapped(x, skip, up, merge):
    return merge(torch.cat([up(x), skip], 1))


def decoder_rows_only(x, skip, up, merge):
    x = up(x)
    x = F.pad(x, (0, 0, 0, skip.shape[2] - x.shape[2]), mode="replicate")
    return merge(torch.cat([skip, x], 1))


def decoder_columns_only(x, skip, up, merge):
    x = up(x)
    x = F.pad(x, (0, skip.shape[3] - x.shape[3], 0, 0), mode="replicate")
    return merge(torch.cat([skip, x], 1))


def decoder_reflected(x, skip, up, merge):
    return merge(torch.cat([skip, _padded_to(up(x), skip, "reflect")], 1))


def decoder_padded_after_merge(x, skip, up, merge):
    return _padded_to(decoder_cropped(x, skip, up, merge), skip)


def decoder_along_the_batch(x, skip, up, merge):
    return merge(torch.cat([skip, _padded_to(up(x), skip)]))


def decoder_unmerged(x, skip, up, merge):
    return torch.cat([skip, _padded_to(up(x), skip)], 1)


def decoder_skip_added_again(x, skip, up, merge):
    return skip + merge(torch.cat([skip, _padded_to(up(x), skip)], 1))


def _decoder_inputs(rng: torch.Generator) -> Inputs:
    cases = []
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
        for n, c, h, w in ((1, 2, 4, 6), (2, 3, 5, 4), (3, 1, 6, 7), (1, 4, 7, 9), (2, 2, 8, 8)):
            up, merge = nn.ConvTranspose2d(2 * c, c, 2, stride=2), nn.Conv2d(2 * c, c, 3, padding=1)
            for layer in (up, merge):
                layer.requires_grad_(False)
            x = torch.randn(n, 2 * c, h // 2, w // 2, generator=rng)
            cases.append((x, torch.randn(n, c, h, w, generator=rng), up, merge))
    return cases


DECODER_STEP = Exercise(
    name="unet.decoder_step",
    question=(
        "Write decoder_step(x, skip, up, merge), one level of the decoder: double the size of the "
        "coarse features, set them beside the skip, and merge the two. "
        "`x` is a float tensor (N, 2C, h, w), `skip` a float tensor (N, C, H, W); `up(x)` gives "
        "(N, C, 2h, 2w); `merge` takes 2C channels, the skip's first. Where H or W is odd, pooling "
        "has rounded down, and `up(x)` is one row or column short: repeat its last row or column "
        "then, so that it is as large as the skip. Return merge's result, (N, C, H, W)."
    ),
    reference=decoder_step,
    make_inputs=_decoder_inputs,
    wrong={
        "order-swapped": (
            decoder_swapped,
            "The channels stand in the other order. `merge` runs without an error, but its weights "
            "meet the wrong features: the skip comes first.",
        ),
        "added-instead-of-concatenated": (
            decoder_added,
            "You add skip and coarse features. Then `merge` cannot tell one from the other; set "
            "them beside each other as channels.",
        ),
        "skip-forgotten": (
            decoder_without_skip,
            "The skip has no influence on your result: the coarse features stand in both places.",
        ),
        "skip-closed": (
            decoder_closed_skip,
            "The skip has no influence on your result: zeros stand where it belongs.",
        ),
        "coarse-features-forgotten": (
            decoder_skip_only,
            "The coarse features have no influence on your result: the skip stands in both places.",
        ),
        "skip-cropped": (
            decoder_cropped,
            "Right for even sizes. For odd ones you cut the skip, so that the result is smaller "
            "than the image. Make the coarse features larger instead.",
        ),
        "padded-with-zeros": (
            decoder_zeros,
            "Right for even sizes. For odd ones you fill up with zeros; asked for is to repeat the "
            "last row or column.",
        ),
        "padded-at-the-wrong-side": (
            decoder_top_left,
            "Right for even sizes. For odd ones you fill up at the top or on the left (or stretch "
            "with mode nearest), which shifts everything. Pooling has dropped the last row or "
            "column, not the first.",
        ),
        "resized": (
            decoder_resized,
            "Right for even sizes. For odd ones you stretch the coarse features, so that they no "
            "longer lie where they belong.",
        ),
        "only-added": (
            decoder_only_added,
            "You add skip and coarse features, so that `merge` gets half of the channels that it "
            "takes. Set them beside each other as channels.",
        ),
        "up-forgotten": (
            decoder_without_up,
            "`up` was never called: the coarse features still have half the size and twice the "
            "channels.",
        ),
        "axes-swapped": (
            decoder_axes_swapped,
            "The axes are swapped: `F.pad` counts from the last axis, so that the first two "
            "numbers are for the width.",
        ),
        "reflected": (
            decoder_reflected,
            "Right for even sizes. For odd ones you repeat the last row or column but one: by "
            "mirroring, or by enlarging before `up`. Repeat the last one of `up(x)`.",
        ),
        "padded-after-merge": (
            decoder_padded_after_merge,
            "Right for even sizes. For odd ones you cut the skip and enlarge the result of "
            "`merge`: there the skip's last row or column is lost. Enlarge `up(x)` instead.",
        ),
        "rows-only": (
            decoder_rows_only,
            "Right as long as the width is even. You repeat the last row, but not the last column.",
        ),
        "columns-only": (
            decoder_columns_only,
            "Right as long as the height is even. You repeat the last column, but not the last "
            "row.",
        ),
        "order-swapped-even-only": (
            decoder_even_only_swapped,
            "Two things. The channels stand in the other order: the skip comes first. And with an "
            "odd size the two do not fit together: see what the question says of it.",
        ),
        "right-only-for-even": (
            decoder_even_only,
            "Right for even sizes. With an odd one the two do not fit together: see what the "
            "question says of it.",
        ),
        "along-the-batch": (
            decoder_along_the_batch,
            "You set the two beside each other along the batch. Channels are axis 1.",
        ),
        "not-merged": (
            decoder_unmerged,
            "The two stand side by side, but `merge` was never called.",
        ),
        "skip-added-again": (
            decoder_skip_added_again,
            "The skip is added to the result once more. That is a residual block; here the result "
            "of `merge` alone is asked for.",
        ),
    },
    hints=(
        "Three calls in this order: `up`, `torch.cat`, `merge`. Between the first two, sizes are "
        "compared.",
        "`F.pad` counts from the last axis: (left, right, top, bottom). How many rows and columns "
        "are missing? mode='replicate' repeats the border.",
        "Concatenate along dim=1, the skip first, and hand the result to `merge`.",
    ),
    why=(
        "The coarse features say what, the skip says where; side by side, a convolution can use "
        "both. The order is a convention, but weights are trained for one."
    ),
)


# Receptive field ----------------------------------------------------------------------------------


def receptive_field():
    width, distance = 1, 1
    level = [(3, 1), (3, 1), (3, 1)]  # kernel and stride of each layer
    for kernel, stride in [*level, (2, 2), *level, (2, 2), *level]:
        width += (kernel - 1) * distance
        distance *= stride
    return float(width)


_STEP_BY_STEP = (
    "Go through it step by step, from the image on: 1, then 3, 5 and 7 after the convolutions of "
    "the first level, 8 after the pooling. From there on a step is two pixels long."
)

RECEPTIVE_FIELD = Exercise(
    name="unet.receptive_field",
    question=(
        "An encoder has three levels of three 3 by 3 convolutions each, with max pooling by 2 "
        "between the levels; how many pixels wide is the square of the image that one value of "
        "the last map can depend on? "
        "Answer with a whole number."
    ),
    reference=receptive_field,
    wrong={
        "pooling-ignored": (
            lambda: 19,
            "This is the field of nine convolutions without any pooling. Behind a pooling, a step "
            "to the next value is a longer step in the image.",
        ),
        "stride-of-pooling-ignored": (
            lambda: 21,
            "You count the pooling as two more kernels. It also doubles every step that comes "
            "after it.",
        ),
        "width-of-pooling-ignored": (
            lambda: 43,
            "Nearly: the steps are right. A pooling is a kernel, too, of width 2, and adds to the "
            "width itself.",
        ),
        "scale-only": (
            lambda: 28,
            "Three convolutions see 7 by 7, four times as far apart: but values that lie 4 pixels "
            "apart see more than a pixel each.",
        ),
        "scale-alone": (
            lambda: 4,
            "A value of the last map stands for 4 by 4 pixels, but it depends on far more of them.",
        ),
        "one-level-less": (lambda: 20, "This is the field at the end of the second level."),
        "one-level-more": (
            lambda: 98,
            "This would be the field at the end of a fourth level.",
        ),
        "one-convolution-a-level": (
            lambda: 18,
            "This is the field with one convolution in each level. There are three.",
        ),
        "two-convolutions-a-level": (
            lambda: 32,
            "This is the field with two convolutions in each level, as in the course's network. "
            "Here there are three.",
        ),
        "last-level-without-convolutions": (
            lambda: 22,
            "This is the field behind the second pooling. Three more convolutions follow.",
        ),
        **{
            f"miscounted-{n}": (lambda n=n: n, _STEP_BY_STEP)
            for n in (
                *range(5, 18),
                *range(23, 28),
                29,
                30,
                31,
                *range(33, 43),
                44,
                45,
                *range(47, 71),
            )
        },
        "area": (lambda: 2116, "This is an area. Asked for is the width of the square."),
    },
    hints=(
        "Go through the layers from the image on. A kernel of width k adds k - 1 steps to the "
        "width; how long is a step?",
        "A step is 1 pixel in the first level, 2 in the second and 4 in the third. Pooling has a "
        "kernel of width 2.",
        "7 after the first level, 8 after its pooling, 20 after the second level.",
    ),
    why=(
        "Each kernel of width k adds k - 1 steps, and each pooling doubles the length of a step. "
        "So the field grows by a constant amount with each convolution, and doubles with each "
        "level."
    ),
)


# Images of any size -------------------------------------------------------------------------------


def at_any_size(model, x, multiple):
    height, width = x.shape[2:]
    down, right = -height % multiple, -width % multiple
    padded = torch.nn.functional.pad(x, (0, right, 0, down), mode="replicate")
    return model(padded)[:, :, :height, :width]


def size_not_padded(model, x, multiple):
    return model(x)


def size_not_cropped(model, x, multiple):
    down, right = -x.shape[2] % multiple, -x.shape[3] % multiple
    return model(F.pad(x, (0, right, 0, down), mode="replicate"))


def size_axes_swapped(model, x, multiple):
    h, w = x.shape[2:]
    padded = F.pad(x, (0, -h % multiple, 0, -w % multiple), mode="replicate")
    return model(padded)[:, :, :h, :w]


def size_zeros(model, x, multiple):
    h, w = x.shape[2:]
    return model(F.pad(x, (0, -w % multiple, 0, -h % multiple)))[:, :, :h, :w]


def size_padded_always(model, x, multiple):
    h, w = x.shape[2:]
    down, right = multiple - h % multiple, multiple - w % multiple
    return model(F.pad(x, (0, right, 0, down), mode="replicate"))[:, :, :h, :w]


def size_remainder(model, x, multiple):
    h, w = x.shape[2:]
    padded = F.pad(x, (0, w % multiple, 0, h % multiple), mode="replicate")
    return model(padded)[:, :, :h, :w]


def size_resized(model, x, multiple):
    h, w = x.shape[2:]
    larger = [n + -n % multiple for n in (h, w)]
    return F.interpolate(model(F.interpolate(x, larger)), (h, w))


def size_wrong_corner(model, x, multiple):
    h, w = x.shape[2:]
    found = model(F.pad(x, (0, -w % multiple, 0, -h % multiple), mode="replicate"))
    return found[:, :, -h:, -w:]


def size_top_left(model, x, multiple):
    h, w = x.shape[2:]
    return model(F.pad(x, (-w % multiple, 0, -h % multiple, 0), mode="replicate"))[:, :, -h:, -w:]


def size_input_cropped(model, x, multiple):
    h, w = (n - n % multiple for n in x.shape[2:])
    return model(x[:, :, :h, :w])


def size_made_square(model, x, multiple):
    h, w = x.shape[2:]
    n = max(h, w) + -max(h, w) % multiple
    return model(F.pad(x, (0, n - w, 0, n - h), mode="replicate"))[:, :, :h, :w]


def size_reflected(model, x, multiple):
    h, w = x.shape[2:]
    padded = F.pad(x, (0, -w % multiple, 0, -h % multiple), mode="reflect")
    return model(padded)[:, :, :h, :w]


def size_circular(model, x, multiple):
    h, w = x.shape[2:]
    padded = F.pad(x, (0, -w % multiple, 0, -h % multiple), mode="circular")
    return model(padded)[:, :, :h, :w]


def size_top_left_cut_at_the_end(model, x, multiple):
    h, w = x.shape[2:]
    padded = F.pad(x, (-w % multiple, 0, -h % multiple, 0), mode="replicate")
    return model(padded)[:, :, :h, :w]


def size_cut_and_stretched(model, x, multiple):
    h, w = x.shape[2:]
    return F.interpolate(size_input_cropped(model, x, multiple), (h, w))


def size_cut_by_minus_zero(model, x, multiple):
    down, right = -x.shape[2] % multiple, -x.shape[3] % multiple
    return model(F.pad(x, (0, right, 0, down), mode="replicate"))[:, :, :-down, :-right]


def size_both_sides(model, x, multiple):
    h, w = x.shape[2:]
    top, left = -h % multiple // 2, -w % multiple // 2
    missing = (left, -w % multiple - left, top, -h % multiple - top)
    found = model(F.pad(x, missing, mode="replicate"))
    return found[:, :, top : top + h, left : left + w]


def size_to_16(model, x, multiple):
    return at_any_size(model, x, 16)


class _Choosy(nn.Module):
    """A model that refuses sizes that are no multiple, and whose answer depends on all it sees."""

    def __init__(self, multiple: int):
        super().__init__()
        self.multiple = multiple

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if any(n % self.multiple or n == 0 for n in x.shape[2:]):
            raise ValueError(
                f"an image of {tuple(x.shape[2:])}: expected multiples of {self.multiple}"
            )
        nearby = F.avg_pool2d(x, 3, 1, 1).sum(1, keepdim=True)
        return torch.cat([nearby, x[:, :1] * x.mean((1, 2, 3), keepdim=True)], 1)


def _sizes(rng: torch.Generator) -> Inputs:
    cases = (
        (1, 1, 8, 12, 4),
        (1, 2, 10, 14, 4),
        (2, 3, 9, 14, 4),
        (1, 2, 5, 7, 2),
        (3, 1, 16, 13, 8),
        (2, 1, 11, 24, 8),
        (1, 1, 3, 20, 16),
    )
    return [(_Choosy(m), torch.randn(n, c, h, w, generator=rng) + 1, m) for n, c, h, w, m in cases]


AT_ANY_SIZE = Exercise(
    name="unet.at_any_size",
    question=(
        "Write at_any_size(model, x, multiple), which calls a model that takes certain sizes only "
        "on an image of any size. "
        "`x` is a float tensor (N, C, H, W); `model` takes images whose height and width are "
        "multiples of the whole number `multiple`, and returns (N, K, height, width). Enlarge `x` "
        "at the bottom and on the right, by repeating its last row and column, to the next "
        "multiples (not at all where the size fits), call the model once, and cut the result back "
        "to (N, K, H, W)."
    ),
    reference=at_any_size,
    make_inputs=_sizes,
    wrong={
        "not-padded": (
            size_not_padded,
            "Right where the size fits by chance. Elsewhere the model refuses the image: enlarge "
            "it first.",
        ),
        "not-cropped": (
            size_not_cropped,
            "The result is as large as the enlarged image. Cut it back to the size of `x`.",
        ),
        "axes-swapped": (
            size_axes_swapped,
            "The axes are swapped: `F.pad` counts from the last axis, so that the first two "
            "numbers are for the width.",
        ),
        "padded-with-zeros": (
            size_zeros,
            "You enlarge with zeros. In a normalised MRI 0 is not black but the mean grey; the "
            "question asks to repeat the border.",
        ),
        "padded-always": (
            size_padded_always,
            "Where the size fits already, you enlarge by a whole multiple more. That costs time, "
            "and can change the result.",
        ),
        "remainder-added": (
            size_remainder,
            "You add the remainder of the division. Missing is what leads up to the next multiple.",
        ),
        "resized": (
            size_resized,
            "You stretch the image. Then every object has another size than in training, and the "
            "mask has to be stretched back. Add pixels at the border instead.",
        ),
        "wrong-corner": (
            size_wrong_corner,
            "You enlarge at the bottom and on the right, but keep the lower right part of the "
            "result: all of it is shifted.",
        ),
        "padded-top-left": (
            size_top_left,
            "You enlarge at the top and on the left. That works too, but the question asks for the "
            "bottom and the right.",
        ),
        "image-cut": (
            size_input_cropped,
            "You cut the image down to the last multiple. What was cut off is never segmented.",
        ),
        "reflected": (
            size_reflected,
            "You mirror the image at its border. The question asks to repeat the last row and "
            "column; a mirror also fails where more is missing than there is.",
        ),
        "circular": (
            size_circular,
            "Right where the size fits already. Elsewhere you enlarge with what stands at the "
            "opposite border (mode circular). Repeat the last row and column.",
        ),
        "padded-top-left-and-cut-there": (
            size_top_left_cut_at_the_end,
            "Right where the size fits already. Elsewhere you enlarge at the top and on the left, "
            "but keep the upper left part of the result: all of it is shifted.",
        ),
        "cut-and-stretched": (
            size_cut_and_stretched,
            "Right where the size is a multiple. Elsewhere you cut the image down and stretch the "
            "answer: what was cut off is never segmented, and all else is shifted.",
        ),
        "minus-zero": (
            size_cut_by_minus_zero,
            "You cut off as many rows and columns as you added, with a negative end of the slice. "
            "Where nothing was added that end is -0, which is 0, and nothing is left.",
        ),
        "padded-on-both-sides": (
            size_both_sides,
            "You enlarge on both sides. That works too, but the question asks for the bottom and "
            "the right.",
        ),
        "made-square": (
            size_made_square,
            "You make the image square. Height and width may differ; each goes to its own next "
            "multiple.",
        ),
        "always-16": (
            size_to_16,
            "You always go to a multiple of 16. How many are needed depends on the model: see the "
            "argument.",
        ),
    },
    hints=(
        "How many rows are missing to the next multiple? None if the remainder is 0.",
        "In Python -n % m is what n lacks to the next multiple of m.",
        "`F.pad` counts from the last axis (left, right, top, bottom); mode='replicate' repeats "
        "the border. How much of the model's result belongs to `x`?",
    ),
    why=(
        "Each pooling halves, so sizes must be divisible by 2 to the number of poolings. Repeating "
        "the border adds no edge that the network could take for something."
    ),
)


# Soft Dice loss -----------------------------------------------------------------------------------


def soft_dice_loss(logits, masks):
    p = torch.sigmoid(logits).flatten(1)
    t = masks.flatten(1).float()
    overlap = (p * t).sum(1)
    score = (2 * overlap + 1) / (p.sum(1) + t.sum(1) + 1)
    return (1 - score).mean()


def _soft(logits, masks):
    return torch.sigmoid(logits).flatten(1), masks.flatten(1).float()


def dice_pooled(logits, masks):
    p, t = _soft(logits, masks)
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def dice_ratio_of_sums(logits, masks):
    p, t = _soft(logits, masks)
    return 1 - (2 * (p * t).sum(1) + 1).sum() / (p.sum(1) + t.sum(1) + 1).sum()


def _two_classes(logits, masks):
    """Background and object as two classes: overlaps and both areas together, (N, 2)."""
    p, t = _soft(logits, masks)
    p, t = torch.stack([1 - p, p], 1), torch.stack([1 - t, t], 1)
    return (p * t).sum(2), (p + t).sum(2)


def dice_of_two_classes(logits, masks):
    both, areas = _two_classes(logits, masks)
    return (1 - (2 * both + 1).sum(1) / (areas + 1).sum(1)).mean()


def dice_of_two_classes_with_one(logits, masks):
    both, areas = _two_classes(logits, masks)
    return (1 - (2 * both.sum(1) + 1) / (areas.sum(1) + 1)).mean()


def dice_mean_of_two_classes(logits, masks):
    both, areas = _two_classes(logits, masks)
    return (1 - (2 * both + 1) / (areas + 1)).mean()


def dice_rows_as_classes(logits, masks):
    p, t = torch.sigmoid(logits), masks.float()
    above, below = 2 * (p * t).sum(2) + 1, p.sum(2) + t.sum(2) + 1
    return (1 - above.sum(1) / below.sum(1)).mean()


def dice_without_smoothing(logits, masks):
    p, t = _soft(logits, masks)
    return (1 - 2 * (p * t).sum(1) / (p.sum(1) + t.sum(1))).mean()


def dice_smoothed_below_only(logits, masks):
    p, t = _soft(logits, masks)
    return (1 - 2 * (p * t).sum(1) / (p.sum(1) + t.sum(1) + 1)).mean()


def dice_smoothed_little(logits, masks):
    p, t = _soft(logits, masks)
    return (1 - (2 * (p * t).sum(1) + 1e-5) / (p.sum(1) + t.sum(1) + 1e-5)).mean()


def dice_one_for_each_area(logits, masks):
    p, t = _soft(logits, masks)
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + 1 + t.sum(1) + 1)).mean()


def dice_of_a_mask(logits, masks):
    return dice_hard(logits.detach(), masks)


def dice_softmax_over_images(logits, masks):
    p, t = logits.softmax(0).flatten(1), masks.flatten(1).float()
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def dice_softmax_over_rows(logits, masks):
    p, t = logits.softmax(1).flatten(1), masks.flatten(1).float()
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def dice_hard(logits, masks):
    p, t = (logits > 0).flatten(1).float(), masks.flatten(1).float()
    score = (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)
    return (1 - score).mean() + 0 * logits.sum()


def dice_score_returned(logits, masks):
    return 1 - soft_dice_loss(logits, masks)


def dice_negative(logits, masks):
    return soft_dice_loss(logits, masks) - 1


def dice_of_accuracy(logits, masks):
    p, t = _soft(logits, masks)
    return 1 - (p * t + (1 - p) * (1 - t)).mean()


def dice_without_sigmoid(logits, masks):
    p, t = logits.flatten(1), masks.flatten(1).float()
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def dice_without_two(logits, masks):
    p, t = _soft(logits, masks)
    return (1 - ((p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def dice_softmax(logits, masks):
    p, t = logits.flatten(1).softmax(1), masks.flatten(1).float()
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def dice_of_iou(logits, masks):
    p, t = _soft(logits, masks)
    both = (p * t).sum(1)
    return (1 - (both + 1) / (p.sum(1) + t.sum(1) - both + 1)).mean()


def dice_squares(logits, masks):
    p, t = _soft(logits, masks)
    return (1 - (2 * (p * t).sum(1) + 1) / (p.square().sum(1) + t.sum(1) + 1)).mean()


def dice_for_each(logits, masks):
    p, t = _soft(logits, masks)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)


def dice_summed(logits, masks):
    return soft_dice_loss(logits, masks) * len(logits)


def dice_by_row(logits, masks):
    p, t = torch.sigmoid(logits), masks.float()
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def dice_as_number(logits, masks):
    return soft_dice_loss(logits, masks).item()


def dice_softmax_over_columns(logits, masks):
    p, t = logits.softmax(2).flatten(1), masks.flatten(1).float()
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def dice_one_doubled(logits, masks):
    p, t = _soft(logits, masks)
    return (1 - 2 * ((p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def dice_of_means(logits, masks):
    p, t = _soft(logits, masks)
    return (1 - (2 * (p * t).mean(1) + 1) / (p.mean(1) + t.mean(1) + 1)).mean()


def dice_and_entropy(logits, masks):
    return soft_dice_loss(logits, masks) + F.binary_cross_entropy_with_logits(logits, masks.float())


def dice_over_images(logits, masks):
    p, t = _soft(logits, masks)
    return (1 - (2 * (p * t).sum(0) + 1) / (p.sum(0) + t.sum(0) + 1)).mean()


def dice_detached(logits, masks):
    return soft_dice_loss(logits.detach(), masks)


def _run_loss(candidate: Any) -> Callable[..., Any]:
    """The loss, and the gradient that it sends to the logits: None where there is none."""

    def run(logits: torch.Tensor, masks: torch.Tensor) -> Any:
        loss_function = candidate() if isinstance(candidate, type) else candidate
        with torch.enable_grad():
            leaf = logits.clone().requires_grad_()
            loss = loss_function(leaf, masks)
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or loss.ndim:
                return loss
            if not loss.requires_grad:
                return loss.detach(), "no gradient"
            (found,) = torch.autograd.grad(loss, leaf, allow_unused=True)
        return loss.detach(), found

    return run


def _loss_inputs(rng: torch.Generator) -> Inputs:
    cases = []
    for n, h, w in ((1, 2, 2), (2, 4, 3), (3, 5, 5), (2, 6, 4), (4, 3, 7)):
        masks = (torch.rand(n, h, w, generator=rng) < 0.4).to(torch.uint8)
        masks[0, 0, 0] = 1
        logits = 2 * torch.randn(n, h, w, generator=rng)
        if n > 1:  # nothing there, nothing found
            masks[1], logits[1] = 0, -40.0
        cases.append((logits, masks))
    return cases


SOFT_DICE_LOSS = Exercise(
    name="unet.soft_dice_loss",
    question=(
        "Write soft_dice_loss(logits, masks): one minus Dice, with probabilities in place of a "
        "mask, so that it has a gradient. "
        "`logits` is a float tensor (N, H, W), `masks` a uint8 tensor (N, H, W) of 0 and 1. For "
        "each image, Dice is (2 * overlap + 1) / (area + area + 1): the overlap is the sum of p "
        "times mask over its pixels, the areas are the sums of p and of the mask, and the ones "
        "keep it defined where both are empty. p is the sigmoid of the logit. Return the mean of "
        "1 - Dice over the images: a tensor without axes, through which gradients reach the logits."
    ),
    reference=soft_dice_loss,
    make_inputs=_loss_inputs,
    prepare=_run_loss,
    wrong={
        "summed-over-the-batch": (
            dice_pooled,
            "Right for a single image. You sum over the batch as well, so that large objects drown "
            "small ones. (The course's own loss does that on purpose; here each image counts "
            "alike.)",
        ),
        "ratio-of-sums": (
            dice_ratio_of_sums,
            "Right for a single image. You add up what stands above the line over all images, and "
            "what stands below, and divide once. Asked for is a Dice for each image, and then the "
            "mean.",
        ),
        "background-as-a-class": (
            dice_of_two_classes,
            "You take the background for a second class, and divide the sum of what stands above "
            "the line over both classes by the sum of what stands below. Here the object alone is "
            "scored.",
        ),
        "background-as-a-class-with-one": (
            dice_of_two_classes_with_one,
            "You take the background for a second class, and sum over both classes before you "
            "divide. Here the object alone is scored.",
        ),
        "background-averaged-in": (
            dice_mean_of_two_classes,
            "This is the mean of two scores: that of the object and that of the background. Here "
            "the object alone is scored.",
        ),
        "rows-as-classes": (
            dice_rows_as_classes,
            "You take axis 1 for classes, and add 1 for each of them before you sum over it. It is "
            "the height: there is one 1 above and one below for each image.",
        ),
        "no-smoothing": (
            dice_without_smoothing,
            "The two ones are missing. Where nothing is and nothing is found, your fraction is 0 / "
            "0 or next to it: the loss is NaN or 1, although the answer is right.",
        ),
        "smoothed-below-only": (
            dice_smoothed_below_only,
            "The one above the line is missing: an empty answer to an empty mask, which is right, "
            "costs the full 1.",
        ),
        "hard-threshold": (
            dice_hard,
            "The threshold makes a mask of 0 and 1, and the gradient is zero everywhere: training "
            "would not move. Use the probabilities.",
        ),
        "thresholded": (
            dice_of_a_mask,
            "You cut the logits or the probabilities at a threshold. A mask of 0 and 1 has no "
            "gradient: use the probabilities.",
        ),
        "other-smoothing": (
            dice_smoothed_little,
            "The small number above and below the line is another one: the question asks for 1.",
        ),
        "one-for-each-area": (
            dice_one_for_each_area,
            "You add 1 to each of the two areas. One 1 below the line, and one above.",
        ),
        "softmax-over-images": (
            dice_softmax_over_images,
            "A softmax over the images makes them compete. Each pixel answers for itself: a "
            "sigmoid.",
        ),
        "softmax-over-rows": (
            dice_softmax_over_rows,
            "A softmax over axis 1, which is the height here: there is no axis of classes. Each "
            "pixel answers for itself: a sigmoid.",
        ),
        "softmax-over-columns": (
            dice_softmax_over_columns,
            "A softmax over the last axis makes the pixels of a row compete. Each pixel answers "
            "for itself: a sigmoid.",
        ),
        "plain-number": (
            dice_as_number,
            "The value is right, but it is a plain number (.item() or float): gradients need the "
            "tensor.",
        ),
        "one-doubled": (
            dice_one_doubled,
            "Your 2 also doubles the one above the line. Only the overlap is doubled.",
        ),
        "means-for-sums": (
            dice_of_means,
            "Overlap and areas are sums over the pixels. You take means, next to which the ones "
            "are far too large.",
        ),
        "cross-entropy-added": (
            dice_and_entropy,
            "You add the cross-entropy. That is the course's way to train; here the Dice loss "
            "alone is asked for.",
        ),
        "sums-over-images": (
            dice_over_images,
            "You sum over the images and score each pixel by itself. Sum over the pixels of each "
            "image: after `flatten(1)` they lie along axis 1.",
        ),
        "one-minus-missing": (
            dice_score_returned,
            "This is Dice itself. Minimising it would make the segmentation as bad as possible.",
        ),
        "negative-dice": (
            dice_negative,
            "This is minus Dice. Its gradient is the right one, but asked for is 1 - Dice, which "
            "is 0 for a perfect answer.",
        ),
        "accuracy-instead-of-dice": (
            dice_of_accuracy,
            "This counts the background, too: it is a soft accuracy, which an empty answer to a "
            "small object hardly hurts.",
        ),
        "sigmoid-missing": (
            dice_without_sigmoid,
            "The logits are no probabilities: they can be negative. The sigmoid is missing.",
        ),
        "factor-two-missing": (
            dice_without_two,
            "The 2 before the overlap is missing: a perfect answer would cost one half.",
        ),
        "softmax-over-pixels": (
            dice_softmax,
            "Your probabilities of an image sum to one: a softmax over its pixels. Each pixel "
            "answers for itself: a sigmoid.",
        ),
        "iou-instead-of-dice": (
            dice_of_iou,
            "This is the soft IoU (Jaccard) loss: the overlap is removed from the denominator.",
        ),
        "squared-probabilities": (
            dice_squares,
            "You square the probabilities below the line. That is the variant of V-Net; asked for "
            "are plain sums.",
        ),
        "one-loss-for-each": (
            dice_for_each,
            "This is a loss for each image. Return their mean: `backward` needs a single number.",
        ),
        "summed-not-averaged": (
            dice_summed,
            "Right for a single image. You sum over the images; asked for is the mean.",
        ),
        "by-row": (
            dice_by_row,
            "You sum over one spatial axis only, and score each column by itself.",
        ),
        "cut-off-from-the-graph": (
            dice_detached,
            "The value is right, but no gradient reaches the logits (detach, .item(), .data or a "
            "trip through NumPy on the way).",
        ),
    },
    hints=(
        "Probabilities first. Then sums over height and width, and not over the images.",
        "`flatten(1)` makes a row of each image; sums over dim 1 are then sums over its pixels.",
        "Three sums for each image: of p * t, of p and of t. Each of the two ones is added once, "
        "after the sums. The mean comes last.",
    ),
    why=(
        "Dice with probabilities can be differentiated. The ones make the empty case 1/1: right, "
        "loss 0, and no division by zero."
    ),
)


# Dice of whole volumes ----------------------------------------------------------------------------


def volume_dice(prediction, truth, depths):
    scores = []
    for p, t in zip(prediction.split(depths), truth.split(depths), strict=True):
        area = p.sum() + t.sum()
        scores.append(2 * (p & t).sum() / area if area > 0 else torch.tensor(1.0))
    return torch.stack(scores)


def _volume_score(p, t, empty=1.0):
    area = int(p.sum()) + int(t.sum())
    return 2 * int((p & t).sum()) / area if area else empty


def _each(prediction, truth, depths):
    return zip(prediction.split(depths), truth.split(depths), strict=True)


def volumes_pooled(prediction, truth, depths):
    return torch.tensor([_volume_score(prediction, truth)] * len(depths))


def slices_scored(prediction, truth, depths):
    return torch.tensor([_volume_score(p, t) for p, t in zip(prediction, truth, strict=True)])


def slices_averaged(prediction, truth, depths):
    return torch.stack([slices_scored(p, t, [1] * len(p)).mean() for p, t in
                        _each(prediction, truth, depths)])  # fmt: skip


def slices_with_truth(prediction, truth, depths):
    means = []
    for p, t in _each(prediction, truth, depths):
        there = t.flatten(1).any(1)
        scores = slices_scored(p, t, [1] * len(p))
        means.append(scores[there].mean() if there.any() else torch.tensor(1.0))
    return torch.stack(means)


def empty_is_nan(prediction, truth, depths):
    return torch.tensor([_volume_score(p, t, float("nan")) for p, t in
                         _each(prediction, truth, depths)])  # fmt: skip


def empty_is_zero(prediction, truth, depths):
    return torch.tensor([_volume_score(p, t, 0.0) for p, t in _each(prediction, truth, depths)])


def empty_truth_is_right(prediction, truth, depths):
    return torch.tensor([_volume_score(p, t) if t.any() else 1.0 for p, t in
                         _each(prediction, truth, depths)])  # fmt: skip


def mean_over_volumes(prediction, truth, depths):
    return volume_dice(prediction, truth, depths).mean()


def equal_depths(prediction, truth, depths):
    n = -(-len(prediction) // len(depths))
    pairs = zip(prediction.split(n), truth.split(n), strict=True)
    return torch.tensor([_volume_score(p, t) for p, t in pairs])


def equal_parts_rounded_down(prediction, truth, depths):
    n = len(prediction) // len(depths)
    cuts = [slice(i * n, (i + 1) * n) for i in range(len(depths))]
    return torch.tensor([_volume_score(prediction[cut], truth[cut]) for cut in cuts])


def equal_parts_and_more(prediction, truth, depths):
    n = len(prediction) // len(depths)
    pairs = zip(prediction.split(n), truth.split(n), strict=True)
    return torch.tensor([_volume_score(p, t) for p, t in pairs])


def _in_rows(prediction, truth, *shape):
    pairs = zip(prediction.reshape(*shape), truth.reshape(*shape), strict=True)
    return torch.tensor([_volume_score(p, t) for p, t in pairs])


def equal_rows_of_pixels(prediction, truth, depths):
    return _in_rows(prediction, truth, len(depths), -1)


def equal_rows_of_slices(prediction, truth, depths):
    return _in_rows(prediction, truth, len(depths), -1, *truth.shape[1:])


def equal_rows_of_so_many_slices(prediction, truth, depths):
    return _in_rows(prediction, truth, len(depths), len(truth) // len(depths), *truth.shape[1:])


def parts_of_the_first_depth(prediction, truth, depths):
    pairs = zip(prediction.split(depths[0]), truth.split(depths[0]), strict=True)
    return torch.tensor([_volume_score(p, t) for p, t in pairs])


def as_many_parts_of_the_first_depth(prediction, truth, depths):
    cuts = [slice(i * depths[0], (i + 1) * depths[0]) for i in range(len(depths))]
    return torch.tensor([_volume_score(prediction[cut], truth[cut]) for cut in cuts])


def start_by_own_depth(prediction, truth, depths):
    cuts = [slice(i * d, (i + 1) * d) for i, d in enumerate(depths)]
    return torch.tensor([_volume_score(prediction[cut], truth[cut]) for cut in cuts])


def start_never_moved(prediction, truth, depths):
    return torch.tensor([_volume_score(prediction[:d], truth[:d]) for d in depths])


def filled_slices_averaged(prediction, truth, depths):
    means = []
    for p, t in _each(prediction, truth, depths):
        there = (p | t).flatten(1).any(1)
        scores = slices_scored(p, t, [1] * len(p))
        means.append(scores[there].mean() if there.any() else torch.tensor(1.0))
    return torch.stack(means)


def nan_mean_over_slices(prediction, truth, depths):
    means = []
    for p, t in _each(prediction, truth, depths):
        scores = [_volume_score(a, b, float("nan")) for a, b in zip(p, t, strict=True)]
        means.append(torch.tensor(scores).nanmean())
    return torch.stack(means)


def nan_mean_over_slices_with_truth(prediction, truth, depths):
    means = []
    for p, t in _each(prediction, truth, depths):
        scores = slices_scored(p, t, [1] * len(p))
        scores[~t.flatten(1).any(1)] = float("nan")
        means.append(scores.nanmean())
    return torch.stack(means)


def depths_as_places(prediction, truth, depths):
    scores, begin = [], 0
    for end in depths:
        scores.append(_volume_score(prediction[begin:end], truth[begin:end]))
        begin = end
    return torch.tensor(scores)


def volume_iou(prediction, truth, depths):
    found = volume_dice(prediction, truth, depths)
    return found / (2 - found)


def volume_accuracy(prediction, truth, depths):
    return torch.stack([(p == t).float().mean() for p, t in _each(prediction, truth, depths)])


def _stacks(rng: torch.Generator) -> Inputs:
    cases = []
    for depths, h, w in (([2], 3, 4), ([3, 5], 4, 4), ([4, 2, 3], 5, 3), ([1, 6, 2, 2], 4, 6)):
        truth = torch.rand(sum(depths), h, w, generator=rng) < 0.4
        prediction = truth ^ (torch.rand(sum(depths), h, w, generator=rng) < 0.25)
        truth[0, 0, 0], prediction[0, 0, :2] = True, True
        if len(depths) > 1:
            begin = sum(depths[:-1])
            truth[begin:], prediction[begin:] = False, False  # nothing there, nothing found
            truth[depths[0]], prediction[depths[0]] = False, False  # an empty slice in a volume
            truth[depths[0] + 1 : begin, 0, 0] = True
        if len(depths) > 3:  # a false alarm
            truth[-depths[-1] - depths[-2] : -depths[-1]] = False
            prediction[-depths[-1] - 1, 1, 1] = True
        cases.append((prediction, truth, depths))
    return cases


def volume_without_two_but_empty(prediction, truth, depths):
    return torch.tensor([_volume_score(p, t, 2.0) / 2 if p.any() or t.any() else 1.0 for p, t in
                         _each(prediction, truth, depths)])  # fmt: skip


def volume_smoothed(prediction, truth, depths):
    return torch.stack([(2 * (p & t).sum() + 1) / (p.sum() + t.sum() + 1) for p, t in
                        _each(prediction, truth, depths)])  # fmt: skip


def volumes_in_one_number(prediction, truth, depths):
    return torch.tensor(_volume_score(prediction, truth))


def volumes_in_one_row(prediction, truth, depths):
    return torch.tensor([_volume_score(prediction, truth)])


def volumes_in_a_plain_number(prediction, truth, depths):
    return _volume_score(prediction, truth)


VOLUME_DICE = Exercise(
    name="unet.volume_dice",
    question=(
        "Write volume_dice(prediction, truth, depths), which gives the Dice of each volume, when "
        "the slices of all volumes lie in one stack. "
        "`prediction` and `truth` are bool tensors (S, H, W); `depths` is a list of whole numbers: "
        "the first `depths[0]` slices are volume 0, the next `depths[1]` are volume 1, and so on; "
        "they sum to S. Return a float tensor (V,), one Dice for each of the V volumes. A volume "
        "that is empty in both counts 1; no small number is added elsewhere (one as small as 1e-5 "
        "would not be noticed here)."
    ),
    reference=volume_dice,
    make_inputs=_stacks,
    wrong={
        "pooled-over-volumes": (
            volumes_pooled,
            "All volumes stand in one pot: each gets the same number. Score each by itself.",
        ),
        "one-for-each-slice": (
            slices_scored,
            "This is a Dice for each slice. Asked for is one for each volume.",
        ),
        "mean-over-slices": (
            slices_averaged,
            "You score each slice and take the mean over a volume. Then an empty slice counts as "
            "much as the largest one, and the empty ones, which are easy, lift the score.",
        ),
        "mean-over-slices-with-truth": (
            slices_with_truth,
            "You take the mean over the slices that hold something. A tiny slice counts as much as "
            "a large one, and false alarms in empty slices are not seen.",
        ),
        "empty-is-nan": (
            empty_is_nan,
            "Right where something is there. Where both are empty you divide 0 by 0; the question "
            "says what that is worth.",
        ),
        "empty-is-zero": (
            empty_is_zero,
            "Right where something is there. Where both are empty your volume counts 0, although "
            "the answer is right.",
        ),
        "false-alarm-forgiven": (
            empty_truth_is_right,
            "You count 1 wherever the truth is empty, also for a false alarm. That holds only if "
            "the prediction is empty as well.",
        ),
        "mean-over-volumes": (
            mean_over_volumes,
            "This is the mean over the volumes. Asked for is a number for each of them.",
        ),
        "equal-depths": (
            equal_depths,
            "You cut the stack into equal parts. The volumes differ in depth.",
        ),
        "equal-parts-rounded-down": (
            equal_parts_rounded_down,
            "You cut the stack into equal parts. The volumes differ in depth.",
        ),
        "equal-parts-and-more": (
            equal_parts_and_more,
            "You cut the stack into equal parts, and where the slices do not divide there is a "
            "part too many. The volumes differ in depth.",
        ),
        "equal-rows-of-pixels": (
            equal_rows_of_pixels,
            "You reshape the stack into rows with equally many pixels. The volumes differ in "
            "depth.",
        ),
        "equal-rows-of-slices": (
            equal_rows_of_slices,
            "You reshape the stack into parts with equally many slices. The volumes differ in "
            "depth.",
        ),
        "equal-rows-of-so-many-slices": (
            equal_rows_of_so_many_slices,
            "You reshape the stack into parts with equally many slices. The volumes differ in "
            "depth.",
        ),
        "parts-of-the-first-depth": (
            parts_of_the_first_depth,
            "You cut the whole stack into parts as deep as volume 0. The other volumes differ in "
            "depth.",
        ),
        "as-many-parts-of-the-first-depth": (
            as_many_parts_of_the_first_depth,
            "You take as many slices for each volume as volume 0 has. The other volumes differ in "
            "depth.",
        ),
        "start-by-own-depth": (
            start_by_own_depth,
            "You multiply the number of a volume by its own depth to find where it begins. It "
            "begins where the one before it ends.",
        ),
        "start-never-moved": (
            start_never_moved,
            "Each of your volumes begins at slice 0. A volume begins where the one before it ends.",
        ),
        "mean-over-filled-slices": (
            filled_slices_averaged,
            "You take the mean over the slices in which prediction or truth hold something. A tiny "
            "slice then counts as much as a large one: sum over the whole volume first.",
        ),
        "nan-mean-over-slices": (
            nan_mean_over_slices,
            "You score each slice and take the mean without those that are empty in both. A tiny "
            "slice then counts as much as a large one, and a volume that is empty in both is NaN: "
            "score the whole volume at once.",
        ),
        "nan-mean-over-slices-with-truth": (
            nan_mean_over_slices_with_truth,
            "You score each slice and take the mean over those that hold truth. A tiny slice then "
            "counts as much as a large one, false alarms elsewhere are not seen, and a volume "
            "without truth is NaN: score the whole volume at once.",
        ),
        "depths-as-places": (
            depths_as_places,
            "You take the depths for places in the stack. They are lengths: a volume begins where "
            "all earlier ones end.",
        ),
        "iou-instead-of-dice": (volume_iou, "This is the IoU of each volume."),
        "accuracy-instead-of-dice": (
            volume_accuracy,
            "This is the share of right pixels. Dice does not count the background.",
        ),
        "smoothed": (
            volume_smoothed,
            "You add 1 above and below, as the loss does. A metric is exact: only a volume that is "
            "empty in both has a rule of its own.",
        ),
        "pooled-to-one-number": (
            volumes_in_one_number,
            "All volumes stand in one pot, and one number comes out. Score each by itself.",
        ),
        "pooled-to-one-row": (
            volumes_in_one_row,
            "Right for a single volume. All volumes stand in one pot, and one number comes out. "
            "Score each by itself.",
        ),
        "pooled-to-a-plain-number": (
            volumes_in_a_plain_number,
            "All volumes stand in one pot, and one plain Python number comes out. Score each by "
            "itself, and return a tensor.",
        ),
        "factor-two-missing": (
            volume_without_two_but_empty,
            "The 2 before the overlap is missing: a perfect answer would count one half.",
        ),
    },
    hints=(
        "`split` takes a list of lengths and cuts a tensor into such parts.",
        "Loop over the parts of prediction and truth together. Sum over all slices of a part.",
        "Twice the sum of (p & t), over the sum of p plus the sum of t; 1 where that is 0. "
        "Stack the numbers.",
    ),
    why=(
        "A patient is a volume, not a slice. So the slices of a volume are one mask, and each "
        "volume counts alike."
    ),
)


# In the order in which the chapter asks them.
EXERCISES = (
    BLOCK_PARAMETERS,
    TRANSPOSED_CONVOLUTION,
    ENCODER,
    DECODER_STEP,
    RECEPTIVE_FIELD,
    AT_ANY_SIZE,
    SOFT_DICE_LOSS,
    VOLUME_DICE,
)
