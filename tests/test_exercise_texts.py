"""The exercises of all chapters: solutions pass, slips name themselves, wrong answers are refused.

Wrong answers that no slip lists stand in `tests/refused/`, as code in the form of a slip, a line or
a block each. Right ones are the RIGHT of a chapter's test file.
"""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import torch
from answers import exercise_names, solution_source

from course_utils.building import chapters
from course_utils.exercises import (
    CHAPTERS,
    engine,
    exercise,
    names,
    progress,
    texts,
)
from course_utils.exercises.sandbox import preserved_state
from course_utils.exercises.trial import attempt

NAMES = names()
REFUSED = Path(__file__).parent / "refused"
LONGEST = {"question": 110, "sentence": 45, "hint": 60}  # words


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """On a machine with much to do, ten seconds are soon over."""
    monkeypatch.setattr(engine, "SECONDS", 100.0)


def right(name):
    """Right answers to an exercise, written differently."""
    chapter, topic = name.split(".")
    found = importlib.import_module(f"test_exercises_{chapter}").RIGHT
    return {key.split(".")[-1]: answers for key, answers in found.items()}[topic]


def refused(name):
    """Code of the wrong answers to an exercise that no slip lists."""
    page = (REFUSED / f"{CHAPTERS[name.split('.')[0]]}.md").read_text(encoding="utf-8")
    part = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S)
    found = re.findall(r"^```python\n(.*?)^```$|^(`[^\n]+)$", part[1] if part else "", re.M | re.S)
    return [block or (line if " → " in line else line.strip("`")) for block, line in found]


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_passes_and_every_slip_names_itself(name):
    ex = exercise(name)
    cell = {"torch": torch}
    exec(solution_source(name), cell)
    result = ex.check(cell[ex.reference.__name__])
    assert result.passed and result.mistake is None and ex.why in result.message
    for slip, (wrong, sentence) in ex.slips.items():
        result = ex.check(wrong)
        assert not result.passed, f"{slip} passes: a right answer, or inputs that do not show it"
        assert result.mistake == slip, f"{slip} cannot be told from {result.mistake}"
        assert sentence in result.message


@pytest.mark.parametrize("name", NAMES)
def test_right_answers_written_differently_pass(name):
    for answer in right(name):
        result = exercise(name).check(answer)
        assert result.passed, (answer, result.message)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_answers_are_refused(name):
    ex = exercise(name)
    names = texts.NAMES | {ex.reference.__name__: ex.reference}
    codes = refused(name)
    assert codes
    for code in codes:
        answer = texts.answer(code, ex.text.solution, names, f"<{name}, refused>")
        assert not ex.check(answer).passed, f"passes, so the inputs are too kind: {code}"


@pytest.mark.parametrize("name", NAMES)
def test_each_exercise_is_complete(name):
    """CONTRIBUTING.md, "An exercise", says why."""
    ex = exercise(name)
    assert 4 <= len(ex.slips) <= 12, "about eight slips: the mistakes people make"
    assert len(ex.hints) >= 3, "three hints, from vague to nearly there"
    assert name.split(".")[1] == ex.reference.__name__
    said = [("question", ex.question), *(("hint", hint) for hint in ex.hints)]
    said += [("sentence", sentence) for _, sentence in ex.text.slips.values()]
    words = [(kind, len(text.split()), text[:50]) for kind, text in said]
    assert not [w for w in words if w[1] > LONGEST[w[0]]], f"too many words; at most {LONGEST}"
    if not ex.is_value:
        call = f"{ex.reference.__name__}({', '.join(inspect.signature(ex.reference).parameters)})"
        assert call in ex.question
        shapes = {x.shape for args in ex.inputs() for x in args if isinstance(x, torch.Tensor)}
        assert len(shapes) >= 4, "inputs of at least four shapes, or shortcuts pass"


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_runs_on_other_inputs(name):
    ex = exercise(name)
    with preserved_state():
        for seed in (1, 2):
            for given in ex.inputs(seed):
                assert attempt(ex.call, ex.reference, given).error is None


