"""The chapters as files: from Markdown source to stored notebook, to executed page, to own copy.

`chapters` builds and compares, `execute` runs a notebook in a kernel, `course` runs all of them and
makes the scoreboard, `site` the pages, `lab` opens a learner's copies. The words of the `course`
command stand on the functions below.
"""

from .chapters import build, publish
from .course import make_site, run
from .lab import open_lab

__all__ = ["build", "make_site", "open_lab", "publish", "run"]
