"""Prove a model version: sound, runnable within limits, and the same answers as its source."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import ValidationError
from airflow_onnx_provider.model.graph import ALLOWED_DOMAINS, require_sound
from airflow_onnx_provider.model.samples import digest_of_path, load_samples
from airflow_onnx_provider.model.source import SourceModel
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store import ModelStore
from airflow_onnx_provider.model.version import golden_rows
from airflow_onnx_provider.runtime.golden import GoldenRows
from airflow_onnx_provider.runtime.manifest import (
    MODEL_NAME,
    Golden,
    ModelManifest,
    require_scorable,
    sha256_of_file,
)
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.session import LoadedModel, open_session

log = logging.getLogger(__name__)

SOURCE = "source"
"""What the source model's one input and one output are called, whatever the framework says."""

GOLDEN_ROWS = 8
GOLDEN_TOLERANCE = 1e-4
"""For fp32 graphs: CPUs and thread counts change sums in the last digits only."""


@dataclass(frozen=True)
class ParityLimits:
    """How far a converted model may be from its source.

    :param inputs: rows to compare (N of the batch sizes 1, 2 and N)
    :param max_difference: largest absolute difference of any score
    :param min_label_agreement: share of rows that must get the same label
    """

    inputs: int = 32
    max_difference: float = 1e-4
    min_label_agreement: float = 1.0


def validate(
    address: str, *, inputs: Path, limits: ParityLimits, store: ModelStore, stage: Stage, memory_mb: int
) -> dict[str, Any]:
    """Validate the version at ``address`` and write its golden rows; an earlier pass is answered from the store.

    :param inputs: a folder of pictures, or an ``.npy`` file ``uint8 [rows, height, width, 3]``
    :param memory_mb: limit of the process that loads and runs the model, in MiB of address space
    :return: the version's ``model``, ``name``, ``version``, ``digest``, and ``checks``, ``from_store``
    :raises ValidationError: if the model fails a gate
    :raises BadInputError: if the model, its source or the inputs are missing
    """
    manifest = store.manifest(address)
    require_scorable(manifest)
    preprocessing = manifest.image_preprocessing.to_dict()
    origin = manifest.origin
    recipe = {
        "stage": "validate",
        "model": manifest.digest,
        "inputs": digest_of_path(inputs),
        "limits": asdict(limits),
        "memory_mb": memory_mb,
        "golden": ["rows", "pictures"],  # a pass from before golden pictures were kept is not answered from the store
    }
    if manifest.golden and (remembered := store.recall(manifest.name, recipe)):
        return {**remembered, "from_store": True}
    source = SourceModel(Path(origin["source"]), origin["framework"], preprocessing, origin["trusted"])
    source.require_digest(origin["sha256"])
    with tempfile.TemporaryDirectory(prefix="onnx-validate-") as temporary, store.local(address) as folder:
        answers = Path(temporary) / "source.npz"
        stage.run(
            "predict_source",
            {
                "source": str(source.path),
                "framework": source.framework,
                "preprocessing": preprocessing,
                "trusted": source.trusted,
                "inputs": str(inputs),
                "rows": limits.inputs,
                "answers": str(answers),
            },
        )
        golden = Path(temporary) / "golden.npz"
        checks = stage.run(
            "validate",
            {"folder": str(folder), "answers": str(answers), "golden": str(golden), "limits": asdict(limits)},
            memory_mb=memory_mb,
        )
        proved = replace(
            manifest,
            checks={**manifest.checks, "parity": checks},
            golden=Golden(sha256_of_file(golden), GOLDEN_TOLERANCE),
        )
        store.record(address, proved, golden)
    result = {
        "model": address,
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "checks": checks,
        "from_store": False,
    }
    store.remember(manifest.name, recipe, result)
    return result


def predict_source_in_child(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The source framework's answers to the given inputs, in the form of golden rows."""
    preprocessing = ImagePreprocessing.from_dict(spec["preprocessing"])
    samples = load_samples(Path(spec["inputs"]), spec["rows"], preprocessing, "validation inputs")
    source = SourceModel(Path(spec["source"]), spec["framework"], spec["preprocessing"], spec["trusted"])
    answers = source.module().open_predictor(source)(samples.tensors)
    rows = GoldenRows({SOURCE: samples.tensors}, {SOURCE: answers}, samples.pictures[:GOLDEN_ROWS])
    rows.save(Path(spec["answers"]))
    return {"rows": rows.rows}


def validate_in_child(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Gate, load, run at batch sizes 1, 2 and N, compare, and write the golden rows."""
    path = Path(spec["folder"]) / MODEL_NAME
    require_sound(path, ALLOWED_DOMAINS)
    manifest = ModelManifest.read(path.parent)
    source = GoldenRows.load(Path(spec["answers"]), manifest)
    inputs, expected = source.inputs[SOURCE], source.answers[SOURCE]
    try:
        session = open_session(path)
    except Exception as error:  # ONNX Runtime's exceptions have no common public class
        raise ValidationError(f"ONNX Runtime cannot load {path}: {error}") from error
    model = LoadedModel(manifest, session)
    checks = {}
    limits = ParityLimits(**spec["limits"])
    for size in sorted({1, 2, len(inputs)}):
        answers = run_in_batches(model, inputs, size)
        checks[f"batch_{size}"] = require_parity(answers, expected, limits, f"{path} at batch size {size}")
        log.info("batch size %d: %s", size, checks[f"batch_{size}"])
    first = {model.input_name: inputs[:GOLDEN_ROWS]}
    golden_rows(model, first, source.pictures).save(Path(spec["golden"]))
    return {"rows": len(inputs), **checks}


def run_in_batches(model: LoadedModel, inputs: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """All answers, ``size`` rows at a time (the last batch may be smaller).

    :raises ValidationError: if ONNX Runtime cannot run this batch size
    """
    try:
        return np.concatenate([model.run(inputs[start : start + size]) for start in range(0, len(inputs), size)])
    except Exception as error:
        raise ValidationError(f"{model.manifest.name} does not run at batch size {size}: {error}") from error


def require_parity(
    answers: NDArray[np.float32], expected: NDArray[np.float32], limits: ParityLimits, what: str
) -> dict[str, float]:
    """Compare two models' scores, ``[rows, classes]`` each.

    :return: ``max_difference`` and ``label_agreement``
    :raises ValidationError: if a limit is broken, with both numbers
    """
    if answers.shape != expected.shape:
        raise ValidationError(f"{what}: the answers have the shape {answers.shape}, the source's {expected.shape}")
    difference = float(np.max(np.abs(answers - expected)))
    agreement = float(np.mean(answers.argmax(axis=1) == expected.argmax(axis=1)))
    if not difference <= limits.max_difference or agreement < limits.min_label_agreement:
        raise ValidationError(
            f"{what}: scores differ by up to {difference:.3g} (limit {limits.max_difference:.3g}) and "
            f"{agreement:.1%} of the labels agree (limit {limits.min_label_agreement:.1%})"
        )
    return {"max_difference": difference, "label_agreement": agreement}
