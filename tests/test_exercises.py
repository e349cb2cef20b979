"""The exercises of the chapters: solutions pass, each known mistake is caught under its name."""

import inspect
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.exercises import CHAPTERS, exercise, exercises, progress, solution_source
from course_utils.exercises.engine import agree, attempt
from course_utils.exercises.sandbox import preserved_state
from course_utils.metrics import accuracy as course_accuracy
from course_utils.notebooks import chapters

NAMES = list(exercises().index)
CODING = [name for name in NAMES if exercise(name).make_inputs is not None]
MISTAKES = [(name, mistake) for name in NAMES for mistake in exercise(name).wrong]


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))


@pytest.mark.parametrize("name", NAMES)
def test_solution_cell_passes(name):
    cell = {"torch": torch}
    exec(solution_source(name), cell)
    answer = cell[exercise(name).reference.__name__]
    result = exercise(name).check(answer)
    assert result.passed and result.mistake is None


@pytest.mark.parametrize(("name", "mistake"), MISTAKES)
def test_known_mistake_is_named(name, mistake):
    ex = exercise(name)
    wrong, message = ex.wrong[mistake]
    result = ex.check(wrong)
    assert (result.passed, result.mistake) == (False, mistake)
    assert message in result.message
    assert "more than one thing" not in result.message


@pytest.mark.parametrize("name", NAMES)
def test_mistakes_differ_from_each_other_and_from_the_solution(name):
    ex = exercise(name)
    with preserved_state():
        for seed in (None, 1, 2):
            inputs = ex.inputs(seed)
            answers = {mistake: wrong for mistake, (wrong, _) in ex.wrong.items()}
            answers["the solution"] = ex.reference
            found = {key: [attempt(ex, a, x) for x in inputs] for key, a in answers.items()}
            assert all(outcome.error is None for outcome in found["the solution"])
            for a, b in itertools.combinations(found, 2):
                pairs = zip(found[a], found[b], strict=True)
                assert not all(agree(x, y, ex.tolerance) for x, y in pairs), (a, b, seed)


@pytest.mark.parametrize("name", NAMES)
def test_each_exercise_is_complete(name):
    ex = exercise(name)
    assert len(ex.wrong) >= 6
    assert len(ex.hints) >= 3
    assert name.split(".")[1] == ex.reference.__name__
    if ex.make_inputs is not None:
        call = f"{ex.reference.__name__}({', '.join(inspect.signature(ex.reference).parameters)})"
        assert call in ex.question
        shapes = {x.shape for args in ex.inputs() for x in args if isinstance(x, torch.Tensor)}
        assert len(shapes) >= 4


@pytest.mark.parametrize("notebook", CHAPTERS.values())
def test_exercises_are_listed_in_the_order_of_the_notebook(notebook):
    source = chapters.NOTEBOOKS / "source" / f"{notebook}.md"
    if not source.exists():
        pytest.skip("no such chapter yet")
    asked = [n for cell in chapters.assemble(notebook).cells for n in chapters.exercise_names(cell)]
    assert list(exercises(notebook).index) == asked, "put EXERCISES into the notebook's order"
    open_ones = next(row["open"] for row in progress() if row["chapter"] == notebook)
    assert open_ones == asked  # what `course progress` prints


def test_chapters_have_enough_exercises():
    assert sum(name.startswith("start.") for name in NAMES) >= 4
    assert sum(name.startswith("images.") for name in NAMES) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_no_message_gives_the_solution_away(name):
    ex = exercise(name)
    lines = [line.strip() for line in ex.source().splitlines()[1:]]
    telling = [line for line in lines if len(line) > 12 and not line.startswith("import")]
    assert telling
    texts = [ex.question, *ex.hints, *(message for _, message in ex.wrong.values())]
    texts += [ex.check(wrong).message for wrong, _ in ex.wrong.values()]
    for line in telling:
        assert not any(line in text for text in texts), line
    if ex.make_inputs is None:
        value = ex.reference()
        numbers = [value] if isinstance(value, float) else list(value)
        answers = [f"{number:.3g}" for number in numbers if number]
        unknown = ex.check(-7.25).message
        assert not any(answer in text for answer in answers for text in [ex.question, unknown])


@pytest.mark.parametrize("name", NAMES)
def test_stub_is_not_answered(name):
    ex = exercise(name)
    arguments = ", ".join(inspect.signature(ex.reference).parameters)
    stubs = [...]
    if name in CODING:
        for body in (
            "...",
            "'''A docstring.'''\n    ...",
            "x = ...\n    return ...",
            "return ... + 1",
        ):
            cell = {}
            exec(f"def stub({arguments}):\n    {body}", cell)
            stubs.append(cell["stub"])
    for stub in stubs:
        assert ex.check(stub).mistake == "not-answered"


