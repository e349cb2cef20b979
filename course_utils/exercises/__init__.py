"""Exercises that answer back.

    ex = exercise("start.accuracy")
    ex.check(accuracy)      # right and why, or what is wrong and why
    ex.hint()               # a hint, each time a plainer one
    ex.solution()           # a solution

`notebooks/exercises/` holds one text for each chapter; `texts` reads it. The chapter's module here
holds what is computed: the inputs to try, and how an answer is called.
`engine` judges, `trial` calls an answer, `sandbox` keeps the notebook going whatever it does,
`comparing` finds a difference, `feedback` shows the verdict, `solved` remembers.
"""

import difflib
import importlib
from functools import cache
from typing import Any

from . import solved, texts
from .engine import Exercise, Result, Setup

__all__ = ["CHAPTERS", "Exercise", "Result", "exercise", "names", "progress"]

CHAPTERS = {
    "start": "00_start_here",
    "images": "01_medical_images",
    "theory": "02_attention_theory",
    "channel": "03_channel_attention",
    "spatial": "04_spatial_attention",
    "unet": "05_unet",
    "gates": "06_attention_unet",
    "senet": "07_senet",
    "yolo": "08_yolo",
    "pooling": "09_attention_pooling",
}
"""The modules that declare exercises, in the order of the course, and the notebooks they serve."""


@cache
def _declared(chapter: str) -> dict[str, Exercise]:
    setups: dict[str, Setup] = importlib.import_module(f"{__name__}.{chapter}").EXERCISES
    notebook = CHAPTERS[chapter]
    found = texts.read(texts.FOLDER / f"{notebook}.md")
    if differ := ", ".join(sorted(setups.keys() ^ found.keys())):
        raise ValueError(f"{notebook}.md and {chapter}.py declare different exercises: {differ}.")
    return {name: Exercise(text, setups[name]) for name, text in found.items()}


def exercise(name: str) -> Exercise:
    """The exercise of that name.

    Raises:
        ValueError: there is no such exercise. The message lists names that come near.
    """
    chapter = str(name).split(".")[0]
    if chapter in CHAPTERS and name in _declared(chapter):
        return _declared(chapter)[name]
    found = names()
    near = difflib.get_close_matches(str(name).lower(), found, n=3, cutoff=0.4)
    listed = f"Did you mean: {', '.join(near)}?" if near else f"There are: {', '.join(found)}."
    raise ValueError(f"There is no exercise {name!r}. {listed}")


def names(notebook: str | None = None) -> list[str]:
    """Of the exercises of one chapter or of all, in their order."""
    chapters = [key for key, file in CHAPTERS.items() if notebook in (None, file)]
    return [name for key in chapters for name in _declared(key)]


def progress() -> list[dict[str, Any]]:
    """A row per chapter: `chapter` (its notebook), `solved` and `total`, `open` (names)."""
    done = solved.names()
    rows = []
    for notebook in CHAPTERS.values():
        asked = names(notebook)
        left = [name for name in asked if name not in done]
        count = len(asked) - len(left)
        rows.append({"chapter": notebook, "solved": count, "total": len(asked), "open": left})
    return rows
