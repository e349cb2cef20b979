"""Makes `.venv`, the course's own Python, and keeps it in step: `python -m course_utils.set_up`.

`make` calls it first, and on Windows you type it. Any Python from 3.6 on can run it, and it needs
nothing but the standard library, so it can say which Python is needed before anything is installed.
"""

import hashlib
import json
import os
import platform
import re
import sys
import tempfile
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError, Popen, call, check_output

ROOT = Path(__file__).resolve().parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
OLDEST, AFTER = map(int, re.findall(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', PROJECT)[0])
NEEDED = f"Python 3.{OLDEST} to 3.{AFTER - 1} is needed"

_ABOUT = (
    "import json, sys; from importlib.util import find_spec as has\n"
    "print(json.dumps([list(sys.version_info[:3]), sys.executable, bool(has('ensurepip'))]))"
)
_CAUSES = {  # what pip says, and what to do; the first that fits counts
    "No space left": "The disk is full: delete files.",
    "name resolution|NewConnection|timed out": "Connect to the internet (Kaggle: in Settings).",
    "onflict|No matching|different Python": "Versions conflict: see above which to change.",
}


def main(words: "list[str]") -> int:
    """Set up for learners, or with the word `test` for authors; the exit status is 0 or 1."""
    venv = ROOT / ".venv"
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    try:
        _refuse_unfit_machine()
        found = _about([str(python)])
        if not found and call([_choose()[1], "-m", "venv", "--clear", str(venv)]):
            raise SystemExit("Could not make .venv: the reason is above.")
        if found:
            said = f"{NEEDED}; .venv holds Python {_number(found)}."
            if not _fits(found):
                raise SystemExit(f"{said} Delete the folder .venv, then type the same again.")
            print(said, flush=True)
        _install(str(python), venv, ["lab", "test"] if "test" in words else ["lab"])
    except KeyboardInterrupt:
        print("\nStopped. What is done is kept; the same words go on from here.")
        return 130
    return 0


def add_to_host() -> None:
    """Install the course into the Python of Colab or Kaggle, which has most of it; says how far.

    The host's own torch, torchvision and numpy fit its GPU and each other: pip does not touch them.
    """
    from importlib.metadata import version

    if not _fits([sys.version_info]):
        raise SystemExit(f"{NEEDED}; this host has {platform.python_version()}.")
    held = [f"{name}=={version(name)}\n" for name in ("torch", "torchvision", "numpy")]
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "held.txt")
        pins.write_text("".join(held), "utf-8")
        _pip(sys.executable, pins, str(ROOT), "run this cell again.")


def _pip(python: str, pins: Path, course: str, again: str) -> None:
    """Install the course; show how far pip is, and if it fails what it said and what that means."""
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    pip += ["-c", str(pins), "-e", course]
    said = ""
    with Popen(pip, cwd=str(ROOT), stdout=PIPE, stderr=STDOUT, errors="replace") as process:
        for line in process.stdout or ():
            said += line
            if line.startswith(("Collecting", "Downloading", "Installing")):
                print(" ", line.split(" (from")[0].strip()[:90], flush=True)
    if process.returncode:
        why = [words for sign, words in _CAUSES.items() if re.search(sign, said)]
        raise SystemExit(f"{said[-2000:]}\n{[*why, 'pip failed.'][0]} Then {again}")


def _refuse_unfit_machine() -> None:
    """PyTorch has no packages for some machines, and pip would not say so in plain words."""
    arm = platform.machine().lower() in ("arm64", "aarch64")
    mac = sys.platform == "darwin" and (not arm or int(platform.mac_ver()[0].split(".")[0]) < 14)
    if sys.maxsize < 2**32 or mac or (os.name == "nt" and arm):
        raise SystemExit(
            f"PyTorch has no packages for this Python ({platform.platform()}, "
            f"{platform.machine()}). The course needs 64-bit Linux, Windows x64, or macOS 14 "
            "or newer on Apple silicon, and a Python made for it."
        )


def _about(command: "list[str]") -> "list":
    """[version, path, whether it can make environments] of a Python; empty if it does not start."""
    try:
        return json.loads(check_output([*command, "-c", _ABOUT], stderr=DEVNULL))
    except (OSError, ValueError, CalledProcessError):
        return []


def _fits(found: "list") -> bool:
    return (3, OLDEST) <= tuple(found[0]) < (3, AFTER)


def _number(found: "list") -> str:
    return ".".join(map(str, found[0]))


def _choose() -> "list":
    """This Python if it will do, else another one of this machine; says which."""
    here = _about([sys.executable])
    print(f"{NEEDED}; found Python {_number(here)}, {here[1]}.", flush=True)
    if _fits(here) and here[2]:
        return here
    for minor in range(AFTER - 1, OLDEST - 1, -1):
        found = _about(["py", f"-3.{minor}"] if os.name == "nt" else [f"python3.{minor}"])
        if found and _fits(found) and found[2]:
            print(f"Taking Python {_number(found)} instead, {found[1]}.", flush=True)
            return found
    if _fits(here):
        apt = f"On Debian and Ubuntu: sudo apt install python3.{here[0][1]}-venv"
        raise SystemExit(f"It cannot make environments. {apt}. Then type the same again.")
    raise SystemExit(
        f"It is too {'old' if here[0] < [3, OLDEST] else 'new'}. Install one that fits "
        "(https://www.python.org/downloads/), then type the same again. "
        "`make course PYTHON=/path/to/python` takes the Python that you name."
    )


def _install(python: str, venv: Path, extras: "list[str]") -> None:
    """Install what pyproject.toml asks for, unless that was done, in this folder."""
    # A copy of the folder brings its .venv along, and that would run the code of the original.
    files = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    state = [str(ROOT), hashlib.sha256(b"".join(files)).hexdigest()]
    stamp, pins = venv / "course", venv / "constraints.txt"
    done = stamp.read_text("utf-8").splitlines() if stamp.exists() else []
    if done[:2] == state and set(extras) <= set(done[2:]):
        return
    pins.write_text(_pins(python), "utf-8")
    print("Installing packages: about 3 GB on Linux, less elsewhere; some minutes.", flush=True)
    if done and os.name != "nt":  # bin/activate holds the folder in which it was made
        call([python, "-m", "venv", "--without-pip", str(venv)])
    extras = sorted({*extras, *done[2:]})
    stamp.write_text("\n".join(["not done", "", *extras]), "utf-8")
    _pip(python, pins, f".[{','.join(extras)}]", "type the same again.")
    stamp.write_text("\n".join([*state, *extras]) + "\n", "utf-8")


def _pins(python: str) -> str:
    """The text of constraints.txt; but torch and torchvision from PyTorch's own page stay."""
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    listed = check_output([python, "-m", "pip", "list", "--format=freeze"]).decode()
    have = dict(re.findall(r"^(torch|torchvision)==(\S+)", listed, re.M))
    if not any("+" in number for number in have.values()):  # +cpu, +cu126: from that page
        return pins
    if len(have) == 1:
        raise SystemExit(
            f".venv has {' '.join(have)} alone. Install torch and torchvision together, with the "
            "command from https://pytorch.org/get-started/locally/, then type the same again."
        )
    oldest = dict(re.findall(r'"(\w+)>=([0-9.]+)"', PROJECT))
    if any(_two(number) < _two(oldest[name]) for name, number in have.items()):
        return pins
    print(f"Keeping torch {have['torch']} and torchvision {have['torchvision']}.", flush=True)
    others = [line for line in pins.splitlines() if line.split("==")[0] not in have]
    return "\n".join([*others, *map("==".join, have.items())]) + "\n"


def _two(number: str) -> "list[int]":
    return [int(part) for part in re.findall(r"\d+", number)[:2]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
