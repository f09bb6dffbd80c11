# SPDX-License-Identifier: Apache-2.0
"""The files in `docker/` against a real Prometheus that scrapes a real run, pushed and as a text file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from airflow_onnx_provider import OnnxPredictionCheckOperator, OnnxSparkInferenceOperator
from airflow_onnx_provider.operators.metrics import OnnxMetricsOperator
from airflow_onnx_provider.spark.layout import OutputLayout
from tests.cluster.standalone import free_ports
from tests.conftest import set_connection, task_context
from tests.integration.conftest import draw
from tests.spark.staging import stage_and_publish

DOCKER = Path(__file__).parents[2] / "docker"
RULES = DOCKER / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "onnx-batch-inference.json").read_text())
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]

needs_prometheus = pytest.mark.skipif(
    not all(map(shutil.which, ("promtool", "prometheus", "prometheus-pushgateway"))),
    reason="needs Prometheus: apt-get install prometheus prometheus-pushgateway",
)


def promtool(*arguments: str, given: str | None = None) -> None:
    ran = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@needs_prometheus
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", str(RULES.with_name("prometheus.yml"))),
        ("check", "rules", str(RULES)),
        ("test", "rules", str(RULES.with_name("alerts_test.yml"))),
    ],
)
def test_promtool_passes(arguments: tuple[str, ...]) -> None:
    promtool(*arguments)


@needs_prometheus
def test_every_alert_has_a_way_out_and_a_test() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    tests = RULES.with_name("alerts_test.yml").read_text()

    assert len(alerts) == 8
    for alert in alerts:
        assert set(alert["annotations"]) >= {"summary", "runbook"}
        assert alert["alert"] in tests


def test_the_dashboard_is_laid_out_without_gaps_or_overlaps() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert taken == {(x, y) for x in range(24) for y in range(height)}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["description"] for panel in DASHBOARD["panels"])


def test_grafana_finds_the_dashboard_and_its_source() -> None:
    provisioning = DOCKER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "onnx.yml").read_text())["providers"]

    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert provider["options"]["path"].endswith("/dashboards")


@dataclass(frozen=True)
class Scraped:
    """A Prometheus that has seen one run under two jobs: `written` (text file) and `pushed`."""

    address: str
    textfile: Path

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.address}/api/v1/query", {"query": expression}, timeout=10).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        groups = requests.get(f"{self.address}/api/v1/rules", timeout=10).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextmanager
def running(ready: str, *command: str) -> Iterator[None]:
    """A process that answers under the address ``ready`` until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: process.poll() is not None or answers(ready), f"{command[0]} never answered")
        assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
        yield
    finally:
        process.terminate()
        process.wait(20)


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=2).ok
    except requests.ConnectionError:
        return False


