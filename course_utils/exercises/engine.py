"""What an exercise is, and how an answer is judged.

`check` runs the answer and the reference on the same random inputs. If they disagree, it looks for
the slip whose answer does the same as the learner's on every input, and names it. No number is
compared with a stored one.
"""

import contextlib
import itertools
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
        self._done: dict[tuple[str, int], Trial] = {}

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

    def done(self, number: int, slip: str = "") -> Trial:
        """What the solution, or a slip, does on one of the inputs: worked out once."""
        key = slip, number
        if key not in self._done:
            answer = self.slips[slip][0] if slip else self.reference
            self._done[key] = attempt(self.call, answer, self.tried[number])
        return self._done[key]

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
    inputs = exercise.tried
    expected = [exercise.done(number) for number in range(len(inputs))]
    if errors := [wanted.error for wanted in expected if wanted.error]:
        raise RuntimeError("the course's own solution fails on this machine") from errors[0]
    found: list[Trial] = []
    with captured(printed), contextlib.suppress(OutOfTime):
        trials = (attempt(exercise.call, candidate, given) for given in inputs)
        limited(lambda: found.extend(trials), SECONDS)
    if len(found) < len(inputs):
        text = (
            f"Stopped after {SECONDS:g} s. Is there a loop whose condition never becomes false, or "
            "one over single pixels where a tensor operation would do?"
        )
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
    if exercise.is_value:
        return _not_yet(*_wrong_value(exercise, found[0], expected[0]))
    with captured(Printed()):
        known = next((slip for slip in exercise.slips if all(_right(exercise, tries, slip))), None)
    if known is None:
        return _not_yet(*feedback.unforeseen(exercise, found, expected, right))
    error = found[right.index(False)].error
    end = f"\n{feedback.error_text(error)}" if error else ""
    return _not_yet(known, exercise.slips[known][1] + end)


def _not_yet(mistake: str, text: str) -> Result:
    return Result(False, mistake, f"Not yet. {text}")


def _try_orders(exercise: Exercise, candidate: Any, tries: list[list[Trial]]) -> None:
    """Adds what a module does when its weights of one shape are dealt out in other orders.

    Nothing where there is one order only, or where the parameters are not the reference's.
    """
    for number, trials in enumerate(tries):
        first, wanted = trials[0], exercise.done(number)
        for order in range(1, first.orders if first.shapes() == wanted.shapes() else 1):
            trials.append(attempt(exercise.call, candidate, exercise.tried[number], order))


def _right(exercise: Exercise, tries: list[list[Trial]], slip: str = "") -> Iterator[bool]:
    """For each input, whether an answer does what the solution or a slip does, in any order."""
    for number, trials in enumerate(tries):
        made = exercise.done(number, slip)
        yield any(agree(trial, made, exercise.setup.tolerance) for trial in trials)


def _wrong_value(exercise: Exercise, found: Trial, expected: Trial) -> tuple[str, str]:
    """An id and a message for a wrong value; of a tuple, part by part."""
    tolerance = exercise.setup.tolerance
    right = _same(found.value, expected.value, tolerance)
    which = feedback.parts_text(right)
    exact, partly = [], []
    for key in exercise.slips:
        slip = exercise.done(0, key)
        if agree(found, slip, tolerance):
            exact.append(key)
        # A slip speaks for the parts that it has wrong, whatever the others are.
        wrong = [not same for same in _same(slip.value, expected.value, 0)]
        own = list(itertools.compress(_same(found.value, slip.value, tolerance), wrong))
        if right and own and all(own):
            partly.append(key)
    if known := exact + partly:
        return known[0], exercise.slips[known[0]][1] + which
    problem = difference(found.value, expected.value, tolerance) if found.error is None else None
    if problem is None or problem[0] not in ("wrong-value", "nan"):
        return feedback.unforeseen(exercise, [found], [expected], [False])
    text = exercise.text.otherwise or f"{feedback.describe(found.value)} is not the answer."
    return problem[0], text + which  # the right one is not given away


def _same(a: Any, b: Any, tolerance: float) -> list[bool]:
    """Which parts of two tuples agree; empty if one is no tuple, or has more parts."""
    if not all(isinstance(x, list | tuple) for x in (a, b)) or len(a) != len(b):
        return []
    return [difference(x, y, tolerance) is None for x, y in zip(a, b, strict=True)]
