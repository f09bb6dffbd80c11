# SPDX-License-Identifier: Apache-2.0
"""Draws one product picture. The same category, size and generator state always give the same pixels."""

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from demo.backgrounds import background, scrap
from demo.light import expose
from demo.pen import Colour, Palette, Pen, Placement, shade
from demo.products import PRODUCTS

CANVAS = 256
"""Longest side, in pixels, on which pictures are drawn before they are scaled to their size: keeps them cheap."""

LEAST_CONTRAST = 140.0
"""Least distance in RGB between a product and its background; below it people could not tell either."""


@dataclass(frozen=True)
class Picture:
    """A finished picture.

    :ivar image: RGB.
    :ivar outline: the product's share of each pixel, 8-bit grey, in the image's size.
    """

    image: Image.Image
    outline: Image.Image


def draw_picture(category: str, size: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Draw a product of the category.

    :param category: one of `demo.products.CATEGORIES`.
    :param size: width and height of the result in pixels.
    """
    canvas = _canvas(size)
    behind = _backdrop(rng)
    palette = _palette(behind, rng)
    pen = Pen(canvas, _placement(canvas, rng), palette)
    PRODUCTS[category](pen, rng)
    product = _surface(pen.layer(), rng)
    outline = product.getchannel("A")

    scene = background(canvas, behind, rng)
    _cast_shadow(scene, outline, rng)
    scene.paste(product, mask=outline)
    if rng.random() < 0.15:
        _occlude(scene, rng)
    image = expose(scene, rng)
    return Picture(image.resize(size, Image.Resampling.BICUBIC), outline.resize(size, Image.Resampling.BILINEAR))


def _canvas(size: tuple[int, int]) -> tuple[int, int]:
    """The drawing size with the same shape as `size` and a longest side of CANVAS pixels."""
    factor = CANVAS / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _colour(rng: np.random.Generator) -> Colour:
    """Any colour: about a third of them greys, black or white."""
    saturation = 0.04 if rng.random() < 0.3 else rng.uniform(0.2, 0.95)
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.15, 1.0))
    return int(red * 255), int(green * 255), int(blue * 255)


def _backdrop(rng: np.random.Generator) -> Colour:
    """The main colour behind a product: often the near-white of a studio, else any."""
    if rng.random() < 0.4:
        return shade((255, 254, 250), rng.uniform(0.85, 1.0))
    return _colour(rng)


def _palette(behind: Colour, rng: np.random.Generator) -> Palette:
    """Product colours that stand out from the background."""
    base = _colour(rng)
    while np.linalg.norm(np.subtract(base, behind)) < LEAST_CONTRAST:
        base = _colour(rng)
    return Palette(base=base, accent=_colour(rng))


def _placement(canvas: tuple[int, int], rng: np.random.Generator) -> Placement:
    """Size, turn, mirror image, stretch, slant and position; a product may stick out of the picture."""
    turn = np.radians(rng.normal(0, 8))
    turning = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    slant = np.array([[1.0, rng.normal(0, 0.08)], [rng.normal(0, 0.06), 1.0]])
    stretch = np.diag([rng.choice((-1.0, 1.0)) * rng.uniform(0.88, 1.12), rng.uniform(0.9, 1.1)])
    scale = min(canvas) / 2 * rng.uniform(0.78, 1.05)
    centre = np.array(canvas) / 2 + rng.normal(0, 0.035, 2) * np.array(canvas)
    return Placement(linear=scale * turning @ slant @ stretch, centre=centre)


def _surface(layer: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The product's RGBA layer with light falling from one side and, on some, a woven or printed pattern."""
    pixels = np.asarray(layer, dtype=np.float32).copy()
    rows = np.linspace(-1, 1, pixels.shape[0], dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, pixels.shape[1], dtype=np.float32)[None, :]
    across, down = rng.normal(0, 0.2, 2).astype(np.float32)
    light = np.float32(1.0) + across * columns + down * rows
    if rng.random() < 0.2:
        along, over = rng.uniform(-70, 70, 2).astype(np.float32)
        light = light + np.float32(rng.uniform(0.08, 0.25)) * np.sin(along * columns + over * rows)
    pixels[:, :, :3] *= light[:, :, None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGBA")


def _cast_shadow(scene: Image.Image, outline: Image.Image, rng: np.random.Generator) -> None:
    """Darken the scene beside the product, softly; the light's direction and strength vary."""
    strength = rng.uniform(-0.3, 0.6)
    if strength <= 0:
        return
    width, height = scene.size
    # A shadow is soft: a quarter of the resolution is enough and sixteen times cheaper to blur.
    small = outline.resize((max(1, width // 4), max(1, height // 4)), Image.Resampling.BILINEAR)
    soft = small.filter(ImageFilter.GaussianBlur(rng.uniform(1, 4))).point([int(v * strength) for v in range(256)])
    shadow = Image.new("L", scene.size)
    offset = (int(rng.normal(0, 0.05) * width), int(rng.uniform(0.0, 0.08) * height))
    shadow.paste(soft.resize(scene.size, Image.Resampling.BILINEAR), offset)
    scene.paste((0, 0, 0), (0, 0, width, height), mask=shadow)


def _occlude(scene: Image.Image, rng: np.random.Generator) -> None:
    """Lay one to three things over the picture, wherever they fall."""
    draw = ImageDraw.Draw(scene)
    for _ in range(int(rng.integers(1, 4))):
        scrap(draw, scene.size, _colour(rng), rng)
