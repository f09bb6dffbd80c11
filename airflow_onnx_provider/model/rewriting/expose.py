# SPDX-License-Identifier: Apache-2.0
"""Make inner tensors of a graph its outputs, for example the embedding before a classifier's last layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airflow_onnx_provider.exceptions import BadInputError

NAMED_IN_ERROR = 12


def expose(path: Path, tensors: Sequence[str]) -> None:
    """Add inner tensors to the outputs of the graph at ``path``, after those that it has.

    Their types and shapes come from ONNX shape inference. The first axis must be the batch.

    :raises BadInputError: for a tensor that the graph does not have (with the names of the last ones that it has), or
        whose type cannot be inferred
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    outputs = {value.name for value in model.graph.output}
    inferred = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    for name in dict.fromkeys(tensors):
        if name in outputs:
            continue
        if name not in inferred:
            inner = [output for node in model.graph.node for output in node.output if output in inferred]
            raise BadInputError(
                f"{path.name} has no inner tensor {name!r} of a known type; its last ones are "
                f"{', '.join(reversed(inner[-NAMED_IN_ERROR:]))}"
            )
        model.graph.output.append(inferred[name])
    onnx.save(model, str(path))
