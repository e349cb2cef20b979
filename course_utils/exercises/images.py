"""Exercises of chapter 01: overlap, ranking, normalisation, leakage, and what a dummy scores."""

# The right and the wrong answers are code as a learner would write it in a notebook: they import
# what they need besides torch themselves, and a solution is shown as it stands here.

import torch

from .engine import Exercise, Inputs


def _mask_pairs(rng: torch.Generator) -> Inputs:
    """Pairs of masks (N, ...), bool and uint8; the larger ones hold every kind of empty mask."""
    shapes = ((1, 2, 3), (3, 4), (1, 4, 4), (2, 3, 5, 4), (5, 5, 7), (5, 3, 4, 5), (4, 6, 6))
    cases = []
    for i, shape in enumerate(shapes):
        truth = torch.rand(shape, generator=rng) < 0.4
        flipped = torch.rand(shape, generator=rng) < 0.3
        prediction = truth ^ flipped
        truth.view(shape[0], -1)[:, 0] = True
        prediction.view(shape[0], -1)[:, :2] = True
        if shape[0] > 3:
            prediction[1] = truth[1] = False  # nothing to find, nothing found
            prediction[2] = False  # missed
            truth[3] = False  # a false alarm
        dtype = torch.uint8 if i % 2 else torch.bool
        cases.append((prediction.to(dtype), truth.to(dtype)))
    return cases


def _flat(mask: torch.Tensor) -> torch.Tensor:
    return mask.flatten(1).float()


# Dice ------------------------------------------------------------------------------------------


def dice(prediction, truth):
    prediction = prediction.flatten(1).float()
    truth = truth.flatten(1).float()
    overlap = (prediction * truth).sum(dim=1)
    total = prediction.sum(dim=1) + truth.sum(dim=1)
    return torch.where(total == 0, 1.0, 2 * overlap / total.clamp(min=1))


def dice_twice_missing(prediction, truth):
    p, t = _flat(prediction), _flat(truth)
    total = (p + t).sum(1)
    return torch.where(total == 0, 1.0, (p * t).sum(1) / total.clamp(min=1))


def dice_pooled(prediction, truth):
    return dice(prediction.flatten()[None], truth.flatten()[None])[0]


def dice_pooled_and_repeated(prediction, truth):
    return dice_pooled(prediction, truth).repeat(len(prediction))


def dice_averaged(prediction, truth):
    return dice(prediction, truth).mean()


def dice_of_empty_nan(prediction, truth):
    p, t = _flat(prediction), _flat(truth)
    return 2 * (p * t).sum(1) / (p.sum(1) + t.sum(1))


def dice_of_empty_zero(prediction, truth):
    p, t = _flat(prediction), _flat(truth)
    return 2 * (p * t).sum(1) / (p.sum(1) + t.sum(1) + 1e-7)


def dice_smoothed_by_one(prediction, truth):
    p, t = _flat(prediction), _flat(truth)
    return (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)


def share_of_equal_voxels(prediction, truth):
    return (prediction == truth).flatten(1).float().mean(1)


def dice_over_last_two_axes(prediction, truth):
    p, t = prediction.float(), truth.float()
    axes = (-2, -1)
    total = p.sum(axes) + t.sum(axes)
    return torch.where(total == 0, 1.0, 2 * (p * t).sum(axes) / total.clamp(min=1))


def dice_of_bool_sum(prediction, truth):
    overlap = (prediction & truth).flatten(1).sum(1)
    total = (prediction + truth).flatten(1).sum(1)
    return torch.where(total == 0, 1.0, 2 * overlap / total.clamp(min=1))


def dice_over_the_union(prediction, truth):
    p, t = prediction.flatten(1).bool(), truth.flatten(1).bool()
    union = (p | t).sum(1)
    return torch.where(union == 0, 1.0, 2 * (p & t).sum(1) / union.clamp(min=1))


def _dice_over_axes(*axes):
    def dice(prediction, truth):
        p, t = prediction.float(), truth.float()
        total = p.sum(axes) + t.sum(axes)
        return torch.where(total == 0, 1.0, 2 * (p * t).sum(axes) / total.clamp(min=1))

    return dice


def precision(prediction, truth):
    p, t = _flat(prediction), _flat(truth)
    empty = (p + t).sum(1) == 0
    return torch.where(empty, 1.0, (p * t).sum(1) / p.sum(1).clamp(min=1))


def recall(prediction, truth):
    p, t = _flat(prediction), _flat(truth)
    empty = (p + t).sum(1) == 0
    return torch.where(empty, 1.0, (p * t).sum(1) / t.sum(1).clamp(min=1))


# IoU -------------------------------------------------------------------------------------------


def iou(prediction, truth):
    prediction = prediction.flatten(1).bool()
    truth = truth.flatten(1).bool()
    overlap = (prediction & truth).sum(dim=1)
    union = (prediction | truth).sum(dim=1)
    return torch.where(union == 0, 1.0, overlap / union.clamp(min=1))


def iou_overlap_counted_twice(prediction, truth):
    return dice_twice_missing(prediction, truth)


def iou_pooled(prediction, truth):
    return iou(prediction.flatten()[None], truth.flatten()[None])[0]


def iou_averaged(prediction, truth):
    return iou(prediction, truth).mean()


def iou_of_empty_nan(prediction, truth):
    p, t = prediction.flatten(1).bool(), truth.flatten(1).bool()
    return (p & t).sum(1) / (p | t).sum(1)


