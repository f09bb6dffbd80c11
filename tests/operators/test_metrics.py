# SPDX-License-Identifier: Apache-2.0
"""Figures of a run that was made by hand; a real run's are scraped in ``tests/docker``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_onnx_provider.operators.metrics import OnnxMetricsOperator
from airflow_onnx_provider.quality.verdict import CheckRecord, CheckResult
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from airflow_onnx_provider.spark.run_manifest import write_failure
from tests.conftest import set_connection
from tests.listener import Listener, listening
from tests.spark.staging import stage


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    """An output folder with one run of 2026-01-01 that failed a check."""
    layout = OutputLayout(tmp_path / "predictions")
    stage(layout, "run-1")
    failed = CheckResult("nulls", "error", passed=False, expected="0", actual="7", value=7, limit=0)
    CheckRecord("run-1", "2026-01-01", "2026-01-01T00:00:00+00:00", "none", (), (failed,)).write(layout.checks("run-1"))
    return layout


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    with listening() as listener:
        given = {"conn_type": "http", "host": "127.0.0.1", "port": listener.port}
        set_connection(monkeypatch, "gateway", given)
        set_connection(monkeypatch, "gateway_basic", {**given, "login": "me", "password": "s3cret"})
        set_connection(monkeypatch, "gateway_bearer", {**given, "password": "s3cret"})
        yield listener


def metrics(layout: OutputLayout, **changes: Any) -> OnnxMetricsOperator:
    given = {"task_id": "metrics", "predictions": {"run_manifest": str(layout.run_manifest("run-1"))}, "job": "catalog"}
    return OnnxMetricsOperator(**{**given, **changes})


def test_a_failed_run_is_shown_in_both_ways(
    layout: OutputLayout, gateway: Listener, tmp_path: Path, context: dict[str, Any]
) -> None:
    said = metrics(layout, textfile_dir=str(tmp_path), pushgateway_conn_id="gateway").execute(context)

    assert said.pop("stats") > 10
    assert said == {
        "job": "catalog",
        "run": "run-1",
        "partition": "2026-01-01",
        "verdict": "failed",
        "textfile": str(tmp_path / "catalog.prom"),
        "pushed": f"http://127.0.0.1:{gateway.port}",
    }
    (pushed,) = gateway.got
    assert (pushed.method, pushed.path) == ("PUT", "/metrics/job/catalog"), "it replaces what the job pushed before"
    assert pushed.body == (tmp_path / "catalog.prom").read_bytes()
    assert b'onnx_run_verdict{model="colours",onnx_job="catalog"} 2.0' in pushed.body


@pytest.mark.parametrize(
    ("conn_id", "header"),
    [("gateway", None), ("gateway_basic", "Basic bWU6czNjcmV0"), ("gateway_bearer", "Bearer s3cret")],
)
def test_credentials_come_from_the_connection(
    layout: OutputLayout, gateway: Listener, context: dict[str, Any], conn_id: str, header: str | None
) -> None:
    metrics(layout, pushgateway_conn_id=conn_id).execute(context)

    assert gateway.got[0].headers.get("authorization") == header


def test_a_gateway_that_refuses_is_a_warning_with_its_words_and_without_secrets(
    layout: OutputLayout, gateway: Listener, context: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.status, gateway.answer = 400, b"pushed metrics are invalid"

    assert metrics(layout, pushgateway_conn_id="gateway_bearer").execute(context)["pushed"] is None

    log = capsys.readouterr().out
    assert f"127.0.0.1:{gateway.port} answered 400 Bad Request: pushed metrics are invalid" in log
    assert "s3cret" not in log


def test_a_gateway_that_is_down_fails_nothing(
    layout: OutputLayout, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        set_connection(monkeypatch, "down", {"conn_type": "http", "host": f"http://127.0.0.1:{taken.getsockname()[1]}"})

        assert metrics(layout, pushgateway_conn_id="down").execute(context)["pushed"] is None

    assert "Prometheus was not told of this run: http://127.0.0.1" in capsys.readouterr().out


def test_a_backfilled_day_leaves_the_present_alone(
    layout: OutputLayout, tmp_path: Path, context: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    stage(layout, "run-2", "2026-01-02")
    publish(layout, "2026-01-02", "run-2")

    said = metrics(layout, textfile_dir=str(tmp_path)).execute(context)

    assert (said["textfile"], list(tmp_path.glob("*.prom"))) == (None, [])
    assert "keeps showing 2026-01-02, which is newer than 2026-01-01" in capsys.readouterr().out


@pytest.mark.parametrize("given", [None, {"run_manifest": "/nowhere/run.json"}, {"dry_run": True}])
def test_without_a_run_manifest_there_is_nothing_to_say(
    layout: OutputLayout, context: dict[str, Any], given: Any
) -> None:
    with pytest.raises(AirflowSkipException, match="no figures|no predictions"):
        metrics(layout, predictions=given).execute(context)


def test_a_failed_job_is_skipped_with_its_reason(layout: OutputLayout, context: dict[str, Any]) -> None:
    write_failure(layout.run_manifest("run-1"), "2026-01-01", ValueError("no such thing"))

    with pytest.raises(AirflowSkipException, match="no figures: .* the run is failed: no such thing"):
        metrics(layout).execute(context)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"pushgateway_conn_id": "none_such"}, "connection 'none_such' does not exist"),
        ({"job": "two words"}, "cannot name the series"),
    ],
)
def test_what_is_set_up_wrongly_is_said_at_once(
    layout: OutputLayout, context: dict[str, Any], changes: dict[str, str], complaint: str
) -> None:
    with pytest.raises(AirflowFailException, match=complaint):
        metrics(layout, **changes).execute(context)


@pytest.mark.parametrize(
    ("connection", "complaint"),
    [
        ({"conn_type": "http"}, "has no host"),
        ({"conn_type": "http", "host": "https://me:secret@gateway"}, "put them into login and password"),
    ],
)
def test_a_connection_that_will_not_do(
    layout: OutputLayout, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch, connection: Any, complaint: str
) -> None:
    set_connection(monkeypatch, "odd", connection)
    with pytest.raises(AirflowFailException, match=complaint) as refused:
        metrics(layout, pushgateway_conn_id="odd").execute(context)
    assert "secret" not in str(refused.value)


TASK = """
import json, sys
from airflow.sdk.observability.metrics import stats_utils
from airflow.sdk.observability.stats import Stats
try:  # as Airflow's task runner does: in 3.3, and before
    Stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
