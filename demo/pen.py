# SPDX-License-Identifier: Apache-2.0
"""A pen that draws filled shapes of a product in the product's own coordinates.

Product coordinates run from -1 to 1 on both axes, x to the right and y down; the placement turns, tilts and scales
them onto the layer. Shapes are arrays `[n, 2]` of float64, and colours are 8-bit RGB.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
Colour = tuple[int, int, int]

OVERSAMPLING = 2
"""Pillow draws hard edges: the layer is this many times larger than the canvas, then averaged down."""


@dataclass(frozen=True)
class Palette:
    """The colours of one product."""

    base: Colour
    accent: Colour

    @property
    def dark(self) -> Colour:
        return shade(self.base, 0.62)

    @property
    def light(self) -> Colour:
        return mix(self.base, (255, 255, 255), 0.45)


@dataclass(frozen=True)
class Placement:
    """Where a product lies: `linear` [2, 2] and `centre` [2] take product coordinates to canvas pixels."""

    linear: NDArray[np.float64]
    centre: NDArray[np.float64]

    @property
    def scale(self) -> float:
        """Pixels per unit of product coordinates, averaged over directions."""
        return float(np.sqrt(abs(np.linalg.det(self.linear))))


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (below 1) or brighter (above 1)."""
    red, green, blue = (min(255, int(part * factor)) for part in colour)
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` (0..1) of `second` in it."""
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def shape(*corners: tuple[float, float]) -> Points:
    """A polygon from its corners."""
    return np.array(corners, dtype=np.float64)


def box(x: float, y: float, width: float, height: float) -> Points:
    """A rectangle around the centre (x, y)."""
    right, low = width / 2, height / 2
    return shape((x - right, y - low), (x + right, y - low), (x + right, y + low), (x - right, y + low))


def arc(x: float, y: float, across: float, down: float, span: tuple[float, float] = (0.0, 360.0)) -> Points:
    """Points on an ellipse around (x, y) with half-axes `across` and `down`.

    :param span: first and last angle in degrees, clockwise from the right.
    """
    angles = np.radians(np.linspace(*span, 40))
    return np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], axis=1)


def smooth(*corners: tuple[float, float]) -> Points:
    """A closed round curve through the corners (Catmull-Rom, eight points a corner)."""
    here = shape(*corners)
    before, after, later = (np.roll(here, shift, axis=0) for shift in (1, -1, -2))
    steps = np.linspace(0.0, 1.0, 8, endpoint=False)[None, :, None]
    a, b, c, d = (points[:, None, :] for points in (before, here, after, later))
    curve = 0.5 * (
        2 * b + (c - a) * steps + (2 * a - 5 * b + 4 * c - d) * steps**2 + (3 * b - a - 3 * c + d) * steps**3
    )
    return np.asarray(curve.reshape(-1, 2), dtype=np.float64)


class Pen:
    """Draws one product onto a transparent layer.

    :param size: width and height of the canvas, in pixels.
    """

    def __init__(self, size: tuple[int, int], placement: Placement, palette: Palette) -> None:
        self.palette = palette
        self._linear = placement.linear * OVERSAMPLING
        self._centre = placement.centre * OVERSAMPLING
        self._scale = placement.scale * OVERSAMPLING
        self._layer = Image.new("RGBA", (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING), (*palette.base, 0))
        self._draw = ImageDraw.Draw(self._layer)

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon [n, 2]."""
        self._draw.polygon(self._pixels(points), fill=(*colour, 255))

    def stroke(self, points: Points, width: float, colour: Colour) -> None:
        """Draw an open line [n, 2] of the given width, with round joints."""
        thickness = max(1, round(width * self._scale))
        self._draw.line(self._pixels(points), fill=(*colour, 255), width=thickness, joint="curve")

    def layer(self) -> Image.Image:
        """What has been drawn: RGBA in the canvas' size, with soft edges."""
        # Band by band, because unpainted pixels have the base colour: Pillow's weighing by alpha would only cost time.
        return Image.merge("RGBA", [band.reduce(OVERSAMPLING) for band in self._layer.split()])

    def _pixels(self, points: Points) -> list[float]:
        flat: list[float] = (points @ self._linear.T + self._centre).ravel().tolist()
        return flat