def iou_of_empty_zero(prediction, truth):
    p, t = prediction.flatten(1).bool(), truth.flatten(1).bool()
    return (p & t).sum(1) / ((p | t).sum(1) + 1e-7)


def iou_over_last_two_axes(prediction, truth):
    p, t = prediction.bool(), truth.bool()
    union = (p | t).sum((-2, -1))
    return torch.where(union == 0, 1.0, (p & t).sum((-2, -1)) / union.clamp(min=1))


def _iou_over_axes(*axes):
    def iou(prediction, truth):
        p, t = prediction.bool(), truth.bool()
        union = (p | t).sum(axes)
        return torch.where(union == 0, 1.0, (p & t).sum(axes) / union.clamp(min=1))

    return iou


def iou_without_the_overlap_below(prediction, truth):
    p, t = prediction.flatten(1).bool(), truth.flatten(1).bool()
    apart = (p ^ t).sum(1)
    return torch.where((p | t).sum(1) == 0, 1.0, (p & t).sum(1) / apart.clamp(min=1))


_PRECISION = (
    precision,
    "This is the precision: you divide by the predicted area alone. A prediction that finds a "
    "corner of the lesion would score 1.",
)
_RECALL = (
    recall,
    "This is the recall (sensitivity): you divide by the true area alone. A prediction that marks "
    "the whole image would score 1.",
)
_EQUAL_VOXELS = (
    share_of_equal_voxels,
    "This is the share of equal voxels, the accuracy: the background counts, and with a small "
    "lesion an empty prediction scores nearly 1.",
)
_LAST_TWO_AXES = (
    "Right for images, wrong for volumes: you sum over the last two axes only, which leaves one "
    "value per slice (and a mask with a single spatial axis loses its batch). Sum over every axis "
    "but the first, however many there are."
)
_FIXED_AXES = (
    "You sum over axes with fixed numbers. A mask may have any number of spatial axes: one, as in "
    "(3, 4), two, or three. Sum over every axis but the first, however many there are."
)
_POOLED = (
    "All cases are put in one pot: one number for the batch, in which a large lesion outweighs "
    "many small ones. Asked for is a number per case, shape (N,)."
)
_AVERAGED = "This is the mean over the batch. Asked for are the N values themselves, shape (N,)."
_EMPTY_NAN = (
    "Right except where both masks are empty: there you divide zero by zero and get NaN. The "
    "question says what the value is to be."
)
_EMPTY_ZERO = (
    "Right except where both masks are empty: there you give 0, by choice or because a small "
    "number below the line turns 0/0 into 0. But a prediction that rightly finds nothing has made "
    "no mistake; the question says its value."
)

DICE = Exercise(
    name="images.dice",
    question=(
        "Write dice(prediction, truth), the Dice coefficient of each case of a batch of masks: "
        "twice the overlap divided by the sum of both areas. "
        "Both masks have the same shape (N, ...), N cases with any number of spatial axes (images "
        "and volumes), and dtype bool or uint8 with values 0 and 1. Return a float tensor (N,). "
        "Where both masks of a case are empty, its Dice is 1; where only one is, it is 0."
    ),
    reference=dice,
    make_inputs=_mask_pairs,
    wrong={
        "iou-instead-of-dice": (
            iou,
            "These are the values of the IoU: you divide by the union. In Dice the overlap counts "
            "in both areas below the line, and so twice above it.",
        ),
        "factor-two-missing": (
            dice_twice_missing,
            "A perfect prediction scores one half. The sum below the line counts the overlap in "
            "both masks; what has to happen above it?",
        ),
        "pooled-over-the-batch": (dice_pooled, _POOLED),
        "pooled-and-repeated": (
            dice_pooled_and_repeated,
            "The shape is right, but every case has the same value: that of all cases in one pot.",
        ),
        "averaged-over-the-batch": (dice_averaged, _AVERAGED),
        "empty-is-nan": (dice_of_empty_nan, _EMPTY_NAN),
        "empty-is-zero": (dice_of_empty_zero, _EMPTY_ZERO),
        "smoothed-by-one": (
            dice_smoothed_by_one,
            "A 1 is added above and below. Losses do that to keep gradients finite, but it "
            "changes the value, most of all for small lesions. Treat the empty case by itself.",
        ),
        "accuracy-instead-of-overlap": _EQUAL_VOXELS,
        "only-last-two-axes": (dice_over_last_two_axes, _LAST_TWO_AXES),
        "only-axes-1-and-2": (_dice_over_axes(1, 2), _FIXED_AXES),
        "only-axes-2-and-3": (_dice_over_axes(2, 3), _FIXED_AXES),
        "only-axes-1-to-3": (_dice_over_axes(1, 2, 3), _FIXED_AXES),
        "twice-the-overlap-over-the-union": (
            dice_over_the_union,
            "Twice the overlap is right above the line, but you divide by the union: a perfect "
            "prediction scores 2. Dice has the sum of both areas there, in which the overlap "
            "counts twice.",
        ),
        "bool-plus-is-or": (
            dice_of_bool_sum,
            "Some values are above 1 or too large. For bool tensors + means `or`: True + True is "
            "True, so you divide by the union. Convert to float first.",
        ),
        "precision-instead-of-dice": _PRECISION,
        "recall-instead-of-dice": _RECALL,
    },
    hints=(
        "Per case you need three counts: the voxels in both masks, in the prediction, in the "
        "truth. Which operation on two masks of 0 and 1 is 1 only where both are?",
        "flatten(1) turns (N, ...) into (N, voxels), so that one sum over axis 1 does for images "
        "and volumes. Convert to float first: bool and uint8 have arithmetic of their own.",
        "Compute the sum of the two areas; where it is 0 choose 1 (torch.where), and keep the "
        "denominator from being 0 (clamp).",
    ),
    why=(
        "Flattened to (N, voxels), overlap and areas are sums over one axis. The empty case is a "
        "definition, so it is chosen openly and not by a small number in the denominator."
    ),
)

