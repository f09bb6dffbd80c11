# SPDX-License-Identifier: Apache-2.0
"""Which nodes a model's answers suffer from most when they are made 8-bit."""

from __future__ import annotations

import logging
import math
import time

import numpy as np

from airflow_onnx_provider.exceptions import ConversionError
from airflow_onnx_provider.model.evidence.parity import Tensors
from airflow_onnx_provider.model.evidence.trial import SCORING_BATCH, answers_of
from airflow_onnx_provider.model.quantization.variants import Calibration, Workshop
from airflow_onnx_provider.runtime.session import LoadedModel, open_session

log = logging.getLogger(__name__)

COMPUTING = frozenset(
    {
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Where", "Concat", "Resize", "Gather"),
        *("Sigmoid", "LeakyRelu", "AveragePool", "GlobalAveragePool"),
        *("LayerNormalization", "InstanceNormalization", "BatchNormalization"),
    }
)
"""Operators that lose something in 8 bits. The others that are quantised, such as Reshape or MaxPool, hand on the
values that they get."""


def rank_by_loss(
    workshop: Workshop, calibration: Calibration, original: LoadedModel, rows: Tensors, seconds: float
) -> list[str]:
    """Nodes by what is lost when they alone are made 8-bit, the worst first.

    Each node costs a quantisation and a pass over ``rows``. Where there is no time for all of them, neighbours are
    tried together and stay together.

    :param rows: real inputs ``[rows, …]``
    :param seconds: what the ranking may take; one node is tried in any case
    """
    nodes = [name for name, op_type in workshop.nodes.items() if op_type in COMPUTING]
    expected = answers_of(original, rows, SCORING_BATCH)
    target = workshop.work / "part.onnx"

    def loss_of(group: list[str]) -> float:
        try:
            workshop.write_static_part(group, calibration, target)
        except ConversionError:
            return math.inf  # what cannot be made 8-bit alone is best left in float
        part = LoadedModel(original.manifest, open_session(target))
        return relative_loss(answers_of(part, rows, SCORING_BATCH), expected)

    losses: list[tuple[float, list[str]]] = []
    size, end = 1, time.monotonic() + seconds
    while nodes:
        group, nodes = nodes[:size], nodes[size:]
        before = time.monotonic()
        losses.append((loss_of(group), group))
        now = time.monotonic()
        if now >= end:
            break
        size = max(1, math.ceil(len(nodes) * (now - before) / (end - now)))
    # sorted is stable: nodes that lose equally little stay in the graph's order
    ranked = sorted(losses, key=lambda pair: pair[0], reverse=True)
    for loss, group in ranked[:5]:
        log.info("in 8 bits alone, %s changes the answers by %.3g of their size", ", ".join(group), loss)
    return [name for loss, group in ranked if loss > 0 for name in group]


def relative_loss(found: Tensors, expected: Tensors) -> float:
    """Root mean square of the difference over that of what is expected; the worst float output counts.

    Infinite if an answer is no number where one is expected.
    """
    losses = [0.0]
    for name, wanted in expected.items():
        if wanted.dtype.kind != "f":
            continue
        finite = np.isfinite(wanted)
        size = float(np.sqrt(np.mean(np.square(wanted[finite], dtype=np.float64)))) if finite.any() else 0.0
        difference = (found[name].astype(np.float64) - wanted)[finite]
        error = float(np.sqrt(np.mean(np.square(difference)))) if finite.any() else 0.0
        losses.append(error / max(size, 1e-12) if math.isfinite(error) else math.inf)
    return max(losses)
