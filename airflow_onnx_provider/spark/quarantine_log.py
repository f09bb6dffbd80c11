# SPDX-License-Identifier: Apache-2.0
"""A run's quarantine as JSON lines, for what ships log files to a log store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LOG_FILE = "_quarantine.jsonl"
"""Lies beside the quarantine's Parquet files; readers of those skip a name that begins with ``_``."""

ROWS_AT_ONCE = 256
"""Each may come with a copy of its input, which is read and left out."""


def write_log(quarantine: Path, about: Mapping[str, Any]) -> int:
    """Write one line for each row of the Parquet files in a folder, in their order, into :data:`LOG_FILE` there.

    A line has ``key``, ``stage``, ``reason``, ``error``, ``address``, ``bytes`` and ``copied``: whether the Parquet
    file has a copy of the input, which itself is never in the log.

    :param quarantine: folder with the staged files
    :param about: fields that each line begins with
    :return: how many lines
    """
    lines = 0
    with (quarantine / LOG_FILE).open("w", encoding="utf-8") as log:
        for row in _rows(quarantine):
            copied = row.pop("copy") is not None
            log.write(json.dumps({**about, **row, "copied": copied}) + "\n")
            lines += 1
    return lines


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, use_threads=False):
                yield from batch.to_pylist()
