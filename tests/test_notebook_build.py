"""Building a notebook from its source, and the public address in all of them."""

import json
from pathlib import Path

import answers
import nbformat
import pytest
from in_step import in_step
from nbformat.v4 import new_code_cell, new_notebook, new_output

from course_utils import storage
from course_utils.building import chapters, execute
from course_utils.building.chapters import NOTEBOOKS, assemble, build
from course_utils.exercises import exercise

SOURCE = """\
---
kernelspec:
  name: python3
  display_name: Python 3
---

# A chapter

It promises something.

+++

## A section

```{code-cell} python3
:tags: [nbval-check-output, exercise-start.sample]
:alt: 'Two lines: one "rises", one falls'

import os, uuid
print(uuid.uuid4())
```

Words between.

```{code-cell} python3
print(os.environ["COURSE_PROFILE"], os.environ["COURSE_DATA"])
```

```{code-cell} python3
print("last")
```

```{code-cell} python3
print("last")
```
"""


@pytest.fixture
def folder(tmp_path):
    """A folder of notebooks with one chapter, `00_one`, and a first cell that needs nothing."""
    folder = tmp_path / "notebooks"
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "first_cell.py").write_text('REPOSITORY = ""  # filled in\nprint("first")')
    (folder / "source" / "00_one.md").write_text(SOURCE)
    return folder


def edit(folder, old, new):
    path = folder / "source" / "00_one.md"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def read(folder):
    return nbformat.read(folder / "00_one.ipynb", as_version=4)


def printed(notebook):
    """What each code cell has printed."""
    return ["".join(out.text for out in cell.outputs) for cell in chapters.code_cells(notebook)]


def test_notebook_holds_the_source_with_the_folded_first_cell_behind_the_title(folder):
    notebook = assemble("00_one", folder)
    nbformat.validate(notebook)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds == ["markdown", "code", "markdown", "code", "markdown", "code", "code", "code"]
    assert notebook.cells[0].source == "# A chapter\n\nIt promises something."
    first = notebook.cells[1]
    assert first.source == 'REPOSITORY = ""  # filled in\nprint("first")'
    assert first.metadata.jupyter.source_hidden and first.metadata.cellView == "form"
    assert notebook.cells[3].metadata.tags == ["nbval-check-output", "exercise-start.sample"]
    assert notebook.cells[3].metadata.alt == 'Two lines: one "rises", one falls'
    assert "version" not in notebook.metadata.language_info


def test_ids_are_unique_and_survive_editing_and_moving_other_cells(folder):
    before = [cell.id for cell in assemble("00_one", folder).cells]
    assert len(set(before)) == len(before)
    edit(folder, "Words between.", "Other words.")
    after = [cell.id for cell in assemble("00_one", folder).cells]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True] * 4 + [False] + [True] * 3
    text = (folder / "source" / "00_one.md").read_text()
    moved = text.replace("Other words.\n", "") + "\nOther words.\n"
    (folder / "source" / "00_one.md").write_text(moved)
    assert [cell.id for cell in assemble("00_one", folder).cells] == after[:4] + after[5:] + [
        after[4]
    ]


def test_badge_and_address_only_where_there_is_an_address(folder, monkeypatch):
    monkeypatch.setattr(chapters, "address", lambda: "")
    without = assemble("00_one", folder)
    assert "colab" not in json.dumps(without).lower().replace("source_hidden", "")
    monkeypatch.setattr(chapters, "address", lambda: "https://github.com/owner/name")
    notebook = assemble("00_one", folder)
    link = "https://colab.research.google.com/github/owner/name/blob/main/notebooks/00_one.ipynb"
    assert notebook.cells[0].source.startswith("# A chapter\n\n[![Open in Colab](")
    assert notebook.cells[0].source.endswith(f"({link})\n\nIt promises something.")
    assert notebook.cells[1].source.startswith('REPOSITORY = "https://github.com/owner/name"')
    assert notebook.cells[0].id == without.cells[0].id
    monkeypatch.setattr(chapters, "address", lambda: "https://git.example.org/owner/name")
    elsewhere = assemble("00_one", folder)  # Colab cannot open a notebook from there
    assert "colab" not in elsewhere.cells[0].source
    assert "git.example.org" in elsewhere.cells[1].source


