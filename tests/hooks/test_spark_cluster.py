# SPDX-License-Identifier: Apache-2.0
"""A Spark connection's cluster: which one it is, how it is asked, and the button that tests it."""

from __future__ import annotations

import inspect
import json
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.hooks.spark_cluster import SparkClusterHook
from airflow_onnx_provider.hooks.spark_submit import OnnxSparkSubmitHook
from airflow_onnx_provider.runtime.cpu import available_cores
from tests.conftest import set_connection
from tests.hooks.capacity import shapes_kubernetes as k8s
from tests.hooks.capacity import shapes_standalone as standalone
from tests.hooks.capacity import shapes_yarn as yarn
from tests.hooks.capacity.standin import standing_in

SECRET = "s3cr3t-of-the-night"
STANDALONE = standalone.master(standalone.worker("w1", 4, 3, 6144), standalone.worker("w2", 4, 4, 8192))


def hook(monkeypatch: pytest.MonkeyPatch, host: str, conn_type: str = "spark_cluster", **more: Any) -> SparkClusterHook:
    connection = {name: more.pop(name) for name in ("port", "login", "password") if name in more}
    set_connection(monkeypatch, "cluster", {"conn_type": conn_type, "host": host, **connection, "extra": more})
    return SparkClusterHook("cluster")


@pytest.mark.parametrize(
    ("host", "cores"), [("local", 1), ("local[3]", 3), ("local[*]", available_cores()), ("local[2, 4]", 2)]
)
def test_local(monkeypatch: pytest.MonkeyPatch, host: str, cores: int) -> None:
    facts = hook(monkeypatch, host).capacity()
    assert (facts.cores, facts.total_cores, facts.executor_cores, facts.healthy) == (cores, cores, cores, True)
    assert hook(monkeypatch, host).test_connection() == (True, f"{host}: {cores} of {cores} cores free")


