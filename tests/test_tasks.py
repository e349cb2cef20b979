"""What each task trains on and how it is scored, on phantoms: shapes, alignment, edge cases."""

import functools
import math

import pytest
import torch
from test_gpu import few
from torch import nn

from course_utils import datasets, experiments, losses, metrics, training, yolo
from course_utils.senet import SEResNet
from course_utils.tasks import bccd, hippocampus, isic2017, pneumonia, smears

phantom = functools.cache(datasets.phantom)


@pytest.fixture(scope="module")
def brain():
    return phantom("hippocampus")


def test_slices_hold_their_neighbours_and_come_back_as_volumes(brain):
    part = brain.test.take(range(3))
    x, y = hippocampus.slices(part)
    depths = part.extra["shape"][:, 2].tolist()
    assert x.shape == (sum(depths), 3, 48, 64) and y.shape == (sum(depths), 48, 64)
    volume, first = part.x[1, 0], depths[0]
    assert torch.equal(x[first + 4], volume[:, :, 3:6].permute(2, 0, 1))
    assert torch.equal(x[first, 0], volume[:, :, 0]) and torch.equal(x[first, 1], volume[:, :, 0])
    last = first + depths[1] - 1
    assert torch.equal(x[last, 2], volume[:, :, depths[1] - 1])
    again = torch.stack(list(y.split(depths)[1]), -1)
    assert torch.equal(again, part.y[1, :, :, : depths[1]])


class Oracle(nn.Module):
    """Answers with the truth it was given, in order; `shift` moves it by some pixels."""

    def __init__(self, logits, shift=0):
        super().__init__()
        self.logits, self.at = logits.roll(shift, -1), 0
        self.anything = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        self.at += len(x)
        return self.logits[self.at - len(x) : self.at]


def test_report_of_the_hippocampus_is_a_mean_over_volumes(brain):
    _, y = hippocampus.slices(brain.test)
    logits = nn.functional.one_hot(y.long(), 3).permute(0, 3, 1, 2).float()
    report = hippocampus.report(Oracle(logits), brain)
    assert report == pytest.approx(
        {"dice_anterior": 1, "hd95_anterior": 0, "dice_posterior": 1, "hd95_posterior": 0}
    )
    shifted = hippocampus.report(Oracle(logits, shift=2), brain)
    assert 0.3 < shifted["dice_anterior"] < 0.95 and 0 < shifted["hd95_anterior"] <= 2.01
    low, high = hippocampus.cases(Oracle(logits, shift=2), brain)["dice_anterior"]
    assert low < shifted["dice_anterior"] < high


@pytest.mark.parametrize(("task", "channels"), [(isic2017, 1), (hippocampus, 3)])
def test_outputs_that_are_nan_have_no_score(task, channels):
    logits = torch.zeros(2, channels, 8, 8)
    logits[1, 0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match=r"1 of .* scores are NaN"):
        task.score(logits, torch.zeros(2, 8, 8, dtype=torch.uint8))


def test_masks_of_0_and_255_are_read_as_masks():
    part = phantom("isic2017").test.take(range(4))
    white = datasets.Split(part.x, part.y * 255, part.ids)
    assert torch.equal(isic2017.shrunk(white)[1], isic2017.shrunk(part)[1])
    with pytest.raises(ValueError, match="values other than 0 and 1"):
        isic2017.score(torch.zeros(4, 1, *part.y.shape[1:]), part.y + 1)


def test_floats_are_not_averaged_as_uint8():
    part = phantom("isic2017").test.take(range(4))
    with pytest.raises(ValueError, match=r"images are torch.float32. Expected uint8"):
        isic2017.shrunk(datasets.Split(part.x / 255, part.y, part.ids))


def test_three_outputs_tell_three_parts_apart():
    with pytest.raises(ValueError, match=r"\(2, 1, 8, 8\). Expected \(N, 3, H, W\)"):
        hippocampus.score(torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8))


def test_an_arm_is_never_trained_with_the_loss_of_another():
    bloods = experiments.get("bccd")
    model = bloods.model("YOLOv3", profile="smoke")
    with pytest.raises(ValueError, match=r"bccd has no arm 'yolov3'. Expected: "):
        bloods.fit(model, phantom("bccd"), profile="smoke", arm="yolov3")


