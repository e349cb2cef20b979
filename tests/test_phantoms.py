"""Phantoms: fast, the same for the same seed, true to their ground truth, learnable."""

import time

import pytest
import torch
from torch import nn

from course_utils.datasets import CATALOG, bccd, phantom
from course_utils.datasets.bccd import smears
from course_utils.datasets.hippocampus import volumes
from course_utils.datasets.isic2017 import lesions
from course_utils.datasets.pneumonia import xrays
from course_utils.datasets.sets import SETS

EPOCHS = 6
DRAW = (xrays, lesions, smears)


@pytest.mark.parametrize("draw", DRAW)
def test_a_thousand_images_of_64_pixels_take_less_than_two_seconds(draw):
    draw(10)
    start = time.process_time()  # other processes do not lengthen it
    draw(1000, 64)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("draw", DRAW)
def test_the_seed_decides(draw):
    a, b, c = draw(6, 32, seed=3), draw(6, 32, seed=3), draw(6, 32, seed=4)
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
    assert not torch.equal(a[0], c[0])
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draw(2, 32)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [28, 50, 128])
def test_xrays(size):
    images, masks, labels = xrays(200, size, seed=1)
    assert (images.shape, images.dtype) == ((200, 1, size, size), torch.uint8)
    assert (masks.shape, masks.dtype) == ((200, size, size), torch.uint8)
    assert (labels.shape, labels.dtype) == ((200,), torch.int64)
    assert 70 <= labels.sum() <= 130
    assert torch.equal(masks.flatten(1).amax(1).long(), labels)


def test_an_opacity_is_where_the_mask_says():
    """The same seed without opacities is the same image, but in the mask and around it."""
    with_, masks, labels = xrays(100, 64, seed=2, prevalence=1.0)
    without, empty, none = xrays(100, 64, seed=2, prevalence=0.0)
    assert labels.all()
    assert not none.any()
    assert not empty.any()
    change = with_[:, 0].int() - without[:, 0].int()
    inside = (change * masks).sum((1, 2)) / masks.sum((1, 2))
    far = change[:, 0, :].float().mean(1)  # the upper edge, above every lung
    assert (inside > 5).all()
    assert far.abs().max() < 3


@pytest.mark.parametrize("channels", [1, 3])
def test_lesions(channels):
    images, masks, labels = lesions(100, 64, seed=2, channels=channels, prevalence=1.0)
    without, empty, _ = lesions(100, 64, seed=2, channels=channels, prevalence=0.0)
    assert images.shape == (100, channels, 64, 64)
    assert masks.shape == (100, 64, 64)
    assert labels.all()
    assert not empty.any()
    change = without.int().float().mean(1) - images.int().float().mean(1)
    inside = (change * masks).sum((1, 2)) / masks.sum((1, 2))
    outside = (change * (1 - masks.float())).sum((1, 2)) / (1 - masks.float()).sum((1, 2))
    assert (inside > 10).all()
    assert outside.abs().max() < 3
    assert 0 < masks.float().mean((1, 2)).min() < masks.float().mean((1, 2)).max() < 0.6


def test_a_threshold_does_not_find_the_lesion():
    images, masks, _ = lesions(200, 64, seed=5)
    best = 0.0
    for level in range(60, 180, 10):
        found, truth = images[:, 0] < level, masks == 1
        dice = 2 * (found & truth).sum((1, 2)) / (found.sum((1, 2)) + truth.sum((1, 2)))
        best = max(best, float(dice.mean()))
    assert 0.2 < best < 0.75


