"""Every chapter runs from top to bottom with the solutions put in, and every check accepts them."""

import json

import answers
import pytest

from course_utils.building import chapters
from course_utils.building.execute import execute


def test_there_are_chapters():
    assert chapters.names()


@pytest.mark.slow
@pytest.mark.parametrize("name", chapters.names())
def test_chapter_runs_with_solutions_and_each_check_passes(name, tmp_path):
    notebook = answers.with_solutions(chapters.assemble(name))
    progress = tmp_path / "progress.json"
    settings = {"COURSE_PROFILE": "smoke", "COURSE_PROGRESS": str(progress)}
    failure = execute(notebook, chapters.NOTEBOOKS, settings)
    assert failure is None, str(failure)
    exercises = {name for cell in notebook.cells for name in answers.exercise_names(cell)}
    assert exercises, "a chapter has exercises: cells with a tag such as exercise-images.dice"
    # A check writes down what it has accepted.
    assert set(json.loads(progress.read_text())["solved"]) == exercises
