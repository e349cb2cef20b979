"""Makes of a learner's answer (function, module, class, value) the function that is called."""

import copy
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from .comparing import describe


def as_function(candidate: Any) -> Callable[..., Any]:
    """The default `prepare`: the answer as it is; of a module class, an instance."""
    if isinstance(candidate, type) and issubclass(candidate, nn.Module):
        return candidate()
    return candidate


def as_value(candidate: Any) -> Callable[[], Any]:
    """`prepare` of an exercise that asks for a value: a tensor or NumPy number is one as well."""

    def value() -> Any:
        answer = candidate() if callable(candidate) else candidate
        size = answer.numel() if isinstance(answer, torch.Tensor) else getattr(answer, "size", 0)
        if isinstance(answer, torch.Tensor | np.ndarray | np.generic) and size < 1000:
            answer = answer.tolist()
        return answer.strip().lower() if isinstance(answer, str) else answer

    return value


def module_from(candidate: Any, *settings: Any, train: bool = True) -> nn.Module:
    """A module built from a learner's answer, with weights that follow from their shapes alone.

    For exercises that ask for a module, in `prepare`. Two modules with parameters of the same
    shapes get the same weights, whatever the parameters are called; axes of length one do not
    count, so that a 1x1 convolution and a linear layer are alike. Parameters of one shape are
    told apart by their order: choose `settings` that make the shapes differ.

    Args:
        candidate: a module class, a function that returns a module, or a module.
        settings: arguments of the constructor. With none, a module is copied and used as it is.
        train: the mode it is put in.
    """
    if not isinstance(candidate, nn.Module):
        module = candidate(*settings)
    elif settings and not type(candidate).__module__.startswith("torch."):
        module = type(candidate)(*settings)
    else:  # an nn.Sequential is not built from these settings
        module = copy.deepcopy(candidate)
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected a torch nn.Module, got {describe(module)}")
    seen: dict[tuple[int, ...], int] = {}
    for parameter in module.parameters():
        shape = tuple(size for size in parameter.shape if size != 1)
        seen[shape] = seen.get(shape, 0) + 1
        generator = torch.Generator().manual_seed(zlib.crc32(repr((shape, seen[shape])).encode()))
        values = torch.randn(shape, generator=generator).view(parameter.shape)
        inputs = max(parameter[0].numel(), 1) if parameter.dim() > 1 else 1
        parameter.data.copy_(values / inputs**0.5)
    return module.train(train)
