from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import ValidationError
from airflow_onnx_provider.model.validate import (
    GOLDEN_ROWS,
    SOURCE,
    ParityLimits,
    require_parity,
    run_in_batches,
    validate_in_child,
)
from airflow_onnx_provider.runtime.golden import GoldenRows
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME, MODEL_NAME, ModelManifest, write_json
from airflow_onnx_provider.runtime.session import LoadedModel, open_session
from tests.runtime.tiny import CLASSIFIER, manifest_of, write_onnx

LIMITS = ParityLimits(inputs=5)
PICTURES = tuple(bytes([number]) for number in range(GOLDEN_ROWS))
INPUTS = np.random.default_rng(1).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)


def scores(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def expected_scores(inputs: np.ndarray) -> np.ndarray:
    """The classifier in numpy: a second opinion on every answer."""
    logits = inputs.astype(np.float32).mean(axis=(1, 2)) * np.float32(0.02)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def source_rows(answers: np.ndarray, pictures: tuple[bytes, ...] = ()) -> GoldenRows:
    """What the source framework's process leaves."""
    return GoldenRows({SOURCE: INPUTS}, {SOURCE: answers}, pictures)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A model version without golden rows, and its source's answers."""
    write_onnx(tmp_path / MODEL_NAME)
    write_json(tmp_path / MANIFEST_NAME, manifest_of(tmp_path).to_dict())
    source_rows(expected_scores(INPUTS), PICTURES).save(tmp_path / "source.npz")
    return {
        "folder": str(tmp_path),
        "answers": str(tmp_path / "source.npz"),
        "golden": str(tmp_path / "golden.npz"),
        "limits": {"inputs": 12, "max_difference": 1e-5, "min_label_agreement": 1.0},
    }


def test_equal_scores_have_parity() -> None:
    answers = scores([0.9, 0.1], [0.2, 0.8])

    assert require_parity(answers, answers, LIMITS, "m") == {"max_difference": 0.0, "label_agreement": 1.0}


def test_a_small_difference_is_accepted_and_told() -> None:
    found = require_parity(scores([0.9, 0.1]), scores([0.90005, 0.1]), LIMITS, "m")

    assert found["max_difference"] == pytest.approx(5e-5, rel=0.01)


@pytest.mark.parametrize(
    ("answers", "limits", "message"),
    [
        (scores([0.8, 0.2], [0.2, 0.8]), LIMITS, r"m: scores differ by up to 0\.1 \(limit 0\.0001\) and 100\.0%"),
        (scores([0.4, 0.6], [0.2, 0.8]), ParityLimits(max_difference=1.0), r"50\.0% of the labels agree \(limit 100"),
        (scores([np.nan, 0.1], [0.2, 0.8]), ParityLimits(max_difference=1.0), r"differ by up to nan"),
        (scores([0.9, 0.1]), LIMITS, r"the answers have the shape \(1, 2\), the source's \(2, 2\)"),
    ],
    ids=["difference", "labels", "nan", "shape"],
)
def test_a_broken_limit_is_refused_with_the_numbers(answers: np.ndarray, limits: ParityLimits, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        require_parity(answers, scores([0.9, 0.1], [0.2, 0.8]), limits, "m")


def test_some_labels_may_differ_where_that_is_allowed() -> None:
    limits = ParityLimits(max_difference=1.0, min_label_agreement=0.5)
    found = require_parity(scores([0.4, 0.6], [0.2, 0.8]), scores([0.9, 0.1], [0.2, 0.8]), limits, "m")

    assert found["label_agreement"] == 0.5


@pytest.mark.parametrize("size", [1, 2, 5, 12, 50])
def test_all_answers_at_any_batch_size(model: LoadedModel, size: int) -> None:
    assert run_in_batches(model, INPUTS, size) == pytest.approx(expected_scores(INPUTS), abs=1e-6)


def test_a_model_with_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    write_onnx(tmp_path / MODEL_NAME, CLASSIFIER.replace("[batch,", "[1,"))
    model = LoadedModel(manifest_of(tmp_path), open_session(tmp_path / MODEL_NAME))

    assert run_in_batches(model, INPUTS, 1).shape == (12, 3)
    with pytest.raises(ValidationError, match="colours does not run at batch size 2"):
        run_in_batches(model, INPUTS, 2)


def test_a_proved_model_gets_its_golden_rows(settings: dict[str, Any]) -> None:
    checks = validate_in_child(settings)

    assert checks["rows"] == 12
    assert {name: found["label_agreement"] for name, found in checks.items() if name != "rows"} == {
        "batch_1": 1.0,
        "batch_2": 1.0,
        "batch_12": 1.0,
    }
    golden = GoldenRows.load(Path(settings["golden"]), ModelManifest.read(Path(settings["folder"])))
    assert np.array_equal(golden.inputs["image"], INPUTS[:GOLDEN_ROWS])
    assert golden.answers["scores"] == pytest.approx(expected_scores(INPUTS[:GOLDEN_ROWS]), abs=1e-6)
    assert golden.pictures == PICTURES


def test_a_model_that_disagrees_with_its_source_gets_none(settings: dict[str, Any]) -> None:
    source_rows(expected_scores(INPUTS)[:, ::-1]).save(Path(settings["answers"]))

    with pytest.raises(ValidationError, match=r"model\.onnx at batch size 1: scores differ by up to"):
        validate_in_child(settings)
    assert not Path(settings["golden"]).exists()


def test_a_model_that_onnxruntime_cannot_load_is_refused(settings: dict[str, Any]) -> None:
    """Sound by the checker's rules: `com.microsoft` is allowed, but it has no such operator."""
    text = CLASSIFIER.replace('"" : 18', '"" : 18, "com.microsoft" : 1').replace(
        "Softmax <axis = -1>", "com.microsoft.NoSuchOperator"
    )
    write_onnx(Path(settings["folder"]) / MODEL_NAME, text)

    with pytest.raises(ValidationError, match=r"ONNX Runtime cannot load .*NoSuchOperator"):
        validate_in_child(settings)
