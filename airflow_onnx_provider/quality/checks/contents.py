"""What a run's own files say: one DuckDB pass over the staged Parquet for everything that the manifest cannot know."""

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
"""What DuckDB may hold in memory; more than that (about ten million keys) goes to a temporary folder."""

THREADS = 4
CELLS = 2_000


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
            labelled = _load_labels(connection, None if unlabelled else labels, partition)
            try:
                predicted, quarantined = count_rows(layout, partition, run)
                found = _pass(connection, layout, partition, run)
            except (duckdb.Error, ArrowException) as error:
                raise SparkJobError(
                    f"the files of run {run} cannot be read: {str(error).splitlines()[0]}; run inference again"
                ) from error
            accuracy = None if unlabelled else _accuracy(connection, labelled)
    return Contents(predicted, quarantined, accuracy=accuracy, unlabelled=unlabelled, **found)


def _load_labels(connection: Any, labels: str | None, partition: str) -> int:
    """The table ``truth``, empty without labels; give its rows."""
    if labels:
        return LabelsTable.find(labels, partition, connection).load(connection)
    connection.execute("CREATE TEMP TABLE truth (key VARCHAR, label VARCHAR)")
    return 0


def _pass(connection: Any, layout: OutputLayout, partition: str, run: str) -> dict[str, Any]:
    """Read each file once into the small table ``cells``: a row for each pair of true and predicted label."""
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
    rows = " UNION ALL ".join(sources) or "SELECT NULL AS key, NULL AS label, 0.0 AS score, false AS predicted LIMIT 0"
    connection.execute(
        # Files and values travel as parameters; the text is made of this module's own words.
        f"""
        CREATE TEMP TABLE cells AS
        WITH found AS ({rows}), by_key AS (
            SELECT key, count(*) AS rows, bool_or(predicted) AS predicted, min(label) AS label,
                count_if(predicted AND (key IS NULL OR label IS NULL OR score IS NULL)) AS nulls,
                count_if(isnan(score)) AS nans, count_if(isinf(score)) AS infinite,
                count_if(predicted AND coalesce(key IS NULL OR label IS NULL OR NOT isfinite(score), true)) AS unusable
            FROM found GROUP BY key)
        SELECT truth.label AS truth, CASE WHEN truth.label IS NOT NULL THEN by_key.label END AS said,
            truth.label IS NOT NULL AND by_key.predicted AS judged, count(*) AS keys,
            sum(CASE WHEN by_key.key IS NULL THEN 0 ELSE rows - 1 END) AS duplicates,
            min(CASE WHEN rows > 1 THEN by_key.key::VARCHAR END) AS twice,
            sum(nulls) AS nulls, sum(nans) AS nans, sum(infinite) AS infinite, sum(unusable) AS unusable
        FROM by_key LEFT JOIN truth ON truth.key = by_key.key::VARCHAR
        GROUP BY ALL
        """,  # noqa: S608
        given,
    )
    names = ("duplicates", "nulls", "nans", "infinite", "unusable")
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in names)
    *counts, twice = connection.execute(f"SELECT {sums}, coalesce(min(twice), '') FROM cells").fetchone()  # noqa: S608
    return {**{name: int(value) for name, value in zip(names, counts, strict=True)}, "twice": twice}


def _folders(layout: OutputLayout, partition: str, run: str) -> tuple[Path, Path]:
    """Where :func:`~airflow_onnx_provider.spark.staged.count_rows` counted: predictions and quarantine."""
    staged = layout.staging(run)
    if published_run(layout, partition) != run:
        return staged / "predictions", staged / "quarantine"
    left = staged / "quarantine"
    return layout.published(partition), left if left.is_dir() else layout.quarantine(partition)


def _accuracy(connection: Any, labelled: int) -> Accuracy:
    """Accuracy, recall and confusion from ``cells``."""
    from scipy.stats import binomtest

    recall = {
        label: (int(right), int(rows))
        for label, right, rows in connection.execute(
            "SELECT truth, coalesce(sum(keys) FILTER (said = truth), 0), sum(keys) FROM cells WHERE judged "
            "GROUP BY truth ORDER BY truth"
        ).fetchall()
    }
    confusion = connection.execute(
        f"SELECT truth, coalesce(said, ''), keys FROM cells WHERE judged ORDER BY keys DESC, 1, 2 LIMIT {CELLS}"  # noqa: S608
    ).fetchall()
    correct, rows = sum(right for right, _ in recall.values()), sum(all_ for _, all_ in recall.values())
    interval = binomtest(correct, rows).proportion_ci(method="wilson") if rows else (0.0, 1.0)
    return Accuracy(
        rows=rows,
        missing=labelled - rows,
        correct=correct,
        low=float(interval[0]),
        high=float(interval[1]),
        recall=recall,
        confusion=tuple((truth, said, int(keys)) for truth, said, keys in confusion),
    )
