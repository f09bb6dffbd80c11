# SPDX-License-Identifier: Apache-2.0
"""Gate: no loop whose end, as the graph itself says, never comes."""

from __future__ import annotations

import struct
from typing import Any

from airflow_onnx_provider.model.gates.limits import Limits
from airflow_onnx_provider.model.gates.reading import OnnxFile, canonical, constants, roots, subgraphs

_Constants = dict[str, Any]


def require_ends(file: OnnxFile, limits: Limits) -> None:
    """Refuse loops whose condition cannot change and that have no bound, or one that no one waits for.

    A loop that depends on its inputs cannot be judged by looking: those run in a process with a time limit.

    :raises ValidationError: naming the loop
    """
    for scope in roots(file.model):
        _look(file, scope, {}, limits)


def _look(file: OnnxFile, scope: Any, outside: _Constants, limits: Limits) -> None:
    known = {**outside, **constants(scope)}
    for node in scope.node:
        if node.op_type == "Loop" and not canonical(node.domain):
            _require_end(file, node, known, limits)
        for graph in subgraphs(node):
            _look(file, graph, known, limits)


def _require_end(file: OnnxFile, node: Any, known: _Constants, limits: Limits) -> None:
    what = f"the operator Loop {node.name}".rstrip()
    bound, condition = (*node.input, "", "")[:2]
    body = next(subgraphs(node), None)
    if body is None or len(body.input) < 2 or not body.output:
        raise file.refuse(f"{what} has a body without counter and condition")
    goes_on = _origin(body, body.output[0].name)
    if _is_true({**known, **constants(body)}, goes_on):
        endless = True
    else:
        endless = goes_on == body.input[1].name and (not condition or _is_true(known, condition))
    if not endless:
        return
    if not bound:
        raise file.refuse(f"{what} never ends: its condition is always true, and it has no bound")
    if bound in known and (rounds := _whole(known[bound])) > limits.iterations:
        raise file.refuse(
            f"{what} never ends: its condition is always true, and it would run {rounds:,} rounds "
            f"(limit {limits.iterations:,})"
        )


def _origin(body: Any, name: str) -> str:
    """The tensor that ``name`` is a mere copy of."""
    copies = {
        node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity" and node.input and node.output
    }
    for _ in range(len(copies)):
        name = copies.get(name, name)
    return name


def _is_true(known: _Constants, name: str) -> bool:
    tensor = known.get(name)
    return tensor is not None and any(tensor.raw_data or tensor.int32_data)


def _whole(tensor: Any) -> int:
    if len(tensor.raw_data) == struct.calcsize("<q"):
        return int(struct.unpack("<q", tensor.raw_data)[0])
    return int(tensor.int64_data[0]) if tensor.int64_data else 0
