# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.evidence.samples import LabelledSet
from airflow_onnx_provider.model.evidence.trial import (
    accuracy,
    answers_of,
    paired_speedup,
    reference_answers,
    speed_batch,
)
from airflow_onnx_provider.runtime.manifest import MODEL_NAME
from airflow_onnx_provider.runtime.session import LoadedModel
from tests.runtime.tiny import CLASSIFIER, FEATURES, OFFERS, loaded, version_of, write_onnx

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_the_batch_size_does_not_change_the_answers(model: LoadedModel, size: int) -> None:
    assert answers_of(model, {"image": PIXELS}, size)["scores"] == pytest.approx(model.run(PIXELS), abs=1e-6)


def test_all_outputs_and_several_inputs(tmp_path: Path) -> None:
    rows = {"price": np.ones((3, 2), np.float32), "shop": np.array(["north", "south", "x"], object)}
    answers = answers_of(loaded(tmp_path, OFFERS, rows), rows, 2)

    assert {name: values.shape for name, values in answers.items()} == {"scores": (3, 2), "said": (3,)}
    assert answers["said"].tolist() == ["north", "south", "x"]


def test_a_batch_size_that_does_not_run_is_named(tmp_path: Path) -> None:
    fixed = CLASSIFIER.replace("[batch,", "[1,")
    model = loaded(tmp_path, fixed, {"image": PIXELS[:1]})

    with pytest.raises(ValidationError, match="tiny does not run at batch size 2: "):
        answers_of(model, {"image": PIXELS}, 2)


def test_accuracy_is_the_share_of_right_labels(model: LoadedModel) -> None:
    best = model.run(PIXELS).argmax(axis=1)
    assert accuracy(model, LabelledSet({"image": PIXELS}, best)) == 1.0
    best[0] = (best[0] + 1) % 3
    assert accuracy(model, LabelledSet({"image": PIXELS}, best)) == pytest.approx(0.8)


def test_a_model_without_scores_has_no_accuracy(tmp_path: Path) -> None:
    text = FEATURES.replace("float[batch, 3] scores, float[batch, 2, 3] both, ", "")
    rows = {"features": np.zeros((1, 3), np.float32)}
    with pytest.raises(BadInputError, match="tiny has no output float"):
        accuracy(loaded(tmp_path, text, rows), LabelledSet(rows, np.zeros(1, np.int64)))


@dataclass
class Sleeper:
    """A stand-in for a model: it takes its time."""

    manifest: Any
    seconds: float

    def answer(self, feeds: Any, outputs: Any) -> list[Any]:
        time.sleep(self.seconds)
        return []


def test_speed_is_told_as_a_ratio_of_paired_rounds(model: LoadedModel) -> None:
    slow, fast = Sleeper(model.manifest, 0.03), Sleeper(model.manifest, 0.01)

    speedup, rate = paired_speedup(slow, fast, {"x": np.zeros((8, 1))}, 5)  # type: ignore[arg-type]

    assert 1.5 < speedup < 6
    assert 100 < rate <= 800


def test_a_batch_for_speed_repeats_the_rows() -> None:
    assert speed_batch({"a": np.array([1, 2, 3])}, 5)["a"].tolist() == [1, 2, 3, 1, 2]


def test_the_reference_gives_the_same_answers(model: LoadedModel, tmp_path: Path) -> None:
    version_of(tmp_path, CLASSIFIER, {"image": PIXELS})
    assert reference_answers(tmp_path / MODEL_NAME, {"image": PIXELS})["scores"] == pytest.approx(model.run(PIXELS))


def test_the_reference_says_what_it_cannot_run(tmp_path: Path) -> None:
    text = CLASSIFIER.replace('"" : 18', '"" : 18, "com.microsoft" : 1').replace(
        "Softmax <axis = -1>", "com.microsoft.Gelu"
    )
    with pytest.raises(ValidationError, match="onnx.reference cannot run a.onnx: "):
        reference_answers(write_onnx(tmp_path / "a.onnx", text), {"image": PIXELS})
