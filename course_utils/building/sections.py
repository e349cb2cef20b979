"""What a source says of its sections: what is optional, what is folded; and how long they take.

    +++ {"optional": true}      before a heading: the section is optional, and collapsed
    +++ {"training": 2}         so many minutes of it are spent waiting for a training
    :tags: [hide-input]         of a code cell that only draws or formats: folded

The line {minutes} below the title becomes the list of sections with their estimated minutes.
"""

import re

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}  # on Colab, in JupyterLab
COLLAPSED = {"collapsed": True, "jp-MarkdownHeadingCollapsed": True}  # likewise
WORDS, LINES = 150, 25  # read in a minute
EXERCISE, EQUATION, CELL = 5.5, 0.5, 0.2  # minutes; a cell is run, and its output looked at


def prepare(cells: list[NotebookNode]) -> None:
    """Fold and collapse what is marked, and write the list of minutes into the first cell."""
    for cell in list(cells):
        if "hide-input" in cell.metadata.get("tags", []):
            cell.metadata.update(FOLDED)
        if cell.cell_type != "markdown":
            continue
        # A heading begins a cell: what is collapsed ends before the next one.
        pieces = re.split(r"\n+(?=## )", cell.source)
        if cell.metadata.get("optional"):
            cell.metadata.update(COLLAPSED)
            # What stands in the heading's own cell would stay in sight.
            heading, _, text = pieces[0].partition("\n")
            pieces[:1] = [heading, text.strip()] if text.strip() else [heading]
        cell.source, *more = pieces
        place = cells.index(cell) + 1
        cells[place:place] = map(new_markdown_cell, more)
    if "{minutes}" in cells[0].source:
        cells[0].source = cells[0].source.replace("{minutes}", _list(minutes(cells)))


def minutes(cells: list[NotebookNode]) -> list[tuple[str, int, bool]]:
    """Title, estimated minutes and whether it is optional, of each section.

    Words, cells with their lines in sight, equations and exercises take what the constants above
    say; to that come the minutes of training that the source states.
    """
    found: list[list] = []
    for cell in cells:
        heading = re.match(r"## (?:Optional: )?(.*)", cell.source)
        if cell.cell_type == "markdown" and heading:
            about = cell.metadata
            found.append([heading[1], about.get("training", 0), about.get("optional", False)])
        if found:
            found[-1][1] += _reading(cell)
    return [(title, max(round(taken), 1), optional) for title, taken, optional in found]


def _reading(cell: NotebookNode) -> float:
    tags = cell.metadata.get("tags", [])
    if cell.cell_type == "code":
        if any(tag.startswith("exercise-") for tag in tags):
            return EXERCISE
        folded = cell.metadata.get("jupyter", {}).get("source_hidden")
        lines = 0 if folded else len([line for line in cell.source.splitlines() if line])
        return CELL + lines / LINES
    equations = cell.source.count("$$") // 2
    prose = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)]*\)|<[^>]+>", " ", cell.source, flags=re.S)
    return len(re.findall(r"[A-Za-z][A-Za-z'-]*", prose)) / WORDS + equations * EQUATION


def _list(sections: list[tuple[str, int, bool]]) -> str:
    """For instance "**Estimated 15 minutes:** Squeeze 5 · Scale 10. *Optional, 12 more:* ECA 12."""
    parts = [s for s in sections if s[0] not in ("Summary", "References")]
    words = []
    for wanted, form in enumerate(("**Estimated {} minutes:** {}.", "*Optional, {} more:* {}.")):
        if listed := [(title, n) for title, n, optional in parts if optional == wanted]:
            text = " · ".join(f"{title.rstrip('.')} {n}" for title, n in listed)
            words.append(form.format(sum(n for _, n in listed), text))
    return " ".join(words)
