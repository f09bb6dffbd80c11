# SPDX-License-Identifier: Apache-2.0
"""A batch of pictures, planned first and then drawn: the plan alone decides every byte, however many workers draw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo.encodings import JPEG_MODES, Breakage, Encoding, broken, encode, encode_jpeg
from demo.pictures import draw_picture
from demo.products import CATEGORIES
from demo.seeds import Stream, generator

ENCODINGS = {
    Encoding.JPEG: 0.64,
    Encoding.JPEG_GREY: 0.04,
    Encoding.JPEG_CMYK: 0.02,
    Encoding.PNG: 0.07,
    Encoding.PNG_ALPHA: 0.05,
    Encoding.PNG_PALETTE: 0.03,
    Encoding.WEBP: 0.15,
}
"""The share of each encoding among the sound files of a batch."""

ORIENTED = 0.25
"""The share of JPEGs that carry an EXIF orientation; the eight values take turns."""

SHORTEST, LONGEST = 200, 1200
"""Bounds of a picture's longest side in pixels."""

SHAPES = ((1, 1), (1, 1), (4, 3), (3, 4), (3, 2), (2, 3), (5, 4), (4, 5))
"""Width to height."""


@dataclass(frozen=True)
class Batch:
    """What makes a batch unique; see `demo.seeds`."""

    seed: int
    stream: Stream
    number: int

    def generator(self, index: int) -> np.random.Generator:
        return generator(self.seed, self.stream, self.number, index)


@dataclass(frozen=True)
class Order:
    """One file to draw.

    :ivar index: its place in the batch from 1; 0 is the plan's own generator.
    :ivar size: width and height of the upright picture in pixels.
    :ivar orientation: EXIF orientation 1..8; None for a file without one.
    :ivar breakage: what to break; None for a sound file.
    """

    batch: Batch
    index: int
    file: str
    category: str
    size: tuple[int, int]
    encoding: Encoding
    orientation: int | None
    breakage: Breakage | None

    def data(self) -> bytes:
        """Draw the picture and give the file's bytes."""
        rng = self.batch.generator(self.index)
        picture = draw_picture(self.category, self.size, rng)
        if self.breakage is not None:
            return broken(picture, self.breakage, rng)
        if self.encoding in JPEG_MODES:
            return encode_jpeg(picture, self.encoding, self.orientation, rng)
        return encode(picture, self.encoding, rng)


def plan(batch: Batch, pictures: int, broken_pictures: int) -> list[Order]:
    """Decide on every file of a batch of `pictures` files, `broken_pictures` of which are broken."""
    if pictures < 1 or not 0 <= broken_pictures <= pictures:
        raise ValueError(f"a batch of {pictures} pictures, {broken_pictures} of them broken, cannot be drawn")
    rng = batch.generator(0)
    sound = pictures - broken_pictures
    kinds = tuple(Breakage)
    breakages: list[Breakage | None] = [None] * sound
    breakages += [kinds[place % len(kinds)] for place in range(broken_pictures)]
    encodings = _shared_out(ENCODINGS, sound)
    orientations = _orientations(encodings, rng) + [None] * broken_pictures
    # What a broken file would have been does not matter: its breakage decides its bytes and its name.
    encodings += [Encoding.JPEG] * broken_pictures

    likelihood = rng.normal(1.0, 0.04, len(CATEGORIES)).clip(0.5)
    categories = rng.choice(CATEGORIES, pictures, p=likelihood / likelihood.sum())
    places = rng.permutation(pictures)
    return [
        Order(
            batch=batch,
            index=index,
            file=f"p-{index:06d}.{_extension(encodings[place], breakages[place], rng)}",
            category=str(categories[place]),
            size=_size(rng),
            encoding=encodings[place],
            orientation=orientations[place],
            breakage=breakages[place],
        )
        for index, place in enumerate(places, start=1)
    ]


def _shared_out(shares: dict[Encoding, float], count: int) -> list[Encoding]:
    """`count` encodings in the given shares, rounded so that they add up."""
    ends = np.rint(np.cumsum(list(shares.values())) * count).astype(int)
    return [encoding for encoding, size in zip(shares, np.diff(ends, prepend=0), strict=True) for _ in range(size)]


def _orientations(encodings: Sequence[Encoding], rng: np.random.Generator) -> list[int | None]:
    """An orientation for a share of the JPEGs, none for everything else."""
    jpegs = rng.permutation([place for place, encoding in enumerate(encodings) if encoding in JPEG_MODES])
    chosen: list[int | None] = [None] * len(encodings)
    for turn, place in enumerate(jpegs[: round(len(jpegs) * ORIENTED)]):
        chosen[place] = turn % 8 + 1
    return chosen


def _extension(encoding: Encoding, breakage: Breakage | None, rng: np.random.Generator) -> str:
    extension = encoding.extension if breakage is None else breakage.extension
    return extension.upper() if rng.random() < 0.12 else extension


def _size(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height: any longest side within the bounds, small ones far more often."""
    longest = round(SHORTEST + (LONGEST - SHORTEST) * rng.beta(1.1, 4.0))
    width, height = SHAPES[int(rng.integers(len(SHAPES)))]
    return round(longest * width / max(width, height)), round(longest * height / max(width, height))
