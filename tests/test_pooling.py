"""Pooling: against plain loops and MONAI, with masks; and bags whose images stay in their split."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from course_utils import experiments, training
from course_utils.datasets import bccd, pneumonia
from course_utils.pooling import (
    AttentionPooling,
    BagClassifier,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
)
from course_utils.tasks import bags, smears

BUILD = {
    "mean": MeanPooling,
    "maximum": MaxPooling,
    "log-sum-exp": lambda: LogSumExpPooling(2.0),
    "attention": lambda: AttentionPooling(3, 5, gated=False),
    "gated attention": lambda: AttentionPooling(3, 5),
}


def filled(sizes=(4, 1, 6), channels=3, seed=0):
    """Bags of these sizes, filled up to the largest with NaN; and the mask."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.full((len(sizes), max(sizes), channels), math.nan)
    mask = torch.zeros(x.shape[:2], dtype=torch.bool)
    for i, n in enumerate(sizes):
        x[i, :n], mask[i, :n] = torch.randn(n, channels, generator=draw), True
    return x, mask


def by_hand(pool, bag):
    """One bag (n, C) in plain Python."""
    rows = bag.tolist()
    columns = list(zip(*rows, strict=True))
    if isinstance(pool, MeanPooling):
        return [sum(column) / len(rows) for column in columns]
    if isinstance(pool, MaxPooling):
        return [max(column) for column in columns]
    if isinstance(pool, LogSumExpPooling):
        r = pool.sharpness
        return [math.log(sum(math.exp(r * v) for v in c) / len(c)) / r for c in columns]
    v, scores = pool.tanh[0], []
    for row in rows:
        hidden = [
            math.tanh(sum(w * h for w, h in zip(line, row, strict=True)) + b)
            for line, b in zip(v.weight.tolist(), v.bias.tolist(), strict=True)
        ]
        if pool.gate is not None:
            u = pool.gate[0]
            for i, (line, b) in enumerate(zip(u.weight.tolist(), u.bias.tolist(), strict=True)):
                z = sum(w * h for w, h in zip(line, row, strict=True)) + b
                hidden[i] *= 1 / (1 + math.exp(-z))
        scores.append(
            sum(w * h for w, h in zip(pool.score.weight[0].tolist(), hidden, strict=True))
        )
    total = sum(math.exp(s) for s in scores)
    shares = [math.exp(s) / total for s in scores]
    return [sum(a * v for a, v in zip(shares, column, strict=True)) for column in columns]


@pytest.mark.parametrize("name", BUILD)
def test_each_pooling_is_that_of_a_plain_loop_whatever_fills_up(name):
    torch.manual_seed(1)
    pool, (x, mask) = BUILD[name](), filled()
    found = pool(x, mask)
    expected = [by_hand(pool, bag[real]) for bag, real in zip(x, mask, strict=True)]
    assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    for i, real in enumerate(mask):  # a bag alone, without filling, gives the same
        assert_close(pool(x[i, real][None])[0], found[i], rtol=1e-5, atol=1e-6)
    found.square().sum().backward() if found.requires_grad else None
    assert all(p.grad.isfinite().all() for p in pool.parameters())


@pytest.mark.parametrize("name", BUILD)
def test_the_order_of_a_bag_does_not_matter(name):
    torch.manual_seed(2)
    pool, x = BUILD[name](), torch.randn(2, 7, 3)
    assert_close(pool(x[:, torch.randperm(7)]), pool(x))


