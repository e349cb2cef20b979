"""Maps of a model, and scores of a map against a known truth. Taught in chapters 04 and 06.

A map that lights up on the lesion proves little: a map that lights up in the centre of every image
does so too. So each score stands beside that of a centre prior and of an untrained network.

Of no image there are no maps and no scores: they have shape (0, ...) and (0,).
"""

import math
from contextlib import ExitStack
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn

from course_utils.metrics import bootstrap, expect_tensors, wilson
from course_utils.training import predict


def attention_maps(
    model: nn.Module, x: Tensor, kind: type[nn.Module], batch_size: int = 256
) -> dict[str, Tensor]:
    """What each attention module of a kind weighs the features with, for a batch of images.

    The maps come through hooks: nothing is stored on the modules.

    Args:
        model: called with floats (B, C, ...); its mode is restored afterwards.
        x: (N, C, ...); uint8 stands for x / 255.
        kind: the class of the modules, which have a method `weights`.
        batch_size: images at a time.

    Returns:
        Name of the module in the model to its maps, on the CPU: (N, 1, H, W) of `SpatialAttention`
        and `AttentionGate`, (N, C, 1, 1) of `SqueezeExcitation`.

    Raises:
        ValueError: the model holds no module of that kind, does not call one, or calls one twice.
    """
    modules = {name: m for name, m in model.named_modules() if isinstance(m, kind)}
    if not modules:
        kinds = sorted({type(m).__name__ for m in model.modules()})
        raise ValueError(f"The model holds no {kind.__name__}. Its modules: {', '.join(kinds)}.")
    found: dict[str, list[Tensor]] = {name: [] for name in modules}

    def keep(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found[name].append(module.weights(*inputs).float().cpu())  # type: ignore[operator]

    with ExitStack() as hooks:  # at its end they are removed
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_hook(partial(keep, name)))
        predict(model, x, batch_size)
    batches = len(x.split(batch_size))  # of no image at all a single, empty one
    for name, parts in found.items():
        if len(parts) != batches:
            often = "more than once" if parts else "not"
            raise ValueError(f"The module {name} is {often} called for a batch: no single map.")
    return {name: torch.cat(parts) for name, parts in found.items()}


