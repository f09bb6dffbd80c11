# SPDX-License-Identifier: Apache-2.0
"""Quantisation on real data: scikit-learn's handwritten digits and a network trained on them here."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from airflow_onnx_provider.model.quantization.limits import QuantizeLimits
from airflow_onnx_provider.model.quantize import quantize, quantize_in_child
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.version import write_version
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

SIZE = 8
CHANNELS = 96
"""Wide enough that the convolutions, not the calls, take the time."""

LABELS = tuple("0123456789")
VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"} & set(Path("/proc/cpuinfo").read_text().split())


class ThisProcess:
    """Runs the stage where the test runs."""

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        assert name == "quantize"
        return quantize_in_child(settings)


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All 1,797 digits as pictures, shuffled, and what they show."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    grey = (pixels[order] * 15).astype(np.uint8).reshape(-1, SIZE, SIZE, 1)
    return np.repeat(grey, 3, axis=3), classes[order].astype(np.int64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Path:
    """`calibration/` of pictures that the network was trained on, and `labelled/` of others with `labels.csv`."""
    folder = tmp_path_factory.mktemp("digits")
    pictures, classes = digits
    for name, rows in {"calibration": range(100), "labelled": range(1200, 1797)}.items():
        (folder / name).mkdir()
        for row in rows:
            Image.fromarray(pictures[row]).save(folder / name / f"{row}.png")
    with (folder / "labelled" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *((f"{row}.png", classes[row]) for row in range(1200, 1797))])
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return ModelStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def address(
    store: ModelStore, tmp_path_factory: pytest.TempPathFactory, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> str:
    """Three convolutions, trained for a few seconds."""
    folder = tmp_path_factory.mktemp("network")
    pictures, classes = digits
    weights = _train(pictures[:1200], classes[:1200])
    _write(folder / "network.onnx", weights)
    preprocessing = ImagePreprocessing(SIZE, SIZE)
    golden = {"image": pictures[:8]}
    manifest = write_version(
        folder / "network.onnx",
        folder / "version",
        name="digits",
        golden=golden,
        labels=LABELS,
        preprocessing=preprocessing,
    )
    return store.add(folder / "version", manifest)


def _train(pictures: NDArray[np.uint8], classes: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    import torch
    from torch import nn

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other are slower where others compute too
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, CHANNELS, 3, padding=1),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, stride=2),
    ]
    norms = [nn.BatchNorm2d(CHANNELS) for _ in layers]
    head = nn.Linear(CHANNELS, len(LABELS))
    blocks = [part for layer, norm in zip(layers, norms, strict=True) for part in (layer, norm, nn.ReLU())]
    network = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    inputs = torch.tensor(pictures.transpose(0, 3, 1, 2) / np.float32(255))
    wanted = torch.tensor(classes)
    for _ in range(3):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[batch]), wanted[batch]).backward()
            optimizer.step()
    torch.set_num_threads(threads)
    weights = {"head_weight": head.weight, "head_bias": head.bias}
    for number, (layer, norm) in enumerate(zip(layers, norms, strict=True)):
        fused = nn.utils.fuse_conv_bn_eval(layer.eval(), norm.eval())
        weights |= {f"weight{number}": fused.weight, f"bias{number}": fused.bias}
    return {name: values.detach().numpy() for name, values in weights.items()}


def _write(path: Path, weights: dict[str, NDArray[Any]]) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.parser.parse_model(f"""
<ir_version: 10, opset_import: ["" : 18]>
digits (uint8[batch, {SIZE}, {SIZE}, 3] image) => (float[batch, {len(LABELS)}] scores)
<float scale = {{0.00392156862}}>
{{
  pixels = Cast <to = 1> (image)
  scaled = Mul (pixels, scale)
  planes = Transpose <perm = [0, 3, 1, 2]> (scaled)
  a = Conv <pads = [1, 1, 1, 1]> (planes, weight0, bias0)
  b = Relu (a)
  c = Conv <pads = [1, 1, 1, 1]> (b, weight1, bias1)
  d = Relu (c)
  e = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (d, weight2, bias2)
  f = Relu (e)
  g = GlobalAveragePool (f)
  h = Flatten (g)
  logits = Gemm <transB = 1> (h, head_weight, head_bias)
  scores = Softmax <axis = -1> (logits)
}}
""")
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in weights.items())
    path.write_bytes(model.SerializeToString())


def quantized(store: ModelStore, address: str, data: Path, **given: Any) -> dict[str, Any]:
    calibration = given.pop("calibration", data / "calibration")
    return quantize(
        address,
        calibration=calibration,
        labelled=data / "labelled",
        limits=QuantizeLimits(**given),
        store=store,
        stage=ThisProcess(),  # type: ignore[arg-type]
    )


def test_static_int8_is_as_accurate_much_smaller_and_faster(store: ModelStore, address: str, data: Path) -> None:
    """The gate itself decides about the speed: 1.8 times where the CPU multiplies 8-bit numbers in one instruction."""
    result = quantized(store, address, data, mode="static", min_speedup=1.8 if VNNI else 0.0, max_accuracy_drop=0.01)

    original, static = result["measurements"]
    assert original["accuracy"] > 0.9  # of the 597 digits that it was not trained on
    assert (result["accepted"], result["variant"]) == (True, "static"), result["reason"]
    assert static["accuracy"] >= original["accuracy"] - 0.01
    assert static["size_bytes"] <= 0.3 * original["size_bytes"]


def test_auto_finds_it_and_rejects_dynamic_quantisation_as_slower(store: ModelStore, address: str, data: Path) -> None:
    result = quantized(store, address, data, mode="auto")

    measured = {one["variant"]: one for one in result["measurements"]}
    assert list(measured) == ["original", "static", "dynamic", "float16"]
    assert measured["dynamic"]["speedup"] < 1
    assert (
        f"dynamic: accuracy {measured['original']['accuracy']:.3f} → {measured['dynamic']['accuracy']:.3f}, "
        f"{measured['dynamic']['speedup']:.2f} times the speed, 74% smaller: rejected, is too slow (limit 1)"
    ) in result["reason"]
    assert result["variant"] != "dynamic"


def test_a_bad_calibration_is_rejected_by_the_gate(store: ModelStore, address: str, data: Path, tmp_path: Path) -> None:
    """Black pictures say nothing of the values that real ones bring."""
    for row in range(20):
        Image.new("RGB", (SIZE, SIZE)).save(tmp_path / f"{row}.png")
    result = quantized(store, address, data, mode="static", calibration=tmp_path, calibrations=("minmax",))

    original, static = result["measurements"][:2]
    assert (result["accepted"], result["model"]) == (False, address), result["reason"]
    assert static["accuracy"] < original["accuracy"] - 0.05
    assert f"static: accuracy {original['accuracy']:.3f} → {static['accuracy']:.3f}" in result["reason"]
    assert f"rejected, loses {original['accuracy'] - static['accuracy']:.3f} (limit 0.01)" in result["reason"]
