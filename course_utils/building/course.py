"""Running the whole course: one line per notebook, a scoreboard, pages in `build/PROFILE/site/`."""

import os
import re
import sys
import time
from pathlib import Path

from nbformat import NotebookNode

from .. import storage
from ..datasets import CATALOG, reachable
from ..runtime import ROOT, device, versions
from . import chapters as files
from . import site
from .execute import FIGURE, execute, printed

BUDGET = {"smoke": 60, "standard": 360, "full": 600}  # seconds a notebook may take
HEADER = ["chapter", "status", "seconds", "data", "live figure", "ledger mean", "published"]
_KEPT = "A chapter that was not run here is shown as it comes with the course."
_OWN = ("COURSE_PROFILE", "COURSE_PROGRESS", "COURSE_QUIET")  # COURSE_* without effect on results


def run(
    profile: str,
    chapters: list[str] | None = None,
    folder: Path = files.NOTEBOOKS,
    out: Path = ROOT / "build",
) -> int:
    """Execute the chapters in a profile, as `course run` does, and show what came out.

    The executed notebooks lie in `out/PROFILE/` afterwards, and pages of them in `site/` there. A
    chapter whose cells, course code, data source and versions are those of its last good run is not
    run again. A failing chapter is named, and the rest still run.

    Args:
        profile: smoke, standard or full.
        chapters: names, or their beginnings such as `00`; None for all.
        folder: holds the notebooks and `source/`.
        out: where the results go.

    Returns:
        Exit status: 0, 1 when a chapter or the pages failed, 130 after Ctrl-C.
    """
    out = out / profile
    storage.try_writing(out, 4_000_000)  # bytes, before a chapter is run for minutes
    notebooks = {name: files.assemble(name, folder) for name in files.names(chapters, folder)}
    marks = {name: _fingerprint(notebook, profile) for name, notebook in notebooks.items()}
    before = {name: files.about(_stored(out, name)) for name in notebooks}
    due = [name for name in notebooks if before[name].get("fingerprint") != marks[name]]
    status = 0
    try:
        for number, (name, notebook) in enumerate(notebooks.items(), start=1):
            start = f"[{number}/{len(notebooks)}] {name}"
            if name not in due:
                print(f"{start}  up to date")
                continue
            due.remove(name)
            left = sum(before[other].get("seconds", BUDGET[profile]) for other in due)
            failure = _run_one(notebook, profile, folder, start, left)
            # Neither a failure nor a run on phantoms for want of data is ever up to date.
            again = failure or _did_without_data(notebook)
            notebook.metadata.course.fingerprint = "" if again else marks[name]
            files.save(notebook, out / f"{name}.ipynb")
            if failure:
                print(f"    {name}, {failure}")
                status = 1
    except KeyboardInterrupt:
        print("\nStopped. What is done is kept; the same command goes on from here.")
        status = 130
    except OSError as problem:  # to run the other chapters would be lost time
        print(f"\nStopped. {storage.in_words(problem)}\nThe same command goes on from here.")
        status = 1
    line = ["-" * len(title) for title in HEADER]
    print("\n" + _table([HEADER, line, *_rows(list(notebooks), out)]))
    if status == 130:
        print("\nFor pages of what is done, type `course site`.")
        return status
    return max(status, make_site(profile, folder, out.parent))


