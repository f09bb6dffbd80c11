# SPDX-License-Identifier: Apache-2.0
"""A model on its way through the steps of an optimisation, and the rows that prove each step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.evidence.parity import Tensors
from airflow_onnx_provider.model.evidence.trial import answers_of
from airflow_onnx_provider.model.version import manifest_of
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.session import LoadedModel, open_session


@dataclass(frozen=True)
class Form:
    """A model on its way through the steps.

    :param folder: holds its ``model.onnx``
    :param manifest: what the graph says of itself, with what it keeps of the original's manifest
    """

    folder: Path
    manifest: ModelManifest

    @property
    def path(self) -> Path:
        return self.folder / MODEL_NAME

    def open(self) -> LoadedModel:
        """:raises ValidationError: if ONNX Runtime cannot load it"""
        try:
            return LoadedModel(self.manifest, open_session(self.path))
        except BadInputError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no common public class
            raise ValidationError(f"ONNX Runtime cannot load it: {error}") from error

    def made(self, folder: Path, **changed: Any) -> Form:
        """The next form, from the file that a step wrote to ``folder``."""
        kept: dict[str, Any] = {
            "name": self.manifest.name,
            "preprocessing": self.manifest.preprocessing,
            "labels": self.manifest.labels,
        }
        return Form(folder, manifest_of(folder, **{**kept, **changed}))


@dataclass(frozen=True)
class Proof:
    """Real rows, and what a form must answer to them.

    :param inputs: the form's inputs
    :param answers: what the original answered, as far as it has these outputs
    :param pictures: the rows before decoding; may be empty
    :param note: what the comparison means, where that is not plain
    """

    inputs: Tensors
    answers: Tensors
    pictures: tuple[bytes, ...] = ()
    note: str = ""

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


def answers_in_batches(form: Form, inputs: Tensors, size: int | None = None) -> dict[str, NDArray[Any]]:
    """A form's answers to all rows; one whose batch is fixed gets the rows again until its last batch is full.

    :param size: rows of a run; default: all, or the fixed batch
    :raises ValidationError: if ONNX Runtime cannot load or run it
    """
    wanted = {spec.name: inputs[spec.name] for spec in form.manifest.inputs}
    rows = len(next(iter(wanted.values())))
    if fixed := fixed_batch(form.manifest):
        full = -(-rows // fixed) * fixed
        wanted = {name: np.resize(values, (full, *values.shape[1:])) for name, values in wanted.items()}
    answers = answers_of(form.open(), wanted, fixed or size or rows)
    return {name: values[:rows] for name, values in answers.items()}


def fixed_batch(manifest: ModelManifest) -> int | None:
    """The rows that the model takes at a time, if it takes no other number."""
    shape = manifest.inputs[0].shape
    return shape[0] if shape and isinstance(shape[0], int) else None
