"""Metrics against their definitions and against other libraries; undefined cases are defined."""

import itertools
import math

import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from course_utils import metrics


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 6, (60,), generator=generator).float()  # with many ties
    labels = torch.randint(0, 2, (60,), generator=generator)
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p, n in itertools.product(scores[labels == 1], scores[labels == 0])
    ]
    assert metrics.auroc(scores, labels) == pytest.approx(sum(pairs) / len(pairs))
    assert metrics.auroc(scores, labels) == pytest.approx(
        float(binary_auroc(scores.sigmoid(), labels))
    )


def test_auroc_keeps_logits_apart_that_a_float32_sigmoid_would_tie():
    scores, labels = torch.tensor([20.0, 21.0, 22.0]), torch.tensor([0, 0, 1])
    assert scores.sigmoid().unique().numel() < 3
    assert metrics.auroc(scores, labels) == 1.0


def test_auroc_of_a_single_class_is_nan():
    assert math.isnan(metrics.auroc(torch.rand(4), torch.ones(4)))


def test_accuracy_counts_the_threshold_itself_as_positive():
    probabilities, labels = torch.tensor([0.5, 0.4, 0.9]), torch.tensor([1, 1, 1])
    assert metrics.accuracy(probabilities, labels) == pytest.approx(2 / 3)
    assert metrics.accuracy(probabilities, labels, threshold=0.4) == 1.0


def test_the_best_threshold_is_best_and_nearest_to_one_half():
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.rand(50, generator=generator)
    labels = (probabilities + 0.3 * torch.randn(50, generator=generator) > 0.7).long()
    found = metrics.best_threshold(probabilities, labels)
    best = max(metrics.accuracy(probabilities, labels, t) for t in torch.linspace(0, 1, 2001))
    assert metrics.accuracy(probabilities, labels, found) == pytest.approx(best)
    assert metrics.best_threshold(torch.tensor([0.1, 0.9]), torch.tensor([0, 1])) == 0.5


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6)])
def test_dice_and_iou_per_case(shape):
    generator = torch.Generator().manual_seed(2)
    a = torch.rand(4, *shape, generator=generator) > 0.6
    b = torch.rand(4, *shape, generator=generator) > 0.6
    both, either = (a & b).flatten(1).sum(1), (a | b).flatten(1).sum(1)
    sizes = a.flatten(1).sum(1) + b.flatten(1).sum(1)
    torch.testing.assert_close(metrics.dice(a, b), 2 * both / sizes)
    torch.testing.assert_close(metrics.iou(a, b), both / either)
    d = metrics.dice(a, b)
    torch.testing.assert_close(metrics.iou(a, b), d / (2 - d))


def test_empty_masks_are_defined():
    empty, full = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    for metric in (metrics.dice, metrics.iou):
        assert metric(empty, empty).item() == 1.0, "nothing to find, nothing found"
        assert metric(full, empty).item() == 0.0
        assert metric(empty, full).item() == 0.0
        assert metric(full, full).item() == 1.0


@pytest.mark.parametrize("metric", [metrics.dice, metrics.iou])
def test_masks_that_do_not_fit_are_refused(metric):
    with pytest.raises(ValueError, match="equal shapes"):
        metric(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5))
    with pytest.raises(ValueError, match=r"prediction holds values other than 0 and 1.*>= 0\.5"):
        metric(torch.full((1, 4, 4), 0.3), torch.zeros(1, 4, 4))


@pytest.mark.parametrize("metric", [metrics.auroc, metrics.accuracy, metrics.best_threshold])
def test_a_column_of_scores_is_refused_before_it_broadcasts(metric):
    with pytest.raises(ValueError, match=r"logits\[:, 0\]"):
        metric(torch.rand(4, 1), torch.ones(4))


def test_the_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(3)
    covered = 0
    for seed in range(100):
        sample = torch.randn(60, generator=generator)
        low, high = metrics.bootstrap(torch.mean, sample, resamples=200, seed=seed)
        covered += low <= 0 <= high
    assert 86 <= covered <= 99


def test_the_bootstrap_resamples_cases_together():
    x = torch.arange(20.0)
    low, high = metrics.bootstrap(lambda a, b: (a - b).abs().max(), x, x, resamples=50)
    assert low == high == 0
