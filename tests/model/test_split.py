# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.split import SplitLimits, answers_of_chain, split, split_in_child
from airflow_onnx_provider.model.splitting.cost import GraphCost, cost_of
from airflow_onnx_provider.model.splitting.extract import write_stages
from airflow_onnx_provider.model.splitting.plan import MIB, PlannedStage, plan
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.version import manifest_of, write_version
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.session import LoadedModel, load_model, open_session
from tests.model.graphs import SIZE, Writer, blotches, tensor, write_random_graph, write_small_network
from tests.runtime.tiny import LABELS


class ThisProcess:
    """Runs the stage where the test runs."""

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        assert name == "split"
        return split_in_child(settings)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def stored(store: ModelStore, onnx: Path, rows: np.ndarray, folder: Path, **fields: Any) -> str:
    """A version of a model with one input, and its rows as `rows.npy` or `rows.npz` beside it."""
    preprocessing = fields.get("preprocessing")
    name = fields.pop("name", "network")
    manifest = write_version(onnx, folder, name=name, golden={fields.pop("input", "image"): rows[:2]}, **fields)
    if preprocessing:
        np.save(folder.parent / "rows.npy", rows)
    else:
        np.savez(folder.parent / "rows.npz", **{manifest.inputs[0].name: rows})
    return store.add(folder, manifest)


def test_a_resnet50_in_four_stages_keeps_its_budget_and_its_answers(
    resnet50: Path, store: ModelStore, tmp_path: Path
) -> None:
    """The whole takes 107 MiB, and no stage may take more than 40."""
    pictures = blotches(6)
    address = stored(store, resnet50, pictures, tmp_path / "whole", preprocessing=ImagePreprocessing(224, 224))
    limits = SplitLimits(stages=4, budget_mib=40, rows=6)
    result = split(address, inputs=tmp_path / "rows.npy", limits=limits, store=store, stage=ThisProcess())  # type: ignore[arg-type]

    assert result["accepted"]
    assert result["parity"]["max_difference"] <= 1e-5
    assert result["parity"]["label_agreement"] == 1.0
    assert len(result["stages"]) == 4
    for row in result["stages"]:
        assert row["memory_mib"] <= 40
        assert row["file_bytes"] <= 40 * MIB
    whole = cost_of(resnet50)
    assert sum(row["macs_per_row"] for row in result["stages"]) == whole.macs
    assert sum(row["weights_mib"] for row in result["stages"]) == pytest.approx(whole.weight_bytes / MIB, abs=0.01)

    models = []
    for row in result["stages"]:
        with store.local(row["model"]) as folder:
            models.append(load_model(folder, row["digest"]))  # each proves itself on golden rows of its own
    scores = answers_of_chain(models, {"image": pictures}, 2)["scores"]
    with store.local(address) as folder:
        expected = LoadedModel(store.manifest(address), open_session(folder / MODEL_NAME)).run(pictures)
    assert np.abs(scores - expected).max() <= 1e-5
    assert len(set(scores.argmax(axis=1).tolist())) > 1


def test_without_a_budget_the_work_is_shared_evenly(resnet50: Path) -> None:
    cost = cost_of(resnet50)
    stages = plan(cost, stages=4)

    assert all(len(stage.gives) == 1 for stage in stages)
    assert max(stage.flops for stage in stages) < 0.32 * cost.flops


def test_with_a_budget_alone_there_are_as_few_stages_as_keep_it(resnet50: Path) -> None:
    cost = cost_of(resnet50)

    assert len(plan(cost, budget_bytes=200 * MIB)) == 1
    three = plan(cost, budget_bytes=40 * MIB)
    assert len(three) == 3
    assert max(stage.memory_bytes for stage in three) <= 40 * MIB
    with pytest.raises(
        BadInputError, match=r"budget of 40.00 MiB; the smallest possible in 2 stages .* is 5\d\.\d\d MiB"
    ):
        plan(cost, stages=2, budget_bytes=40 * MIB)


