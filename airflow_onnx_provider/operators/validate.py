"""Operator: prove a model version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import store_of
from airflow_onnx_provider.operators.model import ModelReference, StageMixin, address_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxValidateOperator(StageMixin, BaseOperator):
    """Prove a model version before anything is computed with it.

    ONNX checker by path with types and shapes, only operators that ONNX Runtime brings itself, load and run in a child
    process with limits, and the same scores as the source framework at batch sizes 1, 2 and N. A pass writes the
    golden rows, which every worker scores before it starts.

    Returns ``model``, ``name``, ``version``, ``digest``, ``checks`` (largest difference and label agreement per batch
    size), ``from_store``.

    Fails without retry if a gate refuses the model, or the model, its source or the inputs are missing.

    :param model: address, or a model task's output. (templated)
    :param inputs: real inputs: a folder of pictures, or ``.npy`` with ``uint8 [rows, height, width, 3]``. (templated)
    :param batch: N, the largest batch size tried and the number of inputs used
    :param max_difference: largest accepted absolute difference of a score
    :param min_label_agreement: least share of inputs that get the source's label (0 to 1)
    :param memory_mb: address space of the child process that runs the model, in MiB
    :param stage_timeout: seconds until a child process is killed; a model may loop for ever
    :param python: interpreter that has the source framework; default: this one. (templated)
    """

    template_fields: Sequence[str] = ("model", "inputs", "python")

    def __init__(
        self,
        *,
        model: ModelReference,
        inputs: str,
        batch: int = 32,
        max_difference: float = 1e-4,
        min_label_agreement: float = 1.0,
        memory_mb: int = 8192,
        stage_timeout: float = 900.0,
        python: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.inputs = inputs
        self.batch = batch
        self.max_difference = max_difference
        self.min_label_agreement = min_label_agreement
        self.memory_mb = memory_mb
        self.stage_timeout = stage_timeout
        self.python = python

    def execute(self, context: Context) -> dict[str, Any]:
        """Validate, or answer from the store."""
        from airflow_onnx_provider.model.validate import ParityLimits, validate

        limits = ParityLimits(self.batch, self.max_difference, self.min_label_agreement)
        with no_retry_for_bad_input():
            address = address_of(self.model)
            result = validate(
                address,
                inputs=Path(self.inputs),
                limits=limits,
                store=store_of(address),
                stage=self._stage,
                memory_mb=self.memory_mb,
            )
        self.log.info("%s %s is valid: %s", result["name"], result["version"], result["checks"])
        return result
