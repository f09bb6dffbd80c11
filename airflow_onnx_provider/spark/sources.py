"""What a day's input consists of, listed once, by the driver."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_onnx_provider.exceptions import BadInputError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Listing:
    """The files of one partition.

    :param folder: the partition's folder
    :param keys: paths relative to ``folder``, sorted; they identify a row
    :param bytes: size of all files together
    """

    folder: Path
    keys: tuple[str, ...]
    bytes: int

    def table(self) -> pa.Table:
        """As rows of ``key`` and ``address`` (an absolute path)."""
        import pyarrow as pa  # here, because the sensor needs this module while DAG files are parsed

        addresses = [str(self.folder / key) for key in self.keys]
        schema = pa.schema([("key", pa.string()), ("address", pa.string())])
        return pa.table({"key": list(self.keys), "address": addresses}, schema=schema)


def list_partition(root: Path, partition: str) -> Listing:
    """List ``root/ds=<partition>``; files and folders that begin with ``.`` or ``_`` do not count as input.

    :raises BadInputError: if the day is missing or empty, or a name is not valid UTF-8
    """
    folder = root / f"ds={partition}"
    if not root.is_dir():
        raise BadInputError(f"the catalogue {root} does not exist, or is no folder")
    if not folder.is_dir():
        days = sorted(path.name for path in root.glob("ds=*"))
        raise BadInputError(
            f"the catalogue {root} has no ds={partition}; it has "
            + (f"{len(days)} partitions from {days[0]} to {days[-1]}" if days else "no partition at all")
        )
    keys, size = [], 0
    for path, length in _walk(folder):
        key = os.path.relpath(path, folder)
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise BadInputError(f"a file name below {folder} is not valid UTF-8: {key!r}; rename it") from error
        keys.append(key)
        size += length
    if not keys:
        raise BadInputError(f"{folder} is empty: there is nothing to predict")
    return Listing(folder, tuple(sorted(keys)), size)


def _walk(folder: Path) -> Iterator[tuple[str, int]]:
    """Files below ``folder`` with their sizes; what goes away meanwhile is passed over."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "_")):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            elif entry.is_file():
                with suppress(FileNotFoundError):
                    yield entry.path, entry.stat().st_size
            elif entry.is_symlink():
                yield entry.path, 0  # a link to nothing or to a folder is a row too: it leaves as unreadable
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
    files = [Path(path) for path, _ in _walk(folder)]
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
