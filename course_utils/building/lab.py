"""JupyterLab on a learner's own copies, which an update of the course never touches."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from .. import storage
from ..runtime import ROOT, profile
from .chapters import NOTEBOOKS, about, code_cells, names, read, save
from .execute import SHOWN

_NO_NEWS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
"""JupyterLab asks each new user whether it may fetch news, unless the default says no."""


def copy_notebooks(mine: Path = ROOT / "my_course", folder: Path = NOTEBOOKS) -> list[str]:
    """Copy the notebooks that are not there yet; a file that is there is never written to.

    A copy has no outputs: below an exercise they would show the answer.

    Returns:
        A sentence for each copied notebook, and for each own copy that is older than the course's.
    """
    mine.mkdir(parents=True, exist_ok=True)
    said = []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        own = mine / path.name
        afresh = f"To begin afresh, rename {mine.name}/{path.name} and run this command again."
        try:
            ours = read(path, f"Get the course's own: git checkout -- notebooks/{path.name}")
            if not own.exists():
                ours.metadata.update(_kernel())
                for cell in code_cells(ours):
                    cell.outputs, cell.execution_count = [], None
                save(ours, own)  # whole or not at all: a copy that broke off would be kept for ever
                said.append(f"{path.name}: copied to {mine.name}/")
            elif about(_read_own(own, afresh)).get("version") != about(ours).get("version"):
                said.append(f"{path.name}: the course has another version; yours is kept. {afresh}")
        except storage.Damaged as problem:  # the other chapters are there to be opened
            said.append(f"{path.name}: {problem}")
    return said


def _read_own(path: Path, afresh: str) -> nbformat.NotebookNode:
    try:
        return read(path, f"It is kept as it is. {afresh}")
    except OSError as problem:  # a folder of this name, or one that somebody else may read
        raise storage.Damaged(path, problem.strerror, afresh) from problem


def _kernel() -> dict[str, dict]:
    """What JupyterLab writes into a notebook when it opens it with this Python.

    A copy that holds it already is not shown as changed before anybody has touched it.
    """
    from ipykernel.ipkernel import IPythonKernel
    from jupyter_client.kernelspec import KernelSpecManager

    spec = KernelSpecManager().get_kernel_spec("python3")
    named = {"display_name": spec.display_name, "language": spec.language, "name": "python3"}
    return {"kernelspec": named, "language_info": IPythonKernel.language_info}


def open_lab(open_browser: bool = True, mine: Path = ROOT / "my_course") -> int:
    """Start JupyterLab on the copies in `my_course/`, for this machine only, with its usual token.

    The first chapter is opened.

    Args:
        open_browser: False only prints the address.
        mine: the folder of copies; it lies in the checkout, which is what JupyterLab shows.

    Returns:
        JupyterLab's exit status.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    profile()  # a wrong word is told here, not in each notebook
    print(*copy_notebooks(mine), sep="\n")
    storage.try_writing(Path(jupyter_runtime_dir()))  # JupyterLab would fail there without a word
    first = mine / f"{names()[0]}.ipynb"
    shown = first if first.exists() else mine
    command = [
        *(sys.executable, "-m", "jupyterlab"),
        "--ip=127.0.0.1",
        f"--ServerApp.root_dir={ROOT}",
        f"--FileContentsManager.preferred_dir={mine}",
        f"--LabApp.default_url=/lab/tree/{shown.relative_to(mine.parent).as_posix()}",
        # It asks no other host, whatever a user's own settings say.
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        "--KernelSpecManager.kernel_dirs=[]",  # the kernel is this Python, as in `course run`
        "--allow-root",  # as in a container; without an effect on others
    ]
    if not open_browser:
        command.append("--no-browser")
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with tempfile.TemporaryDirectory() as scratch:
            settings = Path(scratch, "labconfig", "default_setting_overrides.json")
            storage.write(settings, json.dumps(_NO_NEWS))
            paths = [scratch, *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
            # A user's own settings of IPython stay out.
            own = {"IPYTHONDIR": scratch, "JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}
            return _run(command, os.environ | SHOWN | own)
    except KeyboardInterrupt:
        return 0  # Ctrl-C is how JupyterLab is ended
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run a program to its end; it does not outlive this one, and may end its kernels first."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        return process.wait()
    finally:
        process.terminate()  # nothing happens if it has ended
        try:
            process.wait(10)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()
