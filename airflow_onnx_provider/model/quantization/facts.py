# SPDX-License-Identifier: Apache-2.0
"""What a graph says about how it can be quantised."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError

QUANTIZED = re.compile(
    r"QuantizeLinear|DequantizeLinear|DynamicQuantize\w*|QLinear\w+|ConvInteger|MatMulInteger\w*|MatMulNBits|"
    r"MatMulBnb4|MatMulFpQ4|GatherBlockQuantized|QAttention|QGemm|QMoE|QEmbedLayerNormalization|QOrdered\w+"
)
"""Operators of quantised graphs, of the default domain and of ``com.microsoft``."""

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
PRODUCTS = frozenset({"MatMul", "Gemm"})


@dataclass(frozen=True)
class GraphFacts:
    """What decides which quantised variants are promising.

    :param multiplications: operator type to the multiplications of one row, for convolutions and matrix products; an
        axis that varies counts as 1
    :param quantized: operators of quantised graphs that it has
    :param half: whether it has weights in float16
    """

    multiplications: Mapping[str, int]
    quantized: tuple[str, ...]
    half: bool

    @property
    def convolutional(self) -> bool:
        """Whether convolutions do most of the work."""
        counts = self.multiplications
        work = {kind: sum(counts.get(op, 0) for op in kind) for kind in (CONVOLUTIONS, PRODUCTS)}
        return work[CONVOLUTIONS] > work[PRODUCTS]


def read_facts(path: Path) -> GraphFacts:
    """Look at a graph, its subgraphs and its functions; weights in external files are not read."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception:  # a graph whose shapes do not infer is ordered by what it declares
        inferred = model
    return GraphFacts(
        multiplications=_multiplications(inferred),
        quantized=tuple(sorted({node.op_type for node in _nodes(model) if QUANTIZED.fullmatch(node.op_type)})),
        half=any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer),
    )


def require_not_quantized(facts: GraphFacts, what: str) -> None:
    """Refuse a quantised model: what was lost the first time cannot be measured any more.

    :param what: the model, as the error calls it
    :raises BadInputError: naming the operators that give it away
    """
    if facts.quantized:
        raise BadInputError(f"{what} is already quantised (it has {', '.join(facts.quantized)}); give the original")


def _nodes(model: Any) -> Iterator[Any]:
    stack = [model.graph, *model.functions]
    while stack:
        for node in stack.pop().node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    stack.append(attribute.g)
                stack.extend(attribute.graphs)


def _multiplications(model: Any) -> dict[str, int]:
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.HasField("tensor_type") and value.name not in shapes:
            axes = value.type.tensor_type.shape.dim
            shapes[value.name] = [axis.dim_value if axis.HasField("dim_value") else 1 for axis in axes]
    counts: dict[str, int] = defaultdict(int)
    for node in model.graph.node:
        if node.op_type not in CONVOLUTIONS | PRODUCTS:
            continue
        first, second = (shapes.get(name, []) for name in node.input[:2])
        result = shapes.get(node.output[0], [])
        if node.op_type == "Conv":
            counts["Conv"] += prod(result[2:]) * prod(second)
        elif node.op_type == "ConvTranspose":
            counts["ConvTranspose"] += prod(first[2:]) * prod(second)
        elif node.op_type == "Gemm":
            counts["Gemm"] += prod(second)
        else:
            counts["MatMul"] += prod(first[:-1]) * prod(second[-2:])
    return dict(counts)
