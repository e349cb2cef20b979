"""What an exercise is, and how an answer is judged.

`check` runs the answer and the reference on the same random inputs. If they disagree, it looks for
the slip whose answer does the same as the learner's on every input, and names it. No number is
compared with a stored one.
"""

import contextlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from . import feedback, solved, texts
from .comparing import difference
from .sandbox import OutOfTime, Printed, captured, limited, preserved_state
from .trial import Outcome, Prepare, agree, as_function, as_value, attempt, orders, text_of

SECONDS = 10.0
"""How long an answer may run, all inputs together."""

Inputs = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Setup:
    """What of an exercise is computed. Declared in a chapter's module, by the exercise's name.

    Attributes:
        inputs: draws the tuples of arguments to try, small ones first; None for a value.
        prepare: makes of an answer the function that is called with the arguments.
        tolerance: absolute and relative, for floating-point results.
    """

    inputs: Callable[[torch.Generator], Inputs] | None = None
    prepare: Prepare = as_function
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


NOT_ANSWERED = Result(
    False,
    "not-answered",
    "Not answered yet. Replace the `...`, run that cell, then run this one again.",
)


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
        self.reference = texts.run(text.solution, texts.names(), f"<solution of {self.name}>")
        self.is_value = setup.inputs is None
        self.prepare = as_value if self.is_value else setup.prepare
        self._hints_given = 0

    def __repr__(self) -> str:
        return f"Exercise {self.name}: {self.title}\n{feedback.wrapped(self.question)}"

    @property
    def slips(self) -> dict[str, tuple[Any, str]]:
        """The answers that the text lists as slips, made of their code."""
        names = texts.names() | {self.reference.__name__: self.reference}
        solution = self.text.solution
        return {
            key: (texts.answer(code, solution, names, f"<{self.name}: {key}>"), sentence)
            for key, (code, sentence) in self.text.slips.items()
        }

    def inputs(self, seed: int | None = None) -> Inputs:
        """The tuples of arguments to try: always the same ones, unless a seed is given."""
        if self.setup.inputs is None:
            return [()]
        seed = zlib.crc32(self.name.encode()) if seed is None else seed
        return self.setup.inputs(torch.Generator().manual_seed(seed))

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
        print(f"{feedback.wrapped(self.why)}\n\n{self.source().rstrip()}")
        if self.is_value:
            print(f"\n{self.reference.__name__} = {feedback.describe(self.reference())}")

    def source(self) -> str:
        """The source of the solution."""
        return self.text.solution


def judge(exercise: Exercise, candidate: Any, printed: Printed) -> Result:
    """The verdict on an answer; what its code prints goes into `printed`."""
    if candidate is ... or candidate is None:
        return NOT_ANSWERED
    if not exercise.is_value and (problem := feedback.not_callable(exercise.reference, candidate)):
        return NOT_ANSWERED if feedback.is_empty(candidate) else Result(False, *problem)
    inputs = exercise.inputs()
    expected = [attempt(exercise.prepare, exercise.reference, x) for x in inputs]
    if any(wanted.error for wanted in expected):
        raise RuntimeError("the course's own solution fails on this machine") from next(
            wanted.error for wanted in expected if wanted.error
        )
    found: list[Outcome] = []
    try:
        with captured(printed):
            limited(lambda: _try_all(exercise, candidate, inputs, found), SECONDS)
    except OutOfTime:
        where = feedback.inputs_text(exercise, inputs[min(len(found), len(inputs) - 1)])
        text = (
            f"Stopped after {SECONDS:g} s. Is there a loop whose condition never becomes false, or "
            "one over single pixels where a tensor operation would do?"
        )
        return Result(False, "endless-loop", f"Not yet. {text}{where}")
    tries = [[outcome] for outcome in found]  # of a module, in every order of its weights
    right = _right(exercise, tries, expected)
    if not all(right):
        if feedback.unanswered(candidate, found):
            return NOT_ANSWERED
        with captured(Printed()), contextlib.suppress(OutOfTime):
            limited(lambda: _try_orders(exercise, candidate, inputs, tries, expected), SECONDS)
        right = _right(exercise, tries, expected)
    if all(right):
        on = f", on all {len(inputs)} inputs" if len(inputs) > 1 else ""
        return Result(True, None, f"Right{on}. {exercise.why}")
    if exercise.is_value:
        return Result(False, *_wrong_value(exercise, found[0], expected[0]))
    first = right.index(False)
    where = feedback.inputs_text(exercise, inputs[first])
    with captured(Printed()):
        known = _known_slip(exercise, inputs, tries)
    got, wanted = found[first], expected[first]
    if known is None:
        if nothing := feedback.nothing_returned(exercise, inputs, found, expected):
            return Result(False, *nothing)
        if problem := feedback.module_problem(exercise, candidate, got, wanted):
            return Result(False, problem[0], f"Not yet. {problem[1]}{where}")
        return Result(False, *feedback.unforeseen(exercise, inputs, found, expected, right))
    end = f"\n{feedback.error_text(got.error)}" if got.error else ""
    return Result(False, known[0], f"Not yet. {known[1]}{end}")


