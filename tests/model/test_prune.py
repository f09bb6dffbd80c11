# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.prune import PruneLimits, compressed_size, prune, prune_in_child, write_pruned
from airflow_onnx_provider.model.quantization.limits import QuantizeLimits
from airflow_onnx_provider.model.quantize import quantize, quantize_in_child
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import MODEL_NAME
from airflow_onnx_provider.runtime.session import load_model
from tests.model.quantization import small
from tests.runtime.tiny import manifest_of, write_onnx


class ThisProcess:
    """Runs the stages where the test runs."""

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        return {"prune": prune_in_child, "quantize": quantize_in_child}[name](settings)


HERE: Any = ThisProcess()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def address(store: ModelStore, tmp_path: Path) -> str:
    """A perceptron, and beside the store `labelled.npz` with rows that it gets all right."""
    rows = small.columns(400)
    onnx = small.write_perceptron(tmp_path / "a.onnx")
    np.savez(tmp_path / "labelled.npz", **rows, label=small.right_answers(onnx, rows))
    return store.add(tmp_path / "version", small.version(tmp_path / "version", onnx, rows))


def pruned(address: str, store: ModelStore, folder: Path, *limits: Any) -> dict[str, Any]:
    return prune(address, labelled=folder / "labelled.npz", limits=PruneLimits(*limits), store=store, stage=HERE)


def weights_of(path: Path) -> dict[str, np.ndarray]:
    import onnx

    return {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(str(path)).graph.initializer}


def test_the_smallest_weights_of_all_layers_together_become_zero(tmp_path: Path) -> None:
    source = small.write_perceptron(tmp_path / "a.onnx")

    count = write_pruned(source, tmp_path / "b.onnx", 0.5)

    before, after = weights_of(source), weights_of(tmp_path / "b.onnx")
    assert count == 8 * 64 + 64 * 64 + 64 * 4
    old, new = (np.concatenate([values.ravel() for values in one.values()]) for one in (before, after))
    assert np.mean(new == 0) == pytest.approx(0.5, abs=0.001)
    assert np.abs(old[new == 0]).max() <= np.abs(new[new != 0]).min()
    assert np.array_equal(old[new != 0], new[new != 0])
    # Together, not each layer for itself: large layers have the smallest weights here.
    assert np.mean(after["second"] == 0) > 0.5 > np.mean(after["first"] == 0)


def test_biases_and_tables_stay(tmp_path: Path) -> None:
    source = small.write_tokens(tmp_path / "a.onnx")

    write_pruned(source, tmp_path / "b.onnx", 0.9)

    before, after = weights_of(source), weights_of(tmp_path / "b.onnx")
    changed = {name for name, values in before.items() if not np.array_equal(values, after[name])}
    assert changed == {"first", "second"}


def test_an_accepted_variant_says_what_it_buys(address: str, store: ModelStore, tmp_path: Path) -> None:
    result = pruned(address, store, tmp_path, 0.5, 0.5)

    original, half = result["measurements"]
    assert (result["accepted"], result["variant"]) == (True, "pruned-50"), result["reason"]
    assert half["size_bytes"] == original["size_bytes"] == result["size_bytes"]
    assert half["compressed_bytes"] < 0.75 * original["compressed_bytes"]
    assert result["reason"].startswith(
        "pruned-50 goes on: 50% of 4,864 weights are zero. The gain is in the compressed"
    )
    assert "ONNX Runtime gains no speed, because it computes with zeros as with any number" in result["reason"]
    assert f"(measured: {half['speedup']:.2f} times the speed)" in result["reason"]

    parent, child = store.manifest(address), store.manifest(result["model"])
    assert child.origin["parent"] == parent.version
    assert (child.recipe["stage"], child.recipe["sparsity"], child.recipe["weights"]) == ("prune", 0.5, 4864)
    assert parent.checks["prune"]["reason"] == child.checks["prune"]["reason"] == result["reason"]
    with store.local(result["model"]) as local:
        assert load_model(local, result["digest"]).golden_difference <= 1e-4
        assert compressed_size([local / MODEL_NAME]) == len(zlib.compress((local / MODEL_NAME).read_bytes()))

    assert pruned(address, store, tmp_path, 0.5, 0.5)["from_store"]


def test_auto_finds_the_largest_sparsity_that_keeps_the_accuracy(
    address: str, store: ModelStore, tmp_path: Path
) -> None:
    result = pruned(address, store, tmp_path, "auto", 0.1)

    tried = {int(one["variant"].split("-")[1]): one["accuracy"] for one in result["measurements"][1:]}
    best = int(result["variant"].split("-")[1])
    assert result["accepted"]
    assert tried[best] >= 0.9
    assert tried[best + 5] < 0.9
    assert len(tried) <= 5


def test_what_costs_too_much_is_rejected(address: str, store: ModelStore, tmp_path: Path) -> None:
    result = pruned(address, store, tmp_path, 0.95)

    lost = 1.0 - result["measurements"][1]["accuracy"]
    assert (result["accepted"], result["model"], result["variant"]) == (False, address, "original")
    assert result["reason"].startswith("the original goes on. pruned-95: accuracy 1.000 → ")
    assert result["reason"].endswith(f"rejected, loses {lost:.3f} (limit 0.01)")
    assert store.manifest(address).checks["prune"]["accepted"] is False


def test_a_pruned_model_can_be_quantised_but_not_the_other_way_round(
    address: str, store: ModelStore, tmp_path: Path
) -> None:
    limits = QuantizeLimits(mode="dynamic", min_speedup=0.0, max_accuracy_drop=0.2)
    given: dict[str, Any] = {"calibration": None, "labelled": tmp_path / "labelled.npz", "limits": limits}
    smaller = pruned(address, store, tmp_path, 0.3, 0.3)
    both = quantize(smaller["model"], store=store, stage=HERE, **given)
    assert both["accepted"], both["reason"]

    with pytest.raises(
        BadInputError, match=r"is quantised \(it has .*MatMulInteger\); prune the original and quantise"
    ):
        pruned(both["model"], store, tmp_path, 0.5)


def test_a_model_without_weights(store: ModelStore, tmp_path: Path) -> None:
    onnx = small.write_graph(tmp_path / "a.onnx", "float[batch, 4] features", "scores = Softmax (features)", {})
    rows = {"features": small.columns(20)["features"][:, :4]}
    np.savez(tmp_path / "labelled.npz", **rows, label=small.right_answers(onnx, rows))
    address = store.add(tmp_path / "version", small.version(tmp_path / "version", onnx, rows))

    with pytest.raises(BadInputError, match="has no convolution or matrix product with constant float weights"):
        pruned(address, store, tmp_path, 0.5)


def test_a_model_without_labels(store: ModelStore, pictures: Path, tmp_path: Path) -> None:
    write_onnx(tmp_path / "plain" / MODEL_NAME)
    address = store.add(tmp_path / "plain", manifest_of(tmp_path / "plain", labels=()))

    with pytest.raises(BadInputError, match="model colours needs labels; give them when converting"):
        prune(address, labelled=pictures, limits=PruneLimits(), store=store, stage=HERE)


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -1.0, float("nan")])
def test_a_sparsity_that_cannot_be(sparsity: float) -> None:
    with pytest.raises(BadInputError, match="sparsity must lie between 0 and 1, or be 'auto', got"):
        PruneLimits(sparsity)


def test_labelled_rows_that_were_not_given(address: str, store: ModelStore) -> None:
    with pytest.raises(BadInputError, match="prune: give labelled"):
        prune(address, labelled=None, limits=PruneLimits(), store=store, stage=HERE)
