"""How much a reader has to read: words, code in sight, minutes, drawings; and in which voice."""

import re

import answers
import pytest

from course_utils.building import chapters, sections
from course_utils.runtime import ROOT

NAMES = chapters.names()
BOOKS = {name: chapters.assemble(name) for name in NAMES}


def prose(cells):
    """The words of text cells, without formulas, addresses and markup."""
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = re.sub(r"\$\$.*?\$\$|```.*?```", " ", text, flags=re.S)
    return re.sub(r"!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|\$[^$\n]+\$|<[^>]+>|`[^`\n]*`", " x ", text)


def words(cells):
    return len(re.findall(r"[A-Za-z][A-Za-z'-]*", prose(cells)))


def optional(cells):
    """The cells of optional sections."""
    found, inside = [], False
    for cell in cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            inside = cell.metadata.get("optional", False)
        found += [cell] if inside else []
    return found


def code_in_sight(cells):
    code = [c for c in cells if c.cell_type == "code"]
    seen = [c for c in code if not c.metadata.get("jupyter", {}).get("source_hidden")]
    return sum(bool(line.strip()) for cell in seen for line in cell.source.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_keeps_its_budget(name):
    cells = BOOKS[name].cells
    left_out = optional(cells)
    core = [cell for cell in cells if cell not in left_out]
    assert words(cells) <= (2000 if name.startswith("00") else 3500)
    assert code_in_sight(cells) <= 300
    assert sum(len(answers.exercise_names(cell)) for cell in core) <= 6
    taken = sections.minutes(cells)
    assert sum(minutes for _, minutes, is_optional in taken if not is_optional) <= 65


def test_the_course_keeps_its_budget():
    every = [cell for book in BOOKS.values() for cell in book.cells]
    assert words(every) <= 30_000
    assert words(every) - words(optional(every)) <= 25_000
    assert code_in_sight(every) <= 2_700
    taken = [row for book in BOOKS.values() for row in sections.minutes(book.cells)]
    assert sum(minutes for _, minutes, is_optional in taken if not is_optional) <= 600


@pytest.mark.parametrize("name", NAMES)
def test_each_chapter_has_a_drawing_and_all_drawings_are_there(name):
    text = (chapters.NOTEBOOKS / "source" / f"{name}.md").read_text(encoding="utf-8")
    drawn = re.findall(r"notebooks/figures/(\w+\.svg)\)", text)
    assert drawn
    assert all((ROOT / "notebooks" / "figures" / file).exists() for file in drawn)


def test_there_are_sixteen_drawings():
    assert len(list((ROOT / "notebooks" / "figures").glob("*.svg"))) >= 16


@pytest.mark.parametrize(("name", "mark", "most"), [("00", "loss.backward()", 600),
                                                    ("01", "model.fit(", 1500)])  # fmt: skip
def test_a_model_is_trained_soon(name, mark, most):
    (name,) = chapters.names([name])
    cells = BOOKS[name].cells
    first = next(i for i, c in enumerate(cells) if c.cell_type == "code" and mark in c.source)
    assert words(cells[:first]) <= most


HOUSE_WORDS = re.compile(
    r", so that|\bweigh(s|ed)?\b|\bstands?\b|\bthe (ill|healthy)\b|\bwhoever\b|stored run|"
    r"holds? 0|[Aa]sked for is|\banew\b|[Ii]ntroductory texts|(?<![\d.\w])\.\d\d"
)


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_speaks_plainly(name):
    text = prose([c for c in BOOKS[name].cells if "exercise" not in c.metadata.get("tags", [])])
    text = text.split("## References")[0]
    assert [m.group() for m in HOUSE_WORDS.finditer(text)] == []
    paragraphs = [p for p in re.split(r"\n\s*\n", text) if not re.match(r"\s*([#|>*-]|\d\.)", p)]
    sentences = [s.split() for p in paragraphs for s in re.split(r"(?<=[.?:])\s+", p.strip())]
    lengths = [len(s) for s in sentences if len(s) > 2]
    assert sum(lengths) / len(lengths) <= 14
    too_long = [" ".join(s) for s in sentences if len(s) > 30]
    assert too_long == []
