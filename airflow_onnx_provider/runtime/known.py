# SPDX-License-Identifier: Apache-2.0
"""Answers that are known already, found by a row's content: sorted Arrow files, mapped into memory."""

from __future__ import annotations

import hashlib
import os
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

CONTENT = "content_sha256"
"""Column with the sha256 of a row's encoded picture."""

PREFIX = "prefix"
"""Column with the first eight bytes of the digest as a number, which NumPy can search without a copy."""

SUFFIX = ".arrow"


def content_of(data: bytes | memoryview) -> bytes:
    """The sha256 of an encoded picture."""
    return hashlib.sha256(data).digest()


def write_known(folder: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Write one sorted file of known answers.

    :param batches: rows with :data:`CONTENT` and the columns that a carried row gets
    :return: how many rows
    """
    rows = [batch for batch in batches if batch.num_rows]
    if not rows:
        return 0
    table = pa.Table.from_batches(rows)
    prefixes = _prefixes(table.column(CONTENT).combine_chunks().cast(pa.binary(32)))
    order = np.argsort(prefixes, kind="stable")
    table = table.take(pa.array(order)).append_column(PREFIX, pa.array(prefixes[order])).combine_chunks()
    temporary = folder / f".{uuid.uuid4().hex}"
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    temporary.rename(folder / f"{int(prefixes[order[0]]):020d}-{temporary.name[1:9]}{SUFFIX}")
    return int(table.num_rows)


class KnownAnswers:
    """Looks answers up by content.

    The files' digests must not overlap, as Spark's ``repartitionByRange`` gives them. Each is mapped, not read, so
    the workers of a machine share its memory, and a lookup touches a few pages.

    :param folder: of the files that :func:`write_known` wrote; may be empty
    """

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob(f"*{SUFFIX}"))
        self._firsts = [int(path.name[:20]) for path in self._paths]
        self._open: dict[int, _File] = {}

    def find(self, contents: Sequence[bytes]) -> tuple[NDArray[np.bool_], pa.Table | None]:
        """Look digests up.

        :return: for each digest whether it is known, and the rows of those that are, in their order
        """
        found = np.zeros(len(contents), np.bool_)
        rows = []
        for place, content in enumerate(contents):
            number = bisect_right(self._firsts, int.from_bytes(content[:8])) - 1
            if number >= 0 and (row := self._file(number).find(content)) is not None:
                found[place] = True
                rows.append(row)
        return found, pa.concat_tables(rows) if rows else None

    def _file(self, number: int) -> _File:
        if number not in self._open:
            self._open[number] = _File(self._paths[number])
        return self._open[number]


class _File:
    def __init__(self, path: Path) -> None:
        self._table = pa.ipc.open_file(pa.memory_map(os.fspath(path))).read_all()

    @cached_property
    def _columns(self) -> tuple[NDArray[np.uint64], pa.ChunkedArray]:
        return self._table.column(PREFIX).chunk(0).to_numpy(), self._table.column(CONTENT)

    def find(self, content: bytes) -> pa.Table | None:
        prefixes, contents = self._columns
        prefix = np.uint64(int.from_bytes(content[:8]))
        row = int(np.searchsorted(prefixes, prefix))
        while row < len(prefixes) and prefixes[row] == prefix:
            if contents[row].as_py() == content:
                return self._table.slice(row, 1)
            row += 1
        return None


def _prefixes(contents: pa.Array) -> NDArray[np.uint64]:
    whole = np.frombuffer(contents.buffers()[1], np.uint8)[
        contents.offset * 32 : (contents.offset + len(contents)) * 32
    ]
    return whole.reshape(-1, 32)[:, :8].copy().view(">u8").ravel().astype(np.uint64)
