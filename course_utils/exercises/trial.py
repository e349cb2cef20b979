"""Calls an answer, whatever its form: a function, a module class, a module, a value."""

import copy
import itertools
import math
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from .comparing import change, describe, difference, snapshot
from .sandbox import OutOfTime, seed_all

Shape = tuple[int, ...]

Call = Callable[..., Any]
"""Calls an answer: takes it as a trial, then the arguments."""


class NotAModule(TypeError):
    """The answer makes something else where a module is asked for."""


@dataclass
class Trial:
    """One call of an answer, and what came of it.

    An exercise's `call` gets it in the answer's place: called, it calls the answer.

    Attributes:
        order: which of the orders of weights of one shape is dealt out; 0 is that of creation.
        parameters: of the first module built: the shape of each, and whether it is a bias.
        orders: how many orders of its weights are worth a try.
        own: what the answer itself returned last, whatever the exercise makes of it; `...` if it
            has not come that far.
        value, error: what `call` returned, or the exception.
        beside: what else must be right, such as gradients, or in words what is wrong with it.
        changed: the first argument that has changed, and what of it.
    """

    answer: Any
    order: int = 0
    parameters: tuple[tuple[Shape, bool], ...] = ()
    orders: int = 1
    own: Any = ...
    value: Any = None
    beside: Any = None
    error: BaseException | None = None
    changed: tuple[int, str] | None = None

    def __call__(self, *given: Any) -> Any:
        """What the answer returns; a module class is made a module first."""
        if isinstance(self.answer, type) and issubclass(self.answer, nn.Module):
            self.answer = self.answer()
        self.own = self.answer(*given)
        return self.own

    def module(self, *settings: Any, train: bool = True) -> nn.Module:
        """A module built from the answer, with weights that follow from their shapes alone.

        The answer is a module class, a function that returns a module, or a module. Names of
        weights do not count, nor axes of length one, so that a 1x1 convolution and a linear layer
        are alike. All vectors (biases, scales) of one length get the same values. Matrices of one
        shape differ, in the order in which they were created; if an answer is not right so, the
        other orders are tried too. A bias too many or too few is named.

        Args:
            settings: arguments of the constructor. With none, a module is copied and used as it is.
                Choose different numbers of channels: a matrix with one row is a vector.
            train: the mode it is put in.
        """
        answer = self.answer
        if not isinstance(answer, nn.Module):
            module = answer(*settings)
        elif settings and not is_of_torch(answer):
            module = type(answer)(*settings)
        else:  # an nn.Sequential is not built from these settings
            module = copy.deepcopy(answer)
        self.own = module
        if not isinstance(module, nn.Module):
            raise NotAModule(f"The answer gives {describe(module)}, expected an nn.Module.")
        lists = [value for value in vars(module).values() if isinstance(value, list | tuple)]
        held = {x for values in lists for x in values if isinstance(x, nn.Module)}
        if not held <= set(module.modules()):
            raise NotAModule("No optimizer trains layers in a plain list: use `nn.ModuleList`.")
        if any(isinstance(p, nn.UninitializedParameter) for p in module.parameters()):
            raise NotAModule("A lazy layer has no shape yet. Use nn.Conv2d, with its channels.")
        named = dict(module.named_parameters())
        shapes = [tuple(size for size in p.shape if size != 1) for p in named.values()]
        biases = [name.endswith("bias") for name in named]
        self.parameters = self.parameters or tuple(zip(shapes, biases, strict=True))
        counts = Counter(shape for shape in shapes if len(shape) > 1)
        # 24: all orders of up to four weights of one shape.
        self.orders = min(math.prod(map(math.factorial, counts.values())), 24)
        places, rest = {}, self.order
        for shape, count in counts.items():
            rest, number = divmod(rest, math.factorial(count))
            permutations = itertools.permutations(range(count))
            places[shape] = iter(next(itertools.islice(permutations, number, None)))
        for parameter, shape in zip(named.values(), shapes, strict=True):
            place = next(places[shape]) if shape in places else 0
            generator = torch.Generator().manual_seed(zlib.crc32(repr((shape, place)).encode()))
            values = torch.randn(shape, generator=generator).view(parameter.shape)
            parameter.data.copy_(values / max(math.prod(shape[1:] or shape), 1) ** 0.5)
        module.register_forward_hook(lambda module, given, value: setattr(self, "own", value))
        return module.train(train)

    def shapes(self, biases_only: bool = False) -> Counter[Shape]:
        """How many parameters of each shape there are."""
        return Counter(shape for shape, bias in self.parameters if bias or not biases_only)