# Right answers written differently --------------------------------------------------------------


def step_with_closure(model, loss_function, optimizer, images, labels):
    def closure():
        optimizer.zero_grad()
        loss = loss_function(model.train()(images), labels)
        loss.backward()
        return loss

    return float(optimizer.step(closure).detach())


def step_cleared_in_the_middle(model, loss_function, optimizer, images, labels):
    for module in model.modules():
        module.training = True
    output = model(images)
    loss = loss_function(output, labels)
    model.zero_grad(set_to_none=False)
    loss.backward()
    optimizer.step()
    return loss.detach().numpy().item()


def step_with_autograd(model, loss_function, optimizer, images, labels):
    model.train()
    parameters = list(model.parameters())
    loss = loss_function(model(images), labels)
    gradients = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def accuracy_by_loop(logits, labels):
    right = 0
    for (logit,), label in zip(logits.tolist(), labels.tolist(), strict=True):
        right += (1 / (1 + math.exp(-logit)) >= 0.5) == (label == 1)
    return right / len(labels)


def accuracy_in_numpy(logits, labels):
    return np.mean((logits.numpy()[:, 0] >= 0) == (labels.numpy() > 0))


def weight_by_count(labels):
    counts = torch.bincount(labels.int(), minlength=2)
    return torch.tensor(1.0) if counts[1] == 0 else (counts[0] / counts[1]).float()


def weight_by_mean(labels):
    share = labels.double().mean()
    return torch.ones(()) if share == 0 else (1 - share) / share


@torch.inference_mode()
def predict_split(model, images, batch_size):
    was_training = model.training
    model.eval()
    result = torch.empty(len(images))
    for out, batch in zip(result.split(batch_size), images.split(batch_size), strict=True):
        out.copy_(torch.sigmoid(model(batch).flatten()))
    model.train(was_training)
    return result


def predict_then_detach(model, images, batch_size):
    model.eval()
    return torch.cat([1 / (1 + (-model(b)[:, 0]).exp()) for b in images.split(batch_size)]).detach()


def dice_einsum(prediction, truth):
    p = prediction.flatten(1).to(torch.float64)
    t = truth.flatten(1).to(torch.float64)
    total = torch.einsum("nv->n", p) + torch.einsum("nv->n", t)
    return torch.where(
        total == 0, torch.ones_like(total), 2 * torch.einsum("nv,nv->n", p, t) / total
    )


def dice_smooth(prediction, truth):
    axes = tuple(range(1, prediction.ndim))
    p, t = prediction.float(), truth.float()
    return (2 * (p * t).sum(axes) + 1e-6) / (p.sum(axes) + t.sum(axes) + 1e-6)


def dice_loop(prediction, truth):
    values = []
    for p, t in zip(prediction, truth, strict=True):
        p, t = p > 0, t > 0
        total = int(p.sum()) + int(t.sum())
        values.append(1.0 if total == 0 else 2 * int((p & t).sum()) / total)
    return torch.tensor(values)


class DiceModule(nn.Module):
    def forward(self, prediction, truth):
        return dice_smooth(prediction, truth)


def iou_from_areas(prediction, truth):
    p, t = prediction.flatten(1).float(), truth.flatten(1).float()
    both = (p * t).sum(1)
    union = p.sum(1) + t.sum(1) - both
    result = both / union
    result[union == 0] = 1
    return result


def iou_by_dice(prediction, truth):
    value = dice_loop(prediction, truth)
    return value / (2 - value)


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


def auroc_loop(scores, labels):
    won = pairs = 0
    for s, y in zip(scores.tolist(), labels.tolist(), strict=True):
        for other, z in zip(scores.tolist(), labels.tolist(), strict=True):
            if y == 1 and z == 0:
                pairs += 1
                won += 1 if s > other else 0.5 if s == other else 0
    return won / pairs


def normalise_sample_sd(volumes):
    result = volumes.clone().float()
    for i in range(len(result)):
        inside = result[i] != 0
        if inside.sum() == 0:
            continue
        values = result[i][inside]
        values = values - values.mean()
        result[i][inside] = values / values.std() if values.std() > 0 else values
    return result


def normalise_vectorised(volumes):
    x = volumes.float().flatten(1)
    inside = x != 0
    count = inside.sum(1, keepdim=True).clamp(min=1)
    centred = (x - x.sum(1, keepdim=True) / count) * inside
    spread = (centred.square().sum(1, keepdim=True) / count).sqrt()
    return (centred / (spread + 1e-6)).reshape(volumes.shape)


