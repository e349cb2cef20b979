"""What a check says and how it looks: slips are named in the texts, the rest is said here."""

import html
import inspect
import re
import sysconfig
import textwrap
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import runtime
from .comparing import Problem, describe, difference
from .trial import NotAModule, Trial, is_of_torch, text_of

if TYPE_CHECKING:
    from .engine import Exercise, Result

WIDTH = 88
"""Characters in a line of prose. JupyterLab breaks longer ones in the middle of a word."""


def wrapped(text: str) -> str:
    """A message in lines of at most `WIDTH`; lines of code and of values stay as they are."""
    fold = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False).fill
    return "\n".join(x if x.startswith((" ", "in line ")) else fold(x) for x in text.split("\n"))


# How it looks ----------------------------------------------------------------------------------


def show(exercise: "Exercise", result: "Result", said: str) -> None:
    """Shows a verdict: a coloured box in a notebook, text elsewhere.

    Args:
        said: what the learner's code printed, and what else has to be said.
    """
    text = "\n".join(filter(None, (said, wrapped(result.message))))
    if result.mistake == "not-answered" or not runtime.in_notebook():
        print(text)
        return
    from IPython.display import display

    color, sign = ("#2e9e6b", "&#10003;") if result.passed else ("#d9822b", "&#10007;")
    body = (f"<pre>{html.escape(said)}</pre>" if said else "") + _as_html(result.message)
    if not result.passed:
        folds = {f"Hint {i}": _as_html(hint) for i, hint in enumerate(exercise.hints, 1)}
        folds["Solution"] = f"<pre>{html.escape(exercise.text.solution)}</pre>"
        for name, inside in folds.items():
            body += f"<details><summary>{name}</summary>{inside}</details>"
    style = f"border-left: 6px solid {color}; background: {color}22; padding: 0.5em 1em"
    box = f'<div style="{style}"><b>{sign}</b> {body}</div>'
    display({"text/html": box, "text/plain": text}, raw=True)


def _as_html(text: str) -> str:
    """Text with `code` in backticks; indented lines, of values and of code, keep their indent."""
    text = re.sub("`([^`\n]+)`", r"<code>\1</code>", html.escape(text))
    return text.replace("  ", "&emsp;").replace("\n", "<br>")


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


def _bare() -> None: ...


def _documented() -> None:
    """Does nothing either."""


_EMPTY_BODIES = (_bare.__code__.co_code, _documented.__code__.co_code)


