"""The pages: what a reader sees of a notebook, offline, on any screen and with a screen reader."""

import errno
import html
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_utils.building import chapters, site
from course_utils.building.chapters import NOTEBOOKS, assemble

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZF"
    "QAAAAABJRU5ErkJggg=="
)
BADGE = "[![Open in Colab](https://example.org/badge.svg)](https://example.org/00_good.ipynb)"
WORDS = r"""See [the other](01_other.ipynb#Part-Two), [a card](../data/README.md) and
[a word](pages/glossary.md).

Inline $\alpha = \frac{a}{b}$, `$x$`, and $$\sqrt{d_k}$$

\begin{align}
a &= b
\end{align}

![A drawing of a gate](figures/gate.svg)
"""
BOX = "<div><details><summary>Hint 1</summary>Think.</details></div>"


def shown(data, **metadata):
    output = new_output("display_data", data=data)
    return new_code_cell("show()", outputs=[output], metadata=metadata)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a site of two notebooks and a further page; Sphinx warned of nothing."""
    root = tmp_path_factory.mktemp("course")
    folder, out = root / "notebooks", root / "build" / "smoke" / "site"
    for path, text in {
        "figures/gate.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "figures/README.md": "# Drawings\n",
        "pages/glossary.md": "# Glossary\n\n*Gate*: see [Good](../00_good.ipynb), "
        "[a card](../../data/README.md).\n",
        "source/00_good.md": "# Good\n\n{exercise}`images.dice`\n",
        "source/first_cell.py": "print()",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    good = assemble("00_good", folder)
    figure = {"image/png": PIXEL, "text/plain": "<Figure>"}
    live = {"application/vnd.course.figure+json": {"value": 1}, "text/plain": "this run 0.988"}
    good.cells += [
        new_markdown_cell(f"{BADGE}\n\n{WORDS}"),
        shown(figure, alt='A line that rises "slowly" & steadily'),
        shown({"text/html": BOX, "text/plain": "Think."}),
        shown(live, jupyter={"source_hidden": True}),
    ]
    other = new_notebook(cells=[new_markdown_cell("# Other\n\n## Part Two\n\nEnd.")])
    before = nbformat.from_dict(good)
    assert site.build({"00_good": good, "01_other": other}, out, "A | scoreboard", folder) == ""
    assert good == before
    return out


@pytest.fixture(scope="module")
def page(made):
    return (made / "00_good.html").read_text()


def test_contents_and_further_pages_are_on_the_front_page(made):
    front = (made / "index.html").read_text()
    for link, text in (("00_good", "00 Good"), ("01_other", "01 Other")):
        assert re.search(rf'href="{link}.html">{text}</a>', front)
    assert 'href="pages/glossary.html"' in front and "A | scoreboard" in front
    assert (made / "search.html").exists() and (made / "searchindex.js").exists()


def test_nothing_is_loaded_from_the_internet(made):
    for path in made.rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"<(script|img|iframe)[^>]*src=[\"'](https?:)?//", text), path
        for link in re.findall(r"<link[^>]*>", text):
            assert not re.search(r"href=[\"'](https?:)?//", link), link
    for path in made.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text()), path


def test_formulas_are_mathml(page):
    formulas = re.findall("<math.*?</math>", page, re.S)
    assert len(formulas) == 3 and sum('display="block"' in formula for formula in formulas) == 2
    assert all("$" not in formula and "\\" not in formula for formula in formulas)
    assert "<mfrac>" in page and "<msqrt>" in page and html.unescape(page).count("α") == 1
    assert re.search(r"<code[^>]*>.*\$x\$.*</code>", page), "code stays as it is"


def test_a_formula_that_cannot_be_read_is_shown_as_it_was_written():
    assert site.mathml(r"\left(x", "inline") == r"<code>\left(x</code>"


def test_alt_texts_reach_the_page(page):
    alts = [html.unescape(alt) for alt in re.findall(r'<img[^>]*? alt="([^"]*)"', page)]
    assert 'A line that rises "slowly" & steadily' in alts and "A drawing of a gate" in alts


def test_set_up_is_folded_and_other_code_is_not(page):
    folds = re.findall(r"<details.*?</details>", page, re.S)
    assert sum("Show the code" in fold for fold in folds) == 2  # the first cell, and a hidden one
    assert "this run 0.988" in page and not any("this run 0.988" in fold for fold in folds)
    assert "copybutton.js" in page


def test_exercises_are_boxes_and_their_feedback_unfolds(page):
    box = re.search(r'<div class="exercise admonition">.*?</div>', page, re.S).group()
    assert "Exercise: " in box and "Write <code" in box and "dice(prediction," in box
    assert BOX in page


def test_links_lead_to_pages_and_to_files_of_the_course(made, page):
    assert 'href="01_other.html#part-two"' in page and 'href="pages/glossary.html"' in page
    assert '<a class="reference external" href="https://example.org/00_good.ipynb">' in page
    glossary = made / "pages" / "glossary.html"
    assert 'href="../00_good.html"' in glossary.read_text()
    for path in (made / "00_good.html", glossary):
        link = re.search(r'href="([^"]*data/README.md)"', path.read_text()).group(1)
        assert (path.parent / link).resolve() == made.parents[2] / "data" / "README.md"


def test_with_a_public_address_links_lead_there(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "address", lambda: "https://github.com/a/b")
    notebook = new_notebook(cells=[new_markdown_cell("# T\n\n[a card](../data/README.md)")])
    site.build({"00_t": notebook}, tmp_path / "site", folder=tmp_path)
    page = (tmp_path / "site" / "00_t.html").read_text()
    assert 'href="https://github.com/a/b/blob/main/data/README.md"' in page


def test_pages_that_fail_leave_the_old_ones(tmp_path, monkeypatch):
    old = tmp_path / "site" / "index.html"
    old.parent.mkdir()
    old.write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(site.Sphinx, "build", full)
        with pytest.raises(OSError, match="No space left"):
            site.build({}, old.parent, folder=tmp_path)
    assert old.read_text() == "old" and list(tmp_path.iterdir()) == [old.parent]


def test_what_sphinx_warns_of_names_the_page(tmp_path):
    notebook = new_notebook(cells=[new_markdown_cell("# T\n\n[gone](09_gone.ipynb)")])
    said = site.build({"00_t": notebook}, tmp_path / "site", folder=tmp_path)
    assert re.match(r"00_t\.ipynb:\d+: WARNING: .*09_gone", said) and "\x1b" not in said


def test_the_courses_own_pages_are_made_without_a_warning(tmp_path):
    stored = {
        name: chapters.read(NOTEBOOKS / f"{name}.ipynb", "Damaged.") for name in chapters.names()
    }
    assert site.build(stored, tmp_path / "site") == ""
    for name in stored:
        text = Path(tmp_path, "site", f"{name}.html").read_text()
        assert "<code>\\" not in text, f"{name}: a formula cannot be read"
        for formula in re.findall(r"<math.*?</math>", text, re.S):
            assert "\\" not in formula, f"{name}: unknown command in {formula}"
        for image in re.findall(r"<img[^>]*>", text):
            assert re.search(r'alt="[^"]', image), f"{name}: {image}"
