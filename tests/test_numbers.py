"""Numbers in texts agree with what they are tied to, and a wrong one is noticed."""

import json
import re
import shutil

import pytest
import readme_tables
import ties

from course_utils import ledger, runtime
from course_utils.building import chapters
from course_utils.runtime import ROOT


def test_every_tied_number_table_and_card_is_what_the_ledger_says():
    assert ties.check() == [], "run: course results --readme"


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A copy of the texts, the ledger and the stored outputs, to change."""
    monkeypatch.delenv("COURSE_RESULTS", raising=False)
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(ROOT / "results", tmp_path / "results")
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for module in (ties, ledger, runtime):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def raised(metric, arm, seed):
    """A change of a file of the ledger: one metric of one run is .05 higher."""

    def change(text):
        lines = []
        for line in text.splitlines():
            run = json.loads(line)
            if (run["arm"], run["seed"]) == (arm, seed):
                run["metrics"][metric] += 0.05
            lines.append(json.dumps(run))
        return "\n".join(lines) + "\n"

    return change


def swapped(old, new):
    """A change of a text: one number is another one."""

    def change(text):
        assert old in text
        return text.replace(old, new, 1)

    return change


def one_digit_off(tie):
    """A change of a text: the last digit of the first number that is tied so."""

    def change(text):
        tied = re.search(rf"\d(?=<!-- {re.escape(tie)} -->)", text)
        return f"{text[: tied.start()]}{(int(tied[0]) + 5) % 10}{text[tied.end() :]}"

    return change


LOWEST = '<!-- published(bccd, "YOLOv8n, lowest", map50) -->'
MUTATIONS = {
    "an interval in prose": (
        "README.md",
        swapped("0.007 ± 0.011<!--", "0.027 ± 0.011<!--"),
        r"README.md.*0.027 ± 0.011' should be",
    ),
    "a sign and a digit in prose": (
        "README.md",
        swapped("-0.0002 ±", "+0.0102 ±"),
        r"README.md.*'\+0.0102 ± 0.0005' should be '-0.0002",
    ),
    "a half width": (
        "README.md",
        one_digit_off("paired(pneumonia, attention, auroc)"),
        "README.md.*should be.*pneumonia, attention, auroc",
    ),
    "a mean in the table of results": (
        "README.md",
        lambda text: re.sub(r"(Jaccard 0\.7)\d", r"\g<1>9", text, count=1),
        "README.md, line.*should be.*ISIC",
    ),
    "a number from a stored output": (
        "notebooks/source/01_medical_images.md",
        one_digit_off('output("7 by 7 thumbnail")'),
        "01_medical_images.md.*7 by 7",
    ),
    "a number in an alt text": (
        "notebooks/source/08_yolo.md",
        swapped("between 0.86", f"between 0.89{LOWEST}"),
        "08_yolo.md.*'0.89' should be '0.86'",
    ),
    "a published score": (
        "results/published.csv",
        swapped("0.9007", "0.9107"),
        "README.md.*0.009.*should be.*0.019",
    ),
    "a published score that no text shows": (
        "results/published.csv",
        swapped("0.8808", "0.8908"),
        "results/README.md.*0.8908",
    ),
    "a metric on a card": (
        "results/weights/hippocampus.md",
        lambda text: re.sub(r"(dice_anterior \| 0\.)\d", r"\g<1>7", text),
        "hippocampus.md, line.*dice_anterior",
    ),
    "what the card was made from": (
        "results/weights/bccd.json",
        lambda text: re.sub(r'("map50": 0\.)\d', r"\g<1>8", text),
        "bccd.md, line.*map50",
    ),
    "a run of an experiment in a table": (
        "results/isic2017.jsonl",
        raised("jaccard", "control", 3),
        "README.md.*paired",
    ),
    "a metric that the README does not show": (
        "results/bccd.jsonl",
        raised("ap50_RBC", "YOLOv3", 2),
        "results/README.md.*ap50_RBC",
    ),
    "the headline of chapter 03": (
        "notebooks/source/03_channel_attention.md",
        one_digit_off("paired(channel_attention, ECA, auroc)"),
        "03_channel_attention.md.*should be.*ECA",
    ),
    "the headline of chapter 06": (
        "notebooks/source/06_attention_unet.md",
        swapped("rises by 0.007 ±", "rises by 0.017 ±"),
        r"06_attention_unet.md.*0.017",
    ),
    "the headline of chapter 07": (
        "notebooks/source/07_senet.md",
        one_digit_off("mean(pneumonia, control, auroc)"),
        "07_senet.md.*should be.*pneumonia, control",
    ),
    "the headline of chapter 08": (
        "notebooks/source/08_yolo.md",
        one_digit_off("paired(bccd, attention, map50_one_view)"),
        "08_yolo.md.*should be.*bccd, attention, map50",
    ),
    "a number word": (
        "README.md",
        swapped("These runs cannot", "Of six<!-- 2 + 3 --> cannot"),
        "README.md.*'six' should be 'five'",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_number_is_noticed_and_named(course, name):
    file, change, said = MUTATIONS[name]
    before = set(ties.check())
    path = course / file
    old = path.read_text(encoding="utf-8")
    path.write_text(change(old), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != old
    new = set(ties.check()) - before
    assert any(re.search(said, problem) for problem in new), new


def test_any_line_of_the_ledger_moves_something_that_is_shown(course):
    """Each metric of each run, raised by .05."""

    path = course / "results" / "README.md"
    shown = path.read_text(encoding="utf-8")
    assert readme_tables.all_metrics(shown) == shown
    for file in sorted((course / "results").glob("*.jsonl")):
        old = file.read_text(encoding="utf-8")
        for run in map(json.loads, old.splitlines()):
            for metric in set(run["metrics"]) - {"core_seconds", "best_epoch"}:
                before = ledger.in_words(ledger.values(file.stem, run["arm"], metric).values())
                file.write_text(raised(metric, run["arm"], run["seed"])(old), encoding="utf-8")
                after = ledger.in_words(ledger.values(file.stem, run["arm"], metric).values())
                assert before != after and before in shown, (file.stem, run["arm"], metric)
        file.write_text(old, encoding="utf-8")


def test_stale_numbers_are_renewed_as_they_are_written(course):
    text = "It is .027 ± .1<!-- paired(isic2017, attention, jaccard) -->, in {}<!-- 2 + 1 --> of"
    mean, half = ledger.mean_interval(ledger.paired("isic2017", "attention", "control", "jaccard"))
    new, problems = ties.renewed(text.format("Five"))
    assert f"{mean:.3f}"[1:] + " ± " + f"{half:.1f}"[1:] + "<!--" in new and "Three<!--" in new
    assert len(problems) == 2 and problems[0].startswith("line 1: '.027 ± .1' should be")
    assert ties.renewed(new)[1] == []
    for shown, value, right in (
        ("+0.5", 0.25, "+0.2"), ("12%", 0.257, "26%"), ("1,234", 2345.2, "2,345"),
        ("0.012", 0.0125, "0.012"), ("0.013", 0.0125, "0.013"), ("-.5", -0.75, "-.8"),
    ):  # fmt: skip
        assert ties._like(shown, value) == right


def test_a_tie_means_the_metric_that_it_names():
    for metric in ("map50", "map50_one_view"):
        values = ledger.values("bccd", "attention", metric).values()
        assert ties.mean("bccd", "attention", metric) == ledger.mean_interval(values)[0]


def test_what_cannot_be_computed_is_said_and_kept():
    for code, said in (("mean(isic2017, attention, jacard)", "should be"), ("nothing", "computed")):
        text = f"It is 0.5<!-- {code} -->."
        problems = ties.renewed(text)[1]
        assert problems and (said in problems[0]), problems
    text = "It is **0.5** <!-- mean(isic2017, attention, jaccard) -->."
    assert "no number stands right before" in ties.renewed(text)[1][0]


def test_readers_see_the_number_alone(tmp_path):
    text = "A\n4.5<!-- output(x) -->, -0.1 ± 0.2%<!-- a\n - b --> and <!-- a note --> stay."
    assert chapters._TIE.sub("", text) == "A\n4.5, -0.1 ± 0.2% and <!-- a note --> stay."
    for name in chapters.names():
        for cell in chapters.assemble(name).cells:
            assert "<!-- " not in cell.source + str(cell.metadata.get("alt"))


def test_published_scores_typed_in_code_are_in_the_table():
    """A comment cannot stand in a text that a cell prints."""
    scores = set(re.findall(r"0\.\d+", (ROOT / "results" / "published.csv").read_text("utf-8")))
    typed = []
    for path in (ROOT / "notebooks" / "source").glob("*.md"):
        for line in re.findall(r'(?:published|words) ?= ?f?"(.*)"', path.read_text("utf-8")):
            typed += re.findall(r"0\.\d+", line)
    assert len(typed) >= 4 and set(typed) <= scores
