# SPDX-License-Identifier: Apache-2.0
"""An ONNX file as protobuf, and the ways through it. Nothing that the file points to is opened here."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, ValidationError

PROTOBUF_BYTES = 2 << 30
"""No protobuf message can be larger."""


@dataclass(frozen=True)
class OnnxFile:
    """A parsed file.

    :param path: where it lies; external data lies beside it
    :param model: the ``ModelProto``, without external data
    """

    path: Path
    model: Any

    @property
    def name(self) -> str:
        return self.path.name

    def refuse(self, reason: str) -> ValidationError:
        """The error that refuses this file."""
        return ValidationError(f"{self.name}: {reason}")


def read_file(path: Path) -> OnnxFile:
    """Parse an ONNX file without its external data.

    :raises BadInputError: if there is no regular file, or it is no ONNX model
    """
    import onnx

    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise BadInputError(f"{path} does not exist") from error
    if not stat.S_ISREG(status.st_mode):  # reading a named pipe would wait for ever
        raise BadInputError(f"{path} is not an ONNX model: it is no regular file")
    if status.st_size == 0:
        raise BadInputError(f"{path} is not an ONNX model: the file is empty")
    if status.st_size >= PROTOBUF_BYTES:
        raise BadInputError(
            f"{path} has {status.st_size:,} bytes and no ONNX file can have 2 GiB: save it with its weights as "
            "external data"
        )
    data = path.read_bytes()
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf's DecodeError is no public name, and says no more than that
        raise BadInputError(f"{path} is not an ONNX model: {_damage(data)}") from error
    if not model.graph.node:
        raise BadInputError(f"{path} is not an ONNX model: its graph is empty")
    return OnnxFile(path, model)


def scopes(model: Any) -> Iterator[tuple[Any, int]]:
    """Every graph and local function with its depth: 0, in their branches 1, and so on."""
    stack = [(scope, 0) for scope in roots(model)]
    while stack:
        scope, depth = stack.pop()
        yield scope, depth
        for node in scope.node:
            stack.extend((graph, depth + 1) for graph in subgraphs(node))


def roots(model: Any) -> list[Any]:
    """The scopes that lie in no other: the main graph, local functions, and graphs for training."""
    training = [graph for info in model.training_info for graph in (info.initialization, info.algorithm)]
    return [model.graph, *model.functions, *training]


def subgraphs(node: Any) -> Iterator[Any]:
    """The graphs that a node has as attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def nodes(model: Any) -> Iterator[Any]:
    """Every node of every scope."""
    for scope, _ in scopes(model):
        yield from scope.node


def nodes_below(scope: Any) -> Iterator[tuple[Any, int]]:
    """The nodes of one scope and of the graphs inside it, each with its depth."""
    stack = [(scope, 0)]
    while stack:
        inner, depth = stack.pop()
        for node in inner.node:
            yield node, depth
            stack.extend((graph, depth + 1) for graph in subgraphs(node))


def tensors(model: Any) -> Iterator[Any]:
    """Every ``TensorProto`` that the file holds: weights of all graphs, attributes, and the parts of sparse ones."""
    for scope, _ in scopes(model):
        yield from getattr(scope, "initializer", ())  # local functions have none
        for sparse in getattr(scope, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
    for attribute in _attributes(model):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in _sparse_of(attribute):
            yield from (sparse.values, sparse.indices)


def texts(model: Any) -> Iterator[str | bytes]:
    """Every name that the file holds; protobuf gives those that are no UTF-8 as bytes."""
    for entry in model.opset_import:
        yield entry.domain
    for function in model.functions:
        yield from (function.domain, function.name, function.overload, *function.attribute)
        for entry in function.opset_import:
            yield entry.domain
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    for scope, _ in scopes(model):
        for end in (*scope.input, *scope.output, *scope.value_info):
            yield from _texts_of_end(end)
        for node in scope.node:
            yield from (node.op_type, node.domain, node.name, node.overload, *node.input, *node.output)
            for attribute in node.attribute:
                yield from (attribute.name, attribute.ref_attr_name)
    for tensor in tensors(model):
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)


def _texts_of_end(end: Any) -> Iterator[str | bytes]:
    if isinstance(end, str | bytes):  # a local function's
        yield end
        return
    yield end.name
    for axis in end.type.tensor_type.shape.dim:
        yield axis.dim_param


def sparse_tensors(model: Any) -> Iterator[Any]:
    """Every ``SparseTensorProto`` that the file holds."""
    for scope, _ in scopes(model):
        yield from getattr(scope, "sparse_initializer", ())
    for attribute in _attributes(model):
        yield from _sparse_of(attribute)


def constants(scope: Any) -> dict[str, Any]:
    """Name to ``TensorProto`` of what is fixed in one scope: its weights, and the values of its ``Constant`` nodes."""
    found = {tensor.name: tensor for tensor in getattr(scope, "initializer", ())}
    for node in scope.node:
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    found[node.output[0]] = attribute.t
    return found


def canonical(domain: str) -> str:
    """The default domain has two names."""
    return "" if domain == "ai.onnx" else domain


def _damage(data: bytes) -> str:
    """Why a file is no protobuf message, as far as its outermost fields tell."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind, width = tag & 7, {1: 8, 5: 4}.get(tag & 7, 0)
        if not tag >> 3 or kind not in (0, 1, 2, 5):
            return "it is no protobuf message"
        if kind == 0:
            _, position = _varint(data, position)
        elif kind == 2:
            width, position = _varint(data, position)
        position += width
        if position > len(data):
            return f"it was cut off, {position - len(data):,} bytes are missing at least"
    return "it is damaged inside, or its graphs nest deeper than any reader goes"


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(position, min(position + 10, len(data))):
        value |= (data[index] & 127) << (7 * (index - position))
        if data[index] < 128:
            return value, index + 1
    return value, len(data) + 1


def _attributes(model: Any) -> Iterator[Any]:
    for node in nodes(model):
        yield from node.attribute
    for function in model.functions:
        yield from function.attribute_proto


def _sparse_of(attribute: Any) -> Iterator[Any]:
    if attribute.HasField("sparse_tensor"):
        yield attribute.sparse_tensor
    yield from attribute.sparse_tensors
