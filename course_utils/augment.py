"""Batched augmentation on the device, by Kornia. Each image of a batch draws its own change.

Measured on two CPU cores on 128 images of 28 px (rotation, shift, scale, flip, brightness,
contrast): Kornia 3.6 ms for the batch, torchvision v2 image by image 57 ms.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


def _moved(flips: Sequence, degrees: float, shift: float, scale: tuple[float, float], *more):
    """Flips and one affine map of images and masks alike, then what changes images alone."""
    import kornia.augmentation as K
    from kornia.constants import DataKey, Resample

    return K.AugmentationSequential(
        *flips,
        K.RandomAffine(degrees, (shift, shift), scale, p=1.0, padding_mode="border"),
        *more,
        data_keys=["input", "mask"],
        extra_args={DataKey.MASK: {"resample": Resample.NEAREST, "align_corners": None}},
    )


@cache
def _mri():
    import kornia.augmentation as K

    return _moved((), 15, 0.08, (0.85, 1.18), K.RandomGaussianNoise(std=0.1, p=0.5))


@cache
def _skin():
    import kornia.augmentation as K

    flips = K.RandomHorizontalFlip(), K.RandomVerticalFlip()
    return _moved(flips, 180, 0.1, (0.75, 1.3), K.ColorJiggle(0.2, 0.2, 0.2, 0.03, p=1.0))


def _both(how, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast(x.device.type, enabled=False):  # grid sampling wants full precision
        images, masks = how(x, y[:, None].to(x.dtype))
    return images, masks[:, 0].to(y.dtype)


def mri(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change MRI slices and their masks: pose, size, contrast, noise.

    Args:
        x: (N, C, H, W), normalised to mean 0 and deviation 1.
        y: (N, H, W) labels; moved with the image, by the nearest pixel.
    """
    gain = 1 + 0.2 * (2 * torch.rand(len(x), 1, 1, 1, device=x.device) - 1)
    shift = 0.2 * (2 * torch.rand(len(x), 1, 1, 1, device=x.device) - 1)
    return _both(_mri(), x * gain + shift, y)


def skin(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change photographs of skin and their masks: side, pose, distance, light and colour.

    Args:
        x: (N, 3, H, W) in [0, 1].
        y: (N, H, W) masks; moved with the image, by the nearest pixel.
    """
    return _both(_skin(), x, y)


@cache
def _smear():
    import kornia.augmentation as K

    return K.AugmentationSequential(
        K.RandomAffine(0, (0.1, 0.1), (0.8, 1.25), p=1.0, padding_mode="border"),
        K.ColorJiggle(0.2, 0.2, 0.2, 0.02, p=1.0),
        data_keys=["input", "bbox_xyxy"],
    )


def smears(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change blood smears and their boxes: side, place, distance, stain; half the batches mosaic.

    Args:
        x: (N, 3, H, W) in [0, 1].
        y: (N, room, 5), rows (class, x1, y1, x2, y2) in pixels, class -1 for no box.

    Returns:
        Images of the same shape, and boxes (N, room or 4 room, 5). A box of which less than 40% is
        left in the image is dropped.
    """
    height, width = x.shape[2:]
    x, y = flipped(x, y, 3, width)
    x, y = flipped(x, y, 2, height)
    with torch.autocast(x.device.type, enabled=False):
        x, corners = _smear()(x, y[:, :, 1:])
    y = torch.cat([y[:, :, :1], corners], 2)
    if bool(torch.rand(()) < 0.5):
        return mosaic(x, y)
    return x, visible(y, 0, 0, width, height)


def flipped(x: Tensor, y: Tensor, axis: int, size: int) -> tuple[Tensor, Tensor]:
    """Half of the images and their boxes mirrored along an axis. Kornia's boxes are a pixel off."""
    chosen = torch.rand(len(x), device=x.device) < 0.5
    low, high = (1, 3) if axis == 3 else (2, 4)  # columns of the box
    mirrored = y.clone()
    mirrored[:, :, low], mirrored[:, :, high] = size - y[:, :, high], size - y[:, :, low]
    return (
        torch.where(chosen.view(-1, 1, 1, 1), x.flip(axis), x),
        torch.where(chosen.view(-1, 1, 1), mirrored, y),
    )


def mosaic(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each image keeps one corner of itself and takes the other three from other images.

    After YOLOv4 (Bochkovskiy et al. 2020, https://arxiv.org/abs/2004.10934), without its resizing:
    the cells keep their size.

    Args, returns: as `smears`; 4 room rows.
    """
    height, width = x.shape[2:]
    cut_y, cut_x = (int(n * (0.3 + 0.4 * torch.rand(()))) for n in (height, width))
    corners = [(0, 0), (cut_x, 0), (0, cut_y), (cut_x, cut_y)]
    image, rows = torch.empty_like(x), list[Tensor]()
    for left, top in corners:
        right, bottom = width if left else cut_x, height if top else cut_y
        other = torch.randperm(len(x), device=x.device) if rows else torch.arange(len(x))
        image[:, :, top:bottom, left:right] = x[other, :, top:bottom, left:right]
        rows.append(visible(y[other], left, top, right, bottom))
    return image, torch.cat(rows, 1)


def visible(y: Tensor, left: int, top: int, right: int, bottom: int, least: float = 0.4) -> Tensor:
    """Boxes cut to a window; those of which less than `least` of the area is left get class -1."""
    low, high = torch.tensor([left, top]).to(y), torch.tensor([right, bottom]).to(y)
    cut = torch.cat([y[:, :, 1:3].clamp(low, high), y[:, :, 3:].clamp(low, high)], 2)
    size = cut[:, :, 2:] - cut[:, :, :2]
    area = size.prod(2)
    whole = (y[:, :, 3:] - y[:, :, 1:3]).prod(2)
    # Both sides, not the area: that of a box inverted twice is positive again.
    kept = (y[:, :, 0] >= 0) & (area >= least * whole) & (size > 0).all(2)
    return torch.cat([torch.where(kept, y[:, :, 0], -1)[:, :, None], cut], 2)


@cache
def _xray():
    import kornia.augmentation as K

    return K.AugmentationSequential(
        # Black corners would be a mark that no validation image bears: repeat the border instead.
        K.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), p=1.0, padding_mode="border"),
        K.RandomHorizontalFlip(),
        K.RandomBrightness((0.7, 1.3), p=1.0),
        K.RandomContrast((0.7, 1.3), p=1.0),
        data_keys=["input"],
    )


def xray(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change chest X-rays as patients and machines do: pose, side, exposure. Labels stay.

    Args:
        x: (N, 1, H, W) in [0, 1].
        y: (N,) labels, returned unchanged.
    """
    with torch.autocast(x.device.type, enabled=False):  # grid sampling wants full precision
        return _xray()(x), y
