from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.quantize import Measurement, QuantizeLimits, choose, paired_speedup, quantize
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store import ModelStore
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, TensorSpec, sha256_of_file
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.session import LoadedModel, load_model
from tests.runtime.tiny import LABELS, manifest_of, write_onnx

ORIGINAL = Measurement("original", accuracy=0.95, speedup=1.0, images_per_second=100, size_bytes=1000)
STATIC = Measurement("static", accuracy=0.945, speedup=2.5, images_per_second=250, size_bytes=260)
DYNAMIC = Measurement("dynamic", accuracy=0.95, speedup=0.2, images_per_second=20, size_bytes=250)


def test_the_faster_of_two_acceptable_variants_goes_on() -> None:
    chosen, reason = choose([ORIGINAL, STATIC, replace(DYNAMIC, speedup=1.5)], QuantizeLimits())

    assert chosen == STATIC
    assert reason.startswith(
        "static goes on. static: accuracy 0.950 → 0.945, 2.50 times the speed, 74% smaller: accept"
    )


def test_a_variant_that_is_too_slow_is_rejected_with_its_number() -> None:
    chosen, reason = choose([ORIGINAL, DYNAMIC], QuantizeLimits())

    assert chosen == ORIGINAL
    assert reason.startswith("the original goes on. dynamic: ")
    assert "rejected, is too slow (limit 1)" in reason


def test_a_variant_that_is_too_inaccurate_is_rejected_with_its_number() -> None:
    chosen, reason = choose([ORIGINAL, replace(STATIC, accuracy=0.2)], QuantizeLimits())

    assert chosen == ORIGINAL
    assert "rejected, loses 0.750 (limit 0.01)" in reason


def test_both_faults_are_told() -> None:
    _, reason = choose([ORIGINAL, replace(DYNAMIC, accuracy=0.1)], QuantizeLimits())

    assert "rejected, loses 0.850 (limit 0.01) and is too slow (limit 1)" in reason


def test_limits_that_are_just_kept_are_kept() -> None:
    limits = QuantizeLimits(max_accuracy_drop=0.25, min_speedup=2.5)

    assert choose([replace(ORIGINAL, accuracy=1.0), replace(STATIC, accuracy=0.75)], limits)[0].variant == "static"


def test_a_better_variant_than_the_original_is_welcome() -> None:
    assert choose([ORIGINAL, replace(STATIC, accuracy=1.0)], QuantizeLimits(max_accuracy_drop=0.0))[0].accuracy == 1.0


def test_without_a_variant_the_original_goes_on() -> None:
    assert choose([ORIGINAL], QuantizeLimits())[0] == ORIGINAL


def test_an_unknown_mode() -> None:
    with pytest.raises(BadInputError, match="mode must be one of static, dynamic, auto, none, got 'int4'"):
        QuantizeLimits(mode="int4")  # type: ignore[arg-type]


def test_speeds_are_compared_in_turn_on_the_same_batch() -> None:
    order: list[str] = []

    def sleeper(name: str, seconds: float) -> Any:
        def run(batch: np.ndarray) -> None:
            order.append(name)
            time.sleep(seconds)

        return SimpleNamespace(run=run)

    speedup, rate = paired_speedup(sleeper("slow", 0.03), sleeper("fast", 0.01), np.zeros((8, 1), np.uint8), 5)

    assert speedup == pytest.approx(3, rel=0.35)
    assert rate == pytest.approx(8 / 0.01, rel=0.35)
    assert order == ["slow", "slow", "fast", "fast"] + ["slow", "fast"] * 5


def test_a_model_is_as_fast_as_itself(model: LoadedModel) -> None:
    speedup, rate = paired_speedup(model, model, np.zeros((8, 4, 4, 3), np.uint8), 60)

    assert 0.5 < speedup < 2
    assert rate > 0


SIZE = 16
CHANNELS = 64


