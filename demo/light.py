# SPDX-License-Identifier: Apache-2.0
"""The camera and its light: what turns clean drawings into pictures as shops get them."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.float32]


def expose(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """An RGB picture as a camera would deliver it: uneven light, exposure, colour cast, blur and noise."""
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3.0)))
    pixels = np.asarray(image, dtype=np.float32)
    height, width = pixels.shape[:2]
    gain = _uneven_light(height, width, rng)[:, :, None] * rng.normal(1.0, 0.05, 3).astype(np.float32)
    contrast = np.float32(rng.uniform(0.7, 1.15))
    pixels = (pixels * gain - 128) * contrast + np.float32(128 + rng.normal(0, 14))
    if rng.random() < 0.6:
        spread = np.float32(rng.uniform(2, 16))
        pixels += spread * rng.standard_normal((height, width, 1), dtype=np.float32)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _uneven_light(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Brightness factors [height, width]: a slope across the picture and dark corners (a vignette)."""
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    across, down = rng.normal(0, 0.14, 2).astype(np.float32)
    corners = np.float32(max(0.0, rng.normal(0.05, 0.15)))
    return np.asarray(1 + across * columns + down * rows - corners * (rows**2 + columns**2), dtype=np.float32)
