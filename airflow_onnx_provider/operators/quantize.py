# SPDX-License-Identifier: Apache-2.0
"""Operator: a smaller and faster model, if it is both accurate and fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import open_version
from airflow_onnx_provider.operators.model import ModelReference, StageMixin, address_of, number, optional_path

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxQuantizeOperator(StageMixin, BaseOperator):
    """Quantise a model to 8 or 4 bits or float16; keep the result only if labelled rows and this CPU agree with it.

    Returns ``model`` (of the version that goes on), ``name``, ``version``, ``digest``, ``size_bytes``, ``accepted``,
    ``variant``, ``reason`` (in words, with the numbers), ``measurements`` (per variant: accuracy, speedup, rows a
    second of inference on one thread as ``images_per_second``, bytes), ``from_store``. A rejected variant is no
    failure: the original goes on.

    Fails without retry if the model, the calibration or the labelled set is missing or empty, the model is quantised
    already, or the CPU here is not the one that ``cpu`` names.

    :param model: address, or a model task's output. (templated)
    :param mode: ``static`` (8 bits, suits convolutions), ``dynamic`` (8 bits, suits matrix products), ``float16``,
        ``int4`` (matrix products), ``auto`` (the fastest acceptable one) or ``none``. (templated)
    :param calibration: real inputs for the value ranges, labels not needed: a folder of pictures, a folder or file of
        Parquet, ``.npy`` or ``.npz``; for ``static`` and ``auto``. (templated)
    :param labelled: inputs with labels: a folder of pictures with ``labels.csv`` (header ``file,label``), or Parquet
        or ``.npz`` with a column or array ``label``. (templated)
    :param max_accuracy_drop: accepted loss, as a fraction: 0.01 is one point. (templated)
    :param min_speedup: least speed relative to the original, measured on this CPU. (templated)
    :param calibration_rows: rows drawn for calibration, over all of the data
    :param calibrations: ways to take value ranges (``minmax``, ``percentile``, ``entropy``), tried in this order until
        one keeps the accuracy; if none does, the nodes that lose most stay in float. (templated)
    :param block_size: weights that share one scale in ``int4``: 16, 32, 64, 128 or 256
    :param budget_seconds: no further variant is begun after this time. (templated)
    :param cpu: type of the CPU that will run the model, as measurements name it, for example ``AMD EPYC``; another
        one here is an error; default: this one's. (templated)
    :param stage_timeout: seconds until the child process is killed
    :param python: interpreter for the child process; default: this one. (templated)
    """

    template_fields: Sequence[str] = (
        "model",
        "mode",
        "calibration",
        "labelled",
        "max_accuracy_drop",
        "min_speedup",
        "calibrations",
        "budget_seconds",
        "cpu",
        "python",
    )

    def __init__(
        self,
        *,
        model: ModelReference,
        mode: str = "auto",
        calibration: str | None = None,
        labelled: str | None = None,
        max_accuracy_drop: float | str = 0.01,
        min_speedup: float | str = 1.0,
        calibration_rows: int = 128,
        calibrations: Sequence[str] = ("minmax", "percentile", "entropy"),
        block_size: int = 32,
        budget_seconds: float | str = 300.0,
        cpu: str | None = None,
        stage_timeout: float = 3600.0,
        python: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.mode = mode
        self.calibration = calibration
        self.labelled = labelled
        self.max_accuracy_drop = max_accuracy_drop
        self.min_speedup = min_speedup
        self.calibration_rows = calibration_rows
        self.calibrations = calibrations
        self.block_size = block_size
        self.budget_seconds = budget_seconds
        self.cpu = cpu
        self.stage_timeout = stage_timeout
        self.python = python

    def execute(self, context: Context) -> dict[str, Any]:
        """Quantise, or answer from the store."""
        from airflow_onnx_provider.model.quantization.limits import QuantizeLimits
        from airflow_onnx_provider.model.quantize import quantize

        with no_retry_for_bad_input():
            limits = QuantizeLimits(
                mode=self.mode,  # type: ignore[arg-type]  # checked by QuantizeLimits
                max_accuracy_drop=number(self.max_accuracy_drop, "max_accuracy_drop"),
                min_speedup=number(self.min_speedup, "min_speedup"),
                calibration_rows=self.calibration_rows,
                calibrations=tuple(self.calibrations),  # type: ignore[arg-type]  # checked by QuantizeLimits
                budget_seconds=number(self.budget_seconds, "budget_seconds"),
                block_size=self.block_size,
            )
            store, address = open_version(address_of(self.model))
            calibration, labelled = optional_path(self.calibration), optional_path(self.labelled)
            result = quantize(
                address,
                calibration=calibration,
                labelled=labelled,
                limits=limits,
                store=store,
                stage=self._stage,
                cpu=self.cpu or None,
            )
        self.log.info("%s", result["reason"])
        return result
