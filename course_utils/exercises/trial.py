"""Calls an answer, whatever its form: a function, a module class, a module, a value."""

import copy
import functools
import itertools
import math
import types
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from .comparing import change, describe, difference, snapshot
from .sandbox import OutOfTime, seed_all

ORDERS = 24
"""How many orders of weights of one shape are tried: all of them for up to four weights."""

LARGE = 50.0
"""Beyond it the exponential of a feature may be infinite."""

Shape = tuple[int, ...]


class NotAModule(TypeError):
    """The answer makes something else where a module is asked for."""


@dataclass
class Trial:
    """One call of an answer: what `prepare` may use, and what is learned on the way.

    Attributes:
        order: which of the orders of weights of one shape is dealt out; 0 is that of creation.
        parameters: of the first module built: the shape of each, and whether it is a bias.
        returned: what the answer itself returned, call by call.
    """

    order: int = 0
    parameters: tuple[tuple[Shape, bool], ...] = ()
    returned: list[Any] = field(default_factory=list)

    def module(self, candidate: Any, *settings: Any, train: bool = True) -> nn.Module:
        """A module built from an answer, with weights that follow from their shapes alone.

        Names do not count, nor axes of length one, so that a 1x1 convolution and a linear layer are
        alike. All vectors (biases, scales) of one length get the same values. Matrices of one shape
        differ, in the order in which they were created; if an answer is not right so, the other
        orders are tried too. A bias too many or too few is named.

        Args:
            candidate: a module class, a function that returns a module, or a module.
            settings: arguments of the constructor. With none, a module is copied and used as it is.
                Choose different numbers of channels: a matrix with one row is a vector.
            train: the mode it is put in.
        """
        if not isinstance(candidate, nn.Module):
            module = candidate(*settings)
        elif settings and not is_of_torch(candidate):
            module = type(candidate)(*settings)
        else:  # an nn.Sequential is not built from these settings
            module = copy.deepcopy(candidate)
        if not isinstance(module, nn.Module):
            raise NotAModule(f"The answer gives {describe(module)}, expected an nn.Module.")
        lists = [value for value in vars(module).values() if isinstance(value, list | tuple)]
        held = {x for values in lists for x in values if isinstance(x, nn.Module)}
        if not held <= set(module.modules()):
            raise NotAModule(
                "Layers in a plain list are no part of the module, so no optimizer trains them. "
                "Give each a name of its own, or use `nn.ModuleList`."
            )
        if any(isinstance(p, nn.UninitializedParameter) for p in module.parameters()):
            raise NotAModule(
                "A lazy layer has no shape before its first call, and the check sets the weights "
                "before that. Write the numbers of channels out: nn.Conv2d for nn.LazyConv2d."
            )
        named = [
            (name, parameter, tuple(size for size in parameter.shape if size != 1))
            for name, parameter in module.named_parameters()
        ]
        self.parameters = self.parameters or tuple((s, n.endswith("bias")) for n, _, s in named)
        places, rest = {}, self.order
        for shape, count in Counter(shape for _, _, shape in named if len(shape) > 1).items():
            rest, number = divmod(rest, math.factorial(count))
            permutations = itertools.permutations(range(count))
            places[shape] = iter(next(itertools.islice(permutations, number, None)))
        for _, parameter, shape in named:
            place = next(places[shape]) if shape in places else 0
            generator = torch.Generator().manual_seed(zlib.crc32(repr((shape, place)).encode()))
            values = torch.randn(shape, generator=generator).view(parameter.shape)
            parameter.data.copy_(values / max(math.prod(shape[1:] or shape), 1) ** 0.5)
        module.register_forward_hook(lambda module, given, value: self.returned.append(value))
        return module.train(train)


Prepare = Callable[[Any, Trial], Callable[..., Any]]
"""Makes of an answer the function that is called with the arguments."""


def as_function(candidate: Any, trial: Trial) -> Callable[..., Any]:
    """The default `prepare`: the answer as it is; of a module class, an instance."""
    if isinstance(candidate, type) and issubclass(candidate, nn.Module):
        return candidate()
    return candidate


def as_value(candidate: Any, trial: Trial) -> Callable[[], Any]:
    """`prepare` of an exercise that asks for a value: a tensor or NumPy number is one as well."""
    return lambda: _plain(candidate() if callable(candidate) else candidate)


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


