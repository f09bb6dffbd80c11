# SPDX-License-Identifier: Apache-2.0
"""Score any Spark DataFrame, with or without Airflow: in a notebook, in a job of one's own, in a stream."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_onnx_provider.exceptions import BadInputError, needs_extra
from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.feed import InputColumns, input_columns
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.runtime.outcomes import outcome_schema
from airflow_onnx_provider.runtime.parquet import read_pieces, row_groups
from airflow_onnx_provider.runtime.profile import ExecutionProfile, profile_named
from airflow_onnx_provider.runtime.scorer import score_rows
from airflow_onnx_provider.runtime.session import load_model
from airflow_onnx_provider.spark.shares import cut_row_groups

_Given = str | Sequence[str] | Mapping[str, str | Sequence[str]]

BOUNDS = {
    "spark.sql.execution.arrow.maxBytesPerBatch": "8m",
    "spark.sql.parquet.columnarReaderBatchSize": "256",
}
"""Spark's own 64 MB an Arrow batch and 4,096 rows a read suit narrow rows; with photographs they fill the heap."""


def score(
    df: Any,
    model: str | Path,
    *,
    key: str | Sequence[str],
    input: _Given,  # noqa: A002
    profile: str | ExecutionProfile = "cpu-throughput",
    top_k: int = 0,
    raw: Sequence[str] = (),
) -> Any:
    """Score each row of a DataFrame once, in one ``mapInArrow`` pass.

    A row that cannot be read, decoded or scored is given back with its reason; it never ends the job. The workers must
    see the model's folder, and files that the rows name, under the same paths, and must be able to import this
    package's ``runtime`` and ``spark`` floors and onnxruntime. If a column holds bytes, the session's :data:`BOUNDS`
    are set, unless you have set them yourself, so that memory stays flat.

    :param df: a Spark DataFrame, streaming ones included
    :param model: folder of a validated model version
    :param key: column or columns that are given back with each row
    :param input: what feeds the model: a column (encoded pictures, paths of picture files, token ids, arrays, plain
        values), several columns that are the features of one tensor, or such for each input of the model by its name
    :param profile: name of an execution profile, or one of your own
    :param top_k: list this many of the best classes
    :param raw: outputs of the model to keep whole, as arrays
    :return: the key, ``outcome`` (``predicted`` or ``quarantined``), ``label``, ``score``, ``top_k`` (if asked for),
        one column for each raw output, and for a quarantined row ``stage``, ``reason``, ``error``
    :raises BadInputError: before anything runs, for a model, column or type that does not fit
    """
    with needs_extra("spark", "score"):
        from pyspark.sql.pandas.types import from_arrow_schema

    keys = _as_names(key)
    named = df.select(*_needed(keys, input, df.columns))
    if any(kind == "binary" for _, kind in named.dtypes):
        for name, value in BOUNDS.items():
            if df.sparkSession.conf.get(name, None) is None:
                df.sparkSession.conf.set(name, value)
    task = _Scoring.of(model, _arrow_schema(named), keys=keys, given=input, profile=profile, top_k=top_k, raw=raw)
    return named.mapInArrow(task, from_arrow_schema(task.schema, prefer_timestamp_ntz=True))


def score_parquet(
    spark: Any,
    paths: Sequence[str | Path],
    model: str | Path,
    *,
    key: str | Sequence[str],
    input: _Given,  # noqa: A002
    partitions: int,
    profile: str | ExecutionProfile = "cpu-throughput",
    top_k: int = 0,
    raw: Sequence[str] = (),
) -> Any:
    """Score Parquet files that the workers read themselves: like :func:`score`, but no row goes through the JVM.

    Spark turns every cell into a row and back before Python sees it. For wide tables that costs more than the model.

    :param paths: Parquet files of one schema, which this process and the workers see under the same paths
    :param partitions: Spark tasks; a row group is divided only where it is larger than a
        task's even share
    :raises BadInputError: before anything runs, for a model, column or type that does not fit, or no files
    """
    with needs_extra("spark", "score_parquet"):
        from pyspark.sql.pandas.types import from_arrow_schema

    files = [str(Path(path).absolute()) for path in paths]
    if not files:
        raise BadInputError("there is no Parquet file to score")
    if partitions < 1:
        raise BadInputError(f"partitions must be at least 1, got {partitions}")
    keys = _as_names(key)
    schema = pq.read_schema(files[0])
    names = _needed(keys, input, schema.names)
    task = _Scoring.of(model, schema, keys=keys, given=input, profile=profile, top_k=top_k, raw=raw)
    shares = cut_row_groups(row_groups(files), partitions)

    def read_and_score(numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine = [piece for batch in numbers for number in batch.column(0).to_pylist() for piece in shares[number].pieces]
        yield from task(read_pieces(mine, names))

    slots = spark.range(0, len(shares), 1, len(shares))
    return slots.mapInArrow(read_and_score, from_arrow_schema(task.schema, prefer_timestamp_ntz=True))


@dataclass(frozen=True)
class _Scoring:
    """What a Spark task does, checked before it starts."""

    folder: Path
    digest: str
    profile: ExecutionProfile
    columns: InputColumns
    kept: tuple[pa.Field, ...]
    answers: Answers

    @classmethod
    def of(
        cls,
        model: str | Path,
        schema: pa.Schema,
        *,
        keys: Sequence[str],
        given: _Given,
        profile: str | ExecutionProfile,
        top_k: int,
        raw: Sequence[str],
    ) -> _Scoring:
        folder = Path(model).absolute()
        manifest = ModelManifest.read(folder)
        if manifest.golden is None:
            raise BadInputError(f"{folder} was never validated, so it has no golden rows to prove it by")
        return cls(
            folder=folder,
            digest=manifest.digest,
            profile=profile_named(profile) if isinstance(profile, str) else profile,
            columns=input_columns(manifest, given, schema),
            kept=tuple(schema.field(name) for name in keys),
            answers=Answers.of(manifest, top_k, raw),
        )

    @property
    def schema(self) -> pa.Schema:
        return outcome_schema(self.kept, self.answers)

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = load_model(self.folder, self.digest, self.profile)
        yield from score_rows(
            batches, model, columns=self.columns, kept=self.kept, answers=self.answers, metrics=TaskMetrics()
        )


def _arrow_schema(df: Any) -> pa.Schema:
    from pyspark.sql.pandas.types import to_arrow_schema

    if "timezone" not in inspect.signature(to_arrow_schema).parameters:  # before Spark 4.2
        return to_arrow_schema(df.schema)
    return to_arrow_schema(df.schema, timezone=df.sparkSession.conf.get("spark.sql.session.timeZone"))


def _as_names(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _needed(keys: Sequence[str], given: _Given, present: Sequence[str]) -> list[str]:
    """The columns that are used, each once, if all are there."""
    parts = list(given.values()) if isinstance(given, Mapping) else [given]
    names = list(dict.fromkeys([*keys, *(name for part in parts for name in _as_names(part))]))
    if absent := sorted(set(names) - set(present)):
        raise BadInputError(f"there is no column {', '.join(absent)}; the data has {', '.join(present)}")
    return names
