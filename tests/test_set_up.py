"""Making `.venv`: which Python, what is installed, and that a copy runs its own code."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course_utils import cli, set_up
from course_utils.runtime import ROOT

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "tiny"
version = "1"
requires-python = ">=3.11,<3.15"
dependencies = [
    "torch>=2.10",
    "torchvision>=0.25",
]
"""
BACKEND = """\
import os, zipfile
WHEEL = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
FACTS = '''Metadata-Version: 2.1
Name: tiny
Version: 1
Requires-Dist: torch>=2.10
Requires-Dist: torchvision>=0.25
Provides-Extra: lab
Requires-Dist: tool; extra == "lab"
Provides-Extra: test
Requires-Dist: tester; extra == "test"
'''
def build_editable(folder, *_):
    with zipfile.ZipFile(os.path.join(folder, "tiny-1-py3-none-any.whl"), "w") as file:
        file.writestr("tiny.pth", os.getcwd())
        file.writestr("tiny-1.dist-info/METADATA", FACTS)
        file.writestr("tiny-1.dist-info/WHEEL", WHEEL)
        file.writestr("tiny-1.dist-info/RECORD", "")
    return "tiny-1-py3-none-any.whl"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, wheel):
    """A tiny course with its .venv made, and what making it said; copy it, do not change it."""
    base = tmp_path_factory.mktemp("set up")
    course, wheels = base / "the course", base / "wheels"
    (course / "course_utils").mkdir(parents=True)
    wheels.mkdir()
    for name in ("Makefile", "course_utils/set_up.py"):
        shutil.copy(ROOT / name, course / name)
    (course / "course_utils" / "__init__.py").write_text("")
    (course / "course_utils" / "cli.py").write_text(
        "import sys; print(*sys.argv[1:], __file__, flush=True)"
    )
    (course / "pyproject.toml").write_text(PYPROJECT)
    (course / "backend.py").write_text(BACKEND)
    (course / "constraints.txt").write_text("tool==1\ntorch==2.15.0\ntorchvision==0.29.2\n")
    for name, number in {"tool": "1", "tester": "1", "torch": "2.15.0"}.items():
        wheel(wheels, name, number)
    wheel(wheels, "torchvision", "0.29.2", ["torch==2.15.0"])
    for number, other in (("2.16.0", "0.30.0"), ("2.9.0", "0.24.0")):
        wheel(wheels, "torch", f"{number}+cpu")
        wheel(wheels, "torchvision", f"{other}+cpu", [f"torch=={number}"])
    return course, run(course)


def run(course, *words, command=(sys.executable, "-m", "course_utils.set_up"), status=0):
    hidden = ("PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PROFILE", "COURSE_PROFILE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": (course.parent / "wheels").as_uri()}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PYTHON": sys.executable}
    done = subprocess.run(
        [*command, *words], cwd=course, env=environment, capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if not status else done.stderr


@pytest.fixture
def course(made, tmp_path):
    """A copy of the tiny course, with the .venv of the original."""
    shutil.copytree(made[0], tmp_path / "copy", symlinks=True)
    shutil.copytree(made[0].parent / "wheels", tmp_path / "wheels")
    return tmp_path / "copy"


def python(course):
    return str(course / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def has(course):
    code = (
        "from importlib.metadata import distributions as d\n"
        "print(*sorted(f\"{x.metadata['Name']}=={x.version}\" for x in d()))"
    )
    return run(course, "-c", code, command=(python(course),)).split()


@pytest.mark.slow
def test_first_line_names_what_is_needed_and_what_was_found(made):
    course, said = made
    first, *more = said.splitlines()
    here = ".".join(map(str, sys.version_info[:3]))
    assert first.startswith(f"Python 3.11 to 3.14 is needed; found Python {here}, ")
    assert any(line.startswith("Installing packages") for line in more)
    assert {"tool==1", "torch==2.15.0", "torchvision==0.29.2"} <= set(has(course))
    assert run(course) == f"Python 3.11 to 3.14 is needed; .venv holds Python {here}.\n"


@pytest.mark.slow
def test_authors_get_the_test_tools_and_keep_them(course):
    run(course)
    assert "tester==1" not in has(course)
    run(course, "test")
    assert "tester==1" in has(course)
    assert "Installing" not in run(course) + run(course, "test")


@pytest.mark.slow
def test_a_copy_runs_its_own_code(made, course):
    where = "import course_utils; print(course_utils.__file__)"
    kernel = dict(command=(python(course), "-P"))  # as a kernel in another folder
    assert run(course, "-c", where, **kernel).strip().startswith(str(made[0]))
    assert "Installing" in run(course)
    assert run(course, "-c", where, **kernel).strip().startswith(str(course))
    activate = course / ".venv" / "bin" / "activate"
    assert os.name == "nt" or str(course / ".venv") in activate.read_text()
    original = run(made[0], "-c", where, command=(python(made[0]), "-P"))
    assert original.strip().startswith(str(made[0]))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
def test_make_sets_up_and_runs_the_command_of_this_folder(course):
    moved = course.rename(course.parent / "moved")
    said = run(moved, "-s", "lab", "profile=smoke", command=("make",)).splitlines()
    assert said[0].startswith("Python 3.11 to 3.14 is needed; .venv holds Python 3.")
    assert said[-1] == f"lab --profile smoke {moved / 'course_utils' / 'cli.py'}"
    for target in ("course", "test", "test-all", "check", "notebooks"):
        said = run(moved, "-s", target, command=("make",)).splitlines()
        assert said[0].startswith("Python 3.11 to 3.14 is needed; ")
        assert said[-1].endswith(str(moved / "course_utils" / "cli.py"))


@pytest.mark.slow
def test_torch_from_pytorchs_own_page_stays_unless_it_is_too_old(course):
    run(course)
    install = (python(course), "-m", "pip", "install", "-q")
    run(course, "torch==2.16.0+cpu", command=install)
    run(course, "uninstall", "-q", "-y", "torchvision", command=install[:3])
    (course / ".venv" / "course").unlink()
    assert "torch alone" in run(course, status=1)
    run(course, "torchvision==0.30.0+cpu", command=install)
    assert "Keeping torch 2.16.0+cpu and torchvision 0.30.0+cpu." in run(course)
    assert {"torch==2.16.0+cpu", "torchvision==0.30.0+cpu"} <= set(has(course))
    run(course, "torch==2.9.0+cpu", "torchvision==0.24.0+cpu", command=install)
    (course / ".venv" / "course").unlink()
    assert "Keeping" not in run(course)
    assert {"torch==2.15.0", "torchvision==0.29.2"} <= set(has(course))


@pytest.mark.slow
def test_a_failed_installation_is_said_and_done_again(course):
    (course / "constraints.txt").write_text("tool==2\n")
    said = run(course, status=1)
    assert "(constraint) tool==2" in said
    assert said.endswith(
        "Versions conflict: see above which to change. Then type the same again.\n"
    )
    (course / "constraints.txt").write_text("tool==1\n")
    assert "Installing" in run(course)


@pytest.mark.slow
def test_an_environment_that_does_not_start_is_made_again(course):
    Path(python(course)).unlink()
    Path(python(course)).symlink_to(course / "gone")
    assert "found Python" in run(course)
    assert "tool==1" in has(course)


def test_any_python_from_3_6_on_can_run_it_without_a_package():
    tree = ast.parse((ROOT / "course_utils" / "set_up.py").read_text(), feature_version=(3, 6))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= sys.stdlib_module_names
        if isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] in sys.stdlib_module_names


# Which Python ----------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch, capsys):
    """Pretends that this Python, and others by command, are [version, has ensurepip]."""

    def choose(here, **others):
        def about(command):
            found = (
                here if command == [sys.executable] else others.get(command[0].replace(".", "_"))
            )
            return found and [list(found[0]), f"/bin/{command[0]}", found[1]]

        monkeypatch.setattr(set_up, "_about", about)
        return set_up._choose()

    return choose


GOOD, OLD, NEW, BARE = (
    ((3, 12, 1), True),
    ((3, 9, 2), True),
    ((3, 15, 0), True),
    ((3, 11, 2), False),
)


def test_this_python_is_taken_where_it_fits(machine, capsys):
    assert machine(GOOD, python3_13=((3, 13, 1), True))[0] == [3, 12, 1]
    assert capsys.readouterr().out.startswith("Python 3.11 to 3.14 is needed; found Python 3.12.1")


@pytest.mark.skipif(os.name == "nt", reason="Windows asks `py`")
@pytest.mark.parametrize("here", [OLD, NEW, BARE])
def test_another_python_of_the_machine_is_taken_where_this_one_does_not_fit(here, machine, capsys):
    found = machine(here, python3_14=NEW, python3_13=((3, 13, 0), False), python3_12=GOOD)
    assert found[1] == "/bin/python3.12"
    assert "Taking Python 3.12.1 instead, /bin/python3.12." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (OLD, "It is too old. Install one that fits"),
        (NEW, "It is too new. Install one that fits"),
        (BARE, "sudo apt install python3.11-venv"),
    ],
)
def test_where_none_fits_there_is_a_remedy(here, said, machine):
    with pytest.raises(SystemExit, match=re.escape(said)):
        machine(here)


def test_an_environment_of_another_python_is_refused(monkeypatch):
    monkeypatch.setattr(set_up, "_about", lambda command: [[3, 10, 1], "/x", True])
    with pytest.raises(SystemExit, match=r"\.venv holds Python 3\.10\.1\. Delete the folder"):
        set_up.main([])


@pytest.mark.parametrize(
    ("system", "kind", "mac", "fits"),
    [
        ("linux", "x86_64", "", True),
        ("linux", "aarch64", "", True),
        ("darwin", "arm64", "14.2", True),
        ("darwin", "arm64", "13.6", False),
        ("darwin", "x86_64", "15.0", False),
    ],
)
def test_machines_without_packages_of_pytorch_are_refused(monkeypatch, system, kind, mac, fits):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(set_up.platform, "machine", lambda: kind)
    monkeypatch.setattr(set_up.platform, "mac_ver", lambda: (mac, ("", "", ""), ""))
    if fits:
        set_up._refuse_unfit_machine()
    else:
        with pytest.raises(
            SystemExit, match="64-bit Linux, Windows x64, or macOS 14 or newer on Apple"
        ):
            set_up._refuse_unfit_machine()


# The `course` command of another place ---------------------------------------------------------


def test_an_installed_copy_says_so_in_every_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli.runtime, "ROOT", tmp_path)
    for words in (["run"], ["lab"], ["check"], ["results"], ["progress"], ["data", "list"]):
        assert cli.main(words) == 1
        out, err = capsys.readouterr()
        assert not out and "it was installed as a copy" in err and "-e" in err


def test_the_command_of_another_course_is_refused(monkeypatch, tmp_path, capsys):
    (tmp_path / "course_utils").mkdir()
    (tmp_path / "course_utils" / "cli.py").touch()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["progress"]) == 1
    assert f"belongs to the course in {ROOT}, and you are in another one" in capsys.readouterr().err
    assert cli._wrong_course(ROOT, ROOT) == cli._wrong_course(ROOT, tmp_path.parent) == ""


def test_a_missing_package_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "course_utils.building", None)
    assert cli.main(["lab"]) == 1
    assert "course_utils.building is not installed" in capsys.readouterr().err
