"""What to tell a learner whose answer is missing, or wrong in a way that nobody foresaw."""

import inspect
import linecache
import sysconfig
import textwrap
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .comparing import describe, difference
from .preparing import NotAModule, is_of_torch

if TYPE_CHECKING:
    from .engine import Exercise, Outcome

WIDTH = 88
"""Characters in a line of prose. JupyterLab breaks longer ones in the middle of a word."""


def wrapped(text: str) -> str:
    """A message in lines of at most `WIDTH`; lines of code and of values stay as they are."""
    fold = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False).fill
    lines = text.split("\n")
    return "\n".join(x if x.startswith((" ", "in line ")) else fold(x) for x in lines)


# Nothing to judge yet --------------------------------------------------------------------------


def is_empty(candidate: Any) -> bool:
    """Whether a function, or a method of a module class, still has the body `...`."""
    if isinstance(candidate, nn.Module):
        candidate = type(candidate)
    if isinstance(candidate, type):
        own = {name: m for name, m in vars(candidate).items() if isinstance(m, types.FunctionType)}
        unwritten = issubclass(candidate, nn.Module) and candidate.forward is nn.Module.forward
        # With other methods but no `forward`, its name may be misspelt: that is an answer.
        return (unwritten and not own.keys() - {"__init__"}) or any(map(is_empty, own.values()))
    if not isinstance(candidate, types.FunctionType):
        return False
    # A body of `...`, of `pass`, or of a docstring compiles to "return None" and nothing else.
    code = candidate.__code__
    return code.co_code in _EMPTY_BODIES and code.co_consts[-1] is None


def _bare(): ...


def _documented():
    """Does nothing either."""


_EMPTY_BODIES = (_bare.__code__.co_code, _documented.__code__.co_code)


def _holds_ellipsis(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_ellipsis(item) for item in value.values())
    return value is ... or (isinstance(value, list | tuple) and any(map(_holds_ellipsis, value)))


def unanswered(candidate: Any, found: "list[Outcome]") -> bool:
    """Whether a `...` of the stub is still there: in the body, in a result, or in an operation."""
    texts = [text_of(f.error).lower() for f in found]
    # torch.einsum says "no ellipsis was given" of an answer that is there.
    if any("ellipsis" in text and "einsum" not in text for text in texts):
        return True
    return any(_holds_ellipsis(f.value) for f in found) or is_empty(candidate)


def not_callable(exercise: "Exercise", candidate: Any) -> tuple[str, str] | None:
    """The mistake if `candidate` cannot be called the way the exercise will call it."""
    name = exercise.reference.__name__
    kind = "class" if isinstance(exercise.reference, type) else "function"
    if not callable(candidate):
        return (
            "not-a-function",
            f"Not yet. The answer is {describe(candidate)}, expected a {kind}. Give the {kind} "
            f"itself, without parentheses: check({name}), not check({name}(...)).",
        )
    if isinstance(candidate, types.FunctionType):
        return _misfit(candidate, exercise.reference, "function")
    if isinstance(candidate, nn.Module) and not is_of_torch(candidate):
        candidate = type(candidate)  # an instance stands for its class
    if kind == "class" and isinstance(candidate, type):
        if not issubclass(candidate, nn.Module):
            return (
                "not-a-module",
                f"Not yet. Your class is no nn.Module. Begin it with `class {name}(nn.Module):`.",
            )
        return _misfit(candidate, exercise.reference, "class") or _misfit(
            candidate.forward, getattr(exercise.reference, "forward", None), "`forward`"
        )
    return None


def _misfit(candidate: Any, reference: Any, what: str) -> tuple[str, str] | None:
    """The mistake if `candidate` cannot take the arguments that `reference` has."""
    try:
        has = inspect.signature(candidate)
        parameters = inspect.signature(reference).parameters.values()
    except (TypeError, ValueError):  # not every class or builtin tells
        return None
    # What the reference takes if it likes (`norm=None`) need not be in the question.
    wanted = [
        p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty
    ]
    try:
        has.bind(*wanted)
    except TypeError:
        return (
            "wrong-arguments",
            f"Not yet. Your {what} takes {has}, expected ({', '.join(wanted)}).",
        )
    return None


