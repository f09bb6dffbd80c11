# SPDX-License-Identifier: Apache-2.0
"""Pictures, as bytes or as files, decoded straight into the buffer of a model batch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_onnx_provider.exceptions import RowError
from airflow_onnx_provider.runtime.batching import BUFFERS, Event, Fault, Rebatcher
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.profile import PICTURES_PER_BATCH, ExecutionProfile

READ_AHEAD = 4
"""Files of this many model batches are read at once: enough to hide the latency of a network share."""


class PictureFeed:
    """Pictures, as bytes or as addresses of files, decoded straight into a model batch's buffer."""

    def __init__(
        self, name: str, column: str, pre: ImagePreprocessing, profile: ExecutionProfile, metrics: TaskMetrics
    ) -> None:
        self._name, self._column, self._pre, self._profile, self._metrics = name, column, pre, profile, metrics
        self._size = profile.batch_size or PICTURES_PER_BATCH
        self._rebatcher = Rebatcher(self._size, {name: pre.shape}, {name: np.uint8}, BUFFERS)

    def feed(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Event]:
        with ExitStack() as stack:
            pool = (
                stack.enter_context(ThreadPoolExecutor(self._profile.decode_threads))
                if self._profile.decode_threads > 1
                else None
            )
            reader = stack.enter_context(ThreadPoolExecutor(READ_AHEAD))
            first = 0
            for batch in batches:
                yield batch
                column = batch.column(self._column)
                parts = self._read(column, reader) if is_text(column.type) else self._views(column)
                for start, part in parts:
                    yield from self._decode(part, first + start, pool)
                first += batch.num_rows
            yield from self._rebatcher.rest(constant_shape=self._profile.constant_shape)

    def _decode(self, part: Sequence[Any], first: int, pool: ThreadPoolExecutor | None) -> Iterator[Event]:
        before = time.perf_counter()
        decoded = pool.map(self._pixels, part) if pool else map(self._pixels, part)
        for row, pixels in enumerate(decoded, first):
            if isinstance(pixels, RowError):
                data = part[row - first]
                yield Fault(row, pixels, None if isinstance(data, RowError) else data)
            else:
                self._rebatcher.place(self._name)[...] = pixels
                for full in self._rebatcher.placed(row):
                    self._metrics.decode_seconds += time.perf_counter() - before
                    yield full
                    before = time.perf_counter()
        self._metrics.decode_seconds += time.perf_counter() - before

    def _pixels(self, data: Any) -> Any:
        if isinstance(data, RowError):
            return data
        try:
            return decode_image(data, self._pre, self._profile.decoder)
        except RowError as error:
            return error

    def _views(self, column: pa.Array) -> Iterator[tuple[int, list[Any]]]:
        """Every row's bytes as a view of the Arrow buffer."""
        for start in range(0, len(column), self._size):
            part = column[start : start + self._size]
            yield start, [_bytes_or_fault(each, self._column) for each in part]

    def _read(self, addresses: pa.Array, reader: ThreadPoolExecutor) -> Iterator[tuple[int, list[Any]]]:
        """Every file's bytes, with the next files already on their way."""
        ahead: deque[tuple[int, Future[tuple[list[Any], float]]]] = deque()
        for start in range(0, len(addresses), self._size):
            part = addresses[start : start + self._size].to_pylist()
            ahead.append((start, reader.submit(_read_all, part, self._column)))
            if len(ahead) > READ_AHEAD:
                yield self._arrived(*ahead.popleft())
        while ahead:
            yield self._arrived(*ahead.popleft())

    def _arrived(self, start: int, future: Future[tuple[list[Any], float]]) -> tuple[int, list[Any]]:
        data, seconds = future.result()
        self._metrics.read_seconds += seconds
        return start, data


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _bytes_or_fault(cell: pa.Scalar, column: str) -> Any:
    buffer = cell.as_buffer()
    return RowError("read", "null_input", f"{column} is null") if buffer is None else memoryview(buffer)


def _read_all(addresses: Sequence[str | None], column: str) -> tuple[list[Any], float]:
    before = time.perf_counter()
    return [_file_or_fault(address, column) for address in addresses], time.perf_counter() - before


def _file_or_fault(address: str | None, column: str) -> Any:
    try:
        return RowError("read", "null_input", f"{column} is null") if address is None else read_picture(address)
    except RowError as error:
        return error


def read_picture(address: str) -> bytes:
    """The file's bytes.

    :raises RowError: ``unreadable`` with the operating system's words
    """
    path = Path(address)
    try:
        if not path.is_file() and path.exists():  # who opens a pipe waits for its writer, perhaps for ever
            raise RowError("read", "unreadable", f"{address} is no regular file")
        return path.read_bytes()
    except OSError as error:
        raise RowError("read", "unreadable", str(error)) from error
