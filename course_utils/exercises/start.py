"""Exercises of chapter 00: the training step, accuracy, and what an untrained model scores."""

# The right and the wrong answers are code as a learner would write it in a notebook: they import
# what they need besides torch themselves, and a solution is shown as it stands here.

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .engine import Exercise, Inputs


def _some_labels(n: int, rng: torch.Generator) -> torch.Tensor:
    """n labels 0 or 1 as int64, both of them present from n = 2 on."""
    labels = torch.randint(0, 2, (n,), generator=rng)
    labels[: min(n, 2)] = torch.tensor([1, 0])[: min(n, 2)]
    return labels[torch.randperm(n, generator=rng)]


def _small_network() -> nn.Module:
    """Images (N, 1, H, W) -> logits (N, 1); batch norm makes train and eval mode differ."""
    parts = [nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU()]
    network = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))
    return network.eval()


# A training step -------------------------------------------------------------------------------


def training_step(model, loss_function, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = loss_function(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def gradients_not_cleared(model, loss_function, optimizer, images, labels):
    model.train()
    loss = loss_function(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def step_before_backward(model, loss_function, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = loss_function(model(images), labels)
    optimizer.step()
    loss.backward()
    return loss.item()


def step_missing(model, loss_function, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = loss_function(model(images), labels)
    loss.backward()
    return loss.item()


def backward_missing(model, loss_function, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = loss_function(model(images), labels)
    optimizer.step()
    return loss.item()


def gradients_cleared_too_late(model, loss_function, optimizer, images, labels):
    model.train()
    loss = loss_function(model(images), labels)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def sigmoid_before_the_loss(model, loss_function, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = loss_function(model(images).sigmoid(), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def loss_arguments_swapped(model, loss_function, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = loss_function(labels, model(images))
    loss.backward()
    optimizer.step()
    return loss.item()


def train_mode_forgotten(model, loss_function, optimizer, images, labels):
    optimizer.zero_grad()
    loss = loss_function(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def loss_kept_as_tensor(model, loss_function, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = loss_function(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss


def loss_after_the_step(model, loss_function, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss_function(model(images), labels).backward()
    optimizer.step()
    return loss_function(model(images), labels).item()


def loss_function_ignored(model, loss_function, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def _batches(rng: torch.Generator) -> Inputs:
    return [
        (
            torch.randn(n, 1, height, width, generator=rng),
            _some_labels(n, rng).float()[:, None],
        )
        for n, height, width in ((1, 3, 4), (5, 4, 7), (8, 5, 5), (3, 9, 2))
    ]


def _two_steps(step: Any) -> Callable[..., Any]:
    """Takes two steps with a fresh model; one step alone would not show gradients that pile up."""

    def run(images: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        model = _small_network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        backward_passes: list[int] = []
        passes_at_step: list[int] = []
        first_weight = next(model.parameters())
        first_weight.register_hook(lambda gradient: backward_passes.append(1))
        optimizer.register_step_post_hook(lambda *_: passes_at_step.append(len(backward_passes)))
        # Not the loss that everybody knows by heart: the one that was given is to be used.
        loss_function = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.5))
        losses = [step(model, loss_function, optimizer, images, labels) for _ in range(2)]
        return {
            "loss of the first step": losses[0],
            "backward passes before each optimizer.step() of two calls": passes_at_step,
            "weights after two steps": {
                name: value for name, value in model.state_dict().items() if "num_" not in name
            },
            "loss of the second step": losses[1],
        }

    return run


TRAINING_STEP = Exercise(
    name="start.training_step",
    question=(
        "Write training_step(model, loss_function, optimizer, images, labels), which trains the "
        "model on one batch and returns the loss. "
        "`images` is a float32 tensor (N, 1, H, W); model(images) gives logits (N, 1); `labels` is "
        "a float32 tensor (N, 1) of 0 and 1; `loss_function` takes logits and labels, in this "
        "order, and gives a tensor without axes; `optimizer` holds the model's parameters. The "
        "step must have the effect of this batch alone, even if it is called again and again, and "
        "the model may arrive in eval mode but is to be trained in train mode. Return the "
        "batch's loss before the update, as a plain Python float."
    ),
    reference=training_step,
    make_inputs=_batches,
    prepare=_two_steps,
    wrong={
        "gradients-not-cleared": (
            gradients_not_cleared,
            "The first step is right, the second is not: backward adds to the gradients that are "
            "there already, so the first batch still pulls on the weights in the second step.",
        ),
        "step-before-backward": (
            step_before_backward,
            "The optimizer moves the weights before this batch's gradients exist. In which order "
            "do you compute gradients and use them?",
        ),
        "step-missing": (
            step_missing,
            "The gradients are computed, but nothing uses them: the weights stay as they were.",
        ),
        "backward-missing": (
            backward_missing,
            "The optimizer is asked to move the weights, but no gradient was ever computed from "
            "the loss, so they stay as they were.",
        ),
        "gradients-cleared-too-late": (
            gradients_cleared_too_late,
            "The gradients are cleared after they were computed and before the optimizer could "
            "use them: the weights stay as they were.",
        ),
        "sigmoid-before-the-loss": (
            sigmoid_before_the_loss,
            "The loss function expects logits, but gets probabilities: it applies the sigmoid "
            "itself, so yours is the second one. The model still learns, only badly, which makes "
            "this hard to notice.",
        ),
        "loss-arguments-swapped": (
            loss_arguments_swapped,
            "The loss function gets the labels where it expects the logits, and the logits where "
            "it expects the labels.",
        ),
        "train-mode-forgotten": (
            train_mode_forgotten,
            "The model arrives in eval mode and is trained in it: batch norm uses its stored "
            "statistics and never updates them.",
        ),
        "loss-kept-as-tensor": (
            loss_kept_as_tensor,
            "The step itself is right. But the loss comes back as a tensor that still holds the "
            "graph of the batch: collect one per step and the memory fills up.",
        ),
        "loss-after-the-step": (
            loss_after_the_step,
            "The update is right, but the loss returned was computed a second time, with the "
            "updated weights. Asked for is the loss before the update.",
        ),
        "loss-function-ignored": (
            loss_function_ignored,
            "You have chosen the loss yourself: plain binary cross-entropy. The caller hands over "
            "a `loss_function`, and the one of this check is another (it weighs positive images "
            "more).",
        ),
    },
    hints=(
        "Five things have to happen besides choosing the mode: clear, predict, compare, "
        "differentiate, move. Which of them belong to the optimizer, which to the loss?",
        "PyTorch adds new gradients to old ones. The optimizer can clear them; the moment has to "
        "be before they are computed anew, not between computing and using them.",
        "The loss is a tensor with a method that computes all gradients and a method that turns "
        "it into a Python number. The optimizer has a method that moves the weights.",
    ),
    why=(
        "Clear the gradients, predict, compare, differentiate, move: in this order each step sees "
        "its own batch only. .item() takes the number out of the graph, which can then be freed."
    ),
)


# Accuracy --------------------------------------------------------------------------------------


def accuracy(logits, labels):
    predicted = logits.squeeze(1) >= 0  # the sigmoid of 0 is one half
    return (predicted == labels).float().mean().item()


def exactly_a_half_left_out(logits, labels):
    return ((logits.squeeze(1) > 0) == labels).float().mean().item()


def logits_against_a_half(logits, labels):
    return ((logits.squeeze(1) >= 0.5) == labels).float().mean().item()


def broadcast_to_a_square(logits, labels):
    return ((logits >= 0) == labels).float().mean().item()


def square_and_a_half(logits, labels):
    return ((logits > 0.5) == labels).float().mean().item()


def argmax_over_one_column(logits, labels):
    return (logits.argmax(dim=1) == labels).float().mean().item()


def percentage(logits, labels):
    return 100 * accuracy(logits, labels)


def count_of_right_answers(logits, labels):
    return float(((logits.squeeze(1) >= 0) == labels).sum())


def rounded_logits(logits, labels):
    return (logits.squeeze(1).round() == labels).float().mean().item()


def sigmoid_twice(logits, labels):
    predicted = logits.squeeze(1).sigmoid().sigmoid() >= 0.5
    return (predicted == labels).float().mean().item()


def share_of_errors(logits, labels):
    return 1 - accuracy(logits, labels)


def recall_only(logits, labels):
    predicted = logits.squeeze(1) >= 0
    return (predicted & (labels == 1)).sum().item() / max((labels == 1).sum().item(), 1)


def _logits_and_labels(rng: torch.Generator) -> Inputs:
    """Some of the larger ones hold a logit of exactly 0, on an image of class 1."""
    cases = []
    for n, dtype in (
        (5, torch.float32),
        (1, torch.float32),
        (8, torch.float64),
        (33, torch.float32),
        (201, torch.float32),
    ):
        labels = _some_labels(n, rng)
        noise = torch.randn(n, 1, generator=rng, dtype=dtype)
        logits = 1.5 * noise + 0.6 * labels[:, None]
        if n in (8, 33):
            logits[labels.argmax()] = 0
        cases.append((logits, labels))
    return cases


ACCURACY = Exercise(
    name="start.accuracy",
    question=(
        "Write accuracy(logits, labels), the share of images that are classified correctly. "
        "`logits` is a float tensor (N, 1), any real numbers; `labels` is an int64 tensor (N,) of "
        "0 and 1. An image counts as class 1 when its probability, the sigmoid of the logit, is "
        "at least one half. Return a plain Python float between 0 and 1."
    ),
    reference=accuracy,
    make_inputs=_logits_and_labels,
    wrong={
        "exactly-a-half-left-out": (
            exactly_a_half_left_out,
            "Nearly. Only a logit of exactly 0 is judged otherwise: its probability is one half, "
            "and that is at least one half, so class 1. (round() takes one half to 0.)",
        ),
        "logits-against-a-half": (
            logits_against_a_half,
            "You compare the logits with one half. One half is the threshold for the probability; "
            "which logit has this probability?",
        ),
        "broadcast-to-a-square": (
            broadcast_to_a_square,
            "Comparing a tensor (N, 1) with one of shape (N,) gives N x N answers: every "
            "prediction is compared with every label. PyTorch does this without a warning.",
        ),
        "square-and-a-half": (
            square_and_a_half,
            "Two things, the shapes first: comparing (N, 1) with (N,) gives N x N answers, every "
            "prediction against every label, without a warning. Besides, one half is the threshold "
            "for the probability, and these are logits.",
        ),
        "argmax-over-one-column": (
            argmax_over_one_column,
            "argmax over an axis of length one is always 0, so that every image is called class 0. "
            "It needs one column per class; here there is a single logit.",
        ),
        "percentage": (percentage, "This is a percentage; asked for is a share from 0 to 1."),
        "count-of-right-answers": (
            count_of_right_answers,
            "This is the number of correct images; asked for is their share.",
        ),
        "rounded-logits": (
            rounded_logits,
            "You round the logits. Rounding to 0 or 1 means something for probabilities; logits "
            "round to any whole number, for example -2 or 3, and are compared with labels then.",
        ),
        "sigmoid-twice": (
            sigmoid_twice,
            "Every image is called class 1. The sigmoid of a probability is never below one half: "
            "is it applied twice?",
        ),
        "share-of-errors": (share_of_errors, "This is the share of the wrong answers."),
        "recall-only": (
            recall_only,
            "This is the share among the images of class 1 (the sensitivity). The images of class "
            "0 count as well.",
        ),
    },
    hints=(
        "Turn each logit into a decision, compare the decisions with the labels, take the mean.",
        "The sigmoid grows with the logit. You can apply it, or find the logit at which it is one "
        "half and compare with that.",
        "Look at the shapes before you compare: one of the two tensors has an axis of length one "
        "too many. And a mean needs floating-point numbers.",
    ),
    why=(
        "The sigmoid is at least one half where the logit is at least 0. The column axis goes "
        "first, or the comparison would be one of all pairs."
    ),
)


# The weight of the positive class --------------------------------------------------------------


def positive_weight(labels):
    positives = (labels == 1).sum()
    if positives == 0:
        return torch.tensor(1.0)
    return (labels == 0).sum() / positives


def inverted(labels):
    negatives = (labels == 0).sum()
    positives = (labels == 1).sum()
    return torch.tensor(1.0) if positives == 0 else positives / negatives


def share_of_positives(labels):
    return (labels == 1).float().mean()


def share_of_negatives(labels):
    return (labels == 0).float().mean()


def at_least_one_below(labels):
    return (labels == 0).sum() / (labels == 1).sum().clamp(min=1)


def total_over_positives(labels):
    positives = (labels == 1).sum()
    return torch.tensor(1.0) if positives == 0 else labels.numel() / positives


def whole_number(labels):
    positives = (labels == 1).sum()
    if positives == 0:
        return torch.tensor(1.0)
    return ((labels == 0).sum() // positives).float()


def without_positives_infinite(labels):
    return (labels == 0).sum() / (labels == 1).sum()


def weights_of_both_classes(labels):
    counts = torch.stack([(labels == 0).sum(), (labels == 1).sum()])
    return labels.numel() / (2 * counts.clamp(min=1))


def balanced_weight(labels):
    return labels.numel() / (2 * (labels == 1).sum().clamp(min=1))


def bitwise_not(labels):
    positives = labels.sum()
    return torch.tensor(1.0) if positives == 0 else (~labels).sum() / positives


def _label_sets(rng: torch.Generator) -> Inputs:
    none = torch.zeros(3, dtype=torch.int64)
    few = (torch.rand(37, generator=rng) < 0.2).long()
    few[:2] = torch.tensor([1, 0])
    many = torch.ones(700, dtype=torch.uint8)
    many[torch.randperm(700, generator=rng)[:180]] = 0
    five = torch.tensor([0, 1, 0, 0, 1])[torch.randperm(5, generator=rng)]
    return [(five,), (none,), (few,), (many,), (_some_labels(20, rng).bool(),)]


POSITIVE_WEIGHT = Exercise(
    name="start.positive_weight",
    question=(
        "Write positive_weight(labels), the weight of the positive images in the loss at which "
        "both classes weigh the same in total. "
        "`labels` is a tensor (N,) of 0 and 1, of dtype int64, uint8 or bool; a negative image has "
        "weight 1. Return a float32 tensor without axes, as `pos_weight` of "
        "nn.BCEWithLogitsLoss takes it. Without a positive image the weight is 1; at least one "
        "negative image is always there."
    ),
    reference=positive_weight,
    make_inputs=_label_sets,
    wrong={
        "inverted": (
            inverted,
            "The fraction is upside down: the more positives there are, the larger your weight.",
        ),
        "share-of-positives": (
            share_of_positives,
            "This is the share of positives (the prevalence). A rare class needs a large weight, "
            "and this one is small.",
        ),
        "share-of-negatives": (
            share_of_negatives,
            "This is the share of negatives among all images, and never above 1. The weight "
            "compares them with the positives.",
        ),
        "at-least-one-below": (
            at_least_one_below,
            "Right as long as there is a positive image. Without one, the 1 that you put below the "
            "line makes the weight the number of negatives; the question says what it is to be.",
        ),
        "total-over-positives": (
            total_over_positives,
            "Nearly: your numerator counts all images. With two images of each class the weight "
            "should be 1; yours is 2.",
        ),
        "whole-number": (
            whole_number,
            "The weight is cut to a whole number: `//` or an integer dtype does that.",
        ),
        "without-positives-infinite": (
            without_positives_infinite,
            "Right as long as there is a positive image. Without one you divide by zero, and the "
            "loss would be infinite or NaN.",
        ),
        "weights-of-both-classes": (
            weights_of_both_classes,
            "These are two weights, one per class, as nn.CrossEntropyLoss takes them. Asked for is "
            "one number: the weight of the positives when negatives have weight 1.",
        ),
        "balanced-weight": (
            balanced_weight,
            "This is the weight of the positives when the negatives get a weight as well. Here a "
            "negative image keeps weight 1.",
        ),
        "bitwise-not": (
            bitwise_not,
            "`~` negates bool tensors only. On integers it flips every bit: ~0 is -1 and ~1 is -2 "
            "(255 and 254 as uint8). Count the zeros in another way.",
        ),
    },
    hints=(
        "Put it as an equation: the number of negatives times 1 equals the number of positives "
        "times the weight.",
        "A comparison such as `labels == 0` gives a bool tensor for every dtype, and its sum is a "
        "count.",
        "The weight is one count divided by the other; treat the case of a zero in the "
        "denominator before you divide.",
    ),
    why=(
        "Negatives x 1 = positives x weight, so the weight is their ratio. Comparing with 0 and 1 "
        "counts correctly for all dtypes."
    ),
)


# Find the bug: prediction ----------------------------------------------------------------------


def predict(model, images, batch_size):
    model.eval()
    probabilities = []
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            logits = model(images[start : start + batch_size])
            probabilities.append(logits.squeeze(1).sigmoid())
    return torch.cat(probabilities)


def unmended(model, images, batch_size):
    probabilities = []
    for i in range(max(len(images) // batch_size, 1)):
        logits = model(images[i * batch_size : (i + 1) * batch_size])
        probabilities.append(logits.softmax(dim=1)[:, 0])
    return torch.cat(probabilities)


def still_in_train_mode(model, images, batch_size):
    probabilities = []
    with torch.no_grad():
        for batch in images.split(batch_size):
            probabilities.append(model(batch).squeeze(1).sigmoid())
    return torch.cat(probabilities)


def graph_kept(model, images, batch_size):
    model.eval()
    batches = [model(batch).squeeze(1).sigmoid() for batch in images.split(batch_size)]
    return torch.cat(batches)


@torch.no_grad()
def last_batch_dropped(model, images, batch_size):
    model.eval()
    probabilities = []
    for i in range(max(len(images) // batch_size, 1)):
        logits = model(images[i * batch_size : (i + 1) * batch_size])
        probabilities.append(logits.squeeze(1).sigmoid())
    return torch.cat(probabilities)


@torch.no_grad()
def all_at_once(model, images, batch_size):
    model.eval()
    return model(images).squeeze(1).sigmoid()


@torch.no_grad()
def logits_returned(model, images, batch_size):
    model.eval()
    return torch.cat([model(batch).squeeze(1) for batch in images.split(batch_size)])


@torch.no_grad()
def softmax_over_one_column(model, images, batch_size):
    model.eval()
    return torch.cat([model(batch).softmax(dim=1)[:, 0] for batch in images.split(batch_size)])


@torch.no_grad()
def column_kept(model, images, batch_size):
    model.eval()
    return torch.cat([model(batch).sigmoid() for batch in images.split(batch_size)])


@torch.no_grad()
def decisions_returned(model, images, batch_size):
    model.eval()
    logits = torch.cat([model(batch).squeeze(1) for batch in images.split(batch_size)])
    return (logits > 0).float()


@torch.no_grad()
def column_squeezed_with_the_batch(model, images, batch_size):
    model.eval()
    batches = [model(batch).sigmoid().squeeze() for batch in images.split(batch_size)]
    return torch.cat(batches)


def _half_mended(bugs: tuple[str, ...]) -> Callable[..., torch.Tensor]:
    """The code that the learner starts from, with some of its bugs left in."""

    def predict(model, images, batch_size):
        if "still-in-train-mode" not in bugs:
            model.eval()
        batches = [images] if "all-at-once" in bugs else list(images.split(batch_size))
        if "last-batch-dropped" in bugs:
            batches = batches[: max(len(images) // batch_size, 1)]
        with torch.set_grad_enabled("graph-kept" in bugs):
            logits = torch.cat([model(batch) for batch in batches])
            softmax = "softmax-over-one-column" in bugs
            return (logits.softmax(dim=1) if softmax else logits.sigmoid())[:, 0]

    return predict


def _image_stacks(rng: torch.Generator) -> Inputs:
    sizes = ((4, 3, 5, 4), (7, 4, 6, 3), (5, 5, 5, 8), (1, 4, 3, 4), (9, 2, 7, 4))
    return [
        (torch.randn(n, 1, height, width, generator=rng), batch_size)
        for n, height, width, batch_size in sizes
    ]


def _on_a_trained_model(predict_function: Any) -> Callable[..., Any]:
    """Hands over a model in train mode, with running statistics that differ from any batch's."""

    def run(images: torch.Tensor, batch_size: int) -> dict[str, Any]:
        model = _small_network().train()
        seen: list[int] = []
        model(2 * torch.randn(16, 1, 5, 6) + 1)
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.register_forward_pre_hook(lambda _, given: seen.extend(map(len, given)))
        probabilities = predict_function(model, images, batch_size)
        # In this order they are compared: what is the matter comes before the wrong values.
        return {
            "never more than batch_size images at once": max(seen, default=0) <= batch_size,
            "model's weights and statistics left alone": all(
                bool((value == before[name]).all()) for name, value in model.state_dict().items()
            ),
            "result still attached to the graph": probabilities.requires_grad
            if isinstance(probabilities, torch.Tensor)
            else False,
            "probabilities": probabilities,
        }

    return run


_BUGS: dict[str, tuple[Callable[..., torch.Tensor], str]] = {
    "softmax-over-one-column": (
        softmax_over_one_column,
        "Every probability is 1. A softmax makes the values along an axis sum to one, and "
        "this axis has one value only.",
    ),
    "last-batch-dropped": (
        last_batch_dropped,
        "Images are missing at the end: when N is no multiple of the batch size, the last, "
        "smaller batch is dropped.",
    ),
    "all-at-once": (
        all_at_once,
        "The model gets all images at once, whatever `batch_size` says. That works until they no "
        "longer fit into memory: hand them over in batches.",
    ),
    "still-in-train-mode": (
        still_in_train_mode,
        "The model predicts in train mode: batch norm uses the statistics of the batch, so an "
        "image's probability depends on its neighbours, and each prediction changes the "
        "stored statistics.",
    ),
    "graph-kept": (
        graph_kept,
        "The probabilities are still attached to the graph: the memory of every batch is held "
        "until the result is gone. No gradient is needed here.",
    ),
}
"""The four bugs of the code that the learner starts from, and a careless way to mend the third."""


def _several_bugs() -> dict[str, tuple[Callable[..., torch.Tensor], str]]:
    """Two or more of the bugs together; the message names the first."""
    found = {}
    for number in (2, 3, 4):
        for bugs in itertools.combinations(_BUGS, number):
            contradict = {"last-batch-dropped", "all-at-once"}.issubset(bugs)
            all_four = number == 4 and "all-at-once" not in bugs  # has a message of its own
            if not contradict and not all_four:
                text = f"There is more than one bug left. One of them: {_BUGS[bugs[0]][1]}"
                found[" and ".join(bugs)] = (_half_mended(bugs), text)
    return found


PREDICT = Exercise(
    name="start.predict",
    question=(
        "Mend predict(model, images, batch_size), which gives the probability of class 1 for every "
        "image. "
        "`images` is a float32 tensor (N, 1, H, W), N at least 1 and not always a multiple of "
        "`batch_size`; the model sees at most `batch_size` images at a time and gives logits "
        "(n, 1). Return a float32 tensor (N,) of sigmoid probabilities, in the order of the "
        "images, that needs no gradient. The model may arrive in train mode; the probability of an "
        "image must not depend on its neighbours in the batch, and prediction must change neither "
        "weights nor batch-norm statistics. In which mode the model is left does not matter."
    ),
    reference=predict,
    make_inputs=_image_stacks,
    prepare=_on_a_trained_model,
    wrong={
        "unmended": (
            unmended,
            "This behaves like the code you started from. There is more than one bug: look at the "
            "values, at the number of results, at the model's mode, and at what the result still "
            "holds on to.",
        ),
        **_BUGS,
        **_several_bugs(),
        "logits-returned": (
            logits_returned,
            "These are logits: they run over all real numbers. Asked for are probabilities.",
        ),
        "column-kept": (
            column_kept,
            "The values are right, but the shape is (N, 1) and not (N,). Compared with labels of "
            "shape (N,) it would give N x N answers.",
        ),
        "decisions-returned": (
            decisions_returned,
            "These are decisions, 0 or 1. Asked for are the probabilities behind them.",
        ),
        "column-squeezed-with-the-batch": (
            column_squeezed_with_the_batch,
            "Right until a batch holds a single image: squeeze() without an axis takes away every "
            "axis of length one, the batch's own as well. Name the axis.",
        ),
    },
    hints=(
        "Print the result's shape for 7 images and a batch size of 3, and its values.",
        "How many whole batches fit into N, and what about the rest? And which values can a "
        "softmax over one number take?",
        "Four changes: the model's mode before the loop, a context without gradients around it, "
        "starts 0, b, 2b, ... up to N, and the function that turns one logit into a probability.",
    ),
    why=(
        "Eval mode makes each image count for itself; no_grad drops the graph; a range with a step "
        "reaches the last, smaller batch; one logit needs a sigmoid."
    ),
)


# Values to work out -----------------------------------------------------------------------------


def untrained_loss():
    import math

    return -math.log(0.5)


UNTRAINED_LOSS = Exercise(
    name="start.untrained_loss",
    question=(
        "What is the binary cross-entropy loss, mean over the images, of a model that gives the "
        "logit 0 for every image? "
        "This is about where the loss of an untrained two-class model starts. Answer with a "
        "number, right to two decimals, before you run anything."
    ),
    reference=untrained_loss,
    tolerance=0.006,
    wrong={
        "rounded-too-far": (
            lambda: 0.7,
            "Nearly: it is rounded too far. Asked for are two decimals.",
        ),
        "class-weight-included": (
            lambda: 2 * 1214 / 4708 * 0.693147,
            "This is where training starts with the class weight that comes later in this "
            "chapter. Here nothing is weighted: every image counts once.",
        ),
        "probability-not-loss": (
            lambda: 0.5,
            "One half is the probability that the model gives to each class. The loss is a "
            "function of it: which one?",
        ),
        "logit-not-loss": (
            lambda: 0.0,
            "A loss of 0 would mean that every answer is right and certain. The logit 0 means: no "
            "idea.",
        ),
        "bits-not-nats": (
            lambda: 1.0,
            "With a logarithm to base 2 this would be right: one bit. PyTorch takes the natural "
            "logarithm.",
        ),
        "squared-error": (
            lambda: 0.25,
            "This is the squared error of a probability of one half, the Brier score.",
        ),
        "logarithm-to-base-ten": (
            lambda: 0.30103,
            "A logarithm, but to base 10. PyTorch takes the natural one.",
        ),
        "sign-forgotten": (
            lambda: -0.69315,
            "The logarithm of a probability is negative, and a loss is to fall to 0 from above: "
            "mind the sign.",
        ),
        "both-classes-added": (
            lambda: 1.38629,
            "Each image pays for the class it belongs to, not for both: one of the two terms of "
            "the formula is always 0.",
        ),
    },
    hints=(
        "Which probability belongs to the logit 0?",
        "The loss of one image is minus the natural logarithm of the probability given to its "
        "true class. Does it matter which class that is?",
        "All images have the same loss, so the mean is the loss of one: minus the logarithm of "
        "one half.",
    ),
    why=(
        "The logit 0 is the probability one half for either class, and every image costs minus its "
        "natural logarithm. A first loss far above that points to a mistake."
    ),
)


def majority_accuracy():
    pneumonia, normal = 390, 234
    return max(pneumonia, normal) / (pneumonia + normal)


MAJORITY_ACCURACY = Exercise(
    name="start.majority_accuracy",
    question=(
        "Which accuracy on the test set does a model reach that answers 'pneumonia' to every X-ray "
        "of PneumoniaMNIST? "
        "The training set has 1214 normal images and 3494 with pneumonia, the test set 234 and "
        "390. Answer with a share between 0 and 1, right to two decimals."
    ),
    reference=majority_accuracy,
    tolerance=0.006,
    wrong={
        "rounded-too-far": (
            lambda: 0.6,
            "Nearly: it is rounded too far. Asked for are two decimals.",
        ),
        "training-set-counted": (
            lambda: 3494 / 4708,
            "This is the share of pneumonia in the training set. The accuracy is measured on the "
            "test set, and there the classes are mixed otherwise.",
        ),
        "other-class": (
            lambda: 234 / 624,
            "This is the share of normal images: the ones that this model gets wrong.",
        ),
        "coin": (
            lambda: 0.5,
            "A coin would reach one half. This model always gives the same answer, and the classes "
            "are not equally frequent.",
        ),
        "percentage": (lambda: 62.5, "This is a percentage; asked for is a share from 0 to 1."),
        "sensitivity": (
            lambda: 1.0,
            "It finds every pneumonia: this is its sensitivity. The accuracy counts the normal "
            "images as well.",
        ),
        "ratio-of-classes": (
            lambda: 390 / 234,
            "This is the ratio of the two classes. An accuracy has all images below the line and "
            "is never above 1.",
        ),
        "nothing-right": (
            lambda: 0.0,
            "An accuracy of 0 would mean that no answer is right, but some patients do have "
            "pneumonia.",
        ),
    },
    hints=(
        "Which of the test images does this model get right?",
        "All images with pneumonia are right, all others are wrong. The training set plays no "
        "part.",
        "Divide 390 by the number of all test images.",
    ),
    why=(
        "It is right on the 390 images with pneumonia and wrong on the other 234. A trained "
        "model has to beat this number, not one half."
    ),
)


# In the order in which the chapter asks them.
EXERCISES = (
    MAJORITY_ACCURACY,
    UNTRAINED_LOSS,
    TRAINING_STEP,
    POSITIVE_WEIGHT,
    ACCURACY,
    PREDICT,
)