IOU = Exercise(
    name="images.iou",
    question=(
        "Write iou(prediction, truth), the intersection over union of each case of a batch of "
        "masks: the overlap divided by the area that at least one of them covers. "
        "Both masks have the same shape (N, ...), N cases with any number of spatial axes (images "
        "and volumes), and dtype bool or uint8 with values 0 and 1. Return a float tensor (N,). "
        "Where both masks of a case are empty, its IoU is 1; where only one is, it is 0."
    ),
    reference=iou,
    make_inputs=_mask_pairs,
    wrong={
        "dice-instead-of-iou": (
            dice,
            "These are the values of Dice, which is never smaller than the IoU. The overlap counts "
            "once above the line and once below.",
        ),
        "overlap-counted-twice": (
            iou_overlap_counted_twice,
            "A perfect prediction scores one half. The sum of both areas is not the union: the "
            "voxels in both masks are in it twice.",
        ),
        "overlap-missing-below": (
            iou_without_the_overlap_below,
            "You divide by the voxels in exactly one of the masks. The union holds those in both "
            "as well; your values can exceed 1.",
        ),
        "pooled-over-the-batch": (iou_pooled, _POOLED),
        "averaged-over-the-batch": (iou_averaged, _AVERAGED),
        "empty-is-nan": (iou_of_empty_nan, _EMPTY_NAN),
        "empty-is-zero": (iou_of_empty_zero, _EMPTY_ZERO),
        "only-last-two-axes": (iou_over_last_two_axes, _LAST_TWO_AXES),
        "only-axes-1-and-2": (_iou_over_axes(1, 2), _FIXED_AXES),
        "only-axes-2-and-3": (_iou_over_axes(2, 3), _FIXED_AXES),
        "only-axes-1-to-3": (_iou_over_axes(1, 2, 3), _FIXED_AXES),
        "accuracy-instead-of-overlap": _EQUAL_VOXELS,
        "precision-instead-of-iou": _PRECISION,
        "recall-instead-of-iou": _RECALL,
    },
    hints=(
        "Two counts per case: the voxels in both masks, and the voxels in at least one.",
        "On bool tensors & is `and` and | is `or`. uint8 masks can be turned into bool first.",
        "flatten(1) makes one spatial axis of all of them; sum over it. Where the union is 0, "
        "choose 1 with torch.where.",
    ),
    why=(
        "Intersection and union are `and` and `or`, counted per case. IoU and Dice rank two "
        "predictions of one case alike, but means over cases can differ in order."
    ),
)


# AUROC -----------------------------------------------------------------------------------------


def auroc(scores, labels):
    positive = scores[labels == 1][:, None]
    negative = scores[labels == 0][None, :]
    won = (positive > negative).float() + 0.5 * (positive == negative).float()
    return won.mean().item()


def _pairs(scores, labels):
    return scores[labels == 1][:, None], scores[labels == 0][None, :]


def ties_lost(scores, labels):
    positive, negative = _pairs(scores, labels)
    return (positive > negative).float().mean().item()


def ties_won(scores, labels):
    positive, negative = _pairs(scores, labels)
    return (positive >= negative).float().mean().item()


def classes_swapped(scores, labels):
    return 1 - auroc(scores, labels)


def accuracy_at_a_half(scores, labels):
    return ((scores > 0.5).long() == labels).float().mean().item()


def pairs_in_order(scores, labels):
    pairs = zip(scores[labels == 1].tolist(), scores[labels == 0].tolist(), strict=False)
    won = [float(p > n) + 0.5 * float(p == n) for p, n in pairs]
    return sum(won) / len(won)


def pairs_within_a_class(scores, labels):
    better = (scores[:, None] > scores).float() + 0.5 * (scores[:, None] == scores).float()
    right_order = (labels[:, None] > labels).float()
    return (better * right_order).mean().item()


def not_divided(scores, labels):
    positive, negative = _pairs(scores, labels)
    return ((positive > negative).float() + 0.5 * (positive == negative).float()).sum().item()


def mean_against_all(scores, labels):
    positive = scores[labels == 1][:, None]
    return ((positive > scores).float() + 0.5 * (positive == scores).float()).mean().item()


def difference_of_means(scores, labels):
    return (scores[labels == 1].mean() - scores[labels == 0].mean()).item()


def against_the_mean_negative(scores, labels):
    return (scores[labels == 1] > scores[labels == 0].mean()).float().mean().item()


def auroc_of_sigmoids(scores, labels):
    return auroc(scores.sigmoid(), labels)


def auroc_as_tensor(scores, labels):
    return torch.tensor(auroc(scores, labels))


