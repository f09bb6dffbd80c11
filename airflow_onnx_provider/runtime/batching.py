# SPDX-License-Identifier: Apache-2.0
"""Model batches, rebuilt across the borders of Arrow batches: constant shape for tensors, a token budget for texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import RowError

LENGTH_STEP = 8
"""Padded lengths are multiples of this, so that ONNX Runtime meets few different shapes."""

WINDOW_BATCHES = 64
"""Token arrays are sorted by length within about this many batches: enough that a batch holds equal lengths, few enough
that the window stays a few hundred thousand tokens."""


BUFFERS = 3
"""One batch is being scored, one waits, one is being filled."""


@dataclass(frozen=True)
class Batch:
    """What one ``session.run`` gets.

    :param feeds: model input to tensor ``[size, …]``
    :param rows: numbers of the rows that its first ``len(rows)`` places hold, counted over the whole task; further
        places are padding
    """

    feeds: Mapping[str, NDArray[Any]]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Fault:
    """A row that cannot be fed.

    :param data: its encoded input, if that was read
    """

    row: int
    error: RowError
    data: bytes | memoryview | None = None


Event = pa.RecordBatch | Batch | Fault
"""An Arrow batch that arrived (before any event about its rows), a full model batch, or a row's fault."""


class Rebatcher:
    """Cuts tensors of any number of rows into batches of exactly ``size`` rows.

    Where a whole batch lies within one tensor it is a view of it. What lies across is copied into one of a few
    preallocated buffers, which are used in turn. ONNX Runtime's arena keeps the largest shape that it has seen, so no
    batch is ever larger than the others.

    :param size: rows of a batch
    :param shapes: model input to the shape of one row
    :param dtypes: model input to element type
    :param buffers: how many batches may be in use at once
    """

    def __init__(
        self, size: int, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, Any], buffers: int
    ) -> None:
        self._size = size
        self._buffers = [
            {name: _blank((size, *shape), dtypes[name]) for name, shape in shapes.items()} for _ in range(buffers)
        ]
        self._rows: NDArray[np.int64] = np.empty(size, np.int64)
        self._held = 0

    @property
    def _buffer(self) -> dict[str, NDArray[Any]]:
        return self._buffers[0]

    def place(self, name: str) -> NDArray[Any]:
        """Where the next single row of an input is to be written; it counts only once :meth:`placed` is called."""
        place: NDArray[Any] = self._buffer[name][self._held]
        return place

    def placed(self, row: int) -> Iterator[Batch]:
        """Take the row that was written to its places; give the batch if it is full."""
        self._rows[self._held] = row
        self._held += 1
        if self._held == self._size:
            yield self._take()

    def add(self, tensors: Mapping[str, NDArray[Any]], first_row: int) -> Iterator[Batch]:
        """Take tensors of equally many rows, numbered from ``first_row``; give each batch that they fill."""
        rows = len(next(iter(tensors.values())))
        start = 0
        while start < rows:
            if not self._held and rows - start >= self._size:
                stop = start + self._size
                feeds = {name: values[start:stop] for name, values in tensors.items()}
                yield Batch(feeds, np.arange(first_row + start, first_row + stop))
            else:
                stop = min(rows, start + self._size - self._held)
                yield from self._copy({name: values[start:stop] for name, values in tensors.items()}, first_row + start)
            start = stop

    def rest(self, *, constant_shape: bool) -> Iterator[Batch]:
        """The last batch, if any row is left.

        :param constant_shape: fill it up with what its buffer held before, whose answers are to be cut off, because the
            execution provider prepares itself anew for every shape; the CPU would only compute them in vain
        """
        if self._held:
            last = self._take()
            kept = None if constant_shape else len(last.rows)
            yield Batch({name: values[:kept] for name, values in last.feeds.items()}, last.rows)

    def _copy(self, tensors: Mapping[str, NDArray[Any]], first_row: int) -> Iterator[Batch]:
        rows = len(next(iter(tensors.values())))
        held = slice(self._held, self._held + rows)
        for name, values in tensors.items():
            self._buffer[name][held] = values
        self._rows[held] = np.arange(first_row, first_row + rows)
        self._held += rows
        if self._held == self._size:
            yield self._take()

    def _take(self) -> Batch:
        batch = Batch(self._buffer, self._rows[: self._held].copy())
        self._buffers.append(self._buffers.pop(0))
        self._held = 0
        return batch


def _blank(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    return np.full(shape, "", object) if np.dtype(dtype).kind == "O" else np.zeros(shape, dtype)


@dataclass(frozen=True)
class TokenRows:
    """Token arrays, end to end.

    :param tokens: all ids, ``[tokens]``
    :param starts: where each row's ids begin in ``tokens``
    :param lengths: ids of each row, at least 1
    :param rows: each row's number
    """

    tokens: NDArray[Any]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Sequence[TokenRows]) -> TokenRows:
        """Several as one."""
        offsets = np.cumsum([0, *(len(part.tokens) for part in parts[:-1])])
        return cls(
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.starts + offset for part, offset in zip(parts, offsets, strict=True)]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.rows for part in parts]),
        )

    def padded(self, chosen: NDArray[np.int64], width: int, pad_id: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Some rows as a matrix ``[rows, width]``, and where it holds tokens and no padding."""
        places = np.arange(width)
        real = places < self.lengths[chosen, np.newaxis]
        at = np.minimum(self.starts[chosen, np.newaxis] + places, len(self.tokens) - 1)
        return np.where(real, self.tokens[at], self.tokens.dtype.type(pad_id)), real


def cut_by_tokens(lengths: NDArray[np.int64], budget: int, max_length: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Group rows of like length so that a group's rows times its padded length stay within the budget.

    Every row is in exactly one group. A row that is longer than the budget is a group of its own.

    :param lengths: tokens of each row
    :param budget: most tokens of a group, padding included
    :param max_length: the padded length is rounded up to :data:`LENGTH_STEP`, but not beyond this
    :return: positions in ``lengths``, and the padded length
    """
    order = np.argsort(lengths, kind="stable")
    widths = np.minimum(-(-lengths[order] // LENGTH_STEP) * LENGTH_STEP, max_length)
    start = 0
    while start < len(order):
        # Widths only grow, so the sums "rows times width" do too: the group ends where they pass the budget.
        reach = min(len(order), start + max(1, budget // int(widths[start])))
        sums = np.arange(1, reach - start + 1) * widths[start:reach]
        stop = start + max(1, int(np.searchsorted(sums, budget, side="right")))
        yield order[start:stop], int(widths[stop - 1])
        start = stop
