"""Chapter 08: right answers written differently pass, half-right ones are caught, facts hold."""

import itertools

import numpy as np
import pytest
import torch
from einops import rearrange
from sklearn.metrics import average_precision_score
from torch import nn
from torchvision import ops

from course_utils import augment, ledger, metrics, tasks
from course_utils import yolo as detector
from course_utils.exercises import exercise, yolo
from course_utils.exercises.sandbox import preserved_state


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))


# Right answers written differently ---------------------------------------------------------------


def decode_by_numbers(t, corner, stride, anchor):
    rows = []
    for (x, y, w, h), (left, top), (wide, high) in zip(t, corner, anchor, strict=True):
        cx, cy = left + stride / (1 + torch.exp(-x)), top + stride / (1 + torch.exp(-y))
        w, h = wide * w.exp(), high * h.exp()
        rows.append(torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]))
    return torch.stack(rows)


def decode_by_torchvision(t, corner, stride, anchor):
    centre = (torch.sigmoid(t[:, :2]) + corner / stride) * stride
    size = torch.exp(t[:, 2:] + anchor.log())
    return ops.box_convert(torch.cat([centre, size], 1), "cxcywh", "xyxy")


def decode_by_the_course(t, corner, stride, anchor):
    sides = torch.full((len(t), 1), float(stride))
    return detector.decode(t, detector.Grid(corner, sides, anchor, (), ()))


class DecodeModule(nn.Module):
    def forward(self, t, corner, stride, anchor):
        xy, wh = t.double().chunk(2, dim=-1)
        half = anchor * wh.exp() * 0.5
        centre = corner + xy.sigmoid() * stride
        return torch.hstack([centre - half, centre + half])


def iou_by_loop(a, b):
    out = torch.zeros(len(a), len(b))
    for i, (ax1, ay1, ax2, ay2) in enumerate(a.tolist()):
        for j, (bx1, by1, bx2, by2) in enumerate(b.tolist()):
            w, h = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
            both = max(w, 0) * max(h, 0)
            out[i, j] = both / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - both)
    return out


def iou_einops(a, b):
    a, b = rearrange(a, "n c -> n 1 c"), rearrange(b, "m c -> 1 m c")
    w = torch.relu(torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0]))
    h = torch.relu(torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1]))
    areas = [(x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b)]
    return w * h / (sum(areas) - w * h)


