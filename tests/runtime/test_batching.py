from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.runtime.batching import BatchBuffer


def test_rows_are_copied_in_until_the_buffer_is_full() -> None:
    buffer = BatchBuffer(2, (3,), np.uint8)

    buffer.add("a", np.array([1, 2, 3], dtype=np.uint8))
    assert (buffer.rows, buffer.full) == (1, False)
    buffer.add("b", np.array([4, 5, 6], dtype=np.uint8))

    assert buffer.full
    assert buffer.tensor.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert buffer.take_keys() == ["a", "b"]
    assert (buffer.rows, buffer.full) == (0, False)


def test_a_full_buffer_takes_no_more() -> None:
    buffer = BatchBuffer(1, (), np.uint8)
    buffer.add("a", np.uint8(1))

    with pytest.raises(IndexError):
        buffer.add("b", np.uint8(2))
    assert buffer.take_keys() == ["a"]


def test_a_row_of_the_wrong_shape_leaves_no_key_behind() -> None:
    buffer = BatchBuffer(2, (3,), np.uint8)

    with pytest.raises(ValueError, match="broadcast"):
        buffer.add("a", np.zeros(2, dtype=np.uint8))
    assert buffer.rows == 0


@given(st.lists(st.integers(0, 255), max_size=40), st.integers(1, 8))
def test_every_row_leaves_once_in_order_and_the_shape_never_changes(rows: list[int], size: int) -> None:
    buffer = BatchBuffer(size, (2,), np.uint8)
    left: list[tuple[str, int]] = []

    def drain() -> None:
        assert buffer.tensor.shape == (size, 2)
        values = buffer.tensor[: buffer.rows, 0].tolist()
        left.extend(zip(buffer.take_keys(), values, strict=True))

    for number, value in enumerate(rows):
        buffer.add(str(number), np.full(2, value, dtype=np.uint8))
        if buffer.full:
            drain()
    drain()

    assert left == [(str(number), value) for number, value in enumerate(rows)]
