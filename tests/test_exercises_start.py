"""Chapter 00: right answers written differently pass, and the facts of the solutions hold."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from course_utils.exercises import exercise
from course_utils.metrics import accuracy as course_accuracy

# Right answers written differently ---------------------------------------------------------------


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


def step_cleared_at_the_end(model, loss_function, optimizer, images, labels):
    model.train()
    loss = loss_function(model(images).squeeze(1), labels[:, 0])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    model.eval()
    return loss.item()


def step_with_autograd(model, loss_function, optimizer, images, labels):
    model.train()
    parameters = list(model.parameters())
    loss = loss_function(model(images), labels)
    gradients = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    return loss.item()


def weight_by_count(labels):
    counts = torch.bincount(labels.int(), minlength=2)
    return torch.tensor(1.0) if counts[1] == 0 else (counts[0] / counts[1]).float()


def weight_by_mean(labels):
    share = labels.double().mean()
    return torch.ones(()) if share == 0 else (1 - share) / share


def accuracy_by_loop(logits, labels):
    right = 0
    for (logit,), label in zip(logits.tolist(), labels.tolist(), strict=True):
        right += (1 / (1 + math.exp(-logit)) >= 0.5) == (label == 1)
    return right / len(labels)


def accuracy_in_numpy(logits, labels):
    return np.mean((logits.numpy()[:, 0] >= 0) == (labels.numpy() > 0))


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


RIGHT = {
    "start.majority_accuracy": [0.625, 0.62, 0.63, np.float32(0.625), Fraction(5, 8)],
    "start.untrained_loss": [
        0.69,
        math.log(2),
        F.binary_cross_entropy_with_logits(torch.zeros(3), torch.tensor([1.0, 0, 1])),
    ],
    "start.training_step": [
        step_with_closure,
        step_cleared_in_the_middle,
        step_cleared_at_the_end,
        step_with_autograd,
    ],
    "start.positive_weight": [weight_by_count, weight_by_mean],
    "start.accuracy": [accuracy_by_loop, accuracy_in_numpy],
    "start.predict": [predict_split, predict_then_detach],
}


# Facts and inputs --------------------------------------------------------------------------------


def test_accuracy_agrees_with_scikit_learn_and_the_course():
    from sklearn.metrics import accuracy_score

    ex = exercise("start.accuracy")
    for seed in (None, 1, 2):
        assert any((logits == 0).any() for logits, _ in ex.inputs(seed))
        for logits, labels in ex.inputs(seed):
            found = ex.reference(logits, labels)
            predicted = (logits.sigmoid() >= 0.5).long()[:, 0]
            assert found == pytest.approx(accuracy_score(labels, predicted))
            assert found == pytest.approx(course_accuracy(logits[:, 0].sigmoid(), labels))


def test_positive_weight_balances_the_loss():
    weight = exercise("start.positive_weight").reference
    labels = torch.tensor([1, 0, 0, 0, 0])
    losses = F.binary_cross_entropy_with_logits(
        torch.zeros(5), labels.float(), pos_weight=weight(labels), reduction="none"
    )
    assert losses[labels == 1].sum() == pytest.approx(losses[labels == 0].sum().item())


def test_values_to_predict_are_what_running_it_gives():
    loss = F.binary_cross_entropy_with_logits(torch.zeros(9), (torch.arange(9) > 3).float())
    assert exercise("start.untrained_loss").reference() == pytest.approx(loss.item())
    assert exercise("start.majority_accuracy").reference() == pytest.approx(0.625)
