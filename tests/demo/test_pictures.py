# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from demo.pictures import draw_picture
from demo.products import CATEGORIES
from demo.seeds import Stream, generator


def _pixels(category: str, seed: int, stream: Stream = Stream.DAY) -> np.ndarray:
    return np.asarray(draw_picture(category, (64, 48), generator(seed, stream, 0, 1)).image)


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_product_is_drawn_in_the_asked_size_and_stands_out(category):
    picture = draw_picture(category, (90, 120), generator(3, Stream.DAY, 0, 1))

    pixels, inside = np.asarray(picture.image, dtype=float), np.asarray(picture.outline) > 200
    assert pixels.shape == (120, 90, 3)
    assert 0.05 < inside.mean() < 0.9
    assert np.linalg.norm(pixels[inside].mean(axis=0) - pixels[~inside].mean(axis=0)) > 10


def test_the_generator_alone_decides_the_pixels():
    np.testing.assert_array_equal(_pixels("mug", seed=1), _pixels("mug", seed=1))
    assert not np.array_equal(_pixels("mug", seed=1), _pixels("mug", seed=2))


def test_no_stream_repeats_the_pictures_of_another():
    drawn = {_pixels("shoe", seed=1, stream=stream).tobytes() for stream in Stream}

    assert len(drawn) == len(Stream)


def test_colour_does_not_give_the_category_away():
    def mean_colour(category: str) -> np.ndarray:
        drawn = [draw_picture(category, (32, 32), generator(5, Stream.DAY, 0, index)).image for index in range(40)]
        return np.mean([np.asarray(image).mean(axis=(0, 1)) for image in drawn], axis=0)

    colours = np.array([mean_colour(category) for category in ("bag", "bottle", "watch")])

    # The same generators choose the same colours for every category; only the product's area differs.
    assert np.ptp(colours, axis=0).max() < 25
