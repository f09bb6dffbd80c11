# SPDX-License-Identifier: Apache-2.0
"""A day is cut into shares that differ by little, whatever it consists of."""

from __future__ import annotations

from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.runtime.parquet import Piece
from airflow_onnx_provider.spark.shares import ROW_BYTES, SNAP, Share, cut_files, cut_row_groups

MB = 1 << 20


def group(number: int, rows: int, size: int, path: str = "day.parquet") -> Piece:
    return Piece(path, number, 0, 0, rows, size)


def weight(share: Share) -> int:
    return share.bytes + share.rows * ROW_BYTES


def test_ten_thousand_small_files_come_in_even_runs() -> None:
    cuts = cut_files([10_000 + number % 7 for number in range(10_000)], 6)

    assert [stop - start for start, stop in cuts] == [1667, 1667, 1667, 1666, 1667, 1666]


def test_a_large_picture_has_fewer_beside_it() -> None:
    cuts = cut_files([50 * MB] + [100_000] * 500, 3)

    assert cuts[0] == (0, 1)


def test_one_file_of_two_gigabytes_in_one_row_group_is_divided() -> None:
    shares = cut_row_groups([group(0, 20_000, 2048 * MB)], 6)

    assert [share.rows for share in shares] == [3333, 3334, 3333, 3333, 3334, 3333]
    assert [piece.skip for share in shares for piece in share.pieces] == [0, 3333, 6667, 10000, 13333, 16667]


def test_row_groups_are_left_whole_where_they_make_even_shares() -> None:
    shares = cut_row_groups([group(number, 100, 8 * MB) for number in range(12)], 4)

    assert [[piece.group for piece in share.pieces] for share in shares] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9, 10, 11],
    ]


def test_rows_with_addresses_count_by_their_number() -> None:
    """Their bytes are few; the pictures behind them are the work."""
    shares = cut_row_groups([group(0, 9_000, 50_000), group(1, 1_000, 50_000)], 10)

    assert max(share.rows for share in shares) <= 1.2 * median(share.rows for share in shares)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=300), st.integers(1, 50))
def test_every_file_is_in_one_run_and_no_run_is_empty(sizes: list[int], parts: int) -> None:
    cuts = cut_files(sizes, parts)

    assert [number for start, stop in cuts for number in range(start, stop)] == list(range(len(sizes)))
    assert all(start < stop for start, stop in cuts)
    assert len(cuts) == min(parts, len(sizes))


groups = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 10**8)), min_size=1, max_size=40).map(
    lambda found: [group(number, rows, size if rows else 0) for number, (rows, size) in enumerate(found)]
)


@given(groups, st.integers(1, 40))
def test_every_row_is_in_one_share_in_its_order(found: list[Piece], parts: int) -> None:
    shares = cut_row_groups(found, parts)

    pieces = [piece for share in shares for piece in share.pieces]
    rows = [(piece.group, row) for piece in pieces for row in range(piece.skip, piece.skip + piece.rows)]
    assert rows == [(one.group, row) for one in found for row in range(one.rows)]
    assert all(share.rows for share in shares)


@given(groups, st.integers(1, 40))
def test_no_share_is_larger_than_an_even_one_by_more_than_a_row(found: list[Piece], parts: int) -> None:
    shares = cut_row_groups(found, parts)

    even = sum(map(weight, shares)) / parts
    largest_row = max((one.bytes / one.rows + ROW_BYTES for one in found if one.rows), default=0)
    assert all(weight(share) <= (1 + 2 * SNAP) * even + 2 * largest_row + 1 for share in shares)
