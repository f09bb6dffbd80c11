# SPDX-License-Identifier: Apache-2.0
"""Importing the package is cheap, and its public names are there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import airflow_onnx_provider

HEAVY = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "pyspark", "pandas", "numpy", "pyarrow", "PIL")


def test_the_package_itself_imports_nothing() -> None:
    code = "import json, sys, airflow_onnx_provider; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"airflow", *HEAVY}.isdisjoint(json.loads(done.stdout))


@pytest.mark.parametrize("name", airflow_onnx_provider.__all__)
def test_each_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(airflow_onnx_provider, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'OnnxMagicOperator'"):
        airflow_onnx_provider.OnnxMagicOperator  # noqa: B018
