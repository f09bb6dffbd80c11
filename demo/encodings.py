# SPDX-License-Identifier: Apache-2.0
"""The files a shop gets: sound ones in several formats, and broken ones."""

import io
from enum import Enum
from typing import Any

import numpy as np
from PIL import Image

from demo.pictures import Picture


class Encoding(Enum):
    """How a sound picture is stored: the file name's extension in lower case, and which kind of such files."""

    def __init__(self, extension: str, _variant: str) -> None:
        self.extension = extension

    JPEG = "jpg", "colour"
    JPEG_GREY = "jpg", "grey"
    JPEG_CMYK = "jpeg", "cmyk"
    PNG = "png", "colour"
    PNG_ALPHA = "png", "alpha"
    PNG_PALETTE = "png", "palette"
    WEBP = "webp", "colour"


class Breakage(Enum):
    """How a file is broken: its extension in lower case, and what is wrong with it."""

    TRUNCATED_JPEG = "jpg", "ends too early"
    EMPTY = "jpg", "has no bytes"
    TEXT = "jpg", "is an error page that was saved under a picture's name"
    TRUNCATED_PNG = "png", "ends too early too"

    def __init__(self, extension: str, _reason: str) -> None:
        self.extension = extension


JPEG_MODES = {Encoding.JPEG: "RGB", Encoding.JPEG_GREY: "L", Encoding.JPEG_CMYK: "CMYK"}

UPRIGHT = 1
ORIENTATION_TAG = 0x0112
STORED_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How pixels are stored under each EXIF orientation, so that applying the tag gives the upright picture again."""

ERROR_PAGE = b"<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"


def encode_jpeg(picture: Picture, encoding: Encoding, orientation: int | None, rng: np.random.Generator) -> bytes:
    """A JPEG of varying quality, colour resolution and scan order.

    :param orientation: the EXIF orientation 1..8 to store the pixels under, or None for a file without the tag.
    """
    image = picture.image.convert(JPEG_MODES[encoding])
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION_TAG] = orientation
        if orientation != UPRIGHT:
            image = image.transpose(STORED_TURNS[orientation])
    quality = int(np.clip(rng.normal(82, 9), 40, 97))
    subsampling = int(rng.choice((0, 1, 2), p=(0.15, 0.15, 0.7)))
    # Progressive files are the smaller part in shops; they also take several times as long to write.
    progressive = bool(rng.random() < 0.1)
    return _saved(image, format="JPEG", quality=quality, subsampling=subsampling, progressive=progressive, exif=exif)


def encode(picture: Picture, encoding: Encoding, rng: np.random.Generator) -> bytes:
    """A PNG or WebP. The transparent PNG has the background cut away, down to black, as image editors export it."""
    match encoding:
        case Encoding.PNG:
            return _saved(picture.image, format="PNG", compress_level=1)
        case Encoding.PNG_ALPHA:
            cut = Image.new("RGB", picture.image.size)
            cut.paste(picture.image, mask=picture.outline.point(lambda share: 255 * (share > 0)))
            cut.putalpha(picture.outline)
            return _saved(cut, format="PNG", compress_level=1)
        case Encoding.PNG_PALETTE:
            colours = int(rng.integers(64, 257))
            return _saved(picture.image.quantize(colours, Image.Quantize.FASTOCTREE), format="PNG", compress_level=1)
        case Encoding.WEBP:
            return _saved(picture.image, format="WEBP", quality=int(rng.integers(65, 93)), method=1)
        case _:
            raise ValueError(f"{encoding} is a JPEG: use encode_jpeg")


def broken(picture: Picture, breakage: Breakage, rng: np.random.Generator) -> bytes:
    """The bytes of a file that no decoder can turn into the whole picture."""
    match breakage:
        case Breakage.TRUNCATED_JPEG:
            return _cut(encode_jpeg(picture, Encoding.JPEG, None, rng), rng)
        case Breakage.TRUNCATED_PNG:
            return _cut(encode(picture, Encoding.PNG, rng), rng)
        case Breakage.TEXT:
            return ERROR_PAGE
        case Breakage.EMPTY:
            return b""


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The first 2 to 85 % of a file: less would be hard to tell from text, more might lack nothing that is seen."""
    return data[: int(len(data) * rng.uniform(0.02, 0.85))]


def _saved(image: Image.Image, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **settings)
    return buffer.getvalue()
