# SPDX-License-Identifier: Apache-2.0
"""Real architectures with random weights, written with ONNX's own helpers: no framework is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.runtime.session import open_session

RESNET50 = ((3, 64), (4, 128), (6, 256), (3, 512))
"""Its blocks: how many of each width."""

SIZE = 16
"""Of the small network's pictures."""

UNARY = ("Relu", "Tanh", "Abs", "Neg")
BINARY = ("Add", "Mul", "Sub", "Max")


class Writer:
    """Collects nodes and weights."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, NDArray[Any]] = {}
        self.random = np.random.default_rng(seed)

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        import onnx

        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def answer(self, operator: str, name: str, *inputs: str, **attributes: Any) -> None:
        """A node whose output has a name of its own."""
        import onnx

        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [name], name, **attributes))

    def weight(self, values: Any) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights[name] = np.asarray(values)
        return name

    def random_weight(self, *shape: int, gain: float = 2.0) -> str:
        """As He and others initialise them: the spread of the activations stays what it is."""
        spread = np.sqrt(gain / np.prod(shape[1:]))
        return self.weight(self.random.standard_normal(shape, dtype=np.float32) * np.float32(spread))

    def convolution(self, data: str, channels: tuple[int, int], size: int, stride: int = 1, gain: float = 2.0) -> str:
        weights = self.random_weight(channels[1], channels[0], size, size, gain=gain)
        bias = self.weight(np.zeros(channels[1], np.float32))
        return self.node("Conv", data, weights, bias, strides=[stride] * 2, pads=[size // 2] * 4)

    def save(self, path: Path, inputs: list[Any], outputs: list[Any]) -> Path:
        import onnx

        weights = [onnx.numpy_helper.from_array(values, name) for name, values in self.weights.items()]
        graph = onnx.helper.make_graph(self.nodes, "network", inputs, outputs, weights)
        model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)])
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path))
        return path


def tensor(name: str, *shape: int | str, kind: str = "FLOAT") -> Any:
    """An input or output of a graph."""
    import onnx

    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DataType.Value(kind), shape)


def blotches(rows: int, size: int = 224) -> NDArray[np.uint8]:
    """Pictures of large patches of colour: what they show survives a network's averaging, unlike noise."""
    coarse = np.random.default_rng(5).integers(0, 256, (rows, 4, 4, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(size // 4, axis=1).repeat(size // 4, axis=2))


def write_resnet50(path: Path, size: int = 224, classes: int = 1000) -> Path:
    """ResNet50, the form that halves the picture in the 3 x 3 convolutions, normalisation folded into these.

    It takes ``image: uint8 [batch, size, size, 3]`` and gives ``scores: float [batch, classes]``.
    """
    net = Writer()
    pixels = net.node("Cast", "image", to=1)
    centred = net.node("Sub", net.node("Mul", pixels, net.weight(np.float32(1 / 64))), net.weight(np.float32(2)))
    stem = net.convolution(net.node("Transpose", centred, perm=[0, 3, 1, 2]), (3, 64), 7, 2)
    last = net.node("MaxPool", net.node("Relu", stem), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for number, (blocks, width) in enumerate(RESNET50):
        for block in range(blocks):
            stride = 2 if number and not block else 1
            a = net.node("Relu", net.convolution(last, (channels, width), 1))
            b = net.node("Relu", net.convolution(a, (width, width), 3, stride))
            c = net.convolution(b, (width, 4 * width), 1, gain=0.2)  # the sums of many blocks must not grow
            shortcut = last if block else net.convolution(last, (channels, 4 * width), 1, stride, gain=1.0)
            last = net.node("Relu", net.node("Add", c, shortcut))
            channels = 4 * width
    pooled = net.node("Flatten", net.node("GlobalAveragePool", last))
    inputs = [tensor("image", "batch", size, size, 3, kind="UINT8")]
    features = open_session(net.save(path, inputs, [tensor(pooled, "batch", channels)]))
    spread = features.run(None, {"image": blotches(4, size)})[0]
    # With random weights alone every picture would get the same class.
    head = net.random.standard_normal((classes, channels), dtype=np.float32)
    head *= 2 / (spread @ head.T).std(axis=0).mean()
    net.answer("Gemm", "logits", pooled, net.weight(head), net.weight(-head @ spread.mean(axis=0)), transB=1)
    net.answer("Softmax", "scores", "logits", axis=-1)
    return net.save(path, inputs, [tensor("scores", "batch", classes)])


def write_small_network(path: Path, channels: int = 16) -> Path:
    """Two convolutions and a softmax over three classes: ``image: uint8 [batch, 16, 16, 3]`` → ``scores``."""
    net = Writer(3)
    scaled = net.node("Mul", net.node("Cast", "image", to=1), net.weight(np.float32(1 / 255)))
    planes = net.node("Transpose", scaled, perm=[0, 3, 1, 2])
    _small_body(net, planes, channels)
    return net.save(path, [tensor("image", "batch", SIZE, SIZE, 3, kind="UINT8")], [tensor("scores", "batch", 3)])


def write_planes_network(path: Path, rows: int | str = "batch") -> Path:
    """The same without its beginning: ``planes: float [rows, 3, 16, 16]`` → ``scores``, as frameworks export it."""
    net = Writer(3)
    _small_body(net, "planes", 16, rows)
    return net.save(path, [tensor("planes", rows, 3, SIZE, SIZE)], [tensor("scores", rows, 3)])


def _small_body(net: Writer, planes: str, channels: int, rows: int | str = "batch") -> None:
    convolved = net.convolution(planes, (3, channels), 3)
    statistics = [net.weight(np.full(channels, value, np.float32)) for value in (1.1, 0.1, 0.2, 0.9)]
    a = net.node("Relu", net.node("BatchNormalization", convolved, *statistics))
    b = net.node("Relu", net.convolution(a, (channels, channels), 3, 2))
    shape = net.weight(np.array([rows if isinstance(rows, int) else -1, channels]))
    flat = net.node("Reshape", net.node("GlobalAveragePool", b), shape)
    logits = net.node("MatMul", flat, net.random_weight(channels, 3, gain=60.0))
    net.answer("Softmax", "scores", logits, axis=-1)


def write_random_graph(path: Path, choices: list[tuple[int, int, int]], width: int = 4, outputs: int = 1) -> Path:
    """A graph of ``[batch, width]`` tensors with branches, skips, dead ends and shared weights.

    Each choice makes a node, and picks its operator and its inputs among the tensors before it.
    """
    net = Writer(len(choices))
    tensors = ["x"]
    shared = net.random_weight(width, width, gain=1.0)
    for kind, first, second in choices:
        left, right = tensors[-1 - first % min(3, len(tensors))], tensors[-1 - second % min(9, len(tensors))]
        match kind % 4:
            case 0:
                made = net.node(UNARY[first % len(UNARY)], left)
            case 1:
                made = net.node(BINARY[second % len(BINARY)], left, right)
            case 2:
                made = net.node("MatMul", left, shared if second % 2 else net.random_weight(width, width, gain=1.0))
            case _:
                constant = net.node("Neg", net.weight(net.random.standard_normal(width).astype(np.float32)))
                made = net.node("Add", left, constant)
        tensors.append(net.node("Tanh", made))  # keeps numbers small
    return net.save(path, [tensor("x", "batch", width)], [tensor(name, "batch", width) for name in tensors[-outputs:]])