def answering_by_loop(boxes, anchors):
    rows = []
    for x1, y1, x2, y2 in boxes.tolist():
        fits = []
        for w, h in anchors.tolist():
            both = min(w, x2 - x1) * min(h, y2 - y1)
            fits.append(both / (w * h + (x2 - x1) * (y2 - y1) - both))
        k = int(np.argmax(fits))
        stride = 8 * 2 ** (k // 3)
        rows.append([k, int((y1 + y2) / 2 // stride), int((x1 + x2) / 2 // stride)])
    return torch.tensor(rows)


def answering_by_torchvision(boxes, anchors):
    at_zero = torch.zeros(len(boxes), 2), torch.zeros(9, 2)
    fit = ops.box_iou(
        torch.cat([at_zero[0], boxes[:, 2:] - boxes[:, :2]], 1), torch.cat([at_zero[1], anchors], 1)
    )
    best = fit.max(dim=1).indices
    stride = 2 ** (3 + best // 3)
    centre = ops.box_convert(boxes, "xyxy", "cxcywh")[:, :2]
    cell = torch.floor(centre / stride.unsqueeze(1)).int()
    return torch.cat([best[:, None].int(), cell.flip(1)], 1)


def answering_by_the_course(boxes, anchors):
    cells = detector.grid(2000, 2000, anchors)
    found = []
    for box in boxes:
        (row,), _ = detector.assign(box[None], cells, anchors)
        scale = sum(int(row) >= start for start in cells.start) - 1
        rows, columns = cells.shape[scale]
        place, rest = divmod(int(row) - cells.start[scale], rows * columns)
        found.append([3 * scale + place, *divmod(rest, columns)])
    return torch.tensor(found)


def scores_by_exp(raw):
    return 1 / ((1 + (-raw[:, [4]]).exp()) * (1 + (-raw[:, 5:]).exp()))


def scores_by_einsum(raw):
    p = torch.sigmoid(raw[:, 4:])
    return torch.einsum("n,nk->nk", p[:, 0], p[:, 1:])


def scores_column_by_column(raw):
    p = 1 / (1 + torch.exp(-raw))
    return torch.stack([p[:, 4] * p[:, k] for k in range(5, raw.shape[1])], 1)


def scores_by_log(raw):
    each = nn.functional.logsigmoid(raw)
    return (each[:, 4].unsqueeze(-1) + each[:, 5:]).exp()


def flip_by_torchvision(images, boxes):
    from torchvision.transforms.v2.functional import horizontal_flip

    width = images.shape[-1]
    x1, x2 = width - boxes[..., 3], width - boxes[..., 1]
    rows = torch.stack([boxes[..., 0], x1, boxes[..., 2], x2, boxes[..., 4]], -1)
    return [horizontal_flip(images), rows]


def flip_by_centre(images, boxes):
    rows = boxes.clone()
    centre, half = (boxes[..., 1] + boxes[..., 3]) / 2, (boxes[..., 3] - boxes[..., 1]) / 2
    rows[..., 1], rows[..., 3] = (
        images.size(3) - centre - half,
        images.size(3) - centre + half,
    )
    return images[..., torch.arange(images.size(3) - 1, -1, -1)], rows


def flip_real_rows_only(images, boxes):
    rows, there = boxes.clone(), boxes[..., 0] >= 0
    width = images.shape[3]
    rows[there] = rows[there][:, [0, 3, 2, 1, 4]] * torch.tensor([1, -1, 1, -1, 1]) + torch.tensor(
        [0, width, 0, width, 0]
    )
    return torch.flip(images, dims=(-1,)), rows


def flip_image_by_image(images, boxes):
    rows = []
    for one in boxes:
        there = one[one[:, 0] >= 0]
        kept = torch.full_like(one, -1)
        kept[: len(there)] = there
        kept[: len(there), 1], kept[: len(there), 3] = (
            images.shape[3] - there[:, 3],
            images.shape[3] - there[:, 1],
        )
        rows.append(kept)
    return images.flip(-1), torch.stack(rows)


def nms_by_torchvision(boxes, scores, overlap):
    return ops.nms(boxes, scores, overlap)


def nms_with_a_mask(boxes, scores, overlap):
    iou = ops.box_iou(boxes, boxes)
    alive, kept = torch.ones(len(boxes), dtype=torch.bool), []
    while alive.any():
        best = int(torch.where(alive, scores, -torch.inf).argmax())
        kept.append(best)
        alive &= iou[best] <= overlap
        alive[best] = False
    return torch.tensor(kept)


def nms_asking_those_kept(boxes, scores, overlap):
    kept = []
    for i in torch.argsort(-scores).tolist():
        mine = ops.box_iou(boxes[i].unsqueeze(0), boxes[kept].reshape(-1, 4))
        if not (mine > overlap).any():
            kept.append(i)
    return torch.as_tensor(kept, dtype=torch.int32)


def ap_by_loop(hits, truths):
    found, points = 0, []
    for rank, hit in enumerate(hits.tolist(), 1):
        found += hit
        points.append((found / rank, hit))
    total = sum(max(p for p, _ in points[i:]) for i, (_, hit) in enumerate(points) if hit)
    return total / truths


def ap_by_recall_steps(hits, truths):
    hits = hits.numpy()
    recall = np.concatenate([[0.0], np.cumsum(hits) / truths])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * best))


def term_by_loop(logits, answers, overlap):
    total, count = torch.zeros(()), 0
    for o, answer, iou in zip(logits, answers, overlap, strict=True):
        if answer:
            total, count = total - torch.sigmoid(o).log(), count + 1
        elif not iou > 0.7:
            total = total - torch.log(1 - torch.sigmoid(o))
    return total / count


def term_by_softplus(logits, answers, overlap):
    cost = nn.functional.softplus(torch.where(answers, -logits, logits))
    return torch.einsum("m,m->", cost, (answers | ~(overlap > 0.7)).float()) / answers.sum()


def term_by_weights(logits, answers, overlap):
    ignored = (overlap > 0.7).logical_and(~answers)
    return nn.functional.binary_cross_entropy_with_logits(
        logits, answers.float(), weight=1 - ignored.float(), reduction="sum"
    ).div(answers.float().sum())


RIGHT = {
    "yolo.predictions": [(945, 10), [945, 10.0], torch.tensor([945, 10]), np.array([945, 10])],
    "yolo.decode": [decode_by_numbers, decode_by_torchvision, decode_by_the_course, DecodeModule],
    "yolo.box_iou": [iou_by_loop, iou_einops, ops.box_iou],
    "yolo.answering": [answering_by_loop, answering_by_torchvision, answering_by_the_course],
    "yolo.scores": [
        scores_by_exp,
        scores_by_einsum,
        scores_by_log,
        scores_column_by_column,
    ],
    "yolo.objectness_term": [term_by_loop, term_by_softplus, term_by_weights],
    "yolo.nms": [nms_by_torchvision, nms_with_a_mask, nms_asking_those_kept],
    "yolo.average_precision": [ap_by_loop, ap_by_recall_steps],
    "yolo.flip": [flip_by_torchvision, flip_by_centre, flip_real_rows_only, flip_image_by_image],
}


@pytest.mark.parametrize("name", [ex.name for ex in yolo.EXERCISES])
def test_right_answers_written_differently_pass(name):
    for answer in RIGHT[name]:
        result = exercise(name).check(answer)
        assert result.passed, (answer, result.message)


# Wrong answers written differently ---------------------------------------------------------------


def decode_x1y1wh(t, corner, stride, anchor):
    size = torch.exp(t[:, 2:]) * anchor
    centre = corner + stride * torch.sigmoid(t[:, :2])
    return torch.hstack([centre - size / 2, size])


def iou_exchanged(a, b):
    w = torch.max(a[:, None, 2], b[None, :, 2]) - torch.min(a[:, None, 0], b[None, :, 0])
    h = torch.max(a[:, None, 3], b[None, :, 3]) - torch.min(a[:, None, 1], b[None, :, 1])
    both = w.clamp(min=0) * h.clamp(min=0)
    return both / (ops.box_area(a)[:, None] + ops.box_area(b)[None] - both)


def iou_xywh(a, b):
    return ops.box_iou(*(ops.box_convert(x, "xywh", "xyxy") for x in (a, b)))


def answering_l1(boxes, anchors):
    best = torch.cdist(boxes[:, 2:] - boxes[:, :2], anchors, p=1).argmin(1)
    centre = ops.box_convert(boxes, "xyxy", "cxcywh")[:, :2]
    cell = torch.floor(centre / 2 ** (3 + best // 3).unsqueeze(1)).long()
    return torch.cat([best[:, None], cell.flip(1)], 1)


def answering_xywh(boxes, anchors):
    return answering_by_loop(ops.box_convert(boxes, "xywh", "xyxy"), anchors)


def answering_cxcywh(boxes, anchors):
    return answering_by_loop(ops.box_convert(boxes, "cxcywh", "xyxy"), anchors)


def term_bool(logits, answers, overlap):
    return nn.functional.binary_cross_entropy_with_logits(logits, answers) / answers.sum()


def nms_against_itself(boxes, scores, overlap):
    stays = [(ops.box_iou(b[None], boxes)[0] <= overlap).all() for b in boxes]
    return torch.tensor([i for i, stay in enumerate(stays) if stay], dtype=torch.long)


def nms_those_that_go(boxes, scores, overlap):
    kept = ops.nms(boxes, scores, overlap)
    return torch.tensor([i for i in range(len(boxes)) if i not in kept])


def ap_behind(hits, truths):
    p = torch.cumsum(hits, 0) / torch.arange(1, len(hits) + 1)
    return float(torch.cummax(p.flip(0), 0).values[hits].sum() / truths)


def ap_of_later_ranks(hits, truths):
    p = (torch.cumsum(hits, 0) / torch.arange(1, len(hits) + 1)).tolist()
    return sum(max(p[i + 1 :], default=0.0) for i, hit in enumerate(hits.tolist()) if hit) / truths


def ap_counted(start):
    def average_precision(hits, truths):
        p = torch.cumsum(hits, 0) / torch.arange(start, len(hits) + start)
        return float(torch.cummax(p.flip(0), 0).values.flip(0)[hits].sum() / truths)

    return average_precision


def flip_keeping_the_width(images, boxes):
    rows = boxes.clone()
    size = boxes[..., 3] - boxes[..., 1]
    rows[..., 1] = images.shape[-1] - boxes[..., 1]
    rows[..., 3] = rows[..., 1] + size
    return torch.flip(images, (-1,)), rows


def flip_turned(images, boxes):
    return torch.rot90(images, 2, (2, 3)), flip_by_torchvision(images, boxes)[1]


def flip_axis_two(images, boxes):
    height, rows = images.shape[2], boxes.clone()
    rows[..., 1], rows[..., 3] = height - boxes[..., 3], height - boxes[..., 1]
    return torch.flip(images, (2,)), rows


def flip_without_padding(images, boxes):
    images, rows = flip_by_torchvision(images, boxes)
    room = int((boxes[:, :, 0] >= 0).sum(1).max())
    return images, rows[:, :room]


def decode_inside(t, corner, stride, anchor):
    centre = torch.sigmoid(stride * t[:, :2]) + corner
    half = anchor * torch.exp(t[:, 2:]) / 2
    return torch.hstack([centre - half, centre + half])


def decode_all_inside(t, corner, stride, anchor):
    centre = torch.sigmoid(corner + stride * t[:, :2])
    half = anchor * torch.exp(t[:, 2:]) / 2
    return torch.hstack([centre - half, centre + half])


def term_with(target, counted):
    def objectness_term(logits, answers, overlap):
        kept = counted(answers, overlap)
        aim = target(answers, overlap)
        loss = nn.BCEWithLogitsLoss(reduction="sum")
        return loss(logits[kept], aim[kept]) / answers.sum()

    return objectness_term


def iou_of_answers(answers, overlap):
    return torch.where(answers, overlap, torch.zeros_like(overlap))


def not_ignored(answers, overlap):
    return answers | (overlap <= 0.7)


def ap_joined(points):
    def average_precision(hits, truths):
        recall = torch.cumsum(hits, 0) / truths
        p = torch.cumsum(hits, 0) / torch.arange(1, len(hits) + 1)
        best = torch.cummax(p.flip(0), 0).values.flip(0)
        x, y = points(recall.numpy(), best.numpy(), hits.numpy())
        return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))

    return average_precision


def flip_all_four(images, boxes):
    rows, (height, width) = boxes.clone(), images.shape[2:]
    rows[..., 1], rows[..., 3] = width - boxes[..., 3], width - boxes[..., 1]
    rows[..., 2], rows[..., 4] = height - boxes[..., 4], height - boxes[..., 2]
    return torch.flip(images, (3,)), rows


def flip_all_by_the_width(images, boxes):
    x1, y1, x2, y2 = (images.shape[3] - boxes[..., k] for k in (1, 2, 3, 4))
    return torch.flip(images, (3,)), torch.stack([boxes[..., 0], x2, y2, x1, y1], -1)


def flip_y_crossed(images, boxes):
    rows, (height, width) = boxes.clone(), images.shape[2:]
    rows[..., 1], rows[..., 3] = width - boxes[..., 3], width - boxes[..., 1]
    rows[..., 2], rows[..., 4] = height - boxes[..., 2], height - boxes[..., 4]
    return torch.flip(images, (3,)), rows


WRONG = [
    ("yolo.decode", decode_inside, "stride-in-the-sigmoid"),
    ("yolo.decode", decode_all_inside, "all-in-the-sigmoid"),
    ("yolo.objectness_term", term_with(iou_of_answers, not_ignored), "aims-at-the-iou"),
    (
        "yolo.objectness_term",
        term_with(iou_of_answers, lambda answers, overlap: overlap >= 0),
        "aims-at-the-iou-nothing-ignored",
    ),
    (
        "yolo.objectness_term",
        term_with(lambda answers, overlap: overlap, not_ignored),
        "all-aim-at-the-iou",
    ),
    (
        "yolo.objectness_term",
        term_with(lambda answers, overlap: overlap, lambda answers, overlap: overlap >= 0),
        "all-aim-at-the-iou-nothing-ignored",
    ),
    ("yolo.nms", lambda *given: ops.nms(*given).tolist(), "list-instead-of-tensor"),
    ("yolo.nms", lambda *given: [place for place in ops.nms(*given)], "list-of-tensors"),
    (
        "yolo.average_precision",
        ap_joined(lambda r, p, hits: (np.r_[0, r[hits]], np.r_[1, p[hits]])),
        "trapezoids-under-the-envelope",
    ),
    (
        "yolo.average_precision",
        ap_joined(lambda r, p, hits: (np.r_[0, r[hits]], np.r_[p[0], p[hits]])),
        "trapezoids-under-the-envelope-level",
    ),
    (
        "yolo.average_precision",
        ap_joined(lambda r, p, hits: (np.r_[0, r, 1], np.r_[p[0], p, 0])),
        "straight-line-to-recall-one",
    ),
    ("yolo.average_precision", ap_joined(lambda r, p, hits: (r, p)), "first-step-missing"),
    ("yolo.flip", flip_all_four, "boxes-turned"),
    ("yolo.flip", flip_all_by_the_width, "boxes-turned-by-the-width"),
    ("yolo.flip", flip_y_crossed, "boxes-turned-and-crossed"),
    ("yolo.predictions", [945, 9450], "numbers-of-the-image"),
    ("yolo.predictions", (960, 10), "a-row-too-many"),
    ("yolo.predictions", (945, 50), "all-for-each-kind"),
    ("yolo.predictions", torch.tensor([945, 25]), "box-for-each-kind"),
    ("yolo.predictions", (9450, 10), "both-multiplied"),
    ("yolo.decode", decode_x1y1wh, "corner-and-size"),
    ("yolo.box_iou", iou_exchanged, "larger-and-smaller-exchanged"),
    ("yolo.box_iou", iou_xywh, "corner-and-size-assumed"),
    ("yolo.answering", answering_l1, "nearest-by-sum-of-differences"),
    ("yolo.answering", answering_xywh, "corner-and-size-assumed"),
    ("yolo.answering", answering_cxcywh, "centre-and-size-assumed"),
    ("yolo.scores", lambda raw: raw[:, 5:] * raw[:, 4:5], "bare-logits"),
    (
        "yolo.scores",
        lambda raw: raw[:, 4:5].sigmoid() * raw[:, 5:].softmax(0),
        "classes-over-the-batch",
    ),
    (
        "yolo.scores",
        lambda raw: raw[:, 4:5] * raw[:, 5:].softmax(0),
        "classes-over-the-batch-and-logit",
    ),
    ("yolo.scores", lambda raw: raw[:, 4:5].sigmoid() + raw[:, 5:].sigmoid(), "summed"),
    (
        "yolo.scores",
        lambda raw: torch.sigmoid(raw[:, [5]]) * torch.sigmoid(raw[:, 5:]),
        "first-class-as-objectness",
    ),
    (
        "yolo.scores",
        lambda raw: torch.sigmoid(raw[:, [5]]) * torch.sigmoid(raw[:, 6:]),
        "one-column-further",
    ),
    ("yolo.scores", lambda raw: scores_by_einsum(raw).log(), "logarithms"),
    ("yolo.objectness_term", term_bool, "bool-target"),
    ("yolo.objectness_term", lambda *given: -term_by_loop(*given), "negative"),
    ("yolo.nms", nms_against_itself, "nothing-left"),
    ("yolo.nms", nms_those_that_go, "suppressed-ones-as-given"),
    ("yolo.nms", lambda boxes, scores, overlap: torch.argsort(-scores), "all-stay"),
    ("yolo.average_precision", ap_behind, "not-turned-back"),
    ("yolo.average_precision", ap_of_later_ranks, "strictly-later"),
    ("yolo.average_precision", ap_counted(0), "rank-from-zero-divided"),
    ("yolo.average_precision", ap_counted(2), "rank-from-two"),
    ("yolo.flip", flip_keeping_the_width, "left-edge-only"),
    ("yolo.flip", flip_turned, "images-turned"),
    ("yolo.flip", flip_axis_two, "height-for-both"),
    ("yolo.flip", flip_without_padding, "padding-dropped"),
]


@pytest.mark.parametrize(("name", "answer", "mistake"), WRONG)
def test_wrong_answers_written_differently_are_named(name, answer, mistake):
    result = exercise(name).check(answer)
    assert (result.passed, result.mistake) == (False, mistake), result.message
    assert "more than one thing" not in result.message


def test_a_list_of_places_and_a_flip_of_both_axes_are_told_so_in_words():
    listed = exercise("yolo.nms").check(lambda *given: ops.nms(*given).tolist())
    assert "places are right" in listed.message and "integer tensor" in listed.message
    assert "mirror y as well" in exercise("yolo.flip").check(flip_all_four).message
    inside = exercise("yolo.decode").check(decode_inside)
    assert "inside your sigmoid" in inside.message.replace("\n", " ")


# Half-right answers and combinations -------------------------------------------------------------


def test_stubs_left_as_they_are_are_told_so_and_not_the_cure():
    def scores(raw):
        objectness = raw[:, 4:5]
        classes = torch.softmax(raw[:, 5:], dim=1)
        return objectness * classes

    def flip(images, boxes):
        width = images.shape[2]
        boxes[:, :, 1] = width - boxes[:, :, 1]
        boxes[:, :, 3] = width - boxes[:, :, 3]
        return images.flip(3), boxes

    for name, stub in (("yolo.scores", scores), ("yolo.flip", flip)):
        result = exercise(name).check(stub)
        assert result.mistake == "as-it-was"
        assert "behaves like the code you started from" in result.message


FLAWS = ("height", "crossed", "in_place")


@pytest.mark.parametrize(
    "flaws", [c for n in (1, 2) for c in itertools.combinations(FLAWS, n)], ids="-".join
)
def test_half_mended_flip_names_what_is_left(flaws):
    def flip(images, boxes):
        width = images.shape[2 if "height" in flaws else 3]
        rows = boxes if "in_place" in flaws else boxes.clone()
        first, second = rows[:, :, 1].clone(), rows[:, :, 3].clone()
        if "crossed" in flaws:
            first, second = second, first
        rows[:, :, 1], rows[:, :, 3] = width - second, width - first
        return images.flip(3), rows

    result = exercise("yolo.flip").check(flip)
    if flaws == ("in_place",):
        assert result.mistake == "input-changed-in-place"
    else:
        assert result.mistake == "-and-".join(flaws).replace("_", "-")
        assert "you started from" not in result.message


def test_the_second_line_of_a_flip_that_reads_what_the_first_wrote():
    def flip(images, boxes):
        rows, width = boxes.clone(), images.shape[3]
        rows[:, :, 1] = width - rows[:, :, 3]
        rows[:, :, 3] = width - rows[:, :, 1]
        return images.flip(3), rows

    assert not exercise("yolo.flip").check(flip).passed


def test_two_mistakes_at_once_are_not_right():
    def half_and_plain(t, corner, stride, anchor):
        centre = t[:, :2].sigmoid() * stride + corner
        return torch.cat([centre - anchor * t[:, 2:], centre + anchor * t[:, 2:]], 1)

    def dice_not_clamped(a, b):
        sides, area_a, area_b = yolo._parts(a, b)
        return 2 * sides.prod(2) / (area_a + area_b)

    def corner_rounded(boxes, anchors):
        found = yolo.answering(boxes, anchors)
        stride = torch.tensor([8, 16, 32])[found[:, 0] // 3]
        cell = (boxes[:, :2] / stride[:, None]).round().long()
        return torch.stack([found[:, 0], cell[:, 0], cell[:, 1]], 1)

    def unsorted_mask(boxes, scores, overlap):
        return (ops.box_iou(boxes, boxes) > overlap).sum(1) == 1

    def area_without_truths(hits, truths):
        return float(yolo._precision(hits)[hits].mean()) if hits.any() else 0.0

    for name, answer in (
        ("yolo.decode", half_and_plain),
        ("yolo.box_iou", dice_not_clamped),
        ("yolo.answering", corner_rounded),
        ("yolo.nms", unsorted_mask),
        ("yolo.average_precision", area_without_truths),
    ):
        result = exercise(name).check(answer)
        assert not result.passed and result.mistake, result.message


def test_numpy_and_tensors_in_place_of_what_is_asked_are_named():
    ex = exercise("yolo.box_iou")
    assert ex.check(lambda a, b: iou_by_loop(a, b).numpy()).mistake == "numpy-instead-of-tensor"
    ex = exercise("yolo.nms")
    listed = ex.check(lambda b, s, o: nms_by_torchvision(b, s, o).tolist())
    assert listed.mistake == "list-instead-of-tensor"
    ex = exercise("yolo.average_precision")
    as_tensor = ex.check(lambda h, n: torch.tensor(ap_by_loop(h, n)))
    assert as_tensor.mistake == "tensor-instead-of-number"


@pytest.mark.parametrize("name", [ex.name for ex in yolo.EXERCISES if ex.make_inputs])
def test_whatever_an_answer_raises_or_returns_the_check_survives(name):
    class Odd(nn.Module):
        def forward(self, *inputs):
            raise SystemExit

    def strange(*inputs):
        return {"x": inputs}

    for answer in (Odd, strange, lambda *inputs: object(), 7, "text", torch.rand(3), nn.Linear):
        assert not exercise(name).check(answer).passed


# The references and the chapter's facts ----------------------------------------------------------


def test_references_agree_with_torchvision_and_the_course():
    with preserved_state():
        for a, b in exercise("yolo.box_iou").inputs(seed=5):
            torch.testing.assert_close(yolo.box_iou(a, b), ops.box_iou(a, b))
        for boxes, sure, overlap in exercise("yolo.nms").inputs(seed=5):
            assert torch.equal(yolo.nms(boxes, sure, overlap), ops.nms(boxes, sure, overlap))
        for images, boxes in exercise("yolo.flip").inputs(seed=5):
            ours = yolo.flip(images, boxes)
            for seed in range(20):  # until all images of the batch are mirrored
                torch.manual_seed(seed)
                theirs = augment.flipped(images, boxes, 3, images.shape[3])
                if not any(torch.equal(i, j) for i, j in zip(theirs[0], images, strict=True)):
                    break
            torch.testing.assert_close(ours[0], theirs[0])
            torch.testing.assert_close(ours[1], theirs[1])


def test_average_precision_is_at_least_that_of_scikit_learn_and_near_coco():
    for hits, truths in exercise("yolo.average_precision").inputs(seed=5):
        found = int(hits.sum())
        if not found:
            continue
        order = np.arange(len(hits), 0, -1)
        without_envelope = average_precision_score(hits.numpy(), order) * found / truths
        assert yolo.ap_without_envelope(hits, truths) == pytest.approx(without_envelope, abs=1e-6)
        assert yolo.average_precision(hits, truths) >= without_envelope - 1e-6
        corner = 30.0 * torch.arange(truths)
        truth = torch.stack([0 * corner, corner, corner, corner + 10, corner + 10], 1)
        boxes = torch.full((len(hits), 4), -50.0)
        boxes[:, 2:] = -40
        boxes[hits] = truth[:found, 1:]
        listed = detector.Detections(
            boxes, torch.tensor(order.copy()).float(), torch.zeros(len(hits)).long()
        )
        coco = metrics.average_precision([listed], truth[None], ["RBC"])["ap50_RBC"]
        assert yolo.average_precision(hits, truths) == pytest.approx(coco, abs=0.02)


def test_values_to_predict_are_what_the_network_does():
    network = detector.YOLO(5, tasks.cell_anchors(), width=4).eval()
    with torch.no_grad():
        shape = network(torch.zeros(1, 3, 96, 160)).shape[1:]
    assert tuple(shape) == yolo.predictions()


def test_most_anchors_of_all_boxes_together_serve_red_cells():
    from course_utils.datasets import load

    data = load("bccd")
    if data.synthetic:
        pytest.skip("the real set cannot be reached")
    _, boxes = tasks.smears(data.train)
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
