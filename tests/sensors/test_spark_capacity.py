# SPDX-License-Identifier: Apache-2.0
"""Waiting until a plan fits on its cluster; the standalone master is a stand-in's page."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_onnx_provider import SparkCapacitySensor
from airflow_onnx_provider.triggers.spark_capacity import SparkCapacityTrigger
from tests.conftest import set_connection
from tests.hooks.capacity.shapes_standalone import master, worker
from tests.hooks.capacity.standin import StandIn, Text, standing_in

SECRET = "s3cr3t-of-the-night"
PLAN = {
    "decisions": [
        {"name": "task_cpus", "value": 2, "reason": "so"},
        {"name": "slots", "value": 4, "reason": "so"},
        {"name": "executors", "value": 2, "reason": "so"},
        {"name": "executor_memory_mb", "value": 1024, "reason": "so"},
        {"name": "executor_memory_overhead_mb", "value": 3072, "reason": "so"},
    ]
}
BUSY = master(worker("w1", 8, 2, 16384))["/json/"]
IDLE = master(worker("w1", 8, 8, 16384))["/json/"]
FREE = {"master": "spark://m:7077", "cores": 8, "memory_mb": 16384, "gpus": 0}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A busy cluster."""
    with standing_in({"/json/": BUSY}) as page:
        extra = {"web_address": page.address}
        connection = {"conn_type": "spark_cluster", "host": "spark://m:7077", "password": SECRET, "extra": extra}
        set_connection(monkeypatch, "cluster", connection)
        yield page


def sensor(**changes: Any) -> SparkCapacitySensor:
    arguments = {"task_id": "room", "conn_id": "cluster", "poke_interval": 0.05, "timeout": 0.2, "deferrable": False}
    needs = {} if {"plan", "cores", "memory_mb", "gpus"} & set(changes) else {"plan": PLAN}
    return SparkCapacitySensor(**(arguments | needs | changes))


def deferred(waiting: SparkCapacitySensor, context: dict[str, Any]) -> SparkCapacityTrigger:
    """The trigger as the triggerer makes it anew."""
    with pytest.raises(TaskDeferred) as left:
        waiting.execute(context)
    path, arguments = left.value.trigger.serialize()
    assert path == "airflow_onnx_provider.triggers.spark_capacity.SparkCapacityTrigger"
    return SparkCapacityTrigger(**json.loads(json.dumps(arguments)))


def fired(trigger: SparkCapacityTrigger) -> dict[str, Any]:
    async def first() -> Any:
        return await anext(aiter(trigger.run()))

    event: dict[str, Any] = json.loads(json.dumps(asyncio.run(first()).payload))
    return event


def becomes(page: StandIn, answer: Any, after: float = 0.15) -> None:
    threading.Timer(after, page.answers.__setitem__, ("/json/", answer)).start()


@pytest.mark.parametrize("deferrable", [True, False])
def test_room_at_once(page: StandIn, context: dict[str, Any], deferrable: bool) -> None:
    page.answers["/json/"] = IDLE
    assert sensor(deferrable=deferrable).execute(context) == FREE


def test_waiting_in_the_worker(page: StandIn, context: dict[str, Any]) -> None:
    becomes(page, IDLE)
    assert sensor(timeout=20).execute(context) == FREE


def test_giving_up_in_the_worker_says_what_it_saw(page: StandIn, context: dict[str, Any]) -> None:
    seen = "no room within 0 s: spark://m:7077: 2 of 8 cores free, 16384 MiB free memory: 8 cores needed, 2 free"
    with pytest.raises(AirflowSensorTimeout, match=seen):
        sensor().execute(context)


def test_waiting_in_the_triggerer(page: StandIn, context: dict[str, Any]) -> None:
    waiting = sensor(deferrable=True, timeout=20)
    trigger = deferred(waiting, context)
    becomes(page, IDLE)
    event = fired(trigger)
    assert (event["done"], event["error"]) == (True, "")
    assert waiting.execute_complete(context, event) == FREE


def test_the_triggerer_gives_up_with_what_it_saw(page: StandIn, context: dict[str, Any]) -> None:
    waiting = sensor(deferrable=True)
    event = fired(deferred(waiting, context))
    with pytest.raises(AirflowFailException, match="no room within 0 s: .*: 8 cores needed, 2 free"):
        waiting.execute_complete(context, event)


