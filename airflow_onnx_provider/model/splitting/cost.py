# SPDX-License-Identifier: Apache-2.0
"""What a graph costs, node by node: bytes of weights and activations, multiplications, operations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.rewriting.files import bits, nbytes
from airflow_onnx_provider.model.rewriting.nodes import attribute, in_order, used_names, weights_of
from airflow_onnx_provider.model.rewriting.shapes import Shape, Shapes, infer_shapes

# fmt: off
MOVING = frozenset({
    "Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Dropout", "Expand", "Flatten",
    "Gather", "GatherElements", "GatherND", "Identity", "Pad", "Range", "Reshape", "Shape", "Size", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})
"""Operators that move numbers and compute none."""

PER_INPUT = frozenset({
    "ArgMax", "ArgMin", "CumSum", "GlobalAveragePool", "GlobalMaxPool", "ReduceL1", "ReduceL2", "ReduceLogSumExp",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "TopK",
})
"""Operators that take one operation for each number that goes in."""
# fmt: on

SEVERAL = {
    "Softmax": 5,
    "LogSoftmax": 6,
    "LayerNormalization": 8,
    "InstanceNormalization": 8,
    "GroupNormalization": 8,
    "BatchNormalization": 2,
    "Gelu": 8,
    "Sigmoid": 4,
    "Tanh": 6,
    "Erf": 8,
    "Exp": 4,
    "HardSwish": 4,
}
"""Operators that take about so many operations for each number that comes out; all others take one."""

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True)
class NodeCost:
    """One node of a graph, at the batch size of its :class:`GraphCost`.

    :param name: the node's name, or that of its first output
    :param takes: activations that it reads (weights are none)
    :param gives: activations that it writes
    :param weights: weights that it reads, by name; they may be shared with other nodes
    :param macs: multiplications with an addition, of convolutions, matrix products and recurrent layers
    :param flops: two for each of these, and the operations of all other nodes
    """

    name: str
    operator: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    weights: tuple[str, ...]
    macs: int
    flops: int


@dataclass(frozen=True)
class GraphCost:
    """A graph's nodes in an order in which they can run, and the sizes of its tensors.

    :param batch: rows that the sizes hold for
    :param inputs: the graph's inputs
    :param outputs: the graph's outputs
    :param nodes: those that an output depends on; each stands right before what first needs it
    :param weights: weight to its bytes
    :param parameters: weight to the number of its values
    :param activations: every other tensor to its bytes
    """

    batch: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[NodeCost, ...]
    weights: Mapping[str, int]
    parameters: Mapping[str, int]
    activations: Mapping[str, int]

    @cached_property
    def macs(self) -> int:
        return sum(node.macs for node in self.nodes)

    @cached_property
    def flops(self) -> int:
        return sum(node.flops for node in self.nodes)

    @cached_property
    def weight_bytes(self) -> int:
        return sum(self.weights[name] for name in {name for node in self.nodes for name in node.weights})

    @cached_property
    def last_uses(self) -> Mapping[str, int]:
        """Each activation's last place of use; an output of the graph is used after the last node."""
        last = {name: place for place, node in enumerate(self.nodes) for name in (*node.gives, *node.takes)}
        return {**last, **dict.fromkeys(self.outputs, len(self.nodes))}

    @cached_property
    def peak_activation_bytes(self) -> int:
        """The most bytes of activations that exist at one time, the graph's inputs all along."""
        held = sum(self.activations[name] for name in self.inputs)
        return held + max(self.live_bytes(0), default=0)

    def live_bytes(self, start: int) -> Iterator[int]:
        """For each node from ``start`` on: bytes of the activations, made from ``start`` on, that exist while it runs.

        A tensor exists from the node that makes it to the last that reads it. ONNX Runtime may do with less, where a
        node writes its result over its input, and takes more for the convolutions' own working memory.
        """
        live, ending = 0, [0] * (len(self.nodes) + 1)
        for place in range(start, len(self.nodes)):
            for name in self.nodes[place].gives:
                live += self.activations[name]
                ending[self.last_uses[name]] += self.activations[name]
            yield live
            live -= ending[place]

    def table(self) -> list[dict[str, Any]]:
        """A row a node: name, operator, bytes of weights and of results, MACs, operations."""
        return [
            {
                "name": node.name,
                "operator": node.operator,
                "weight_bytes": sum(self.weights[name] for name in node.weights),
                "activation_bytes": sum(self.activations[name] for name in node.gives),
                "macs": node.macs,
                "flops": node.flops,
            }
            for node in self.nodes
        ]


