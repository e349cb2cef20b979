"""Metrics against their definitions and against other libraries; undefined cases are defined."""

import itertools
import math

import pytest
import scipy.stats
import torch
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error

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


@pytest.mark.parametrize("metric", [metrics.dice, metrics.iou, metrics.hd95, metrics.pooled_dice])
def test_masks_that_do_not_fit_are_refused(metric):
    with pytest.raises(ValueError, match="equal shapes"):
        metric(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5))
    with pytest.raises(ValueError, match=r"prediction holds values other than 0 and 1.*>= 0\.5"):
        metric(torch.full((1, 4, 4), 0.3), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="truth holds values other than 0 and 1"):
        metric(torch.zeros(1, 4, 4), torch.full((1, 4, 4), math.nan))


@pytest.mark.parametrize("metric", [metrics.dice, metrics.iou, metrics.hd95])
def test_a_single_mask_is_not_taken_for_a_case_per_row(metric):
    mask = torch.zeros(8, 9)
    mask[2:5, 3:6] = 1
    with pytest.raises(
        ValueError, match=r"shape \(8, 9\). Expected \(N, H, W\), one mask per case"
    ):
        metric(mask, mask)
    assert metric(mask[None], mask[None]).tolist() == [0.0 if metric is metrics.hd95 else 1.0]
    with pytest.raises(ValueError, match=r"shape \(1, 0, 9\)"):
        metric(mask[None, :0], mask[None, :0])
    with pytest.raises(ValueError, match=r"masks are given as ndarray.*torch\.as_tensor"):
        metric(mask[None].numpy(), mask[None])


def test_channels_are_no_axis_of_a_volume_for_hd95():
    a, b = torch.zeros(2, 8, 8, 8), torch.zeros(2, 8, 8, 8)
    a[:, 2, 2, 2], b[:, 5, 2, 2] = 1, 1
    assert metrics.hd95(a, b).tolist() == [3, 3]
    flat = a[:, :3].movedim(1, -1)  # as the message says
    assert metrics.hd95(flat, flat).tolist() == [0, 0]
    for shape in [(2, 1, 8, 8), (2, 3, 8, 8), (2, 7, 32, 32), (2, 1, 8, 8, 8)]:
        with pytest.raises(ValueError, match=r"without an axis of channels.*mask\[:, 0\]"):
            metrics.hd95(torch.ones(shape), torch.ones(shape))


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("metric", [metrics.dice, metrics.iou, metrics.hd95, metrics.pooled_dice])
def test_masks_of_all_classes_at_once_are_refused(metric, axis):
    labels = torch.zeros(2, 16, 16).long()
    labels[:, 4:8, 4:8] = 1
    a, b = (
        torch.nn.functional.one_hot(x, 3).movedim(-1, axis) for x in (labels, labels.roll(2, 1))
    )
    with pytest.raises(ValueError, match=r"are one-hot, .*Expected \(N, H, W\) of one class"):
        metric(a, b)


def test_a_temperature_of_probabilities_is_refused():
    with pytest.raises(ValueError, match=r"as probabilities do. Expected logits"):
        metrics.temperature(torch.tensor([0.1, 0.9, 0.4]), torch.tensor([0, 1, 1]))


def test_scores_of_nothing_are_defined():
    nothing, masks = torch.zeros(0), torch.zeros(0, 4, 4)
    assert math.isnan(metrics.auroc(nothing, nothing))
    assert math.isnan(metrics.accuracy(nothing, nothing))
    assert math.isnan(metrics.calibration_error(nothing, nothing))
    assert len(metrics.reliability(nothing, nothing)) == 0
    for metric in (metrics.dice, metrics.iou, metrics.hd95):
        assert metric(masks, masks).shape == (0,)
    with pytest.raises(ValueError, match="There are no cases"):
        metrics.best_threshold(nothing, nothing)
    with pytest.raises(ValueError, match="one class only"):
        metrics.temperature(nothing, nothing)
    with pytest.raises(ValueError, match=r"\[0\] cases. Expected"):
        metrics.bootstrap(torch.mean, nothing)
    with pytest.raises(ValueError, match=r"\[3, 2\] cases. Expected as many"):
        metrics.bootstrap(metrics.accuracy, torch.rand(3), torch.ones(2))