@pytest.mark.parametrize("name", NAMES)
def test_nothing_gives_the_solution_away(name):
    ex = exercise(name)
    lines = [line.strip() for line in ex.text.solution.splitlines()[1:]]
    telling = [x for x in lines if len(x) > 12 and not x.startswith(("import", "super().__init"))]
    telling = [line for line in telling if line not in ex.text.start]
    said = [ex.question, *ex.hints, *(sentence for _, sentence in ex.text.slips.values())]
    assert not [line for line in telling if any(line in text for text in said)]
    if ex.is_value:
        value = ex.reference()
        numbers = list(value) if isinstance(value, list | tuple) else [value]
        answers = [f"{number:.3g}" for number in numbers if number]
        unknown = ex.check(-7.25).message
        assert not [a for a in answers if re.search(rf"(?<![\d.]){a}(?![\d.])", unknown)]


@pytest.mark.parametrize("name", NAMES)
def test_stubs_are_not_answered(name):
    ex = exercise(name)
    cell = {"torch": torch, **texts.NAMES}
    exec(ex.text.start, cell)
    result = ex.check(cell[ex.reference.__name__])
    assert not result.passed
    if "..." in ex.text.start:
        assert result.mistake == "not-answered"


@pytest.mark.parametrize("notebook", CHAPTERS.values())
def test_exercises_come_in_the_order_of_the_notebook(notebook):
    asked = [n for cell in chapters.assemble(notebook).cells for n in exercise_names(cell)]
    assert names(notebook) == asked
    assert next(row["open"] for row in progress() if row["chapter"] == notebook) == asked


PAGE = """# Exercises: A chapter

## toy.double: Twice as much

Write `double(x)`.

```python
def double(x):
    return 2 * x
```

Twice is two times.

1. Think of
   one more.
2. Times two.

### square
`2 * x` → `x * x`

### half
`x / 2`

You square or
halve.

### otherwise

Say what twice means.
"""


def test_a_text_is_read(tmp_path):
    path = tmp_path / "00_toy.md"
    path.write_text(PAGE)
    (text,) = texts.read(path).values()
    assert (text.name, text.title, text.question) == (
        "toy.double",
        "Twice as much",
        "Write `double(x)`.",
    )
    assert text.start == "def double(x):\n    ..." and text.why == "Twice is two times."
    assert text.hints == ["Think of one more.", "Times two."]
    assert text.slips["square"] == ("`2 * x` → `x * x`", "You square or halve.")
    assert text.slips["half"] == ("x / 2", "You square or halve.")
    assert text.otherwise == "Say what twice means."
    made = [texts.answer(code, text.solution, {}, "<toy>")(3) for code, _ in text.slips.values()]
    assert made == [9, 1.5]
    assert texts.answer("y = x\nreturn y", text.solution, {}, "<toy>")(3) == 3
    assert texts.answer("def f(x):\n    return 7", text.solution, {}, "<toy>")(3) == 7


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("### half", "### square", "square stands twice"),
        ("You square or\nhalve.\n", "", "square has no sentence"),
        ("`x / 2`", "", "half stands twice, or has no code"),
        ("```python\ndef double(x):\n    return 2 * x\n```", "", "one block of code"),
        ("1. Think of\n   one more.\n2. Times two.", "", "or hints are missing"),
        (": Twice as much", "", "title"),
    ],
)
def test_what_is_missing_in_a_text_is_said(tmp_path, old, new, said):
    path = tmp_path / "00_toy.md"
    path.write_text(PAGE.replace(old, new))
    with pytest.raises(ValueError, match=said):
        texts.read(path)


def test_an_edit_that_does_not_fit_is_said():
    with pytest.raises(ValueError, match="'3 \\* x' is not in the solution"):
        texts.answer("`3 * x` → `x`", "def double(x):\n    return 2 * x\n", {}, "<toy>")
