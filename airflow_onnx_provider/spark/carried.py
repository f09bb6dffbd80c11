# SPDX-License-Identifier: Apache-2.0
"""Answers that this model gave to the same contents before: gathered from published days for the workers to look up."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.known import CONTENT, write_known
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from airflow_onnx_provider.spark.settings import JobSettings

log = logging.getLogger("airflow_onnx_provider")

ROWS_A_FILE = 4_000_000
"""A lookup file of this many rows is a few hundred megabytes, which one Spark task sorts in memory."""


def gather(spark: Any, layout: OutputLayout, settings: JobSettings, answers: Answers, target: Path) -> int:
    """Write what is known into ``target``, from this day as it is published and from the last one before it.

    Days count whose rows have contents and were scored with the same decoder and the same kept answers; of those, rows
    of the same model.

    :return: how many contents are known
    """
    target.mkdir(parents=True, exist_ok=True)
    days = [day for day in (settings.partition, *_before(layout, settings.partition)) if _fits(layout, settings, day)]
    wanted = [CONTENT, *(each.name for each in answers.fields), "runtime_version", "execution_provider"]
    folders = [layout.published(day) for day in days]
    folders = [folder for folder in folders if set(wanted) <= set(_columns(folder))]
    if not folders:
        log.info("no earlier day has rows of this model with their contents: every row is scored")
        return 0
    rows = sum(pq.read_metadata(file).num_rows for folder in folders for file in folder.glob("*.parquet"))
    earlier = spark.read.parquet(*map(str, folders))
    same = earlier.where((earlier.model_digest == settings.model["digest"]) & earlier[CONTENT].isNotNull())
    sorted_out = same.select(*wanted).dropDuplicates([CONTENT]).repartitionByRange(rows // ROWS_A_FILE + 1, CONTENT)

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"rows": [write_known(target, batches)]})

    known = sum(int(row.rows) for row in sorted_out.mapInArrow(write, "rows bigint").collect())
    log.info("%d contents are known from %s", known, ", ".join(folder.name for folder in folders))
    return known


def _before(layout: OutputLayout, partition: str) -> list[str]:
    return [day for day in layout.published_partitions() if day < partition][-1:]


def _fits(layout: OutputLayout, settings: JobSettings, day: str) -> bool:
    """Whether a published day's rows would be the same if they were scored now, apart from their model."""
    try:
        run = json.loads((layout.published(day) / RUN_FILE).read_bytes())
    except FileNotFoundError:
        return False
    return dict(run.get("scoring") or {}) == scoring_of(settings)


def scoring_of(settings: JobSettings) -> dict[str, Any]:
    """What decides a row's answers beside its content and its model; recorded in the run manifest."""
    profile = settings.execution
    return {
        "provider": profile.provider,
        "decoder": profile.decoder,
        "top_k": settings.top_k,
        "raw": list(settings.raw),
    }


def _columns(folder: Path) -> list[str]:
    file = next(folder.glob("*.parquet"), None)
    return list(pq.read_schema(file).names) if file else []