def wait_for(condition: Any, otherwise: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


@contextmanager
def serving(file: Path) -> Iterator[int]:
    """What node exporter does with a text file: show it under /metrics."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(file.read_bytes())

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def real_run(home: Path, model: str) -> dict[str, Any]:
    """Infer and judge a day with broken pictures, true labels and an earlier published day."""
    labels = draw(home / "catalog" / "ds=2026-01-01", good=30, broken=3)
    (home / "labels.csv").write_text("key,label\n" + "".join(f"{key},{label}\n" for key, label in labels.items()))
    stage_and_publish(OutputLayout(home / "predictions"), "by-hand", partition="2025-12-31")
    infer = OnnxSparkInferenceOperator(
        task_id="infer", model=model, input_path=str(home / "catalog"), output_path=str(home / "predictions")
    )
    predictions: dict[str, Any] = infer.execute(task_context())
    OnnxPredictionCheckOperator(
        task_id="check",
        predictions=predictions,
        labels=str(home / "labels.csv"),
        checks={
            "quarantine_rate": {"max": 0.2},
            "label_drift": {"severity": "warn"},
            "confidence_drift": {"severity": "warn"},
        },
    ).execute(task_context())
    return predictions


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory, colour_model: str) -> Iterator[Scraped]:
    home = tmp_path_factory.mktemp("scraped")
    gateway, prometheus = (f"127.0.0.1:{port}" for port in free_ports(2))
    with ExitStack() as stack:
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
        set_connection(monkeypatch, "spark_default", {"conn_type": "spark", "host": "local[2]"})
        set_connection(monkeypatch, "gateway", {"conn_type": "http", "host": f"http://{gateway}"})
        stack.enter_context(
            running(f"http://{gateway}/-/ready", "prometheus-pushgateway", f"--web.listen-address={gateway}")
        )
        predictions = real_run(home, colour_model)
        for job, where in (("written", {"textfile_dir": str(home)}), ("pushed", {"pushgateway_conn_id": "gateway"})):
            OnnxMetricsOperator(task_id="metrics", predictions=predictions, job=job, **where).execute(task_context())
        port = stack.enter_context(serving(home / "written.prom"))

        # The shipped settings, with addresses of here and a second for a minute.
        settings = yaml.safe_load(RULES.with_name("prometheus.yml").read_text())
        settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        settings["rule_files"] = [str(RULES)]
        addresses = {"pushgateway": gateway, "node": f"127.0.0.1:{port}"}
        for scrape in settings["scrape_configs"]:
            scrape["static_configs"] = [{"targets": [addresses[scrape["job_name"]]]}]
        (home / "prometheus.yml").write_text(yaml.safe_dump(settings))
        stack.enter_context(
            running(
                f"http://{prometheus}/-/ready",
                "prometheus",
                f"--config.file={home / 'prometheus.yml'}",
                f"--storage.tsdb.path={home / 'storage'}",
                f"--web.listen-address={prometheus}",
            )
        )
        found = Scraped(f"http://{prometheus}", home / "written.prom")
        wait_for(lambda: len(found.query("onnx_run_info")) == 2, "Prometheus never saw both jobs")
        wait_for(lambda: all(rule["health"] == "ok" for rule in found.rules()), "not all rules could be evaluated")
        yield found


@needs_prometheus
@pytest.mark.spark
def test_promtool_finds_nothing_wrong_with_the_names(scraped: Scraped) -> None:
    promtool("check", "metrics", given=scraped.textfile.read_text())


@needs_prometheus
@pytest.mark.spark
@pytest.mark.parametrize("expression", QUERIES)
def test_each_query_of_the_dashboard_has_data_in_both_ways(scraped: Scraped, expression: str) -> None:
    for job in ("written", "pushed"):
        asked = expression.replace("$job", job).replace("$model", "colours")
        assert "$" not in asked
        found = scraped.query(asked)
        assert found, f"{asked} found nothing"
        assert {one["metric"]["onnx_job"] for one in found} == {job}
        assert all(one["value"][1] != "NaN" for one in found)


@needs_prometheus
@pytest.mark.spark
def test_the_variables_of_the_dashboard_have_values(scraped: Scraped) -> None:
    for variable in DASHBOARD["templating"]["list"][1:]:
        metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
        values = scraped.query(f"count by ({label}) ({metric.replace('$job', '.*')})")
        assert {one["metric"][label] for one in values} in ({"written", "pushed"}, {"colours"})


@needs_prometheus
@pytest.mark.spark
def test_the_figures_are_those_of_the_run(scraped: Scraped) -> None:
    def value(expression: str) -> float:
        (found,) = scraped.query(expression)
        return float(found["value"][1])

    for job in ("written", "pushed"):
        assert value(f'onnx_run_rows{{onnx_job="{job}", outcome="predicted"}}') == 30
        assert value(f'sum(onnx_run_quarantined_rows{{onnx_job="{job}"}})') == 3
        assert value(f'onnx_run_accuracy_ratio{{onnx_job="{job}", bound="measured"}}') == 1
        assert value(f'onnx_run_batch_latency_seconds_count{{onnx_job="{job}"}}') > 0
        assert 0 < value(f'histogram_quantile(0.99, onnx_run_batch_latency_seconds_bucket{{onnx_job="{job}"}})') < 60
    assert value('onnx_run_info{onnx_job="pushed", job="pushed"}') == 1, "honor_labels keeps the job that was pushed"


@needs_prometheus
@pytest.mark.spark
def test_one_of_eleven_rows_in_quarantine_is_an_alert_for_each_job_and_the_only_kind(scraped: Scraped) -> None:
    expected = {("OnnxQuarantineHigh", "written"), ("OnnxQuarantineHigh", "pushed")}

    def alerts() -> set[tuple[str, str | None]]:
        return {(one["metric"]["alertname"], one["metric"].get("onnx_job")) for one in scraped.query("ALERTS")}

    wait_for(lambda: alerts() == expected, f"expected {expected}, got {alerts()}", seconds=10)
