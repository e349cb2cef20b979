"""The detector: anchors, assignment, encoding, each term of the loss, and its matched control."""

import math

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from course_utils import yolo
from course_utils.attention import CBAM, SpatialAttention
from course_utils.tasks.bccd import CELL_ANCHORS, cell_anchors
from course_utils.yolo import YOLO, YOLOLoss, assign, decode, detect, encode, grid, shape_iou

ANCHORS = cell_anchors()


def build(attention=None, seed=0, width=4):
    torch.manual_seed(seed)
    return YOLO(3, ANCHORS, width, attention)


def boxes_in(height, width, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = 8 + 60 * torch.rand(n, 2, generator=generator)
    centre = torch.rand(n, 2, generator=generator) * torch.tensor([width - 1.0, height - 1.0])
    return torch.cat([centre - size / 2, centre + size / 2], 1)


def batch(*rows):
    return torch.tensor([rows], dtype=torch.float32)


# Grid, encoding, anchors ------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(240, 320), (64, 96), (50, 33), (33, 47)])
def test_one_row_of_the_grid_for_each_prediction(height, width):
    cells = grid(height, width, ANCHORS)
    raw = build().eval()(torch.rand(2, 3, height, width))
    assert raw.shape == (2, len(cells.stride), 8)
    assert cells.start == (0, *torch.tensor([3 * a * b for a, b in cells.shape]).cumsum(0)[:2])


def test_masks_give_the_large_anchors_to_the_coarse_scale():
    cells = grid(64, 64, ANCHORS)
    for scale, stride in enumerate(yolo.STRIDES):
        rows = cells.stride[:, 0] == stride
        assert torch.equal(
            cells.anchor[rows].unique(dim=0), ANCHORS[3 * scale : 3 * scale + 3].unique(dim=0)
        )


def test_encode_and_decode_return_the_box():
    cells = grid(240, 320, ANCHORS)
    boxes = boxes_in(240, 320, 200)
    rows, owner = assign(boxes, cells, ANCHORS)
    raw = torch.zeros(len(cells.stride), 4)
    raw[rows] = encode(boxes[owner], cells, rows)
    assert (decode(raw, cells)[rows] - boxes[owner]).abs().max() < 1e-4


def test_what_is_said_of_the_mirrored_image_is_turned_back():
    cells = grid(240, 320, ANCHORS)
    boxes = boxes_in(240, 320, 50)
    other = torch.stack([320 - boxes[:, 2], boxes[:, 1], 320 - boxes[:, 0], boxes[:, 3]], 1)
    rows, owner = assign(other, cells, ANCHORS)
    raw = torch.zeros(1, len(cells.stride), 8)
    raw[0, rows, :4] = encode(other[owner], cells, rows)
    raw[0, rows, 4] = 1 + owner.float()  # so that each box is found again
    turned = yolo.mirrored(raw, cells)[0]
    answers = turned[:, 4] > 0
    assert int(answers.sum()) == len(rows)
    found, which = decode(turned[:, :4], cells)[answers], turned[answers, 4].long() - 1
    assert (found - boxes[which]).abs().max() < 1e-3
    assert torch.equal(yolo.mirrored(yolo.mirrored(raw, cells), cells), raw)


def test_decoding_by_hand():
    """YOLOv5 has 2 sigmoid(t) - .5 and 4 sigmoid(t)^2 instead, which at t = 0 are the same."""
    cells = grid(64, 64, ANCHORS)
    raw, row = torch.zeros(len(cells.stride), 4), cells.start[1] + 5
    raw[row] = torch.tensor([0, math.log(3), 0, -math.log(2)])
    box = decode(raw, cells)[row]
    width, height = ANCHORS[3].tolist()  # scale of stride 16, first anchor, row 1, column 1
    x, y, height = (0.5 + 1) * 16, (0.75 + 1) * 16, height / 2
    expected = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    torch.testing.assert_close(box, torch.tensor(expected))


def test_anchors_come_from_the_training_boxes_by_class():
    from course_utils.datasets import load
    from course_utils.tasks.bccd import shrunk

    data = load("bccd")
    if data.synthetic:
        pytest.skip("the real set cannot be reached")
    _, boxes = shrunk(data.train)
    found = yolo.anchors_by_class(boxes, (4, 3, 2))
    assert torch.equal(found.round(), torch.tensor(CELL_ANCHORS).float().reshape(9, 2))
    # Over all boxes together, red cells (85% of them) take seven of the nine, platelets get one.
    rows = boxes[boxes[:, :, 0] >= 0]
    plain = yolo.kmeans_anchors(rows[:, 3:] - rows[:, 1:3], 9)
    platelets = rows[rows[:, 0] == 2]
    sizes = platelets[:, 3:] - platelets[:, 1:3]
    by_class, together = (shape_iou(sizes, a).amax(1).mean() for a in (found, plain))
    assert by_class > together


def test_kmeans_finds_planted_shapes_and_refuses_too_few():
    planted = torch.tensor([[10.0, 10], [20, 60], [80, 30]])
    noise = 1 + 0.02 * torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
    found = yolo.kmeans_anchors(planted.repeat(30, 1) * noise, 3)
    torch.testing.assert_close(found, planted, rtol=0.05, atol=0)
    with pytest.raises(ValueError, match="2 boxes cannot give 3 anchors"):
        yolo.kmeans_anchors(torch.rand(2, 2), 3)


# Assignment -------------------------------------------------------------------------------------


def test_one_anchor_answers_for_each_box_the_one_of_best_shape_in_the_cell_of_the_centre():
    cells = grid(240, 320, ANCHORS)
    boxes = torch.tensor([[100.0, 60, 199, 145], [30, 30, 49, 48]])  # 99 x 85, and 19 x 18
    rows, owner = assign(boxes, cells, ANCHORS)
    assert sorted(owner.tolist()) == [0, 1]
    large, small = rows[owner == 0], rows[owner == 1]
    assert cells.stride[large].item() == 32 and cells.anchor[large][0].tolist() == [99, 85]
    assert cells.corner[large][0].tolist() == [128, 96]  # the centre is (149.5, 102.5)
    assert cells.stride[small].item() == 8 and cells.corner[small][0].tolist() == [32, 32]


def test_with_several_anchors_all_good_shapes_answer():
    cells = grid(240, 320, ANCHORS)
    box = torch.tensor([[100.0, 60, 155, 112]])  # 55 x 52
    rows, owner = assign(box, cells, ANCHORS, several=0.213)
    good = (shape_iou(torch.tensor([[55.0, 52]]), ANCHORS) > 0.213).sum().item()
    assert len(rows) == good > 3 and (owner == 0).all()


def test_a_centre_on_the_far_edge_stays_in_the_last_cell():
    cells = grid(240, 320, ANCHORS)
    rows, _ = assign(torch.tensor([[300.0, 220, 340, 260]]), cells, ANCHORS)
    assert len(rows) == 1 and rows.item() < len(cells.stride)


# Loss -------------------------------------------------------------------------------------------


def logit(p):
    return math.log(p / (1 - p))


@pytest.mark.parametrize("later", [False, True])
def test_a_perfect_answer_costs_almost_nothing_and_a_wrong_one_much(later):
    loss = YOLOLoss(ANCHORS, 64, 96, ciou=later, iou_objectness=later)
    truth = batch((1, 20, 10, 68, 63))
    rows, _ = assign(truth[0, :, 1:], loss.cells, ANCHORS)
    raw = torch.zeros(1, len(loss.cells.stride), 8)
    raw[..., 4:] = -20
    raw[0, rows, :4] = encode(truth[0, :, 1:], loss.cells, rows)
    raw[0, rows, 4], raw[0, rows, 6] = 20.0, 20.0
    floor = 0.0
    if not later:  # a cross-entropy with a share as truth costs that share's entropy at least
        share = encode(truth[0, :, 1:], loss.cells, rows)[0, :2].sigmoid()
        floor = (2 - 48 * 53 / (64 * 96)) * torch.special.entr(torch.cat([share, 1 - share])).sum()
    assert abs(loss(raw, truth).item() - floor) < 1e-3
    wrong = raw.clone()
    wrong[0, rows, 0] += 2
    assert loss.terms(wrong, truth)["box"] > loss.terms(raw, truth)["box"] + 0.1
    wrong = raw.clone()
    wrong[0, rows, 5:7] = torch.tensor([20.0, -20.0])
    assert loss.terms(wrong, truth)["class"] > 10


def test_the_weight_of_the_box_term_touches_no_other():
    truth = batch((1, 20, 10, 68, 63))
    raw = torch.randn(1, len(grid(64, 96, ANCHORS).stride), 8)
    one, five = (YOLOLoss(ANCHORS, 64, 96, box_weight=k).terms(raw, truth) for k in (1.0, 5.0))
    assert five["box"].item() == pytest.approx(5 * one["box"].item())
    assert five["objectness"] == one["objectness"] and five["class"] == one["class"]


def test_terms_of_yolov3_by_hand_on_one_box():
    loss = YOLOLoss(ANCHORS, 64, 96)
    truth = batch((2, 20, 10, 68, 63))
    (row,), _ = assign(truth[0, :, 1:], loss.cells, ANCHORS)
    raw = torch.zeros(1, len(loss.cells.stride), 8)
    raw[..., 4] = logit(0.1)
    terms = loss.terms(raw, truth)
    aim = encode(truth[0, :, 1:], loss.cells, torch.tensor([row]))[0]
    w, h = aim[2:].tolist()
    heavier = 2 - 48 * 53 / (64 * 96)
    place = 2 * math.log(2)  # whatever the truth is: the network says one half
    assert terms["box"].item() == pytest.approx(heavier * (place + (w * w + h * h) / 2), rel=1e-4)
    assert terms["class"].item() == pytest.approx(3 * math.log(2), rel=1e-5)
    overlap = box_iou(decode(raw[0, :, :4], loss.cells), truth[0, :, 1:])[:, 0]
    others = (overlap <= 0.7).sum().item() - int(overlap[row] <= 0.7)
    expected = -math.log(0.1) - others * math.log(0.9)
    assert terms["objectness"].item() == pytest.approx(expected, rel=1e-4)


def test_the_gradient_of_yolov3s_box_term_is_prediction_minus_truth():
    loss = YOLOLoss(ANCHORS, 64, 96)
    truth = batch((2, 20, 10, 71, 58))
    (row,), _ = assign(truth[0, :, 1:], loss.cells, ANCHORS)
    raw = torch.randn(1, len(loss.cells.stride), 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss.terms(raw, truth)["box"], raw)
    aim = encode(truth[0, :, 1:], loss.cells, torch.tensor([row]))[0]
    said = raw.detach()[0, row, :4]
    delta = torch.cat([said[:2].sigmoid() - aim[:2].sigmoid(), said[2:] - aim[2:]])
    torch.testing.assert_close(
        gradient[0, row, :4], (2 - 51 * 48 / (64 * 96)) * delta
    )  # as yolo_layer.c
    assert gradient.count_nonzero() == 4


def test_overlapping_predictions_that_do_not_answer_are_ignored():
    truth = batch((0, 20, 10, 68, 63))
    raw = torch.zeros(1, len(grid(64, 96, ANCHORS).stride), 8)
    strict = YOLOLoss(ANCHORS, 64, 96, ignore=1.0).terms(raw, truth)["objectness"]
    lenient = YOLOLoss(ANCHORS, 64, 96, ignore=0.3).terms(raw, truth)["objectness"]
    assert lenient < strict


def test_objectness_may_aim_at_the_overlap():
    truth = batch((0, 20, 10, 68, 63))
    raw = torch.zeros(1, len(grid(64, 96, ANCHORS).stride), 8, requires_grad=True)
    for later in (False, True):
        loss = YOLOLoss(ANCHORS, 64, 96, iou_objectness=later)
        (row,), _ = assign(truth[0, :, 1:], loss.cells, ANCHORS)
        (gradient,) = torch.autograd.grad(loss(raw, truth), raw)
        aim = 0.5 - gradient[0, row, 4].item()  # the gradient of BCE is sigmoid - target
        assert (aim == pytest.approx(1)) != later
        assert 0.3 < aim <= 1


def test_classes_are_independent_units():
    raw = torch.zeros(1, len(grid(64, 96, ANCHORS).stride), 8, requires_grad=True)
    loss = YOLOLoss(ANCHORS, 64, 96)
    truth = batch((1, 20, 10, 68, 63))
    (row,), _ = assign(truth[0, :, 1:], loss.cells, ANCHORS)
    (gradient,) = torch.autograd.grad(loss.terms(raw, truth)["class"], raw)
    torch.testing.assert_close(gradient[0, row, 5:], torch.tensor([0.5, -0.5, 0.5]))  # no softmax


@pytest.mark.parametrize("later", [False, True])
def test_an_image_without_boxes_only_teaches_that_nothing_is_there(later):
    loss = YOLOLoss(ANCHORS, 64, 96, ciou=later, several=0.213 if later else None)
    raw = torch.zeros(2, len(loss.cells.stride), 8, requires_grad=True)
    terms = loss.terms(raw, torch.full((2, 4, 5), -1.0))
    assert terms["box"] == terms["class"] == 0 and torch.isfinite(terms["objectness"])
    loss(raw, torch.full((2, 4, 5), -1.0)).backward()
    assert (raw.grad[..., 4] > 0).all() and (raw.grad[..., :4] == 0).all()


def test_what_does_not_fit_is_named():
    loss = YOLOLoss(ANCHORS, 64, 96)
    raw = torch.zeros(1, len(loss.cells.stride), 8)
    with pytest.raises(ValueError, match=r"class 3. Expected a whole number from 0 to 2"):
        loss(raw, batch((3, 20, 10, 68, 63)))
    with pytest.raises(ValueError, match="another size"):
        loss(raw[:, :-3], batch((1, 20, 10, 68, 63)))
    with pytest.raises(ValueError, match=r"31 x 64 pixels. Expected at least 32"):
        build()(torch.rand(1, 3, 31, 64))
    with pytest.raises(ValueError, match=r"Expected \(9, 2\)"):
        YOLO(3, ANCHORS[:6])
    for images in (torch.rand(1, 1, 64, 64), torch.rand(3, 64, 64)):
        with pytest.raises(ValueError, match=r"Expected \(N, 3, H, W\)"):
            build()(images)


@pytest.mark.parametrize("box", [(20, 10, 20, 63), (68, 10, 20, 63), (30, 40, 60, 40)])
@pytest.mark.parametrize("later", [False, True])
def test_a_box_without_area_is_refused_before_it_becomes_nan(box, later):
    loss = YOLOLoss(ANCHORS, 64, 96, ciou=later)
    raw = torch.zeros(1, len(loss.cells.stride), 8)
    with pytest.raises(ValueError, match=r"no area.* with x1 < x2 and y1 < y2"):
        loss(raw, batch((0, 5, 5, 20, 20), (1, *box)))
    assert torch.isfinite(loss(raw, batch((0, 5, 5, 20, 20), (-1, 0, 0, 0, 0))))


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_box_that_is_not_finite_is_refused(place, value):
    loss = YOLOLoss(ANCHORS, 64, 96)
    box = [1.0, 20, 10, 68, 63]
    box[place] = value
    said = rf"The box \[.*{value}.*\] has no area, or is not finite"
    if place == 0:
        said = f"A box has class {value}. Expected a whole number from 0 to 2"
    with pytest.raises(ValueError, match=said):
        loss(torch.zeros(1, len(loss.cells.stride), 8), batch((0, 5, 5, 20, 20), box))


def test_a_class_between_two_is_refused():
    loss = YOLOLoss(ANCHORS, 64, 96)
    with pytest.raises(ValueError, match=r"class 1.5. Expected a whole number from 0 to 2"):
        loss(torch.zeros(1, len(loss.cells.stride), 8), batch((1.5, 5, 5, 20, 20)))


@pytest.mark.parametrize("shape", [(1, 0, 5), (3, 0, 5), (1, 4, 5), (3, 4, 5), (2, 5), (2, 4, 6)])
def test_boxes_of_another_number_of_images_are_refused_even_without_room(shape):
    loss = YOLOLoss(ANCHORS, 64, 96)
    with pytest.raises(ValueError, match=r"Expected \(2, room, 5\)") as caught:
        loss(torch.zeros(2, len(loss.cells.stride), 8), torch.full(shape, -1.0))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("later", [False, True])
def test_no_box_at_all_is_defined(later):
    loss = YOLOLoss(ANCHORS, 64, 96, ciou=later, several=0.213 if later else None)
    raw = torch.zeros(1, len(loss.cells.stride), 8)
    for several in (None, 0.213):
        rows, owner = assign(torch.zeros(0, 4), loss.cells, ANCHORS, several)
        assert rows.shape == owner.shape == (0,)
    without_room = loss.terms(raw, torch.zeros(1, 0, 5))
    assert without_room == loss.terms(raw, torch.full((1, 3, 5), -1.0))
    assert without_room["box"] == without_room["class"] == 0


BEYOND = [(-90.0, -80, -40, -35), (500, 400, 548, 453), (10, 70, 30, 90), (-400, -400, 450, 450)]


@pytest.mark.parametrize("box", BEYOND)
@pytest.mark.parametrize("later", [False, True])
def test_a_box_outside_the_image_or_far_larger_is_refused(box, later):
    loss = YOLOLoss(ANCHORS, 64, 96, ciou=later)
    raw = torch.zeros(1, len(loss.cells.stride), 8)
    with pytest.raises(ValueError, match=r"lies outside the image.*width is 96 and its height 64"):
        loss(raw, batch((0, 5, 5, 20, 20), (1, *box)))
    with pytest.raises(ValueError, match="lies outside the image"):
        assign(torch.tensor([box]), loss.cells, ANCHORS)
    assert torch.isfinite(loss(raw, batch((0, 5, 5, 20, 20), (-1, *box))))


@pytest.mark.parametrize("later", [False, True])
def test_the_loss_of_a_box_that_leaves_the_image_is_positive(later):
    loss = YOLOLoss(ANCHORS, 64, 96, ciou=later)
    raw = torch.randn(1, len(loss.cells.stride), 8)
    terms = loss.terms(raw, batch((0, -80, -60, 100, 66)))  # 3.7 times the image
    assert all(term > 0 and torch.isfinite(term) for term in terms.values())


def test_boxes_as_shares_of_the_image_or_with_exchanged_axes_are_refused():
    loss = YOLOLoss(ANCHORS, 240, 320)
    raw = torch.zeros(1, len(loss.cells.stride), 8)
    whole = torch.tensor([[10.0, 20, 60, 80], [230, 100, 310, 180]])
    shares = whole / torch.tensor([320, 240, 320, 240])
    for wrong, said in (
        (shares, "as shares of the image are"),
        (whole[:, [1, 0, 3, 2]], "exchanged"),
    ):
        with pytest.raises(ValueError, match=said):
            assign(wrong, loss.cells, ANCHORS)
        with pytest.raises(ValueError, match=said):
            loss(raw, torch.cat([torch.zeros(2, 1), wrong], 1)[None])
    turned = YOLOLoss(ANCHORS, 320, 240)  # height and width exchanged: as many predictions
    with pytest.raises(ValueError, match="its width is 240 and its height 320"):
        turned(raw, torch.cat([torch.zeros(2, 1), whole], 1)[None])
    with pytest.raises(ValueError, match="without the class"):
        assign(torch.rand(2, 5), loss.cells, ANCHORS)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("collapsed", [-18.0, -90.0])
def test_collapsed_widths_have_a_finite_loss_and_gradient(later, collapsed):
    loss = YOLOLoss(ANCHORS, 64, 96, ciou=later, iou_objectness=later)
    raw = torch.zeros(1, len(loss.cells.stride), 8)
    raw[..., 2:4] = collapsed
    raw.requires_grad_()
    value = loss(raw, batch((0, 20, 10, 68, 63)))
    value.backward()
    assert value > 0 and torch.isfinite(value) and torch.isfinite(raw.grad).all()


def test_anchors_are_sizes_in_pixels():
    for wrong in (ANCHORS / 320, -ANCHORS, ANCHORS * math.nan):
        with pytest.raises(ValueError, match="Expected widths and heights in pixels"):
            grid(64, 96, wrong)
        with pytest.raises(ValueError, match="Expected widths and heights in pixels"):
            YOLO(3, wrong)
    with pytest.raises(ValueError, match=r"Expected \(9, 2\)"):
        grid(64, 96, ANCHORS[:3])
    with pytest.raises(ValueError, match="has no area"):
        yolo.kmeans_anchors(torch.tensor([[3.0, 4], [0, 5]]), 1)


def test_detections_of_outputs_that_are_no_numbers_or_of_another_size_are_refused():
    cells = grid(64, 96, ANCHORS)
    raw = torch.zeros(len(cells.stride), 8)
    for place in (0, 4, 7):
        wrong = raw.clone()
        wrong[5, place] = math.nan
        with pytest.raises(ValueError, match=rf"1 of {len(raw)} predictions are not finite"):
            detect(wrong, cells)
    for wrong in (raw[None], raw[:-3], raw[:, :5]):
        with pytest.raises(ValueError, match=rf"Expected \({len(raw)}, 5 \+ K\)"):
            detect(wrong, cells)
    nothing = detect(torch.full_like(raw, -20), cells)
    assert [tuple(part.shape) for part in nothing] == [(0, 4), (0,), (0,)]


def test_a_single_image_whose_last_features_are_one_pixel_cannot_train_batch_norm():
    model, x = build(), torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match=r"YOLO in training mode: batch norm gets a single value"):
        model(x)
    assert model(torch.cat([x, x])).shape == model.eval()(x).expand(2, -1, -1).shape


