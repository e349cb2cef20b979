"""What an exercise is, and how an answer is judged.

An exercise is declared: a question, a reference solution, inputs drawn at random, and the wrong
answers that learners really give, each as code with a message. `check` runs the learner's answer
and the reference on the same inputs. If they disagree, it looks for the wrong answer that agrees
with the learner's on every input, and names it. No number is compared with a stored one.
"""

import contextlib
import copy
import inspect
import re
import textwrap
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch

from . import feedback, solved
from .comparing import change, describe, difference, snapshot
from .preparing import Shape, as_function, as_value, orders, recorded, trial
from .sandbox import OutOfTime, Printed, captured, limited, preserved_state, seed_all

SECONDS = 10.0
"""How long an answer may run, all inputs together."""

Inputs = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Result:
    """The verdict on an answer: `mistake` is a stable id, None when `passed`. True if passed."""

    passed: bool
    mistake: str | None
    message: str = field(repr=False)

    def __bool__(self) -> bool:
        return self.passed

    def _ipython_display_(self) -> None:
        """Shows nothing in a notebook: `check` has printed the message already."""


_hints_given: Counter[str] = Counter()
"""By exercise, in this process: running the cell with the check again starts no new count."""


@dataclass
class Exercise:
    """One exercise. Declared in a chapter's module; learners get it from `exercise(name)`.

    Attributes:
        name: "chapter.topic".
        question: what is asked; its first sentence says it all, the rest gives shapes, dtypes,
            ranges, the return type and special cases.
        reference: the right answer as code. Its name and arguments are the ones the notebook
            uses. Where the answer is a value, a function without arguments that works it out.
        make_inputs: draws the tuples of arguments to try, small ones first; None for a value.
        wrong: known mistakes: id -> (code that makes it, what to tell the learner).
        hints: from vague to nearly there.
        why: the idea of the solution in a sentence or two.
        prepare: makes of an answer the function that is called with the arguments.
        tolerance: absolute and relative, for floating-point results.
    """

    name: str
    question: str
    reference: Callable[..., Any]
    wrong: dict[str, tuple[Callable[..., Any], str]]
    hints: tuple[str, ...]
    why: str
    make_inputs: Callable[[torch.Generator], Inputs] | None = None
    prepare: Callable[[Any], Callable[..., Any]] = as_function
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if self.make_inputs is None:
            self.prepare = as_value

    def __repr__(self) -> str:
        return f"Exercise {self.name}\n{textwrap.fill(self.question, feedback.WIDTH)}"

    def _repr_markdown_(self) -> str:
        """The question as a notebook shows it: the name bold, code as code."""
        called = f"{self.reference.__name__}({', '.join(signature(self.reference).parameters)})"
        question = re.sub(rf"(?<!`){re.escape(called)}", f"`{called}`", self.question, count=1)
        return f"**Exercise {self.name}**\n\n{question}"

    def inputs(self, seed: int | None = None) -> Inputs:
        """The tuples of arguments to try: always the same ones, unless a seed is given."""
        if self.make_inputs is None:
            return [()]
        seed = zlib.crc32(self.name.encode()) if seed is None else seed
        return self.make_inputs(torch.Generator().manual_seed(seed))

    def check(self, candidate: Any) -> Result:
        """Judges an answer, prints what to say about it, and remembers a solved exercise.

        Python code that does not end is stopped after 10 s. One blocking call into native code
        cannot be stopped: interrupt or restart the kernel.

        Args:
            candidate: the function, module class, module or value that answers the question.
        """
        printed = Printed()
        with preserved_state():
            try:
                result = _judge(self, candidate, printed)
            except Exception as error:  # an answer so odd that it cannot even be looked at
                text = f"{type(error).__name__}: {feedback.text_of(error)[:300]}"
                result = Result(False, "not-judged", f"This answer cannot be judged: {text}")
        if not result.passed:  # a warning need not worry whoever is right
            printed.write(printed.warned)
        if printed.report():
            print(printed.report())
        print(feedback.wrapped(result.message))
        if result.passed and (problem := solved.remember(self.name)):
            print(problem)
        return result

    def hint(self) -> None:
        """Prints the next hint, from vague to nearly there."""
        last = len(self.hints)
        _hints_given[self.name] = number = min(_hints_given[self.name] + 1, last)
        print(feedback.wrapped(f"Hint {number} of {last}: {self.hints[number - 1]}"))
        if number == last:
            print("That was the last hint; .solution() shows a solution.")

    def solution(self) -> None:
        """Prints the reference solution and the idea behind it."""
        print(f"{feedback.wrapped(self.why)}\n")
        if self.make_inputs is None:
            print("The code below works the value out.\n")
        print(self.source().rstrip())
        if self.make_inputs is None:
            print(f"\n{self.reference.__name__} = {describe(self.reference())}")

    def source(self) -> str:
        """The source of the reference solution."""
        return textwrap.dedent(inspect.getsource(self.reference))