def _scores_and_labels(rng: torch.Generator) -> Inputs:
    """Scores without ties, then on a coarse grid with ties, then large logits without ties."""
    cases = []
    for n, grid, dtype in (
        (2, None, torch.float32),
        (7, None, torch.float64),
        (16, None, torch.float32),
        (9, 2, torch.float32),
        (25, 2, torch.float64),
        (40, 4, torch.float32),
    ):
        labels = (torch.rand(n, generator=rng) < 0.3).long()
        labels[:5] = torch.tensor([1, 0, 1, 0, 1])[: min(n, 5)]
        scores = torch.randn(n, generator=rng, dtype=dtype) + 0.8 * labels
        if grid:
            scores = (grid * scores).round() / grid
            scores[0] = scores[1] = scores[2]
        cases.append((scores, labels))
    scores, labels = cases[2]
    cases.append((40 + 10 * scores, labels))  # their sigmoid rounds to 1
    return cases


AUROC = Exercise(
    name="images.auroc",
    question=(
        "Write auroc(scores, labels), the probability that a random positive image gets a higher "
        "score than a random negative one. "
        "`scores` is a float tensor (N,), any real numbers, higher for more suspicious images; "
        "`labels` is an int64 tensor (N,) of 0 and 1, both present. Compare every positive with "
        "every negative image; a tie counts one half. Return a plain Python float between 0 and 1."
    ),
    reference=auroc,
    make_inputs=_scores_and_labels,
    wrong={
        "ties-lost": (
            ties_lost,
            "Right without ties. A pair with equal scores counts as lost in your code; the "
            "question says what it counts.",
        ),
        "ties-won": (
            ties_won,
            "Right without ties. A pair with equal scores counts as won in your code, so that a "
            "model that gives every image the same score would be perfect.",
        ),
        "classes-swapped": (
            classes_swapped,
            "The classes are swapped: you count how often the negative image has the higher score.",
        ),
        "accuracy-instead-of-auroc": (
            accuracy_at_a_half,
            "This is an accuracy at the threshold one half. The AUROC needs no threshold: only the "
            "order of the scores counts, and they are no probabilities here.",
        ),
        "pairs-in-order": (
            pairs_in_order,
            "You compare the first positive with the first negative, the second with the second, "
            "and so on. Every positive meets every negative.",
        ),
        "pairs-within-a-class-counted": (
            pairs_within_a_class,
            "The wins are right, but you divide by all N x N pairs. Pairs within a class, and an "
            "image with itself, are not in the game.",
        ),
        "not-divided": (
            not_divided,
            "This is the number of pairs won (the Mann-Whitney U). Asked for is their share.",
        ),
        "against-all-images": (
            mean_against_all,
            "You compare each positive with all images. Only the negatives are its opponents.",
        ),
        "difference-of-means": (
            difference_of_means,
            "This is the difference of the mean scores. The AUROC asks how often, not by how much.",
        ),
        "against-the-mean-negative": (
            against_the_mean_negative,
            "You compare each positive with the mean score of the negatives. Each single negative "
            "is an opponent.",
        ),
        "sigmoid-makes-ties": (
            auroc_of_sigmoids,
            "Right for small scores. A sigmoid rounds large scores to 1 and makes ties of them. "
            "Only the order counts: compare the scores as they are.",
        ),
        "tensor-instead-of-number": (
            auroc_as_tensor,
            "The number is right, but it is still a tensor. .item() makes a Python float of it.",
        ),
    },
    hints=(
        "Take the scores of the positives and those of the negatives apart. How many pairs are "
        "there, and which of them are won?",
        "A column (P, 1) compared with a row (1, Q) gives all P x Q pairs at once.",
        "A pair won counts 1, a pair with equal scores one half, a pair lost 0. The answer is the "
        "mean of this over all pairs.",
    ),
    why=(
        "The area under the ROC curve equals the share of pairs in the right order, ties counted "
        "half. Sorting is faster for large sets, but all pairs show what is measured."
    ),
)


# Normalisation ---------------------------------------------------------------------------------


def normalise(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.float(), result, strict=True):
        inside = volume != 0
        values = volume[inside]
        if inside.any() and values.min() < values.max():  # else it stays 0
            out[inside] = (values - values.mean()) / values.std(correction=0)
    return result


def _deviation(values):
    """Over n; 1 where all are equal, whatever rounding makes of it."""
    return values.std(correction=0) if values.min() < values.max() else torch.tensor(1.0)


def _standardised(volumes, axes, inside):
    """Zero mean and unit deviation over `axes`, counting the voxels `inside`; 0 elsewhere."""
    volumes, inside = volumes.float(), inside.float()
    count = inside.sum(axes, keepdim=True).clamp(min=1)
    mean = (volumes * inside).sum(axes, keepdim=True) / count
    spread = (((volumes - mean) * inside) ** 2).sum(axes, keepdim=True).div(count).sqrt()
    return (volumes - mean) * inside / torch.where(spread > 1e-6 * mean.abs(), spread, 1.0)


def statistics_of_the_batch(volumes):
    return _standardised(volumes, tuple(range(volumes.dim())), volumes != 0)


def everything_in_one_pot(volumes):
    return (volumes.float() - volumes.float().mean()) / volumes.float().std()


def statistics_of_a_slice(volumes):
    return _standardised(volumes, (-2, -1), volumes != 0)


