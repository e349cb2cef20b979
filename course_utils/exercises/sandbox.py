"""Runs a learner's code so that whatever it does, the notebook goes on.

An endless Python loop is stopped, printed lines are kept to a handful, and seeds, threads, device,
gradient mode and default dtype are afterwards what they were before. A single blocking call into
native code cannot be stopped, nor a loop with one bare `except:` inside another.
"""

import ctypes
import io
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import FrameType
from typing import Any

import numpy as np
import torch


class OutOfTime(BaseException):
    """The time is up. Not an `Exception`, so `except Exception` in a loop does not catch it.

    A bare `except:` does. So the next line, which is that of the `except`, raises it again, and now
    it leaves the loop. Lines are traced from here on only: tracing is slow.
    """

    def __init__(self) -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != __file__:
            frame.f_trace = _again
            frame = frame.f_back
        sys.settrace(_again)


def _again(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
    """A trace function. Python calls it no more once it has raised."""
    if event == "line" and frame.f_code.co_filename != __file__:
        raise OutOfTime
    return _again


def limited(work: Callable[[], None], seconds: float) -> None:
    """Calls `work()`, in which a watching thread raises when its time is up.

    Raises:
        OutOfTime: Python code was still running after `seconds`.
    """
    learner = ctypes.c_ulong(threading.get_ident())
    raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
    done, tracing = threading.Event(), sys.gettrace()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            raise_in_thread(learner, ctypes.py_object(OutOfTime))
            wait = 0.1  # again, if the learner's code has caught it

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work()
    finally:
        while True:  # an OutOfTime that was under way can still arrive here
            try:
                sys.settrace(tracing)
                done.set()
                watcher.join()
                raise_in_thread(learner, None)
                break
            except OutOfTime:
                continue


@contextmanager
def preserved_state() -> Iterator[None]:
    """One thread, CPU, float32, gradients on; afterwards these and all seeds are as before."""
    seeds = random.getstate(), np.random.get_state()  # noqa: NPY002
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    device = torch.get_default_device()
    try:
        torch.set_default_device(None)
        torch.set_num_threads(1)  # for small tensors faster, and always the same order of sums
        torch.set_default_dtype(torch.float32)
        with torch.random.fork_rng(gpus), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        random.setstate(seeds[0])
        np.random.set_state(seeds[1])  # noqa: NPY002
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        # None also for the CPU: a device that is set slows down every call of torch.
        torch.set_default_device(None if device.type == "cpu" else device)


def seed_all(seed: int) -> None:
    """The same random numbers for the learner's code and for the reference."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)


class Printed(io.StringIO):
    """Takes what the learner's code prints: counts the lines, keeps the first few.

    Warnings are kept apart in `warned`, a line for each.
    """

    LINES, CHARACTERS = 8, 800
    lines, warned = 0, ""

    def write(self, text: str) -> int:
        if self.lines < self.LINES:
            super().write(text[: self.CHARACTERS + 1])
        self.lines += text.count("\n")
        return len(text)

    def warn(self, message: Warning | str, category: type[Warning], *where: Any) -> None:
        """Stands in for `warnings.showwarning`; no file names, which say nothing to a learner."""
        if self.warned.count("\n") < self.LINES:
            text = str(message).split(" (Triggered internally at ")[0]
            self.warned += f"{category.__name__}: {' '.join(text.split())}\n"

    def report(self, with_warnings: bool) -> str:
        """What was printed, ready to be shown; empty if nothing was."""
        if with_warnings:
            self.write(self.warned)
        kept = self.getvalue()
        if not kept.strip():
            return ""
        head = kept[: self.CHARACTERS].rstrip("\n").split("\n")[: self.LINES]
        title = f"Your code printed {max(self.lines, 1)} line{'s' if self.lines > 1 else ''}"
        cut = self.lines > len(head) or len(kept) > self.CHARACTERS
        title += f" (the first {len(head)}):" if cut else ":"
        return "\n".join([title, *("  | " + line for line in head)])


@contextmanager
def captured(printed: Printed) -> Iterator[None]:
    """Sends output and warnings into `printed`; warning filters are restored afterwards."""
    with redirect_stdout(printed), redirect_stderr(printed), warnings.catch_warnings():
        warnings.showwarning = printed.warn  # type: ignore[assignment]
        yield