def _try_all(exercise: Exercise, candidate: Any, inputs: Inputs, into: list[Outcome]) -> None:
    for arguments in inputs:
        into.append(attempt(exercise.prepare, candidate, arguments))


def _try_orders(
    exercise: Exercise,
    candidate: Any,
    inputs: Inputs,
    tries: list[list[Outcome]],
    expected: list[Outcome],
) -> None:
    """Adds what a module does when its weights of one shape are dealt out in other orders.

    Nothing where there is one order only, or where the parameters are not the reference's.
    """
    for arguments, outcomes, wanted in zip(inputs, tries, expected, strict=True):
        shapes = sorted(shape for shape, _ in outcomes[0].parameters)
        if shapes == sorted(shape for shape, _ in wanted.parameters):
            for order in range(1, orders(shapes)):
                outcomes.append(attempt(exercise.prepare, candidate, arguments, order))


def _right(exercise: Exercise, tries: list[list[Outcome]], expected: list[Outcome]) -> list[bool]:
    """For each input, whether an answer did what is wanted, in any order of its weights."""
    tolerance = exercise.setup.tolerance
    pairs = zip(tries, expected, strict=True)
    return [any(agree(outcome, wanted, tolerance) for outcome in one) for one, wanted in pairs]


def _known_slip(
    exercise: Exercise, inputs: Inputs, tries: list[list[Outcome]]
) -> tuple[str, str] | None:
    """Id and sentence of the slip that does what the answer does, on every input."""
    for key, (slip, sentence) in exercise.slips.items():
        for arguments, outcomes in zip(inputs, tries, strict=True):
            made = attempt(exercise.prepare, slip, arguments)
            if not _right(exercise, [outcomes], [made])[0]:
                break
        else:
            return key, sentence
    return None


def _wrong_value(exercise: Exercise, found: Outcome, expected: Outcome) -> tuple[str, str]:
    """An id and a message for a wrong value; of a tuple, part by part."""
    tolerance = exercise.setup.tolerance
    got, wanted = found.value, expected.value
    slips = {
        key: (attempt(as_value, slip, ()), text) for key, (slip, text) in exercise.slips.items()
    }
    parts = all(isinstance(x, list | tuple) for x in (got, wanted)) and len(got) == len(wanted)
    gots, wants = (got, wanted) if parts else ([got], [wanted])
    right = [difference(a, b, tolerance) is None for a, b in zip(gots, wants, strict=True)]
    which = feedback.parts_text(right) if parts else ""
    for key, (made, sentence) in slips.items():
        if agree(found, made, tolerance):
            return key, f"Not yet. {sentence}{which}"
    for key, (made, sentence) in slips.items() if parts else ():
        theirs = made.value
        if isinstance(theirs, list | tuple) and len(theirs) == len(wants):
            # A slip speaks for the parts that it has wrong, whatever the others are.
            own = [i for i, (a, b) in enumerate(zip(theirs, wants, strict=True)) if a != b]
            if own and all(difference(gots[i], theirs[i], tolerance) is None for i in own):
                return key, f"Not yet. {sentence}{which}"
    problem = difference(got, wanted, tolerance) if found.error is None else None
    if problem is None or problem[0] not in ("wrong-value", "nan"):
        return feedback.unforeseen(exercise, [()], [found], [expected], [False])
    text = exercise.text.otherwise or f"{feedback.describe(got)} is not the answer."
    return problem[0], f"Not yet. {text}{which}"  # the right one is not given away
