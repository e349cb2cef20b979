"""Exercises of chapter 01: normalisation, overlap, ranking, leakage, what a dummy scores."""

import torch

from .engine import Inputs, Setup


def _volume_batches(rng: torch.Generator) -> Inputs:
    """Heads in a black background: intensities on scales that differ from volume to volume."""
    shapes = ((1, 1, 6, 9, 8), (4, 1, 7, 8, 11), (2, 1, 21, 20), (5, 1, 6, 10, 8))
    for i, shape in enumerate(shapes):
        scale = 10 ** (3 * torch.rand(shape[0], *(1 for _ in shape[1:]), generator=rng))
        slope = torch.linspace(0.5, 1.5, shape[-3])[:, None, None]  # slices differ in brightness
        head = torch.rand(shape, generator=rng) < 0.7
        volumes = (scale * slope * (2 + torch.rand(shape, generator=rng)) * head).round()
        if shape[0] > 3:
            volumes[1] = 40.0 * head[1]  # constant inside
            volumes[2:4] = 0.0  # nothing inside
            volumes[3, 0, 2, 3, 4] = 7.0  # a single voxel has no deviation over n - 1
        yield (volumes.short() if i % 2 else volumes,)
    small = torch.randn((3, 1, 7, 9, 8), generator=rng) / 20 + 0.01  # negative values, too
    small[1] = -small[1].abs()  # no voxel is above the background
    yield (small * (torch.rand(small.shape, generator=rng) < 0.7),)
    narrow = torch.zeros(3, 1, 10, 10)
    narrow[0] = 0.1  # its mean in float32 is not quite 0.1
    narrow[1, 0, :8, :8] = 1e-9 * (1 + 2 * torch.rand(8, 8, generator=rng))  # diffusion in m^2 / s
    # Nearly equal, but sum and mean of these 64 are exact in float32.
    narrow[2, 0, :8, :8] = 1000 + torch.randint(0, 3, (8, 8), generator=rng) / 256
    yield (narrow,)


def _mask_pairs(rng: torch.Generator) -> Inputs:
    """Pairs of masks (N, ...), bool and uint8; the larger ones hold every kind of empty mask."""
    shapes = ((1, 2, 3), (3, 4), (1, 4, 4), (5, 5, 7), (5, 3, 4, 5), (2, 1, 8, 7, 9))
    for shape, dtype in zip(shapes, 3 * (torch.bool, torch.uint8), strict=True):
        truth = torch.rand(shape, generator=rng) < 0.4
        prediction = truth ^ (torch.rand(shape, generator=rng) < 0.3)
        truth.flatten(1)[:, 0] = True
        prediction.flatten(1)[:, :2] = True
        if shape[0] > 3:
            prediction[0] = truth[0]  # a perfect prediction
            prediction[1:3] = truth[1:3] = False  # nothing to find, nothing found
            truth[2].view(-1)[3] = True  # missed, and so small that smoothing shows
            truth[3] = False  # a false alarm
        if len(shape) == 5:
            prediction[0] = truth[0] = True  # an overlap that uint8 cannot count
        yield prediction.to(dtype), truth.to(dtype)


def _scores_and_labels(rng: torch.Generator) -> Inputs:
    """Scores without ties, then on a coarse grid with ties, then large logits without ties.

    In some sets the negatives score higher: an AUROC below 0.5 must not be turned into one above.
    """
    sizes = ((2, -4, 0), (7, 0.8, 0), (120, 0.8, 0), (9, 0.8, 2), (25, -0.8, 2), (40, 0.8, 4))
    for n, shift, grid in sizes:
        labels = (torch.rand(n, generator=rng) < 0.3).long()
        labels[:5] = torch.tensor([1, 0, 1, 0, 1])[:n]
        scores = torch.randn(n, generator=rng) + shift * labels
        if grid:
            scores = (grid * scores).round() / grid
            scores[:3] = scores[0]
        yield scores.double() if n % 2 else scores, labels
    far = torch.tensor([0.0, -150, -200, -300, 5])  # their softmax makes ties of all but two
    yield far, torch.tensor([1, 1, 0, 0, 0])
    near = 1 + 1e-9 * torch.randperm(12, generator=rng).double()  # the same in float32
    yield near, torch.tensor([0, 1, 1] * 4)
    labels = (torch.arange(120) % 3 == 0).long()
    yield 40 + 10 * (torch.randn(120, generator=rng) + labels), labels  # their sigmoid rounds to 1


def _image_sets(rng: torch.Generator) -> Inputs:
    """Copies at other positions, near-copies, shuffled and mixed pixels, and repeats.

    The values of training images are even, so that a changed pixel has a value that none has.
    """
    sizes = ((7, 9, 3, 4), (12, 8, 5, 3), (1, 1, 4, 4), (9, 11, 7, 5), (30, 30, 28, 28))
    for n, m, height, width in sizes:
        train = 2 * torch.randint(1, 128, (n, height, width), generator=rng, dtype=torch.uint8)
        test = torch.randint(0, 256, (m, height, width), generator=rng, dtype=torch.uint8)
        test[0] = train[0]  # a copy at the same position
        if m > 1:
            test[1:3] = train[[5, 3]]  # copies at others
            test[2, 1, 1] = train[3, 1, 1] ^ 1  # one pixel differs a little
            test[3] = train[4].flatten().flip(0).view(height, width)  # the same pixels, turned
            test[4] = train[2]
            # Another image; all its rows and columns sum alike.
            test[4, :2, :2] += torch.tensor([[1, -1], [-1, 1]])
            test[7] = torch.cat([train[0, :1], train[1, 1:]])  # put together from two of them
            test[5:7] = train[4] // 2  # half as bright, and a repeat within the test set
            train[6] = train[5]  # and one within the training set
            if n == m:  # so large that distances in float32 are not exact
                test[8:] = train[8:] ^ (torch.arange(height * width).view(height, width) == 9)
        yield train, test


EXERCISES = {
    "images.normalise": Setup(_volume_batches, tolerance=0.01),  # over n and over n - 1
    "images.iou_from_dice": Setup(tolerance=0.006),
    "images.dice": Setup(_mask_pairs),
    "images.empty_mask_scores": Setup(tolerance=0.006),
    "images.auroc": Setup(_scores_and_labels),
    "images.shared_images": Setup(_image_sets),
    "images.iou": Setup(_mask_pairs),
}
