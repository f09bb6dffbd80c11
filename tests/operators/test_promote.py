# SPDX-License-Identifier: Apache-2.0
"""Promote and roll back as tasks do, with the events that other DAGs are scheduled by."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowFailException

from airflow_onnx_provider.assets import model_asset, model_event_extra, scores
from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.operators.promote import OnnxPromoteOperator
from airflow_onnx_provider.operators.rollback import OnnxRollbackOperator
from tests.conftest import set_connection
from tests.model.store.versions import add_version, make_version

NAME = "colours"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    extra = {"root": str(tmp_path / "store")}
    set_connection(monkeypatch, "onnx_model_store_default", {"conn_type": "onnx_model_store", "extra": extra})
    return ModelStore(tmp_path / "store")


@pytest.fixture
def versions(store: ModelStore) -> list[str]:
    return [add_version(store, content) for content in ("first", "second", "third")]


def run_of(run: str, task: str, outlets: tuple[Asset, ...] = ()) -> dict[str, Any]:
    """What Airflow gives a task."""
    return {
        "ti": SimpleNamespace(dag_id="train", run_id=run, task_id=task, map_index=-1),
        "outlet_events": {outlet: SimpleNamespace(extra={}) for outlet in outlets},
    }


def promote(model: Any, run: str = "monday", **arguments: Any) -> dict[str, Any]:
    operator = OnnxPromoteOperator(task_id="promote", model=model, **arguments)
    return operator.execute(run_of(run, "promote"))


def roll_back(run: str, **arguments: Any) -> dict[str, Any]:
    return OnnxRollbackOperator(task_id="back", name=NAME, **arguments).execute(run_of(run, "back"))


def test_promote(store: ModelStore, versions: list[str]) -> None:
    first, second, _ = versions
    address = f"{store.root}/{NAME}/{first}"
    assert promote(address, reason="the first one") == {
        "model": address,
        "name": NAME,
        "version": first,
        "digest": store.manifest(address).digest,
        "alias": "production",
        "previous": None,
        "changed": True,
    }
    assert promote(address)["changed"] is False, "another try of the same task"

    promote({"model": f"{store.root}/{NAME}/{second}"}, alias="candidate")
    assert promote(f"{store.root}/{NAME}@candidate", "tuesday", expected=first)["previous"] == first

    moves = Aliases(store, NAME).history("production")
    assert [(move.version, move.by, move.reason) for move in moves] == [
        (first, "train/monday/promote", "the first one"),
        (second, "train/tuesday/promote", None),
    ]


def test_a_promotion_that_cannot_be_is_not_tried_again(store: ModelStore, versions: list[str]) -> None:
    promote(f"{store.root}/{NAME}/{versions[0]}")
    with pytest.raises(AirflowFailException, match=f"AliasMovedError: .* names {versions[0]}, not {versions[1]}"):
        promote(f"{store.root}/{NAME}/{versions[2]}", expected=versions[1])
    unproved = add_version(store, "unproved", validated=False)
    with pytest.raises(AirflowFailException, match="was never validated"):
        promote(f"{store.root}/{NAME}/{unproved}")
    with pytest.raises(AirflowFailException, match="there is no model version"):
        promote(f"{store.root}/{NAME}/0123456789ab")


def test_roll_back(store: ModelStore, versions: list[str]) -> None:
    for version in versions:
        promote(f"{store.root}/{NAME}/{version}")

    result = roll_back("monday", reason="too slow")
    assert (result["version"], result["previous"], result["changed"]) == (versions[1], versions[2], True)
    assert result["model"] == f"{store.root}/{NAME}/{versions[1]}"
    again = roll_back("monday", reason="too slow")
    assert (again["version"], again["changed"]) == (versions[1], False), "another try of the same task"

    assert roll_back("tuesday")["version"] == versions[0]
    with pytest.raises(AirflowFailException, match="there is nothing before"):
        roll_back("wednesday")
    with pytest.raises(AirflowFailException, match=f"not {versions[2]} as expected"):
        roll_back("thursday", expected=versions[2])


def test_the_assets_of_the_model_get_an_event(store: ModelStore, versions: list[str]) -> None:
    own, alias, by_hand = model_asset(NAME), model_asset(NAME, "production"), Asset("the model")
    others = model_asset("sizes"), model_asset(NAME, "candidate")
    outlets = (own, alias, by_hand, *others)
    context = run_of("monday", "promote", outlets)
    operator = OnnxPromoteOperator(task_id="promote", model=f"{store.root}/{NAME}/{versions[0]}", outlets=outlets)

    operator.execute(context)

    extra = context["outlet_events"][alias].extra
    assert extra == context["outlet_events"][own].extra == context["outlet_events"][by_hand].extra
    assert (extra["version"], extra["alias"], extra["previous"], extra["opset"]) == (
        versions[0],
        "production",
        None,
        18,
    )
    assert json.loads(json.dumps(extra)) == extra
    assert [context["outlet_events"][other].extra for other in others] == [{}, {}]


def test_an_asset_alias_gets_an_event_only_when_the_alias_has_moved(store: ModelStore, versions: list[str]) -> None:
    outlet = AssetAlias("moves")
    events: list[tuple[Asset, dict[str, Any]]] = []
    told = SimpleNamespace(add=lambda asset, extra: events.append((asset, extra)))
    for run in ("monday", "tuesday"):
        context = {**run_of(run, "promote"), "outlet_events": {outlet: told}}
        OnnxPromoteOperator(task_id="promote", model=f"{store.root}/{NAME}/{versions[0]}", outlets=[outlet]).execute(
            context
        )

    ((asset, extra),) = events
    assert asset == model_asset(NAME, "production")
    assert (extra["version"], extra["changed"]) == (versions[0], True)


def test_an_asset_is_the_same_wherever_it_is_made() -> None:
    assert model_asset(NAME, "production") == model_asset(NAME, "production")
    assert model_asset(NAME, "production").uri == "x-onnx-model://colours/production"
    assert model_asset(NAME).name == "onnx-model/colours"
    assert len({model_asset(NAME).uri, model_asset(NAME, "a").uri, model_asset("a", NAME).uri}) == 3
    with pytest.raises(BadInputError, match="cannot be an alias"):
        model_asset(NAME, "a/b")


MEASUREMENTS = [
    {"variant": "original", "accuracy": 0.97, "size_bytes": 4000, "images_per_second": 200.0},
    {"variant": "static", "accuracy": 0.96, "size_bytes": 1000, "speedup": 2.5, "images_per_second": 500.0},
    {"variant": "dynamic", "accuracy": 0.97, "size_bytes": 1100, "speedup": 0.2},
]
QUANTIZED = {"quantize": {"accepted": True, "reason": "…", "measurements": MEASUREMENTS}}


def test_an_events_scores_are_those_of_its_version(tmp_path: Path) -> None:
    parity = {
        "rows": 4,
        "batch_1": {"max_difference": 1e-6, "label_agreement": 1.0},
        "batch_2": {"max_difference": 3e-6, "label_agreement": 0.99},
        "reference": {"skipped": "no reference"},
    }
    original = make_version(tmp_path / "a", "a", checks={"parity": parity, **QUANTIZED}, recipe={"stage": "convert"})
    assert scores(original) == {
        "max_difference": 3e-6,
        "label_agreement": 0.99,
        "accuracy": 0.97,
        "size_bytes": 4000,
        "images_per_second": 200.0,
    }
    recipe = {"stage": "quantize", "variant": "static", "nodes": ["a"] * 1000, "per_channel": True}
    made = make_version(tmp_path / "b", "b", checks=QUANTIZED, recipe=recipe, speed=({"images_per_second": 450.0},))
    extra = model_event_extra(made)
    assert extra["scores"] == {"accuracy": 0.96, "speedup": 2.5, "images_per_second": 500.0, "size_bytes": 1000}
    assert extra["recipe"] == {"stage": "quantize", "variant": "static", "per_channel": True}
    assert extra["digest"] == made.digest
    assert scores(make_version(tmp_path / "c", "c")) == {}
