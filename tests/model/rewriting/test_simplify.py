# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import ValidationError
from airflow_onnx_provider.model.graph import describe
from airflow_onnx_provider.model.rewriting.simplify import simplify
from airflow_onnx_provider.runtime.session import open_session
from tests.runtime.tiny import write_onnx

WASTEFUL = """
<ir_version: 10, opset_import: ["" : 18]>
network (float[batch, 3] x) => (float[batch, 3] y)
<float[3] two = {2, 2, 2}, float[3] three = {3, 3, 3}>
{
  six = Mul (two, three)
  dead = Relu (x)
  same = Identity (x)
  y = Add (same, six)
}
"""
"""A constant expression, a node that nobody reads, and one that does nothing."""


def test_what_computes_nothing_is_gone(tmp_path: Path) -> None:
    import onnx

    source = write_onnx(tmp_path / "a.onnx", WASTEFUL)
    simplify(source, tmp_path / "b.onnx")

    assert [node.op_type for node in onnx.load(tmp_path / "b.onnx").graph.node] == ["Add"]
    assert describe(tmp_path / "b.onnx").inputs == describe(source).inputs
    assert open_session(tmp_path / "b.onnx").run(None, {"x": np.ones((2, 3), np.float32)})[0].tolist() == [[7] * 3] * 2


def test_a_simplifier_that_changes_the_outputs_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxslim

    def renamed(model: object, **_: object) -> object:
        model.graph.output[0].name = model.graph.node[-1].output[0] = "z"  # type: ignore[attr-defined]
        return model

    monkeypatch.setattr(onnxslim, "slim", renamed)
    with pytest.raises(ValidationError, match="onnxslim changes its inputs or outputs"):
        simplify(write_onnx(tmp_path / "a.onnx", WASTEFUL), tmp_path / "b.onnx")


def test_a_simplifier_that_fails_is_an_error_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxslim

    def fails(model: object, **_: object) -> None:
        raise KeyError("a pass met what it does not know")

    monkeypatch.setattr(onnxslim, "slim", fails)
    with pytest.raises(ValidationError, match="cannot simplify it: KeyError: 'a pass met"):
        simplify(write_onnx(tmp_path / "a.onnx", WASTEFUL), tmp_path / "b.onnx")
