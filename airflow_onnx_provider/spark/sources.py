# SPDX-License-Identifier: Apache-2.0
"""What a day's input consists of, listed once, by the driver."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.spark.shares import Share, cut_files, cut_row_groups

if TYPE_CHECKING:
    from airflow_onnx_provider.runtime.parquet import Piece
    from airflow_onnx_provider.runtime.raw_speed import Sample

SAMPLED_GROUPS = 16
"""Row groups that one sample is taken from."""


@dataclass(frozen=True)
class Source:
    """Where a day's rows are: files, or rows of Parquet files.

    :param key: column that identifies a row; None: the day's folder holds the pictures' files themselves
    :param input: column with the encoded pictures, or with their addresses; None as ``key``
    :param root: folder or URL below which all addresses must lie; only and always with a column of addresses
    """

    key: str | None = None
    input: str | None = None
    root: str | None = None

    def __post_init__(self) -> None:
        if (self.key is None) != (self.input is None):
            raise BadInputError(
                "key and input name columns of the catalogue's Parquet files: give both, or neither for a folder of "
                f"picture files; got key={self.key!r}, input={self.input!r}"
            )
        if self.root is not None and self.key is None:
            raise BadInputError("root is for a column of addresses; name the columns with key and input")

    def list_partition(self, catalog: Path, partition: str) -> Listing:
        """List ``catalog/ds=<partition>``; what begins with ``.`` or ``_`` does not count as input.

        :raises BadInputError: if the day is missing or empty, a name is not valid UTF-8, or the Parquet files lack a
            column or have it in a type that does not fit
        """
        files = _files_of_day(catalog, partition)
        if self.key is None or self.input is None:
            return FileListing(files.folder, tuple(files.sizes), tuple(files.sizes.values()), files.newest)
        return rows_of(files, self.key, self.input, self.root)


class Listing(Protocol):
    """What is to be scored: rows in shares that the workers read themselves."""

    @property
    def folder(self) -> Path:
        """The partition's."""

    @property
    def rows(self) -> int: ...

    @property
    def bytes(self) -> int: ...

    @property
    def files(self) -> int: ...

    @property
    def largest(self) -> int:
        """Bytes of the largest row, at least on the average of some."""

    @property
    def newest(self) -> float:
        """The latest change of a file, in seconds since the epoch."""

    @property
    def key_type(self) -> str:
        """Arrow type of the key, by its name."""

    @property
    def from_bytes(self) -> bool:
        """Whether the rows hold their pictures themselves."""

    @property
    def columns(self) -> dict[str, str]:
        """Columns that the task reads: name in the task to name in the files."""

    @property
    def read_folders(self) -> tuple[Path, ...]:
        """What executors must see."""

    def samples(self, count: int, rows: int) -> list[Sample]:
        """So many samples of about so many rows each, evenly over all of them."""

    def shares(self, parts: int, work: Path) -> list[Share]:
        """Cut the rows into even shares; what must be written for that goes to ``work``."""


