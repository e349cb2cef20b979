"""Batched augmentation on the device, by Kornia. Each image of a batch draws its own change.

Measured on two CPU cores on 128 images of 28 px (rotation, shift, scale, flip, brightness,
contrast): Kornia 3.6 ms for the batch, torchvision v2 image by image 57 ms.
"""

from collections.abc import Callable, Sequence
from functools import cache, wraps

import torch
from torch import Tensor


def _within(low: float, high: float, expected: str) -> Callable:
    """For a change of images whose values have to lie about there.

    Checked at each call on the CPU. On a GPU that would make it wait: `training.fit` calls `check`
    once, on all images.
    """

    def check(x: Tensor) -> None:
        if x.is_floating_point() and x.numel():
            least, most = (value.item() for value in x.aminmax())
            if least < low or most > high:
                raise ValueError(
                    f"The images go from {least:.4g} to {most:.4g}. Expected {expected}."
                )

    def decorate(change: Callable) -> Callable:
        @wraps(change)
        def checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            if x.device.type == "cpu":
                check(x)
            return change(x, y)

        checked.check = check  # type: ignore[attr-defined]
        return checked

    return decorate


# Half a unit of leeway: interpolation overshoots.
_UNIT = _within(-0.5, 1.5, "values in [0, 1]: divide values of 0 to 255 by 255")
_NORMAL = _within(-50, 50, "mean 0 and standard deviation 1: subtract the mean and divide")


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
    if y.ndim != 3:
        raise ValueError(
            f"The masks have shape {tuple(y.shape)}. Expected (N, H, W), for instance y[:, 0]."
        )
    with torch.autocast(x.device.type, enabled=False):  # grid sampling wants full precision
        images, masks = how(x, y[:, None].to(x.dtype))
    return images, masks[:, 0].to(y.dtype)


@_NORMAL
def mri(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change MRI slices and their masks: pose, size, contrast, noise.

    Args:
        x: (N, C, H, W), normalised to mean 0 and deviation 1.
        y: (N, H, W) labels; moved with the image, by the nearest pixel.

    Raises:
        ValueError: values beyond 50, for which 0.1 of noise would be nothing; other shapes.
    """
    gain = 1 + 0.2 * (2 * torch.rand(len(x), 1, 1, 1, device=x.device) - 1)
    shift = 0.2 * (2 * torch.rand(len(x), 1, 1, 1, device=x.device) - 1)
    return _both(_mri(), x * gain + shift, y)


@_UNIT
def skin(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change photographs of skin and their masks: side, pose, distance, light and colour.

    Args:
        x: (N, 3, H, W) in [0, 1].
        y: (N, H, W) masks; moved with the image, by the nearest pixel.

    Raises:
        ValueError: values below -0.5 or above 1.5, which would be clipped; other shapes.
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


@_UNIT
def smears(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change blood smears and their boxes: side, place, distance, stain; half the batches mosaic.

    Args:
        x: (N, 3, H, W) in [0, 1].
        y: (N, room, 5), rows (class, x1, y1, x2, y2) in pixels, class -1 for no box.

    Returns:
        Images of the same shape, and boxes (N, room or 4 room, 5). A box of which less than 40% is
        left in the image is dropped.

    Raises:
        ValueError: images as for `skin`; boxes of another shape, or (looked at on the CPU alone)
            given as shares of the image.
    """
    if y.ndim != 3 or y.shape[2] != 5 or len(y) != len(x):
        raise ValueError(
            f"The boxes have shape {tuple(y.shape)}. Expected ({len(x)}, room, 5), rows (class, "
            "x1, y1, x2, y2), class -1 for no box."
        )
    if y.device.type == "cpu":
        rows = y[y[:, :, 0] >= 0][:, 1:]
        if len(rows) and float(rows.abs().amax()) <= 1:
            raise ValueError(
                "All boxes lie within the first pixel, as shares of the image do. Expected pixels: "
                "multiply x by the width and y by the height."
            )
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

    Args, returns: as `smears`; 4 room rows. An image of one row or column of pixels keeps it.
    """
    height, width = x.shape[2:]
    cut_y, cut_x = (max(int(n * (0.3 + 0.4 * torch.rand(()))), 1) for n in (height, width))
    corners = [(0, 0), (cut_x, 0), (0, cut_y), (cut_x, cut_y)]
    image, rows = torch.empty_like(x), list[Tensor]()
    for left, top in corners:
        right, bottom = width if left else cut_x, height if top else cut_y
        pick = torch.randperm if rows else torch.arange
        other = pick(len(x), device=x.device)
        image[:, :, top:bottom, left:right] = x[other, :, top:bottom, left:right]
        rows.append(visible(y[other], left, top, right, bottom))
    return image, torch.cat(rows, 1)


def visible(y: Tensor, left: int, top: int, right: int, bottom: int, least: float = 0.4) -> Tensor:
    """Boxes cut to a window; those of which less than `least` of the area is left get class -1."""
    x1, x2 = (y[:, :, column].clamp(left, right) for column in (1, 3))
    y1, y2 = (y[:, :, column].clamp(top, bottom) for column in (2, 4))
    cut = torch.stack([x1, y1, x2, y2], 2)
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
        # Exposure as a curve: brightness that is added would clip a bright chest to white. These
        # powers leave the mean brightness of all images as it is.
        K.RandomGamma((0.4, 1.6), p=1.0),
        data_keys=["input"],
    )


@_UNIT
def xray(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Change chest X-rays as patients and machines do: pose, side, exposure. Labels stay.

    Args:
        x: (N, 1, H, W) in [0, 1].
        y: (N,) labels, returned unchanged.

    Raises:
        ValueError: values below -0.5 or above 1.5, which would be clipped.
    """
    with torch.autocast(x.device.type, enabled=False):  # grid sampling wants full precision
        return _xray()(x), y
