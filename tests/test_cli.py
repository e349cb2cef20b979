"""The `course` command, as typed."""

import inspect
import pkgutil
import subprocess
import sys

import pytest

from course_utils import checks, cli, datasets
from course_utils.datasets import CATALOG
from course_utils.experiments import EXPERIMENTS


def course(*words, **environment):
    import os

    return subprocess.run(
        [sys.executable, "-m", "course_utils.cli", *words],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def test_help_names_every_command_and_loads_nothing_heavy():
    done = course("--help")
    assert done.returncode == 0
    for word in ("run", "site", "lab", "check", "data", "progress", "results", "experiment"):
        assert word in done.stdout
    code = "import sys; from course_utils import cli; cli._parser(); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize(
    ("words", "function"),
    [
        (["lab", "--no-browser"], "course_utils.building.open_lab"),
        (["experiment", "bccd", "--arm", "control"], "course_utils.experiments.run_all"),
        (["gpu"], "gpu.gpu"),
        (["notebooks", "--all", "00"], "course_utils.building.build"),
        (["publish", "--none"], "course_utils.building.publish"),
    ],
)
def test_a_command_hands_its_words_to_its_function(words, function, monkeypatch):
    handed, replaced = [], pkgutil.resolve_name(function)
    monkeypatch.setattr(function, lambda **words: handed.append(words))
    assert cli.main(words) == 0
    assert inspect.signature(replaced).bind(**handed[0])


def test_a_mistake_is_one_line_and_a_status(tmp_path):
    done = course("experiment", "nothing")
    assert done.returncode == 1
    listed = ", ".join(EXPERIMENTS)
    assert done.stderr.strip() == f"course: No experiment 'nothing'. Expected one of: {listed}."
    done = course("run", "77")
    assert done.returncode == 1 and "No chapter begins with '77'" in done.stderr
    done = course("results", COURSE_PROFILE="fast")
    assert done.returncode == 1 and "COURSE_PROFILE is 'fast'" in done.stderr


def test_check_says_what_to_do_when_no_data_is_in_reach(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(checks, "_loading", lambda: (True, "packages load"))
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(tmp_path))
    monkeypatch.setenv("COURSE_DATA_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # a closed port: no network
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert not checks.check()
    printed = capsys.readouterr().out
    assert printed.count("cannot be reached, a phantom would take its place") == len(CATALOG)
    assert "COURSE_DATA_MIRROR" in printed and "[OK] Python" in printed
    assert "upstream, else phantom" in checks.banner()
    monkeypatch.setenv("COURSE_DATA", "real")
    assert not checks.check() and "upstream, by download" in checks.banner()


def test_check_counts_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(checks, "requires", lambda name: ["torch>=99", "no-such-package>=1"])
    assert not checks.check()
    printed = capsys.readouterr().out
    assert "expected >=99" in printed and "no-such-package is missing: run `make course`" in printed


def test_full_disk_is_seen(monkeypatch):
    monkeypatch.setattr(checks, "NEEDED_GB", 1e9)
    assert all(not good and "free some space" in text for good, text in checks._disk())


def test_data_list_names_every_set(capsys):
    assert cli.main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in datasets.CATALOG)


def test_data_get_of_an_unknown_set_fails(capsys):
    assert cli.main(["data", "get", "mnist"]) == 1
    assert "No data set is called 'mnist'" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["data", "path"], ["progress"], ["results"]])
def test_commands_that_only_print(words, capsys):
    assert cli.main(words) == 0
    assert capsys.readouterr().out.strip()