def test_boxes_of_images_of_another_size_have_no_score():
    part = phantom("bccd").test.take(range(3))
    raw = torch.zeros(3, len(yolo.grid(240, 320, bccd.cell_anchors()).stride), 8)
    with pytest.raises(ValueError, match="its width is 320 and its height 240 pixels"):
        bccd.score(raw, part.y, 320)


def test_smears_of_other_values_than_0_to_1_are_refused():
    with pytest.raises(ValueError, match=r"values in .0, 1."):
        smears.augment(torch.full((2, 3, 8, 8), 3.0), torch.zeros(2))


def test_skin_is_averaged_down_and_masks_stay_masks():
    part = phantom("isic2017").test.take(range(4))
    for side in (64, 112, 256):
        x, y = isic2017.shrunk(part, side)
        assert x.shape == (4, 3, side, side) and x.dtype == torch.uint8
        assert y.shape == (4, side, side) and set(y.unique().tolist()) <= {0, 1}
        share = y.float().mean((1, 2)) / part.y.float().mean((1, 2))
        assert ((share - 1).abs() < 0.1).all()


def test_report_of_lesions_is_taken_at_full_resolution():
    data = phantom("isic2017")
    logits = data.test.y[:, None].float() * 10 - 5
    report = isic2017.report(Oracle(logits), data, side=64)
    keys = {"jaccard", "dice", "dice_smallest_third", "dice_largest_third"}
    assert report == pytest.approx(dict.fromkeys(keys, 1))
    areas = data.test.y.flatten(1).sum(1)
    n = len(areas) // 3
    missed = areas.argsort(stable=True)[:n]
    logits[missed] = -5
    report = isic2017.report(Oracle(logits), data, side=64)
    assert report["dice"] == pytest.approx(1 - n / len(areas))
    assert report["dice_largest_third"] == 1
    low, high = isic2017.cases(Oracle(logits), data, side=64)["dice"]
    assert 0 < low < report["dice"] < high < 1
    assert report["dice_smallest_third"] == pytest.approx(0 if len(areas) % 3 == 0 else 1 / (n + 1))


def test_loss_of_a_mask_falls_towards_the_truth_and_survives_empty_masks():
    y = torch.zeros(2, 8, 8, dtype=torch.uint8)
    y[0, 2:6, 2:6] = 1
    loss = losses.dice_and_cross_entropy(y)
    right = y[:, None].float() * 20 - 10
    assert loss(right, y) < 0.05 < loss(torch.zeros_like(right), y) < loss(-right, y)
    empty = torch.zeros(2, 8, 8, dtype=torch.uint8)
    assert torch.isfinite(loss(torch.zeros(2, 1, 8, 8), empty))


@pytest.mark.parametrize("classes", [1, 3])
def test_masks_that_are_all_background_have_a_defined_loss_and_dice(classes):
    nothing = torch.zeros(2, 8, 8, dtype=torch.uint8)
    filled = nothing + (torch.arange(8) % max(classes, 2)).to(torch.uint8)
    loss = losses.dice_and_cross_entropy(filled)  # as built from a training set that holds all
    right = torch.zeros(2, classes, 8, 8)
    right[:, 0] = 100.0 if classes == 3 else -100.0
    right.requires_grad_()
    value = loss(right, nothing)
    value.backward()
    assert 0 <= value < 1e-3 and torch.isfinite(right.grad).all()
    unsure = loss(torch.zeros(2, classes, 8, 8), nothing)
    assert torch.isfinite(unsure) and unsure > 1
    empty = nothing.bool()
    assert metrics.dice(empty, empty).tolist() == [1, 1]  # nothing there, nothing found: right
    assert metrics.dice(~empty, empty).tolist() == [0, 0]  # nothing there, all found
    assert metrics.hd95(empty, empty).isnan().all()
    scores = isic2017.score(torch.full((2, 1, 8, 8), -5.0), nothing)
    assert scores == {"jaccard": 1.0, "dice": 1.0}


