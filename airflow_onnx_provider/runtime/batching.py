"""Batches of constant shape, rebuilt across Arrow batches, in one buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class BatchBuffer:
    """One preallocated batch that rows are written into.

    ONNX Runtime's arena keeps the largest shape it has seen, so every batch has the same shape: a tail is padded
    with what the slots held before, and the answers of the padding are cut off.

    :param size: rows of a batch
    :param shape: shape of one row
    :param dtype: element type
    """

    def __init__(self, size: int, shape: tuple[int, ...], dtype: Any) -> None:
        self._tensor: NDArray[Any] = np.zeros((size, *shape), dtype=dtype)
        self._keys: list[str] = []

    @property
    def full(self) -> bool:
        return len(self._keys) == len(self._tensor)

    @property
    def rows(self) -> int:
        """Rows waiting to be scored."""
        return len(self._keys)

    @property
    def tensor(self) -> NDArray[Any]:
        """The whole buffer, padding included: ``[size, *shape]``."""
        return self._tensor

    def add(self, key: str, row: NDArray[Any]) -> None:
        """Copy one row in.

        :raises IndexError: if the buffer is full
        """
        self._tensor[len(self._keys)] = row
        self._keys.append(key)

    def take_keys(self) -> list[str]:
        """The keys of the waiting rows in their order; the buffer is empty afterwards."""
        keys, self._keys = self._keys, []
        return keys
