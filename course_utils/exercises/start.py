"""Exercises of chapter 00: the training step, accuracy, and what an untrained model scores."""

from typing import Any

import torch
from torch import nn

from .engine import Inputs, Setup
from .trial import Trial


def _some_labels(n: int, rng: torch.Generator, share: float = 0.5) -> torch.Tensor:
    """n labels 0 or 1 as int64, both of them present from n = 2 on."""
    labels = (torch.rand(n, generator=rng) < share).long()
    labels[:2] = torch.tensor([1, 0])[:n]
    return labels


def _small_network() -> nn.Sequential:
    """Images (N, 1, H, W) -> logits (N, 1); batch norm makes train and eval mode differ."""
    parts = [nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))


def _batches(rng: torch.Generator) -> Inputs:
    for n, height, width in ((1, 3, 4), (5, 4, 7), (8, 5, 5), (3, 9, 2)):
        images = torch.randn(n, 1, height, width, generator=rng)
        yield images, _some_labels(n, rng).float()[:, None]


def _two_steps(step: Trial, images: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Takes two steps with a fresh model; one step alone would not show gradients that pile up."""
    model = _small_network().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    backward_passes: list[int] = []
    passes_at_step: list[int] = []
    first_weight = next(model.parameters())
    first_weight.register_hook(lambda gradient: backward_passes.append(1))
    optimizer.register_step_post_hook(lambda *_: passes_at_step.append(len(backward_passes)))
    # Not the loss that everybody knows by heart: the one that was given must be used.
    loss_function = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.5))
    losses = [step(model, loss_function, optimizer, images, labels) for _ in range(2)]
    return {
        "loss of the first step": losses[0],
        "calls of the given optimizer's step() in two training steps": len(passes_at_step),
        "backward passes before each call of the optimizer's step()": passes_at_step,
        "dtype of the weights": str(first_weight.dtype),
        "weights after two steps": dict(model.state_dict()),
        "loss of the second step": losses[1],
    }


def _label_sets(rng: torch.Generator) -> Inputs:
    yield (_some_labels(5, rng),)
    yield (torch.zeros(3, dtype=torch.int64),)
    yield (_some_labels(37, rng, 0.2),)
    yield (_some_labels(700, rng, 0.75).to(torch.uint8),)  # too many to be counted in uint8
    yield (_some_labels(20, rng).bool(),)


def _logits_and_labels(rng: torch.Generator) -> Inputs:
    """The larger ones hold a logit of exactly 0 on an image of class 1, and logits beside 0."""
    for n, scale in ((5, 1), (1, 1), (8, 1), (33, 1), (201, 50)):  # at last exp overflows
        labels = _some_labels(n, rng)
        logits = scale * (1.5 * torch.randn(n, 1, generator=rng) + 0.6 * labels[:, None])
        if n > 5:
            logits[:3, 0], labels[:3] = torch.tensor([-1e-4, 0, 1e-4]), torch.tensor([0, 1, 1])
        yield logits.double() if n == 8 else logits, labels


def _image_stacks(rng: torch.Generator) -> Inputs:
    """Images differ in brightness, so logits have both signs; in one stack exp would overflow."""
    sizes = ((4, 3, 5, 4, 3), (7, 4, 6, 3, 3), (5, 5, 5, 8, 500), (1, 4, 3, 4, 3), (10, 3, 3, 2, 3))
    for n, height, width, batch_size, spread in sizes:
        brightness = spread * torch.randn(n, 1, 1, 1, generator=rng)
        yield torch.randn(n, 1, height, width, generator=rng) + brightness, batch_size


def _on_a_trained_model(predict: Trial, images: torch.Tensor, batch_size: int) -> dict[str, Any]:
    """Hands over a model in train mode, with running statistics that differ from any batch's."""
    model = _small_network().insert(5, nn.Dropout())
    seen: list[int] = []
    model(2 * torch.randn(16, 1, 5, 6) + 1)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    model[-1].weight.data = torch.tensor([[8.0, -8.0]])  # logits of both signs
    before = [value.clone() for value in model.state_dict().values()]
    # Of the first layer: `model.forward(images)` would call no hook of the model.
    model[0].register_forward_pre_hook(lambda _, given: seen.extend(map(len, given)))
    probabilities = predict(model, images, batch_size)
    kept = all(map(torch.equal, before, model.state_dict().values()))
    # In this order they are compared: what is the matter comes before the wrong values.
    return {
        "never more than batch_size images at once": max(seen, default=0) <= batch_size,
        "model's weights and statistics left alone": kept,
        "requires_grad of the weights left alone": all(p.requires_grad for p in model.parameters()),
        "result still attached to the graph": getattr(probabilities, "requires_grad", False),
        "probabilities": probabilities,
    }


EXERCISES = {
    "start.majority_accuracy": Setup(tolerance=0.006),
    "start.untrained_loss": Setup(tolerance=0.006),
    "start.training_step": Setup(_batches, call=_two_steps),
    "start.positive_weight": Setup(_label_sets),
    "start.accuracy": Setup(_logits_and_labels),
    "start.predict": Setup(_image_stacks, call=_on_a_trained_model),
}
