# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import ValidationError
from airflow_onnx_provider.model.graph import describe
from airflow_onnx_provider.model.rewriting.dimensions import set_batch, set_resolution
from airflow_onnx_provider.runtime.session import open_session
from tests.model.graphs import SIZE, Writer, tensor, write_planes_network, write_small_network
from tests.runtime.tiny import OFFERS, write_onnx


def test_one_row_becomes_any_number_of_rows(tmp_path: Path) -> None:
    source = write_planes_network(tmp_path / "a.onnx", rows=1)
    set_batch(source, tmp_path / "b.onnx", "batch")

    rows = np.random.default_rng(0).random((3, 3, SIZE, SIZE), np.float32)
    alone = np.concatenate([open_session(source).run(None, {"planes": rows[row : row + 1]})[0] for row in range(3)])
    np.testing.assert_allclose(open_session(tmp_path / "b.onnx").run(None, {"planes": rows})[0], alone, atol=1e-6)
    assert describe(tmp_path / "b.onnx").outputs[0].shape == ("batch", 3)


def test_any_number_of_rows_becomes_a_fixed_one(tmp_path: Path) -> None:
    set_batch(write_onnx(tmp_path / "a.onnx", OFFERS), tmp_path / "b.onnx", 4)

    facts = describe(tmp_path / "b.onnx")
    assert [spec.shape for spec in facts.inputs] == [(4, 2), (4,)]
    assert [spec.shape for spec in facts.outputs] == [(4, 2), (4,)]


def test_nothing_to_change(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="its batch is 1 already"):
        set_batch(write_planes_network(tmp_path / "a.onnx", rows=1), tmp_path / "b.onnx", 1)


def test_another_resolution_gives_other_inner_shapes(tmp_path: Path) -> None:
    set_resolution(write_small_network(tmp_path / "a.onnx"), tmp_path / "b.onnx", "image", 32, 8)

    facts = describe(tmp_path / "b.onnx")
    assert facts.inputs[0].shape == ("batch", 32, 8, 3)
    assert facts.outputs[0].shape == ("batch", 3)
    assert open_session(tmp_path / "b.onnx").run(None, {"image": np.ones((2, 32, 8, 3), np.uint8)})[0].shape == (2, 3)


def test_a_dense_layer_over_all_pixels_holds_the_resolution_as_a_constant(tmp_path: Path) -> None:
    net = Writer()
    flat = net.node("Flatten", net.node("Cast", "image", to=1))
    scores = net.node("MatMul", flat, net.random_weight(4 * 4 * 3, 2))
    source = net.save(
        tmp_path / "a.onnx", [tensor("image", "batch", 4, 4, 3, kind="UINT8")], [tensor(scores, "batch", 2)]
    )
    with pytest.raises(ValidationError, match="its shapes contradict each other: .*MatMul"):
        set_resolution(source, tmp_path / "b.onnx", "image", 8, 8)