def make_site(profile: str, folder: Path = files.NOTEBOOKS, out: Path = ROOT / "build") -> int:
    """Make the pages in `out/PROFILE/site/`, as `course site` does; nothing is run.

    They show each chapter as it was last run in the profile, else as it is stored in `folder`.

    Args:
        profile: smoke, standard or full.
        folder: holds the notebooks and `source/`.
        out: where the results of runs lie.

    Returns:
        Exit status: 0, or 1 when the pages could not be made.

    Raises:
        storage.Damaged: a notebook in `folder` cannot be read.
    """
    out = out / profile
    names = files.names(None, folder)
    executed = {name: _stored(out, name) for name in names}
    shown = {}
    for name, notebook in executed.items():
        path = folder / f"{name}.ipynb"
        if notebook or path.exists():
            shown[name] = notebook or files.read(path, files.RESTORE.format(path.name))
    more = ""
    if any(executed.values()):
        rows = _rows(names, out)
        for row in rows:
            if row[0] in shown:
                row[0] = f"[{row[0]}]({row[0]}.ipynb)"
        rows = [HEADER, ["---"] * len(HEADER), *rows]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        more = f"## Scoreboard, profile {profile}\n\n{table}\n\n{_KEPT}\n"
    print("\nPages: ", end="", flush=True)
    try:
        warnings = site.build(shown, out / "site", more, folder)
    except Exception as problem:  # made by libraries, from whatever a cell has shown
        why = f"{type(problem).__name__}: {problem}"
        if isinstance(problem, OSError):
            why = storage.in_words(problem)
        print(f"they cannot be made: {why}")
        print("What was computed is kept; `course site` makes them without running it again.")
        return 1
    print("\n".join(filter(None, [os.path.relpath(out / "site" / "index.html"), warnings])))
    return 0


def _run_one(
    notebook: NotebookNode, profile: str, folder: Path, start: str, left: float
) -> str | None:
    """Run one chapter and print its line; why it failed, or None."""
    print(f"{start}  started {time.strftime('%H:%M:%S')}", end="", flush=True)
    watched = sys.stdout.isatty()
    begin = time.monotonic()
    failure = execute(notebook, folder, {"COURSE_PROFILE": profile}, start if watched else "")
    seconds = time.monotonic() - begin
    state = "FAILED" if failure else "ok"
    notebook.metadata.course.update(status=state, seconds=round(seconds, 1))
    rest = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    rest = f", about {rest} left" if left else ""
    line = f"  {state} in {seconds:.0f} s{rest}"
    print(f"\r{start}{line:<24}" if watched else line)  # over the line that counts cells
    return failure


def _fingerprint(notebook: NotebookNode, profile: str) -> str:
    """A name for everything that decides what a notebook puts out."""
    course = {k: v for k, v in os.environ.items() if k.startswith("COURSE_") and k not in _OWN}
    code = [files.about(notebook)["version"], files.depends(notebook)]
    # "upstream, else phantom" becomes "upstream" by fetching: the same data.
    data = [reachable(name).partition(",")[0] for name in CATALOG]
    return files.digest([code, profile, course, data, device().type, versions()])


def _did_without_data(notebook: NotebookNode) -> bool:
    """Whether a data set could not be reached, so that `load` has announced a phantom instead."""
    said = "\n".join(map(printed, files.code_cells(notebook)))
    asked_for = os.environ.get("COURSE_DATA") == "phantom"
    return not asked_for and re.search(r"^SYNTHETIC:", said, re.MULTILINE) is not None


def _stored(out: Path, name: str) -> NotebookNode | None:
    """The executed notebook of an earlier run, or None; a damaged one is said and deleted."""
    path = out / f"{name}.ipynb"
    if path.exists():
        try:
            return files.read(path, "It is deleted, and made by running the chapter again.")
        except storage.Damaged as problem:
            print(problem)
            path.unlink()
    return None


def _rows(names: list[str], out: Path) -> list[list[str]]:
    """The scoreboard: for each chapter a row for each of its live figures, or one without."""
    rows = []
    for name in names:
        if (notebook := _stored(out, name)) is None:
            rows.append([name, "not run", "", "", "", "", ""])
            continue
        course, cells = files.about(notebook), files.code_cells(notebook)
        head = [name, course["status"], f"{course['seconds']:.0f}"]
        outputs = [output.get("data", {}) for cell in cells for output in cell.outputs]
        shown = [data[FIGURE] for data in outputs if FIGURE in data]
        for figure in shown:
            live = f"{figure['label']} {figure['value']:.3f}"
            recorded = [figure["recorded"], figure["published"] or "none"]
            rows.append([*head, figure["source"], live, *recorded])
            head = ["", "", ""]
        if not shown:
            source = re.search(r"data: (.*)", printed(cells[0]))  # the first cell's line
            rows.append([*head, source[1] if source else "", "", "", ""])
    return rows


def _table(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
