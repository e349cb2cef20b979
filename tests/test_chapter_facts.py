"""Facts that the chapters state, beside those that their exercises rest on."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import ledger, losses, maps
from course_utils import yolo as detector
from course_utils.attention import AttentionGate, SpatialAttention, SqueezeExcitation
from course_utils.datasets import load
from course_utils.datasets.isic2017 import lesions
from course_utils.runtime import ROOT
from course_utils.senet import ResidualBlock
from course_utils.unet import UNet

# Chapter 03 ------------------------------------------------------------------------------------


def test_one_hidden_unit_makes_all_gates_functions_of_one_number():
    torch.manual_seed(0)
    gates = SqueezeExcitation(16, 16).weights(torch.randn(50, 16, 3, 3))[:, :, 0, 0]
    logits = torch.logit(gates.double())
    assert torch.linalg.matrix_rank(logits - logits.mean(0), rtol=1e-4) == 1


# Chapter 04 ------------------------------------------------------------------------------------


def test_a_gate_before_the_addition_lets_the_shortcut_pass():
    block = ResidualBlock(4, 4, attention=lambda channels: SpatialAttention(3)).eval()
    block.attention.conv.bias.data.fill_(-50)
    x = torch.rand(2, 4, 6, 6)
    torch.testing.assert_close(block(x), x)
    assert block.attention(block(x)).abs().max() < 1e-15


def test_a_norm_puts_about_half_of_the_places_above_one_half():
    for seed in range(8):
        torch.manual_seed(seed)
        gate = SpatialAttention(7, norm=nn.BatchNorm2d)
        weights = gate.weights(F.relu(torch.randn(8, 16, 24, 24)))
        assert 0.4 < (weights > 0.5).float().mean() < 0.6


def test_the_map_does_not_depend_on_the_layers_behind_it():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), SpatialAttention(3), nn.Conv2d(4, 2, 3), nn.Flatten())
    x = torch.rand(2, 1, 8, 8)
    before, out = maps.attention_maps(net, x, SpatialAttention)["1"], net(x)
    net[2].reset_parameters()
    assert torch.equal(maps.attention_maps(net, x, SpatialAttention)["1"], before)
    assert not torch.allclose(net(x), out)


def test_twins_differ_in_the_lesion_only():
    x, masks, y = lesions(40, 64, seed=4, prevalence=0.5)
    twins, no_masks, no_labels = lesions(40, 64, seed=4, prevalence=0.0)
    assert not no_labels.any() and not no_masks.any() and 5 < y.sum() < 35
    assert torch.equal(x[y == 0], twins[y == 0]) and not masks[y == 0].any()
    changed = (x.int() - twins.int()).abs()[:, 0]
    assert (changed[y == 1][masks[y == 1] == 1] > 0).float().mean() > 0.9
    near = F.max_pool2d(masks[:, None].float(), 9, 1, 4)[:, 0]
    assert changed[near == 0].max() <= 1  # the soft border of the lesion, rounded


# Chapter 05 ------------------------------------------------------------------------------------


def test_the_object_gets_at_least_half_of_the_dice_gradient():
    for logit in (-6.0, -2.0, 0.0, 3.0):
        for size in (1, 40, 900):
            z = torch.full((1000,), logit, dtype=torch.float64, requires_grad=True)
            t = (torch.arange(1000) < size).double()
            p = z.sigmoid()
            (1 - 2 * (p * t).sum() / (p.sum() + t.sum())).backward()
            assert z.grad[:size].abs().sum() >= z.grad[size:].abs().sum()


def test_the_loss_of_the_course_pools_over_the_batch():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 3, 4, 5), torch.randint(0, 3, (3, 4, 5))
    p, t = logits.softmax(1), F.one_hot(labels, 3).movedim(-1, 1)
    both, areas = ((p * t).sum((0, 2, 3))[1:], (p + t).sum((0, 2, 3))[1:])
    expected = 1 - ((2 * both + 1e-5) / (areas + 1e-5)).mean() + F.cross_entropy(logits, labels)
    torch.testing.assert_close(losses.dice_and_cross_entropy(labels)(logits, labels), expected)


def test_published_figures_of_one_data_set_have_no_empty_columns():
    pneumonia, hippocampus = ledger.published("pneumonia"), ledger.published("hippocampus")
    assert list(pneumonia) == ["system", "auroc", "accuracy", "source", "standing"]
    assert list(hippocampus) == ["system", "dice_anterior", "dice_posterior", "source", "standing"]
    assert not hippocampus.isna().any(axis=None) and len(pneumonia) == 12
    assert set(hippocampus["standing"]) <= {"read there", "second hand"}
    assert "fold 0" in hippocampus["system"][0], "our fold is the first row, which chapters show"


# Chapter 06 ------------------------------------------------------------------------------------


def test_what_the_gates_of_the_chapter_add():
    def numbers(**gate):
        unet = UNet(in_channels=3, outputs=3, width=16, levels=5, **gate)
        return sum(p.numel() for p in unet.parameters())

    plain = numbers(gate=None)
    assert 0 < numbers(gate=AttentionGate) / plain - 1 < 0.02
    authors = partial(AttentionGate, authors=True, norm=nn.BatchNorm2d)
    assert numbers(gate=authors, gate_finest=False) / plain - 1 > 0.02


def test_monais_unet_is_far_smaller_than_its_attention_unet():
    from monai.networks import nets

    shape = {"channels": (16, 32, 64, 128, 256), "strides": (2, 2, 2, 2)}
    plain, gated = (
        sum(p.numel() for p in kind(2, 3, 3, **shape).parameters())
        for kind in (nets.UNet, nets.AttentionUnet)
    )
    assert gated > 2.5 * plain


def test_published_pairs_are_complete_and_marked():
    table = ledger.published("attention_unet")
    assert len(table) == 5 and not table[["control", "attention"]].isna().any(axis=None)
    assert (table["standing"] == "read there").all()
    wins = table["transformer"] > table[["control", "attention"]].max(axis=1)
    assert [system.split(",")[0] for system in table["system"][wins]] == ["Synapse", "BUSI"]
    assert ledger.published("isic2017")["source"].str.contains("600 test images").all()


def test_no_published_figure_is_from_memory():
    text = (ROOT / "results" / "published.csv").read_text()
    assert "unverified" not in text and "memory" not in text and "GPU-hours" not in text


# Chapter 07 ------------------------------------------------------------------------------------


def test_a_weighted_loss_trains_for_equal_classes():
    """The best constant answer under the weight N0 / N1 is 0.5 at any prevalence."""
    for positive in (1, 3, 7):
        labels = torch.tensor([1.0] * positive + [0.0] * 2)
        z = torch.zeros((), requires_grad=True)
        weight = torch.tensor(2 / positive)
        loss = F.binary_cross_entropy_with_logits(z.expand(len(labels)), labels, pos_weight=weight)
        loss.backward()
        assert z.grad.item() == pytest.approx(0, abs=1e-6)


# Chapter 08 ------------------------------------------------------------------------------------


def test_most_anchors_of_all_boxes_together_serve_red_cells():
    data = load("bccd")
    if data.synthetic:
        pytest.skip("the real set cannot be reached")
    boxes = data.train.y.clone()
    boxes[:, :, 1:] *= 320 / data.train.x.shape[3]  # as the detector sees them
    rows = boxes[boxes[:, :, 0] >= 0]
    sizes, kind = rows[:, 3:] - rows[:, 1:3], rows[:, 0]
    served = {}
    for name, anchors in (
        ("together", detector.kmeans_anchors(sizes, 9)),
        ("by class", detector.anchors_by_class(boxes, (4, 3, 2))),
    ):
        nearest = detector.shape_iou(sizes, anchors).argmax(1)
        served[name] = sum(kind[nearest == k].mode().values.item() == 0 for k in range(9))
    assert served["together"] >= 7 > served["by class"]


def test_published_figures_name_a_source_and_show_a_spread():
    table = ledger.published("bccd")
    assert (table["map50"] > 0.8).all() and table["source"].str.len().min() > 5
    assert table.set_index("system")["map50"]["YOLOv7"] == 0.896
    assert set(table["standing"]) == {"read there", "second hand"}
