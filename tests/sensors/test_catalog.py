# SPDX-License-Identifier: Apache-2.0
"""Waiting for a day, in a worker and in the triggerer."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_onnx_provider import CatalogPartitionSensor
from airflow_onnx_provider.triggers.catalog import CatalogPartitionTrigger
from tests.conftest import Day


def sensor(tmp_path: Path, **changes: Any) -> CatalogPartitionSensor:
    arguments = {"task_id": "catalog", "path": str(tmp_path / "catalog"), "poke_interval": 0.05, "timeout": 0.2}
    return CatalogPartitionSensor(**(arguments | changes))


def fired(trigger: CatalogPartitionTrigger) -> dict[str, Any]:
    async def first() -> Any:
        return await anext(aiter(trigger.run()))

    return asyncio.run(first()).payload


def test_a_complete_day_passes_at_once(tmp_path: Path, draw_day: Callable[..., Day], context: dict[str, Any]) -> None:
    day = draw_day(good=1)
    for deferrable in (True, False):
        found = sensor(tmp_path, deferrable=deferrable).execute(context)
        assert found == {"partition": "2026-01-01", "folder": str(day.folder)}


def test_waiting_in_the_worker_says_what_it_saw(tmp_path: Path, context: dict[str, Any]) -> None:
    with pytest.raises(
        AirflowSensorTimeout, match=r"2026-01-01 did not become complete .*ds=2026-01-01 does not exist"
    ):
        sensor(tmp_path, deferrable=False).execute(context)


def test_waiting_in_the_triggerer(tmp_path: Path, draw_day: Callable[..., Day], context: dict[str, Any]) -> None:
    waiting = sensor(tmp_path, deferrable=True, timeout=20)
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute(context)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_onnx_provider.triggers.catalog.CatalogPartitionTrigger"
    trigger = CatalogPartitionTrigger(**arguments)

    threading.Timer(0.2, draw_day, kwargs={"good": 1}).start()
    event = fired(trigger)

    assert event["done"] is True
    assert waiting.execute_complete(context, event)["partition"] == "2026-01-01"


def test_the_triggerer_gives_up_with_what_it_saw(tmp_path: Path, context: dict[str, Any]) -> None:
    trigger = CatalogPartitionTrigger(str(tmp_path / "ds=2026-01-01"), "_SUCCESS", 0, 0.05, time.time() + 0.1)
    event = fired(trigger)
    with pytest.raises(AirflowFailException, match="did not become complete within 0 s: .* does not exist"):
        sensor(tmp_path, deferrable=True).execute_complete(context, event)


def test_without_a_marker_it_waits_for_quiet(
    tmp_path: Path, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    day = draw_day(good=2, broken=0)
    with pytest.raises(AirflowSensorTimeout, match="holds 2 files and has been quiet for 0 s"):
        sensor(tmp_path, marker=None, stable_seconds=60, deferrable=False).execute(context)
    for path in [day.folder, *day.folder.iterdir()]:
        os.utime(path, (0, 0))
    assert sensor(tmp_path, marker=None, stable_seconds=60, deferrable=False).execute(context)
