# SPDX-License-Identifier: Apache-2.0
"""The reference DAG under a real scheduler, triggerer, API server and browser: scheduled, backfilled and triggered."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import pyarrow.parquet as pq
import pytest
import requests

from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.history import last_move
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest
from demo.environment import DAG_ID, DAGS, airflow_environment
from tests.browser import chromium, fits, page_of
from tests.integration.conftest import draw_day
from tests.integration.serving import Airflow, serving, wait_for

pytestmark = [pytest.mark.spark, pytest.mark.scheduler, pytest.mark.timeout(1800)]

DAYS = ("2026-01-01", "2026-01-02")


@pytest.fixture(scope="module")
def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


@pytest.fixture(scope="module")
def airflow(home: Path, today: str) -> Iterator[Airflow]:
    for day in (*DAYS, "2026-01-04", today):
        draw_day(home, day)
    dags = home / "dags"  # with this one alone Airflow is up as soon as the DAG is there
    dags.mkdir()
    shutil.copy(DAGS / f"{DAG_ID}.py", dags)
    with serving(home, airflow_environment(home, master="local[2]", dags=dags)) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def finished(airflow: Airflow, count: int) -> list[dict[str, Any]] | None:
    runs = airflow.runs(DAG_ID)
    done = [run for run in runs if run["state"] in ("success", "failed")]
    return runs if len(done) == count == len(runs) else None


def backfill(airflow: Airflow, browser: Any, first: str, last: str) -> None:
    """As a person does it, in the backfill dialog."""
    with page_of(browser, cookies=airflow.cookies) as page:
        page.goto(f"{airflow.url}/dags/{DAG_ID}")
        page.get_by_role("button", name="Trigger").first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("Backfill", exact=True).click()
        for day in (first, last):
            dialog.get_by_text("Select date and time").first.click()
            for field, text in (("YYYY/MM/DD", day.replace("-", "/")), ("HH:mm", "00:00")):
                page.get_by_placeholder(field).fill(text)
                page.get_by_placeholder(field).press("Enter")
            page.keyboard.press("Escape")
        dialog.get_by_text("2 runs will be triggered").wait_for()
        page.get_by_role("button", name="Run Backfill").click()
        wait_for("the backfill", lambda: len(of_type(airflow, "backfill")) == 2, 60)


def trigger(airflow: Airflow, browser: Any, partition: str) -> None:
    """As a person does it, in the trigger form: another day than the form's date."""
    with page_of(browser, cookies=airflow.cookies) as page:
        page.goto(f"{airflow.url}/dags/{DAG_ID}")
        page.get_by_role("button", name="Trigger").first.click()
        dialog = page.get_by_role("dialog")
        dialog.locator('[name="element_partition"]').fill(partition)
        dialog.get_by_text("Limits", exact=True).click()
        assert dialog.get_by_text("Largest accuracy drop").is_visible(), "each Param has its title"
        dialog.get_by_role("button", name="Trigger", exact=True).click()
        wait_for("the triggered run", lambda: of_type(airflow, "manual"), 60)


def approve(airflow: Airflow, browser: Any, run: str) -> None:
    """As a person does it, on the page of the task that waits."""
    detail = f"/api/v2/dags/{DAG_ID}/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"
    wait_for("the question", lambda: airflow.ask("GET", detail).ok, 600)
    with page_of(browser, cookies=airflow.cookies) as page:
        page.goto(f"{airflow.url}/dags/{DAG_ID}/runs/{quote(run)}/tasks/approve/required_actions")
        page.get_by_role("link", name="Open the report").wait_for()
        page.get_by_role("button", name="Approve").click()
        wait_for("the answer", lambda: airflow.call("GET", detail)["response_received"], 60)


def of_type(airflow: Airflow, run_type: str) -> list[dict[str, Any]]:
    return [run for run in airflow.runs(DAG_ID) if run["run_type"] == run_type]