def test_attention_is_that_of_monai():
    from monai.networks.nets import MILModel

    torch.manual_seed(0)
    theirs = MILModel(1, mil_mode="att", pretrained=False, backbone="resnet18").eval()
    ours = AttentionPooling(512, 2048, gated=False)
    ours.tanh[0].load_state_dict(theirs.attention[0].state_dict())
    ours.score.weight.data.copy_(theirs.attention[2].weight.data)
    x = torch.randn(3, 6, 512)
    logits = theirs.myfc(ours(x))
    assert_close(logits, theirs.calc_head(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gated", [True, False])
def test_weights_are_shares_of_the_bag_and_filling_has_none(gated):
    pool, (x, mask) = AttentionPooling(3, 5, gated=gated), filled()
    weights = pool.weights(x, mask)
    assert_close(weights.sum(1), torch.ones(3))
    assert (weights[~mask] == 0).all() and (weights[mask] > 0).all()
    with torch.no_grad():
        pool.score.weight *= 1e6  # one takes all, and nothing overflows
    assert pool.weights(x, mask).isfinite().all()


def test_log_sum_exp_goes_from_the_mean_to_the_maximum():
    x = torch.randn(4, 9, 2)
    assert_close(LogSumExpPooling(1e-3)(x), x.mean(1), atol=2e-3, rtol=0)
    assert_close(LogSumExpPooling(1e3)(x), x.amax(1), atol=5e-3, rtol=0)
    assert LogSumExpPooling()(1000 * x).isfinite().all()


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize(
    ("x", "mask", "said"),
    [
        (torch.randn(2, 4, 3), torch.tensor([[True] * 4, [False] * 4]), "bag 1 is empty"),
        (torch.randn(2, 0, 3), None, "bag 0 is empty"),
        (torch.randn(4, 3), None, r"Expected \(B, n, "),
        (torch.randn(2, 4, 3), torch.ones(2, 4), "torch.bool"),
        (torch.randn(2, 4, 3), torch.ones(2, 3, dtype=torch.bool), r"\(2, 4\)"),
    ],
)
def test_empty_bags_and_other_forms_are_refused(name, x, mask, said):
    with pytest.raises(ValueError, match=said):
        BUILD[name]()(x, mask)


def test_sizes_are_refused():
    with pytest.raises(ValueError, match="expected at least one"):
        AttentionPooling(3, 0)
    with pytest.raises(ValueError, match="above 0"):
        LogSumExpPooling(0.0)
    with pytest.raises(ValueError, match=r"Expected \(B, n, 3\)"):
        AttentionPooling(3)(torch.randn(2, 4, 5))


@pytest.mark.parametrize("name", bags.POOLINGS)
def test_arms_share_their_start_and_the_second_logit_is_the_highest_single_one(name):
    torch.manual_seed(3)
    reference = bags.XrayBags(bags.POOLINGS["mean"], 4)
    torch.manual_seed(3)
    network = bags.XrayBags(bags.POOLINGS[name], 4).eval()
    own = network.state_dict()
    shared = [key for key in reference.state_dict() if key in own]
    assert any(key.startswith("classifier.score") for key in shared)
    assert all(torch.equal(own[key], reference.state_dict()[key]) for key in shared)
    h = torch.randn(5, 6, 16)
    assert_close(network.classifier(h)[:, 1], network.classifier.score(h)[..., 0].amax(1))


def test_a_bag_of_attention_has_the_weighted_mean_of_its_instances_logits():
    h, classifier = torch.randn(3, 6, 16), bags.POOLINGS["gated attention"](16)
    alone = classifier.score(h)[..., 0]
    assert_close(classifier(h)[:, 0], (classifier.map(h) * alone).sum(1))


# Bags ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def xrays():
    return pneumonia.phantom()


@pytest.mark.parametrize("n", [10, 40, 80])
def test_bags_hold_one_positive_image_or_none_and_stay_in_their_split(xrays, n):
    known = {image.numpy().tobytes(): int(y) for image, y in xrays.val}
    x, label, place = bags.drawn(xrays.val, n)
    assert x.shape == (200, n, 28, 28) and x.dtype == torch.uint8
    assert label.sum() == 100 and torch.equal(label == 1, place >= 0)
    for bag, where in zip(x, place.tolist(), strict=True):
        truth = [known[image.numpy().tobytes()] for image in bag]  # KeyError: from another split
        assert sum(truth) == (where >= 0) and (where < 0 or truth[where])
        assert n > 40 or len({image.numpy().tobytes() for image in bag}) == n
    assert len(place[place >= 0].unique()) > n / 2  # all over the bag
    again = bags.drawn(xrays.val, n)
    assert all(torch.equal(a, b) for a, b in zip((x, label, place), again, strict=True))


def test_fresh_bags_differ_from_step_to_step_and_labels_fit(xrays):
    x, y = bags.balanced(xrays.train)
    assert 2 * y.sum() == len(y)
    chosen, label, place = bags.draw(y[::3], 40, 64)
    truth = y[::3][chosen]
    assert torch.equal(truth.sum(1), label) and (truth.argmax(1) == place)[label == 1].all()
    torch.manual_seed(0)
    batch = training.as_float(x[::8]), y[::8]
    (first, _), (second, _) = bags.fresh(*batch), bags.fresh(*batch)
    assert first.shape == (64, 40, 28, 28) and not torch.equal(first, second)
    with pytest.raises(ValueError, match="Expected both"):
        bags.draw(torch.ones(9), 4, 2)


def test_an_image_in_many_bags_is_encoded_once_and_gets_one_row(xrays):
    network, x = bags.XrayBags(bags.POOLINGS["mean"], 4).eval(), training.as_float(xrays.val.x)
    seen = []
    network.encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    bag = x[torch.tensor([[0, 1, 2], [2, 1, 3]])][:, :, 0]
    features = network.features(bag)
    assert seen == [4]
    assert_close(features[0, 2], features[1, 0])
    alone = network.encoder(x[:4]).mean((2, 3))
    assert_close(features, alone[torch.tensor([[0, 1, 2], [2, 1, 3]])])


def test_pointing_counts_bags_with_a_positive_alone():
    map = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    found = bags.pointed(map, torch.tensor([0, 2, -1]))
    assert found == {"top1": 0.5, "rank": 0.75}
    assert bags.pointed(torch.ones(2, 3), torch.tensor([1, 2]))["rank"] == 0.5


def test_losses_learn_from_both_logits_or_from_one():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    label = torch.tensor([1, 0])
    one = nn.functional.binary_cross_entropy_with_logits
    both = (one(logits[:, 0], label.float()) + one(logits[:, 1], label.float())) / 2
    assert_close(bags.bag_loss(label)(logits, label), both)
    bags.own_logit_alone(label)(logits, label).backward()
    assert (logits.grad[:, 1] == 0).all() and (logits.grad[:, 0] != 0).all()


@pytest.mark.parametrize("name", ["bags", "bags_80", "bags_fixed"])
def test_a_run_learns_and_reports_both_splits(xrays, name):
    experiment = experiments.get(name)
    fitted = experiment.fit(experiment.model(profile="smoke"), xrays, profile="smoke")
    found = experiment.report(fitted.model, xrays)
    keys = {"auroc", "top1", "rank"}
    assert set(found) == keys | {f"val_{key}" for key in keys}
    assert all(0 <= value <= 1 for value in found.values())


# Smears -------------------------------------------------------------------------------------------


def test_smears_are_labelled_by_their_boxes_and_training_sees_none():
    split = bccd.phantom().val
    x, masks = smears.platelets(split)
    images, label = smears.arrays(split)
    assert x.shape[2:] == masks.shape[1:] == (240, 320) and torch.equal(x, images)
    wanted = ((split.y[:, :, 0] == 2).any(1)).long()
    assert torch.equal(label, wanted) and 0 < wanted.sum() < len(wanted)
    _, x1, y1, x2, y2 = split.y[split.y[:, :, 0] == 2][0] / 2  # of the full size
    i = (split.y[:, :, 0] == 2).nonzero()[0, 0]
    assert masks[i, int((y1 + y2) / 2), int((x1 + x2) / 2)] == 1
    assert masks[wanted == 0].sum() == 0
    changed, same = smears.augment(training.as_float(x), label)
    assert changed.shape == x.shape and torch.equal(same, label)
    assert changed.min() >= 0 and changed.max() <= 1


def test_a_map_on_the_platelets_points_at_all_of_them(monkeypatch):
    split = bccd.phantom().val
    _, masks = smears.platelets(split)
    network = experiments.get("weak_smears").model(profile="smoke")
    told = nn.functional.avg_pool2d(masks.float()[:, None], 8)[:, 0]
    monkeypatch.setattr(bags, "mapped", lambda model, x, size: told)
    found = smears.scored(network, split)
    assert found["pointing"] > 0.9 and set(found) == {"auroc", "pointing"}
    monkeypatch.setattr(bags, "mapped", lambda model, x, size: -told)
    assert smears.scored(network, split)["pointing"] < 0.1


@pytest.mark.parametrize("pool", [MeanPooling(), MaxPooling(), AttentionPooling(4)])
def test_filling_is_never_pointed_at(pool):
    torch.manual_seed(0)
    classifier, x = BagClassifier(4, pool), torch.randn(2, 5, 4)
    x[:, 3:] = 100 * classifier.score.weight.detach().sign()  # what would score highest
    mask = (torch.arange(5) < 3).expand(2, 5)
    assert (classifier.map(x, mask).argmax(1) < 3).all()