def _holds_ellipsis(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return value is ... or (isinstance(value, list | tuple) and any(map(_holds_ellipsis, value)))


def unanswered(candidate: Any, found: list[Trial]) -> bool:
    """Whether a `...` of the stub is still there: in the body, in a result, or in an operation."""
    texts = [text_of(f.error).lower() for f in found]
    # torch.einsum says "no ellipsis was given" of an answer that is there.
    named = any("ellipsis" in text and "einsum" not in text for text in texts)
    # PyTorch 2.10 does not name it in each message, but has it in its hands.
    calls = (traceback.walk_tb(f.error.__traceback__) for f in found if f.error)
    held = any(x is ... for call in calls for frame, _ in call for x in frame.f_locals.values())
    return named or held or any(_holds_ellipsis(f.value) for f in found) or is_empty(candidate)


def not_callable(reference: Any, candidate: Any) -> Problem | None:
    """The mistake if `candidate` cannot be called the way the exercise will call it."""
    name = reference.__name__
    kind = "class" if isinstance(reference, type) else "function"
    if not callable(candidate):
        text = f"The answer is {describe(candidate)}, expected the {kind} itself: check({name})."
        return "not-a-function", text
    if isinstance(candidate, types.FunctionType):
        return _misfit(candidate, reference, "function")
    if kind == "function":
        return None
    if isinstance(candidate, nn.Module) and is_of_torch(candidate):
        text = "This module has fixed sizes. Give a class, or a function that builds the module "
        text += f"from ({', '.join(_needed(reference))}), without calling it."
        return "instance-instead-of-class", text
    if isinstance(candidate, nn.Module):
        candidate = type(candidate)  # an instance stands for its class
    if not isinstance(candidate, type):
        return None
    if not issubclass(candidate, nn.Module):
        return "not-a-module", f"This is no module. Begin it with `class {name}(nn.Module):`."
    forward = _misfit(candidate.forward, reference.forward, "`forward`")
    return _misfit(candidate, reference, "class") or forward


def _misfit(candidate: Any, reference: Any, what: str) -> Problem | None:
    """The mistake if `candidate` cannot take the arguments that `reference` has."""
    try:
        has, wanted = inspect.signature(candidate), _needed(reference)
    except (TypeError, ValueError):  # not every class or builtin tells
        return None
    try:
        has.bind(*wanted)
    except TypeError:
        return "wrong-arguments", f"Your {what} takes {has}, expected ({', '.join(wanted)})."
    return None


def _needed(function: Any) -> list[str]:
    """The names of its arguments, without what it takes if one likes (`norm=None`)."""
    takes = inspect.signature(function).parameters.values()
    return [p.name for p in takes if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]


# When no slip fits -----------------------------------------------------------------------------


def unforeseen(exercise: "Exercise", found: list[Trial], right: list[bool]) -> Problem:
    """An id and a message for what is wrong on the first input that goes wrong."""
    tolerance = exercise.setup.tolerance
    calls = list(zip(exercise.tried, found, exercise.done(), strict=True))
    for given, got, wanted in calls:
        if got.own is None and (problem := difference(None, wanted.own, tolerance)):
            return problem[0], _sentence(problem[1]) + inputs_text(exercise, given)
    given, got, wanted = calls[right.index(False)]
    where = inputs_text(exercise, given)
    if problem := _module_problem(got, wanted):
        return problem[0], problem[1] + where
    if isinstance(got.error, SystemExit):
        return "called-exit", "Your code called exit, which would end the kernel."
    if isinstance(got.error, NotAModule):
        return "not-a-module", text_of(got.error)
    other = ""
    if got.error is not None:
        mistake, text = "raised", error_text(got.error)
    elif got.changed and got.changed != wanted.changed:
        mistake, text = "input-changed-in-place", _changed_text(exercise, given, *got.changed)
    else:
        beside = "what belongs to them, such as their gradient, is wrong"
        beside = got.beside if isinstance(got.beside, str) else beside
        same = "right-values-only", f"the values are right, but {beside}."
        mistake, text = difference(got.value, wanted.value, tolerance) or same
        if exercise.is_value and mistake in ("wrong-value", "nan"):  # the right one stays untold
            return mistake, exercise.text.otherwise or f"{describe(got.value)} is not the answer."
        if mistake == "nan":
            text += " NaN comes from 0 / 0, or from inf / inf after the exp of a large number."
        if mistake == "wrong-value" and exercise.text.otherwise:
            other = f"{exercise.text.otherwise} "
    return mistake, f"{other}{_so_far(exercise, right)}{_sentence(text)}{where}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _changed_text(exercise: "Exercise", given: tuple[Any, ...], position: int, what: str) -> str:
    argument = _argument_names(exercise)[position]
    text = f"Your code changes the {what} of `{argument}`. The caller still needs it as it was."
    if isinstance(given[position], torch.Tensor):
        text += " Compute a new tensor: assign to no slice, use no `+=` and no method like `mul_`."
    return text


def _so_far(exercise: "Exercise", right: list[bool]) -> str:
    """On how many inputs an answer is right, and what alone these have in common, if anything."""
    if not any(right):
        return ""
    images = [[x for x in xs if getattr(x, "ndim", 0) > 2] for xs in exercise.tried]
    if all(images) and min(right.count(True), right.count(False)) > 1:
        shapes = [tensors[0].shape for tensors in images]
        said = [text for text, holds in _PATTERNS.items() if [*map(holds, shapes)] == right]
        if len(said) == 1:
            return f"{said[0]}. "
    return f"Right on {sum(right)} of {len(right)} inputs. The first that goes wrong: "


_PATTERNS: dict[str, Callable[[torch.Size], bool]] = {
    "Right for a batch of one, wrong for more": lambda shape: shape[0] == 1,
    "Wrong for a batch of one, right for more": lambda shape: shape[0] != 1,
    "Right only where the last two axes are equally long": lambda shape: shape[-1] == shape[-2],
    "Right only for even height and width": lambda s: s[-1] % 2 == s[-2] % 2 == 0,
}


def parts_text(right: list[bool]) -> str:
    """Which of several numbers are right; empty if none is."""
    names = ("first", "second", "third", "fourth", "fifth", "sixth")
    good = [name for name, is_right in zip(names, right, strict=False) if is_right]
    return f" Right already: the {', the '.join(good)}." if good else ""


def _argument_names(exercise: "Exercise") -> list[str]:
    """The names of the arguments with which an answer is called."""
    reference: Any = exercise.reference
    if own := _needed(exercise.call)[1:]:
        return own
    if isinstance(exercise.reference, type):  # made with some arguments, called with the others
        return [*_needed(reference), "training", *_needed(reference.forward)[1:]]
    return _needed(reference)


def inputs_text(exercise: "Exercise", arguments: tuple[Any, ...]) -> str:
    """The arguments of a call in a few words, a line for each; empty without arguments."""
    if not arguments:
        return ""
    pairs = zip(_argument_names(exercise), arguments, strict=True)
    return "\n  ".join(["\nThis was with", *(f"{name} = {describe(x)}" for name, x in pairs)])


def _module_problem(found: Trial, expected: Trial) -> Problem | None:
    """An id and a sentence if a module's parameters are not those asked for, by their shapes."""
    has, wants = found.shapes(), expected.shapes()
    if found.error is not None or has == wants:
        return None
    lacking, more = wants - has, has - wants
    own, asked = found.shapes(biases_only=True), expected.shapes(biases_only=True)
    mistake, advice = "other-parameters", ""
    if not more and lacking <= asked - own:
        mistake = "missing-bias"
        advice = " Linear and convolutional layers have a bias unless bias=False is given."
    elif not lacking and more <= own - asked:
        mistake = "bias-too-many"
        advice = " With bias=False a linear or convolutional layer has no bias."
    elif {shape[::-1] for shape in lacking} & set(more) - set(lacking):
        mistake = "weights-turned"
        advice = " The check sets matrices as PyTorch's layers store them, (out, in): x @ W.T."
    text = "Your module's parameters do not have the expected shapes (axes of length one left out)"
    for said, counts in (("not there", lacking), ("not expected", more)):
        if counts:
            text += f"; {said}: {', '.join(str(x or (1,)) for x in sorted(counts.elements()))}"
    return mistake, f"{text}.{advice}"


# Exceptions ------------------------------------------------------------------------------------


_FOLDERS = [Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib", "platlib")]
_FOLDERS += [Path(torch.__file__).parent, Path(__file__).parent.parent]  # torch, the course
_LIBRARIES = tuple({str(f) for folder in _FOLDERS for f in (folder, folder.resolve())})


def error_text(error: BaseException) -> str:
    """The exception, and the line of the learner's own code it came from."""
    text = " ".join(text_of(error).split())
    message = f"Your code raised {type(error).__name__}: {text[:300]}"
    lines = traceback.extract_tb(error.__traceback__)
    own = [x for x in lines if not x.filename.startswith(("<frozen", *_LIBRARIES))]
    if not own:
        return message
    source = f": {own[-1].line}" if own[-1].line else ""
    return f"{message}\nin line {own[-1].lineno} of your code{source}"