def test_the_smallest_budget_that_an_error_names_can_be_kept(resnet50: Path) -> None:
    cost = cost_of(resnet50)
    with pytest.raises(BadInputError) as refused:
        plan(cost, budget_bytes=MIB)
    smallest = float(str(refused.value).split(" is ")[1].split(" MiB")[0])

    assert max(stage.memory_bytes for stage in plan(cost, budget_bytes=round(smallest * MIB))) <= smallest * MIB


def test_more_stages_than_there_are_places(tmp_path: Path) -> None:
    path = write_random_graph(tmp_path / "a.onnx", [(0, 0, 0)])
    with pytest.raises(BadInputError, match="has places for 2 stages at most, not for 9"):
        plan(cost_of(path), stages=9)


NODES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=12)


def planned_or_refused(cost: GraphCost, reason: str, **wanted: int) -> tuple[PlannedStage, ...]:
    """The plan, or nothing if it was refused for this reason."""
    refused = ""
    try:
        return plan(cost, **wanted)
    except BadInputError as error:
        refused = str(error)
    assert reason in refused
    return ()


@given(NODES, st.integers(1, 3), st.integers(2, 6), st.integers(1, 3))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_graph_in_any_number_of_stages_gives_the_same_answers(
    tmp_path: Path, choices: list[tuple[int, int, int]], outputs: int, count: int, rows: int
) -> None:
    whole = write_random_graph(tmp_path / "whole.onnx", choices, outputs=outputs)
    cost = cost_of(whole)
    planned = planned_or_refused(cost, "stages at most", stages=count)
    if not planned:
        event("too few places")
        return
    event(f"{count} stages, {max(len(stage.takes) for stage in planned)} tensors taken at most")
    inputs = {"x": np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)}
    expected = open_session(whole).run(None, inputs)
    models = []
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir(exist_ok=True)
    write_stages(whole, planned, [tmp_path / str(number) / MODEL_NAME for number in range(count)])
    for number in range(count):
        folder = tmp_path / str(number)
        models.append(LoadedModel(manifest_of(folder, name="part"), open_session(folder / MODEL_NAME)))
    answers = answers_of_chain(models, inputs, 2)

    for name, wanted in zip(cost.outputs, expected, strict=True):
        np.testing.assert_allclose(answers[name], wanted, atol=1e-6)


@given(NODES, st.floats(0.3, 1.2))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_stage_of_a_plan_ever_exceeds_its_budget(
    tmp_path: Path, choices: list[tuple[int, int, int]], share: float
) -> None:
    cost = cost_of(write_random_graph(tmp_path / "whole.onnx", choices))
    budget = int(share * (cost.weight_bytes + cost.peak_activation_bytes))
    stages = planned_or_refused(cost, "the smallest possible", budget_bytes=budget)
    if not stages:
        return

    assert all(stage.memory_bytes <= budget for stage in stages)
    assert [stage.stop for stage in stages[:-1]] == [stage.start for stage in stages[1:]]
    assert (stages[0].start, stages[-1].stop) == (0, len(cost.nodes))


def network(store: ModelStore, folder: Path) -> str:
    write_small_network(folder / "network.onnx")
    rows = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    preprocessing = ImagePreprocessing(SIZE, SIZE)
    return stored(store, folder / "network.onnx", rows, folder / "whole", preprocessing=preprocessing, labels=LABELS)


def test_each_stage_is_a_version_that_knows_where_it_comes_from(
    store: ModelStore, stage: Stage, tmp_path: Path, lines: list[str]
) -> None:
    address = network(store, tmp_path)
    limits = SplitLimits(stages=2, batch=2)
    result = split(address, inputs=tmp_path / "rows.npy", limits=limits, store=store, stage=stage)

    first, last = (store.manifest(row["model"]) for row in result["stages"])
    whole = store.manifest(address)
    assert (first.name, last.name) == ("network.stage-1-of-2", "network.stage-2-of-2")
    assert (first.preprocessing, last.preprocessing) == (whole.preprocessing, None)
    assert (first.labels, last.labels) == ((), LABELS)
    assert [spec.name for spec in last.inputs] == result["stages"][1]["takes"] == result["stages"][0]["gives"]
    assert first.recipe["whole"] == {"name": "network", "version": whole.version, "digest": whole.digest}
    assert first.origin["parent"] == whole.version
    assert [row["version"] for row in whole.checks["split"]["stages"]] == [first.version, last.version]
    assert any(line.startswith("network.stage-1-of-2: ") for line in lines)
    again = split(address, inputs=tmp_path / "rows.npy", limits=limits, store=store, stage=stage)
    assert again == {**result, "from_store": True}


