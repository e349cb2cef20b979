"""Running the course: scoreboard, failures, what is not done twice, Ctrl-C; own copies."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from nbformat.v4 import new_output

from course_utils.building import chapters, course, execute, lab, run, site

FIRST = 'print("Device: cpu | profile: x | data: mirror")'
GOOD = """\
# Good

```{code-cell} python3
import os, sys, uuid
from pathlib import Path
```

```{code-cell} python3
figure = {"label": "made-up AUROC", "experiment": "e", "metric": "auroc", "value": 0.98765,
          "source": "mirror", "published": "0.944 (a table)", "recorded": "0.984 ± 0.002 (5 seeds)"}
display({"application/vnd.course.figure+json": figure, "text/plain": "0.988"}, raw=True)
print(os.environ["COURSE_PROFILE"], sys.executable, Path.cwd(), uuid.uuid4(), sep="\\n")
```
"""
WRONG = """\
# Wrong

```{code-cell} python3
from pathlib import Path
```

```{code-cell} python3
# a comment
raise OSError("no such thing")
```

```{code-cell} python3
Path("reached").touch()
```
"""
KILLED = """\
# Killed

```{code-cell} python3
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
```
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "notebooks"
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "first_cell.py").write_text(FIRST)
    return folder


@pytest.fixture
def no_pages(monkeypatch):
    """Pages take seconds: instead, what they would show, by name."""
    shown = {}

    def build(notebooks, *_):
        shown.clear()
        shown.update(notebooks)
        return ""

    monkeypatch.setattr(site, "build", build)
    return shown


def write(folder, **sources):
    for name, text in sources.items():
        (folder / "source" / f"{name.removeprefix('c')}.md").write_text(text)


def executed(out, name):
    return nbformat.read(out / f"{name}.ipynb", as_version=4)


def test_course_runs_shows_and_does_no_work_twice(folder, tmp_path, capsys):
    write(folder, c00_good=GOOD, c01_wrong=WRONG, c02_killed=KILLED)
    out = tmp_path / "build" / "smoke"
    assert run("smoke", folder=folder, out=tmp_path / "build") == 1
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert re.fullmatch(
        r"\[1/3\] 00_good  started \d\d:\d\d:\d\d  ok in \d+ s, about 2 min left", lines[0]
    )
    assert re.fullmatch(r"\[2/3\] 01_wrong  started .*  FAILED in \d+ s, about 60 s left", lines[1])
    assert lines[2].strip() == "01_wrong, code cell 3 (`# a comment`): OSError: no such thing"
    assert (
        lines[4].strip().startswith("02_killed, code cell 2 (`import os, signal`): the kernel died")
    )
    assert "\r" not in said

    # The scoreboard, printed and on the front page; the pages show failures as well.
    figures = "made-up AUROC 0.988  0.984 ± 0.002 (5 seeds)  0.944 (a table)"
    assert re.search(r"00_good +ok +\d+ +mirror +" + re.escape(figures), said)
    assert re.search(r"01_wrong +FAILED +\d+ +mirror", said)
    page = (out / "site" / "index.html").read_text()
    assert 'href="01_wrong.html"' in page and "made-up AUROC 0.988" in page and "FAILED" in page
    assert "no such thing" in (out / "site" / "01_wrong.html").read_text()
    assert f"Pages: {os.path.relpath(out / 'site' / 'index.html')}" in lines

    # The kernel: this Python, the profile, the notebooks' folder.
    output = chapters.code_cells(executed(out, "00_good"))[2].outputs
    assert output[1].text.splitlines()[:3] == ["smoke", sys.executable, str(folder)]
    assert not (folder / "reached").exists()

    # Again: the good one is not run, the failed ones are.
    before = (out / "00_good.ipynb").read_bytes()
    assert run("smoke", ["00", "01"], folder=folder, out=tmp_path / "build") == 1
    said = capsys.readouterr().out
    assert "[1/2] 00_good  up to date" in said and "[2/2] 01_wrong  started" in said
    assert (out / "00_good.ipynb").read_bytes() == before
    assert "02_killed" not in said and "02_killed" in (out / "site" / "index.html").read_text()


