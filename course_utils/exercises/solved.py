"""Which exercises have been solved on this machine. Nothing leaves it.

The file is `my_course/progress.json` in the checkout, or the path in the environment variable
`COURSE_PROGRESS`. A file that cannot be read counts as empty; one that cannot be written is said
so and does no harm.
"""

import json
import os
import tempfile
from pathlib import Path

from course_utils.runtime import ROOT


def path() -> Path:
    """Where the solved exercises are written down."""
    return Path(os.environ.get("COURSE_PROGRESS") or ROOT / "my_course" / "progress.json")


def names() -> set[str]:
    """The names of the exercises solved so far."""
    try:
        listed = json.loads(path().read_text(encoding="utf-8"))["solved"]
        return {name for name in listed if isinstance(name, str)}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return set()


def remember(name: str) -> str | None:
    """Adds a solved exercise to the file. Returns why that failed, None if it did not."""
    before = names()
    if name in before:
        return None
    text = json.dumps({"solved": sorted(before | {name})}, indent=1) + "\n"
    temporary = None
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path().parent, prefix=".progress", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
        temporary.replace(path())
    except OSError as error:
        if temporary:
            temporary.unlink(missing_ok=True)
        return f"(Your progress could not be saved in {path()}: {error.strerror or error})"
    return None
