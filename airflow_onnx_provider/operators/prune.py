# SPDX-License-Identifier: Apache-2.0
"""Operator: a model that compresses better, if it stays accurate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import open_version
from airflow_onnx_provider.operators.model import ModelReference, StageMixin, address_of, number, optional_path

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxPruneOperator(StageMixin, BaseOperator):
    """Set the smallest weights of all convolutions and matrix products to zero, as far as labelled rows allow.

    What it buys is a model that takes less space where it is compressed, in an archive or on its way over a network.
    The file itself keeps its size, and ONNX Runtime computes zeros as fast as other numbers; the result says so, with
    the numbers. Quantise afterwards, not before.

    Returns ``model`` (of the version that goes on), ``name``, ``version``, ``digest``, ``size_bytes``, ``accepted``,
    ``variant``, ``reason`` (in words, with the numbers), ``measurements`` (per variant: accuracy, bytes, bytes when
    compressed; speedup where one was accepted), ``from_store``. A rejected variant is no failure: the original goes on.

    Fails without retry if the model or the labelled set is missing or unusable, or the model is quantised.

    :param model: address, or a model task's output. (templated)
    :param labelled: inputs with labels: a folder of pictures with ``labels.csv`` (header ``file,label``), or Parquet
        or ``.npz`` with a column or array ``label``. (templated)
    :param sparsity: share of these weights that become zero, between 0 and 1, or ``auto``: the largest multiple of
        0.05 that keeps the accuracy. (templated)
    :param max_accuracy_drop: accepted loss, as a fraction: 0.01 is one point. (templated)
    :param stage_timeout: seconds until the child process is killed
    :param python: interpreter for the child process; default: this one. (templated)
    """

    template_fields: Sequence[str] = ("model", "labelled", "sparsity", "max_accuracy_drop", "python")

    def __init__(
        self,
        *,
        model: ModelReference,
        labelled: str,
        sparsity: float | str = "auto",
        max_accuracy_drop: float | str = 0.01,
        stage_timeout: float = 3600.0,
        python: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.labelled = labelled
        self.sparsity = sparsity
        self.max_accuracy_drop = max_accuracy_drop
        self.stage_timeout = stage_timeout
        self.python = python

    def execute(self, context: Context) -> dict[str, Any]:
        """Prune, or answer from the store."""
        from airflow_onnx_provider.model.prune import PruneLimits, prune

        with no_retry_for_bad_input():
            limits = PruneLimits(
                sparsity="auto" if self.sparsity == "auto" else number(self.sparsity, "sparsity"),
                max_accuracy_drop=number(self.max_accuracy_drop, "max_accuracy_drop"),
            )
            store, address = open_version(address_of(self.model))
            labelled = optional_path(self.labelled)
            result = prune(address, labelled=labelled, limits=limits, store=store, stage=self._stage)
        self.log.info("%s", result["reason"])
        return result
