# SPDX-License-Identifier: Apache-2.0
"""Small pictures of a few rows' inputs, inside the page. What cannot be shown is said, and nothing stops the report.

Inputs were written by others: they are decoded by the runtime's decoder with its limits, and read only where they lie
below the day's own folder or the source's root.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import OnnxProviderError, RowError

LONGEST_SIDE = 112
"""Pixels of a small picture; it is shown at 96, so it is sharp enough on most screens."""

MAX_BYTES = 32 << 20
"""Largest file that is opened for its small picture."""

MAX_URI = 24_000
"""Longest address of a small picture in characters; a day of noise is not worth a page that no one can load."""

MAX_SECONDS = 20.0
"""Reading and decoding end after this time; the rows that remain are shown without a picture."""


MEDICAL = "medical picture, not copied"
"""A DICOM file names its patient, and its picture may; a report travels further than the day's folder."""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture, or why there is none.

    :param uri: ``data:`` address of a WebP picture, empty without one
    :param note: why there is none, in a few words
    """

    uri: str = ""
    note: str = ""


def thumbnail(data: bytes) -> Thumbnail:
    """The whole of a picture, upright, at most :data:`LONGEST_SIDE` pixels wide and high."""
    from PIL import Image

    from airflow_onnx_provider.runtime.decode import decode_image
    from airflow_onnx_provider.runtime.dicom import is_dicom
    from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

    if is_dicom(data):
        return Thumbnail(note=MEDICAL)
    try:
        width, height = _fitting(data)
        pixels = decode_image(data, ImagePreprocessing(height, width), "scaled")
    except RowError as error:
        return Thumbnail(note=error.reason.replace("_", " "))
    for quality in (80, 40):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "WEBP", quality=quality, method=4)
        uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
        if len(uri) <= MAX_URI:
            return Thumbnail(uri)
    return Thumbnail(note="too detailed")


def _fitting(data: bytes) -> tuple[int, int]:
    """Width and height of the small picture; a square where the header cannot tell."""
    from PIL import ExifTags, Image

    from airflow_onnx_provider.runtime.decode import FORMATS

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if image.getexif().get(ExifTags.Base.Orientation) in range(5, 9):  # lies on its side
                width, height = height, width
    except Exception:  # each format's plugin has its own; the decoder says in our words what is wrong
        return LONGEST_SIDE, LONGEST_SIDE
    scale = LONGEST_SIDE / max(width, height, 1)
    return max(1, round(width * scale)), max(1, round(height * scale))


def begins_with(data: bytes) -> str:
    """The first bytes of a file as a person would read them: an error page that was saved as a picture shows."""
    from airflow_onnx_provider.runtime.dicom import is_dicom

    if is_dicom(data):
        return MEDICAL
    return "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in data[:24])


class Inputs:
    """The inputs of a run's rows, as they are now.

    :param source: as the run manifest has it
    :param partition: of the data
    """

    def __init__(self, source: Mapping[str, Any], partition: str) -> None:
        self._folder = str(source.get("folder") or "")
        self._key, self._input, self._root = source.get("key"), source.get("input"), source.get("root")
        self._partition = partition
        self._until = time.monotonic() + MAX_SECONDS

    @property
    def known(self) -> bool:
        """Whether the run manifest says where the rows came from."""
        return bool(self._folder)

    def thumbnails(self, keys: Sequence[str]) -> dict[str, Thumbnail]:
        """A small picture of each of these rows; none of those whose input is not found."""
        if not self.known:
            return {}
        shown = {}
        for key, data in self._cells(set(keys)) if self._key and self._input else self._files(keys):
            shown[key] = thumbnail(data) if isinstance(data, bytes) else Thumbnail(note=str(data))
            if time.monotonic() > self._until:
                break
        return shown

    def file(self, key: str, root: str = "") -> bytes | str:
        """The bytes of a file of the day, or why there are none, in a few words.

        :param root: the folder or URL to stay below; default: the day's folder
        """
        from airflow_onnx_provider.runtime.addresses import read_address, resolve

        root = root or self._folder
        if not root or time.monotonic() > self._until:
            return "not read"
        try:
            place = resolve(key, root)
            if "://" not in place and Path(place).stat().st_size > MAX_BYTES:
                return f"larger than {MAX_BYTES >> 20} MiB"
            return read_address(key, root)
        except RowError as error:
            if "://" in root:
                self._until = 0.0  # a server that does not answer is not asked again for each row
            return "outside the folder" if error.reason == "outside_root" else "cannot be read"
        except (OSError, ValueError):
            return "no longer there"

    def _files(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes | str]]:
        return ((key, self.file(key)) for key in keys)

    def original(self, key: str) -> bytes | str:
        """The bytes of a row's file, or why there are none; rows of Parquet files are not looked for."""
        return "" if self._key or not self.known else self.file(key)

    def _cells(self, keys: set[str]) -> Iterator[tuple[str, bytes | str]]:
        """The input column of these rows: the keys are looked for first, then only their row groups are read."""
        for key, cell in self._rows(keys):
            if isinstance(cell, str):
                yield key, self.file(cell, str(self._root or ""))
            elif isinstance(cell, bytes) and len(cell) <= MAX_BYTES:
                yield key, cell
            else:
                yield key, "null" if cell is None else f"larger than {MAX_BYTES >> 20} MiB"

    def _rows(self, keys: set[str]) -> Iterator[tuple[str, Any]]:
        from airflow_onnx_provider.runtime.parquet import read_pieces
        from airflow_onnx_provider.spark.sources import Source

        key, column = str(self._key), str(self._input)
        try:
            folder = Path(self._folder)
            listing = Source(key, column, self._root).list_partition(folder.parent, self._partition)
            wanted = set(keys)
            for piece in getattr(listing, "groups", ()):
                if not wanted or time.monotonic() > self._until:
                    return
                places = _places(piece, key, wanted)
                wanted -= set(places.values())
                first = 0
                for batch in read_pieces([piece.part(0, max(places) + 1)] if places else [], [column]):
                    for place in range(first, first + batch.num_rows):
                        if place in places:
                            yield places[place], batch.column(0)[place - first].as_py()
                    first += batch.num_rows
                    if time.monotonic() > self._until:
                        return
        except (OnnxProviderError, OSError, ValueError):  # pyarrow's errors are one of these
            return


def _places(piece: Any, column: str, wanted: set[str]) -> dict[int, str]:
    """Which rows of a row group have one of these keys: number in the group to key."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from airflow_onnx_provider.runtime.parquet import read_pieces

    found: dict[int, str] = {}
    first = 0
    for batch in read_pieces([piece], [column]):
        names = batch.column(0).cast(pa.string())
        hits = pc.indices_nonzero(pc.is_in(names, value_set=pa.array(sorted(wanted))))
        found |= {first + place: names[place].as_py() for place in hits.to_pylist()}
        first += batch.num_rows
    return found
