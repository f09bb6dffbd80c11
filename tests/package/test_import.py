# SPDX-License-Identifier: Apache-2.0
"""Importing the package is cheap, and its public names are there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import airflow_onnx_provider
from tests.wheel import REPOSITORY

HEAVY = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "pyspark", "pandas", "numpy", "pyarrow", "PIL")


def modules_after(code: str) -> set[str]:
    code = f"import json, sys; {code}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_reference_dag_imports_no_framework() -> None:
    path = REPOSITORY / "dags" / "catalog_image_classification.py"
    loaded = modules_after(f"import runpy; runpy.run_path({str(path)!r})")
    assert "airflow_onnx_provider.operators.spark_inference" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_package_itself_imports_nothing() -> None:
    loaded = modules_after("import airflow_onnx_provider")
    assert loaded.isdisjoint({"airflow", *HEAVY})


@pytest.mark.parametrize("name", airflow_onnx_provider.__all__)
def test_each_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(airflow_onnx_provider, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'OnnxMagicOperator'"):
        airflow_onnx_provider.OnnxMagicOperator  # noqa: B018
