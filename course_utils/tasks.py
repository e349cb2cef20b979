"""What each task trains on and how it is scored: arrays, loss, score while training, report.

`experiments` puts these together. For each task

    arrays(split)             images and targets of a split, as `training.fit` takes them
    loss(targets)             built from the training targets; called with outputs and targets
    score(outputs, targets)   numbers on validation after each epoch; one of them chooses
    report(model, data)       numbers for the ledger, from the test set, looked at once
    cases(model, data)        95% intervals of its main numbers over test cases, of one model

Where images are shrunk first, each takes `side` as well, their width in pixels.
"""

from collections.abc import Callable
from functools import cache

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
        _one_logit(logits, labels)
        pos_weight = torch.full((), weight, device=logits.device)  # made there, not sent there
        return F.binary_cross_entropy_with_logits(
            logits[:, 0], labels.to(logits.dtype), pos_weight=pos_weight
        )

    return loss


def _one_logit(logits: Tensor, targets: Tensor) -> None:
    """(N, 1) for (N,), (N, 1, H, W) for (N, H, W): of two columns the first would count alone."""
    if logits.ndim != targets.ndim + 1 or logits.shape[1] != 1 or len(logits) != len(targets):
        raise ValueError(
            f"The outputs have shape {tuple(logits.shape)} and the targets {tuple(targets.shape)}. "
            "Expected one logit each: outputs (N, 1) for labels (N,), (N, 1, H, W) for masks "
            "(N, H, W); targets[:, 0] takes an axis of one away."
        )


