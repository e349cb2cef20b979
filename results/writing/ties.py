"""Numbers in texts, tied to the recorded run, the stored output or the source they come from.

Right behind the number, or the number word, the SOURCE text holds a comment that computes it:

    -0.0002 ± 0.0005<!-- paired(hippocampus, attention, dice_anterior) -->
    0.009<!-- published(hippocampus, "MONAI DynUNet, fold 0", dice_anterior)
          - mean(hippocampus, attention, dice_anterior) -->
    4.5<!-- output("mean logit of the ill") -->

It is Python in which unknown words are texts, so only names with blanks need quotes. `NAMES` lists
the functions. `course results --readme` renews what went stale, a test compares, and readers never
see the comments: the builder takes them out.
"""

import operator
import re
import statistics
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cards
import nbformat
import readme_tables

from course_utils import ledger, storage
from course_utils.runtime import ROOT

WORDS = re.findall(r"\w+", "none one two three four five six seven eight nine ten eleven twelve")
_NUMBER = r"[+-]?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"
TIE = re.compile(
    rf"(?P<shown>(?<![\w.]){_NUMBER}(?: ± {_NUMBER})?%?|\b(?i:{'|'.join(WORDS)}))"
    r"<!-- (?P<code>.*?) -->",
    re.DOTALL,
)


class Estimate(float):
    """A mean with the half width of its interval, `half`."""

    half: float

    def __new__(cls, mean: float, half: float) -> "Estimate":
        made = super().__new__(cls, mean)
        made.half = half
        return made

    def __neg__(self) -> "Estimate":
        return Estimate(-float(self), self.half)


def _pairs(experiment: str, arm: str, metric: str, against: str = "control") -> list[float]:
    """Differences of two arms over the seeds that they share."""
    return ledger.paired(experiment, arm, against, metric)


def mean(experiment: str, arm: str, metric: str) -> Estimate:
    """Mean over the recorded seeds, with its interval."""
    return Estimate(*ledger.mean_interval(ledger.values(experiment, arm, metric).values()))


def paired(*arms: str) -> Estimate:
    """Mean difference of two arms (as `_pairs`), with its interval."""
    return Estimate(*ledger.mean_interval(_pairs(*arms)))


def could_show(*arms: str) -> float:
    """The smallest difference that these pairs would have shown."""
    return ledger.could_show(_pairs(*arms))


def seed(experiment: str, arm: str, number: int, metric: str) -> float:
    """One recorded run."""
    return ledger.values(experiment, arm, metric)[number]


def correlation(experiment: str, arm: str, metric: str, against: str = "control") -> float:
    """Of two arms over the seeds that they share."""
    ours, theirs = (ledger.values(experiment, name, metric) for name in (arm, against))
    shared = set(ours) & set(theirs)
    return statistics.correlation([ours[s] for s in shared], [theirs[s] for s in shared])


def published(dataset: str, system: str, metric: str) -> float:
    """A score of `results/published.csv`; the beginning of a system's name will do."""
    table = ledger.published(dataset)
    (found,) = table.loc[table["system"].str.startswith(system), metric]
    return float(found)


def measured(experiment: str, metric: str, key: str = "metrics") -> float:
    """What the stored weights score; with "cases", half the interval over test cases."""
    found = ledger.measured(experiment)[key][metric]
    return found if key == "metrics" else (found[1] - found[0]) / 2


def output(own: str, words: str = "", chapter: str = "") -> list[float]:
    """The numbers of the stored notebook's printed lines that hold the words.

    `own` is the text's own chapter, which is read where no other is named.
    """
    (path,) = (ROOT / "notebooks").glob(f"{chapter or own}_*.ipynb")
    return [
        float(number.replace(",", "")) / (100 if percent else 1)
        for line in _printed(path)
        if words in line
        for number, percent in re.findall(rf"({_NUMBER})(%?)", line.replace(words, " ", 1))
    ]


NAMES = {
    function.__name__: function
    for function in (
        *(mean, paired, seed, could_show, correlation, published, measured, output),
        *(min, max),
    )
}
_LOOSE = re.compile(rf"<!-- [^>]*\b(?:{'|'.join(NAMES)})\(.*?-->", re.DOTALL)


class _Words(dict):
    """What a comment can name; any other word is a text."""

    def __missing__(self, word: str) -> str:
        return word


