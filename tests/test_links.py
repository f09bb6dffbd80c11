# SPDX-License-Identifier: Apache-2.0
"""Buttons on a task, and where they lead."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_onnx_provider import links
from airflow_onnx_provider.links import (
    ModelCardLink,
    ReportLink,
    SparkUILink,
    application_address,
    card_address,
    report_address,
)

APP, YARN_APP = "app-20260101000000-0001", "application_1767225600000_0001"
DRIVER = "http://10.0.0.1:4040"


@pytest.mark.parametrize(
    ("application", "driver_ui", "known", "expected"),
    [
        (APP, DRIVER, {"master": "local[2]"}, DRIVER),
        (APP, "-", {"master": "local[2]"}, ""),
        (APP, "javascript:alert(1)", {"master": "local[2]"}, ""),
        (APP, DRIVER, {"master": "spark://m:7077"}, DRIVER),
        (
            APP,
            DRIVER,
            {"master": "spark://m:7077", "web_address": "http://m:8080/"},
            f"http://m:8080/app/?appId={APP}",
        ),
        (
            YARN_APP,
            "http://rm:8088/proxy/x/",
            {"master": "yarn", "web_address": "http://rm:8088"},
            f"http://rm:8088/cluster/app/{YARN_APP}",
        ),
        (YARN_APP, "http://rm:8088/proxy/x/", {"master": "yarn"}, "http://rm:8088/proxy/x/"),
        (APP, DRIVER, {"master": "k8s://https://k:6443", "web_address": "https://k:6443"}, DRIVER),
        (
            APP,
            DRIVER,
            {"master": "yarn", "web_address": "http://rm:8088", "history_address": "http://h:18080/"},
            f"http://h:18080/history/{APP}",
        ),
    ],
)
def test_the_address_that_lives_longest(application: str, driver_ui: str, known: dict[str, str], expected: str) -> None:
    assert application_address(application, driver_ui, **known) == expected


LINKS = {SparkUILink: "spark_ui", ReportLink: "report_link", ModelCardLink: "card_link"}


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize(("pushed", "shown"), [(DRIVER, DRIVER), (None, "")])
def test_the_link_shows_what_was_pushed(monkeypatch: pytest.MonkeyPatch, kind: Any, pushed: Any, shown: str) -> None:
    asked: list[dict[str, Any]] = []

    def get_value(**of: Any) -> Any:
        asked.append(of)
        return pushed

    monkeypatch.setattr(links, "XCom", SimpleNamespace(get_value=get_value))
    ti_key: Any = object()

    assert kind().get_link(operator=None, ti_key=ti_key) == shown
    assert asked == [{"ti_key": ti_key, "key": LINKS[kind]}]


def test_airflow_finds_the_links_under_the_pushed_keys() -> None:
    """The UI reads the XCom of this key, so the link is there while the task still runs."""
    assert [(kind().name, kind().xcom_key) for kind in (SparkUILink, ReportLink, ModelCardLink)] == [
        ("Spark UI", "spark_ui"),
        ("Report", "report_link"),
        ("Model card", "card_link"),
    ]


@pytest.mark.parametrize("base", ["https://airflow.example.org/here", "https://airflow.example.org/here/"])
def test_addresses_of_pages_follow_airflow(monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    assert report_address("/data/my output", "2026-01-01-x-0123abcd") == (
        "https://airflow.example.org/here/onnx/report?output=/data/my%20output&run=2026-01-01-x-0123abcd"
    )
    assert card_address("s3://aws@models/m/0123456789ab") == (
        "https://airflow.example.org/here/onnx/card?model=s3%3A//aws%40models/m/0123456789ab"
    )


def test_without_a_base_they_are_paths_of_the_host_that_shows_them() -> None:
    assert report_address("/out", "r1") == "/onnx/report?output=/out&run=r1"
