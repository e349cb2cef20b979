"""Chapters with their exercises answered: the solution in each learner's cell."""

import nbformat

from course_utils.building.chapters import EXERCISE
from course_utils.exercises import exercise


def exercise_names(cell: nbformat.NotebookNode) -> list[str]:
    """The exercises that a cell's tags name: none, or the one it leaves to the learner."""
    tags = cell.metadata.get("tags", [])
    return [tag.removeprefix(EXERCISE) for tag in tags if tag.startswith(EXERCISE)]


def solution_source(name: str) -> str:
    """Source of a cell that answers the exercise under the name the notebook uses for the answer.

    The cell needs nothing but `import torch` before it.
    """
    ex = exercise(name)
    answer = ex.reference.__name__
    call = f"\n\n{answer} = {answer}()\n" if ex.is_value else ""
    return ex.text.solution + call


def with_solutions(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy whose cells with the tag `exercise-NAME` hold the solution of the exercise NAME."""
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        for name in exercise_names(cell):
            cell.source = solution_source(name)
    return copy
