"""The `course` command. `make` and Windows say the same words: `course run`, `course lab`, ..."""

import argparse
import contextlib
import os
import subprocess
import sys
from pathlib import Path

from course_utils import runtime, storage


def main(words: list[str] | None = None) -> int:
    """Run one command; the exit status is 0 when all went well."""
    arguments = _parser().parse_args(words)
    if wrong := _wrong_course(runtime.ROOT, Path.cwd()):
        print(f"course: {wrong}", file=sys.stderr)
        return 1
    if getattr(arguments, "profile", None):
        os.environ["COURSE_PROFILE"] = arguments.profile  # for this process and its kernels
    try:
        status = int(arguments.do(arguments) or 0)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except OSError as problem:  # a full disk, a read-only folder: of any command
        if not isinstance(problem, BrokenPipeError):  # as of `course results | head`
            print(f"course: {storage.in_words(problem)}", file=sys.stderr)
        _drop_output()
        return 1
    except ModuleNotFoundError as problem:
        print(
            f"course: {problem.name} is not installed. In the folder of the course: "
            'python -m pip install -c constraints.txt -e ".[lab]"',
            file=sys.stderr,
        )
        return 1
    except ImportError as problem:
        print(f"course: {problem}. `course check` says what to do.", file=sys.stderr)
        return 1
    except (ValueError, RuntimeError) as problem:
        print(f"course: {problem}", file=sys.stderr)
        return 1


def _wrong_course(root: Path, here: Path) -> str:
    """Why this command would not run the course that you are in; else an empty text."""
    if not (root / "pyproject.toml").exists() or not (root / "notebooks").exists():
        return (
            f"it was installed as a copy, in {root}, where there are no notebooks. In the folder "
            'of the course: python -m pip install -c constraints.txt -e ".[lab]"'
        )
    if (here / "course_utils" / "cli.py").exists() and here.resolve() != root:
        return (
            f"it belongs to the course in {root}, and you are in another one, {here}. Here, type "
            f"{runtime.SET_UP}, then use the course command in .venv."
        )
    return ""


