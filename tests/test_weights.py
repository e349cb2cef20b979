"""Stored weights: what was recorded comes back, says what it is, and errors say what to do."""

import json

import pytest
import torch

from course_utils import experiments, ledger, runtime, weights
from course_utils.datasets import load


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """A run of a small network, recorded as if on real data."""
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("COURSE_DATA", "phantom")
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    monkeypatch.setattr(weights, "PROFILE", "smoke")
    experiments.run_all("first_model", ["attention"], seeds=1, profile="smoke")
    path = tmp_path / "results" / "first_model.jsonl"
    run = json.loads(path.read_text()) | {"source": "mirror"}
    path.write_text(json.dumps(run) + "\n")
    return run


def test_stored_weights_are_those_of_the_recorded_run(recorded):
    weights.publish("first_model")
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
    assert (ledger.folder() / "weights" / "first_model.safetensors").stat().st_size < 1e6


def test_what_is_not_stored_is_named(recorded, monkeypatch):
    with pytest.raises(ValueError, match="none yet"):
        weights.from_pretrained("first_model")
    with pytest.raises(ValueError, match="No experiment 'lungs'"):
        weights.from_pretrained("lungs")
    experiments.weights_file("first_model", "attention", 0, "smoke").unlink()
    with pytest.raises(ValueError, match="is not there"):
        weights.publish("first_model")


def test_a_network_of_another_size_is_refused(recorded, monkeypatch):
    weights.publish("first_model")
    wider = experiments.FIRST_MODEL_PROFILES["smoke"] | {"size": {"width": 32, "blocks": (1, 1, 1)}}
    monkeypatch.setitem(experiments.FIRST_MODEL_PROFILES, "smoke", wider)
    with pytest.raises(ValueError, match="another network"):
        weights.from_pretrained("first_model")
