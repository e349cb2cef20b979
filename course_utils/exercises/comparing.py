"""Says in which respect an answer differs from the right one, in words a learner can use."""

import math
import numbers
import re
from typing import Any

import numpy as np
import torch

Problem = tuple[str, str]
"""A mistake's id and a message."""


def difference(got: Any, expected: Any, tolerance: float, where: str = "") -> Problem | None:
    """The first thing in which `got` differs from `expected`; None if they agree.

    Kinds are compared before shapes, shapes before dtypes, dtypes before values. float32 and
    float64 count as one dtype, so do the integers among each other, and a tuple is as good as a
    list. Texts agree whatever their case and the spaces around them. Numbers agree within
    `tolerance`, absolute or relative.

    Args:
        where: which part of the result is compared, for the message; empty for the whole.
    """
    whole, where = not where, where or "the result"
    if mistake := _wrong_kind(got, expected):
        end = {"returned-none": " Is a `return` missing?", "numpy-instead-of-tensor": _NUMPY}
        text = f"{where} is {describe(got)}, expected {_kind_name(expected)}."
        return mistake, text + end.get(mistake, "")
    if isinstance(expected, torch.Tensor):
        return _tensor_difference(got, expected, tolerance, where)
    if isinstance(expected, list | tuple):
        if len(got) != len(expected):
            return "wrong-length", f"{where} has {len(got)} items, expected {len(expected)}."
        got, expected = dict(enumerate(got)), dict(enumerate(expected))
    if isinstance(expected, dict):
        if set(got) != set(expected):
            return "wrong-keys", f"{where} has the keys {list(got)}, expected {list(expected)}."
        for key, wanted in expected.items():
            part = f"'{key}'" if isinstance(key, str) else f"item {key}"
            part = part if whole else f"{part} of {where}"
            if found := difference(got[key], wanted, tolerance, part):
                return found
        return None
    if isinstance(expected, str):
        same = got.strip().lower() == expected.strip().lower()
    elif _kind(expected) != "number" or isinstance(expected, int):  # a count is right or wrong
        same = bool(got == expected)
    else:
        both = math.isnan(got) and math.isnan(expected)
        same = both or math.isclose(got, expected, rel_tol=tolerance, abs_tol=tolerance)
    if same:
        return None
    mistake = "nan" if _kind(got) == "number" and math.isnan(got) else "wrong-value"
    return mistake, f"{where} is {describe(got)}, expected {describe(expected)}."


_NUMPY = " NumPy leaves the graph that gradients need, and the GPU: stay in torch."


def _kind(value: Any) -> str:
    """What a value is, whatever its values: "number", "list" (or tuple), "tensor", "numpy", ..."""
    kinds = (kind for kind, types in _KINDS.items() if isinstance(value, types))
    return next(kinds, type(value).__name__)


_KINDS: dict[str, Any] = {
    "bool": bool | np.bool_,
    "number": numbers.Real | np.number,
    "tensor": torch.Tensor,
    "numpy": np.ndarray,
    "list": list | tuple,
    "dict": dict,
    "str": str,
}


def _wrong_kind(got: Any, expected: Any) -> str | None:
    """The id of the mistake if `got` is no value of the kind of `expected`, else None."""
    has, wanted = _kind(got), _kind(expected)
    if wanted == "tensor" and isinstance(got, np.generic | bool | complex):
        has = "numpy" if isinstance(got, np.generic) else "number"
    if has == wanted:
        return None
    if got is None:
        return "returned-none"
    telling = ("numpy", "number", "list") if wanted == "tensor" else ("numpy", "tensor")
    return f"{has}-instead-of-{wanted}" if has in telling else "wrong-type"


def _kind_name(expected: Any) -> str:
    if isinstance(expected, torch.Tensor):
        return f"a torch tensor {_of_shape(expected)}"
    words = {"bool": "True or False, a Python bool", "number": "a plain Python number"}
    return words.get(_kind(expected), f"a {type(expected).__name__}")


