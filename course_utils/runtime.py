"""Where the course runs and at what size: profile, device, precision, seed; read here only."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parent.parent
"""The checkout. The course is always installed editable: data, ledger and notebooks lie here."""

SET_UP = "`py -m course_utils.set_up`" if os.name == "nt" else "`make course`"
"""What one types to set the course up, or to mend it."""

PROFILES = ("smoke", "standard", "full")


def profile() -> str:
    """The size of everything: `smoke` (tests), `standard` (a laptop) or `full` (one GPU).

    Set with the environment variable `COURSE_PROFILE`; `standard` when it is unset or empty.

    Raises:
        ValueError: the variable holds another word.
    """
    name = os.environ.get("COURSE_PROFILE", "") or "standard"
    if name not in PROFILES:
        known = ", ".join(PROFILES)
        raise ValueError(f"COURSE_PROFILE is {name!r}. Expected one of: {known}. Unset: standard.")
    return name


def device() -> "torch.device":
    """The fastest device PyTorch can use here: `cuda`, then `mps` (a Mac's GPU), then `cpu`."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def precision(where: "torch.device | None" = None) -> tuple[str, str]:
    """The number format that is fast on a device, and why, as (Fabric precision, reason).

    bf16 only on real bf16 units: elsewhere it is emulated and slower than fp32.

    Args:
        where: a `torch.device`; default `device()`.
    """
    import torch

    where = where or device()
    if where.type == "cuda":
        # Without the argument a T4 answers yes, by emulation.
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", "the GPU has bf16 units"
        if torch.cuda.get_device_capability(where) >= (7, 0):
            return "16-mixed", "the GPU has fp16 units but no bf16 units"
        return "32-true", "the GPU has neither bf16 nor fast fp16 units"
    if where.type != "cpu":
        return "32-true", "fp32 is the format that every operation supports on this device"
    used = "AVX512" in torch.backends.cpu.get_cpu_capability()  # by PyTorch
    if used and {"avx512_bf16", "amx_bf16"} & set(_cpuinfo("flags").split()):
        return "bf16-mixed", "the CPU has bf16 units"
    return "32-true", "the CPU has no bf16 units, so that bf16 would be slower"


def _cpuinfo(key: str) -> str:
    """What Linux says of the first core; nothing on macOS and Windows, which train in fp32."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line.partition(": ")[2] for line in lines if line.startswith(key)), "")
    return ""


def cores() -> int:
    """Cores that this process may use: by its affinity and by the quota of its container."""
    count = os.cpu_count() or 1
    with suppress(AttributeError):  # of macOS and Windows
        count = len(os.sched_getaffinity(0))
    return max(1, int(min([count, *_quotas()])))


def _quotas(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Iterator[float]:
    """How many cores' time Linux grants this process's control group and those around it."""
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                top = root / "cpu" if controllers else root  # version 1, version 2
                inner = top / path.lstrip("/")
                for folder in (inner, *inner.parents):
                    files = [folder / name for name in _LIMITS]
                    words = " ".join(f.read_text() for f in files if os.access(f, os.R_OK)).split()
                    if len(words) == 2 and words[0].isdecimal():  # else "max" or -1: no limit
                        yield int(words[0]) / int(words[1])


_LIMITS = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
"""Of a control group: the microseconds that it may use, and of how many; in one file or in two."""


_threads: dict[str, Any] = {}
"""What `share_cores` found: the most threads, how many now, in words why, until when that holds."""


def share_cores() -> str:
    """Give PyTorch as many threads as serve it now; returns in words why so many.

    Threads wait for each other many times in a training step. Where another process takes one of
    the cores, they wait for the thread that lost it: two threads are then up to nine times slower
    than one, which needs no other. So a small training step is timed with all threads and with
    fewer, which takes a fifth of a second, and again after ten seconds, as others come and go. In
    between a call costs nothing to speak of: `fit` and `predict` make one before each batch.

    `OMP_NUM_THREADS` and `torch.set_num_threads` are respected: nothing is measured then. Another
    number of threads rounds sums differently, and a training goes another way from there on, as
    with another seed. Set `OMP_NUM_THREADS` where a run is to come out bit for bit again.
    """
    import torch

    if os.environ.get("OMP_NUM_THREADS"):
        return "OMP_NUM_THREADS"
    now, count = time.perf_counter(), torch.get_num_threads()
    if not _threads:
        _threads.update(most=min(count, cores()), count=count, until=now)
    if count != _threads["count"]:
        return "set by torch.set_num_threads"
    if now >= _threads["until"]:
        most = _threads["most"]
        seconds = _step_seconds({most, most - 1, most // 2, 1} - {0})
        seconds[1] *= 0.9  # it waits for nobody: several have to be clearly faster
        count = _threads["count"] = min(seconds, key=lambda n: seconds[n])
        torch.set_num_threads(count)
        busy = ": others are busy" if count < most else ""
        _threads["why"] = f"{count} of {cores()} cores{busy}"
        end = time.perf_counter()
        _threads["until"] = end + max(10, 20 * (end - now))
    return _threads["why"]


def _step_seconds(counts: set[int]) -> dict[int, float]:
    """Mean seconds of a small training step with so many threads, by turns.

    The mean and not the median: a step that waits for a lost thread is what this looks for.
    """
    import torch
    from torch.nn import functional as F

    found: dict[int, list[float]] = {count: [] for count in counts}
    if len(counts) == 1:
        return dict.fromkeys(counts, 1.0)
    # No random numbers: a measurement must not shift those of the course.
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.ones(64, 16, 14, 14).contiguous(memory_format=torch.channels_last)
        kernel = torch.full((16, 16, 3, 3), 0.01, requires_grad=True)
        begin = time.perf_counter()
        while len(found[1]) < 4 or time.perf_counter() - begin < 0.2:
            for count in sorted(counts):
                torch.set_num_threads(count)
                start, y = time.perf_counter(), x
                for _ in range(3):
                    y = F.batch_norm(F.conv2d(y, kernel, padding=1), None, None, training=True)
                    y = y.relu()
                y.sum().backward()
                found[count].append(time.perf_counter() - start)
    return {count: statistics.fmean(times[1:]) for count, times in found.items()}  # first: warm-up


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and PyTorch: the same run again, on one machine with as many threads."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  libraries draw from the global state
    torch.manual_seed(seed)


def in_notebook() -> bool:
    """True inside a Jupyter kernel (JupyterLab, Colab), where outputs can be updated in place."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def quiet() -> bool:
    """True where nobody watches: `COURSE_QUIET` is set, or output goes to a file."""
    return bool(os.environ.get("COURSE_QUIET")) or not (in_notebook() or sys.stdout.isatty())


def threads() -> str:
    """How many threads PyTorch computes with, in words."""
    import torch

    count = torch.get_num_threads()
    return "1 thread" if count == 1 else f"{count} threads"


def hardware() -> str:
    """Processor (or GPU) and number of threads in words, for the ledger and the README."""
    import torch

    where = device()
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    return f"{name}, {'Apple GPU' if where.type == 'mps' else threads()}"


def versions() -> dict[str, str]:
    """Versions of what decides a result: Python, torch, torchvision, numpy."""
    from importlib.metadata import version

    names = ("torch", "torchvision", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def revision() -> str:
    """The commit of the checkout, or `unknown`; `+` behind it when files (not results/) changed."""
    from subprocess import DEVNULL, SubprocessError, check_output

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return check_output(command, stderr=DEVNULL, text=True, timeout=30).strip()

    try:
        changed = "+" if git("status", "--porcelain", "--", ".", ":!results") else ""
        return git("rev-parse", "--short=12", "HEAD") + changed
    except (OSError, SubprocessError):
        return "unknown"
