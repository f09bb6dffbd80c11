# SPDX-License-Identifier: Apache-2.0
"""What a run's own files say: DuckDB scans the staged Parquet for everything that the manifest cannot know."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import SparkJobError
from airflow_onnx_provider.quality.checks.labels import LabelsTable, absence, scan
from airflow_onnx_provider.quality.verdict import Accuracy
from airflow_onnx_provider.runtime.cpu import available_cores
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import published_run
from airflow_onnx_provider.spark.staged import count_rows

MEMORY = "1GB"
"""What DuckDB may hold in memory; more than that (some twenty million keys) goes to a temporary folder."""

THREADS = 4
CELLS = 2_000
MANY = 1_000_000
"""From so many keys on that seem to be there twice, they are not compared one by one any more."""


@dataclass(frozen=True)
class Contents:
    """What lies in a run's files.

    :param predicted: rows of predictions, from the files' footers
    :param quarantined: rows of the quarantine, likewise
    :param duplicates: rows, predicted or quarantined, whose key another row before has; rows without a key left out
    :param twice: one such key, empty if there is none
    :param nulls: predicted rows without key, label or score
    :param nans: predicted rows whose score is NaN
    :param infinite: predicted rows whose score is infinite
    :param unusable: predicted rows to which any of the three applies
    :param accuracy: against the labels table, None without one
    :param unlabelled: why there is none, empty with one
    """

    predicted: int
    quarantined: int
    duplicates: int = 0
    twice: str = ""
    nulls: int = 0
    nans: int = 0
    infinite: int = 0
    unusable: int = 0
    accuracy: Accuracy | None = None
    unlabelled: str = "no labels were given"


def read_contents(layout: OutputLayout, partition: str, run: str, labels: str | None = None) -> Contents:
    """Look into a run's files, staged or already published. No row is loaded into Python.

    :param labels: path of a labels table, see :meth:`~airflow_onnx_provider.quality.checks.labels.LabelsTable.find`
    :raises BadInputError: if the labels table is not there or cannot be used
    :raises PublishError: if the run is neither staged nor published
    :raises SparkJobError: if a file of the run cannot be read
    """
    import duckdb
    from pyarrow import ArrowException

    unlabelled = absence(labels, partition) if labels else "no labels were given"
    with tempfile.TemporaryDirectory(prefix="onnx-checks-") as scratch:
        settings = {"memory_limit": MEMORY, "temp_directory": scratch, "threads": min(THREADS, available_cores())}
        with duckdb.connect(config={**settings, "preserve_insertion_order": False}) as connection:
            table = LabelsTable.find(labels, partition, connection) if labels and not unlabelled else None
            try:
                predicted, quarantined = count_rows(layout, partition, run)
                rows, given = _rows(layout, partition, run)
                found = {**_unusable(connection, rows, given), **_duplicates(connection, rows, given)}
                accuracy = _accuracy(connection, table, rows, given) if table else None
            except (duckdb.Error, ArrowException) as error:
                raise SparkJobError(
                    f"the files of run {run} cannot be read: {str(error).splitlines()[0]}; run inference again"
                ) from error
    return Contents(predicted, quarantined, accuracy=accuracy, unlabelled=unlabelled, **found)


def _unusable(connection: Any, rows: str, given: list[list[str]]) -> dict[str, int]:
    """Predicted rows that lack something."""
    counts = connection.execute(
        # Files travel as parameters; the text is made of this module's own words.
        f"""
        SELECT count_if(key IS NULL OR label IS NULL OR score IS NULL), count_if(isnan(score)), count_if(isinf(score)),
            count_if(coalesce(key IS NULL OR label IS NULL OR NOT isfinite(score), true))
        FROM ({rows}) WHERE predicted
        """,  # noqa: S608
        given,
    ).fetchone()
    return dict(zip(("nulls", "nans", "infinite", "unusable"), (int(one or 0) for one in counts), strict=True))


def _duplicates(connection: Any, rows: str, given: list[list[str]]) -> dict[str, Any]:
    """Rows whose key another row before has, and one such key.

    Keys are grouped by a hash of 64 bits: groups of fixed size can go to disk where memory ends, texts cannot. Which of
    the keys that share a hash are the same is then looked at in the keys themselves, unless there are so many that
    the few that share one by chance do not count (one pair in 10⁸ keys is as likely as 1 to 3,700).
    """
    connection.execute(
        "CREATE TEMP TABLE suspects AS SELECT hash, rows FROM "  # noqa: S608
        f"(SELECT hash(key) AS hash, key IS NULL AS absent, count(*) AS rows FROM ({rows}) GROUP BY 1, 2) "
        "WHERE rows > 1 AND NOT absent",
        given,
    )
    groups, surplus, one = connection.execute("SELECT count(*), sum(rows - 1), min(hash) FROM suspects").fetchone()
    if groups > MANY:
        twice = connection.execute(
            f"SELECT min(key::VARCHAR) FROM ({rows}) WHERE hash(key) = ?",  # noqa: S608
            [*given, one],
        ).fetchone()[0]
        return {"duplicates": int(surplus), "twice": twice}
    duplicates, twice = connection.execute(
        "SELECT coalesce(sum(rows - 1), 0), coalesce(min(key::VARCHAR), '') FROM "  # noqa: S608
        f"(SELECT key, count(*) AS rows FROM ({rows}) WHERE hash(key) IN (SELECT hash FROM suspects) GROUP BY 1) "
        "WHERE rows > 1 AND key IS NOT NULL",
        given,
    ).fetchone()
    return {"duplicates": int(duplicates), "twice": twice}


def _rows(layout: OutputLayout, partition: str, run: str) -> tuple[str, list[list[str]]]:
    """A query of all rows of a run, predicted and quarantined, and its parameters."""
    predictions, quarantine = _folders(layout, partition, run)
    sources, given = [], []
    for folder, columns in (
        (predictions, "key, label, score, true AS predicted"),
        (quarantine, "key, NULL AS label, NULL AS score, false AS predicted"),
    ):
        if files := tuple(sorted(folder.glob("*.parquet"))):
            relation, paths = scan(files)
            sources.append(f"SELECT {columns} FROM {relation}")  # noqa: S608
            given += paths
    empty = "SELECT NULL AS key, NULL AS label, 0.0 AS score, false AS predicted LIMIT 0"
    return " UNION ALL ".join(sources) or empty, given


def _folders(layout: OutputLayout, partition: str, run: str) -> tuple[Path, Path]:
    """Where :func:`~airflow_onnx_provider.spark.staged.count_rows` counted: predictions and quarantine."""
    staged = layout.staging(run)
    if published_run(layout, partition) != run:
        return staged / "predictions", staged / "quarantine"
    left = staged / "quarantine"
    return layout.published(partition), left if left.is_dir() else layout.quarantine(partition)


def _accuracy(connection: Any, table: LabelsTable, rows: str, given: list[list[str]]) -> Accuracy:
    """Accuracy, recall and confusion on the labelled rows; a key that is there twice counts once."""
    from scipy.stats import binomtest

    labelled = table.load(connection)
    connection.execute(
        "CREATE TEMP TABLE answers AS SELECT any_value(truth.label) AS truth, min(found.label) AS said "  # noqa: S608
        f"FROM ({rows}) AS found JOIN truth ON truth.key = found.key::VARCHAR WHERE predicted GROUP BY truth.key",
        given,
    )
    recall = {
        label: (int(right), int(count))
        for label, right, count in connection.execute(
            "SELECT truth, count(*) FILTER (said = truth), count(*) FROM answers GROUP BY 1 ORDER BY 1"
        ).fetchall()
    }
    confusion = connection.execute(
        "SELECT truth, coalesce(said, ''), count(*) FROM answers GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT ?", [CELLS]
    ).fetchall()
    correct, count = sum(right for right, _ in recall.values()), sum(all_ for _, all_ in recall.values())
    interval = binomtest(correct, count).proportion_ci(method="wilson") if count else (0.0, 1.0)
    return Accuracy(
        rows=count,
        missing=labelled - count,
        correct=correct,
        low=float(interval[0]),
        high=float(interval[1]),
        recall=recall,
        confusion=tuple((truth, said, int(cell)) for truth, said, cell in confusion),
    )