@dataclass(frozen=True)
class Outcome:
    """What came of one call: a value or an exception, and which argument had changed.

    `parameters` are those of the module that `module_from` built: shapes, and which are biases.
    `returned` holds what the answer itself returned last, where that is known: `value` may have
    been put together by the exercise.
    """

    value: Any = None
    error: BaseException | None = None
    changed: tuple[int, str] | None = None
    parameters: tuple[tuple[Shape, bool], ...] = ()
    returned: tuple[Any, ...] = ()

    def is_nothing(self) -> bool:
        """Whether the answer returned None, even if the exercise made something else of it."""
        if self.returned:
            return self.returned[0] is None
        return self.value is None and self.error is None


def attempt(
    exercise: Exercise, candidate: Any, arguments: tuple[Any, ...], order: int = 0
) -> Outcome:
    """Calls an answer on copies of the arguments; what it raises is part of the outcome.

    `order` numbers the orders in which a module's weights of one shape are dealt out.
    """
    seed_all(0)
    trial.order, trial.parameters, trial.returned = order, (), []
    given = copy.deepcopy(arguments)
    try:
        value = snapshot(exercise.prepare(recorded(candidate))(*given))
        returned = tuple(map(snapshot, trial.returned[-1:]))
    except (KeyboardInterrupt, OutOfTime):
        raise
    except BaseException as error:  # SystemExit among them: it must not end the kernel
        nothing = tuple(x for x in trial.returned[-1:] if x is None)
        return Outcome(error=error, parameters=trial.parameters, returned=nothing)
    finally:
        trial.order, trial.returned = 0, []
    for i, (before, after) in enumerate(zip(arguments, given, strict=True)):
        if what := change(before, after):
            return Outcome(value, None, (i, what), trial.parameters, returned)
    return Outcome(value, parameters=trial.parameters, returned=returned)


def agree(a: Outcome, b: Outcome, tolerance: float) -> bool:
    """Whether two answers did the same: equal values and changes, or equal exceptions."""
    if a.error is not None or b.error is not None:
        texts = feedback.text_of(a.error), feedback.text_of(b.error)
        return type(a.error) is type(b.error) and texts[0] == texts[1]
    return a.changed == b.changed and difference(a.value, b.value, tolerance) is None


def named_mistake(
    exercise: Exercise,
    inputs: Inputs,
    found: list[list[Outcome]],
    expected: list[Outcome],
    right: list[bool],
) -> tuple[str | None, bool]:
    """The known mistake that explains an answer, and whether it explains it on every input.

    A learner may make two mistakes at once. So the second best is the mistake that agrees on at
    least half of the inputs and on more of them than the reference does (where `right`). Among
    equals it is the one that raises the same exception on the first input that went wrong. A
    message that begins with "Right" is not for an answer that is wrong where the mistake is right.
    """
    counts = {}
    explains = set()
    for mistake, (wrong, message) in exercise.wrong.items():
        agreed = 0
        for tried, (x, outcomes) in enumerate(zip(inputs, found, strict=True), start=1):
            made = attempt(exercise, wrong, x)
            same = any_agrees(outcomes, made, exercise.tolerance)
            agreed += same
            if message.startswith("Right") and not (same or right[tried - 1]):
                agreed -= len(inputs) * agree(made, expected[tried - 1], exercise.tolerance)
            if same and tried - 1 == right.index(False) and outcomes[0].error is not None:
                explains.add(mistake)
            if 2 * (tried - agreed) > len(inputs):
                break  # fewer than half can agree
        if agreed == len(inputs):
            return mistake, True
        counts[mistake] = agreed
    most = max(counts.values(), default=0)
    best = [mistake for mistake, count in counts.items() if count == most]
    if len(best) > 1:
        best = [mistake for mistake in best if mistake in explains]
    if len(best) == 1 and most > sum(right) and 2 * most >= len(inputs):
        return best[0], False
    return None, False


