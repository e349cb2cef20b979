"""Blood smears: where are the cells, and of which kind? YOLO in three forms. Chapter 08."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import metrics, yolo
from ..attention import CBAM
from ..augment import UNIT, moved
from ..datasets import Dataset, Split
from ..datasets.bccd import CLASSES
from ..losses import Loss
from ..training import predict
from .experiment import Experiment, averaged, profile

CELL_ANCHORS = (
    ((19, 18), (29, 27), (43, 43)),
    ((55, 44), (48, 53), (60, 56)),
    ((68, 63), (99, 85), (115, 108)),
)
"""Width and height in pixels at 320 x 240, by `yolo.anchors_by_class` on the training boxes: four
for red cells, three for white cells, two for platelets."""


def cell_anchors(side: int = 320) -> Tensor:
    """`CELL_ANCHORS` for images `side` pixels wide: (9, 2)."""
    return torch.tensor(CELL_ANCHORS).float().reshape(9, 2) * (side / 320)


def shrunk(split: Split, side: int = 320) -> tuple[Tensor, Tensor]:
    """Blood smears averaged down to `side` pixels in width: uint8 (N, 3, H, side), boxes alike."""
    scale = side / split.x.shape[3]
    size = round(split.x.shape[2] * scale), side
    boxes = split.y.clone()
    boxes[:, :, 1:] *= scale
    return averaged(split.x, size), boxes


@cache
def _changes() -> nn.Module:
    import kornia.augmentation as K

    return moved((), 0, 0.1, (0.8, 1.25), K.ColorJiggle(0.2, 0.2, 0.2, 0.02, p=1.0))


@UNIT
def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change blood smears and their boxes: side, place, distance, stain; half the batches mosaic.

    Args:
        x: (N, 3, H, W) in [0, 1].
        y: (N, room, 5), rows (class, x1, y1, x2, y2) in pixels, class -1 for no box.

    Returns:
        Images of the same shape, and boxes (N, room or 4 room, 5). A box of which less than 40% is
        left in the image is dropped.

    Raises:
        ValueError: values below -0.5 or above 1.5, which would be clipped; boxes of another shape,
            or (looked at on the CPU alone) given as shares of the image.
    """
    metrics.expect_rows(y, len(x))
    if y.device.type == "cpu":
        metrics.refuse_shares("boxes", y[y[:, :, 0] >= 0][:, 1:])
    height, width = x.shape[2:]
    x, y = flipped(x, y, 3, width)
    x, y = flipped(x, y, 2, height)
    x, corners = _changes()(x, y[:, :, 1:], data_keys=["input", "bbox_xyxy"])
    y = torch.cat([y[:, :, :1], corners], 2)
    if bool(torch.rand(()) < 0.5):
        return mosaic(x, y)
    return x, visible(y, 0, 0, width, height)


def flipped(x: Tensor, y: Tensor, axis: int, size: int) -> tuple[Tensor, Tensor]:
    """Half of the images and their boxes mirrored along an axis. Kornia's boxes are a pixel off."""
    chosen = torch.rand(len(x), device=x.device) < 0.5
    low, high = (1, 3) if axis == 3 else (2, 4)  # columns of the box
    mirrored = y.clone()
    mirrored[:, :, low], mirrored[:, :, high] = size - y[:, :, high], size - y[:, :, low]
    return (
        torch.where(chosen.view(-1, 1, 1, 1), x.flip(axis), x),
        torch.where(chosen.view(-1, 1, 1), mirrored, y),
    )


