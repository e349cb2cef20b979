"""The metrics of the course under the names its chapters use; the arithmetic is done by libraries.

Chapter 01 builds Dice, IoU and AUROC by hand and compares them with these, chapter 07 calibration.

NaN never counts as a score: where a metric is given one, it raises ValueError. Of no case at all a
metric that gives one number is NaN, and one that gives a number per case has none to give; what
has to be fitted to the cases (`best_threshold`, `temperature`, `bootstrap`) raises ValueError.
"""

import math
import warnings
from collections.abc import Callable, Sequence

import pandas as pd
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

    Raises:
        ValueError: shapes or labels do not fit, or a score is NaN.
    """
    from sklearn.metrics import roc_auc_score

    _scores(scores, labels)
    if len(labels.unique()) < 2:
        return math.nan
    # In float64 by scikit-learn: a sigmoid in float32 would tie the highest scores.
    return float(roc_auc_score(labels.cpu().numpy(), scores.double().cpu().numpy()))


def accuracy(probabilities: Tensor, labels: Tensor, threshold: float = 0.5) -> float:
    """Share of correct decisions when `probabilities >= threshold` means class 1.

    Args:
        probabilities: (N,) in [0, 1]; logits with `threshold=0`, which stands for 0.5 there.
        labels: (N,) of 0 and 1.

    Raises:
        ValueError: shapes or labels do not fit, or the threshold is one of probabilities, in
            (0, 1], and a score is none.
    """
    check = _probabilities if 0 < threshold <= 1 else _scores
    check(probabilities, labels)
    return ((probabilities >= threshold).long() == labels.long()).double().mean().item()


def best_threshold(probabilities: Tensor, labels: Tensor) -> float:
    """The threshold of highest accuracy. Tune it on validation data, never on test data.

    Among equally good thresholds the one nearest to 0.5 is taken; it lies half way between two
    neighbouring probabilities, so that float rounding does not decide.

    Args:
        probabilities: (N,) in [0, 1].
        labels: (N,) of 0 and 1.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: shapes or labels do not fit, a score is no probability, or there is none.
    """
    _probabilities(probabilities, labels)
    if len(labels) == 0:
        raise ValueError("There are no cases. Expected at least one to choose a threshold by.")
    values = probabilities.double().unique()  # sorted
    between = (values[1:] + values[:-1]) / 2
    candidates = torch.cat([torch.tensor([0.0, 0.5, 1.0]).double(), between])
    decisions = probabilities.double()[None, :] >= candidates[:, None]  # (candidates, N)
    right = (decisions == labels.bool()[None, :]).double().mean(1)
    best = candidates[right == right.max()]
    return best[(best - 0.5).abs().argmin()].item()


def reliability(probabilities: Tensor, labels: Tensor, bins: int = 15) -> pd.DataFrame:
    """What was said and what was found, in bins of equal width: the numbers of a reliability plot.

    Args:
        probabilities: (N,) of class 1, in [0, 1].
        labels: (N,) of 0 and 1.
        bins: a bin holds its lower end; the last one holds 1 as well.

    Returns:
        A row per bin that holds images: "from", "to", "images", "said" (mean probability), "found"
        (share of class 1).
    """
    _probabilities(probabilities, labels)
    table = pd.DataFrame({"said": probabilities.double().cpu(), "found": labels.double().cpu()})
    ends = torch.linspace(0, 1, bins + 1, dtype=torch.float64).numpy()
    place = (ends.searchsorted(table["said"], side="right") - 1).clip(max=bins - 1)
    groups = table.groupby(place)
    means = groups.mean()
    bounds = {"from": ends[means.index], "to": ends[means.index + 1]}
    return pd.DataFrame({**bounds, "images": groups.size(), **means}).reset_index(drop=True)


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error of the probability of class 1.

    The mean distance between said and found over the bins of `reliability`, each counting by its
    images. Guo et al. 2017, https://arxiv.org/abs/1706.04599, bin the confidence in the predicted
    class instead, max(p, 1 - p): there, errors of p near 0 and near 1 can cancel.

    Args:
        probabilities: (N,) of class 1, in [0, 1].
        labels: (N,) of 0 and 1.
    """
    rows = reliability(probabilities, labels, bins)
    distance = (rows["said"] - rows["found"]).abs() @ rows["images"]
    return float(distance) / len(labels) if len(labels) else math.nan


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The number by which to divide logits for the lowest cross-entropy, in [0.05, 20].

    Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2. Fit it on validation data. Above
    1 it makes a model less sure; the order of the images stays, and so does the decision at 0.5.

    Args:
        logits: (N,).
        labels: (N,) of 0 and 1.

    Raises:
        ValueError: one class only: then nothing says how sure to be; or probabilities.
    """
    from scipy.optimize import minimize_scalar
    from torch.nn import functional as F

    _scores(logits, labels)
    if len(labels.unique()) < 2:
        raise ValueError("The labels hold one class only. Fit the temperature on both classes.")
    z, y = logits.double().cpu(), labels.double().cpu()
    if bool(((z >= 0) & (z <= 1)).all()):
        raise ValueError("All logits lie in [0, 1], as probabilities do. Expected logits.")

    def cost(log_temperature: float) -> float:
        return F.binary_cross_entropy_with_logits(z / math.exp(log_temperature), y).item()

    ends = math.log(0.05), math.log(20)
    return math.exp(minimize_scalar(cost, bounds=ends, method="bounded").x)


def prior_shift(logits: Tensor, before: float, after: float) -> Tensor:
    """Logits as they should be where the share of class 1 is `after` and not `before`.

    By Bayes' rule the odds change by the ratio of the prior odds: a constant is added to all
    logits. This holds where the images of each class are the same, only in another mix. Saerens et
    al. 2002, https://doi.org/10.1162/089976602753284446.

    Args:
        logits: of any shape, right for the share `before`.
        before, after: shares of class 1, above 0 and below 1. A model trained with class weights
            that balance the classes has seen 0.5.
    """
    for name, share in (("before", before), ("after", after)):
        if not 0 < share < 1:
            raise ValueError(f"{name} is {share}. Expected a share of class 1 in (0, 1).")
    return logits + math.log(after / (1 - after)) - math.log(before / (1 - before))


def dice(prediction: Tensor, truth: Tensor) -> Tensor:
    """Dice coefficient per case, 2 |A and B| / (|A| + |B|), by MONAI.

    Dice 1945, https://doi.org/10.2307/1932409.

    Args:
        prediction, truth: (N, ...) binary masks of equal shape.

    Returns:
        (N,) in [0, 1]. An empty prediction on an empty truth is right, and counts 1.

    Raises:
        ValueError: other shapes, a single mask (H, W), values other than 0 and 1, or one-hot masks.
    """
    from monai.metrics import compute_dice

    return _per_case(compute_dice, prediction, truth)


def iou(prediction: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union (Jaccard index) per case, |A and B| / |A or B|, by MONAI.

    Args:
        prediction, truth: (N, ...) binary masks of equal shape.

    Returns:
        (N,) in [0, 1]. An empty prediction on an empty truth is right, and counts 1.

    Raises:
        ValueError: as `dice`.
    """
    from monai.metrics import compute_iou

    return _per_case(compute_iou, prediction, truth)