@dataclass(frozen=True)
class FileListing:
    """A day of picture files.

    :param folder: the partition's folder
    :param keys: paths relative to ``folder``, sorted; they identify a row
    :param sizes: of the files in bytes
    :param newest: the latest change of a file, in seconds since the epoch
    """

    folder: Path
    keys: tuple[str, ...]
    sizes: tuple[int, ...]
    newest: float = 0.0

    key_type = "string"
    from_bytes = False

    @property
    def read_folders(self) -> tuple[Path, ...]:
        """What executors must see."""
        return (self.folder,)

    def address(self, key: str) -> str:
        """Where a row's file lies."""
        return str(self.folder / key)

    @property
    def rows(self) -> int:
        return len(self.keys)

    @property
    def bytes(self) -> int:
        return sum(self.sizes)

    @property
    def files(self) -> int:
        return len(self.keys)

    @property
    def largest(self) -> int:
        return max(self.sizes)

    @property
    def columns(self) -> dict[str, str]:
        """Columns that the task reads, under their names in the files."""
        return {"key": "key", "address": "address"}

    def samples(self, count: int, rows: int) -> list[Sample]:
        """So many samples of about so many rows each, evenly over the day."""
        from airflow_onnx_provider.runtime.raw_speed import Sample

        step = max(1, len(self.keys) // (count * rows))
        addresses = [self.address(key) for key in self.keys[::step]]
        return [Sample(addresses=tuple(addresses[number::count])) for number in range(count)]

    def shares(self, parts: int, work: Path) -> list[Share]:
        """Cut the day into even shares, written as the row groups of a list of files in ``work``.

        The workers read their share of the list themselves, so nothing goes through the JVM.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        from airflow_onnx_provider.runtime.parquet import row_groups

        work.mkdir(parents=True, exist_ok=True)
        path = work / "files.parquet"
        schema = pa.schema([("key", pa.string()), ("address", pa.string())])
        cuts = cut_files(self.sizes, parts)
        with pq.ParquetWriter(path, schema) as writer:
            for start, stop in cuts:
                keys = self.keys[start:stop]
                addresses = [self.address(key) for key in keys]
                table = pa.table({"key": list(keys), "address": addresses}, schema=schema)
                writer.write_table(table, row_group_size=len(keys))
        groups = row_groups([str(path)])
        return [
            Share((group,), stop - start, sum(self.sizes[start:stop]))
            for group, (start, stop) in zip(groups, cuts, strict=True)
        ]


@dataclass(frozen=True)
class RowListing:
    """A day of rows in Parquet files.

    :param folder: the partition's folder
    :param groups: the files' row groups
    :param key: column that identifies a row
    :param input: column with encoded pictures, or with addresses
    :param key_type: Arrow type of the key, by its name
    :param from_bytes: whether ``input`` holds the pictures themselves
    :param root: below which addresses must lie
    :param newest: the latest change of a file, in seconds since the epoch
    """

    folder: Path
    groups: tuple[Piece, ...]
    key: str
    input: str
    key_type: str
    from_bytes: bool
    root: str | None
    newest: float = 0.0

    @property
    def read_folders(self) -> tuple[Path, ...]:
        """What executors must see."""
        return (self.folder,)

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)

    @property
    def bytes(self) -> int:
        return sum(group.bytes for group in self.groups)

    @property
    def files(self) -> int:
        return len({group.path for group in self.groups})

    @property
    def largest(self) -> int:
        """Of one row, on the average of the row group where that is most; rows are what can be divided."""
        return max(-(-group.bytes // group.rows) for group in self.groups)

    @property
    def columns(self) -> dict[str, str]:
        """Columns that the task reads, under their names in the files."""
        return {"key": self.key, ("image" if self.from_bytes else "address"): self.input}

    def samples(self, count: int, rows: int) -> list[Sample]:
        """So many samples of about so many rows each, from the starts of row groups all over the day."""
        from airflow_onnx_provider.runtime.raw_speed import Sample

        places = self.groups[:: max(1, len(self.groups) // (count * SAMPLED_GROUPS))]
        found = []
        for number in range(count):
            mine = places[number::count] or places[:1]
            first = tuple(group.part(0, min(group.rows, -(-rows // len(mine)))) for group in mine)
            found.append(Sample(pieces=first, column=self.input, root=self.root))
        return found

    def shares(self, parts: int, work: Path) -> list[Share]:  # noqa: ARG002  # nothing needs to be written
        """Cut the day into even shares; a row group that is larger than one is divided."""
        return cut_row_groups(self.groups, parts)


@dataclass(frozen=True)
class Files:
    """Files below a folder: path relative to its folder, sorted, to size; and the latest change of one."""

    folder: Path
    sizes: dict[str, int]
    newest: float


def _files_of_day(catalog: Path, partition: str) -> Files:
    folder = catalog / f"ds={partition}"
    if not catalog.is_dir():
        raise BadInputError(f"the catalogue {catalog} does not exist, or is no folder")
    if not folder.is_dir():
        days = sorted(path.name for path in catalog.glob("ds=*"))
        raise BadInputError(
            f"the catalogue {catalog} has no ds={partition}; it has "
            + (f"{len(days)} partitions from {days[0]} to {days[-1]}" if days else "no partition at all")
        )
    files = files_below(folder)
    if not files.sizes:
        raise BadInputError(f"{folder} is empty: there is nothing to predict")
    return files


def files_below(folder: Path) -> Files:
    """All files below a folder; what begins with ``.`` or ``_`` does not count as input.

    :raises BadInputError: if a name is not valid UTF-8
    """
    sizes, newest = {}, 0.0
    for path, length, changed in _walk(folder):
        key = os.path.relpath(path, folder)
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise BadInputError(f"a file name below {folder} is not valid UTF-8: {key!r}; rename it") from error
        sizes[key] = length
        newest = max(newest, changed)
    return Files(folder, dict(sorted(sizes.items())), newest)


def rows_of(files: Files, key: str, column: str, root: str | None) -> RowListing:
    """List the rows of Parquet files.

    :raises BadInputError: if they are none, lack a column or have it in a type that does not fit
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from airflow_onnx_provider.runtime.parquet import row_groups

    paths = [str(files.folder / name) for name in files.sizes]
    try:
        schema = pq.read_schema(paths[0])
        groups = tuple(group for group in row_groups(paths) if group.rows)
    except (pa.ArrowException, OSError) as error:
        raise BadInputError(
            f"key and input name columns of Parquet files, but {files.folder} holds something else: {error}"
        ) from error
    if absent := [name for name in (key, column) if name not in schema.names]:
        raise BadInputError(f"{paths[0]} has no column {', '.join(absent)}; it has {', '.join(schema.names)}")
    if not groups:
        raise BadInputError(f"{files.folder} holds no row: there is nothing to predict")
    key_type, kind = schema.field(key).type, schema.field(column).type
    if not (pa.types.is_string(key_type) or pa.types.is_integer(key_type)):
        raise BadInputError(f"the key {key} is {key_type}; a key must be a string or a whole number")
    if pa.types.is_binary(kind):
        if root is not None:
            raise BadInputError(f"{column} holds the pictures themselves, so root has no meaning; leave it out")
    elif not pa.types.is_string(kind):
        raise BadInputError(f"{column} is {kind}; it must hold encoded pictures (binary) or addresses (string)")
    elif root is None:
        raise BadInputError(
            f"{column} holds addresses: say with root below which folder or URL they must lie, so that no row can "
            "make a worker read anything else"
        )
    return RowListing(files.folder, groups, key, column, str(key_type), pa.types.is_binary(kind), root, files.newest)


def _walk(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Files below ``folder`` with their sizes and times of change; what goes away meanwhile is passed over."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "_")):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            elif entry.is_file():
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    yield entry.path, status.st_size, status.st_mtime
            elif entry.is_symlink():
                yield entry.path, 0, 0.0  # a link to nothing or to a folder is a row too: it leaves as unreadable
            # Pipes, sockets and devices are no input: who opens a pipe waits for its writer, perhaps for ever.


@dataclass(frozen=True)
class Readiness:
    """Whether a partition is complete, and what was seen, in words."""

    complete: bool
    seen: str


def readiness(folder: Path, marker: str | None, stable_seconds: float, now: float) -> Readiness:
    """Look whether a partition's input is complete.

    With a marker the partition is complete when the marker file is there. Without one, when it holds files and none
    of them has come or changed for ``stable_seconds``; this needs no memory between two looks.

    :param folder: of the partition
    :param marker: file name, or None
    :param stable_seconds: quiet time that counts as complete
    :param now: seconds since the epoch
    """
    if not folder.is_dir():
        return Readiness(False, f"{folder} does not exist")
    if marker is not None:
        there = (folder / marker).exists()
        return Readiness(there, f"{folder / marker} is {'there' if there else 'not there yet'}")
    files = [Path(path) for path, _, _ in _walk(folder)]
    # A file that is moved in with its old date shows in the date of its folder alone.
    folders = {folder, *(parent for file in files for parent in file.parents if parent.is_relative_to(folder))}
    count, quiet = len(files), now - max(map(_last_change, [*files, *folders]))
    return Readiness(
        count > 0 and quiet >= stable_seconds,
        f"{folder} holds {count} files and has been quiet for {max(quiet, 0):.0f} s",
    )


def _last_change(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return math.inf  # gone since it was listed: something is still at work here