def test_address_comes_from_pyproject(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert chapters.address() == ""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\n[project.urls]\nRepository = "https://a/b/"'
    )
    assert chapters.address() == "https://a/b"


@pytest.fixture
def project(folder, tmp_path, monkeypatch):
    """The folder of notebooks with two stored chapters, and a pyproject.toml like the course's."""
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    monkeypatch.setattr(chapters, "depends", lambda notebook: "")
    for name in ("pyproject.toml", "README.md"):
        (tmp_path / name).write_text((NOTEBOOKS.parent / name).read_text())
    chapters.publish(None, folder)  # also where this course has an address
    (folder / "source" / "01_two.md").write_text(SOURCE)
    assert build(folder=folder) == 0
    return tmp_path


def contents(folder):
    files = [
        folder / "pyproject.toml",
        folder / "README.md",
        *sorted((folder / "notebooks").glob("*.ipynb")),
    ]
    return [path.read_bytes() for path in files]


def test_publishing_writes_the_address_everywhere_and_takes_it_out_again(project, folder, capsys):
    before, outputs = contents(project), printed(read(folder))
    version = read(folder).metadata.course.version
    capsys.readouterr()
    assert chapters.publish("some-one/a.course", folder) == 0
    url = "https://github.com/some-one/a.course"
    assert url in capsys.readouterr().out
    assert chapters.address() == url
    assert f"git clone {url} attention-course" in (project / "README.md").read_text()
    for name in ("00_one", "01_two"):
        assert in_step(name, folder) == []
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        assert f"some-one/a.course/blob/main/notebooks/{name}.ipynb" in notebook.cells[0].source
        assert notebook.cells[1].source.startswith(f'REPOSITORY = "{url}"  # filled in\n')
    assert printed(read(folder)) == outputs  # a random text among them
    assert read(folder).metadata.course.version == version  # own copies are not out of date
    assert build(folder=folder) == 0
    assert capsys.readouterr().out == "00_one: up to date\n01_two: up to date\n"
    again = contents(project)
    chapters.publish(f"{url}.git", folder)
    assert contents(project) == again
    chapters.publish("other/name", folder)  # a fork of a published course
    assert b"some-one" not in b"".join(contents(project)) and in_step("00_one", folder) == []
    chapters.publish(None, folder)
    assert contents(project) == before


def test_what_is_no_repository_is_refused_and_changes_nothing(project, folder):
    before = contents(project)
    words = ["", "name", "OWNER/NAME", "a/b/c", "-a/b", "a b/c", 'a/b"', "https://gitlab.com/a/b"]
    for word in words:
        with pytest.raises(ValueError, match=r"Expected OWNER/NAME"):
            chapters.publish(word, folder)
    assert contents(project) == before


def test_publishing_names_a_damaged_notebook_and_writes_nothing(project, folder):
    path = folder / "01_two.ipynb"
    path.write_text(path.read_text()[:100])
    before = contents(project)
    with pytest.raises(storage.Damaged, match=r"01_two.ipynb is damaged .*git checkout"):
        chapters.publish("a/b", folder)
    assert contents(project) == before


def test_publishing_without_a_place_for_the_address_is_refused(project, folder):
    (project / "pyproject.toml").write_text('[project]\nname = "x"\n')
    with pytest.raises(ValueError, match=r"no \[project\.urls\]"):
        chapters.publish("a/b", folder)


def test_source_without_a_title_is_refused(folder):
    (folder / "source" / "00_one.md").write_text("No title.\n")
    with pytest.raises(ValueError, match="must begin with a title"):
        assemble("00_one", folder)


