# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from airflow_onnx_provider.model.rewriting.dimensions import set_batch, set_resolution
from airflow_onnx_provider.model.rewriting.files import has_external_data, nbytes
from airflow_onnx_provider.model.rewriting.shapes import value_types
from airflow_onnx_provider.runtime.session import open_session
from tests.model.graphs import SIZE, write_small_network


def test_a_file_that_is_rewritten_twice_does_not_keep_its_old_weights(tmp_path: Path) -> None:
    source, target = write_small_network(tmp_path / "a.onnx", channels=64), tmp_path / "model.onnx"
    onnx.save(onnx.load(source), str(source), save_as_external_data=True, location="a.data", size_threshold=256)
    set_resolution(source, target, "image", 8, 8)
    once = (tmp_path / "model.onnx.data").stat().st_size
    set_batch(target, target, 2)

    assert has_external_data(target)
    assert (tmp_path / "model.onnx.data").stat().st_size == once
    assert open_session(target).run(None, {"image": np.ones((2, 8, 8, 3), np.uint8)})[0].shape == (2, 3)


@pytest.mark.parametrize(("kind", "size"), [("FLOAT", 12), ("INT8", 3), ("INT4", 2), ("BOOL", 3), ("FLOAT16", 6)])
def test_bytes_of_a_tensor(kind: str, size: int) -> None:
    tensor = onnx.TensorProto(dims=[3], data_type=onnx.TensorProto.DataType.Value(kind))
    assert nbytes(tensor) == size


def test_types_are_inferred_without_the_weights(tmp_path: Path) -> None:
    model = onnx.load(write_small_network(tmp_path / "a.onnx"))
    types = value_types(model)

    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    axes = types[convolution.output[0]].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in axes] == ["batch", 16, SIZE, SIZE]
