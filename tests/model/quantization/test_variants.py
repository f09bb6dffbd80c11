# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError, ConversionError
from airflow_onnx_provider.model.graph import describe
from airflow_onnx_provider.model.quantization.facts import read_facts
from airflow_onnx_provider.model.quantization.variants import Variant, Workshop
from airflow_onnx_provider.model.quantize import write_variant
from airflow_onnx_provider.runtime.session import open_session
from tests.model.quantization.small import columns, operators, right_answers, write_perceptron, write_tokens
from tests.runtime.tiny import CLASSIFIER, OFFERS, write_onnx

INPUTS = columns(256)


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_perceptron(tmp_path_factory.mktemp("perceptron") / "model.onnx")


@pytest.fixture(scope="module")
def workshop(perceptron: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(perceptron, tmp_path_factory.mktemp("work"), INPUTS)


QDQ = {"QuantizeLinear", "DequantizeLinear", "Softmax"}


@pytest.mark.parametrize(
    ("variant", "expected"),  # operators, share of the original's bytes, share of labels that stay
    [
        (Variant("static"), (QDQ, 0.5, 0.95)),
        (Variant("static", "percentile"), (QDQ, 0.5, 0.95)),
        (Variant("static", "entropy"), (QDQ, 0.5, 0.85)),
        (Variant("dynamic"), ({"DynamicQuantizeLinear", "MatMulInteger"}, 0.5, 0.95)),
        (Variant("float16"), ({"Cast", "MatMul"}, 0.6, 0.99)),
        (Variant("int4"), ({"MatMulNBits"}, 0.35, 0.75)),
        (Variant("int4", block_size=16), ({"MatMulNBits"}, 0.4, 0.75)),
    ],
    ids=lambda value: value.name if isinstance(value, Variant) else "",
)
def test_each_variant_is_smaller_and_takes_and_gives_the_same(
    workshop: Workshop, perceptron: Path, tmp_path: Path, variant: Variant, expected: tuple[set[str], float, float]
) -> None:
    has, share, agreement = expected
    target = tmp_path / "model.onnx"
    workshop.write(variant, target)

    assert has <= operators(target)
    assert target.stat().st_size < share * perceptron.stat().st_size
    facts, before = describe(target), describe(perceptron)
    assert (facts.inputs, facts.outputs) == (before.inputs, before.outputs)
    assert len(right_answers(target, {"features": INPUTS["features"][:1]})) == 1  # the batch stays open
    assert np.mean(right_answers(target, INPUTS) == right_answers(perceptron, INPUTS)) >= agreement


def test_softmax_stays_in_float(workshop: Workshop, tmp_path: Path) -> None:
    import onnx

    workshop.write(Variant("static"), tmp_path / "model.onnx")

    model = onnx.load(str(tmp_path / "model.onnx"))
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    assert not any(node.op_type == "QuantizeLinear" and softmax.output[0] in node.input for node in model.graph.node)


def test_kept_nodes_keep_their_weights(workshop: Workshop, tmp_path: Path) -> None:
    kept = [name for name, op_type in workshop.nodes.items() if op_type == "MatMul"][1]
    variant = Variant("static", kept=(kept,))
    workshop.write(Variant("static"), tmp_path / "all.onnx")
    workshop.write(variant, tmp_path / "kept.onnx")

    assert variant.name == "static-keep-1"
    # Of 64 x 64 weights, those of the second product, each takes four bytes again, not one.
    assert (tmp_path / "kept.onnx").stat().st_size - (tmp_path / "all.onnx").stat().st_size > 2.5 * 64 * 64


def test_token_models_are_quantised_too(tmp_path: Path) -> None:
    source = write_tokens(tmp_path / "source.onnx")
    inputs = {"ids": np.arange(120).reshape(20, 6) % 50, "mask": np.ones((20, 6), np.int64)}
    for kind in ("static", "dynamic", "float16", "int4"):
        write_variant(Variant(kind), source, tmp_path / "target.onnx", inputs)

        assert np.mean(right_answers(tmp_path / "target.onnx", inputs) == right_answers(source, inputs)) > 0.7


@pytest.mark.parametrize(
    ("variant", "text", "why"),
    [
        (Variant("int4"), OFFERS, "it has no matrix product with constant weights"),
        (Variant("dynamic"), OFFERS, "it has no matrix product, convolution or LSTM with constant weights"),
    ],
)
def test_what_a_graph_has_nothing_for_is_told(tmp_path: Path, variant: Variant, text: str, why: str) -> None:
    with pytest.raises(ConversionError, match=why):
        write_variant(variant, write_onnx(tmp_path / "a.onnx", text), tmp_path / "b.onnx")


def test_a_static_variant_without_calibration_rows(tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "a.onnx", CLASSIFIER)

    with pytest.raises(BadInputError, match="needs calibration rows"):
        write_variant(Variant("static"), source, tmp_path / "b.onnx")


def test_a_model_with_a_batch_of_one_is_calibrated_row_by_row(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(write_perceptron(tmp_path / "a.onnx")))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, str(tmp_path / "a.onnx"))

    write_variant(Variant("static"), tmp_path / "a.onnx", tmp_path / "b.onnx", INPUTS)

    assert open_session(tmp_path / "b.onnx").get_inputs()[0].shape == [1, 8]


def test_weights_whose_shapes_are_declared_twice(tmp_path: Path) -> None:
    """As PyTorch's exporter does; the quantiser transposes the weights of a Gemm and then finds a contradiction."""
    import onnx
    from onnx import helper, numpy_helper

    weights = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weights"], ["scores"], transB=1)],
        "gemm",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weights, "weights")],
        value_info=[helper.make_tensor_value_info("weights", onnx.TensorProto.FLOAT, [4, 64])],
    )
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "a.onnx")

    write_variant(Variant("dynamic"), tmp_path / "a.onnx", tmp_path / "b.onnx")

    assert "MatMulInteger" in operators(tmp_path / "b.onnx")


def test_the_quantisers_progress_is_not_printed(
    perceptron: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_variant(Variant("static", "percentile"), perceptron, tmp_path / "model.onnx", INPUTS)

    assert not capsys.readouterr().out


def test_facts_of_a_graph(perceptron: Path, tmp_path: Path, workshop: Workshop) -> None:
    facts = read_facts(perceptron)
    assert facts.multiplications == {"MatMul": 8 * 64 + 64 * 64 + 64 * 4}
    assert (facts.convolutional, facts.quantized, facts.half) == (False, (), False)

    found = {}
    for kind in ("static", "dynamic", "float16", "int4"):
        workshop.write(Variant(kind), tmp_path / f"{kind}.onnx")
        facts = read_facts(tmp_path / f"{kind}.onnx")
        found[kind] = (facts.quantized, facts.half)
    assert found == {
        "static": (("DequantizeLinear", "QuantizeLinear"), False),
        "dynamic": (("DynamicQuantizeLinear", "MatMulInteger"), False),
        "float16": ((), True),
        "int4": (("MatMulNBits",), False),
    }
