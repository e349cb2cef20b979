"""The `course` command. `make` and Windows say the same words: `course run`, `course lab`, ..."""

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from course_utils import runtime, storage


def main(words: list[str] | None = None) -> int:
    """Run one command; the exit status is 0 when all went well."""
    options = vars(_parser().parse_args(words))
    if wrong := _wrong_course(runtime.ROOT, Path.cwd()):
        return _say(wrong)
    if profile := options.pop("profile", None):
        os.environ["COURSE_PROFILE"] = profile  # for this process and its kernels
    try:
        status = int(options.pop("do")(**options) or 0)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except OSError as problem:  # a full disk, a read-only folder: of any command
        _drop_output()
        closed = isinstance(problem, BrokenPipeError)  # as of `course results | head`
        return 1 if closed else _say(storage.in_words(problem))
    except ModuleNotFoundError as problem:
        return _say(f"{problem.name} is not installed. {_INSTALL}")
    except ImportError as problem:
        return _say(f"{problem}. `course check` says what to do.")
    except (ValueError, RuntimeError) as problem:
        return _say(str(problem))


_INSTALL = 'In the folder of the course: python -m pip install -c constraints.txt -e ".[lab]"'


def _say(problem: str) -> int:
    print(f"course: {problem}", file=sys.stderr)
    return 1


def _later(name: str) -> Callable[..., int | None]:
    """A function whose module is loaded when the command runs, and not for `course --help`."""
    return lambda **options: resolve_name(f"course_utils.{name}")(**options)


_lab, _build, _publish = (_later(f"building:{name}") for name in ("open_lab", "build", "publish"))
_experiment = _later("experiments:run_all")


def _wrong_course(root: Path, here: Path) -> str:
    """Why this command would not run the course that you are in; else an empty text."""
    if not (root / "pyproject.toml").exists() or not (root / "notebooks").exists():
        return f"it was installed as a copy, in {root}, where there are no notebooks. {_INSTALL}"
    if (here / "course_utils" / "cli.py").exists() and here.resolve() != root:
        remedy = f"Here, type {runtime.SET_UP}, then use the course command in .venv."
        return f"it belongs to the course in {root}, and you are in another one, {here}. {remedy}"
    return ""


def _drop_output() -> None:
    """What a full disk or a closed pipe did not take is not tried again when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    """Each command with its function, `do`, which takes the command's words by their names."""
    parser = argparse.ArgumentParser(prog="course", description=main.__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, do: Callable, words: str, profile: bool = False) -> Any:
        found = commands.add_parser(name, help=words, description=words)
        found.set_defaults(do=do)
        if profile:
            found.add_argument("--profile", choices=runtime.PROFILES, help="default: standard")
        return found

    run = command("run", _run, "execute the notebooks and show the scoreboard", profile=True)
    run.add_argument("chapters", nargs="*", help="for instance 00 03; default: all")
    command("site", _site, "make the pages of what was run, else of what is stored", profile=True)
    lab = command("lab", _lab, "open JupyterLab on your own copies in my_course/", profile=True)
    address = "only print the address"
    lab.add_argument("--no-browser", dest="open_browser", action="store_false", help=address)
    command("check", lambda: not _later("checks:check")(), "is this machine fit? what to do if not")
    data = command("data", _data, "list, fetch and verify the data sets")
    data.add_argument("action", choices=("list", "get", "verify", "path"))
    data.add_argument("names", nargs="*", metavar="name", help="to get or verify; default: all")
    command("progress", _progress, "which exercises you have solved")
    results = command("results", _results, "tables of the recorded runs", profile=True)
    results.add_argument("names", nargs="*", metavar="name", help="experiments; default: all")
    tables = "for authors: write the tables of README.md, and every number tied to the ledger"
    results.add_argument("--readme", action="store_true", help=tables)
    train = command("experiment", _experiment, "train and record runs", profile=True)
    train.add_argument("name")
    train.add_argument("--seeds", type=int, default=5, help="seeds 0 to SEEDS - 1")
    train.add_argument("--arm", dest="arms", action="append", help="may be repeated; default: all")
    weights = command("weights", _weights, "for authors: store the weights of a recorded run")
    weights.add_argument("name")
    weights.add_argument("--card", action="store_true", help="only measure what is stored")
    bench = command("bench", _bench, "time attention modules or training beside other libraries")
    bench.add_argument("what", choices=("attention", "train"))
    bench.add_argument("--seconds", type=float, default=5, help="for each timing; default: 5")
    gpu = command("gpu", _gpu, "for authors: tests, benchmarks and full runs on a GPU")
    gpu.add_argument("--minutes", type=float, default=10, help="stop then; default: 10")
    build = command("notebooks", _build, "for authors: build notebooks/ from its sources")
    build.add_argument("chapters", nargs="*")
    build.add_argument("--all", dest="force", action="store_true", help="also what did not change")
    publish = command("publish", _publish, "for authors: the public address, into the notebooks")
    where = publish.add_mutually_exclusive_group(required=True)
    where.add_argument("repository", nargs="?", metavar="OWNER/NAME", help="on GitHub")
    where.add_argument("--none", dest="repository", action="store_const", help="take it out again")
    test = command("test", _test, "for authors: the quick tests, and the notebooks through nbval")
    test.add_argument("--all", dest="slow", action="store_true", help="the slow ones as well")
    test.add_argument("more", nargs="*", help="goes to pytest")
    return parser