@pytest.mark.parametrize("size", [64, (96, 128)])
def test_smears(size):
    height, width = (size, size) if isinstance(size, int) else size
    images, boxes = smears(100, size, seed=1)
    assert (images.shape, images.dtype) == ((100, 3, height, width), torch.uint8)
    assert (boxes.shape, boxes.dtype) == ((100, bccd.MAX_BOXES, 5), torch.float32)
    filled = boxes[:, :, 0] >= 0
    assert (filled.sum(1, keepdim=True) > torch.arange(bccd.MAX_BOXES)).equal(filled)
    rows = boxes[filled]
    counts = rows[:, 0].long().bincount(minlength=3)
    assert counts[0] > 5 * counts[1] > 0
    assert counts[2] > 0
    assert (rows[:, 1:] >= 0).all()
    assert (rows[:, [1, 3]] <= width).all()
    assert (rows[:, [2, 4]] <= height).all()
    assert (rows[:, 3] > rows[:, 1]).all()
    assert (rows[:, 4] > rows[:, 2]).all()


def test_cells_are_where_the_boxes_say():
    images, boxes = smears(100, 96, seed=1)
    green = images[:, 1].float()
    paper = green.flatten(1).quantile(0.9, dim=1)
    darker = {0: [], 1: [], 2: []}
    for i, rows in enumerate(boxes):
        for kind, x1, y1, x2, y2 in rows.tolist():
            if kind >= 0 and x2 - x1 > 3:
                cell = green[i, int(y1) : int(y2) + 1, int(x1) : int(x2) + 1]
                darker[int(kind)].append(float(paper[i] - cell.mean()))
    assert all(min(values) > 5 for values in darker.values())
    mean = {kind: sum(values) / len(values) for kind, values in darker.items()}
    assert mean[1] > mean[0]  # the stained nucleus


def test_volumes():
    part = volumes(8, seed=1)
    assert part.x.shape == (8, 1, 48, 64, 48)
    for x, y, (a, b, c) in zip(part.x, part.y, part.extra["shape"].tolist(), strict=True):
        assert y.unique().tolist() == [0, 1, 2]
        assert not y[a:].any()
        assert not y[:, b:].any()
        assert not y[:, :, c:].any()
        assert not x[0, a:].any()
        front, back = (y == 1).nonzero()[:, 1], (y == 2).nonzero()[:, 1]
        assert front.min() > back.max()
        assert x[0][y > 0].float().mean() > x[0, :a, :b, :c].float().mean() + 0.5
    assert torch.equal(part.x, volumes(8, seed=1).x)
    assert not torch.equal(part.x, volumes(8, seed=2).x)


@pytest.mark.parametrize("name", CATALOG)
def test_a_phantom_is_a_data_set(name, monkeypatch):
    monkeypatch.setattr(SETS[name], "PHANTOMS", (8, 4, 4), raising=False)
    data = phantom(name)
    assert list(data.splits) == ["train", "val", "test"]
    for part in data.splits.values():
        assert {len(rows) for rows in (part.x, part.y, *part.extra.values())} == {len(part)}
    assert data.source == "phantom"
    assert data.label == f"SYNTHETIC (phantom of {CATALOG[name].title})"
    images = torch.cat([part.x.flatten(1) for part in data.splits.values()])
    assert len(images.unique(dim=0)) == len(images)  # no image stands in two splits
    assert data.sha256 == phantom(name).sha256 != phantom(name, seed=1).sha256


def test_the_label_is_learnable_and_not_by_a_line():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    data = phantom("pneumonia")
    train, test = data.train, data.test
    x, z = train.x.float() / 255 - 0.5, test.x.float() / 255 - 0.5
    line = LogisticRegression(C=0.01).fit(x.flatten(1), train.y)
    by_line = roc_auc_score(test.y, line.decision_function(z.flatten(1)))

    def layer(i, o, stride):
        conv = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(o), nn.ReLU())

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # quicker for images so small
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            *(layer(1, 16, 2), layer(16, 32, 1), layer(32, 64, 2)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)),
        )
        optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=EPOCHS * 32)
        for _ in range(EPOCHS):
            for index in torch.randperm(len(train)).split(64):
                loss = nn.functional.cross_entropy(net(x[index]), train.y[index])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    net.eval()
    with torch.no_grad():
        by_net = roc_auc_score(test.y, net(z)[:, 1] - net(z)[:, 0])
    torch.set_num_threads(threads)
    assert by_line < 0.75
    assert 0.8 < by_net < 0.995