def _per_case(measure: Callable[..., Tensor], prediction: Tensor, truth: Tensor) -> Tensor:
    prediction, truth = _masks(prediction, truth)
    if len(truth) == 0:
        return torch.zeros(0)
    # MONAI gives NaN on an empty truth unless told otherwise.
    return measure(prediction, truth, ignore_empty=False)[:, 0]


def pooled_dice(prediction: Tensor, truth: Tensor) -> float:
    """Dice over all cases together, as if they were one: large objects weigh more than small.

    Args:
        prediction, truth: (N, ...) binary masks of equal shape.

    Returns:
        A number in [0, 1]; 1 when both are empty everywhere, NaN when there is no case.

    Raises:
        ValueError: other shapes, or values other than 0 and 1.
    """
    _check_masks(prediction, truth)
    if len(truth) == 0:
        return math.nan
    prediction, truth = prediction.bool(), truth.bool()  # float32 cannot count beyond 2^24
    total = int(prediction.sum()) + int(truth.sum())
    return 2 * int((prediction & truth).sum()) / total if total else 1.0


def hd95(prediction: Tensor, truth: Tensor) -> Tensor:
    """95th percentile of the distance between two surfaces, per case, in voxels, by MONAI.

    Args:
        prediction, truth: (N, H, W) or (N, H, W, D) binary masks of equal shape. Four axes of
            which the second is shorter than 5, or than a quarter of the others, are refused, as
            they may as well be (N, C, H, W). Of a flat volume move the short axis to the end: the
            order of the axes does not count.

    Returns:
        (N,), 0 or above. NaN where either mask is empty: there is no surface to measure from.

    Raises:
        ValueError: other shapes, a single mask (H, W), or values other than 0 and 1.
    """
    from monai.metrics import compute_hausdorff_distance

    prediction, truth = _masks(prediction, truth)  # (N, 1, H, W) or (N, 1, H, W, D)
    channels = truth.ndim == 5 and truth.shape[2] < max(5, min(truth.shape[3:]) / 4)
    if truth.ndim > 5 or channels:
        raise ValueError(
            f"The masks have shape {tuple(truth[:, 0].shape)}. Expected (N, H, W) or (N, H, W, D), "
            "without an axis of channels: take mask[:, 0]; of flat volumes mask.movedim(1, -1)."
        )
    found = torch.full((len(prediction),), math.nan)
    both = prediction.flatten(1).any(1) & truth.flatten(1).any(1)
    if bool(both.any()):  # MONAI warns of empty masks
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # inside MONAI
            pair = prediction[both], truth[both]
            distance = compute_hausdorff_distance(*pair, include_background=True, percentile=95)
        found[both] = distance[:, 0].float()
    return found


