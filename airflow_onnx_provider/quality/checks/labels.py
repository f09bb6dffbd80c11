# SPDX-License-Identifier: Apache-2.0
"""The labels table: what people say is in some of a day's rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.spark.layout import local_path

PLACE = "{partition}"
KEYS = ("key", "file")
LABEL = "label"
KINDS = {".parquet": "read_parquet", ".csv": "read_csv"}
CSV = ", header = true, all_varchar = true, delim = ',', quote = '\"'"


@dataclass(frozen=True)
class LabelsTable:
    """A labels table that was found.

    :param path: of the file or folder
    :param files: CSV or Parquet files, all of one kind
    :param key: the column with the rows' keys
    """

    path: Path
    files: tuple[Path, ...]
    key: str

    @classmethod
    def find(cls, path: str, partition: str, connection: Any) -> LabelsTable:
        """Look for a partition's labels.

        :param path: CSV or Parquet file, or a folder of either, with the columns ``key`` and ``label``; a column
            ``file`` serves as the key too. ``{partition}`` in it stands for the partition's name
        :param connection: to DuckDB
        :raises BadInputError: if there is none, or a column is missing
        """
        found = local_path(path.replace(PLACE, partition), "labels")
        files = _files(found)
        relation, given = scan(files)
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM {relation}", given).fetchall()  # noqa: S608
        except _errors() as error:
            raise BadInputError(f"labels: {found} cannot be read: {str(error).splitlines()[0]}") from error
        columns = [row[0] for row in described]
        key = next((name for name in KEYS if name in columns), None)
        if key is None or LABEL not in columns:
            raise BadInputError(f"labels: {found} needs the columns key and label, it has {', '.join(columns)}")
        return cls(found, files, key)

    def load(self, connection: Any) -> int:
        """Make the DuckDB table ``truth`` of ``key`` and ``label``, both text, one row a key, and give its rows.

        Rows without a key or a label are left out.

        :raises BadInputError: if the files cannot be read, or a key has two labels, naming one
        """
        relation, given = scan(self.files)
        try:
            connection.execute(
                f"CREATE TEMP TABLE truth AS SELECT {self.key}::VARCHAR AS key, min({LABEL}::VARCHAR) AS label, "  # noqa: S608
                f"max({LABEL}::VARCHAR) AS other FROM {relation} "
                f"WHERE {self.key} IS NOT NULL AND {LABEL} IS NOT NULL GROUP BY 1",
                given,
            )
        except _errors() as error:
            raise BadInputError(f"labels: {self.path} cannot be read: {str(error).splitlines()[0]}") from error
        twice = connection.execute("SELECT key, label, other FROM truth WHERE label <> other LIMIT 1").fetchone()
        if twice:
            raise BadInputError(f"labels: {self.path} calls {twice[0]!r} both {twice[1]!r} and {twice[2]!r}")
        return int(connection.execute("SELECT count(*) FROM truth").fetchone()[0])


def absence(path: str, partition: str) -> str:
    """Why a partition has no labels, empty if it has or must have some: a table for each day may come later, or never.

    :param path: of the labels table, as for :meth:`LabelsTable.find`
    """
    found = local_path(path.replace(PLACE, partition), "labels")
    return f"there are no labels at {found}" if PLACE in path and not found.exists() else ""


def scan(files: tuple[Path, ...]) -> tuple[str, list[list[str]]]:
    """How DuckDB reads files of one kind: the table function, and the parameter that it needs.

    DuckDB takes ``[``, ``*`` and ``?`` in a path for a pattern, so each is written as a set of one character.
    """
    paths = ["".join(f"[{one}]" if one in "[*?" else one for one in str(file)) for file in files]
    if files[0].suffix.lower() == ".csv":
        return f"read_csv(?{CSV})", [paths]
    return "read_parquet(?, hive_partitioning = false)", [paths]


def _files(path: Path) -> tuple[Path, ...]:
    """The file itself, or a folder's files of one kind.

    :raises BadInputError: if there is none
    """
    if path.is_file():
        if path.suffix.lower() not in KINDS:
            raise BadInputError(f"labels: {path} is neither a .csv nor a .parquet file")
        return (path,)
    if not path.is_dir():
        raise BadInputError(f"labels: there is no {path}; give a day without labels no labels=, or add the file")
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name[0] not in "._")
    kinds = {file.suffix.lower() for file in files} & set(KINDS)
    if len(kinds) != 1:
        found = "both .csv and .parquet files" if kinds else "neither .csv nor .parquet files"
        raise BadInputError(f"labels: the folder {path} holds {found}; it needs files of one of the two kinds")
    return tuple(file for file in files if file.suffix.lower() in kinds)


def _errors() -> type[Exception]:
    import duckdb

    error: type[Exception] = duckdb.Error
    return error
