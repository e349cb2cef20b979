"""The metrics of the course under the names its chapters use; the arithmetic is done by libraries.

Chapter 01 builds Dice, IoU and AUROC by hand and compares them with these.
"""

import math

import torch
from torch import Tensor


def auroc(scores: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve: how often a random positive scores above a random negative.

    Ties count one half. Fawcett 2006, https://doi.org/10.1016/j.patrec.2005.10.010.

    Args:
        scores: (N,) logits or probabilities, higher for class 1. Only their order counts.
        labels: (N,) of 0 and 1.

    Returns:
        A number in [0, 1]; NaN when only one class is present, as AUROC is undefined then.
    """
    from sklearn.metrics import roc_auc_score

    _same_length(scores, labels)
    if len(labels.unique()) < 2:
        return math.nan
    # In float64 by scikit-learn: a sigmoid in float32 would tie the highest scores.
    return float(roc_auc_score(labels.cpu().numpy(), scores.double().cpu().numpy()))


def accuracy(probabilities: Tensor, labels: Tensor, threshold: float = 0.5) -> float:
    """Share of correct decisions when `probabilities >= threshold` means class 1.

    Args:
        probabilities: (N,) in [0, 1].
        labels: (N,) of 0 and 1.
    """
    _same_length(probabilities, labels)
    return ((probabilities >= threshold).long() == labels.long()).double().mean().item()


def best_threshold(probabilities: Tensor, labels: Tensor) -> float:
    """The threshold of highest accuracy. Tune it on validation data, never on test data.

    Among equally good thresholds the one nearest to 0.5 is taken; it lies half way between two
    neighbouring probabilities, so that float rounding does not decide.
    """
    _same_length(probabilities, labels)
    values = probabilities.double().unique()  # sorted
    between = (values[1:] + values[:-1]) / 2
    candidates = torch.cat([torch.tensor([0.0, 0.5, 1.0]).double(), between])
    decisions = probabilities.double()[None, :] >= candidates[:, None]  # (candidates, N)
    right = (decisions == labels.bool()[None, :]).double().mean(1)
    best = candidates[right == right.max()]
    return best[(best - 0.5).abs().argmin()].item()


def dice(prediction: Tensor, truth: Tensor) -> Tensor:
    """Dice coefficient per case, 2 |A and B| / (|A| + |B|), by MONAI.

    Dice 1945, https://doi.org/10.2307/1932409.

    Args:
        prediction, truth: (N, ...) binary masks of equal shape.

    Returns:
        (N,) in [0, 1]. An empty prediction on an empty truth is right, and counts 1.
    """
    from monai.metrics import compute_dice

    prediction, truth = _masks(prediction, truth)
    # MONAI gives NaN on an empty truth unless told otherwise.
    found = compute_dice(prediction, truth, ignore_empty=False)  # (N, 1)
    return found[:, 0]


def iou(prediction: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union (Jaccard index) per case, |A and B| / |A or B|, by MONAI.

    Args:
        prediction, truth: (N, ...) binary masks of equal shape.

    Returns:
        (N,) in [0, 1]. An empty prediction on an empty truth is right, and counts 1.
    """
    from monai.metrics import compute_iou

    prediction, truth = _masks(prediction, truth)
    found = compute_iou(prediction, truth, ignore_empty=False)[:, 0]
    both_empty = (prediction.flatten(1).sum(1) + truth.flatten(1).sum(1)) == 0
    return torch.where(both_empty, torch.ones_like(found), found)


def bootstrap(
    metric, *tensors: Tensor, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95% percentile interval of a metric over resampled cases.

    Efron and Tibshirani 1993, chapter 13. It shows the luck of the test cases, not of the seed.

    Args:
        metric: called with each of `tensors` indexed by the same resampled cases; gives a number.
        tensors: equal first dimension, one row per case.
    """
    generator = torch.Generator().manual_seed(seed)
    cases = len(tensors[0])
    found = []
    for _ in range(resamples):
        chosen = torch.randint(cases, (cases,), generator=generator)
        found.append(float(metric(*(tensor[chosen] for tensor in tensors))))
    numbers = torch.tensor(found, dtype=torch.float64)
    low, high = numbers[~numbers.isnan()].quantile(torch.tensor([0.025, 0.975]).double())
    return low.item(), high.item()


def _same_length(scores: Tensor, labels: Tensor) -> None:
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(
            f"Scores have shape {tuple(scores.shape)} and labels {tuple(labels.shape)}. "
            "Expected (N,) for both: index the column, for instance logits[:, 0]."
        )


def _masks(prediction: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (N, 1, ...) floats for MONAI."""
    if prediction.shape != truth.shape or prediction.ndim < 2:
        raise ValueError(
            f"The prediction has shape {tuple(prediction.shape)} and the truth "
            f"{tuple(truth.shape)}. Expected equal shapes (N, ...), one mask per case."
        )
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(
                f"The {name} holds values other than 0 and 1. Threshold probabilities first, "
                "for instance probabilities >= 0.5."
            )
    return prediction.float()[:, None], truth.float()[:, None]
