"""Profile, precision and seed; and how long the package takes to import."""

import random
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch

from course_utils import runtime


def test_the_profile_is_read_from_the_environment(monkeypatch):
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    assert runtime.profile() == "standard"
    monkeypatch.setenv("COURSE_PROFILE", "full")
    assert runtime.profile() == "full"
    monkeypatch.setenv("COURSE_PROFILE", "fast")
    with pytest.raises(ValueError, match=r"'fast'.*smoke, standard, full.*Unset"):
        runtime.profile()


@pytest.mark.parametrize(
    ("capability", "real_bf16", "expected"),
    [((7, 5), False, "16-mixed"), ((9, 0), True, "bf16-mixed"), ((6, 1), False, "32-true")],
)
def test_a_gpu_gets_the_format_it_is_built_for(monkeypatch, capability, real_bf16, expected):
    """A T4 (7.5) says yes to bf16 by emulation: only real units count."""

    def supported(including_emulation=True):
        return True if including_emulation else real_bf16

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: capability)
    name, reason = runtime.precision(torch.device("cuda"))
    assert name == expected and "GPU" in reason


@pytest.mark.parametrize(
    ("capability", "flags", "expected"),
    [
        ("AVX512", {"avx512_bf16"}, "bf16-mixed"),
        ("AVX512", {"avx512f"}, "32-true"),
        ("AVX2", set(), "32-true"),
        ("AVX2", {"avx512_bf16"}, "32-true"),
    ],
)
def test_a_cpu_gets_bf16_only_with_bf16_units(monkeypatch, capability, flags, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(runtime, "_proc_flags", lambda: flags)
    assert runtime.precision(torch.device("cpu"))[0] == expected


def test_set_seed_seeds_all_three():
    def draws():
        runtime.set_seed(7)
        legacy = np.random.rand()  # noqa: NPY002
        return random.random(), legacy, torch.rand(1).item()

    assert draws() == draws()


def test_quiet_where_nobody_watches(monkeypatch):
    monkeypatch.delenv("COURSE_QUIET", raising=False)
    monkeypatch.setattr(sys, "stdout", types.SimpleNamespace(isatty=lambda: True))
    assert not runtime.quiet()
    monkeypatch.setenv("COURSE_QUIET", "1")
    assert runtime.quiet()


def test_hardware_and_versions_are_named(monkeypatch):
    assert "thread" in runtime.hardware() or torch.cuda.is_available()
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cpu"))
    for threads, words in ((1, ", 1 thread"), (2, ", 2 threads")):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert runtime.hardware().endswith(words)
    assert runtime.versions()["torch"].startswith(torch.__version__.split("+")[0])


def test_importing_the_package_is_instant():
    start = time.perf_counter()
    code = "import course_utils, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.perf_counter() - start < 1.0
