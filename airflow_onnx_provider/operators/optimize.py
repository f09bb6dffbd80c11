# SPDX-License-Identifier: Apache-2.0
"""Operator: the same model, rewritten to be smaller, faster or easier to feed."""

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

    from airflow_onnx_provider.model.rewriting.steps import StepRequest


class OnnxOptimizeOperator(StageMixin, BaseOperator):
    """Rewrite a model step by step; a step is kept only if real rows get the answers that the original gives.

    The steps, in the order in which they are given, each a name or ``{name: {argument: value}}``:

    - ``simplify``: constants folded, dead nodes gone, layers fused (onnxslim).
    - ``graph``: ONNX Runtime's own graph optimisation, written down. ``level``: ``basic`` (default) is portable;
      ``extended`` and ``all`` tie the file to this ONNX Runtime and CPU type.
    - ``dimensions``: ``batch`` (a number, or a name for any number), ``height`` and ``width`` of pictures (pixels).
    - ``preprocessing``: a model that takes pictures as floats takes ``uint8 [batch, height, width, 3]`` instead;
      ``scale``, ``mean``, ``std``, ``resize``, ``height``, ``width`` as in ``ImagePreprocessing``, and ``layout``
      (``NCHW``, ``NHWC``).
    - ``top_k``: further outputs ``top_labels``, ``top_scores`` ``[batch, k]``; ``k``, ``output``, ``keep_scores``.
    - ``argmax``: a further output ``best: int64 [batch]``; ``output``.

    Returns ``model`` (of the version that goes on), ``name``, ``version``, ``digest``, ``size_bytes``, ``accepted``,
    ``variant`` (the steps that were kept), ``reason`` (in words, with the numbers), ``measurements`` (the original and
    each step: bytes, nodes, seconds to load, speed beside the original, largest difference), ``from_store``. A step
    that this model does not allow, that changes answers, or that only makes it slower, is no failure: it is left out,
    and the rest goes on.

    Fails without retry if the model or the inputs are missing, or a step is asked for what cannot be.

    :param model: address, or a model task's output. (templated)
    :param inputs: real inputs: a folder of pictures, Parquet, ``.npy`` or ``.npz``; for the step ``preprocessing``
        pictures. (templated)
    :param steps: what to do, in order. (templated)
    :param max_difference: largest accepted absolute difference of a number of any output. (templated)
    :param min_label_agreement: least share of rows that keep their label, 0 to 1. (templated)
    :param rows: inputs to compare
    :param stage_timeout: seconds until the child process is killed
    :param python: interpreter for the child process; default: this one. (templated)
    """

    template_fields: Sequence[str] = ("model", "inputs", "steps", "max_difference", "min_label_agreement", "python")

    def __init__(
        self,
        *,
        model: ModelReference,
        inputs: str,
        steps: Sequence[StepRequest] = ("simplify", "graph"),
        max_difference: float | str = 1e-4,
        min_label_agreement: float | str = 1.0,
        rows: int = 32,
        stage_timeout: float = 3600.0,
        python: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.inputs = inputs
        self.steps = steps
        self.max_difference = max_difference
        self.min_label_agreement = min_label_agreement
        self.rows = rows
        self.stage_timeout = stage_timeout
        self.python = python

    def execute(self, context: Context) -> dict[str, Any]:
        """Optimise, or answer from the store."""
        from airflow_onnx_provider.model.evidence.parity import ParityLimits
        from airflow_onnx_provider.model.optimize import optimize

        with no_retry_for_bad_input():
            limits = ParityLimits(
                inputs=self.rows,
                max_difference=number(self.max_difference, "max_difference"),
                min_label_agreement=number(self.min_label_agreement, "min_label_agreement"),
            )
            store, address = open_version(address_of(self.model))
            result = optimize(
                address,
                inputs=Path(self.inputs),
                steps=list(self.steps),
                limits=limits,
                store=store,
                stage=self._stage,
            )
        self.log.info("%s", result["reason"])
        return result
