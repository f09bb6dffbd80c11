# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.operators.prune import OnnxPruneOperator
from airflow_onnx_provider.operators.quantize import OnnxQuantizeOperator
from tests.model.quantization import small


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A perceptron in a store, and `labelled.npz` with rows that it gets all right."""
    rows = small.columns(200)
    onnx = small.write_perceptron(tmp_path / "a.onnx")
    np.savez(tmp_path / "labelled.npz", **rows, label=small.right_answers(onnx, rows))
    return ModelStore(tmp_path / "store").add(tmp_path / "version", small.version(tmp_path / "version", onnx, rows))


def test_pruning_in_a_child_process_with_arguments_as_templates_give_them(model: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"model": {"model": model}, "labelled": str(tmp_path / "labelled.npz")}
    operator = OnnxPruneOperator(task_id="prune", **given, sparsity="0.2", max_accuracy_drop="0.5")
    result = operator.execute({})

    assert (result["accepted"], result["variant"]) == (True, "pruned-20")
    assert "ONNX Runtime gains no speed" in result["reason"]
    assert ModelStore(tmp_path / "store").manifest(result["model"]).origin["parent"] == model.rsplit("/", 1)[1]


@pytest.mark.parametrize(("sparsity", "message"), [("half", "sparsity: expected a number"), ("2", "between 0 and 1")])
def test_a_sparsity_that_cannot_be_is_not_tried_again(model: str, sparsity: str, message: str) -> None:
    with pytest.raises(AirflowFailException, match=message):
        OnnxPruneOperator(task_id="prune", model=model, labelled="/labelled.npz", sparsity=sparsity).execute({})


def test_quantising_for_another_cpu_is_refused_before_anything_runs(model: str, tmp_path: Path) -> None:
    operator = OnnxQuantizeOperator(
        task_id="quantize",
        model=model,
        mode="dynamic",
        labelled=str(tmp_path / "labelled.npz"),
        budget_seconds="60",
        cpu="Another CPU",
    )

    with pytest.raises(AirflowFailException, match="will run on 'Another CPU', but this task runs on"):
        operator.execute({})
