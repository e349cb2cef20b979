"""Exercises of chapter 06: the attention gate in both its forms, and how two arms are compared."""

# The right and the wrong answers are code as a learner would write it in a notebook: they import
# what they need besides torch themselves, and a solution is shown as it stands here.

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .engine import Exercise, Inputs
from .preparing import module_from


def _raised(x: torch.Tensor, like: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    return F.interpolate(x, like.shape[2:], mode=mode)


def _filled(module: nn.Module, rng: torch.Generator) -> nn.Module:
    """A module with weights drawn from `rng`, large enough that steps left out are seen."""
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng)
    return module


# The weights of a gate ---------------------------------------------------------------------------


def gate_weights(x, g, skip, gate, psi):
    asked = torch.nn.functional.interpolate(gate(g), x.shape[2:], mode="bilinear")
    return torch.sigmoid(psi(torch.relu(skip(x) + asked)))


def weights_by_softmax(x, g, skip, gate, psi):
    logits = psi(torch.relu(skip(x) + _raised(gate(g), x)))
    return logits.flatten(2).softmax(2).view_as(logits)


def weights_by_softmax_over_channels(x, g, skip, gate, psi):
    return psi(torch.relu(skip(x) + _raised(gate(g), x))).softmax(1)


def weights_without_sigmoid(x, g, skip, gate, psi):
    return psi(torch.relu(skip(x) + _raised(gate(g), x)))


def weights_without_relu(x, g, skip, gate, psi):
    return torch.sigmoid(psi(skip(x) + _raised(gate(g), x)))


def relu_behind_psi(x, g, skip, gate, psi):
    return torch.sigmoid(torch.relu(psi(skip(x) + _raised(gate(g), x))))


def relu_before_the_sum(x, g, skip, gate, psi):
    return torch.sigmoid(psi(skip(x).relu() + _raised(gate(g).relu(), x)))


def relu_of_each(x, g, skip, gate, psi):
    return torch.sigmoid(psi(skip(x).relu() + _raised(gate(g), x).relu()))


def signal_not_raised(x, g, skip, gate, psi):
    return torch.sigmoid(psi(torch.relu(skip(x) + gate(g))))


def signal_not_raised_added_first(x, g, skip, gate, psi):
    return torch.sigmoid(psi(torch.relu(gate(g) + skip(x))))


def sigmoid_before_psi(x, g, skip, gate, psi):
    return psi(torch.sigmoid(skip(x) + _raised(gate(g), x)))


def product_instead_of_sum(x, g, skip, gate, psi):
    return torch.sigmoid(psi(torch.relu(skip(x) * _raised(gate(g), x))))


def difference_instead_of_sum(x, g, skip, gate, psi):
    return torch.sigmoid(psi(torch.relu(skip(x) - _raised(gate(g), x))))


def raised_by_repeating(x, g, skip, gate, psi):
    return torch.sigmoid(psi(torch.relu(skip(x) + _raised(gate(g), x, "nearest"))))


def raised_with_corners(x, g, skip, gate, psi):
    asked = F.interpolate(gate(g), x.shape[2:], mode="bilinear", align_corners=True)
    return torch.sigmoid(psi(torch.relu(skip(x) + asked)))


def map_of_the_size_of_g(x, g, skip, gate, psi):
    return torch.sigmoid(psi(torch.relu(_raised(skip(x), g) + gate(g))))


def map_raised_at_the_end(x, g, skip, gate, psi):
    return _raised(map_of_the_size_of_g(x, g, skip, gate, psi), x)


def skip_weighed_already(x, g, skip, gate, psi):
    return x * gate_weights(x, g, skip, gate, psi)


def signal_ignored(x, g, skip, gate, psi):
    return torch.sigmoid(psi(torch.relu(skip(x))))


def skip_ignored(x, g, skip, gate, psi):
    return torch.sigmoid(psi(torch.relu(_raised(gate(g), x))))


def twice_as_large(x, g, skip, gate, psi):
    asked = F.interpolate(gate(g), scale_factor=2, mode="bilinear")
    return torch.sigmoid(psi(torch.relu(skip(x) + asked)))


def size_swapped(x, g, skip, gate, psi):
    asked = F.interpolate(gate(g), (x.shape[3], x.shape[2]), mode="bilinear")
    return torch.sigmoid(psi(torch.relu(skip(x) + asked)))


def joined_instead_of_added(x, g, skip, gate, psi):
    both = torch.cat([skip(x), _raised(gate(g), x)], 1)
    return torch.sigmoid(psi(torch.relu(both)))


def layers_exchanged(x, g, skip, gate, psi):
    return torch.sigmoid(psi(torch.relu(gate(x) + _raised(skip(g), x))))


def layers_exchanged_signal_first(x, g, skip, gate, psi):
    asked = _raised(skip(g), x)
    return torch.sigmoid(psi(torch.relu(gate(x) + asked)))


def _gates(rng: torch.Generator) -> Inputs:
    """Skip, signal, and the three layers: signals of half the size, rounded, or smaller still."""
    cases = []
    for n, c, c_g, hidden, size, coarse in (
        (1, 2, 3, 2, (4, 4), (2, 2)),
        (2, 3, 4, 2, (4, 6), (2, 3)),
        (3, 2, 5, 4, (5, 7), (3, 4)),
        (2, 4, 2, 3, (6, 5), (3, 2)),
        (1, 3, 3, 5, (8, 6), (2, 3)),
        (2, 1, 2, 1, (3, 5), (3, 5)),
    ):
        x, g = torch.randn(n, c, *size, generator=rng), torch.randn(n, c_g, *coarse, generator=rng)
        layers = (nn.Conv2d(c, hidden, 1), nn.Conv2d(c_g, hidden, 1), nn.Conv2d(hidden, 1, 1))
        cases.append((x, g, *(_filled(layer, rng) for layer in layers)))
    return cases


