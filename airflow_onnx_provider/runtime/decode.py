# SPDX-License-Identifier: Apache-2.0
"""Encoded picture bytes to a fixed-size RGB tensor."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from airflow_onnx_provider.exceptions import RowError
from airflow_onnx_provider.runtime.dicom import decode_dicom, is_dicom
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing, Resize
from airflow_onnx_provider.runtime.profile import Decoder

MAX_PIXELS = 100_000_000
"""Largest picture that is decoded, in pixels; a larger header is treated as a decompression bomb."""

# Pillow's plugins are asked in this order; naming them keeps exotic parsers (EPS runs Ghostscript) out of reach.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")

# Pillow warns where it would still decode; our own limit decides. Set once, as a filter per call is not thread-safe.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode_image(
    data: bytes | memoryview, preprocessing: ImagePreprocessing, decoder: Decoder = "full"
) -> NDArray[np.uint8]:
    """Decode, turn upright by EXIF, convert to RGB and resize one picture.

    Transparent pixels are laid on white, as a shop page would show them. Of an animation or of several pages the first
    picture counts. Filter: Pillow's antialiased bilinear. DICOM files need pydicom, the extra ``dicom``.

    :param data: one encoded picture
    :param decoder: ``scaled`` is faster for large JPEGs, see :data:`Decoder`
    :return: ``uint8 [height, width, 3]``
    :raises RowError: its reason is ``empty_file``: no bytes; ``not_an_image``: no known format; ``too_many_pixels``:
        the header claims more than :data:`MAX_PIXELS`; ``broken_image``: truncated, damaged, or of a kind that the
        format's decoder does not support
    :raises BadInputError: for a DICOM file without pydicom
    """
    data = bytes(data)  # no copy of what is bytes already
    if not data:
        raise RowError("decode", "empty_file", "the file has no bytes")
    image = decode_dicom(data, MAX_PIXELS) if is_dicom(data) else _open(data)
    size = (preprocessing.width, preprocessing.height)
    try:
        if decoder == "scaled" and isinstance(image, JpegImageFile) and image.mode in ("RGB", "L"):
            return np.asarray(_shrink(image, size, preprocessing.resize))
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(_fit(_to_rgb(image), size, preprocessing.resize))
    except Exception as error:  # truncated data surfaces as OSError, SyntaxError, struct.error, ... by format
        raise RowError("decode", "broken_image", f"{type(error).__name__}: {error}") from error


def _open(data: bytes) -> Image.Image:
    """Read the header alone and judge it."""
    try:
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
    return image


def _shrink(image: JpegImageFile, size: tuple[int, int], resize: Resize) -> Image.Image:
    """Decode at a fraction of the size, fit, and turn upright last: then only a small picture is turned."""
    if image.getexif().get(ExifTags.Base.Orientation) in range(5, 9):  # lies on its side
        size = size[::-1]
    drafted = image.draft(None, (2 * size[0], 2 * size[1]))
    # The box ends inside the last pixels where the size is no multiple of the fraction.
    small = _fit(_to_rgb(image), size, resize, drafted and drafted[1])
    ImageOps.exif_transpose(small, in_place=True)
    return small


def _fit(
    image: Image.Image, size: tuple[int, int], resize: Resize, box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """Resize the part of a picture that the box gives (default: all of it), or for ``crop`` the centre of that part."""
    left, top, right, bottom = box or (0, 0, *image.size)
    if resize == "crop":
        ratio = size[0] / size[1]
        across = max(0.0, right - left - ratio * (bottom - top)) / 2
        down = max(0.0, bottom - top - (right - left) / ratio) / 2
        left, top, right, bottom = left + across, top + down, right - across, bottom - down
    return image.resize(size, Image.Resampling.BILINEAR, (left, top, right, bottom))


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
