"""Says in which respect an answer differs from the right one, in words a learner can use."""

import copy
import math
import numbers
from typing import Any

import numpy as np
import torch

Difference = tuple[str, str]
"""A mistake's id and a sentence about it."""


def difference(got: Any, expected: Any, tolerance: float, where: str = "") -> Difference | None:
    """The first thing in which `got` differs from `expected`; None if they agree.

    Kinds are compared before shapes, shapes before dtypes, dtypes before values. float32 and
    float64 count as one dtype, so do the integers among each other, and a tuple is as good as a
    list. Texts agree whatever their case and the spaces around them. Numbers agree within
    `tolerance`, absolute or relative.

    Args:
        where: which part of the result is compared, for the message; empty for the whole.
    """
    where = where or "the result"
    if isinstance(expected, torch.Tensor):
        return _tensor_difference(got, expected, tolerance, where)
    if isinstance(expected, dict) and isinstance(got, dict):
        if set(got) != set(expected):
            return "wrong-keys", f"{where} has the keys {list(got)}, expected {list(expected)}."
        return _first(got, expected, expected, tolerance, where)
    if isinstance(expected, list | tuple) and isinstance(got, list | tuple):
        if len(got) != len(expected):
            return "wrong-length", f"{where} has {len(got)} items, expected {len(expected)}."
        return _first(got, expected, range(len(expected)), tolerance, where)
    if (kind := _wrong_kind(got, expected)) is not None:
        end = " Is a `return` missing?" if kind == "returned-none" else ""
        return kind, f"{where} is {describe(got)}, expected {_kind_name(expected)}.{end}"
    if isinstance(expected, str):
        same = got.strip().lower() == expected.strip().lower()
    elif isinstance(expected, bool | bytes | set | frozenset | type(None)):
        same = bool(got == expected)
    else:
        if math.isnan(got) and not math.isnan(expected):
            return "nan", f"{where} is NaN, expected {expected:.6g}."
        if isinstance(expected, int):  # a count is right or wrong
            same = got == expected
        else:
            same = math.isclose(got, expected, rel_tol=tolerance, abs_tol=tolerance)
        same |= math.isnan(got) and math.isnan(expected)
    if same:
        return None
    return "wrong-value", f"{where} is {describe(got)}, expected {describe(expected)}."


def _first(got: Any, expected: Any, keys: Any, tolerance: float, where: str) -> Difference | None:
    for key in keys:
        part = f"'{key}'" if isinstance(key, str) else f"item {key}"
        if where != "the result":
            part = f"{part} of {where}"
        if found := difference(got[key], expected[key], tolerance, part):
            return found
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real | np.number) and not isinstance(value, bool)


def _wrong_kind(got: Any, expected: Any) -> str | None:
    """The id of the mistake if `got` is no value of the kind of `expected`, else None."""
    if expected is None:
        return None if got is None else "wrong-type"
    if got is None:
        return "returned-none"
    if isinstance(expected, bool):
        fits = isinstance(got, bool | np.bool_)
    elif _is_number(expected):
        fits = _is_number(got)
    else:
        kinds = (set, frozenset) if isinstance(expected, set | frozenset) else type(expected)
        fits = isinstance(got, kinds)
    if fits:
        return None
    wanted = _kind_name(expected).split()[-1]
    if isinstance(got, torch.Tensor):
        return f"tensor-instead-of-{wanted}"
    if isinstance(got, np.ndarray):
        return f"numpy-instead-of-{wanted}"
    return "wrong-type"


def _kind_name(expected: Any) -> str:
    if expected is None:
        return "None"
    if isinstance(expected, bool):
        return "True or False, a Python bool"
    if _is_number(expected):
        return "a plain Python number"
    article = "an" if type(expected).__name__[0] in "aeiou" else "a"
    return f"{article} {type(expected).__name__}"


def _tensor_difference(
    got: Any, expected: torch.Tensor, tolerance: float, where: str
) -> Difference | None:
    wanted = f"a torch tensor {_of_shape(expected)}"
    if got is None:
        return "returned-none", f"{where} is None, expected {wanted}. Is a `return` missing?"
    if isinstance(got, np.ndarray | np.generic):
        return (
            "numpy-instead-of-tensor",
            f"{where} is a NumPy array, expected {wanted}. NumPy leaves the graph that gradients "
            "need, and the GPU: stay in torch.",
        )
    if isinstance(got, bool | int | float | complex):
        return (
            "number-instead-of-tensor",
            f"{where} is the plain Python number {describe(got)}, expected {wanted}.",
        )
    if isinstance(got, list | tuple):
        return (
            "list-instead-of-tensor",
            f"{where} is a {type(got).__name__} with {len(got)} item{'s' * (len(got) != 1)}, "
            f"expected {wanted}.",
        )
    if not isinstance(got, torch.Tensor):
        return "wrong-type", f"{where} is {describe(got)}, expected {wanted}."
    if got.shape != expected.shape:
        return (
            "wrong-shape",
            f"{where} has shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
            f"{'' if expected.dim() else ', a tensor without axes'}.",
        )
    if _dtype_kind(got) != _dtype_kind(expected):
        return (
            "wrong-dtype",
            f"{where} has dtype {_dtype(got)}, expected {_dtype(expected)}.",
        )
    return _value_difference(got, expected, tolerance, where)


