# SPDX-License-Identifier: Apache-2.0
"""ONNX files with all of their weights, wherever these lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

INLINE_BYTES = 1_900_000_000
"""Weights beyond this are written beside the graph: protobuf ends at 2 GiB."""

EXTERNAL_FROM = 1024
"""Bytes from which on a tensor goes to the file beside the graph; shapes and axes stay where shape inference sees
them."""


def read(path: Path) -> Any:
    """The ``ModelProto`` at ``path`` with all weights in memory."""
    import onnx

    return onnx.load(str(path))


def write(model: Any, path: Path, like: Path | None = None) -> None:
    """Write a model; its weights go to ``<path>.data`` if they are too many for one file, or ``like`` keeps them so.

    :param model: a ``ModelProto`` with all weights in memory
    :param like: the file that the model was made from
    """
    import onnx

    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)  # onnx appends to a file that is there
    if sum(map(nbytes, model.graph.initializer)) <= INLINE_BYTES and not (like and has_external_data(like)):
        onnx.save(model, str(path))
        return
    onnx.save(
        model,
        str(path),
        save_as_external_data=True,
        location=beside.name,
        size_threshold=EXTERNAL_FROM,
    )


def has_external_data(path: Path) -> bool:
    """Whether any weight lies outside of the file."""
    import onnx

    tensors = onnx.load(str(path), load_external_data=False).graph.initializer
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors)


def nbytes(tensor: Any) -> int:
    """Size of a ``TensorProto``'s values in bytes; a text counts as :data:`TEXT_BYTES`."""
    count = 1
    for size in tensor.dims:
        count *= size
    return -(-count * bits(tensor.data_type) // 8)


TEXT_BYTES = 32


def bits(element_type: int) -> int:
    """Bits that one value of an ONNX element type takes."""
    import onnx

    kinds = onnx.TensorProto
    if element_type == kinds.STRING:
        return 8 * TEXT_BYTES
    if element_type in {kinds.INT4, kinds.UINT4, kinds.FLOAT4E2M1}:
        return 4
    return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(element_type).itemsize)
