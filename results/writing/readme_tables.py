"""The tables that README.md and results/README.md show, made from the ledger."""

import csv
import math

from course_utils import ledger, runtime
from course_utils.experiments import EXPERIMENTS


def readme(text: str) -> str:
    """README.md with the table of results renewed from the ledger, between its two marks."""
    lines = ["| task | arm | mean ± 95% over five seeds | ± 95% over test cases |"]
    lines.append("|---|---|---|---|")
    for name, experiment in EXPERIMENTS.items():
        measured = ledger.measured(name)
        if not measured:  # the small runs of 00 and 03: results/README.md has them
            continue
        cases = "; ".join(
            f"{label} {(high - low) / 2:.3f}"
            for key, label in experiment.shown.items()
            for low, high in [measured.get("cases", {}).get(key, (math.nan, math.nan))]
            if low == low
        )
        for arm, row in ledger.table(name, list(experiment.shown))[:3].iterrows():
            found = "; ".join(f"{label} {row[key]}" for key, label in experiment.shown.items())
            found = found.replace(" (5 seeds)", "")
            lines.append(f"| {experiment.title} | {arm} | {found} | {cases} |")
    return _between(text, "results", lines)


def all_metrics(text: str) -> str:
    """results/README.md with its tables of all metrics and of published figures renewed."""
    lines = []
    for name in EXPERIMENTS:
        table = ledger.table(name)
        lines += [f"`{name}.jsonl`", "", "| metric | " + " | ".join(table.index) + " |"]
        lines.append("|---" * (1 + len(table)) + "|")
        lines += [f"| {key} | " + " | ".join(table[key]) + " |" for key in table]
        lines.append("")
    text = _between(text, "metrics", lines[:-1])
    lines = ["| data | system | figures | source | standing |", "|---|---|---|---|---|"]
    with (runtime.ROOT / "results" / "published.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            about = [row.pop(key) for key in ("dataset", "system", "source", "standing")]
            figures = ", ".join(f"{key} {value}" for key, value in row.items() if value)
            lines.append("| " + " | ".join([*about[:2], figures, *about[2:]]) + " |")
    return _between(text, "published", lines)


def _between(text: str, block: str, lines: list[str]) -> str:
    """The text with other lines between the two marks of a block.

    Raises:
        ValueError: a mark is missing.
    """
    begin = f"<!-- {block}: written by `course results --readme` -->\n"
    end = f"<!-- end of {block} -->"
    before, mark, rest = text.partition(begin)
    _, stop, after = rest.partition(end)
    if not mark or not stop:
        raise ValueError(f"The marks {begin!r} and {end!r} must stand in the text.")
    return before + mark + "\n".join(lines) + "\n" + end + after
