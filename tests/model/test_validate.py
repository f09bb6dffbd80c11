# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import (
    BadInputError,
    DigestMismatchError,
    StageError,
    StageSignalError,
    StageTimeoutError,
    ValidationError,
)
from airflow_onnx_provider.model.evidence.parity import ParityLimits
from airflow_onnx_provider.model.evidence.samples import digest_of_path
from airflow_onnx_provider.model.gates import reference as reference_gate
from airflow_onnx_provider.model.gates.reference import Reference
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.validate import predict_source_in_child, validate, validate_in_child
from airflow_onnx_provider.model.version import GOLDEN_ROWS, derived, manifest_of
from airflow_onnx_provider.runtime.golden import GoldenRows
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME, MODEL_NAME, ModelManifest, TensorSpec, write_json
from airflow_onnx_provider.runtime.session import load_model
from tests.runtime.tiny import (
    CLASSIFIER,
    FEATURES,
    LABELS,
    OFFERS,
    PREPROCESSING,
    TEXTS,
    TOKENS,
    VOCABULARY,
    write_onnx,
)

PICTURES = tuple(bytes([number]) for number in range(GOLDEN_ROWS))
DRAW = np.random.default_rng(1)
INPUTS = DRAW.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)


def expected_scores(inputs: np.ndarray) -> np.ndarray:
    """The classifier in numpy: a second opinion on every answer."""
    logits = inputs.astype(np.float32).mean(axis=(1, 2)) * np.float32(0.02)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A model version without golden rows, and its source's answers."""
    write_onnx(tmp_path / MODEL_NAME)
    manifest = manifest_of(tmp_path, name="colours", preprocessing=PREPROCESSING, labels=LABELS)
    write_json(tmp_path / MANIFEST_NAME, manifest.to_dict())
    GoldenRows({"image": INPUTS}, {"scores": expected_scores(INPUTS)}, PICTURES).save(tmp_path / "source.npz")
    return {
        "folder": str(tmp_path),
        "answers": str(tmp_path / "source.npz"),
        "golden": str(tmp_path / "golden.npz"),
        "limits": asdict(ParityLimits(inputs=12, max_difference=1e-5)),
        "reference": asdict(Reference()),
        "memory_limit_mb": 8192,
    }


def test_a_proved_model_gets_its_golden_rows(settings: dict[str, Any]) -> None:
    checks = validate_in_child(settings)

    assert list(checks) == ["rows", "batch_1", "batch_2", "batch_12", "reference"]
    assert checks.pop("rows") == 12
    for found in checks.values():
        assert found["label_agreement"] == 1.0
        assert found["max_difference"] < 1e-6
        assert found["max_relative_difference"] < 1e-5
    golden = GoldenRows.load(Path(settings["golden"]), ModelManifest.read(Path(settings["folder"])))
    assert np.array_equal(golden.inputs["image"], INPUTS[:GOLDEN_ROWS])
    assert golden.answers["scores"] == pytest.approx(expected_scores(INPUTS[:GOLDEN_ROWS]), abs=1e-6)
    assert golden.pictures == PICTURES


def test_a_model_that_disagrees_with_its_source_gets_none(settings: dict[str, Any]) -> None:
    GoldenRows({"image": INPUTS}, {"scores": expected_scores(INPUTS)[:, ::-1]}).save(Path(settings["answers"]))

    with pytest.raises(ValidationError, match=r"model\.onnx at batch size 1: numbers differ by up to .* and .* labels"):
        validate_in_child(settings)
    assert not Path(settings["golden"]).exists()


def test_a_relative_limit_finds_what_an_absolute_one_does_not(settings: dict[str, Any]) -> None:
    near = expected_scores(INPUTS) * np.float32(1.001)
    GoldenRows({"image": INPUTS}, {"scores": near}).save(Path(settings["answers"]))
    loose = {**settings, "limits": asdict(ParityLimits(max_difference=1e-2))}

    assert validate_in_child(loose)["batch_1"]["max_relative_difference"] == pytest.approx(1e-3, rel=0.01)
    strict = asdict(ParityLimits(max_difference=1e-2, max_relative_difference=5e-4))
    with pytest.raises(ValidationError, match=r"relative to what is expected by up to 0\.000999 \(limit 0\.0005\)"):
        validate_in_child({**loose, "limits": strict})


def test_a_manifest_that_says_other_than_the_graph_is_refused(settings: dict[str, Any]) -> None:
    manifest = ModelManifest.read(Path(settings["folder"]))
    other = replace(manifest, outputs=(TensorSpec("scores", "float", ("batch", 5)),))
    write_json(Path(settings["folder"]) / MANIFEST_NAME, other.to_dict())

    with pytest.raises(ValidationError, match=r"its manifest says that the outputs are .*5.*, the graph .*3"):
        validate_in_child(settings)