def test_what_makes_a_run_out_of_date(folder, monkeypatch):
    write(folder, c00_good=GOOD)

    def mark(profile="smoke"):
        return course._fingerprint(chapters.assemble("00_good", folder), profile)

    first = mark()
    assert mark() == first
    monkeypatch.setattr(course, "reachable", lambda name: "upstream, else phantom")
    fetched_later = mark()
    monkeypatch.setattr(course, "reachable", lambda name: "upstream")
    assert mark() == fetched_later
    first = fetched_later
    monkeypatch.setenv("COURSE_PROGRESS", "elsewhere")
    assert mark() == first
    marks = {first, mark("standard")}
    with monkeypatch.context() as patch:
        patch.setenv("COURSE_DATA", "phantom")
        marks.add(mark())
    with monkeypatch.context() as patch:
        patch.setattr(course, "reachable", lambda name: "nowhere")
        marks.add(mark())
    with monkeypatch.context() as patch:
        patch.setattr(course, "versions", lambda: {"torch": "0"})
        marks.add(mark())
    with monkeypatch.context() as patch:
        patch.setattr(chapters, "depends", lambda notebook: "other code")
        marks.add(mark())
    write(folder, c00_good=GOOD.replace("0.98765", "0.9"))
    marks.add(mark())
    assert len(marks) == 7


@pytest.mark.usefixtures("no_pages")
def test_a_run_on_phantoms_for_want_of_data_is_tried_again(folder, tmp_path, capsys, monkeypatch):
    cell = 'print("no server answers\\nSYNTHETIC: a phantom takes its place.")'
    write(folder, c00_p=f"# P\n\n```{{code-cell}} python3\n{cell}\n```\n")
    monkeypatch.delenv("COURSE_DATA", raising=False)
    assert run("smoke", folder=folder, out=tmp_path) == 0
    assert run("smoke", folder=folder, out=tmp_path) == 0
    assert "up to date" not in capsys.readouterr().out
    monkeypatch.setenv("COURSE_DATA", "phantom")  # asked for: nothing to try again
    assert run("smoke", folder=folder, out=tmp_path) == 0
    assert "up to date" not in capsys.readouterr().out
    assert run("smoke", folder=folder, out=tmp_path) == 0
    assert "up to date" in capsys.readouterr().out


def test_pages_that_fail_lose_no_notebook(folder, tmp_path, capsys, monkeypatch):
    write(folder, c00_a="# T\n\n```{code-cell} python3\nprint(1)\n```\n")
    out = tmp_path / "smoke"

    def fail(*_):
        raise AttributeError("an odd output")

    with monkeypatch.context() as patch:
        patch.setattr(site, "build", fail)
        assert run("smoke", folder=folder, out=tmp_path) == 1
    said = capsys.readouterr().out
    assert "Pages: they cannot be made: AttributeError: an odd output\nWhat was computed" in said
    assert re.search(r"00_a +ok", said) and executed(out, "00_a").metadata.course.status == "ok"
    before = (out / "00_a.ipynb").read_bytes()
    assert course.make_site("smoke", folder, tmp_path) == 0, "the pages are made, nothing is run"
    assert (out / "site" / "00_a.html").exists() and (out / "00_a.ipynb").read_bytes() == before


def test_pages_show_the_last_run_else_the_stored_notebook(folder, tmp_path, no_pages):
    text = "# T\n\n```{code-cell} python3\nprint(1)\n```\n"
    write(folder, c00_a=text, c01_b=text, c02_c=text)
    for name in ("00_a", "01_b"):
        chapters.save(chapters.assemble(name, folder), folder / f"{name}.ipynb")
    course.make_site("smoke", folder, tmp_path)
    assert list(no_pages) == ["00_a", "01_b"] and "status" not in no_pages["00_a"].metadata.course
    assert run("smoke", ["00"], folder=folder, out=tmp_path) == 0
    assert list(no_pages) == ["00_a", "01_b"] and no_pages["00_a"].metadata.course.status == "ok"


