# SPDX-License-Identifier: Apache-2.0
"""A graph's nodes: what they read, in which order they can run, and which of their inputs are weights."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any


def weights_of(model: Any) -> dict[str, Any]:
    """Name to ``TensorProto`` of all that is fixed: initializers, and the tensors of ``Constant`` nodes."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            weights[node.output[0]] = node.attribute[0].t
    return weights


def in_order(graph: Any, weights: Container[str]) -> list[Any]:
    """The nodes that the outputs depend on, each right before what first needs it.

    In this order, a tensor that all later nodes depend on through nothing else is a border that nothing else crosses.
    """
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    order: dict[int, None] = {}
    stack = [(makers[value.name], False) for value in reversed(graph.output) if value.name in makers]
    while stack:
        index, ready = stack.pop()
        if index in order or graph.node[index].output[0] in weights:
            continue
        if ready:
            order[index] = None
            continue
        stack.append((index, True))
        needed = [makers[name] for name in used_names(graph.node[index]) if name in makers]
        stack.extend((maker, False) for maker in reversed(needed) if maker not in order)
    return [graph.node[index] for index in order]


def used_names(node: Any) -> Iterator[str]:
    """The tensors that a node reads, with those that the bodies of an ``If``, ``Loop`` or ``Scan`` take from around it.

    Without repetition, in the order of their first use.
    """
    yield from dict.fromkeys(_used(node))


def _used(node: Any) -> Iterator[str]:
    yield from filter(None, node.input)
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    bodies += [body for attribute in node.attribute for body in attribute.graphs]
    for body in bodies:
        own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        for inner in body.node:
            yield from (name for name in _used(inner) if name not in own)
            own.update(inner.output)
        yield from (value.name for value in body.output if value.name not in own)


def attribute(node: Any, name: str, default: Any) -> Any:
    """The value of a node's attribute."""
    import onnx

    found = [entry for entry in node.attribute if entry.name == name]
    return onnx.helper.get_attribute_value(found[0]) if found else default