def test_weights_in_a_file_without_a_digest_are_refused(settings: dict[str, Any]) -> None:
    import onnx

    path = Path(settings["folder"]) / MODEL_NAME
    model = onnx.load(path)
    for tensor in model.graph.initializer:  # only raw values can be moved out
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)

    with pytest.raises(ValidationError, match=r"its weights in weights\.bin are not among the files whose digests"):
        validate_in_child(settings)


def test_a_model_is_refused_whose_weights_alone_exceed_the_memory(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"its weights need .* of memory \(limit 0 bytes\); raise memory_mb"):
        validate_in_child({**settings, "memory_limit_mb": 0})


FUSED = (
    CLASSIFIER.replace('"" : 18', '"" : 18, "com.microsoft" : 1')
    .replace("logits = MatMul", "logits = com.microsoft.FusedMatMul")
)  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "text", "why"),
    [
        (Reference(rows=0), CLASSIFIER, "no rows were asked for"),
        (Reference(), FUSED, "it does not know operators of com.microsoft"),
        (Reference(seconds=1e-4), CLASSIFIER, "it took more than 0.0001 s for 2 rows"),
    ],
    ids=["not asked", "other domains", "too slow"],
)
def test_where_the_reference_cannot_be_asked_the_checks_say_why(
    settings: dict[str, Any], asked: Reference, text: str, why: str
) -> None:
    write_onnx(Path(settings["folder"]) / MODEL_NAME, text)

    assert validate_in_child({**settings, "reference": asdict(asked)})["reference"] == {"skipped": why}


def test_a_model_on_which_onnx_runtime_and_the_reference_disagree_is_refused(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        reference_gate, "reference_answers", lambda _path, inputs: {"scores": expected_scores(inputs["image"]) + 0.5}
    )

    with pytest.raises(ValidationError, match=r"beside onnx\.reference .*reference_rows=0.*: numbers differ by up to"):
        validate_in_child(settings)


# The whole way, for each kind of model: the source is an ONNX file, read from Parquet or arrays.


class ThisProcess(Stage):
    """Runs both stages here."""

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        return {"predict_source": predict_source_in_child, "validate": validate_in_child}[name](settings)


HERE = ThisProcess(logging.getLogger("stage"))

KINDS = {
    "several outputs": (FEATURES, None, {"features": DRAW.normal(size=(12, 3)).astype(np.float32)}),
    "numbers and texts": (
        OFFERS,
        None,
        {"price": DRAW.normal(size=(12, 2)).astype(np.float32), "shop": np.array(["north", "south", "east"] * 4)},
    ),
    "tokens": (
        TEXTS,
        TOKENS,
        {"ids": DRAW.integers(0, VOCABULARY, (12, 7)), "mask": np.repeat([[1] * 7, [1] * 4 + [0] * 3], 6, axis=0)},
    ),
}


def stored(folder: Path, text: str, made_from: str | None = None, **fields: Any) -> tuple[ModelStore, str]:
    """A version of ``text`` that was converted from the ONNX file ``made_from``."""
    source = write_onnx(folder / "source" / "a.onnx", made_from or text)
    write_onnx(folder / "new" / MODEL_NAME, text)
    origin = {"framework": "onnx", "source": str(source), "sha256": digest_of_path(source)}
    manifest = manifest_of(folder / "new", name="tiny", origin=origin, **fields)
    store = ModelStore(folder / "store")
    return store, store.add(folder / "new", manifest)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_validated_and_can_be_loaded_by_workers(kind: str, tmp_path: Path) -> None:
    text, preprocessing, rows = KINDS[kind]
    store, address = stored(tmp_path, text, preprocessing=preprocessing)
    np.savez(tmp_path / "rows.npz", **rows)

    result = validate(address, inputs=tmp_path / "rows.npz", store=store, stage=HERE)

    manifest = store.manifest(address)
    assert manifest.checks["parity"] == result["checks"]
    assert (result["checks"]["rows"], result["from_store"]) == (12, False)
    assert result["checks"]["batch_12"]["label_agreement"] == 1.0
    model = load_model(Path(address), manifest.digest)
    assert model.golden.rows == GOLDEN_ROWS
    assert set(model.golden.answers) == {spec.name for spec in manifest.outputs}
    assert validate(address, inputs=tmp_path / "rows.npz", store=store, stage=HERE) == {**result, "from_store": True}


def test_in_processes_of_their_own(stage: Stage, lines: list[str], tmp_path: Path) -> None:
    text, _, rows = KINDS["numbers and texts"]
    store, address = stored(tmp_path, text)
    np.savez(tmp_path / "rows.npz", **rows)

    result = validate(address, inputs=tmp_path / "rows.npz", store=store, stage=stage, memory_mb=2048)

    assert result["checks"]["reference"]["max_difference"] < 1e-6
    assert [line.split(":")[0] for line in lines if line.startswith(("batch", "onnx"))] == [
        "batch size 1",
        "batch size 2",
        "batch size 12",
        "onnx.reference",
    ]
    assert load_model(Path(address), store.manifest(address).digest).golden.rows == GOLDEN_ROWS