GATE_WEIGHTS = Exercise(
    name="gates.gate_weights",
    question=(
        "Write gate_weights(x, g, skip, gate, psi), the map of an attention gate of the common "
        "form. "
        "`x` is the skip, a float tensor (N, C, H, W); `g` the signal of the coarser level, a "
        "float tensor (N, C_g, H', W'), of any size up to that of x. `skip`, `gate` and `psi` are "
        "1x1 convolutions with bias, modules to be called: `skip` leads from C to a hidden number "
        "of channels, `gate` from C_g to the same number, `psi` from there to one. What comes from "
        "g is brought to the height and width of x by bilinear interpolation as "
        "torch.nn.functional.interpolate does it (align_corners stays False). Return the weights "
        "alone, (N, 1, H, W)."
    ),
    reference=gate_weights,
    make_inputs=_gates,
    wrong={
        "softmax-over-places": (
            weights_by_softmax,
            "There is a softmax over the places, so that the weights of an image sum to one. A "
            "gate asks each place by itself.",
        ),
        "softmax-over-channels": (
            weights_by_softmax_over_channels,
            "A softmax over an axis of length one gives 1 everywhere: the gate is always open.",
        ),
        "no-sigmoid": (
            weights_without_sigmoid,
            "These are logits: they can be negative or large. What brings any number into (0, 1)?",
        ),
        "no-relu": (
            weights_without_relu,
            "The ReLU is missing. Without it all is linear up to the sigmoid, and however many "
            "hidden channels there are, they do no more than one.",
        ),
        "relu-behind-psi": (
            relu_behind_psi,
            "The ReLU comes too late: behind psi it cuts off all logits below 0, so that no weight "
            "falls below one half.",
        ),
        "relu-before-the-sum": (
            relu_before_the_sum,
            "Skip and signal each have a ReLU of their own. Asked for is one ReLU, of their sum.",
        ),
        "relu-of-each": (
            relu_of_each,
            "Skip and signal each pass a ReLU before they are added. Then neither can take away "
            "what the other says. Asked for is one ReLU, of their sum.",
        ),
        "signal-not-raised": (
            signal_not_raised,
            "What comes from g is added as it is. That fits only where g is as large as x.",
        ),
        "signal-not-raised-added-first": (
            signal_not_raised_added_first,
            "What comes from g is added as it is. That fits only where g is as large as x.",
        ),
        "sigmoid-before-psi": (
            sigmoid_before_psi,
            "The sigmoid stands where the ReLU belongs, and nothing keeps the result in (0, 1).",
        ),
        "product-instead-of-sum": (
            product_instead_of_sum,
            "Skip and signal are multiplied. This gate is additive.",
        ),
        "difference-instead-of-sum": (
            difference_instead_of_sum,
            "The signal is subtracted. It is added.",
        ),
        "nearest": (
            raised_by_repeating,
            "The signal is enlarged by repeating its values, which is what interpolate does when "
            "no mode is given. Asked for is bilinear.",
        ),
        "align-corners": (
            raised_with_corners,
            "Nearly: with align_corners=True the corners of both grids coincide. The question asks "
            "for the other way, which is the default.",
        ),
        "map-of-the-size-of-g": (
            map_of_the_size_of_g,
            "The skip was made as small as the signal, and so is your map. It has to fit the skip.",
        ),
        "map-raised-at-the-end": (
            map_raised_at_the_end,
            "The map is computed at the size of g and enlarged at the end. That is close to the "
            "authors' form; in the common form everything happens at the size of x.",
        ),
        "skip-weighed-already": (
            skip_weighed_already,
            "The skip has been multiplied by the weights already. Asked for are the weights.",
        ),
        "signal-ignored": (
            signal_ignored,
            "The signal g has no say in your map.",
        ),
        "skip-ignored": (
            skip_ignored,
            "The skip has no say in your map: it depends on g alone.",
        ),
        "twice-as-large": (
            twice_as_large,
            "The signal is made exactly twice as large. That fits even sizes and one level of "
            "difference only. Ask x for its size.",
        ),
        "size-swapped": (
            size_swapped,
            "Height and width are exchanged in the size that you ask for.",
        ),
        "joined-instead-of-added": (
            joined_instead_of_added,
            "Skip and signal are joined along the channels, and psi gets twice as many as it "
            "takes. This gate is additive.",
        ),
        "layers-exchanged": (
            layers_exchanged,
            "The layers are exchanged: `skip` is made for x, and `gate` for g.",
        ),
        "layers-exchanged-signal-first": (
            layers_exchanged_signal_first,
            "The layers are exchanged: `skip` is made for x, and `gate` for g.",
        ),
    },
    hints=(
        "Follow the table of the small example row by row: two maps, one sum, ReLU, logit, weight.",
        "`gate(g)` and `skip(x)` have equally many channels, but not the same height and width. "
        "Which of them is to be enlarged, and to which size?",
        "torch.nn.functional.interpolate takes the size as a pair, x.shape[2:], and mode="
        "'bilinear'. Then add, ReLU, psi, and last the sigmoid.",
    ),
    why=(
        "The signal is brought to the places of the skip, so that both can be added there. The "
        "ReLU lets psi combine what several hidden channels have found, psi makes one number of "
        "each place, the sigmoid a weight."
    ),
)


# How low a gate can go ----------------------------------------------------------------------------


def lowest_weight():
    weight, bias = 2, -1
    lowest_logit = weight * 0 + bias
    return torch.sigmoid(torch.tensor(float(lowest_logit))).item()


LOWEST_WEIGHT = Exercise(
    name="gates.lowest_weight",
    question=(
        "A gate has one hidden channel, and its psi multiplies by 2 and adds -1; what is the "
        "lowest weight that it can give to a place, whatever x and g are? "
        "The gate is that of this chapter: sum, ReLU, psi, sigmoid. Answer with a number, at least "
        "two decimals, before you try it out."
    ),
    reference=lowest_weight,
    tolerance=5e-3,
    wrong={
        "zero": (
            lambda: 0.0,
            "A sigmoid comes close to 0 only for logits far below 0. Can the logit get there?",
        ),
        "bias-forgotten": (
            lambda: 0.5,
            "This is the sigmoid of 0. The ReLU gives 0 at the lowest; what does psi make of it?",
        ),
        "sign-lost": (
            lambda: 0.731,
            "You have the bias with the wrong sign.",
        ),
        "logit": (
            lambda: -1.0,
            "This is the lowest logit. The weight is what the sigmoid makes of it.",
        ),
        "relu-forgotten": (
            lambda: 0.0474,
            "This would need a -1 behind the ReLU. What is the lowest number that a ReLU gives?",
        ),
        "factor-for-bias": (
            lambda: 0.119,
            "This is the sigmoid of -2. Which of the two numbers of psi still counts when the ReLU "
            "gives 0?",
        ),
        "factor-alone": (
            lambda: 0.881,
            "This is the sigmoid of 2. Which of the two numbers of psi still counts when the ReLU "
            "gives 0?",
        ),
        "logit-too-low": (
            lambda: 0.018,
            "This is the sigmoid of -4. What would have to come out of the ReLU for that logit?",
        ),
        "below-zero": (
            lambda: -0.269,
            "A sigmoid is never below 0. The sign belongs to the logit.",
        ),
        "highest": (
            lambda: 1.0,
            "This is the highest weight (nearly: a sigmoid does not quite reach it). Asked for is "
            "the lowest.",
        ),
        "softmax": (
            lambda: 0.0625,
            "This is one sixteenth, the share of a place under a softmax over 16. Gates have no "
            "softmax.",
        ),
        "percent": (
            lambda: 26.9,
            "This is in percent. A weight lies between 0 and 1.",
        ),
        "one-decimal": (
            lambda: 0.3,
            "This has one decimal. At least two are asked for.",
        ),
    },
    hints=(
        "Go from the end to the beginning: the sigmoid rises, so the lowest weight belongs to the "
        "lowest logit.",
        "The factor of psi is positive here. So the lowest logit belongs to the lowest value "
        "behind the ReLU.",
        "A ReLU gives 0 at the lowest. psi makes the bias of it; take the sigmoid.",
    ),
    why=(
        "Behind the ReLU nothing is below 0. As long as psi's weights are positive, its bias alone "
        "decides how far the gate can close: a bias of -1 leaves more than a quarter open, however "
        "sure skip and signal are."
    ),
)


# The authors' form --------------------------------------------------------------------------------


class GridGate(torch.nn.Module):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__()
        self.skip = torch.nn.Conv2d(channels, hidden, 2, stride=2, bias=False)
        self.gate = torch.nn.Conv2d(gate_channels, hidden, 1)
        self.psi = torch.nn.Conv2d(hidden, 1, 1)
        self.out = torch.nn.Conv2d(channels, channels, 1)

    def forward(self, x, g):
        resize = torch.nn.functional.interpolate
        skip = self.skip(x)
        gate = resize(self.gate(g), skip.shape[2:], mode="bilinear")
        small = torch.sigmoid(self.psi(torch.relu(skip + gate)))
        alpha = resize(small, x.shape[2:], mode="bilinear")
        return self.out(alpha * x)


class GridParts(GridGate):
    """The same in steps that a wrong answer can change."""

    def signal(self, g, skip):
        return _raised(self.gate(g), skip)

    def small(self, skip, gate):
        return torch.sigmoid(self.psi(torch.relu(skip + gate)))

    def raised(self, small, x):
        return _raised(small, x)

    def weighed(self, x, g, alpha):
        return self.out(x * alpha)

    def forward(self, x, g):
        skip = self.skip(x)
        return self.weighed(x, g, self.raised(self.small(skip, self.signal(g, skip)), x))


