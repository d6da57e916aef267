"""Reads an image from a file, a PIL image, an array or a tensor as upright RGB, or says why it cannot (`read_image`)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError


def read_image(source: Any) -> Image.Image:
    """Return an upright 8-bit RGB image from a PIL image, a path, or an array (row, col, 3), (row, col, 4) or (row, col).

    The EXIF rotation is applied, 16-bit greys are scaled to 8 bits, transparency is composited on white, CMYK is converted.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty, truncated or not an image; the array has another shape or range; the image has no pixels.
        TypeError: the source has another type.
    """
    if isinstance(source, (str, Path)):
        source = _open(Path(source))
    elif isinstance(source, torch.Tensor):
        source = _from_array(source.detach().cpu().numpy())
    elif isinstance(source, np.ndarray):
        source = _from_array(source)
    if not isinstance(source, Image.Image):
        raise TypeError(
            f"images: expected a PIL image, a path or an array (row, col, 3) for each image, got {type(source).__name__}"
        )
    if 0 in source.size:
        raise ValueError(f"the image has no pixels: {source.size[0]} × {source.size[1]}")
    return _rgb(ImageOps.exif_transpose(source))


def _open(path: Path) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes), so it contains no image")
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy() if not image.getexif() else ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image that Pillow can read") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as an image; it may be truncated: {error}") from error


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(
            f"an image array must have shape (row, col), (row, col, 3) or (row, col, 4), got {array.shape}"
        )
    if array.dtype != np.uint8:
        low, high = float(array.min(initial=0)), float(array.max(initial=0))
        if not (low >= 0 and high <= 255 and np.issubdtype(array.dtype, np.number)):  # also true of NaN
            raise ValueError(
                f"the values of an image array must be in 0..255, or in 0..1 as floats; got {array.dtype} from {low:g} to {high:g}"
            )
        scale = 255 if np.issubdtype(array.dtype, np.floating) and high <= 1 else 1
        array = np.round(array * scale).astype(np.uint8)
    return Image.fromarray(array.squeeze(2) if array.ndim == 3 and array.shape[2] == 1 else array)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        full = _full_scale(image.mode, float(values.max(initial=0)))
        image = Image.fromarray(np.clip(values / full * 255, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return image.convert("RGB")


def _full_scale(mode: str, largest: float) -> float:
    """Return the value of white. 32-bit modes do not define it, so this is the smallest usual scale that covers the values."""
    if mode.startswith("I;16"):
        return 65535.0
    scales = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
    return next((s for s in scales if largest <= s), max(largest, 1.0))