def any_agrees(outcomes: list[Outcome], wanted: Outcome, tolerance: float) -> bool:
    """Whether an answer did what is wanted, in any order of its weights of one shape."""
    return any(agree(outcome, wanted, tolerance) for outcome in outcomes)


def add_other_orders(
    exercise: Exercise,
    candidate: Any,
    inputs: Inputs,
    found: list[list[Outcome]],
    expected: list[Outcome],
) -> None:
    """Adds what a module does when its weights of one shape are dealt out in other orders.

    Nothing is added where there is one order only, or where the parameters are not the reference's.
    """

    def run_all() -> None:
        for arguments, outcomes, wanted in zip(inputs, found, expected, strict=True):
            shapes = sorted(shape for shape, _ in outcomes[0].parameters)
            if shapes == sorted(shape for shape, _ in wanted.parameters):
                for order in range(1, orders(shapes)):
                    outcomes.append(attempt(exercise, candidate, arguments, order))

    with captured(Printed()), contextlib.suppress(OutOfTime):
        limited(run_all, SECONDS)


NOT_ANSWERED = Result(
    False,
    "not-answered",
    "Not answered yet: put your answer where the ... stands, run the cell, then check again.",
)


def _judge(exercise: Exercise, candidate: Any, printed: Printed) -> Result:
    if candidate is ... or candidate is None:
        return NOT_ANSWERED
    if exercise.make_inputs is not None and (problem := feedback.not_callable(exercise, candidate)):
        return NOT_ANSWERED if feedback.is_empty(candidate) else Result(False, *problem)
    inputs = exercise.inputs()
    expected = [attempt(exercise, exercise.reference, x) for x in inputs]
    found: list[list[Outcome]] = []  # per input: of a module in every order of its weights

    def run_all() -> None:
        for arguments in inputs:
            found.append([attempt(exercise, candidate, arguments)])

    try:
        with captured(printed):
            limited(run_all, SECONDS)
    except OutOfTime:
        where = feedback.inputs_text(exercise, inputs[min(len(found), len(inputs) - 1)])
        return Result(
            False,
            "endless-loop",
            f"Stopped after {SECONDS:g} s. Is there a loop whose condition never becomes false, or "
            f"one over single pixels where a tensor operation would do?{where}",
        )

    def judged() -> list[bool]:
        pairs = zip(found, expected, strict=True)
        return [any_agrees(f, e, exercise.tolerance) for f, e in pairs]

    right = judged()
    if not all(right):
        if feedback.unanswered(candidate, [outcomes[0] for outcomes in found]):
            return NOT_ANSWERED
        add_other_orders(exercise, candidate, inputs, found, expected)
        right = judged()
    if all(right):
        tried = f": tried on {len(inputs)} different inputs" if len(inputs) > 1 else ""
        return Result(True, None, f"Right{tried}.")
    with captured(Printed()):
        known, alone = named_mistake(exercise, inputs, found, expected, right)
    first = right.index(False)
    if not alone:
        for i, (outcomes, wanted) in enumerate(zip(found, expected, strict=True)):
            if outcomes[0].is_nothing() and not wanted.is_nothing():
                where = feedback.inputs_text(exercise, inputs[i])
                return Result(False, *feedback.nothing_returned(exercise, wanted, where))
    got, wanted = found[first][0], expected[first]
    where = feedback.inputs_text(exercise, inputs[first])
    if not alone and (problem := feedback.module_problem(exercise, candidate, got, wanted)):
        return Result(False, problem[0], f"Not yet. {problem[1]}{where}")
    if known:
        start = "Not yet." if alone else "Not yet, and more than one thing is wrong. One is this:"
        end = f"\n{feedback.error_text(got.error)}" if got.error else ""
        return Result(False, known, f"{start} {exercise.wrong[known][1]}{end}")
    mistake, text = feedback.first_problem(exercise, got, wanted, where)
    if found_in := feedback.pattern(mistake, inputs, right):
        mistake, text = found_in[0], f"{found_in[1]} {text}"
    return Result(False, mistake, f"Not yet. {text}")
