# SPDX-License-Identifier: Apache-2.0
"""Operator: a model in stages that each need less memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import open_version
from airflow_onnx_provider.operators.model import ModelReference, StageMixin, address_of, number

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxSplitOperator(StageMixin, BaseOperator):
    """Cut a model into stages, each a model version ``<name>.stage-<number>-of-<count>``, with the same answers.

    Returns ``model``, ``name``, ``version``, ``digest`` of the whole, ``accepted`` (false if the whole keeps the budget
    already), ``reason``, ``parity``, ``stages`` (in order; each with ``model``, ``name``, ``version``, ``digest`` and
    its row of the cost table: weights, activations and memory in MiB, MACs and transferred bytes a row, ``takes``,
    ``gives``), ``from_store``.

    Fails without retry if the model or the inputs are missing, the model is quantised, the budget cannot be kept (the
    error names the smallest possible one), or the stages give other answers.

    :param model: address, or a model task's output. (templated)
    :param inputs: real inputs: a folder of pictures, Parquet, ``.npy`` or ``.npz``. (templated)
    :param stages: how many; default: as few as the budget allows. (templated)
    :param budget_mib: most memory of a stage, weights and activations, in MiB. (templated)
    :param batch: rows of one run of the chain
    :param rows: inputs to compare the chain and the whole on
    :param max_difference: largest accepted absolute difference of an answer. (templated)
    :param stage_timeout: seconds until the child process is killed
    :param python: interpreter for the child process; default: this one. (templated)
    """

    template_fields: Sequence[str] = ("model", "inputs", "stages", "budget_mib", "max_difference", "python")

    def __init__(
        self,
        *,
        model: ModelReference,
        inputs: str,
        stages: int | str | None = None,
        budget_mib: float | str | None = None,
        batch: int = 1,
        rows: int = 32,
        max_difference: float | str = 1e-5,
        stage_timeout: float = 3600.0,
        python: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.inputs = inputs
        self.stages = stages
        self.budget_mib = budget_mib
        self.batch = batch
        self.rows = rows
        self.max_difference = max_difference
        self.stage_timeout = stage_timeout
        self.python = python

    def execute(self, context: Context) -> dict[str, Any]:
        """Split, or answer from the store."""
        from airflow_onnx_provider.model.split import SplitLimits, split

        with no_retry_for_bad_input():
            limits = SplitLimits(
                stages=None if self.stages in {None, ""} else int(number(self.stages or 0, "stages")),
                budget_mib=None if self.budget_mib in {None, ""} else number(self.budget_mib or 0, "budget_mib"),
                batch=self.batch,
                rows=self.rows,
                max_difference=number(self.max_difference, "max_difference"),
            )
            store, address = open_version(address_of(self.model))
            result = split(address, inputs=Path(self.inputs), limits=limits, store=store, stage=self._stage)
        self.log.info("%s", result["reason"])
        return result
