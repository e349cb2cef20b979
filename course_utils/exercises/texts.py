"""Exercises as texts: `notebooks/exercises/NN_name.md`, which teachers edit.

    ## channel.squeeze: One number per channel
    The question, a block ```python with the solution, why it is right.
    1. A hint                       from vague to nearly there
    ### mean-over-channels          a slip: how the answer differs, and the sentence that names it
    `dim=(2, 3)` → `dim=1`

A slip is an edit of the solution (`old` → `new`; several, one under the other, are all made), one
expression or statement in backticks, or a block of code: the body of the function, or a whole one.
A slip without a sentence has that of the next. `### otherwise` is said of any other wrong value.
"""

import linecache
import math
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from course_utils.runtime import ROOT

FOLDER = ROOT / "notebooks" / "exercises"

NAMES = {"torch": torch, "nn": nn, "F": nn.functional, "np": np, "math": math}
"""What the code of an exercise may use without importing it."""

_EDIT = re.compile(r"`([^`]+)` (?:→|->) (?:`([^`]*)`|nothing)")
_EDITS = re.compile(r"((?:`[^`]+` (?:→|->) (?:`[^`]*`|nothing)\n)+)")
_ONE = re.compile(r"`([^`]+)`\n")
_FENCE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
_START = re.compile(r"^```python start\n(.*?)^```$", re.M | re.S)


@dataclass
class Text:
    """One exercise as its text has it.

    Attributes:
        title: a few words for tables.
        question: Markdown.
        start: what the learner's cell holds at first.
        solution: source of the function or class; of a value, a function that works it out.
        why: the idea of the solution in a sentence or two.
        hints: from vague to nearly there.
        slips: id to (code, sentence).
        otherwise: said of any other wrong value; empty for the usual words.
    """

    name: str
    title: str
    question: str
    start: str
    solution: str
    why: str
    hints: list[str]
    slips: dict[str, tuple[str, str]] = field(default_factory=dict)
    otherwise: str = ""


def read(path: Path) -> dict[str, Text]:
    """The exercises of a file, by name.

    Raises:
        ValueError: a part is missing, or an id stands twice; the message says where.
    """
    page = path.read_text(encoding="utf-8")
    found = {}
    for part in re.split(r"^## ", page, flags=re.M)[1:]:
        head, *slips = re.split(r"^### ", part, flags=re.M)
        first, body = head.split("\n", 1)
        name, _, title = first.partition(": ")
        where = f"{path.name}, {name}"
        begun = _START.search(body)
        question, *rest = _FENCE.split(_START.sub("", body))
        if len(rest) != 2:
            raise ValueError(f"{where}: expected a question, one block of code, why, and hints.")
        start = begun[1] if begun else stub(rest[0])
        why, *hints = map(_one, re.split(r"^\d\. ", rest[1], flags=re.M))
        text = Text(name, title, _paragraphs(question), start, rest[0], why, hints)
        if not (title and text.question and why and hints):
            raise ValueError(f"{where}: title, question, why it is right, or hints are missing.")
        sentence = ""
        for slip in reversed(slips):  # one without a sentence has that of the next
            key, body = slip.split("\n", 1)
            if key == "otherwise":
                text.otherwise = _one(body)
                continue
            code, own = code_and_sentence(body)
            if key in text.slips or not code:
                raise ValueError(f"{where}: the slip {key} stands twice, or has no code.")
            sentence = own or sentence
            text.slips = {key: (code, sentence)} | text.slips
        if mute := [key for key, (_, sentence) in text.slips.items() if not sentence]:
            raise ValueError(f"{where}: the slip {mute[0]} has no sentence.")
        found[name] = text
    return found


def code_and_sentence(body: str) -> tuple[str, str]:
    """Splits what stands under a slip: its code (edits, an expression or a block), its sentence."""
    body = body.strip() + "\n"
    for form in (_FENCE, _EDITS, _ONE):
        if found := form.match(body):
            return found[1].rstrip(), _one(body[found.end() :])
    return "", _one(body)


def _paragraphs(text: str) -> str:
    parts = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(part if part.startswith(("- ", "|")) else _one(part) for part in parts)


def _one(text: str) -> str:
    return " ".join(text.split())


def answer(code: str, solution: str, names: dict[str, Any], where: str) -> Any:
    """The answer that a piece of code makes: a function or a class.

    Args:
        code: edits of the solution, an expression, statements of the function's body, or a whole
            function or class (the last one counts), which may call the solution by its name.
        solution: source of the solution.
        names: what the code may use without importing it.
        where: stands for a file's name in tracebacks.

    Raises:
        ValueError: an edit's old text is not in the solution, or the code does not run.
    """
    if edits := _EDIT.findall(code):
        code = solution
        for old, new in edits:
            if old not in code:
                raise ValueError(f"{where}: {old!r} is not in the solution.")
            code = code.replace(old, new)
    elif not re.search(r"^(def|class) ", code, flags=re.M):
        head = re.search(r"^def \w+(.*?:\n)", solution, flags=re.M | re.S)
        if head is None:
            raise ValueError(f"{where}: a class needs edits or a whole class.")
        body = code if re.search(r"^\s*(return|raise)\b", code, flags=re.M) else f"return {code}"
        # Under another name, so that the body may call the solution.
        code = f"def answer{head[1]}" + textwrap.indent(textwrap.dedent(body), "    ")
    return run(code, names, where)


def run(source: str, names: dict[str, Any], where: str) -> Any:
    """The last function or class that a source defines at its top."""
    linecache.cache[where] = len(source), None, source.splitlines(True), where
    space = {"__name__": "answer"} | names
    try:
        exec(compile(source, where, "exec"), space)
    except Exception as problem:
        raise ValueError(f"{where}: {type(problem).__name__}: {problem}\n{source}") from problem
    return space[re.findall(r"^(?:def|class) (\w+)", source, flags=re.M)[-1]]


def stub(solution: str) -> str:
    """The learner's cell of a function, or `name = ...` of a value.

    Raises:
        ValueError: of a class; its text has a block of its own, ```python start.
    """
    kind, name, rest = re.findall(r"^(def|class) (\w+)(.*?:\n)", solution, re.M | re.S)[-1]
    if kind == "class":
        raise ValueError(f"{name}: a class needs a block ```python start.")
    return f"{name} = ..." if rest.startswith("()") else f"def {name}{rest}    ..."
