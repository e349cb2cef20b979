"""`course check`: is this machine ready, what to do if not; and the line atop each notebook."""

import json
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import (
    PackageNotFoundError,
    distributions,
    metadata,
    requires,
    version,
)
from pathlib import Path
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

    where = runtime.device()
    size = runtime.profile()
    trial = " (a trial run: its numbers mean nothing)" if size == "smoke" else ""
    return (
        f"Device: {where.type} ({runtime.precision(where)[0]}), {_threads()} | "
        f"profile: {size}{trial} | data: {datasets.reachable()}"
    )


def _threads() -> str:
    """How many threads and why, for instance `2 threads (2 of 2 cores)`."""
    import torch

    why = runtime.share_cores()
    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''} ({why})"


def check() -> bool:
    """Print a line per point, [OK] or what to do; True when nothing needs doing."""
    fine = True
    for look in (
        *(_python, _install, _profile, _packages, _loading),
        *(_torchvision, _device, _precision, _kernel, _data, _folders, _disk),
    ):
        lines = _survived(look)
        for good, text in lines:
            print(f"[{'OK' if good else 'TO DO'}] {text}", flush=True)
            fine = fine and good
        if any(_ENDS in text for _, text in lines):
            break  # the checks that follow load it, too
    return fine


def _survived(look: Callable[[], Line | list[Line]]) -> list[Line]:
    """What a check has found. One that fails itself has found something to do."""
    try:
        found = look()
    except OSError as problem:
        found = False, f"{_title(look)}: {storage.in_words(problem)}"
    except Exception as problem:  # whatever is broken here: the other checks are to run
        found = False, f"{_title(look)}: {_first_line(problem)}"
    return found if isinstance(found, list) else [found]


def _title(look: Callable) -> str:
    return look.__name__.strip("_").capitalize()


def _first_line(problem: BaseException) -> str:
    return next(iter(str(problem).splitlines()), "") or type(problem).__name__


def _python() -> Line:
    from packaging.specifiers import SpecifierSet

    asked = metadata(NAME)["Requires-Python"]
    good = SpecifierSet(asked).contains(platform.python_version(), prereleases=True)
    text = f"Python {platform.python_version()}"
    return good, text if good else f"{text}: expected {asked}. Install such a Python"


def _install() -> Line:
    """The course is a checkout, and this Python runs the code in it."""
    anew = "In the folder of the course: `make check`, or `python -m pip install -e .`"
    if not all((runtime.ROOT / name).exists() for name in ("pyproject.toml", "notebooks")):
        return False, f"Course: {runtime.ROOT} holds the code without the notebooks. {anew}"
    # Building leaves a second set of metadata in the course's own folder, which says nothing of it.
    found = list(distributions(name=NAME))
    if not found:
        return False, f"Course: it is not installed in {sys.prefix}. {anew}"
    sources = [json.loads(text) for one in found if (text := one.read_text("direct_url.json"))]
    source = next((one for one in sources if one.get("dir_info", {}).get("editable")), None)
    if source is None:
        return False, f"Course: a copy is installed, not this folder. {anew}"
    where = Path(url2pathname(urlparse(source["url"]).path))
    if where.resolve() != runtime.ROOT:
        return False, f"Course: this Python was set up for {where}, not {runtime.ROOT}. {anew}"
    return True, "Course: installed from this folder"


def _profile() -> Line:
    return True, f"Profile: {runtime.profile()}"


def _requirements() -> list:
    """The packages that pyproject.toml asks for on this machine."""
    from packaging.requirements import Requirement

    needs = [Requirement(line) for line in requires(NAME) or []]
    return [n for n in needs if not n.marker or n.marker.evaluate({"extra": ""})]


def _packages() -> list[Line]:
    """Each package of pyproject.toml against its lowest version."""
    found, wrong = [], []
    for need in _requirements():
        try:
            have = version(need.name)
        except PackageNotFoundError:
            wrong.append((False, f"{need.name} is missing: run {runtime.SET_UP}"))
            continue
        if need.specifier.contains(have, prereleases=True):
            found.append(need.name)
        else:
            wrong.append((False, f"{need.name} {have}: expected {need.specifier}"))
    if not found:
        return [*wrong, (False, "Packages: none is known. Run `make course`")]
    torch = f"torch {version('torch')}, torchvision {version('torchvision')}"
    return [*wrong, (True, f"{len(found)} packages have the right version, {torch}")]


_MODULES = {
    "pillow": "PIL.Image",
    "scikit-learn": "sklearn",
    "pycocotools": "pycocotools.mask",
    "scipy": "scipy.stats",
    "matplotlib": "matplotlib.pyplot",
}
"""What to import of a package: where its name is another, or alone would load no machine code."""

_LOAD = """
import importlib, sys
for name in sys.argv[1:]:
    print("loading", name, flush=True)
    try:
        importlib.import_module(name)
    except BaseException as problem:
        print("failed", type(problem).__name__, str(problem).replace("\\n", " "), flush=True)
    else:
        print("loaded", name, flush=True)
"""
_ENDS = "ends Python"


