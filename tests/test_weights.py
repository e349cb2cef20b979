"""Stored weights: what was recorded comes back, says what it is, and errors say what to do."""

import hashlib
import json

import cards
import pytest
import torch
from safetensors.torch import load_file, save_file

from course_utils import cli, experiments, ledger, runtime, weights
from course_utils.datasets import load
from course_utils.runtime import ROOT
from course_utils.tasks import pneumonia


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """A run of a small network, recorded as if on real data."""
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("COURSE_DATA", "phantom")
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    monkeypatch.setattr(weights, "PROFILE", "smoke")
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    experiments.run_all("first_model", ["attention"], seeds=1)
    path = tmp_path / "results" / "first_model.jsonl"
    run = json.loads(path.read_text()) | {"source": "mirror"}
    path.write_text(json.dumps(run) + "\n")
    return run


def test_stored_weights_are_those_of_the_recorded_run(recorded):
    cards.publish("first_model")
    model = weights.from_pretrained("first_model")
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    report = experiments.get("first_model").report(model, load("pneumonia"))
    for name in ("auroc", "accuracy"):  # half precision moves a logit by about a thousandth
        assert report[name] == pytest.approx(recorded["metrics"][name], abs=0.005)
    card = (ledger.folder() / "weights" / "first_model.md").read_text()
    for word in ("PneumoniaMNIST", "CC BY 4.0", "seed 0", "auroc", "Limits", recorded["device"]):
        assert word in card
    table = card.split("| metric, on test |")[1].split("Limits")[0]
    assert "| auroc |" in table and "best_epoch" not in table and "best_epoch" in card
    # The card tells what the stored file scores, not what the run did before it was halved.
    measured = ledger.measured("first_model")
    assert measured["metrics"] == report and f"| auroc | {report['auroc']:.4f} |" in card
    low, high = measured["cases"]["accuracy"]
    assert low < report["accuracy"] < high
    assert (ledger.folder() / "weights" / "first_model.safetensors").stat().st_size < 1e6


def test_a_card_is_renewed_from_the_stored_file(recorded, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_wrong_course", lambda root, here: "")  # the root is a trial's
    cards.publish("first_model")
    folder = ledger.folder() / "weights"
    before = (folder / "first_model.md").read_text()
    broken = {
        k: torch.zeros_like(v) for k, v in load_file(folder / "first_model.safetensors").items()
    }
    save_file(broken, folder / "first_model.safetensors")
    assert cli.main(["weights", "first_model", "--card"]) == 0
    assert (folder / "first_model.md").read_text() != before
    assert ledger.measured("first_model")["metrics"]["auroc"] == 0.5
    path = ledger.folder() / "first_model.jsonl"
    path.write_text(path.read_text().replace(recorded["data_sha256"], "f" * 64))
    assert cli.main(["weights", "first_model", "--card"]) == 1
    assert "on other data" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "results").glob("weights/*.json")))
def test_the_measured_file_is_the_stored_one_and_scores_as_its_run(name):
    measured = ledger.measured(name)
    path = ledger.folder() / "weights" / f"{name}.safetensors"
    assert measured["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    run = next(
        run
        for run in ledger.select(name)
        if (run["arm"], run["seed"]) == (experiments.get(name).main, weights.SEED)
    )
    for metric, value in measured["metrics"].items():
        if metric in run["metrics"] and metric != "val_threshold":
            assert value == pytest.approx(run["metrics"][metric], abs=0.012), metric
    assert set(experiments.get(name).shown) <= set(measured["cases"])


def test_what_is_not_stored_is_named(recorded, monkeypatch):
    with pytest.raises(ValueError, match="none yet"):
        weights.from_pretrained("first_model")
    with pytest.raises(ValueError, match="No experiment 'lungs'"):
        weights.from_pretrained("lungs")
    experiments.weights_file("first_model", "attention", 0, "smoke").unlink()
    with pytest.raises(ValueError, match="is not there"):
        cards.publish("first_model")


def test_damaged_weights_of_a_run_are_not_published(recorded):
    path = experiments.weights_file("first_model", "attention", 0, "smoke")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"is damaged .*course experiment first_model --seeds 1"):
        cards.publish("first_model")
    assert not (ledger.folder() / "weights").exists()


def test_a_network_of_another_size_is_refused(recorded, monkeypatch):
    cards.publish("first_model")
    wider = pneumonia.FIRST_MODEL_PROFILES["smoke"] | {"size": {"width": 32, "blocks": (1, 1, 1)}}
    monkeypatch.setitem(pneumonia.FIRST_MODEL_PROFILES, "smoke", wider)
    with pytest.raises(ValueError, match="another network"):
        weights.from_pretrained("first_model")
