"""Augmentation: each image its own change, in range, labels untouched, repeatable by seed."""

import pytest
import torch

from course_utils.tasks import bccd, hippocampus, isic2017, pneumonia


def test_each_image_draws_its_own_change_and_stays_in_range():
    x = torch.rand(1, 1, 28, 28).repeat(16, 1, 1, 1)
    y = torch.arange(16)
    changed, labels = pneumonia.augment(x, y)
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
        found.append(pneumonia.augment(x, torch.zeros(4))[0])
    assert torch.equal(*found) and torch.equal(x, before)
    torch.manual_seed(6)
    assert not torch.equal(found[0], pneumonia.augment(x, torch.zeros(4))[0])


def test_no_black_corners_are_added():
    changed, _ = pneumonia.augment(torch.full((64, 1, 28, 28), 0.8), torch.zeros(64))
    assert changed.amin((1, 2, 3)).min() > 0.2, "a bright image stays bright up to its edges"


# Input that does not fit, most of it refused by Kornia -------------------------------------------


BOXES = torch.tensor([[[0, 5, 10, 25, 40], [-1, 0, 0, 0, 0]]]).float().repeat(4, 1, 1)
MASKS = torch.zeros(4, 48, 64, dtype=torch.uint8)


@pytest.mark.parametrize(("how", "y"), [(isic2017.augment, MASKS), (bccd.augment, BOXES)])
@pytest.mark.parametrize("channels", [1, 4])
def test_colour_changes_want_three_channels(how, y, channels):
    with pytest.raises(ValueError, match=rf"shape of \(\*, 3, H, W\). Got .*4, {channels}, 48, 64"):
        how(torch.rand(4, channels, 48, 64), y)


def test_exposure_cuts_nothing_off():
    """A bright chest that is brightened until its lungs are white shows nothing any more."""
    torch.manual_seed(0)
    bright = 0.6 + 0.39 * torch.rand(64, 1, 28, 28)
    changed, _ = pneumonia.augment(bright, torch.zeros(64))
    assert changed.min() > 0 and changed.max() < 1
    assert all(len(image.unique()) > 300 for image in changed)


@pytest.mark.parametrize(
    ("how", "y"),
    [(isic2017.augment, MASKS), (bccd.augment, BOXES), (pneumonia.augment, torch.zeros(4))],
)
def test_images_are_floats(how, y):
    channels = 1 if how is pneumonia.augment else 3
    with pytest.raises(TypeError, match=r"Expected input of .*float32.* Got torch.uint8"):
        how(torch.zeros(4, channels, 48, 64, dtype=torch.uint8), y)


@pytest.mark.parametrize("how", [hippocampus.augment, isic2017.augment])
@pytest.mark.parametrize("shape", [(4, 24, 32), (4, 64, 48), (3, 48, 64)])
def test_masks_are_as_large_and_as_many_as_the_images(how, shape):
    with pytest.raises(ValueError, match="Image and mask must have matching spatial dimensions"):
        how(torch.rand(4, 3, 48, 64), torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("how", "y"),
    [(isic2017.augment, MASKS), (bccd.augment, BOXES), (pneumonia.augment, torch.zeros(4))],
)
def test_values_far_from_the_unit_interval_are_refused_not_clipped(how, y):
    x = torch.rand(4, 1 if how is pneumonia.augment else 3, 48, 64)
    for wrong in (255 * x, 4 * (x - 0.5), torch.where(x > 0.999, 255, x)):
        with pytest.raises(ValueError, match=r"Expected values in \[0, 1\]: divide .* by 255"):
            how(wrong, y)
    assert how(1.02 * x - 0.01, y)[0].shape == x.shape
    with pytest.raises(ValueError, match=r"images go from .* to 2.*Expected values in \[0, 1\]"):
        how.check(255 * x)  # what `training.fit` calls once, on a GPU too
    how.check((255 * x).byte())


def test_mri_has_to_be_normalised():
    x = torch.randn(4, 3, 48, 64)
    with pytest.raises(ValueError, match="Expected mean 0 and standard deviation 1"):
        hippocampus.augment(100 + 30 * x, MASKS)
    assert hippocampus.augment(3 * x, MASKS)[0].shape == x.shape


