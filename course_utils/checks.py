"""`course check`: is this machine ready, what to do if not; and the line atop each notebook."""

import json
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions, metadata, requires
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from course_utils import runtime, storage

NEEDED_GB = 1.0
"""Free space for data, executed notebooks and checkpoints; packages are installed by then."""

NAME = "attention-in-medical-imaging"
LOAD_SECONDS = 300
"""All packages load in 20 s of a core; the first time, or beside other work, it takes longer."""

Line = tuple[bool, str]


def banner() -> str:
    """One line for the top of each notebook: device, number format, profile, data source."""
    from course_utils import datasets

    where, size, why = runtime.device(), runtime.profile(), runtime.share_cores()
    trial = " (a trial run: its numbers mean nothing)" if size == "smoke" else ""
    device = f"{where.type} ({runtime.precision(where)[0]}), {runtime.threads()} ({why})"
    return f"Device: {device} | profile: {size}{trial} | data: {datasets.reachable()}"


def check() -> bool:
    """Print a line per point, [OK] or what to do; True when nothing needs doing."""
    looks: list[Callable[[], Line | list[Line]]] = [_python, _install, _profile, _packages]
    looks += [_loading, _device, _kernel, _data, _folders, _disk]
    fine = True
    for look in looks:
        try:
            found = look()
        except Exception as error:  # whatever is broken here: the other checks are to run
            why = storage.in_words(error) if isinstance(error, OSError) else _first_line(error)
            found = False, f"{look.__name__.strip('_').capitalize()}: {why}"
        lines = found if isinstance(found, list) else [found]
        for good, text in lines:
            print(f"[{'OK' if good else 'TO DO'}] {text}", flush=True)
            fine = fine and good
        if any(_ENDS in text for _, text in lines):
            break  # the checks that follow load it, too
    return fine


def _first_line(problem: BaseException | str) -> str:
    return next(iter(str(problem).splitlines()), "") or type(problem).__name__


def _python() -> Line:
    from packaging.specifiers import SpecifierSet

    asked = metadata(NAME)["Requires-Python"]
    good = SpecifierSet(asked).contains(platform.python_version(), prereleases=True)
    text = f"Python {platform.python_version()}"
    return good, text if good else f"{text}: expected {asked}. Install such a Python"


def _install() -> Line:
    """This Python runs the code of this checkout; that it is one, the command has looked at."""
    anew = "In the folder of the course: `make check`, or `python -m pip install -e .`"
    # Building leaves a second set of metadata in the course's own folder, which says nothing of it.
    found = list(distributions(name=NAME))
    if not found:
        return False, f"Course: it is not installed in {sys.prefix}. {anew}"
    facts = [json.loads(text) for one in found if (text := one.read_text("direct_url.json"))]
    urls = [one["url"] for one in facts if one.get("dir_info", {}).get("editable")]
    if not urls:
        return False, f"Course: a copy is installed, not this folder. {anew}"
    where = Path(url2pathname(urlparse(urls[0]).path))
    if where.resolve() != runtime.ROOT:
        return False, f"Course: this Python was set up for {where}, not {runtime.ROOT}. {anew}"
    return True, "Course: installed from this folder"


def _profile() -> Line:
    return True, f"Profile: {runtime.profile()}"


def _requirements() -> list[Any]:
    """The packages that pyproject.toml asks for on this machine."""
    from packaging.requirements import Requirement

    needs = [Requirement(line) for line in requires(NAME) or []]
    return [n for n in needs if not n.marker or n.marker.evaluate({"extra": ""})]


def _version(name: str) -> str:
    """The installed version of a package; an empty text if it is missing."""
    return next((found.version for found in distributions(name=name)), "")


def _packages() -> list[Line]:
    """Each package of pyproject.toml against its lowest version."""
    needs, wrong = _requirements(), []
    for need in needs:
        have = _version(need.name)
        if not have:
            wrong.append((False, f"{need.name} is missing: run {runtime.SET_UP}"))
        elif not need.specifier.contains(have, prereleases=True):
            wrong.append((False, f"{need.name} {have}: expected {need.specifier}"))
    both = f"torch {_version('torch')}, torchvision {_version('torchvision')}"
    return [*wrong, (True, f"{len(needs) - len(wrong)} packages have the right version, {both}")]


_MODULES = {"pillow": "PIL.Image", "scikit-learn": "sklearn", "pycocotools": "pycocotools.mask"}
_MODULES |= {"scipy": "scipy.stats", "matplotlib": "matplotlib.pyplot"}
"""What to import of a package: where its name is another, or alone would load no machine code."""

_LOAD = """
import importlib, sys
for name in sys.argv[1:]:
    print("\\n@", name, "", flush=True)
    try:
        importlib.import_module(name)
        print("\\n@", name, "loads", flush=True)
    except BaseException as problem:
        print("\\n@", name, type(problem).__name__, *str(problem).split(), flush=True)
"""
_ENDS = "ends Python"
_PYTORCH = "Install PyTorch again: python -m pip install --force-reinstall torch torchvision"
_DRIVER = (
    "Update the GPU's driver, or install the PyTorch that fits it (https://pytorch.org/get-started)."
    " Until then the course runs on the CPU with the environment variable CUDA_VISIBLE_DEVICES=-1"
)