@pytest.mark.parametrize(
    "metric",
    [metrics.auroc, metrics.accuracy, lambda s, y: metrics.accuracy(s, y, 0), metrics.temperature,
     metrics.best_threshold, metrics.reliability, metrics.calibration_error],
)  # fmt: skip
def test_a_score_that_is_nan_is_refused(metric):
    scores, labels = torch.tensor([0.1, 0.9, math.nan, 0.4]), torch.tensor([0, 1, 1, 0])
    with pytest.raises(ValueError, match="NaN"):
        metric(scores, labels)
    with pytest.raises(ValueError, match="NaN"):
        metric(torch.full((4,), math.nan), labels)
    with pytest.raises(ValueError, match=r"given as ndarray\. Expected"):
        metric(scores.numpy(), labels)


def test_pooled_dice_takes_masks_of_any_type_and_does_not_broadcast():
    a, b = torch.tensor([[1, 1, 0], [0, 1, 0]]), torch.tensor([[1, 0, 0], [0, 1, 1]])
    for kind in (torch.bool, torch.uint8, torch.int64, torch.float32):
        assert metrics.pooled_dice(a.to(kind), b.to(kind)) == pytest.approx(4 / 6)
    with pytest.raises(ValueError, match=r"\(2, 3\) and the truth \(1, 3\)"):
        metrics.pooled_dice(torch.ones(2, 3).bool(), torch.ones(1, 3).bool())
    assert math.isnan(metrics.pooled_dice(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4)))


@pytest.mark.parametrize("metric", [metrics.auroc, metrics.accuracy, metrics.best_threshold])
def test_a_column_of_scores_is_refused_before_it_broadcasts(metric):
    with pytest.raises(ValueError, match=r"logits\[:, 0\]"):
        metric(torch.rand(4, 1), torch.ones(4))


def test_the_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(3)
    covered = 0
    for _ in range(100):
        sample = torch.randn(60, generator=generator)
        low, high = metrics.bootstrap(torch.mean, sample, resamples=200)
        covered += low <= 0 <= high
    assert 86 <= covered <= 99


def test_the_bootstrap_is_wide_enough_for_few_cases():
    """The plain percentile interval covers about 88% with 8 cases."""
    generator, plain, covered = torch.Generator().manual_seed(1), 0, 0
    for _ in range(300):
        sample = torch.randn(8, generator=generator)
        low, high = metrics.bootstrap(torch.mean, sample, resamples=400)
        covered += low <= 0 <= high
        drawn = sample[torch.randint(8, (400, 8), generator=generator)].mean(1)
        plain += bool(drawn.quantile(0.025) <= 0 <= drawn.quantile(0.975))
    assert covered >= 276 and covered > plain + 9
    assert all(math.isnan(end) for end in metrics.bootstrap(torch.mean, torch.ones(1)))


def test_the_interval_of_a_share_is_wilsons_and_never_has_width_zero():
    for hits, cases in ((0, 20), (1, 9), (50, 50), (389, 392), (7, 14)):
        right = torch.arange(cases) < hits
        theirs = scipy.stats.binomtest(hits, cases).proportion_ci(method="wilson")
        assert metrics.wilson(right) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    assert metrics.wilson(torch.ones(50).bool())[0] == pytest.approx(0.9286, abs=1e-3)
    low, high = metrics.wilson(torch.tensor([0.5, 0.5]))  # ties of the pointing game
    assert low < 0.5 < high
    for wrong in (torch.ones(0), torch.tensor([2.0]), torch.ones(2, 2)):
        with pytest.raises(ValueError, match=r"no share.*`bootstrap`"):
            metrics.wilson(wrong)


def test_the_bootstrap_resamples_cases_together():
    x = torch.arange(20.0)
    low, high = metrics.bootstrap(lambda a, b: (a - b).abs().max(), x, x, resamples=50)
    assert low == high == 0


def test_the_bootstrap_of_an_undefined_metric_says_so_and_leaves_single_ones_out():
    with pytest.raises(ValueError, match=r"undefined \(NaN\) on all 20 resamples of these 4 cases"):
        metrics.bootstrap(metrics.auroc, torch.rand(4), torch.ones(4), resamples=20)
    scores, labels = torch.tensor([0.1, 0.9]), torch.tensor([0, 1])  # half the draws: one class
    assert metrics.bootstrap(metrics.auroc, scores, labels, resamples=50) == (1.0, 1.0)


# Calibration ------------------------------------------------------------------------------------


