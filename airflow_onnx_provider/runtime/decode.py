"""Encoded picture bytes to a fixed-size RGB tensor."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from airflow_onnx_provider.exceptions import RowError
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

MAX_PIXELS = 100_000_000
"""Largest picture that is decoded, in pixels; a larger header is treated as a decompression bomb."""

# Pillow's plugins are asked in this order; naming them keeps exotic parsers (EPS runs Ghostscript) out of reach.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")


def decode_image(data: bytes, preprocessing: ImagePreprocessing) -> NDArray[np.uint8]:
    """Decode, turn upright by EXIF, convert to RGB and resize one picture.

    Transparent pixels are laid on white, as a shop page would show them. Filter: Pillow's antialiased bilinear.

    :param data: one encoded picture
    :return: ``uint8 [height, width, 3]``
    :raises RowError: ``empty_file``, ``not_an_image``, ``too_many_pixels`` or ``broken_image``
    """
    if not data:
        raise RowError("decode", "empty_file", "the file has no bytes")
    try:
        with warnings.catch_warnings():
            # Pillow warns where it would still decode; our own pixel limit below decides instead.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise RowError("decode", "not_an_image", f"no known picture format in {len(data)} bytes") from error
    except Image.DecompressionBombError as error:
        raise RowError("decode", "too_many_pixels", str(error)) from error
    except Exception as error:  # a damaged header: each plugin has its own exceptions
        raise RowError("decode", "broken_image", f"{type(error).__name__}: {error}") from error
    if image.width * image.height > MAX_PIXELS:
        raise RowError(
            "decode", "too_many_pixels", f"{image.width} x {image.height} exceeds the limit of {MAX_PIXELS} pixels"
        )
    try:
        size = (preprocessing.width, preprocessing.height)
        upright = ImageOps.exif_transpose(image)
        rgb = _to_rgb(upright)
        if preprocessing.resize == "crop":
            resized = ImageOps.fit(rgb, size, Image.Resampling.BILINEAR)
        else:
            resized = rgb.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(resized, dtype=np.uint8)
    except Exception as error:  # truncated data surfaces as OSError, SyntaxError, struct.error, ... by format
        raise RowError("decode", "broken_image", f"{type(error).__name__}: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit samples at 255 on conversion; keep the upper eight bits instead.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
