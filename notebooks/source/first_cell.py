# @title Set-up: run this cell first
REPOSITORY = ""  # the course's address; filled in from pyproject.toml
import importlib, importlib.util, os, subprocess, sys
from importlib.metadata import version
from pathlib import Path


def shell(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"This command failed: {' '.join(command)}\n{(done.stdout + done.stderr)[-2000:]}\n"
            "It needs internet (on Kaggle: Settings, Internet). Then run this cell again."
        )


HOSTED = "COLAB_RELEASE_TAG" in os.environ or "KAGGLE_KERNEL_RUN_TYPE" in os.environ
if HOSTED and not importlib.util.find_spec("course_utils"):
    if not REPOSITORY:
        raise SystemExit(
            "Paste the address of the course's repository between the quotes in line 2,\n"
            'REPOSITORY = "https://github.com/OWNER/NAME", and run this cell again.'
        )
    course = Path("course").absolute()
    if not course.exists():
        shell("git", "clone", "--quiet", "--depth", "1", REPOSITORY, str(course))
    # The host's builds of these three fit its GPU and each other: pip must not touch them.
    held = [f"{name}=={version(name)}\n" for name in ("torch", "torchvision", "numpy")]
    Path("held.txt").write_text("".join(held))
    shell(sys.executable, "-m", "pip", "install", "-c", "held.txt", "-e", str(course))
    sys.path.insert(0, str(course))  # what pip installs as editable is seen after a restart only
    importlib.invalidate_caches()
    os.chdir(course / "notebooks")

try:
    from course_utils.checks import banner
except ModuleNotFoundError as error:
    raise SystemExit(
        f"This kernel cannot import {error.name}. In a terminal, in the folder of the course:\n"
        "  make course   sets everything up\n  make lab      opens the notebooks"
    )
print(banner())
