# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import ConversionError
from airflow_onnx_provider.model.graph import describe
from airflow_onnx_provider.model.rewriting.dynamic import require_runs, settle_axes, settle_shapes
from tests.runtime.tiny import write_onnx

SERIES = """
<ir_version: 10, opset_import: ["" : 18]>
series (float[unk__7, unk__8, 4] x) => (float[unk__9, unk__8, 4] y, float[N, unk__10] sums)
{
  y = Relu (x)
  sums = ReduceSum <keepdims = 0> (x, axes)
}
""".replace("{\n", "<int64[1] axes = {1}>\n{\n", 1)

FIXED = """
<ir_version: 10, opset_import: ["" : 18]>
fixed (float[1, 4] x) => (float[1, 4] y)
{
  y = Relu (x)
}
"""

ONLY_ONE_ROW = """
<ir_version: 10, opset_import: ["" : 18]>
one (float[N, 4] x) => (float[N, 4] y)
<int64[2] shape = {1, 4}>
{
  y = Reshape (x, shape)
}
"""

MEAN = """
<ir_version: 10, opset_import: ["" : 18]>
mean (float[N, 4] x) => (float[M, 4] y)
<int64[1] axes = {0}>
{
  y = ReduceMean (x, axes)
}
"""


def settled(path: Path, text: str) -> Path:
    write_onnx(path / "model.onnx", text)
    settle_axes(path / "model.onnx", {})
    return path / "model.onnx"


def run(path: Path) -> dict[str, list[int | str]]:
    facts = describe(path)
    return require_runs(path, facts.inputs, facts.outputs)


def test_names_that_a_converter_counted_become_lasting_ones(tmp_path: Path) -> None:
    path = settled(tmp_path, SERIES)
    settle_shapes(path, run(path))

    facts = describe(path)
    assert [spec.shape for spec in facts.inputs] == [("batch", "x_1", 4)]
    assert [spec.shape for spec in facts.outputs] == [("batch", "x_1", 4), ("batch", "sums_1")]


def test_the_names_that_are_given_are_taken_over(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", SERIES)
    settle_axes(tmp_path / "model.onnx", {"x": {"shape": ["rows", "steps", 4]}})

    facts = describe(tmp_path / "model.onnx")
    assert facts.inputs[0].shape == ("batch", "steps", 4)
    assert facts.outputs[0].shape == ("batch", "steps", 4)


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"x has the fixed batch size 1\. Export the model with a batch axis"):
        settled(tmp_path, FIXED)


def test_a_graph_that_runs_at_one_row_only(tmp_path: Path) -> None:
    path = settled(tmp_path, ONLY_ONE_ROW)

    with pytest.raises(ConversionError, match="does not run at batch size 2: "):
        run(path)


def test_a_graph_that_answers_once_for_the_whole_batch(tmp_path: Path) -> None:
    path = settled(tmp_path, MEAN)

    with pytest.raises(ConversionError, match=r"the output y .* shapes \[\(1, 4\), \(1, 4\), \(1, 4\)\] at the batch"):
        run(path)
