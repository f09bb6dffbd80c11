# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_onnx_provider.spark.quarantine_log import LOG_FILE, ROWS_AT_ONCE, write_log

ABOUT = {"at": "2026-01-02T00:00:00+00:00", "partition": "2026-01-01", "run": "run-1", "model": "/m/1"}


def write(folder: Path, keys: pa.Array, name: str = "part-0.parquet", copies: list[bytes | None] | None = None) -> None:
    rows = len(keys)
    columns = {
        "key": keys,
        "stage": ["decode"] * rows,
        "reason": ["not_an_image"] * rows,
        "error": ['said "no"\nand\u2028more'] * rows,
        "address": ["/data/ä.jpg"] * rows,
        "bytes": pa.array([None if copy is None else len(copy) for copy in copies or [None] * rows], pa.int64()),
        "copy": pa.array(copies or [None] * rows, pa.binary()),
    }
    pq.write_table(pa.table(columns), folder / name)


def test_each_row_is_one_line_without_its_copy(tmp_path: Path) -> None:
    write(tmp_path, pa.array(["ä.jpg", "b\nc.jpg"]), copies=[b"\xff", None])

    assert write_log(tmp_path, ABOUT) == 2

    lines = (tmp_path / LOG_FILE).read_bytes().splitlines()
    told = {"stage": "decode", "reason": "not_an_image", "error": 'said "no"\nand\u2028more', "address": "/data/ä.jpg"}
    assert [json.loads(line) for line in lines] == [
        {**ABOUT, "key": "ä.jpg", **told, "bytes": 1, "copied": True},
        {**ABOUT, "key": "b\nc.jpg", **told, "bytes": None, "copied": False},
    ]
    assert all(line.isascii() for line in lines), "no character that some shipper takes for the end of a line"


def test_all_files_and_batches_are_told_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, pa.array(range(ROWS_AT_ONCE + 1)), "part-0.parquet")
    write(tmp_path, pa.array([1000]), "part-1.parquet")

    write_log(tmp_path, ABOUT)

    keys = [json.loads(line)["key"] for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert keys == [*range(ROWS_AT_ONCE + 1), 1000]


def test_an_empty_quarantine_is_an_empty_log(tmp_path: Path) -> None:
    write(tmp_path, pa.array([], pa.string()))

    assert write_log(tmp_path, ABOUT) == 0
    assert (tmp_path / LOG_FILE).read_bytes() == b""


def test_readers_of_the_folder_see_rows_alone(tmp_path: Path) -> None:
    write(tmp_path, pa.array(["a"]))
    write_log(tmp_path, ABOUT)

    assert pq.read_table(tmp_path).num_rows == 1