def average_precision(
    found: Sequence[tuple[Tensor, Tensor, Tensor]], boxes: Tensor, classes: Sequence[str]
) -> dict[str, float]:
    """COCO average precision of boxes, by torchmetrics and pycocotools.

    Lin et al. 2014, https://arxiv.org/abs/1405.0312. Precision is averaged over 101 recalls.

    Args:
        found: for each image boxes (n, 4), scores (n,) and labels (n,), as `yolo.Detections`.
        boxes: (N, room, 5) truth, rows (class, x1, y1, x2, y2), class -1 for no box. A box without
            area is an object that nothing finds. One that leaves the image counts as it stands,
            since the size of the image is not known here: cut it first, as detections may be.
        classes: their names.

    Returns:
        "map50" (at IoU .5), "map" (mean over IoU .5 to .95), and "ap50_NAME" for each class that
        the truth holds. Without any detection all are 0; without any box in the truth the first
        two are NaN (the library says -1), and there is no third.

    Raises:
        ValueError: no image, another number of images, a class without a name, a true box whose
            corners are exchanged or NaN, a detection that is not finite or has exchanged corners,
            or boxes given as shares of the image.
    """
    from torchmetrics.detection import MeanAveragePrecision

    expect_tensors("boxes", boxes)
    expect_rows(boxes)
    if len(found) != len(boxes) or len(boxes) == 0:
        raise ValueError(
            f"{len(found)} detections for {len(boxes)} images. Expected as many, and at least one."
        )
    table = _detections(found).to(boxes)  # (n, 6)
    rows = boxes[~(boxes[:, :, 0] < 0)]  # (n, 5); a class that is NaN is no missing box
    # Not "any below": NaN has to be refused too. pycocotools ignores or miscounts such boxes.
    wrong = ~((rows[:, 3:] >= rows[:, 1:3]).all(1) & rows.isfinite().all(1))
    if bool(wrong.any()):
        raise ValueError(
            f"The true box {rows[wrong][0, 1:].tolist()} is inverted or NaN. Expected x1 <= x2 and "
            "y1 <= y2; a flip must exchange the two."
        )
    expect_classes(torch.cat([boxes[:, :, 0].flatten(), table[:, 5]]), len(classes))
    refuse_shares("true boxes", rows[:, 1:])
    refuse_shares("boxes found", table[:, :4])

    # 100 must be among the thresholds: without it `map` is -1.
    measure = MeanAveragePrecision(max_detection_thresholds=[1, 10, 100], extended_summary=True)
    truth = [rows[rows[:, 0] >= 0] for rows in boxes]
    measure.update(
        [{"boxes": b, "scores": s, "labels": k} for b, s, k in found],
        [{"boxes": rows[:, 1:], "labels": rows[:, 0].long()} for rows in truth],
    )
    result = measure.compute()
    precision = result["precision"]  # (10 IoU, 101 recalls, classes, 4 areas, 3 thresholds)
    report = {"map50": result["map_50"].item(), "map": result["map"].item()}
    report = {name: value if value >= 0 else math.nan for name, value in report.items()}
    for place, label in enumerate(result["classes"].reshape(-1).tolist()):
        curve = precision[0, :, place, 0, -1]
        if bool((curve >= 0).all()):  # -1 where the truth holds no box of the class
            report[f"ap50_{classes[label]}"] = curve.mean().item()
    return report


