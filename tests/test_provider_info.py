# SPDX-License-Identifier: Apache-2.0
"""What Airflow sees of the provider."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest

from airflow_onnx_provider.provider_info import get_provider_info

INFO = get_provider_info()


def test_info_passes_airflows_own_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)
    assert INFO["package-name"] == "airflow-onnx-provider", "example_dags are found by this name"


def test_entry_point_leads_to_the_info() -> None:
    (entry,) = (one for one in entry_points(group="apache_airflow_provider") if one.module.startswith("airflow_onnx"))
    assert entry.load()() == INFO


@pytest.mark.parametrize(
    "module",
    [
        module
        for kind in ("operators", "sensors", "triggers", "hooks")
        for entry in INFO[kind]
        for module in entry["python-modules"]
    ],
)
def test_each_listed_module_exists(module: str) -> None:
    assert import_module(module).__doc__


@pytest.mark.parametrize("connection", INFO["connection-types"], ids=lambda entry: entry["connection-type"])
def test_each_connection_type_belongs_to_its_hook(connection: dict[str, str]) -> None:
    module, _, name = connection["hook-class-name"].rpartition(".")
    hook = getattr(import_module(module), name)
    assert hook.conn_type == connection["connection-type"]
    assert hook.hook_name == connection["hook-name"]
    assert connection["conn-fields"]
    assert callable(hook.test_connection)


def test_providers_get_shows_it() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "airflow", "providers", "get", "airflow-onnx-provider", "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    # Airflow's warnings about other providers come before it.
    (provider,) = json.loads(shown.stdout[shown.stdout.index("[{") :])
    assert provider["Provider"] == "airflow-onnx-provider"
