# SPDX-License-Identifier: Apache-2.0
"""What is made of the tasks' own measurements."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.manifest import TensorSpec
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.spark.results import SLOWEST, gather_metrics, prediction_columns
from airflow_onnx_provider.spark.shares import Share


@dataclass
class Outcomes:
    """A stand-in for Spark's frame: of all rows it has the metrics."""

    told: list[dict[str, Any]]
    outcome = "metrics"

    def where(self, condition: bool) -> Outcomes:
        assert condition
        return self

    def select(self, column: str) -> Outcomes:
        assert column == "metrics"
        return self

    def collect(self) -> list[Any]:
        return [SimpleNamespace(metrics=json.dumps(one)) for one in self.told]


def told(task: int, seconds: float, rows: int = 10) -> dict[str, Any]:
    return {**TaskMetrics(rows=rows, wall_seconds=seconds).to_dict(), "task": task}


def shares(*rows: int) -> list[Share]:
    return [Share((), each, 1000 * each) for each in rows]


def test_tasks_are_summed_and_the_slowest_come_first() -> None:
    total, even, slowest = gather_metrics(Outcomes([told(0, 1.5), told(2, 9.0), told(1, 4.0)]), shares(10, 20, 30))

    assert (total.rows, total.wall_seconds) == (30, 14.5)
    assert even == {
        "count": 3,
        "rows": {"median": 20, "largest": 30},
        "bytes": {"median": 20_000, "largest": 30_000},
        "seconds": {"median": 4.0, "largest": 9.0},
    }
    assert slowest == (
        {"task": 2, "rows": 30, "bytes": 30_000, "seconds": 9.0},
        {"task": 1, "rows": 20, "bytes": 20_000, "seconds": 4.0},
        {"task": 0, "rows": 10, "bytes": 10_000, "seconds": 1.5},
    )


def test_a_task_that_tells_its_metrics_in_parts_is_one_task() -> None:
    """A guarded task does: one row for each time that it was called."""
    _, even, slowest = gather_metrics(Outcomes([told(0, 1.0), told(0, 2.0), told(1, 2.5)]), shares(1, 1))

    assert even["seconds"] == {"median": 2.75, "largest": 3.0}
    assert [(one["task"], one["seconds"]) for one in slowest] == [(0, 3.0), (1, 2.5)]


def test_of_many_tasks_only_the_slowest_are_told() -> None:
    tasks = SLOWEST + 10

    _, _, slowest = gather_metrics(Outcomes([told(task, float(task)) for task in range(tasks)]), shares(*[1] * tasks))

    assert [one["task"] for one in slowest] == list(range(tasks - 1, 9, -1))


def test_readers_see_the_answers_between_key_and_provenance() -> None:
    answers = Answers(("no", "yes"), TensorSpec("scores", "float", ("batch", 2)), 1, ())

    columns = prediction_columns(answers, contents=False)

    assert columns == ["key", "label", "score", "top_k", "model_digest", "runtime_version", "execution_provider"]
    assert prediction_columns(answers, contents=True) == [*columns, "content_sha256"]
