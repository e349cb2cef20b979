"""JPEG and PNG files to one tensor."""

import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from .errors import DataError


def decode_images(files: Mapping[str, bytes], size: tuple[int, int], mode: str = "RGB") -> Tensor:
    """Decode image files of one size, in the order given.

    Args:
        files: the content of each file by its name.
        size: height and width in pixels.
        mode: "RGB" or "L" (grey).

    Returns:
        uint8 (N, 3, height, width) for "RGB", (N, 1, height, width) for "L".

    Raises:
        DataError: a file is not an image or has another size.
    """
    from PIL import Image

    channels = 3 if mode == "RGB" else 1
    out = np.empty((len(files), channels, *size), dtype=np.uint8)

    def decode(item: tuple[int, tuple[str, bytes]]) -> None:
        i, (name, content) = item
        try:
            with Image.open(io.BytesIO(content)) as image:
                pixels = np.array(image.convert(mode))
        except (OSError, SyntaxError, ValueError) as e:
            raise DataError(
                f"{name} is not a readable image ({e}). Delete the data set's archive "
                "and load the set again."
            ) from e
        if pixels.shape[:2] != size:
            raise DataError(
                f"{name} has {pixels.shape[0]} x {pixels.shape[1]} pixels, expected "
                f"{size[0]} x {size[1]}. Delete the data set's archive and load the set again."
            )
        out[i] = pixels.reshape(*size, channels).transpose(2, 0, 1)

    with ThreadPoolExecutor(4) as pool:  # decoding releases Python's lock
        for _ in pool.map(decode, enumerate(files.items())):
            pass
    return torch.from_numpy(out)