def test_a_model_that_keeps_the_budget_is_left_whole(store: ModelStore, tmp_path: Path) -> None:
    address = network(store, tmp_path)
    result = split(
        address,
        inputs=tmp_path / "rows.npy",
        limits=SplitLimits(budget_mib=100),
        store=store,
        stage=ThisProcess(),  # type: ignore[arg-type]
    )

    assert (result["accepted"], result["model"], result["stages"]) == (False, address, [])
    assert "keeps the budget; nothing is split" in result["reason"]


def test_a_quantised_model_says_to_split_before(store: ModelStore, tmp_path: Path) -> None:
    net = Writer()
    scale, zero = net.weight(np.float32(0.1)), net.weight(np.uint8(0))
    made = net.node("DequantizeLinear", net.node("QuantizeLinear", "x", scale, zero), scale, zero)
    path = net.save(tmp_path / "a.onnx", [tensor("x", "batch", 2)], [tensor(made, "batch", 2)])
    address = stored(store, path, np.ones((2, 2), np.float32), tmp_path / "whole", input="x")

    with pytest.raises(BadInputError, match="split the original, then quantise each stage"):
        split(
            address,
            inputs=tmp_path / "rows.npz",
            limits=SplitLimits(stages=2),
            store=store,
            stage=ThisProcess(),  # type: ignore[arg-type]
        )


def test_weights_beside_the_graph_stay_beside_it(tmp_path: Path) -> None:
    import onnx

    whole = tmp_path / "whole.onnx"
    write_small_network(whole, channels=64)
    onnx.save(onnx.load(whole), str(whole), save_as_external_data=True, location="whole.data", size_threshold=256)
    planned = plan(cost_of(whole), stages=2)
    targets = [tmp_path / str(number) / MODEL_NAME for number in range(2)]
    for target in targets:
        target.parent.mkdir()
    write_stages(whole, planned, targets)

    pictures = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    models = [LoadedModel(manifest_of(target.parent, name="part"), open_session(target)) for target in targets]
    larger = max((0, 1), key=lambda number: planned[number].weight_bytes)
    assert set(models[larger].manifest.files) == {MODEL_NAME, f"{MODEL_NAME}.data"}
    assert targets[larger].stat().st_size < planned[larger].weight_bytes
    scores = answers_of_chain(models, {"image": pictures}, 2)["scores"]
    np.testing.assert_allclose(scores, open_session(whole).run(None, {"image": pictures})[0], atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "give stages .*, budget_mib .*, or both"),
        ({"stages": 1}, "stages must be 2 or more, got 1"),
        ({"budget_mib": 0}, "must be positive"),
        ({"stages": 2, "batch": 0}, "must be positive"),
    ],
)
def test_limits_that_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        SplitLimits(**wrong)


def test_the_manifest_of_a_stage_reads_back(store: ModelStore, tmp_path: Path) -> None:
    address = network(store, tmp_path)
    result = split(
        address,
        inputs=tmp_path / "rows.npy",
        limits=SplitLimits(stages=3),
        store=store,
        stage=ThisProcess(),  # type: ignore[arg-type]
    )
    manifest = store.manifest(result["stages"][1]["model"])

    assert ModelManifest.from_dict(manifest.to_dict()) == manifest
    assert replace(manifest, recipe={}).digest == manifest.digest
    assert manifest.recipe["cost"]["memory_mib"] == result["stages"][1]["memory_mib"]