def at_size(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps (N, 1, h, w) or (N, h, w) interpolated to an image's size: (N, height, width).

    Raises:
        ValueError: the maps have another form, for instance one for each channel.
    """
    maps = maps[:, None] if maps.ndim == 3 else maps
    if maps.ndim != 4 or maps.shape[1] != 1:
        raise ValueError(
            f"Maps are {tuple(maps.shape)}. Expected (N, 1, h, w) or (N, h, w), one map per image."
        )
    return nn.functional.interpolate(maps.float(), (height, width), mode="bilinear")[:, 0]


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether the highest pixel of each map lies in the mask.

    Zhang et al. 2016, Excitation backprop, https://arxiv.org/abs/1608.00507, without their margin.

    Args:
        maps: (N, H, W), finite.
        masks: (N, H, W) of 0 and 1.

    Returns:
        (N,): 1 for a hit, 0 for a miss. Where several pixels are equally high, the share of them
        in the mask, which is what a random one of them would hit. NaN where the mask is empty.

    Raises:
        ValueError: the shapes differ, a map is not finite, or a mask holds other values.
    """
    _same_shape(maps, masks)
    highest = maps == maps.amax((1, 2), keepdim=True)  # (N, H, W)
    inside = masks.bool()
    hits = (highest & inside).sum((1, 2)).double() / highest.sum((1, 2))
    return torch.where(inside.any(2).any(1), hits, math.nan)


def energy_share(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of a map's sum that lies in the mask (energy-based pointing game).

    Wang et al. 2020, Score-CAM, https://arxiv.org/abs/1910.01279, equation 9.

    Args:
        maps: (N, H, W), finite and not negative.
        masks: (N, H, W) of 0 and 1.

    Returns:
        (N,) in [0, 1]. NaN where the mask is empty, or the map is zero everywhere.

    Raises:
        ValueError: as `pointing_game`, or a map has negative values.
    """
    _same_shape(maps, masks)
    if bool((maps < 0).any()):
        raise ValueError("A map has negative values. Expected weights of 0 or above.")
    maps, inside = maps.double(), masks.bool()
    share = (maps * inside).sum((1, 2)) / maps.sum((1, 2))
    return torch.where(inside.any(2).any(1), share, math.nan)


def enrichment(maps: Tensor, masks: Tensor) -> Tensor:
    """Energy in the mask by the mask's share of the area; 1 is what a uniform map has.

    The energy alone means little: a mask of half the image holds half of any uniform map. The
    scale of a map does not count, but a constant added to it moves the score towards 1. So compare
    the enrichments of different kinds of map with care.

    Args, raises: as `energy_share`.

    Returns:
        (N,), 0 or above, at most 1 / (the mask's share of the area); NaN as in `energy_share`.
    """
    return energy_share(maps, masks) / masks.bool().double().mean((1, 2))


def centre_prior(height: int, width: int, spread: float = 0.25) -> Tensor:
    """A map that knows nothing but the centre: a Gaussian bump, (height, width), 1 at its top.

    Photographers and radiographers put what matters into the middle, so this is the map to beat.

    Args:
        spread: standard deviation as a share of each side.
    """
    y = (torch.arange(height) + 0.5) / height - 0.5
    x = (torch.arange(width) + 0.5) / width - 0.5
    bump = torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * spread**2))
    return bump / bump.max()


def scores(maps: dict[str, Tensor], masks: Tensor) -> pd.DataFrame:
    """Pointing game and enrichment of several maps on the same cases, with 95% intervals.

    The intervals are over cases: Wilson's for the pointing game, a share, and a bootstrap (1000
    resamples) for the enrichment. Cases with an empty mask are left out: no map can be right on
    them.

    Args:
        maps: name to (N, H, W), or (H, W) for a map that is the same for every case.
        masks: (N, H, W) of 0 and 1.

    Returns:
        A `pandas.DataFrame` of texts, a row per name, with the columns "pointing game" and
        "enrichment" (mean and interval) and "cases".

    Raises:
        ValueError: as `energy_share`, or every mask is empty.
    """
    inside = masks.bool().any(2).any(1)
    if not bool(inside.any()):
        raise ValueError("There is nothing to score: every mask is empty.")
    rows: dict[str, dict[str, str | int]] = {}
    for name, found in maps.items():
        if found.shape[-2:] != masks.shape[1:] or found.shape[:-2] not in ((), (len(masks),)):
            raise ValueError(
                f"The map {name!r} has shape {tuple(found.shape)}. Expected {tuple(masks.shape)}, "
                f"or {tuple(masks.shape[1:])} for a map that is the same for every case."
            )
        scored = found.expand(masks.shape)[inside], masks[inside]
        hits, gains = pointing_game(*scored), enrichment(*scored)
        low, high = wilson(hits)
        rows[name] = {"pointing game": f"{hits.mean():.2f} ({low:.2f} to {high:.2f})"}
        low, high = bootstrap(torch.nanmean, gains)
        rows[name]["enrichment"] = f"{gains.nanmean():.2f} ({low:.2f} to {high:.2f})"
        rows[name]["cases"] = len(hits)
    return pd.DataFrame.from_dict(rows, orient="index")


def _same_shape(maps: Tensor, masks: Tensor) -> None:
    expect_tensors("maps and masks", maps, masks)
    if maps.ndim != 3 or maps.shape != masks.shape or 0 in maps.shape[1:]:
        raise ValueError(
            f"Maps have shape {tuple(maps.shape)} and masks {tuple(masks.shape)}. Expected "
            "(N, H, W) for both: bring maps to the size of the image with at_size."
        )
    if not bool(torch.isfinite(maps).all()):
        raise ValueError("A map is not finite. Expected a number at each pixel.")
    if not bool(((masks == 0) | (masks == 1)).all()):
        raise ValueError("A mask holds values other than 0 and 1. Threshold it first.")
