# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.serde import Serde

from airflow_onnx_provider.quality.facets import judged_dataset, record_dataset
from airflow_onnx_provider.quality.judge import judge
from airflow_onnx_provider.spark.layout import OutputLayout
from tests.quality.days import Day, write_labels

DAY = "2026-01-02"


def event_of(layout: OutputLayout, day: Day) -> dict[str, Any]:
    """What a lineage server is sent."""
    manifest = day.stage(layout, DAY)
    labels = write_labels(layout.root / "labels.csv", [("p-0000.jpg", "hat", 1.0)])
    record = judge(layout, manifest, {"accuracy": {"min": 0.9, "severity": "warn"}}, labels=str(labels))
    event = RunEvent(
        eventType=RunState.COMPLETE,
        eventTime="2026-01-02T08:00:00Z",
        run=Run(runId="01980000-0000-7000-8000-000000000000"),
        job=Job(namespace="airflow", name="catalog.check"),
        inputs=[judged_dataset(layout, manifest, record)],
        outputs=[record_dataset(layout, record)],
        producer="https://github.com/apache/airflow",
    )
    return dict(json.loads(Serde.to_json(event)))


def test_the_verdicts_are_assertions_on_the_partition_that_was_read(tmp_path: Path) -> None:
    event = event_of(OutputLayout(tmp_path), Day())

    (read,) = event["inputs"]
    assert (read["namespace"], read["name"]) == ("file", f"{tmp_path}/ds={DAY}")
    assert read["facets"]["version"]["datasetVersion"] == f"run-{DAY}"
    assertions = {one["assertion"]: one for one in read["inputFacets"]["dataQualityAssertions"]["assertions"]}
    assert list(assertions)[:3] == ["row_books", "unique_keys", "quarantine_rate"]
    assert assertions["quarantine_rate"] == {
        "assertion": "quarantine_rate",
        "name": "quarantine_rate",
        "success": True,
        "severity": "error",
        "expected": "at most 5.00% of the rows",
        "actual": "0.50% (empty_file 1, not_an_image 1)",
        "description": "quarantine_rate: passed; expected at most 5.00% of the rows, "
        "found 0.50% (empty_file 1, not_an_image 1)",
        "params": {"value": 2 / 402, "limit": 0.05, "grey": False},
    }
    assert (assertions["unique_keys"]["column"], assertions["label_drift"]["column"]) == ("key", "label")
    assert (assertions["accuracy"]["success"], assertions["accuracy"]["severity"]) == (False, "warn")


def test_the_figures_are_metrics_of_the_columns(tmp_path: Path) -> None:
    (read,) = event_of(OutputLayout(tmp_path), Day())["inputs"]

    metrics = read["inputFacets"]["dataQualityMetrics"]
    assert (metrics["rowCount"], metrics["fileCount"]) == (400, 1)
    assert metrics["lastUpdated"] == f"{DAY}T08:00:00+00:00"
    assert metrics["columnMetrics"] == {
        "label": {"distinctCount": 4, "quantiles": {}},
        "score": {"count": 400, "quantiles": {}},
    }


def test_the_record_is_what_the_check_writes(tmp_path: Path) -> None:
    (written,) = event_of(OutputLayout(tmp_path), Day())["outputs"]

    assert written == {"namespace": "file", "name": f"{tmp_path}/_checks/run-{DAY}.json"} | {
        name: {} for name in ("facets", "outputFacets") if name in written
    }


def test_a_run_of_the_first_version_does_not_say_when_it_ended(tmp_path: Path) -> None:
    (read,) = event_of(OutputLayout(tmp_path), Day(told={"finished": ""}))["inputs"]

    assert "lastUpdated" not in read["inputFacets"]["dataQualityMetrics"]
