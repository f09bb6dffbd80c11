"""Operator: a smaller and faster model, if it is both accurate and fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import store_of
from airflow_onnx_provider.operators.model import ModelReference, StageMixin, address_of, number, optional_path

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxQuantizeOperator(StageMixin, BaseOperator):
    """Quantise a model to 8 bits; keep the result only if labelled pictures and this CPU agree with it.

    Returns ``model`` (of the version that goes on), ``name``, ``version``, ``digest``, ``size_bytes``, ``accepted``,
    ``variant``, ``reason`` (in words, with the numbers), ``measurements`` (per variant: accuracy, speedup, images a
    second of inference on one thread, bytes), ``from_store``. A rejected variant is no failure: the original goes on.

    Fails without retry if the model, the calibration or the labelled set is missing or empty, or the model is
    quantised already.

    :param model: address, or a model task's output. (templated)
    :param mode: ``static``, ``dynamic``, ``auto`` (the faster acceptable one) or ``none``. (templated)
    :param calibration: folder of real pictures for the value ranges, or ``.npy``. (templated)
    :param labelled: folder of pictures with ``labels.csv`` (header ``file,label``). (templated)
    :param max_accuracy_drop: accepted loss, as a fraction: 0.01 is one point. (templated)
    :param min_speedup: least speed relative to the original, measured on this CPU. (templated)
    :param calibration_rows: pictures used for calibration
    :param python: interpreter for the child process; default: this one. (templated)
    """

    template_fields: Sequence[str] = (
        "model",
        "mode",
        "calibration",
        "labelled",
        "max_accuracy_drop",
        "min_speedup",
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
        self.python = python

    def execute(self, context: Context) -> dict[str, Any]:
        """Quantise, or answer from the store."""
        from airflow_onnx_provider.model.quantize import QuantizeLimits, quantize

        with no_retry_for_bad_input():
            limits = QuantizeLimits(
                mode=self.mode,  # type: ignore[arg-type]  # checked by QuantizeLimits
                max_accuracy_drop=number(self.max_accuracy_drop, "max_accuracy_drop"),
                min_speedup=number(self.min_speedup, "min_speedup"),
                calibration_rows=self.calibration_rows,
            )
            address = address_of(self.model)
            calibration, labelled = optional_path(self.calibration), optional_path(self.labelled)
            result = quantize(
                address,
                calibration=calibration,
                labelled=labelled,
                limits=limits,
                store=store_of(address),
                stage=self._stage,
            )
        self.log.info("%s", result["reason"])
        return result
