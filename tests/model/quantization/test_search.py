# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import MissingExtraError
from airflow_onnx_provider.model.evidence.samples import LabelledSet, Samples
from airflow_onnx_provider.model.quantization.facts import GraphFacts, read_facts
from airflow_onnx_provider.model.quantization.limits import QuantizeLimits
from airflow_onnx_provider.model.quantization.search import Found, Search, kinds_to_try
from airflow_onnx_provider.model.quantization.sensitivity import rank_by_loss
from airflow_onnx_provider.model.quantization.variants import Workshop
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.session import LoadedModel, open_session
from tests.model.quantization.small import columns, right_answers, version, write_fragile, write_graph, write_perceptron

ANY_SPEED = 0.0


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("perceptron")
    version(folder, write_perceptron(folder / "source" / "a.onnx"), columns(8))
    return folder


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fragile")
    version(folder, write_fragile(folder / "source" / "a.onnx"), columns(8))
    return folder


def found(folder: Path, work: Path, *, first: float = 1.0, **limits: Any) -> Found:
    """Search with rows whose first column has this size."""
    rows, labelled = columns(64, seed=6, first=first), columns(400, first=first)
    return Search(
        folder,
        work,
        facts=read_facts(folder / MODEL_NAME),
        limits=QuantizeLimits(min_speedup=ANY_SPEED, **limits),
        samples=Samples(rows),
        labelled=LabelledSet(labelled, right_answers(folder / MODEL_NAME, labelled)),
    ).run()


def test_auto_measures_every_kind_and_takes_the_fastest(perceptron: Path, tmp_path: Path) -> None:
    result = found(perceptron, tmp_path, max_accuracy_drop=0.5)

    assert [one.variant for one in result.measurements] == ["original", "dynamic", "static", "int4", "float16"]
    assert result.measurement == max(result.measurements[1:], key=lambda one: one.speedup)
    assert result.chosen is not None
    assert result.chosen.name == result.measurement.variant
    assert (tmp_path / result.chosen.name / MODEL_NAME).stat().st_size == result.measurement.size_bytes
    assert result.measurements[0].accuracy == 1.0
    assert result.batch == 1024  # what executors score plain columns with


def test_no_variant_is_begun_when_the_budget_is_spent(perceptron: Path, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"calibrations": ("minmax", "entropy"), "max_accuracy_drop": 0.5}
    result = found(perceptron, tmp_path, budget_seconds=1e-6, **limits)

    assert [one.variant for one in result.measurements] == ["original", "dynamic"]
    assert result.reason.endswith(
        "; the budget of 1e-06 s was spent before static, static-entropy, int4, float16 could be tried"
    )


def test_the_node_that_loses_most_stays_in_float(fragile: Path, tmp_path: Path) -> None:
    result = found(fragile, tmp_path, first=2000.0, mode="static", max_accuracy_drop=0.05)

    tried = {one.variant: one.accuracy for one in result.measurements}
    assert list(tried) == ["original", "static", "static-percentile", "static-entropy", result.measurement.variant]
    assert max(tried["static"], tried["static-percentile"], tried["static-entropy"]) < 0.7
    assert result.chosen is not None
    assert result.chosen.kept == ("MatMul_0",)
    assert result.measurement.accuracy >= 0.95
    assert "-keep-1 (in float: MatMul_0): accuracy 1.000 → " in result.reason


def test_without_time_left_no_node_is_weighed(fragile: Path, tmp_path: Path) -> None:
    result = found(fragile, tmp_path, first=2000.0, mode="static", max_accuracy_drop=0.05, budget_seconds=1e-6)

    assert result.chosen is None
    assert result.reason.endswith(
        "was spent before static-percentile, static-entropy, keeping sensitive nodes in float could be tried"
    )


def test_only_the_named_ways_to_calibrate_are_tried(perceptron: Path, tmp_path: Path) -> None:
    result = found(perceptron, tmp_path, mode="static", calibrations=("percentile",), max_accuracy_drop=0.5)

    assert result.measurement.variant == "static-percentile"


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("static", "it has no operator that is made 8-bit"),
        ("dynamic", "it has no matrix product, convolution or LSTM with constant weights"),
        ("float16", "it has no weights in float"),
        ("int4", "it has no matrix product with constant weights"),
    ],
)
def test_a_variant_that_cannot_be_made_is_rejected_with_its_reason(tmp_path: Path, mode: str, why: str) -> None:
    onnx = write_graph(tmp_path / "a.onnx", "float[batch, 4] features", "scores = Softmax <axis = -1> (features)", {})
    rows = {"features": columns(20)["features"][:, :4]}
    version(tmp_path / "version", onnx, rows)
    (tmp_path / "work").mkdir()

    result = Search(
        tmp_path / "version",
        tmp_path / "work",
        facts=read_facts(onnx),
        limits=QuantizeLimits(mode=mode),
        samples=Samples(rows),
        labelled=LabelledSet(rows, right_answers(onnx, rows)),
    ).run()

    assert result.chosen is None
    assert result.reason == f"the original goes on. {mode}: cannot be made: {why}"


def test_a_library_that_is_not_there_ends_only_its_own_variant(
    perceptron: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxconverter_common.float16", None)
    result = found(perceptron, tmp_path, max_accuracy_drop=0.5)

    assert "float16: cannot be made: the variant float16 needs the extra optimize: pip install" in result.reason

    (tmp_path / "again").mkdir()
    with pytest.raises(MissingExtraError):  # who asks for nothing else is told to install it
        found(perceptron, tmp_path / "again", mode="float16")


def test_nodes_are_ranked_by_what_they_lose(fragile: Path, tmp_path: Path) -> None:
    rows = columns(64, first=2000.0)
    model = LoadedModel(ModelManifest.read(fragile), open_session(fragile / MODEL_NAME))
    workshop = Workshop(fragile / MODEL_NAME, tmp_path, rows)

    assert rank_by_loss(workshop, "minmax", model, rows, 60)[0] == "MatMul_0"
    assert rank_by_loss(workshop, "minmax", model, rows, 0) == ["MatMul_0"]  # time for one node only


def test_promising_kinds_come_first() -> None:
    convolutions = GraphFacts({"Conv": 1000, "Gemm": 10}, (), half=False)
    products = GraphFacts({"MatMul": 1000, "Conv": 10}, (), half=True)

    assert kinds_to_try(convolutions, QuantizeLimits()) == ("static", "dynamic", "float16")
    assert kinds_to_try(products, QuantizeLimits()) == ("dynamic", "static", "int4")
    assert kinds_to_try(products, QuantizeLimits(mode="int4")) == ("int4",)
    assert kinds_to_try(products, QuantizeLimits(mode="none")) == ()
