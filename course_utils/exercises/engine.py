"""What an exercise is, and how an answer is judged.

`check` runs the answer and the reference on the same random inputs. If they disagree, it looks for
the slip whose answer does the same as the learner's on every input, and names it. No number is
compared with a stored one.
"""

import contextlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from . import feedback, solved, texts
from .comparing import difference
from .sandbox import OutOfTime, Printed, captured, limited, preserved_state
from .trial import Call, Trial, agree, as_value, attempt, text_of

SECONDS = 10.0
"""How long an answer may run, all inputs together."""

Inputs = Iterable[tuple[Any, ...]]


@dataclass(frozen=True)
class Setup:
    """What of an exercise is computed. Declared in a chapter's module, by the exercise's name.

    Attributes:
        inputs: draws the tuples of arguments to try, small ones first; None for a value.
        call: calls an answer, which it gets as a `Trial`, with the arguments.
        tolerance: absolute and relative, for floating-point results.
    """

    inputs: Callable[[torch.Generator], Inputs] | None = None
    call: Call = Trial.__call__
    tolerance: float = 1e-4


@dataclass(frozen=True)
class Result:
    """The verdict on an answer: `mistake` is a stable id, None when `passed`. True if passed."""

    passed: bool
    mistake: str | None
    message: str = field(repr=False)

    def __bool__(self) -> bool:
        return self.passed

    def _ipython_display_(self) -> None:
        """Shows nothing in a notebook: `check` has shown the message already."""


_STUB = "Not answered yet. Replace the dots, run that cell, then run this one again."
NOT_ANSWERED = Result(False, "not-answered", _STUB)


class Exercise:
    """One exercise: its text and its setup. Learners get it from `exercise(name)`.

    Attributes:
        name: "chapter.topic".
        title, question, why, hints: of the text.
        reference: the solution, made of its source. Of a value, a function without arguments.
        slips: id to (answer, sentence).
    """

    def __init__(self, text: texts.Text, setup: Setup = Setup()) -> None:
        self.text, self.setup = text, setup
        self.name, self.title, self.question = text.name, text.title, text.question
        self.why, self.hints = text.why, text.hints
        self.reference = texts.run(text.solution, texts.NAMES, f"<solution of {self.name}>")
        self.is_value = setup.inputs is None
        self.call = as_value if self.is_value else setup.call
        self._hints_given = 0
        self._done: dict[str, list[Trial]] = {}

    def __repr__(self) -> str:
        return f"Exercise {self.name}: {self.title}\n{feedback.wrapped(self.question)}"

    @cached_property
    def slips(self) -> dict[str, tuple[Any, str]]:
        """The answers that the text lists as slips, made of their code."""
        names = texts.NAMES | {self.reference.__name__: self.reference}
        solution = self.text.solution
        return {
            key: (texts.answer(code, solution, names, f"<{self.name}: {key}>"), sentence)
            for key, (code, sentence) in self.text.slips.items()
        }

    def inputs(self, seed: int | None = None) -> list[tuple[Any, ...]]:
        """The tuples of arguments to try: always the same ones, unless a seed is given."""
        if self.setup.inputs is None:
            return [()]
        seed = zlib.crc32(self.name.encode()) if seed is None else seed
        return list(self.setup.inputs(torch.Generator().manual_seed(seed)))

    @cached_property
    def tried(self) -> list[tuple[Any, ...]]:
        """The inputs of all checks."""
        return self.inputs()

    def done(self, slip: str = "") -> list[Trial]:
        """What the solution, or a slip, does on each of the inputs: worked out once."""
        if slip not in self._done:
            answer = self.slips[slip][0] if slip else self.reference
            self._done[slip] = [attempt(self.call, answer, given) for given in self.tried]
        return self._done[slip]

    def check(self, candidate: Any) -> Result:
        """Judges an answer, shows what to say about it, and remembers a solved exercise.

        Python code that does not end is stopped after 10 s. One blocking call into native code
        cannot be stopped: interrupt or restart the kernel.

        Args:
            candidate: the function, module class, module or value that answers the question.
        """
        printed = Printed()
        with preserved_state():
            try:
                result = judge(self, candidate, printed)
            except Exception as error:  # an answer so odd that it cannot even be looked at
                text = f"{type(error).__name__}: {text_of(error)[:300]}"
                result = Result(False, "not-judged", f"This answer cannot be judged: {text}")
        said = printed.report(with_warnings=not result.passed)
        problem = solved.remember(self.name) if result.passed else None
        feedback.show(self, result, "\n".join(filter(None, (said, problem))))
        return result

    def hint(self) -> None:
        """Prints the next hint, from vague to nearly there."""
        last = len(self.hints)
        self._hints_given = number = min(self._hints_given + 1, last)
        print(feedback.wrapped(f"Hint {number} of {last}: {self.hints[number - 1]}"))
        if number == last:
            print("That was the last hint; .solution() shows a solution.")

    def solution(self) -> None:
        """Prints the solution and the idea behind it."""
        print(f"{feedback.wrapped(self.why)}\n\n{self.text.solution.rstrip()}")
        if self.is_value:
            print(f"\n{self.reference.__name__} = {feedback.describe(self.reference())}")


