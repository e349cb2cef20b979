"""Chapter 08: right answers written differently pass, and facts that the solutions rest on hold."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn
from torchvision import ops

from course_utils import metrics
from course_utils import yolo as detector
from course_utils.exercises import exercise
from course_utils.tasks import bccd

# Right answers written differently ---------------------------------------------------------------


def decode_by_torchvision(t, corner, stride, anchor):
    centre = (torch.sigmoid(t[:, :2]) + corner / stride) * stride
    size = torch.exp(t[:, 2:] + anchor.log())
    return ops.box_convert(torch.cat([centre, size], 1), "cxcywh", "xyxy")


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


def scores_by_log(raw):
    each = nn.functional.logsigmoid(raw)
    return (each[:, 4].unsqueeze(-1) + each[:, 5:]).exp()


def flip_by_torchvision(images, boxes):
    from torchvision.transforms.v2.functional import horizontal_flip

    width = images.shape[-1]
    x1, x2 = width - boxes[..., 3], width - boxes[..., 1]
    rows = torch.stack([boxes[..., 0], x1, boxes[..., 2], x2, boxes[..., 4]], -1)
    return [horizontal_flip(images), rows]


def flip_image_by_image(images, boxes):
    rows = torch.full_like(boxes, -1)
    for new, one in zip(rows, boxes, strict=True):
        there = one[one[:, 0] >= 0]
        new[: len(there)] = there
        new[: len(there), [1, 3]] = images.shape[3] - there[:, [3, 1]]
    return torch.flip(images, dims=(-1,)), rows


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
            total, count = total + nn.functional.softplus(-o), count + 1
        elif not iou > 0.7:
            total = total - nn.functional.logsigmoid(-o)
    return total / count


def term_by_weights(logits, answers, overlap):
    ignored = (overlap > 0.7).logical_and(~answers)
    return nn.functional.binary_cross_entropy_with_logits(
        logits, answers.float(), weight=1 - ignored.float(), reduction="sum"
    ).div(answers.float().sum())


RIGHT = {
    "yolo.predictions": [(945, 10), [945, 10.0], torch.tensor([945, 10]), np.array([945, 10])],
    "yolo.decode": [decode_by_torchvision, DecodeModule],
    "yolo.box_iou": [iou_by_loop, ops.box_iou],
    "yolo.answering": [answering_by_loop, answering_by_the_course],
    "yolo.scores": [scores_by_exp, scores_by_log],
    "yolo.objectness_term": [term_by_loop, term_by_weights],
    "yolo.nms": [ops.nms, nms_with_a_mask, nms_asking_those_kept],
    "yolo.average_precision": [ap_by_loop, ap_by_recall_steps],
    "yolo.flip": [flip_by_torchvision, flip_image_by_image],
}


# Facts --------------------------------------------------------------------------------------------


def test_average_precision_is_at_least_that_of_scikit_learn_and_near_coco():
    ours = exercise("yolo.average_precision").reference
    for hits, truths in exercise("yolo.average_precision").inputs(seed=5):
        found = int(hits.sum())
        if not found:
            continue
        order = np.arange(len(hits), 0, -1)
        without_envelope = average_precision_score(hits.numpy(), order) * found / truths
        assert ours(hits, truths) >= without_envelope - 1e-6
        corner = 30.0 * torch.arange(truths)
        truth = torch.stack([0 * corner, corner, corner, corner + 10, corner + 10], 1)
        boxes = torch.full((len(hits), 4), -50.0)
        boxes[:, 2:] = -40
        boxes[hits] = truth[:found, 1:]
        listed = detector.Detections(
            boxes, torch.tensor(order.copy()).float(), torch.zeros(len(hits)).long()
        )
        coco = metrics.average_precision([listed], truth[None], ["RBC"])["ap50_RBC"]
        assert ours(hits, truths) == pytest.approx(coco, abs=0.02)


def test_the_course_decodes_alike_but_for_sizes_beyond_its_bound():
    for t, corner, stride, anchor in exercise("yolo.decode").inputs(seed=5):
        t[:, 2:].clamp_(-8, 4)
        cells = detector.Grid(corner, torch.full((len(t), 1), float(stride)), anchor, (), ())
        expected = exercise("yolo.decode").reference(t, corner, stride, anchor)
        torch.testing.assert_close(detector.decode(t, cells), expected)


def test_values_to_predict_are_what_the_network_does():
    network = detector.YOLO(5, bccd.cell_anchors(), width=4).eval()
    with torch.no_grad():
        shape = network(torch.zeros(1, 3, 96, 160)).shape[1:]
    assert tuple(shape) == exercise("yolo.predictions").reference()