@pytest.mark.parametrize(
    ("outputs", "label", "said"),
    [(3, 3, "0 to 3. Expected 0 to 2"), (1, 2, "0 to 2. Expected 0 to 1"), (1, 255, "0 and 255"),
     (3, -1, "-1 to 0. Expected 0 to 2")],
)  # fmt: skip
def test_a_label_without_an_output_is_refused(outputs, label, said):
    y = torch.zeros(2, 8, 8, dtype=torch.int64)
    loss = losses.dice_and_cross_entropy(y + torch.arange(8) % max(outputs, 2))
    y[0, 3, 3] = label
    with pytest.raises(ValueError, match=said):
        loss(torch.zeros(2, outputs, 8, 8), y)


def test_loss_of_several_classes_is_small_where_the_answer_is_right():
    y = torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8)
    loss = losses.dice_and_cross_entropy(y)
    right = nn.functional.one_hot(y.long(), 3).permute(0, 3, 1, 2).float() * 20
    assert loss(right, y) < 0.05 and loss(-right, y) > 1


def test_pooled_dice_weighs_large_objects_more():
    a, b = torch.zeros(2, 2, 5, dtype=torch.bool), torch.zeros(2, 2, 5, dtype=torch.bool)
    a[0], b[0] = True, True
    a[1, 0, 0], b[1, 0, 1] = True, True
    assert metrics.pooled_dice(a, b) == pytest.approx(20 / 22)
    assert metrics.dice(a.float(), b.float()).mean().item() == pytest.approx(0.5)
    assert metrics.pooled_dice(a & False, b & False) == 1.0


def test_hd95_is_a_distance_in_voxels_and_nan_without_a_surface():
    a, b = torch.zeros(3, 12, 12), torch.zeros(3, 12, 12)
    a[0, 4:8, 2:5], b[0, 4:8, 5:8] = 1, 1
    a[1, 3, 3] = 1
    found = metrics.hd95(a, b)
    assert found[0].item() == 3.0 and found[1:].isnan().all()


def test_smears_shrink_with_their_boxes():
    part = phantom("bccd").test.take(range(3))
    x, boxes = bccd.shrunk(part, 160)
    assert x.shape == (3, 3, 120, 160) and x.dtype == torch.uint8
    assert torch.equal(boxes[:, :, 0], part.y[:, :, 0])
    torch.testing.assert_close(boxes[:, :, 1:], part.y[:, :, 1:] / 4)


def test_a_perfect_detector_has_map_one_and_a_blind_one_zero():
    data = few("bccd", 12)
    _, boxes = bccd.shrunk(data.test)
    anchors = bccd.cell_anchors()
    cells = yolo.grid(240, 320, anchors)
    raw = torch.zeros(len(boxes), len(cells.stride), 8)
    raw[..., 4:] = -20
    for i, rows in enumerate(boxes):
        rows = rows[rows[:, 0] >= 0]
        answers, owner = yolo.assign(rows[:, 1:], cells, anchors)
        raw[i, answers, :4] = yolo.encode(rows[owner, 1:], cells, answers)
        raw[i, answers, 4] = 20
        raw[i, answers, 5 + rows[owner, 0].long()] = 20
    answers = torch.cat([raw, yolo.mirrored(raw, cells)])  # for the images, then mirrored
    report = bccd.report(Oracle(answers), data)
    assert report["map50"] > 0.97 and report["map"] > 0.97
    assert {"ap50_RBC", "ap50_WBC", "ap50_Platelets"} <= set(report)
    assert report["map50_one_view"] == pytest.approx(report["map50"], abs=1e-6)
    wrong = torch.cat([raw, torch.full_like(raw, -20)])  # blind for the mirrored images
    report = bccd.report(Oracle(wrong), data)
    assert report["map_one_view"] > 0.97 > report["map"]
    cases = bccd.cases(Oracle(wrong), data)
    assert cases["map_one_view"][0] > 0.96 and cases["map"][0] <= report["map"] <= cases["map"][1]
    blind = bccd.score(torch.full_like(raw, -20), boxes)
    assert blind == {"map50": 0.0, "map": 0.0}


