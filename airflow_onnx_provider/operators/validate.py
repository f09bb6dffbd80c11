# SPDX-License-Identifier: Apache-2.0
"""Operator: prove a model version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.mlflow import mlflow_environment
from airflow_onnx_provider.hooks.model_store import open_version
from airflow_onnx_provider.operators.model import ModelReference, StageMixin, address_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxValidateOperator(StageMixin, BaseOperator):
    """Prove a model version before anything is computed with it.

    First every gate: structure, types and shapes, versions, operators that ONNX Runtime brings itself, external data,
    memory, loops. Then, in a child process with a memory limit and a time limit, load and run with real rows: the
    outputs are what they are declared to be, and at batch sizes 1, 2 and N they agree with the source framework and
    with ONNX's own reference implementation. A pass writes the golden rows, which every worker scores before it
    starts. Any kind of model: pictures, token ids, columns of numbers and texts, several inputs and outputs.

    Returns ``model``, ``name``, ``version``, ``digest``, ``checks`` (rows, and per batch size and for the reference:
    largest absolute and relative difference and label agreement), ``from_store``.

    Fails without retry if a gate refuses the model, if the model needs more than its time or memory, or if the model,
    its source or the inputs are missing.

    :param model: address, or a model task's output. (templated)
    :param inputs: real inputs. For models that take pictures: a folder of them, Parquet with a column ``image``, or
        ``.npy`` with ``uint8 [rows, height, width, 3]``; for others: ``.npz`` with an array an input, or Parquet with
        a column an input. (templated)
    :param batch: N, the largest batch size tried and the number of inputs used
    :param max_difference: largest accepted absolute difference of a number
    :param max_relative_difference: largest accepted difference relative to the source's number; default: no limit
    :param min_label_agreement: least share of inputs that get the source's label (0 to 1)
    :param reference_rows: rows that ONNX's reference implementation answers as well; 0 leaves it out
    :param reference_timeout: seconds that it may take; a slower model is validated without it, and the checks say so
    :param memory_mb: memory of the child process that runs the model, in MiB
    :param stage_timeout: seconds until a child process is killed; a model may loop for ever
    :param mlflow_conn_id: connection of the type ``http`` to the MLflow server that the source came from; default:
        ``MLFLOW_TRACKING_URI``. (templated)
    :param python: interpreter that has the source framework; default: this one. (templated)
    """

    template_fields: Sequence[str] = ("model", "inputs", "mlflow_conn_id", "python")

    def __init__(
        self,
        *,
        model: ModelReference,
        inputs: str,
        batch: int = 32,
        max_difference: float = 1e-4,
        max_relative_difference: float | None = None,
        min_label_agreement: float = 1.0,
        reference_rows: int = 2,
        reference_timeout: float = 60.0,
        memory_mb: int = 8192,
        stage_timeout: float = 900.0,
        mlflow_conn_id: str | None = None,
        python: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.inputs = inputs
        self.batch = batch
        self.max_difference = max_difference
        self.max_relative_difference = max_relative_difference
        self.min_label_agreement = min_label_agreement
        self.reference_rows = reference_rows
        self.reference_timeout = reference_timeout
        self.memory_mb = memory_mb
        self.stage_timeout = stage_timeout
        self.mlflow_conn_id = mlflow_conn_id
        self.python = python

    def execute(self, context: Context) -> dict[str, Any]:
        """Validate, or answer from the store."""
        from airflow_onnx_provider.model.evidence.parity import ParityLimits
        from airflow_onnx_provider.model.gates.reference import Reference
        from airflow_onnx_provider.model.validate import validate

        with no_retry_for_bad_input(), mlflow_environment(self.mlflow_conn_id or None):
            store, address = open_version(address_of(self.model))
            result = validate(
                address,
                inputs=Path(self.inputs),
                store=store,
                stage=self._stage,
                limits=ParityLimits(
                    inputs=self.batch,
                    max_difference=self.max_difference,
                    max_relative_difference=self.max_relative_difference,
                    min_label_agreement=self.min_label_agreement,
                ),
                reference=Reference(self.reference_rows, self.reference_timeout),
                memory_mb=self.memory_mb,
            )
        self.log.info("%s %s is valid: %s", result["name"], result["version"], result["checks"])
        return result