def said_and_found(n=2000, seed=4):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, generator=generator).double()
    labels = (torch.rand(n, generator=generator) < logits.sigmoid()).long()
    return logits, labels


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_the_calibration_error_is_the_mean_distance_over_bins(bins):
    logits, labels = said_and_found()
    p = (1.7 * logits).sigmoid()
    rows = metrics.reliability(p, labels, bins)
    assert rows["images"].sum() == len(p) and bool((rows["images"] > 0).all())
    assert bool(((rows["from"] <= rows["said"]) & (rows["said"] <= rows["to"])).all())
    by_library = binary_calibration_error(p, labels, n_bins=bins, norm="l1").item()
    assert metrics.calibration_error(p, labels, bins) == pytest.approx(by_library, abs=1e-6)
    if bins > 1:
        calibrated = metrics.calibration_error(logits.sigmoid(), labels, bins)
        assert calibrated < 0.03 < metrics.calibration_error(p, labels, bins)


def test_the_ends_of_the_scale_fall_into_the_outer_bins():
    p, labels = torch.tensor([0.0, 0.95, 1.0]), torch.tensor([0, 1, 1])
    rows = metrics.reliability(p, labels, 10)
    assert rows["images"].tolist() == [1, 2] and rows["to"].tolist() == [0.1, 1.0]
    assert metrics.calibration_error(p, labels, 10) == pytest.approx(0.05 / 3, abs=1e-6)


def test_errors_of_both_ends_cancel_only_for_the_confidence():
    """Guo et al. bin max(p, 1 - p): a model that says too little at both ends looks calibrated."""
    p = torch.tensor([0.2] * 10 + [0.8] * 10)
    labels = torch.tensor([1] * 4 + [0] * 6 + [1] * 10)  # 0.4 and 1.0 where 0.2 and 0.8 were said
    confidence, right = torch.where(p > 0.5, p, 1 - p), ((p > 0.5).long() == labels).long()
    assert metrics.calibration_error(p, labels, 10) == pytest.approx(0.2, abs=1e-6)
    assert metrics.calibration_error(confidence, right, 10) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
def test_temperature_finds_the_factor_by_which_logits_were_made_too_large(true):
    logits, labels = said_and_found(20_000)
    found = metrics.temperature(true * logits, labels)
    assert found == pytest.approx(true, rel=0.06)
    cost = torch.nn.functional.binary_cross_entropy_with_logits
    best = cost(true * logits / found, labels.double())
    for other in (0.9 * found, 1.1 * found):
        assert best < cost(true * logits / other, labels.double())


def test_temperature_of_separable_classes_stays_finite_and_one_class_is_refused():
    logits, labels = torch.tensor([-2.0, -1, 1, 2]), torch.tensor([0, 0, 1, 1])
    assert 0.05 <= metrics.temperature(logits, labels) < 0.06
    assert 19 < metrics.temperature(-logits, labels) <= 20
    with pytest.raises(ValueError, match="one class only"):
        metrics.temperature(logits, torch.ones(4))


def test_prior_shift_multiplies_the_odds():
    logits = torch.tensor([9.0]).log()  # 0.9 where 3 of 4 are ill
    torch.testing.assert_close(
        metrics.prior_shift(logits, 0.75, 0.5).sigmoid(), torch.tensor([0.75])
    )
    torch.testing.assert_close(metrics.prior_shift(logits, 0.3, 0.3), logits)
    for shares in ((0, 0.5), (0.5, 1)):
        with pytest.raises(ValueError, match=r"in \(0, 1\)"):
            metrics.prior_shift(logits, *shares)


def test_prior_shift_makes_probabilities_right_again_after_a_change_of_the_mix():
    logits, labels = said_and_found(40_000)
    before = labels.double().mean().item()
    kept = (labels == 0) | (torch.arange(len(labels)) % 5 == 0)  # four of five ill ones are gone
    z, y = logits[kept], labels[kept]
    after = y.double().mean().item()
    assert metrics.calibration_error(z.sigmoid(), y) > 0.1
    assert metrics.calibration_error(metrics.prior_shift(z, before, after).sigmoid(), y) < 0.015


@pytest.mark.parametrize(
    "metric", [metrics.auroc, metrics.accuracy, metrics.best_threshold, metrics.reliability,
               metrics.calibration_error, metrics.temperature],
)  # fmt: skip
def test_labels_out_of_range_are_refused(metric):
    scores = torch.tensor([0.1, 0.4, 0.8, 0.9])
    for labels in ([0, 1, 2, 1], [-1, 1, 0, 1], [0, 255, 255, 0]):
        with pytest.raises(ValueError, match=r"labels hold .* Expected 0 and 1"):
            metric(scores, torch.tensor(labels))


@pytest.mark.parametrize(
    "metric",
    [metrics.reliability, metrics.calibration_error, metrics.accuracy, metrics.best_threshold],
)
def test_logits_are_not_taken_for_probabilities(metric):
    """torchmetrics would take their sigmoid without a word."""
    for scores in ([-2.0, 0.5], [0.5, 1.5], [0.5, math.nan]):
        with pytest.raises(ValueError, match="probabilities and not logits"):
            metric(torch.tensor(scores), torch.tensor([0, 1]))