except TypeError:
    Stats.initialize(factory=stats_utils.get_stats_factory(Stats))
from airflow_onnx_provider.operators.metrics import OnnxMetricsOperator
print(json.dumps(OnnxMetricsOperator(task_id="metrics", predictions=sys.argv[1], job="catalog").execute({})))
"""


def send_stats(layout: OutputLayout, **settings: object) -> int:
    """Run the operator in a process of its own with these ``[metrics]`` settings, and say how many figures it sent."""
    environment = {f"AIRFLOW__METRICS__{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-c", TASK, str(layout.run_manifest("run-1"))]
    ran = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return int(json.loads(ran.stdout.splitlines()[-1])["stats"])


def received(server: socket.socket) -> dict[str, str]:
    """Name to value and type of the runs' packets; all have arrived, since their sender has ended."""
    server.setblocking(False)
    packets = []
    with suppress(BlockingIOError):
        while True:
            packets.append(server.recv(2048).decode())
    return dict(one.split(":", 1) for one in packets if one.startswith("airflow.onnx.run."))


@pytest.mark.parametrize("influx", [False, True])
def test_a_real_statsd_socket_gets_every_figure(layout: OutputLayout, influx: bool) -> None:
    pytest.importorskip("statsd", reason="needs Airflow's own extra: pip install 'apache-airflow[statsd]'")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        sent = send_stats(layout, statsd_on=True, statsd_port=port, statsd_influxdb_enabled=influx)
        got = received(server)

    assert len(got) == sent, "no two figures have one name"
    if influx:
        assert got["airflow.onnx.run.rows,onnx_job=catalog,model=colours,outcome=predicted"] == "2.0|g"
    else:
        assert got["airflow.onnx.run.catalog.rows.predicted"] == "2.0|g"
        assert got["airflow.onnx.run.catalog.quarantined_rows.not_an_image"] == "1.0|g"
        assert got["airflow.onnx.run.catalog.batch_latency_seconds.p99"] == "0.003|g"
        assert got["airflow.onnx.run.catalog.verdict"] == "2.0|g"


def test_a_real_opentelemetry_receiver_gets_every_figure(layout: OutputLayout) -> None:
    service = pytest.importorskip(
        "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2",
        reason="needs Airflow's own extra: pip install 'apache-airflow[otel]'",
    )
    with listening() as collector:
        sent = send_stats(layout, otel_on=True, otel_host="127.0.0.1", otel_port=collector.port)

    points = {}
    for request in collector.got:
        for resource in service.ExportMetricsServiceRequest.FromString(request.body).resource_metrics:
            for metric in (one for scope in resource.scope_metrics for one in scope.metrics):
                for point in (*metric.gauge.data_points, *metric.histogram.data_points):
                    tags = {tag.key: tag.value.string_value for tag in point.attributes}
                    points[metric.name, frozenset(tags.items())] = getattr(point, "as_double", None)
    common = {("onnx_job", "catalog"), ("model", "colours")}
    assert points["airflow.onnx.run.rows", frozenset({*common, ("outcome", "predicted")})] == 2
    assert points["airflow.onnx.run.rows", frozenset({*common, ("outcome", "quarantined")})] == 1
    assert points["airflow.onnx.run.images_per_second", frozenset(common)] == 30
    assert sum(name.startswith("airflow.onnx.run.") for name, _ in points) == sent
