# SPDX-License-Identifier: Apache-2.0
"""Take a stage's nodes out of a model, with the weights that they read and no others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import ValidationError
from airflow_onnx_provider.model.rewriting.files import read, write
from airflow_onnx_provider.model.rewriting.nodes import in_order, used_names, weights_of
from airflow_onnx_provider.model.rewriting.shapes import value_types
from airflow_onnx_provider.model.splitting.plan import PlannedStage


def write_stages(source: Path, stages: Sequence[PlannedStage], targets: Sequence[Path]) -> None:
    """Write each planned stage as a model of its own; weights that lie beside the graph stay beside it.

    Its inputs and outputs have the names and types that these tensors have in the whole model.

    :param targets: one file a stage
    :raises ValidationError: if the type of a tensor between two stages is unknown
    """
    import onnx

    whole = read(source)
    types, weights = value_types(whole), weights_of(whole)
    nodes = in_order(whole.graph, weights)
    for number, (stage, target) in enumerate(zip(stages, targets, strict=True)):
        part = nodes[stage.start : stage.stop]
        used = dict.fromkeys(name for node in part for name in used_names(node))
        if missing := [name for name in (*stage.takes, *stage.gives) if name not in types]:
            raise ValidationError(f"{source.name}: the type of the tensor {missing[0]!r} cannot be inferred")
        model = onnx.ModelProto(ir_version=whole.ir_version, producer_name=whole.producer_name)
        model.opset_import.extend(whole.opset_import)
        model.functions.extend(whole.functions)
        model.graph.name = f"{whole.graph.name}_{number}"
        model.graph.node.extend(part)
        model.graph.initializer.extend(_named(weights[name], name) for name in used if name in weights)
        model.graph.input.extend(types[name] for name in stage.takes)
        model.graph.output.extend(types[name] for name in stage.gives)
        write(model, target, like=source)


def _named(tensor: Any, name: str) -> Any:
    if tensor.name == name:
        return tensor
    named = type(tensor)()
    named.CopyFrom(tensor)
    named.name = name  # the tensor of a Constant node has no name, or any
    return named