def mosaic(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each image keeps one corner of itself and takes the other three from images of the batch.

    After YOLOv4 (Bochkovskiy et al. 2020, https://arxiv.org/abs/2004.10934), without its resizing:
    the cells keep their size.

    Args, returns: as `augment`; 4 room rows. An image of one row or column of pixels keeps it.
    """
    height, width = x.shape[2:]
    cut_y, cut_x = (max(int(n * (0.3 + 0.4 * torch.rand(()))), 1) for n in (height, width))
    image, rows = torch.empty_like(x), list[Tensor]()
    for left, top in ((0, 0), (cut_x, 0), (0, cut_y), (cut_x, cut_y)):
        right, bottom = width if left else cut_x, height if top else cut_y
        pick = torch.randperm if rows else torch.arange
        other = pick(len(x), device=x.device)
        image[:, :, top:bottom, left:right] = x[other, :, top:bottom, left:right]
        rows.append(visible(y[other], left, top, right, bottom))
    return image, torch.cat(rows, 1)


def visible(y: Tensor, left: int, top: int, right: int, bottom: int) -> Tensor:
    """Boxes cut to a window; those of which less than 40% of the area is left get class -1."""
    x1, x2 = (y[:, :, column].clamp(left, right) for column in (1, 3))
    y1, y2 = (y[:, :, column].clamp(top, bottom) for column in (2, 4))
    cut = torch.stack([x1, y1, x2, y2], 2)
    size = cut[:, :, 2:] - cut[:, :, :2]
    whole = (y[:, :, 3:] - y[:, :, 1:3]).prod(2)
    # Both sides, not the area: that of a box inverted twice is positive again.
    kept = (y[:, :, 0] >= 0) & (size.prod(2) >= 0.4 * whole) & (size > 0).all(2)
    return torch.cat([torch.where(kept, y[:, :, 0], -1)[:, :, None], cut], 2)


def yolo_v3(targets: Tensor, side: int = 320) -> Loss:
    """YOLOv3's own loss."""
    return _loss(targets, side)


def yolo_mixed(targets: Tensor, side: int = 320) -> Loss:
    """YOLOv3's loss with CIoU and several anchors (YOLOv4), objectness aiming at IoU (YOLOv5), a
    heavier box term (YOLOv1), and the ignore threshold of YOLOv3's paper instead of its code. How
    many anchors, how heavy and which threshold was tried out on validation."""
    ideas = {"ciou": True, "several": 0.4, "iou_objectness": True, "ignore": 0.5}
    return _loss(targets, side, box_weight=10.0, **ideas)


def _loss(targets: Tensor, side: int, **ideas: Any) -> Loss:
    """The loss, once the training boxes are in order: augmentation would hide that they are not."""
    loss = yolo.YOLOLoss(cell_anchors(side), side * 3 // 4, side, **ideas)
    if targets.numel():
        loss.check_boxes(targets)
    return loss


SCORED_FROM = 0.005
"""Average precision is counted down to this score, as in YOLOv3's own evaluation: the unlikely
boxes cost nothing there and find objects that the likely ones miss."""


def detections(raw: Tensor, side: int, score: float = 0.05) -> list[yolo.Detections]:
    """`yolo.detect` for each image of a batch (N, M, 5 + K), images 4 to 3."""
    cells = yolo.grid(side * 3 // 4, side, cell_anchors(side))
    return [yolo.detect(rows, cells, score) for rows in raw]


def precision(raw: Tensor, boxes: Tensor, side: int) -> dict[str, float]:
    """`metrics.average_precision` of the outputs of a network for images `side` pixels wide."""
    _loss(boxes, side)  # refuses boxes of another size
    return metrics.average_precision(detections(raw, side, SCORED_FROM), boxes, CLASSES)


def score(raw: Tensor, boxes: Tensor, side: int = 320) -> dict[str, float]:
    """mAP at IoU .5 and COCO's mAP."""
    found = precision(raw, boxes, side)
    return {"map50": found["map50"], "map": found["map"]}


def report(model: nn.Module, data: Dataset, side: int = 320) -> dict[str, float]:
    """mAP and AP of each class on the test images, at the size the network sees.

    The outputs for an image are averaged with those for its mirror image. Published figures mostly
    come from one view, so each number stands there a second time, as `..._one_view`.
    """
    return _of_views(precision, model, data, side)


def cases(model: nn.Module, data: Dataset, side: int = 320) -> dict[str, tuple[float, float]]:
    """mAP at IoU .5 and COCO's mAP, images drawn again 200 times; of both kinds of view."""
    return _of_views(_intervals, model, data, side)


def _intervals(raw: Tensor, boxes: Tensor, side: int) -> dict[str, tuple[float, float]]:
    found, cases = detections(raw, side, SCORED_FROM), torch.arange(len(raw))

    @cache  # both numbers come from the same draws
    def scores(*drawn: int) -> dict[str, float]:
        return metrics.average_precision([found[i] for i in drawn], boxes[list(drawn)], CLASSES)

    def interval(key: str) -> tuple[float, float]:
        return metrics.bootstrap(lambda drawn: scores(*drawn.tolist())[key], cases, resamples=200)

    return {key: interval(key) for key in ("map50", "map")}


def _of_views(measure: Callable, model: nn.Module, data: Dataset, side: int) -> dict[str, Any]:
    """What `measure` finds in outputs averaged over both views, and in those for one."""
    x, boxes = shrunk(data.test, side)
    cells = yolo.grid(side * 3 // 4, side, cell_anchors(side))
    one = predict(model, x)
    both = (one + yolo.mirrored(predict(model, x.flip(3)), cells)) / 2
    alone = measure(one, boxes, side)
    return measure(both, boxes, side) | {f"{name}_one_view": alone[name] for name in alone}


def _detector(width: int, side: int, attention: Callable[[int], nn.Module] | None) -> yolo.YOLO:
    return yolo.YOLO(len(CLASSES), cell_anchors(side), width, attention)


def _profile(width: int, side: int, **more: Any) -> dict[str, Any]:
    return profile({"width": width, "side": side}, side=side, **more)


EXPERIMENTS = (
    Experiment(
        name="bccd",
        title="BCCD blood smears, YOLO with ideas of other versions",
        dataset="bccd",
        arms={
            "attention": partial(_detector, attention=CBAM),
            "control": partial(_detector, attention=None),
            "YOLOv3": partial(_detector, attention=None),
        },
        own_loss={"YOLOv3": yolo_v3},
        arrays=shrunk,
        loss=yolo_mixed,
        score=score,
        monitor="map",
        augment=augment,
        report=report,
        cases=cases,
        shown={"map50_one_view": "mAP50", "map_one_view": "mAP"},
        profiles={
            "smoke": _profile(8, 160, images=16, epochs=1, batch_size=8, lr=3e-3),
            "standard": _profile(16, 320, epochs=60, batch_size=8, lr=3e-3, ema=0.995),
            "full": _profile(24, 640, epochs=200, batch_size=8, lr=2e-3, ema=0.998),
        },
    ),
)
