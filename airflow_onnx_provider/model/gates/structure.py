# SPDX-License-Identifier: Apache-2.0
"""Gate: a graph that can be walked from its inputs to its outputs, once and to an end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_onnx_provider.model.gates.limits import Limits
from airflow_onnx_provider.model.gates.reading import (
    OnnxFile,
    canonical,
    nodes_below,
    roots,
    scopes,
    subgraphs,
    tensors,
    texts,
)

LONGEST_NAME = 1024

_UNSAFE = re.compile(r"[\x00-\x1f\x7f]|(^|[/\\])\.\.([/\\]|$)")

FunctionId = tuple[str, str, str]


def require_structure(file: OnnxFile, limits: Limits) -> None:
    """Inputs, outputs, names, the order of the nodes, nesting, and what local functions grow to.

    :raises ValidationError: with the first fault
    """
    for text in texts(file.model):
        if isinstance(text, bytes):
            raise file.refuse(f"the name {text[:80]!r} is no text in UTF-8; the file is damaged")
    graph = file.model.graph
    initializers = {tensor.name for tensor in graph.initializer}
    if not graph.output:
        raise file.refuse("the graph has no outputs, so there is nothing to compute")
    if all(value.name in initializers for value in graph.input):
        raise file.refuse("the graph has no inputs, so it would answer every row alike")
    deepest = max(depth for _, depth in scopes(file.model))
    if deepest > limits.depth:
        raise _too_deep(file, deepest, limits)
    _require_plain_names(file)
    _require_bounded_functions(file, limits)
    for scope in roots(file.model):
        _require_order(file, scope, frozenset())


def require_checked(file: OnnxFile) -> None:
    """ONNX's own checker, on the path: on a loaded model it would look for external data in the working directory.

    :raises ValidationError: with what it says
    """
    import onnx

    try:
        onnx.checker.check_model(str(file.path))
    except Exception as error:  # ValidationError, and RuntimeError from the C++ side
        raise file.refuse(f"the ONNX checker refuses it: {error}") from error


def local_functions(model: Any) -> dict[FunctionId, Any]:
    """The functions that the file itself defines, by domain, name and overload."""
    return {(canonical(one.domain), one.name, one.overload): one for one in model.functions}


def function_called(node: Any) -> FunctionId:
    """What a node would call if the file defined it."""
    return canonical(node.domain), node.op_type, node.overload


def _require_plain_names(file: OnnxFile) -> None:
    """Names become columns, archive members and, for weights, files: none may be a way out of a folder."""
    for scope, _ in scopes(file.model):
        values = (name for node in scope.node for name in node.output)
        ends = (str(getattr(end, "name", end)) for end in (*scope.input, *scope.output))  # a function's are texts
        _require_plain(file, values)
        _require_plain(file, ends)
    _require_plain(file, (tensor.name for tensor in tensors(file.model)))


def _require_plain(file: OnnxFile, names: Iterable[str]) -> None:
    for name in names:
        if len(name) > LONGEST_NAME or _UNSAFE.search(name):
            raise file.refuse(
                f"the tensor name {name[:80]!r} is a path out of a folder, or holds control characters, or is longer "
                f"than {LONGEST_NAME} characters; rename it"
            )


def _require_bounded_functions(file: OnnxFile, limits: Limits) -> None:
    """ONNX Runtime puts each function in place of its calls: a few that call each other twice can grow without end."""
    functions = local_functions(file.model)
    if len(functions) < len(file.model.functions):
        raise file.refuse("two local functions have the same name")
    sizes: dict[FunctionId, tuple[int, int]] = {}
    for chosen in functions:
        _measure(file, chosen, functions, sizes, ())
    total = 0
    for node, depth in nodes_below(file.model.graph):
        count, inner = sizes.get(function_called(node), (1, 0))
        total += count
        if depth + inner > limits.depth:
            raise _too_deep(file, depth + inner, limits)
    if total > limits.nodes:
        raise file.refuse(
            f"its local functions grow to {total:,} operators when each is put in place of its calls (limit "
            f"{limits.nodes:,}); a few functions that call each other can make any number"
        )


def _measure(
    file: OnnxFile,
    chosen: FunctionId,
    functions: Mapping[FunctionId, Any],
    sizes: dict[FunctionId, tuple[int, int]],
    callers: tuple[FunctionId, ...],
) -> tuple[int, int]:
    """Operators and depth of a function with all that it calls."""
    if chosen in callers or len(callers) > 100:
        loop = " -> ".join(name for _, name, _ in (*callers[-5:], chosen))
        raise file.refuse(f"its local functions call themselves: {loop}. ONNX has no recursion")
    if chosen not in sizes:
        count, deepest = 0, 0
        for node, depth in nodes_below(functions[chosen]):
            called = function_called(node)
            inner = (1, 0)
            if called in functions:
                inner = _measure(file, called, functions, sizes, (*callers, chosen))
            count += inner[0]
            deepest = max(deepest, depth + inner[1])
        sizes[chosen] = count, deepest + 1
    return sizes[chosen]


def _too_deep(file: OnnxFile, depth: int, limits: Limits) -> Exception:
    return file.refuse(f"graphs and functions are nested {depth} deep (limit {limits.depth})")


def _require_order(file: OnnxFile, scope: Any, outside: frozenset[str]) -> None:
    """Each name is made once, and before it is used."""
    sparse = (tensor.values.name for tensor in getattr(scope, "sparse_initializer", ()))
    weights = [*(tensor.name for tensor in getattr(scope, "initializer", ())), *sparse]
    ends = [str(getattr(value, "name", value)) for value in scope.input]
    for what, names in (("weights", weights), ("inputs", ends)):
        if twice := _first_repeated(names):
            raise file.refuse(f"two {what} are called {twice!r}")
    made = {*weights, *ends}
    for node in scope.node:
        for name in node.input:
            if name and name not in made and name not in outside:
                raise file.refuse(_why_missing(scope, node, name))
        for graph in subgraphs(node):
            _require_order(file, graph, outside | made)
        for name in filter(None, node.output):
            if name in made:
                raise file.refuse(f"the name {name!r} is given twice: {_called(node)} makes it again")
            made.add(name)
    for output in scope.output:
        name = str(getattr(output, "name", output))
        if name not in made and name not in outside:
            raise file.refuse(f"nothing in the graph makes its output {name!r}")


def _why_missing(scope: Any, node: Any, name: str) -> str:
    makers = {made: other for other in scope.node for made in other.output if made}
    if name not in makers:
        return f"{_called(node)} uses {name!r}, which is no input, no weight and no operator's output"
    if loop := _cycle(makers, name):
        return f"the graph goes round in a circle: {' <- '.join(repr(step) for step in loop)}"
    return f"{_called(node)} uses {name!r} before it is made; the operators must be sorted"


def _cycle(makers: Mapping[str, Any], start: str) -> list[str]:
    """The tensors of a circle that ``start`` leads into against the direction of the graph, or nothing."""
    path, on_path = [start], {start}
    waiting = [iter(makers[start].input)]
    done: set[str] = set()
    while waiting:
        step = next((name for name in waiting[-1] if name in makers and name not in done), None)
        if step is None:
            done.add(path[-1])
            on_path.discard(path.pop())
            waiting.pop()
        elif step in on_path:
            return [*path[path.index(step) :], step][:8]
        else:
            path.append(step)
            on_path.add(step)
            waiting.append(iter(makers[step].input))
    return []


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _called(node: Any) -> str:
    return f"the operator {node.op_type} {node.name}".rstrip()
