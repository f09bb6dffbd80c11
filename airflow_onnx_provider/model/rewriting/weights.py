# SPDX-License-Identifier: Apache-2.0
"""Where a graph's weights lie: inside ``model.onnx``, or beside it when there are too many for one protobuf."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import ConversionError

LARGE = 2_000_000_000
"""Bytes of a model above which its weights lie beside it; a protobuf file cannot pass 2 GiB."""


def settle_weights(path: Path, threshold: int = LARGE) -> None:
    """Bring the weights to their place: inside the file, or in ``<file>.data`` beside it for a large model.

    :param path: an ONNX file that was checked, with or without external data
    :param threshold: bytes of graph and weights together that still go into one file
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    beside = {path.parent / location for location in external_locations(model)}
    target = path.with_name(path.name + ".data")
    total = sum(file.stat().st_size for file in {path, *beside})
    large = total > threshold
    if (large and beside == {target}) or (not large and not beside):
        return
    if beside:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    for file in beside:
        file.unlink()
    if large:
        onnx.save(model, str(path), save_as_external_data=True, location=target.name, size_threshold=1024)
    else:
        onnx.save(model, str(path))


def external_locations(model: Any) -> set[str]:
    """The files, relative to the model's own, that its weights lie in; constants of nodes and subgraphs included."""
    return {
        entry.value
        for tensor in _tensors(model)
        if tensor.data_location  # EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _tensors(model: Any) -> Iterator[Any]:
    graphs, functions = [model.graph], list(model.functions)
    while graphs or functions:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        else:
            graph = functions.pop()
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                graphs.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)


def settle_opset(path: Path, opset: int) -> None:
    """Make the file say the operator set that was asked for; some converters name the oldest one that suffices.

    :param path: an ONNX file, changed in place
    :raises ConversionError: if its operators cannot be expressed in it
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    entries = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    written = max((entry.version for entry in entries), default=opset)
    others = [(entry.domain, entry.version) for entry in model.opset_import if entry.domain not in ("", "ai.onnx")]
    kinds = {node.op_type for node in _nodes(model) if node.domain in ("", "ai.onnx")}
    changed = sorted(kind for kind in kinds if _since(onnx, kind, written) != _since(onnx, kind, opset))
    if changed:
        model = _translated(onnx, path, opset, changed)
    elif len(entries) == 1 and written == opset:
        return
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in [("", opset), *others])
    onnx.save(model, str(path))


def _translated(onnx: Any, path: Path, opset: int, changed: list[str]) -> Any:
    try:
        return onnx.version_converter.convert_version(onnx.load(str(path)), opset)
    except Exception as error:  # it raises RuntimeError for all that it cannot do, and for models above 2 GiB
        raise ConversionError(
            f"it cannot be brought to opset {opset}, where these operators are others: {', '.join(changed)} ({error})"
        ) from error


def _since(onnx: Any, kind: str, opset: int) -> int:
    return int(onnx.defs.get_schema(kind, opset, "").since_version) if onnx.defs.has(kind, opset, "") else 0


def _nodes(model: Any) -> Iterator[Any]:
    stack = [model.graph, *model.functions]
    while stack:
        for node in stack.pop().node:
            yield node
            for attribute in node.attribute:
                stack.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)
