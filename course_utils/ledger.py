"""The ledger: every number in the course comes from a run recorded here, `results/NAME.jsonl`.

A line per run. Tables in the notebooks and in the README are made from these files.
"""

import json
import math
import os
from pathlib import Path

from course_utils.runtime import ROOT

KEYS = (
    "experiment",
    "dataset",
    "arm",
    "seed",
    "profile",
    "source",
    "data_sha256",
    "split",
    "metrics",
    "seconds",
    "device",
    "precision",
    "versions",
    "revision",
)
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
    """
    if set(run) != set(KEYS):
        missing, unknown = sorted(set(KEYS) - set(run)), sorted(set(run) - set(KEYS))
        raise ValueError(
            f"A run must have the keys of ledger.KEYS. Missing: {missing}. Unknown: {unknown}."
        )
    if run["source"] not in SOURCES:
        raise ValueError(f"source is {run['source']!r}. Expected one of: {', '.join(SOURCES)}.")
    for name, value in run["metrics"].items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(
                f"Metric {name!r} of {run['experiment']!r} is {value!r}. Expected a finite number: "
                "leave out what is undefined on this data."
            )
    path = folder() / f"{run['experiment']}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({key: run[key] for key in KEYS}, allow_nan=False) + "\n"
    # One write to a file opened for appending: two runs that end together keep whole lines.
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def read(experiment: str) -> list[dict]:
    """All recorded runs of an experiment, oldest first; an empty list if none was recorded.

    Raises:
        ValueError: a line is not JSON; the message names file and line.
    """
    path = folder() / f"{experiment}.jsonl"
    if not path.exists():
        return []
    runs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path.name}, line {number} is not JSON ({error.msg}). "
                "A run was cut off while it was written: delete that line."
            ) from error
    return runs


def select(experiment: str, *, profile: str = "standard", real: bool = True) -> list[dict]:
    """Recorded runs of one profile, on real data; with `real=False` the phantom runs alone."""
    return [
        run
        for run in read(experiment)
        if run["profile"] == profile and (run["source"] != "phantom") == real
    ]


def values(
    experiment: str, arm: str, metric: str, *, profile: str = "standard"
) -> dict[int, float]:
    """Seed to value of a metric, over the real-data runs of one arm."""
    return {
        run["seed"]: run["metrics"][metric]
        for run in select(experiment, profile=profile)
        if run["arm"] == arm and metric in run["metrics"]
    }


def paired(
    experiment: str, arm: str, against: str, metric: str, *, profile: str = "standard"
) -> list[float]:
    """Difference `arm - against` for each seed that both arms have run with, in seed order."""
    ours = values(experiment, arm, metric, profile=profile)
    theirs = values(experiment, against, metric, profile=profile)
    return [ours[seed] - theirs[seed] for seed in sorted(set(ours) & set(theirs))]


def mean_interval(numbers) -> tuple[float, float]:
    """Mean and half width of its 95% confidence interval (Student's t over seeds).

    The half width is NaN for fewer than two numbers: one seed says nothing about spread.
    """
    from scipy.stats import t

    numbers = list(numbers)
    if not numbers:
        return math.nan, math.nan
    mean = sum(numbers) / len(numbers)
    if len(numbers) < 2:
        return mean, math.nan
    variance = sum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1)
    return mean, float(t.ppf(0.975, len(numbers) - 1)) * math.sqrt(variance / len(numbers))


def in_words(numbers) -> str:
    """`0.984 ± 0.002 (5 seeds)`, or `not recorded`."""
    numbers = list(numbers)
    mean, half = mean_interval(numbers)
    if not numbers:
        return "not recorded"
    if math.isnan(half):
        return f"{mean:.3f} (1 seed)"
    return f"{mean:.3f} ± {half:.3f} ({len(numbers)} seeds)"


def table(experiment: str, metrics: list[str] | None = None, *, profile: str = "standard"):
    """One row per arm: mean ± 95% interval over seeds of each metric, and seconds per run.

    The seconds are those of all cores together, which other work on the machine hardly changes;
    of runs that did not record them, those of the clock.

    Returns:
        A `pandas.DataFrame` of texts, indexed by arm, in the order in which arms were recorded.
        Only runs on real data are in it.
    """
    import pandas as pd

    runs = select(experiment, profile=profile)
    arms = list(dict.fromkeys(run["arm"] for run in runs))
    metrics = metrics or list(dict.fromkeys(name for run in runs for name in run["metrics"]))
    rows = {}
    for arm in arms:
        rows[arm] = {
            name: in_words(values(experiment, arm, name, profile=profile).values())
            for name in metrics
        }
        taken = [_seconds(run) for run in runs if run["arm"] == arm]
        rows[arm]["seconds"] = f"{mean_interval(taken)[0]:.0f}"
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*metrics, "seconds"])


def _seconds(run: dict) -> float:
    return run["metrics"].get("core_seconds", run["seconds"])


def report(experiment: str, arm: str, metric: str, value: float, source: str, published: str = ""):
    """Show a live figure beside the recorded one, and hand it to the scoreboard of `course run`.

    Args:
        experiment, arm, metric: which recorded runs stand beside it.
        value: the figure this notebook has just measured.
        source: where its data came from: "upstream", "mirror" or "phantom".
        published: the published figure and its source, in words.
    """
    from IPython.display import display

    recorded = in_words(values(experiment, arm, metric).values())
    figure = {
        "label": f"{experiment} {metric}",
        "experiment": experiment,
        "metric": metric,
        "value": round(float(value), 4),
        "source": source,
        "published": published,
        "recorded": recorded,
    }
    marked = " (SYNTHETIC data: says nothing about patients)" if source == "phantom" else ""
    words = (
        f"this run   {float(value):.3f}{marked}\nrecorded   {recorded}\n"
        f"published  {published or 'none'}"
    )
    display({"application/vnd.course.figure+json": figure, "text/plain": words}, raw=True)


def published(dataset: str):
    """Published figures for a data set, from `results/published.csv`.

    Returns:
        A `pandas.DataFrame`: system, metrics, source, and `standing`: "read there" (in the named
        source), "second hand" (where somebody quotes it) or "unverified".
    """
    import pandas as pd

    table = pd.read_csv(ROOT / "results" / "published.csv")
    table = table[table["dataset"] == dataset].drop(columns="dataset").reset_index(drop=True)
    return table.dropna(axis="columns", how="all")  # the metrics of other data sets
