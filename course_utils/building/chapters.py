"""From `notebooks/source/NN_name.md` (Jupytext, MyST), the text one edits, to `NN_name.ipynb`.

A chapter's code cells are executed again only when they, or the modules of the course that they
import, changed. A change of prose keeps the stored outputs.
"""

import ast
import hashlib
import io
import json
import re
import time
import tokenize
import tomllib
from collections import Counter
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from .. import storage
from ..runtime import ROOT
from . import execute, sections

NOTEBOOKS = ROOT / "notebooks"
EXERCISE = "exercise-"  # the tag `exercise-images.dice` marks the learner's cell of `images.dice`

# Written out, because what a kernel reports holds its exact Python version.
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "file_extension": ".py", "pygments_lexer": "ipython3"},
}
_FIRST_CELL = sections.FOLDED | {"tags": ["first-cell", "nbval-ignore-output"]}
_GITHUB = "https://github.com/"
_COLAB = "https://colab.research.google.com"
_URLS = re.compile(r'^(?:# )?\[project\.urls\](\r?\n)(?:# )?Repository = "[^"\n]*"', re.M)
_TIE = re.compile(r"(?<=[\w%])<!-- .*? -->", re.DOTALL)
"""Behind a number the comment that computes it (`results/writing/ties.py`)."""
_PLACED = re.compile(r"^\{exercise\}`([\w.]+)`$", re.M)
RESTORE = "Run `course notebooks`, or get the stored one: git checkout -- notebooks/{}"
"""What to do about a damaged notebook, with its file name."""


def names(chapters: list[str] | None = None, folder: Path = NOTEBOOKS) -> list[str]:
    """Chapters that have a source, in order.

    Args:
        chapters: names, or their beginnings such as `00`; None for all.
        folder: holds the notebooks and `source/`.

    Raises:
        ValueError: a word fits no chapter.
    """
    known = sorted(path.stem for path in (folder / "source").glob("[0-9][0-9]_*.md"))
    for word in chapters or []:
        if not any(name.startswith(word) for name in known):
            raise ValueError(f"No chapter begins with {word!r}. There are: {', '.join(known)}.")
    return [name for name in known if not chapters or name.startswith(tuple(chapters))]


