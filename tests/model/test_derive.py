# SPDX-License-Identifier: Apache-2.0
"""The flow from one version to the next, with stages that are written out here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.model.derive import derive
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.version import derived, keep_golden
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from tests.runtime.tiny import CLASSIFIER, write_onnx, write_version

ROW = {"image": np.zeros((1, 4, 4, 3), np.uint8)}
MEASURED = [{"variant": "original", "size_bytes": 10}, {"variant": "warmer", "size_bytes": 5}]


@dataclass
class Here:
    """Runs a stage where the test runs, and counts."""

    work: Callable[[Mapping[str, Any]], dict[str, Any]]
    runs: int = 0

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        self.runs += 1
        return self.work(settings)


def warmer(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Makes a version with other weights."""
    target = Path(settings["work"]) / "warmer"
    target.mkdir()
    write_onnx(target / MODEL_NAME, CLASSIFIER.replace("0.02", settings["weight"]))
    parent = ModelManifest.read(Path(settings["folder"]))
    keep_golden(target, derived(target, parent, recipe={"stage": "warm"}), ROW, 1e-4)
    return {"accepted": True, "variant": "warmer", "reason": "half the size", "measurements": MEASURED, "size_bytes": 5}


def refused(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"accepted": False, "variant": "original", "reason": "no gain", "measurements": MEASURED, "size_bytes": 10}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def address(store: ModelStore, tmp_path: Path) -> str:
    folder = tmp_path / "made"
    address = store.add(folder, write_version(folder))
    shutil.rmtree(folder)
    return address


def run(address: str, store: ModelStore, stage: Here, weight: str = "0.03") -> dict[str, Any]:
    given = {"weight": weight}
    return derive(address, "warm", decides=given, settings=given, store=store, stage=stage)  # type: ignore[arg-type]


def test_what_is_accepted_becomes_a_version_with_its_lineage(store: ModelStore, address: str) -> None:
    result = run(address, store, Here(warmer))
    parent, child = store.manifest(address), store.manifest(result["model"])

    assert result["model"] != address
    assert (result["accepted"], result["reason"], result["from_store"]) == (True, "half the size", False)
    assert (child.origin["parent"], child.recipe) == (parent.version, {"stage": "warm"})
    assert (
        parent.checks["warm"]
        == child.checks["warm"]
        == {
            "accepted": True,
            "reason": "half the size",
            "measurements": MEASURED,
        }
    )


def test_what_is_not_accepted_leaves_the_parent_with_the_reason(store: ModelStore, address: str) -> None:
    result = run(address, store, Here(refused))

    assert (result["model"], result["accepted"], result["variant"]) == (address, False, "original")
    assert store.manifest(address).checks["warm"]["reason"] == "no gain"


def test_the_same_question_is_answered_from_the_store(store: ModelStore, address: str) -> None:
    stage = Here(warmer)
    first, again, other = run(address, store, stage), run(address, store, stage), run(address, store, stage, "0.04")

    assert again == {**first, "from_store": True}
    assert other["model"] != first["model"]
    assert stage.runs == 2


def test_a_stage_that_fails_leaves_nothing(store: ModelStore, address: str) -> None:
    def broken(settings: Mapping[str, Any]) -> dict[str, Any]:
        warmer(settings)
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError):
        run(address, store, Here(broken))
    assert len(list(Path(address).parent.glob("[!_.]*"))) == 1
    assert "warm" not in store.manifest(address).checks