def test_no_sizes_give_no_anchors():
    for sizes in (torch.zeros(0, 2), torch.rand(8, 2)):
        with pytest.raises(ValueError, match="cannot give 9 anchors"):
            yolo.kmeans_anchors(sizes, 9)


# Detection --------------------------------------------------------------------------------------


def test_doubles_of_a_class_are_suppressed_and_other_classes_stay():
    cells = grid(64, 96, ANCHORS)
    raw = torch.zeros(len(cells.stride), 8)
    raw[:, 4:] = -20
    truth = torch.tensor([[20.0, 10, 68, 63]])
    rows, _ = assign(truth, cells, ANCHORS, several=0.213)
    for place, row in enumerate(rows):
        raw[row, :4] = encode(truth, cells, row[None])[0]
        raw[row, 4] = 5.0 - place
        raw[row, 5 + place % 2] = 5.0
    found = detect(raw, cells)
    assert sorted(found.labels.tolist()) == [0, 1]
    assert (found.scores[:-1] >= found.scores[1:]).all()
    assert box_iou(found.boxes, truth).min() > 0.99
    assert len(detect(torch.full_like(raw, -20), cells).boxes) == 0


def test_scores_by_hand_objectness_times_a_logistic_unit_for_each_class():
    cells = grid(32, 32, ANCHORS)
    raw = torch.full((len(cells.stride), 8), -20.0)
    raw[0] = torch.tensor([0, 0, 0, 0, 0, 0, math.log(3), -20])
    found = detect(raw, cells)
    torch.testing.assert_close(found.scores, torch.tensor([0.5 * 0.75, 0.5 * 0.5]))
    assert found.labels.tolist() == [1, 0]  # a softmax would give .375 and .125
    torch.testing.assert_close(found.boxes, decode(raw[:, :4], cells)[[0, 0]])


