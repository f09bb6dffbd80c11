# SPDX-License-Identifier: Apache-2.0
"""Waiting for a version or a move, in a worker and in the triggerer."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_onnx_provider.model.store import storage
from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.sensors.model import OnnxModelSensor
from airflow_onnx_provider.triggers import model as trigger_module
from airflow_onnx_provider.triggers.model import OnnxModelTrigger
from tests.conftest import set_connection
from tests.model.store.versions import add_version

NAME = "colours"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    extra = {"root": str(tmp_path / "store")}
    set_connection(monkeypatch, "onnx_model_store_default", {"conn_type": "onnx_model_store", "extra": extra})
    return ModelStore(tmp_path / "store")


def started(minutes: float) -> dict[str, Any]:
    """The context of a run that started so many minutes ago, or will in the future."""
    return {"dag_run": SimpleNamespace(start_date=datetime.now(UTC) - timedelta(minutes=minutes))}


EARLIER, LATER = started(5), started(-24 * 60)


def sensor(**changes: Any) -> OnnxModelSensor:
    arguments = {"task_id": "wait", "name": NAME, "poke_interval": 0.05, "timeout": 0.2, "deferrable": False}
    return OnnxModelSensor(**(arguments | changes))


def fired(trigger: OnnxModelTrigger) -> dict[str, Any]:
    async def first() -> Any:
        return await anext(aiter(trigger.run()))

    return asyncio.run(first()).payload


def test_a_move_since_the_run_started(store: ModelStore) -> None:
    first, second = add_version(store, "first"), add_version(store, "second")
    aliases = Aliases(store, NAME)
    aliases.point("production", first, by="ana")
    aliases.point("production", second, by="ana")

    for deferrable in (True, False):
        found = sensor(alias="production", deferrable=deferrable).execute(EARLIER)
        assert found == {
            "model": f"{store.root}/{NAME}/{second}",
            "name": NAME,
            "digest": store.manifest(f"{store.root}/{NAME}/{second}").digest,
            "version": second,
            "alias": "production",
            "previous": first,
        }
    with pytest.raises(
        AirflowSensorTimeout, match=f"'production' of colours did not move within 0 s: .* {second} since"
    ):
        sensor(alias="production").execute(LATER)


def test_a_version_since_the_run_started(store: ModelStore) -> None:
    with pytest.raises(AirflowSensorTimeout, match="colours got no new version within 0 s: colours has no version yet"):
        sensor().execute(EARLIER)
    version = add_version(store, "first")
    found = sensor().execute(EARLIER)
    assert (found["version"], found["alias"], found["previous"]) == (version, None, None)
    with pytest.raises(AirflowSensorTimeout, match=f"the newest version of colours is {version}, added 20"):
        sensor().execute(LATER)


def test_another_version_than_a_known_one(store: ModelStore) -> None:
    first, second = add_version(store, "first"), add_version(store, "second")
    aliases = Aliases(store, NAME)
    aliases.point("production", first, by="ana")

    assert sensor(alias="production", than=second).execute(LATER)["version"] == first
    with pytest.raises(AirflowSensorTimeout):
        sensor(alias="production", than=first).execute(EARLIER)
    assert sensor(than=first).execute(LATER)["version"] == second


def test_a_time_that_is_given(store: ModelStore) -> None:
    version = add_version(store, "first")
    assert sensor(since="2020-01-01T00:00:00").execute(LATER)["version"] == version
    with pytest.raises(AirflowSensorTimeout):
        sensor(since="2120-01-01T00:00:00+02:00").execute(EARLIER)
    with pytest.raises(AirflowFailException, match="since: expected a time such as .*, got 'yesterday'"):
        sensor(since="yesterday").execute(EARLIER)


def test_waiting_in_the_triggerer(store: ModelStore) -> None:
    """And the store is listed off the triggerer's event loop."""
    version, threads = add_version(store, "first"), set()
    waiting = sensor(alias="production", deferrable=True, timeout=20)
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute(EARLIER)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_onnx_provider.triggers.model.OnnxModelTrigger"
    real = storage.names

    def watched(folder: Any) -> list[str]:
        threads.add(threading.current_thread())
        return real(folder)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(storage, "names", watched)
        threading.Timer(0.2, Aliases(store, NAME).point, ("production", version), {"by": "ana"}).start()
        event = fired(OnnxModelTrigger(**arguments))

    assert event["found"]["version"] == version
    assert waiting.execute_complete(EARLIER, event)["model"] == f"{store.root}/{NAME}/{version}"
    assert threads
    assert threading.main_thread() not in threads


def test_the_triggerer_gives_up_with_what_it_saw(store: ModelStore) -> None:
    awaited = {"name": NAME, "alias": "production", "than": None, "since": 0.0}
    event = fired(OnnxModelTrigger("onnx_model_store_default", awaited, 0.05, time.time() + 0.1))
    with pytest.raises(AirflowFailException, match="did not move within 0 s: colours@production was never pointed at"):
        sensor(alias="production").execute_complete(EARLIER, event)


def test_a_connection_that_does_not_exist() -> None:
    awaited = {"name": NAME, "alias": None, "than": None, "since": 0.0}
    event = fired(OnnxModelTrigger("nowhere", awaited, 0.05, time.time() + 20))
    with pytest.raises(AirflowFailException, match="BadInputError: the connection 'nowhere' does not exist"):
        sensor().execute_complete(EARLIER, event)
    with pytest.raises(AirflowFailException, match="'nowhere' does not exist"):
        sensor(store="nowhere").execute(EARLIER)


def test_a_store_that_does_not_answer_is_waited_for(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*arguments: Any) -> Any:
        raise ConnectionError("no route to host")

    add_version(store, "first")
    monkeypatch.setattr(trigger_module.ModelStore, "stored", away)
    with pytest.raises(AirflowSensorTimeout, match="does not answer: ConnectionError: no route to host"):
        sensor().execute(EARLIER)


@pytest.mark.parametrize(("field", "value"), [("name", "a/b"), ("alias", "1st")])
def test_a_name_that_cannot_be(store: ModelStore, field: str, value: str) -> None:
    with pytest.raises(AirflowFailException, match="cannot"):
        sensor(**{field: value}).execute(EARLIER)