def _printed(path: Path) -> list[str]:
    """Lines of all text outputs; a table's column titles are part of none."""
    lines = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            lines += [re.sub(r" +", " ", line) for line in text.splitlines()]
    return lines


def renewed(text: str, chapter: str = "") -> tuple[str, list[str]]:
    """The text with each tied number as it should be; and what was wrong, line by line.

    A number keeps the decimals and the signs that it shows. What cannot be computed stays.
    """
    names, problems = _Words(NAMES, output=partial(output, chapter)), []

    def renew(found: re.Match) -> str:
        before = text.count("\n", 0, found.start())
        line = f"line {before + 1}"
        try:
            value = eval(f"({found['code']})", {"__builtins__": {}}, names)  # our own texts
            right = _like(found["shown"], value)
        except Exception as problem:  # whatever a mistyped comment raises
            said = f"{type(problem).__name__}: {problem}"
            problems.append(f"{line}: {found['code']!r} cannot be computed ({said})")
            return found[0]
        if right != found["shown"]:
            problems.append(f"{line}: {found['shown']!r} should be {right!r} ({found['code']})")
        return f"{right}<!-- {found['code']} -->"

    new = TIE.sub(renew, text)
    loose = _LOOSE.findall(TIE.sub("", text))
    return new, problems + [f"no number stands right before {words!r}" for words in loose]


def _like(shown: str, value: Any) -> str:
    """The value as it would be written where `shown` stands."""
    if isinstance(value, list):  # numbers of an output: one of them, or nothing to choose from
        fits = [v for v in value if _like(shown, v) == shown]
        if not fits and len(set(value)) != 1:
            raise LookupError(f"the output has {sorted(set(value)) or 'no such line'}")
        value = (fits or value)[0]
    if shown.lower() in WORDS:
        word = WORDS[operator.index(round(value))]
        return word.capitalize() if shown[0].isupper() else word
    scale = 100 if shown.endswith("%") else 1
    parts = shown.removesuffix("%").split(" ± ")
    numbers = [value, value.half] if len(parts) == 2 else [value]
    said = " ± ".join(map(_written, parts, [scale * float(n) for n in numbers]))
    return said + "%" * shown.endswith("%")


def _written(shown: str, number: float) -> str:
    places = len(shown.partition(".")[2])
    if abs(number - float(shown.replace(",", ""))) <= 0.5 * 10**-places * (1 + 1e-6):
        return shown  # 0.0125 may be written 0.012 or 0.013
    sign = "+" if shown.startswith("+") else ""
    text = f"{number:{sign}{',' if ',' in shown else ''}.{places}f}"
    return re.sub(r"^([+-]?)0\.", r"\1.", text) if re.match(r"[+-]?\.", shown) else text


def texts() -> list[Path]:
    """The texts whose numbers are guarded."""
    results = ROOT / "results"
    found = [ROOT / "README.md", results / "README.md", *sorted((results / "weights").glob("*.md"))]
    notebooks = ROOT / "notebooks"
    return [*found, *sorted(notebooks.glob("source/*.md")), *sorted(notebooks.glob("pages/*.md"))]


def check(renew: bool = False) -> list[str]:
    """Where texts do not agree with the ledger and its like, in sentences; `renew` mends that."""
    makers = {"README.md": readme_tables.readme, "results/README.md": readme_tables.all_metrics}
    found = []
    for path in texts():
        text, name = path.read_text("utf-8"), path.relative_to(ROOT).as_posix()
        problems: list[str] = []
        if path.parent.name == "weights":
            try:
                made = cards.card(path.stem)
            except ValueError as problem:
                made, problems = text, [str(problem)]
        else:
            text, problems = renewed(text, path.name[:2])
            made = makers.get(name, str)(text)
        problems += _differences(text, made)
        found += [f"{name}, {problem}" for problem in problems]
        if renew and problems:
            storage.write(path, made)
    return found


def _differences(text: str, made: str) -> list[str]:
    old, new = text.splitlines(), made.splitlines()
    pairs = enumerate(zip_longest(old, new), 1)
    found = [f"line {line}: {a!r} should be {b!r}" for line, (a, b) in pairs if a != b]
    return found if len(old) == len(new) else found[:1]  # behind a line more all lines differ
