"""`course gpu`: everything worth doing on a GPU that is at hand for some minutes.

The tests that need one, both benchmarks in short form, and seed 0 of the main arm of experiments
in the full profile, shortest first. Each piece stores its own results as it ends, so
what is cut off costs only itself; a training goes on from its checkpoint when called again.
"""

import os
import subprocess
import sys
import time

from course_utils import runtime
from course_utils.experiments import get

_SMALL = ("first_model", "channel_attention", "bags", "weak_smears")
ORDER = (*_SMALL, "pneumonia", "hippocampus", "isic2017", "bccd")
"""The experiments, by how long their main arm trains in the full profile."""

COURSE = (sys.executable, "-m", "course_utils.cli")


def pieces() -> list[tuple[str, tuple[str, ...], dict[str, str]]]:
    """What is to be done: its name, the command, and variables for it."""
    # The stored benchmarks are of a CPU: those of a GPU lie beside them.
    apart = {"COURSE_RESULTS": os.environ.get("COURSE_RESULTS") or str(runtime.ROOT / "build/gpu")}
    full = ("--seeds", "1", "--profile", "full", "--arm")
    return [
        ("tests", (sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/test_gpu.py"), {}),
        ("bench attention", (*COURSE, "bench", "attention", "--seconds", "0.5"), apart),
        ("bench train", (*COURSE, "bench", "train", "--seconds", "1"), apart),
        *((name, (*COURSE, "experiment", name, *full, get(name).main), {}) for name in ORDER),
    ]


def gpu(minutes: float) -> int:
    """Do the pieces in turn until the time is over; 0 when all were done and went well."""
    end = time.monotonic() + 60 * minutes - 10  # to stop and to store take a moment
    failed = 0
    for name, words, variables in pieces():
        left = end - time.monotonic()
        if left < 1:
            print(f"{name}: no time left, call again", flush=True)
            failed += 1
            continue
        began = time.monotonic()
        try:
            env = os.environ | variables
            done = subprocess.call(words, cwd=runtime.ROOT, env=env, timeout=left)
            said = "done" if done == 0 else f"failed ({done})"
        except subprocess.TimeoutExpired:
            done, said = 1, "cut off, a training goes on when called again"
        failed += done != 0
        print(f"{name}: {said}, {time.monotonic() - began:.0f} s", flush=True)
    return min(failed, 1)