def test_a_score_without_truth_is_not_defined_and_never_wins():
    cells = yolo.grid(240, 320, bccd.cell_anchors())
    raw = torch.full((1, len(cells.stride), 8), -20.0)
    found = bccd.score(raw, torch.full((1, 30, 5), -1.0))
    assert set(found) == {"map50", "map"} and all(value != value for value in found.values())


# Augmentation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "channels"), [(hippocampus.augment, 3), (isic2017.augment, 3)])
def test_masks_move_with_their_images(how, channels):
    y = torch.zeros(16, 48, 64, dtype=torch.uint8)
    y[:, 12:30, 20:44] = 1
    x = y[:, None].float().repeat(1, channels, 1, 1)
    torch.manual_seed(0)
    images, masks = how(x, y)
    assert images.shape == x.shape and masks.shape == y.shape and masks.dtype == y.dtype
    assert set(masks.unique().tolist()) <= {0, 1} and not torch.equal(masks, y)
    inside = (images[:, 0] * masks).sum((1, 2)) / masks.sum((1, 2))
    outside = (images[:, 0] * (1 - masks)).sum((1, 2)) / (1 - masks).sum((1, 2))
    assert (inside > outside + 0.4).all()


def marked(boxes, height=60, width=80):
    """White rectangles where the boxes are."""
    x = torch.zeros(len(boxes), 3, height, width)
    for i, rows in enumerate(boxes):
        for _, x1, y1, x2, y2 in rows[rows[:, 0] >= 0].int().tolist():
            x[i, :, y1:y2, x1:x2] = 1
    return x


@pytest.mark.parametrize("axis", [2, 3])
def test_flipped_boxes_stay_on_their_cells(axis):
    boxes = torch.tensor([[[0, 5, 10, 25, 40], [1, 40, 20, 70, 30], [-1, 0, 0, 0, 0]]]).float()
    boxes = boxes.repeat(12, 1, 1)
    torch.manual_seed(0)
    x, found = bccd.flipped(marked(boxes), boxes, axis, 80 if axis == 3 else 60)
    assert torch.equal(marked(found), x) and not torch.equal(found, boxes)


def test_a_mosaic_keeps_what_is_seen_of_each_box():
    boxes = torch.tensor([[[0, 5, 10, 25, 40], [2, 40, 20, 70, 30]]]).float().repeat(6, 1, 1)
    boxes[3:, :, 0] = -1  # half of the images are empty
    torch.manual_seed(0)
    x, found = bccd.mosaic(marked(boxes), boxes)
    assert found.shape == (6, 8, 5)
    assert ((marked(found) <= x).all()) and (found[:, :, 0] >= 0).any()
    kept = found[found[:, :, 0] >= 0]
    assert (kept[:, 3] > kept[:, 1]).all() and (kept[:, 4] > kept[:, 2]).all()


def test_smears_drop_boxes_that_leave_the_image():
    part = phantom("bccd").test.take(range(8))
    x, boxes = bccd.shrunk(part)
    torch.manual_seed(0)
    for _ in range(4):
        images, found = bccd.augment(x.float() / 255, boxes)
        assert images.shape == x.shape and images.min() >= 0 and images.max() <= 1
        kept = found[found[:, :, 0] >= 0]
        assert len(kept) > 0 and kept[:, 1:].min() >= 0
        assert kept[:, [1, 3]].max() <= 320 and kept[:, [2, 4]].max() <= 240


# Labels that do not fit -------------------------------------------------------------------------


def test_validation_of_one_class_has_no_auroc_and_its_loss_chooses_the_epoch():
    x = torch.randint(0, 255, (24, 1, 28, 28), dtype=torch.uint8)
    train, val = (x, torch.arange(24) % 2), (x[:8], torch.ones(8, dtype=torch.long))
    assert math.isnan(pneumonia.score(torch.zeros(8, 1), val[1])["auroc"])
    torch.manual_seed(0)
    model = SEResNet(width=16, blocks=(1,))
    fitted = training.fit(
        model, losses.weighted_bce(train[1]), train, val, epochs=3, batch_size=12,
        score=pneumonia.score, monitor="auroc",
    )  # fmt: skip
    assert fitted.history["auroc"].isna().all()
    assert fitted.best_epoch == fitted.history["val_loss"].idxmin() + 1


