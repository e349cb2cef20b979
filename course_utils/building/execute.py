"""Running a notebook in a kernel of this Python, and looking over what it puts out."""

import asyncio
import atexit
import contextlib
import os
import re
import signal
import tempfile
from pathlib import Path

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from ..runtime import ROOT

CELL_SECONDS = 3600  # a cell that trains takes minutes, on a machine with many at work an hour
SHOWN = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
"""For a kernel's environment: figures are shown, whatever the shell's MPLBACKEND says."""
_NO_BARS = {"COURSE_QUIET": "1", "TQDM_DISABLE": "1"}  # none in pages and stored outputs
FIGURE = "application/vnd.course.figure+json"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_PROGRESS = re.compile(r"\d%\|.*\||\d(it/s|s/it)")
_PATH = r"(?<![\w.-])/(home|root|tmp|work|Users)/\S*|[A-Za-z]:\\+Users\\+\S*|"
_UNWANTED = {
    "a progress bar": _PROGRESS,
    "a path of this machine": re.compile(_PATH + re.escape(str(ROOT))),
    "an address in memory (end with `;`)": re.compile(r"\bat 0x[0-9A-Fa-f]{6,}"),
}


def execute(
    notebook: NotebookNode, folder: Path, variables: dict[str, str], line: str = ""
) -> str | None:
    """Run the code cells in order, in place, and stop at the first error.

    The kernel is this Python, whichever kernels are installed, and runs in `folder`.

    Args:
        notebook: its outputs and execution counts are filled in.
        folder: where relative paths of the notebook begin.
        variables: put into the kernel's environment, beside the present one.
        line: printed over itself, with the number of each cell before it runs; empty for silence.

    Returns:
        Where it stopped and why: number of the code cell (from 1), its first line, the error. None
        when all cells ran.

    Raises:
        RuntimeError: the kernel did not start.
        KeyboardInterrupt: the user pressed Ctrl-C; the kernel has been stopped.
    """
    # Without folders to look in, the kernel is `sys.executable -m ipykernel_launcher`.
    specs = KernelSpecManager(kernel_dirs=[])
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    if manager.has_trait("transport_encryption"):
        manager.transport_encryption = "auto"  # without it newer kernels print a warning
    at = -1
    stopping: list[asyncio.Future] = []

    def remember(cell: NotebookNode, cell_index: int) -> None:
        nonlocal at
        at = cell_index
        if line:
            print(f"\r{line}  cell {at + 1} of {len(notebook.cells)} ", end="", flush=True)

    def stop() -> None:
        stopping.append(asyncio.ensure_future(manager.shutdown_kernel(now=True)))

    def watch_for_ctrl_c(notebook: NotebookNode) -> None:
        # nbclient's own handler would make Ctrl-C look like a kernel that died.
        # Where there are no handlers (Windows), Ctrl-C raises KeyboardInterrupt by itself.
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop)

    client = NotebookClient(
        notebook,
        km=manager,
        timeout=CELL_SECONDS,
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        shutdown_kernel="immediate",
        extra_arguments=["--log-level=ERROR"],  # not into the middle of a progress line
        on_cell_start=remember,
        on_notebook_start=watch_for_ctrl_c,
    )
    try:
        with tempfile.TemporaryDirectory() as scratch:
            # A user's own settings of IPython and a learner's progress stay out.
            own = {"IPYTHONDIR": scratch, "COURSE_PROGRESS": str(Path(scratch, "progress.json"))}
            environment = os.environ | _NO_BARS | SHOWN | own | variables
            client.execute(env=environment, cwd=str(folder), cleanup_kc=True)
        return None
    except CellExecutionError as problem:
        error = re.sub(r"\x1b\[[0-9;]*m", "", f"{problem.ename}: {problem.evalue}").strip()
    except CellTimeoutError:
        error = f"it took longer than {CELL_SECONDS} s"
    except DeadKernelError:
        if stopping:
            raise KeyboardInterrupt from None
        error = "the kernel died: it was killed, or it ran out of memory"
    except RuntimeError as problem:
        raise RuntimeError(f"No kernel starts here ({problem}). Run `course check`.") from None
    finally:
        # nbclient leaves this behind when no kernel starts, and it would fail at exit.
        atexit.unregister(client._cleanup_kernel)
    return f"{_named(notebook, at)}: {error}"


def _named(notebook: NotebookNode, index: int) -> str:
    number = sum(cell.cell_type == "code" for cell in notebook.cells[: index + 1])
    line = notebook.cells[index].source.strip().partition("\n")[0]
    return f"code cell {number} (`{line}`)"


def texts(output: NotebookNode) -> list[str]:
    """The readable parts of an output: printed text, text forms of displayed data, a traceback."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return output.traceback
    return [str(value) for kind, value in output.data.items() if not kind.startswith("image/")]


def printed(cell: NotebookNode) -> str:
    """All that a code cell has put out, as text."""
    return "\n".join(text for output in cell.outputs for text in texts(output))


def drop_passing(notebook: NotebookNode) -> None:
    """Remove what means nothing once stored: widgets and progress bars."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if not _is_passing(out)]


def _is_passing(output: NotebookNode) -> bool:
    if output.output_type == "stream":
        lines = [line for line in output.text.splitlines() if line.strip()]
        return bool(lines) and all(_PROGRESS.search(line) for line in lines)
    return _WIDGET in output.get("data", {})


def flaws(notebook: NotebookNode) -> list[str]:
    """What must not stand in stored outputs, each with its cell.

    These are errors, warnings (anything on stderr), progress bars, widgets, paths of this machine,
    and addresses in memory, which differ from run to run.
    """
    found = []
    for index, cell in enumerate(notebook.cells):
        where = _named(notebook, index)
        for output in cell.get("outputs", []):
            text = "\n".join(texts(output))
            if output.output_type == "error":
                found.append(f"{where}: error {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                found.append(f"{where}: stderr: {text.strip()[:300]}")
            if _WIDGET in output.get("data", {}):
                found.append(f"{where}: a widget, which stored notebooks do not show")
            hits = ((what, sign.search(text)) for what, sign in _UNWANTED.items())
            found += [f"{where}: {what}: {hit.group()}" for what, hit in hits if hit]
    return found