def test_no_secret_is_stored_with_the_trigger(page: StandIn, context: dict[str, Any]) -> None:
    _, stored = deferred(sensor(deferrable=True), context).serialize()
    assert SECRET not in json.dumps(stored)
    assert set(stored) == {"conn_id", "needs", "poke_interval", "deadline"}
    assert page.asked[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("trouble", "seen"),
    [
        (Text("", 503), "json/ answers 503"),
        (Text("<html>"), "that is not JSON"),
        (
            master(worker("w1", 8, 8, 16384), status="RECOVERING")["/json/"],
            "not healthy: no master is ALIVE: .*RECOVERING",
        ),
        (master()["/json/"], "not healthy: it takes no applications"),
    ],
)
def test_trouble_is_waited_through(page: StandIn, context: dict[str, Any], trouble: Any, seen: str) -> None:
    page.answers["/json/"] = trouble
    with pytest.raises(AirflowSensorTimeout, match=f"no room within 0 s: .*{seen}"):
        sensor().execute(context)
    waiting = sensor(deferrable=True, timeout=20)
    trigger = deferred(waiting, context)
    becomes(page, IDLE)
    assert waiting.execute_complete(context, fired(trigger)) == FREE


@pytest.mark.parametrize("deferrable", [True, False])
def test_more_than_the_whole_cluster_fails_at_once(page: StandIn, context: dict[str, Any], deferrable: bool) -> None:
    words = "9 cores are needed and spark://m:7077 has 8 altogether, 1 too few"
    with pytest.raises(AirflowFailException, match=words):
        sensor(cores=9, deferrable=deferrable, timeout=600).execute(context)


def test_a_cluster_that_shrinks_ends_the_waiting_in_the_triggerer(page: StandIn, context: dict[str, Any]) -> None:
    waiting = sensor(deferrable=True, timeout=600)
    trigger = deferred(waiting, context)
    becomes(page, master(worker("w1", 4, 4, 16384))["/json/"])
    event = fired(trigger)
    with pytest.raises(AirflowFailException, match="^BadInputError: 8 cores are needed .* has 4 altogether"):
        waiting.execute_complete(context, event)


def test_a_connection_that_goes_while_waiting_ends_it(
    page: StandIn, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = deferred(sensor(deferrable=True, timeout=600), context)
    monkeypatch.delenv("AIRFLOW_CONN_CLUSTER")
    assert fired(trigger)["error"].startswith("BadInputError: the connection 'cluster' does not exist")


def test_a_connection_that_is_away_for_a_moment_is_waited_through(
    page: StandIn, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it looks in the triggerer when Airflow's API does not answer."""
    waiting = sensor(deferrable=True, timeout=20, poke_interval=0.2)
    trigger = deferred(waiting, context)
    page.answers["/json/"] = IDLE
    kept = os.environ["AIRFLOW_CONN_CLUSTER"]
    monkeypatch.delenv("AIRFLOW_CONN_CLUSTER")
    threading.Timer(0.1, os.environ.__setitem__, ("AIRFLOW_CONN_CLUSTER", kept)).start()
    assert fired(trigger)["done"] is True


@pytest.mark.parametrize("deferrable", [True, False])
def test_refused_credentials_fail_at_once(page: StandIn, context: dict[str, Any], deferrable: bool) -> None:
    page.answers["/json/"] = Text("", 401)
    with pytest.raises(AirflowFailException, match=r"refuses access \(401\)"):
        sensor(deferrable=deferrable, timeout=600).execute(context)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"plan": None}, "nothing to wait for: give a plan, or cores, memory_mb or gpus"),
        ({"plan": "{'decisions': []}"}, "plan: expected a dry run's output"),
        ({"cores": "many"}, "cores: expected a whole number, got 'many'"),
    ],
)
def test_bad_arguments_fail_at_once(
    page: StandIn, context: dict[str, Any], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        sensor(**given).execute(context)
    assert not page.asked or "cores" in given


def test_needs_by_hand_win_over_the_plan(page: StandIn, context: dict[str, Any]) -> None:
    page.answers["/json/"] = master(worker("w1", 8, 4, 16384, gpus=1))["/json/"]
    assert sensor(plan=PLAN, cores=4).execute(context)["cores"] == 4
    assert sensor(memory_mb="16384", gpus="1").execute(context)["gpus"] == 1
    with pytest.raises(AirflowSensorTimeout, match="2 GPUs needed, 1 free"):
        sensor(gpus=2).execute(context)


def test_templates() -> None:
    assert set(SparkCapacitySensor.template_fields) == {"plan", "cores", "memory_mb", "gpus", "conn_id"}


def test_an_overdue_trigger_looks_once_more(page: StandIn) -> None:
    page.answers["/json/"] = IDLE
    trigger = SparkCapacityTrigger("cluster", {"cores": 8}, 60, time.time() - 1)
    assert fired(trigger)["done"] is True
