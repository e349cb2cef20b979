"""What holds for every stored notebook: order, clean outputs, alt text, links, length, anatomy."""

import re
from functools import cache
from itertools import pairwise
from urllib.parse import unquote, urlsplit

import answers
import nbformat
import pytest
from in_step import in_step
from markdown_it import MarkdownIt

from course_utils.building import chapters
from course_utils.building.execute import flaws
from course_utils.building.site import anchor
from course_utils.exercises import CHAPTERS, exercise, names

NOTEBOOKS = sorted(chapters.NOTEBOOKS.glob("*.ipynb"))
SECTIONS = ["Summary", "References"]
MARKDOWN = MarkdownIt("commonmark").enable("table")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@cache
def read(path):
    return nbformat.read(path, as_version=4)


def parts(notebook):
    """Markdown tokens of all text cells, inline ones included, in order."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for token in MARKDOWN.parse(cell.source):
                yield token
                yield from token.children or []


def headings(notebook):
    """(level, text) of each heading."""
    tokens = list(parts(notebook))
    return [
        (int(token.tag[1]), tokens[i + 1].content)
        for i, token in enumerate(tokens)
        if token.type == "heading_open"
    ]


def where(path, cell):
    return f"{path.name}, cell {read(path).cells.index(cell) + 1}: {cell.source[:60]!r}"


def test_each_source_has_its_notebook_and_each_notebook_its_source():
    assert NOTEBOOKS, "notebooks/ holds no notebook"
    assert [path.stem for path in NOTEBOOKS] == chapters.names()


@pytest.mark.parametrize("name", chapters.names())
def test_source_and_notebook_are_in_step(name):
    assert in_step(name) == []


@every_notebook
def test_notebook_is_valid_executed_in_order_and_clean(path):
    notebook = read(path)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in chapters.code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert flaws(notebook) == []


@every_notebook
def test_notebook_is_small_and_its_cells_fit_a_screen(path):
    assert path.stat().st_size < 3_000_000
    for cell in read(path).cells:
        folded = cell.metadata.get("jupyter", {}).get("source_hidden")
        assert folded or len(cell.source.splitlines()) <= 25, where(path, cell)


@every_notebook
def test_first_cell_is_the_courses(path):
    first = chapters.code_cells(read(path))[0]
    expected = chapters.code_cells(chapters.assemble(path.stem))[0]
    assert first.source == expected.source
    assert first.metadata == expected.metadata
    stored = (chapters.NOTEBOOKS / "source" / "first_cell.py").read_text().strip().splitlines()
    differing = [a for a, b in zip(first.source.splitlines(), stored, strict=True) if a != b]
    assert not differing or (len(differing) == 1 and differing[0].startswith("REPOSITORY = "))


@every_notebook
def test_every_figure_has_alt_text(path):
    for cell in chapters.code_cells(read(path)):
        kinds = [kind for output in cell.outputs for kind in output.get("data", {})]
        if any(kind.startswith("image/") for kind in kinds):
            alt = cell.metadata.get("alt", "")
            assert len(alt.split()) >= 4, f"no alt text: {where(path, cell)}"
    for token in parts(read(path)):
        if token.type == "image":
            assert token.content.strip(), f"no alt text: {path.name}, {token.attrs['src']}"


@every_notebook
def test_links_are_well_formed_and_lead_somewhere(path):
    links = [str(t.attrs["href"]) for t in parts(read(path)) if t.type == "link_open"]
    links += [str(t.attrs["src"]) for t in parts(read(path)) if t.type == "image"]
    for link in links:
        address = urlsplit(link)
        if address.scheme or address.netloc:
            assert address.scheme in ("http", "https"), link
            assert re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", address.netloc), link
            continue
        target = path.parent / unquote(address.path) if address.path else path
        assert target.exists(), f"{path.name}: {link} does not exist"
        if address.fragment:
            anchors = [anchor(re.sub("[`*]", "", text)) for _, text in headings(read(target))]
            assert unquote(address.fragment) in anchors, f"{path.name}: {link} has no such heading"
    text = "\n".join(token.content for token in parts(read(path)) if token.type == "text")
    assert not re.search(r"\]\(|https?://", text), "a link that Markdown does not see as one"


@every_notebook
def test_headings_are_in_order(path):
    levels = [level for level, _ in headings(read(path))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), levels
    texts = [text for _, text in headings(read(path))]
    assert len(set(texts)) == len(texts), "two headings are the same, so are their anchors"


@every_notebook
def test_at_least_five_outputs_are_compared(path):
    compared = [
        cell
        for cell in chapters.code_cells(read(path))
        if "nbval-check-output" in cell.metadata.get("tags", [])
    ]
    assert len(compared) >= 5
    for cell in compared:
        assert cell.outputs, f"nothing to compare: {where(path, cell)}"


@every_notebook
def test_exercises_exist_and_each_is_asked(path):
    named = [name for cell in read(path).cells for name in answers.exercise_names(cell)]
    assert len(named) >= 3 and len(set(named)) == len(named)
    for name in named:
        assert exercise(name).name == name
    assert path.stem in CHAPTERS.values()
    assert sorted(named) == sorted(names(path.stem))


@every_notebook
def test_anatomy(path):
    notebook = read(path)
    title, promise = re.sub(r"\[!\[.*\n", "", notebook.cells[0].source).split("\n", 1)
    sentences = promise.strip().split("\n\n")[0]
    assert title.startswith("# ")
    assert re.fullmatch(r"[^.!?]+[.!?]", sentences, re.S), "one sentence must follow the title"
    opening = "\n".join(c.source for c in notebook.cells[:3] if c.cell_type == "markdown")
    assert re.search(r"\b\d+ minutes\b", opening), "say how many minutes the chapter takes"
    assert "Afterwards you can" in opening
    found = [text for level, text in headings(notebook) if level == 2]
    assert [text for text in found if text in SECTIONS] == SECTIONS and found[-1] == SECTIONS[-1]
    after = found[found.index("Summary") + 1 : -1]  # the core path ends there
    assert all(text.startswith("Optional: ") for text in after)
    tokens = list(parts(notebook))
    last = max(i for i, token in enumerate(tokens) if token.content == "References")
    assert any(token.type == "link_open" for token in tokens[last:]), "references without links"
