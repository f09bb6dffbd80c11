# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's own graph optimisation, done once and written down."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.rewriting.files import EXTERNAL_FROM, has_external_data
from airflow_onnx_provider.runtime.session import import_onnxruntime

Level = Literal["basic", "extended", "all"]

TIED = ("extended", "all")
"""Levels that write operators of ONNX Runtime's own, for the execution provider (and with ``all`` the CPU type) that
optimised the graph."""


def optimize_offline(source: Path, target: Path, level: Level = "basic") -> None:
    """Write the graph as ONNX Runtime optimises it for the CPU.

    :param level: ``basic`` stays standard ONNX and runs anywhere; see :data:`TIED` for the others
    :raises BadInputError: for an unknown level
    :raises ValidationError: if ONNX Runtime cannot load or write it
    """
    if level not in get_args(Level):
        raise BadInputError(f"graph: level must be one of {', '.join(get_args(Level))}, got {level!r}")
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level.upper()}")
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if has_external_data(source):
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{target.name}.data"
        )
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", str(EXTERNAL_FROM)
        )
    try:
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common public class
        raise ValidationError(f"ONNX Runtime cannot optimise it: {error}") from error
    if not target.is_file():
        raise ValidationError("ONNX Runtime wrote no optimised graph")