def background_in_the_statistics(volumes):
    axes = tuple(range(1, volumes.dim()))
    inside = volumes != 0
    return _standardised(volumes, axes, torch.ones_like(inside)) * inside


def background_shifted(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.float(), result, strict=True):
        values = volume[volume != 0]
        if len(values):
            out[:] = (volume - values.mean()) / _deviation(values)
    return result


def plain_standardisation(volumes):
    axes = tuple(range(1, volumes.dim()))
    return _standardised(volumes, axes, torch.ones_like(volumes))


def scaled_to_zero_one(volumes):
    flat = volumes.flatten(1).float()
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    return ((flat - low) / (high - low).clamp(min=1e-6)).view(volumes.shape)


def divided_by_the_variance(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.float(), result, strict=True):
        inside = volume != 0
        if inside.any():
            values = volume[inside]
            out[inside] = (values - values.mean()) / _deviation(values) ** 2
    return result


def mean_not_subtracted(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.float(), result, strict=True):
        inside = volume != 0
        if inside.any():
            out[inside] = volume[inside] / _deviation(volume[inside])
    return result


def constant_volume_nan(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.float(), result, strict=True):
        inside = volume != 0
        if inside.any():
            values = volume[inside]
            out[inside] = (values - values.mean()) / values.std(correction=0)
    return result


def single_voxel_nan(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.float(), result, strict=True):
        inside = volume != 0
        values = volume[inside]
        if inside.sum() == 1 or (inside.any() and values.min() < values.max()):
            out[inside] = (values - values.mean()) / values.std()
    return result


def rounded_deviation(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.float(), result, strict=True):
        inside = volume != 0
        if inside.any():
            values = volume[inside]
            spread = values.std(correction=0)
            out[inside] = (values - values.mean()) / (spread if spread > 0 else 1)
    return result


def rounded_deviation_and_single_voxel(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.float(), result, strict=True):
        inside = volume != 0
        if inside.any():
            values = volume[inside]
            spread = values.std()
            out[inside] = (values - values.mean()) / (1 if spread == 0 else spread)
    return result


def tiny_number_added(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.float(), result, strict=True):
        inside = volume != 0
        if inside.any():
            values = volume[inside]
            out[inside] = (values - values.mean()) / (values.std(correction=0) + 1e-8)
    return result


def tiny_number_and_single_voxel(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.float(), result, strict=True):
        inside = volume != 0
        if inside.any():
            values = volume[inside]
            out[inside] = (values - values.mean()) / (values.std() + 1e-8)
    return result


def negatives_as_background(volumes):
    axes = tuple(range(1, volumes.dim()))
    return _standardised(volumes, axes, volumes > 0)


def small_number_added(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.float(), result, strict=True):
        inside = volume != 0
        if inside.any():
            values = volume[inside]
            out[inside] = (values - values.mean()) / (values.std(correction=0) + 1e-3)
    return result


def written_into_the_input(volumes):
    result = volumes.float()  # the same tensor, where it is float32 already
    for volume in result:
        inside = volume != 0
        if inside.any():
            values = volume[inside]
            volume[inside] = (values - values.mean()) / _deviation(values)
    return result


def _volume_batches(rng: torch.Generator) -> Inputs:
    """Heads in a black background: intensities on scales that differ from volume to volume."""
    cases = []
    shapes = ((1, 1, 6, 9, 8), (4, 1, 7, 8, 11), (2, 1, 21, 20), (5, 1, 6, 10, 10))
    for i, shape in enumerate(shapes):
        size = (shape[0],) + (1,) * (len(shape) - 1)
        scale = 10 ** (3 * torch.rand(size, generator=rng))
        volumes = scale * (2 + torch.rand(shape, generator=rng))
        slope = torch.linspace(0.5, 1.5, shape[-3])  # slices differ in brightness
        volumes = volumes * slope[:, None, None] if len(shape) == 5 else volumes
        head = torch.rand(shape, generator=rng) < 0.7
        volumes = (volumes * head).round()
        if shape[0] > 3:
            volumes[1] = 40.0 * head[1]  # constant inside
            volumes[2] = 0.0  # nothing inside
        cases.append((volumes.short() if i % 2 else volumes,))
    small = torch.randn((3, 1, 7, 9, 8), generator=rng) / 20 + 0.01  # negative values, too
    cases.append((small * (torch.rand(small.shape, generator=rng) < 0.7),))
    lonely = 5 * torch.rand((2, 1, 6, 5, 7), generator=rng) + 1
    lonely[1] = 0.0
    lonely[1, 0, 2, 3, 4] = 7.0  # a single voxel has no deviation over n - 1
    cases.append((lonely,))
    cases.append((torch.full((1, 1, 10, 10), 0.1),))  # its mean in float32 is not quite 0.1
    return cases


_SINGLE_VOXEL = (
    "A volume with a single non-zero voxel becomes NaN: std() divides by n - 1, which is 0 there. "
    "All its non-zero voxels are equal, too."
)
_ROUNDED = (
    "Equal voxels do not always have the deviation 0: in float32 the mean of many times 0.1 is not "
    "quite 0.1, so that they are divided by a rounding error and become 1 or -1. Ask the values "
    "themselves whether they are all equal."
)
_TINY = (
    "The number you add to the deviation does not help where all voxels are equal: in float32 the "
    "mean of many times 0.1 is off by about as much, and the quotient is no longer small. Ask the "
    "values themselves whether they are all equal."
)