def _value_difference(
    got: torch.Tensor, expected: torch.Tensor, tolerance: float, where: str
) -> Difference | None:
    if expected.is_floating_point() or expected.is_complex():
        wide = torch.complex128 if expected.is_complex() else torch.float64
        got, expected = got.to(wide), expected.to(wide)
        same = torch.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    else:
        same = got == expected
    if bool(same.all()):
        return None
    at = tuple(int(i) for i in (~same).nonzero()[0])
    place = f"{where} at {list(at)}" if at else where
    number, total = int((~same).sum()), same.numel()
    share = f" ({number} of {total} values differ)" if total > 1 else ""
    if bool(torch.isnan(got[at])):
        return "nan", f"{place} is NaN, expected {_number(expected[at])}{share}."
    return (
        "wrong-value",
        f"{place} is {_number(got[at])}, expected {_number(expected[at])}{share}.",
    )


def _of_shape(tensor: torch.Tensor) -> str:
    return f"of shape {tuple(tensor.shape)}" if tensor.dim() else "without axes"


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _dtype_kind(tensor: torch.Tensor) -> str:
    if tensor.is_floating_point():
        return "floating"
    if tensor.is_complex():
        return "complex"
    return "bool" if tensor.dtype == torch.bool else "integer"


def _number(value: torch.Tensor) -> str:
    plain = value.item()
    return f"{plain:.6g}" if isinstance(plain, float) else str(plain)


def describe(value: Any, longest: int = 160) -> str:
    """A value in a few words: small tensors in full, large ones by shape and dtype."""
    try:
        if isinstance(value, torch.Tensor):
            values = _range(value) if value.numel() > 12 else _short(f" {value.tolist()}")
            values = f": {_number(value)}" if value.dim() == 0 else values
            article = "an" if _dtype(value).startswith("int") else "a"
            text = f"{article} {_dtype(value)} tensor {_of_shape(value)}{values}"
        elif isinstance(value, np.ndarray):
            text = f"a {value.dtype} NumPy array of shape {value.shape}"
        elif isinstance(value, float):
            text = f"{value:.6g}"
        elif isinstance(value, torch.nn.Module):
            text = f"a module of class {type(value).__name__}"
        elif value is None or isinstance(value, bool | int | str | list | tuple | dict | set):
            text = repr(value)
        elif _is_number(value):
            text = f"{float(value):.6g}"
        else:
            text = f"an object of type {type(value).__name__}"
    except Exception:  # the repr of a learner's object may do anything
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= longest else text[: longest - 4] + " ..."


def _range(value: torch.Tensor) -> str:
    """The least and the greatest value: large ones overflow, and their shape does not show it."""
    if value.dtype == torch.bool or value.is_complex():
        return ""
    return f", {_number(value.min())} to {_number(value.max())}"


def _short(values: str) -> str:
    """Values of a tensor without the digits that float32 does not have."""
    if "." not in values:
        return values
    parts = values.replace("[", "[ ").replace("]", " ]").replace(",", " ,").split()
    text = " ".join(f"{float(p):.5g}" if "." in p else p for p in parts)
    return " " + text.replace("[ ", "[").replace(" ]", "]").replace(" ,", ",")


def change(before: Any, after: Any) -> str | None:
    """What has changed in an argument between two moments, in a few words; None if nothing."""
    if isinstance(before, torch.nn.Module):
        if [m.training for m in before.modules()] != [m.training for m in after.modules()]:
            return "train/eval mode"
        if not _equal(dict(before.state_dict()), dict(after.state_dict())):
            return "weights or running statistics"
        return None
    return None if _equal(before, after) else "values"


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor | np.ndarray):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        return bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, int | float | str | set | None):
        return a == b or (a != a and b != b)
    return True  # objects without values of their own: functions, generators


def snapshot(value: Any) -> Any:
    """A result as it is now: the learner's code may write into the same tensor later."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().as_subclass(torch.Tensor)
        plain = plain.to_dense() if plain.layout != torch.strided else plain
        # A tensor that large has the wrong shape, and its values are never looked at.
        return plain.cpu().clone() if plain.numel() <= 10**7 else plain
    if isinstance(value, np.ndarray) and value.size <= 10**7:
        return copy.deepcopy(value)
    if type(value) in (list, tuple):
        return type(value)(snapshot(item) for item in value)
    if type(value) is dict:
        return {key: snapshot(item) for key, item in value.items()}
    return value
