# SPDX-License-Identifier: Apache-2.0
"""Convert a trained model to ONNX, and believe only what the graph itself shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, ConversionError, ValidationError
from airflow_onnx_provider.model.graph import DEFAULT_OPSET, describe, require_sound
from airflow_onnx_provider.model.rewriting.dynamic import require_runs, settle_axes, settle_shapes
from airflow_onnx_provider.model.rewriting.weights import settle_opset, settle_weights
from airflow_onnx_provider.model.scratch import scratch_folder
from airflow_onnx_provider.model.source import FRAMEWORKS, SourceModel
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.version import manifest_of
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest, size_of
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing, preprocessing_from_dict


def convert(
    source: SourceModel,
    *,
    name: str,
    store: ModelStore,
    stage: Stage,
    labels: tuple[str, ...] = (),
    opset: int | None = None,
    embeddings: tuple[str, ...] = (),
    memory_mb: int | None = None,
) -> dict[str, Any]:
    """Convert ``source`` into a model version, or answer from the store when nothing that decides it has changed.

    :param labels: class names in output order; empty: those that the source names, as scikit-learn's classifiers do
    :param stage: runs the framework's part in a child process
    :param opset: ONNX operator set; default 18, and for an ONNX file the one that it has
    :param embeddings: inner tensors of the graph that become outputs after its own
    :param memory_mb: limit of the child's memory in MiB; default: none
    :return: ``model`` (address), ``name``, ``version``, ``digest``, ``size_bytes``, ``opset``, ``from_store``
    :raises BadInputError: for a source that is missing or cannot be opened
    :raises ConversionError: if the graph is not what was asked for
    """
    if source.framework not in FRAMEWORKS and not (source.is_registered and not source.framework):
        raise BadInputError(f"framework {source.framework!r} is not supported; there is: {', '.join(FRAMEWORKS)}")
    if opset is None and source.framework != "onnx":
        opset = DEFAULT_OPSET
    with source.fetched() as local:
        sha256 = local.sha256
        decides = {key: value for key, value in local.to_dict().items() if key not in ("location", "registered")}
        recipe = {
            "stage": "convert",
            "source": sha256,
            **decides,
            "order": list(local.inputs),  # of a network's arguments; the digest over a recipe sorts its keys
            "labels": list(labels),
            "opset": opset,
            "embeddings": list(embeddings),
        }
        if remembered := store.recall(name, recipe):
            return {**remembered, "from_store": True}
        with scratch_folder("onnx-convert-") as folder:
            settings = {
                "source": local.to_dict(),
                "folder": str(folder),
                "opset": opset,
                "embeddings": list(embeddings),
            }
            made = stage.run("convert", settings, memory_mb=memory_mb)
            named = labels or tuple(made.get("labels", ()))
            manifest = _manifest(folder, made=made, source=local, sha256=sha256, name=name, labels=named)
            address = store.add(folder, manifest)
            if store.manifest(address).origin != manifest.origin:
                # The same network from another file, such as one that was saved again: later checks look at this one.
                store.record(address, lambda kept: _with_origin(kept, manifest))
            result = {
                "model": address,
                "name": name,
                "version": manifest.version,
                "digest": manifest.digest,
                "size_bytes": size_of(folder, manifest),
                "opset": manifest.opset,
                "from_store": False,
            }
    store.remember(name, recipe, result)
    return result


def _with_origin(kept: ModelManifest, made: ModelManifest) -> ModelManifest:
    return kept if "parent" in kept.origin else replace(kept, origin=made.origin)


def convert_in_child(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The framework's part: write ``folder/model.onnx`` and prove that it is ONNX through and through."""
    source = SourceModel.from_dict(spec["source"])
    path = Path(spec["folder"]) / MODEL_NAME
    made: dict[str, Any] = source.module().to_onnx(source, path, spec["opset"])
    try:
        # Sound first: what a converter could not express must be told by name, not by what breaks on it.
        require_sound(path)
        settle_axes(path, source.inputs)
        if spec["embeddings"]:
            from airflow_onnx_provider.model.rewriting.expose import expose

            expose(path, spec["embeddings"])
        if spec["opset"] is not None:
            settle_opset(path, spec["opset"])
        settle_weights(path)
        facts = describe(path)
        settle_shapes(path, require_runs(path, facts.inputs, facts.outputs))
        require_sound(path)
    except (ValidationError, ConversionError) as error:
        raise ConversionError(f"{source.location} cannot be converted: {error}") from error
    return made


def _manifest(
    folder: Path,
    *,
    made: Mapping[str, Any],
    source: SourceModel,
    sha256: str,
    name: str,
    labels: tuple[str, ...],
) -> ModelManifest:
    preprocessing = preprocessing_from_dict(made["preprocessing"]) if made["preprocessing"] else None
    origin = {
        **source.to_origin(),
        # As agreed with the model: whoever opens the source again must not have to decide again.
        "preprocessing": made["preprocessing"] or {"kind": "columns"},
        "sha256": sha256,
        "framework_version": made["framework_version"],
        "converter": made["converter"],
        "converter_version": made["converter_version"],
    }
    manifest = manifest_of(folder, name=name, preprocessing=preprocessing, labels=labels, origin=origin)
    manifest = replace(manifest, recipe={"stage": "convert", "opset": manifest.opset})
    if isinstance(preprocessing, ImagePreprocessing):
        _require_picture(source, manifest, preprocessing)
    scores = next((spec for spec in manifest.outputs if spec.type == "float" and len(spec.shape) == 2), None)
    if labels and scores and isinstance(scores.shape[1], int) and scores.shape[1] != len(labels):
        raise BadInputError(
            f"{source.location}: the model has {scores.shape[1]} classes, but {len(labels)} labels were given"
        )
    return manifest


def _require_picture(source: SourceModel, manifest: ModelManifest, preprocessing: ImagePreprocessing) -> None:
    if [(spec.type, spec.shape[1:]) for spec in manifest.inputs] != [("uint8", preprocessing.shape)]:
        raise ConversionError(
            f"{source.location}: the graph should take one uint8 picture {list(preprocessing.shape)}, but takes "
            f"{[f'{spec.name}: {spec.type} {list(spec.shape)}' for spec in manifest.inputs]}"
        )
