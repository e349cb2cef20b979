"""Whether a stored notebook is what its source says."""

from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from course_utils import storage
from course_utils.building import chapters
from course_utils.building.chapters import (
    NOTEBOOKS,
    RESTORE,
    about,
    assemble,
    code_cells,
    read,
)


def in_step(name: str, folder: Path = NOTEBOOKS) -> list[str]:
    """What sets a stored notebook apart from its source, in sentences; none when they agree."""
    path = folder / f"{name}.ipynb"
    if not path.exists():
        return [f"{name}: there is no {path.name}. Run `course notebooks`."]
    try:
        expected, stored = assemble(name, folder), read(path, RESTORE.format(path.name))
    except storage.Damaged as problem:
        return [str(problem)]
    ours, theirs = _facts(expected), _facts(stored)
    problems = [
        f"{fact} differs from the source." for fact in ours if ours[fact] != theirs.get(fact)
    ]
    if chapters.depends(expected) != about(stored).get("depends"):
        problems.append("the course's code, runs or published figures changed since.")
    counts = [cell.execution_count for cell in code_cells(stored)]
    if counts != list(range(1, len(counts) + 1)):
        problems.append(f"the cells were not executed in order: {counts}.")
    return [f"{name}: {problem} Run `course notebooks`." for problem in problems]


def _facts(notebook: NotebookNode) -> dict[str, Any]:
    """What a notebook and its source must have in common, by the words that name it."""
    facts = {key: notebook.metadata.get(key) for key in ("kernelspec", "language_info")}
    facts |= {"the number of cells": len(notebook.cells), "version": about(notebook).get("version")}
    for number, cell in enumerate(notebook.cells, start=1):
        for key in ("cell_type", "id", "source", "metadata"):
            facts[f"cell {number}, {key},"] = cell.get(key)
    return facts
