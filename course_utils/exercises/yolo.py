"""Exercises of chapter 08: the parts of a detector, a term of its loss, its score, and two bugs."""

# The right and the wrong answers are code as a learner would write it in a notebook: they import
# what they need besides torch themselves, and a solution is shown as it stands here.

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from .engine import Exercise, Inputs
from .preparing import as_function

# Predictions of an image --------------------------------------------------------------------------


def predictions():
    cells = sum((96 // stride) * (160 // stride) for stride in (8, 16, 32))
    return 3 * cells, 4 + 1 + 5


PREDICTIONS = Exercise(
    name="yolo.predictions",
    question=(
        "A detector with strides 8, 16 and 32 and three anchors at each of them looks for five "
        "kinds of objects; how many predictions does it make for an image 96 pixels high and 160 "
        "wide, and of how many numbers is each made? "
        "Answer with a tuple (predictions, numbers of one prediction) of two whole numbers, before "
        "you ask the network."
    ),
    reference=predictions,
    wrong={
        "one-anchor": (
            lambda: (315, 10),
            "The second is right. The first is the number of cells: how many predictions stand in "
            "each cell?",
        ),
        "finest-scale-only": (
            lambda: (720, 10),
            "The second is right. You count the finest scale alone.",
        ),
        "coarsest-scale-only": (
            lambda: (45, 10),
            "The second is right. You count the coarsest scale alone.",
        ),
        "nine-anchors-everywhere": (
            lambda: (2835, 10),
            "The second is right. The nine anchors are dealt out to the scales: no cell has all of "
            "them.",
        ),
        "without-objectness": (
            lambda: (945, 9),
            "The first is right. Beside the box and the classes there is one number more.",
        ),
        "without-classes": (
            lambda: (945, 5),
            "The first is right. Box and objectness are there; where do the classes stand?",
        ),
        "box-only": (lambda: (945, 4), "The first is right. A prediction is more than its box."),
        "one-class-number": (
            lambda: (945, 6),
            "The first is right. The class is not one number that names it: each class has a logit "
            "of its own.",
        ),
        "channels-of-the-head": (
            lambda: (945, 30),
            "The first is right. The second is the number of channels of a head, which holds the "
            "predictions of all anchors of a cell.",
        ),
        "numbers-of-the-image": (
            lambda: (945, 9450),
            "The first is right. The second counts the numbers of all predictions together; asked "
            "for are those of one.",
        ),
        "both-multiplied": (
            lambda: (9450, 10),
            "The second is right. The first counts numbers; asked for are predictions.",
        ),
        "all-for-each-kind": (
            lambda: (945, 50),
            "The first is right. A prediction is not repeated for each kind: what of it belongs to "
            "a kind?",
        ),
        "box-for-each-kind": (
            lambda: (945, 25),
            "The first is right. Box and objectness stand there once, not once for each kind.",
        ),
        "a-row-too-many": (
            lambda: (960, 10),
            "The second is right. Count the coarsest grid again: in this image no row of cells "
            "sticks out.",
        ),
        "stride-not-squared": (
            lambda: (3 * 96 * 160 * 7 // 32, 10),
            "The second is right. A stride counts along both axes: it makes fewer rows and fewer "
            "columns.",
        ),
        "order-swapped": (lambda: (10, 945), "Both numbers are right, in the wrong order."),
        "kinds-of-the-chapter": (
            lambda: (945, 8),
            "The first is right. The second is that of the chapter's detector, which knows three "
            "kinds of objects.",
        ),
        "image-of-the-chapter": (
            lambda: (4740, 10),
            "The second is right. The first is that of the chapter's images, which have another "
            "size.",
        ),
        "chapter-s-detector": (
            lambda: (4740, 8),
            "These are the numbers of the chapter's detector. The question has another image and "
            "other objects.",
        ),
        "shape-of-the-heads": (
            lambda: (315, 30),
            "This is what the heads give: so many cells, and so many channels for each. "
            "Predictions are counted one by one: a cell makes more than one.",
        ),
    },
    hints=(
        "At stride 8 there are 96 / 8 rows of cells and 160 / 8 columns.",
        "Add the cells of the three scales, then count three predictions for each cell.",
        "A prediction holds a box, an objectness, and a logit for each kind of object.",
    ),
    why=(
        "12 x 20, 6 x 10 and 3 x 5 cells, each with three anchors. Four numbers for the box, one "
        "for objectness, five for the classes."
    ),
)


# Decoding -----------------------------------------------------------------------------------------


def decode(t, corner, stride, anchor):
    centre = torch.sigmoid(t[:, :2]) * stride + corner
    size = anchor * torch.exp(t[:, 2:])
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def _box(centre, size):
    return torch.cat([centre - size / 2, centre + size / 2], 1)


def decode_without_sigmoid(t, corner, stride, anchor):
    return _box(t[:, :2] * stride + corner, anchor * t[:, 2:].exp())


def decode_without_stride(t, corner, stride, anchor):
    return _box(t[:, :2].sigmoid() + corner, anchor * t[:, 2:].exp())


def decode_corner_in_cells(t, corner, stride, anchor):
    return _box((t[:, :2].sigmoid() + corner) * stride, anchor * t[:, 2:].exp())


def decode_without_corner(t, corner, stride, anchor):
    return _box(t[:, :2].sigmoid() * stride, anchor * t[:, 2:].exp())


def decode_sigmoid_size(t, corner, stride, anchor):
    return _box(t[:, :2].sigmoid() * stride + corner, anchor * t[:, 2:].sigmoid())


def decode_plain_size(t, corner, stride, anchor):
    return _box(t[:, :2].sigmoid() * stride + corner, anchor * t[:, 2:])


def decode_anchor_added(t, corner, stride, anchor):
    return _box(t[:, :2].sigmoid() * stride + corner, anchor + t[:, 2:].exp())


def decode_size_in_cells(t, corner, stride, anchor):
    return _box(t[:, :2].sigmoid() * stride + corner, anchor * t[:, 2:].exp() * stride)


def decode_centre_and_size(t, corner, stride, anchor):
    return torch.cat([t[:, :2].sigmoid() * stride + corner, anchor * t[:, 2:].exp()], 1)


def decode_corner_and_size(t, corner, stride, anchor):
    size = anchor * t[:, 2:].exp()
    return torch.cat([t[:, :2].sigmoid() * stride + corner - size / 2, size], 1)


def decode_without_half(t, corner, stride, anchor):
    return _box(t[:, :2].sigmoid() * stride + corner, 2 * anchor * t[:, 2:].exp())


def decode_from_the_corner(t, corner, stride, anchor):
    low = t[:, :2].sigmoid() * stride + corner
    return torch.cat([low, low + anchor * t[:, 2:].exp()], 1)


def decode_turned(t, corner, stride, anchor):
    return _box(t[:, :2].sigmoid() * stride + corner, anchor.flip(1) * t[:, 2:].exp())


def decode_stride_inside(t, corner, stride, anchor):
    return _box((t[:, :2] * stride).sigmoid() + corner, anchor * t[:, 2:].exp())


def decode_all_inside(t, corner, stride, anchor):
    return _box((t[:, :2] * stride + corner).sigmoid(), anchor * t[:, 2:].exp())


def decode_as_yolov5(t, corner, stride, anchor):
    centre = (2 * t[:, :2].sigmoid() - 0.5) * stride + corner
    return _box(centre, anchor * (2 * t[:, 2:].sigmoid()).square())


def _four_numbers(rng: torch.Generator) -> Inputs:
    cases = []
    for n, stride in ((1, 8), (2, 32), (5, 16), (7, 8), (4, 32)):
        t = torch.randn(n, 4, generator=rng)
        corner = torch.randint(1, 9, (n, 2), generator=rng).float() * stride
        anchor = 10 + 90 * torch.rand(n, 2, generator=rng)
        cases.append((t, corner, stride, anchor))
    return cases


DECODE = Exercise(
    name="yolo.decode",
    question=(
        "Write decode(t, corner, stride, anchor), which turns the four numbers of each of n "
        "predictions into a box in pixels, the way YOLOv3 does. "
        "`t` is a float tensor (n, 4), rows t_x, t_y, t_w, t_h. `corner` (n, 2) holds x and y of "
        "the upper left corner of each prediction's cell, in pixels of the image; `stride` is the "
        "side of a cell in pixels, one number for all; `anchor` (n, 2) holds width and height of "
        "each prediction's anchor in pixels. Return a float tensor (n, 4), rows x1, y1, x2, y2."
    ),
    reference=decode,
    make_inputs=_four_numbers,
    wrong={
        "centre-without-sigmoid": (
            decode_without_sigmoid,
            "Your sizes are right. Your centres can leave their cell: what keeps them inside?",
        ),
        "stride-forgotten": (
            decode_without_stride,
            "Your sizes are right. Your centres lie within one pixel of the corner: the sigmoid "
            "gives a share of a cell, and a cell is more than a pixel wide.",
        ),
        "stride-in-the-sigmoid": (
            decode_stride_inside,
            "Your sizes are right. The stride stands inside your sigmoid, which squeezes it into a "
            "share again: your centres lie within one pixel of the corner.",
        ),
        "all-in-the-sigmoid": (
            decode_all_inside,
            "Your sizes are right. Stride and corner stand inside your sigmoid, so that all your "
            "centres lie within the first pixel of the image.",
        ),
        "corner-scaled-too": (
            decode_corner_in_cells,
            "Your sizes are right. You multiply the corner by the stride as well, but it is given "
            "in pixels already.",
        ),
        "corner-forgotten": (
            decode_without_corner,
            "Your sizes are right. Your centres all lie in the first cell of the image.",
        ),
        "sigmoid-for-the-size": (
            decode_sigmoid_size,
            "Your centres are right. With a sigmoid a box can never be larger than its anchor.",
        ),
        "size-without-exp": (
            decode_plain_size,
            "Your centres are right. Where t_w is negative, your width is negative, too.",
        ),
        "anchor-added": (
            decode_anchor_added,
            "Your centres are right. The anchor is a factor, not something to add to.",
        ),
        "size-in-cells": (
            decode_size_in_cells,
            "Your centres are right. You multiply the size by the stride, but anchors are given in "
            "pixels.",
        ),
        "centre-and-size": (
            decode_centre_and_size,
            "Centre and size are right. Asked for are the two corners of the box.",
        ),
        "corner-and-size": (
            decode_corner_and_size,
            "The first corner is right, and so is the size. Asked for is the second corner in its "
            "place.",
        ),
        "half-forgotten": (
            decode_without_half,
            "Your boxes have the right centre and are twice as wide and as high as they should be.",
        ),
        "centre-taken-for-a-corner": (
            decode_from_the_corner,
            "Your boxes have the right size. The first two numbers place the centre of a box, not "
            "its upper left corner.",
        ),
        "width-and-height-swapped": (
            decode_turned,
            "Your centres are right. Width and height of the anchor are exchanged.",
        ),
        "as-yolov5": (
            decode_as_yolov5,
            "This is how YOLOv5 decodes. Asked for is YOLOv3's rule, from the text above.",
        ),
    },
    hints=(
        "Work out centre and size first, each as an (n, 2) tensor; the corners come last.",
        "The centre: sigmoid of the first two numbers, in cells; times the stride, plus the "
        "corner.",
        "The size: the anchor times the exponential of the last two numbers. Half of it lies on "
        "either side of the centre.",
    ),
    why=(
        "The sigmoid keeps the centre in its cell, so that each place of the image has one cell "
        "that answers for it. The exponential keeps sizes positive, and makes twice as large and "
        "half as large equally far from the anchor."
    ),
)


# IoU of boxes -------------------------------------------------------------------------------------


def box_iou(a, b):
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp(min=0).prod(2)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(1) for box in (a, b))
    return both / (area_a[:, None] + area_b[None] - both)


def _parts(a, b, extra=0.0):
    """Sides of the overlap (n, m, 2), areas (n, 1) and (1, m)."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    areas = [(box[:, 2:] - box[:, :2] + extra).prod(1) for box in (a, b)]
    return high - low + extra, areas[0][:, None], areas[1][None]


def iou_not_clamped(a, b):
    sides, area_a, area_b = _parts(a, b)
    both = sides.prod(2)
    return both / (area_a + area_b - both)


def iou_clamped_too_late(a, b):
    sides, area_a, area_b = _parts(a, b)
    both = sides.prod(2).clamp(min=0)
    return both / (area_a + area_b - both)


def iou_overlap_counted_twice(a, b):
    sides, area_a, area_b = _parts(a, b)
    return sides.clamp(min=0).prod(2) / (area_a + area_b)


def iou_as_dice(a, b):
    return 2 * iou_overlap_counted_twice(a, b)


def iou_of_smaller(a, b):
    sides, area_a, area_b = _parts(a, b)
    return sides.clamp(min=0).prod(2) / torch.minimum(area_a, area_b)


def iou_of_larger(a, b):
    sides, area_a, area_b = _parts(a, b)
    return sides.clamp(min=0).prod(2) / torch.maximum(area_a, area_b)


def iou_of_first(a, b):
    sides, area_a, _ = _parts(a, b)
    return sides.clamp(min=0).prod(2) / area_a


def iou_one_pixel_more(a, b):
    sides, area_a, area_b = _parts(a, b, extra=1.0)
    both = sides.clamp(min=0).prod(2)
    return both / (area_a + area_b - both)


def iou_transposed(a, b):
    return box_iou(b, a)


def iou_row_by_row(a, b):
    n = min(len(a), len(b))
    return box_iou(a[:n], b[:n]).diagonal()


def iou_by_shape(a, b):
    sizes_a, sizes_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    both = torch.minimum(sizes_a[:, None], sizes_b[None]).prod(2)
    return both / (sizes_a.prod(1)[:, None] + sizes_b.prod(1)[None] - both)


def iou_overlap_only(a, b):
    return _parts(a, b)[0].clamp(min=0).prod(2)


def iou_generalised(a, b):
    sides, area_a, area_b = _parts(a, b)
    both = sides.clamp(min=0).prod(2)
    low = torch.minimum(a[:, None, :2], b[None, :, :2])
    hull = (torch.maximum(a[:, None, 2:], b[None, :, 2:]) - low).prod(2)
    union = area_a + area_b - both
    return both / union - (hull - union) / hull


def iou_sides_as_centre_and_size(a, b):
    turned = [torch.cat([x[:, :2] - x[:, 2:] / 2, x[:, :2] + x[:, 2:] / 2], 1) for x in (a, b)]
    return box_iou(*turned)


def iou_sides_as_corner_and_size(a, b):
    return box_iou(*(torch.cat([x[:, :2], x[:, :2] + x[:, 2:]], 1) for x in (a, b)))


def iou_larger_and_smaller_exchanged(a, b):
    low = torch.minimum(a[:, None, :2], b[None, :, :2])
    both = (torch.maximum(a[:, None, 2:], b[None, :, 2:]) - low).prod(2)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (a, b)]
    return both / (areas[0][:, None] + areas[1][None] - both)


def iou_sides_without_sign(a, b):
    sides, area_a, area_b = _parts(a, b)
    both = sides.abs().prod(2)
    return both / (area_a + area_b - both)


def iou_clamped_at_the_end(a, b):
    return iou_not_clamped(a, b).clamp(min=0)


def iou_clamped_to_the_range(a, b):
    return iou_not_clamped(a, b).clamp(0, 1)


def iou_over_the_hull(a, b):
    low = torch.minimum(a[:, None, :2], b[None, :, :2])
    hull = (torch.maximum(a[:, None, 2:], b[None, :, 2:]) - low).prod(2)
    return _parts(a, b)[0].clamp(min=0).prod(2) / hull


def _random_boxes(n: int, rng: torch.Generator, size: float = 40.0) -> torch.Tensor:
    low = size * torch.rand(n, 2, generator=rng)
    return torch.cat([low, low + 8 + size / 2 * torch.rand(n, 2, generator=rng)], 1)


def _pairs_of_boxes(rng: torch.Generator) -> Inputs:
    cases = []
    for n, m in ((2, 3), (3, 2), (6, 4), (4, 9)):
        a, b = _random_boxes(n, rng), _random_boxes(m, rng)
        b[0] = torch.cat([a[0, :2] + 1, a[0, 2:] - 2])  # one inside the other
        b[1] = a[1] + 60  # apart in both directions
        if m > 2:  # apart in both directions, by little
            b[2] = torch.cat([a[0, 2:] + 3, 2 * a[0, 2:] - a[0, :2] + 3])
        cases.append((a, b))
    return cases


BOX_IOU = Exercise(
    name="yolo.box_iou",
    question=(
        "Write box_iou(a, b), the IoU of each box of one set with each box of another, without "
        "torchvision. "
        "`a` is a float tensor (n, 4) and `b` one of (m, 4), rows x1, y1, x2, y2 with x1 < x2 and "
        "y1 < y2; a box is (x2 - x1) wide. Return a float tensor (n, m), row i and column j for "
        "a[i] and b[j]. Boxes that do not touch have IoU 0."
    ),
    reference=box_iou,
    make_inputs=_pairs_of_boxes,
    wrong={
        "not-clamped": (
            iou_not_clamped,
            "Right for boxes that overlap. For two that lie apart the sides of the overlap come "
            "out negative: what do you do with them?",
        ),
        "clamped-too-late": (
            iou_clamped_too_late,
            "Nearly. Where two boxes lie apart in both directions, two negative sides make a "
            "positive area.",
        ),
        "clamped-at-the-end": (
            iou_clamped_at_the_end,
            "Nearly. Bringing negative results to 0 hides most of it. Where two boxes lie apart in "
            "both directions, two negative sides make a positive area.",
        ),
        "clamped-to-the-range": (
            iou_clamped_to_the_range,
            "Nearly. Forcing the result into 0 to 1 hides most of it. Where two boxes lie apart in "
            "both directions, two negative sides make a positive area.",
        ),
        "sides-without-sign": (
            iou_sides_without_sign,
            "Right for boxes that overlap. By taking the sides without their sign you make an "
            "overlap out of the gap between two boxes.",
        ),
        "over-the-enclosing-box": (
            iou_over_the_hull,
            "You divide by the area of the smallest box around both. The union leaves out its "
            "empty corners.",
        ),
        "overlap-counted-twice": (
            iou_overlap_counted_twice,
            "Below the line stands the sum of both areas. The union counts the overlap once.",
        ),
        "dice-instead-of-iou": (
            iou_as_dice,
            "This is Dice: twice the overlap over the sum of areas.",
        ),
        "over-the-smaller": (
            iou_of_smaller,
            "You divide by the smaller area, so that a box inside another one counts 1.",
        ),
        "over-the-larger": (iou_of_larger, "You divide by the larger of the two areas."),
        "over-the-first": (
            iou_of_first,
            "You divide by the area of a alone. IoU is symmetric: both count.",
        ),
        "one-pixel-more": (
            iou_one_pixel_more,
            "You take widths as x2 - x1 + 1, a convention of old code. The question says how wide "
            "a box is.",
        ),
        "transposed": (iou_transposed, "The numbers are right. Rows and columns are exchanged."),
        "row-by-row": (
            iou_row_by_row,
            "You compare a[0] with b[0], a[1] with b[1], and so on. Asked for are all pairs.",
        ),
        "shape-only": (
            iou_by_shape,
            "This is the IoU of two shapes laid over each other, which the anchors use. Here it "
            "matters where the boxes lie.",
        ),
        "overlap-only": (
            iou_overlap_only,
            "This is the area of the overlap. By what is it divided?",
        ),
        "generalised-iou": (
            iou_generalised,
            "This is the generalised IoU, which is negative for boxes that lie apart.",
        ),
        "centre-and-size-assumed": (
            iou_sides_as_centre_and_size,
            "You read a row as centre and size. It holds two corners.",
        ),
        "corner-and-size-assumed": (
            iou_sides_as_corner_and_size,
            "You read a row as corner and size. It holds two corners.",
        ),
        "larger-and-smaller-exchanged": (
            iou_larger_and_smaller_exchanged,
            "What you take for the overlap is the box around both, and so an IoU can come out "
            "above 1, or negative. Where does the overlap of two boxes begin?",
        ),
    },
    hints=(
        "The overlap is a box, too: its left edge is the larger of the two left edges. And its "
        "right edge?",
        "An axis of length one (a[:, None]) lets torch pair each box with each other.",
        "Bring negative sides to 0 before you multiply them. The union is the sum of the areas "
        "minus the overlap.",
    ),
    why=(
        "The overlap reaches from the larger lower corner to the smaller upper corner; a side that "
        "comes out negative means that the boxes lie apart along this axis."
    ),
)  # fmt: skip


# Which prediction answers? ------------------------------------------------------------------------


def answering(boxes, anchors):
    sizes = boxes[:, 2:] - boxes[:, :2]
    both = torch.minimum(sizes[:, None], anchors).prod(2)
    overlap = both / (sizes.prod(1)[:, None] + anchors.prod(1) - both)
    best = overlap.argmax(1)
    stride = torch.tensor([8, 16, 32])[best // 3]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    cell = (centre / stride[:, None]).long()
    return torch.stack([best, cell[:, 1], cell[:, 0]], dim=1)


def _answer(boxes, anchors, best=None, strides=(8, 16, 32), which=None, point=None, whole=None):
    if best is None:
        best = answering(boxes, anchors)[:, 0]
    stride = torch.tensor(strides)[best // 3 if which is None else which(best)]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 if point is None else point(boxes)
    cell = (centre / stride[:, None]).long() if whole is None else whole(centre / stride[:, None])
    return torch.stack([best, cell[:, 1], cell[:, 0]], 1)


def _shapes(boxes, anchors):
    sizes = boxes[:, 2:] - boxes[:, :2]
    return sizes[:, None], anchors[None]


def answering_at_the_corner_of_the_image(boxes, anchors):
    shapes = torch.cat([torch.zeros_like(anchors), anchors], 1)
    return _answer(boxes, anchors, box_iou(boxes, shapes).argmax(1))


def answering_middle_grid(boxes, anchors):
    return _answer(boxes, anchors, strides=(16, 16, 16))


def answering_coarsest_grid(boxes, anchors):
    return _answer(boxes, anchors, strides=(32, 32, 32))


def answering_from_one(boxes, anchors):
    return answering(boxes, anchors) + 1


def answering_cells_from_one(boxes, anchors):
    return answering(boxes, anchors) + torch.tensor([0, 1, 1])


def answering_anchors_from_one(boxes, anchors):
    return answering(boxes, anchors) + torch.tensor([1, 0, 0])


def answering_column_first(boxes, anchors):
    return answering(boxes, anchors)[:, [0, 2, 1]]


def answering_by_corner(boxes, anchors):
    return _answer(boxes, anchors, point=lambda b: b[:, :2])


def answering_by_far_corner(boxes, anchors):
    return _answer(boxes, anchors, point=lambda b: b[:, 2:])


def answering_by_half_size(boxes, anchors):
    return _answer(boxes, anchors, point=lambda b: (b[:, 2:] - b[:, :2]) / 2)


def answering_rounded(boxes, anchors):
    return _answer(boxes, anchors, whole=lambda cell: cell.round().long())


def answering_finest_grid(boxes, anchors):
    return _answer(boxes, anchors, strides=(8, 8, 8))


def answering_wrong_scale(boxes, anchors):
    return _answer(boxes, anchors, which=lambda best: best % 3)


def answering_scales_reversed(boxes, anchors):
    return _answer(boxes, anchors, strides=(32, 16, 8))


def answering_in_pixels(boxes, anchors):
    return _answer(boxes, anchors, strides=(1, 1, 1))


def answering_worst(boxes, anchors):
    sizes, shapes = _shapes(boxes, anchors)
    both = torch.minimum(sizes, shapes).prod(2)
    overlap = both / (sizes.prod(2) + shapes.prod(2) - both)
    return _answer(boxes, anchors, overlap.argmin(1))


def answering_most_overlap(boxes, anchors):
    sizes, shapes = _shapes(boxes, anchors)
    return _answer(boxes, anchors, torch.minimum(sizes, shapes).prod(2).argmax(1))


def answering_by_distance(boxes, anchors):
    sizes, shapes = _shapes(boxes, anchors)
    return _answer(boxes, anchors, (sizes - shapes).square().sum(2).argmin(1))


def answering_by_sum_of_differences(boxes, anchors):
    sizes, shapes = _shapes(boxes, anchors)
    return _answer(boxes, anchors, (sizes - shapes).abs().sum(2).argmin(1))


def answering_corner_and_size(boxes, anchors):
    return answering(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), anchors)


def answering_centre_and_size(boxes, anchors):
    half = boxes[:, 2:] / 2
    return answering(torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], 1), anchors)


def answering_by_area(boxes, anchors):
    sizes, shapes = _shapes(boxes, anchors)
    return _answer(boxes, anchors, (sizes.prod(2) - shapes.prod(2)).abs().argmin(1))


def answering_with_scale(boxes, anchors):
    found = answering(boxes, anchors)
    return torch.cat([found[:, :1] // 3, found[:, 1:]], 1)


def answering_with_place(boxes, anchors):
    found = answering(boxes, anchors)
    return torch.cat([found[:, :1] % 3, found[:, 1:]], 1)


def _boxes_and_anchors(rng: torch.Generator) -> Inputs:
    base = torch.tensor(
        [
            *([12, 26], [30, 14], [24, 24]),
            *([60, 34], [36, 62], [52, 52]),
            *([120, 70], [70, 130], [110, 115]),
        ]
    ).float()
    cases = []
    for n in (2, 5, 9, 16):
        anchors = base * (0.9 + 0.2 * torch.rand(9, 2, generator=rng))
        size = base[torch.arange(n) * 5 % 9] * (0.75 + 0.5 * torch.rand(n, 2, generator=rng))
        if n > 2:  # as wide as one anchor and as high as another: distance and area mislead
            size[1] = torch.tensor([200.0, 30.0])
            size[2] = torch.tensor([16.0, 90.0])
            size[3] = torch.tensor([300.0, 240.0])
            # One for which it matters how the distance in pixels is measured.
            between = 10 + 130 * torch.rand(400, 2, generator=rng)
            apart = between[:, None] - anchors
            differ = apart.abs().sum(2).argmin(1) != apart.square().sum(2).argmin(1)
            size[4] = between[differ][0]
        low = 20 + 200 * torch.rand(n, 2, generator=rng)
        cases.append((torch.cat([low, low + size], 1), anchors))
    return cases


ANSWERING = Exercise(
    name="yolo.answering",
    question=(
        "Write answering(boxes, anchors), which says for each true box which prediction is to give "
        "it by YOLOv3's rule: the anchor of the best shape, in the cell of the centre. "
        "`boxes` is a float tensor (n, 4), rows x1, y1, x2, y2 in pixels, n at least 1. `anchors` "
        "is a float tensor (9, 2), widths and heights in pixels: 0 to 2 belong to stride 8, 3 to 5 "
        "to stride 16, 6 to 8 to stride 32. The best shape is the one of highest IoU with the box "
        "when both are laid at one corner. Return an integer tensor (n, 3), rows (anchor, row of "
        "the cell, column of the cell); the anchor is a number from 0 to 8, the cell one of the "
        "anchor's own stride, counted from 0. All centres lie in the image."
    ),
    reference=answering,
    make_inputs=_boxes_and_anchors,
    wrong={
        "column-before-row": (
            answering_column_first,
            "All three are right, but the row of a cell is to come before its column. The row "
            "follows from y.",
        ),
        "cell-of-the-corner": (
            answering_by_corner,
            "The anchor is right. You take the cell of the upper left corner of the box. Asked for "
            "is that of its centre.",
        ),
        "cell-of-the-other-corner": (
            answering_by_far_corner,
            "The anchor is right. You take the cell of the lower right corner of the box. Asked "
            "for is that of its centre.",
        ),
        "half-the-size": (
            answering_by_half_size,
            "The anchor is right. Your centre is half of width and height: it does not know where "
            "the box lies.",
        ),
        "rounded": (
            answering_rounded,
            "The anchor is right. You round to the nearest cell; a centre belongs to the cell in "
            "which it lies.",
        ),
        "always-stride-8": (
            answering_finest_grid,
            "The anchor is right. You count cells of 8 pixels for every box; the anchor says which "
            "stride it is.",
        ),
        "always-stride-16": (
            answering_middle_grid,
            "The anchor is right. You count cells of 16 pixels for every box; the anchor says "
            "which stride it is.",
        ),
        "always-stride-32": (
            answering_coarsest_grid,
            "The anchor is right. You count cells of 32 pixels for every box; the anchor says "
            "which stride it is.",
        ),
        "all-from-one": (
            answering_from_one,
            "Nearly. You count anchors, rows and columns from 1.",
        ),
        "cells-from-one": (
            answering_cells_from_one,
            "Nearly. The anchor is right. You count rows and columns from 1.",
        ),
        "anchors-from-one": (
            answering_anchors_from_one,
            "Nearly. The cell is right. You count the anchors from 1.",
        ),
        "anchors-at-the-origin": (
            answering_at_the_corner_of_the_image,
            "You compare the box where it lies with anchors in the corner of the image. Only the "
            "shapes are to be compared.",
        ),
        "stride-by-place": (
            answering_wrong_scale,
            "The anchor is right. The stride goes with groups of three neighbouring anchors: 0 to "
            "2 share one.",
        ),
        "strides-reversed": (
            answering_scales_reversed,
            "The anchor is right. Your strides are the wrong way round: small anchors belong to "
            "the fine grid.",
        ),
        "pixels-instead-of-cells": (
            answering_in_pixels,
            "The anchor is right. Your row and column count pixels, not cells.",
        ),
        "worst-shape": (answering_worst, "You choose the anchor whose shape fits worst."),
        "most-overlap": (
            answering_most_overlap,
            "You choose the anchor with the largest overlap. The larger an anchor, the better it "
            "does in that: what does IoU divide by?",
        ),
        "nearest-by-distance": (
            answering_by_distance,
            "You choose the anchor whose width and height are nearest in pixels. Asked for is the "
            "highest IoU of the shapes.",
        ),
        "nearest-by-sum-of-differences": (
            answering_by_sum_of_differences,
            "You add up the differences of width and height in pixels. Asked for is the highest "
            "IoU of the shapes.",
        ),
        "corner-and-size-assumed": (
            answering_corner_and_size,
            "You read a row as corner and size. It holds two corners.",
        ),
        "centre-and-size-assumed": (
            answering_centre_and_size,
            "You read a row as centre and size. It holds two corners.",
        ),
        "nearest-by-area": (
            answering_by_area,
            "You choose the anchor of the most similar area, whatever its shape.",
        ),
        "scale-instead-of-anchor": (
            answering_with_scale,
            "The cell is right. Your first column is the number of the scale; asked for is the "
            "anchor, 0 to 8.",
        ),
        "place-instead-of-anchor": (
            answering_with_place,
            "The cell is right. Your first column counts the anchors within their scale; asked for "
            "is 0 to 8.",
        ),
    },
    hints=(
        "Two questions, one after the other: which shape fits best, and in which cell of that "
        "shape's grid does the centre lie?",
        "Laid at one corner, two shapes overlap in the smaller width times the smaller height.",
        "The number of the scale is the anchor's number divided by 3, rounded down; the column is "
        "x of the centre divided by the stride, rounded down.",
    ),
    why=(
        "The shape decides the anchor, the anchor the scale, the scale the size of the cells, and "
        "the centre the cell."
    ),
)


# Scores: find the bug -----------------------------------------------------------------------------


def scores(raw):
    objectness = torch.sigmoid(raw[:, 4:5])
    classes = torch.sigmoid(raw[:, 5:])
    return objectness * classes


def scores_as_given(raw):
    return raw[:, 4:5] * torch.softmax(raw[:, 5:], 1)


def scores_softmax(raw):
    return raw[:, 4:5].sigmoid() * torch.softmax(raw[:, 5:], 1)


def scores_bare_logit(raw):
    return raw[:, 4:5] * raw[:, 5:].sigmoid()


def scores_without_objectness(raw):
    return raw[:, 5:].sigmoid()


def scores_softmax_alone(raw):
    return torch.softmax(raw[:, 5:], 1)


def scores_logits_added(raw):
    return torch.sigmoid(raw[:, 4:5] + raw[:, 5:])


def scores_softmax_of_all(raw):
    return torch.softmax(raw[:, 4:], 1)[:, 1:]


def scores_objectness_among_classes(raw):
    return raw[:, 4:5].sigmoid() * raw[:, 4:].sigmoid()


def scores_objectness_over_the_batch(raw):
    return torch.softmax(raw[:, 4:5], 0) * raw[:, 5:].sigmoid()


def scores_logits_multiplied(raw):
    return torch.sigmoid(raw[:, 4:5] * raw[:, 5:])


def scores_bare_logits(raw):
    return raw[:, 4:5] * raw[:, 5:]


def scores_classes_over_the_batch(raw):
    return raw[:, 4:5].sigmoid() * torch.softmax(raw[:, 5:], 0)


def scores_classes_over_the_batch_and_logit(raw):
    return raw[:, 4:5] * torch.softmax(raw[:, 5:], 0)


def scores_summed(raw):
    return raw[:, 4:5].sigmoid() + raw[:, 5:].sigmoid()


def scores_first_class_as_objectness(raw):
    return raw[:, 5:6].sigmoid() * raw[:, 5:].sigmoid()


def scores_of_the_columns_after(raw):
    return raw[:, 5:6].sigmoid() * raw[:, 6:].sigmoid()


def scores_logarithms(raw):
    each = nn.functional.logsigmoid(raw)
    return each[:, 4:5] + each[:, 5:]


def scores_axis_lost(raw):
    return raw[:, 4].sigmoid() * raw[:, 5:].sigmoid()


def scores_axis_lost_and_softmax(raw):
    return raw[:, 4].sigmoid() * torch.softmax(raw[:, 5:], 1)


def scores_axis_lost_and_logit(raw):
    return raw[:, 4] * raw[:, 5:].sigmoid()


def scores_of_the_best(raw):
    return scores(raw).amax(1)


def _raw_rows(rng: torch.Generator) -> Inputs:
    sizes = ((1, 2), (5, 4), (3, 3), (6, 1), (8, 3))
    return [(2 * torch.randn(n, 5 + k, generator=rng),) for n, k in sizes]


SCORES = Exercise(
    name="yolo.scores",
    question=(
        "Mend scores(raw), which is to say how sure the detector is of each class in each of n "
        "predictions, as YOLOv3 does. "
        "`raw` is a float tensor (n, 5 + K) from the network: four numbers of the box, the logit "
        "of objectness, and the logits of K classes, K at least 1. Return a float tensor (n, K): "
        "probability of an object times probability of the class, where objectness and each class "
        "are independent logistic units."
    ),
    reference=scores,
    make_inputs=_raw_rows,
    wrong={
        "as-it-was": (
            scores_as_given,
            "This behaves like the code you started from. There are two bugs: look at which of the "
            "numbers are probabilities, and at what each line makes of a logit.",
        ),
        "softmax-over-classes": (
            scores_softmax,
            "The objectness is right now. Your classes compete: if one rises, the others must "
            "fall. In YOLOv3 each is asked by itself.",
        ),
        "logit-for-probability": (
            scores_bare_logit,
            "The classes are right now. Your objectness is still a logit, and may be negative.",
        ),
        "without-objectness": (
            scores_without_objectness,
            "The classes are right. But an empty place may have a class, too: here the objectness "
            "is missing, or has no say (a softmax over a single number is always 1).",
        ),
        "softmax-alone": (
            scores_softmax_alone,
            "Your classes compete with each other, and the objectness is missing, or has no say (a "
            "softmax over a single number is always 1).",
        ),
        "logits-added": (
            scores_logits_added,
            "You add the logits and take one sigmoid. A product of two probabilities is not that.",
        ),
        "logits-multiplied": (
            scores_logits_multiplied,
            "You multiply logits: two negative ones make a sure detection. First probabilities, "
            "then the product.",
        ),
        "softmax-of-all": (
            scores_softmax_of_all,
            "You let objectness and classes compete in one softmax. They are independent units.",
        ),
        "objectness-among-classes": (
            scores_objectness_among_classes,
            "One column too many: you count the objectness among the classes as well.",
        ),
        "objectness-over-the-batch": (
            scores_objectness_over_the_batch,
            "You let the predictions compete for one object. Each prediction is asked by itself.",
        ),
        "bare-logits": (
            scores_bare_logits,
            "The softmax is gone, but objectness and classes are both logits still. A product of "
            "two negative ones makes a sure detection.",
        ),
        "classes-over-the-batch": (
            scores_classes_over_the_batch,
            "The objectness is right now. Your softmax runs over the predictions, so that they "
            "compete for a class. Each is asked by itself.",
        ),
        "classes-over-the-batch-and-logit": (
            scores_classes_over_the_batch_and_logit,
            "Your softmax runs over the predictions, so that they compete for a class. And the "
            "objectness is still a logit.",
        ),
        "summed": (
            scores_summed,
            "Both are probabilities now. You add them: the sum can exceed 1, and an empty place "
            "gets a score from its class alone.",
        ),
        "first-class-as-objectness": (
            scores_first_class_as_objectness,
            "The classes are right. What you take for the objectness is the first class: columns "
            "are counted from 0, and the box takes four.",
        ),
        "one-column-further": (
            scores_of_the_columns_after,
            "You read one column too far to the right, so that a class is missing: columns are "
            "counted from 0, and the box takes four.",
        ),
        "logarithms": (
            scores_logarithms,
            "These are logarithms of the scores. Asked for are the scores.",
        ),
        "axis-lost": (
            scores_axis_lost,
            "Your objectness has lost an axis: it has shape (n,), and torch lines it up with the "
            "classes instead of the predictions.",
        ),
        "axis-lost-and-softmax": (
            scores_axis_lost_and_softmax,
            "Your objectness has lost an axis: it has shape (n,), and torch lines it up with the "
            "classes. And your classes compete with each other.",
        ),
        "axis-lost-and-logit": (
            scores_axis_lost_and_logit,
            "Your objectness has lost an axis: it has shape (n,), and torch lines it up with the "
            "classes. And it is still a logit.",
        ),
        "best-class-only": (
            scores_of_the_best,
            "You return the score of the best class. Asked for is one for each class.",
        ),
    },
    hints=(
        "Which of the three lines works with a probability, and which with a logit?",
        "May the scores of a prediction's classes sum to more than its objectness? In YOLOv3: yes.",
        "A logistic unit is a sigmoid of one logit. Both lines need it.",
    ),
    why=(
        "Objectness asks: is there anything? Each class asks: is it of my kind? All are yes-or-no "
        "questions, so each has a sigmoid, and the score is a product of probabilities."
    ),
)


# The objectness term ------------------------------------------------------------------------------


def objectness_term(logits, answers, overlap):
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, answers.float(), reduction="none"
    )
    counted = answers | (overlap <= 0.7)
    return each[counted].sum() / answers.sum()


def _objectness(logits, answers, overlap, counted=None, target=None):
    """The sum; `counted` and `target` as a mistake has them."""
    counted = answers | (overlap <= 0.7) if counted is None else counted
    target = answers.float() if target is None else target.float()
    each = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return each[counted].sum()


def term_nothing_ignored(logits, answers, overlap):
    return _objectness(logits, answers, overlap, torch.ones_like(answers)) / answers.sum()


def term_answers_ignored_too(logits, answers, overlap):
    return _objectness(logits, answers, overlap, overlap <= 0.7) / answers.sum()


def term_wrong_way_round(logits, answers, overlap):
    return _objectness(logits, answers, overlap, answers | (overlap > 0.7)) / answers.sum()


def term_limit_of_the_paper(logits, answers, overlap):
    return _objectness(logits, answers, overlap, answers | (overlap <= 0.5)) / answers.sum()


def term_exactly_the_limit(logits, answers, overlap):
    return _objectness(logits, answers, overlap, answers | (overlap < 0.7)) / answers.sum()


def term_answers_only(logits, answers, overlap):
    return _objectness(logits, answers, overlap, answers) / answers.sum()


def term_empty_only(logits, answers, overlap):
    return _objectness(logits, answers, overlap, ~answers & (overlap <= 0.7)) / answers.sum()


def term_not_divided(logits, answers, overlap):
    return _objectness(logits, answers, overlap)


def term_mean(logits, answers, overlap):
    return _objectness(logits, answers, overlap) / (answers | (overlap <= 0.7)).sum()


def term_over_all(logits, answers, overlap):
    return _objectness(logits, answers, overlap) / len(logits)


def term_mean_of_all(logits, answers, overlap):
    return term_nothing_ignored(logits, answers, overlap) * answers.sum() / len(logits)


def term_aims_at_iou(logits, answers, overlap):
    return _objectness(logits, answers, overlap, target=answers * overlap) / answers.sum()


def term_aims_at_iou_nothing_ignored(logits, answers, overlap):
    counted = torch.ones_like(answers)
    return _objectness(logits, answers, overlap, counted, answers * overlap) / answers.sum()


def term_all_aim_at_iou(logits, answers, overlap):
    return _objectness(logits, answers, overlap, target=overlap) / answers.sum()


def term_all_aim_at_iou_nothing_ignored(logits, answers, overlap):
    counted = torch.ones_like(answers)
    return _objectness(logits, answers, overlap, counted, overlap) / answers.sum()


def term_good_overlap_answers(logits, answers, overlap):
    target = answers | (overlap > 0.7)
    counted = torch.ones_like(answers)
    return _objectness(logits, answers, overlap, counted, target) / answers.sum()


def term_sides_swapped(logits, answers, overlap):
    return _objectness(logits, answers, overlap, target=~answers) / answers.sum()


def term_sigmoid_twice(logits, answers, overlap):
    return objectness_term(logits.sigmoid(), answers, overlap)


def term_squared(logits, answers, overlap):
    counted = answers | (overlap <= 0.7)
    return (logits.sigmoid() - answers.float()).square()[counted].sum() / answers.sum()


def term_two_means(logits, answers, overlap):
    """Answers and empty places weigh the same."""
    empty = ~answers & (overlap <= 0.7)
    parts = (_objectness(logits, answers, overlap, part) / part.sum() for part in (answers, empty))
    return sum(parts)


def term_two_means_nothing_ignored(logits, answers, overlap):
    parts = (
        _objectness(logits, answers, overlap, part) / part.sum() for part in (answers, ~answers)
    )
    return sum(parts)


def term_ignored_logits_zero(logits, answers, overlap):
    return objectness_term(
        torch.where(~answers & (overlap > 0.7), 0.0, logits), answers, torch.zeros_like(overlap)
    )


def term_all_want_one(logits, answers, overlap):
    return _objectness(logits, answers, overlap, target=torch.ones_like(answers)) / answers.sum()


def term_bool_target(logits, answers, overlap):
    each = nn.functional.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    return each[answers | (overlap <= 0.7)].sum() / answers.sum()


def term_negative(logits, answers, overlap):
    return -objectness_term(logits, answers, overlap)


def _predictions_of_an_image(rng: torch.Generator) -> Inputs:
    cases = []
    for n, more in ((8, 0), (12, 1), (25, 2), (60, 5)):
        overlap = 0.65 * torch.rand(n, generator=rng)
        # Two answers; of the others one overlaps well, one exactly so much, one somewhat less.
        overlap[:6] = torch.tensor([0.83, 0.4, 0.9, 0.7, 0.6, 0.1])
        answers = torch.zeros(n, dtype=torch.bool)
        answers[:2] = True
        answers[6 : 6 + more] = True
        order = torch.randperm(n, generator=rng)
        logits = 2 * torch.randn(n, generator=rng) - 1
        cases.append((logits, answers[order], overlap[order]))
    return cases


OBJECTNESS_TERM = Exercise(
    name="yolo.objectness_term",
    question=(
        "Write objectness_term(logits, answers, overlap), the objectness term of YOLOv3's loss for "
        "one image, with the ignored predictions left out. "
        "`logits` is a float tensor (M,), the logit of objectness of each prediction. `answers` "
        "is a bool tensor (M,): whether the prediction answers for a box; at least one does. "
        "`overlap` is a float tensor (M,): the IoU of its box with the true box that it overlaps "
        "best. A prediction that does not answer is ignored if its overlap is more than 0.7. Of "
        "the others, those that answer are to say 1 and those that do not are to say 0: return "
        "the sum of their binary cross-entropies, divided by the number of answers, as a float "
        "tensor of shape ()."
    ),
    reference=objectness_term,
    make_inputs=_predictions_of_an_image,
    wrong={
        "nothing-ignored": (
            term_nothing_ignored,
            "You leave nothing out. Some predictions overlap a box well and do not answer for it.",
        ),
        "answers-ignored-too": (
            term_answers_ignored_too,
            "Nearly. You also ignore answers, those that fit best. An answer always counts.",
        ),
        "wrong-way-round": (
            term_wrong_way_round,
            "You ignore the empty places and keep those that overlap a box well.",
        ),
        "limit-of-the-paper": (
            term_limit_of_the_paper,
            "Your limit is 0.5, as in the paper. The question has another one.",
        ),
        "exactly-the-limit-ignored": (
            term_exactly_the_limit,
            "Nearly. You ignore an overlap of exactly 0.7 as well.",
        ),
        "answers-only": (
            term_answers_only,
            "You count the answers alone. Then the network loses nothing by saying 1 everywhere.",
        ),
        "empty-only": (
            term_empty_only,
            "You count the empty places alone. Then the network loses nothing by saying 0 "
            "everywhere.",
        ),
        "not-divided": (
            term_not_divided,
            "The sum is right. It is not divided yet: an image with more boxes would cost more.",
        ),
        "mean-of-the-counted": (
            term_mean,
            "The right ones are left out. But you take the mean over all that count.",
        ),
        "divided-by-all": (
            term_over_all,
            "The sum is right. You divide it by the number of all predictions.",
        ),
        "mean-of-all": (
            term_mean_of_all,
            "You take the mean over all predictions, and leave nothing out.",
        ),
        "aims-at-the-iou": (
            term_aims_at_iou,
            "Your answers aim at their IoU, as in YOLOv1 and YOLOv5. In YOLOv3 they aim at 1.",
        ),
        "aims-at-the-iou-nothing-ignored": (
            term_aims_at_iou_nothing_ignored,
            "Your answers aim at their IoU, as in YOLOv1 and YOLOv5. In YOLOv3 they aim at 1. And "
            "you leave nothing out.",
        ),
        "all-aim-at-the-iou": (
            term_all_aim_at_iou,
            "All that count aim at their IoU, empty places too. In YOLOv3 the target is a plain "
            "yes or no: the overlap only says who is ignored.",
        ),
        "all-aim-at-the-iou-nothing-ignored": (
            term_all_aim_at_iou_nothing_ignored,
            "All predictions aim at their IoU, and you leave nothing out. In YOLOv3 the target is "
            "a plain yes or no: the overlap only says who is ignored.",
        ),
        "good-overlap-counts-as-answer": (
            term_good_overlap_answers,
            "You want a 1 of every prediction that overlaps a box well. One answers; the others "
            "are asked nothing.",
        ),
        "targets-swapped": (
            term_sides_swapped,
            "You want a 0 of those that answer, and a 1 of the empty places.",
        ),
        "sigmoid-twice": (
            term_sigmoid_twice,
            "You take the sigmoid twice. A function whose name ends in with_logits takes one "
            "itself.",
        ),
        "squared-error": (
            term_squared,
            "This is the squared error of the probabilities. Asked for is the binary "
            "cross-entropy.",
        ),
        "two-means": (
            term_two_means,
            "You take a mean of each kind, so that answers and empty places weigh the same. One "
            "sum, divided once, is asked for.",
        ),
        "two-means-nothing-ignored": (
            term_two_means_nothing_ignored,
            "You take a mean of each kind and leave nothing out. One sum, divided once, is asked "
            "for, and some predictions have no part in it.",
        ),
        "ignored-logits-set-to-zero": (
            term_ignored_logits_zero,
            "You set the logits of the ignored predictions to 0. A logit of 0 says one half, and "
            "that costs something: leave the terms out.",
        ),
        "bool-target": (
            term_bool_target,
            "The function wants its target as float numbers, 0 and 1; `answers` is a bool tensor.",
        ),
        "negative": (
            term_negative,
            "Right but for the sign. A loss is smallest, near 0, where the network is right.",
        ),
        "all-are-to-say-one": (
            term_all_want_one,
            "The right ones are left out. But you want a 1 of all the others, empty places too.",
        ),
    },
    hints=(
        "Which predictions count? All but some of those that do not answer.",
        "Work out the cross-entropy of each prediction, without a mean, with `answers` as the "
        "target; then choose.",
        "A prediction counts if it answers, or if its overlap is not above the limit. Add up, and "
        "divide by how many answer.",
    ),
    why=(
        "A prediction that overlaps a box well although another one answers is neither right nor "
        "wrong, so it is asked nothing. Dividing by the answers keeps an image with many objects "
        "from counting more than one with few."
    ),
)


# Flipping with boxes: find the bug ----------------------------------------------------------------


def flip(images, boxes):
    width = images.shape[3]
    mirrored = boxes.clone()
    mirrored[:, :, 1] = width - boxes[:, :, 3]
    mirrored[:, :, 3] = width - boxes[:, :, 1]
    return images.flip(3), mirrored


def _flipped(images, boxes, height=False, crossed=False, in_place=False):
    """The stub of the exercise with some of its three bugs left."""
    size = images.shape[2] if height else images.shape[3]
    left, right = size - boxes[:, :, 3], size - boxes[:, :, 1]
    found = boxes if in_place else boxes.clone()
    found[:, :, 1], found[:, :, 3] = (right, left) if crossed else (left, right)
    return images.flip(3), found


def _reads_what_was_written(images, boxes, x2_first=False, height=False, in_place=False):
    size = images.shape[2] if height else images.shape[3]
    found = boxes if in_place else boxes.clone()
    first, second = (3, 1) if x2_first else (1, 3)
    found[:, :, first] = size - found[:, :, second]
    found[:, :, second] = size - found[:, :, first]
    return images.flip(3), found


def flip_images_upside_down(images, boxes):
    return images.flip(2), flip(images, boxes)[1]


def flip_upside_down(images, boxes):
    height, found = images.shape[2], boxes.clone()
    found[:, :, 2], found[:, :, 4] = height - boxes[:, :, 4], height - boxes[:, :, 2]
    return images.flip(2), found


def flip_boxes_upside_down(images, boxes):
    return images.flip(3), flip_upside_down(images, boxes)[1]


def flip_images_only(images, boxes):
    return images.flip(3), boxes


def flip_boxes_only(images, boxes):
    return images, flip(images, boxes)[1]


def flip_pixel_off(images, boxes):
    found = flip(images, boxes)[1].clone()
    found[:, :, [1, 3]] -= 1
    return images.flip(3), found


def flip_swapped_only(images, boxes):
    return images.flip(3), boxes[:, :, [0, 3, 2, 1, 4]]


def flip_batch(images, boxes):
    return images.flip(0), boxes.flip(0)


def flip_both_axes(images, boxes):
    return flip_upside_down(*flip(images, boxes))


def flip_left_edge_only(images, boxes):
    found = boxes.clone()
    found[:, :, 1] = images.shape[3] - boxes[:, :, 1]
    found[:, :, 3] = found[:, :, 1] + boxes[:, :, 3] - boxes[:, :, 1]
    return images.flip(3), found


def flip_images_turned(images, boxes):
    return images.flip(2, 3), flip(images, boxes)[1]


def flip_rows_by_the_height(images, boxes):
    return images.flip(2), _flipped(images, boxes, height=True)[1]


def flip_boxes_turned(images, boxes):
    return images.flip(3), flip_both_axes(images, boxes)[1]


def flip_boxes_turned_by_the_width(images, boxes):
    found = boxes.clone()
    found[:, :, 1:] = images.shape[3] - boxes[:, :, [3, 4, 1, 2]]
    return images.flip(3), found


def flip_boxes_turned_and_crossed(images, boxes):
    found = flip(images, boxes)[1].clone()
    found[:, :, [2, 4]] = images.shape[2] - boxes[:, :, [2, 4]]
    return images.flip(3), found


def flip_padding_dropped(images, boxes):
    images, boxes = flip(images, boxes)
    return images, boxes[:, (boxes[:, :, 0] >= 0).any(0)]


def _run_flip(candidate: Any) -> Callable[..., Any]:
    """Calls an answer; what stands in rows without a box does not count."""
    call = as_function(candidate)

    def run(images: torch.Tensor, boxes: torch.Tensor) -> Any:
        found = call(images, boxes)
        if isinstance(found, list | tuple) and len(found) == 2:
            rows = found[1]
            if isinstance(rows, torch.Tensor) and rows.shape == boxes.shape:
                found = found[0], torch.where(rows[:, :, :1] < 0, -1.0, rows)
        return found

    return run


def _images_and_boxes(rng: torch.Generator) -> Inputs:
    cases = []
    for n, h, w, room in ((1, 4, 8, 1), (2, 6, 10, 3), (3, 12, 9, 2), (2, 5, 16, 4)):
        low = torch.rand(n, room, 2, generator=rng) * torch.tensor([w / 2, h / 2])
        high = low + 1 + torch.rand(n, room, 2, generator=rng) * torch.tensor([w / 4, h / 4])
        kinds = torch.randint(0, 3, (n, room, 1), generator=rng).float()
        boxes = torch.cat([kinds, low, high], 2)
        if room > 1:
            boxes[-1, -1] = torch.tensor([-1.0, 0, 0, 0, 0])
        cases.append((torch.rand(n, 3, h, w, generator=rng), boxes))
    images, boxes = cases[-1]
    padded = torch.cat([boxes, torch.tensor([-1.0, 0, 0, 0, 0]).expand(len(boxes), 1, 5)], 1)
    cases.append((images.flip(0)[..., :-2], padded))  # here every image has a row without a box
    return cases


_BUGS = {
    "height": "the length along which the x coordinates are mirrored is not that of their axis",
    "crossed": "look at which of x1 and x2 of the new boxes is larger",
    "in_place": "the caller's boxes are changed, although the caller may still need them",
}


def _flip_with(bugs: tuple[str, ...]) -> tuple[Callable[..., Any], str]:
    text = "; ".join(_BUGS[bug] for bug in bugs)
    if bugs == tuple(_BUGS):
        text = (
            "This behaves like the code you started from. There is more than one bug. Draw the "
            "boxes over a flipped image that is not square, and look at the input afterwards."
        )
    else:
        text = f"Some is mended. What is left: {text}."
    return partial(_flipped, **dict.fromkeys(bugs, True)), text


def _read_with(x2_first: bool, bugs: tuple[str, ...]) -> tuple[Callable[..., Any], str]:
    text = "One of your lines reads a column that the line before it has overwritten"
    text = "; ".join([text, *(_BUGS[bug] for bug in bugs)]) + "."
    return partial(_reads_what_was_written, x2_first=x2_first, **dict.fromkeys(bugs, True)), text


FLIP = Exercise(
    name="yolo.flip",
    question=(
        "Mend flip(images, boxes), which is to mirror images and their boxes left to right. "
        "`images` is a float tensor (N, 3, H, W), `boxes` a float tensor (N, room, 5), rows "
        "(class, x1, y1, x2, y2) in pixels with x1 < x2 and y1 < y2; class -1 marks a row without "
        "a box, which has to stay one (its other numbers do not matter). x runs from 0, the left "
        "edge of the image, to W, its right edge. Return a tuple (images, boxes) of new tensors, "
        "in which again x1 < x2 and y1 < y2. The arguments stay as they are."
    ),
    reference=flip,
    make_inputs=_images_and_boxes,
    prepare=_run_flip,
    wrong={
        **{
            "as-it-was" if bugs == tuple(_BUGS) else "-and-".join(bugs).replace("_", "-"): (
                _flip_with(bugs)
            )
            for count in (3, 2, 1)
            for bugs in itertools.combinations(_BUGS, count)
            if bugs != ("in_place",)  # the engine names that by itself
        },
        **{
            "-and-".join([f"{order}-overwritten", *bugs]).replace("_", "-"): (
                _read_with(order == "x2", bugs)
            )
            for order in ("x1", "x2")
            for count in (0, 1, 2)
            for bugs in itertools.combinations(("height", "in_place"), count)
        },
        "images-upside-down": (
            flip_images_upside_down,
            "The boxes are mirrored left to right, and the images up and down.",
        ),
        "images-only": (
            flip_images_only,
            "The images are mirrored; the boxes are where they were.",
        ),
        "boxes-only": (flip_boxes_only, "The boxes are mirrored; the images are not."),
        "upside-down": (
            flip_upside_down,
            "You mirror up and down. Left to right runs along the width.",
        ),
        "boxes-upside-down": (
            flip_boxes_upside_down,
            "The images are mirrored left to right, and the boxes up and down.",
        ),
        "both-axes": (
            flip_both_axes,
            "You mirror along both axes, which is a turn by 180 degrees.",
        ),
        "left-edge-only": (
            flip_left_edge_only,
            "Your boxes have the right width, and lie too far right by that width: you mirror the "
            "left edge and take it for the left edge again.",
        ),
        "images-turned": (
            flip_images_turned,
            "The boxes are mirrored left to right. The images are turned by 180 degrees: you "
            "mirror them along both axes.",
        ),
        "boxes-turned": (
            flip_boxes_turned,
            "x is right. You mirror y as well, and the images are mirrored left to right only.",
        ),
        "boxes-turned-by-the-width": (
            flip_boxes_turned_by_the_width,
            "x is right. You mirror y as well, and by the width; the images are mirrored left to "
            "right only.",
        ),
        "boxes-turned-and-crossed": (
            flip_boxes_turned_and_crossed,
            "x is right. You mirror y as well, so that y1 is larger than y2, and the images are "
            "mirrored left to right only.",
        ),
        "height-for-both": (
            flip_rows_by_the_height,
            "You take axis 2 for the width, in both places: the images are mirrored up and down, "
            "and the boxes with the height.",
        ),
        "padding-dropped": (
            flip_padding_dropped,
            "Images and boxes are right. You drop the rows in which no image has a box; they are "
            "to stay.",
        ),
        "one-pixel-off": (
            flip_pixel_off,
            "Your boxes lie one pixel too far left. x = 0 and x = W are edges here, not the "
            "middles of pixels.",
        ),
        "edges-exchanged-only": (
            flip_swapped_only,
            "You exchange left and right edge without mirroring either.",
        ),
        "order-of-the-batch": (
            flip_batch,
            "You turn the order of the images in the batch. Axis 0 is the batch.",
        ),
    },
    hints=(
        "Take one box by hand: in an image 10 wide, a box from x1 = 1 to x2 = 4. Where is it after "
        "the flip?",
        "It is from 6 to 9. So the new left edge comes from the old right one.",
        "Clone the boxes first; the second assignment must not read what the first has written. "
        "And look at which axis of the images has the width.",
    ),
    why=(
        "Mirroring turns x into W - x, and so the old right edge becomes the new left edge. A new "
        "tensor leaves the caller's boxes alone, and keeps the second line from reading what the "
        "first has overwritten."
    ),
)  # fmt: skip


# Non-maximum suppression --------------------------------------------------------------------------


def nms(boxes, scores, overlap):
    from torchvision.ops import box_iou

    left = scores.argsort(descending=True).tolist()
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        iou = box_iou(boxes[best : best + 1], boxes)[0]
        left = [other for other in left if iou[other] <= overlap]
    return torch.tensor(kept)


def _nms(boxes, scores, overlap, order=None, stays=lambda iou, limit: iou <= limit):
    left = (scores.argsort(descending=True) if order is None else order).tolist()
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        iou = box_iou(boxes[best : best + 1], boxes)[0]
        left = [other for other in left if stays(iou[other], overlap)]
    return torch.tensor(kept)


def nms_least_sure_first(boxes, scores, overlap):
    return _nms(boxes, scores, overlap, scores.argsort())


def nms_as_given(boxes, scores, overlap):
    return _nms(boxes, scores, overlap, torch.arange(len(scores)))


def nms_keeps_doubles(boxes, scores, overlap):
    return _nms(boxes, scores, overlap, stays=lambda iou, limit: iou > limit)


def nms_equal_goes(boxes, scores, overlap):
    return _nms(boxes, scores, overlap, stays=lambda iou, limit: iou < limit)


def nms_any_overlap(boxes, scores, overlap):
    return _nms(boxes, scores, 0.0)


def nms_by_all_above(boxes, scores, overlap):
    """A box that is itself suppressed still suppresses others."""
    order = scores.argsort(descending=True)
    doubles = (box_iou(boxes[order], boxes[order]) > overlap).triu(1).any(0)
    return order[~doubles]


def nms_by_neighbour(boxes, scores, overlap):
    order = scores.argsort(descending=True)
    iou = box_iou(boxes[order], boxes[order])
    stays = torch.ones(len(order), dtype=torch.bool)
    stays[1:] = iou.diagonal(-1) <= overlap
    return order[stays]


def nms_by_the_best(boxes, scores, overlap):
    order = scores.argsort(descending=True)
    stays = box_iou(boxes[order[:1]], boxes[order])[0] <= overlap
    stays[0] = True
    return order[stays]


def nms_places_in_order(boxes, scores, overlap):
    order = scores.argsort(descending=True)
    return nms(boxes[order], scores[order], overlap)


def nms_in_given_order(boxes, scores, overlap):
    return nms(boxes, scores, overlap).sort().values


def nms_boxes(boxes, scores, overlap):
    return boxes[nms(boxes, scores, overlap)]


def nms_mask(boxes, scores, overlap):
    mask = torch.zeros(len(boxes), dtype=torch.bool)
    mask[nms(boxes, scores, overlap)] = True
    return mask


def nms_suppressed(boxes, scores, overlap):
    kept = nms(boxes, scores, overlap).tolist()
    return torch.tensor([i for i in scores.argsort(descending=True).tolist() if i not in kept])


def nms_suppressed_as_given(boxes, scores, overlap):
    return nms_suppressed(boxes, scores, overlap).sort().values


def nms_nothing_left(boxes, scores, overlap):
    """Each box is compared with itself, too."""
    return (box_iou(boxes, boxes) <= overlap).all(1).nonzero()[:, 0]


def nms_all(boxes, scores, overlap):
    return scores.argsort(descending=True)


def nms_removes_while_looping(boxes, scores, overlap):
    from torchvision.ops import box_iou

    left = scores.argsort(descending=True).tolist()
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        for other in left:
            if box_iou(boxes[[best]], boxes[[other]]).item() > overlap:
                left.remove(other)
    return torch.tensor(kept)


def nms_fixed_limit(boxes, scores, overlap):
    return nms(boxes, scores, 0.5)


def nms_limit_from_one(boxes, scores, overlap):
    return nms(boxes, scores, 1 - overlap)


def nms_by_last_kept(boxes, scores, overlap):
    order = scores.argsort(descending=True).tolist()
    kept = order[:1]
    for other in order[1:]:
        if box_iou(boxes[[kept[-1]]], boxes[[other]]).item() <= overlap:
            kept.append(other)
    return torch.tensor(kept)


def nms_as_list(boxes, scores, overlap):
    return nms(boxes, scores, overlap).tolist()


def nms_as_list_of_tensors(boxes, scores, overlap):
    return list(nms(boxes, scores, overlap))


def nms_best_alone(boxes, scores, overlap):
    return scores.argsort(descending=True)[:1]


def _crowds(rng: torch.Generator) -> Inputs:
    cases = []
    # A row of three: the middle one overlaps both others, and they do not overlap each other.
    chain = torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]])
    # IoU one half, exactly, of the first two; the third is a double of the first.
    exact = torch.tensor([[40.0, 0, 50, 10], [40, 0, 50, 5], [40, 1, 50, 10]])
    for n in (0, 3, 6, 11):
        around = _random_boxes(n, rng, 30.0) + torch.tensor([0.0, 40, 0, 40])
        boxes = torch.cat([chain, exact, around])
        values = torch.rand(len(boxes), generator=rng)
        values[:6] = torch.tensor([0.6, 0.5, 0.4, 0.9, 0.7, 0.3])
        order = torch.randperm(len(boxes), generator=rng)
        if bool((order[1:] > order[:-1]).all()):
            order = order.flip(0)
        cases.append((boxes[order], values[order], 0.5))
    for n, overlap in ((9, 0.2), (14, 0.1), (13, 0.3)):
        boxes = _random_boxes(n, rng, 30.0)
        boxes[0], boxes[1] = torch.tensor([[0.0, 0, 30, 30], [0, 0, 30, 13]])  # IoU .43
        values = torch.rand(n, generator=rng)
        values[:2] = torch.tensor([1.2, 1.1])
        cases.append((boxes, values, overlap))
    # Doubles that follow each other by score: who removes them from a list while walking along it
    # leaves out every second one.
    right = torch.tensor([10.0, 10.5, 11, 11.5, 12])
    row = torch.stack([torch.zeros(5), torch.zeros(5), right, torch.full((5,), 10.0)], 1)
    cases.append((row, torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), 0.5))
    return cases


NMS = Exercise(
    name="yolo.nms",
    question=(
        "Write nms(boxes, scores, overlap), greedy non-maximum suppression: the surest box stays, "
        "all that overlap it too much go, and so on with those that are left. "
        "`boxes` is a float tensor (n, 4), rows x1, y1, x2, y2, `scores` a float tensor (n,) "
        "without ties, `overlap` a number; n is at least 1. Of two boxes with an IoU of more than "
        "`overlap` the less sure one goes; exactly `overlap` is allowed. Return an integer tensor: "
        "the places in `boxes` of those that stay, surest first. `torchvision.ops.box_iou` is "
        "allowed, torchvision's `nms` is not the point."
    ),
    reference=nms,
    make_inputs=_crowds,
    wrong={
        "suppressed-boxes-suppress": (
            nms_by_all_above,
            "Nearly. In your code a box that has gone itself still drives others away. Only boxes "
            "that stay do that.",
        ),
        "least-sure-first": (nms_least_sure_first, "You begin with the least sure box."),
        "scores-ignored": (
            nms_as_given,
            "You go through the boxes in the order in which they are given. Where do the scores "
            "come in?",
        ),
        "doubles-kept": (
            nms_keeps_doubles,
            "Your comparison is the wrong way round: the doubles stay, and what lies elsewhere "
            "goes.",
        ),
        "exactly-the-limit-goes": (
            nms_equal_goes,
            "Nearly. A box whose IoU is exactly `overlap` is to stay.",
        ),
        "any-overlap-goes": (
            nms_any_overlap,
            "Every box that touches a surer one goes. How much overlap is allowed?",
        ),
        "neighbour-only": (
            nms_by_neighbour,
            "You compare each box with the next surer one only. A double may stand farther up.",
        ),
        "last-kept-only": (
            nms_by_last_kept,
            "You compare each box with the one kept last only. It may be a double of one that was "
            "kept before.",
        ),
        "limit-fixed": (
            nms_fixed_limit,
            "Right for a limit of 0.5. Your code does the same whatever `overlap` says.",
        ),
        "limit-from-one": (
            nms_limit_from_one,
            "You compare with 1 - overlap, or with 1 - IoU. `overlap` limits the IoU itself.",
        ),
        "best-only": (
            nms_by_the_best,
            "You suppress the doubles of the surest box, and then stop. Go on with those that are "
            "left.",
        ),
        "removed-while-looping": (
            nms_removes_while_looping,
            "Right while no two doubles follow each other in your list. You remove from a list "
            "while you walk along it: Python then passes over the next one.",
        ),
        "one-box": (nms_best_alone, "Only the surest box of all stays. There may be many objects."),
        "places-in-the-sorted-list": (
            nms_places_in_order,
            "These are places in your sorted list. Asked for are places in `boxes`.",
        ),
        "order-of-the-input": (
            nms_in_given_order,
            "The right boxes, in the order of the input. The surest is to come first.",
        ),
        "boxes-instead-of-places": (
            nms_boxes,
            "These are the boxes that stay. Asked for are their places in `boxes`.",
        ),
        "mask-instead-of-places": (
            nms_mask,
            "This says of each box whether it stays. Asked for are the places, surest first.",
        ),
        "suppressed-ones": (
            nms_suppressed,
            "These are the boxes that go. Asked for are the others.",
        ),
        "suppressed-ones-as-given": (
            nms_suppressed_as_given,
            "These are the boxes that go. Asked for are the others, surest first.",
        ),
        "nothing-left": (
            nms_nothing_left,
            "No box is left. Each has an IoU of 1 with itself: does it drive itself away?",
        ),
        "list-instead-of-tensor": (
            nms_as_list,
            "The places are right, but they stand in a list. Asked for is an integer tensor.",
        ),
        "list-of-tensors": (
            nms_as_list_of_tensors,
            "The places are right, but they stand in a list, each as a tensor of its own. Asked "
            "for is one integer tensor.",
        ),
        "all-stay": (
            nms_all,
            "These are all boxes, sorted. None of the doubles has gone.",
        ),
    },
    hints=(
        "Sort the places by falling score, then take from the front of that list until it is "
        "empty.",
        "Each time: keep the first, work out its IoU with those that are left, and thin them out.",
        "`box_iou(boxes[i : i + 1], boxes)[0]` is the IoU of box i with each box. Keep those at or "
        "below the limit.",
    ),
    why=(
        "A detection is a double only of something that stays. So the list is thinned out after "
        "each box that is kept, and a box that went has no say any more."
    ),
)  # fmt: skip


# Average precision --------------------------------------------------------------------------------


def average_precision(hits, truths):
    found = hits.cumsum(0)
    precision = found / torch.arange(1, len(hits) + 1)
    best = precision.flip(0).cummax(0).values.flip(0)
    return (best[hits].sum() / truths).item()


def _precision(hits):
    return hits.cumsum(0) / torch.arange(1, len(hits) + 1)


def ap_without_envelope(hits, truths):
    return (_precision(hits)[hits].sum() / truths).item()


def ap_envelope_forwards(hits, truths):
    return (_precision(hits).cummax(0).values[hits].sum() / truths).item()


def _best(hits):
    return _precision(hits).flip(0).cummax(0).values.flip(0)


def ap_over_hits(hits, truths):
    return (_best(hits)[hits].sum() / hits.sum().clamp(min=1)).item()


def ap_over_detections(hits, truths):
    return (_best(hits)[hits].sum() / len(hits)).item()


def ap_every_rank(hits, truths):
    return _best(hits).mean().item()


def ap_mean_precision(hits, truths):
    return _precision(hits).mean().item()


def ap_final_precision(hits, truths):
    return (hits.sum() / len(hits)).item()


def ap_final_recall(hits, truths):
    return (hits.sum() / truths).item()


def ap_backwards(hits, truths):
    return average_precision(hits.flip(0), truths)


def ap_rank_from_zero(hits, truths):
    precision = hits.cumsum(0) / torch.arange(len(hits)).clamp(min=1)
    best = precision.flip(0).cummax(0).values.flip(0)
    return (best[hits].sum() / truths).item()


def ap_rank_from_zero_plain(hits, truths):
    precision = hits.cumsum(0) / torch.arange(len(hits))
    best = precision.flip(0).cummax(0).values.flip(0)
    return (best[hits].sum() / truths).item()


def ap_rank_from_two(hits, truths):
    precision = hits.cumsum(0) / torch.arange(2, len(hits) + 2)
    best = precision.flip(0).cummax(0).values.flip(0)
    return (best[hits].sum() / truths).item()


def ap_not_turned_back(hits, truths):
    return (_precision(hits).flip(0).cummax(0).values[hits].sum() / truths).item()


def ap_strictly_later(hits, truths):
    later = torch.cat([_best(hits)[1:], torch.zeros(1)])
    return (later[hits].sum() / truths).item()


def ap_false_alarms_add(hits, truths):
    return (_best(hits).sum() / truths).item()


def ap_f1(hits, truths):
    return (2 * hits.sum() / (len(hits) + truths)).item()


def ap_mean_over_hits(hits, truths):
    return _best(hits)[hits].mean().item()  # without any hit: NaN


def ap_as_scikit_learn(hits, truths):
    return (_precision(hits)[hits].sum() / hits.sum().clamp(min=1)).item()


def ap_plain_mean_over_hits(hits, truths):
    return _precision(hits)[hits].mean().item()  # without any hit: NaN


def _at_recalls(hits, truths, levels):
    reached = hits.cumsum(0).double() / truths
    rank = torch.searchsorted(reached, torch.linspace(0, 1, levels, dtype=torch.float64))
    return torch.cat([_best(hits), torch.zeros(1)])[rank].mean().item()


def ap_at_101_recalls(hits, truths):
    return _at_recalls(hits, truths, 101)


def ap_at_11_recalls(hits, truths):
    return _at_recalls(hits, truths, 11)


def ap_trapezoids(hits, truths):
    precision = torch.cat([torch.ones(1), _precision(hits)])
    recall = torch.cat([torch.zeros(1), hits.cumsum(0) / truths])
    return torch.trapezoid(precision, recall).item()


def _points_at_hits(hits, truths):
    """Recall and best later precision at the hits alone."""
    return hits.cumsum(0)[hits] / truths, _best(hits)[hits]


def ap_trapezoids_at_hits(hits, truths):
    recall, best = _points_at_hits(hits, truths)
    first = torch.ones(1)
    return torch.trapezoid(torch.cat([first, best]), torch.cat([torch.zeros(1), recall])).item()


def ap_trapezoids_at_hits_level(hits, truths):
    recall, best = _points_at_hits(hits, truths)
    first = _best(hits)[:1]
    return torch.trapezoid(torch.cat([first, best]), torch.cat([torch.zeros(1), recall])).item()


def ap_trapezoids_down_to_zero(hits, truths):
    recall = torch.cat([torch.zeros(1), hits.cumsum(0) / truths, torch.ones(1)])
    return torch.trapezoid(torch.cat([_best(hits)[:1], _best(hits), torch.zeros(1)]), recall).item()


def ap_without_the_first_step(hits, truths):
    return torch.trapezoid(_best(hits), hits.cumsum(0) / truths).item()


def _rankings(rng: torch.Generator) -> Inputs:
    cases = []
    for n, more in ((4, 1), (6, 2), (9, 0), (15, 4), (30, 3)):
        hits = torch.rand(n, generator=rng) < torch.linspace(0.9, 0.3, n)
        hits[0], hits[1], hits[2] = n % 2 == 0, False, True
        hits[-1] = n % 2 == 1
        cases.append((hits, int(hits.sum()) + more))
    cases.append((torch.zeros(5, dtype=torch.bool), 3))
    return cases


AVERAGE_PRECISION = Exercise(
    name="yolo.average_precision",
    question=(
        "Write average_precision(hits, truths), the area under the precision-recall curve of one "
        "class, made from a sorted list of detections. "
        "`hits` is a bool tensor (n,): for each detection, surest first, whether it hits an object "
        "that no surer one has hit; n is at least 1. `truths` is the number of objects, a whole "
        "number of at least 1. The precision at a recall is the best one at this rank or any later "
        "one; each hit adds 1 / truths times it. Return a plain Python float; without any hit it "
        "is 0."
    ),
    reference=average_precision,
    make_inputs=_rankings,
    wrong={
        "not-the-best-later-precision": (
            ap_without_envelope,
            "You take the precision at each hit as it is. If it is higher at a later rank, that "
            "one counts.",
        ),
        "best-earlier-precision": (
            ap_envelope_forwards,
            "You take the best precision up to each rank. It has to be the best from there on.",
        ),
        "over-the-hits": (
            ap_over_hits,
            "You take the mean over the hits. Then an object that nobody has found costs nothing.",
        ),
        "mean-at-the-hits": (
            ap_mean_over_hits,
            "You take the mean over the hits. Then an object that nobody has found costs nothing, "
            "and without any hit the mean is NaN.",
        ),
        "scikit-learn-s": (
            ap_as_scikit_learn,
            "This is the average precision of classification: it takes the precision at each hit "
            "as it is, and the mean over the hits, so that an object that nobody has found costs "
            "nothing.",
        ),
        "plain-mean-at-the-hits": (
            ap_plain_mean_over_hits,
            "You take the mean of the precision at the hits as it is. An object that nobody has "
            "found costs nothing then, a better precision at a later rank does not count, and "
            "without any hit the mean is NaN.",
        ),
        "at-101-recalls": (
            ap_at_101_recalls,
            "This is COCO's mean at 101 recalls. Asked for is the area itself.",
        ),
        "at-11-recalls": (
            ap_at_11_recalls,
            "This is the old mean at 11 recalls. Asked for is the area itself.",
        ),
        "over-the-detections": (
            ap_over_detections,
            "You divide by the number of detections. Recall counts objects.",
        ),
        "mean-over-ranks": (
            ap_every_rank,
            "You take the mean over all ranks. Only a hit moves the recall on, so only hits count.",
        ),
        "mean-precision": (
            ap_mean_precision,
            "This is the mean of the precision over all ranks. Where does the number of objects "
            "come in?",
        ),
        "final-precision": (
            ap_final_precision,
            "This is the precision at the last rank, a single point of the curve.",
        ),
        "final-recall": (
            ap_final_recall,
            "This is the recall at the last rank: it does not see false alarms.",
        ),
        "surest-last": (
            ap_backwards,
            "You read the list from behind. The first detection is the surest.",
        ),
        "rank-from-zero": (
            ap_rank_from_zero,
            "Your precision divides by one detection too few: at the first rank, one has been "
            "made.",
        ),
        "rank-from-zero-divided": (
            ap_rank_from_zero_plain,
            "Your precision divides by one detection too few, and by 0 at the first rank, where "
            "one detection has been made.",
        ),
        "rank-from-two": (
            ap_rank_from_two,
            "Your precision divides by one detection too many: at the first rank, one has been "
            "made.",
        ),
        "not-turned-back": (
            ap_not_turned_back,
            "Your running maximum comes from behind, but it still stands in that order: its first "
            "entry belongs to the last rank.",
        ),
        "strictly-later": (
            ap_strictly_later,
            "You take the best precision of the later ranks alone. This rank counts as well.",
        ),
        "false-alarms-add": (
            ap_false_alarms_add,
            "You add at false alarms as well. They do not move the recall on.",
        ),
        "f1": (ap_f1, "This is F1 of the whole list, and does not know in which order it came."),
        "trapezoids": (
            ap_trapezoids,
            "You join the points by straight lines. The curve is a staircase: each hit adds a "
            "rectangle.",
        ),
        "trapezoids-under-the-envelope": (
            ap_trapezoids_at_hits,
            "You take the best later precisions at the hits and join them by straight lines. The "
            "curve is a staircase: each hit adds a rectangle.",
        ),
        "trapezoids-under-the-envelope-level": (
            ap_trapezoids_at_hits_level,
            "You take the best later precisions at the hits and join them by straight lines. The "
            "curve is a staircase: each hit adds a rectangle.",
        ),
        "straight-line-to-recall-one": (
            ap_trapezoids_down_to_zero,
            "Right where all objects are found. Behind the last recall you go on with a straight "
            "line to recall 1 and precision 0. Objects that are never found add nothing.",
        ),
        "first-step-missing": (
            ap_without_the_first_step,
            "Right where the surest detection is a false alarm. Your area begins at the recall of "
            "the first rank, so that a hit there adds nothing.",
        ),
    },
    hints=(
        "At each rank: how many hits so far, over how many detections so far? That is the "
        "precision.",
        "The best precision from a rank on is a running maximum that comes from behind.",
        "Turn the list round with flip, take cummax, turn it back. Then add up at the hits, and "
        "divide by the number of objects.",
    ),
    why=(
        "Each hit moves the recall on by one object. The staircase over it has the height of the "
        "best precision that can be had at this recall or more. Objects that are never found add "
        "nothing, but stand below the line."
    ),
)


# In the order in which the chapter asks them.
EXERCISES = (
    PREDICTIONS,
    DECODE,
    BOX_IOU,
    ANSWERING,
    SCORES,
    OBJECTNESS_TERM,
    NMS,
    AVERAGE_PRECISION,
    FLIP,
)
