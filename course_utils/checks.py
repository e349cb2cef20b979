"""`course check`: is this machine ready, what to do if not; and the line atop each notebook."""

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from course_utils import datasets, runtime

NEEDED_GB = 1.0
"""Free space for data, executed notebooks and checkpoints; packages are installed by then."""


def banner() -> str:
    """One line for the top of each notebook: device, number format, profile, data source."""
    where = runtime.device()
    size = runtime.profile()
    trial = " (a trial run: its numbers mean nothing)" if size == "smoke" else ""
    return (
        f"Device: {where.type} ({runtime.precision(where)[0]}) | "
        f"profile: {size}{trial} | data: {datasets.reachable()}"
    )


def check() -> bool:
    """Print a line per point, [OK] or what to do; True when nothing needs doing."""
    lines = [_python(), *_packages(), _device(), _precision(), *_data(), _disk()]
    for good, text in lines:
        print(f"[{'OK' if good else 'TO DO'}] {text}")
    return all(good for good, _ in lines)


def _python() -> tuple[bool, str]:
    good = sys.version_info >= (3, 11)
    text = f"Python {platform.python_version()}"
    return good, text if good else f"{text} is too old: install Python 3.11 or newer"


def _packages() -> list[tuple[bool, str]]:
    """Each package of pyproject.toml against its lowest version."""
    from packaging.requirements import Requirement

    found, wrong = [], []
    for line in requires("attention-in-medical-imaging") or []:
        need = Requirement(line)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(need.name)
        except PackageNotFoundError:
            wrong.append((False, f"{need.name} is missing: run `make course`"))
            continue
        if need.specifier.contains(have, prereleases=True):
            found.append(need.name)
        else:
            wrong.append((False, f"{need.name} {have}: expected {need.specifier}"))
    torch = f"torch {version('torch')}, torchvision {version('torchvision')}"
    return [*wrong, (True, f"{len(found)} packages fit, {torch}"), _torchvision()]


def _torchvision() -> tuple[bool, str]:
    """Builds of torch and torchvision that do not fit fail when torchvision's operators load."""
    try:
        import torch
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except (ImportError, RuntimeError) as problem:
        return False, (
            f"torch and torchvision do not fit each other ({problem}). "
            "Install both again, from one source: pip install --force-reinstall torch torchvision"
        )
    return True, "torch and torchvision fit each other"


def _device() -> tuple[bool, str]:
    return True, f"Device: {runtime.device().type}, {runtime.hardware()}"


def _precision() -> tuple[bool, str]:
    name, reason = runtime.precision()
    return True, f"Precision {name}: {reason}"


def _data() -> list[tuple[bool, str]]:
    """Each data set: a file at hand, else whether its host answers now."""
    lines = []
    for name, entry in datasets.CATALOG.items():
        where = datasets.reachable(name)
        if where.startswith("upstream,"):
            urls = [source.url for source in entry.sources if source.url]
            where = "upstream, by download" if any(map(_answers, urls)) else ""
        remedy = (
            "cannot be reached, a phantom would take its place. Connect to the internet, or set "
            "COURSE_DATA_MIRROR to a folder with the archives (data/README.md)"
        )
        lines.append((bool(where), f"Data: {entry.title} {f'({where})' if where else remedy}"))
    return lines


def _answers(url: str) -> bool:
    import requests

    try:
        return requests.head(url, timeout=5, allow_redirects=True).ok
    except requests.RequestException:
        return False


def _disk() -> tuple[bool, str]:
    free = shutil.disk_usage(Path(runtime.ROOT)).free / 1e9
    good = free >= NEEDED_GB
    text = f"Disk: {free:.1f} GB free"
    return good, text if good else f"{text}, expected {NEEDED_GB:g} GB: free some space"
