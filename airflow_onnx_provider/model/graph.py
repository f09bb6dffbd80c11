# SPDX-License-Identifier: Apache-2.0
"""What an ONNX file says it is, and whether it may be opened at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_onnx_provider.model.gates import external_data, loops, operators, shapes, structure, weights
from airflow_onnx_provider.model.gates.limits import Limits
from airflow_onnx_provider.model.gates.reading import canonical, nodes, read_file
from airflow_onnx_provider.runtime.manifest import TensorSpec

DEFAULT_OPSET = 18
"""What models are converted to: tf2onnx writes no later one, and every ONNX Runtime in use takes it."""

ALLOWED_DOMAINS = ("", "ai.onnx.ml", "com.microsoft")
"""Domains whose operators ONNX Runtime brings itself: no library that came with a model is ever loaded."""


@dataclass(frozen=True)
class GraphFacts:
    """An ONNX graph seen from outside.

    :param domains: of all operators, those in branches and local functions included; the default domain is ``""``.
        A call of a local function is no operator.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    domains: tuple[str, ...]


def describe(path: Path) -> GraphFacts:
    """Read a graph's inputs, outputs, opset and domains; external data stays closed.

    :raises BadInputError: if the file is missing or no ONNX model
    """
    model = read_file(path).model
    initializers = {tensor.name for tensor in model.graph.initializer}
    functions = structure.local_functions(model)
    called = (node for node in nodes(model) if structure.function_called(node) not in functions)
    return GraphFacts(
        inputs=tuple(_spec(value) for value in model.graph.input if value.name not in initializers),
        outputs=tuple(_spec(value) for value in model.graph.output),
        opset=max((entry.version for entry in model.opset_import if not canonical(entry.domain)), default=0),
        domains=tuple(sorted({canonical(node.domain) for node in called})),
    )


def require_sound(path: Path, allowed_domains: tuple[str, ...] = ALLOWED_DOMAINS, limits: Limits | None = None) -> None:
    """The one door: after this, and not before, ONNX Runtime may open the file.

    Structure, versions, domains, operators, weights, external data, types and shapes, memory and loops, each with a
    message of its own. Large external data is looked at, never read. 100 MB take about a third of a second.

    :param limits: default: those of :class:`~airflow_onnx_provider.model.gates.limits.Limits`
    :raises BadInputError: if the file is missing or no ONNX model
    :raises ValidationError: with what the first failing gate found
    """
    limits = limits or Limits()
    file = read_file(path)
    structure.require_structure(file, limits)
    operators.require_versions(file, limits)
    operators.require_domains(file, allowed_domains)
    operators.require_known_operators(file)
    operators.require_no_foreign_code(file)
    operators.require_safe_attributes(file)
    weights.require_weights(file, limits)
    external_data.require_external_data(file, limits)
    weights.keep_small(file)
    loops.require_ends(file, limits)
    structure.require_checked(file)
    shapes.require_shapes(file, limits)


def _spec(value: Any) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":  # a sequence of maps, for one, as scikit-learn's ZipMap gives it
        return TensorSpec(value.name, str(kind).removesuffix("_type"), ())
    tensor = value.type.tensor_type
    shape: list[int | str] = []
    for index, axis in enumerate(tensor.shape.dim):
        if axis.HasField("dim_value"):
            shape.append(int(axis.dim_value))
        elif index == 0:
            shape.append("batch")  # converters invent a new name each time; it is always the batch
        else:
            shape.append(axis.dim_param or "?")
    return TensorSpec(value.name, weights.type_name(tensor.elem_type), tuple(shape))