@pytest.mark.parametrize("labels", [[0, 1, 2], [-1, 1, 1], [0, 255, 255]])
def test_labels_out_of_range_are_refused_before_the_loss_falls_below_zero(labels):
    with pytest.raises(ValueError, match=r"Expected \(N,\) of 0 and 1 alone"):
        losses.weighted_bce(torch.tensor(labels))


def test_the_weight_of_a_class_counts_pixels_and_not_images():
    masks = torch.zeros(4, 8, 8)
    masks[:, :4] = 1  # as many of each
    missed, all_found = (
        losses.weighted_bce(masks)(torch.full((4, 1, 8, 8), z), masks) for z in (-9.0, 9.0)
    )
    torch.testing.assert_close(missed, all_found)
    with pytest.raises(ValueError, match=r"shape \(2, 2\) .*Expected \(N,\)"):
        losses.weighted_bce(torch.eye(2))


@pytest.mark.parametrize("label", [0, 1])
def test_training_labels_of_one_class_leave_the_loss_unweighted(label):
    labels = torch.full((4,), label)
    loss = losses.weighted_bce(labels)(torch.zeros(4, 1), labels)
    assert loss.item() == pytest.approx(math.log(2))


def test_an_arm_may_have_a_loss_of_its_own(monkeypatch):
    """The plain YOLOv3 is trained with YOLOv3's loss, the other detectors with the later one."""
    taken = {}
    monkeypatch.setattr(training, "fit", lambda model, loss, *rest, **more: taken.update(l=loss))
    data = phantom("bccd")
    blood = experiments.get("bccd")
    for arm, later in (("attention", True), ("control", True), ("YOLOv3", False)):
        blood.fit(blood.model(arm, 0, "smoke"), data, 0, "smoke", arm)
        assert (taken["l"].ciou, taken["l"].iou_objectness) == (later, later), arm
        assert (taken["l"].several is not None) == later, arm


def test_outputs_and_targets_of_another_form_are_refused():
    labels, masks = torch.arange(4) % 2, torch.zeros(4, 8, 8, dtype=torch.int64)
    for logits in (torch.zeros(4, 2), torch.zeros(4), torch.zeros(3, 1)):
        for call in (pneumonia.score, losses.weighted_bce(labels)):
            with pytest.raises(ValueError, match="Expected one logit each"):
                call(logits, labels)
    for logits in (torch.zeros(4, 2, 8, 8), torch.zeros(4, 8, 8)):
        with pytest.raises(ValueError, match="Expected one logit each"):
            isic2017.score(logits, masks)
    with pytest.raises(ValueError, match=r"targets\[:, 0\] takes an axis"):
        isic2017.score(torch.zeros(4, 1, 8, 8), masks[:, None])
    loss = losses.dice_and_cross_entropy(masks)
    for wrong in (masks[:, None], masks[:3], masks[:, :4]):
        with pytest.raises(ValueError, match=r"Expected masks \(N, H, W\).*masks\[:, 0\]"):
            loss(torch.zeros(4, 1, 8, 8), wrong)
    with pytest.raises(ValueError, match="labels from nan to nan"):
        loss(torch.zeros(4, 1, 8, 8), masks * float("nan"))
    logits = torch.randn(4, 1, 8, 8)
    for kind in (torch.bool, torch.uint8, torch.float16, torch.float64):
        assert loss(logits, masks.to(kind)) == loss(logits, masks)


@pytest.mark.parametrize("build", [bccd.yolo_v3, bccd.yolo_mixed])
def test_training_boxes_are_looked_at_before_augmentation_hides_what_is_wrong(build):
    boxes = torch.tensor([[[0.0, 10, 20, 60, 80], [1, 230, 100, 310, 180], [-1, 0, 0, 0, 0]]])
    assert build(boxes) and build(torch.zeros(2, 0, 5)) and build(torch.empty(0))
    with pytest.raises(ValueError, match="x and y exchanged"):
        build(boxes[:, :, [0, 2, 1, 4, 3]])
    with pytest.raises(ValueError, match="as shares of the image are"):
        build(boxes / torch.tensor([1, 320, 240, 320, 240]))
