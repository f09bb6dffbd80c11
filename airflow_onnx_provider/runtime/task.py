# SPDX-License-Identifier: Apache-2.0
"""What one Spark task does with its rows: the same in the worker itself and in a child process that may crash."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from airflow_onnx_provider.exceptions import RowError
from airflow_onnx_provider.runtime.addresses import resolve
from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.copies import INPUT_FIELDS, Copies
from airflow_onnx_provider.runtime.fetch import IMAGE, Fetch
from airflow_onnx_provider.runtime.known import CONTENT, KnownAnswers
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.runtime.outcomes import outcome_schema
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.runtime.scorer import score_rows
from airflow_onnx_provider.runtime.session import load_model

METRICS = "metrics"
"""Outcome of the one row that each task adds to tell what it measured of itself.

Metrics travel as rows of the same committed output, so that a retried or speculative task cannot count twice.
"""

PROVENANCE = [pa.field("runtime_version", pa.string()), pa.field("execution_provider", pa.string())]


@dataclass(frozen=True)
class ScoringTask:
    """Scores rows of ``key`` and ``address``, and :data:`IMAGE` if they hold their bytes themselves.

    :param folder: the model version's folder on this machine
    :param digest: of the model
    :param profile: how the model runs
    :param key_type: Arrow type of the key, by its name
    :param from_bytes: whether rows hold their pictures' bytes; else the addresses are read
    :param root: folder or URL below which addresses must lie; None: they are the catalogue's own files
    :param known: folder of answers that are known by content; None: contents do not matter
    :param top_k: how many of the best classes to list
    :param raw: outputs to keep whole
    :param number: of the task
    :param copy_bytes: quarantined rows leave with a copy of their encoded input if it is no larger; 0: without
    """

    folder: str
    digest: str
    profile: ExecutionProfile
    key_type: str = "string"
    from_bytes: bool = False
    root: str | None = None
    known: str | None = None
    top_k: int = 0
    raw: tuple[str, ...] = ()
    number: int = 0
    copy_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**plain, "profile": self.profile.to_dict(), "raw": list(self.raw)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScoringTask:
        """Inverse of :meth:`to_dict`."""
        profile = ExecutionProfile.from_dict(data["profile"])
        return cls(**{**data, "profile": profile, "raw": tuple(data["raw"])})

    @property
    def kept(self) -> tuple[pa.Field, ...]:
        """What leaves with each row."""
        return pa.field("key", pa.type_for_alias(self.key_type)), pa.field("address", pa.string())

    @cached_property
    def answers(self) -> Answers:
        return Answers.of(ModelManifest.read(Path(self.folder)), self.top_k, self.raw)

    @cached_property
    def schema(self) -> pa.Schema:
        """Of what it yields: a scored row's columns and its input's, its content if that matters, and more."""
        content = [] if self.known is None else [pa.field(CONTENT, pa.binary())]
        fields = outcome_schema(self.kept, self.answers, INPUT_FIELDS)
        return pa.schema([*fields, *content, *PROVENANCE, pa.field(METRICS, pa.string())])

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Give each row one outcome, and last a row of metrics."""
        before = time.perf_counter()
        model = load_model(Path(self.folder), self.digest, self.profile)
        metrics = TaskMetrics(load_seconds=time.perf_counter() - before, golden_difference=model.golden_difference)
        provenance = {"runtime_version": model.runtime_version, "execution_provider": model.provider}
        fetch, kept, column = None, list(self.kept), IMAGE if self.from_bytes else "address"
        if self.root is not None or self.known is not None:
            fetch = Fetch(self.root, None if self.known is None else KnownAnswers(Path(self.known)), metrics)
            batches, column = fetch.to_score(batches), IMAGE
            kept += [] if self.known is None else [pa.field(CONTENT, pa.binary())]
        columns, copies = {model.input_name: (column,)}, Copies(self.copy_bytes)
        for batch in score_rows(
            batches, model, columns=columns, kept=kept, answers=self.answers, metrics=metrics, copies=copies
        ):
            yield self._whole({name: batch.column(name) for name in batch.schema.names}, provenance)
            for left in fetch.left() if fetch else ():
                yield self._whole(left, provenance)
        for left in fetch.left() if fetch else ():
            yield self._whole(left, provenance)
        told = json.dumps({**metrics.to_dict(), "task": self.number})
        yield pa.RecordBatch.from_pylist([{"outcome": METRICS, METRICS: told}], schema=self.schema)

    def input_of(self, row: pa.RecordBatch) -> dict[str, pa.Array]:
        """The columns that tell of a single row's input, which is read again if it lies in a file on this machine."""
        size, copy, copies = None, None, Copies(self.copy_bytes)
        if IMAGE in row.schema.names:
            if (buffer := row.column(IMAGE)[0].as_buffer()) is not None:
                size, copy = buffer.size, copies.of(memoryview(buffer))
        elif (address := row.column("address")[0].as_py()) is not None:
            with suppress(RowError):  # an address that leads elsewhere is not followed
                place = address if self.root is None else resolve(address, self.root)
                size, copy = copies.of_file(place)  # of a URL it finds nothing
        return {each.name: pa.array([value], each.type) for each, value in zip(INPUT_FIELDS, (size, copy), strict=True)}

    def _whole(self, columns: Mapping[str, Any], provenance: Mapping[str, str]) -> pa.RecordBatch:
        """A batch of :attr:`schema`; what a row has not is null."""
        rows = len(columns["outcome"])
        given = {name: pa.repeat(value, rows) for name, value in provenance.items()} | dict(columns)
        arrays = [given[each.name] if each.name in given else pa.nulls(rows, each.type) for each in self.schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def metrics_of(told: str) -> tuple[int, TaskMetrics]:
    """What a metrics row says: the number of the task, and its measurements."""
    data = json.loads(told)
    return int(data.pop("task")), TaskMetrics.from_dict(data)
