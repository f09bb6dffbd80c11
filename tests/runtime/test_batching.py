# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.runtime.batching import LENGTH_STEP, Batch, Rebatcher, TokenRows, cut_by_tokens


def rebatcher(size: int, buffers: int = 3) -> Rebatcher:
    """For a model of two inputs: pairs of numbers, and names."""
    return Rebatcher(size, {"pair": (2,), "name": ()}, {"pair": np.int64, "name": np.object_}, buffers)


def tensors(rows: Sequence[int]) -> dict[str, np.ndarray]:
    """Values by which a row is known again."""
    return {
        "pair": np.array([[row, -row] for row in rows], np.int64).reshape(-1, 2),
        "name": np.array([f"row {row}" for row in rows], object),
    }


def content(batch: Batch) -> list[tuple[int, list[int], str]]:
    """Row number and values of the real rows."""
    rows = len(batch.rows)
    pairs, names = batch.feeds["pair"][:rows].tolist(), batch.feeds["name"][:rows].tolist()
    return list(zip(batch.rows.tolist(), pairs, names, strict=True))


def expected(rows: Sequence[int]) -> list[tuple[int, list[int], str]]:
    return [(row, [row, -row], f"row {row}") for row in rows]


arrivals = st.lists(st.integers(0, 25), max_size=12)
sizes = st.integers(1, 9)


@given(arrivals, sizes)
def test_every_row_leaves_once_in_order_with_its_own_values(counts: list[int], size: int) -> None:
    batcher, left, first = rebatcher(size), [], 0
    for count in counts:
        for batch in batcher.add(tensors(range(first, first + count)), first):
            assert len(batch.rows) == size
            left += content(batch)
        first += count
    for batch in batcher.rest(constant_shape=True):
        assert {name: values.shape for name, values in batch.feeds.items()} == {"pair": (size, 2), "name": (size,)}
        left += content(batch)

    assert left == expected(range(first))
    assert list(batcher.rest(constant_shape=True)) == []


@given(st.lists(st.booleans() | st.integers(0, 12), max_size=20), sizes)
def test_single_rows_and_tensors_may_be_mixed(steps: list[bool | int], size: int) -> None:
    """True is a row, False one that turns out to be broken once it is half written, a number is a tensor of rows."""
    batcher = Rebatcher(size, {"pair": (2,)}, {"pair": np.int64}, 3)
    left, good, row = [], [], 0

    def take(batch: Batch) -> None:
        left.extend(zip(batch.rows.tolist(), batch.feeds["pair"].tolist(), strict=False))

    for step in steps:
        count = 1 if isinstance(step, bool) else step
        if not isinstance(step, bool):
            for batch in batcher.add({"pair": tensors(range(row, row + count))["pair"]}, row):
                take(batch)
        else:
            batcher.place("pair")[...] = (row, -row)
            for batch in batcher.placed(row) if step else ():
                take(batch)
        good += range(row, row + count) if step is not False else []
        row += count
    for batch in batcher.rest(constant_shape=True):
        take(batch)

    assert left == [(row, [row, -row]) for row in good]