def _drop_output() -> None:
    """What a full disk or a closed pipe did not take is not tried again when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="course", description=main.__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, do, words: str, profile: bool = False) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=words, description=words)
        found.set_defaults(do=do)
        if profile:
            found.add_argument("--profile", choices=runtime.PROFILES, help="default: standard")
        return found

    run = command("run", _run, "execute the notebooks and show the scoreboard", profile=True)
    run.add_argument("chapters", nargs="*", help="for instance 00 03; default: all")
    lab = command("lab", _lab, "open JupyterLab on your own copies in my_course/", profile=True)
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    command("check", _check, "is this machine ready? what to do if not")
    data = command("data", _data, "list, fetch and verify the data sets")
    data.add_argument("action", choices=("list", "get", "verify", "path"))
    data.add_argument("name", nargs="*", help="with get: data sets; default: all")
    command("progress", _progress, "which exercises you have solved")
    results = command("results", _results, "tables of the recorded runs", profile=True)
    results.add_argument("name", nargs="*", help="experiments; default: all")
    results.add_argument(
        "--readme",
        action="store_true",
        help="for authors: write the tables of README.md, and every number tied to the ledger",
    )
    experiment = command("experiment", _experiment, "train and record runs", profile=True)
    experiment.add_argument("name")
    experiment.add_argument("--seeds", type=int, default=5, help="seeds 0 to SEEDS - 1")
    experiment.add_argument("--arm", action="append", help="may be repeated; default: all arms")
    weights = command("weights", _weights, "for authors: store the weights of a recorded run")
    weights.add_argument("name")
    weights.add_argument("--card", action="store_true", help="only measure what is stored")
    bench = command("bench", _bench, "time attention modules or training beside other libraries")
    bench.add_argument("what", choices=("attention", "train"))
    bench.add_argument("--seconds", type=float, default=5, help="for each timing; default: 5")
    gpu = command("gpu", _gpu, "for authors: tests, benchmarks and full runs on a GPU")
    gpu.add_argument("--minutes", type=float, default=10, help="stop then; default: 10")
    build = command("notebooks", _notebooks, "for authors: build notebooks/ from its sources")
    build.add_argument("chapters", nargs="*")
    build.add_argument("--all", action="store_true", help="execute also what did not change")
    publish = command("publish", _publish, "for authors: the public address, into the notebooks")
    where = publish.add_mutually_exclusive_group(required=True)
    where.add_argument("repository", nargs="?", metavar="OWNER/NAME", help="on GitHub")
    where.add_argument("--none", action="store_true", help="take the address out again")
    test = command("test", _test, "for authors: pytest and nbval")
    test.add_argument("more", nargs="*", help="goes to pytest")
    return parser


def _run(arguments) -> int:
    from course_utils.building import run
    from course_utils.datasets import commands, settings

    profile, mode = runtime.profile(), settings().mode  # a wrong word before the downloads
    if mode != "phantom" and commands.get([]) and mode == "real":
        return 1
    return run(profile, arguments.chapters or None)


def _lab(arguments) -> int:
    from course_utils.building import open_lab

    runtime.profile()  # a wrong word is told here, not in each notebook
    return open_lab(not arguments.no_browser)


def _check(_) -> int:
    from course_utils.checks import check

    return 0 if check() else 1


def _data(arguments) -> int:
    from course_utils.datasets import commands

    if arguments.action == "get":
        return commands.get(arguments.name)
    return {"list": commands.show, "verify": commands.verify, "path": commands.path}[
        arguments.action
    ]()


def _progress(_) -> int:
    from course_utils.exercises import exercise, progress

    rows = progress()
    for row in rows:
        bar = "#" * row["solved"] + "." * (row["total"] - row["solved"])
        print(f"{row['chapter']:22} {bar:10} {row['solved']} of {row['total']}")
    left = [(row["chapter"], row["open"]) for row in rows if row["open"]]
    if left:
        chapter, names = left[0]
        print(f"Next, in {chapter}: {', '.join(exercise(name).title for name in names)}.")
    else:
        print("All solved.")
    return 0


def _results(arguments) -> int:
    from course_utils import ledger
    from course_utils.experiments import EXPERIMENTS, get

    if arguments.readme:
        from course_utils.building import numbers

        print(*numbers.check(renew=True), sep="\n")
        return 0
    for name in arguments.name or EXPERIMENTS:
        experiment = get(name)
        print(f"{name}: {experiment.title} (profile {runtime.profile()})")
        table = ledger.table(name, profile=runtime.profile())
        print(table.to_string() if len(table) else "no runs on real data recorded", end="\n\n")
    return 0


def _experiment(arguments) -> int:
    from course_utils.experiments import run_all

    run_all(arguments.name, arguments.arm, arguments.seeds)
    return 0


def _weights(arguments) -> int:
    from course_utils.weights import measure, publish

    (measure if arguments.card else publish)(arguments.name)
    return 0


def _bench(arguments) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or PyTorch's profiler talks between the rows
    from course_utils import ledger

    storage.try_writing(ledger.folder())  # before minutes of work, not after them
    # Not in the package: learners never import them.
    sys.path.insert(0, str(runtime.ROOT / "results" / "benchmarks"))
    import bench
    import bench_train

    {"attention": bench.attention, "train": bench_train.train}[arguments.what](arguments.seconds)
    return 0


def _gpu(arguments) -> int:
    from course_utils.gpu import gpu

    return gpu(arguments.minutes)


def _notebooks(arguments) -> int:
    from course_utils.building import build

    return build(arguments.chapters or None, force=arguments.all)


def _publish(arguments) -> int:
    from course_utils.building import publish

    return publish(arguments.repository)


def _test(arguments) -> int:
    """pytest, then the notebooks through nbval in the smoke profile; both always run."""
    pytest = [sys.executable, "-m", "pytest"]
    tests = subprocess.call([*pytest, *arguments.more], cwd=runtime.ROOT)
    nbval = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", "notebooks"]
    smoke = os.environ | {"COURSE_PROFILE": "smoke", "COURSE_QUIET": "1"}
    notebooks = subprocess.call([*pytest, "-q", *nbval], cwd=runtime.ROOT, env=smoke)
    return tests or notebooks


if __name__ == "__main__":
    sys.exit(main())