NORMALISE = Exercise(
    name="images.normalise",
    question=(
        "Write normalise(volumes), which gives each volume of a batch the mean 0 and the standard "
        "deviation 1 over its own non-zero voxels. "
        "`volumes` is a float32 or int16 tensor (N, 1, ...) with two or three spatial axes; voxels "
        "of value exactly 0 are background, and values may be negative. Return a new float tensor "
        "of the same shape, in which the background is still 0. A standard deviation over n or "
        "over n - 1 is accepted. Where all non-zero voxels of a volume are equal, or there is a "
        "single one, they become 0, also where rounding hides that the deviation is 0; a volume "
        "without any stays 0. The input must stay as it is."
    ),
    reference=normalise,
    make_inputs=_volume_batches,
    tolerance=1e-2,  # wide enough for both forms of the standard deviation
    wrong={
        "statistics-of-the-batch": (
            statistics_of_the_batch,
            "Right for a batch of one. You take mean and deviation over the whole batch, so a "
            "volume's result depends on its neighbours, and the scanner's scale stays in.",
        ),
        "everything-in-one-pot": (
            everything_in_one_pot,
            "You take one mean and one deviation over all volumes and the background. Each volume "
            "is to be its own measure, and its background is to stay out of it.",
        ),
        "statistics-of-a-slice": (
            statistics_of_a_slice,
            "Mean and deviation are taken slice by slice: the brightness of one slice against the "
            "next is lost. The volume is the unit.",
        ),
        "background-in-the-statistics": (
            background_in_the_statistics,
            "The background is 0 again in the result, but it was counted in mean and deviation: "
            "they depend on how much air is around the patient.",
        ),
        "background-shifted": (
            background_shifted,
            "Mean and deviation are right, but the background was shifted along with the rest: it "
            "is no longer 0, and it differs from volume to volume.",
        ),
        "background-ignored": (
            plain_standardisation,
            "You normalise over all voxels. The background is to stay out of the statistics, and "
            "to stay 0.",
        ),
        "scaled-to-zero-one": (
            scaled_to_zero_one,
            "This maps minimum and maximum to 0 and 1: a single bright voxel then decides about "
            "all others. Asked for are mean 0 and standard deviation 1.",
        ),
        "divided-by-the-variance": (
            divided_by_the_variance,
            "The mean is right; you divide by the variance. The result then depends on the unit "
            "of the input.",
        ),
        "mean-not-subtracted": (
            mean_not_subtracted,
            "The standard deviation is 1, but the mean is not 0: nothing was subtracted.",
        ),
        "constant-volume-nan": (
            constant_volume_nan,
            "Right for ordinary volumes. One whose non-zero voxels are all equal has deviation 0, "
            "and you divide by it.",
        ),
        "single-voxel-nan": (
            single_voxel_nan,
            _SINGLE_VOXEL,
        ),
        "rounded-deviation": (rounded_deviation, _ROUNDED),
        "rounded-deviation-and-single-voxel": (
            rounded_deviation_and_single_voxel,
            f"Two things. {_SINGLE_VOXEL} And: {_ROUNDED}",
        ),
        "tiny-number-added": (tiny_number_added, _TINY),
        "tiny-number-and-single-voxel": (
            tiny_number_and_single_voxel,
            f"Two things. {_SINGLE_VOXEL} And: {_TINY}",
        ),
        "negatives-as-background": (
            negatives_as_background,
            "Right for positive values. You take negative voxels for background; only those of "
            "value exactly 0 are.",
        ),
        "small-number-added": (
            small_number_added,
            "Right for large values. You add a number to the deviation, which is not small where "
            "the deviation is small itself. Treat a deviation of 0 by itself.",
        ),
        "input-changed-in-place": (
            written_into_the_input,
            "The result is right, but the input has changed with it: float() gives back the very "
            "same tensor when it is float32 already, and views and slices share its memory.",
        ),
    },
    hints=(
        "Do it for one volume first: which of its voxels count? Then loop over the batch.",
        "volume[volume != 0] gives the values that count. Write the normalised ones into a fresh "
        "tensor of zeros.",
        "Two special cases divide by zero: no voxel that counts, and voxels that are all equal "
        "(a single one, too: over n - 1 it has no deviation). Skip both, the zeros are right. "
        "Whether all are equal you see from the smallest and the largest; the deviation itself "
        "may be off by a rounding.",
    ),
    why=(
        "MRI has no unit: scale and offset differ from scan to scan, so each volume is its own "
        "measure. The background would drag the statistics, and stays 0."
    ),
)


# Leakage ---------------------------------------------------------------------------------------


def shared_images(train, test):
    known = {image.numpy().tobytes() for image in train}
    return torch.tensor([image.numpy().tobytes() in known for image in test])


def same_position_only(train, test):
    shared = torch.zeros(len(test), dtype=torch.bool)
    n = min(len(train), len(test))
    shared[:n] = (train[:n] == test[:n]).flatten(1).all(1)
    return shared


def any_pixel_equal(train, test):
    equal = train.flatten(1)[None] == test.flatten(1)[:, None]
    return equal.any(dim=2).any(dim=1)


def equal_sums(train, test):
    sums = train.flatten(1).sum(1)
    return torch.isin(test.flatten(1).sum(1), sums)


def pixels_of_several_images(train, test):
    return (test[:, None] == train[None]).any(1).flatten(1).all(1)


