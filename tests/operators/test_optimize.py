# SPDX-License-Identifier: Apache-2.0
"""The operators that rewrite and split, on a real store and in real child processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from airflow.exceptions import AirflowFailException

from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.version import write_version
from airflow_onnx_provider.operators.optimize import OnnxOptimizeOperator
from airflow_onnx_provider.operators.split import OnnxSplitOperator
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from tests.model.graphs import SIZE, write_small_network
from tests.runtime.tiny import LABELS


@pytest.fixture
def address(tmp_path: Path) -> str:
    """A small network in a store, and `rows.npy` with pictures for it."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    np.save(tmp_path / "rows.npy", pixels)
    manifest = write_version(
        write_small_network(tmp_path / "a.onnx"),
        tmp_path / "version",
        name="network",
        golden={"image": pixels[:2]},
        preprocessing=ImagePreprocessing(SIZE, SIZE),
        labels=LABELS,
    )
    return ModelStore(tmp_path / "models").add(tmp_path / "version", manifest)


def test_a_rewritten_model_is_returned_with_its_gain(address: str, tmp_path: Path, context: dict[str, Any]) -> None:
    task = OnnxOptimizeOperator(
        task_id="optimize",
        model={"model": address},
        inputs=str(tmp_path / "rows.npy"),
        steps=["graph", {"top_k": {"k": "2"}}],  # a rendered template is text
        max_difference="0.0001",
    )
    result = task.execute(context)

    assert (result["accepted"], result["variant"]) == (True, "graph+top_k")
    assert [row["variant"] for row in result["measurements"]] == ["original", "graph", "top_k"]


def test_a_step_that_does_not_exist_is_not_tried_again(address: str, tmp_path: Path, context: dict[str, Any]) -> None:
    inputs = str(tmp_path / "rows.npy")
    task = OnnxOptimizeOperator(task_id="optimize", model=address, inputs=inputs, steps=["faster"])
    with pytest.raises(AirflowFailException, match="there is no step 'faster'"):
        task.execute(context)


def test_a_model_in_stages(address: str, tmp_path: Path, context: dict[str, Any]) -> None:
    inputs = str(tmp_path / "rows.npy")
    result = OnnxSplitOperator(task_id="split", model=address, inputs=inputs, stages="2").execute(context)

    assert [stage["name"] for stage in result["stages"]] == ["network.stage-1-of-2", "network.stage-2-of-2"]
    with pytest.raises(AirflowFailException, match=r"smallest possible in any number of stages .* MiB"):
        OnnxSplitOperator(task_id="split", model=address, inputs=inputs, budget_mib=0.001).execute(context)
