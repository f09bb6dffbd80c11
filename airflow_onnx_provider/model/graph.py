"""What an ONNX file says it is, and whether it may be run at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.runtime.manifest import TensorSpec

DEFAULT_OPSET = 18
"""What models are converted to: tf2onnx writes no later one, and every ONNX Runtime in use takes it."""

MAX_OPSET = 26
"""Newest default operator set that ONNX Runtime 1.31 runs; the ONNX checker itself accepts later ones."""

MAX_IR_VERSION = 13
"""Newest file format that ONNX Runtime 1.31 reads."""

ALLOWED_DOMAINS = ("", "ai.onnx.ml", "com.microsoft")
"""Domains whose operators ONNX Runtime brings itself: no library that came with a model is ever loaded."""


@dataclass(frozen=True)
class GraphFacts:
    """An ONNX graph seen from outside.

    :param domains: of all nodes, those in subgraphs and functions included; the default domain is ``""``
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    domains: tuple[str, ...]


def describe(path: Path) -> GraphFacts:
    """Read a graph's inputs, outputs, opset and domains.

    :raises BadInputError: if the file is missing or no ONNX model
    """
    import onnx

    model = _load(path)
    initializers = {tensor.name for tensor in model.graph.initializer}
    return GraphFacts(
        inputs=tuple(_spec(onnx, value) for value in model.graph.input if value.name not in initializers),
        outputs=tuple(_spec(onnx, value) for value in model.graph.output),
        opset=_default_opset(model),
        domains=tuple(sorted({_canonical(node.domain) for node in _nodes(model)})),
    )


def require_sound(path: Path, allowed_domains: tuple[str, ...] = ALLOWED_DOMAINS) -> None:
    """Structure, types and shapes, versions, domains, and operators that exist.

    The checker runs on the path, because on a loaded model it would look for external data in the working directory.

    :raises BadInputError: if the file is missing or no ONNX model
    :raises ValidationError: with everything that the first failing gate found
    """
    import onnx

    model = _load(path)
    opset = _default_opset(model)
    if opset > MAX_OPSET or model.ir_version > MAX_IR_VERSION:
        raise ValidationError(
            f"{path.name}: opset {opset}, IR version {model.ir_version}; ONNX Runtime takes up to opset {MAX_OPSET} "
            f"and IR version {MAX_IR_VERSION}. Convert with an older opset (18 is safe)."
        )
    foreign = sorted({_canonical(node.domain) for node in _nodes(model)} - set(allowed_domains))
    if foreign:
        raise ValidationError(
            f"{path.name}: operators of the domains {foreign} need code that ONNX Runtime does not bring; "
            f"allowed: {[domain or 'ai.onnx' for domain in allowed_domains]}"
        )
    functions = {(function.domain, function.name) for function in model.functions}
    unknown = sorted(
        {
            node.op_type
            for node in _nodes(model)
            if not _canonical(node.domain)
            and (node.domain, node.op_type) not in functions
            and not onnx.defs.has(node.op_type, opset, "")
        }
    )
    if unknown:
        raise ValidationError(
            f"{path.name}: ONNX opset {opset} has no operator {', '.join(unknown)}. The converter could not express "
            "this part of the source model; replace the layer, or move it out of the model."
        )
    try:
        onnx.checker.check_model(str(path), full_check=True, check_custom_domain=False)
    except Exception as error:  # ValidationError, InferenceError, and RuntimeError from the C++ side
        raise ValidationError(f"{path.name}: the ONNX checker refuses it: {error}") from error


def _load(path: Path) -> Any:
    import onnx

    if not path.is_file():
        raise BadInputError(f"{path} does not exist")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError is no public name
        raise BadInputError(f"{path} is not an ONNX model: {error}") from error
    if not model.graph.node:
        raise BadInputError(f"{path} is not an ONNX model: its graph is empty")
    return model


def _nodes(model: Any) -> Iterator[Any]:
    stack = [model.graph, *model.functions]
    while stack:
        for node in stack.pop().node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    stack.append(attribute.g)
                stack.extend(attribute.graphs)


def _canonical(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _default_opset(model: Any) -> int:
    return max((entry.version for entry in model.opset_import if not _canonical(entry.domain)), default=0)


def _spec(onnx: Any, value: Any) -> TensorSpec:
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
    return TensorSpec(value.name, str(onnx.TensorProto.DataType.Name(tensor.elem_type)).lower(), tuple(shape))
