# SPDX-License-Identifier: Apache-2.0
"""The rows of a published day's quarantine as a source of their own: by their keys, where the day's rows lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.spark.shares import Share, cut_row_groups
from airflow_onnx_provider.spark.sources import FileListing, Files, Listing, RowListing, Source, files_below, rows_of

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_onnx_provider.runtime.raw_speed import Sample

NAMED = 5
"""So many keys an error lists."""

GATHERED_BYTES = 8 << 20
"""Of a row group in the file that a replay's rows are gathered in, about."""


@dataclass(frozen=True)
class QuarantinedRows(Source):
    """Where the quarantined rows of a published day are now: repaired, or still where the day's rows are.

    A row that is not there any more is a row too: it leaves as one that cannot be read. So each quarantined row has
    one outcome again.

    :param quarantine: folder of the day's quarantine
    :param repaired: where repaired inputs lie under the same keys: a folder with files of the same relative paths, or,
        for a day of Parquet files, such a file or a folder of them, with the same columns; what is not there is looked
        for in the day
    """

    quarantine: Path = field(default=Path())
    repaired: Path | None = None

    def list_partition(self, catalog: Path, partition: str) -> Listing:
        """List the rows.

        :raises BadInputError: if the quarantine or what is repaired has a key twice, what is repaired has keys that
            are not in quarantine, or as :meth:`Source.list_partition` does, if the day is needed
        """
        wanted = Wanted.of(self.quarantine)
        folder = catalog / f"ds={partition}"
        if self.key is None or self.input is None:
            return self._files(wanted, folder)
        places, found = [], set[Any]()
        if self.repaired is not None:
            repaired = rows_of(_files_at(self.repaired), self.key, self.input, self.root)
            found = set(_keys_of(repaired, wanted.key_type))
            _require_quarantined(found - set(wanted.addresses), self.repaired)
            places.append(repaired)
        if set(wanted.addresses) - found or not places:
            day = super().list_partition(catalog, partition)
            assert isinstance(day, RowListing)  # noqa: S101  # as key and input are given
            places.append(day)
        return RowsAgain(folder, tuple(places), wanted)

    def _files(self, wanted: Wanted, folder: Path) -> FilesAgain:
        repaired = frozenset[str]()
        if self.repaired is not None:
            if not self.repaired.is_dir():
                raise BadInputError(f"repaired: {self.repaired} is no folder with files under the quarantined keys")
            repaired = frozenset(files_below(self.repaired).sizes)
            _require_quarantined(repaired - set(wanted.addresses), self.repaired)
        keys = tuple(sorted(wanted.addresses))
        listing = FilesAgain(folder, keys, (), repaired=self.repaired or folder, repaired_keys=repaired)
        sizes, changes = zip(*(_size_and_change(listing.address(key)) for key in keys), strict=True)
        return replace(listing, sizes=sizes, newest=max(changes))


@dataclass(frozen=True)
class Wanted:
    """The rows of a quarantine.

    :param key_type: Arrow type of the key
    :param addresses: key to the address that the quarantine names
    :param nameless: addresses of the rows without a key
    """

    key_type: pa.DataType
    addresses: Mapping[Any, str | None]
    nameless: tuple[str | None, ...]

    @classmethod
    def of(cls, folder: Path) -> Wanted:
        """Read a quarantine's files.

        :raises BadInputError: if it is not there, or has a key twice
        """
        import pyarrow.parquet as pq

        paths = sorted(folder.glob("*.parquet"))
        if not paths:
            raise BadInputError(f"there is no quarantine in {folder}; run the day again")
        table = pq.read_table(paths, columns=["key", "address"], partitioning=None)
        pairs = list(zip(table["key"].to_pylist(), table["address"].to_pylist(), strict=True))
        keys = [key for key, _ in pairs if key is not None]
        if len(set(keys)) < len(keys):
            twice = [key for key, count in Counter(keys).items() if count > 1]
            raise BadInputError(
                f"{folder} has {_some(twice)} more than once, and a replay tells rows by their keys; make the keys "
                "unique and run the day again"
            )
        nameless = tuple(address for key, address in pairs if key is None)
        return cls(table.schema.field("key").type, {key: at for key, at in pairs if key is not None}, nameless)

    @property
    def rows(self) -> int:
        return len(self.addresses) + len(self.nameless)


@dataclass(frozen=True)
class FilesAgain(FileListing):
    """Picture files that were quarantined, some of them repaired in another folder.

    :param repaired: that folder
    :param repaired_keys: which lie there
    """

    repaired: Path = field(default=Path())
    repaired_keys: frozenset[str] = frozenset()

    @property
    def read_folders(self) -> tuple[Path, ...]:
        """What executors must see."""
        left = () if self.repaired_keys.issuperset(self.keys) else (self.folder,)
        return (*left, self.repaired) if self.repaired_keys else left

    def address(self, key: str) -> str:
        """Where a row's file lies, or should."""
        return str((self.repaired if key in self.repaired_keys else self.folder) / key)