def values_anywhere(train, test):
    return torch.isin(test, train).flatten(1).all(1)


def sorted_pixels(train, test):
    train, test = (images.flatten(1).sort(dim=1).values for images in (train, test))
    return (test[:, None] == train[None]).all(2).any(1)


def train_images_flagged(train, test):
    return shared_images(test, train)


def repeats_within_test(train, test):
    seen = {image.numpy().tobytes() for image in train}
    found = []
    for image in test:
        found.append(image.numpy().tobytes() in seen)
        seen.add(image.numpy().tobytes())
    return torch.tensor(found)


def number_of_copies(train, test):
    equal = (train.flatten(1)[None] == test.flatten(1)[:, None]).all(dim=2)
    return equal.sum(dim=1)


def single_answer(train, test):
    return shared_images(train, test).any()


def list_of_positions(train, test):
    return shared_images(train, test).nonzero().squeeze(1)


def nearly_equal(train, test):
    difference = train.flatten(1)[None].int() - test.flatten(1)[:, None].int()
    return (difference.abs().float().mean(dim=2) < 2).any(dim=1)


def _image_sets(rng: torch.Generator) -> Inputs:
    """Copies at other positions, near-copies, shuffled and mixed pixels, and repeats.

    The values of training images are even, so that a changed pixel has a value that none has.
    """
    cases = []
    for n, m, height, width in ((7, 9, 3, 4), (12, 8, 5, 3), (8, 1, 4, 4), (9, 11, 7, 5)):
        train = 2 * torch.randint(1, 128, (n, height, width), generator=rng, dtype=torch.uint8)
        test = torch.randint(0, 256, (m, height, width), generator=rng, dtype=torch.uint8)
        test[0] = train[0]  # a copy that stands in the same place
        if m > 1:
            test[1] = train[5]  # a copy that does not
            test[2] = train[3]
            test[2, 1, 1] = train[3, 1, 1] ^ 1  # one pixel differs a little
            test[3] = train[4].flatten().flip(0).view(height, width)  # the same pixels, turned
            test[4] = train[2]
            test[4, 0, 0] += 1  # another image with the same sum
            test[4, 0, 1] -= 1
            test[7] = train[0]
            test[7, 1:] = train[1, 1:]  # put together from two training images
            test[6] = test[5]  # a repeat within the test set
            train[6] = train[5]  # and one within the training set
        cases.append((train, test))
    return cases


SHARED_IMAGES = Exercise(
    name="images.shared_images",
    question=(
        "Write shared_images(train, test), which tells for each test image whether the same image, "
        "pixel for pixel, stands anywhere in the training set. "
        "`train` is a uint8 tensor (N, H, W), `test` a uint8 tensor (M, H, W), N and M at least 1. "
        "Return a bool tensor (M,): True where the test image is in the training set. An image "
        "that differs in a single pixel is another image; repeats inside one set do not matter."
    ),
    reference=shared_images,
    make_inputs=_image_sets,
    wrong={
        "same-position-only": (
            same_position_only,
            "You compare image i of one set with image i of the other. The copy may stand at any "
            "position.",
        ),
        "any-pixel-equal": (
            any_pixel_equal,
            "One equal pixel is enough for your code. All pixels have to agree.",
        ),
        "equal-sums": (
            equal_sums,
            "You compare the sums (or means) of the pixels. Two different images can have the same "
            "sum: one turned upside down is an example.",
        ),
        "pixels-of-several-images": (
            pixels_of_several_images,
            "Each pixel of a test image may come from another training image in your code: a "
            "picture put together from two of them is reported. All pixels have to agree with one "
            "and the same training image. Over which axis do you ask for `any`, and when?",
        ),
        "values-anywhere": (
            values_anywhere,
            "`isin` asks of each single value whether it stands anywhere in the training set, "
            "wherever in whatever image. One training image turned upside down is reported, too.",
        ),
        "order-of-pixels-lost": (
            sorted_pixels,
            "You compare which values occur, and not where they stand: an image that is turned "
            "upside down has the same values.",
        ),
        "training-images-flagged": (
            train_images_flagged,
            "You tell for each training image whether it is in the test set. Asked for is one "
            "answer per test image, shape (M,).",
        ),
        "repeats-within-test": (
            repeats_within_test,
            "An image that stands twice in the test set, and not in the training set, is reported "
            "as well. That is no leak: it was never trained on.",
        ),
        "number-of-copies": (
            number_of_copies,
            "This is the number of copies in the training set. Asked for is True or False.",
        ),
        "single-answer": (
            single_answer,
            "This is one answer for the whole test set. Which of its images are concerned?",
        ),
        "list-of-positions": (
            list_of_positions,
            "These are the positions of the shared images. Asked for is a True or False for each "
            "of the M test images.",
        ),
        "nearly-equal": (
            nearly_equal,
            "Images that differ a little are reported too. Near-copies deserve a look, but asked "
            "for is equality pixel for pixel.",
        ),
    },
    hints=(
        "Every test image has to meet every training image. Think of one test image first.",
        "Compare one test image (H, W) with `train` (N, H, W): which of the N comparisons must be "
        "True in all their pixels? all() takes one axis at a time, so flatten the pixels first.",
        "For each test image: is there any training image with which all pixels agree? For large "
        "sets, put the bytes of the training images in a Python set instead.",
    ),
    why=(
        "Equal images have equal bytes, and a set answers 'seen before?' at once, however large "
        "the training set is. Comparing all pairs is right as well, and slower."
    ),
)