def _run(chapters: list[str]) -> int:
    from course_utils.building import run
    from course_utils.datasets import commands, settings

    profile, mode = runtime.profile(), settings().mode  # a wrong word before the downloads
    if mode != "phantom" and commands.get([]) and mode == "real":
        return 1
    return run(profile, chapters)


def _site() -> int:
    from course_utils.building import make_site

    return make_site(runtime.profile())


def _data(action: str, names: list[str]) -> int:
    from course_utils.datasets import commands

    if action in ("get", "verify"):
        return {"get": commands.get, "verify": commands.verify}[action](names)
    return {"list": commands.show, "path": commands.path}[action]()


def _progress() -> None:
    from course_utils.exercises import exercise, progress

    rows = progress()
    for row in rows:
        bar = "#" * row["solved"] + "." * (row["total"] - row["solved"])
        print(f"{row['chapter']:22} {bar:10} {row['solved']} of {row['total']}")
    chapter, names = next(((row["chapter"], row["open"]) for row in rows if row["open"]), ("", []))
    titles = ", ".join(exercise(name).title for name in names)
    print(f"Next, in {chapter}: {titles}." if names else "All solved.")


def _results(names: list[str], readme: bool) -> None:
    from course_utils import ledger
    from course_utils.experiments import EXPERIMENTS, get

    if readme:
        print(*_in_results("ties:check")(renew=True), sep="\n")
        return
    profile = runtime.profile()
    for name in names or EXPERIMENTS:
        print(f"{name}: {get(name).title} (profile {profile})")
        table = ledger.table(name, profile=profile)
        print(table.to_string() if len(table) else "no runs on real data recorded", end="\n\n")


def _weights(name: str, card: bool) -> None:
    _in_results("cards:measure" if card else "cards:publish")(name)


def _bench(what: str, seconds: float) -> None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or PyTorch's profiler talks between the rows
    from course_utils import ledger

    storage.try_writing(ledger.folder())  # before minutes of work, not after them
    name = {"attention": "bench:attention", "train": "bench_train:train"}[what]
    _in_results(name)(seconds)


def _gpu(minutes: float) -> int:
    return _in_results("gpu:gpu")(minutes=minutes)


def _in_results(name: str) -> Callable[..., Any]:
    """A function that is not in the package: learners never call it."""
    sys.path[:0] = [str(runtime.ROOT / "results" / room) for room in ("benchmarks", "writing")]
    return resolve_name(name)


def _test(more: list[str], slow: bool) -> int:
    """pytest, then the notebooks through nbval in the smoke profile; both always run."""
    # A process a core, with one thread each: most tests are too small for two threads.
    pytest = [sys.executable, "-m", "pytest", f"-n{min(runtime.cores(), 4)}"]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    chosen = more if slow else ["-m", "not slow", *more]
    tests = subprocess.call([*pytest, "--dist=worksteal", *chosen], cwd=runtime.ROOT, env=alone)
    pytest += ["-q", "--dist=loadfile", "notebooks"]
    nbval = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
    smoke = alone | {"COURSE_PROFILE": "smoke", "COURSE_QUIET": "1"}
    notebooks = subprocess.call([*pytest, *nbval], cwd=runtime.ROOT, env=smoke)
    return tests or notebooks


if __name__ == "__main__":
    sys.exit(main())