def test_chapters_are_chosen_by_beginning(folder):
    (folder / "source" / "01_two.md").write_text(SOURCE)
    assert chapters.names(None, folder) == ["00_one", "01_two"]
    assert chapters.names(["01"], folder) == ["01_two"]
    with pytest.raises(ValueError, match=r"'7'.*00_one, 01_two"):
        chapters.names(["7"], folder)


def test_prose_keeps_outputs_and_code_is_executed_again(folder, monkeypatch, capsys):
    assert build(folder=folder) == 0
    stored = read(folder)
    assert in_step("00_one", folder) == []
    assert printed(stored)[2:] == ["standard real\n", "last\n", "last\n"]
    assert all("execution" not in cell.metadata for cell in stored.cells)

    first_file = (folder / "00_one.ipynb").read_bytes()
    assert build(folder=folder) == 0
    assert "up to date" in capsys.readouterr().out
    assert (folder / "00_one.ipynb").read_bytes() == first_file

    edit(folder, "Words between.", "Other words.")
    edit(folder, "one falls", "one stays")  # a figure's description is not code
    assert "the source" in in_step("00_one", folder)[0]
    assert build(folder=folder) == 0
    assert "outputs kept" in capsys.readouterr().out
    assert printed(read(folder)) == printed(stored)  # a random text among them
    assert in_step("00_one", folder) == []

    (folder / "source" / "first_cell.py").write_text('print("another set-up")')
    assert build(folder=folder) == 0
    assert "outputs kept" in capsys.readouterr().out and in_step("00_one", folder) == []

    edit(folder, 'print("last")', 'print("least")')
    assert build(folder=folder) == 0
    assert printed(read(folder))[1] != printed(stored)[1]
    assert printed(read(folder))[3] == "least\n"

    again = printed(read(folder))[1]
    monkeypatch.setattr(chapters, "depends", lambda notebook: "the course's code has changed")
    assert build(folder=folder) == 0
    assert printed(read(folder))[1] != again
    again = printed(read(folder))[1]
    assert build(force=True, folder=folder) == 0
    assert printed(read(folder))[1] != again


