# @title Set-up: run this cell first
REPOSITORY = ""  # @param {type:"string"}
import importlib, importlib.util, os, runpy, shutil, subprocess, sys, time
from pathlib import Path

HOSTED = "COLAB_RELEASE_TAG" in os.environ or "KAGGLE_KERNEL_RUN_TYPE" in os.environ
if HOSTED and not importlib.util.find_spec("course_utils"):
    again = "Then run this cell again."
    if not REPOSITORY:
        sys.exit("Paste the address of the course, https://github.com/OWNER/NAME, into the field\n"
                 f"REPOSITORY above (on Kaggle: between the quotes in line 2). {again}")
    course, part = Path("course").absolute(), Path("course.part")
    config = course / ".git" / "config"
    if course.exists() and not (config.exists() and f"url = {REPOSITORY}\n" in config.read_text()):
        course.rename(f"course-{time.time():.0f}")  # another course, or half of one
    if not course.exists():
        print(f"1 of 2: fetching {REPOSITORY}, some seconds", flush=True)
        if not shutil.which("git"):
            sys.exit(f"There is no git on this machine: install it. {again}")
        shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
        words = "git", "clone", "--quiet", "--depth", "1", REPOSITORY, str(part)
        plain = os.environ | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
        said = subprocess.run(words, env=plain, capture_output=True, text=True)
        if said.returncode or not (part / "course_utils" / "set_up.py").exists():
            why = "No public course has this address: correct it."
            if any(sign in said.stderr for sign in ("resolve host", "onnect to", "timed out")):
                why = "No answer. Is there internet (Kaggle: Settings, Internet)? Is the address right?"
            elif "No space" in said.stderr:
                why = "The disk is full: delete files."
            sys.exit(f"{said.stderr}\n{why} {again}")
        part.rename(course)
    print("2 of 2: installing what is missing here, one to three minutes", flush=True)
    runpy.run_path(str(course / "course_utils" / "set_up.py"))["add_to_host"]()
    sys.path.insert(0, str(course))  # what pip installs as editable is seen after a restart only
    importlib.invalidate_caches()
    os.chdir(course / "notebooks")

try:
    from course_utils.checks import banner
except (ImportError, OSError) as error:
    sys.exit(f"This kernel cannot import the course ({error}). In a terminal, in the folder of the course:\n"
             "  make course   sets everything up\n  make lab      opens the notebooks\n"
             "Windows: py -m course_utils.set_up, then .venv\\Scripts\\course lab")
print(banner())