def _loading() -> list[Line]:
    """Load each package in a process of its own: one that does not fit a processor ends it."""
    missing = [need.name for need in _requirements() if not _is_installed(need.name)]
    names = [need.name for need in _requirements() if need.name not in missing]
    modules = {_MODULES.get(name, name.replace("-", "_")): name for name in names}
    command = [sys.executable, "-c", _LOAD, *modules]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=LOAD_SECONDS
        )
        printed, ended = done.stdout, f"{_ENDS} (status {done.returncode})"
    except subprocess.TimeoutExpired as slow:
        raw = slow.stdout or b""
        printed = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
        ended = f"does not load within {LOAD_SECONDS} s"
    lines, at, loaded = [], "", 0
    again = "Install it again: python -m pip install --force-reinstall --no-deps"
    for line in printed.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "loading":
            at = modules.get(rest, rest)
        elif kind == "loaded":
            at, loaded = "", loaded + 1
        elif kind == "failed":
            lines.append((False, f"{at} does not load ({rest}). {again} {at}"))
            at = ""
    if at:
        lines.append((False, f"{at} {ended} when it is loaded. {again} {at}"))
    return lines or [(loaded > 0, f"{loaded} packages load")]


def _is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _torchvision() -> Line:
    """Builds of torch and torchvision that do not fit fail when torchvision's operators load."""
    try:
        import torch
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except (ImportError, OSError, RuntimeError) as problem:
        return False, (
            f"torch and torchvision do not fit each other ({problem}). "
            "Install both again, from one source: pip install --force-reinstall torch torchvision"
        )
    return True, "torch and torchvision fit each other"


def _device() -> Line:
    """A convolution and its gradient on the device: a driver may be too old for what is there."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        where = runtime.device()
        try:
            name = runtime.hardware()
            weight = torch.ones(1, 1, 3, 3, device=where, requires_grad=True)
            lower = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
            kind = lower.get(runtime.precision(where)[0])
            with torch.autocast(where.type, dtype=kind, enabled=kind is not None):
                made = torch.nn.functional.conv2d(torch.ones(1, 1, 8, 8, device=where), weight)
            made.sum().backward()
            found = float(weight.grad.sum())  # type: ignore[union-attr]
            problem = "" if found == 9 * 36 else f"it computes {found:g} where 324 is right"
        except Exception as failure:  # drivers and libraries fail with errors of many kinds
            problem = _first_line(failure)
    if problem:
        return False, f"Device: {where.type} fails at a first operation ({problem}). {_mend(where)}"
    unused = [
        str(w.message) for w in said if "NVIDIA" in str(w.message) or "CUDA" in str(w.message)
    ]
    if unused:
        why = unused[0].splitlines()[0]
        return False, f"Device: {where.type}; the GPU is not used ({why}). {_mend('cuda')}"
    return True, f"Device: {where.type}, {name}; {_threads()}; a first operation is right"


def _mend(where) -> str:
    if str(where).startswith("cuda"):
        return (
            "Update the GPU's driver, or install the PyTorch that fits it "
            "(https://pytorch.org/get-started). Until then the course runs on the CPU with the "
            "environment variable CUDA_VISIBLE_DEVICES=-1"
        )
    return "Install PyTorch again: python -m pip install --force-reinstall torch torchvision"


def _precision() -> Line:
    name, reason = runtime.precision()
    return True, f"Precision {name}: {reason}"


def _kernel() -> Line:
    """What a notebook's kernel needs, short of starting one: its program, a folder, a port."""
    import ipykernel.kernelapp  # noqa: F401
    from jupyter_core.paths import jupyter_runtime_dir

    storage.try_writing(storage.nearest(Path(jupyter_runtime_dir())))
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
    return True, "Jupyter: the kernel's program loads; its folder and a port are free to use"


def _named(words: str) -> str:
    """Where a set was found, by the file's name: notebooks are stored with what is printed here."""
    found, *rest = words.split("; but ")
    kind, _, place = found.partition(": ")
    return "; but ".join([f"{kind}: {Path(place).name}", *rest])


def _data() -> list[tuple[bool, str]]:
    """Each data set: a file at hand, else whether its mirror or a publisher answers now."""
    from course_utils import datasets
    from course_utils.datasets import commands

    mode = datasets.settings().mode
    if mode == "phantom":
        return [(True, "Data: phantoms, as COURSE_DATA=phantom says")]
    remedy = (
        "cannot be reached, a phantom would take its place. "
        if mode == "auto"
        else "cannot be reached. "
    ) + (
        "Connect to the internet, or set COURSE_DATA_MIRROR to a folder with the archives "
        "(data/README.md)"
    )
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(commands.in_reach, datasets.CATALOG))
    return [
        (good, f"Data: {entry.title} {f'({_named(words)})' if good else f'{remedy} ({words})'}")
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
    """Free space on each disk that the course fills: folders may lie on several."""
    disks: dict[int, tuple[Path, list[str]]] = {}
    for name in ("data", "executed notebooks"):
        place = storage.nearest(_places()[name])
        disks.setdefault(place.stat().st_dev, (place, []))[1].append(name)
    lines = []
    for place, names in disks.values():
        free = shutil.disk_usage(place).free / 1e9
        text = f"Disk for {' and '.join(names)}: {free:.1f} GB free"
        good = free >= NEEDED_GB
        remedy = f", expected {NEEDED_GB:g} GB: free some space on the disk of {place}"
        lines.append((good, text if good else text + remedy))
    return lines