class SkipWithBias(GridParts):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.skip = nn.Conv2d(channels, hidden, 2, stride=2)


class SignalWithoutBias(GridParts):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.gate = nn.Conv2d(gate_channels, hidden, 1, bias=False)


class CommonForm(GridParts):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.skip = nn.Conv2d(channels, hidden, 1, bias=False)


class CommonFormWithBias(GridParts):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.skip = nn.Conv2d(channels, hidden, 1)


class CommonFormInFull(CommonFormWithBias):
    def weighed(self, x, g, alpha):
        return x * alpha


class KernelOfOne(GridParts):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.skip = nn.Conv2d(channels, hidden, 1, stride=2, bias=False)


class StrideForgotten(GridParts):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.skip = nn.Conv2d(channels, hidden, 2, bias=False)


class HiddenFixed(GridParts):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, max(channels // 2, 1))


class MapNotRaised(GridParts):
    def raised(self, small, x):
        return small


class MapNotRaisedFirst(MapNotRaised):
    def weighed(self, x, g, alpha):
        return self.out(alpha * x)


class MapRepeated(GridParts):
    def raised(self, small, x):
        return _raised(small, x, "nearest")


class LogitsRaised(GridParts):
    def small(self, skip, gate):
        return self.psi(torch.relu(skip + gate))

    def raised(self, small, x):
        return torch.sigmoid(_raised(small, x))


class AllAtFullSize(GridParts):
    def forward(self, x, g):
        small = self.small(_raised(self.skip(x), x), _raised(self.gate(g), x))
        return self.weighed(x, g, small)


class SumAtFullSize(GridParts):
    def forward(self, x, g):
        skip = self.skip(x)
        both = _raised(skip + self.signal(g, skip), x)
        return self.weighed(x, g, torch.sigmoid(self.psi(both.relu())))


class SignalAtFullSize(GridParts):
    def signal(self, g, skip):
        return F.interpolate(self.gate(g), self.full, mode="bilinear")

    def forward(self, x, g):
        self.full = x.shape[2:]
        return super().forward(x, g)


class SignalAtFullSizeFirst(SignalAtFullSize):
    def small(self, skip, gate):
        return super().small(gate, skip)


class MapTwiceAsLarge(GridParts):
    def raised(self, small, x):
        return F.interpolate(small, scale_factor=2, mode="bilinear")


class MapTwiceAsLargeFirst(MapTwiceAsLarge):
    def weighed(self, x, g, alpha):
        return self.out(alpha * x)


class GridSignalTwiceAsLarge(GridParts):
    def signal(self, g, skip):
        return F.interpolate(self.gate(g), scale_factor=2, mode="bilinear")


class GridSignalTwiceAsLargeFirst(GridSignalTwiceAsLarge):
    def small(self, skip, gate):
        return super().small(gate, skip)


class GridWithCorners(GridParts):
    def signal(self, g, skip):
        size = skip.shape[2:]
        return F.interpolate(self.gate(g), size, mode="bilinear", align_corners=True)

    def raised(self, small, x):
        return F.interpolate(small, x.shape[2:], mode="bilinear", align_corners=True)


class GridWithCornersInTheSignal(GridParts):
    def signal(self, g, skip):
        size = skip.shape[2:]
        return F.interpolate(self.gate(g), size, mode="bilinear", align_corners=True)


class GridWithCornersInTheMap(GridParts):
    def raised(self, small, x):
        return F.interpolate(small, x.shape[2:], mode="bilinear", align_corners=True)


class SignalRepeated(GridParts):
    def signal(self, g, skip):
        return _raised(self.gate(g), skip, "nearest")


class BothRepeated(SignalRepeated):
    def raised(self, small, x):
        return _raised(small, x, "nearest")


class GridSignalIgnored(GridParts):
    def small(self, skip, gate):
        return torch.sigmoid(self.psi(torch.relu(skip)))


class GridReLUOfEach(GridParts):
    def small(self, skip, gate):
        return torch.sigmoid(self.psi(torch.relu(skip) + torch.relu(gate)))


class OutWithNorm(GridParts):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.out = nn.Sequential(self.out, nn.BatchNorm2d(channels))  # type: ignore[assignment]


class SkipBroughtToTheSignal(GridParts):
    def forward(self, x, g):
        gate = self.gate(g)
        small = self.small(_raised(self.skip(x), gate), gate)
        return self.weighed(x, g, self.raised(small, x))


class SignalNotRaised(GridParts):
    def signal(self, g, skip):
        return self.gate(g)


class GridWithoutReLU(GridParts):
    def small(self, skip, gate):
        return torch.sigmoid(self.psi(skip + gate))


class GridWithoutSigmoid(GridParts):
    def small(self, skip, gate):
        return self.psi(torch.relu(skip + gate))


class GridSoftmax(GridParts):
    def small(self, skip, gate):
        logits = self.psi(torch.relu(skip + gate))
        return logits.flatten(2).softmax(2).view_as(logits)


class OutLeftOut(GridParts):
    def weighed(self, x, g, alpha):
        return x * alpha


class OutBeforeTheProduct(GridParts):
    def weighed(self, x, g, alpha):
        return self.out(x) * alpha


class GridAdded(GridParts):
    def weighed(self, x, g, alpha):
        return self.out(x + x * alpha)


class MapAlone(GridParts):
    def weighed(self, x, g, alpha):
        return alpha


class MapConvolved(GridParts):
    def weighed(self, x, g, alpha):
        return self.out(alpha.expand_as(x))


class MapConvolvedAlone(GridParts):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.out = nn.Conv2d(1, channels, 1)

    def weighed(self, x, g, alpha):
        return self.out(alpha)


class SignalWeighed(GridParts):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.out = nn.Conv2d(gate_channels, channels, 1)

    def weighed(self, x, g, alpha):
        return self.out(_raised(g, x) * alpha)


class SignalWeighedBySkipsLayer(GridParts):
    def weighed(self, x, g, alpha):
        return self.out(_raised(g, x) * alpha)


class LayerUnused(GridGate):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.more = nn.Conv2d(channels, channels, 1)


class LayersInAList(GridParts):
    def __init__(self, channels, gate_channels, hidden):
        super().__init__(channels, gate_channels, hidden)
        self.layers = [nn.Conv2d(channels, channels, 1)]


def _run_gate(candidate: Any) -> Callable[..., Any]:
    def run(
        channels: int, gate_channels: int, hidden: int, x: torch.Tensor, g: torch.Tensor
    ) -> Any:
        module = module_from(candidate, channels, gate_channels, hidden)
        if _holds_unregistered(module):
            return "a list holds layers that the module does not know"
        called: list[str] = []
        for name, layer in module.named_modules():
            if next(layer.parameters(recurse=False), None) is not None:
                layer.register_forward_hook(lambda *_, name=name: called.append(name))
        try:
            with torch.enable_grad():
                found = module(x, g)
        except RuntimeError as error:
            if "size of tensor" in str(error) and len(called) == 2:  # in the sum
                text = f"{error}, before psi is called"
                raise RuntimeError(text).with_traceback(error.__traceback__) from None
            raise
        wanted = sum(p.numel() for p in GridGate(channels, gate_channels, hidden).parameters())
        learned = list(module.parameters())
        if sum(p.numel() for p in learned) > wanted and _tracked(found):
            slopes = torch.autograd.grad(found.sum(), learned, allow_unused=True)
            if any(slope is None for slope in slopes):
                return "a layer takes no part in the answer"
        return found

    return run


def _tracked(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


def _holds_unregistered(module: nn.Module) -> bool:
    """Whether a plain list, tuple or dictionary holds layers that are not registered."""
    known = set(module.modules())
    for name, value in vars(module).items():
        values = value.values() if isinstance(value, dict) else value
        held = values if name != "_modules" and isinstance(value, list | tuple | dict) else ()
        if any(isinstance(x, nn.Module) and x not in known for x in held):
            return True
    return False


def _grid_inputs(rng: torch.Generator) -> Inputs:
    cases = []
    for n, c, c_g, hidden, size, coarse in (
        (1, 2, 5, 3, (4, 4), (2, 2)),
        (2, 3, 6, 2, (4, 8), (2, 4)),
        (2, 4, 7, 3, (6, 4), (2, 3)),
        (3, 3, 5, 4, (7, 5), (4, 3)),
        (1, 5, 4, 2, (8, 6), (2, 2)),
        (2, 2, 3, 4, (6, 10), (3, 5)),
    ):
        x = 2 * torch.randn(n, c, *size, generator=rng)
        g = 2 * torch.randn(n, c_g, *coarse, generator=rng)
        cases.append((c, c_g, hidden, x, g))
    return cases


GRID_GATE = Exercise(
    name="gates.GridGate",
    question=(
        "Write GridGate(channels, gate_channels, hidden), a module that weighs a skip as the "
        "authors' code does. "
        "`forward(x, g)` gets the skip x, a float tensor (N, channels, H, W), H and W at least 4, "
        "and the signal g, (N, gate_channels, H', W'), of any size. It holds four convolutions and "
        "nothing else that learns: from x to the hidden channels, 2 by 2, stride 2, no bias; from "
        "g to the hidden channels, 1x1, with bias; psi to one channel, 1x1, with bias; and a last "
        "one from `channels` to `channels`, 1x1, with bias, behind the product (its norm is left "
        "out here). What comes from g is brought to the size of what comes from x, and behind the "
        "sigmoid the map to the size of x, both by bilinear interpolation. Return "
        "(N, channels, H, W). Your weights are overwritten before the check."
    ),
    reference=GridGate,
    make_inputs=_grid_inputs,
    prepare=_run_gate,
    wrong={
        "skip-with-bias": (
            SkipWithBias,
            "The convolution of x has a bias. One is enough, as the two are added, and it is the "
            "one of g.",
        ),
        "signal-without-bias": (
            SignalWithoutBias,
            "The convolution of g has no bias. Then none of the two has one.",
        ),
        "common-form": (
            CommonForm,
            "Your convolution of x is 1x1 and keeps the size: the common form. In the authors' "
            "code it halves the size with a kernel of 2 by 2.",
        ),
        "common-form-with-bias": (
            CommonFormWithBias,
            "Your convolution of x is 1x1, keeps the size, and has a bias: the common form. In the "
            "authors' code it halves the size, and has none.",
        ),
        "common-form-in-full": (
            CommonFormInFull,
            "This is the common form, with all at the size of x and nothing behind the product. "
            "Asked for is the authors'.",
        ),
        "kernel-of-one": (
            KernelOfOne,
            "A kernel of 1 by 1 with stride 2 skips three of four places without looking at them. "
            "The authors' kernel covers what its stride steps over.",
        ),
        "stride-forgotten": (
            StrideForgotten,
            "The kernel is right, the stride is not: the map comes out one smaller than x instead "
            "of half as large.",
        ),
        "hidden-fixed": (
            HiddenFixed,
            "The number of hidden channels is chosen by your code. It is an argument.",
        ),
        "map-not-raised": (
            MapNotRaised,
            "The map is half as large as the skip, and they cannot be multiplied. What is missing "
            "between them?",
        ),
        "map-not-raised-first": (
            MapNotRaisedFirst,
            "The map is half as large as the skip, and they cannot be multiplied. What is missing "
            "between them?",
        ),
        "map-repeated": (
            MapRepeated,
            "The map is enlarged by repeating its values. Asked for is bilinear interpolation.",
        ),
        "all-at-full-size": (
            AllAtFullSize,
            "You enlarge what comes from x before the sum, so that everything happens at the size "
            "of x. Here the map is computed at the smaller size, and enlarged once it is there.",
        ),
        "sum-at-full-size": (
            SumAtFullSize,
            "You enlarge the sum, so that ReLU, psi and sigmoid happen at the size of x. Here the "
            "map is computed at the smaller size, and enlarged once it is there.",
        ),
        "signal-at-full-size": (
            SignalAtFullSize,
            "What comes from g is brought to the size of x. It is added to what comes from x, and "
            "the convolution there has made that smaller.",
        ),
        "signal-at-full-size-first": (
            SignalAtFullSizeFirst,
            "What comes from g is brought to the size of x. It is added to what comes from x, and "
            "the convolution there has made that smaller.",
        ),
        "map-twice-as-large": (
            MapTwiceAsLarge,
            "Right for even sizes. The map is made exactly twice as large, and an odd height or "
            "width of x is not twice anything. Ask x for its size.",
        ),
        "map-twice-as-large-first": (
            MapTwiceAsLargeFirst,
            "Right for even sizes. The map is made exactly twice as large, and an odd height or "
            "width of x is not twice anything. Ask x for its size.",
        ),
        "signal-twice-as-large": (
            GridSignalTwiceAsLarge,
            "What comes from g is made exactly twice as large, whatever size it is to be added to. "
            "That is the size of what comes from x.",
        ),
        "signal-twice-as-large-first": (
            GridSignalTwiceAsLargeFirst,
            "What comes from g is made exactly twice as large, whatever size it is to be added to. "
            "That is the size of what comes from x.",
        ),
        "logits-raised": (
            LogitsRaised,
            "You enlarge the logits and take the sigmoid then. Here the weights are enlarged: the "
            "sigmoid comes first.",
        ),
        "align-corners": (
            GridWithCorners,
            "Nearly: with align_corners=True the corners of both grids coincide. Asked for is the "
            "default of interpolate.",
        ),
        "align-corners-in-the-signal": (
            GridWithCornersInTheSignal,
            "Nearly: what comes from g is resized with align_corners=True. Asked for is the "
            "default of interpolate.",
        ),
        "align-corners-in-the-map": (
            GridWithCornersInTheMap,
            "Nearly: the map is enlarged with align_corners=True. Asked for is the default of "
            "interpolate.",
        ),
        "signal-repeated": (
            SignalRepeated,
            "What comes from g is resized by repeating its values, which is what interpolate does "
            "when no mode is given. Asked for is bilinear.",
        ),
        "both-repeated": (
            BothRepeated,
            "Signal and map are both resized by repeating values, which is what interpolate does "
            "when no mode is given. Asked for is bilinear.",
        ),
        "signal-ignored": (
            GridSignalIgnored,
            "The signal g has no say in your map.",
        ),
        "relu-of-each": (
            GridReLUOfEach,
            "Skip and signal each pass a ReLU before they are added. Then neither can take away "
            "what the other says. Asked for is one ReLU, of their sum.",
        ),
        "with-norm": (
            OutWithNorm,
            "A norm follows the last convolution, as in the diagram. In this exercise it is left "
            "out: four convolutions, and nothing else that learns.",
        ),
        "skip-brought-to-the-signal": (
            SkipBroughtToTheSignal,
            "What comes from x is brought to the size of g. Asked for is the other way round: g "
            "may be coarser still.",
        ),
        "signal-not-raised": (
            SignalNotRaised,
            "Right where g has half the size of x. It may be smaller still, or rounded another "
            "way: bring it to the size of what comes from x.",
        ),
        "no-relu": (GridWithoutReLU, "The ReLU between the sum and psi is missing."),
        "no-sigmoid": (
            GridWithoutSigmoid,
            "The map is made of bare logits: they can be negative or large.",
        ),
        "softmax": (
            GridSoftmax,
            "There is a softmax over the places. A gate ends in a sigmoid, and its weights need "
            "not sum to one.",
        ),
        "out-left-out": (
            OutLeftOut,
            "The product comes out as it is. Behind it stands one more convolution.",
        ),
        "out-before-the-product": (
            OutBeforeTheProduct,
            "The last convolution works on x before it is weighed. Asked for is behind the "
            "product: its bias must not be weighed.",
        ),
        "added": (
            GridAdded,
            "You add x to what is weighed. Then nothing is ever shut out; the gate multiplies, and "
            "that is all.",
        ),
        "map-convolved": (
            MapConvolved,
            "The last convolution gets the map alone: nothing has been multiplied by it.",
        ),
        "map-convolved-alone": (
            MapConvolvedAlone,
            "The last convolution gets the map alone: nothing has been multiplied by it.",
        ),
        "signal-weighed": (
            SignalWeighed,
            "The signal g is weighed. In a gate g is asked, and something else is weighed.",
        ),
        "signal-weighed-by-the-skips-layer": (
            SignalWeighedBySkipsLayer,
            "The signal g is weighed. In a gate g is asked, and something else is weighed.",
        ),
        "layer-unused": (
            LayerUnused,
            "Your module holds a layer that learns and takes no part in the answer. Four "
            "convolutions are asked for and nothing else that learns.",
        ),
        "layers-in-a-list": (
            LayersInAList,
            "Layers lie in a plain list, tuple or dictionary. There the module does not know them: "
            "no optimizer would find their weights.",
        ),
        "map-alone": (
            MapAlone,
            "This is the map, (N, 1, H, W). Asked for is the skip weighed by it, behind the last "
            "convolution.",
        ),
    },
    hints=(
        "Four convolutions in the constructor; write down for each of them what it takes, what it "
        "gives, its kernel, its stride and whether it has a bias.",
        "Two enlargements: what comes from g to the size of what comes from x, and the map to the "
        "size of x.",
        "Sum, ReLU, psi, sigmoid, enlarge, multiply x, and the last convolution on the product.",
    ),
    why=(
        "The map is computed at half the size, which costs a quarter of the work, and is "
        "interpolated. It multiplies the skip, not g, and the last convolution mixes what is left."
    ),
)


# Find the bug: the decoder step with a gate ------------------------------------------------------


def gated_step(x, skip, up, gate, merge):
    raised = up(x)
    gated = gate(skip, raised)
    return merge(torch.cat([gated, raised], dim=1))


def step_unmended(x, skip, up, gate, merge):
    raised = up(x)
    gated = gate(raised, skip)
    return merge(torch.cat([skip, gated], dim=1))


def arguments_mended_only(x, skip, up, gate, merge):
    return merge(torch.cat([skip, gate(skip, up(x))], 1))


def raised_weighed_and_lost_skip(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.cat([gate(raised, skip), raised], 1))


def joined_in_the_other_order(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.cat([raised, gate(skip, raised)], 1))


def unmended_in_the_other_order(x, skip, up, gate, merge):
    return merge(torch.cat([gate(up(x), skip), skip], 1))


def gate_not_used(x, skip, up, gate, merge):
    return merge(torch.cat([skip, up(x)], 1))


def skip_asks_itself(x, skip, up, gate, merge):
    return merge(torch.cat([gate(skip, skip), up(x)], 1))


def coarse_map_asked(x, skip, up, gate, merge):
    return merge(torch.cat([gate(skip, x), up(x)], 1))


def both_weighed(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.cat([gate(skip, raised), gate(raised, skip)], 1))


def both_weighed_by_one_map(x, skip, up, gate, merge):
    raised = up(x)
    weights = gate.weights(skip, raised)
    return merge(torch.cat([skip * weights, raised * weights], 1))


def skip_added_to_itself(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.cat([skip + gate(skip, raised), raised], 1))


def map_of_swapped_roles(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.cat([skip * gate.weights(raised, skip), raised], 1))


def weighed_twice(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.cat([skip * gate(skip, raised), raised], 1))


def weights_instead_of_skip(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.cat([gate.weights(skip, raised), raised], 1))


def weights_widened(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.cat([gate.weights(skip, raised).expand_as(skip), raised], 1))


def three_joined(x, skip, up, gate, merge):
    raised = up(x)
    return merge(torch.cat([skip, gate(skip, raised), raised], 1))


def not_merged(x, skip, up, gate, merge):
    raised = up(x)
    return torch.cat([gate(skip, raised), raised], 1)


def _steps(rng: torch.Generator) -> Inputs:
    from course_utils.attention import AttentionGate

    cases = []
    for n, c, size in (
        (1, 2, (2, 2)),
        (2, 3, (2, 3)),
        (3, 4, (4, 2)),
        (2, 2, (3, 5)),
        (1, 5, (1, 4)),
    ):
        x = 2 * torch.randn(n, 2 * c, *size, generator=rng)
        skip = 2 * torch.randn(n, c, *(2 * side for side in size), generator=rng)
        layers = nn.ConvTranspose2d(2 * c, c, 2, 2), AttentionGate(c, c), nn.Conv2d(2 * c, c, 1)
        cases.append((x, skip, *(_filled(layer, rng) for layer in layers)))
    return cases


GATED_STEP = Exercise(
    name="gates.gated_step",
    question=(
        "Mend gated_step(x, skip, up, gate, merge), a step of the decoder of an Attention U-Net. "
        "`x` is what the coarser level has found, a float tensor (N, 2 C, H, W); `skip` is what "
        "the encoder has found on this level, (N, C, 2 H, 2 W). `up`, `gate` and `merge` are "
        "modules: `up` gives (N, C, 2 H, 2 W); `gate` is an AttentionGate of the course, whose "
        "first argument is weighed and whose second is asked; `merge` takes 2 C channels, those "
        "of the skip first. The signal is the raised map, as in MONAI. What is weighed has to be "
        "the skip; the raised map passes as it is. Return what `merge` gives, (N, C, 2 H, 2 W)."
    ),
    reference=gated_step,
    make_inputs=_steps,
    wrong={
        "unmended": (
            step_unmended,
            "This behaves like the code you started from. It runs because both maps have the same "
            "shape. Say in words what is weighed, who is asked, and what reaches `merge`.",
        ),
        "raised-map-lost": (
            arguments_mended_only,
            "The right map is weighed now. But what the coarser level has found does not reach "
            "`merge` except through the weights.",
        ),
        "raised-map-weighed": (
            raised_weighed_and_lost_skip,
            "What reaches `merge` is the raised map, weighed and unweighed. The encoder's fine "
            "detail is gone: the skip is only asked.",
        ),
        "order-swapped": (
            joined_in_the_other_order,
            "Both halves are right, in the wrong order: `merge` expects the skip's channels first.",
        ),
        "unmended-in-the-other-order": (
            unmended_in_the_other_order,
            "Only the order of the halves has changed. Still the raised map is weighed, and the "
            "skip passes as it is.",
        ),
        "gate-not-used": (
            gate_not_used,
            "This is the step of the plain U-Net: nothing is weighed.",
        ),
        "skip-asks-itself": (
            skip_asks_itself,
            "The skip is its own signal. Then the coarser level, which sees more of the image, has "
            "no say in the weights.",
        ),
        "coarse-map-asked": (
            coarse_map_asked,
            "You ask x as it comes. The course's U-Net does so, but this gate was made for another "
            "signal, with C channels: the question names it.",
        ),
        "both-weighed": (
            both_weighed,
            "Both maps are weighed, each by the other. The raised map is to pass as it is.",
        ),
        "one-map-for-both": (
            both_weighed_by_one_map,
            "The weights of the skip are put on the raised map as well. It is to pass as it is.",
        ),
        "skip-added": (
            skip_added_to_itself,
            "The skip is added to what the gate has left of it: then nothing can be shut out.",
        ),
        "map-of-swapped-roles": (
            map_of_swapped_roles,
            "The skip is weighed, but by a map in which skip and signal have exchanged roles.",
        ),
        "weighed-twice": (
            weighed_twice,
            "The skip is multiplied by what the gate returns. But a gate of the course returns the "
            "weighed skip, not the weights: your skip is squared.",
        ),
        "weights-instead-of-skip": (
            weights_instead_of_skip,
            "`gate.weights` gives the map alone, with a single channel: nothing has been weighed "
            "by it.",
        ),
        "weights-widened": (
            weights_widened,
            "The map alone, repeated for each channel, takes the place of the skip: nothing has "
            "been weighed by it.",
        ),
        "three-joined": (
            three_joined,
            "Three maps are joined, with 3 C channels; `merge` takes 2 C. The weighed skip takes "
            "the place of the skip.",
        ),
        "not-merged": (
            not_merged,
            "The halves are joined, with 2 C channels, but `merge` has not been called.",
        ),
    },
    hints=(
        "Nothing raises here. So go by meaning: which of the two maps holds fine detail that may "
        "be irrelevant, and which one knows what matters?",
        "The first argument of the gate comes out weighed. In the code you started from, which map "
        "is that?",
        "Weigh the skip, ask the raised map. Then look at what is joined: the weighed skip, and "
        "the map that has not been weighed.",
    ),
    why=(
        "The gate's two arguments have equal shapes here, so that nothing stops you from swapping "
        "them. The skip is weighed, the coarser level is asked, and it passes on unweighed."
    ),
)


# How many numbers a gate learns -------------------------------------------------------------------


def gate_parameters():
    channels, gate_channels, hidden = 16, 32, 8
    of_skip = channels * hidden + hidden
    of_gate = gate_channels * hidden + hidden
    of_psi = hidden * 1 + 1
    return float(of_skip + of_gate + of_psi)


GATE_PARAMETERS = Exercise(
    name="gates.gate_parameters",
    question=(
        "How many numbers does a gate of the common form learn on a skip of 16 channels, if the "
        "coarser level has 32 channels and the hidden layer 8? "
        "Three 1x1 convolutions, each with a bias, no norm. Answer with a whole number before you "
        "ask the module."
    ),
    reference=gate_parameters,
    tolerance=1e-4,
    wrong={
        "biases-forgotten": (
            lambda: 392.0,
            "These are the weights alone. Each convolution also has a bias for every channel that "
            "it puts out.",
        ),
        "two-products": (
            lambda: 384.0,
            "These are the weights of the two convolutions that lead to the sum, without biases. "
            "There is a third convolution.",
        ),
        "bias-of-psi-alone": (
            lambda: 393.0,
            "These are all weights and a single bias. Each of the three convolutions has biases.",
        ),
        "eight-biases-for-each": (
            lambda: 392.0 + 3 * 8,
            "You count eight biases for each of the three convolutions. One of them puts out fewer "
            "channels.",
        ),
        "biases-for-what-comes-in": (
            lambda: 392.0 + 16 + 32 + 8,
            "You count a bias for each channel that comes in. There is one for each that goes out.",
        ),
        "one-bias-missing": (
            lambda: 401.0,
            "One bias of the hidden layer is missing. In the authors' form it is; here each of the "
            "three convolutions has one.",
        ),
        "psi-forgotten": (
            lambda: 400.0,
            "The two convolutions that lead to the sum are right. A third one makes a single "
            "number of it.",
        ),
        "bias-of-psi-forgotten": (
            lambda: 408.0,
            "Nearly: one number is missing, and it decides how far the gate stands open by itself.",
        ),
        "signal-as-wide-as-skip": (
            lambda: 281.0,
            "You count the signal with the skip's number of channels. The coarser level has more.",
        ),
        "map-for-each-channel": (
            lambda: 544.0,
            "You let psi put out a weight for each channel of the skip. A gate has one weight for "
            "a place.",
        ),
        "three-by-three": (
            lambda: 3545.0,
            "You count kernels of 3 by 3. These are 1x1: nine times fewer weights.",
        ),
        "hidden-as-wide-as-skip": (
            lambda: 817.0,
            "You take as many hidden channels as the skip has. There are fewer.",
        ),
        "authors-form": (
            lambda: 1057.0,
            "This is the authors' form with its last convolution. Asked for is the common one.",
        ),
        "authors-form-without-the-last": (
            lambda: 785.0,
            "This is the authors' form, with a kernel of 2 by 2 and no bias on the skip, but "
            "without its last convolution. Asked for is the common form, with kernels of 1 by 1.",
        ),
        "two-by-two": (
            lambda: 793.0,
            "You count a kernel of 2 by 2 on the skip, as the authors' form has it. In the common "
            "form all kernels are 1 by 1.",
        ),
    },
    hints=(
        "A 1x1 convolution holds a weight for each pair of a channel that comes in and one that "
        "goes out, and a bias for each that goes out.",
        "From the skip: 16 times 8 weights and 8 biases. From the signal the same with 32.",
        "psi leads from 8 channels to 1: eight weights and a bias.",
    ),
    why=(
        "Three 1x1 convolutions: the numbers grow with the channels, not with the size of the "
        "image. A block of the U-Net, with its kernels of 3 by 3, holds far more."
    ),
)


# Paired differences -------------------------------------------------------------------------------


def paired_difference(attention, control):
    both = attention - control
    both = both[~both.isnan()]
    error = both.std() / len(both) ** 0.5
    return torch.stack([both.mean(), error])


def _complete(attention, control):
    kept = ~(attention.isnan() | control.isnan())
    return attention[kept], control[kept]


def difference_of_separate_means(attention, control):
    a, c = attention[~attention.isnan()], control[~control.isnan()]
    error = (a.var() / len(a) + c.var() / len(c)).sqrt()
    return torch.stack([a.mean() - c.mean(), error])


def unpaired_error(attention, control):
    a, c = _complete(attention, control)
    return torch.stack([(a - c).mean(), (a.var() / len(a) + c.var() / len(c)).sqrt()])


def means_over_all_runs(attention, control):
    mean = attention.nanmean() - control.nanmean()
    return torch.stack([mean, paired_difference(attention, control)[1]])


def shifted_together(attention, control):
    a, c = attention[~attention.isnan()], control[~control.isnan()]
    n = min(len(a), len(c))
    return paired_difference(a[:n], c[:n])


def difference_turned_round(attention, control):
    return paired_difference(control, attention)


def spread_instead_of_error(attention, control):
    a, c = _complete(attention, control)
    return torch.stack([(a - c).mean(), (a - c).std()])


def error_by_n(attention, control):
    a, c = _complete(attention, control)
    return torch.stack([(a - c).mean(), (a - c).std() / len(a)])


def error_of_the_population(attention, control):
    a, c = _complete(attention, control)
    return torch.stack([(a - c).mean(), (a - c).std(correction=0) / len(a) ** 0.5])


def missing_runs_counted(attention, control):
    a, c = _complete(attention, control)
    return torch.stack([(a - c).mean(), (a - c).std() / len(attention) ** 0.5])


def missing_runs_kept(attention, control):
    both = attention - control
    return torch.stack([both.mean(), both.std() / len(both) ** 0.5])


def missing_runs_as_zero(attention, control):
    both = attention.nan_to_num() - control.nan_to_num()
    return torch.stack([both.mean(), both.std() / len(both) ** 0.5])


def missing_differences_as_zero(attention, control):
    both = (attention - control).nan_to_num()
    return torch.stack([both.mean(), both.std() / len(both) ** 0.5])


def interval_by_two(attention, control):
    mean, error = paired_difference(attention, control)
    return torch.stack([mean, 1.96 * error])


def interval_by_t(attention, control):
    from course_utils.ledger import mean_interval

    a, c = _complete(attention, control)
    return torch.tensor(mean_interval((a - c).tolist()))


def variance_over_root(attention, control):
    a, c = _complete(attention, control)
    return torch.stack([(a - c).mean(), (a - c).var() / len(a) ** 0.5])


def variance_over_n(attention, control):
    a, c = _complete(attention, control)
    return torch.stack([(a - c).mean(), (a - c).var() / len(a)])


def one_less_under_the_root(attention, control):
    a, c = _complete(attention, control)
    return torch.stack([(a - c).mean(), (a - c).std() / (len(a) - 1) ** 0.5])


def error_first(attention, control):
    return paired_difference(attention, control).flip(0)


def relative_difference(attention, control):
    a, c = _complete(attention, control)
    return paired_difference(a / c, torch.ones_like(c))


def size_of_the_differences(attention, control):
    a, c = _complete(attention, control)
    return paired_difference((a - c).abs(), torch.zeros_like(c))


def both_arms_scores(attention, control):
    a, c = _complete(attention, control)
    return torch.stack([a.mean(), c.mean()])


def _arms(rng: torch.Generator) -> Inputs:
    cases = []
    for seeds, missing in (
        (3, ()),
        (5, (1,)),
        (4, ()),
        (6, (0, 5)),
        (8, (2, 6, 7)),
        (7, (3,)),
    ):
        luck = 0.05 * torch.randn(seeds, generator=rng)
        control = 0.8 + luck + 0.01 * torch.randn(seeds, generator=rng)
        attention = 0.81 + luck + 0.01 * torch.randn(seeds, generator=rng)
        for turn, place in enumerate(missing):
            (attention if turn % 2 else control)[place] = float("nan")
        cases.append((10 * attention, 10 * control))
    return cases


PAIRED_DIFFERENCE = Exercise(
    name="gates.paired_difference",
    question=(
        "Write paired_difference(attention, control): the mean over seeds of attention minus "
        "control, and the standard error of that mean. "
        "Both are float tensors (S,): the score of each seed, in the same order; NaN where a seed "
        "has not run in that arm. Only seeds that have run in both arms count; there are at least "
        "two. The standard error is the sample standard deviation of the differences (with n - 1) "
        "divided by the square root of their number n. Return a float tensor (2,): the mean "
        "difference and its standard error."
    ),
    reference=paired_difference,
    make_inputs=_arms,
    wrong={
        "separate-means": (
            difference_of_separate_means,
            "Each arm is averaged by itself, and the errors are put together as if the arms had "
            "nothing to do with each other. A seed means the same start and the same batches in "
            "both: take the differences first.",
        ),
        "unpaired-error": (
            unpaired_error,
            "The mean is right. The error is that of two independent samples: what the seeds have "
            "in common is still in it. How much do the differences scatter?",
        ),
        "means-over-all-runs": (
            means_over_all_runs,
            "The means are taken over all runs of each arm. Where a seed is missing in one arm "
            "only, they compare different seeds.",
        ),
        "shifted-together": (
            shifted_together,
            "Missing runs are dropped in each arm by itself, so that the rest moves up and meets "
            "the result of another seed.",
        ),
        "turned-round": (
            difference_turned_round,
            "The difference is turned round: a gain by attention comes out negative.",
        ),
        "spread-instead-of-error": (
            spread_instead_of_error,
            "The second number is the spread of single differences. The mean of several is known "
            "better than that.",
        ),
        "error-by-n": (
            error_by_n,
            "You divide by the number of seeds. The error of a mean falls with its square root.",
        ),
        "population": (
            error_of_the_population,
            "The spread is divided by n where n - 1 is asked for. With few seeds that makes the "
            "error look too small.",
        ),
        "missing-runs-counted": (
            missing_runs_counted,
            "Seeds that have not run in both arms are left out of the mean, but n still counts "
            "them.",
        ),
        "nan-kept": (
            missing_runs_kept,
            "A single run that is missing makes NaN of everything. Leave out its seed.",
        ),
        "missing-runs-as-zero": (
            missing_runs_as_zero,
            "A run that is missing counts as a score of 0. It says nothing, and its seed must not "
            "count.",
        ),
        "missing-differences-as-zero": (
            missing_differences_as_zero,
            "A seed that is missing in one arm counts as a difference of 0. Leave it out.",
        ),
        "interval": (
            interval_by_two,
            "The second number is 1.96 times the standard error, half an interval (of a large "
            "sample). Asked for is the error itself.",
        ),
        "interval-by-t": (
            interval_by_t,
            "The second number is the half width of the 95% interval. Asked for is the error, "
            "before it is multiplied by t.",
        ),
        "variance-over-root": (
            variance_over_root,
            "You divide the variance, where the standard deviation is asked for.",
        ),
        "variance-over-n": (
            variance_over_n,
            "This is the square of the standard error.",
        ),
        "one-less-under-the-root": (
            one_less_under_the_root,
            "n - 1 belongs into the standard deviation, and `std` has it there already. Under the "
            "root stands n.",
        ),
        "error-first": (
            error_first,
            "Both numbers are right, in the wrong order: the mean difference comes first.",
        ),
        "relative": (
            relative_difference,
            "These are relative differences, in parts of the control's score. Asked for are "
            "differences.",
        ),
        "sign-lost": (
            size_of_the_differences,
            "The sign of each difference is lost. Then any two arms that scatter differ.",
        ),
        "both-means": (
            both_arms_scores,
            "These are the mean scores of the two arms. Asked for are their difference and its "
            "error.",
        ),
    },
    hints=(
        "Begin with one number for each seed.",
        "NaN minus anything is NaN: so isnan of the differences says which seeds to leave out.",
        "`std` of a tensor divides by n - 1 by itself. Divide it by the root of how many are left.",
    ),
    why=(
        "What a seed brings to both arms, if anything, cancels in the difference. Then the error "
        "is below that of two separate means. Where the arms do not go together over seeds, "
        "nothing cancels, and the paired error is right all the same."
    ),
)


# Dice by size -------------------------------------------------------------------------------------


def dice_by_size(dice, areas, groups):
    order = areas.argsort()
    parts = dice[order].tensor_split(groups)
    return torch.stack([part.mean() for part in parts])


def groups_of_the_list(dice, areas, groups):
    return torch.stack([part.mean() for part in dice.tensor_split(groups)])


def largest_first(dice, areas, groups):
    return dice_by_size(dice, areas, groups).flip(0)


def descending(dice, areas, groups):
    parts = dice[areas.argsort(descending=True)].tensor_split(groups)
    return torch.stack([part.mean() for part in parts])


def chunks(dice, areas, groups):
    return torch.stack([part.mean() for part in dice[areas.argsort()].chunk(groups)])


def pieces_of_that_size(dice, areas, groups):
    return torch.stack([part.mean() for part in dice[areas.argsort()].split(groups)])


def view_of_groups(dice, areas, groups):
    return dice[areas.argsort()].view(groups, -1).mean(1)


def quantiles_up_to(dice, areas, groups):
    edges = areas.double().quantile(torch.linspace(0, 1, groups + 1).double())[1:-1]
    group = torch.bucketize(areas.double(), edges)
    return torch.stack([dice[group == k].mean() for k in range(groups)])


def quantiles_from(dice, areas, groups):
    edges = areas.double().quantile(torch.linspace(0, 1, groups + 1).double())[1:-1]
    group = torch.bucketize(areas.double(), edges, right=True)
    return torch.stack([dice[group == k].mean() for k in range(groups)])


def _between_quantiles(dice, areas, groups, inside):
    edges = areas.double().quantile(torch.linspace(0, 1, groups + 1).double())
    return torch.stack([dice[inside(areas, edges[k], edges[k + 1])].mean() for k in range(groups)])


def largest_case_lost(dice, areas, groups):
    return _between_quantiles(dice, areas, groups, lambda a, low, high: (low <= a) & (a < high))


def smallest_case_lost(dice, areas, groups):
    return _between_quantiles(dice, areas, groups, lambda a, low, high: (low < a) & (a <= high))


def cases_counted_twice(dice, areas, groups):
    return _between_quantiles(dice, areas, groups, lambda a, low, high: (low <= a) & (a <= high))


def cuts_rounded_down(dice, areas, groups):
    n, ordered = len(dice), dice[areas.argsort()]
    cuts = [n * k // groups for k in range(groups + 1)]
    return torch.stack([ordered[a:b].mean() for a, b in pairwise(cuts)])


def dice_sorted(dice, areas, groups):
    return torch.stack([part.mean() for part in dice.sort().values.tensor_split(groups)])


def areas_averaged(dice, areas, groups):
    return torch.stack([p.mean() for p in areas.float().sort().values.tensor_split(groups)])


def ranks_for_order(dice, areas, groups):
    return torch.stack([p.mean() for p in dice[areas.argsort().argsort()].tensor_split(groups)])


def equal_steps_of_area(dice, areas, groups):
    lowest, highest = areas.min().item(), areas.max().item()
    edges = torch.linspace(lowest, highest, groups + 1)[1:-1]
    group = torch.bucketize(areas.float(), edges)
    return torch.stack([dice[group == k].mean() for k in range(groups)])


def rest_dropped(dice, areas, groups):
    size = len(dice) // groups
    return dice[areas.argsort()][: size * groups].view(groups, size).mean(1)


def rest_to_the_last(dice, areas, groups):
    size, ordered = len(dice) // groups, dice[areas.argsort()]
    parts = [*ordered[: size * (groups - 1)].split(size), ordered[size * (groups - 1) :]]
    return torch.stack([part.mean() for part in parts])


def medians(dice, areas, groups):
    parts = dice[areas.argsort()].tensor_split(groups)
    return torch.stack([part.median() for part in parts])


def sums_of_groups(dice, areas, groups):
    return torch.stack([part.sum() for part in dice[areas.argsort()].tensor_split(groups)])


def weighed_by_area(dice, areas, groups):
    order = areas.argsort()
    pairs = zip(dice[order].tensor_split(groups), areas[order].tensor_split(groups), strict=True)
    return torch.stack([(d * a).sum() / a.sum() for d, a in pairs])


def lowest_of_groups(dice, areas, groups):
    return torch.stack([part.min() for part in dice[areas.argsort()].tensor_split(groups)])


def _cases(rng: torch.Generator) -> Inputs:
    cases = []
    # Quantiles fall between two cases, or on one by a fraction without rounding.
    for n, groups in ((6, 2), (8, 3), (9, 3), (11, 4), (17, 5), (23, 3)):
        dice = torch.rand(n, generator=rng)
        areas = (torch.randperm(n, generator=rng) + 1) ** 2 * 7
        cases.append((dice, areas, groups))
    return cases


DICE_BY_SIZE = Exercise(
    name="gates.dice_by_size",
    question=(
        "Write dice_by_size(dice, areas, groups): the mean Dice of the smallest objects, of the "
        "next larger ones, and so on up to the largest. "
        "`dice` is a float tensor (N,), a score for each case; `areas` an int tensor (N,), the "
        "size of each case's object in pixels, all different; `groups` a whole number, at most N. "
        "The cases, ordered by area, are cut into so many groups with equally many cases; where "
        "they do not divide, the first groups have one case more, as torch.tensor_split does it. "
        "Return a float tensor (groups,), the smallest objects first."
    ),
    reference=dice_by_size,
    make_inputs=_cases,
    wrong={
        "not-ordered": (
            groups_of_the_list,
            "The cases are grouped in the order in which they stand. Their areas have no say.",
        ),
        "largest-first": (
            largest_first,
            "The groups are right, the largest objects come first. Asked for is the other way.",
        ),
        "descending": (
            descending,
            "Ordered from the largest to the smallest. Asked for is the other way, and the groups "
            "that are one larger are then others, too.",
        ),
        "chunks": (
            chunks,
            "`chunk` rounds the size of a piece up: the last group gets what is left, and there "
            "may be fewer groups than asked for.",
        ),
        "pieces-of-that-size": (
            pieces_of_that_size,
            "`split` takes the size of a piece, not the number of pieces.",
        ),
        "view": (
            view_of_groups,
            "As rows of equal length, which needs a number of cases that the groups divide.",
        ),
        "quantiles-up-to": (
            quantiles_up_to,
            "Cut at quantiles of the areas. Where the cases do not divide, the groups that get one "
            "more are then others than those asked for.",
        ),
        "quantiles-from": (
            quantiles_from,
            "Cut at quantiles of the areas. Where the cases do not divide, the groups that get one "
            "more are then others than those asked for.",
        ),
        "largest-case-lost": (
            largest_case_lost,
            "Cut at quantiles of the areas, with groups that leave their upper end out: the "
            "largest case is in none.",
        ),
        "smallest-case-lost": (
            smallest_case_lost,
            "Cut at quantiles of the areas, with groups that leave their lower end out: the "
            "smallest case is in none.",
        ),
        "cases-counted-twice": (
            cases_counted_twice,
            "Cut at quantiles of the areas, with groups that hold both their ends: a case that "
            "lies on a cut counts twice. And the groups that get one more case are others than "
            "those asked for.",
        ),
        "cuts-rounded-down": (
            cuts_rounded_down,
            "Where the cases do not divide, your cuts are rounded down, so that later groups get "
            "the case more. Asked for are the first ones.",
        ),
        "dice-sorted": (
            dice_sorted,
            "You have sorted the scores themselves. Then the first group is always the worst, "
            "whatever the sizes are.",
        ),
        "areas-averaged": (
            areas_averaged,
            "These are the mean areas of the groups. Asked for is their mean Dice.",
        ),
        "ranks-for-order": (
            ranks_for_order,
            "You index with the rank of each case. Asked for is the place at which the smallest, "
            "the next, and so on stand.",
        ),
        "equal-steps": (
            equal_steps_of_area,
            "Your groups are equal steps of area, so that some hold many cases and some few or "
            "none. Asked for are groups of equally many cases.",
        ),
        "rest-dropped": (
            rest_dropped,
            "Where the cases do not divide, the last ones are dropped, and these are the largest.",
        ),
        "rest-to-the-last": (
            rest_to_the_last,
            "Where the cases do not divide, your last group takes all that is left. The question "
            "says where they go.",
        ),
        "median": (medians, "These are medians. Asked for are means."),
        "sum": (sums_of_groups, "These are sums. Asked for are means."),
        "weighed-by-area": (
            weighed_by_area,
            "Within a group, larger objects count more in yours. Each case counts once.",
        ),
        "lowest": (lowest_of_groups, "These are the lowest scores. Asked for are means."),
    },
    hints=(
        "First put the scores into the order of the areas, then cut.",
        "argsort gives the places of the smallest, the next larger, and so on. Index with it.",
        "torch.tensor_split(values, groups) cuts as the question asks; take the mean of each part.",
    ),
    why=(
        "Ordering by area and cutting into groups of equally many cases keeps each mean about "
        "equally certain. A mean over all cases would hide what happens to the small ones."
    ),
)


EXERCISES = (
    GATE_WEIGHTS,
    LOWEST_WEIGHT,
    GRID_GATE,
    GATED_STEP,
    GATE_PARAMETERS,
    PAIRED_DIFFERENCE,
    DICE_BY_SIZE,
)
