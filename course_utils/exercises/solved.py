"""Which exercises have been solved on this machine. Nothing leaves it.

The file is `my_course/progress.json` in the checkout, or the path in the environment variable
`COURSE_PROGRESS`. One that cannot be read counts as empty; one that is damaged is set aside; one
that cannot be written is said so. None of them does any harm to a check.
"""

import json
import os
from pathlib import Path

from course_utils import storage
from course_utils.runtime import ROOT


def path() -> Path:
    """Where the solved exercises are written down."""
    return Path(os.environ.get("COURSE_PROGRESS") or ROOT / "my_course" / "progress.json")


def names() -> set[str]:
    """The names of the exercises solved so far. A damaged file is said and set aside."""
    try:
        listed = storage.read_json(path(), "")["solved"]
        return {name for name in listed if isinstance(name, str)}
    except OSError:  # none yet, or not for us to read
        return set()
    except (ValueError, TypeError, KeyError):
        said = f"({path()}, the list of your solved exercises, is damaged, and begun anew."
        try:
            print(f"{said} The old one is kept as {storage.set_aside(path()).name}.)")
        except OSError as error:
            print(f"{said} It cannot be moved away: {storage.in_words(error)})")
        return set()


def remember(name: str) -> str | None:
    """Adds a solved exercise to the file. Returns why that failed, None if it did not."""
    before = names()
    try:
        if name not in before:
            storage.write(path(), json.dumps({"solved": sorted({*before, name})}, indent=1) + "\n")
    except OSError as error:
        return f"(Your progress could not be saved. {storage.in_words(error)})"
    return None
