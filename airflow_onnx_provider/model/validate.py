# SPDX-License-Identifier: Apache-2.0
"""Prove a model version: sound, runnable within limits, and the same answers as its source."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import (
    BadInputError,
    StageError,
    StageSignalError,
    StageTimeoutError,
    ValidationError,
)
from airflow_onnx_provider.model.evidence.parity import ParityLimits, Tensors, require_parity
from airflow_onnx_provider.model.evidence.samples import digest_of_path, load_samples
from airflow_onnx_provider.model.gates import answers as gate
from airflow_onnx_provider.model.gates.external_data import external_files
from airflow_onnx_provider.model.gates.limits import Limits
from airflow_onnx_provider.model.gates.reference import Reference, require_agreement
from airflow_onnx_provider.model.gates.weights import require_numbers
from airflow_onnx_provider.model.graph import describe, require_sound
from airflow_onnx_provider.model.scratch import scratch_folder
from airflow_onnx_provider.model.source import SourceModel
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.version import GOLDEN_ROWS, golden_rows
from airflow_onnx_provider.runtime.golden import GoldenRows
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, Golden, ModelManifest, sha256_of_file
from airflow_onnx_provider.runtime.session import LoadedModel, open_session

log = logging.getLogger(__name__)

GOLDEN_TOLERANCE = 1e-4
"""For fp32 graphs: CPUs and thread counts change sums in the last digits only."""

_CRASHES = frozenset({"SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS", "SIGILL", "SIGTRAP", "SIGSYS"})
_NO_MEMORY = re.compile(r"bad_alloc|bad allocation|[Ff]ailed to allocate memory|MemoryError|Unable to allocate")


def validate(
    address: str,
    *,
    inputs: Path,
    store: ModelStore,
    stage: Stage,
    limits: ParityLimits | None = None,
    reference: Reference | None = None,
    memory_mb: int = 8192,
) -> dict[str, Any]:
    """Validate the version at ``address`` and write its golden rows; an earlier pass is answered from the store.

    Any kind of model: pictures, token ids, columns of numbers and texts, several inputs and outputs. A version that
    was derived from another is compared with the source of the first.

    :param inputs: real inputs, as :func:`~airflow_onnx_provider.model.evidence.samples.load_samples` takes them
    :param limits: default: those of :class:`ParityLimits`
    :param memory_mb: limit of the process that loads and runs the model, in MiB
    :return: the version's ``model``, ``name``, ``version``, ``digest``, and ``checks``, ``from_store``
    :raises ValidationError: if the model fails a gate, ends its process, or needs more than its time or memory
    :raises DigestMismatchError: if a file of the version, or the source, has changed
    :raises BadInputError: if the model, its source or the inputs are missing
    """
    limits, reference = limits or ParityLimits(), reference or Reference()
    address = store.resolve(address)
    manifest = store.manifest(address)
    gate.require_rows(manifest)
    recipe = {
        "stage": "validate",
        "model": manifest.digest,
        "inputs": digest_of_path(inputs),
        "limits": asdict(limits),
        "reference": asdict(reference),
        "memory_mb": memory_mb,
    }
    if manifest.golden and (remembered := store.recall(manifest.name, recipe)):
        return {**remembered, "from_store": True}
    with scratch_folder("onnx-validate-") as work, store.local(address) as folder:
        answers, golden = work / "source.npz", work / "golden.npz"
        with SourceModel.from_origin(manifest).fetched() as source:
            source.require_digest(manifest.origin["sha256"])
            asked = {"source": source.to_dict(), "folder": str(folder), "inputs": str(inputs)}
            stage.run("predict_source", {**asked, "rows": limits.inputs, "answers": str(answers)})
        try:
            checks = stage.run(
                "validate",
                {
                    "folder": str(folder),
                    "answers": str(answers),
                    "golden": str(golden),
                    "limits": asdict(limits),
                    "reference": asdict(reference),
                    "memory_limit_mb": memory_mb,
                },
                memory_mb=memory_mb,
            )
        except StageError as error:
            raise _refused(error, manifest, stage.timeout, memory_mb) from error
        proof = Golden(sha256_of_file(golden), manifest.golden.tolerance if manifest.golden else GOLDEN_TOLERANCE)
        store.record(
            address, lambda kept: replace(kept, checks={**kept.checks, "parity": checks}, golden=proof), golden
        )
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
    manifest = ModelManifest.read(Path(spec["folder"]))
    samples = load_samples(Path(spec["inputs"]), spec["rows"], manifest, "validation inputs")
    source = SourceModel.from_dict(spec["source"])
    try:
        answers = source.module().open_predictor(source)(samples.inputs)
    except (KeyError, TypeError, ValueError) as error:
        # A version whose inputs were changed on purpose, such as another resolution, is no longer its source's twin.
        raise BadInputError(
            f"the source {source.location} does not take the inputs of {manifest.name} {manifest.version}: {error!r}"
        ) from error
    GoldenRows(samples.inputs, answers, samples.pictures[:GOLDEN_ROWS]).save(Path(spec["answers"]))
    return {"rows": samples.rows}


def validate_in_child(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Gate, load, run at batch sizes 1, 2 and N, compare with source and reference, and write the golden rows."""
    path = Path(spec["folder"]) / MODEL_NAME
    manifest = ModelManifest.read(path.parent)
    memory_mb = spec["memory_limit_mb"]
    limits, reference = ParityLimits(**spec["limits"]), Reference(**spec["reference"])
    require_sound(path, limits=Limits().within(memory_mb))
    require_numbers(path)
    _require_as_recorded(path, manifest)
    source = GoldenRows.load(Path(spec["answers"]), manifest)
    inputs, expected = source.inputs, source.answers
    answers: Tensors = {}
    checks: dict[str, Any] = {}
    try:
        model = LoadedModel(manifest, _opened(path))
        gate.require_declared(model, inputs)
        for size in sorted({1, 2, source.rows}):
            answers = gate.answers_at(model, inputs, expected, size)
            parity = require_parity(answers, expected, limits, f"{path} at batch size {size}")
            checks[f"batch_{size}"] = parity.to_dict()
            log.info("batch size %d: %s", size, checks[f"batch_{size}"])
        golden = golden_rows(model, {name: rows[:GOLDEN_ROWS] for name, rows in inputs.items()}, source.pictures)
    except (ValidationError, MemoryError) as error:
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            raise ValidationError(
                f"{manifest.name} {manifest.version} is refused: it needs more than memory_mb={memory_mb}: {error}"
            ) from error
        raise
    domains = describe(path).domains
    checks["reference"] = require_agreement(path, inputs, answers, domains=domains, limits=limits, asked=reference)
    log.info("onnx.reference: %s", checks["reference"])
    golden.save(Path(spec["golden"]))
    return {"rows": source.rows, **checks}


