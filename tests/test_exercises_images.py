"""Chapter 01: right answers written differently pass, and the facts of the solutions hold."""

import pytest
import torch

from course_utils.exercises import exercise

# Right answers written differently ---------------------------------------------------------------


def normalise_sample_sd(volumes):
    result = volumes.clone().float()
    for i in range(len(result)):
        inside = result[i] != 0
        if inside.sum() == 0:
            continue
        values = result[i][inside]
        equal = len(values.unique()) == 1
        result[i][inside] = 0 * values if equal else (values - values.mean()) / values.std()
    return result


def normalise_vectorised(volumes):
    x = volumes.float().flatten(1)
    inside = x != 0
    count = inside.sum(1, keepdim=True).clamp(min=1)
    centred = (x - x.sum(1, keepdim=True) / count) * inside
    spread = (centred.square().sum(1, keepdim=True) / count).sqrt()
    largest = x.masked_fill(~inside, -torch.inf).amax(1, keepdim=True)
    smallest = x.masked_fill(~inside, torch.inf).amin(1, keepdim=True)
    return torch.where(inside & (smallest < largest), centred / spread, 0).view(volumes.shape)


def dice_smooth(prediction, truth):
    axes = tuple(range(1, prediction.ndim))
    p, t = prediction.float(), truth.float()
    return (2 * (p * t).sum(axes) + 1e-5) / (p.sum(axes) + t.sum(axes) + 1e-5)


def dice_loop(prediction, truth):
    values = []
    for p, t in zip(prediction, truth, strict=True):
        p, t = p > 0, t > 0
        total = int(p.sum()) + int(t.sum())
        values.append(1.0 if total == 0 else 2 * int((p & t).sum()) / total)
    return torch.tensor(values)


def iou_from_areas(prediction, truth):
    p, t = prediction.flatten(1).float(), truth.flatten(1).float()
    both = (p * t).sum(1)
    union = p.sum(1) + t.sum(1) - both
    result = both / union
    result[union == 0] = 1
    return result


def auroc_sklearn(scores, labels):
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels.numpy(), scores.numpy()))


def auroc_midranks(scores, labels):
    below = (scores[:, None] > scores).sum(1)
    equal = (scores[:, None] == scores).sum(1)
    ranks = below + (equal + 1) / 2
    positives = int(labels.sum())
    u = ranks[labels == 1].sum() - positives * (positives + 1) / 2
    return float(u / (positives * (len(labels) - positives)))


def shared_by_pairs(train, test):
    return (test[:, None] == train[None]).flatten(2).all(2).any(1)


def shared_by_lists(train, test):
    return torch.tensor([image in train.tolist() for image in test.tolist()])


RIGHT = {
    "images.normalise": [normalise_sample_sd, normalise_vectorised],
    "images.iou_from_dice": [0.67, 2 / 3, torch.tensor(0.6667)],
    "images.dice": [dice_smooth, dice_loop],
    "images.iou": [iou_from_areas],
    "images.empty_mask_scores": [(0.96, 0), [0.96, 0.0], torch.tensor([0.96, 0.0]), (0.96, 0.0)],
    "images.auroc": [auroc_sklearn, auroc_midranks],
    "images.shared_images": [shared_by_pairs, shared_by_lists],
}


# Facts and inputs --------------------------------------------------------------------------------


def test_references_agree_with_scikit_learn():
    from sklearn import metrics

    ex = exercise("images.auroc")
    for scores, labels in ex.inputs(seed=5):
        expected = metrics.roc_auc_score(labels, scores)
        assert ex.reference(scores, labels) == pytest.approx(expected, abs=1e-6)
    for name, oracle in (("dice", metrics.f1_score), ("iou", metrics.jaccard_score)):
        ex = exercise(f"images.{name}")
        for prediction, truth in ex.inputs(seed=5):
            pairs = zip(truth.flatten(1).int(), prediction.flatten(1).int(), strict=True)
            expected = [
                oracle(t, p, zero_division=1.0 if not (t | p).any() else 0) for t, p in pairs
            ]
            torch.testing.assert_close(
                ex.reference(prediction, truth), torch.tensor(expected, dtype=torch.float32)
            )


def test_normalised_volumes_have_mean_zero_and_deviation_one():
    ex = exercise("images.normalise")
    for (volumes,) in ex.inputs(seed=5):
        result = ex.reference(volumes)
        assert result.dtype == torch.float32
        assert bool((result[volumes == 0] == 0).all())
        for before, after in zip(volumes, result, strict=True):
            inside = after[before != 0]
            if len(before[before != 0].unique()) > 1:
                assert inside.mean().item() == pytest.approx(0, abs=1e-4)
                assert inside.std(correction=0).item() == pytest.approx(1, abs=1e-4)
            else:
                assert bool((inside == 0).all())


def test_scores_reach_beyond_the_usual_range():
    for seed in (None, 1, 5):
        inputs = exercise("images.auroc").inputs(seed)
        big = inputs[-1][0]
        assert len(big.sigmoid().unique()) < len(big.unique()) == len(big)
        found = [exercise("images.auroc").reference(*given) for given in inputs]
        assert min(found) < 0.5 < max(found)


def test_a_mosaic_of_training_images_is_not_a_copy():
    ex = exercise("images.shared_images")
    for seed in (None, 1, 2):
        for train, test in ex.inputs(seed):
            if len(test) > 1:
                flags = ex.reference(train, test)
                assert flags[:2].all() and not flags[2:].any()
                assert (test[7][:, None] == train.transpose(0, 1)).all(2).any(1).all()
                for axis in (0, 1):
                    assert test[4].sum(axis).equal(train[2].sum(axis))


def test_values_to_predict_are_what_running_it_gives():
    truth = torch.zeros(1, 10, 10, dtype=torch.bool)
    truth[0, :2, :2] = True
    empty = torch.zeros_like(truth)
    accuracy, score = exercise("images.empty_mask_scores").reference()
    assert accuracy == pytest.approx((truth == empty).float().mean().item())
    assert score == exercise("images.dice").reference(empty, truth).item()
    prediction = torch.zeros_like(truth)
    prediction[0, :2, :3] = True  # overlap 4, areas 6 and 4: Dice 0.8
    assert exercise("images.dice").reference(prediction, truth).item() == pytest.approx(0.8)
    iou = exercise("images.iou").reference(prediction, truth).item()
    assert exercise("images.iou_from_dice").reference() == pytest.approx(iou)