@pytest.mark.usefixtures("no_pages")
def test_a_disk_that_fills_up_is_named_and_the_scoreboard_still_shown(
    folder, tmp_path, capsys, monkeypatch
):
    text = "# T\n\n```{code-cell} python3\nprint(1)\n```\n"
    write(folder, c00_a=text, c01_b=text)
    save = chapters.save

    def full(notebook, path):
        if path.stem == "01_b":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(notebook, path)

    monkeypatch.setattr(chapters, "save", full)
    assert run("smoke", folder=folder, out=tmp_path) == 1
    said = capsys.readouterr().out
    assert f"Stopped. {tmp_path / 'smoke' / '01_b.ipynb'}: No space left on device." in said
    assert re.search(r"00_a +ok", said) and re.search(r"01_b +not run", said)


@pytest.mark.usefixtures("no_pages")
@pytest.mark.parametrize("content", ["", '{"cells": [', "[]", '{"nbformat": 4}', "\0" * 99])
def test_a_damaged_result_is_named_and_made_again(content, folder, tmp_path, capsys):
    text = "# T\n\n```{code-cell} python3\nprint(1)\n```\n"
    write(folder, c00_a=text)
    out = tmp_path / "smoke"
    assert run("smoke", folder=folder, out=tmp_path) == 0
    capsys.readouterr()
    (out / "00_a.ipynb").write_text(content)
    assert run("smoke", folder=folder, out=tmp_path) == 0
    said = capsys.readouterr().out
    assert said.count("00_a.ipynb is damaged") == 1 and "running the chapter again" in said
    assert re.search(r"00_a +ok", said) and executed(out, "00_a")


def test_unknown_chapter_is_refused(folder, tmp_path):
    write(folder, c00_good=GOOD)
    with pytest.raises(ValueError, match=r"'09'.*00_good"):
        run("smoke", ["09"], folder=folder, out=tmp_path)


def test_a_cell_that_takes_too_long_is_stopped(folder, monkeypatch):
    write(folder, c00_slow="# Slow\n\n```{code-cell} python3\nimport time; time.sleep(60)\n```\n")
    monkeypatch.setattr(execute, "CELL_SECONDS", 2)
    start = time.monotonic()
    failure = execute.execute(chapters.assemble("00_slow", folder), folder, {})
    assert failure == "code cell 2 (`import time; time.sleep(60)`): it took longer than 2 s"
    assert time.monotonic() - start < 20


def test_a_kernel_that_does_not_start_is_an_error(folder, monkeypatch):
    write(folder, c00_good=GOOD)
    monkeypatch.setenv("PYTHONHOME", str(folder))  # no Python starts with this
    with pytest.raises(RuntimeError, match="No kernel starts"):
        execute.execute(chapters.assemble("00_good", folder), folder, {})


def test_a_run_has_its_own_empty_progress(folder, monkeypatch, tmp_path):
    cell = (
        "import os; from pathlib import Path\nPath(os.environ['COURSE_PROGRESS']).write_text('x')"
    )
    write(folder, c00_p=f"# P\n\n```{{code-cell}} python3\n{cell}\n```\n")
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "mine.json"))
    assert execute.execute(chapters.assemble("00_p", folder), folder, {}) is None
    assert not (tmp_path / "mine.json").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to a process")