def test_a_version_made_from_another_is_compared_with_the_source_of_the_first(tmp_path: Path) -> None:
    text, _, rows = KINDS["several outputs"]
    store, address = stored(tmp_path, text)
    np.savez(tmp_path / "rows.npz", **rows)
    for name, weights in (("good", "{2, -1, 0.50001"), ("bad", "{2, -1, 0.6")):
        write_onnx(tmp_path / name / MODEL_NAME, text.replace("{2, -1, 0.5", weights))
    pruned = {
        name: store.add(
            tmp_path / name, derived(tmp_path / name, store.manifest(address), recipe={"stage": "prune", "name": name})
        )
        for name in ("good", "bad")
    }

    found = validate(pruned["good"], inputs=tmp_path / "rows.npz", store=store, stage=HERE)
    assert 0 < found["checks"]["batch_12"]["max_difference"] < 1e-4
    with pytest.raises(ValidationError, match="numbers differ by up to"):
        validate(pruned["bad"], inputs=tmp_path / "rows.npz", store=store, stage=HERE)


def test_an_outputs_that_the_source_has_and_the_model_lost_is_named(tmp_path: Path) -> None:
    text, _, rows = KINDS["several outputs"]
    store, address = stored(tmp_path, text.replace(", int64[batch] best)", ")"), made_from=text)
    np.savez(tmp_path / "rows.npz", **rows)

    with pytest.raises(ValidationError, match=r"there is no output 'best'; there is: both, scores"):
        validate(address, inputs=tmp_path / "rows.npz", store=store, stage=HERE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "float[batch, 3] features",
            "float[4, 3] features",
            r"features is float \[4, 3\]: the batch is fixed at 4; .*open",
        ),
        ("int64[batch] best", "int64 best", r"best is int64 \[\]: without a batch axis"),
        ("float[batch, 3] scores", "bfloat16[batch, 3] scores", r"scores is bfloat16 .* which no column can hold"),
    ],
)
def test_a_model_that_does_not_answer_by_row_is_refused_before_anything_runs(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert old in FEATURES
    store, address = stored(tmp_path, FEATURES.replace(old, new))
    np.savez(tmp_path / "rows.npz", **KINDS["several outputs"][2])

    with pytest.raises(BadInputError, match=message):
        validate(address, inputs=tmp_path / "rows.npz", store=store, stage=HERE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": LABELS[:2]}, "3 classes, but 2 labels"),
        (
            {"preprocessing": PREPROCESSING},
            r"its preprocessing makes one input uint8 \['batch', 4, 4, 3\], found features",
        ),
        ({"preprocessing": TOKENS}, r"its preprocessing makes the inputs \['ids', 'mask'\], found features"),
    ],
    ids=["labels", "pictures", "tokens"],
)
def test_labels_and_preprocessing_must_fit_the_graph(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    store, address = stored(tmp_path, FEATURES, **fields)
    np.savez(tmp_path / "rows.npz", **KINDS["several outputs"][2])

    with pytest.raises(BadInputError, match=message):
        validate(address, inputs=tmp_path / "rows.npz", store=store, stage=HERE)


def test_a_source_that_changed_since_is_refused(tmp_path: Path) -> None:
    store, address = stored(tmp_path, FEATURES)
    np.savez(tmp_path / "rows.npz", **KINDS["several outputs"][2])
    write_onnx(tmp_path / "source" / "a.onnx", FEATURES.replace("{2, -1", "{3, -1"))

    with pytest.raises(DigestMismatchError, match="changed since it was converted"):
        validate(address, inputs=tmp_path / "rows.npz", store=store, stage=HERE)


class Ending(ThisProcess):
    """The model's process ends without a result."""

    how: StageError

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        if name == "validate":
            raise self.how
        return super().run(name, settings, memory_mb)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        (StageTimeoutError("too long"), ValidationError, "did not load and run within stage_timeout=900 s"),
        (StageSignalError("gone", "SIGSEGV"), ValidationError, "ended the process that ran it by SIGSEGV"),
        (StageSignalError("by SIGKILL", "SIGKILL"), StageError, r"was not validated \(memory_mb=8192.*SIGKILL"),
    ],
    ids=["time", "crash", "killed from outside"],
)
def test_how_a_models_process_ended_decides_whether_to_try_again(
    how: StageError, error: type[Exception], message: str, tmp_path: Path
) -> None:
    """Only a kill from outside, by the machine or a person, says nothing about the model."""
    store, address = stored(tmp_path, FEATURES)
    np.savez(tmp_path / "rows.npz", **KINDS["several outputs"][2])
    stage = Ending(logging.getLogger("stage"), timeout=900)
    stage.how = how

    with pytest.raises((StageError, ValidationError), match=rf"tiny {Path(address).name} .*{message}") as raised:
        validate(address, inputs=tmp_path / "rows.npz", store=store, stage=stage)
    assert type(raised.value) is error
