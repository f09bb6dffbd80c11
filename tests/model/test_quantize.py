# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.quantization.limits import QuantizeLimits
from airflow_onnx_provider.model.quantize import READ_WHOLE, quantize, quantize_in_child
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.cpu import cpu_type
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, TensorSpec, sha256_of_file
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.session import load_model
from tests.model.quantization import small
from tests.runtime.tiny import LABELS, TOKENS, manifest_of, write_onnx

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


class ThisProcess:
    """Runs the stage where the test runs."""

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        assert name == "quantize"
        return quantize_in_child(settings)


HERE: Any = ThisProcess()


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
    assert (accepted.recipe["stage"], accepted.recipe["variant"]) == ("quantize", "static")
    assert (accepted.recipe["cpu"], accepted.recipe["kept_in_float"]) == (cpu_type(), [])
    assert {**accepted.recipe["calibration"], "sha256": ""} == {"method": "minmax", "rows": 12, "sha256": ""}
    for manifest in (original, accepted):
        assert manifest.checks["quantize"]["reason"] == result["reason"]
    with store.local(result["model"]) as local:
        assert load_model(local, accepted.digest).golden_difference <= 0.02
        assert accepted.golden is not None
        assert sha256_of_file(local / accepted.golden.file) == accepted.golden.sha256

    again = quantize(address, calibration=pictures, labelled=pictures, limits=ANY_SPEED, store=store, stage=HERE)
    assert again == {**result, "from_store": True}

    with pytest.raises(BadInputError, match=r"is already quantised \(it has DequantizeLinear, QuantizeLinear"):
        quantize(result["model"], calibration=pictures, labelled=pictures, limits=ANY_SPEED, store=store, stage=HERE)


def test_a_network_whose_nodes_have_no_names_is_quantised_too(
    store: ModelStore, pictures: Path, tmp_path: Path
) -> None:
    """ONNX does not ask for names; a node that is left out by its name must not take the nameless ones with it."""
    address = network_in(store, tmp_path / "network", named=False)
    result = quantize(address, calibration=pictures, labelled=pictures, limits=ANY_SPEED, store=store, stage=HERE)

    original, static = result["measurements"]
    assert static["size_bytes"] < 0.5 * original["size_bytes"]


def test_a_rejected_variant_leaves_the_original(
    address: str, store: ModelStore, stage: Stage, pictures: Path, lines: list[str]
) -> None:
    limits = QuantizeLimits(mode="auto", min_speedup=1000.0, calibration_rows=12)
    result = quantize(address, calibration=pictures, labelled=pictures, limits=limits, store=store, stage=stage)

    assert (result["accepted"], result["model"], result["digest"]) == (False, address, store.manifest(address).digest)
    assert [one["variant"] for one in result["measurements"]] == ["original", "static", "dynamic", "float16"]
    assert result["reason"].count("is too slow (limit 1000)") == 3
    assert store.manifest(address).checks["quantize"]["accepted"] is False
    assert "calibration: 12 rows, labelled: 12 rows" in lines
    assert not [line for line in lines if "Fatal Python error" in line]


def test_calibration_rows_are_drawn_from_all_of_a_catalogue(
    address: str, store: ModelStore, pictures: Path, tmp_path: Path
) -> None:
    encoded = [path.read_bytes() for path in sorted(pictures.glob("*.png"))]
    for day in range(4):
        folder = tmp_path / "catalog" / f"ds=2026-11-0{day + 1}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"image": encoded[3 * day : 3 * day + 3]}), folder / "part.parquet")
    limits = QuantizeLimits(mode="static", min_speedup=0.0, max_accuracy_drop=1.0, calibration_rows=8)
    given: dict[str, Any] = {"labelled": pictures, "limits": limits, "store": store, "stage": HERE}

    drawn = quantize(address, calibration=tmp_path / "catalog", **given)

    recipe = store.manifest(drawn["model"]).recipe["calibration"]
    assert recipe["rows"] == 8
    assert len(recipe["sha256"]) == 64
    assert quantize(address, calibration=tmp_path / "catalog", **given)["from_store"]

    (tmp_path / "catalog" / "ds=2026-11-04" / "part.parquet").unlink()
    assert not quantize(address, calibration=tmp_path / "catalog", **given)["from_store"]


def test_a_large_catalogue_is_not_read_to_know_it_again(
    address: str, store: ModelStore, pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures, tmp_path / "catalog")
    with (tmp_path / "catalog" / "archive.bin").open("wb") as file:
        file.truncate(READ_WHOLE + 1)
    given: dict[str, Any] = {"labelled": pictures, "limits": ANY_SPEED, "store": store, "stage": HERE}

    assert not quantize(address, calibration=tmp_path / "catalog", **given)["from_store"]
    assert quantize(address, calibration=tmp_path / "catalog", **given)["from_store"]

    os.utime(tmp_path / "catalog" / "00.png", (1, 1))
    assert not quantize(address, calibration=tmp_path / "catalog", **given)["from_store"]