def normalise_in_double(volumes):
    result = torch.zeros(volumes.shape)
    for volume, out in zip(volumes.double(), result, strict=True):
        inside = volume != 0
        if len(volume[inside].unique()) > 1:
            z = volume[inside] - volume[inside].mean()
            out[inside] = (z / z.square().mean().sqrt()).float()
    return result


def shared_by_pairs(train, test):
    return (test[:, None] == train[None]).flatten(2).all(2).any(1)


def shared_by_distance(train, test):
    distance = torch.cdist(test.flatten(1).double(), train.flatten(1).double(), p=1)
    return distance.min(dim=1).values < 0.5


RIGHT = {
    "start.training_step": [step_with_closure, step_cleared_in_the_middle, step_with_autograd],
    "start.accuracy": [accuracy_by_loop, accuracy_in_numpy],
    "start.positive_weight": [weight_by_count, weight_by_mean],
    "start.predict": [predict_split, predict_then_detach],
    "start.untrained_loss": [
        0.69,
        math.log(2),
        F.binary_cross_entropy_with_logits(torch.zeros(3), torch.tensor([1.0, 0, 1])),
    ],
    "start.majority_accuracy": [0.625, 0.62, 0.63, np.float32(0.625), Fraction(5, 8)],
    "images.dice": [dice_einsum, dice_smooth, dice_loop, DiceModule, DiceModule()],
    "images.iou": [iou_from_areas, iou_by_dice],
    "images.auroc": [auroc_sklearn, auroc_midranks, auroc_loop],
    "images.normalise": [normalise_sample_sd, normalise_vectorised, normalise_in_double],
    "images.shared_images": [shared_by_pairs, shared_by_distance],
    "images.iou_from_dice": [0.67, 2 / 3, torch.tensor(0.6667)],
    "images.empty_mask_scores": [(0.96, 0), [0.96, 0.0], torch.tensor([0.96, 0.0]), (0.96, 0.0)],
}


@pytest.mark.parametrize("name", RIGHT)  # the other chapters' stand in files of their own
def test_right_answers_written_differently_pass(name):
    for answer in RIGHT[name]:
        result = exercise(name).check(answer)
        assert result.passed, (answer, result.message)


# The training step, accuracy and prediction of chapter 00 -------------------------------------


