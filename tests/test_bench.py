"""`course bench attention`: counts of memory and bytes, the record, the table. No test of speed."""

import itertools
import json
import math
import sys

import bench
import pytest
import torch
from torch import nn

from course_utils import attention, cli
from course_utils.runtime import ROOT

CPU = torch.device("cpu")


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Small features, results in a folder of their own; the test process keeps its allocator."""
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    monkeypatch.setattr(bench, "SIZES", ((16, 6, 5), (32, 3, 3)))
    monkeypatch.setattr(bench, "BATCH", 4)
    monkeypatch.setattr(bench, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(bench, "copy_speed", lambda device: 1e10)
    return tmp_path


def test_the_command_records_every_mechanism_and_writes_the_table(tiny, capsys):
    page = tiny / "README.md"
    page.write_text(f"before\n{bench.MARKS[0]}old\n{bench.MARKS[1]}\nafter\n")
    assert cli.main(["bench", "attention", "--seconds", "0"]) == 0
    record = json.loads((tiny / "bench_attention.json").read_text())
    assert len(record["rows"]) == 2 * len(bench.MECHANISMS)
    assert record["missing"] == [] and {"torch", "timm", "monai"} <= set(record["versions"])
    assert record["device"] and record["threads"] == torch.get_num_threads() and record["revision"]
    for row in record["rows"]:
        assert list(row["peak_bytes"]) == ["ours", *bench.MECHANISMS[row["mechanism"]].peers]
        numbers = [row["forward_bytes"], row["share_of_copy"], *row["peak_bytes"].values()]
        for part in (row["forward"], row["both"]):
            assert part["rounds"] >= 5
            numbers += [part["seconds"], *itertools.chain(*part["ratios"].values())]
        assert all(math.isfinite(number) and number > 0 for number in numbers), row
    text = page.read_text()
    assert text == f"before\n{bench.MARKS[0]}{bench.markdown()}{bench.MARKS[1]}\nafter\n"
    assert "| CBAM | 4x16x6x5 |" in text and bench.markdown() in capsys.readouterr().out


def test_a_missing_peer_is_named_and_the_others_go_on(tiny, monkeypatch):
    for name in ("timm", "timm.layers", "timm.layers.cbam"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it raises ImportError
    monkeypatch.setattr(bench, "SIZES", ((16, 4, 4),))
    record = bench.attention(0)
    rows = {row["mechanism"]: row for row in record["rows"]}
    assert record["missing"] == ["timm"] and "timm was not installed" in bench.markdown()
    assert set(rows["SqueezeExcitation"]["forward"]["ratios"]) == {"torchvision", "MONAI"}
    assert rows["ECA"]["both"]["ratios"] == {} and "no peer" in bench.markdown()


@pytest.mark.parametrize("name", ["SqueezeExcitation", "ECA", "CBAM", "AttentionGate"])
def test_ours_and_the_peers_are_of_one_size(name):
    mechanism = bench.MECHANISMS[name]
    for channels in (64, 128, 256, 512):

        def parameters(build, channels=channels):
            return sum(parameter.numel() for parameter in build(channels).parameters())

        for peer in mechanism.peers.values():
            assert parameters(peer) == parameters(mechanism.ours)


def test_peak_bytes_of_known_operations():
    x = torch.ones(1000)
    assert bench.peak_bytes(lambda: x * x, CPU) == 4000
    assert 4000 <= bench.peak_bytes(lambda: x * 2, CPU) < 4050  # the 2 becomes a tensor as well
    assert bench.peak_bytes(lambda: x * x + x, CPU) == 8000  # the product lives until the sum does
    assert bench.peak_bytes(lambda: [x * x for _ in range(3)], CPU) == 12000
    assert bench.peak_bytes(lambda: x.mul_(x), CPU) == 0


def test_moved_bytes_by_hand():
    n, c, h, w = 2, 8, 3, 5
    features, one, pairs = n * c * h * w, n * h * w, n * (h * w) ** 2
    assert bench.moved_bytes("SqueezeExcitation", n, c, h * w) == 4 * 3 * features
    assert bench.moved_bytes("ECA", n, c, h * w) == 4 * 3 * features
    cbam = 2 * 4 * features + (2 + 4 + 3 + 2 + 2 + 1) * one
    assert bench.moved_bytes("CBAM", n, c, h * w) == 4 * cbam
    gate = 4 * features + (2 + 4 + 3 + 2 + 1) * features // 2 + (1 + 2 + 2 + 1) * one
    assert bench.moved_bytes("AttentionGate", n, c, h * w) == 4 * gate
    product = 4 * features // 2 + (1 + 2 + 2 + 1) * pairs
    assert bench.moved_bytes("scaled_dot_product_attention", n, c, h * w) == 4 * product


def test_rounds_take_turns_and_the_first_two_are_not_counted():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    times = bench.interleaved(calls, 0, CPU)
    assert "".join(order[:12]) == "abcbcacababc" and len(order) == 21
    assert all(len(found) == 5 and min(found) >= 0 for found in times.values())


def test_a_step_goes_forward_without_gradients_or_backward_to_everything():
    seen = []

    class Watched(nn.Linear):
        def forward(self, x):
            out = super().forward(x)
            if out.requires_grad:
                out.register_hook(seen.append)
            seen.append((self.training, torch.is_grad_enabled()))
            return out

    for backward in (False, True):
        run = bench.step(Watched(3, 2), (torch.randn(4, 3),), backward)
        seen.clear()
        run()
        assert seen[0] == (backward, backward) and len(seen) == 1 + backward


def test_what_is_slower_is_named_except_where_no_speed_is_asked():
    part = {"ratios": {"a": [0.8, 0.94, 1.0], "b": [0.9, 0.96, 1.0]}}
    row = {"mechanism": "ECA", "size": [1, 2, 3, 4], "forward": part, "both": {"ratios": {}}}
    assert bench.slower([row, row | {"mechanism": bench.FREE}]) == [
        "ECA [1, 2, 3, 4] forward: a 0.94"
    ]


@pytest.mark.filterwarnings("ignore:.*attention|.*fused:UserWarning")
def test_self_attention_feeds_the_fused_kernel():
    from torch.nn.attention import SDPBackend, sdpa_kernel

    block = attention.SelfAttention2d(8, heads=2)
    with torch.no_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # else: no available kernel
        block(torch.randn(2, 8, 4, 5))


def test_the_page_shows_the_record(monkeypatch):
    monkeypatch.delenv("COURSE_RESULTS", raising=False)
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    assert bench.readme(text) == text, "run: course bench attention"