@dataclass(frozen=True)
class RowsAgain:
    """Rows of Parquet files that were quarantined.

    They lie scattered over the day, and Parquet cannot be entered at a row, so the driver gathers them in one file,
    from which the workers read their shares.

    :param folder: the partition's folder
    :param places: where to look for a row, the first that has it wins; whether they hold pictures or addresses is the
        same for all, as only addresses have a root
    :param wanted: the rows
    """

    folder: Path
    places: tuple[RowListing, ...]
    wanted: Wanted

    files = 1
    read_folders = ()  # only what lies in the output folder

    @property
    def rows(self) -> int:
        return self.wanted.rows

    @property
    def bytes(self) -> int:
        """As if they were average rows."""
        return self.rows * sum(place.bytes for place in self.places) // sum(place.rows for place in self.places)

    @property
    def largest(self) -> int:
        return max(place.largest for place in self.places)

    @property
    def newest(self) -> float:
        return max(place.newest for place in self.places)

    @property
    def key_type(self) -> str:
        return str(self.wanted.key_type)

    @property
    def from_bytes(self) -> bool:
        return self.places[0].from_bytes

    @property
    def columns(self) -> dict[str, str]:
        """Columns that the task reads, under their names in the file."""
        return {name: name for name in (("key", "image", "address") if self.from_bytes else ("key", "address"))}

    def samples(self, count: int, rows: int) -> list[Sample]:
        """So many samples of about so many rows each, of all rows where these ones lie."""
        return self.places[0].samples(count, rows)

    def shares(self, parts: int, work: Path) -> list[Share]:
        """Gather the rows in a file in ``work`` and cut that into even shares.

        :raises BadInputError: if a wanted key is there twice
        """
        import pyarrow.parquet as pq

        from airflow_onnx_provider.runtime.parquet import row_groups

        work.mkdir(parents=True, exist_ok=True)
        path = work / "rows.parquet"
        with pq.ParquetWriter(path, self._schema) as writer:
            for table in _in_groups(self._gathered()):
                writer.write_table(table)
        return cut_row_groups(row_groups([str(path)]), parts)

    @property
    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        types = {"key": self.wanted.key_type, "image": pa.binary(), "address": pa.string()}
        return pa.schema([(name, types[name]) for name in self.columns])

    def _gathered(self) -> Iterator[pa.Table]:
        """Each wanted row once; those that are nowhere come last, without a picture."""
        import pyarrow as pa

        left = dict(self.wanted.addresses)
        for place in self.places:
            here = set[Any]()
            for batch in _rows_with(place, pa.array(list(left), self.wanted.key_type), self.wanted.key_type):
                columns = [batch.column(0).cast(self.wanted.key_type), *batch.columns[1:]]
                keys = columns[0].to_pylist()
                if twice := here.intersection(keys) | {key for key, count in Counter(keys).items() if count > 1}:
                    raise BadInputError(
                        f"{place.folder} has {_some(twice)} more than once, and a replay tells rows by their keys; "
                        "make the keys unique"
                    )
                here.update(keys)
                yield pa.Table.from_arrays(columns, schema=self._schema)
            left = {key: address for key, address in left.items() if key not in here}
        rows = [*left.items(), *((None, address) for address in self.wanted.nameless)]
        yield pa.Table.from_pylist([{"key": key, "address": at} for key, at in rows], schema=self._schema)


def _rows_with(place: RowListing, wanted: pa.Array, key_type: pa.DataType) -> Iterator[pa.RecordBatch]:
    """The rows of these keys: key, picture and address, or key and address. Row groups without any are not read."""
    import pyarrow.compute as pc

    from airflow_onnx_provider.runtime.parquet import read_pieces

    at = "row_address" if place.from_bytes else ""
    for piece, keys in _keys_by_group(place, key_type):
        if pc.any(pc.is_in(keys, value_set=wanted)).as_py():
            for batch in read_pieces([piece], [place.key, place.input], row_address=at):
                rows = batch.select([place.key, place.input, *([at] if at else [])])
                mine = pc.is_in(rows.column(0).cast(key_type), value_set=wanted)
                yield rows.filter(mine)


def _keys_of(place: RowListing, key_type: pa.DataType) -> Iterator[Any]:
    for _, keys in _keys_by_group(place, key_type):
        yield from keys.to_pylist()


def _keys_by_group(place: RowListing, key_type: pa.DataType) -> Iterator[tuple[Any, pa.ChunkedArray]]:
    """Each row group, and its keys as the quarantine has them.

    :raises BadInputError: if their type is another one
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path, pieces in groupby(place.groups, lambda piece: piece.path):
        with pq.ParquetFile(path) as file:
            for piece in pieces:
                keys = file.read_row_group(piece.group, columns=[place.key], use_threads=False).column(0)
                try:
                    yield piece, keys.cast(key_type)
                except pa.ArrowInvalid as error:
                    raise BadInputError(
                        f"{path}: the key {place.key} is {keys.type}, but the quarantine has {key_type}: {error}"
                    ) from error


def _in_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about :data:`GATHERED_BYTES`."""
    import pyarrow as pa

    held: list[pa.Table] = []
    for table in tables:
        if not table.num_rows:
            continue
        held.append(table)
        if sum(one.nbytes for one in held) >= GATHERED_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _files_at(place: Path) -> Files:
    """One file, or all below a folder.

    :raises BadInputError: if there are none
    """
    if place.is_file():
        status = place.stat()
        return Files(place.parent, {place.name: status.st_size}, status.st_mtime)
    files = files_below(place)
    if not files.sizes:
        raise BadInputError(f"repaired: there is no file at {place}")
    return files


def _size_and_change(address: str) -> tuple[int, float]:
    try:
        status = Path(address).stat()
    except OSError:
        return 0, 0.0  # it leaves as unreadable, with the system's words
    return status.st_size, status.st_mtime


def _require_quarantined(others: Collection[Any], repaired: Path) -> None:
    if others:
        raise BadInputError(
            f"{repaired} has {_some(others)}, which the day's quarantine has not; take out what was never quarantined "
            "or is predicted by now"
        )


def _some(keys: Collection[Any]) -> str:
    listed: Sequence[str] = sorted(map(repr, keys))
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return f"the key{'s' if len(listed) > 1 else ''} {', '.join(listed[:NAMED])}{more}"
