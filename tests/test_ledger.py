"""The ledger: complete lines, honest tables, nothing synthetic among real results."""

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

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
        "settings": {"fit": {"epochs": 2}, "arm": {"loss": arm}},
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


def test_a_line_cut_short_is_named_and_swallows_no_other(results, capsys):
    path = results / "trial.jsonl"
    ledger.record(line())
    whole = path.read_bytes()
    for cut in (
        b'{"experiment": "tri',
        b'{"arm": "att',
        b'{"arm": "attention"}',
        b"\xff\x00",
        b"7",
    ):
        path.write_bytes(whole + cut)  # cut off by a full disk or a lost battery
        assert ledger.read("trial") == [line()]
        ledger.record(line(seed=1))
        capsys.readouterr()
        assert ledger.read("trial") == [line(), line(seed=1)]
        assert path.read_bytes().splitlines()[1] == cut
    ledger._tell_once.cache_clear()
    ledger.table("trial")
    said = capsys.readouterr().out
    assert said.count("trial.jsonl, line 2 is damaged") == 1, "once, not for each cell"
    assert "Delete the line; `course experiment trial` runs it again." in said


def test_a_line_that_does_not_fit_on_the_disk_leaves_the_file_as_it_was(results):
    resource = pytest.importorskip("resource", reason="Windows has no limit for sizes of files")
    path = results / "trial.jsonl"
    ledger.record(line())
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(OSError) as failure:
            ledger.record(line(seed=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure.value.filename == str(path)
    assert path.read_bytes() == before
    ledger.record(line(seed=1))
    assert ledger.read("trial") == [line(), line(seed=1)]


def test_a_line_that_does_not_fit_takes_no_other_run_with_it(results, monkeypatch):
    resource = pytest.importorskip("resource", reason="Windows has no limit for sizes of files")
    path, limits = results / "trial.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    ledger.record(line())
    other = path.read_bytes()

    def another_run(self, read=Path.read_bytes):  # ends between the look and the write
        found = read(self)
        with self.open("ab") as file:
            file.write(other)
        size = self.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))  # some of it still fits
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", another_run)
        try:
            with pytest.raises(OSError):
                ledger.record(line(seed=1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == other + other

    def another_run_behind(descriptor):
        with path.open("ab") as file:
            file.write(other)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", another_run_behind)
        with pytest.raises(OSError, match="Input/output error"):
            ledger.record(line(seed=1))
    assert path.read_bytes().endswith(other) and len(ledger.read("trial")) == 4


def test_mean_and_interval_are_those_of_student():
    mean, half = ledger.mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0
    assert half == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)  # t table, 4 degrees
    assert math.isnan(ledger.mean_interval([1.0])[1])
    assert ledger.in_words([0.5]) == "0.500 (1 seed)"
    assert ledger.in_words([]) == "not recorded"


def test_the_smallest_difference_that_could_have_been_shown_is_shown_four_times_in_five():
    """Simulated: seeds that vary by 1 around the difference that `could_show` names for them."""
    generator, unit = np.random.default_rng(0), [-1.0, -0.5, 0.0, 0.5, 1.0]
    spread = np.std(unit, ddof=1)
    paired = ledger.could_show(unit)
    draws = generator.normal(paired, spread, (20000, 5))
    shown = scipy.stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert np.mean(shown) == pytest.approx(0.8, abs=0.015)
    assert paired > ledger.mean_interval(unit)[1]  # larger than the half width
    assert ledger.could_show([x * 3 for x in unit]) == pytest.approx(3 * paired)
    assert ledger.could_show([0.1, 0.1]) == 0.0 and math.isnan(ledger.could_show([1.0]))


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
    assert [run["seed"] for run in ledger.select("trial")] == [0, 1, 0]


def test_arms_are_compared_by_seed(results):
    for seed, (ours, theirs) in enumerate([(0.9, 0.8), (0.7, 0.75)]):
        ledger.record(line(seed=seed, auroc=ours))
        ledger.record(line(seed=seed, arm="control", auroc=theirs))
    ledger.record(line(seed=7))
    assert ledger.paired("trial", "attention", "control", "auroc") == pytest.approx([0.1, -0.05])


def test_an_experiment_is_recorded_once_and_goes_on_where_it_stopped(results, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA", "phantom")
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    experiments.run_all("first_model", ["attention"], seeds=1)
    experiments.run_all("first_model", ["attention", "control"], seeds=1)
    assert "attention seed 0: recorded already" in capsys.readouterr().out
    runs = ledger.read("first_model")
    assert [(run["arm"], run["seed"]) for run in runs] == [("attention", 0), ("control", 0)]
    assert set(runs[0]) == set(ledger.KEYS)
    assert runs[0]["source"] == "phantom"
    settings = experiments.get("first_model").profiles["smoke"]
    assert runs[0]["settings"]["fit"] == settings["fit"] and runs[0]["settings"]["images"] == 512
    assert runs[0]["settings"]["arm"]["loss"] == "weighted_bce"
    assert {"auroc", "accuracy", "accuracy_at_val_threshold"} <= set(runs[0]["metrics"])
    assert runs[0]["data_sha256"] == load("pneumonia").sha256

    path = results / "first_model.jsonl"
    path.write_text(path.read_text().replace(runs[0]["data_sha256"], "f" * 64))
    with pytest.raises(ValueError, match="on other data"):
        experiments.run_all("first_model", ["attention"], seeds=2)
    assert len(ledger.read("first_model")) == 2


def test_what_is_undefined_on_the_test_set_is_left_out_of_the_run(results, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "phantom")
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    report = {"accuracy": 0.5, "auroc": math.nan}
    changed = replace(experiments.get("first_model"), report=lambda model, data: dict(report))
    monkeypatch.setitem(experiments.EXPERIMENTS, "first_model", changed)
    experiments.run_all("first_model", ["attention"], seeds=1)
    (run,) = ledger.read("first_model")
    assert "auroc" not in run["metrics"] and run["metrics"]["accuracy"] == 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "bf16-mixed"},
        {"data_sha256": "1" * 64},
        {"settings": {"fit": {"epochs": 3}, "arm": {}}},
    ],
)
def test_runs_under_different_conditions_are_no_pair(results, change):
    ledger.record(line())
    ledger.record(line(arm="control", auroc=0.8))
    assert ledger.paired("trial", "attention", "control", "auroc") == [pytest.approx(0.1)]
    ledger.record(line(seed=1))
    ledger.record(line(seed=1, arm="control", **change))
    with pytest.raises(ValueError, match=r"trial, seed 1.*not that of the arms.*course experiment"):
        ledger.paired("trial", "attention", "control", "auroc")


