# SPDX-License-Identifier: Apache-2.0
"""The connection to an MLflow server; with a real one the operator runs in ``tests/model/test_mlflow.py``."""

from __future__ import annotations

import os
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.mlflow import VARIABLES, environment_of, mlflow_environment
from airflow_onnx_provider.operators.log_to_mlflow import OnnxMlflowLogOperator
from tests.conftest import set_connection


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_without_a_server(colour_model: str, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="give mlflow_conn_id, or set MLFLOW_TRACKING_URI"):
        OnnxMlflowLogOperator(task_id="log", model=colour_model, experiment="colours").execute(context)


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        ({"host": "https://mlflow.example.com/"}, {"MLFLOW_TRACKING_URI": "https://mlflow.example.com"}),
        ({"host": "mlflow", "port": 5000}, {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}),
        (
            {"host": "mlflow", "schema": "https", "login": "me", "password": "secret"},
            {
                "MLFLOW_TRACKING_URI": "https://mlflow",
                "MLFLOW_TRACKING_USERNAME": "me",
                "MLFLOW_TRACKING_PASSWORD": "secret",
            },
        ),
        (
            {"host": "mlflow", "password": "a-token"},
            {"MLFLOW_TRACKING_URI": "http://mlflow", "MLFLOW_TRACKING_TOKEN": "a-token"},
        ),
    ],
)
def test_a_connection_as_mlflow_reads_it(
    connection: dict[str, Any], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, "mlflow_a", {"conn_type": "http", **connection})

    assert environment_of("mlflow_a") == expected


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        ({"conn_type": "http"}, "has no host"),
        ({"conn_type": "postgres", "host": "a"}, "has the type 'postgres', needed is http"),
        ({"conn_type": "http", "host": "https://me:secret@mlflow"}, "put them into login and password"),
    ],
)
def test_a_connection_that_will_not_do(
    connection: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, "mlflow_b", connection)

    with pytest.raises(BadInputError, match=reason) as refused:
        environment_of("mlflow_b")
    assert "secret" not in str(refused.value)


def test_the_environment_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, "mlflow_c", {"conn_type": "http", "host": "mlflow", "password": "a-token"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")

    def works_in_it() -> None:
        with mlflow_environment("mlflow_c") as server:
            assert server == os.environ["MLFLOW_TRACKING_URI"] == "http://mlflow"
            assert os.environ["MLFLOW_TRACKING_TOKEN"] == "a-token"
            assert "MLFLOW_TRACKING_USERNAME" not in os.environ, "one server's name must not go to another"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        works_in_it()
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://other"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "somebody"
    assert "MLFLOW_TRACKING_TOKEN" not in os.environ