@pytest.mark.parametrize("how", [hippocampus.augment, isic2017.augment])
def test_masks_have_no_axis_of_channels(how):
    with pytest.raises(ValueError, match=r"masks have shape \(4, 1, 48, 64\).*y\[:, 0\]"):
        how(torch.rand(4, 3, 48, 64), MASKS[:, None])


def test_boxes_as_shares_or_of_another_form_are_refused():
    x, shares = torch.rand(4, 3, 48, 64), BOXES.clone()
    shares[..., 1:] /= torch.tensor([64, 48, 64, 48])
    with pytest.raises(ValueError, match="as shares of the image do"):
        bccd.augment(x, shares)
    for wrong in (BOXES[0], BOXES[:3], BOXES[..., :4]):
        with pytest.raises(ValueError, match=r"Expected \(4, room, 5\)"):
            bccd.augment(x, wrong)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (3, 3), (3, 40)])
def test_a_mosaic_of_few_pixels_is_made_of_the_images_alone(size, monkeypatch):
    monkeypatch.setattr(torch, "empty_like", lambda like: torch.full_like(like, -7.0))
    x = torch.arange(1.0, 5).view(4, 1, 1, 1).expand(4, 3, *size)
    for seed in range(8):
        torch.manual_seed(seed)
        image, boxes = bccd.mosaic(x, torch.full((4, 2, 5), -1.0))
        assert bool(((image >= 1) & (image <= 4)).all()) and boxes.shape == (4, 8, 5)


def changed(boxes, seed, size=(48, 64)):
    torch.manual_seed(seed)
    x = torch.rand(len(boxes), 3, *size)
    images, found = bccd.augment(x, boxes)
    assert images.shape == x.shape and images.min() >= 0 and images.max() <= 1
    assert found.shape[0] == len(boxes) and found.shape[2] == 5
    return found


# Seeds of batches with and without a mosaic, which gives 4 room rows.
SEEDS = range(8)


def test_both_kinds_of_batch_are_among_the_seeds():
    assert {changed(BOXES, seed).shape[1] for seed in SEEDS} == {2, 8}


@pytest.mark.parametrize("seed", SEEDS)
def test_smears_without_room_or_without_boxes_stay_so(seed):
    assert changed(torch.zeros(4, 0, 5), seed).shape == (4, 0, 5)
    for fill in (-1.0, 0.0):  # what stands in the corners of a row without a box
        empty = torch.full((4, 2, 5), fill)
        empty[:, :, 0] = -1
        found = changed(empty, seed)
        assert found.shape[1] in (2, 8) and bool((found[:, :, 0] == -1).all())


@pytest.mark.parametrize("seed", SEEDS)
def test_boxes_outside_the_image_are_dropped(seed):
    outside = torch.tensor([[0, -90, -80, -50, -40], [1, 500, 400, 540, 440]]).float()
    assert bool((changed(outside.repeat(4, 1, 1), seed)[:, :, 0] == -1).all())


def test_smears_refuse_inverted_boxes():
    for box in ((30, 40, 5, 10), (30, 10, 5, 40)):
        boxes = torch.tensor([[[0.0, *box]]]).repeat(4, 1, 1)
        with pytest.raises(ValueError, match="boxes have negative widths"):
            changed(boxes, 0)


def test_visible_cuts_and_keeps_from_two_fifths_on():
    y = torch.tensor([[[2.0, -6, 10, 4, 20], [2, -7, 10, 3, 20], [1, 0, 0, 64, 48]]])
    found = bccd.visible(y, 0, 0, 64, 48)
    assert found[0].tolist() == [[2, 0, 10, 4, 20], [-1, 0, 10, 3, 20], [1, 0, 0, 64, 48]]


@pytest.mark.parametrize("box", [(30, 40, 5, 10), (30, 10, 5, 40), (5, 40, 30, 10), (5, 5, 5, 9)])
def test_visible_drops_inverted_boxes_and_those_without_area(box):
    found = bccd.visible(torch.tensor([[[0.0, *box]]]), 0, 0, 64, 48)
    assert found[0, 0, 0] == -1
