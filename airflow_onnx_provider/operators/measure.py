# SPDX-License-Identifier: Apache-2.0
"""Operator: measure a model version on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import open_version
from airflow_onnx_provider.operators.model import ModelReference, StageMixin, address_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxMeasureOperator(StageMixin, BaseOperator):
    """Measure threads × batch sizes × decoders × arena, and keep the speeds in the manifest per type of CPU.

    The planner of a later inference on the same type of CPU takes batch size and estimate from there. To measure
    on the executors, call ``airflow_onnx_provider.spark.measure.measure`` in a Spark application.

    Returns ``model``, ``name``, ``version``, ``digest``, ``cpu``, and ``best``: the combination that is fastest a core.

    Fails without retry if the model or the pictures are missing, or the model was never validated.

    :param model: address, or a model task's output. (templated)
    :param pictures: folder with some of the catalogue's pictures, for models that take pictures. (templated)
    :param space: what to try: ``threads``, ``batch_sizes``, ``decoders``, ``arenas`` (lists), ``seconds`` for each
        combination. (templated)
    :param stage_timeout: seconds until the child process is killed
    :param python: interpreter that has onnxruntime; default: this one. (templated)
    """

    template_fields: Sequence[str] = ("model", "pictures", "space", "python")

    def __init__(
        self,
        *,
        model: ModelReference,
        pictures: str | None = None,
        space: Mapping[str, Any] | None = None,
        stage_timeout: float = 900.0,
        python: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.pictures = pictures
        self.space = space
        self.stage_timeout = stage_timeout
        self.python = python

    def execute(self, context: Context) -> dict[str, Any]:
        """Sweep and record."""
        from airflow_onnx_provider.model.measure import measure
        from airflow_onnx_provider.runtime.sweep import Space

        with no_retry_for_bad_input():
            store, address = open_version(address_of(self.model))
            result = measure(
                address,
                pictures=Path(self.pictures) if self.pictures else None,
                space=Space.from_dict(self.space or {}),
                store=store,
                stage=self._stage,
            )
        self.log.info("fastest a core on %s: %s", result["cpu"], result["best"])
        return result