# The matched control ----------------------------------------------------------------------------


@pytest.mark.parametrize("attention", [lambda c: SpatialAttention(), lambda c: CBAM(c, 4)])
def test_both_arms_start_from_equal_shared_weights(attention):
    plain, ours = build().state_dict(), build(attention).state_dict()
    assert set(plain) < set(ours)
    assert all(torch.equal(tensor, ours[name]) for name, tensor in plain.items())
    assert all(name.startswith("attention.") for name in set(ours) - set(plain))
    build()
    after = torch.rand(2)
    build(attention)
    assert torch.equal(after, torch.rand(2))


def test_the_plain_network_has_no_attention():
    assert all(isinstance(m, nn.Identity) for m in build().attention)


def test_anchors_in_another_order_are_refused():
    with pytest.raises(ValueError, match=r"not sorted by area. Expected the smallest first"):
        yolo.grid(64, 96, ANCHORS.flip(0))


def test_of_two_boxes_for_one_prediction_the_later_keeps_it():
    box = torch.tensor([[10.0, 10, 30, 34]])
    cells = grid(64, 96, ANCHORS)
    rows, owner = assign(torch.cat([box, box + 0.5, box + 0.2]), cells, ANCHORS)
    assert len(rows) == 1 and owner.tolist() == [2]
