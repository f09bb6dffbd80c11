# SPDX-License-Identifier: Apache-2.0
"""Make a model version of an ONNX file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.model.gates.external_data import external_files
from airflow_onnx_provider.model.graph import describe, require_sound
from airflow_onnx_provider.runtime.golden import GoldenRows
from airflow_onnx_provider.runtime.manifest import (
    MANIFEST_NAME,
    MODEL_NAME,
    Golden,
    ModelManifest,
    sha256_of_file,
    write_json,
)
from airflow_onnx_provider.runtime.preprocessing import Preprocessing
from airflow_onnx_provider.runtime.session import LoadedModel, open_session

GOLDEN_ROWS = 8


def write_version(
    onnx: Path,
    folder: Path,
    *,
    name: str,
    golden: Mapping[str, NDArray[Any]],
    preprocessing: Preprocessing | None = None,
    labels: tuple[str, ...] = (),
    tolerance: float = 1e-4,
    pictures: Sequence[bytes] = (),
) -> ModelManifest:
    """Put an ONNX file that you trust, its manifest and its golden rows into ``folder``.

    :param golden: model input to a few real rows ``[rows, …]``; the model's answers to them, here and now, are what
        every later load must give again
    :param preprocessing: how pictures or tokens become the inputs; None for plain columns
    :param labels: class names in output order
    :param tolerance: largest accepted absolute difference of any output value
    :param pictures: the golden rows before decoding, which a decoder other than ``full`` must prove itself on
    :raises ValidationError: if the file is no sound ONNX model
    """
    require_sound(onnx)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(onnx, folder / MODEL_NAME)
    for weights in external_files(onnx):  # under the names that the model calls them by
        copy = folder / weights.relative_to(onnx.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, copy)
    manifest = manifest_of(folder, name=name, preprocessing=preprocessing, labels=labels)
    return keep_golden(folder, manifest, golden, tolerance, pictures)


def manifest_of(
    folder: Path,
    *,
    name: str,
    preprocessing: Preprocessing | None = None,
    labels: tuple[str, ...] = (),
    origin: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    checks: Mapping[str, Any] | None = None,
    speed: Sequence[Mapping[str, Any]] = (),
) -> ModelManifest:
    """What ``folder/model.onnx`` and its external data say of themselves, with what is known of them.

    There are no golden rows yet.

    :raises BadInputError: if there is no ONNX model
    """
    facts = describe(folder / MODEL_NAME)
    files = (folder / MODEL_NAME, *external_files(folder / MODEL_NAME))
    return ModelManifest(
        name=name,
        files={path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files},
        inputs=facts.inputs,
        outputs=facts.outputs,
        opset=facts.opset,
        domains=facts.domains,
        preprocessing=preprocessing,
        labels=labels,
        origin=origin or {},
        recipe=recipe or {},
        checks=checks or {},
        speed=tuple(speed),
    )


def derived(
    folder: Path,
    parent: ModelManifest,
    *,
    recipe: Mapping[str, Any],
    checks: Mapping[str, Any] | None = None,
    speed: Sequence[Mapping[str, Any]] = (),
) -> ModelManifest:
    """The manifest of a version that was made from ``parent``, whose name, preprocessing and labels it keeps."""
    return manifest_of(
        folder,
        name=parent.name,
        preprocessing=parent.preprocessing,
        labels=parent.labels,
        origin={**parent.origin, "parent": parent.version},
        recipe=recipe,
        checks=checks,
        speed=speed,
    )


def keep_golden(
    folder: Path,
    manifest: ModelManifest,
    inputs: Mapping[str, NDArray[Any]],
    tolerance: float,
    pictures: Sequence[bytes] = (),
) -> ModelManifest:
    """Score golden rows with ``folder/model.onnx``, and put them and the manifest that names them into ``folder``."""
    model = LoadedModel(manifest, open_session(folder / MODEL_NAME))
    rows = folder / "golden.npz"
    golden_rows(model, inputs, pictures).save(rows)
    proved = replace(manifest, golden=Golden.keep(rows, folder, tolerance))
    write_json(folder / MANIFEST_NAME, proved.to_dict())
    return proved


def golden_rows(model: LoadedModel, inputs: Mapping[str, NDArray[Any]], pictures: Sequence[bytes] = ()) -> GoldenRows:
    """The model's answers to these rows, each scored alone."""
    outputs = [spec.name for spec in model.manifest.outputs]
    rows = len(next(iter(inputs.values())))
    answers = [
        model.answer({name: values[row : row + 1] for name, values in inputs.items()}, outputs) for row in range(rows)
    ]
    columns = zip(*answers, strict=True)
    return GoldenRows(inputs, dict(zip(outputs, map(np.concatenate, columns), strict=True)), tuple(pictures))
