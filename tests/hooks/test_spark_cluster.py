"""What a connection's cluster has free."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.hooks.spark_cluster import SparkClusterHook
from airflow_onnx_provider.hooks.spark_submit import OnnxSparkSubmitHook
from airflow_onnx_provider.runtime.cpu import available_cores
from tests.conftest import set_connection

# As a Spark 4.2 standalone master answers at /json/, shortened.
MASTER_STATE = {
    "url": "spark://127.0.0.1:7077",
    "workers": [
        {"id": "worker-1", "cores": 4, "coresused": 1, "coresfree": 3, "memoryfree": 6144, "state": "ALIVE"},
        {"id": "worker-2", "cores": 4, "coresused": 0, "coresfree": 4, "memoryfree": 8192, "state": "ALIVE"},
        {"id": "worker-3", "cores": 8, "coresused": 0, "coresfree": 8, "memoryfree": 9999, "state": "DEAD"},
    ],
    "status": "ALIVE",
}


@pytest.fixture
def master_page() -> Iterator[str]:
    """A stand-in for a standalone master's web page, on loopback."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/json/"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(MASTER_STATE).encode() if found else b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("host", "slots"), [("local", 1), ("local[3]", 3), ("local[*]", available_cores()), ("local[2, 4]", 2)]
)
def test_local(monkeypatch: pytest.MonkeyPatch, host: str, slots: int) -> None:
    set_connection(monkeypatch, "spark_default", {"conn_type": "spark", "host": host})
    assert SparkClusterHook().capacity().slots == slots


def test_standalone_counts_living_workers(monkeypatch: pytest.MonkeyPatch, master_page: str) -> None:
    connection = {
        "conn_type": "spark_cluster",
        "host": "spark://127.0.0.1",
        "port": 7077,
        "extra": {"web_address": master_page},
    }
    set_connection(monkeypatch, "cluster", connection)
    facts = SparkClusterHook("cluster").capacity()
    assert (facts.master, facts.slots, facts.memory_mb) == ("spark://127.0.0.1:7077", 7, 14336)
    assert SparkClusterHook("cluster").test_connection() == (
        True,
        "spark://127.0.0.1:7077: 7 free cores, 14336 MiB free memory",
    )


def test_standalone_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"web_address": "http://127.0.0.1:9"}
    set_connection(monkeypatch, "cluster", {"conn_type": "spark", "host": "spark://127.0.0.1", "extra": extra})
    with pytest.raises(OnnxProviderError, match=r"does not answer at http://127\.0\.0\.1:9/json/.*web_address"):
        SparkClusterHook("cluster").capacity()
    assert SparkClusterHook("cluster").test_connection()[0] is False


def test_yarn_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, "yarn", {"conn_type": "spark", "host": "yarn"})
    assert SparkClusterHook("yarn").capacity().slots is None


def test_a_connection_without_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, "empty", {"conn_type": "spark"})
    with pytest.raises(BadInputError, match="'empty' names no master"):
        SparkClusterHook("empty").capacity()


@pytest.mark.parametrize(
    ("connection", "master"),
    [
        ({"conn_type": "spark_cluster", "host": "local[2]"}, "local[2]"),
        ({"conn_type": "spark_cluster", "host": "spark://master", "port": 7077}, "spark://master:7077"),
        ({"conn_type": "spark", "host": "spark://master", "port": 7077}, "spark://master:7077"),
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