def _opened(path: Path) -> Any:
    try:
        return open_session(path)
    except BadInputError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common public class
        raise ValidationError(f"ONNX Runtime cannot load {path}: {error}") from error


def _require_as_recorded(path: Path, manifest: ModelManifest) -> None:
    """The graph has the last word on its inputs and outputs, and each file that it names must have its digest."""
    beside = {file.relative_to(path.parent).as_posix() for file in external_files(path)}
    if unknown := sorted(beside - set(manifest.files)):
        raise ValidationError(
            f"{manifest.name} {manifest.version}: its weights in {', '.join(unknown)} are not among the files whose "
            "digests the manifest has, so nobody would notice a change. Make the version anew"
        )
    facts = describe(path)
    for what, said, found in (
        ("inputs", manifest.inputs, facts.inputs),
        ("outputs", manifest.outputs, facts.outputs),
    ):
        if said != found:
            raise ValidationError(
                f"{manifest.name} {manifest.version}: its manifest says that the {what} are "
                f"{[spec.to_dict() for spec in said]}, the graph {[spec.to_dict() for spec in found]}. "
                "Delete the version and make it anew"
            )


def _refused(
    error: StageError, manifest: ModelManifest, timeout: float, memory_mb: int
) -> StageError | ValidationError:
    """What the end of the model's process says about the model.

    A kill from outside says nothing about it: the machine's memory ran out, or the task was ended. That may be tried
    again.
    """
    model = f"{manifest.name} {manifest.version}"
    if isinstance(error, StageTimeoutError):
        return ValidationError(
            f"{model} is refused: it did not load and run within stage_timeout={timeout:g} s and was killed. A graph "
            "may loop for ever; if this one is only slow, raise stage_timeout or give a smaller batch"
        )
    if isinstance(error, StageSignalError) and error.name in _CRASHES:
        return ValidationError(
            f"{model} is refused: it ended the process that ran it by {error.name} (memory_mb={memory_mb}, "
            f"stage_timeout={timeout:g} s). No worker of a cluster would survive it; the task's log has its last lines"
        )
    return StageError(f"{model} was not validated (memory_mb={memory_mb}, stage_timeout={timeout:g} s): {error}")
