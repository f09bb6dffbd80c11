# SPDX-License-Identifier: Apache-2.0
"""The ways to score a data set, one module each. A child process runs one of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

import pyarrow as pa

from benchmarks.works import Task

TITLES = {
    "limit": "limit (plain processes)",
    "product": "this product",
    "product-scaled": "this product, scaled decoding",
    "product-parquet": "this product, score_parquet",
    "predict_batch_udf": "predict_batch_udf",
    "mlflow": "MLflow spark_udf",
    "pandas_udf": "plain pandas_udf",
    "fixed": "pandas_udf, fixed batches",
    "ray": "Ray Data map_batches",
}
"""Way to its name in reports, the limit first."""


@dataclass(frozen=True)
class Pass:
    """What one pass over the data gave.

    :param labels: sum of the class numbers
    :param scores: sum of the scores of these classes
    """

    seconds: float
    rows: int
    labels: int
    scores: float


class Way(Protocol):
    """One way to score; a child process makes one, uses it for one task, and ends."""

    def start(self, task: Task) -> None:
        """Get ready, but load no model."""

    def score(self, files: int | None) -> Pass:
        """Score the first ``files`` of the task's files, None: all of them. The first call is the cold pass."""

    def answers(self, files: int) -> pa.Table:
        """Score them and give each row's ``key``, ``label`` (its number) and ``score``."""

    def stop(self) -> None:
        """End every process that was started."""


def opened(name: str) -> Way:
    """The way of that name."""
    module, _, option = name.partition("-")
    way: Any = import_module(f"{__name__}.{module}")
    return cast("Way", way.way(option))
