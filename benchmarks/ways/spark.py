# SPDX-License-Identifier: Apache-2.0
"""A Spark session for one way: the same settings for all of them, on local cores."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from airflow_onnx_provider.runtime.cpu import available_cores
from benchmarks.environment import HOME
from benchmarks.ways import Pass
from benchmarks.works import Task

Scored = Callable[[Any, Task], Any]
"""A frame of the data and the task → a frame with the columns key, label (a number) and score."""


class SparkWay:
    """Scores by a Spark plan. The result's columns are all computed, and thrown away after they are counted."""

    def __init__(self, scored: Scored) -> None:
        self._scored = scored

    def start(self, task: Task) -> None:
        from pyspark.sql import SparkSession

        settings = {
            "spark.driver.memory": "2g",
            "spark.driver.extraJavaOptions": "-XX:+UseSerialGC",
            "spark.ui.enabled": "false",
            "spark.local.dir": str(HOME / "spark"),
            "spark.sql.warehouse.dir": str(HOME / "spark"),
            "spark.sql.execution.arrow.pyspark.enabled": "true",
            "spark.sql.execution.arrow.maxRecordsPerBatch": str(task.arrow_rows),
            "spark.sql.parquet.columnarReaderBatchSize": str(min(task.arrow_rows, 4096)),
        }
        builder = SparkSession.builder.master(f"local[{available_cores()}]").appName("benchmark").config(map=settings)
        self._spark = builder.getOrCreate()
        self._spark.sparkContext.setLogLevel("ERROR")
        self._task = task
        self._spark.range(1).count()

    def score(self, files: int | None) -> Pass:
        from pyspark.sql import Observation
        from pyspark.sql import functions as f

        seen = Observation()
        started = time.perf_counter()
        totals = f.count("key").alias("rows"), f.sum("label").alias("labels"), f.sum("score").alias("scores")
        self._frame(files).observe(seen, *totals).write.format("noop").mode("overwrite").save()
        seconds = time.perf_counter() - started
        return Pass(seconds, seen.get["rows"], seen.get["labels"], seen.get["scores"])

    def answers(self, files: int) -> pa.Table:
        return self._frame(files).toArrow()

    def stop(self) -> None:
        self._spark.stop()

    def _frame(self, files: int | None) -> Any:
        frame = self._scored(self._spark.read.parquet(*self._task.files[:files]), self._task)
        return frame.selectExpr("key", "CAST(label AS BIGINT) AS label", "CAST(score AS DOUBLE) AS score")