def judge(exercise: Exercise, candidate: Any, printed: Printed) -> Result:
    """The verdict on an answer; what its code prints goes into `printed`."""
    if candidate is ... or candidate is None:
        return NOT_ANSWERED
    if not exercise.is_value and (problem := feedback.not_callable(exercise.reference, candidate)):
        return NOT_ANSWERED if feedback.is_empty(candidate) else _not_yet(*problem)
    inputs, expected = exercise.tried, exercise.done()
    if errors := [wanted.error for wanted in expected if wanted.error]:
        raise RuntimeError("the course's own solution fails on this machine") from errors[0]
    found: list[Trial] = []
    with captured(printed), contextlib.suppress(OutOfTime):
        trials = (attempt(exercise.call, candidate, given) for given in inputs)
        limited(lambda: found.extend(trials), SECONDS)
    if len(found) < len(inputs):
        text = f"Stopped after {SECONDS:g} s. Is there a loop without an end, or one over pixels?"
        return _not_yet("endless-loop", text + feedback.inputs_text(exercise, inputs[len(found)]))
    tries = [[trial] for trial in found]  # of a module, in every order of its weights
    right = list(_right(exercise, tries))
    if not all(right):
        if feedback.unanswered(candidate, found):
            return NOT_ANSWERED
        with captured(Printed()), contextlib.suppress(OutOfTime):
            limited(lambda: _try_orders(exercise, candidate, tries), SECONDS)
        right = list(_right(exercise, tries))
    if all(right):
        on = f", on all {len(inputs)} inputs" if len(inputs) > 1 else ""
        return Result(True, None, f"Right{on}. {exercise.why}")
    with captured(Printed()):
        known = next((slip for slip in exercise.slips if all(_right(exercise, tries, slip))), None)
        if known is None and exercise.is_value:
            known = _partly(exercise, found[0].value)
    if known is None:
        mistake, text = feedback.unforeseen(exercise, found, right)
    else:
        mistake, text = known, exercise.slips[known][1]
        if error := found[right.index(False)].error:
            text += f"\n{feedback.error_text(error)}"
    if exercise.is_value:
        same = _same(found[0].value, expected[0].value, exercise.setup.tolerance)
        text += feedback.parts_text(same)
    return _not_yet(mistake, text)


def _not_yet(mistake: str, text: str) -> Result:
    return Result(False, mistake, f"Not yet. {text}")


def _try_orders(exercise: Exercise, candidate: Any, tries: list[list[Trial]]) -> None:
    """Adds what a module does when its weights of one shape are dealt out in other orders.

    Nothing where there is one order only, or where the parameters are not the reference's.
    """
    for given, wanted, trials in zip(exercise.tried, exercise.done(), tries, strict=True):
        orders = trials[0].orders if trials[0].shapes() == wanted.shapes() else 1
        trials.extend(attempt(exercise.call, candidate, given, order) for order in range(1, orders))


def _right(exercise: Exercise, tries: list[list[Trial]], slip: str = "") -> Iterator[bool]:
    """For each input, whether an answer does what the solution or a slip does, in any order."""
    for trials, made in zip(tries, exercise.done(slip), strict=True):
        yield any(agree(trial, made, exercise.setup.tolerance) for trial in trials)


def _partly(exercise: Exercise, found: Any) -> str | None:
    """The slip that explains a tuple: it has the same in all parts that it has wrong itself."""
    tolerance, expected = exercise.setup.tolerance, exercise.done()[0].value
    for key in exercise.slips:
        slip = exercise.done(key)[0].value
        parts = zip(_same(slip, expected, 0), _same(found, slip, tolerance), strict=False)
        wrong = [as_here for right, as_here in parts if not right]
        if wrong and all(wrong):
            return key
    return None


def _same(a: Any, b: Any, tolerance: float) -> list[bool]:
    """Which parts of two tuples agree; empty if one is no tuple, or has more parts."""
    if not all(isinstance(x, list | tuple) for x in (a, b)) or len(a) != len(b):
        return []
    return [difference(x, y, tolerance) is None for x, y in zip(a, b, strict=True)]
