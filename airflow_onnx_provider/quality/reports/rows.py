# SPDX-License-Identifier: Apache-2.0
"""A few rows of a run, picked by DuckDB: it reads the files in pieces and stays within its memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from airflow_onnx_provider.exceptions import SparkJobError

ROWS = "read_parquet(?, hive_partitioning = false)"
MEMORY = "512MB"
THREADS = 2
MAX_ERROR = 300
"""Characters of an error that are read."""

MAX_COPY = 1 << 20
"""Bytes of a quarantined row's copy that are read."""


@dataclass(frozen=True)
class Row:
    """A predicted row.

    :param key: as text
    """

    key: str
    label: str
    score: float


@dataclass(frozen=True)
class Refused:
    """A row in quarantine.

    :param address: where its input was, as the run saw it
    :param copy: of its input, if the run kept one
    """

    key: str
    stage: str
    reason: str
    error: str
    address: str
    copy: bytes | None = None


def best_rows(files: Sequence[str], labels: Sequence[str], count: int) -> dict[str, list[Row]]:
    """Of each of these labels the rows with the highest scores, the highest first; of equal ones the last keys.

    :param files: Parquet files with ``key``, ``label``, ``score``
    :raises SparkJobError: if they cannot be read
    """
    if not files or not labels:
        return {}
    query = f"""
        SELECT label, max({{'score': score, 'key': key::VARCHAR}}, {count:d})
        FROM {ROWS}
        WHERE label IN (SELECT unnest(?)) AND key IS NOT NULL AND isfinite(score)
        GROUP BY label"""  # noqa: S608  # a number
    with _reading() as database:
        found = database.execute(query, [_as_patterns(files), list(labels)]).fetchall()
    return {label: [Row(one["key"], label, one["score"]) for one in best] for label, best in found}


def doubtful_rows(files: Sequence[str], count: int) -> list[Row]:
    """The rows with the lowest scores of all, the lowest first.

    :param files: Parquet files with ``key``, ``label``, ``score``
    :raises SparkJobError: if they cannot be read
    """
    if not files:
        return []
    query = f"""
        SELECT key::VARCHAR, label, score
        FROM {ROWS}
        WHERE label IS NOT NULL AND key IS NOT NULL AND isfinite(score)
        ORDER BY score, key LIMIT {count:d}"""  # noqa: S608  # a number
    with _reading() as database:
        return [Row(*one) for one in database.execute(query, [_as_patterns(files)]).fetchall()]


def refused_rows(files: Sequence[str], count: int) -> dict[str, list[Refused]]:
    """The first rows of each reason for quarantine, by their keys.

    :param files: Parquet files with ``key``, ``stage``, ``reason``, ``error``, ``address``, and maybe ``copy``
    :raises SparkJobError: if they cannot be read
    """
    if not files:
        return {}
    with _reading() as database:
        patterns = _as_patterns(files)
        described = database.execute(f"DESCRIBE FROM {ROWS}", [patterns]).fetchall()
        columns = {name: kind for name, kind, *_ in described}
        copy = f"copy[1:{MAX_COPY}]" if columns.get("copy") == "BLOB" else "NULL::BLOB"
        fields = ", ".join(
            f"coalesce({name}::VARCHAR, '')[1:{MAX_ERROR}]" if name in columns else "''"
            for name in ("stage", "reason", "error", "address")
        )
        # The keys alone are compared; what may be large is read of the few rows that were picked.
        picked = database.execute(
            f"SELECT reason, min(key::VARCHAR, {count:d}) FROM {ROWS} "  # noqa: S608  # a number
            "WHERE reason IS NOT NULL GROUP BY reason ORDER BY reason LIMIT 50",
            [patterns],
        ).fetchall()
        keys = [key for _, some in picked for key in some or ()]
        found = database.execute(
            f"SELECT key::VARCHAR, {fields}, {copy} FROM {ROWS} "  # noqa: S608  # no name of the data's
            f"WHERE key::VARCHAR IN (SELECT unnest(?)) ORDER BY 1, 3 LIMIT {4 * len(keys):d}",
            [patterns, keys],
        ).fetchall()
    rows = [Refused(*one) for one in found]
    return {reason: [row for row in rows if row.reason == reason][:count] for reason, _ in picked}


@contextmanager
def _reading() -> Iterator[Any]:
    """A database in memory.

    :raises SparkJobError: if what it reads is damaged or does not fit
    """
    import duckdb

    settings = {
        "memory_limit": MEMORY,
        "threads": THREADS,
        "temp_directory": "",  # what does not fit is an error, not a file
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        with duckdb.connect(config=settings) as database:
            yield database
    except duckdb.Error as error:
        raise SparkJobError(f"the rows cannot be read: {str(error).splitlines()[0]}") from error


def _as_patterns(files: Sequence[str]) -> list[str]:
    """DuckDB reads a path as a pattern: what has a meaning there is put in brackets."""
    return [re.sub(r"([\[\]*?])", r"[\1]", file) for file in files]
