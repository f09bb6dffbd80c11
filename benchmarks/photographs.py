# SPDX-License-Identifier: Apache-2.0
"""Pictures that decode and compress like photographs, drawn from seeds.

A few large scenes of noise at all scales, light and shapes are drawn once; every photograph is another part of one of
them, with its own mirror, light and grain.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

SCENES = 12
QUALITY = 88
OCTAVES = 7
MAX_DRAWN = 2000


def photograph(number: int, size: tuple[int, int]) -> bytes:
    """JPEG bytes of one photograph; the same number and size always give the same picture."""
    rng = np.random.default_rng((number, *size))
    width, height = size
    scene = _scene(int(rng.integers(SCENES)), (width * 5 // 4, height * 5 // 4))
    share = rng.uniform(0.45, 1.0) if width < 1000 else 0.8  # a large one is cut out, not enlarged
    part = (round(scene.width * share), round(scene.height * share))
    left, top = (int(rng.integers(whole - cut + 1)) for whole, cut in zip(scene.size, part, strict=True))
    image = scene.crop((left, top, left + part[0], top + part[1]))
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    image = ImageOps.mirror(image) if rng.random() < 0.5 else image
    image = image.point(_light(rng))
    image = _grained(image, rng)
    target = io.BytesIO()
    image.save(target, "JPEG", quality=QUALITY)
    return target.getvalue()


@cache
def _scene(number: int, whole: tuple[int, int]) -> Image.Image:
    """A scene; large ones are drawn at half their size or less, since the grain gives them their finest detail."""
    rng = np.random.default_rng((number, 1, *whole))
    shrink = -(-whole[0] // MAX_DRAWN)
    size = (whole[0] // shrink, whole[1] // shrink)
    layers = [_noise(size, rng) for _ in range(3)]
    image = Image.merge("RGB", layers)
    light = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    image = Image.blend(image, light, 0.45)
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        _shape(draw, size, rng)
    return image.filter(ImageFilter.GaussianBlur(size[0] / 1500)).resize(whole, Image.Resampling.BILINEAR)


def _noise(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """1/f noise: each octave has twice the detail and half the strength of the one before."""
    total = np.zeros((size[1], size[0]), np.float32)
    for octave in range(OCTAVES):
        cells = 3 * 2**octave
        coarse = rng.normal(0, 60 / 1.7**octave, (cells * 3 // 4 + 1, cells)).astype(np.float32)
        total += np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    return Image.fromarray((total + 128).clip(0, 255).astype(np.uint8))


def _shape(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
    wide, high = (size[0] * float(part) for part in rng.uniform(0.02, 0.2, 2))
    red, green, blue = (int(part) for part in rng.integers(0, 256, 3))
    figure = draw.ellipse if rng.random() < 0.5 else draw.rectangle
    figure((x, y, x + wide, y + high), fill=(red, green, blue))


def _light(rng: np.random.Generator) -> list[int]:
    """Brightness and contrast of each channel, as a table of 3 x 256 values."""
    table: list[int] = []
    for _ in range(3):
        gain, lift = rng.uniform(0.7, 1.25), rng.uniform(-25, 25)
        table.extend(int(min(255, max(0, (level - 128) * gain + 128 + lift))) for level in range(256))
    return table


def _grained(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Add a sensor's grain, which is what most of a photograph's bytes hold."""
    pixels = np.asarray(image).astype(np.int16)
    rows, columns = pixels.shape[:2]
    down, right = (int(shift) for shift in rng.integers(0, 64, 2))
    grain = _grain(rows + 64, columns + 64)[down : down + rows, right : right + columns, np.newaxis]
    return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))


@cache
def _grain(rows: int, columns: int) -> NDArray[np.int16]:
    return np.random.default_rng(0).normal(0, 5, (rows, columns)).round().astype(np.int16)