def built(candidate: Any, trial: Trial) -> Callable[..., Any]:
    """`prepare` of a module: built from the arguments before its mode, called with those after it.

    Gradients are part of what comes back, but not for large features: there exp overflows in right
    answers, too, which spoils the gradient alone.
    """

    def run(*given: Any) -> Any:
        mode = [isinstance(x, bool) for x in given].index(True)
        module, features = (
            trial.module(candidate, *given[:mode], train=given[mode]),
            given[mode + 1 :],
        )
        large = max(float(x.abs().max()) for x in features) > LARGE
        return module(*features) if large else with_gradients(module, *features)

    return run


def differentiated(candidate: Any, trial: Trial) -> Callable[..., Any]:
    """`prepare` of a loss: its value, and its gradient for the first argument."""
    loss = as_function(candidate, trial)
    return lambda first, *rest: with_gradients(lambda x: loss(x, *rest), first)


def with_gradients(call: Callable[..., Any], *given: torch.Tensor) -> Any:
    """What a call returns, and from a second one the gradients of its sum for the arguments.

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
        raise NotAModule(
            "Two calls with the same batch give different results. Does `forward` create "
            "layers? Their weights are new in each call and never trained: create them in "
            "`__init__`."
        )
    if not all(part.requires_grad for part in parts):
        return found, "no gradient gets through (detach, .data or no_grad)"
    total = sum(part.sum() for part in parts)
    return found, torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)


def is_of_torch(module: nn.Module) -> bool:
    """Whether a module's class is torch's own, and not written by the learner."""
    return type(module).__module__.startswith("torch.")


@dataclass(frozen=True)
class Outcome:
    """What came of one call: a value or an exception, and which argument had changed.

    `parameters` and `returned` are those of the trial.
    """

    value: Any = None
    error: BaseException | None = None
    changed: tuple[int, str] | None = None
    parameters: tuple[tuple[Shape, bool], ...] = ()
    returned: tuple[Any, ...] = ()

    def learned(self) -> int:
        """How many numbers the module learns."""
        return sum(math.prod(shape) for shape, _ in self.parameters)

    def is_nothing(self) -> bool:
        """Whether the answer returned None, even if the exercise made something else of it."""
        if self.returned:
            return self.returned[0] is None
        return self.value is None and self.error is None


def attempt(
    prepare: Prepare, candidate: Any, arguments: tuple[Any, ...], order: int = 0
) -> Outcome:
    """Calls an answer on copies of the arguments; what it raises is part of the outcome."""
    seed_all(0)
    trial = Trial(order)
    given = copy.deepcopy(arguments)
    try:
        value = snapshot(prepare(_noted(candidate, trial), trial)(*given))
        returned = tuple(map(snapshot, trial.returned[-1:]))
    except (KeyboardInterrupt, OutOfTime):
        raise
    except BaseException as error:  # SystemExit among them: it must not end the kernel
        nothing = tuple(x for x in trial.returned[-1:] if x is None)
        return Outcome(error=error, parameters=trial.parameters, returned=nothing)
    changes = [(i, change(*pair)) for i, pair in enumerate(zip(arguments, given, strict=True))]
    changed = next(((i, what) for i, what in changes if what), None)
    return Outcome(value, None, changed, trial.parameters, returned)


def _noted(candidate: Any, trial: Trial) -> Any:
    """The answer; of a plain function, one that also notes in the trial what it returns.

    What `prepare` makes of an answer may return more than the answer does, or fail on it.
    """
    if not isinstance(candidate, types.FunctionType):
        return candidate

    @functools.wraps(candidate)
    def call(*args: Any, **kwargs: Any) -> Any:
        value = candidate(*args, **kwargs)
        trial.returned.append(value)
        return value

    return call


def agree(a: Outcome, b: Outcome, tolerance: float) -> bool:
    """Whether `a` does what `b` does, value or exception, and learns no more numbers for it."""
    if a.error is not None or b.error is not None:
        return type(a.error) is type(b.error) and text_of(a.error) == text_of(b.error)
    same = a.changed == b.changed and difference(a.value, b.value, tolerance) is None
    return same and a.learned() <= b.learned()


def orders(shapes: Iterable[Shape]) -> int:
    """In how many orders weights of these shapes can be dealt out, `ORDERS` at most."""
    counts = Counter(shape for shape in shapes if len(shape) > 1).values()
    return min(math.prod(math.factorial(min(n, 9)) for n in counts), ORDERS)


def text_of(error: BaseException | None) -> str:
    """The text of an exception; empty if there is none."""
    try:
        return "" if error is None else str(error)
    except Exception:  # a learner's exception class may have a broken __str__
        return ""