def test_outputs_depend_on_the_modules_that_the_cells_import(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    files = {
        "__init__": "",
        "a": "def f():\n    from .b import g\n    return g()",
        "b": "def g(): return 1",
        "c": "",
        "ledger": "",
    }
    (tmp_path / "course_utils").mkdir()
    (tmp_path / "results").mkdir()
    for name, text in files.items():
        (tmp_path / "course_utils" / f"{name}.py").write_text(text)
    notebook = new_notebook(
        cells=[new_code_cell("%matplotlib inline\nfrom course_utils.a import f\nf('run')")]
    )
    seen = [chapters.depends(notebook)]

    def changed(file, text):
        (tmp_path / file).write_text(text)
        seen.append(chapters.depends(notebook))
        return seen[-1] != seen[-2]

    assert not changed("course_utils/c.py", "x = 1")
    assert not changed("results/run.jsonl", "{}")
    assert changed("course_utils/b.py", "def g():\n    return 2")
    assert not changed("course_utils/b.py", 'def g():  # why\n    "What."\n\n    return 2')
    assert changed("course_utils/a.py", "from course_utils import b, ledger")
    assert changed("results/run.jsonl", "{}\n{}")
    assert not changed("results/another.jsonl", "{}")  # the notebook does not name it
    notebook.cells[0].source += "\npublished = 0"
    seen.append(chapters.depends(notebook))
    assert changed("results/published.csv", "system,auroc")
    (tmp_path / "course_utils" / "sets").mkdir()
    (tmp_path / "course_utils" / "sets" / "__init__.py").touch()
    notebook.cells[0].source += "\nimport course_utils.sets"
    seen.append(chapters.depends(notebook))
    assert changed("course_utils/sets/d.py", "x = 1")
    assert changed("course_utils/sets/d.toml", "x = 1")


def test_outputs_do_not_depend_on_exercises(tmp_path, monkeypatch):
    """In a stored notebook none is answered."""
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    package = tmp_path / "course_utils" / "exercises"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    notebook = new_notebook(cells=[new_code_cell("from course_utils.exercises import exercise")])
    before = chapters.depends(notebook)
    (package / "__init__.py").write_text("x = 1")
    assert chapters.depends(notebook) == before


def test_a_line_places_an_exercise_in_three_cells(folder):
    edit(folder, "Words between.", "Before.\n\n{exercise}`channel.squeeze`\n\nAfter.")
    before, box, answer, check, after = assemble("00_one", folder).cells[4:9]
    ex = exercise("channel.squeeze")
    assert (before.source, after.source) == ("Before.", "After.")
    assert box.source.startswith(f"> **Exercise: {ex.title}**\n>\n> Write `squeeze(x)`")
    assert box.cell_type == "markdown" and all(x.startswith(">") for x in box.source.split("\n"))
    assert answer.source == "def squeeze(x):\n    ..."
    assert answers.exercise_names(answer) == ["channel.squeeze"]
    assert check.source == 'exercise("channel.squeeze").check(squeeze)'
    edit(folder, "channel.squeeze", "channel.sqeeze")
    with pytest.raises(ValueError, match=r"Did you mean: channel\.squeeze"):
        assemble("00_one", folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda nb: nb.cells[3].update(source="print(1)"), "cell 4, source, differs"),
        (lambda nb: nb.cells[3].metadata.update(tags=[]), "cell 4, metadata, differs"),
        (lambda nb: nb.cells.insert(3, nb.cells.pop(5)), "cell 4, id, differs"),
        (lambda nb: nb.cells.pop(), "the number of cells differs"),
        (lambda nb: nb.cells[3].update(execution_count=7), "not executed in order"),
        (lambda nb: nb.metadata.language_info.update(version="3.99"), "language_info"),
        (lambda nb: nb.metadata.course.update(version=""), "version differs"),
        (lambda nb: nb.metadata.course.update(depends="of before"), "published figures changed"),
    ],
)
def test_a_notebook_out_of_step_is_reported(folder, change, said):
    notebook = assemble("00_one", folder)
    for count, cell in enumerate(chapters.code_cells(notebook), start=1):
        cell.execution_count = count
    notebook.metadata.course.depends = chapters.depends(notebook)
    chapters.save(notebook, folder / "00_one.ipynb")
    assert in_step("00_one", folder) == []
    change(notebook)
    chapters.save(notebook, folder / "00_one.ipynb")
    assert any(said in problem for problem in in_step("00_one", folder))


def test_a_missing_notebook_is_reported(folder):
    assert in_step("00_one", folder) == [
        "00_one: there is no 00_one.ipynb. Run `course notebooks`."
    ]


def test_a_damaged_notebook_is_reported_and_executed_again(folder, capsys):
    assert build(folder=folder) == 0
    path = folder / "00_one.ipynb"
    path.write_text('{"cells": [')
    (problem,) = in_step("00_one", folder)
    assert "is damaged" in problem and "git checkout -- notebooks/00_one.ipynb" in problem
    capsys.readouterr()
    assert build(folder=folder) == 0
    said = capsys.readouterr().out
    assert "is damaged" in said and "It is executed again." in said and "executed in" in said
    assert in_step("00_one", folder) == []


def test_flawed_outputs_are_not_stored(folder, capsys):
    assert build(folder=folder) == 0
    before = (folder / "00_one.ipynb").read_bytes()
    edit(folder, 'print("last")', 'print("see", os.path.expanduser("/home/me/data.npz"))')
    edit(folder, 'print("last")', 'import warnings\nwarnings.warn("be careful")')
    capsys.readouterr()
    assert build(folder=folder) == 1
    said = capsys.readouterr().out
    assert 'code cell 4 (`print("see"' in said and "/home/me/data.npz" in said
    assert "code cell 5 (`import warnings`): stderr" in said and "be careful" in said
    assert (folder / "00_one.ipynb").read_bytes() == before


