"""`course bench train`: equal work on both sides, the record, the table. No test of speed."""

import json
import math

import bench_train
import pytest
import torch

from course_utils import cli, experiments
from course_utils.datasets import load
from course_utils.runtime import ROOT


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    monkeypatch.setenv("COURSE_DATA", "phantom")
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    monkeypatch.setattr(bench_train, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # workers take a second to start
    return tmp_path


def test_the_command_records_and_writes_the_tables(small, monkeypatch, capsys):
    monkeypatch.setattr(bench_train, "PIPELINES", ("first_model",))
    name = "UNet with AttentionGate"
    monkeypatch.setattr(bench_train, "NETWORKS", {name: bench_train.NETWORKS[name]})
    page = small / "README.md"
    page.write_text(f"before\n{bench_train.MARKS[0]}old\n{bench_train.MARKS[1]}\nafter\n")
    assert cli.main(["bench", "train", "--seconds", "0"]) == 0
    record = json.loads((small / "bench_train.json").read_text())
    (pipeline,), (network,) = record["pipelines"], record["networks"]
    assert list(pipeline["peers"]) == ["MONAI, 0 workers", "MONAI, 1 workers"]
    assert set(pipeline["parts"]) == {"batches", "forward", "backward", "optimiser"}
    assert sum(pipeline["parts"].values()) == pytest.approx(1, abs=0.01)
    assert list(pipeline["batches_alone"]) == list(pipeline["ratios"]) == list(pipeline["peers"])
    ratios = [*pipeline["ratios"].values(), *pipeline["batches_alone"].values(), network["ratio"]]
    numbers = [pipeline["ours"], *network["seconds"].values()]
    numbers += [number for ratio in ratios for number in ratio]
    assert all(math.isfinite(number) and number > 0 for number in numbers)
    text = page.read_text()
    tables = bench_train.markdown()
    assert text == f"before\n{bench_train.MARKS[0]}{tables}{bench_train.MARKS[1]}\nafter\n"
    assert "MONAI AttentionUnet" in tables and tables in capsys.readouterr().out


@pytest.mark.parametrize("name", list(bench_train.NETWORKS))
def test_networks_do_the_same_work(name):
    """Within 10% of the operations, and the loss of each reaches its first layer."""
    ours, _, peer, x, loss = bench_train.NETWORKS[name]()
    counts = [bench_train.operations(model, x[:1]) for model in (ours, peer)]
    assert counts[0] == pytest.approx(counts[1], rel=0.1)
    for model in (ours, peer):
        loss(model.train()(x)).backward()
        assert next(model.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize("name", bench_train.PIPELINES)
def test_both_pipelines_hand_out_alike_batches(small, name):
    """Shapes, number formats and the spread of the values; each image changed."""
    experiment = experiments.get(name)
    x, y = experiment.training_images(load(experiment.dataset))
    torch.manual_seed(0)
    n = min(len(x), 256)
    own = next(bench_train.own_batches(experiment.augment, x, y, n, n, {}))
    peer = next(bench_train.monai_batches(name, x, y, n, n, 0))
    for a, b in zip(own, peer, strict=True):
        assert a.shape == b.shape
        assert a.float().mean().item() == pytest.approx(b.float().mean().item(), abs=0.05)
        assert a.float().std().item() == pytest.approx(b.float().std().item(), rel=0.1)
    assert own[0].dtype == peer[0].dtype == torch.float32


def test_the_table_in_the_results_is_the_recorded_one():
    page = (ROOT / "results" / "README.md").read_text()
    assert bench_train.readme(page) == page


def test_the_page_shows_the_record():
    page = (ROOT / "results" / "README.md").read_text("utf-8")
    assert bench_train.readme(page) == page