# What to say when no known mistake fits ----------------------------------------------------------


def first_problem(
    exercise: "Exercise", found: "Outcome", expected: "Outcome", where: str
) -> tuple[str, str]:
    """An id and a sentence for what is wrong on one input: an exception, a change, a value."""
    if isinstance(found.error, SystemExit):
        return "called-exit", "Your code called exit, which would end the notebook's kernel."
    if isinstance(found.error, NotAModule):
        return "not-a-module", text_of(found.error)
    if found.error is not None:
        return "raised", error_text(found.error) + where
    if found.changed and found.changed != expected.changed:
        position, what = found.changed
        names = argument_names(exercise)
        argument = f"`{names[position]}`" if position < len(names) else "an argument"
        return (
            "input-changed-in-place",
            f"Your code changes the {what} of {argument}. The caller still needs it as it was: "
            "compute a new tensor instead (no assignment into a slice, no `+=`, no method whose "
            "name ends in an underscore).",
        )
    problem = _difference(exercise, found, expected)
    mistake, text = problem or ("wrong-value", "The result is wrong.")
    if exercise.make_inputs is None and mistake in ("wrong-value", "nan"):
        # Nor is it given away.
        return mistake, f"{describe(found.value)} is not the answer.{_right_half(found, expected)}"
    return mistake, text[0].upper() + text[1:] + where


def _right_half(found: "Outcome", expected: "Outcome") -> str:
    """Which of two numbers is right, where one is."""
    if not isinstance(expected.value, list | tuple) or len(expected.value) != 2:
        return ""
    pairs = zip(found.value, expected.value, strict=True)
    right = [difference(a, b, 1e-4) is None for a, b in pairs]
    if sum(right) != 1:
        return ""
    return f" The {'first' if right[0] else 'second'} number is right."


def nothing_returned(exercise: "Exercise", expected: "Outcome", where: str) -> tuple[str, str]:
    """The id and the message for an answer that returns None where a result is asked for."""
    wanted = expected.returned[0] if expected.returned else expected.value
    problem = difference(None, wanted, exercise.tolerance)
    mistake, text = problem or ("returned-none", "the result is None.")
    return mistake, f"Not yet. {text[0].upper() + text[1:]}{where}"


def _difference(exercise: "Exercise", found: "Outcome", expected: "Outcome") -> Any:
    """What differs in the result, without what the exercise has added to it for the check.

    A dictionary that the exercise puts together says in words what each part of it is.
    """
    pairs = [(x.value, x.returned[0]) for x in (found, expected) if x.returned]
    added = len(pairs) == 2 and any(
        isinstance(value, list | tuple | str) and _kind(value) != _kind(returned)
        for value, returned in pairs
    )
    if not added:
        return difference(found.value, expected.value, exercise.tolerance)
    (value, returned), (_, wanted) = pairs
    if problem := difference(returned, wanted, exercise.tolerance):
        return problem
    marks = [x for x in (value if isinstance(value, tuple) else [value]) if isinstance(x, str)]
    what = marks[0] if marks else "what belongs to them, such as their gradient, is wrong"
    return "right-values-only", f"the values are right, but not all else: {what}."


def _kind(value: Any) -> tuple[type, int]:
    return type(value), len(value) if isinstance(value, list | tuple) else 0


def argument_names(exercise: "Exercise") -> list[str]:
    """The names of the arguments with which a prepared answer is called."""
    called = exercise.prepare(exercise.reference)
    called = called.forward if isinstance(called, nn.Module) else called
    parameters = inspect.signature(called).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def inputs_text(exercise: "Exercise", arguments: tuple[Any, ...]) -> str:
    """The arguments of a call in a few words, a line for each; empty without arguments."""
    if not arguments:
        return ""
    names = argument_names(exercise)
    named = len(names) >= len(arguments)
    parts = [
        (f"{name} = " if named else "") + describe(value)
        for name, value in zip(names if named else arguments, arguments, strict=False)
    ]
    return "\n  ".join(["\nThis was with", *parts])