def _loading() -> list[Line]:
    """Load each package in a process of its own: one that does not fit a processor ends it."""
    names = [need.name for need in _requirements() if _version(need.name)]
    modules = {_MODULES.get(name, name.replace("-", "_")): name for name in names}
    command = [sys.executable, "-c", _LOAD, *modules]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LOAD_SECONDS)
        printed, ended = done.stdout, f"{_ENDS} (status {done.returncode})"
    except subprocess.TimeoutExpired as slow:
        printed, ended = slow.stdout or b"", f"does not load within {LOAD_SECONDS} s"
    # The last word on each module: none where it was not reached, an empty one where it ended.
    said = dict(re.findall(r"^@ (\S+) (.*?)\r?$", printed.decode(errors="replace"), re.M))
    again = "Install it again: python -m pip install --force-reinstall --no-deps"
    lines: list[Line] = []
    for module, name in modules.items():
        if (words := said.get(module, "loads")) != "loads":
            why = f"does not load ({words})" if words else f"{ended} when it is loaded"
            remedy = _PYTORCH if name in ("torch", "torchvision") else f"{again} {name}"
            lines.append((False, f"{name} {why}. {remedy}"))
    return lines or [(bool(said), f"{len(said)} packages load")]


def _device() -> Line:
    """A convolution and its gradient on the device: a driver may be too old for what is there."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        where = runtime.device()
        try:
            threads, name = runtime.share_cores(), runtime.hardware()
            number, why = runtime.precision(where)
            weight = torch.ones(1, 1, 3, 3, device=where, requires_grad=True)
            kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(number)
            with torch.autocast(where.type, dtype=kind, enabled=kind is not None):
                made = torch.nn.functional.conv2d(torch.ones(1, 1, 8, 8, device=where), weight)
            (slope,) = torch.autograd.grad(made.sum(), weight)
            found = float(slope.sum())
            problem = "" if found == 9 * 36 else f"it computes {found:g} where 324 is right"
        except Exception as failure:  # drivers and libraries fail with errors of many kinds
            problem = _first_line(failure)
    if problem:
        mend = _DRIVER if where.type == "cuda" else _PYTORCH
        return False, f"Device: {where.type} fails at a first operation ({problem}). {mend}"
    unused = [w.message for w in said if re.search("NVIDIA|CUDA", str(w.message))]
    if unused:
        reason = _first_line(unused[0])
        return False, f"Device: {where.type}; the GPU is not used ({reason}). {_DRIVER}"
    shown = f"Device: {where.type}, {name} ({threads})"
    return True, f"{shown}; {number}: {why}; a first operation is right"


def _kernel() -> Line:
    """What a notebook's kernel needs, short of starting one: its program, a folder, a port."""
    import ipykernel.kernelapp  # noqa: F401
    from jupyter_core.paths import jupyter_runtime_dir

    storage.try_writing(storage.nearest(Path(jupyter_runtime_dir())))
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
    return True, "Jupyter: the kernel's program loads; its folder and a port are free to use"


def _data() -> list[Line]:
    """Each data set: a file at hand, else whether its mirror or a publisher answers now."""
    from course_utils import datasets
    from course_utils.datasets import commands

    mode = datasets.settings().mode
    if mode == "phantom":
        return [(True, "Data: phantoms, as COURSE_DATA=phantom says")]
    remedy = (
        f"cannot be reached{', a phantom would take its place' * (mode == 'auto')}. Connect to the "
        "internet, or set COURSE_DATA_MIRROR to a folder with the archives (data/README.md) "
    )
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(commands.in_reach, datasets.CATALOG))
    return [
        (good, f"Data: {entry.title} {'' if good else remedy}({words})")
        for entry, (good, words) in zip(datasets.CATALOG.values(), found, strict=True)
    ]


def _folders() -> list[Line]:
    """Where the course writes, by writing there."""
    wrong = []
    for name, folder in _places().items():
        try:
            storage.try_writing(storage.nearest(folder))
        except OSError as problem:
            problem.filename = str(folder)  # not the folder around it
            wrong.append((False, f"Folder for {name}: {storage.in_words(problem)}"))
    return wrong or [(True, f"Folders: {', '.join(_places())} can be written")]


def _places() -> dict[str, Path]:
    from course_utils import ledger
    from course_utils.datasets import settings
    from course_utils.exercises import solved

    return {
        "data": settings().cache,
        "executed notebooks": runtime.ROOT / "build",
        "your copies": runtime.ROOT / "my_course",
        "progress": solved.path().parent,
        "results": ledger.folder(),
        "temporary files": Path(tempfile.gettempdir()),
    }


def _disk() -> list[Line]:
    """Free space where the course writes most: the two folders may lie on different disks."""
    lines = []
    for name in ("data", "executed notebooks"):
        place = storage.nearest(_places()[name])
        free = shutil.disk_usage(place).free / 1e9
        good = free >= NEEDED_GB
        remedy = f", expected {NEEDED_GB:g} GB: free some space on the disk of {place}"
        lines.append((good, f"Disk for {name}: {free:.1f} GB free{'' if good else remedy}"))
    return lines
