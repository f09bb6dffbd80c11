"""Convert a trained model to ONNX, and believe only what the graph itself shows."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, ConversionError, ValidationError
from airflow_onnx_provider.model.expose import expose
from airflow_onnx_provider.model.graph import describe, require_sound
from airflow_onnx_provider.model.source import FRAMEWORKS, SourceModel
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store import ModelStore
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest, sha256_of_file
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing


def convert(
    source: SourceModel,
    *,
    name: str,
    labels: tuple[str, ...],
    opset: int,
    store: ModelStore,
    stage: Stage,
    embeddings: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Convert ``source`` into a model version, or answer from the store when nothing that decides it has changed.

    :param labels: class names in output order, or empty
    :param stage: runs the framework's part in a child process
    :param embeddings: inner tensors of the graph that become outputs after its own
    :return: ``model`` (address), ``name``, ``version``, ``digest``, ``size_bytes``, ``from_store``
    :raises BadInputError: for a source that is missing or cannot be opened
    :raises ConversionError: if the graph is not what was asked for
    """
    if source.framework not in FRAMEWORKS:
        raise BadInputError(f"framework {source.framework!r} is not supported; there is: {', '.join(FRAMEWORKS)}")
    sha256 = source.sha256
    recipe = {
        "stage": "convert",
        "source": sha256,
        "framework": source.framework,
        "preprocessing": dict(source.preprocessing),
        "labels": list(labels),
        "opset": opset,
        **({"embeddings": list(embeddings)} if embeddings else {}),
    }
    if remembered := store.recall(name, recipe):
        return {**remembered, "from_store": True}
    with tempfile.TemporaryDirectory(prefix="onnx-convert-") as temporary:
        folder = Path(temporary)
        made = stage.run(
            "convert",
            {
                "source": str(source.path),
                "framework": source.framework,
                "preprocessing": dict(source.preprocessing),
                "trusted": source.trusted,
                "folder": str(folder),
                "opset": opset,
                "embeddings": list(embeddings),
            },
        )
        manifest = _manifest(folder, made=made, source=source, sha256=sha256, name=name, labels=labels)
        address = store.add(folder, manifest)
        kept = store.manifest(address)
        if kept.origin != manifest.origin and "parent" not in kept.origin:
            # The same network from another file, such as one that was saved again: later checks look at this one.
            store.record(address, replace(kept, origin=manifest.origin))
        result = {
            "model": address,
            "name": name,
            "version": manifest.version,
            "digest": manifest.digest,
            "size_bytes": (folder / MODEL_NAME).stat().st_size,
            "from_store": False,
        }
    store.remember(name, recipe, result)
    return result


def convert_in_child(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The framework's part: write ``folder/model.onnx`` and prove that it is ONNX through and through."""
    source = SourceModel(Path(spec["source"]), spec["framework"], spec["preprocessing"], spec["trusted"])
    path = Path(spec["folder"]) / MODEL_NAME
    made: dict[str, Any] = source.module().to_onnx(source, path, spec["opset"])
    if spec["embeddings"]:
        expose(path, spec["embeddings"])
    try:
        require_sound(path)
    except ValidationError as error:
        raise ConversionError(f"{source.path} cannot be converted: {error}") from error
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
    facts = describe(folder / MODEL_NAME)
    preprocessing = ImagePreprocessing.from_dict(made["preprocessing"])
    if [(spec.type, spec.shape[1:]) for spec in facts.inputs] != [("uint8", preprocessing.shape)]:
        # A Keras Normalization layer, for one, leaks its captured constants as further inputs.
        raise ConversionError(
            f"{source.path}: the graph should take one uint8 picture, but takes "
            f"{[f'{spec.name}: {spec.type} {list(spec.shape)}' for spec in facts.inputs]}. Replace layers that keep "
            "their constants outside the weights (Normalization: use Rescaling, or preprocessing mean and std)."
        )
    classes = facts.outputs[0].shape[-1]
    if labels and isinstance(classes, int) and classes != len(labels):
        raise BadInputError(f"{source.path}: the model has {classes} classes, but {len(labels)} labels were given")
    return ModelManifest(
        name=name,
        files={MODEL_NAME: sha256_of_file(folder / MODEL_NAME)},
        inputs=facts.inputs,
        outputs=facts.outputs,
        opset=facts.opset,
        domains=facts.domains,
        preprocessing=preprocessing,
        labels=labels,
        origin={
            "source": str(source.path.resolve()),
            "sha256": sha256,
            "framework": source.framework,
            "framework_version": made["framework_version"],
            "converter": made["converter"],
            "converter_version": made["converter_version"],
            "trusted": source.trusted,
        },
    )