@given(st.integers(0, 8), st.integers(0, 40), sizes)
def test_whole_batches_inside_one_tensor_are_views_of_it(held: int, rows: int, size: int) -> None:
    batcher = rebatcher(size)
    for _ in batcher.add(tensors(range(held)), 0):
        pass
    tensor = tensors(range(held, held + rows))
    views = [np.shares_memory(batch.feeds["pair"], tensor["pair"]) for batch in batcher.add(tensor, held)]

    first_is_across = held % size > 0
    assert views == [not (first_is_across and number == 0) for number in range((held % size + rows) // size)]


@pytest.mark.parametrize("buffers", [1, 2, 3, 5])
def test_as_many_batches_as_there_are_buffers_keep_their_content(buffers: int) -> None:
    batcher, alive = rebatcher(4, buffers), []
    for row in range(0, 60, 3):  # three rows at a time never fill a batch of four inside one tensor
        for batch in batcher.add(tensors(range(row, row + 3)), row):
            alive = [*alive[-(buffers - 1) :], batch] if buffers > 1 else [batch]
            for each in alive:
                assert content(each) == expected(each.rows.tolist())


def test_the_tail_is_short_where_shapes_may_change() -> None:
    batcher = rebatcher(4)
    list(batcher.add(tensors(range(6)), 0))
    (batch,) = batcher.rest(constant_shape=False)

    assert content(batch) == expected([4, 5])
    assert {len(values) for values in batch.feeds.values()} == {2}


def test_the_tail_is_padded_where_shapes_must_not_change() -> None:
    batcher = rebatcher(4)
    list(batcher.add(tensors(range(1)), 0))
    (batch,) = batcher.rest(constant_shape=True)

    assert batch.rows.tolist() == [0]
    assert batch.feeds["pair"].tolist() == [[0, 0]] * 4
    assert batch.feeds["name"].tolist() == ["row 0", "", "", ""]


def test_tensors_without_rows_give_nothing() -> None:
    batcher = rebatcher(2)

    assert list(batcher.add(tensors(()), 0)) == []
    assert list(batcher.rest(constant_shape=True)) == []


lengths = st.lists(st.integers(1, 70), max_size=60)


@given(lengths, st.integers(1, 600))
def test_every_row_is_in_one_group_within_the_budget(given_lengths: list[int], budget: int) -> None:
    found = list(cut_by_tokens(np.array(given_lengths, np.int64), budget, 70))

    assert sorted(place for chosen, _ in found for place in chosen) == list(range(len(given_lengths)))
    for chosen, width in found:
        assert len(chosen) == 1 or len(chosen) * width <= budget
        longest = max(given_lengths[place] for place in chosen)
        assert longest <= width < longest + LENGTH_STEP
        assert width % LENGTH_STEP == 0 or width == 70


@given(lengths, st.integers(1, 600))
def test_a_group_ends_only_where_one_more_row_would_pass_the_budget(given_lengths: list[int], budget: int) -> None:
    found = list(cut_by_tokens(np.array(given_lengths, np.int64), budget, 72))

    for (chosen, _), (following, _) in pairwise(found):
        width = -(-given_lengths[following[0]] // LENGTH_STEP) * LENGTH_STEP
        assert (len(chosen) + 1) * width > budget


def test_rows_of_one_length_need_no_padding() -> None:
    ((chosen, width),) = cut_by_tokens(np.full(5, 16, np.int64), 80, 512)

    assert (sorted(chosen.tolist()), width) == ([0, 1, 2, 3, 4], 16)


token_lists = st.lists(st.lists(st.integers(1, 30_000), min_size=1, max_size=20), min_size=1, max_size=12)


def token_rows(rows: Sequence[Sequence[int]], first: int = 0) -> TokenRows:
    counts = np.array([len(row) for row in rows], np.int64)
    return TokenRows(
        np.array([token for row in rows for token in row], np.int64),
        np.cumsum([0, *counts[:-1]]).astype(np.int64),
        counts,
        np.arange(first, first + len(rows)),
    )


@given(token_lists, st.integers(0, 5), st.integers(0, 9), st.randoms())
def test_padding_is_what_plain_python_would_make(rows: list[list[int]], more: int, pad_id: int, random: object) -> None:
    chosen = np.array(random.sample(range(len(rows)), random.randint(1, len(rows))))  # type: ignore[attr-defined]
    width = max(len(rows[place]) for place in chosen) + more
    ids, real = token_rows(rows).padded(chosen, width, pad_id)

    assert ids.tolist() == [rows[place] + [pad_id] * (width - len(rows[place])) for place in chosen]
    assert real.tolist() == [[number < len(rows[place]) for number in range(width)] for place in chosen]
    assert ids.dtype == np.int64


@given(st.lists(token_lists, min_size=1, max_size=5))
@settings(max_examples=50)
def test_joined_rows_are_those_of_all_parts(parts: list[list[list[int]]]) -> None:
    every = [row for part in parts for row in part]
    firsts = np.cumsum([0, *(len(part) for part in parts)])
    joined = TokenRows.joined([token_rows(part, int(first)) for part, first in zip(parts, firsts, strict=False)])
    ids, _ = joined.padded(np.arange(len(every)), 20, 0)

    assert joined.rows.tolist() == list(range(len(every)))
    assert ids.tolist() == token_rows(every).padded(np.arange(len(every)), 20, 0)[0].tolist()
