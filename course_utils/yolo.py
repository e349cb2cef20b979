"""A YOLO-style detector: network, anchors, assignment, loss, decoding. Taught in chapter 08.

The course begins with YOLOv3 (Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767): three
scales, nine anchors, independent logistic units for objectness and classes, one anchor per object.
What came later is a switch of the loss and bears the name of its origin. YOLOv3 has no attention;
`attention=...` puts it before each head and is a modification of our own.

Boxes are (x1, y1, x2, y2) in pixels of the image. A batch of them is (B, room, 5), rows
(class, x1, y1, x2, y2), class -1 for a row without a box, as the data set gives them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation, batched_nms, box_iou, complete_box_iou_loss

from course_utils import metrics
from course_utils.attention import check_batch_norm, expect_images, own_random_stream

STRIDES = (8, 16, 32)
"""Pixels from one cell to the next at each scale, finest first; three anchors belong to each."""


class Grid(NamedTuple):
    """Where each of the M predictions of an image stands: its cell and its anchor, in pixels."""

    corner: Tensor  # (M, 2) x and y of the upper left corner of the cell
    stride: Tensor  # (M, 1)
    anchor: Tensor  # (M, 2) width and height
    start: tuple[int, ...] = ()  # the row at which each scale begins
    shape: tuple[tuple[int, int], ...] = ()  # rows and columns of cells of each scale


def grid(height: int, width: int, anchors: Tensor) -> Grid:
    """The predictions of an image of that size: for each scale, anchor, row and column.

    Args:
        height, width: of the image in pixels.
        anchors: (9, 2) widths and heights in pixels, smallest first.

    Raises:
        ValueError: the anchors are not nine, no sizes in pixels, or not sorted by area.
    """
    _check_anchors(anchors)
    parts = []
    shapes = tuple((-(-height // s), -(-width // s)) for s in STRIDES)  # the last may stick out
    for stride, (rows, columns), three in zip(STRIDES, shapes, anchors.split(3), strict=True):
        places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))  # y, x
        cells = places.flip(1).float() * stride  # (rows columns, 2)
        strides = torch.full((3 * len(cells), 1), float(stride))
        parts.append((cells.repeat(3, 1), strides, three.repeat_interleave(len(cells), 0)))
    corner, every, anchor = (torch.cat(part) for part in zip(*parts, strict=True))
    starts = accumulate((3 * rows * columns for rows, columns in shapes[:-1]), initial=0)
    return Grid(corner, every, anchor, tuple(starts), shapes)


def _check_anchors(anchors: Tensor) -> None:
    if anchors.shape != (9, 2):
        raise ValueError(
            f"The anchors are {tuple(anchors.shape)}. Expected (9, 2): three sizes for each scale."
        )
    if not bool((anchors > 0).all() & anchors.isfinite().all()) or float(anchors.amax()) <= 1:
        raise ValueError(
            f"The anchors go from {float(anchors.amin()):.3g} to {float(anchors.amax()):.3g}. "
            "Expected widths and heights in pixels, not shares of the image, and above 0."
        )
    if bool((anchors.prod(1).diff() < 0).any()):
        raise ValueError("The anchors are not sorted by area. Expected the smallest first.")


def decode(raw: Tensor, cells: Grid) -> Tensor:
    """Four numbers of the network to a box: b_x = sigmoid(t_x) + c_x, b_w = p_w exp(t_w).

    YOLOv3, section 2.1, in pixels. exp is held between e^-8 and e^4: no box of use is smaller or
    larger, and one of width 0 has no shape for CIoU to compare.

    Args:
        raw: (..., M, 4) t_x, t_y, t_w, t_h.

    Returns:
        (..., M, 4) boxes x1, y1, x2, y2.
    """
    centre = torch.sigmoid(raw[..., :2]) * cells.stride + cells.corner
    half = cells.anchor * torch.exp(raw[..., 2:4].clamp(-8, 4)) / 2
    return torch.cat([centre - half, centre + half], -1)


def encode(boxes: Tensor, cells: Grid, rows: Tensor) -> Tensor:
    """The numbers with which these rows would predict these boxes exactly; inverse of `decode`.

    Args:
        boxes: (n, 4), each with its centre inside the cell of its row.
        rows: (n,) of the grid.

    Returns:
        (n, 4) t_x, t_y, t_w, t_h.
    """
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    within = (centre - cells.corner[rows]) / cells.stride[rows]  # (n, 2) in [0, 1)
    return torch.cat([torch.logit(within, eps=1e-6), torch.log(size / cells.anchor[rows])], 1)


def shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """IoU of boxes laid over each other at one corner: (n, 2) and (k, 2) to (n, k)."""
    smaller = torch.minimum(sizes[:, None], anchors[None]).prod(2)
    return smaller / (sizes.prod(1)[:, None] + anchors.prod(1)[None] - smaller)


def kmeans_anchors(sizes: Tensor, count: int) -> Tensor:
    """Typical widths and heights by k-means, with 1 - IoU as the distance.

    Redmon and Farhadi 2017 (YOLO9000), https://arxiv.org/abs/1612.08242, section 2. The best of
    ten starts of at most a hundred rounds each; the starts are the same in each call.

    Args:
        sizes: (n, 2) widths and heights, n at least `count`.
        count: number of anchors.

    Returns:
        (count, 2), smallest area first.

    Raises:
        ValueError: fewer sizes than anchors, or a size that is not above 0.
    """
    if len(sizes) < count:
        raise ValueError(f"{len(sizes)} boxes cannot give {count} anchors. Ask for fewer.")
    if not bool((sizes > 0).all() & sizes.isfinite().all()):
        raise ValueError("A box has no area, or is not finite. Drop it: no anchor resembles it.")
    generator = torch.Generator().manual_seed(0)
    tried = []
    for _ in range(10):
        centres = sizes[torch.randperm(len(sizes), generator=generator)[:count]]
        for _ in range(100):
            nearest = shape_iou(sizes, centres).argmax(1)
            groups = [sizes[nearest == k] for k in range(count)]
            pairs = zip(groups, centres, strict=True)
            moved = torch.stack([g.mean(0) if len(g) else c for g, c in pairs])
            if torch.equal(moved, centres):
                break
            centres = moved
        tried.append(centres)
    anchors = max(tried, key=lambda centres: shape_iou(sizes, centres).amax(1).mean().item())
    return anchors[anchors.prod(1).argsort()]


def anchors_by_class(boxes: Tensor, counts: Sequence[int]) -> Tensor:
    """k-means within each class, so that a frequent class does not take all anchors.

    Args:
        boxes: (N, room, 5), rows (class, x1, y1, x2, y2).
        counts: anchors for each class.

    Returns:
        (sum of counts, 2), smallest area first.
    """
    found = []
    for kind, count in enumerate(counts):
        rows = boxes[boxes[:, :, 0] == kind]  # (n, 5)
        found.append(kmeans_anchors(rows[:, 3:] - rows[:, 1:3], count))
    every = torch.cat(found)
    return every[every.prod(1).argsort()]


# Convolution without bias, batch norm, leaky ReLU: the brick of Darknet.
_conv = partial(Conv2dNormActivation, activation_layer=partial(nn.LeakyReLU, 0.1))


class DarknetBlock(nn.Module):
    """1x1 to half the channels, 3x3 back, and a shortcut (YOLOv3, table 1)."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(_conv(channels, half, 1), _conv(half, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class YOLO(nn.Module):
    """Backbone, top-down neck and three heads, in the shape of YOLOv3 but much smaller.

    The stem halves the image at once, as in YOLOv5 (https://github.com/ultralytics/yolov5), where
    Darknet-53 first convolves it in full size: that saves a third of the time on a CPU.

    Args:
        classes: K.
        anchors: (9, 2) widths and heights in pixels, smallest first.
        width: the stem has twice as many channels, the stages 4, 8, 16 and 16 times as many.
        attention: called with a number of channels, before each head; None for YOLOv3's own form.

    Shapes: (N, 3, H, W) in [0, 1] to (N, M, 5 + K): t_x, t_y, t_w, t_h, logit of objectness,
    logits of the classes, for each row of `grid(H, W, anchors)`.

    Raises:
        ValueError: anchors as in `grid`; in `forward`, images that are not (N, 3, H, W) or smaller
            than the largest stride, or, in training mode, a single one of that size.
    """

    def __init__(
        self,
        classes: int,
        anchors: Tensor,
        width: int = 16,
        attention: Callable[[int], nn.Module] | None = None,
    ):
        super().__init__()
        _check_anchors(anchors)
        self.register_buffer("anchors", anchors.clone().float())
        widths = [width * k for k in (2, 4, 8, 16, 16)]
        self.stem = _conv(3, widths[0], 5, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(a, b, 3, stride=2), DarknetBlock(b)) for a, b in pairwise(widths)
        )
        neck = 4 * width
        self.lateral = nn.ModuleList(_conv(w, neck, 1) for w in widths[-3:])  # strides 8, 16, 32
        self.merge = nn.ModuleList(
            nn.Sequential(_conv(c, neck, 1), _conv(neck, 2 * neck, 3), _conv(2 * neck, neck, 1))
            for c in (2 * neck, 2 * neck, neck)
        )
        self.heads = nn.ModuleList(nn.Conv2d(neck, 3 * (5 + classes), 1) for _ in STRIDES)
        for head in self.heads:  # almost all cells are empty: start near what is usual
            head.bias.data.view(3, -1)[:, 4] = -5.0  # type: ignore[operator]
        with own_random_stream():
            self.attention = nn.ModuleList((attention or nn.Identity)(neck) for _ in STRIDES)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, H, W)
        expect_images(self, x, channels=3)
        if min(x.shape[2:]) < STRIDES[-1]:
            raise ValueError(
                f"The image has {x.shape[2]} x {x.shape[3]} pixels. Expected at least "
                f"{STRIDES[-1]} each way, the largest stride: enlarge it first."
            )
        smallest = math.prod(-(-n // STRIDES[-1]) for n in x.shape[2:])
        check_batch_norm(self, len(x) * smallest)
        x = self.stem(x)  # (N, 2 width, H / 2, W / 2)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)  # strides 4, 8, 16, 32
        found, above = [], None
        for scale in (2, 1, 0):  # coarse to fine: what is known of the whole helps the detail
            level = self.lateral[scale](levels[scale + 1])
            if above is not None:
                level = torch.cat([level, F.interpolate(above, level.shape[2:])], 1)
            above = self.merge[scale](level)  # (N, 4 width, H / stride, W / stride)
            raw = self.heads[scale](self.attention[scale](above))
            raw = raw.unflatten(1, (3, -1)).permute(0, 1, 3, 4, 2)  # (N, 3, rows, columns, 5 + K)
            found.append(raw.flatten(1, 3))
        return torch.cat(found[::-1], 1)  # (N, M, 5 + K), finest scale first


def assign(
    boxes: Tensor, cells: Grid, anchors: Tensor, several: float | None = None
) -> tuple[Tensor, Tensor]:
    """Which predictions answer for which boxes.

    YOLOv3, section 2.1: the cell in which the centre lies, with the anchor of the best shape. A
    centre on the far edge belongs to the nearest cell.

    Args:
        boxes: (n, 4), n may be 0.
        cells: of the image.
        anchors: (9, 2).
        several: also every other anchor whose shape IoU is above this (YOLOv4's configuration has
            0.213). None for YOLOv3.

    Returns:
        rows (m,) of the grid and box (m,), the index of the box each answers for. Of two boxes
        that fall on one row, the later keeps it.

    Raises:
        ValueError: a box has no area or is not finite, its centre lies outside the cells, it is
            larger than twice the image, or all boxes are given as shares of the image.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"The boxes are {tuple(boxes.shape)}. Expected (n, 4), without the class: boxes[:, 1:]."
        )
    rows, columns = cells.shape[0]
    _check_boxes(boxes, columns * STRIDES[0], rows * STRIDES[0])
    return _assign(boxes, cells, anchors, several)


def _check_boxes(boxes: Tensor, width: int, height: int) -> None:
    """Boxes (n, 4) of images of that size; one look at the device."""
    low, high = boxes[:, :2], boxes[:, 2:]
    size = high - low
    flat = ~((size > 0).all(1) & boxes.isfinite().all(1))
    # Twice the centre, and the size: the larger of the two is beyond twice the image, or not.
    right, down = torch.maximum(low + high, size).unbind(1)
    away = ((low + high) < 0).any(1) | (right > 2 * width) | (down > 2 * height)
    looks = torch.stack([flat.any(), away.any(), (size <= 1).all()])
    some_flat, some_away, all_shares = looks.tolist()
    if some_flat:
        raise ValueError(
            f"The box {boxes[flat][0].tolist()} has no area, or is not finite. Expected "
            "(x1, y1, x2, y2) with x1 < x2 and y1 < y2; a flip must exchange the two."
        )
    if some_away:
        raise ValueError(
            f"The box {boxes[away][0].tolist()} lies outside the image, or is more than "
            f"twice as large: its width is {width} and its height {height} pixels. Expected (x1, "
            "y1, x2, y2) in pixels of the image as it is now; are x and y exchanged?"
        )
    if all_shares and len(boxes):
        raise ValueError(
            "All boxes are at most one pixel in size, as shares of the image are. Expected pixels: "
            f"multiply x by the width, {width}, and y by the height, {height}."
        )


def _assign(
    boxes: Tensor, cells: Grid, anchors: Tensor, several: float | None
) -> tuple[Tensor, Tensor]:
    overlap = shape_iou(boxes[:, 2:] - boxes[:, :2], anchors)  # (n, 9)
    chosen = F.one_hot(overlap.argmax(1), len(anchors)).bool()
    if several is not None:
        chosen |= overlap > several
    box, anchor = chosen.nonzero(as_tuple=True)
    scale, place = anchor // 3, anchor % 3
    centre = (boxes[box, :2] + boxes[box, 2:]) / 2
    device = boxes.device
    stride = torch.tensor(STRIDES, device=device)[scale]
    shape = torch.tensor(cells.shape, device=device)[scale]  # (m, 2) rows, columns
    cell = (centre / stride[:, None]).long().clamp(min=0).minimum(shape.flip(1) - 1)
    column, row = cell.unbind(1)
    start = torch.tensor(cells.start, device=device)[scale]
    rows = start + (place * shape[:, 0] + row) * shape[:, 1] + column
    owner = torch.full((len(cells.stride),), -1, device=device)
    owner.scatter_reduce_(0, rows, box, "amax")  # of two boxes the later
    rows = (owner >= 0).nonzero()[:, 0]
    return rows, owner[rows]


@dataclass(eq=False)
class YOLOLoss:
    """YOLOv3's loss; each switch adds an idea of another version and names its origin.

    As YOLOv3: binary cross-entropy for t_x and t_y, half the squared error for t_w and t_h, heavier
    for small boxes; binary cross-entropy for objectness and for each class. The gradient of all of
    them is what its code passes back, prediction minus truth, with sigmoid(t_x) as prediction
    (darknet, src/yolo_layer.c; section 2.1 of the paper says the same). A prediction that answers
    for no box, yet overlaps one by more than `ignore`, is not told that it is wrong.

    Args:
        anchors: (9, 2).
        height, width: of the image in pixels.
        ciou: the box term is 1 - CIoU (Zheng et al. 2020, https://arxiv.org/abs/1911.08287; in
            YOLOv4).
        several: more than one anchor may answer for a box (YOLOv4; see `assign`).
        iou_objectness: the objectness of an answer aims at its IoU with the box (YOLOv1's
            confidence, again in YOLOv5), not at 1.
        ignore: .7 in YOLOv3's configuration, .5 in its paper.
        box_weight: the box term counts so many times; 5 in YOLOv1 (its lambda_coord, equation 3,
            https://arxiv.org/abs/1506.02640), 1 in YOLOv3.
    """

    anchors: Tensor
    height: int
    width: int
    ciou: bool = False
    several: float | None = None
    iou_objectness: bool = False
    ignore: float = 0.7
    box_weight: float = 1.0

    def __post_init__(self) -> None:
        self.cells = grid(self.height, self.width, self.anchors)

    def __call__(self, raw: Tensor, boxes: Tensor) -> Tensor:
        return sum(self.terms(raw, boxes).values(), raw.new_zeros(()))

    def terms(self, raw: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """Box, objectness and class term, each a sum divided by the number of answers.

        An answer is a prediction that is to give a box; YOLOv3 has one for each box.

        Args:
            raw: (B, M, 5 + K), of the network.
            boxes: (B, room, 5); room may be 0.

        Raises:
            ValueError: a class is K or more, a box is one that `assign` refuses, the boxes are not
                (B, room, 5), or the image has another size than was announced.
        """
        raw, boxes, anchors = raw.float(), boxes.float(), self.anchors.to(raw.device)
        cells = Grid._make([*(part.to(raw.device) for part in self.cells[:3]), *self.cells[3:]])
        self._check(raw, boxes)
        predicted = decode(raw[..., :4], cells)  # (B, M, 4)
        target = torch.zeros_like(raw[..., 4])
        counts = torch.ones_like(target)  # 0 where objectness is ignored
        place, kinds, number = raw.new_zeros(()), raw.new_zeros(()), 0
        for i, rows in enumerate(boxes):
            rows = rows[rows[:, 0] >= 0]
            truth = rows[:, 1:]
            # An image without a box has nothing to ignore: `all` of nothing is true.
            counts[i] = (box_iou(predicted[i].detach(), truth) <= self.ignore).all(1)
            answers, owner = _assign(truth, cells, anchors, self.several)
            counts[i, answers], number = 1.0, number + len(answers)
            ours, wanted = predicted[i, answers], truth[owner]
            overlap = 1 - complete_box_iou_loss(ours, wanted)  # CIoU, (m,)
            target[i, answers] = overlap.detach().clamp(0, 1) if self.iou_objectness else 1.0
            if self.ciou:
                place = place + (1 - overlap).sum()
            else:
                place = place + self._numbers(raw[i, answers, :4], wanted, cells, answers)
            said = raw[i, answers, 5:]
            labels = F.one_hot(rows[owner, 0].long(), said.shape[1]).float()
            kinds = kinds + F.binary_cross_entropy_with_logits(said, labels, reduction="sum")
        seen = F.binary_cross_entropy_with_logits(raw[..., 4], target, reduction="none")
        objectness = (seen * counts).sum()
        terms = {"box": self.box_weight * place, "objectness": objectness, "class": kinds}
        return {name: term / max(number, 1) for name, term in terms.items()}

    def check_boxes(self, boxes: Tensor) -> None:
        """Refuse boxes (B, room, 5) that `assign` refuses; of class -1 any may be there."""
        real = ~(boxes[:, :, 0] < 0)  # a class that is NaN is no missing box
        _check_boxes(boxes[real][:, 1:], self.width, self.height)

    def _numbers(self, raw: Tensor, wanted: Tensor, cells: Grid, rows: Tensor) -> Tensor:
        aim = encode(wanted, cells, rows)
        share = aim[:, :2].sigmoid()  # of the cell
        place = F.binary_cross_entropy_with_logits(raw[:, :2], share, reduction="none")
        size = (raw[:, 2:] - aim[:, 2:]).square() / 2
        area = (wanted[:, 2:] - wanted[:, :2]).prod(1) / (self.height * self.width)
        area = area.clamp(max=1)  # of a box that leaves the image; the weight stays positive
        return ((2 - area)[:, None] * (place + size)).sum()

    def _check(self, raw: Tensor, boxes: Tensor) -> None:
        if raw.shape[1] != len(self.cells.stride):
            raise ValueError(
                f"The network gave {raw.shape[1]} predictions for an image, the loss expected "
                f"{len(self.cells.stride)}: the image has another size than the loss was built for."
            )
        metrics.expect_rows(boxes, len(raw))
        self.check_boxes(boxes)
        metrics.expect_classes(boxes[:, :, 0].flatten(), raw.shape[2] - 5)


def mirrored(raw: Tensor, cells: Grid) -> Tensor:
    """What a network says of a mirrored image, as if it had said it of the image itself.

    The columns of each scale in reverse order, and sigmoid(-t_x) = 1 - sigmoid(t_x) for the place
    within a cell. Right where the width is a multiple of all strides, as the cells of both then
    coincide.

    Args:
        raw: (N, M, 5 + K), for `image.flip(3)`.
        cells: of the image.

    Returns:
        (N, M, 5 + K).
    """
    sizes = [3 * rows * columns for rows, columns in cells.shape]
    parts = [
        part.unflatten(1, (3, *shape)).flip(3).flatten(1, 3)  # (N, 3, rows, columns, 5 + K)
        for part, shape in zip(raw.split(sizes, 1), cells.shape, strict=True)
    ]
    turned = torch.cat(parts, 1)
    return torch.cat([-turned[..., :1], turned[..., 1:]], 2)


class Detections(NamedTuple):
    """What was found in one image, surest first."""

    boxes: Tensor  # (n, 4)
    scores: Tensor  # (n,) objectness times probability of the class
    labels: Tensor  # (n,)


def detect(raw: Tensor, cells: Grid, score: float = 0.05) -> Detections:
    """The boxes of one image: decode, keep what is likely, suppress doubles within a class.

    Of two boxes of a class with an IoU above .5 the less likely one goes. The hundred likeliest
    are given at most, as many as COCO counts.

    Args:
        raw: (M, 5 + K), of the network.
        cells: of the image, `grid(height, width, anchors)`. Of height and width exchanged it has
            as many rows, so that the mistake cannot be seen here.
        score: below it a box is not given.

    Raises:
        ValueError: the output is not that of one image of this size, or is not finite.
    """
    if raw.ndim != 2 or len(raw) != len(cells.stride) or raw.shape[1] < 6:
        raise ValueError(
            f"The output has shape {tuple(raw.shape)}. Expected ({len(cells.stride)}, 5 + K), of "
            "one image of the size of the grid: take raw[i] of a batch."
        )
    if not bool(raw.isfinite().all()):
        raise ValueError(
            f"{int((~raw.isfinite()).any(1).sum())} of {len(raw)} predictions are not finite. "
            "Expected numbers: look for NaN in the images and in the network's weights."
        )
    likely = raw[:, 4:5].sigmoid() * raw[:, 5:].sigmoid()  # (M, K)
    row, label = (likely > score).nonzero(as_tuple=True)
    boxes, scores = decode(raw[:, :4], cells)[row], likely[row, label]
    keep = batched_nms(boxes, scores, label, iou_threshold=0.5)[:100]
    return Detections(boxes[keep], scores[keep], label[keep])
