# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import ValidationError
from airflow_onnx_provider.model.graph import describe
from airflow_onnx_provider.model.rewriting.files import has_external_data
from airflow_onnx_provider.model.rewriting.offline import optimize_offline
from airflow_onnx_provider.runtime.session import open_session
from tests.model.graphs import SIZE, write_small_network
from tests.runtime.tiny import write_onnx


def test_the_portable_level_fuses_and_stays_standard_onnx(tmp_path: Path) -> None:
    import onnx

    optimize_offline(write_small_network(tmp_path / "a.onnx"), tmp_path / "b.onnx")

    operators = {node.op_type for node in onnx.load(tmp_path / "b.onnx").graph.node}
    assert "BatchNormalization" not in operators
    assert describe(tmp_path / "b.onnx").domains == ("",)


def test_a_higher_level_writes_operators_of_onnx_runtimes_own(tmp_path: Path) -> None:
    optimize_offline(write_small_network(tmp_path / "a.onnx"), tmp_path / "b.onnx", "extended")

    assert "com.microsoft" in describe(tmp_path / "b.onnx").domains


def test_weights_beside_the_graph_stay_beside_it(tmp_path: Path) -> None:
    import onnx

    source = write_small_network(tmp_path / "a.onnx", channels=64)
    onnx.save(onnx.load(source), str(source), save_as_external_data=True, location="a.data", size_threshold=256)
    optimize_offline(source, tmp_path / "model.onnx")

    assert has_external_data(tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").stat().st_size > 64 * 64 * 9 * 4
    picture = {"image": np.full((1, SIZE, SIZE, 3), 99, np.uint8)}
    np.testing.assert_allclose(
        open_session(tmp_path / "model.onnx").run(None, picture)[0],
        open_session(source).run(None, picture)[0],
        atol=1e-6,
    )


def test_a_graph_that_onnx_runtime_refuses(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 18, "own" : 1]> g (float[1] x) => (float[1] y) { y = own.Guess (x) }'
    with pytest.raises(ValidationError, match="ONNX Runtime cannot optimise it: .*Guess"):
        optimize_offline(write_onnx(tmp_path / "a.onnx", text), tmp_path / "b.onnx")
