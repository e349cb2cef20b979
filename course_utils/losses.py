"""Losses of the tasks, with what must hold of their targets. Taught in chapters 05 and 07.

`YOLOLoss` stands in `yolo`, with the detector that it belongs to.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]


def weighted_bce(labels: Tensor) -> Loss:
    """Binary cross-entropy on logits in which both classes weigh the same in sum.

    Args:
        labels: (N,) of 0 and 1, the training labels. A class that is absent leaves the loss
            unweighted.

    Raises:
        ValueError: labels other than 0 and 1, for which the loss would fall below 0 without an end,
            or one-hot ones.
    """
    if labels.ndim == 2 or not bool(((labels == 0) | (labels == 1)).all()):
        raise ValueError(
            f"The training labels have shape {tuple(labels.shape)} and hold "
            f"{labels.unique()[:5].tolist()}. Expected (N,) of 0 and 1 alone."
        )
    positive = int(labels.sum())
    negative = labels.numel() - positive
    weight = negative / positive if positive and negative else 1.0

    def loss(logits: Tensor, labels: Tensor) -> Tensor:  # (B, 1), (B,)
        one_logit(logits, labels)
        pos_weight = torch.full((), weight, device=logits.device)  # made there, not sent there
        wanted = labels.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits[:, 0], wanted, pos_weight=pos_weight)

    return loss


def one_logit(logits: Tensor, targets: Tensor) -> None:
    """(N, 1) for (N,), (N, 1, H, W) for (N, H, W): of two columns the first would count alone."""
    if logits.ndim != targets.ndim + 1 or logits.shape[1] != 1 or len(logits) != len(targets):
        raise ValueError(
            f"The outputs have shape {tuple(logits.shape)} and the targets {tuple(targets.shape)}. "
            "Expected one logit each, (N, 1, ...) for (N, ...); targets[:, 0] takes an axis away."
        )


def dice_and_cross_entropy(targets: Tensor, side: int = 0) -> Loss:
    """Dice loss plus cross-entropy, by MONAI.

    Dice alone has no gradient to speak of while nothing overlaps, and cross-entropy alone is
    content with background everywhere.

    Args:
        targets: (N, H, W) training masks; two values make it a yes-or-no question.
        side: of the images. It does not count here; tasks hand it to each loss, and that of
            detection needs it.

    Of an image without the object in its mask, and of a whole batch of them, the loss is finite:
    Dice is smoothed by 1e-5, so that it falls to 0 as the answer does.

    Raises:
        ValueError: when called: a mask holds a label for which the network has no output, or has
            another shape than its outputs.
    """
    from monai.losses import DiceCELoss

    lowest, highest = _range(targets)
    if highest <= 1:
        one = DiceCELoss(sigmoid=True, batch=True)
    else:
        one = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)

    def loss(outputs: Tensor, masks: Tensor) -> Tensor:  # (B, K, H, W), (B, H, W)
        if masks.shape != (len(outputs), *outputs.shape[2:]):
            raise ValueError(
                f"The masks have shape {tuple(masks.shape)}, the outputs {tuple(outputs.shape)}. "
                "Expected masks (N, H, W) for outputs (N, K, H, W), for instance masks[:, 0]."
            )
        classes = max(outputs.shape[1], 2)
        _check_labels(lowest, highest, classes)
        if masks.device.type == "cpu" or not outputs.requires_grad:
            # In training on a GPU this would wait for it in each step, for what is known already.
            _check_labels(*_range(masks), classes)
        return one(outputs.float(), masks[:, None].float())

    return loss


def _range(masks: Tensor) -> tuple[float, float]:
    lowest, highest = torch.stack(torch.as_tensor(masks).aminmax()).tolist()
    return lowest, highest


def _check_labels(lowest: float, highest: float, classes: int) -> None:
    """Else the error is about an index, on a GPU a device assertion, and for one output missing."""
    if not 0 <= lowest <= highest < classes:  # not so for NaN
        raise ValueError(
            f"The mask holds labels from {lowest:g} to {highest:g}. Expected 0 to {classes - 1}, a "
            "class each: threshold masks of 0 and 255, and replace a label that says 'ignore'."
        )
