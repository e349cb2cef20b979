"""The ledger: complete lines, honest tables, nothing synthetic among real results."""

import json
import math
import os

import pytest

from course_utils import experiments, ledger, runtime
from course_utils.datasets import load


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    return tmp_path


def line(seed=0, arm="attention", auroc=0.9, **changes):
    run = {
        "experiment": "trial",
        "dataset": "pneumonia",
        "arm": arm,
        "seed": seed,
        "profile": "standard",
        "source": "mirror",
        "data_sha256": "0" * 64,
        "split": "official",
        "metrics": {"auroc": auroc},
        "seconds": 1.5,
        "device": "a CPU",
        "precision": "32-true",
        "versions": {"torch": "2"},
        "revision": "unknown",
    }
    return run | changes


def test_a_run_is_one_line_and_comes_back(results):
    ledger.record(line())
    ledger.record(line(seed=1))
    assert len((results / "trial.jsonl").read_text().splitlines()) == 2
    assert ledger.read("trial") == [line(), line(seed=1)]
    assert ledger.read("never") == []


def test_incomplete_runs_and_undefined_numbers_are_refused(results):
    missing = line()
    del missing["seed"]
    with pytest.raises(ValueError, match=r"Missing: \['seed'\]"):
        ledger.record(missing)
    with pytest.raises(ValueError, match=r"Unknown: \['colour'\]"):
        ledger.record(line(colour="red"))
    with pytest.raises(ValueError, match="finite number"):
        ledger.record(line(metrics={"auroc": math.nan}))
    with pytest.raises(ValueError, match="'internet'"):
        ledger.record(line(source="internet"))
    assert not list(results.iterdir())


def test_a_line_cut_short_is_named(results):
    ledger.record(line())
    with (results / "trial.jsonl").open("a") as file:
        file.write('{"experiment": "tri')
    with pytest.raises(ValueError, match=r"trial\.jsonl, line 2"):
        ledger.read("trial")


def test_mean_and_interval_are_those_of_student():
    mean, half = ledger.mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0
    assert half == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)  # t table, 4 degrees
    assert math.isnan(ledger.mean_interval([1.0])[1])
    assert ledger.in_words([0.5]) == "0.500 (1 seed)"
    assert ledger.in_words([]) == "not recorded"


def test_phantoms_and_other_profiles_never_enter_a_table(results):
    ledger.record(line(auroc=0.9))
    ledger.record(line(seed=1, auroc=0.8))
    ledger.record(line(seed=2, auroc=0.1, source="phantom"))
    ledger.record(line(seed=3, auroc=0.2, profile="smoke"))
    assert ledger.values("trial", "attention", "auroc") == {0: 0.9, 1: 0.8}
    table = ledger.table("trial", ["auroc"])
    assert table.loc["attention", "auroc"] == ledger.in_words([0.9, 0.8])
    assert table.loc["attention", "seconds"] == "2"  # 1.5 by the clock
    ledger.record(line(arm="control", metrics={"auroc": 0.8, "core_seconds": 7.0}))
    assert ledger.table("trial", ["auroc"]).loc["control", "seconds"] == "7"
    assert [run["seed"] for run in ledger.select("trial", real=False)] == [2]


def test_arms_are_compared_by_seed(results):
    for seed, (ours, theirs) in enumerate([(0.9, 0.8), (0.7, 0.75)]):
        ledger.record(line(seed=seed, auroc=ours))
        ledger.record(line(seed=seed, arm="control", auroc=theirs))
    ledger.record(line(seed=7))
    assert ledger.paired("trial", "attention", "control", "auroc") == pytest.approx([0.1, -0.05])


def test_an_experiment_is_recorded_once_and_goes_on_where_it_stopped(results, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA", "phantom")
    experiments.run_all("first_model", ["attention"], seeds=1, profile="smoke")
    experiments.run_all("first_model", ["attention", "control"], seeds=1, profile="smoke")
    assert "attention seed 0: recorded already" in capsys.readouterr().out
    runs = ledger.read("first_model")
    assert [(run["arm"], run["seed"]) for run in runs] == [("attention", 0), ("control", 0)]
    assert set(runs[0]) == set(ledger.KEYS)
    assert runs[0]["source"] == "phantom"
    assert {"auroc", "accuracy", "accuracy_at_val_threshold"} <= set(runs[0]["metrics"])
    assert runs[0]["data_sha256"] == load("pneumonia").sha256

    path = results / "first_model.jsonl"
    path.write_text(path.read_text().replace(runs[0]["data_sha256"], "f" * 64))
    with pytest.raises(ValueError, match="on other data"):
        experiments.run_all("first_model", ["attention"], seeds=2, profile="smoke")
    assert len(ledger.read("first_model")) == 2


def test_every_recorded_run_of_the_course_is_complete_and_of_this_table():
    """The ledger in the checkout: no phantom, no half recorded arm, one data set per profile."""
    if os.environ.get("COURSE_RESULTS"):
        pytest.skip("COURSE_RESULTS points elsewhere")
    for path in sorted((runtime.ROOT / "results").glob("*.jsonl")):
        experiment = experiments.get(path.stem)
        runs = [json.loads(text) for text in path.read_text().splitlines()]
        assert runs, path.name
        for run in runs:
            assert set(run) == set(ledger.KEYS)
            assert run["source"] in ("upstream", "mirror")
            assert run["arm"] in experiment.arms and run["dataset"] == experiment.dataset
        for profile in {run["profile"] for run in runs}:
            of_profile = [run for run in runs if run["profile"] == profile]
            pairs = [(run["arm"], run["seed"]) for run in of_profile]
            assert len(set(pairs)) == len(pairs), "a seed stands there twice"
            assert len({run["data_sha256"] for run in of_profile}) == 1
            seeds = {arm: {s for a, s in pairs if a == arm} for arm in experiment.arms}
            assert len({frozenset(found) for found in seeds.values()}) == 1, "arms differ in seeds"


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="Expected one of: first_model"):
        experiments.get("frist_model")
    with pytest.raises(ValueError, match="Expected: attention, control"):
        experiments.get("first_model").model("cbam")


def test_all_experiments_have_matched_arms():
    """Same seed: every weight that two arms share starts equal, and the control has the fewest."""
    for experiment in experiments.EXPERIMENTS.values():
        for profile in runtime.PROFILES:
            control = experiment.model("control", 3, profile).state_dict()
            for arm in experiment.arms:
                weights = experiment.model(arm, 3, profile).state_dict()
                assert set(control) <= set(weights)
                for name, tensor in control.items():
                    assert tensor.equal(weights[name]), (experiment.name, arm, name)
