"""Links to a Spark application."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_onnx_provider import links
from airflow_onnx_provider.links import SPARK_UI_KEY, SparkUILink, application_address

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


@pytest.mark.parametrize(("pushed", "shown"), [(DRIVER, DRIVER), (None, "")])
def test_the_link_shows_what_was_pushed(monkeypatch: pytest.MonkeyPatch, pushed: Any, shown: str) -> None:
    asked: list[dict[str, Any]] = []

    def get_value(**of: Any) -> Any:
        asked.append(of)
        return pushed

    monkeypatch.setattr(links, "XCom", SimpleNamespace(get_value=get_value))
    ti_key: Any = object()

    assert SparkUILink().get_link(operator=None, ti_key=ti_key) == shown  # type: ignore[arg-type]
    assert asked == [{"ti_key": ti_key, "key": SPARK_UI_KEY}]


def test_airflow_finds_the_link_under_the_pushed_key() -> None:
    """The UI reads the XCom of this key, so the link is there while the task still runs."""
    link = SparkUILink()
    assert (link.name, link.xcom_key) == ("Spark UI", "spark_ui")