# Values to work out -----------------------------------------------------------------------------


def iou_from_dice():
    dice_value = 0.8
    return dice_value / (2 - dice_value)


IOU_FROM_DICE = Exercise(
    name="images.iou_from_dice",
    question=(
        "A segmentation of one case has Dice 0.8; what is its IoU? "
        "Both are computed from the same overlap and the same two areas. Answer with a number, "
        "right to two decimals, before you compute it from masks."
    ),
    reference=iou_from_dice,
    tolerance=0.006,
    wrong={
        "same-as-dice": (
            lambda: 0.8,
            "Dice and IoU agree at 0 and at 1 only; between them one is always smaller.",
        ),
        "wrong-direction": (
            lambda: 1.6 / 1.8,
            "You went the other way: this is the Dice of a case whose IoU is 0.8. The IoU is never "
            "larger than Dice.",
        ),
        "half-of-dice": (
            lambda: 0.4,
            "Dice has a factor two above the line, but the denominators differ as well.",
        ),
        "square-of-dice": (
            lambda: 0.64,
            "Not a square, though it comes near here. Write both with overlap and areas.",
        ),
        "cut-not-rounded": (
            lambda: 0.66,
            "Nearly: you have cut off the digits behind the second decimal. The next one rounds it "
            "up.",
        ),
        "union-alone": (
            lambda: 0.6,
            "With areas that sum to 1 this is the union. The IoU divides the overlap by it.",
        ),
        "percentage": (
            lambda: 200 / 3,
            "This is a percentage. Asked for is a share between 0 and 1.",
        ),
        "one-minus-dice": (lambda: 0.2, "This is the Dice loss, 1 - Dice."),
        "overlap-not-removed": (
            lambda: 0.8 / 2.8,
            "The sign is wrong below the line: the union is smaller than the sum of the areas, "
            "not larger.",
        ),
        "half-more": (
            lambda: 1.2,
            "The IoU is never above 1. Is your fraction upside down, or the overlap missing in "
            "the union?",
        ),
    },
    hints=(
        "Let the two areas sum to 1. How large is the overlap when Dice is 0.8?",
        "With areas that sum to 1, the overlap is 0.4. The union is the sum of the areas without "
        "the part that is counted twice.",
        "Overlap 0.4, union 1 - 0.4.",
    ),
    why=(
        "With areas that sum to S, the overlap is DS/2 and the union S - DS/2. The IoU is their "
        "ratio, D / (2 - D): a paper that reports IoU looks worse than one that reports Dice."
    ),
)


def empty_mask_scores():
    lesion_share = 0.04
    accuracy = 1 - lesion_share
    dice_value = 0.0
    return accuracy, dice_value


EMPTY_MASK_SCORES = Exercise(
    name="images.empty_mask_scores",
    question=(
        "A lesion covers 4% of an image, and a model predicts nothing but background; which pixel "
        "accuracy and which Dice of the lesion does it get? "
        "Answer with a tuple (accuracy, dice) of two shares between 0 and 1, right to two decimals."
    ),
    reference=empty_mask_scores,
    tolerance=0.006,
    wrong={
        "dice-like-accuracy": (
            lambda: (0.96, 0.96),
            "The accuracy is right. Dice does not look at the background: which pixels lie in both "
            "masks?",
        ),
        "dice-of-the-background": (
            lambda: (0.96, 2 * 0.96 / 1.96),
            "The accuracy is right; the second number is the Dice of the background. Asked for is "
            "the lesion's.",
        ),
        "empty-rule-misused": (
            lambda: (0.96, 1.0),
            "The accuracy is right. Dice is 1 by definition only where both masks are empty, and "
            "here the truth is not.",
        ),
        "dice-is-the-lesion": (
            lambda: (0.96, 0.04),
            "The accuracy is right. Dice has the overlap above the line: how many pixels of the "
            "lesion were found?",
        ),
        "accuracy-of-the-lesion": (
            lambda: (0.0, 0.0),
            "Dice is right. The accuracy counts the background as well, and there the model is "
            "right.",
        ),
        "accuracy-is-the-lesion": (
            lambda: (0.04, 0.0),
            "Dice is right. 4% are the pixels that the model gets wrong.",
        ),
        "order-swapped": (
            lambda: (0.0, 0.96),
            "Both numbers are right, in the wrong order: the accuracy comes first.",
        ),
        "percentages": (
            lambda: (96.0, 0.0),
            "The accuracy is a percentage here; asked for are shares between 0 and 1.",
        ),
    },
    hints=(
        "Imagine 100 pixels. Which of them does the model get right, and how many does it mark?",
        "The accuracy counts right pixels of either kind. Dice has the overlap of prediction and "
        "lesion above the line.",
        "96 of 100 pixels are right. The prediction is empty, so the overlap is, too.",
    ),
    why=(
        "The background is right everywhere, which is 96% of the pixels; the overlap with the "
        "lesion is empty. Under such imbalance accuracy says nothing about the lesion."
    ),
)


# In the order in which the chapter asks them.
EXERCISES = (
    NORMALISE,
    IOU_FROM_DICE,
    DICE,
    IOU,
    EMPTY_MASK_SCORES,
    AUROC,
    SHARED_IMAGES,
)
