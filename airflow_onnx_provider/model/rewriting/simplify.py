# SPDX-License-Identifier: Apache-2.0
"""The same graph with less in it: constants folded, dead and doubled nodes gone, layers fused that can be."""

from __future__ import annotations

import logging
from pathlib import Path

from airflow_onnx_provider.exceptions import ValidationError, needs_extra
from airflow_onnx_provider.model.graph import describe
from airflow_onnx_provider.model.rewriting.files import read, write
from airflow_onnx_provider.runtime.session import import_onnxruntime

FOLDED_BYTES = 1 << 20
"""Larger results of constant expressions are not folded: they would make the file grow."""


def simplify(source: Path, target: Path) -> None:
    """Write the graph as onnxslim simplifies it; its inputs and outputs stay what they are.

    :raises ValidationError: if onnxslim fails, or would change the inputs or outputs
    """
    import_onnxruntime()  # onnxslim imports it too; the first import decides on its telemetry
    with needs_extra("optimize", "the step simplify"):
        import onnxslim

    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    try:
        model = onnxslim.slim(read(source), size_threshold=FOLDED_BYTES)
    except Exception as error:  # it raises what its passes raise
        raise ValidationError(f"onnxslim cannot simplify it: {type(error).__name__}: {error}") from error
    finally:
        root.level, root.handlers[:] = before
    write(model, target, like=source)
    was, now = describe(source), describe(target)
    if (was.inputs, was.outputs) != (now.inputs, now.outputs):
        raise ValidationError(f"onnxslim changes its inputs or outputs: {now.inputs} → {now.outputs}")
