"""Exercises of chapter 07: a residual block, thresholds, calibration."""

# The right and the wrong answers are code as a learner would write it in a notebook: they import
# what they need besides torch themselves, and a solution is shown as it stands here.

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .engine import Exercise, Inputs
from .preparing import NotAModule, module_from

# A residual block with any gate ------------------------------------------------------------------


class Block(torch.nn.Module):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__()
        nn = torch.nn
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.gate = attention(channels) if attention else nn.Identity()
        self.shortcut = nn.Sequential()  # without layers: x as it is
        if stride != 1 or in_channels != channels:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x):
        return torch.relu(self.gate(self.branch(x)) + self.shortcut(x))


class GateAfterTheAddition(Block):
    def forward(self, x):
        return self.gate(self.branch(x) + self.shortcut(x)).relu()


class GateAtTheEnd(Block):
    def forward(self, x):
        return self.gate((self.branch(x) + self.shortcut(x)).relu())


class GateOnTheShortcut(Block):
    def forward(self, x):
        return (self.branch(x) + self.gate(self.shortcut(x))).relu()


class GateOnBoth(Block):
    def forward(self, x):
        return (self.gate(self.branch(x)) + self.gate(self.shortcut(x))).relu()


class GateBeforeTheLastNorm(Block):
    def forward(self, x):
        y = self.gate(self.branch[:4](x))
        return (self.branch[4](y) + self.shortcut(x)).relu()


class GateAfterTheFirstNorm(Block):
    def forward(self, x):
        y = self.gate(self.branch[:3](x))
        return (self.branch[3:](y) + self.shortcut(x)).relu()


class GateTwice(Block):
    def forward(self, x):
        y = self.branch(x)
        return (self.gate(y) * y + self.shortcut(x)).relu()


class GateTwiceWhereThereIsOne(Block):
    def forward(self, x):
        y = self.branch(x)
        if not isinstance(self.gate, nn.Identity):
            y = self.gate(y) * y
        return (y + self.shortcut(x)).relu()


class GateOfTheInput(Block):
    def forward(self, x):
        y = self.branch(x)
        if not isinstance(self.gate, nn.Identity):
            y = self.gate(x) * y
        return (y + self.shortcut(x)).relu()


