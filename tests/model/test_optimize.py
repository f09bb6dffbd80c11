# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.evidence.parity import ParityLimits
from airflow_onnx_provider.model.optimize import optimize, optimize_in_child
from airflow_onnx_provider.model.rewriting.steps import StepRequest
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.version import write_version
from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.cpu import cpu_type
from airflow_onnx_provider.runtime.manifest import MODEL_NAME
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.session import LoadedModel, load_model, open_session
from tests.model.graphs import SIZE, write_planes_network, write_small_network
from tests.runtime.tiny import LABELS


class ThisProcess:
    """Runs the stage where the test runs."""

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        assert name == "optimize"
        return optimize_in_child(settings)


class Workshop:
    """A store with the small network, taking pictures, and pictures for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ModelStore(folder / "store")
        self.pixels = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)
        self.inputs = folder / "rows.npy"
        np.save(self.inputs, self.pixels)

    def network(self, **fields: Any) -> str:
        path = write_small_network(self.folder / "network.onnx")
        given = {"preprocessing": ImagePreprocessing(SIZE, SIZE, scale=1 / 255), "labels": LABELS, **fields}
        golden = {"image": self.pixels[:2]}
        manifest = write_version(path, self.folder / "whole", name="network", golden=golden, **given)
        return self.store.add(self.folder / "whole", manifest)

    def planes(self, rows: int | str = "batch") -> str:
        """The network as a framework exports it: it takes floats in planes."""
        path = write_planes_network(self.folder / "planes.onnx", rows)
        golden = {"planes": np.zeros((1, 3, SIZE, SIZE), np.float32)}
        manifest = write_version(path, self.folder / "bare", name="planes", golden=golden, labels=LABELS)
        return self.store.add(self.folder / "bare", manifest)

    def optimize(self, address: str, *steps: StepRequest, stage: Any = None, **limits: Any) -> dict[str, Any]:
        return optimize(
            address,
            inputs=self.inputs,
            steps=list(steps),
            limits=ParityLimits(**limits),
            store=self.store,
            stage=stage or ThisProcess(),
        )

    def scores(self, address: str, pixels: np.ndarray | None = None) -> np.ndarray:
        with self.store.local(address) as folder:
            model = LoadedModel(self.store.manifest(address), open_session(folder / MODEL_NAME))
            return model.run(self.pixels if pixels is None else pixels)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """On a busy machine a network this small may seem slower than itself: speed decides only where a test says so."""
    monkeypatch.setattr("airflow_onnx_provider.model.optimize.NO_SLOWER", 0.0)
    return Workshop(tmp_path)


def test_the_portable_recipe_makes_a_version_with_the_same_answers(workshop: Workshop, stage: Stage) -> None:
    address = workshop.network()
    result = workshop.optimize(address, "simplify", "graph", stage=stage)

    made = workshop.store.manifest(result["model"])
    assert (result["accepted"], result["from_store"]) == (True, False)
    assert made.origin["parent"] == workshop.store.manifest(address).version
    assert (made.labels, made.preprocessing) == (LABELS, workshop.store.manifest(address).preprocessing)
    assert made.domains == ("",)
    np.testing.assert_allclose(workshop.scores(result["model"]), workshop.scores(address), atol=1e-5)
    with workshop.store.local(result["model"]) as folder:
        load_model(folder, made.digest)
    assert workshop.optimize(address, "simplify", "graph", stage=stage) == {**result, "from_store": True}


def test_the_gain_of_each_step_is_measured_and_written_down(workshop: Workshop) -> None:
    address = workshop.network()
    result = workshop.optimize(address, "graph")
    original, graph = result["measurements"]

    assert original["variant"] == "original"
    assert graph["nodes"] < original["nodes"] == 12
    for measured in ("size_bytes", "load_seconds", "speedup", "images_per_second"):
        assert graph[measured] > 0
    assert graph["max_difference"] <= 1e-4
    assert f"12 → {graph['nodes']} nodes" in result["reason"]
    assert workshop.store.manifest(result["model"]).recipe["steps"][0]["step"] == {"graph": {"level": "basic"}}
    assert workshop.store.manifest(address).checks["optimize"]["measurements"] == result["measurements"]


@pytest.mark.parametrize(("ratios", "accepted"), [([0.5, 0.6, 0.7], False), ([0.5, 0.97], True)])
def test_a_step_that_only_makes_it_slower_is_left_out(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, ratios: list[float], accepted: bool
) -> None:
    shown = iter([1.0, *ratios])  # the original's first
    monkeypatch.setattr("airflow_onnx_provider.model.optimize.NO_SLOWER", 0.95)
    monkeypatch.setattr("airflow_onnx_provider.model.optimize.speed_beside", lambda *_: (next(shown), 100.0))

    result = workshop.optimize(workshop.network(), "graph")

    assert result["accepted"] is accepted
    if not accepted:
        assert "makes it slower: 0.70 times the original's speed in the best of 3 measurements" in result["reason"]


def test_a_step_that_changes_answers_is_left_out_and_the_rest_goes_on(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    def careless(source: Path, target: Path) -> None:
        model = onnx.load(str(source))
        largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        largest.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(largest) * 1.5, largest.name))
        onnx.save(model, str(target))

    monkeypatch.setattr("airflow_onnx_provider.model.rewriting.steps.simplify", careless)
    address = workshop.network()
    result = workshop.optimize(address, "simplify", "graph")

    assert result["variant"] == "graph"
    assert result["measurements"][1]["accepted"] is False
    assert "simplify: left out, at batch size 1: numbers differ by up to" in result["reason"]
    np.testing.assert_allclose(workshop.scores(result["model"]), workshop.scores(address), atol=1e-5)


def test_if_no_step_is_kept_the_original_goes_on(workshop: Workshop) -> None:
    address = workshop.network()
    result = workshop.optimize(address, {"dimensions": {"batch": "rows"}})

    assert (result["accepted"], result["variant"], result["model"]) == (False, "original", address)
    assert result["reason"].startswith("the original goes on. dimensions: left out, its batch is free already")


def test_a_level_that_ties_the_file_to_a_cpu_says_so(workshop: Workshop) -> None:
    result = workshop.optimize(workshop.network(), {"graph": {"level": "all"}})

    assert "the level all ties the file to this ONNX Runtime and to CPUs like this one" in result["reason"]
    assert workshop.store.manifest(result["model"]).recipe["tied_to"] == cpu_type()


def test_preprocessing_in_the_graph_takes_bytes_instead_of_floats(workshop: Workshop) -> None:
    """Three steps: a model that no executor could feed with pictures becomes one that they can."""
    address = workshop.planes()
    request = {"scale": 1 / 255, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    result = workshop.optimize(address, {"preprocessing": request}, "graph", {"top_k": {"k": 2}})

    made = workshop.store.manifest(result["model"])
    assert made.image_preprocessing == ImagePreprocessing(
        SIZE, SIZE, scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)
    )
    assert (made.inputs[0].type, made.inputs[0].shape) == ("uint8", ("batch", SIZE, SIZE, 3))
    floats = (workshop.pixels / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.25, 0.3]
    expected = workshop.scores(address, floats.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(workshop.scores(result["model"]), expected, atol=1e-5)
    answers = Answers.of(made, top_k=3, raw=["top_labels"])
    assert answers.scores is not None
    assert answers.scores.name == "scores"


def test_a_model_that_takes_pictures_already(workshop: Workshop) -> None:
    with pytest.raises(BadInputError, match="network has its preprocessing in the graph already"):
        workshop.optimize(workshop.network(), {"preprocessing": {}})


def test_another_resolution_proves_the_graph_at_the_old_one(workshop: Workshop) -> None:
    address = workshop.network()
    result = workshop.optimize(address, {"dimensions": {"height": 24, "width": 32}})

    made = workshop.store.manifest(result["model"])
    assert made.image_preprocessing.shape == made.inputs[0].shape[1:] == (24, 32, 3)
    assert made.image_preprocessing.scale == 1 / 255
    assert "at the old resolution, the same graph with free height and width gives the old answers" in result["reason"]
    assert "of the labels stay what they were" in result["reason"]
    with workshop.store.local(result["model"]) as folder:
        load_model(folder, made.digest)


def test_a_free_batch_for_a_model_that_was_exported_with_one_row(workshop: Workshop) -> None:
    """Its Reshape holds the 1 as a constant."""
    np.savez(workshop.folder / "rows.npz", planes=np.random.default_rng(1).random((5, 3, SIZE, SIZE), np.float32))
    workshop.inputs = workshop.folder / "rows.npz"
    address = workshop.planes(rows=1)
    result = workshop.optimize(address, {"dimensions": {"batch": "batch"}})

    assert result["accepted"]
    assert workshop.store.manifest(result["model"]).inputs[0].shape == ("batch", 3, SIZE, SIZE)
    rows = np.load(workshop.inputs)["planes"]
    alone = np.concatenate([workshop.scores(address, rows[row : row + 1]) for row in range(5)])
    np.testing.assert_allclose(workshop.scores(result["model"], rows), alone, atol=1e-6)


def test_a_fixed_batch_has_no_golden_rows_and_says_what_that_means(workshop: Workshop) -> None:
    result = workshop.optimize(workshop.network(), {"dimensions": {"batch": 4}})

    made = workshop.store.manifest(result["model"])
    assert made.inputs[0].shape[0] == made.outputs[0].shape[0] == 4
    assert made.golden is None
    assert result["reason"].endswith("the executors here cannot run it")


def test_scores_left_out_of_a_model_without_labels_would_be_read_wrongly(workshop: Workshop) -> None:
    with pytest.raises(BadInputError, match="keep_scores=False needs a model with labels"):
        workshop.optimize(workshop.network(labels=()), {"top_k": {"k": 2, "keep_scores": False}})


def test_the_scorer_refuses_a_model_without_its_scores(workshop: Workshop) -> None:
    result = workshop.optimize(workshop.network(), {"top_k": {"k": 2, "keep_scores": False}})

    made = workshop.store.manifest(result["model"])
    assert [spec.name for spec in made.outputs] == ["top_labels", "top_scores"]
    with pytest.raises(BadInputError, match="2 classes, but 3 labels"):
        Answers.of(made)


def test_a_model_without_pictures_is_optimised_too(workshop: Workshop) -> None:
    from tests.runtime.tiny import FEATURES, write_onnx

    onnx = write_onnx(workshop.folder / "features.onnx", FEATURES)
    rows = np.random.default_rng(0).random((4, 3), np.float32)
    np.savez(workshop.folder / "rows.npz", features=rows)
    workshop.inputs = workshop.folder / "rows.npz"
    manifest = write_version(onnx, workshop.folder / "table", name="table", golden={"features": rows})
    address = workshop.store.add(workshop.folder / "table", manifest)
    result = workshop.optimize(address, "graph", {"top_k": {"k": 2, "output": "scores"}})

    assert result["measurements"][-1]["label_agreement"] == 1.0
    outputs = [spec.name for spec in workshop.store.manifest(result["model"]).outputs]
    assert outputs == ["scores", "both", "best", "top_labels", "top_scores"]


def test_a_step_that_gains_nothing_is_left_out(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_onnx_provider.model.optimize.speed_beside", lambda *_: (1.02, 100.0))
    first = workshop.optimize(workshop.network(), "graph")

    again = workshop.optimize(first["model"], "simplify")

    assert (again["accepted"], again["model"]) == (False, first["model"])
    assert "gains nothing: " in again["reason"] or "changes nothing" in again["reason"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "expected a list such as"),
        ("graph", "expected a list such as"),
        (["grpah"], "there is no step 'grpah'; there is: simplify, graph, dimensions, preprocessing, top_k, argmax"),
        ([{"graph": {"levle": "all"}}], r"graph does not know \['levle'\]; it takes: level"),
        ([{"graph": "all"}], "graph does not know all"),
        ([{"graph": {}, "simplify": {}}], "a step is its name or"),
        ([{"graph": {"level": "most"}}], "level must be one of basic, extended, all, got 'most'"),
        ([{"dimensions": {"height": 8}}], "give batch, or height and width, or all three"),
        ([{"dimensions": {"batch": 0}}], "batch must be 1 or more"),
        ([{"top_k": {"k": "many"}}], "top_k: k must be a whole number, got 'many'"),
        ([{"top_k": {"k": 4}}], "k must lie between 1 and the model's 3 classes, got 4"),
        ([{"argmax": {"output": "logits"}}], "argmax: there is no output 'logits'"),
    ],
)
def test_requests_that_cannot_be(workshop: Workshop, steps: Any, message: str) -> None:
    address = workshop.network()
    with pytest.raises(BadInputError, match=message):
        optimize(
            address,
            inputs=workshop.inputs,
            steps=steps,
            limits=ParityLimits(),
            store=workshop.store,
            stage=ThisProcess(),  # type: ignore[arg-type]
        )
