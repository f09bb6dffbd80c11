# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from airflow_onnx_provider.exceptions import ConversionError
from airflow_onnx_provider.model.graph import describe, require_sound
from airflow_onnx_provider.model.rewriting.weights import settle_opset, settle_weights
from airflow_onnx_provider.model.version import manifest_of
from airflow_onnx_provider.runtime.session import open_session
from tests.runtime.tiny import write_onnx

ROWS = np.ones((2, 64), dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model of 16 kB of weights."""
    weights = onnx.numpy_helper.from_array(np.arange(4096, dtype=np.float32).reshape(64, 64), "weights")
    batch = [onnx.helper.make_tensor_value_info(name, 1, ["batch", 64]) for name in ("x", "y")]
    node = onnx.helper.make_node("MatMul", ["x", "weights"], ["y"])
    graph = onnx.helper.make_graph([node], "wide", batch[:1], batch[1:], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(tmp_path / "model.onnx"))
    return tmp_path / "model.onnx"


def test_the_weights_of_a_large_model_lie_beside_it_and_belong_to_the_version(path: Path) -> None:
    before = open_session(path).run(None, {"x": ROWS})[0]
    settle_weights(path, threshold=10_000)
    settle_weights(path, threshold=10_000)  # and stay there

    assert path.stat().st_size < 1000
    assert path.with_name("model.onnx.data").stat().st_size == 4096 * 4
    require_sound(path)
    assert set(manifest_of(path.parent, name="wide").files) == {"model.onnx", "model.onnx.data"}
    assert np.array_equal(open_session(path).run(None, {"x": ROWS})[0], before)


def test_those_of_a_small_model_come_back_into_it(path: Path) -> None:
    settle_weights(path, threshold=10_000)
    settle_weights(path)

    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    assert describe(path).inputs[0].shape == ("batch", 64)


def test_an_opset_in_which_the_operators_are_the_same_is_declared(path: Path) -> None:
    settle_opset(path, 20)

    assert describe(path).opset == 20


def test_an_opset_in_which_they_are_others_is_converted_to(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx")  # its ReduceMean takes the axes as an input only from opset 18
    settle_opset(tmp_path / "model.onnx", 21)
    assert describe(tmp_path / "model.onnx").opset == 21
    require_sound(tmp_path / "model.onnx")

    with pytest.raises(ConversionError, match="cannot be brought to opset 9, where these operators are others: "):
        settle_opset(tmp_path / "model.onnx", 9)