def as_value(answer: Trial) -> Any:
    """`call` of an exercise that asks for a value: a tensor or NumPy number is one as well."""
    answer.own = _plain(answer.answer() if callable(answer.answer) else answer.answer)
    return answer.own


def _plain(answer: Any) -> Any:
    """Without tensors and arrays; pairs within a pair are as good as four numbers in a row."""
    size = answer.numel() if isinstance(answer, torch.Tensor) else getattr(answer, "size", 0)
    if isinstance(answer, torch.Tensor | np.ndarray | np.generic) and size < 1000:
        answer = answer.item() if size == 1 else answer.tolist()
    if not isinstance(answer, list | tuple):
        return answer
    parts = [x if isinstance(x, list | tuple) else [x] for x in map(_plain, answer)]
    flat = itertools.chain.from_iterable(parts)
    return tuple(flat) if isinstance(answer, tuple) else list(flat)


def built(answer: Trial, *given: Any) -> Any:
    """`call` of a module: built from the arguments before its mode, called with those after it.

    Gradients are part of what comes back, but not for large features: there exp overflows in right
    answers, too, which spoils the gradient alone.
    """
    mode = [isinstance(x, bool) for x in given].index(True)
    module, features = answer.module(*given[:mode], train=given[mode]), given[mode + 1 :]
    large = max(float(x.abs().max()) for x in features) > 50  # exp may be infinite
    return module(*features) if large else with_gradients(answer, module, *features)


def differentiated(answer: Trial, *given: Any) -> Any:
    """`call` of a loss: its value, and its gradient for the first argument."""
    return with_gradients(answer, lambda first: answer(first, *given[1:]), given[0])


def with_gradients(answer: Trial, call: Callable[..., Any], *given: torch.Tensor) -> Any:
    """What a call returns; beside it, from a second one, its sum's gradients for the arguments.

    A list of tensors is one sum. Where no gradient gets through, a sentence stands in its place.
    """
    leaves = [x.detach().clone().requires_grad_() for x in given]
    found = call(*given)
    if not all(map(torch.equal, given, leaves)):  # changed in place: that is the mistake
        return found
    again = call(*(1 * leaf for leaf in leaves))
    before, parts = (x if isinstance(x, list | tuple) else [x] for x in (found, again))
    if not all(isinstance(x, torch.Tensor) for x in (*before, *parts)):
        return found
    if not all(torch.allclose(a, b, equal_nan=True) for a, b in zip(before, parts, strict=True)):
        raise NotAModule("Two calls with one batch differ. Create layers in `__init__`, not later.")
    answer.beside = "no gradient gets through (detach, .data or no_grad)"
    if all(part.requires_grad for part in parts):
        total = sum(part.sum() for part in parts)
        answer.beside = torch.autograd.grad(total, leaves, materialize_grads=True)
    return found


def is_of_torch(module: nn.Module) -> bool:
    """Whether a module's class is torch's own, and not written by the learner."""
    return type(module).__module__.startswith("torch.")


def attempt(call: Call, answer: Any, arguments: tuple[Any, ...], order: int = 0) -> Trial:
    """Calls an answer on copies of the arguments; what it raises is part of what comes of it."""
    seed_all(0)
    trial = Trial(answer, order)
    given = copy.deepcopy(arguments)
    try:
        trial.value = snapshot(call(trial, *given))
        trial.beside = snapshot(trial.beside)
        trial.own = snapshot(trial.own)
    except (KeyboardInterrupt, OutOfTime):
        raise
    except BaseException as error:  # SystemExit among them: it must not end the kernel
        trial.error = error
        return trial
    changes = [(i, change(*pair)) for i, pair in enumerate(zip(arguments, given, strict=True))]
    trial.changed = next(((i, what) for i, what in changes if what), None)
    return trial


def agree(a: Trial, b: Trial, tolerance: float) -> bool:
    """Whether `a` does what `b` does, value or exception, and learns no more numbers for it."""
    if a.error is not None or b.error is not None:
        return type(a.error) is type(b.error) and text_of(a.error) == text_of(b.error)
    found, wanted = ((trial.value, trial.beside) for trial in (a, b))
    same = a.changed == b.changed and difference(found, wanted, tolerance) is None
    learned = [sum(math.prod(shape) for shape, _ in trial.parameters) for trial in (a, b)]
    return same and learned[0] <= learned[1]


def text_of(error: BaseException | None) -> str:
    """The text of an exception; empty if there is none."""
    try:
        return "" if error is None else str(error)
    except Exception:  # a learner's exception class may have a broken __str__
        return ""