def test_runs_on_changed_files_are_not_recorded(monkeypatch):
    monkeypatch.delenv("COURSE_RESULTS", raising=False)
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    monkeypatch.setattr(runtime, "revision", lambda: "0123456789ab+")
    with pytest.raises(ValueError, match=r"commit your changes.*COURSE_RESULTS"):
        experiments.run_all("first_model", ["attention"], seeds=99)


def test_every_recorded_run_of_the_course_is_complete_and_of_this_table():
    """The ledger in the checkout: no phantom, no half recorded arm, one data set per profile."""
    if os.environ.get("COURSE_RESULTS"):
        pytest.skip("COURSE_RESULTS points elsewhere")
    for path in sorted((runtime.ROOT / "results").glob("*.jsonl")):
        experiment = experiments.get(path.stem)
        runs = [json.loads(text) for text in path.read_text().splitlines()]
        assert runs, path.name
        for run in runs:
            assert set(run) | {"settings"} == set(ledger.KEYS)  # the oldest lines lack settings
            assert "settings" not in run or not run["revision"].endswith("+")
            assert run["source"] in ("upstream", "mirror")
            assert run["arm"] in experiment.arms and run["dataset"] == experiment.dataset
        for profile in {run["profile"] for run in runs}:
            of_profile = [run for run in runs if run["profile"] == profile]
            pairs = [(run["arm"], run["seed"]) for run in of_profile]
            assert len(set(pairs)) == len(pairs), "a seed stands there twice"
            assert len({run["data_sha256"] for run in of_profile}) == 1
            seeds = {arm: {s for a, s in pairs if a == arm} for arm in experiment.arms}
            recorded = {frozenset(found) for found in seeds.values() if found}
            assert len(recorded) == 1, "arms differ in seeds"


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="Expected one of: first_model"):
        experiments.get("frist_model")
    with pytest.raises(ValueError, match="Expected: attention, control"):
        experiments.get("first_model").model("cbam")


def test_all_experiments_have_matched_arms():
    """Same seed: every weight that two arms share starts equal, and the control has the fewest."""
    for experiment in experiments.EXPERIMENTS.values():
        for profile in runtime.PROFILES:
            least = "control" if "control" in experiment.arms else "mean"
            control = experiment.model(least, 3, profile).state_dict()
            for arm in experiment.arms:
                weights = experiment.model(arm, 3, profile).state_dict()
                assert set(control) <= set(weights)
                for name, tensor in control.items():
                    assert tensor.equal(weights[name]), (experiment.name, arm, name)


def test_seeds_are_not_taken_for_values():
    by_seed = {0: 0.5, 1: 0.6, 2: 0.7}
    numbers = list(by_seed.values())
    assert ledger.in_words(by_seed) == ledger.in_words(numbers)
    assert ledger.could_show(by_seed) == ledger.could_show(numbers)