def test_a_failing_cell_is_named_and_nothing_is_stored(folder, capsys):
    edit(folder, 'print("last")', "1 / 0")
    assert build(folder=folder) == 1
    assert "code cell 4 (`1 / 0`): ZeroDivisionError: division by zero" in capsys.readouterr().out
    assert not (folder / "00_one.ipynb").exists()


def with_outputs(*outputs):
    return new_notebook(cells=[new_code_cell("draw()", outputs=list(outputs))])


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (new_output("error", ename="E", evalue="v", traceback=[]), "error E: v"),
        (new_output("stream", name="stderr", text="Warning: x"), "stderr: Warning: x"),
        (new_output("stream", text="wrote /root/x.npz"), "/root/x.npz"),
        (new_output("stream", text="wrote '/tmp/x'"), "/tmp/x"),
        (new_output("stream", text="C:\\Users\\me\\x"), "C:\\Users\\me"),
        (new_output("stream", text=f"in {chapters.ROOT}"), str(chapters.ROOT)),
        (new_output("display_data", {"text/html": "<b>/Users/me/x</b>"}), "/Users/me/x"),
        (new_output("display_data", {"text/plain": "<T at 0x7f3a2c1d>"}), "0x7f3a2c1d"),
        (new_output("stream", text=" 45%|####   | 9/20 [00:01<00:02]"), "progress bar"),
        (new_output("display_data", {execute._WIDGET: {}}), "a widget"),
    ],
)
def test_flaws_are_found(output, said):
    (flaw,) = execute.flaws(with_outputs(output))
    assert flaw.startswith("code cell 1 (`draw()`): ") and said in flaw


def test_harmless_outputs_have_no_flaws():
    image = new_output("display_data", {"image/png": "aGk/tmp/home/root/work/"})
    text = new_output("stream", text="https://a.org/home/x  data/work/y  1/tmp  0x10  45 % |x|")
    assert execute.flaws(with_outputs(image, text)) == []


def test_progress_bars_and_widgets_are_dropped_and_warnings_are_not():
    bar = new_output("stream", name="stderr", text="epoch:  45%|###   | 9/20 [00:01, 8.1it/s]\n")
    widget = new_output("display_data", {execute._WIDGET: {}, "text/plain": "FloatProgress"})
    warning = new_output("stream", name="stderr", text="UserWarning: 100%\n")
    result = new_output("stream", text="done\n")
    notebook = with_outputs(bar, widget, warning, result)
    notebook.metadata.widgets = {}
    execute.drop_passing(notebook)
    assert notebook.cells[0].outputs == [warning, result]
    assert "widgets" not in notebook.metadata


def test_interrupted_writing_leaves_the_old_notebook(folder, monkeypatch):
    path = folder / "00_one.ipynb"
    chapters.save(assemble("00_one", folder), path)
    before = path.read_bytes()

    def half(notebook, target):
        Path(target).write_text('{"cells": [')
        raise KeyboardInterrupt

    monkeypatch.setattr(nbformat, "write", half)
    with pytest.raises(KeyboardInterrupt):
        chapters.save(assemble("00_one", folder), path)
    assert path.read_bytes() == before


def test_solutions_are_put_into_the_tagged_cells_only(folder):
    from course_utils.exercises import names

    name = names()[0]
    edit(folder, "exercise-start.sample", f"exercise-{name}")
    notebook = assemble("00_one", folder)
    solved = answers.with_solutions(notebook)
    assert solved.cells[3].source == answers.solution_source(name) != notebook.cells[3].source
    others = [i for i in range(len(notebook.cells)) if i != 3]
    assert all(solved.cells[i] == notebook.cells[i] for i in others)
