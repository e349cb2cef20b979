"""Where the course runs and at what size: profile, device, precision, seed; read here only."""

import os
import platform
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout. The course is always installed editable: data, ledger and notebooks lie here."""

PROFILES = ("smoke", "standard", "full")


def profile() -> str:
    """The size of everything: `smoke` (tests), `standard` (a laptop) or `full` (one GPU).

    Set with the environment variable `COURSE_PROFILE`; `standard` when it is unset or empty.

    Raises:
        ValueError: the variable holds another word.
    """
    name = os.environ.get("COURSE_PROFILE", "") or "standard"
    if name not in PROFILES:
        raise ValueError(
            f"COURSE_PROFILE is {name!r}. Expected one of: {', '.join(PROFILES)}. "
            "Unset it to get the standard profile."
        )
    return name


def device():
    """The fastest device PyTorch can use here: `cuda`, then `mps` (a Mac's GPU), then `cpu`."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def precision(where=None) -> tuple[str, str]:
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
    if where.type == "cpu" and _cpu_has_bf16():
        return "bf16-mixed", "the CPU has bf16 units"
    if where.type == "cpu":
        return "32-true", "the CPU has no bf16 units, so that bf16 would be slower"
    return "32-true", "fp32 is the format that every operation supports on this device"


def _cpu_has_bf16() -> bool:
    """True where the CPU multiplies bf16 in hardware (AVX512-BF16 or AMX)."""
    import torch

    flags = torch.backends.cpu.get_cpu_capability(), _proc_flags()
    return "AVX512" in flags[0] and bool({"avx512_bf16", "amx_bf16"} & flags[1])


def _proc_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()  # not Linux: macOS and Windows train in fp32 on their CPUs
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.split())


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and PyTorch, so that the same seed gives the same run on one machine."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  libraries draw from the global state
    torch.manual_seed(seed)


def in_notebook() -> bool:
    """True inside a Jupyter kernel (JupyterLab, Colab), where outputs can be updated in place."""
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")


def quiet() -> bool:
    """True where nobody watches: `COURSE_QUIET` is set, or output goes to a file."""
    import sys

    return bool(os.environ.get("COURSE_QUIET")) or not (in_notebook() or sys.stdout.isatty())


def hardware() -> str:
    """Processor (or GPU) and number of threads in words, for the ledger and the README."""
    import torch

    where = device()
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        name = models[0] if models else name
    threads = torch.get_num_threads()
    count = "1 thread" if threads == 1 else f"{threads} threads"
    return f"{name}, {'Apple GPU' if where.type == 'mps' else count}"


def versions() -> dict[str, str]:
    """Versions of what decides a result: Python, torch, torchvision, numpy."""
    from importlib.metadata import version

    names = ("torch", "torchvision", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def revision() -> str:
    """The commit of the checkout, or `unknown`; `+` behind it when files (not results/) changed."""
    import subprocess

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=30
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return (
            commit + ("+" if git("status", "--porcelain", "--", ".", ":!results") else "")
        ) or "unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
