# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.splitting.cost import cost_of
from tests.model.graphs import Writer, tensor
from tests.runtime.tiny import TEXTS, write_onnx

LAYERS = """
<ir_version: 10, opset_import: ["" : 18]>
network (float[batch, 3, 8, 8] x) => (float[batch, 10] y)
<float[16, 3, 3, 3] kernel, float[16] bias, float[16, 10] head>
{
  a = Conv <pads = [1, 1, 1, 1]> (x, kernel, bias)
  b = Relu (a)
  c = GlobalAveragePool (b)
  d = Flatten (c)
  y = MatMul (d, head)
}
"""


def write_layers(path: Path) -> Path:
    import onnx

    model = onnx.parser.parse_model(LAYERS)
    for value in list(model.graph.initializer):
        model.graph.initializer.remove(value)
    shapes = {"kernel": (16, 3, 3, 3), "bias": (16,), "head": (16, 10)}
    for name, shape in shapes.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name))
    onnx.save(model, str(path))
    return path


def test_the_cost_of_each_layer_is_what_its_definition_says(tmp_path: Path) -> None:
    convolution, relu, pool, flatten, head = cost_of(write_layers(tmp_path / "layers.onnx"), batch=2).table()

    assert convolution["macs"] == 2 * 8 * 8 * 16 * 3 * 3 * 3
    assert convolution["flops"] == 2 * convolution["macs"]
    assert convolution["weight_bytes"] == 4 * (16 * 3 * 3 * 3 + 16)
    assert convolution["activation_bytes"] == 4 * 2 * 16 * 8 * 8
    assert (relu["macs"], relu["flops"]) == (0, 2 * 16 * 8 * 8)
    assert pool["flops"] == 2 * 16 * 8 * 8
    assert flatten["flops"] == 0
    assert (head["operator"], head["macs"], head["weight_bytes"]) == ("MatMul", 2 * 16 * 10, 4 * 16 * 10)


def test_memory_is_what_exists_at_one_time(tmp_path: Path) -> None:
    """While the ReLU runs, its input and its output exist, and the caller's picture all along."""
    cost = cost_of(write_layers(tmp_path / "layers.onnx"))

    assert cost.peak_activation_bytes == 4 * (3 * 8 * 8 + 2 * 16 * 8 * 8)
    assert cost.weight_bytes == 4 * (16 * 27 + 16 + 160)


def test_resnet50_has_the_numbers_that_are_printed_everywhere(resnet50: Path) -> None:
    cost = cost_of(resnet50)

    assert cost.macs == pytest.approx(4.1e9, rel=0.01)
    assert sum(cost.parameters.values()) == pytest.approx(25.6e6, rel=0.01)
    assert cost.weight_bytes == pytest.approx(resnet50.stat().st_size, rel=0.001)


def test_a_model_over_tokens_is_counted_for_a_given_length(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "texts.onnx", TEXTS)
    short, long = cost_of(path, sizes={"length": 8}), cost_of(path, sizes={"length": 16})

    assert long.activations["kept"] == 2 * short.activations["kept"] == 16 * 3 * 4
    with pytest.raises(BadInputError, match="the axis length of the input ids has no size"):
        cost_of(path)


def test_recurrent_layers_count_their_gates(tmp_path: Path) -> None:
    net = Writer()
    steps, features, hidden = 5, 7, 3
    weights = [net.random_weight(1, 4 * hidden, size) for size in (features, hidden)]
    net.answer("LSTM", "y", "x", *weights, hidden_size=hidden)
    taken, given = tensor("x", steps, "batch", features), tensor("y", steps, 1, "batch", hidden)
    path = net.save(tmp_path / "lstm.onnx", [taken], [given])

    assert cost_of(path, sizes={"batch": 2}).macs == 4 * steps * 2 * hidden * (features + hidden)


def test_a_shape_that_nobody_can_infer_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    path = write_onnx(
        tmp_path / "foreign.onnx",
        """
        <ir_version: 10, opset_import: ["" : 18, "elsewhere" : 1]>
        network (float[batch, 3] x) => (float[batch, 3] y) { a = elsewhere.Guess (x)
        y = Relu (a) }
        """,
    )
    with pytest.raises(BadInputError, match="the shape of the tensor 'a' cannot be inferred. Simplify the model first"):
        cost_of(path)