def test_scheduled_backfilled_and_triggered_runs_each_publish_their_own_day(
    airflow: Airflow, browser: Any, home: Path, today: str
) -> None:
    airflow.call("PATCH", f"/api/v2/dags/{DAG_ID}", is_paused=False)
    backfill(airflow, browser, DAYS[0], DAYS[-1])
    runs = wait_for("the scheduled run and two backfilled ones", lambda: finished(airflow, 3), 800)
    assert {run["state"] for run in runs} == {"success"}, [(run["dag_run_id"], run["state"]) for run in runs]
    assert sorted(run["run_type"] for run in runs) == ["backfill"] * 2 + ["scheduled"]
    layout = OutputLayout(home / "predictions")
    assert layout.published_partitions() == [*DAYS, today]

    trigger(airflow, browser, "2026-01-04")
    without_date = airflow.call(
        "POST", f"/api/v2/dags/{DAG_ID}/dagRuns", logical_date=None, conf={"approval": "always"}
    )
    assert without_date["logical_date"] is None
    approve(airflow, browser, without_date["dag_run_id"])
    runs = wait_for("two triggered runs", lambda: finished(airflow, 5), 600)
    assert {run["state"] for run in of_type(airflow, "manual")} == {"success"}

    assert layout.published_partitions() == [*DAYS, "2026-01-04", today]
    for partition in layout.published_partitions():
        manifest = RunManifest.read(layout.published(partition) / "_run.json")
        assert (manifest.rows_in, manifest.predicted, manifest.quarantined_rows) == (41, 40, 1)
        assert pq.read_table(layout.published(partition)).num_rows == 40
        record = CheckRecord.read(layout.checks(manifest.run))
        assert record is not None
        assert record.verdict == "passed", record
        assert layout.report(manifest.run).is_file()
    assert len(list((layout.root / "_history" / f"ds={today}").iterdir())) == 1, "the run without a date replaced today"
    assert "approved by admin" in str(last_move(layout, today)), "who let it through stays in the day's log"
    assert not any((layout.root / "_history" / f"ds={day}").exists() for day in DAYS)

    events = airflow.call("GET", "/api/v2/assets/events")["asset_events"]
    days = [event["extra"] for event in events if event["name"] == "catalog_predictions"]
    assert len(days) == 5
    assert all(day["predicted"] == 40 and day["model_digest"] for day in days)
    (moved,) = [event["extra"] for event in events if event["name"] == "onnx-model/catalog_classifier@production"]
    assert (moved["changed"], moved["previous"], moved["digest"]) == (True, None, days[0]["model_digest"])
    assert moved["recipe"]["stage"] in {"optimize", "quantize"}
    assert "accuracy" in moved["scores"]


def test_a_run_shows_its_plan_and_its_links(airflow: Airflow) -> None:
    run = f"/api/v2/dags/{DAG_ID}/dagRuns/{airflow.runs(DAG_ID)[0]['dag_run_id']}/taskInstances"

    links = {task: airflow.call("GET", f"{run}/{task}/links")["extra_links"] for task in ("infer", "report", "card")}
    plan = airflow.call("GET", f"{run}/infer/xcomEntries/plan?deserialize=true")["value"]

    assert links["infer"]["Spark UI"].startswith("http://")
    assert links["report"]["Report"].startswith(f"{airflow.url}/onnx/")
    assert links["card"]["Model card"].startswith(f"{airflow.url}/onnx/")
    decisions = {one["name"]: one["reason"] for one in plan["decisions"]}
    assert {"task_cpus", "threads", "partitions", "executor_memory_mb", "model_travels"} <= set(decisions)
    assert all(decisions.values()), "each value has its reason"


def test_from_the_navigation_to_the_report_of_a_day(airflow: Airflow, browser: Any) -> None:
    with page_of(browser, cookies=airflow.cookies) as page:
        page.goto(airflow.url)
        page.get_by_text("Browse").first.click()
        page.get_by_text("ONNX").first.click()
        inside = page.frame_locator("iframe")
        inside.get_by_text("2026-01-04").first.wait_for()
        address = inside.get_by_role("link", name="Report").first.get_attribute("href")
    for size in ("desk", "phone"):
        with page_of(browser, size, "dark", cookies=airflow.cookies) as page:
            page.goto(urljoin(f"{airflow.url}/onnx/", address))
            assert page.get_by_role("heading", level=1).is_visible()
            assert fits(page)


def test_the_details_of_a_task_lead_to_its_report(airflow: Airflow, browser: Any) -> None:
    run = airflow.runs(DAG_ID)[0]["dag_run_id"]
    with page_of(browser, cookies=airflow.cookies) as page:
        page.goto(f"{airflow.url}/dags/{DAG_ID}/runs/{quote(run)}/tasks/report/details")
        page.get_by_role("link", name="Report", exact=True).click()
        heading = page.get_by_role("heading", name="Predictions of")
        heading.wait_for()
        assert heading.is_visible()


def test_nobody_sees_reports_or_models_without_a_login(airflow: Airflow) -> None:
    for page in ("/onnx/", "/onnx/report?output=/etc&run=a", "/onnx/card?model=/etc/a/b"):
        assert requests.get(f"{airflow.url}{page}", timeout=10, allow_redirects=False).status_code in (401, 403)


def test_the_ui_has_the_connection_forms_and_the_trigger_form(airflow: Airflow) -> None:
    forms = {entry["connection_type"]: entry for entry in airflow.call("GET", "/ui/connections/hook_meta")}
    assert set(forms["onnx_model_store"]["extra_fields"]) == {"root", "storage_conn_id"}
    assert "web_address" in forms["spark_cluster"]["extra_fields"]
    params = airflow.call("GET", f"/api/v2/dags/{DAG_ID}/details")["params"]
    assert params["quantization"]["schema"]["enum"] == ["auto", "static", "dynamic", "float16", "int4", "none"]
    assert all(param["description"] and param["schema"]["title"] for param in params.values())
