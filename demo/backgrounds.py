# SPDX-License-Identifier: Apache-2.0
"""What lies behind a product: plain, shaded, textured, a table by a wall, or other things lying about.

Every function gives an RGB image of `size` (width, height in pixels) around one main colour.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from demo.pen import Colour, mix, shade

Size = tuple[int, int]


def background(size: Size, colour: Colour, rng: np.random.Generator) -> Image.Image:
    """One of the backgrounds; plain and shaded ones, as in a studio, are the most frequent."""
    kinds = (plain, gradient, texture, table, clutter)
    kind = kinds[int(rng.choice(len(kinds), p=(0.3, 0.25, 0.15, 0.15, 0.15)))]
    return kind(size, colour, rng)


def plain(size: Size, colour: Colour, rng: np.random.Generator) -> Image.Image:
    """One colour, hardly varied."""
    return Image.new("RGB", size, shade(colour, rng.uniform(0.94, 1.06)))


def gradient(size: Size, colour: Colour, rng: np.random.Generator) -> Image.Image:
    """Four corner colours blended over the picture."""
    corners = Image.new("RGB", (2, 2))
    corners.putdata([shade(colour, rng.uniform(0.55, 1.3)) for _ in range(4)])
    return corners.resize(size, Image.Resampling.BILINEAR)


def texture(size: Size, colour: Colour, rng: np.random.Generator) -> Image.Image:
    """Cloth, wood or stone: coarse and fine random grains, sometimes stretched along one axis."""
    columns, rows = (int(count) for count in rng.integers(3, 40, 2))
    strength = rng.uniform(10, 45)
    grain = rng.normal(128, strength, (rows, columns)).clip(0, 255).astype(np.uint8)
    coarse = Image.fromarray(grain).resize(size, Image.Resampling.BILINEAR)
    lighter, darker = Image.new("RGB", size, shade(colour, 1.35)), Image.new("RGB", size, shade(colour, 0.55))
    return Image.composite(lighter, darker, coarse)


def table(size: Size, colour: Colour, rng: np.random.Generator) -> Image.Image:
    """A wall above and a table or floor below."""
    image = gradient(size, colour, rng)
    ground = shade(_random_colour(rng), 0.9)
    horizon = int(size[1] * rng.uniform(0.45, 0.85))
    image.paste(gradient((size[0], size[1] - horizon), ground, rng), (0, horizon))
    return image


def clutter(size: Size, colour: Colour, rng: np.random.Generator) -> Image.Image:
    """Blocks, discs and sticks in any colour, in and out of focus."""
    image = gradient(size, colour, rng)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 14))):
        scrap(draw, size, mix(colour, _random_colour(rng), rng.uniform(0.3, 0.9)), rng)
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(1, 6)))
    return image


def scrap(draw: ImageDraw.ImageDraw, size: Size, colour: Colour, rng: np.random.Generator) -> None:
    """Draw one meaningless thing of 5 to 30 % of the picture's width, anywhere."""
    x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
    wide, high = (size[0] * float(part) for part in rng.uniform(0.05, 0.3, 2))
    kind = rng.integers(3)
    if kind == 0:
        draw.ellipse((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), fill=colour)
    elif kind == 1:
        draw.line((x, y, x + wide * rng.choice((-1, 1)), y + high), fill=colour, width=int(rng.integers(3, 14)))
    else:
        lean = rng.uniform(-0.4, 0.4) * wide
        draw.polygon((x, y, x + wide, y + lean, x + wide - lean, y + high, x - lean, y + high - lean), fill=colour)


def _random_colour(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(part) for part in rng.integers(20, 245, 3))
    return red, green, blue