@pytest.mark.parametrize("mode", ["static", "dynamic", "float16", "int4"])
def test_plain_columns(store: ModelStore, tmp_path: Path, mode: str) -> None:
    rows = small.columns(200)
    onnx = small.write_perceptron(tmp_path / "a.onnx")
    address = store.add(tmp_path / "version", small.version(tmp_path / "version", onnx, rows))
    np.savez(tmp_path / "calibration.npz", **small.columns(50, seed=1))
    np.savez(tmp_path / "labelled.npz", **rows, label=small.right_answers(onnx, rows))
    limits = QuantizeLimits(mode=mode, min_speedup=0.0, max_accuracy_drop=0.4)  # type: ignore[arg-type]

    result = quantize(
        address,
        calibration=tmp_path / "calibration.npz" if mode == "static" else None,
        labelled=tmp_path / "labelled.npz",
        limits=limits,
        store=store,
        stage=HERE,
    )

    assert (result["accepted"], result["variant"]) == (True, mode), result["reason"]
    with store.local(result["model"]) as local:
        assert load_model(local, result["digest"]).golden.rows == 4 if mode != "static" else 8


def test_token_ids_of_any_length(store: ModelStore, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    texts = [random.integers(0, 50, length).tolist() for length in random.integers(2, 12, 100)]
    onnx = small.write_tokens(tmp_path / "a.onnx")
    alone = [{"ids": np.array([ids]), "mask": np.ones((1, len(ids)), np.int64)} for ids in texts]
    labels = [small.LABELS[small.right_answers(onnx, row)[0]] for row in alone]
    manifest = small.version(tmp_path / "version", onnx, alone[0], preprocessing=TOKENS)
    address = store.add(tmp_path / "version", manifest)
    pq.write_table(pa.table({"ids": texts, "label": labels}), tmp_path / "texts.parquet")
    limits = QuantizeLimits(mode="auto", min_speedup=0.0, max_accuracy_drop=0.3)

    result = quantize(
        address,
        calibration=tmp_path / "texts.parquet",
        labelled=tmp_path / "texts.parquet",
        limits=limits,
        store=store,
        stage=HERE,
    )

    measured = {one["variant"]: one["accuracy"] for one in result["measurements"]}
    assert measured["original"] == 1.0
    assert {"dynamic", "static", "int4", "float16"} <= set(measured)
    assert measured["dynamic"] > 0.9
    assert result["accepted"]


def test_another_type_of_cpu_than_the_one_that_will_run_it(address: str, store: ModelStore, pictures: Path) -> None:
    given: dict[str, Any] = {"limits": ANY_SPEED, "store": store, "stage": HERE}
    with pytest.raises(BadInputError, match=r"will run on 'Graviton', but this task runs on .* Run the task on a mach"):
        quantize(address, calibration=pictures, labelled=pictures, cpu="Graviton", **given)

    assert quantize(address, calibration=pictures, labelled=pictures, cpu=cpu_type(), **given)["accepted"]


def test_a_model_in_float16_is_not_made_so_again(store: ModelStore, address: str, pictures: Path) -> None:
    limits = QuantizeLimits(mode="float16", min_speedup=0.0)
    given: dict[str, Any] = {"labelled": pictures, "calibration": None, "limits": limits, "store": store, "stage": HERE}
    half = quantize(address, **given)
    assert half["variant"] == "float16"

    with pytest.raises(BadInputError, match="has float16 weights already; give the original"):
        quantize(half["model"], **given)


def test_switched_off(address: str, store: ModelStore) -> None:
    limits = QuantizeLimits(mode="none")
    result = quantize(address, calibration=None, labelled=None, limits=limits, store=store, stage=HERE)

    assert (result["accepted"], result["model"]) == (False, address)
    assert result["reason"] == "quantisation is switched off (mode none)"


@pytest.mark.parametrize("missing", ["calibration", "labelled"])
def test_data_that_was_not_given(address: str, store: ModelStore, pictures: Path, missing: str) -> None:
    given: dict[str, Any] = {"calibration": pictures, "labelled": pictures, missing: None}

    with pytest.raises(BadInputError, match="mode static needs calibration .* and labelled"):
        quantize(address, **given, limits=ANY_SPEED, store=store, stage=HERE)


def test_pictures_that_are_not_there(address: str, store: ModelStore, pictures: Path) -> None:
    with pytest.raises(BadInputError, match="nowhere does not exist"):
        quantize(address, calibration=Path("/nowhere"), labelled=pictures, limits=ANY_SPEED, store=store, stage=HERE)


def test_a_model_without_labels_cannot_prove_its_accuracy(store: ModelStore, pictures: Path, tmp_path: Path) -> None:
    write_onnx(tmp_path / "plain" / MODEL_NAME)
    address = store.add(tmp_path / "plain", manifest_of(tmp_path / "plain", labels=()))

    with pytest.raises(BadInputError, match="model colours needs labels; give them when converting"):
        quantize(address, calibration=pictures, labelled=pictures, limits=ANY_SPEED, store=store, stage=HERE)
