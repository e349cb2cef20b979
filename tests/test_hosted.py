"""The folded first cell: on Colab and Kaggle it sets the course up; elsewhere it prints a line."""

import json
import os
import subprocess
import sys
import sysconfig
import threading
import venv
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from course_utils.building import chapters
from course_utils.runtime import ROOT

FIRST = (ROOT / "notebooks" / "source" / "first_cell.py").read_text()
HERE = ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "PYTHONPATH", "PIP_CONFIG_FILE")
NOT_HOSTED = (
    "jupyterlab",
    "jupytext",
    "latex2mathml",
    "sphinx",
    "nbval",
    "attention_in",
    "__editable__",
)


def filled(url):
    return FIRST.replace('REPOSITORY = ""', f'REPOSITORY = "{url}"', 1)


def git(*words):
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    done = subprocess.run(["git", *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def python(tmp_path):
    """A stand-in for a host's Python: this one's packages, but not the course and its lab tools."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(NOT_HOSTED):
            (packages / path.name).symlink_to(path)
    venv.create(tmp_path / "python", symlinks=os.name != "nt")
    paths = {"base": str(tmp_path / "python"), "platbase": str(tmp_path / "python")}
    Path(sysconfig.get_path("purelib", "venv", paths), "host.pth").write_text(str(packages))
    return Path(sysconfig.get_path("scripts", "venv", paths), "python")


@pytest.fixture
def environment(tmp_path):
    """Variables of a host whose pip has no index but a folder of wheels."""
    (tmp_path / "wheels").mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in HERE}
    wheels = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    return kept | wheels | {"PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture
def host(tmp_path, python, environment, wheel):
    """Runs a first cell on the host, for a tiny course to clone; gives the finished process."""
    repository, content = tmp_path / "repository", tmp_path / "content"
    for path in (content, repository / "course_utils", repository / "notebooks"):
        path.mkdir(parents=True)
    wheel(tmp_path / "wheels", "tiny_dependency", "1.0")
    wheel(tmp_path / "wheels", "numpy", "99.0")
    (repository / "course_utils" / "__init__.py").write_text("")
    set_up = (ROOT / "course_utils" / "set_up.py").read_text()
    (repository / "course_utils" / "set_up.py").write_text(set_up)
    (repository / "course_utils" / "checks.py").write_text(
        "import tiny_dependency\ndef banner(): return 'Device: stand-in'\n"
    )
    (repository / "notebooks" / "00_one.ipynb").write_text("{}")
    git("init", "--quiet", str(repository))
    git("-C", str(repository), "commit", "--quiet", "--allow-empty", "-m", "older")

    def run(requires, *, url=None, variable="COLAB_RELEASE_TAG", twice=False, **more):
        (repository / "pyproject.toml").write_text(
            "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
            f"[project]\nname = 'stand-in'\nversion = '1'\ndependencies = {requires}\n"
            'requires-python = ">=3.11,<3.15"\n[tool.setuptools]\npackages = ["course_utils"]\n'
        )
        git("-C", str(repository), "add", ".")
        git("-C", str(repository), "commit", "--quiet", "--allow-empty", "-m", "newer")
        cell = filled(repository.as_uri() if url is None else url)
        script = f"cell = {cell!r}\nexec(cell)\n" + ("exec(cell)\n" if twice else "")
        script += "import os, numpy; print('in', os.getcwd()); print('numpy', numpy.__version__)"
        return subprocess.run(
            [python, "-c", script],
            cwd=content,
            env=environment | {variable: "x"} | more,
            capture_output=True,
            text=True,
        )

    run.content = content
    return run


@pytest.mark.slow
def test_first_cell_clones_installs_and_imports_without_a_restart(host):
    done = host(["tiny_dependency", "numpy", "torch"], twice=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    place = f"in {host.content / 'course' / 'notebooks'}"
    assert said[0].startswith("1 of 2: fetching file://") and said[1].startswith("2 of 2: ")
    assert any(line.startswith("  Installing collected packages:") for line in said)
    assert said[-4:] == ["Device: stand-in"] * 2 + [place, f"numpy {version('numpy')}"]
    assert (host.content / "course" / ".git" / "shallow").exists()


@pytest.mark.slow
def test_first_cell_never_replaces_the_hosts_numpy(host):
    done = host(["tiny_dependency", "numpy>=99"])  # a numpy 99 could be installed
    assert done.returncode != 0
    assert f"(constraint) numpy=={version('numpy')}" in done.stderr
    assert "Versions conflict: see above which to change. Then run this cell again." in done.stderr
    assert host(["tiny_dependency"]).returncode != 0  # the old clone is kept: it is whole
    git("-C", str(host.content / "course"), "pull", "--quiet")
    assert host(["tiny_dependency"]).returncode == 0  # and the cell goes on from there


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"])
def test_first_cell_says_what_to_paste_and_where(host, variable):
    done = host([], url="", variable=variable)
    assert done.returncode != 0
    assert "Paste the address of the course" in done.stderr and "line 2" in done.stderr
    assert list(host.content.iterdir()) == []
    # On Colab the folded cell shows this line as a field to paste into.
    assert FIRST.splitlines()[1] == 'REPOSITORY = ""  # @param {type:"string"}'


@pytest.mark.slow
def test_first_cell_says_why_fetching_failed_and_recovers(host, tmp_path):
    git("init", "--quiet", str(tmp_path / "no course"))
    git("-C", str(tmp_path / "no course"), "commit", "--quiet", "--allow-empty", "-m", "empty")
    for url, said in {
        "file:///nowhere": "No public course has this address",
        (tmp_path / "no course").as_uri(): "No public course has this address",
        "http://127.0.0.1:9/course": "Is there internet",
        "http://nothing.invalid/course": "Is there internet",
    }.items():
        done = host(["tiny_dependency"], url=url)
        assert done.returncode != 0 and said in done.stderr
    assert host(["tiny_dependency"]).returncode == 0


@pytest.mark.slow
def test_first_cell_says_that_git_is_missing_or_why_pip_failed(host, tmp_path):
    done = host([], PATH=str(tmp_path))
    assert done.returncode != 0 and "There is no git on this machine" in done.stderr
    closed = {"PIP_NO_INDEX": "", "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "1"}
    done = host(["no-such-package"], **closed)
    assert (
        done.returncode != 0
        and "Connect to the internet (Kaggle: in Settings). Then run this cell" in done.stderr
    )


@pytest.mark.slow
def test_first_cell_replaces_half_a_clone_and_another_course(host, tmp_path):
    (host.content / "course" / ".git").mkdir(parents=True)
    (host.content / "course.part" / ".git").mkdir(parents=True)  # of a run that was stopped
    assert "Versions conflict" in host(["numpy>=99"]).stderr
    assert not (host.content / "course.part").exists()
    (host.content / "course" / "notebooks" / "mine.txt").write_text("kept")
    other = tmp_path / "other"
    other.symlink_to(tmp_path / "repository")  # the same, mended, and at another address
    done = host(["tiny_dependency"], url=other.as_uri())
    assert done.returncode == 0, done.stderr
    assert f"url = {other.as_uri()}\n" in (host.content / "course" / ".git" / "config").read_text()
    (kept,) = host.content.glob("course-*/notebooks/mine.txt")
    assert kept.read_text() == "kept"


@pytest.mark.slow
def test_first_cell_elsewhere_says_how_to_set_up(host):
    done = host([], variable="ELSEWHERE")
    assert done.returncode != 0
    assert "cannot import the course" in done.stderr
    for word in ("make course", "make lab", "py -m course_utils.set_up"):
        assert word in done.stderr
    assert list(host.content.iterdir()) == []


def test_first_cell_of_the_course_prints_one_line():
    environment = {name: value for name, value in os.environ.items() if name not in HERE[:2]}
    done = subprocess.run(
        [sys.executable, "-c", FIRST],
        env=environment | {"COURSE_PROFILE": "smoke"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert "Device: " in line and "profile: smoke" in line and "data: " in line


def test_first_cell_is_short():
    assert len(FIRST.splitlines()) <= 45


@pytest.fixture
def served(tmp_path):
    """The address of a bare clone of this course, as its working tree is, on a web server."""
    bare = tmp_path / "served" / "course.git"
    git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    git("-C", str(bare), "config", "receive.shallowUpdate", "true")
    now = git("-C", str(ROOT), "stash", "create") or "HEAD"
    git("-C", str(ROOT), "push", "--quiet", str(bare), f"{now}:refs/heads/main")

    class Git(BaseHTTPRequestHandler):
        def do_GET(self):
            path, _, query = self.path.partition("?")
            length = int(self.headers.get("Content-Length", 0))
            facts = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command}
            facts |= {"CONTENT_TYPE": self.headers.get("Content-Type", "")}
            facts |= {"HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", "")}
            facts |= {"GIT_PROJECT_ROOT": str(bare.parent), "GIT_HTTP_EXPORT_ALL": "1"}
            answer = subprocess.run(
                ["git", "http-backend"],
                input=self.rfile.read(length),
                env=os.environ | facts | {"CONTENT_LENGTH": str(length)},
                stdout=subprocess.PIPE,
            ).stdout
            self.wfile.write(b"HTTP/1.0 200 OK\r\n" + answer)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Git)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/course.git"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_the_first_chapter_runs_on_a_host(served, python, environment, tmp_path):
    """What Colab does: a Python without the course, the first cell, then chapter 00."""
    notebook = chapters.assemble("00_start_here")
    chapters.code_cells(notebook)[0].source = filled(served)
    where = "import os, course_utils; print(course_utils.__file__, os.getcwd(), sep='\\n')"
    notebook.cells.append(new_code_cell(where))
    kernel = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    spec = tmp_path / "kernels" / "host" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps(kernel | {"display_name": "host", "language": "python"}))
    specs = KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")], ensure_native_kernel=False)
    manager = AsyncKernelManager(kernel_name="host", kernel_spec_manager=specs)
    if manager.has_trait("transport_encryption"):
        manager.transport_encryption = "auto"
    content = tmp_path / "content"
    content.mkdir()
    facts = {"COLAB_RELEASE_TAG": "x", "COURSE_PROFILE": "smoke", "COURSE_QUIET": "1"}
    client = NotebookClient(notebook, km=manager, timeout=300, coalesce_streams=True)
    client.execute(env=environment | facts, cwd=str(content), cleanup_kc=True)  # ends the kernel
    cells = chapters.code_cells(notebook)
    texts = ["".join(out.get("text", "") for out in cell.outputs) for cell in cells]
    assert texts[0].startswith(f"1 of 2: fetching {served}") and "Device: " in texts[0]
    assert "is missing" not in texts[1] and "[OK] Python" in texts[1]
    course = content / "course"
    assert texts[-1].split() == [
        str(course / "course_utils" / "__init__.py"),
        str(course / "notebooks"),
    ]