def address() -> str:
    """The public repository's address from pyproject.toml, or an empty text while there is none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return project.get("urls", {}).get("Repository", "").rstrip("/")


def assemble(name: str, folder: Path = NOTEBOOKS) -> NotebookNode:
    """A chapter's notebook without outputs: its source, with ids and the folded first cell.

    Raises:
        ValueError: the source does not begin with a title, or a code cell cannot be read.
    """
    source = folder / "source" / f"{name}.md"
    cells = jupytext.reads(_TIE.sub("", source.read_text("utf-8")), fmt="md:myst").cells
    if [(cell.cell_type, cell.source[:2]) for cell in cells[:1]] != [("markdown", "# ")]:
        raise ValueError(f"{source} must begin with a title: a line `# Title`.")
    cells = [piece for cell in cells for piece in _with_exercises(cell)]
    sections.prepare(cells)
    first = (folder / "source" / "first_cell.py").read_text("utf-8").strip()
    cells.insert(1, new_code_cell(first, metadata=_FIRST_CELL))
    # An id comes from the cell's text: moving a cell, or editing another one, keeps it.
    seen: Counter[str] = Counter()
    for cell in cells:
        name_of = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[name_of] += 1
        cell.id = name_of if seen[name_of] == 1 else f"{name_of}-{seen[name_of]}"
    # The version is that of the text: a public address does not make another version of it.
    version = digest([[cell.cell_type, cell.source] for cell in cells])
    notebook = new_notebook(cells=cells, metadata=_METADATA | {"course": {"version": version}})
    _fill_in(notebook, name)
    return notebook


def _with_exercises(cell: NotebookNode) -> list[NotebookNode]:
    """The cell itself; of text with lines {exercise}`name`, its pieces and three cells for each.

    These are the boxed question, the learner's cell and the check.
    """
    from ..exercises import exercise

    if cell.cell_type != "markdown" or not _PLACED.search(cell.source):
        return [cell]
    text, *placed = _PLACED.split(cell.source)
    cells = [new_markdown_cell(text.strip(), metadata=cell.metadata)] if text.strip() else []
    for name, rest in zip(placed[::2], placed[1::2], strict=True):
        ex = exercise(name)
        lines = [f"**Exercise: {ex.title}**", "", *ex.question.split("\n")]
        box = "\n".join(f"> {line}".rstrip() for line in lines)
        cells.append(new_markdown_cell(box, metadata={"tags": ["exercise"]}))
        cells.append(new_code_cell(ex.text.start.rstrip(), metadata={"tags": [EXERCISE + name]}))
        cells.append(new_code_cell(f'exercise("{name}").check({ex.reference.__name__})'))
        cells += [new_markdown_cell(rest.strip())] if rest.strip() else []
    return cells


def _fill_in(notebook: NotebookNode, name: str) -> None:
    """Put the public address into set-up cell and badge; an empty one takes both out again."""
    url = address()
    title, first = notebook.cells[:2]
    first.source = re.sub(r'(?m)^REPOSITORY = "[^"\n]*"', f'REPOSITORY = "{url}"', first.source)
    title.source = re.sub(r"^\[!\[Open in Colab\].*\n\n", "", title.source, flags=re.M)
    if url.startswith(_GITHUB):  # Colab opens notebooks from there only
        link = f"{_COLAB}/github/{url.removeprefix(_GITHUB)}/blob/main/notebooks/{name}.ipynb"
        badge = f"[![Open in Colab]({_COLAB}/assets/colab-badge.svg)]({link})"
        title.source = title.source.replace("\n", f"\n\n{badge}\n", 1)


def publish(repository: str | None, folder: Path = NOTEBOOKS) -> int:
    """Write the public address into pyproject.toml, the README and the stored notebooks.

    Nothing is executed, outputs stay, and without an address all files are again as before.

    Args:
        repository: OWNER/NAME on GitHub, or its address there; None takes it out.
        folder: holds the notebooks.

    Raises:
        ValueError: not a name that GitHub would give, or pyproject.toml has no place for it.
    """
    name = (repository or "").removeprefix(_GITHUB).removesuffix("/").removesuffix(".git")
    good = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}", name)
    hidden, shown = ("# ", "OWNER/NAME") if repository is None else ("", name)
    if not hidden and (not good or name == "OWNER/NAME"):
        expected = f"Expected OWNER/NAME, as in {_GITHUB}OWNER/NAME."
        raise ValueError(f"{repository!r} is not a repository on GitHub. {expected}")
    notebooks = {f: read(f, RESTORE.format(f.name)) for f in folder.glob("[0-9][0-9]_*.ipynb")}
    path = ROOT / "pyproject.toml"
    lines = rf'{hidden}[project.urls]\1{hidden}Repository = "{_GITHUB}{shown}"'
    text, found = _URLS.subn(lines, path.read_bytes().decode(), count=1)
    if not found:
        raise ValueError("pyproject.toml has no [project.urls] with a line `Repository = ...`.")
    storage.write(path, text)
    for path in ROOT.glob("README.md"):
        told = f"git clone {address() or 'ADDRESS-OF-THIS-REPOSITORY'} attention-course"
        text = re.sub(r"git clone \S+ attention-course", told, path.read_bytes().decode())
        storage.write(path, text)
    for path, notebook in notebooks.items():
        _fill_in(notebook, path.stem)
        save(notebook, path)
    print(f"Public address: {address() or 'none'}. Commit pyproject.toml, README.md, notebooks/.")
    return 0


def digest(value: Any) -> str:
    """A short name for a JSON value: equal values have equal names."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def about(notebook: NotebookNode | None) -> dict[str, Any]:
    """What the course has written into a notebook's metadata: its version, how it was run."""
    return notebook.metadata.get("course", {}) if notebook else {}


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _sources(notebook: NotebookNode) -> list[str]:
    """The chapter's own code: without the set-up cell, which puts out one line on the machine."""
    cells = code_cells(notebook)
    return [cell.source for cell in cells if "first-cell" not in cell.metadata.get("tags", [])]


