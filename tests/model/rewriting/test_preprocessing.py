# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.graph import describe, require_sound
from airflow_onnx_provider.model.rewriting.preprocessing import fold_preprocessing, layout_of, normalised
from airflow_onnx_provider.runtime.manifest import TensorSpec
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.session import open_session
from tests.runtime.tiny import write_onnx

CHANNELS = st.tuples(*[st.floats(0.1, 200)] * 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)


@given(st.sampled_from(["NCHW", "NHWC"]), st.sampled_from(["float", "float16"]), CHANNELS, CHANNELS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_graph_makes_the_same_numbers_as_the_preprocessing_outside(
    tmp_path: Path, layout: str, kind: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    shape = "batch, 3, 4, 6" if layout == "NCHW" else "batch, 4, 6, 3"
    text = f'<ir_version: 10, opset_import: ["" : 18]> g ({kind}[{shape}] x) => ({kind}[{shape}] y) {{ y = Relu (x) }}'
    source = write_onnx(tmp_path / "a.onnx", text)
    preprocessing = ImagePreprocessing(4, 6, scale=0.5, mean=mean, std=std)  # type: ignore[arg-type]
    name = fold_preprocessing(source, tmp_path / "b.onnx", preprocessing, layout)  # type: ignore[arg-type]

    require_sound(tmp_path / "b.onnx")
    assert describe(tmp_path / "b.onnx").inputs == (TensorSpec("image", "uint8", ("batch", 4, 6, 3)),)
    floats = normalised(PIXELS, preprocessing, layout, kind)  # type: ignore[arg-type]
    found = open_session(tmp_path / "b.onnx").run(None, {name: PIXELS})[0]
    expected = np.maximum(floats, 0)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=1e-3 * max(1.0, np.abs(expected).max()))


def test_what_changes_nothing_is_left_out(tmp_path: Path) -> None:
    import onnx

    text = '<ir_version: 10, opset_import: ["" : 18]> g (float[n, 4, 6, 3] x) => (float[n, 4, 6, 3] y) { y = Relu (x) }'
    fold_preprocessing(write_onnx(tmp_path / "a.onnx", text), tmp_path / "b.onnx", ImagePreprocessing(4, 6), "NHWC")

    assert [node.op_type for node in onnx.load(tmp_path / "b.onnx").graph.node] == ["Cast", "Relu"]


def test_the_layout_is_where_the_three_channels_are() -> None:
    assert layout_of(TensorSpec("x", "float", ("batch", 3, 8, 8))) == "NCHW"
    assert layout_of(TensorSpec("x", "float", ("batch", "h", "w", 3))) == "NHWC"
    with pytest.raises(BadInputError, match="may be NCHW or NHWC; give the layout"):
        layout_of(TensorSpec("x", "float", ("batch", 3, 8, 3)))
    assert layout_of(TensorSpec("x", "float", ("batch", 3, 8, 3)), "NHWC") == "NHWC"


@pytest.mark.parametrize(
    "spec", [TensorSpec("x", "float", ("batch", 10)), TensorSpec("x", "int64", ("batch", 3, 8, 8))]
)
def test_an_input_that_is_no_picture(spec: TensorSpec) -> None:
    with pytest.raises(ValidationError, match="is no float picture of three channels"):
        layout_of(spec)
