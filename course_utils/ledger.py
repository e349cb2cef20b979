"""The ledger: every number in the course comes from a run recorded here, `results/NAME.jsonl`.

A line per run. Tables in the notebooks and in the README are made from these files.
"""

import errno
import json
import math
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from statistics import fmean, stdev

import pandas as pd

from course_utils import storage
from course_utils.runtime import ROOT

_WHICH = ("experiment", "dataset", "arm", "seed", "profile", "source", "data_sha256", "split")
KEYS = (*_WHICH, "settings", "metrics", "seconds", "device", "precision", "versions", "revision")
"""What a recorded run must say of itself."""

SOURCES = ("upstream", "mirror", "phantom")


def folder() -> Path:
    """Where the ledger lies: `results/` in the checkout, or `COURSE_RESULTS`."""
    return Path(os.environ.get("COURSE_RESULTS") or ROOT / "results")


def record(run: dict) -> None:
    """Append one run to `results/<experiment>.jsonl`.

    Args:
        run: a dictionary with exactly the keys in `KEYS`; `metrics` maps names to finite numbers.

    Raises:
        ValueError: a key is missing or unknown, or a metric is not a finite number.
        OSError: it could not be written; the file is as it was.
    """
    missing, unknown = sorted(set(KEYS) - set(run)), sorted(set(run) - set(KEYS))
    if missing or unknown:
        raise ValueError(f"Expected ledger.KEYS as keys. Missing: {missing}. Unknown: {unknown}.")
    if run["source"] not in SOURCES:
        raise ValueError(f"source is {run['source']!r}. Expected one of: {', '.join(SOURCES)}.")
    for name, value in run["metrics"].items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"Metric {name!r} is {value!r}, no finite number. Leave it out.")
    path = folder() / f"{run['experiment']}.jsonl"
    line = json.dumps({key: run[key] for key in KEYS}, allow_nan=False) + "\n"
    with storage.naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _append(path, line.encode())


def _append(path: Path, line: bytes) -> None:
    """Add a line, whole or not at all; after a line that was cut, a new one begins first.

    One write to a file opened for appending: two runs that end together keep whole lines. What a
    full disk took of it is taken back, unless another run has written behind it.
    """
    path.touch()
    line = line if path.read_bytes()[-1:] in (b"\n", b"") else b"\n" + line
    with path.open("ab", buffering=0) as file:
        written = file.write(line)  # or it raises, and has written nothing
        try:
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            end = file.tell()  # of what was written, wherever another run had left the end
            if os.fstat(file.fileno()).st_size == end:
                file.truncate(end - written)
            raise


def read(experiment: str) -> list[dict]:
    """All recorded runs of an experiment, oldest first; an empty list if none was recorded.

    A line that is no run, as one that was cut while it was written, is named and passed over.
    """
    path = folder() / f"{experiment}.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    runs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            run = json.loads(line)
            if not isinstance(run, dict) or not set(_READ) <= set(run):
                raise ValueError("it is not a run")
            runs.append(run)
        except (ValueError, RecursionError) as problem:
            _tell_once(
                f"{path}, line {number} is damaged ({problem}): that run counts as not recorded. "
                f"Delete the line; `course experiment {experiment}` runs it again."
            )
    return runs


_READ = ("arm", "seed", "profile", "source", "metrics", "precision", "data_sha256")
"""What the tables need of a run, whichever version of the course recorded it."""


_tell_once = cache(print)
"""A table reads its file once for each of its cells."""


def select(experiment: str, profile: str = "standard") -> list[dict]:
    """Recorded runs of one profile, on real data: runs on phantoms are left out."""
    runs = read(experiment)
    return [run for run in runs if run["profile"] == profile and run["source"] != "phantom"]


def _by_seed(runs: list[dict], arm: str, metric: str) -> dict[int, dict]:
    """Those of the runs that are of one arm and have this metric."""
    return {run["seed"]: run for run in runs if run["arm"] == arm and metric in run["metrics"]}


def values(experiment: str, arm: str, metric: str, profile: str = "standard") -> dict[int, float]:
    """Seed to value of a metric, over the real-data runs of one arm."""
    runs = _by_seed(select(experiment, profile=profile), arm, metric)
    return {seed: run["metrics"][metric] for seed, run in runs.items()}


def paired(experiment: str, arm: str, against: str, metric: str) -> list[float]:
    """Difference `arm - against` for each seed that both arms have run with, in seed order.

    Raises:
        ValueError: the two runs of a seed differ in precision, data or settings (but for the arm's
            own).
    """
    ours, theirs = (_by_seed(select(experiment), name, metric) for name in (arm, against))
    seeds = sorted(set(ours) & set(theirs))
    for seed in seeds:
        if _conditions(ours[seed]) != _conditions(theirs[seed]):
            raise ValueError(
                f"{experiment}, seed {seed}: {arm!r} and {against!r} ran with another precision, "
                "other data or settings, so their difference is not that of the arms. Delete their "
                f"lines in results/{experiment}.jsonl, then run `course experiment {experiment}`."
            )
    return [ours[seed]["metrics"][metric] - theirs[seed]["metrics"][metric] for seed in seeds]


def _conditions(run: dict) -> tuple:
    """What two runs must share to be compared: all but the arm's own settings."""
    settings = {k: v for k, v in run.get("settings", {}).items() if k != "arm"}
    return run["precision"], run["data_sha256"], run.get("split"), settings