def _detections(found: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """All of them, checked, as rows (x1, y1, x2, y2, score, label)."""
    parts = []
    for i, (boxes, scores, labels) in enumerate(found):
        expect_tensors("detections", boxes, scores, labels)
        n = len(boxes)
        if boxes.shape != (n, 4) or scores.shape != (n,) or labels.shape != (n,):
            shapes = ", ".join(str(tuple(part.shape)) for part in (boxes, scores, labels))
            raise ValueError(
                f"The detections of image {i} have shapes {shapes}. Expected boxes (n, 4), scores "
                "(n,) and labels (n,)."
            )
        parts.append(torch.cat([boxes, scores[:, None], labels[:, None]], 1).float().cpu())
    table = torch.cat(parts)
    wrong = ~((table[:, 2:4] >= table[:, :2]).all(1) & table.isfinite().all(1)) | (table[:, 5] < 0)
    if bool(wrong.any()):
        *box, score, label = table[wrong][0].tolist()
        raise ValueError(
            f"A detection has box {box}, score {score} and label {label}. Expected finite numbers, "
            "x1 <= x2, y1 <= y2 and a label of 0 or above: look for NaN in the network's outputs."
        )
    return table


def bootstrap(
    metric: Callable[..., Tensor | float], *tensors: Tensor, resamples: int = 1000
) -> tuple[float, float]:
    """95% percentile interval of a metric over resampled cases, widened for few cases.

    The spread over test cases, not over seeds. The plain percentile interval is too narrow for few
    cases, as resamples vary less than new cases would; so its ends are moved outwards as Student's
    t asks for (the "expanded percentile interval" of Hesterberg 2015, doi
    10.1080/00031305.2015.1089789). For shares, above all near 0 or 1, take `wilson`.

    Args:
        metric: called with each of `tensors` indexed by the same resampled cases; gives a number.
            Resamples on which it is NaN are left out.
        tensors: equal first dimension, one row per case.
        resamples: how many; the same ones each time, by a seed of their own.

    Returns:
        Lower and upper end; NaN for one case alone.

    Raises:
        ValueError: the metric is NaN on every resample, there is no case, or the tensors have
            different numbers of them.
    """
    from scipy.stats import norm, t

    counts = [len(tensor) for tensor in tensors]
    if not counts or min(counts) == 0 or min(counts) != max(counts):
        raise ValueError(f"The tensors hold {counts} cases. Expected as many in each, at least 1.")
    generator, cases = torch.Generator().manual_seed(0), counts[0]
    drawn = (torch.randint(cases, (cases,), generator=generator) for _ in range(resamples))
    found = [float(metric(*(tensor[chosen] for tensor in tensors))) for chosen in drawn]
    numbers = torch.tensor(found, dtype=torch.float64)
    numbers = numbers[~numbers.isnan()]
    if len(numbers) == 0:
        raise ValueError(
            f"The metric is undefined (NaN) on all {resamples} resamples of these {cases} cases. "
            "Expected cases for which it gives a number; AUROC, for instance, needs both classes."
        )
    if cases < 2:
        return math.nan, math.nan  # one case says nothing about spread
    # What is left out at each end: of a normal curve, where t with n - 1 degrees has its 2.5%.
    tail = float(norm.cdf(-math.sqrt(cases / (cases - 1)) * t.ppf(0.975, cases - 1)))
    low, high = numbers.quantile(torch.tensor([tail, 1 - tail]).double())
    return low.item(), high.item()


def wilson(right: Tensor) -> tuple[float, float]:
    """Wilson's 95% interval of a share: of the cases that were right, say.

    Unlike a bootstrap it has a width where all cases agree, and covers what it says near 0 and 1:
    no error in 50 cases leaves room for 7%. (Wilson 1927, doi 10.1080/01621459.1927.10502953.)

    Args:
        right: (N,) of 0 and 1, or bool; a row per case, N at least 1. Numbers between 0 and 1, for
            cases that are partly right, make the interval somewhat too wide.

    Raises:
        ValueError: there is no case, or a number outside 0 to 1.
    """
    if right.ndim != 1 or len(right) == 0 or not bool(((right >= 0) & (right <= 1)).all()):
        raise ValueError(
            f"Values of shape {tuple(right.shape)} are no share. Expected (N,) of 0 and 1, one for "
            "each case; for the mean of other numbers take `bootstrap`."
        )
    cases, share, z = len(right), right.double().mean().item(), 1.959964
    middle = (share + z**2 / (2 * cases)) / (1 + z**2 / cases)
    half = z * math.sqrt(share * (1 - share) / cases + z**2 / (4 * cases**2)) / (1 + z**2 / cases)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def expect_tensors(name: str, *values: object) -> None:
    """Refuse arrays and lists, which would fail later and with other words."""
    odd = [type(value).__name__ for value in values if not isinstance(value, Tensor)]
    if odd:
        raise ValueError(f"The {name} are given as {odd[0]}. Expected a tensor: torch.as_tensor.")


def _same_length(scores: Tensor, labels: Tensor) -> None:
    expect_tensors("scores and labels", scores, labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(
            f"Scores have shape {tuple(scores.shape)} and labels {tuple(labels.shape)}. "
            "Expected (N,) for both: index the column, for instance logits[:, 0]."
        )
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise ValueError(
            f"The labels hold {labels.unique()[:5].tolist()}. Expected 0 and 1 alone: compare with "
            "the class that is asked for, for instance labels == 2."
        )


def _scores(scores: Tensor, labels: Tensor) -> None:
    _same_length(scores, labels)
    refuse_nan(scores)


def refuse_nan(scores: Tensor) -> None:
    """A threshold or an argmax would make a decision even of NaN."""
    if bool(scores.isnan().any()):
        raise ValueError(
            f"{int(scores.isnan().sum())} of {scores.numel()} scores are NaN. Expected numbers: "
            "look for NaN in the images and in the network's weights."
        )


def _probabilities(probabilities: Tensor, labels: Tensor) -> None:
    _same_length(probabilities, labels)
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        raise ValueError(
            "Scores are NaN or outside [0, 1]. Expected probabilities and not logits: x.sigmoid()."
        )


def _masks(prediction: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (N, 1, ...) floats for MONAI."""
    _check_masks(prediction, truth)
    if prediction.ndim < 3 or 0 in prediction.shape[1:]:
        raise ValueError(
            f"The masks have shape {tuple(truth.shape)}. Expected (N, H, W), one mask per case, or "
            "(N, H, W, D) for volumes: mask[None] makes a batch of a single mask (H, W)."
        )
    return prediction.float()[:, None], truth.float()[:, None]


def _check_masks(prediction: Tensor, truth: Tensor) -> None:
    expect_tensors("masks", prediction, truth)
    if prediction.shape != truth.shape or prediction.ndim < 2:
        raise ValueError(
            f"The prediction has shape {tuple(prediction.shape)} and the truth "
            f"{tuple(truth.shape)}. Expected equal shapes (N, H, W), one mask per case."
        )
    for axis in (1, -1) if truth.ndim > 3 and truth.numel() else ():
        one_hot = [bool((mask.sum(axis) == 1).all()) for mask in (prediction, truth)]
        if truth.shape[axis] > 1 and all(one_hot):
            raise ValueError(
                f"The masks of shape {tuple(truth.shape)} are one-hot, a mask for each class. "
                "Expected (N, H, W) of one class: its background would count as an object, too."
            )
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(
                f"The {name} holds values other than 0 and 1: threshold it, by mask >= 0.5, say."
            )


def expect_rows(boxes: Tensor, images: int | None = None) -> None:
    """Refuse what is no batch of boxes (B, room, 5), or one of another number of images."""
    if boxes.ndim != 3 or boxes.shape[2] != 5 or images not in (None, len(boxes)):
        raise ValueError(
            f"The boxes have shape {tuple(boxes.shape)}. Expected ({images or 'N'}, room, 5): for "
            "each image rows (class, x1, y1, x2, y2), class -1 for no box."
        )


def expect_classes(found: Tensor, count: int) -> None:
    """Refuse classes (n,) other than whole numbers below `count`; below 0 there is no box."""
    wrong = found[~(found < 0) & ~((found < count) & (found == found.floor()))]  # NaN as well
    if len(wrong):
        raise ValueError(
            f"A box has class {wrong[0].item():g}. Expected a whole number from 0 to {count - 1}, "
            "or -1 for a row without a box."
        )


def refuse_shares(name: str, corners: Tensor) -> None:
    """Boxes (n, 4) that all lie within one pixel are shares of the image, not pixels."""
    if corners.numel() and 0 < float(corners.abs().amax()) <= 1:
        raise ValueError(
            f"All {name} lie within the first pixel, as shares of the image do. Expected pixels: "
            "multiply x by the width and y by the height."
        )