def write_convolutional_model(path: Path, named: bool = True) -> None:
    """Two convolutions, a pool and a softmax over the mean colour: enough for both ways of quantising."""
    import onnx
    from onnx import numpy_helper

    random = np.random.default_rng(3)
    first = random.normal(0, 0.02, (CHANNELS, 3, 3, 3)).astype(np.float32)
    second = random.normal(0, 0.02, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    first[:3] = second[:3] = 0
    for channel in range(3):  # the first three channels carry red, green and blue through
        first[channel, channel, 1, 1] = 1
        second[channel, channel, 1, 1] = 1
    head = np.zeros((CHANNELS, 3), dtype=np.float32)
    head[:3, :3] = 4 * np.eye(3)
    weights = {"first": first, "second": second, "head": head, "scale": np.array(1 / 255, dtype=np.float32)}
    model = onnx.parser.parse_model(f"""
<ir_version: 10, opset_import: ["" : 18]>
network (uint8[batch, {SIZE}, {SIZE}, 3] image) => (float[batch, 3] scores)
{{
  pixels = Cast <to = 1> (image)
  scaled = Mul (pixels, scale)
  planes = Transpose <perm = [0, 3, 1, 2]> (scaled)
  a = Conv <pads = [1, 1, 1, 1]> (planes, first)
  b = Relu (a)
  c = Conv <pads = [1, 1, 1, 1]> (b, second)
  d = GlobalAveragePool (c)
  e = Flatten (d)
  logits = MatMul (e, head)
  scores = Softmax <axis = -1> (logits)
}}
""")
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    for node in model.graph.node:
        node.name = node.output[0] if named else ""
    path.write_bytes(model.SerializeToString())


def network_in(store: ModelStore, folder: Path, named: bool = True) -> str:
    folder.mkdir()
    write_convolutional_model(folder / MODEL_NAME, named)
    inputs = (TensorSpec("image", "uint8", ("batch", SIZE, SIZE, 3)),)
    manifest = manifest_of(folder, name="network", inputs=inputs, preprocessing=ImagePreprocessing(SIZE, SIZE))
    return store.add(folder, manifest)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def address(store: ModelStore, tmp_path: Path) -> str:
    """A small network in a store; its speed and accuracy are what they are on this machine."""
    return network_in(store, tmp_path / "network")


ANY_SPEED = QuantizeLimits(mode="static", min_speedup=0.0, max_accuracy_drop=0.5, calibration_rows=12)


def test_an_accepted_variant_becomes_a_version_of_its_own(
    address: str, store: ModelStore, stage: Stage, pictures: Path
) -> None:
    result = quantize(address, calibration=pictures, labelled=pictures, limits=ANY_SPEED, store=store, stage=stage)

    original, accepted = store.manifest(address), store.manifest(result["model"])
    assert (result["accepted"], result["variant"], result["from_store"]) == (True, "static", False)
    assert [one["variant"] for one in result["measurements"]] == ["original", "static"]
    assert result["measurements"][0]["accuracy"] == 1.0
    assert result["size_bytes"] < 0.5 * result["measurements"][0]["size_bytes"]
    assert accepted.origin["parent"] == original.version
    assert (accepted.inputs, accepted.outputs, accepted.labels) == (original.inputs, original.outputs, LABELS)
    assert accepted.speed[0]["images_per_second"] == result["measurements"][1]["images_per_second"]
    with store.local(result["model"]) as local:
        assert load_model(local, accepted.digest).golden_difference <= 0.02
        assert accepted.golden is not None
        assert sha256_of_file(local / accepted.golden.file) == accepted.golden.sha256

    again = quantize(address, calibration=pictures, labelled=pictures, limits=ANY_SPEED, store=store, stage=stage)
    assert again == {**result, "from_store": True}

    with pytest.raises(BadInputError, match=r"is already quantised \(it has DequantizeLinear, QuantizeLinear"):
        quantize(result["model"], calibration=pictures, labelled=pictures, limits=ANY_SPEED, store=store, stage=stage)


def test_a_network_whose_nodes_have_no_names_is_quantised_too(
    store: ModelStore, stage: Stage, pictures: Path, tmp_path: Path
) -> None:
    """ONNX does not ask for names; a node that is left out by its name must not take the nameless ones with it."""
    address = network_in(store, tmp_path / "network", named=False)
    result = quantize(address, calibration=pictures, labelled=pictures, limits=ANY_SPEED, store=store, stage=stage)

    original, static = result["measurements"]
    assert static["size_bytes"] < 0.5 * original["size_bytes"]


def test_a_rejected_variant_leaves_the_original(
    address: str, store: ModelStore, stage: Stage, pictures: Path, lines: list[str]
) -> None:
    limits = QuantizeLimits(mode="auto", min_speedup=1000.0, calibration_rows=12)
    result = quantize(address, calibration=pictures, labelled=pictures, limits=limits, store=store, stage=stage)

    assert (result["accepted"], result["model"], result["digest"]) == (False, address, store.manifest(address).digest)
    assert [one["variant"] for one in result["measurements"]] == ["original", "static", "dynamic"]
    assert result["reason"].count("is too slow (limit 1000)") == 2
    assert "calibration: 12 pictures, labelled: 12 pictures" in lines
    assert not [line for line in lines if "Fatal Python error" in line]


def test_switched_off(address: str, store: ModelStore, stage: Stage) -> None:
    limits = QuantizeLimits(mode="none")
    result = quantize(address, calibration=None, labelled=None, limits=limits, store=store, stage=stage)

    assert (result["accepted"], result["model"]) == (False, address)
    assert result["reason"] == "quantisation is switched off (mode none)"


@pytest.mark.parametrize("missing", ["calibration", "labelled"])
def test_pictures_that_were_not_given(
    address: str, store: ModelStore, stage: Stage, pictures: Path, missing: str
) -> None:
    given: dict[str, Any] = {"calibration": pictures, "labelled": pictures, missing: None}

    with pytest.raises(BadInputError, match="give calibration .* and labelled"):
        quantize(address, **given, limits=ANY_SPEED, store=store, stage=stage)


def test_pictures_that_are_not_there(address: str, store: ModelStore, stage: Stage, pictures: Path) -> None:
    with pytest.raises(BadInputError, match="nowhere does not exist"):
        quantize(address, calibration=Path("/nowhere"), labelled=pictures, limits=ANY_SPEED, store=store, stage=stage)


def test_a_model_without_labels_cannot_prove_its_accuracy(
    store: ModelStore, stage: Stage, pictures: Path, tmp_path: Path
) -> None:
    write_onnx(tmp_path / "plain" / MODEL_NAME)
    address = store.add(tmp_path / "plain", manifest_of(tmp_path / "plain", labels=()))

    with pytest.raises(BadInputError, match="model colours needs labels; give them when converting"):
        quantize(address, calibration=pictures, labelled=pictures, limits=ANY_SPEED, store=store, stage=stage)
