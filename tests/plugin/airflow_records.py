# SPDX-License-Identifier: Apache-2.0
"""Rows as Airflow writes them when DAGs with inference run, and the files that such runs leave."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import insert
from sqlalchemy.orm import Session

from airflow_onnx_provider.quality.verdict import CheckRecord, CheckResult
from airflow_onnx_provider.runtime.manifest import write_json
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout

INFERENCE, CHECK, PUBLISH = "OnnxSparkInferenceOperator", "OnnxPredictionCheckOperator", "OnnxPublishOperator"
FIRST_DAY = dt.date(2026, 1, 1)


@dataclass
class Records:
    """Writes DAGs and their runs into an Airflow database.

    :param session: of the database
    """

    session: Session
    runs: int = 0

    def add_dag(self, dag_id: str) -> None:
        if self.session.get(DagBundleModel, "dags") is None:
            self.session.add(DagBundleModel(name="dags"))
            self.session.flush()
        self.session.add(DagModel(dag_id=dag_id, bundle_name="dags", max_active_tasks=16))
        self.session.flush()

    def add_run(self, dag_id: str, tasks: Sequence[Task], day: str = "2026-01-01", **dag_run: Any) -> str:
        """One DAG run with its tasks; returns its id."""
        self.runs += 1
        due = dt.datetime.fromisoformat(f"{day}T06:00:00+00:00") + dt.timedelta(seconds=self.runs)
        fields = {
            "id": self.runs,
            "dag_id": dag_id,
            "run_id": f"scheduled__{day}T00:00:00+00:00-{self.runs}",
            "run_type": "scheduled",
            "run_after": due,
            "logical_date": due,
            "state": "success",
            "clear_number": 0,
            "span_status": "not_started",
            **dag_run,
        }
        self.session.execute(insert(DagRun), [fields])
        at = {"dag_id": dag_id, "run_id": fields["run_id"]}
        self.session.execute(insert(TaskInstance), [at | task.row(due) for task in tasks])
        returned = [at | {"dag_run_id": self.runs} | xcom for task in tasks for xcom in task.xcoms()]
        if returned:
            self.session.execute(insert(XComModel), returned)
        return str(fields["run_id"])


@dataclass(frozen=True)
class Task:
    """One task instance and what it returned."""

    task_id: str
    operator: str
    result: Any = None
    state: str = "success"
    map_index: int = -1

    def row(self, moment: dt.datetime) -> dict[str, Any]:
        return {
            "id": uuid.uuid4(),
            "task_id": self.task_id,
            "operator": self.operator,
            "state": self.state,
            "map_index": self.map_index,
            "start_date": moment,
            "max_tries": 0,
            "pool": "default_pool",
            "pool_slots": 1,
            "span_status": "not_started",
            "try_number": 1,
        }

    def xcoms(self) -> list[dict[str, Any]]:
        mine = {"task_id": self.task_id, "map_index": self.map_index}
        found = [mine | {"key": "return_value", "value": self.result}] if self.result is not None else []
        return [*found, mine | {"key": "plan", "value": {}}] if self.operator == INFERENCE else found


def figures(run: str, day: str, output: Path | str, **changed: Any) -> dict[str, Any]:
    """What an inference task returns."""
    return {
        "run": run,
        "partition": day,
        "model": "/data/models/products/0123456789ab",
        "model_digest": "0123456789ab" * 5,
        "rows_in": 1200,
        "predicted": 1190,
        "carried": 0,
        "quarantined": 10,
        "mean_score": 0.9,
        "images_per_second": 412.0,
        "raw_images_per_second": 480.0,
        "raw_share": 0.86,
        "output_path": str(output),
        "run_manifest": f"{output}/_runs/{run}.json",
        **changed,
    }


def result(name: str = "label_drift", value: float = 0.05, limit: float = 0.2, **changed: Any) -> CheckResult:
    fields: Mapping[str, Any] = {
        "name": name,
        "severity": "error",
        "passed": value <= limit,
        "expected": f"at most {limit}",
        "actual": str(value),
        "value": value,
        "limit": limit,
        **changed,
    }
    return CheckResult(**fields)


def leave_files(output: Path, run: str, day: str, *results: CheckResult, published: bool = True) -> OutputLayout:
    """What a judged run leaves beside its predictions, and a report."""
    layout = OutputLayout(output)
    CheckRecord(run, day, "2026-01-01T07:00:00+00:00", "the previous day", (), results).write(layout.checks(run))
    if published:
        write_json(layout.published(day) / RUN_FILE, {"run": run})
    layout.report(run).parent.mkdir(parents=True, exist_ok=True)
    layout.report(run).write_text(f"<!DOCTYPE html><title>{run}</title><h1>Report of {day}</h1>")
    return layout