def _tensor_difference(
    got: torch.Tensor, expected: torch.Tensor, tolerance: float, where: str
) -> Problem | None:
    if got.shape != expected.shape:
        text = f"{where} has shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
        return "wrong-shape", text + ("." if expected.dim() else ", a tensor without axes.")
    if _dtype_kind(got) != _dtype_kind(expected):
        return "wrong-dtype", f"{where} has dtype {_dtype(got)}, expected {_dtype(expected)}."
    if expected.is_floating_point() or expected.is_complex():
        wide = torch.promote_types(expected.dtype, torch.float64)
        got, expected = got.to(wide), expected.to(wide)
        same = torch.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    else:
        same = got == expected
    if bool(same.all()):
        return None
    at = (~same).nonzero()[0].tolist()
    place = f"{where} at {at}" if at else where
    share = f" ({int((~same).sum())} of {same.numel()} values differ)" if same.numel() > 1 else ""
    value, wanted = got[*at].item(), expected[*at].item()
    mistake = "nan" if value != value else "wrong-value"  # NaN alone differs from itself
    return mistake, f"{place} is {describe(value)}, expected {describe(wanted)}{share}."


def _of_shape(tensor: torch.Tensor) -> str:
    return f"of shape {tuple(tensor.shape)}" if tensor.dim() else "without axes"


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _dtype_kind(tensor: torch.Tensor) -> tuple[bool, bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex(), tensor.dtype == torch.bool


def describe(value: Any) -> str:
    """A value in a few words: small tensors in full, large ones by shape and dtype."""
    try:
        text = _described(value)
    except Exception:  # the repr of a learner's object may do anything
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 160 else text[:156] + " ..."


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        article = "an" if _dtype(value).startswith("int") else "a"
        text = f"{article} {_dtype(value)} tensor {_of_shape(value)}"
        if value.numel() <= 12:
            # Without the digits that float32 does not have.
            number = r"\d+\.\d+(e-?\d+)?"
            values = re.sub(number, lambda m: f"{float(m[0]):.6g}", f"{value.tolist()}")
            return f"{text} {values}" if value.dim() else f"{text}: {values}"
        if value.dtype == torch.bool or value.is_complex():
            return text
        # Large values overflow, and the shape does not show it.
        return f"{text}, {describe(value.min().item())} to {describe(value.max().item())}"
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} NumPy array of shape {value.shape}"
    if isinstance(value, torch.nn.Module):
        return f"a module of class {type(value).__name__}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, list | tuple) and any(isinstance(x, torch.Tensor) for x in value):
        return f"a {type(value).__name__} with {len(value)} item{'s' * (len(value) != 1)}"
    if isinstance(value, bool | int | str | list | tuple | dict | set | None):
        return repr(value)
    if _kind(value) == "number":
        return f"{float(value):.6g}"
    return f"an object of type {type(value).__name__}"


def change(before: Any, after: Any) -> str | None:
    """What has changed in an argument between two moments, in a few words; None if nothing."""
    if isinstance(before, torch.nn.Module):
        if [m.training for m in before.modules()] != [m.training for m in after.modules()]:
            return "train/eval mode"
        states = dict(after.state_dict()), dict(before.state_dict())
        return "weights or running statistics" if difference(*states, 0) else None
    return "values" if difference(after, before, 0) else None


def snapshot(value: Any) -> Any:
    """A result as it is now: the learner's code may write into the same tensor later."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().as_subclass(torch.Tensor)
        plain = plain.to_dense() if plain.layout != torch.strided else plain
        # A tensor that large has the wrong shape, and its values are never looked at.
        return plain.cpu().clone() if plain.numel() <= 10**7 else plain
    if type(value) in (list, tuple):
        return type(value)(snapshot(item) for item in value)
    if type(value) is dict:
        return {key: snapshot(item) for key, item in value.items()}
    return value