def test_standalone(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(STANDALONE) as page:
        asking = hook(monkeypatch, "spark://127.0.0.1", port=7077, web_address=f"{page.address}/")
        facts = asking.capacity()
        assert (facts.master, facts.cores, facts.memory_mb) == ("spark://127.0.0.1:7077", 7, 14336)
        told = "spark://127.0.0.1:7077: 7 of 8 cores free, 14336 MiB free memory"
        assert asking.test_connection() == (True, told)


@pytest.mark.parametrize("field", ["web_address", "yarn_resourcemanager_webapp_address"])
def test_yarn(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    """The second field is the Spark provider's own."""
    with standing_in(yarn.manager(*yarn.NODES) | yarn.TREE, lambda asked: "authorization" in asked.headers) as page:
        asking = hook(
            monkeypatch,
            "yarn",
            "spark",
            login="nightly",
            password=SECRET,
            queue="a",
            **{field: page.address.removeprefix("http://")},
        )
        told = "yarn: 6 of 8 cores free, 12288 MiB free memory, 2 free GPUs (the queue a may have 50 % of the cluster)"
        assert asking.test_connection() == (True, told)


def test_yarn_without_an_address_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = hook(monkeypatch, "yarn").capacity()
    assert (facts.cores, facts.healthy) == (None, True)
    assert facts.note == "the connection 'cluster' has no web_address of a ResourceManager"


def test_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    quota = k8s.quota({"cpu": "6"}, {"cpu": "2"})
    with standing_in(k8s.cluster(k8s.TWO, quotas=[quota], namespace="nightly")) as api:
        asking = hook(monkeypatch, f"k8s://{api.address}", password=SECRET, namespace="nightly")
        told = "4 of 6 cores free, 47145 MiB free memory, 2 free GPUs (the namespace nightly has a quota)"
        assert asking.test_connection() == (True, f"k8s://{api.address}: {told}")
    assert {asked.headers["authorization"] for asked in api.asked} == {f"Bearer {SECRET}"}


def test_kubernetes_through_a_connection_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = hook(monkeypatch, "k8s://https://127.0.0.1:9", kubernetes_conn_id="nowhere")
    with pytest.raises(BadInputError, match="the connection 'nowhere' does not exist"):
        asking.capacity()


def test_other_masters_do_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hook(monkeypatch, "local-cluster[2,1,1024]").capacity().cores is None


def test_the_button_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(STANDALONE, allow=lambda _: False) as page:
        passed, why = hook(monkeypatch, "spark://m", web_address=page.address, password=SECRET).test_connection()
    assert (passed, SECRET in why) == (False, False)
    assert why.startswith(f"BadInputError: {page.address}/json/ refuses access (401) with auth 'bearer'")
    with standing_in(standalone.master(status="RECOVERING")) as page:
        passed, why = hook(monkeypatch, "spark://m", web_address=page.address).test_connection()
    assert not passed
    assert why.endswith(f"(no master is ALIVE: {page.address} is RECOVERING)")


def test_a_page_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_onnx_provider.hooks.capacity.standalone.WEB_PORT", 9)
    way_out = r"no answer from http://127\.0\.0\.1:9/json/: .*refused; .* put web_address into the connection 'cluster'"
    with pytest.raises(OnnxProviderError, match=way_out):
        hook(monkeypatch, "spark://127.0.0.1").capacity()


@pytest.mark.parametrize(
    "connection",
    [
        {"host": "local[2]"},
        {"host": "spark://127.0.0.1:7077,127.0.0.2:7077", "extra": "standalone"},
        {"host": "spark://127.0.0.1", "port": 7077, "extra": "standalone", "login": "me", "password": "p@:/?#&s"},
    ],
)
def test_airflows_own_route_reaches_the_button(monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any]) -> None:
    """The function behind the button in the UI; who may press it is decided by a stand-in, without a database."""
    from airflow.api_fastapi.core_api.datamodels.connections import ConnectionBody
    from airflow.api_fastapi.core_api.routes.public import connections as route

    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    monkeypatch.setattr(route.Connection, "get_team_name", lambda *_: None)
    nobody = SimpleNamespace(is_authorized_connection=lambda **_: False)
    with standing_in(STANDALONE) as page:
        extra = json.dumps({"web_address": page.address}) if connection.pop("extra", "") else None
        body = ConnectionBody(connection_id="mine", conn_type="spark_cluster", extra=extra, **connection)
        who = {"user": None, "auth_manager": nobody}
        asks = inspect.signature(route.test_connection).parameters  # Airflow 3.2 has asked before
        answer = route.test_connection(body, **{name: one for name, one in who.items() if name in asks})
    assert answer.status is True, answer.message
    assert answer.message.startswith(connection["host"])
    assert "cores free" in answer.message


def test_a_connection_without_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, "empty", {"conn_type": "spark"})
    with pytest.raises(BadInputError, match="'empty' names no master"):
        SparkClusterHook("empty").capacity()


def test_fields_of_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {
        "deploy-mode": "cluster",
        "web_address": "http://rm:8088",
        "history_address": "http://history:18080",
        "python": "/opt/python/bin/python3",
        "queue": "nightly",
        "namespace": "spark",
    }
    full, empty = hook(monkeypatch, "yarn", **fields), SparkClusterHook("bare")
    set_connection(monkeypatch, "bare", {"conn_type": "spark", "host": "yarn", "extra": dict.fromkeys(fields, "")})
    for field, value in fields.items():
        name = field.replace("-", "_")
        assert getattr(full, name) == value
        assert getattr(empty, name) == ("client" if field == "deploy-mode" else None)


@pytest.mark.parametrize(
    ("connection", "master"),
    [
        ({"conn_type": "spark_cluster", "host": "spark://master", "port": 7077}, "spark://master:7077"),
        ({"conn_type": "spark", "host": "spark://master", "port": 7077}, "spark://master:7077"),
        ({"conn_type": "spark_cluster", "host": "spark://a:7077,b:7077"}, "spark://a:7077,b:7077"),
        ({"conn_type": "spark_cluster", "host": "k8s://https://api", "port": 6443}, "k8s://https://api:6443"),
    ],
)
def test_both_hooks_see_the_same_master(
    monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], master: str
) -> None:
    set_connection(monkeypatch, "cluster", connection)
    assert SparkClusterHook("cluster").master == master
    assert OnnxSparkSubmitHook(conn_id="cluster")._connection["master"] == master


def test_a_missing_connection_never_becomes_yarn() -> None:
    with pytest.raises(BadInputError, match="'spark_nowhere' does not exist"):
        OnnxSparkSubmitHook(conn_id="spark_nowhere")
