"""The project agrees with itself: set-up, pinned versions, README, layers, house style."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest
import readme_tables
import sizes
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from course_utils import set_up
from course_utils.building import chapters
from course_utils.runtime import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES, EXTRAS = PROJECT["dependencies"], PROJECT["optional-dependencies"]
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
)
TRACKED = subprocess.run(
    ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split("\0")[:-1]


def test_every_dependency_is_pinned_to_a_version_it_admits():
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    for line in DEPENDENCIES + EXTRAS["lab"] + EXTRAS["test"]:
        need = Requirement(line)
        assert need.specifier.contains(Version(pins[canonicalize_name(need.name)])), line


def test_what_is_pinned_installs_on_the_first_release_of_the_oldest_python():
    """Debian 12 has Python 3.11.2, and some packages ask for a later 3.11."""
    for name in PINS:
        try:
            asked = importlib.metadata.metadata(name).get("Requires-Python") or ""
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        assert SpecifierSet(asked).contains("3.11.0"), f"{name} asks for Python {asked}"


def test_constraints_hold_names_and_versions_only():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


def test_pins_serve_the_pythons_that_the_project_names():
    """Wheels were seen for 3.11 to 3.14; a pin for 3.15 needs a look at all platforms."""
    asked = SpecifierSet(PROJECT["requires-python"])
    assert [m for m in range(30) if f"3.{m}.0" in asked] == [11, 12, 13, 14]
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert (
        "and Python 3.11 to 3.14 (" in readme and set_up.NEEDED == "Python 3.11 to 3.14 is needed"
    )
    assert "Linux (64-bit), macOS 14 or newer on Apple silicon, or Windows (x64" in readme


def test_lower_bounds_admit_the_torch_of_hosts():
    needs = {Requirement(line).name: Requirement(line).specifier for line in DEPENDENCIES}
    assert needs["torch"].contains("2.10.0") and needs["torchvision"].contains("0.25.0")


def test_hosts_get_only_what_chapters_import():
    """Of the notebooks' own cells and of what they import, lab and test tools are no part."""
    tools = {Requirement(line).name for line in EXTRAS["lab"] + EXTRAS["test"]}
    assert {"jupyterlab", "ipywidgets", "nbval"} <= tools
    assert not tools & {Requirement(line).name for line in DEPENDENCIES}


def test_conda_installs_the_same_by_construction():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert all(package.startswith(("python=", "pip")) for package in conda)
    assert pip == {"pip": ["-c constraints.txt", "-e .[lab]"]}
    python = next(package for package in conda if package.startswith("python="))
    assert Requirement(f"x{PROJECT['requires-python']}").specifier.contains(python[7:] + ".0")


def test_make_and_windows_say_the_same_words():
    make, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text()
    for word in ("run", "lab", "site"):
        assert f"$(COURSE) {word}" in make and f"\\course {word}" in readme
    assert "-m course_utils.set_up" in make and "py -m course_utils.set_up" in readme


def test_readme_lists_every_chapter_and_its_minutes():
    readme = (ROOT / "README.md").read_text()
    for name in chapters.names():
        row = re.search(rf"\(notebooks/{name}\.ipynb\) \| (\d+) \|", readme)
        assert row, f"README.md does not list {name}"
        first = chapters.assemble(name).cells[0].source
        assert f"**Estimated {row[1]} minutes:**" in first, f"{name}: README.md says {row[1]}"


def test_readme_shows_the_results_of_the_ledger():
    text = (ROOT / "README.md").read_text()
    assert readme_tables.readme(text) == text, "run: course results --readme"


FLOORS = [
    {"runtime", "storage", "datasets", "attention", "metrics", "ledger", "fingerprint"},
    {"senet", "unet", "yolo", "pooling", "training", "augment", "losses", "maps"},
    {"tasks"},
    {"experiments"},
    {"weights"},
    # leaves: nothing below knows them
    {"checks", "figures", "exercises", "building"},
    {"cli"},
    {"set_up"},  # alone: it runs before anything is installed
]


def imported(path):
    """Rooms of course_utils that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # from .. import x, seen from a folder of course_utils
                depth = len(path.relative_to(ROOT / "course_utils").parts) - node.level
                if depth > 0:
                    continue  # inside its own room
                base = f"course_utils.{base}".rstrip(".")
            names = [base] if base != "course_utils" else []
            names += [f"course_utils.{a.name}" for a in node.names if base == "course_utils"]
        yield from (n.split(".")[1] for n in names if n.startswith("course_utils."))


def test_each_room_imports_only_rooms_below():
    floor_of = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    for path in (ROOT / "course_utils").rglob("*.py"):
        room = path.relative_to(ROOT / "course_utils").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for other in set(imported(path)) - {room}:
            assert other in floor_of, f"{path.name} imports {other}: which floor is it on?"
            assert floor_of[other] <= floor_of[room], f"{room} must not import {other}"
            if room in ("runtime", "attention", "metrics", "set_up"):
                raise AssertionError(f"{room} must stand alone, but imports {other}")


def test_committed_files_hold_no_machine_path_and_no_package_registry():
    registries = "|".join(["py" + r"pi\.org", r"pythonhosted\.org", r"download\.pytorch\.org"])
    paths = "|".join([r"/ro" + "ot/", r"/wo" + r"rk/\w", r"/ho" + r"me/\w"])
    for name in TRACKED:
        path = ROOT / name
        if not path.exists() or path.suffix in (".safetensors", ".png", ".zip"):
            continue
        text = path.read_text(encoding="utf-8")
        assert not re.search(registries, text), f"{name} names a package registry"
        if not name.startswith(("tests/", "course_utils/")):  # these look for such paths
            found = re.search(paths, text)
            assert not found, f"{name} holds a path of a machine: {found}"


@pytest.mark.parametrize(
    "words",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_style_and_types(words):
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_course_keeps_its_size():
    """`python tests/sizes.py` shows how near each part is to its limit."""
    now = sizes.sizes()
    assert {name: now[name] for name, most in sizes.LIMITS.items() if now[name] > most} == {}


def test_blanks_comments_and_docstrings_are_no_code():
    docstring = '    """How.\n\n    So."""\n    # so\n'
    source = f'"""What."""\n\n\ndef f(x):  # why\n{docstring}    return (\n        x\n    )\n'
    assert sizes.code_lines(source) == 4 and sizes.docstring_lines(source) == 4
