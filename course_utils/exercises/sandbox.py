"""Runs a learner's code so that whatever it does, the notebook goes on.

An endless Python loop is stopped, printed lines are kept to a handful, and seeds, threads, gradient
mode and default dtype are afterwards what they were before. One thing cannot be stopped: a single
blocking call into native code (say, a matrix product that takes an hour). Python gets to raise an
exception only when that call returns.
"""

import contextlib
import ctypes
import io
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")

REPEAT = 0.1
"""Seconds until the time limit is raised again, if the learner's code has caught it."""


class OutOfTime(BaseException):
    """The time is up. Not an `Exception`, so `except Exception` in a loop does not catch it."""


def limited(work: Callable[[], T], seconds: float) -> T:
    """Calls `work()` and returns what it returns.

    Raises:
        OutOfTime: Python code was still running after `seconds`. On the main thread of Linux and
            macOS a timer signal does this, and a bare `except:` in the loop does not stop it.
            Elsewhere (Windows, other threads) a watching thread does; a long `time.sleep` must
            end first then, and `except BaseException` can hold out.
    """
    on_main = threading.current_thread() is threading.main_thread()
    if on_main and hasattr(signal, "setitimer"):
        return _limited_by_signal(work, seconds)
    return _limited_by_thread(work, seconds)


def _learner(work: Callable[[], T]) -> T:
    """The frame below which the learner's code runs; a timer that fires above it does nothing."""
    return work()


def _in_learner(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is _learner.__code__:
            return True
        frame = frame.f_back
    return False


def _limited_by_signal(work: Callable[[], T], seconds: float) -> T:
    def raise_again(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line" and _in_learner(frame):
            raise OutOfTime
        return raise_again

    def on_alarm(number: int, frame: FrameType | None) -> None:
        if not _in_learner(frame):
            return
        # A bare `except:` catches OutOfTime too. The trace function then raises it once more, at
        # the first line of the except block, which that block does not catch.
        sys.settrace(raise_again)
        inner = frame
        while inner is not None and inner.f_code is not _learner.__code__:
            inner.f_trace = raise_again
            inner = inner.f_back
        raise OutOfTime

    trace_before = sys.gettrace()
    started = time.monotonic()
    handler_before = signal.signal(signal.SIGALRM, on_alarm)
    left_before, interval_before = signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT)
    try:
        return _learner(work)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.settrace(trace_before)
        signal.signal(signal.SIGALRM, handler_before or signal.SIG_DFL)
        if left_before:  # somebody else's timer: let it run on
            left = max(left_before - (time.monotonic() - started), 0.01)
            signal.setitimer(signal.ITIMER_REAL, left, interval_before)


def _limited_by_thread(work: Callable[[], T], seconds: float) -> T:
    learner = ctypes.c_ulong(threading.get_ident())
    raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
    done = threading.Event()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            raise_in_thread(learner, ctypes.py_object(OutOfTime))
            wait = REPEAT

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        return _learner(work)
    finally:
        stopped = False
        while not stopped:  # an OutOfTime that was under way can still arrive here
            try:
                done.set()
                watcher.join()
                raise_in_thread(learner, None)
                stopped = True
            except OutOfTime:
                continue


@contextlib.contextmanager
def preserved_state() -> Iterator[None]:
    """One thread, float32, gradients on; afterwards these and all seeds are as before."""
    seeds = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    threads, dtype, grad = (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )
    try:
        torch.set_num_threads(1)  # for small tensors faster, and always the same order of sums
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        yield
    finally:
        random.setstate(seeds[0])
        np.random.set_state(seeds[1])  # noqa: NPY002
        torch.set_rng_state(seeds[2])
        if on_gpu:
            torch.cuda.set_rng_state_all(on_gpu)
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)


def seed_all(seed: int) -> None:
    """The same random numbers for the learner's code and for the reference."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)


class Printed(io.TextIOBase):
    """Takes what the learner's code prints: counts the lines, keeps the first few.

    Warnings stand apart in `warned`, a line for each.
    """

    LINES, CHARACTERS = 8, 800

    def __init__(self) -> None:
        self.kept, self.lines, self.cut = "", 0, False
        self.warned = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        room = self.CHARACTERS - len(self.kept) if self.lines < self.LINES else 0
        self.kept += text[: max(room, 0)]
        self.lines += text.count("\n")
        self.cut |= len(text) > room
        return len(text)

    def warn(self, message: Warning | str, category: type[Warning], *where: Any) -> None:
        """Stands in for `warnings.showwarning`; no file names, which say nothing to a learner."""
        if self.warned.count("\n") < self.LINES:
            text = str(message).split(" (Triggered internally at ")[0]
            self.warned += f"{category.__name__}: {' '.join(text.split())}\n"

    def report(self) -> str:
        """What was printed, ready to be shown; empty if nothing was."""
        if not self.kept.strip():
            return ""
        head = self.kept.rstrip("\n").split("\n")[: self.LINES]
        title = f"Your code printed {max(self.lines, 1)} line{'s' if self.lines > 1 else ''}"
        title += f" (the first {len(head)}):" if self.cut or self.lines > len(head) else ":"
        return "\n".join([title, *("  | " + line for line in head)])


@contextlib.contextmanager
def captured(printed: Printed) -> Iterator[None]:
    """Sends output and warnings into `printed`; warning filters are restored afterwards."""
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        warnings.catch_warnings(),
    ):
        warnings.showwarning = printed.warn  # type: ignore[assignment]
        yield
