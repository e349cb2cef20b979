"""What each task trains on and how it is scored: arrays, loss, score while training, report.

`experiments` puts these together. For each task

    arrays(split)             images and targets of a split, as `training.fit` takes them
    loss(targets)             built from the training targets; called with outputs and targets
    score(outputs, targets)   numbers on validation after each epoch; one of them chooses
    report(model, data)       numbers for the ledger, from the test set, looked at once

Where images are shrunk first, each takes `side` as well, their width in pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import metrics, yolo
from course_utils.datasets import Dataset, Split, bccd
from course_utils.training import predict

Loss = Callable[[Tensor, Tensor], Tensor]


def whole(split: Split) -> tuple[Tensor, Tensor]:
    """Images and targets as the data set has them."""
    return split.x, split.y


# Classification, one logit ----------------------------------------------------------------------


def weighted_bce(labels: Tensor) -> Loss:
    """Binary cross-entropy on logits in which both classes weigh the same in sum.

    Args:
        labels: (N,) of 0 and 1, the training labels. A class that is absent leaves the loss
            unweighted.

    Raises:
        ValueError: labels other than 0 and 1; the loss would fall below 0 without an end.
    """
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise ValueError(
            f"The training labels hold {labels.unique()[:5].tolist()}. Expected 0 and 1 alone."
        )
    positive = int(labels.sum())
    negative = len(labels) - positive
    weight = negative / positive if positive and negative else 1.0

    def loss(logits: Tensor, labels: Tensor) -> Tensor:  # (B, 1), (B,)
        pos_weight = torch.tensor(weight, device=logits.device)
        return F.binary_cross_entropy_with_logits(
            logits[:, 0], labels.to(logits.dtype), pos_weight=pos_weight
        )

    return loss


def score_binary(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """AUROC (NaN for one class only), and accuracy at threshold 0.5, of logits (N, 1)."""
    return {
        "auroc": metrics.auroc(logits[:, 0], labels),
        "accuracy": metrics.accuracy(logits[:, 0].sigmoid(), labels),
    }


def report_binary(model: nn.Module, data: Dataset) -> dict[str, float]:
    """`score_binary` on test, and accuracy at the threshold that was best on validation."""
    val, test = predict(model, data.val.x), predict(model, data.test.x)  # (N, 1)
    threshold = metrics.best_threshold(val[:, 0].sigmoid(), data.val.y)
    tuned = metrics.accuracy(test[:, 0].sigmoid(), data.test.y, threshold)
    return score_binary(test, data.test.y) | {
        "accuracy_at_val_threshold": tuned,
        "val_threshold": threshold,
        "val_auroc": metrics.auroc(val[:, 0], data.val.y),
    }


# Segmentation -----------------------------------------------------------------------------------


def dice_and_cross_entropy(targets: Tensor, side: int = 0) -> Loss:
    """Dice loss plus cross-entropy, by MONAI; with deep supervision, the coarser levels too.

    Dice alone has no gradient to speak of while nothing overlaps, and cross-entropy alone is
    content with background everywhere. A coarser output counts half as much as the next finer one
    (as in nnU-Net, https://arxiv.org/abs/1809.10486).

    Args:
        targets: (N, H, W) training masks; two values make it a yes-or-no question.
        side: not used; any size will do.

    Of an image without the object in its mask, and of a whole batch of them, the loss is finite:
    Dice is smoothed by 1e-5, so that it falls to 0 as the answer does.

    Raises:
        ValueError: when called: a mask holds a label for which the network has no output.
    """
    from monai.losses import DiceCELoss

    binary = int(targets.max()) <= 1
    one = DiceCELoss(
        sigmoid=binary, softmax=not binary, to_onehot_y=not binary, include_background=binary,
        batch=True,
    )  # fmt: skip

    def loss(outputs: Tensor | tuple[Tensor, ...], masks: Tensor) -> Tensor:
        levels = (outputs,) if isinstance(outputs, Tensor) else outputs  # (B, K, H, W), finest 1st
        _check_labels(masks, classes=max(levels[0].shape[1], 2))
        total, weights = levels[0].new_zeros((), dtype=torch.float32), 0.0
        for level, output in enumerate(levels):
            target = masks[:, None].float()  # (B, 1, H, W)
            if output.shape[2:] != target.shape[2:]:
                target = F.interpolate(target, output.shape[2:], mode="nearest")
            total = total + one(output.float(), target) * 0.5**level
            weights += 0.5**level
        return total / weights

    return loss


def _check_labels(masks: Tensor, classes: int) -> None:
    """Else the error is about an index, on a GPU a device assertion, and for one output missing."""
    lowest, highest = int(masks.min()), int(masks.max())
    if lowest < 0 or highest >= classes:
        raise ValueError(
            f"The mask holds labels from {lowest} to {highest}. Expected 0 to {classes - 1}: the "
            f"network tells {classes} classes apart. Masks stored as 0 and 255 have to be "
            "thresholded first; a label that says 'ignore' has to be replaced."
        )


def slices(split: Split) -> tuple[Tensor, Tensor]:
    """Hippocampus volumes as horizontal slices, each with its two neighbours as channels.

    Returns:
        x float16 (n, 3, 48, 64): the slice below, the slice, the slice above (at the ends the
        slice itself again); y uint8 (n, 48, 64). The volumes follow each other; volume i gives
        `split.extra["shape"][i, 2]` slices.
    """
    xs, ys = [], []
    for volume, labels, shape in zip(split.x, split.y, split.extra["shape"], strict=True):
        depth = int(shape[2])
        planes = volume[0].permute(2, 0, 1)[:depth]  # (depth, 48, 64)
        padded = torch.cat([planes[:1], planes, planes[-1:]])
        xs.append(torch.stack([padded[:-2], planes, padded[2:]], 1))  # (depth, 3, 48, 64)
        ys.append(labels.permute(2, 0, 1)[:depth])
    return torch.cat(xs), torch.cat(ys)


def score_slices(logits: Tensor, masks: Tensor) -> dict[str, float]:
    """Dice of each part of the hippocampus, over all slices together, and their mean."""
    found = logits.argmax(1)
    parts = {
        f"dice_{name}": metrics.pooled_dice(found == label, masks == label)
        for label, name in ((1, "anterior"), (2, "posterior"))
    }
    return parts | {"dice": sum(parts.values()) / 2}


def report_hippocampus(model: nn.Module, data: Dataset) -> dict[str, float]:
    """Mean Dice over the test volumes, for each part; 95th percentile of the surface distance."""
    x, y = slices(data.test)
    found = predict(model, x).argmax(1)
    depths = data.test.extra["shape"][:, 2].tolist()
    report = {}
    for label, name in ((1, "anterior"), (2, "posterior")):
        pairs = list(zip((found == label).split(depths), (y == label).split(depths), strict=True))
        dice = torch.stack([metrics.dice(a[None], b[None])[0] for a, b in pairs])
        distance = torch.stack([metrics.hd95(a[None], b[None])[0] for a, b in pairs])
        report[f"dice_{name}"] = dice.mean().item()
        report[f"hd95_{name}"] = distance.nanmean().item()  # NaN where nothing was found
    return report


def skin(split: Split, side: int = 128) -> tuple[Tensor, Tensor]:
    """ISIC images and masks averaged down to `side` pixels: uint8 (N, 3, side, side), (N, ...)."""

    def smaller(images: Tensor) -> Tensor:
        parts = [F.adaptive_avg_pool2d(part.float(), side).round() for part in images.split(256)]
        return torch.cat([part.to(torch.uint8) for part in parts])

    return smaller(split.x), (smaller(split.y[:, None] * 255)[:, 0] > 127).to(torch.uint8)


def score_lesion(logits: Tensor, masks: Tensor, side: int = 0) -> dict[str, float]:
    """Mean Jaccard index and Dice over images, at probability 0.5."""
    found = logits[:, 0] > 0
    return {
        "jaccard": metrics.iou(found, masks.bool()).mean().item(),
        "dice": metrics.dice(found, masks.bool()).mean().item(),
    }


def report_lesion(model: nn.Module, data: Dataset, side: int = 128) -> dict[str, float]:
    """`score_lesion` on the test images at full resolution; images are shrunk for the network.

    Beside it the mean Dice of the third of the images with the smallest lesions, and of that with
    the largest (in pixels of the mask): attention is said to help with small objects.
    """
    x, _ = skin(data.test, side)
    logits = predict(model, x)
    size = data.test.y.shape[1:]
    large = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    dice = metrics.dice(large[:, 0] > 0, data.test.y.bool())
    thirds = data.test.y.flatten(1).sum(1).argsort(stable=True).tensor_split(3)
    return score_lesion(large, data.test.y) | {
        "dice_smallest_third": dice[thirds[0]].mean().item(),
        "dice_largest_third": dice[thirds[2]].mean().item(),
    }


# Detection --------------------------------------------------------------------------------------

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


def smears(split: Split, side: int = 320) -> tuple[Tensor, Tensor]:
    """Blood smears averaged down to `side` pixels in width: uint8 (N, 3, H, side), boxes alike."""
    scale = side / split.x.shape[3]
    size = round(split.x.shape[2] * scale), side
    parts = [F.adaptive_avg_pool2d(p.float(), size).round() for p in split.x.split(64)]
    boxes = split.y.clone()
    boxes[:, :, 1:] *= scale
    return torch.cat([part.to(torch.uint8) for part in parts]), boxes


def yolo_v3(targets: Tensor, side: int = 320) -> Loss:
    """YOLOv3's own loss."""
    return yolo.YOLOLoss(cell_anchors(side), side * 3 // 4, side)


def yolo_mixed(targets: Tensor, side: int = 320) -> Loss:
    """YOLOv3's loss with CIoU and several anchors (YOLOv4), objectness aiming at IoU (YOLOv5), a
    heavier box term (YOLOv1), and the ignore threshold of YOLOv3's paper instead of its code. How
    many anchors, how heavy and which threshold was tried out on validation."""
    return yolo.YOLOLoss(
        cell_anchors(side), side * 3 // 4, side, ciou=True, several=0.4, iou_objectness=True,
        ignore=0.5, box_weight=10.0,
    )  # fmt: skip


SCORED_FROM = 0.005
"""Average precision is counted down to this score, as in YOLOv3's own evaluation: the unlikely
boxes cost nothing there and find objects that the likely ones miss."""


def detections(raw: Tensor, side: int, score: float = 0.05) -> list[yolo.Detections]:
    """`yolo.detect` for each image of a batch (N, M, 5 + K), images 4 to 3."""
    cells = yolo.grid(side * 3 // 4, side, cell_anchors(side))
    return [yolo.detect(rows, cells, score) for rows in raw]


def score_cells(raw: Tensor, boxes: Tensor, side: int = 320) -> dict[str, float]:
    """mAP at IoU .5 and COCO's mAP."""
    found = metrics.average_precision(detections(raw, side, SCORED_FROM), boxes, bccd.CLASSES)
    return {"map50": found["map50"], "map": found["map"]}


def report_cells(model: nn.Module, data: Dataset, side: int = 320) -> dict[str, float]:
    """mAP and AP of each class on the test images, at the size the network sees.

    The outputs for an image are averaged with those for its mirror image.
    """
    x, boxes = smears(data.test, side)
    cells = yolo.grid(side * 3 // 4, side, cell_anchors(side))
    raw = (predict(model, x) + yolo.mirrored(predict(model, x.flip(3)), cells)) / 2
    return metrics.average_precision(detections(raw, side, SCORED_FROM), boxes, bccd.CLASSES)
