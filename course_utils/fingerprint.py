"""Short names for what decides a training: functions, networks, numbers, by what they are made of.

From a checkpoint `training.fit` goes on only with what it was begun with. Nothing counts that has
an address in its text: another process has to come to the same name.
"""

import dis
import hashlib
import json
import sys
from collections.abc import Mapping
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from course_utils.datasets.forms import digest


def named(function: Any, model: nn.Module) -> str:
    """A function's name and fingerprint, whatever the model, if it is part of it, has learned."""
    known = getattr(function, "func", function)  # of a partial
    made = short(function, seen=frozenset({id(model)}))
    return f"{getattr(known, '__qualname__', type(known).__name__)} {made}"


def settings(model: nn.Module) -> list[Any]:
    """All that decides what a network computes but its weights: for `short`."""
    return [str(model), *([type(part), _public(vars(part))] for part in model.modules())]


def short(*parts: Any, seen: frozenset[int] = frozenset()) -> str:
    """Eight letters for numbers, texts, arrays, layers, functions and objects; `seen` is left out.

    Of your own functions and classes the code counts, with the values they were made with and the
    globals they read; of those of installed libraries the name.
    """

    def in_words(value: Any) -> Any:
        if isinstance(value, Tensor):
            return digest([("tensor", value.detach().cpu().double())])
        if isinstance(value, np.ndarray):
            return digest([(str(value.dtype), value.tobytes())])
        if isinstance(value, CodeType):
            return value.co_code.hex(), value.co_names, value.co_consts
        if isinstance(value, bytes | set | frozenset):
            return str(value) if isinstance(value, bytes) else sorted(map(str, value))
        if isinstance(value, ModuleType) or id(value) in seen:
            return type(value).__name__
        return short(*_made_of(value), seen=seen | {id(value)})

    text = json.dumps(parts, skipkeys=True, default=in_words)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _made_of(value: Any) -> tuple[Any, ...]:
    if isinstance(value, partial):
        return value.func, value.args, value.keywords
    if isinstance(value, type):
        return value.__qualname__, [_public(vars(kind)) for kind in value.__mro__ if _ours(kind)]
    function = getattr(value, "__func__", value)  # of a method
    if isinstance(function, FunctionType):
        name, code = function.__qualname__, function.__code__
        if not _ours(function):
            return name, getattr(value, "__self__", None)
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        world = {word: function.__globals__.get(word) for word in sorted(_globals(code))}
        for module in [m for m in world.values() if isinstance(m, ModuleType) and _ours(m)]:
            world |= {f".{word}": getattr(module, word, None) for word in code.co_names}
        made = code, cells, function.__defaults__, function.__kwdefaults__, world
        return name, getattr(value, "__self__", None), made
    if isinstance(value, nn.Module):
        return settings(value), value.state_dict()
    held = _public(getattr(value, "__dict__", {})), getattr(value, "__wrapped__", None)
    return type(value), held


def _public(held: Mapping[str, Any]) -> dict[str, Any]:
    """Without what an object keeps for itself, which may change; plain values stay."""
    kept = FunctionType, int, float, str
    own = {k: v for k, v in held.items() if k[0] != "_" or isinstance(v, kept)}
    return {k: v for k, v in own.items() if k not in ("training", "_trained_by_fit")}


def _ours(thing: Any) -> bool:
    """Whether it was written in a notebook or a checkout, where it can change between runs."""
    module = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__ or "builtins"
    file = str(getattr(sys.modules.get(module), "__file__", "") or "")
    library = "-packages" in file or module.partition(".")[0] in sys.stdlib_module_names
    return module == "__main__" or not library


def _globals(code: CodeType) -> set[str]:
    """The globals that code reads, in inner functions too."""
    own = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*(_globals(part) for part in code.co_consts if isinstance(part, CodeType)))
