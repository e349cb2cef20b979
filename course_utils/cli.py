"""The `course` command. `make` and Windows say the same words: `course run`, `course lab`, ..."""

import argparse
import os
import subprocess
import sys

from course_utils import runtime


def main(words: list[str] | None = None) -> int:
    """Run one command; the exit status is 0 when all went well."""
    arguments = _parser().parse_args(words)
    if getattr(arguments, "profile", None):
        os.environ["COURSE_PROFILE"] = arguments.profile  # for this process and its kernels
    try:
        return int(arguments.do(arguments) or 0)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError) as problem:
        print(f"course: {problem}", file=sys.stderr)
        return 1


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
        "--readme", action="store_true", help="for authors: write README.md's table"
    )
    experiment = command("experiment", _experiment, "train and record runs", profile=True)
    experiment.add_argument("name")
    experiment.add_argument("--seeds", type=int, default=5, help="seeds 0 to SEEDS - 1")
    experiment.add_argument("--arm", action="append", help="may be repeated; default: all arms")
    weights = command("weights", _weights, "for authors: store the weights of a recorded run")
    weights.add_argument("name")
    bench = command("bench", _bench, "time attention modules or training beside other libraries")
    bench.add_argument("what", choices=("attention", "train"))
    bench.add_argument("--seconds", type=float, default=5, help="for each timing; default: 5")
    build = command("notebooks", _notebooks, "for authors: build notebooks/ from its sources")
    build.add_argument("chapters", nargs="*")
    build.add_argument("--all", action="store_true", help="execute also what did not change")
    test = command("test", _test, "for authors: pytest and nbval")
    test.add_argument("more", nargs="*", help="goes to pytest")
    return parser


def _run(arguments) -> int:
    from course_utils.datasets import commands, settings
    from course_utils.notebooks import run

    mode = settings().mode
    if mode != "phantom" and commands.get([]) and mode == "real":
        return 1
    return run(runtime.profile(), arguments.chapters or None)


def _lab(arguments) -> int:
    from course_utils.notebooks import open_lab

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
    from course_utils.exercises import progress

    for row in progress():
        left = f"; open: {', '.join(row['open'])}" if row["open"] else ""
        print(f"{row['chapter']}  {row['solved']} of {row['total']} solved{left}")
    return 0


def _results(arguments) -> int:
    from course_utils import ledger
    from course_utils.experiments import EXPERIMENTS, get, readme

    if arguments.readme:
        path = runtime.ROOT / "README.md"
        path.write_text(readme(path.read_text(encoding="utf-8")), encoding="utf-8")
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
    from course_utils.weights import publish

    publish(arguments.name)
    return 0


def _bench(arguments) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or PyTorch's profiler talks between the rows
    from course_utils import bench, bench_train

    {"attention": bench.attention, "train": bench_train.train}[arguments.what](arguments.seconds)
    return 0


def _notebooks(arguments) -> int:
    from course_utils.notebooks import build

    return build(arguments.chapters or None, force=arguments.all)


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