class GateBeforeTheBranch(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.gate = attention(in_channels) if attention else nn.Identity()

    def forward(self, x):
        return (self.branch(self.gate(x)) + self.shortcut(x)).relu()


class GateBeforeTheBranchMisbuilt(Block):
    def forward(self, x):
        return (self.branch(self.gate(x)) + self.shortcut(x)).relu()


class GateNotRegistered(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, None)
        self.gates = [attention(channels)] if attention else [nn.Identity()]

    def forward(self, x):
        return (self.gates[0](self.branch(x)) + self.shortcut(x)).relu()


class ReLUBeforeTheFirstNorm(Block):
    def forward(self, x):
        y = self.branch[1](self.branch[0](x).relu())
        return (self.gate(self.branch[3:](y)) + self.shortcut(x)).relu()


class ReLUBeforeTheLastNorm(Block):
    def forward(self, x):
        y = self.branch[4](self.branch[:4](x).relu())
        return (self.gate(y) + self.shortcut(x)).relu()


class ReLUOnTheShortcut(Block):
    def forward(self, x):
        return (self.gate(self.branch(x)) + self.shortcut(x).relu()).relu()


class ReLUOnTheProjection(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        if len(self.shortcut):
            self.shortcut.append(nn.ReLU())


class FirstNormUnused(Block):
    def forward(self, x):
        y = self.branch[2:](self.branch[0](x))
        return (self.gate(y) + self.shortcut(x)).relu()


class LastNormUnused(Block):
    def forward(self, x):
        return (self.gate(self.branch[:4](x)) + self.shortcut(x)).relu()


class OneNormForBoth(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.branch[4] = self.branch[1]


class ConvolutionsWithBias(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.branch[0] = nn.Conv2d(in_channels, channels, 3, stride, padding=1)
        self.branch[3] = nn.Conv2d(channels, channels, 3, padding=1)


class WithoutPadding(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.branch[0] = nn.Conv2d(in_channels, channels, 3, stride, bias=False)
        self.branch[3] = nn.Conv2d(channels, channels, 3, bias=False)


class FirstWithoutPadding(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.branch[0] = nn.Conv2d(in_channels, channels, 3, stride, bias=False)


class SecondWithoutPadding(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.branch[3] = nn.Conv2d(channels, channels, 3, bias=False)


class WithoutGate(Block):
    def forward(self, x):
        return (self.branch(x) + self.shortcut(x)).relu()


class WithoutShortcut(Block):
    def forward(self, x):
        return self.gate(self.branch(x)).relu()


class WithoutLastReLU(Block):
    def forward(self, x):
        return self.gate(self.branch(x)) + self.shortcut(x)


class ReLUBeforeTheAddition(Block):
    def forward(self, x):
        return self.gate(self.branch(x)).relu() + self.shortcut(x)


class ReLUTwice(Block):
    def forward(self, x):
        return (self.gate(self.branch(x).relu()) + self.shortcut(x)).relu()


class WithoutInnerReLU(Block):
    def forward(self, x):
        y = self.branch[3:](self.branch[:2](x))
        return (self.gate(y) + self.shortcut(x)).relu()


class StrideLater(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.branch[0] = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.branch[3] = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)


class StrideInBoth(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.branch[3] = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)


class ShortcutPooled(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        if len(self.shortcut):
            self.shortcut[0] = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True),
                nn.Conv2d(in_channels, channels, 1, bias=False),
            )


class ShortcutWithoutNorm(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        if len(self.shortcut):
            self.shortcut = self.shortcut[:1]


class ShortcutWithBiasForNorm(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        if len(self.shortcut):
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride))


class BiasesAndShortcutWithoutNorm(ConvolutionsWithBias):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        if len(self.shortcut):
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride))


class ShortcutAlwaysProjected(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        conv = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
        self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels))


class ProjectedForTheStrideAlone(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        if stride == 1:
            self.shortcut = nn.Sequential()


class ProjectedForTheChannelsAlone(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        if in_channels == channels:
            self.shortcut = nn.Sequential()


class NoneNotExpected(Block):
    def __init__(self, in_channels, channels, stride, attention):
        super().__init__(in_channels, channels, stride, attention)
        self.gate = attention(channels)


class MeanGate(nn.Module):
    """A gate for the check: each channel by the sigmoid of its mean, times a weight.

    The check overwrites the weights of a block. A gate that is no part of it keeps its own.
    """

    called = False

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.factor = nn.Parameter(torch.full((channels,), 3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != self.channels:
            raise ValueError(
                f"The gate was built for {self.channels} channels and got {x.shape[1]}."
            )
        MeanGate.called = True
        return x * (self.factor[:, None, None] * x.mean((2, 3), keepdim=True) + 0.3).sigmoid()


def _run_block(candidate: Any) -> Callable[..., Any]:
    def run(
        in_channels: int, channels: int, stride: int, attention: Any, x: torch.Tensor, mode: str
    ) -> Any:
        block = module_from(candidate, in_channels, channels, stride, attention)
        before, MeanGate.called = x.clone(), False
        found = block(x)
        if MeanGate.called and not any(isinstance(part, MeanGate) for part in block.modules()):
            return "the gate is no part of the module"
        again = block(before)
        if isinstance(found, torch.Tensor) and not torch.allclose(found, again, equal_nan=True):
            raise NotAModule(
                "Two calls with the same batch give different results. Does `forward` create "
                "layers? Their weights are new in each call and never trained: create them in "
                "`__init__`."
            )
        # In training mode a norm hides the bias before it, and one norm would do for two places.
        return found if mode == "train" else block.eval()(x)

    return run


def _block_inputs(rng: torch.Generator) -> Inputs:
    cases = (
        (3, 3, 1, MeanGate, (2, 3, 5, 6), "train"),
        (2, 4, 1, MeanGate, (3, 2, 4, 4), "train"),
        (4, 4, 2, MeanGate, (2, 4, 6, 8), "train"),
        (2, 6, 2, MeanGate, (1, 2, 8, 6), "train"),
        (3, 5, 3, MeanGate, (2, 3, 9, 6), "train"),
        (3, 3, 1, None, (2, 3, 4, 7), "train"),
        (2, 4, 2, None, (2, 2, 6, 4), "train"),
        (3, 3, 1, MeanGate, (2, 3, 6, 5), "eval"),
        (2, 4, 2, None, (3, 2, 4, 6), "eval"),
    )
    return [
        (a, b, s, gate, torch.randn(size, generator=rng), mode)
        for a, b, s, gate, size, mode in cases
    ]


BLOCK = Exercise(
    name="senet.Block",
    question=(
        "Write the module class Block(in_channels, channels, stride, attention), a residual block "
        "with any gate. "
        "Its branch: a 3 by 3 convolution with the stride, batch norm, ReLU, a 3 by 3 convolution "
        "with stride 1, batch norm; both convolutions with padding 1 and without bias. Then the "
        "gate, which `attention(channels)` builds: a module that takes the features and returns "
        "them weighed. Where `attention` is None there is none. Then the shortcut is added, and a "
        "last ReLU follows. The shortcut is x itself where the stride is 1 and the channels stay; "
        "otherwise a 1 by 1 convolution with the stride, without bias, and batch norm. "
        "`forward(x)` gets a float tensor (N, in_channels, H, W). Your weights are "
        "overwritten before the check, which runs in training mode and, after one batch in it, in "
        "eval mode."
    ),
    reference=Block,
    make_inputs=_block_inputs,
    prepare=_run_block,
    wrong={
        "gate-after-the-addition": (
            GateAfterTheAddition,
            "Your gate weighs the shortcut too. It belongs to the branch alone.",
        ),
        "gate-at-the-end": (
            GateAtTheEnd,
            "Your gate stands behind the last ReLU, where it weighs branch and shortcut alike. It "
            "belongs to the branch alone.",
        ),
        "gate-on-the-shortcut": (
            GateOnTheShortcut,
            "Your gate weighs the shortcut. That is the path which is to stay free; the gate "
            "belongs to the other one.",
        ),
        "gate-on-both": (
            GateOnBoth,
            "Your gate is asked twice, for the branch and for the shortcut. The shortcut is to "
            "stay free.",
        ),
        "gate-before-the-last-norm": (
            GateBeforeTheLastNorm,
            "Your gate stands before the last norm, which undoes much of what a gate does. It "
            "belongs behind it.",
        ),
        "gate-in-the-middle": (
            GateAfterTheFirstNorm,
            "Your gate stands between the two convolutions. It belongs to the end of the branch.",
        ),
        "gate-twice": (
            GateTwice,
            "You multiply the features by what the gate returns. It returns the weighed features "
            "already, so that yours are squared.",
        ),
        "gate-twice-where-there-is-one": (
            GateTwiceWhereThereIsOne,
            "Right without attention. With it you multiply the features by what the gate returns, "
            "which is the weighed features already.",
        ),
        "gate-of-the-input": (
            GateOfTheInput,
            "Your gate looks at the input of the block. It is to look at what the branch has "
            "found.",
        ),
        "gate-before-the-branch": (
            GateBeforeTheBranch,
            "Your gate weighs what goes into the branch (the place called pre). It belongs to the "
            "end of the branch.",
        ),
        "gate-before-the-branch-misbuilt": (
            GateBeforeTheBranchMisbuilt,
            "Your gate weighs what goes into the branch (the place called pre), and it is built "
            "for the channels that come out. It belongs to the end of the branch.",
        ),
        "gate-not-registered": (
            GateNotRegistered,
            "Your gate is no part of the module: its weights are not among the parameters, so that "
            "no optimizer trains them. Is it built anew in `forward`, or kept in a plain list?",
        ),
        "relu-before-the-first-norm": (
            ReLUBeforeTheFirstNorm,
            "Your inner ReLU stands before the first norm. It belongs behind it.",
        ),
        "relu-before-the-last-norm": (
            ReLUBeforeTheLastNorm,
            "There is a ReLU too many: nothing stands between the second convolution and its norm.",
        ),
        "relu-on-the-shortcut": (
            ReLUOnTheShortcut,
            "There is a ReLU too many: nothing cuts off the negative values of the shortcut before "
            "the addition.",
        ),
        "relu-on-the-projection": (
            ReLUOnTheProjection,
            "Right where the shortcut is x itself. Where it is projected there is a ReLU too many: "
            "its batch norm comes last.",
        ),
        "first-norm-missing": (
            FirstNormUnused,
            "The norm behind the first convolution is missing, or is made and never called.",
        ),
        "last-norm-missing": (
            LastNormUnused,
            "The norm behind the second convolution is missing, or is made and never called.",
        ),
        "one-norm-for-both": (
            OneNormForBoth,
            "One batch norm serves both convolutions. In eval mode it has one mean and one "
            "variance for two kinds of features.",
        ),
        "bias-too-many": (
            ConvolutionsWithBias,
            "The convolutions of your branch have a bias. The norm behind takes it away again.",
        ),
        "padding-missing": (
            WithoutPadding,
            "Your two convolutions have no padding, so that the branch loses rows and columns at "
            "the edges.",
        ),
        "padding-missing-in-the-first": (
            FirstWithoutPadding,
            "Your first convolution has no padding, so that the branch loses rows and columns at "
            "the edges.",
        ),
        "padding-missing-in-the-second": (
            SecondWithoutPadding,
            "Your second convolution has no padding, so that the branch loses rows and columns at "
            "the edges.",
        ),
        "gate-missing": (
            WithoutGate,
            "Right without attention. With it, the gate is never asked.",
        ),
        "shortcut-missing": (
            WithoutShortcut,
            "The shortcut is missing: what makes the block residual is that its input is added.",
        ),
        "last-relu-missing": (WithoutLastReLU, "The ReLU behind the addition is missing."),
        "relu-before-the-addition": (
            ReLUBeforeTheAddition,
            "Your last ReLU stands before the addition, so that the branch can only ever add to "
            "the shortcut. It belongs behind it.",
        ),
        "relu-too-many": (
            ReLUTwice,
            "There is a ReLU too many: nothing stands between the last norm and the gate.",
        ),
        "inner-relu-missing": (
            WithoutInnerReLU,
            "The ReLU between the two convolutions is missing. Without it they are one linear map, "
            "but for the norms.",
        ),
        "stride-in-the-second": (
            StrideLater,
            "Right for stride 1. You give the stride to the second convolution; it belongs to the "
            "first.",
        ),
        "stride-in-both": (
            StrideInBoth,
            "Right for stride 1. Both of your convolutions have the stride, so that the branch "
            "shrinks the image twice and no longer fits the shortcut.",
        ),
        "shortcut-pooled": (
            ShortcutPooled,
            "Right for stride 1. Your shortcut averages the pixels that a stride would skip. That "
            "is a known variant (ResNet-D); asked for is the plain one.",
        ),
        "shortcut-without-norm": (
            ShortcutWithoutNorm,
            "The projection of the shortcut lacks its batch norm.",
        ),
        "shortcut-with-bias-for-norm": (
            ShortcutWithBiasForNorm,
            "The projection of the shortcut lacks its batch norm, and its convolution has a bias "
            "that is not asked for.",
        ),
        "biases-and-shortcut-without-norm": (
            BiasesAndShortcutWithoutNorm,
            "The projection of the shortcut lacks its batch norm. And all your convolutions have a "
            "bias; none is asked for.",
        ),
        "shortcut-always-projected": (
            ShortcutAlwaysProjected,
            "Your shortcut has a convolution in every block. Where neither size nor channels "
            "change, x itself is to go through.",
        ),
        "projected-for-the-stride-alone": (
            ProjectedForTheStrideAlone,
            "With stride 1 and another number of channels, x cannot be added as it is.",
        ),
        "projected-for-the-channels-alone": (
            ProjectedForTheChannelsAlone,
            "With equal channels and a stride above 1, x is larger than what the branch gives, and "
            "cannot be added as it is.",
        ),
        "none-not-expected": (
            NoneNotExpected,
            "Right with a gate. Where `attention` is None, nothing can be called.",
        ),
    },
    hints=(
        "Three parts: a branch, a gate, a shortcut. `forward` needs one line for them.",
        "The branch is an nn.Sequential of five layers. Where there is no gate, nn.Identity() lets "
        "everything through; it serves for the plain shortcut as well.",
        "Behind the branch comes the gate, then the addition, then the ReLU. The shortcut needs a "
        "convolution where stride or channels change: if either does.",
    ),
    why=(
        "One switch decides between the plain block and the one with attention. The gate weighs "
        "what the branch has found, and the shortcut stays free."
    ),
)


# The threshold that finds enough of the ill ------------------------------------------------------


def threshold_for_sensitivity(probabilities, labels, wanted):
    ill = probabilities[labels == 1]
    found = [(ill >= t).sum().item() / len(ill) for t in ill]
    return max(t.item() for t, share in zip(ill, found, strict=True) if share >= wanted)


def lowest_threshold(probabilities, labels, wanted):
    return probabilities[labels == 1].min().item()


def more_than_wanted(probabilities, labels, wanted):
    ill = probabilities[labels == 1]
    good = [t.item() for t in ill if (ill >= t).double().mean() > wanted]
    return max(good, default=0.0)


def more_than_wanted_or_none(probabilities, labels, wanted):
    return more_than_wanted(probabilities, labels, wanted) or None


def more_than_wanted_or_raises(probabilities, labels, wanted):
    ill = probabilities[labels == 1]
    return max(t.item() for t in ill if (ill >= t).double().mean() > wanted)


def on_a_grid(probabilities, labels, wanted, steps=100):
    ill = probabilities[labels == 1]
    good = [t / steps for t in range(steps + 1) if (ill >= t / steps).double().mean() >= wanted]
    return max(good)


def on_a_finer_grid(probabilities, labels, wanted):
    return on_a_grid(probabilities, labels, wanted, steps=1000)


def lower_quantile(probabilities, labels, wanted):
    ill = probabilities[labels == 1].double()
    return torch.quantile(ill, 1 - wanted, interpolation="lower").item()


def strictly_above(probabilities, labels, wanted):
    ill = probabilities[labels == 1]
    good = [t.item() for t in ill if (ill > t).double().mean() >= wanted]
    return max(good, default=0.0)


def share_of_all_images(probabilities, labels, wanted):
    good = [t.item() for t in probabilities if (probabilities >= t).double().mean() >= wanted]
    return max(good)


def classes_swapped(probabilities, labels, wanted):
    return threshold_for_sensitivity(probabilities, 1 - labels, wanted)


def with_thresholds_dropped(probabilities, labels, wanted):
    from sklearn.metrics import roc_curve

    _, found, thresholds = roc_curve(labels, probabilities)
    return float(thresholds[(found >= wanted).argmax()])


def first_for_precision(probabilities, labels, wanted):
    for t in probabilities[labels == 1].sort(descending=True).values:
        if labels[probabilities >= t].double().mean() >= wanted:
            return t.item()
    return None


def for_specificity(probabilities, labels, wanted):
    healthy = probabilities[labels == 0]
    good = [t.item() for t in probabilities if (healthy < t).double().mean() >= wanted]
    return min(good, default=1.0)


def for_precision(probabilities, labels, wanted):
    good = [t.item() for t in probabilities if labels[probabilities >= t].double().mean() >= wanted]
    return min(good, default=1.0)


def interpolated(probabilities, labels, wanted):
    return torch.quantile(probabilities[labels == 1].double(), 1 - wanted).item()


def one_too_few(probabilities, labels, wanted):
    ill = probabilities[labels == 1].sort(descending=True).values
    return ill[max(int(wanted * len(ill)) - 1, 0)].item()


def rounded_to_nearest(probabilities, labels, wanted):
    ill = probabilities[labels == 1].sort(descending=True).values
    return ill[max(round(wanted * len(ill)) - 1, 0)].item()


def one_too_many(probabilities, labels, wanted):
    ill = probabilities[labels == 1].sort(descending=True).values
    return ill[min(int(wanted * len(ill)), len(ill) - 1)].item()


def _steps_away(candidates, ill, wanted, steps):
    """The candidate so many steps above the highest that finds enough."""
    candidates = candidates.unique()
    enough = [i for i, t in enumerate(candidates) if (ill >= t).double().mean() >= wanted]
    return candidates[min(max(enough[-1] + steps, 0), len(candidates) - 1)].item()


def first_that_finds_too_few(probabilities, labels, wanted):
    return _steps_away(probabilities, probabilities[labels == 1], wanted, 1)


def first_of_the_ill_that_finds_too_few(probabilities, labels, wanted):
    ill = probabilities[labels == 1]
    return _steps_away(ill, ill, wanted, 1)


def one_step_too_low(probabilities, labels, wanted):
    return _steps_away(probabilities, probabilities[labels == 1], wanted, -1)


def one_step_of_the_ill_too_low(probabilities, labels, wanted):
    ill = probabilities[labels == 1]
    return _steps_away(ill, ill, wanted, -1)


def from_below(probabilities, labels, wanted):
    ill = probabilities[labels == 1].sort().values
    needed = -int(-wanted * len(ill) // 1)
    return ill[needed - 1].item()


def best_accuracy(probabilities, labels, wanted):
    candidates = probabilities.unique()
    right = [((probabilities >= t) == labels).double().mean().item() for t in candidates]
    return candidates[right.index(max(right))].item()


def threshold_as_tensor(probabilities, labels, wanted):
    return torch.tensor(threshold_for_sensitivity(probabilities, labels, wanted))


def _sensitivity_inputs(rng: torch.Generator) -> Inputs:
    """On an uneven grid, so that ties occur; `wanted` is met exactly in halves alone."""
    cases = []
    for ill, healthy, wanted, dtype in (
        (4, 3, 0.5, torch.float32),
        (7, 9, 0.8, torch.float64),
        (8, 5, 0.75, torch.float32),
        (11, 20, 0.9, torch.float32),
        (9, 10, 0.6, torch.float32),
        (10, 12, 0.84, torch.float64),
        (6, 12, 1.0, torch.float64),
        (6, 8, 0.3, torch.float32),
        (16, 30, 0.5, torch.float32),
        (23, 17, 0.95, torch.float32),
    ):
        labels = torch.cat([torch.ones(ill), torch.zeros(healthy)]).long()
        probabilities = torch.rand(ill + healthy, generator=rng, dtype=torch.float64)
        probabilities = ((0.75 * probabilities + 0.2 * labels) * 100).round() / 100
        probabilities = 0.03 + 0.94 * probabilities.sqrt()  # no whole hundredths
        if ill > 10:
            probabilities[1] = probabilities[2] = probabilities[0]
        order = torch.randperm(len(labels), generator=rng)
        cases.append((probabilities[order].to(dtype), labels[order], wanted))
    return cases


THRESHOLD_FOR_SENSITIVITY = Exercise(
    name="senet.threshold_for_sensitivity",
    question=(
        "Write threshold_for_sensitivity(probabilities, labels, wanted), the highest threshold at "
        "which at least the share `wanted` of the ill is found. "
        "`probabilities` is a float tensor (N,) in [0, 1], `labels` an int64 tensor (N,) of 0 and "
        "1 with at least one 1 (ill), `wanted` a number above 0 and at most 1. An image counts as "
        "found where its probability is at or above the threshold. Return a plain Python float, "
        "one of the probabilities of the ill."
    ),
    reference=threshold_for_sensitivity,
    make_inputs=_sensitivity_inputs,
    wrong={
        "lowest-threshold": (
            lowest_threshold,
            "This threshold finds every ill image, whatever is wanted. A higher one may do, and "
            "raises fewer false alarms.",
        ),
        "more-than-wanted": (
            more_than_wanted,
            "You ask for more than the wanted share. Exactly that share is enough.",
        ),
        "more-than-wanted-or-none": (
            more_than_wanted_or_none,
            "You ask for more than the wanted share, and return None where there is no more. "
            "Exactly that share is enough.",
        ),
        "more-than-wanted-or-raises": (
            more_than_wanted_or_raises,
            "You ask for more than the wanted share, and there may be no more. Exactly that share "
            "is enough.",
        ),
        "strictly-above": (
            strictly_above,
            "You count an image as found above the threshold only. At the threshold counts as "
            "well.",
        ),
        "share-of-all-images": (
            share_of_all_images,
            "This is the share of alarms among all images. The sensitivity looks at the ill alone.",
        ),
        "specificity-instead": (
            for_specificity,
            "This threshold clears the wanted share of the healthy, which is the specificity. "
            "Asked for is the share of the ill that is found.",
        ),
        "precision-instead": (
            for_precision,
            "This looks at how many of the alarms are right, which is the precision. Asked for is "
            "how many of the ill are found.",
        ),
        "precision-from-above": (
            first_for_precision,
            "This looks at how many of the alarms are right, which is the precision, and stops at "
            "the first threshold where that is enough. Asked for is how many of the ill are found.",
        ),
        "classes-swapped": (
            classes_swapped,
            "The two classes are swapped: this threshold raises an alarm for the wanted share of "
            "the healthy.",
        ),
        "grid-of-hundredths": (
            on_a_grid,
            "You try the hundredths from 0 to 1. The highest threshold mostly lies between two of "
            "them: it is the probability of an ill image. Try those.",
        ),
        "grid-of-thousandths": (
            on_a_finer_grid,
            "You try the thousandths from 0 to 1. The highest threshold mostly lies between two of "
            "them: it is the probability of an ill image. Try those.",
        ),
        "lower-quantile": (
            lower_quantile,
            "This quantile divides the steps between the ill images, of which there is one less "
            "than images. Now and then it finds one image too many: count images.",
        ),
        "thresholds-dropped": (
            with_thresholds_dropped,
            "roc_curve leaves out thresholds on straight pieces of its curve unless it is told not "
            "to. The one that is asked for may be among them.",
        ),
        "interpolated": (
            interpolated,
            "A quantile is interpolated between two images. The threshold is to be the probability "
            "of one of the ill, or it may find fewer than wanted.",
        ),
        "one-too-few": (
            one_too_few,
            "The wanted share, times the ill, need not be a whole number, and you round it down: "
            "one image too few is found then.",
        ),
        "rounded-to-nearest": (
            rounded_to_nearest,
            "The wanted share, times the ill, need not be a whole number, and you round it to the "
            "nearest one: now and then one image too few is found.",
        ),
        "one-too-many": (
            one_too_many,
            "Where exactly the wanted share can be found, your threshold finds one ill image more "
            "than it has to. Do you ask for more than that share, or count places from 1?",
        ),
        "first-that-finds-too-few": (
            first_that_finds_too_few,
            "One step too far: you go through the probabilities of all images and return the first "
            "one at which too few are found. Asked for is a threshold that still finds enough.",
        ),
        "first-of-the-ill-that-finds-too-few": (
            first_of_the_ill_that_finds_too_few,
            "One step too far: you go through the probabilities of the ill and return the first "
            "one at which too few are found. Asked for is a threshold that still finds enough.",
        ),
        "one-step-too-low": (
            one_step_too_low,
            "One step too low: the next higher probability, among all images, finds enough as "
            "well. Do you stop one too late, or count only what lies above the threshold?",
        ),
        "one-step-of-the-ill-too-low": (
            one_step_of_the_ill_too_low,
            "One step too low: the next higher probability, among the ill, finds enough as well. "
            "Do you stop one too late, or count only what lies above the threshold?",
        ),
        "counted-from-below": (
            from_below,
            "You count the ill from the lowest probability upwards. A threshold finds the highest "
            "ones first.",
        ),
        "best-accuracy": (
            best_accuracy,
            "This is the threshold of the highest accuracy. Nobody asked how many of the ill it "
            "finds.",
        ),
        "tensor-instead-of-number": (
            threshold_as_tensor,
            "The value is right, but it is a tensor. Asked for is a plain Python float.",
        ),
    },
    hints=(
        "Which images have a say in the sensitivity? Throw the others away first.",
        "Lower the threshold from one probability of the ill to the next, and count how many lie "
        "at or above it.",
        "Sort the probabilities of the ill downwards; take the first at which the share that is "
        "found reaches what is wanted.",
    ),
    why=(
        "Only the ill decide about the sensitivity, and it grows as the threshold falls. So the "
        "first threshold from above that is good enough has the fewest false alarms."
    ),
)


# An honest accuracy ------------------------------------------------------------------------------


def honest_accuracy(val_p, val_labels, test_p, test_labels):
    candidates = val_p.unique()
    right = [((val_p >= t) == val_labels).double().mean() for t in candidates]
    threshold = candidates[torch.stack(right).argmax()]
    return ((test_p >= threshold) == test_labels).double().mean().item()


def _tuned(p, labels, last=False, candidates=None, decide=torch.ge):
    candidates = p.unique() if candidates is None else candidates.unique()
    right = [(decide(p, t) == labels).double().mean().item() for t in candidates]
    best = [i for i, r in enumerate(right) if r == max(right)]
    return candidates[best[-1 if last else 0]]


def _accuracy(p, labels, threshold):
    return ((p >= threshold) == labels).double().mean().item()


def as_it_was(val_p, val_labels, test_p, test_labels):
    return ((test_p > _tuned(test_p, test_labels)) == test_labels).double().mean().item()


def still_tuned_on_test(val_p, val_labels, test_p, test_labels):
    return _accuracy(test_p, test_labels, _tuned(test_p, test_labels))


def test_decided_above(val_p, val_labels, test_p, test_labels):
    return ((test_p > _tuned(val_p, val_labels)) == test_labels).double().mean().item()


def validation_accuracy(val_p, val_labels, test_p, test_labels):
    return _accuracy(val_p, val_labels, _tuned(val_p, val_labels))


def tuned_on_both(val_p, val_labels, test_p, test_labels):
    both = _tuned(torch.cat([val_p, test_p]), torch.cat([val_labels, test_labels]))
    return _accuracy(test_p, test_labels, both)


def candidates_of_test(val_p, val_labels, test_p, test_labels):
    return _accuracy(test_p, test_labels, _tuned(val_p, val_labels, candidates=test_p))


def candidates_of_test_decided_above(val_p, val_labels, test_p, test_labels):
    threshold = _tuned(val_p, val_labels, candidates=test_p)
    return ((test_p > threshold) == test_labels).double().mean().item()


def tuned_on_test_among_val(val_p, val_labels, test_p, test_labels):
    return _accuracy(test_p, test_labels, _tuned(test_p, test_labels, candidates=val_p))


def tuned_on_test_among_val_decided_above(val_p, val_labels, test_p, test_labels):
    threshold = _tuned(test_p, test_labels, candidates=val_p)
    return ((test_p > threshold) == test_labels).double().mean().item()


def tuned_above(val_p, val_labels, test_p, test_labels):
    return _accuracy(test_p, test_labels, _tuned(val_p, val_labels, decide=torch.gt))


def above_throughout(val_p, val_labels, test_p, test_labels):
    threshold = _tuned(val_p, val_labels, decide=torch.gt)
    return ((test_p > threshold) == test_labels).double().mean().item()


def highest_of_the_best(val_p, val_labels, test_p, test_labels):
    return _accuracy(test_p, test_labels, _tuned(val_p, val_labels, last=True))


def fixed_at_a_half(val_p, val_labels, test_p, test_labels):
    return _accuracy(test_p, test_labels, 0.5)


def share_wrong(val_p, val_labels, test_p, test_labels):
    return 1 - honest_accuracy(val_p, val_labels, test_p, test_labels)


def threshold_returned(val_p, val_labels, test_p, test_labels):
    return _tuned(val_p, val_labels).item()


def index_as_threshold(val_p, val_labels, test_p, test_labels):
    candidates = val_p.unique()
    right = [((val_p >= t) == val_labels).double().mean() for t in candidates]
    return _accuracy(test_p, test_labels, torch.stack(right).argmax())


def _grid(val_p, val_labels, test_p, test_labels, steps):
    grid = torch.arange(steps + 1) / steps
    return _accuracy(test_p, test_labels, _tuned(val_p, val_labels, candidates=grid))


def fine_grid(val_p, val_labels, test_p, test_labels):
    return _grid(val_p, val_labels, test_p, test_labels, 100)


def coarse_grid(val_p, val_labels, test_p, test_labels):
    return _grid(val_p, val_labels, test_p, test_labels, 10)


def rule_of_the_course(val_p, val_labels, test_p, test_labels):
    from course_utils.metrics import best_threshold

    return _accuracy(test_p, test_labels, best_threshold(val_p, val_labels))


def half_way_between(val_p, val_labels, test_p, test_labels):
    values = val_p.unique()
    middles = (values[1:] + values[:-1]) / 2
    return _accuracy(test_p, test_labels, _tuned(val_p, val_labels, candidates=middles))


def _balanced(p, labels, threshold):
    right = ((p >= threshold) == labels).double()
    return ((right[labels == 0].mean() + right[labels == 1].mean()) / 2).item()


def _tuned_balanced(p, labels):
    candidates = p.unique()
    right = [_balanced(p, labels, t) for t in candidates]
    return candidates[right.index(max(right))]


def tuned_for_balance(val_p, val_labels, test_p, test_labels):
    return _accuracy(test_p, test_labels, _tuned_balanced(val_p, val_labels))


def balanced_accuracy(val_p, val_labels, test_p, test_labels):
    return _balanced(test_p, test_labels, _tuned(val_p, val_labels))


def balanced_throughout(val_p, val_labels, test_p, test_labels):
    return _balanced(test_p, test_labels, _tuned_balanced(val_p, val_labels))


def sets_swapped(val_p, val_labels, test_p, test_labels):
    return honest_accuracy(test_p, test_labels, val_p, val_labels)


def count_of_right(val_p, val_labels, test_p, test_labels):
    return honest_accuracy(val_p, val_labels, test_p, test_labels) * len(test_p)


def accuracy_as_tensor(val_p, val_labels, test_p, test_labels):
    return torch.tensor(honest_accuracy(val_p, val_labels, test_p, test_labels))


def _val_and_test(rng: torch.Generator) -> Inputs:
    """On a grid of twentieths, so that some images lie at the threshold; test is another mix."""
    cases = []
    for n, m, share in ((9, 8, 0.3), (14, 11, 0.4), (25, 30, 0.5), (40, 21, 0.6), (31, 60, 0.3)):
        parts = []
        for size, ill, gap in ((n, 0.7, 0.5), (m, share, 0.25)):
            labels = (torch.rand(size, generator=rng) < ill).long()
            labels[:2] = torch.tensor([0, 1])
            noise = 0.45 * torch.randn(size, generator=rng)
            p = (0.42 + gap * (labels - 0.5) + noise).clamp(0, 1)
            parts += [(p * 20).round() / 20, labels]
        cases.append(tuple(parts))
    # Two thresholds are equally good on validation, and not on test.
    val_p, test_p = torch.tensor([0.1, 0.3, 0.5, 0.7]), torch.tensor([0.2, 0.4, 0.6, 0.9, 0.8])
    cases.append((val_p, torch.tensor([0, 1, 0, 1]), test_p, torch.tensor([0, 0, 0, 1, 1])))
    # Two draws in which the known mistakes give different accuracies.
    for seed in (725, 65):
        drawn, parts = torch.Generator().manual_seed(seed), []
        for size, ill, gap in ((12, 0.7, 0.6), (37, 0.4, 0.3)):
            labels = (torch.rand(size, generator=drawn) < ill).long()
            labels[:2] = torch.tensor([0, 1])
            noise = 0.3 * torch.randn(size, generator=drawn)
            p = (0.45 + gap * (labels - 0.5) + noise).clamp(0, 1)
            parts += [(p * 20).round() / 20, labels]
        cases.append(tuple(parts))
    # Where validation says nothing: a gap without test images, then a wide one with some, in which
    # it matters how far down a threshold lies.
    labels = torch.tensor([0, 0, 1, 1])
    test_p, test_labels = torch.tensor([0.1, 0.3, 0.35, 0.7, 0.9]), torch.tensor([0, 0, 0, 0, 1])
    cases.append((torch.tensor([0.2, 0.4, 0.6, 0.8]), labels, test_p, test_labels))
    test_p, test_labels = torch.tensor([0.1, 0.25, 0.65, 0.7, 0.9, 0.95]), torch.tensor([0] * 6)
    cases.append((torch.tensor([0.05, 0.15, 0.8, 0.85]), labels, test_p, test_labels))
    return cases


HONEST_ACCURACY = Exercise(
    name="senet.honest_accuracy",
    question=(
        "Mend honest_accuracy(val_p, val_labels, test_p, test_labels), so that it returns an "
        "accuracy on test at a threshold that was tuned without looking there. "
        "`val_p` (N,) and `test_p` (M,) are float tensors of probabilities, `val_labels` (N,) and "
        "`test_labels` (M,) int64 tensors of 0 and 1. A probability at or above the threshold "
        "means class 1, in tuning and in testing. Candidates are the probabilities that occur on "
        "validation; of those with the highest accuracy there, take the lowest. Return the share "
        "of test images that it gets right, a plain Python float."
    ),
    reference=honest_accuracy,
    make_inputs=_val_and_test,
    wrong={
        "as-it-was": (
            as_it_was,
            "This behaves like the code you started from. Which images does each line look at, and "
            "what is done with an image that lies exactly at the threshold?",
        ),
        "tuned-on-test": (
            still_tuned_on_test,
            "One bug is gone: images at the threshold count as they should. The threshold itself "
            "is still chosen with the help of the images that it is judged on.",
        ),
        "decided-above": (
            test_decided_above,
            "One bug is gone: the test images no longer choose. But what happens to a test image "
            "that lies exactly at the threshold?",
        ),
        "validation-accuracy": (
            validation_accuracy,
            "This is the accuracy on the validation images, where the threshold was chosen: it "
            "flatters. Asked for is the one on test.",
        ),
        "tuned-on-both": (
            tuned_on_both,
            "You tune on validation and test together. Then the test images still have their say.",
        ),
        "candidates-of-test": (
            candidates_of_test,
            "The accuracy that chooses is that of validation, but the candidates are test "
            "probabilities. Nothing at all of the test set may go into the choice.",
        ),
        "candidates-of-test-decided-above": (
            candidates_of_test_decided_above,
            "The accuracy that chooses is that of validation now, but the candidates are test "
            "probabilities; and look again at a test image that lies exactly at the threshold.",
        ),
        "tuned-on-test-among-val": (
            tuned_on_test_among_val,
            "The candidates are those of validation now, but the accuracy that chooses among them "
            "is still that of test.",
        ),
        "tuned-on-test-among-val-decided-above": (
            tuned_on_test_among_val_decided_above,
            "The candidates are those of validation now, but the accuracy that chooses among them "
            "is still that of test; and look again at a test image exactly at the threshold.",
        ),
        "grid-of-candidates": (
            fine_grid,
            "You try a grid of thresholds, or others that do not occur on validation. Between two "
            "neighbouring probabilities validation cannot tell them apart, and test images that "
            "lie there can. The question says which thresholds are the candidates.",
        ),
        "coarse-grid-of-candidates": (
            coarse_grid,
            "You try the tenths from 0 to 1, so that better thresholds between them are missed. "
            "The question says which thresholds are the candidates.",
        ),
        "rule-of-the-course": (
            rule_of_the_course,
            "This is what metrics.best_threshold does: it tries 0, 0.5, 1 and the middles between "
            "neighbouring probabilities, and of the best ones takes the one nearest to 0.5. The "
            "question has another rule: other candidates, and another choice among the best.",
        ),
        "half-way-between": (
            half_way_between,
            "Your candidates lie half way between two probabilities of validation. The question "
            "asks for these probabilities themselves.",
        ),
        "tuned-above": (
            tuned_above,
            "In tuning you count a probability that equals the threshold as class 0, in testing as "
            "class 1.",
        ),
        "above-throughout": (
            above_throughout,
            "The test images no longer choose. But in tuning and in testing, a probability that "
            "equals the threshold counts as class 0 with you.",
        ),
        "highest-of-the-best": (
            highest_of_the_best,
            "Of several equally good thresholds you take the highest. The question says which.",
        ),
        "fixed-at-a-half": (
            fixed_at_a_half,
            "This is the accuracy at one half. That is honest, but asked for is a tuned threshold.",
        ),
        "tuned-for-balance": (
            tuned_for_balance,
            "You tune for the balanced accuracy, the mean over the two classes. Tune for the plain "
            "one: the share of all images that is right.",
        ),
        "balanced-accuracy": (
            balanced_accuracy,
            "You return the balanced accuracy, the mean over the two classes. Asked for is the "
            "share of all test images that is right.",
        ),
        "balanced-throughout": (
            balanced_throughout,
            "You tune for the balanced accuracy, the mean over the two classes, and return it. "
            "Asked for is the plain one in both places.",
        ),
        "sets-swapped": (
            sets_swapped,
            "The two sets are swapped: you tune on test and return the accuracy on validation.",
        ),
        "count-of-right": (
            count_of_right,
            "This is how many test images are right. Asked for is their share.",
        ),
        "share-wrong": (share_wrong, "This is the share that is wrong."),
        "threshold-returned": (
            threshold_returned,
            "This is the threshold. Asked for is the accuracy that it has on test.",
        ),
        "index-as-threshold": (
            index_as_threshold,
            "You compare probabilities with the place of the best candidate in the list, and not "
            "with the candidate.",
        ),
        "tensor-instead-of-number": (
            accuracy_as_tensor,
            "The value is right, but it is a tensor. Asked for is a plain Python float.",
        ),
    },
    hints=(
        "Go through the lines and ask of each: does it look at validation or at test? May it?",
        "The test images come in twice, at the very end: once as probabilities, once as labels.",
        "There is a second bug: compare how an image exactly at the threshold is treated while "
        "tuning, and how at the end.",
    ),
    why=(
        "Whatever is chosen, is chosen on validation. The test images are asked once, by a rule "
        "that is finished, and by the same rule with which it was chosen."
    ),
)


# Expected calibration error ----------------------------------------------------------------------


def calibration_error(probabilities, labels, bins):
    place = (probabilities * bins).long().clamp(max=bins - 1)
    total = 0.0
    for k in place.unique():
        inside = place == k
        gap = probabilities[inside].mean() - labels[inside].double().mean()
        total += inside.sum().item() * abs(gap.item())
    return total / len(labels)


def _gaps(probabilities, labels, bins, place=None):
    """For each bin that holds images: their number, what was said, what was found."""
    place = (probabilities * bins).long().clamp(max=bins - 1) if place is None else place
    rows = []
    for k in range(bins):
        inside = place == k
        if inside.any():
            said, found = probabilities[inside], labels[inside].double()
            rows.append((inside.sum().item(), said.mean().item(), found.mean().item(), k))
    return rows


def one_dropped(probabilities, labels, bins):
    kept = probabilities < 1
    rows = _gaps(probabilities[kept], labels[kept], bins)
    return sum(n * abs(said - found) for n, said, found, _ in rows) / len(labels)


def upper_end(probabilities, labels, bins):
    place = ((probabilities * bins).ceil().long() - 1).clamp(min=0)
    rows = _gaps(probabilities, labels, bins, place)
    return sum(n * abs(said - found) for n, said, found, _ in rows) / len(labels)


def zero_dropped(probabilities, labels, bins):
    place = (probabilities * bins).ceil().long() - 1
    rows = _gaps(probabilities, labels, bins, place)
    return sum(n * abs(said - found) for n, said, found, _ in rows) / len(labels)


def _gaps_by_place(probabilities, labels, place, bins):
    rows = _gaps(probabilities, labels, bins, place)
    return sum(n * abs(said - found) for n, said, found, _ in rows) / len(labels)


def _edges(probabilities, bins):
    return torch.linspace(0, 1, bins + 1, dtype=probabilities.dtype)


def bucketized_with_zero_alone(probabilities, labels, bins):
    place = torch.bucketize(probabilities, _edges(probabilities, bins))
    return _gaps_by_place(probabilities, labels, place, bins + 1)


def bucketized_without_the_last(probabilities, labels, bins):
    place = torch.bucketize(probabilities, _edges(probabilities, bins))
    return _gaps_by_place(probabilities, labels, place, bins)


def last_bin_lost(probabilities, labels, bins):
    place = torch.bucketize(probabilities, _edges(probabilities, bins), right=True)
    return _gaps_by_place(probabilities, labels, place, bins)


def one_in_a_bin_of_its_own(probabilities, labels, bins):
    place = (probabilities * bins).long()
    return _gaps_by_place(probabilities, labels, place, bins + 1)


def _between_edges(probabilities, labels, bins, inside):
    total = 0.0
    for k in range(bins):
        chosen = inside(probabilities, k / bins, (k + 1) / bins)
        if chosen.any():
            gap = probabilities[chosen].mean() - labels[chosen].double().mean()
            total += chosen.sum().item() * abs(gap.item())
    return total / len(labels)


def both_ends_closed(probabilities, labels, bins):
    return _between_edges(probabilities, labels, bins, lambda p, a, b: (p >= a) & (p <= b))


def both_ends_open(probabilities, labels, bins):
    return _between_edges(probabilities, labels, bins, lambda p, a, b: (p > a) & (p < b))


def bins_unweighted(probabilities, labels, bins):
    rows = _gaps(probabilities, labels, bins)
    return sum(abs(said - found) for _, said, found, _ in rows) / len(rows)


def bins_unweighted_all(probabilities, labels, bins):
    return sum(abs(s - f) for _, s, f, _ in _gaps(probabilities, labels, bins)) / bins


def bins_summed(probabilities, labels, bins):
    return sum(abs(said - found) for _, said, found, _ in _gaps(probabilities, labels, bins))


def not_divided(probabilities, labels, bins):
    return sum(n * abs(said - found) for n, said, found, _ in _gaps(probabilities, labels, bins))


def signed(probabilities, labels, bins):
    rows = _gaps(probabilities, labels, bins)
    return sum(n * (said - found) for n, said, found, _ in rows) / len(labels)


def signed_the_other_way(probabilities, labels, bins):
    return -signed(probabilities, labels, bins)


def without_bins(probabilities, labels, bins):
    return abs(signed(probabilities, labels, bins))


def squared(probabilities, labels, bins):
    rows = _gaps(probabilities, labels, bins)
    return sum(n * (said - found) ** 2 for n, said, found, _ in rows) / len(labels)


def root_of_squares(probabilities, labels, bins):
    return squared(probabilities, labels, bins) ** 0.5


def largest_gap(probabilities, labels, bins):
    return max(abs(said - found) for _, said, found, _ in _gaps(probabilities, labels, bins))


def middle_of_the_bin(probabilities, labels, bins):
    rows = _gaps(probabilities, labels, bins)
    return sum(n * abs((k + 0.5) / bins - found) for n, _, found, k in rows) / len(labels)


def share_of_right_decisions(probabilities, labels, bins):
    right = ((probabilities >= 0.5).long() == labels).long()
    return calibration_error(probabilities, right, bins)


def of_the_confidence(probabilities, labels, bins):
    right = ((probabilities >= 0.5).long() == labels).long()
    return calibration_error(torch.maximum(probabilities, 1 - probabilities), right, bins)


def single_images(probabilities, labels, bins):
    return (probabilities - labels).abs().mean().item()


def brier(probabilities, labels, bins):
    return (probabilities - labels).square().mean().item()


def empty_bins_not_a_number(probabilities, labels, bins):
    place = (probabilities * bins).long().clamp(max=bins - 1)
    total = 0.0
    for k in range(bins):
        inside = place == k
        gap = probabilities[inside].mean() - labels[inside].double().mean()
        total += inside.sum().item() * abs(gap.item())
    return total / len(labels)


def bins_of_equal_counts(probabilities, labels, bins):
    rank = probabilities.argsort().argsort()
    rows = _gaps(probabilities, labels, bins, place=rank * bins // len(labels))
    return sum(n * abs(said - found) for n, said, found, _ in rows) / len(labels)


def error_as_tensor(probabilities, labels, bins):
    return torch.tensor(calibration_error(probabilities, labels, bins))


def _said_and_found(rng: torch.Generator) -> Inputs:
    """Some bins are empty. Beside 0 and 1, ends of bins occur only where they are exact floats."""
    cases = []
    for n, bins, dtype in (
        (6, 2, torch.float32),
        (13, 4, torch.float64),
        (30, 5, torch.float32),
        (24, 10, torch.float32),
        (60, 7, torch.float64),
        (45, 15, torch.float32),
    ):
        place = torch.randint(bins, (n,), generator=rng)
        place[: n // 3] = 0
        place[n // 3 : n // 2] = bins - 1
        inside = 0.1 + 0.8 * torch.rand(n, generator=rng, dtype=torch.float64)
        probabilities = (place + inside) / bins
        labels = (torch.rand(n, generator=rng) < 0.2 + 0.5 * probabilities).long()
        probabilities[:2] = torch.tensor([0.0, 1.0])
        labels[:2] = torch.tensor([1, 0])
        order = torch.randperm(n, generator=rng)
        cases.append((probabilities[order].to(dtype), labels[order], bins))
    for n, bins in ((12, 4), (21, 8)):
        probabilities = torch.rand(n, generator=rng)
        probabilities[: n // 2] = torch.randint(1, bins, (n // 2,), generator=rng) / bins
        probabilities[:2] = torch.tensor([0.0, 1.0])
        labels = (torch.rand(n, generator=rng) < 0.5).long()
        labels[:2] = torch.tensor([1, 0])
        cases.append((probabilities, labels, bins))
    # In the last bin, 1 errs in one direction and all others in the other one.
    probabilities = torch.tensor([0.9, 1.0, 0.8, 0.3, 0.85, 0.1, 0.95])
    cases.append((probabilities, torch.tensor([1, 0, 1, 0, 1, 0, 1]), 4))
    return cases


CALIBRATION_ERROR = Exercise(
    name="senet.calibration_error",
    question=(
        "Write calibration_error(probabilities, labels, bins), the expected calibration error of "
        "the probability of class 1. "
        "`probabilities` is a float tensor (N,) in [0, 1], `labels` an int64 tensor (N,) of 0 and "
        "1, `bins` a whole number. Bin k, from 0 on, holds what lies at or above k / bins and "
        "below (k + 1) / bins; the last bin holds 1 as well. Of each bin take the distance between "
        "the mean probability and the share of class 1; return the mean of these distances, each "
        "bin counting by its number of images, as a plain Python float. Empty bins count nothing."
    ),
    reference=calibration_error,
    make_inputs=_said_and_found,
    wrong={
        "one-dropped": (
            one_dropped,
            "Nearly: an image with probability exactly 1 falls out of all your bins.",
        ),
        "upper-end": (
            upper_end,
            "A probability on the border of two bins falls into the lower one with you. A bin "
            "holds its lower end: the image belongs to the upper one.",
        ),
        "zero-dropped": (
            zero_dropped,
            "Nearly: an image with probability exactly 0 falls out of all your bins. A bin holds "
            "its lower end.",
        ),
        "zero-in-a-bin-of-its-own": (
            bucketized_with_zero_alone,
            "torch.bucketize as it stands puts a probability that lies on an edge into the bin "
            "below it, and 0 below the first edge, into a bin of its own. A bin is to hold its "
            "lower end. Look at the argument `right`.",
        ),
        "bucketized-without-the-last": (
            bucketized_without_the_last,
            "torch.bucketize as it stands puts 0 alone into place 0, so that the bins begin at "
            "place 1 and your loop never comes to the last one. And a probability that lies on an "
            "edge falls into the bin below it.",
        ),
        "last-bin-lost": (
            last_bin_lost,
            "The edges include 0, so that your bins are numbered from 1 on. Your loop begins at 0 "
            "and never comes to the last one.",
        ),
        "one-in-a-bin-of-its-own": (
            one_in_a_bin_of_its_own,
            "Nearly: an image with probability exactly 1 gets a bin of its own. The last bin is to "
            "hold it.",
        ),
        "both-ends-closed": (
            both_ends_closed,
            "Your bins hold both their ends, so that a probability on the border of two bins "
            "counts twice.",
        ),
        "both-ends-open": (
            both_ends_open,
            "Your bins hold neither of their ends, so that a probability on a border falls out of "
            "all of them.",
        ),
        "bins-unweighted": (
            bins_unweighted,
            "In your mean all bins that hold images count the same. A bin with many images is to "
            "count more.",
        ),
        "bins-unweighted-all": (
            bins_unweighted_all,
            "In your mean all bins count the same, empty ones too. Each is to count by its number "
            "of images.",
        ),
        "bins-summed": (
            bins_summed,
            "You add the distances of the bins up. Asked for is a mean, each bin counting by its "
            "number of images.",
        ),
        "not-divided": (
            not_divided,
            "The weighted sum over the bins is right. A mean is asked for: divide it.",
        ),
        "signed": (
            signed,
            "You add differences with their sign, so that a bin which says too much makes up for "
            "one which says too little. Asked for are distances.",
        ),
        "signed-the-other-way": (
            signed_the_other_way,
            "You add differences with their sign, so that bins make up for each other. Asked for "
            "are distances.",
        ),
        "without-bins": (
            without_bins,
            "Your distance is taken at the end, over all images together: bins that err in "
            "opposite directions cancel. Take it in each bin.",
        ),
        "squared": (
            squared,
            "You square the distances of the bins. Asked for are they themselves.",
        ),
        "root-of-squares": (
            root_of_squares,
            "This is the root of the mean square, in which large distances count more. Asked for "
            "is the mean distance.",
        ),
        "largest-gap": (
            largest_gap,
            "This is the largest distance of all bins (the maximum calibration error). Asked for "
            "is the mean.",
        ),
        "middle-of-the-bin": (
            middle_of_the_bin,
            "You compare with the middle of the bin. Compare with the mean of the probabilities "
            "that were said in it.",
        ),
        "right-decisions": (
            share_of_right_decisions,
            "You count how many decisions were right. In a bin around 0.1 nearly all of them are, "
            "and that is no fault: compare with the share of class 1.",
        ),
        "confidence-binned": (
            of_the_confidence,
            "You bin the confidence in the decision, max(p, 1 - p). That is another definition of "
            "the error (Guo et al.); asked for is that of the probability of class 1.",
        ),
        "single-images": (
            single_images,
            "You compare each single image with its label. A calibrated 0.7 is far from every "
            "single label: compare means over a bin.",
        ),
        "brier": (
            brier,
            "This is the Brier score, the mean square over single images. Asked for are means over "
            "bins.",
        ),
        "nan-from-empty-bins": (
            empty_bins_not_a_number,
            "Right where no bin is empty. The mean over no images is not a number, and makes the "
            "whole sum one.",
        ),
        "bins-of-equal-counts": (
            bins_of_equal_counts,
            "Your bins hold equally many images. Asked for are bins of equal width.",
        ),
        "tensor-instead-of-number": (
            error_as_tensor,
            "The value is right, but it is a tensor. Asked for is a plain Python float.",
        ),
    },
    hints=(
        "First find out for each image into which bin it falls: a whole number from 0 to bins - 1.",
        "In a loop over the bins, a mask chooses the images of one; skip it where it is empty.",
        "Take the two means of a bin, their distance, times its number of images; add up over the "
        "bins, and divide by all images.",
    ),
    why=(
        "A single label is 0 or 1, so a probability can only be compared with a share, and a share "
        "needs a group of images. The bins are these groups."
    ),
)


# The same image elsewhere ------------------------------------------------------------------------


def after_shift():
    odds = 0.8 / 0.2
    odds = odds / (2 / 1) * (1 / 9)
    return odds / (1 + odds)


AFTER_SHIFT = Exercise(
    name="senet.after_shift",
    question=(
        "A calibrated model says 0.8 for an image in a clinic where two of three patients are ill; "
        "what should it say for the same image at a screening where one of ten is ill? "
        "Ill and healthy people look the same at both places; only the mix differs. Answer with a "
        "probability, right to two decimals, before you run the cell below."
    ),
    reference=after_shift,
    tolerance=0.004,
    wrong={
        "unchanged": (
            lambda: 0.8,
            "Then the mix of patients would not matter. Think of a place where nobody is ill: what "
            "should the model say there?",
        ),
        "prevalence-alone": (
            lambda: 0.1,
            "This is the share of the ill at the screening: the image would say nothing.",
        ),
        "probabilities-multiplied": (
            lambda: 0.8 * 0.1,
            "You multiply the two probabilities. It is odds that are multiplied, and those of the "
            "clinic are in the 0.8 already.",
        ),
        "odds-not-turned-back": (
            lambda: 2 / 9,
            "These are the odds. Turn them back into a probability.",
        ),
        "shares-instead-of-odds": (
            lambda: 0.8 * 0.1 / (2 / 3),
            "You multiply probabilities by the ratio of the two shares. It is the odds that are "
            "multiplied, by a ratio of odds.",
        ),
        "ratio-of-shares": (
            lambda: 0.6 / 1.6,
            "You multiply the odds by the ratio of the two shares. The odds of the mix are needed "
            "there as well, ill to healthy.",
        ),
        "new-mix-only": (
            lambda: (4 / 9) / (13 / 9),
            "You have multiplied by the odds of the screening. Those of the clinic, which are in "
            "the 0.8 already, have to be taken out.",
        ),
        "old-mix-only": (
            lambda: 2 / 3,
            "You have taken out the odds of the clinic: this is what the image says where half of "
            "the people are ill. Those of the screening are still to be put in.",
        ),
        "other-way-round": (
            lambda: 72 / 73,
            "You have made the model surer. Where fewer people are ill, should it not be less so?",
        ),
        "subtracted": (
            lambda: 0.8 - (2 / 3 - 0.1),
            "You subtract the change of the share. Then a smaller probability could fall below 0.",
        ),
        "in-percent": (
            lambda: 100 * after_shift(),
            "A probability lies between 0 and 1; this is in percent.",
        ),
        "in-whole-percent": (
            lambda: 18.0,
            "A probability lies between 0 and 1; this is in percent, and rounded.",
        ),
        "logit": (
            lambda: math.log(2 / 9),
            "This is a logit, the logarithm of the odds. Turn it back into a probability.",
        ),
        "of-being-healthy": (
            lambda: 9 / 11,
            "This is the probability of being healthy.",
        ),
        "divided-by-the-share": (
            lambda: 0.8 / (2 / 3),
            "You divide the probability by the share of the ill at the clinic, and it comes out "
            "above 1. It is odds that are divided by odds.",
        ),
        "old-mix-only-as-odds": (
            lambda: 2.0,
            "These are odds, and those at a place where half of the people are ill: the clinic is "
            "taken out, the screening is still to be put in.",
        ),
        "new-mix-only-as-odds": (
            lambda: 4 / 9,
            "These are odds, and you have multiplied by those of the screening alone. Those of the "
            "clinic, which are in the 0.8 already, have to be taken out.",
        ),
    },
    hints=(
        "Turn all three probabilities into odds first: ill to healthy.",
        "The odds of the image are those of the mix, times what the image itself says. The latter "
        "stays. So divide by the odds of the old mix, and multiply by those of the new one.",
        "0.8 are odds of 4 to 1, two of three are 2 to 1, one of ten is 1 to 9.",
    ),
    why=(
        "By Bayes' rule the odds are a product: what the mix says times what the image says. Only "
        "the first factor changes. As logits, the product is a sum, and the change a constant."
    ),
)


# A temperature -----------------------------------------------------------------------------------


def best_temperature(logits, labels, candidates):
    costs = []
    for candidate in candidates.tolist():
        p = torch.sigmoid(logits.double() / candidate).clamp(1e-12, 1 - 1e-12)
        costs.append(-torch.where(labels == 1, p.log(), (1 - p).log()).mean())
    return candidates[torch.stack(costs).argmin()].item()


def _costs(logits, labels, candidates, change):
    target = labels.double()
    found = [
        F.binary_cross_entropy_with_logits(change(logits.double(), t), target) for t in candidates
    ]
    return torch.stack(found)


def _divide(z, t):
    return z / t


def multiplied(logits, labels, candidates):
    found = _costs(logits, labels, candidates, lambda z, t: z * t)
    return candidates[found.argmin()].item()


def worst_temperature(logits, labels, candidates):
    return candidates[_costs(logits, labels, candidates, _divide).argmax()].item()


def place_of_the_best(logits, labels, candidates):
    return _costs(logits, labels, candidates, _divide).argmin().item()


def lowest_cost(logits, labels, candidates):
    return _costs(logits, labels, candidates, _divide).min().item()


def by_accuracy(logits, labels, candidates):
    right = [(((logits / t).sigmoid() >= 0.5) == labels).double().mean() for t in candidates]
    return candidates[torch.stack(right).argmax()].item()


def probabilities_divided(logits, labels, candidates):
    def cost(t):
        p = (logits.double().sigmoid() / t).clamp(1e-12, 1 - 1e-12)
        return F.binary_cross_entropy(p, labels.double())

    return candidates[torch.stack([cost(t) for t in candidates]).argmin()].item()


def sigmoid_twice(logits, labels, candidates):
    found = _costs(logits, labels, candidates, lambda z, t: (z / t).sigmoid())
    return candidates[found.argmin()].item()


def ill_alone(logits, labels, candidates):
    chosen = labels == 1
    return candidates[_costs(logits[chosen], labels[chosen], candidates, _divide).argmin()].item()


def healthy_alone(logits, labels, candidates):
    chosen = labels == 0
    return candidates[_costs(logits[chosen], labels[chosen], candidates, _divide).argmin()].item()


def labels_swapped(logits, labels, candidates):
    return candidates[_costs(logits, 1 - labels, candidates, _divide).argmin()].item()


def by_mean_probability(logits, labels, candidates):
    share = labels.double().mean()
    gaps = [((logits.double() / t).sigmoid().mean() - share).abs() for t in candidates]
    return candidates[torch.stack(gaps).argmin()].item()


def with_class_weight(logits, labels, candidates):
    z, y = logits.double(), labels.double()
    weight = (1 - y).sum() / y.sum()
    costs = [F.binary_cross_entropy_with_logits(z / t, y, pos_weight=weight) for t in candidates]
    return candidates[torch.stack(costs).argmin()].item()


def by_brier(logits, labels, candidates):
    costs = [((logits.double() / t).sigmoid() - labels).square().mean() for t in candidates]
    return candidates[torch.stack(costs).argmin()].item()


def by_distance(logits, labels, candidates):
    costs = [((logits.double() / t).sigmoid() - labels).abs().mean() for t in candidates]
    return candidates[torch.stack(costs).argmin()].item()


def by_calibration_error(logits, labels, candidates, bins=10):
    costs = [calibration_error((logits / t).sigmoid(), labels, bins) for t in candidates]
    return candidates[costs.index(min(costs))].item()


def by_calibration_error_of_15(logits, labels, candidates):
    return by_calibration_error(logits, labels, candidates, bins=15)


def whole_labels(logits, labels, candidates):
    costs = [F.binary_cross_entropy_with_logits(logits / t, labels) for t in candidates]
    return candidates[torch.stack(costs).argmin()].item()


def whole_labels_of_probabilities(logits, labels, candidates):
    costs = [F.binary_cross_entropy((logits / t).sigmoid(), labels) for t in candidates]
    return candidates[torch.stack(costs).argmin()].item()


def one_over_it(logits, labels, candidates):
    return 1 / best_temperature(logits, labels, candidates)


def over_the_images(logits, labels, candidates):
    costs = [F.cross_entropy(logits / t, labels.to(logits.dtype)) for t in candidates]
    return candidates[torch.stack(costs).argmin()].item()


def pair_of_opposites(logits, labels, candidates):
    z = logits.double()
    pairs = torch.stack([-z, z], 1)
    costs = [F.cross_entropy(pairs / t, labels) for t in candidates]
    return candidates[torch.stack(costs).argmin()].item()


def log_of_zero(logits, labels, candidates):
    costs = []
    for t in candidates:
        p = torch.sigmoid(logits / t)
        costs.append(-(labels * p.log() + (1 - labels) * (1 - p).log()).mean())
    return candidates[torch.stack(costs).argmin()].item()


def always_one(logits, labels, candidates):
    return 1.0


def temperature_as_tensor(logits, labels, candidates):
    return torch.tensor(best_temperature(logits, labels, candidates))


def _tempered(rng: torch.Generator) -> Inputs:
    """Logits that are too large or too small by a known factor, and a coarse grid around it."""
    cases = []
    for n, factor, count in ((60, 3.0, 5), (90, 0.4, 6), (75, 1.9, 9), (120, 0.7, 7), (64, 4.5, 8)):
        z = 2 * torch.randn(n, generator=rng) + 0.5
        labels = (torch.rand(n, generator=rng) < z.sigmoid()).long()
        labels[:2] = torch.tensor([0, 1])
        candidates = factor * 1.45 ** (torch.arange(count).float() - count // 2)
        candidates = candidates[torch.randperm(count, generator=rng)]
        cases.append((factor * z, labels, candidates))
    # Nine of ten are ill and often missed, the healthy are cleared for sure: there, weights that
    # balance the classes sharpen.
    for n, factor in ((60, 1.0), (90, 2.5)):
        labels = torch.ones(n).long()
        z = torch.tensor([2.0, 2, -2]).repeat(n // 3) + 0.2 * torch.randn(n, generator=rng)
        labels[: n // 10], z[: n // 10] = 0, -6.0
        cases.append((factor * z, labels, factor * torch.tensor([0.6, 1.1, 1.8, 0.4, 3.2])))
    # One sure mistake weighs much more in the logarithm than in a square.
    z = torch.tensor([3.0, -3] * 20 + [-12]) + 0.2 * torch.randn(41, generator=rng)
    labels = torch.tensor([1, 0] * 20 + [1])
    cases.append((z, labels, torch.tensor([1.6, 0.8, 20.0, 1.1, 5.0])))
    # Many false alarms.
    z = torch.tensor([2.0] * 38 + [-2] * 3) + 0.2 * torch.randn(41, generator=rng)
    labels = (torch.arange(41) < 22).long()
    cases.append((z, labels, torch.tensor([0.7, 4.0, 12.0, 1.5, 40.0, 2.4])))
    return cases


BEST_TEMPERATURE = Exercise(
    name="senet.best_temperature",
    question=(
        "Write best_temperature(logits, labels, candidates), the candidate T for which the logits "
        "divided by T have the lowest mean cross-entropy. "
        "`logits` is a float tensor (N,), `labels` an int64 tensor (N,) of 0 and 1, `candidates` a "
        "float tensor (K,) of positive numbers in any order. The cross-entropy is that of chapter "
        "00, without class weights, of the probabilities sigmoid(logits / T). Return the best T as "
        "a plain Python float."
    ),
    reference=best_temperature,
    make_inputs=_tempered,
    wrong={
        "multiplied": (multiplied, "You multiply the logits by T. They are to be divided by it."),
        "worst-temperature": (
            worst_temperature,
            "You take the candidate with the highest cross-entropy. The lowest one is asked for.",
        ),
        "place-of-the-best": (
            place_of_the_best,
            "This is the place of the best candidate in the list. Asked for is the candidate.",
        ),
        "cost-returned": (
            lowest_cost,
            "This is the lowest cross-entropy. Asked for is the T that has it.",
        ),
        "by-accuracy": (
            by_accuracy,
            "You choose by accuracy. But dividing a logit by a positive number never changes its "
            "sign, so that all candidates have the same accuracy.",
        ),
        "probabilities-divided": (
            probabilities_divided,
            "You divide the probabilities by T. The logits are to be divided, before the sigmoid.",
        ),
        "sigmoid-twice": (
            sigmoid_twice,
            "You give probabilities to a loss that takes logits: the sigmoid is taken twice.",
        ),
        "class-weight": (
            with_class_weight,
            "Your cross-entropy weighs the classes so that both count the same. Asked for is the "
            "plain mean over the images, in the mix that they have.",
        ),
        "by-brier-score": (
            by_brier,
            "You compare by the mean square of p - y, the Brier score. The cross-entropy is asked "
            "for; a sure mistake costs far more there.",
        ),
        "by-distance": (
            by_distance,
            "You compare by the mean distance between p and the label. It is lowest for answers "
            "that are as sure as can be. The cross-entropy is asked for.",
        ),
        "by-calibration-error": (
            by_calibration_error,
            "You choose by the calibration error, in 10 bins. The cross-entropy is asked for.",
        ),
        "by-calibration-error-of-15": (
            by_calibration_error_of_15,
            "You choose by the calibration error, in 15 bins. The cross-entropy is asked for.",
        ),
        "whole-labels": (
            whole_labels,
            "Your loss gets labels of int64, and wants numbers of the kind of the logits.",
        ),
        "whole-labels-of-probabilities": (
            whole_labels_of_probabilities,
            "Your loss gets labels of int64, and wants numbers of the kind of the probabilities.",
        ),
        "ill-alone": (
            ill_alone,
            "Your cross-entropy is that of the ill alone (label 1). The healthy pay minus the "
            "logarithm of 1 - p.",
        ),
        "healthy-alone": (
            healthy_alone,
            "Your cross-entropy is that of the healthy alone (label 0). The ill pay minus the "
            "logarithm of p.",
        ),
        "labels-swapped": (labels_swapped, "The two classes are swapped in your cross-entropy."),
        "by-mean-probability": (
            by_mean_probability,
            "You compare the mean probability with the share of the ill. Errors in opposite "
            "directions cancel there; the cross-entropy is asked for.",
        ),
        "one-over-it": (one_over_it, "This is one over the best T."),
        "softmax-over-the-images": (
            over_the_images,
            "F.cross_entropy takes your vector for the logits of N classes of a single image, and "
            "a softmax goes over the images. Here each image is a question of its own, yes or no.",
        ),
        "pair-of-opposites": (
            pair_of_opposites,
            "The softmax of the pair -z and z is the sigmoid of 2 z: a factor of 2 too much. With "
            "which other logit beside z does a softmax give the sigmoid of z?",
        ),
        "log-of-zero": (
            log_of_zero,
            "Near 1 the sigmoid is rounded to 1 in float32. Then the logarithm of 1 - p is minus "
            "infinity, and 0 times that is not a number. A loss that takes the logits avoids it.",
        ),
        "always-one": (
            always_one,
            "T = 1 leaves the logits as they are, and need not be among the candidates.",
        ),
        "tensor-instead-of-number": (
            temperature_as_tensor,
            "The value is right, but it is a tensor. Asked for is a plain Python float.",
        ),
    },
    hints=(
        "One cost for each candidate, then the candidate that goes with the lowest.",
        "F.binary_cross_entropy_with_logits takes logits and float labels, and gives the mean.",
        "Collect the costs of logits / t for all t in a list, make a tensor of it, and use its "
        "argmin as an index into the candidates.",
    ),
    why=(
        "The cross-entropy is lowest, in the mean, for probabilities that are right. Dividing all "
        "logits by one number cannot change their order, so that only the degree of certainty is "
        "fitted."
    ),
)


# In the order in which the chapter asks them.
EXERCISES = (
    BLOCK,
    THRESHOLD_FOR_SENSITIVITY,
    HONEST_ACCURACY,
    CALIBRATION_ERROR,
    AFTER_SHIFT,
    BEST_TEMPERATURE,
)