def test_ctrl_c_stops_the_kernel_and_keeps_what_was_done(folder, tmp_path):
    slow = "import os, time; from pathlib import Path\nPath('pid').write_text(str(os.getpid()))\n"
    write(
        folder,
        c00_quick="# Quick\n\n```{code-cell} python3\nprint('done')\n```\n",
        c01_slow=f"# Slow\n\n```{{code-cell}} python3\n{slow}time.sleep(120)\n```\n",
    )
    script = (
        "import sys; from pathlib import Path; from course_utils.building import run\n"
        f"sys.exit(run('smoke', folder=Path({str(folder)!r}), out=Path({str(tmp_path)!r})))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (folder / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)  # the file may be there before its content
    kernel = int((folder / "pid").read_text())
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Stopped." in said
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
    out = tmp_path / "smoke"
    assert [p.name for p in out.iterdir()] == ["00_quick.ipynb"], "no pages: that takes seconds"
    assert "`course site`" in said
    assert re.search(r"00_quick +ok", said) and re.search(r"01_slow +not run", said)


@pytest.mark.usefixtures("no_pages")
def test_time_left_comes_from_the_last_run(folder, tmp_path, capsys, monkeypatch):
    text = "# T\n\n```{code-cell} python3\nprint(1)\n```\n"
    write(folder, c00_a=text, c01_b=text)
    assert run("smoke", folder=folder, out=tmp_path) == 0
    notebook = executed(tmp_path / "smoke", "01_b")
    assert 0 < notebook.metadata.course.seconds < 30
    notebook.metadata.course.update(seconds=1234.0, fingerprint="old")
    chapters.save(notebook, tmp_path / "smoke" / "01_b.ipynb")
    write(folder, c00_a=text.replace("print(1)", "print(2)"))
    capsys.readouterr()
    run("smoke", folder=folder, out=tmp_path)
    assert "ok in" in (line := capsys.readouterr().out.splitlines()[0])
    assert line.endswith("about 21 min left")


@pytest.mark.usefixtures("no_pages")
def test_a_cell_that_is_not_python_fails_its_own_notebook_only(folder, tmp_path, capsys):
    write(
        folder,
        c00_a="# A\n\n```{code-cell} python3\nfor\n```\n",
        c01_b="# B\n\n```{code-cell} python3\n%matplotlib inline\n```\n",
    )
    assert run("smoke", folder=folder, out=tmp_path) == 1
    said = capsys.readouterr().out
    assert "00_a, code cell 2 (`for`): SyntaxError" in said
    assert re.search(r"01_b +ok", said)


# A learner's copies ----------------------------------------------------------------------------


def test_copies_are_made_once_and_never_overwritten(folder, tmp_path):
    write(folder, c00_good=GOOD, c01_wrong=WRONG)
    for name in ("00_good", "01_wrong"):
        chapters.save(chapters.assemble(name, folder), folder / f"{name}.ipynb")
    mine = tmp_path / "my_course"
    assert lab.copy_notebooks(mine, folder) == [
        "00_good.ipynb: copied to my_course/",
        "01_wrong.ipynb: copied to my_course/",
    ]
    own, stored = (nbformat.read(at / "00_good.ipynb", as_version=4) for at in (mine, folder))
    assert [c.source for c in own.cells] == [c.source for c in stored.cells]
    assert own.metadata.course == stored.metadata.course
    # As JupyterLab would write it, or each copy would be open as changed.
    assert own.metadata.language_info.version == sys.version.split()[0]
    spec = KernelSpecManager().get_kernel_spec("python3")
    assert own.metadata.kernelspec.display_name == spec.display_name
    assert lab.copy_notebooks(mine, folder) == []

    own = nbformat.read(mine / "00_good.ipynb", as_version=4)
    own.cells[0].source = "# My notes"
    nbformat.write(own, mine / "00_good.ipynb")
    (mine / "01_wrong.ipynb").write_text("not a notebook")
    before = [(mine / f"{name}.ipynb").read_bytes() for name in ("00_good", "01_wrong")]
    (said,) = lab.copy_notebooks(mine, folder)
    assert said.startswith("01_wrong.ipynb: ") and "01_wrong.ipynb is damaged" in said
    assert "It is kept as it is." in said and "rename my_course/01_wrong.ipynb" in said
    write(folder, c00_good=GOOD.replace("# Good", "# Better"))
    chapters.save(chapters.assemble("00_good", folder), folder / "00_good.ipynb")
    said = lab.copy_notebooks(mine, folder)
    assert said[0].startswith("00_good.ipynb: the course has another version; yours is kept.")
    assert "rename my_course/00_good.ipynb" in said[0]
    assert [(mine / f"{name}.ipynb").read_bytes() for name in ("00_good", "01_wrong")] == before


def test_a_copy_does_not_show_the_answers(folder, tmp_path):
    write(folder, c00_good=GOOD)
    stored = chapters.assemble("00_good", folder)
    for count, cell in enumerate(chapters.code_cells(stored), start=1):
        cell.execution_count = count
        cell.outputs = [new_output("stream", text="the answer is 42\n")]
    chapters.save(stored, folder / "00_good.ipynb")
    lab.copy_notebooks(tmp_path / "my_course", folder)
    own = nbformat.read(tmp_path / "my_course" / "00_good.ipynb", as_version=4)
    cells = chapters.code_cells(own)
    assert [(c.outputs, c.execution_count) for c in cells] == [([], None)] * len(cells)
    assert (
        len(cells) == 3
        and chapters.code_cells(chapters.read(folder / "00_good.ipynb", ""))[0].outputs
    )


def test_what_cannot_be_read_keeps_no_other_copy_away(folder, tmp_path):
    write(folder, c00_good=GOOD, c01_wrong=WRONG, c02_killed=KILLED)
    for name in ("00_good", "02_killed"):
        chapters.save(chapters.assemble(name, folder), folder / f"{name}.ipynb")
    (folder / "01_wrong.ipynb").write_text('{"cells": [')
    mine = tmp_path / "my_course"
    (mine / "00_good.ipynb").mkdir(parents=True)
    own, stored, copied = lab.copy_notebooks(mine, folder)
    assert "00_good.ipynb is damaged (Is a directory). To begin afresh, rename" in own
    assert "git checkout -- notebooks/01_wrong.ipynb" in stored
    assert copied == "02_killed.ipynb: copied to my_course/"


def test_lab_serves_the_copies_on_this_machine_with_a_token(monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(lab, "copy_notebooks", lambda mine: [])
    monkeypatch.setattr(lab, "_run", lambda command, environment: commands.append(command) or 0)
    mine = tmp_path / "my_course"
    mine.mkdir()
    assert lab.open_lab(mine=mine) == 0 and lab.open_lab(False, mine) == 0
    assert all("--LabApp.default_url=/lab/tree/my_course" in command for command in commands)
    for command in commands:
        assert command[:3] == [sys.executable, "-m", "jupyterlab"]
        assert "--ip=127.0.0.1" in command
        assert not any("token" in word or "password" in word for word in command)
    assert ["--no-browser" in command for command in commands] == [False, True]


def test_lab_opens_the_first_chapter(monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(lab, "copy_notebooks", lambda mine: [])
    monkeypatch.setattr(lab, "_run", lambda command, environment: commands.append(command) or 0)
    for name in ("00_start_here", "00_old", "01_medical_images"):
        (tmp_path / f"{name}.ipynb").touch()
    assert lab.open_lab(mine=tmp_path) == 0
    assert f"--LabApp.default_url=/lab/tree/{tmp_path.name}/00_start_here.ipynb" in commands[0]


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
def test_make_lab_hands_the_profile_on(monkeypatch):
    for name in ("COURSE_PROFILE", "PROFILE", "profile", "PYTHON"):
        monkeypatch.delenv(name, raising=False)
    # Where make runs the tests, its own flags must not reach this one: it would say more.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        monkeypatch.delenv(name, raising=False)

    def make(*variables):
        command = ["make", "-n", "lab", *variables]
        return subprocess.run(command, cwd=lab.ROOT, capture_output=True, text=True)

    for word, profile in (("", "standard"), ("PROFILE=smoke", "smoke"), ("profile=full", "full")):
        first, last = make(*filter(None, [word])).stdout.splitlines()
        assert first == "python3 -m course_utils.set_up"
        assert last == f".venv/bin/python -m course_utils.cli lab --profile {profile}"
    for word in ("PROFILE=fast", "profile=fast", "PROFILE=smoke full"):
        refused = make(word)  # before anything is set up
        assert refused.returncode and not refused.stdout
        assert "Expected: smoke, standard or full" in refused.stderr
    monkeypatch.setenv("COURSE_PROFILE", "full")
    assert "--profile full" in make().stdout


def processes():
    """Parent, command line and environment of each process of this machine, by its number."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_text()
            found[int(folder.name)] = parent, words, (folder / "environ").read_text()
        except OSError:
            continue  # it has ended, or belongs to somebody else
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="127.0.0.2 is there on Linux only")
def test_lab_really_starts_for_this_machine_only(tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from course_utils import cli; from course_utils.building import lab\n"
        "copy = lab.copy_notebooks\n"
        "lab.copy_notebooks = lambda mine: copy(mine, lab.NOTEBOOKS)\n"
        f"lab.ROOT = Path({str(tmp_path)!r})\n"
        f"lab.open_lab.__defaults__ = (True, Path({str(tmp_path / 'my_course')!r}))\n"
        "sys.exit(cli.main(['lab', '--no-browser', '--profile', 'smoke']))"
    )
    # Each Python below writes down which hosts it looks for, and finds none but this machine.
    asked = tmp_path / "asked"
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\nlook = socket.getaddrinfo\n"
        "def recorded(host, *more, **named):\n"
        "    if host not in ('127.0.0.1', 'localhost', '', None):\n"
        f"        print(host, file=open({str(asked)!r}, 'a'))\n"
        "        raise socket.gaierror('no such host')\n"
        "    return look(host, *more, **named)\n"
        "socket.getaddrinfo = recorded\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": path, "MPLBACKEND": "Agg"},
    )
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(
                r"http://([\d.]+):(\d+)/lab/tree/my_course/00_start_here.ipynb\?token=(\w{20,})",
                line,
            ):
                break
        else:
            pytest.fail("JupyterLab did not start")
        assert found.group(1) == "127.0.0.1"
        assert not any("preferred_dir" in line for line in said)  # no setting that will go
        port = int(found.group(2))
        deadline = time.monotonic() + 20  # the address is printed before the server listens
        answers = False
        while not answers and time.monotonic() < deadline:
            with socket.socket() as connection:
                answers = connection.connect_ex(("127.0.0.1", port)) == 0
        with pytest.raises(HTTPError, match="403"):
            urlopen(f"http://127.0.0.1:{port}/api/contents", timeout=20)
        with pytest.raises(ConnectionRefusedError):  # all of 127.* is this machine on Linux
            socket.create_connection(("127.0.0.2", port), timeout=20)

        def ask(path, **more):
            headers = {"Authorization": f"token {found.group(3)}"}
            request = Request(f"http://127.0.0.1:{port}/{path}", headers=headers, **more)
            with urlopen(request, timeout=60) as answer:
                return json.load(answer)

        # It does not ask whether it may fetch news.
        settings = ask("lab/api/settings/@jupyterlab/apputils-extension:notification")
        assert settings["schema"]["properties"]["fetchNews"]["default"] == "false"

        # It asks no host for updates, also when its pages do.
        assert ask("lab/api/news") == {"news": []}
        assert ask("lab/api/update") == {"notification": None}
        ask("lab/api/extensions?query=jupyter&page=1&per_page=30&refresh=1")
        ask("lab/api/build")
        assert not asked.exists(), asked.read_text()

        # The one kernel is this Python; it gets the profile, and shows figures.
        assert list(ask("api/kernelspecs")["kernelspecs"]) == ["python3"]
        ask("api/kernels", data=b"{}", method="POST")
        (server,) = [n for n, (parent, _, _) in processes().items() if parent == process.pid]
        kernels = {n: p for n, p in processes().items() if p[0] == server and "ipykernel" in p[1]}
        assert kernels
        for _, words, variables in kernels.values():
            assert words.startswith(sys.executable)
            assert "COURSE_PROFILE=smoke\0" in variables
            assert "MPLBACKEND=module://matplotlib_inline.backend_inline\0" in variables

        # Whoever ends `course lab` ends JupyterLab and its kernels with it.
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 128 + signal.SIGTERM
        assert not {server, *kernels} & processes().keys()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=20)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_ctrl_c_ends_lab_with_status_0_and_a_program_that_does_not_listen_is_killed(
    monkeypatch, tmp_path
):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    monkeypatch.setattr(lab, "copy_notebooks", lambda mine: [])
    waits = []

    class Impatient(subprocess.Popen):
        def wait(self, timeout=None):
            waits.append(timeout)
            if len(waits) == 1:
                time.sleep(0.5)
                raise KeyboardInterrupt
            return super().wait(timeout and 0.1)

    monkeypatch.setattr(subprocess, "Popen", Impatient)
    run_it = lab._run
    monkeypatch.setattr(lab, "_run", lambda _, e: run_it([sys.executable, "-c", deaf], dict(e)))
    before = signal.getsignal(signal.SIGTERM)
    assert lab.open_lab(mine=tmp_path) == 0
    assert waits == [None, 10, None]
    assert signal.getsignal(signal.SIGTERM) is before
