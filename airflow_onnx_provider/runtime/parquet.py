"""Parquet files read by the worker itself, one row group after the other, so that no row goes through the JVM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_BYTES = 16 << 20
"""About how much of a row group is held at once."""


@dataclass(frozen=True)
class RowGroup:
    """A part of a Parquet file that can be read alone.

    :param path: of the file
    :param number: of the row group in it
    :param rows: in the row group
    :param bytes: of its columns, before compression
    """

    path: str
    number: int
    rows: int
    bytes: int


def row_groups(paths: Iterable[str]) -> list[RowGroup]:
    """What the footers of these files say."""
    found = []
    for path in paths:
        footer = pq.read_metadata(path)
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            found.append(RowGroup(path, number, group.num_rows, group.total_byte_size))
    return found


def dealt(groups: Sequence[RowGroup], parts: int) -> list[list[RowGroup]]:
    """Deal row groups to parts so that their bytes come out even: the largest first, each to the emptiest part."""
    hands: list[list[RowGroup]] = [[] for _ in range(parts)]
    held = [0] * parts
    for group in sorted(groups, key=lambda one: -one.bytes):
        emptiest = held.index(min(held))
        hands[emptiest].append(group)
        held[emptiest] += group.bytes
    return hands


def read_row_groups(groups: Iterable[RowGroup], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of these row groups, in batches that are bounded by bytes.

    One thread reads: pyarrow's pool would take the cores of the other tasks.
    """
    for group in groups:
        rows = max(1, min(group.rows, BATCH_BYTES * group.rows // max(1, group.bytes)))
        with pq.ParquetFile(group.path, pre_buffer=False) as file:
            yield from file.iter_batches(
                batch_size=rows, row_groups=[group.number], columns=list(columns), use_threads=False
            )
