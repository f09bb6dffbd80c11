# SPDX-License-Identifier: Apache-2.0
"""What an executor's Python lacks is said in one line, before any picture is read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.conftest import Day
from tests.operators.test_spark_inference import inference

pytestmark = [pytest.mark.usefixtures("connections"), pytest.mark.spark]


def refusal(tmp_path: Path, model: str, context: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(AirflowFailException) as caught:
        inference(tmp_path, model, **changes).execute(context)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_an_interpreter_that_is_not_there(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    draw_day(good=4)

    said = refusal(tmp_path, colour_model, context, python="/nowhere/bin/python")

    assert "an executor has no such Python" in said
    assert "/nowhere/bin/python" in said
    assert "python=" in said


def test_an_interpreter_without_the_packages(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    draw_day(good=4)
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)

    said = refusal(tmp_path, colour_model, context, python=str(bare / "bin" / "python"))

    assert f"({bare}/bin/python {sys.version.split()[0]}) lacks numpy (ModuleNotFoundError" in said
    assert all(name in said for name in ("pyarrow", "pillow", "onnxruntime"))
