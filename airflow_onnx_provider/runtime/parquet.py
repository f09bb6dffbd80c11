# SPDX-License-Identifier: Apache-2.0
"""Parquet files read by the worker itself, one piece after the other, so that no row goes through the JVM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH_BYTES = 16 << 20
"""About how much of a piece is held at once."""

STREAM_BYTES = 1 << 20
"""Column chunks are read through a buffer of this size; else each would be held whole, whatever its size.

What is held then is a page. Spark's writer ends one at about 1 MiB, pyarrow's after 1,024 rows (``write_batch_size``).
"""

FOOTERS_AT_ONCE = 16
"""A footer is one small read; on a network share it is all latency."""


@dataclass(frozen=True)
class Piece:
    """Rows of a Parquet file that lie together, at most a whole row group.

    :param path: of the file
    :param group: number of the row group in the file
    :param first: number of the first row in the file
    :param skip: rows of the row group before the first one
    :param rows: how many
    :param bytes: of all their columns, before compression
    """

    path: str
    group: int
    first: int
    skip: int
    rows: int
    bytes: int

    def part(self, start: int, stop: int) -> Piece:
        """The rows from ``start`` to before ``stop``."""
        rows, skip = stop - start, self.skip + start
        share = self.bytes * rows // max(1, self.rows)
        return replace(self, first=self.first + start, skip=skip, rows=rows, bytes=share)


def row_groups(paths: Iterable[str]) -> list[Piece]:
    """What the footers of these files say: each row group as one piece."""
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
        return [piece for pieces in pool.map(_row_groups_of, paths) for piece in pieces]


def _row_groups_of(path: str) -> list[Piece]:
    footer = pq.read_metadata(path)
    pieces, first = [], 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        pieces.append(Piece(path, number, first, 0, group.num_rows, group.total_byte_size))
        first += group.num_rows
    return pieces


def read_pieces(pieces: Iterable[Piece], columns: Sequence[str], *, row_address: str = "") -> Iterator[pa.RecordBatch]:
    """The rows of these pieces, in batches that are bounded by bytes.

    One thread reads: pyarrow's pool would take the cores of the other tasks.

    :param row_address: name of a further column that says where the row lies, as ``<file>#<number of the row>``
    """
    for piece in pieces:
        size = max(1, min(piece.rows, BATCH_BYTES * piece.rows // max(1, piece.bytes)))
        with pq.ParquetFile(piece.path, pre_buffer=False, buffer_size=STREAM_BYTES) as file:
            batches = file.iter_batches(size, row_groups=[piece.group], columns=list(columns), use_threads=False)
            first = piece.first
            for batch in _between(batches, piece.skip, piece.skip + piece.rows):
                yield _addressed(batch, piece.path, first, row_address) if row_address else batch
                first += batch.num_rows


def _between(batches: Iterable[pa.RecordBatch], start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Parquet cannot be entered in the middle of a row group: what comes before is read and dropped."""
    seen = 0
    for batch in batches:
        low, high = max(0, start - seen), min(batch.num_rows, stop - seen)
        if low < high:
            yield batch if high - low == batch.num_rows else batch.slice(low, high - low)
        seen += batch.num_rows
        if seen >= stop:
            return


def _addressed(batch: pa.RecordBatch, path: str, first: int, name: str) -> pa.RecordBatch:
    numbers = pa.array(range(first, first + batch.num_rows)).cast(pa.string())
    return batch.append_column(name, pc.binary_join_element_wise(pa.scalar(path), numbers, "#"))
