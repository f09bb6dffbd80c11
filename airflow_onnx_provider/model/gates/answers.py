# SPDX-License-Identifier: Apache-2.0
"""Gate: an opened model that gives, for real rows, the answers that it says it gives.

The only gate that runs the model, so it belongs into a process with a memory limit and a time limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.evidence.parity import Tensors
from airflow_onnx_provider.model.evidence.trial import answers_of
from airflow_onnx_provider.runtime.manifest import ModelManifest, TensorSpec
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing, TokenPreprocessing
from airflow_onnx_provider.runtime.session import LoadedModel
from airflow_onnx_provider.runtime.tensors import NUMPY_TYPES


def require_rows(manifest: ModelManifest) -> None:
    """Refuse, before anything runs, a model that cannot be fed rows or does not answer by row.

    Any number of inputs and outputs, of numbers or texts, is fine; each must begin with an open batch axis.

    :raises BadInputError: naming the tensor, what was expected and the way out
    """
    for what, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        for spec in specs:
            found = f"model {manifest.name}: the {what} {spec.name} is {spec.type} {list(spec.shape)}"
            if spec.type in ("sequence", "map", "optional", "sparse_tensor"):
                raise BadInputError(f"{found}, no tensor; convert scikit-learn models with zipmap off")
            if spec.type not in NUMPY_TYPES:
                raise BadInputError(f"{found}, which no column can hold; cast it to float inside the graph")
            if not spec.shape:
                raise BadInputError(f"{found}: without a batch axis; declare its shape, with the batch first")
            if isinstance(spec.shape[0], int):
                raise BadInputError(
                    f"{found}: the batch is fixed at {spec.shape[0]}; convert it with an open batch (a name as first "
                    "axis), or open it with OnnxOptimizeOperator"
                )
    _require_preprocessing(manifest)
    scores = next((one for one in manifest.outputs if one.type.startswith("float") and len(one.shape) == 2), None)
    classes = scores.shape[1] if scores and manifest.labels else None
    if isinstance(classes, int) and classes > 1 and classes != len(manifest.labels):
        raise BadInputError(f"model {manifest.name}: {classes} classes, but {len(manifest.labels)} labels")


def require_declared(model: LoadedModel, inputs: Tensors) -> None:
    """Run the first rows, and compare what comes out with what the model declares.

    :param inputs: the graph's inputs, ``[rows, …]`` each
    :raises ValidationError: naming the output and both shapes
    """
    for rows in (1, 2):
        given = {name: values[:rows] for name, values in inputs.items()}
        try:
            answers = model.answer(given, [spec.name for spec in model.manifest.outputs])
        except Exception as error:  # ONNX Runtime's exceptions have no common public class
            raise ValidationError(f"{model.manifest.name} does not run at batch size {rows}: {error}") from error
        actual = len(next(iter(given.values())))
        for spec, answer in zip(model.manifest.outputs, answers, strict=True):
            if reason := _difference(spec, np.asarray(answer), actual):
                raise ValidationError(
                    f"{model.manifest.name}: the output {spec.name} is declared as {spec.type} {list(spec.shape)}, but "
                    f"for {actual} rows {reason}"
                )


def require_finite(answers: Tensors, expected: Tensors, what: str) -> None:
    """No NaN, and no infinity where the source has none.

    :param what: whose answers these are, as the error calls it
    :raises ValidationError: naming the output, the row and the value
    """
    for name, values in answers.items():
        if values.dtype.kind != "f":
            continue
        wrong = ~np.isfinite(values)
        if name in expected and expected[name].shape == values.shape:
            wrong &= ~(np.isinf(values) & (values == expected[name]))
        if wrong.any():
            row = int(np.argwhere(wrong)[0][0])
            raise ValidationError(
                f"{what}: {int(wrong.sum())} of {wrong.size} values of the output {name} are {values[wrong][0]}, the "
                f"first in row {row}. Look for a weight that is NaN, a division by zero, or numbers too large for the "
                "type"
            )


def answers_at(model: LoadedModel, inputs: Tensors, expected: Tensors, size: int) -> Mapping[str, NDArray[Any]]:
    """All answers, ``size`` rows at a time, every one a number.

    :raises ValidationError: if the model does not run at this size, or gives NaN
    """
    answers = answers_of(model, inputs, size)
    require_finite(answers, expected, f"{model.manifest.name} at batch size {size}")
    return answers


def _require_preprocessing(manifest: ModelManifest) -> None:
    names = [spec.name for spec in manifest.inputs]
    found = ", ".join(f"{spec.name}: {spec.type} {list(spec.shape)}" for spec in manifest.inputs)
    match manifest.preprocessing:
        case ImagePreprocessing() as pictures:
            if [(spec.type, spec.shape[1:]) for spec in manifest.inputs] != [("uint8", pictures.shape)]:
                raise BadInputError(
                    f"model {manifest.name}: its preprocessing makes one input uint8 "
                    f"{['batch', *pictures.shape]}, found {found}"
                )
        case TokenPreprocessing() as tokens:
            wanted = {tokens.input_ids, *filter(None, [tokens.attention_mask])}
            if not wanted <= set(names):
                raise BadInputError(
                    f"model {manifest.name}: its preprocessing makes the inputs {sorted(wanted)}, found {found}"
                )


def _difference(spec: TensorSpec, answer: NDArray[Any], rows: int) -> str | None:
    dtype = NUMPY_TYPES[spec.type]
    if answer.dtype != dtype and not (dtype.kind == "O" and answer.dtype.kind in "OUS"):
        return f"it gives {answer.dtype}"
    fits = len(answer.shape) == len(spec.shape) and all(
        isinstance(said, str) or said == found for said, found in zip(spec.shape, answer.shape, strict=True)
    )
    if not fits or answer.shape[0] != rows:
        return f"it gives the shape {list(answer.shape)}"
    return None