def module_problem(
    exercise: "Exercise", candidate: Any, found: "Outcome", expected: "Outcome"
) -> tuple[str, str] | None:
    """An id and a sentence if a module's parameters are not those asked for, by their shapes."""
    parameters = inspect.signature(exercise.reference).parameters.values()
    settings = [p.name for p in parameters if p.default is p.empty]
    fixed = isinstance(candidate, nn.Module) and is_of_torch(candidate)
    if fixed and settings and expected.parameters:
        return (
            "instance-instead-of-class",
            "This module has fixed sizes. Give a class, or a function that builds the module "
            f"from ({', '.join(settings)}), without calling it.",
        )
    if found.error is not None:
        return None
    has, wants = (Counter(shape for shape, _ in x.parameters) for x in (found, expected))
    lacking, more = wants - has, has - wants
    own, asked = (Counter(s for s, bias in x.parameters if bias) for x in (found, expected))
    if not lacking and not more:
        return None
    if not more and lacking <= asked - own:
        return (
            "missing-bias",
            f"A bias is missing, of shape {_shapes(lacking)}. Linear and convolutional layers have "
            "one unless bias=False is given.",
        )
    if not lacking and more <= own - asked:
        return (
            "bias-too-many",
            f"There is a bias too many, of shape {_shapes(more)}. With bias=False a linear or "
            "convolutional layer has none.",
        )
    parts = [f"not there: {_shapes(lacking)}"] if lacking else []
    parts += [f"not expected: {_shapes(more)}"] if more else []
    return (
        "other-parameters",
        "Your module's parameters have other shapes than those asked for (axes of length one left "
        f"out); {'; '.join(parts)}.",
    )


def _shapes(counts: Counter[tuple[int, ...]]) -> str:
    return ", ".join(str(shape or (1,)) for shape in sorted(counts.elements()))


PATTERNS: dict[str, tuple[str, Callable[[torch.Size], bool]]] = {
    "right-only-for-batch-of-one": (
        "Right only when the first axis, the batch, has length 1.",
        lambda shape: shape[0] == 1,
    ),
    "wrong-for-batch-of-one": (
        "Right, but not when the first axis, the batch, has length 1.",
        lambda shape: shape[0] != 1,
    ),
    "right-only-for-square": (
        "Right only when the last two axes are equally long.",
        lambda shape: shape[-1] == shape[-2],
    ),
    "right-only-for-even-sizes": (
        "Right only when the last two axes have even lengths.",
        lambda shape: shape[-1] % 2 == shape[-2] % 2 == 0,
    ),
}


def pattern(
    mistake: str, inputs: list[tuple[Any, ...]], right: list[bool]
) -> tuple[str, str] | None:
    """A property of the inputs that separates right from wrong results, if just one does.

    One input alone, right or wrong, shows no pattern.
    """
    if mistake not in ("raised", "wrong-shape", "wrong-value", "nan"):
        return None
    if min(right.count(True), right.count(False)) < 2:
        return None
    shapes = []
    for arguments in inputs:
        images = [x for x in arguments if isinstance(x, torch.Tensor) and x.dim() > 2]
        if not images:
            return None
        shapes.append(images[0].shape)
    found = [
        (name, text)
        for name, (text, holds) in PATTERNS.items()
        if [holds(shape) for shape in shapes] == right
    ]
    return found[0] if len(found) == 1 else None


# Exceptions ------------------------------------------------------------------------------------


def text_of(error: BaseException | None) -> str:
    """The text of an exception; empty if there is none."""
    try:
        return "" if error is None else str(error)
    except Exception:  # a learner's exception class may have a broken __str__
        return ""


_FOLDERS = [Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib", "platlib")]
_FOLDERS += [Path(torch.__file__).parent, Path(__file__).parent.parent]  # torch, the course
_LIBRARIES = tuple({str(f) for folder in _FOLDERS for f in (folder, folder.resolve())})


def error_text(error: BaseException) -> str:
    """The exception, and the line of the learner's own code it came from."""
    text = " ".join(text_of(error).split())
    message = f"Your code raised {type(error).__name__}: {text[:300]}"
    trace, line = error.__traceback__, None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(("<frozen", *_LIBRARIES)):
            line = file, trace.tb_lineno
        trace = trace.tb_next
    if line is None:
        return message
    source = linecache.getline(*line).strip()
    return message + f"\nin line {line[1]} of your code" + (f": {source}" if source else "")
