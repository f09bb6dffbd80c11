# SPDX-License-Identifier: Apache-2.0
"""Parquet files read piece by piece."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_onnx_provider.runtime.parquet import read_pieces, row_groups


@pytest.fixture
def path(tmp_path: Path) -> str:
    """100 rows in row groups of 30."""
    table = pa.table({"sku": list(range(100)), "jpeg": [bytes([number]) * 50 for number in range(100)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=30)
    return str(tmp_path / "a.parquet")


def test_a_footer_says_where_each_row_group_begins(path: str) -> None:
    assert [(one.group, one.first, one.rows) for one in row_groups([path])] == [
        (0, 0, 30),
        (1, 30, 30),
        (2, 60, 30),
        (3, 90, 10),
    ]


def test_a_part_of_a_row_group_gives_its_own_rows_and_says_where_they_lie(path: str) -> None:
    part = row_groups([path])[1].part(5, 12)

    rows = [row for batch in read_pieces([part], ["sku"], row_address="address") for row in batch.to_pylist()]

    assert rows == [{"sku": number, "address": f"{path}#{number}"} for number in range(35, 42)]


def test_parts_of_parts_together_are_the_whole(path: str) -> None:
    whole = row_groups([path])[2]
    parts = [whole.part(0, 10), whole.part(10, 30).part(0, 3), whole.part(10, 30).part(3, 20)]

    rows = [row["sku"] for batch in read_pieces(parts, ["sku"]) for row in batch.to_pylist()]

    assert rows == list(range(60, 90))


def test_a_large_row_group_comes_in_batches_bounded_by_bytes(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"jpeg": [bytes(1 << 20)] * 40}), tmp_path / "b.parquet", compression="none", use_dictionary=False
    )

    batches = list(read_pieces(row_groups([str(tmp_path / "b.parquet")]), ["jpeg"]))

    assert sum(batch.num_rows for batch in batches) == 40
    assert max(batch.num_rows for batch in batches) <= 16
