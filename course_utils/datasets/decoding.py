"""JPEG and PNG files to one tensor."""

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import DataError, damaged


def decode_images(files: dict[str, bytes], size: tuple[int, int], mode: str = "RGB") -> Tensor:
    """Decode image files of one size, in the order given: JPEG or PNG, known by their first bytes.

    Args:
        files: the content of each file by its name.
        size: height and width in pixels.
        mode: "RGB" or "L" (grey).

    Returns:
        uint8 (N, 3, height, width) for "RGB", (N, 1, height, width) for "L". Grey values become
        three equal channels, a palette its colours, colours their luminance, black and white 0 and
        255.

    Raises:
        DataError: a file is neither JPEG nor PNG, is damaged, or has another size. The size is read
            from the header, before any pixel is unpacked. Nor does a file pass that would change on
            the way: more than 8 bits a value, 2 or 4, ink (CMYK), transparent pixels, and for "L" a
            palette, whose numbers may be labels or names of colours.
        ValueError: another `mode`.
    """
    from PIL import Image

    if mode not in ("RGB", "L"):
        raise ValueError(f"mode={mode!r}: expected 'RGB' (three channels) or 'L' (grey, one).")
    channels = 3 if mode == "RGB" else 1
    out = np.empty((len(files), channels, *size), dtype=np.uint8)

    def decode(row: np.ndarray, name: str, content: bytes) -> None:
        try:
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
                if (found := image.size[::-1]) != size:
                    said = "{} x {} pixels, expected {} x {}".format(*found, *size)
                    raise damaged(f"{name} has {said}")
                _keeps_its_values(name, image, mode)
                pixels = np.array(image.convert(mode))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
            raise damaged(f"{name} is not a readable image ({e})") from e
        row[:] = pixels.reshape(*size, channels).transpose(2, 0, 1)

    with ThreadPoolExecutor(4) as pool:  # decoding releases Python's lock
        list(pool.map(decode, out, files.keys(), files.values()))
    return torch.from_numpy(out)


def _keeps_its_values(name: str, image: Any, mode: str) -> None:
    """Refuse what a conversion to `mode` would clip, recolour or lay bare."""
    bands, stored = image.getbands(), str(image.tile)
    deep = image.mode.startswith(("I", "F")) or ";16" in stored  # before it is cut to 8
    shallow = image.mode == "L" and (";2" in stored or ";4" in stored)  # before 1 becomes 85, or 17
    palette = image.mode == "P" and mode == "L"
    clear = "transparency" in image.info or "A" in bands
    if clear and not (deep or palette):
        clear = image.convert("RGBA").getchannel("A").getextrema() != (255, 255)
    reasons = {
        "more than 8 bits a value. Scale it to 0 to 255 first": deep,
        "2 or 4 bits a value, as labels have. Save it with 8 bits, white as 255": shallow,
        "a palette. Read its numbers, if labels, by numpy.array(PIL.Image.open(...))": palette,
        "transparent pixels. Lay it on a background first": clear,
        "colours of ink (CMYK). Convert it to RGB first": "K" in bands,
    }
    for said, holds in reasons.items():
        if holds:
            raise DataError(f"{name} has {said}. Expected 8 bits, grey or RGB.")
