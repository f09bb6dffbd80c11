# SPDX-License-Identifier: Apache-2.0
"""Random streams that can never overlap: one per purpose, batch and picture."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a batch of pictures is drawn for. The value is part of every random key: never renumber."""

    DAY = 1
    TRAINING = 2
    HELD_OUT = 3


def generator(seed: int, stream: Stream, batch: int, index: int) -> np.random.Generator:
    """The generator of picture `index` of a batch; the same four numbers always give the same pictures.

    Keys all have the same length, so no batch can run into another's numbers.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, batch, index)))
