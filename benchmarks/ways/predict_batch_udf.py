# SPDX-License-Identifier: Apache-2.0
"""Spark's own way: ``pyspark.ml.functions.predict_batch_udf``, which keeps one model in each worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.datasets import FEATURES
from benchmarks.ways import Way
from benchmarks.ways.peer import PICTURES_PER_BATCH, ROWS_PER_BATCH, Peer
from benchmarks.ways.spark import SparkWay
from benchmarks.works import Task


def way(_option: str) -> Way:
    return SparkWay(scored)


def scored(frame: Any, task: Task) -> Any:
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql import functions as f
    from pyspark.sql.types import DoubleType, LongType, StructField, StructType

    folder, pictures = task.model, task.kind == "images"

    def make_predict() -> Callable[[Any], Mapping[str, Any]]:
        peer = Peer(folder)
        answer = peer.pictures if pictures else peer.rows

        def predict(inputs: Any) -> Mapping[str, Any]:
            best = answer(inputs)
            return {"label": best[:, 0].astype("int64"), "score": best[:, 1]}

        return predict

    udf = predict_batch_udf(
        make_predict,
        return_type=StructType([StructField("label", LongType()), StructField("score", DoubleType())]),
        batch_size=PICTURES_PER_BATCH if pictures else ROWS_PER_BATCH,
    )
    found = udf("image") if pictures else udf(f.struct(*FEATURES))
    return frame.select("key", found.alias("found")).select("key", "found.*")