def test_a_loss_that_the_learner_chose_is_named():
    def own_loss(model, loss_function, optimizer, images, labels):
        optimizer.zero_grad()
        loss = nn.BCEWithLogitsLoss()(model.train()(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    assert exercise("start.training_step").check(own_loss).mistake == "loss-function-ignored"


def test_a_probability_of_exactly_one_half_is_class_1():
    ex = exercise("start.accuracy")
    question = " ".join(ex.question.split())
    assert "at least one half" in question and "above one half" not in question
    for seed in (None, 1, 2):
        assert any((logits == 0).any() for logits, _ in ex.inputs(seed))
        for logits, labels in ex.inputs(seed):
            expected = course_accuracy(logits[:, 0].sigmoid(), labels)
            assert ex.reference(logits, labels) == pytest.approx(expected)
    for almost in (
        lambda logits, labels: ((logits[:, 0] > 0) == labels).double().mean().item(),
        lambda logits, labels: (logits[:, 0].sigmoid().round() == labels).double().mean().item(),
    ):
        result = ex.check(almost)
        assert result.mistake == "exactly-a-half-left-out" and "Nearly" in result.message
    result = ex.check(lambda logits, labels: ((logits > 0) == labels).double().mean().item())
    assert result.mistake == "broadcast-to-a-square"
    for both in (
        lambda logits, labels: ((logits > 0.5) == labels).float().mean().item(),
        lambda logits, labels: ((logits >= 0.5) == labels).float().mean().item(),
    ):
        result = ex.check(both)
        assert result.mistake == "square-and-a-half"
        assert result.message.index("N x N") < result.message.index("threshold")


def test_weights_of_the_positive_class_that_are_nearly_right():
    ex = exercise("start.positive_weight")
    for mistake, answer in (
        ("at-least-one-below", lambda y: (y == 0).sum() / max(int((y == 1).sum()), 1)),
        ("at-least-one-below", lambda y: (y == 0).sum() / (y == 1).sum().clamp(min=1)),
        ("share-of-negatives", lambda y: (y == 0).sum() / len(y)),
    ):
        assert ex.check(answer).mistake == mistake
    assert exercise("start.untrained_loss").check(0.36).mistake == "class-weight-included"


SAYS = {
    "mode": "train mode",
    "graph": "graph",
    "softmax": "softmax",
    "rest": "missing at the end",
    "at once": "all images at once",
}
LEFT = [c for n in (1, 2, 3, 4) for c in itertools.combinations(SAYS, n)]
LEFT = [c for c in LEFT if not {"rest", "at once"}.issubset(c) and c != tuple(SAYS)[:4]]


@pytest.mark.parametrize("bugs", LEFT, ids="-".join)
def test_half_mended_prediction_names_a_bug_that_is_left(bugs):
    def predict(model, images, batch_size):
        if "mode" not in bugs:
            model.eval()
        if "rest" in bugs:
            images = images[: max(len(images) // batch_size, 1) * batch_size]
        batches = [images] if "at once" in bugs else images.split(batch_size)
        with torch.set_grad_enabled("graph" in bugs):
            logits = torch.cat([model(batch) for batch in batches])
            result = logits.softmax(1) if "softmax" in bugs else logits.sigmoid()
            return result.flatten()

    message = exercise("start.predict").check(predict).message
    assert any(SAYS[bug] in message for bug in bugs), message
    assert ("more than one bug" in message) == (len(bugs) > 1)


def test_prediction_without_batches_is_named():
    def predict(model, images, batch_size):
        model.eval()
        with torch.no_grad():
            return model(images)[:, 0].sigmoid()

    ex = exercise("start.predict")
    assert ex.check(predict).mistake == "all-at-once"
    message = ex.check(lambda model, images, batch_size: torch.rand(len(images))).message
    assert "images = a float32 tensor of shape" in message and "batch_size = " in message


def test_a_value_rounded_too_far_is_told_so():
    for name, value in (("start.untrained_loss", 0.7), ("start.majority_accuracy", 0.6)):
        result = exercise(name).check(value)
        assert result.mistake == "rounded-too-far" and "two decimals" in result.message


# Lesions, volumes and copies of chapter 01 ------------------------------------------------------


def test_a_mosaic_of_training_images_is_not_a_copy():
    ex = exercise("images.shared_images")
    mosaic = ex.check(lambda train, test: (test[:, None] == train[None]).any(1).flatten(1).all(1))
    assert mosaic.mistake == "pixels-of-several-images"
    isin = ex.check(lambda train, test: torch.isin(test, train).flatten(1).all(1))
    assert isin.mistake == "values-anywhere" and "sum" not in isin.message
    means = ex.check(
        lambda train, test: torch.isin(
            test.float().mean((1, 2)).mul(1e4).round(), train.float().mean((1, 2)).mul(1e4).round()
        )
    )
    assert means.mistake == "equal-sums"
    for seed in (None, 1, 2):
        for train, test in ex.inputs(seed):
            if len(test) > 1:
                flags = ex.reference(train, test)
                assert flags[:2].all() and not flags[2:].any()
                assert (test[7][:, None] == train.transpose(0, 1)).all(2).any(1).all()
                assert test[4].sum() == train[2].sum() and (test[4] != train[2]).sum() == 2


def _normalised_if(differ, deviation):
    def normalise(volumes):
        result = torch.zeros(volumes.shape)
        for volume, out in zip(volumes.float(), result, strict=True):
            inside = volume != 0
            if inside.any():
                values = volume[inside]
                spread = deviation(values)
                out[inside] = (values - values.mean()) / (spread if differ(spread) else 1)
        return result

    return normalise


@pytest.mark.filterwarnings("ignore:std")
def test_equal_voxels_become_zero_whatever_the_rounding():
    ex = exercise("images.normalise")
    over_n, less_one = lambda values: values.std(correction=0), lambda values: values.std()
    for differ, deviation, mistake in (
        (lambda spread: spread > 0, over_n, "rounded-deviation"),
        (lambda spread: spread > 0, less_one, "rounded-deviation"),
        (lambda spread: spread != 0, less_one, "rounded-deviation-and-single-voxel"),
        (lambda spread: True, lambda v: over_n(v) + 1e-8, "tiny-number-added"),
        (lambda spread: True, lambda v: less_one(v) + 1e-8, "tiny-number-and-single-voxel"),
    ):
        result = ex.check(_normalised_if(differ, deviation))
        assert result.mistake == mistake, (result.mistake, mistake)
        assert ("n - 1" in result.message) == ("single-voxel" in mistake)
    assert ex.check(_normalised_if(lambda spread: spread > 1e-6, over_n)).passed
    assert "n - 1" in ex.hints[-1]


def test_overlap_scores_in_other_wrong_ways():
    def dice_where_zero(prediction, truth):
        p, t = prediction.flatten(1).float(), truth.flatten(1).float()
        total = p.sum(1) + t.sum(1)
        return torch.where(total > 0, 2 * (p * t).sum(1) / total, 0.0)

    result = exercise("images.dice").check(dice_where_zero)
    assert result.mistake == "empty-is-zero" and "by choice or" in result.message

    def dice_over(*axes):
        return lambda p, t: 2 * (p & t).sum(axes) / (p.float().sum(axes) + t.float().sum(axes))

    for axes in ((1, 2), (2, 3), (1, 2, 3)):
        result = exercise("images.dice").check(dice_over(*axes))
        assert result.mistake.startswith("only-axes-"), (axes, result.mistake)
        assert "any number of spatial axes" in result.message
    result = exercise("images.dice").check(
        lambda p, t: 2 * (p & t).flatten(1).sum(1) / (p | t).flatten(1).sum(1).clamp(min=1)
    )
    assert result.mistake == "twice-the-overlap-over-the-union"
    assert "more than one thing" in result.message  # the empty case is wrong, too
    result = exercise("images.iou_from_dice").check(0.66)
    assert result.mistake == "cut-not-rounded"


# Answers that are wrong in ways nobody listed -----------------------------------------------------


def test_numpy_and_numbers_instead_of_tensors_are_named():
    ex = exercise("images.dice")
    assert ex.check(lambda p, t: dice_loop(p, t).numpy()).mistake == "numpy-instead-of-tensor"
    assert ex.check(lambda p, t: dice_loop(p, t).tolist()).mistake == "list-instead-of-tensor"
    assert ex.check(lambda p, t: 0.5).mistake == "number-instead-of-tensor"
    as_float = exercise("start.positive_weight").check(lambda labels: float(weight_by_mean(labels)))
    assert as_float.mistake == "number-instead-of-tensor"
    as_tensor = exercise("images.auroc").check(lambda s, y: torch.tensor(auroc_loop(s, y)))
    assert as_tensor.mistake == "tensor-instead-of-number"


def test_two_mistakes_at_once_name_one():
    def iou_with_nan(prediction, truth):
        p, t = prediction.flatten(1).bool(), truth.flatten(1).bool()
        return (p & t).sum(1) / (p | t).sum(1)

    result = exercise("images.dice").check(iou_with_nan)
    assert result.mistake == "iou-instead-of-dice"
    assert "more than one thing is wrong" in result.message


def test_scores_and_volumes_reach_beyond_the_usual_range():
    big = exercise("images.auroc").inputs(seed=5)[-1][0]
    assert len(big.sigmoid().unique()) < len(big.unique()) == len(big)
    assert any((volumes < 0).any() for (volumes,) in exercise("images.normalise").inputs(seed=5))


def test_function_called_before_it_is_checked():
    result = exercise("images.dice").check(torch.rand(3))
    assert result.mistake == "not-a-function"
    assert "check(dice)" in result.message


# The references themselves ------------------------------------------------------------------------


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
    ex = exercise("start.accuracy")
    for logits, labels in ex.inputs(seed=5):
        predicted = (logits.sigmoid() >= 0.5).long()[:, 0]
        expected = metrics.accuracy_score(labels, predicted)
        assert ex.reference(logits, labels) == pytest.approx(expected)


def test_positive_weight_balances_the_loss():
    weight = exercise("start.positive_weight").reference
    labels = torch.tensor([1, 0, 0, 0, 0])
    losses = F.binary_cross_entropy_with_logits(
        torch.zeros(5), labels.float(), pos_weight=weight(labels), reduction="none"
    )
    assert losses[labels == 1].sum() == pytest.approx(losses[labels == 0].sum().item())


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


def test_values_to_predict_are_what_running_it_gives():
    loss = F.binary_cross_entropy_with_logits(torch.zeros(9), (torch.arange(9) > 3).float())
    assert exercise("start.untrained_loss").reference() == pytest.approx(loss.item())
    assert exercise("start.majority_accuracy").reference() == pytest.approx(0.625)
    truth = torch.zeros(1, 10, 10, dtype=torch.bool)
    truth[0, :2, :2] = True
    empty = torch.zeros_like(truth)
    scores = exercise("images.empty_mask_scores").reference()
    assert scores[0] == pytest.approx((truth == empty).float().mean().item())
    assert scores[1] == exercise("images.dice").reference(empty, truth).item()
    prediction = torch.zeros_like(truth)
    prediction[0, :2, :3] = True  # overlap 4, areas 6 and 4: Dice 0.8
    assert exercise("images.dice").reference(prediction, truth).item() == pytest.approx(0.8)
    iou = exercise("images.iou").reference(prediction, truth).item()
    assert exercise("images.iou_from_dice").reference() == pytest.approx(iou)