def score_binary(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """AUROC (NaN for one class only), and accuracy at threshold 0.5, of logits (N, 1)."""
    _one_logit(logits, labels)
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


def cases_binary(model: nn.Module, data: Dataset) -> dict[str, tuple[float, float]]:
    """AUROC by bootstrap, accuracy at 0.5 by Wilson."""
    logits, labels = predict(model, data.test.x)[:, 0], data.test.y
    return {
        "auroc": metrics.bootstrap(metrics.auroc, logits, labels),
        "accuracy": metrics.wilson((logits >= 0).long() == labels),
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
        ValueError: when called: a mask holds a label for which the network has no output, or has
            another shape than its outputs.
    """
    from monai.losses import DiceCELoss

    lowest, highest = _range(targets)
    binary = highest <= 1
    one = DiceCELoss(
        sigmoid=binary, softmax=not binary, to_onehot_y=not binary, include_background=binary,
        batch=True,
    )  # fmt: skip

    def loss(outputs: Tensor | tuple[Tensor, ...], masks: Tensor) -> Tensor:
        levels = (outputs,) if isinstance(outputs, Tensor) else outputs  # (B, K, H, W), finest 1st
        if masks.shape != (len(levels[0]), *levels[0].shape[2:]):
            raise ValueError(
                f"The masks have shape {tuple(masks.shape)}, the outputs {tuple(levels[0].shape)}. "
                "Expected masks (N, H, W) for outputs (N, K, H, W): masks[:, 0] takes an axis of "
                "channels away."
            )
        classes = max(levels[0].shape[1], 2)
        _check_labels(lowest, highest, classes)
        if masks.device.type == "cpu" or not levels[0].requires_grad:
            # In training on a GPU this would wait for it in each step, for what is known already.
            _check_labels(*_range(masks), classes)
        total, weights = levels[0].new_zeros((), dtype=torch.float32), 0.0
        for level, output in enumerate(levels):
            target = masks[:, None].float()  # (B, 1, H, W)
            if output.shape[2:] != target.shape[2:]:
                target = F.interpolate(target, output.shape[2:], mode="nearest")
            total = total + one(output.float(), target) * 0.5**level
            weights += 0.5**level
        return total / weights

    return loss


def _range(masks: Tensor) -> tuple[float, float]:
    lowest, highest = torch.stack(torch.as_tensor(masks).aminmax()).tolist()
    return lowest, highest


def _check_labels(lowest: float, highest: float, classes: int) -> None:
    """Else the error is about an index, on a GPU a device assertion, and for one output missing."""
    if not 0 <= lowest <= highest < classes:  # not so for NaN
        raise ValueError(
            f"The mask holds labels from {lowest:g} to {highest:g}. Expected 0 to {classes - 1}: "
            f"the network tells {classes} classes apart. Masks stored as 0 and 255 have to be "
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
    report = {}
    for name, pairs, dice in _volumes(model, data):
        distance = torch.stack([metrics.hd95(a[None], b[None])[0] for a, b in pairs])
        report[f"dice_{name}"] = dice.mean().item()
        report[f"hd95_{name}"] = distance.nanmean().item()  # NaN where nothing was found
    return report


def cases_hippocampus(model: nn.Module, data: Dataset) -> dict[str, tuple[float, float]]:
    """Mean Dice of each part, volumes drawn again."""
    found = _volumes(model, data)
    return {f"dice_{name}": metrics.bootstrap(torch.mean, dice) for name, _, dice in found}


def _volumes(model: nn.Module, data: Dataset) -> list[tuple[str, list, Tensor]]:
    """For each part its name, found and true masks of each test volume, and the Dice of each."""
    x, y = slices(data.test)
    found = predict(model, x).argmax(1)
    depths = data.test.extra["shape"][:, 2].tolist()
    parts = []
    for label, name in ((1, "anterior"), (2, "posterior")):
        pairs = list(zip((found == label).split(depths), (y == label).split(depths), strict=True))
        dice = torch.stack([metrics.dice(a[None], b[None])[0] for a, b in pairs])
        parts.append((name, pairs, dice))
    return parts


def skin(split: Split, side: int = 128) -> tuple[Tensor, Tensor]:
    """ISIC images and masks averaged down to `side` pixels: uint8 (N, 3, side, side), (N, ...)."""

    def smaller(images: Tensor) -> Tensor:
        parts = [F.adaptive_avg_pool2d(part.float(), side).round() for part in images.split(256)]
        return torch.cat([part.to(torch.uint8) for part in parts])

    return smaller(split.x), (smaller(split.y[:, None] * 255)[:, 0] > 127).to(torch.uint8)


def score_lesion(logits: Tensor, masks: Tensor, side: int = 0) -> dict[str, float]:
    """Mean Jaccard index and Dice over images, at probability 0.5."""
    _one_logit(logits, masks)
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
    large = _at_full_size(model, data, side)
    dice = metrics.dice(large[:, 0] > 0, data.test.y.bool())
    thirds = data.test.y.flatten(1).sum(1).argsort(stable=True).tensor_split(3)
    return score_lesion(large, data.test.y) | {
        "dice_smallest_third": dice[thirds[0]].mean().item(),
        "dice_largest_third": dice[thirds[2]].mean().item(),
    }


def cases_lesion(
    model: nn.Module, data: Dataset, side: int = 128
) -> dict[str, tuple[float, float]]:
    """Mean Jaccard index and Dice, images drawn again."""
    found, truth = _at_full_size(model, data, side)[:, 0] > 0, data.test.y.bool()
    return {
        "jaccard": metrics.bootstrap(torch.mean, metrics.iou(found, truth)),
        "dice": metrics.bootstrap(torch.mean, metrics.dice(found, truth)),
    }


def _at_full_size(model: nn.Module, data: Dataset, side: int) -> Tensor:
    logits = predict(model, skin(data.test, side)[0])
    size = data.test.y.shape[1:]
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


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
    return _for_boxes(targets, yolo.YOLOLoss(cell_anchors(side), side * 3 // 4, side))


def yolo_mixed(targets: Tensor, side: int = 320) -> Loss:
    """YOLOv3's loss with CIoU and several anchors (YOLOv4), objectness aiming at IoU (YOLOv5), a
    heavier box term (YOLOv1), and the ignore threshold of YOLOv3's paper instead of its code. How
    many anchors, how heavy and which threshold was tried out on validation."""
    loss = yolo.YOLOLoss(
        cell_anchors(side), side * 3 // 4, side, ciou=True, several=0.4, iou_objectness=True,
        ignore=0.5, box_weight=10.0,
    )  # fmt: skip
    return _for_boxes(targets, loss)


def _for_boxes(targets: Tensor, loss: yolo.YOLOLoss) -> Loss:
    """`loss`, once the training boxes are in order: augmentation would hide that they are not."""
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


def score_cells(raw: Tensor, boxes: Tensor, side: int = 320) -> dict[str, float]:
    """mAP at IoU .5 and COCO's mAP."""
    found = metrics.average_precision(detections(raw, side, SCORED_FROM), boxes, bccd.CLASSES)
    return {"map50": found["map50"], "map": found["map"]}


def report_cells(model: nn.Module, data: Dataset, side: int = 320) -> dict[str, float]:
    """mAP and AP of each class on the test images, at the size the network sees.

    The outputs for an image are averaged with those for its mirror image. Published figures mostly
    come from one view, so each number stands there a second time, as `..._one_view`.
    """
    boxes = smears(data.test, side)[1]

    def score(raw: Tensor) -> dict[str, float]:
        return metrics.average_precision(detections(raw, side, SCORED_FROM), boxes, bccd.CLASSES)

    one, both = _views(model, data, side)
    return score(both) | {f"{name}_one_view": value for name, value in score(one).items()}


def cases_cells(model: nn.Module, data: Dataset, side: int = 320) -> dict[str, tuple[float, float]]:
    """mAP at IoU .5 and COCO's mAP, images drawn again 200 times; of both kinds of view."""
    boxes, intervals = smears(data.test, side)[1], {}
    for raw, ending in zip(_views(model, data, side), ("_one_view", ""), strict=True):
        found = detections(raw, side, SCORED_FROM)

        @cache  # both numbers come from the same draws
        def scores(drawn: tuple[int, ...], found: tuple = tuple(found)) -> dict[str, float]:
            again = [found[i] for i in drawn]
            return metrics.average_precision(again, boxes[list(drawn)], bccd.CLASSES)

        for key in ("map50", "map"):
            intervals[key + ending] = metrics.bootstrap(
                lambda drawn, key=key, scores=scores: scores(tuple(drawn.tolist()))[key],
                torch.arange(len(found)),
                resamples=200,
            )
    return intervals


def _views(model: nn.Module, data: Dataset, side: int) -> tuple[Tensor, Tensor]:
    """Outputs for the test images, and their means with those for the mirror images."""
    x = smears(data.test, side)[0]
    cells = yolo.grid(side * 3 // 4, side, cell_anchors(side))
    one = predict(model, x)
    return one, (one + yolo.mirrored(predict(model, x.flip(3)), cells)) / 2