def cost_of(path: Path, batch: int = 1, sizes: Mapping[str, int] | None = None) -> GraphCost:
    """The costs of a graph, from the shapes that ONNX infers.

    The bodies of control flow (``If``, ``Loop``, ``Scan``) are not counted: nobody knows how often they run.

    :param batch: rows; takes the place of the inputs' first axis where that has no fixed size
    :param sizes: sizes of further axes without one, by the axis's name such as ``sequence``, or as ``input[place]``
    :raises BadInputError: if an axis or a tensor's shape stays unknown
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    weights = weights_of(model)
    shapes = infer_shapes(model, batch, sizes or {})
    inputs = tuple(value.name for value in model.graph.input if value.name not in weights)
    outputs = tuple(value.name for value in model.graph.output)
    nodes, activations = [], {name: _bytes(shapes, name, path) for name in inputs}
    for node in in_order(model.graph, weights):
        names = tuple(used_names(node))
        activations |= {name: _bytes(shapes, name, path) for name in node.output if name}
        macs, flops = _operations(node, shapes)
        nodes.append(
            NodeCost(
                name=node.name or node.output[0],
                operator=node.op_type,
                takes=tuple(name for name in names if name not in weights),
                gives=tuple(filter(None, node.output)),
                weights=tuple(name for name in names if name in weights),
                macs=macs,
                flops=flops,
            )
        )
    return GraphCost(
        batch=batch,
        inputs=inputs,
        outputs=outputs,
        nodes=tuple(nodes),
        weights={name: nbytes(tensor) for name, tensor in weights.items()},
        parameters={name: math.prod(tensor.dims) for name, tensor in weights.items()},
        activations=activations,
    )


def _bytes(shapes: Shapes, name: str, path: Path) -> int:
    if name not in shapes:
        raise BadInputError(
            f"{path.name}: the shape of the tensor {name!r} cannot be inferred. Simplify the model first; operators "
            "of other domains, such as an extended optimisation writes them, have no inferred shapes."
        )
    kind, shape = shapes[name]
    return -(-math.prod(shape) * bits(kind) // 8)


def _operations(node: Any, shapes: Shapes) -> tuple[int, int]:
    given = [shapes[name][1] if name in shapes else () for name in node.input]
    made = shapes[node.output[0]][1] if node.output[0] in shapes else ()
    macs = _macs(node, given, made)
    if macs is not None:
        return macs, 2 * macs
    if node.op_type in MOVING:
        return 0, 0
    if node.op_type in PER_INPUT:
        return 0, math.prod(given[0])
    kernel = attribute(node, "kernel_shape", [1])
    return 0, math.prod(made) * math.prod(kernel) * SEVERAL.get(node.op_type, 1)


def _macs(node: Any, given: Sequence[Shape], made: Shape) -> int | None:
    results = math.prod(made)
    match node.op_type:
        case "Conv" | "FusedConv" | "ConvInteger" | "QLinearConv":
            weights = given[3 if node.op_type == "QLinearConv" else 1]  # [out, in / groups, *kernel]
            return results * math.prod(weights[1:])
        case "ConvTranspose":
            return math.prod(given[0]) * math.prod(given[1][1:])  # [in, out / groups, *kernel]
        case "MatMul" | "MatMulInteger" | "FusedMatMul" | "QLinearMatMul":
            return results * given[0][-1]
        case "Gemm":
            return results * given[0][0 if attribute(node, "transA", 0) else 1]
        case recurrent if recurrent in GATES:
            (steps, rows, size), (directions, _, hidden) = given[0], given[2]
            return GATES[recurrent] * directions * steps * rows * hidden * (size + hidden)
        case _:
            return None
