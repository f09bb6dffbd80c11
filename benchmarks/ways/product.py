# SPDX-License-Identifier: Apache-2.0
"""The product's own ``score`` on a DataFrame, or its ``score_parquet`` on the files."""

from __future__ import annotations

from typing import Any

from airflow_onnx_provider.runtime.cpu import available_cores
from benchmarks.datasets import FEATURES
from benchmarks.ways import Way
from benchmarks.ways.spark import SparkWay
from benchmarks.works import Task


def way(option: str) -> Way:
    """Options: ``scaled`` decodes large pictures so, ``parquet`` lets the workers read the files themselves."""

    def scored(frame: Any, task: Task) -> Any:
        from airflow_onnx_provider.runtime.profile import profile_named
        from airflow_onnx_provider.spark.score import score, score_parquet

        fed: Any = {"images": "image", "tabular": list(FEATURES), "tokens": "tokens"}[task.kind]
        if option == "parquet":
            files = [file.removeprefix("file://") for file in frame.inputFiles()]
            partitions = 2 * available_cores()
            return score_parquet(frame.sparkSession, files, task.model, key="key", input=fed, partitions=partitions)
        profile = profile_named("cpu-throughput", **({"decoder": option} if option else {}))
        return score(frame, task.model, key="key", input=fed, profile=profile)

    return SparkWay(scored)
