# SPDX-License-Identifier: Apache-2.0
"""The notifier around Airflow's own HTTP notifier, which talks to a real server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.http.notifications.http import HttpNotifier

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.notifiers.run import OnnxRunNotifier
from airflow_onnx_provider.quality.alerts import Threshold
from airflow_onnx_provider.quality.verdict import CheckRecord, CheckResult
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import write_failure
from tests.conftest import set_connection
from tests.listener import Listener, listening
from tests.spark.staging import a_manifest

DAG = Path(__file__).parent / "dags" / "a_day_that_fails.py"


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Whom the connection `chat` leads to."""
    with listening() as listener:
        set_connection(monkeypatch, "chat", {"conn_type": "http", "host": "127.0.0.1", "port": listener.port})
        yield listener


def said(chat: Listener) -> list[str]:
    return [json.loads(one.body)["text"] for one in chat.got]


def to_chat(**changes: Any) -> OnnxRunNotifier:
    return OnnxRunNotifier(HttpNotifier(http_conn_id="chat", json={"text": "{{ onnx.text }}"}), **changes)


def judged(layout: OutputLayout, run: str, partition: str = "2026-01-01", quarantine_rate: float = 0.3) -> str:
    """Leave a run that failed its check; gives the path of its manifest."""
    path = layout.run_manifest(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    a_manifest(run, layout, partition=partition).write(path)
    failed = CheckResult("quarantine_rate", "error", False, "at most 5%", f"{quarantine_rate:.0%}", quarantine_rate)
    CheckRecord(run, partition, f"2026-02-01T00:00:00.{run:0>6}+00:00", "none", (), (failed,)).write(layout.checks(run))
    return str(path)


FAILED = (
    "colours 2026-01-01: failed\n"
    "quarantine_rate: FAILED; expected at most 5%, found 30%\n"
    "3 rows in, 2 predicted, 1 quarantined (not_an_image 1)\n"
    "30 images/s, 75% of the raw speed, batch P99 3 ms"
)


def test_the_other_notifier_sends_the_message(chat: Listener, tmp_path: Path, context: dict[str, Any]) -> None:
    path = judged(OutputLayout(tmp_path), "1")

    to_chat(predictions=path)(context)
    to_chat(predictions={"run_manifest": path, "checks": []})(context)

    assert said(chat) == [FAILED, FAILED]


def test_a_report_that_exists_is_linked(chat: Listener, tmp_path: Path, context: dict[str, Any]) -> None:
    path = judged(OutputLayout(tmp_path), "1")
    report = OutputLayout(tmp_path).report("1")
    report.parent.mkdir()
    report.touch()

    to_chat(predictions=path)(context)

    assert said(chat)[0].startswith(f"{FAILED}\n")
    assert "/onnx/report?" in said(chat)[0].splitlines()[-1]


def test_one_notifier_serves_many_tasks(chat: Listener, tmp_path: Path, context: dict[str, Any]) -> None:
    """As in `default_args`: rendering for one task must not be seen by the next."""
    layout, notifier = OutputLayout(tmp_path), to_chat()
    for run, day in (("1", "2026-01-01"), ("2", "2026-01-02")):
        notifier({**context, "task": SimpleNamespace(predictions=judged(layout, run, day))})
    own = to_chat(predictions="{{ params.run }}")
    for run in ("1", "2"):
        own({**context, "params": {"run": str(layout.run_manifest(run))}})

    assert [one.splitlines()[0] for one in said(chat)] == [
        "colours 2026-01-01: failed",
        "colours 2026-01-02: failed",
        "colours 2026-01-01: failed",
        "colours 2026-01-02: failed",
    ]


def test_it_can_be_awaited_as_deadlines_do(chat: Listener, tmp_path: Path, context: dict[str, Any]) -> None:
    notifier = to_chat(predictions=judged(OutputLayout(tmp_path), "1"), context=context)

    async def send() -> None:
        await notifier

    asyncio.run(send())

    assert said(chat) == [FAILED]


def test_with_alerts_it_is_quiet_until_something_changes(
    chat: Listener, tmp_path: Path, context: dict[str, Any]
) -> None:
    layout = OutputLayout(tmp_path)
    notifier = to_chat(alerts=[{"name": "quarantine_rate", "raise_at": 0.05, "clear_at": 0.03, "after": 2}])
    told = []
    for day, rate in enumerate([0.3, 0.3, 0.3, 0.04, 0.01], start=1):
        path = judged(layout, str(day), f"2026-01-0{day}", rate)
        notifier({**context, "task": SimpleNamespace(predictions=path)})
        told.append(len(said(chat)))

    assert told == [0, 1, 1, 1, 2]
    assert "RAISED quarantine_rate: 0.3, threshold 0.05 for 2 runs" in said(chat)[0]
    assert "CLEARED quarantine_rate: 0.01, threshold 0.03" in said(chat)[1]


def test_a_run_without_figures_is_told_of_too(chat: Listener, tmp_path: Path, context: dict[str, Any]) -> None:
    layout = OutputLayout(tmp_path)
    layout.run_manifest("1").parent.mkdir()
    write_failure(layout.run_manifest("1"), "2026-01-01", ValueError("golden rows differ"))
    failing = {**context, "exception": ValueError("the job failed")}

    to_chat(predictions=str(layout.run_manifest("1")), alerts=[Threshold("label_drift", 0.2, 0.1)])(failing)
    to_chat()({**failing, "task": SimpleNamespace(predictions=None)})

    assert said(chat)[0].startswith("a DAG: failed\nrun scheduled__2026-01-01\nthe job failed\nno figures: ")
    assert said(chat)[0].endswith("the run is failed: golden rows differ")
    assert said(chat)[1].endswith("no figures: the run left no manifest")


def test_an_alert_that_is_no_threshold() -> None:
    with pytest.raises(BadInputError, match="name, raise_at, clear_at and after are known"):
        to_chat(alerts=[{"name": "label_drift", "limit": 1}])


def test_callbacks_of_a_real_dag_run(chat: Listener, tmp_path: Path) -> None:
    """The failing check calls it, and metrics after it, which as a teardown do not make the run green."""
    environment = {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAG.parent),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(DAG.parents[3]), os.environ.get("PYTHONPATH")))),
        "A_DAY": str(tmp_path / "predictions"),
    }
    command = [sys.executable, str(DAG)]
    ran = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)

    assert "the DAG run is failed, metrics is success" in ran.stdout, ran.stdout + ran.stderr
    of_task, of_metrics = said(chat)
    assert of_task.startswith("colours 2026-01-01: failed\nquarantine_rate: FAILED")
    assert of_metrics.startswith("colours 2026-01-01: failed\nquarantine_rate: FAILED")
    assert (tmp_path / "predictions" / "catalog.prom").exists()
