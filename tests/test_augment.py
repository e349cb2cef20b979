"""Augmentation: each image its own change, in range, labels untouched, repeatable by seed."""

import torch

from course_utils import augment


def test_each_image_draws_its_own_change_and_stays_in_range():
    x = torch.rand(1, 1, 28, 28).repeat(16, 1, 1, 1)
    y = torch.arange(16)
    changed, labels = augment.xray(x, y)
    assert changed.shape == x.shape and torch.equal(labels, y)
    assert changed.min() >= 0 and changed.max() <= 1
    different = {tuple(image.flatten().tolist()) for image in changed}
    assert len(different) == 16


def test_the_seed_decides_and_the_input_is_kept():
    x = torch.rand(4, 1, 28, 28)
    before = x.clone()
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(augment.xray(x, torch.zeros(4))[0])
    assert torch.equal(*found) and torch.equal(x, before)
    torch.manual_seed(6)
    assert not torch.equal(found[0], augment.xray(x, torch.zeros(4))[0])


def test_no_black_corners_are_added():
    changed, _ = augment.xray(torch.full((64, 1, 28, 28), 0.8), torch.zeros(64))
    assert changed.amin((1, 2, 3)).min() > 0.2, "a bright image stays bright up to its edges"