def test_accuracy_takes_logits_with_the_threshold_that_belongs_to_them():
    logits, labels = torch.tensor([-3.0, 0.0, 0.4, 2.0, 5.0]), torch.tensor([0, 1, 0, 0, 1])
    by_probability = metrics.accuracy(logits.sigmoid(), labels)
    assert metrics.accuracy(logits, labels, threshold=0) == by_probability == pytest.approx(0.6)
    for threshold in (0.3, 1.0):
        with pytest.raises(ValueError, match="probabilities and not logits"):
            metrics.accuracy(logits, labels, threshold)
    hard = torch.tensor([0, 1, 1, 0, 1])  # decisions already made
    for kind in (torch.bool, torch.long, torch.float):
        assert metrics.accuracy(hard.to(kind), labels) == pytest.approx(0.8)


# Boxes ------------------------------------------------------------------------------------------

NAMES = ("RBC", "WBC", "Platelets")
ROW = torch.tensor([[[0.0, 10, 10, 50, 50], [-1, 0, 0, 0, 0]]])


def listed(*rows):
    """Detections from rows (label, score, x1, y1, x2, y2)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return table[:, 2:], table[:, 1], table[:, 0].long()


def test_average_precision_without_detections_is_zero_and_without_truth_not_defined():
    hit = listed((0, 0.9, 10, 10, 50, 50))
    assert metrics.average_precision([hit], ROW, NAMES) == pytest.approx(
        {"map50": 1, "map": 1, "ap50_RBC": 1}
    )
    none = metrics.average_precision([listed()], ROW, NAMES)
    assert none == {"map50": 0.0, "map": 0.0, "ap50_RBC": 0.0}
    for truth in (torch.full((1, 2, 5), -1.0), torch.zeros(1, 0, 5)):
        for found in (hit, listed()):
            report = metrics.average_precision([found], truth, NAMES)
            assert set(report) == {"map50", "map"} and all(math.isnan(v) for v in report.values())


def test_average_precision_names_what_does_not_fit():
    hit = listed((0, 0.9, 10, 10, 50, 50))
    for found, truth in (([], ROW[:0]), ([hit, hit], ROW)):
        with pytest.raises(ValueError, match="as many, and at least one"):
            metrics.average_precision(found, truth, NAMES)
    with pytest.raises(ValueError, match=r"class 3. Expected a whole number from 0 to 2"):
        metrics.average_precision([listed((3, 0.9, 10, 10, 50, 50))], ROW, NAMES)
    with pytest.raises(ValueError, match=r"class 5. Expected a whole number"):
        metrics.average_precision([hit], torch.tensor([[[5.0, 10, 10, 50, 50]]]), NAMES)
    with pytest.raises(ValueError, match=r"class 1.5. Expected a whole number"):
        metrics.average_precision([hit], torch.tensor([[[1.5, 10, 10, 50, 50]]]), NAMES)


@pytest.mark.parametrize("place", range(2, 6))
def test_a_detection_that_is_not_finite_is_refused(place):
    for value in (math.nan, math.inf):
        row = [0.0, 0.9, 10, 10, 50, 50]
        row[place if value != math.inf else max(place, 4)] = value
        with pytest.raises(ValueError, match=r"A detection has box .*(nan|inf).*look for NaN"):
            metrics.average_precision([listed(row)], ROW, NAMES)
    with pytest.raises(ValueError, match="score nan"):
        metrics.average_precision([listed((0, math.nan, 10, 10, 50, 50))], ROW, NAMES)
    with pytest.raises(ValueError, match="x1 <= x2"):
        metrics.average_precision([listed((0, 0.9, 50, 50, 10, 10))], ROW, NAMES)


def test_detections_and_truth_of_another_form_are_refused():
    boxes, scores, labels = listed((0, 0.9, 10, 10, 50, 50))
    for wrong in ((boxes, scores[:, None], labels), (boxes[0], scores, labels),
                  (boxes, scores, labels[:0])):  # fmt: skip
        with pytest.raises(ValueError, match=r"image 0 have shapes .*Expected boxes \(n, 4\)"):
            metrics.average_precision([wrong], ROW, NAMES)
    with pytest.raises(ValueError, match="label -1"):
        metrics.average_precision([(boxes, scores, labels - 1)], ROW, NAMES)
    with pytest.raises(ValueError, match=r"shape \(2, 5\). Expected \(N, room, 5\)"):
        metrics.average_precision([(boxes, scores, labels)] * 2, ROW[0], NAMES)
    lost = ROW.clone()
    lost[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="inverted or NaN"):
        metrics.average_precision([(boxes, scores, labels)], lost, NAMES)


def test_boxes_as_shares_of_the_image_are_refused():
    boxes, scores, labels = listed((0, 0.9, 10, 10, 50, 50))
    shares = ROW.clone()
    shares[..., 1:] /= 100
    with pytest.raises(ValueError, match="All true boxes lie within the first pixel"):
        metrics.average_precision([(boxes / 100, scores, labels)], shares, NAMES)
    with pytest.raises(ValueError, match="All boxes found lie within the first pixel"):
        metrics.average_precision([(boxes / 100, scores, labels)], ROW, NAMES)


def test_a_second_box_on_an_object_is_a_false_alarm_and_classes_do_not_mix():
    twice = listed((0, 0.9, 10, 10, 50, 50), (0, 0.8, 11, 10, 50, 50))
    assert metrics.average_precision([twice], ROW, NAMES)["ap50_RBC"] == pytest.approx(1)
    late = listed((0, 0.9, 80, 80, 99, 99), (0, 0.8, 10, 10, 50, 50))
    assert metrics.average_precision([late], ROW, NAMES)["ap50_RBC"] == pytest.approx(0.5)
    other = listed((1, 0.9, 10, 10, 50, 50))
    assert metrics.average_precision([other], ROW, NAMES)["ap50_RBC"] == 0


@pytest.mark.parametrize(
    "box", [(50, 50, 10, 10), (50, 10, 10, 50), (10, 50, 50, 10), (10, math.nan, 50, 50)]
)
def test_a_true_box_with_exchanged_corners_is_refused(box):
    hit = listed((0, 0.9, 10, 10, 50, 50))
    with pytest.raises(ValueError, match=r"true box \[.*\] is inverted or NaN. Expected x1 <= x2"):
        metrics.average_precision([hit], torch.cat([ROW, torch.tensor([[[1.0, *box]]])], 1), NAMES)
    unused = torch.cat([ROW, torch.tensor([[[-1.0, *box]]])], 1)  # a row without a box
    assert metrics.average_precision([hit], unused, NAMES)["map"] == pytest.approx(1)


def test_a_true_box_without_area_is_an_object_that_nothing_finds():
    flat = torch.tensor([[[0.0, 10, 10, 50, 50], [0, 70, 20, 70, 60]]])
    found = listed((0, 0.9, 10, 10, 50, 50), (0, 0.8, 70, 20, 70, 60))
    half = 51 / 101  # of the 101 recalls, those up to one half are reached
    assert metrics.average_precision([found], flat, NAMES)["ap50_RBC"] == pytest.approx(half)


def test_a_true_box_that_leaves_the_image_is_not_cut():
    leaving, outside = (-30.0, 10.0, 10.0, 50.0), (-90.0, -80.0, -50.0, -40.0)
    for box in (leaving, outside):
        truth = torch.tensor([[[0.0, *box]]])
        same = metrics.average_precision([listed((0, 0.9, *box))], truth, NAMES)
        assert same["map"] == pytest.approx(1)
    cut = listed((0, 0.9, 0, 10, 10, 50))  # a quarter of the first, all that is in the image
    truth = torch.tensor([[[0.0, *leaving]]])
    assert metrics.average_precision([cut], truth, NAMES)["map50"] == 0


def test_torchmetrics_needs_one_hundred_among_its_thresholds():
    """Why `average_precision` names them; it fails when the library has mended it."""
    from torchmetrics.detection import MeanAveragePrecision

    boxes, scores, labels = listed((0, 0.9, 10, 10, 50, 50))
    for limits, defined in (([1, 10, 100], True), ([1, 10, 50], False)):
        judge = MeanAveragePrecision(max_detection_thresholds=limits)
        judge.update(
            [{"boxes": boxes, "scores": scores, "labels": labels}],
            [{"boxes": ROW[0, :1, 1:], "labels": torch.zeros(1).long()}],
        )
        assert (judge.compute()["map"].item() >= 0) == defined


def test_iou_of_two_boxes_without_area_is_nan():
    """Why BCCD's two boxes without area are dropped."""
    from torchvision.ops import box_iou

    flat, normal = torch.tensor([[2.0, 2, 2, 2]]), torch.tensor([[0.0, 0, 4, 4]])
    assert math.isnan(box_iou(flat, flat).item()) and box_iou(flat, normal).item() == 0