def measured(experiment: str) -> dict:
    """What the stored weights of an experiment score: `results/weights/NAME.json`.

    Returns:
        "metrics", by name, and "cases", the 95% interval over test cases of some of them; empty
        where no weights are stored.
    """
    path = folder() / "weights" / f"{experiment}.json"
    again = f"`course weights {experiment} --card` makes it again."
    return storage.read_json(path, again) if path.exists() else {}


def _listed(numbers: Iterable[float]) -> list[float]:
    """Numbers as a list; of a dictionary, as `values` gives it, not its keys."""
    return list(numbers.values() if isinstance(numbers, dict) else numbers)


def mean_interval(numbers: Iterable[float]) -> tuple[float, float]:
    """Mean and half width of its 95% confidence interval (Student's t over seeds).

    The half width is NaN for fewer than two numbers: one seed says nothing about spread.
    """
    from scipy.stats import sem, t

    numbers = _listed(numbers)
    if len(numbers) < 2:
        return numbers[0] if numbers else math.nan, math.nan
    return fmean(numbers), float(t.ppf(0.975, len(numbers) - 1) * sem(numbers))


def could_show(differences: Iterable[float]) -> float:
    """The smallest true difference that such runs would have shown in four cases of five.

    Shown means: the 95% interval misses 0 (a two-sided t test at 5%). The spread is taken from the
    runs themselves. The power comes from the noncentral t distribution (Cohen 1988, chapter 2).

    Args:
        differences: paired, one for each seed.

    Returns:
        A difference above 0; NaN for fewer than two numbers, 0 where they do not vary.
    """
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    pairs = _listed(differences)
    if len(pairs) < 2:
        return math.nan
    freedom = len(pairs) - 1
    limit = float(t.ppf(0.975, freedom))
    # A power of 80%; the wrong sign is next to never.
    shift = brentq(lambda x: nct.sf(limit, freedom, x) - 0.8, 0.5, 2 * limit)
    return stdev(pairs) / math.sqrt(len(pairs)) * float(shift)


def in_words(numbers: Iterable[float]) -> str:
    """`0.984 ± 0.002 (5 seeds)`, or `not recorded`."""
    numbers = _listed(numbers)
    mean, half = mean_interval(numbers)
    if len(numbers) < 2:
        return f"{mean:.3f} (1 seed)" if numbers else "not recorded"
    return f"{mean:.3f} ± {half:.3f} ({len(numbers)} seeds)"


def table(
    experiment: str, metrics: list[str] | None = None, profile: str = "standard"
) -> pd.DataFrame:
    """One row per arm: mean ± 95% interval over seeds of each metric, and seconds per run.

    The seconds are those of all cores together, of runs that did not record them those of the
    clock. Both depend on what else the machine does: arms are compared in time by turns in one
    process, not by this column.

    Returns:
        A `pandas.DataFrame` of texts, indexed by arm, in the order in which arms were recorded.
        Only runs on real data are in it.
    """
    runs = select(experiment, profile=profile)
    metrics = metrics or list(dict.fromkeys(name for run in runs for name in run["metrics"]))
    rows = {}
    for arm in dict.fromkeys(run["arm"] for run in runs):
        of_arm = [run for run in runs if run["arm"] == arm]
        taken = [run["metrics"].get("core_seconds", run["seconds"]) for run in of_arm]
        cells = [values(experiment, arm, name, profile=profile).values() for name in metrics]
        rows[arm] = [*map(in_words, cells), f"{fmean(taken):.0f}"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*metrics, "seconds"])


def beside_recorded(
    experiment: str, arm: str, metric: str, value: float, source: str, published: str = ""
) -> None:
    """Show a live figure beside the recorded one, and hand it to the scoreboard of `course run`.

    Args:
        experiment, arm, metric: which recorded runs stand beside it.
        value: the figure this notebook has just measured.
        source: where its data came from: "upstream", "mirror" or "phantom".
        published: the published figure and its source, in words.
    """
    from IPython.display import display

    label, value = f"{experiment} {metric}", float(value)
    recorded = in_words(values(experiment, arm, metric))
    figure: dict = dict(label=label, value=round(value, 4), source=source)
    figure |= dict(published=published, recorded=recorded)
    marked = " (SYNTHETIC data: says nothing about patients)" if source == "phantom" else ""
    words = f"{label}\nthis run   {value:.3f}{marked}\nrecorded   {recorded}\n"
    words += f"published  {published or 'none'}"
    display({"application/vnd.course.figure+json": figure, "text/plain": words}, raw=True)


def published(dataset: str) -> pd.DataFrame:
    """Published figures for a data set, from `results/published.csv`.

    Returns:
        A `pandas.DataFrame`: system, metrics, source, and `standing`: "read there" (in the named
        source) or "second hand" (where somebody quotes it).
    """
    path = ROOT / "results" / "published.csv"
    try:
        table = pd.read_csv(path)
        table = table[table["dataset"] == dataset].drop(columns="dataset").reset_index(drop=True)
    except (ValueError, KeyError) as problem:
        remedy = "Get the course's own: git checkout -- results/published.csv"
        raise storage.Damaged(path, problem, remedy) from problem
    return table.dropna(axis="columns", how="all")  # the metrics of other data sets
