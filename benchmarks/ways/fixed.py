# SPDX-License-Identifier: Apache-2.0
"""Token arrays the usual way: batches of so many rows as they come, each padded to its longest row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.ways import Way
from benchmarks.ways.peer import Peer
from benchmarks.ways.spark import SparkWay
from benchmarks.works import Task

ROWS_PER_BATCH = 32


def way(_option: str) -> Way:
    return SparkWay(scored)


def scored(frame: Any, task: Task) -> Any:
    import numpy as np
    import pandas as pd
    from pyspark.sql.functions import pandas_udf

    folder = task.model

    def predict(columns: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        peer = Peer(folder)
        for column in columns:
            parts = []
            for start in range(0, len(column), ROWS_PER_BATCH):
                texts = column.iloc[start : start + ROWS_PER_BATCH].to_list()
                ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
                mask = np.zeros_like(ids)
                for row, text in enumerate(texts):
                    ids[row, : len(text)] = text
                    mask[row, : len(text)] = 1
                parts.append(peer.best(ids, mask))
            yield pd.DataFrame(np.concatenate(parts), columns=["label", "score"])

    # Spark tells the kind of a pandas_udf by its annotations, which must be types and not their names.
    predict.__annotations__ = {"columns": Iterator[pd.Series], "return": Iterator[pd.DataFrame]}
    found = pandas_udf(predict, returnType="label double, score double")("tokens")
    return frame.select("key", found.alias("found")).select("key", "found.*")