def depends(notebook: NotebookNode) -> str:
    """A name for what the course puts into a notebook's outputs, beside the notebook's own cells.

    It covers the modules of `course_utils` that the cells import, directly or through another one,
    and if the ledger is among them the runs and weights of the experiments that the cells name, and
    the published figures. Exercises do not count: in a stored notebook none is answered.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    plain = TransformerManager().transform_cell  # turns `%magic` and `!command` into Python
    finder = ModuleFinder(path=[str(ROOT)])
    try:
        code = compile("".join(map(plain, _sources(notebook))), "notebook.py", "exec")
    except SyntaxError:
        return "unreadable"  # running the notebook will tell in which cell
    finder.scan_code(code, finder.add_module("__main__"))
    files = set()
    for module, found in finder.modules.items():
        if module.startswith("course_utils."):
            path = Path(found.__file__)  # type: ignore[attr-defined]
            # A package may load its modules by name: all of them count.
            files |= set(path.parent.glob("*.[pt]*")) if path.name == "__init__.py" else {path}
    files -= set((ROOT / "course_utils" / "exercises").glob("*.py"))
    if "course_utils.ledger" in finder.modules:
        words = set(re.findall(r"\w+", "\n".join(_sources(notebook))))
        recorded = (ROOT / "results").rglob("*")
        kinds = (".jsonl", ".safetensors", ".csv")
        files |= {path for path in recorded if path.suffix in kinds and path.stem in words}
    return digest([[p.relative_to(ROOT).as_posix(), digest(_acting(p))] for p in sorted(files)])


def _acting(path: Path) -> str:
    """What of a file can change an output: of code all but docstrings and comments."""
    if path.suffix != ".py":
        return path.read_bytes().hex()
    text = path.read_text("utf-8")
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]]
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str()), lineno=first, end_lineno=last):
                lines[first - 1 : last] = [""] * len(lines[first - 1 : last])  # a docstring
    return "\n".join(line.rstrip() for line in lines if line.strip())


def build(chapters: list[str] | None = None, force: bool = False, folder: Path = NOTEBOOKS) -> int:
    """Bring the stored notebooks in step with their sources; execute those whose code changed.

    They run in the standard profile on real data. Outputs are stored without progress bars and
    widgets; one with an error, a warning or a path of this machine is refused.

    Args:
        chapters: names, or their beginnings such as `00`; None for all.
        force: execute even where nothing changed.
        folder: holds the notebooks and `source/`.

    Returns:
        Exit status: 0, or 1 when a chapter could not be stored.
    """
    status = 0
    for name in names(chapters, folder):
        print(f"{name}: ", end="", flush=True)
        notebook, path = assemble(name, folder), folder / f"{name}.ipynb"
        notebook.metadata.course.depends = depends(notebook)
        try:
            stored = read(path, "It is executed again.") if path.exists() else None
        except storage.Damaged as problem:
            print(problem, end=" ", flush=True)
            stored = None
        if stored and not force and _keep_outputs(notebook, stored):
            print("up to date" if notebook == stored else "text updated, outputs kept")
        else:
            storage.try_writing(folder)  # before minutes of work, not after them
            start = time.monotonic()
            real = {"COURSE_PROFILE": "standard", "COURSE_DATA": "real"}
            failure = execute.execute(notebook, folder, real)
            execute.drop_passing(notebook)
            if problems := [failure] if failure else execute.flaws(notebook):
                print("not stored", *problems, sep="\n  ")
                status = 1
                continue
            notebook.metadata.update(_METADATA)
            print(f"executed in {time.monotonic() - start:.0f} s")
        if notebook != stored:
            save(notebook, path)
    return status


def _keep_outputs(new: NotebookNode, old: NotebookNode) -> bool:
    """Take over the outputs of equal code; False where there is none."""
    fresh, kept = code_cells(new), code_cells(old)
    same = _sources(new) == _sources(old) and about(new)["depends"] == about(old).get("depends")
    if not same or len(fresh) != len(kept) or any(c.execution_count is None for c in kept):
        return False
    for cell, source in zip(fresh, kept, strict=True):
        cell.outputs, cell.execution_count = source.outputs, source.execution_count
    return True


def save(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all: an interrupted run leaves the file as it was."""
    with storage.whole(path) as part:
        nbformat.write(notebook, part)


def read(path: Path, remedy: str) -> NotebookNode:
    """A notebook from its file.

    Raises:
        storage.Damaged: the file is no notebook; `remedy` says what to do.
    """
    content = path.read_bytes()
    try:
        notebook = nbformat.reads(content, as_version=4)
        code_cells(notebook), about(notebook).get("version")
    except Exception as problem:  # nbformat's errors have no common base
        raise storage.Damaged(path, problem, remedy) from problem
    return notebook
