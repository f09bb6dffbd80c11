# SPDX-License-Identifier: Apache-2.0
"""Rows whose bytes are needed before the scorer sees them: addresses below a root, and contents scored before."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from airflow_onnx_provider.exceptions import RowError
from airflow_onnx_provider.runtime.addresses import read_address
from airflow_onnx_provider.runtime.known import CONTENT, KnownAnswers, content_of
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.runtime.outcomes import MAX_ERROR_LENGTH, QUARANTINED
from airflow_onnx_provider.runtime.pictures import READ_AHEAD, read_picture

CARRIED = "carried"
"""Outcome of a row that has the answer which an earlier run gave to the same content."""

ROWS_AT_ONCE = 8
"""As many files as a model batch has pictures: what is held of large ones stays small."""

IMAGE = "image"


class Fetch:
    """Reads each row's bytes ahead of the scorer, and lets those rows leave that need no scoring.

    :param root: folder or URL below which addresses must lie; None: they are this catalogue's own files
    :param known: answers by content, or None if contents do not matter
    :param metrics: ``read_seconds`` is added to
    """

    def __init__(self, root: str | None, known: KnownAnswers | None, metrics: TaskMetrics) -> None:
        self._root, self._known, self._metrics = root, known, metrics
        self._left: deque[dict[str, Any]] = deque()

    def to_score(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows that are left to score, with their bytes as :data:`IMAGE` and, with ``known``, their content.

        :param batches: with ``key``, ``address``, and :data:`IMAGE` if the rows hold their bytes themselves
        """
        with ThreadPoolExecutor(READ_AHEAD) as pool:
            ahead: deque[Future[tuple[pa.RecordBatch, list[Any], float]]] = deque()
            for batch in batches:
                for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                    ahead.append(pool.submit(self._read, batch.slice(start, ROWS_AT_ONCE)))
                    if len(ahead) > READ_AHEAD:
                        yield from self._sorted_out(*ahead.popleft().result())
            while ahead:
                yield from self._sorted_out(*ahead.popleft().result())

    def left(self) -> Iterator[dict[str, Any]]:
        """Rows that left meanwhile: columns by name, arrays of one length; safe to call beside :meth:`to_score`."""
        while self._left:
            yield self._left.popleft()

    def _read(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[Any], float]:
        before = time.perf_counter()
        if IMAGE in batch.schema.names:
            cells = [_cell(cell) for cell in batch.column(IMAGE)]
        else:
            cells = [_reading(self._file, address) for address in batch.column("address").to_pylist()]
        if self._known is not None:
            cells = [cell if isinstance(cell, RowError) else (cell, content_of(cell)) for cell in cells]
        return batch, cells, time.perf_counter() - before

    def _file(self, address: str) -> bytes:
        return read_picture(address) if self._root is None else read_address(address, self._root)

    def _sorted_out(self, batch: pa.RecordBatch, cells: Sequence[Any], seconds: float) -> Iterator[pa.RecordBatch]:
        self._metrics.read_seconds += seconds
        names = {name: batch.column(name) for name in ("key", "address")}
        good = [row for row, cell in enumerate(cells) if not isinstance(cell, RowError)]
        if len(good) < len(cells):
            wrong = [row for row, cell in enumerate(cells) if isinstance(cell, RowError)]
            self._left.append(_quarantined(_taken(names, wrong), [cells[row] for row in wrong]))
        contents = {}
        if self._known is not None and good:
            found, answers = self._known.find([cells[row][1] for row in good])
            if answers is not None:
                carried = [row for row, here in zip(good, found, strict=True) if here]
                columns = {name: answers.column(name).combine_chunks() for name in answers.column_names}
                self._left.append(_taken(names, carried) | columns | {"outcome": pa.repeat(CARRIED, len(carried))})
                good = [row for row, here in zip(good, found, strict=True) if not here]
            contents = {CONTENT: pa.array([cells[row][1] for row in good], pa.binary())}
            cells = [cell if isinstance(cell, RowError) else cell[0] for cell in cells]
        if good:
            images = pa.array([cells[row] for row in good], pa.binary())
            yield pa.RecordBatch.from_pydict(_taken(names, good) | contents | {IMAGE: images})


def _cell(cell: pa.Scalar) -> Any:
    buffer = cell.as_buffer()
    return RowError("read", "null_input", "the picture is null") if buffer is None else memoryview(buffer)


def _reading(read: Callable[[str], bytes], address: str | None) -> Any:
    if address is None:
        return RowError("read", "null_input", "the address is null")
    try:
        return read(address)
    except RowError as error:
        return error


def _taken(columns: dict[str, pa.Array], rows: Sequence[int]) -> dict[str, pa.Array]:
    return {name: column.take(pa.array(rows)) for name, column in columns.items()}


def _quarantined(columns: dict[str, pa.Array], errors: Sequence[RowError]) -> dict[str, Any]:
    return columns | {
        "outcome": pa.repeat(QUARANTINED, len(errors)),
        "stage": pa.array([error.stage for error in errors], pa.string()),
        "reason": pa.array([error.reason for error in errors], pa.string()),
        "error": pa.array([str(error)[:MAX_ERROR_LENGTH] for error in errors], pa.string()),
    }
