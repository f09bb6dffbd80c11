# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_onnx_provider.operators.validate import OnnxValidateOperator
from tests.model.test_validate import KINDS, ThisProcess, stored


@pytest.fixture
def operator(tmp_path: Path) -> OnnxValidateOperator:
    """Validates a model of numbers with two outputs; its stages run in this process."""
    text, _, rows = KINDS["several outputs"]
    _, address = stored(tmp_path, text)
    np.savez(tmp_path / "rows.npz", **rows)
    operator = OnnxValidateOperator(
        task_id="validate", model=address, inputs=str(tmp_path / "rows.npz"), batch=6, reference_rows=1
    )
    operator.__dict__["_stage"] = ThisProcess(logging.getLogger("stage"))
    return operator


def test_it_returns_what_was_checked(operator: OnnxValidateOperator) -> None:
    result = operator.execute({})

    assert result["model"] == operator.model
    assert list(result["checks"]) == ["rows", "batch_1", "batch_2", "batch_6", "reference"]


def test_its_limits_are_those_of_the_gate_and_a_refusal_is_not_tried_again(operator: OnnxValidateOperator) -> None:
    operator.max_difference = -1.0  # no model is this good
    operator.max_relative_difference = -2.0

    with pytest.raises(AirflowFailException, match=r"ValidationError: .*\(limit -1\) and .*\(limit -2\)"):
        operator.execute({})
