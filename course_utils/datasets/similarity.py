"""Images that stand in a data set more than once: the same file, or the same thing seen again."""

import torch
from scipy.fft import dctn
from torch import Tensor
from torch.nn import functional as F


def duplicates(a: Tensor, b: Tensor | None = None) -> list[tuple[int, int]]:
    """Pairs (i, j) of pixel-identical images: a[i] equals b[j]. Without `b`: i < j inside `a`.

    In a group of n equal images every pair is listed, n (n - 1) / 2 in all.
    """
    if b is None:
        return sorted((i, j) for i, j in duplicates(a, a) if i < j)
    first: dict[bytes, list[int]] = {}
    for i, image in enumerate(a):
        first.setdefault(image.numpy().tobytes(), []).append(i)
    return [(i, j) for j, image in enumerate(b) for i in first.get(image.numpy().tobytes(), [])]


def perceptual_hash(images: Tensor) -> Tensor:
    """63 yes-or-no features of an image's coarse pattern, alike for alike images.

    The image in grey, 32 x 32, is split into cosine waves; each of the 63 slowest, without the
    mean, counts as yes where its coefficient is above their median. Two photographs of one thing
    differ in few features and two unrelated images in about half, but two round spots on
    plain skin are alike as well: look at what it finds.

    Args:
        images: (N, C, H, W), any type.

    Returns:
        bool (N, 63). The distance of two images is `(a != b).sum()`.
    """
    small = [F.adaptive_avg_pool2d(part.float().mean(1), 32) for part in images.split(32)]
    waves = torch.from_numpy(dctn(torch.cat(small).numpy(), axes=(1, 2), norm="ortho"))
    slow = waves[:, :8, :8].flatten(1)[:, 1:]
    return slow > slow.median(dim=1, keepdim=True).values


def copied_masks(features: Tensor, masks: Tensor, group: Tensor) -> dict[str, int | str]:
    """What it is worth to have met the same scan or lesion before, to a model that only copies.

    For each case the mask of the most similar other case is its answer: first of any other, then
    of those of other groups only. Cases alone in their group are copied from, but not scored.

    Args:
        features: (N, F), by whose Euclidean distance similarity is judged.
        masks: (N, ...), bool or 0 and 1, all of one shape.
        group: (N,), equal for cases of one scan or lesion (partners).

    Returns:
        The number of scored cases and of their groups; the mean Dice with the leak and without;
        the gain, mean over the groups, with its 95% interval.
    """
    from course_utils import metrics

    distance = torch.cdist(features, features)
    partner = group[:, None] == group  # a case is its own partner, too
    scored = partner.sum(1) > 1
    dice = []
    for barred in (torch.eye(len(group), dtype=torch.bool), partner):
        nearest = distance.masked_fill(barred, torch.inf).argmin(1)
        dice.append(metrics.dice(masks[nearest[scored]], masks[scored]))
    gain, group = dice[0] - dice[1], group[scored]
    gain = torch.stack([gain[group == g].mean() for g in group.unique()])  # partners are alike
    half = 1.96 * gain.std() / len(gain) ** 0.5
    return {
        "cases": len(group),
        "groups": len(gain),
        "Dice with the leak": f"{dice[0].mean():.3f}",
        "Dice without": f"{dice[1].mean():.3f}",
        "gain": f"{gain.mean():+.3f} ± {half:.3f}",
    }
