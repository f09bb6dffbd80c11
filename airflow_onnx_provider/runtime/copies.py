# SPDX-License-Identifier: Apache-2.0
"""Small copies of inputs that could not be scored, for whoever has to find out why; bounded, however many there are."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from airflow_onnx_provider.runtime.dicom import is_dicom

SIZE, COPY = "bytes", "copy"

INPUT_FIELDS = [pa.field(SIZE, pa.int64()), pa.field(COPY, pa.binary())]
"""What a quarantined row tells of its input: how large it is, if it was read, and the input itself if it was copied."""

MOST_COPIES = 1_000
MOST_COPIED_BYTES = 16 << 20
"""So much one Spark task copies at most: a day where everything is broken must not be copied into its quarantine."""


class Copies:
    """Copies the first small inputs that it is given, until there are many.

    A DICOM file is never copied: it names its patient, and no message quotes it either.

    :param largest: bytes of the largest input that is copied; 0: none is
    """

    def __init__(self, largest: int) -> None:
        self._largest, self._rows, self._bytes = largest, MOST_COPIES, MOST_COPIED_BYTES

    def of(self, data: bytes | memoryview) -> bytes | None:
        """The input's own bytes, or None if it is not to be copied, too large, or there are too many copies already."""
        size = len(data)
        if not self._rows or not self._largest or size > min(self._largest, self._bytes) or is_dicom(bytes(data[:132])):
            return None
        self._rows -= 1
        self._bytes -= size
        return bytes(data)

    def of_file(self, path: str) -> tuple[int | None, bytes | None]:
        """A file's size, and its copy if :meth:`of` gives one; a file that is too large is not opened."""
        try:
            status = Path(path).stat()
            if not stat.S_ISREG(status.st_mode):
                return None, None
            small = status.st_size <= self._largest
            return status.st_size, self.of(Path(path).read_bytes()) if small else None
        except (OSError, ValueError):  # a ValueError is a null byte in the name
            return None, None


def within_limits(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches of a task that was called more than once, with no more copies than one call would have made."""
    copies = Copies(sys.maxsize)
    for batch in batches:
        column = batch.column(COPY)
        if column.null_count == len(column):
            yield batch
            continue
        kept = [None if cell is None else copies.of(cell) for cell in column.to_pylist()]
        place = batch.schema.get_field_index(COPY)
        yield batch.set_column(place, batch.schema.field(place), pa.array(kept, pa.binary()))
