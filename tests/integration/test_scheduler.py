"""The reference DAG under a real scheduler, triggerer and API server: scheduled, backfilled and triggered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest
from demo.environment import DAG_ID, airflow_environment
from tests.integration.conftest import draw_day
from tests.integration.serving import Airflow, serving, wait_for

pytestmark = [pytest.mark.spark, pytest.mark.scheduler, pytest.mark.timeout(1800)]

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")


@pytest.fixture(scope="module")
def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


@pytest.fixture(scope="module")
def airflow(home: Path, today: str) -> Iterator[Airflow]:
    for day in (*DAYS, "2026-01-04", today):
        draw_day(home, day)
    with serving(home, airflow_environment(home, master="local[2]")) as running:
        yield running


def finished(airflow: Airflow, count: int) -> list[dict[str, Any]] | None:
    runs = airflow.runs(DAG_ID)
    done = [run for run in runs if run["state"] in ("success", "failed")]
    return runs if len(done) == count == len(runs) else None


def backfill(airflow: Airflow, first: str, last: str) -> bool:
    """Whether it is there now; under load SQLite may be locked, and Airflow asks to try again."""
    dates = {"from_date": f"{first}T00:00:00Z", "to_date": f"{last}T00:00:00Z"}
    answer = airflow.ask("POST", "/api/v2/backfills", dag_id=DAG_ID, max_active_runs=3, **dates)
    assert answer.ok or (answer.status_code == 503 and "Database is locked" in answer.text), answer.text
    return answer.ok


def test_scheduled_backfilled_and_triggered_runs_each_publish_their_own_day(
    airflow: Airflow, home: Path, today: str
) -> None:
    airflow.call("PATCH", f"/api/v2/dags/{DAG_ID}", is_paused=False)
    wait_for("the backfill", lambda: backfill(airflow, DAYS[0], DAYS[-1]), 60)
    runs = wait_for("the scheduled run and three backfilled ones", lambda: finished(airflow, 4), 800)
    assert {run["state"] for run in runs} == {"success"}, [(run["dag_run_id"], run["state"]) for run in runs]
    assert sorted(run["run_type"] for run in runs) == ["backfill"] * 3 + ["scheduled"]
    layout = OutputLayout(home / "predictions")
    assert layout.published_partitions() == [*DAYS, today]

    with_date = airflow.call("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", logical_date="2026-01-04T00:00:00Z")
    without_date = airflow.call("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", logical_date=None)
    assert without_date["logical_date"] is None
    runs = wait_for("two triggered runs", lambda: finished(airflow, 6), 600)
    states = {run["dag_run_id"]: run["state"] for run in runs}
    assert states[with_date["dag_run_id"]] == states[without_date["dag_run_id"]] == "success"

    assert layout.published_partitions() == [*DAYS, "2026-01-04", today]
    for partition in layout.published_partitions():
        manifest = RunManifest.read(layout.published(partition) / "_run.json")
        assert (manifest.rows_in, manifest.predicted, manifest.quarantined_rows) == (41, 40, 1)
        assert pq.read_table(layout.published(partition)).num_rows == 40
    assert len(list((layout.root / "_history" / f"ds={today}").iterdir())) == 1, "the run without a date replaced today"
    assert not any((layout.root / "_history" / f"ds={day}").exists() for day in DAYS)

    events = airflow.call("GET", "/api/v2/assets/events")["asset_events"]
    days = [event["extra"] for event in events if event["name"] == "catalog_predictions"]
    assert len(days) == 6
    assert all(day["predicted"] == 40 and day["model_digest"] for day in days)
    (moved,) = [event["extra"] for event in events if event["name"] == "onnx-model/catalog_classifier@production"]
    assert (moved["changed"], moved["previous"], moved["digest"]) == (True, None, days[0]["model_digest"])
    assert moved["recipe"]["stage"] in {"optimize", "quantize"}
    assert "accuracy" in moved["scores"]


def test_a_run_shows_its_plan_and_links_to_its_spark_application(airflow: Airflow) -> None:
    run = airflow.runs(DAG_ID)[0]["dag_run_id"]
    infer = f"/api/v2/dags/{DAG_ID}/dagRuns/{run}/taskInstances/infer"

    assert airflow.call("GET", f"{infer}/links")["extra_links"]["Spark UI"].startswith("http://")
    plan = airflow.call("GET", f"{infer}/xcomEntries/plan?deserialize=true")["value"]
    decisions = {one["name"]: one["reason"] for one in plan["decisions"]}
    assert {"task_cpus", "threads", "partitions", "executor_memory_mb", "model_travels"} <= set(decisions)
    assert all(decisions.values()), "each value has its reason"


def test_the_ui_has_the_connection_forms_and_the_trigger_form(airflow: Airflow) -> None:
    forms = {entry["connection_type"]: entry for entry in airflow.call("GET", "/ui/connections/hook_meta")}
    assert set(forms["onnx_model_store"]["extra_fields"]) == {"root", "storage_conn_id"}
    assert "web_address" in forms["spark_cluster"]["extra_fields"]
    params = airflow.call("GET", f"/api/v2/dags/{DAG_ID}/details")["params"]
    assert params["quantization"]["schema"]["enum"] == ["auto", "static", "dynamic", "float16", "int4", "none"]
    assert all(param["description"] and param["schema"]["title"] for param in params.values())
