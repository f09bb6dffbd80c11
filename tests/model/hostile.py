# SPDX-License-Identifier: Apache-2.0
"""Makes models that nobody should open, each as small as it can be."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

HUGE = 1 << 40

PLAIN = """
<ir_version: 10, opset_import: ["" : 18]>
plain (float[batch, 3] x) => (float[batch, 3] y)
<float[3, 3] w = {2, -1, 0.5, -1, 2, 0.5, 0.5, 0.5, 1}>
{ y = MatMul (x, w) }
"""
"""What is right with all of them: three numbers in, three numbers out."""

Change = Callable[[Any], None]


@dataclass(frozen=True)
class Hostile:
    """One bad model.

    :param name: the test's id
    :param message: what its refusal must say, as a regular expression
    :param text: in ONNX's text form
    :param change: what is done to the parsed model, for faults that the text form cannot express
    :param files: writes what lies beside the model
    :param data: the file's bytes, for what is no model at all
    """

    name: str
    message: str
    text: str = PLAIN
    change: Change | None = None
    files: Callable[[Path], None] | None = None
    data: bytes | None = None

    def write(self, folder: Path) -> Path:
        """Write ``folder/model.onnx`` and what belongs to it."""
        path = folder / "model.onnx"
        if self.files is not None:
            self.files(folder)
        if self.data is not None:
            path.write_bytes(self.data)
        elif not path.exists():
            path.write_bytes(self.proto().SerializeToString())
        return path

    def proto(self) -> Any:
        model = onnx.parser.parse_model(self.text)
        if self.change is not None:
            self.change(model)
        return model


def body(nodes: str, *, weights: str = "", opsets: str = "", tail: str = "") -> str:
    """The plain model with other operators; ``x`` and ``w`` are there, ``y`` is wanted."""
    text = PLAIN.replace("y = MatMul (x, w)", nodes).replace("<float[3, 3] w", f"<{weights} float[3, 3] w")
    return text.replace('"" : 18', f'"" : 18{opsets}') + tail


def loop(goes_on: str, *, bound: str = '""', condition: str = "yes") -> str:
    """A loop that adds 1 to ``x`` until ``goes_on`` is false; ``top`` is the largest number of ``x``."""
    nodes = f"""top = ReduceMax <keepdims = 0> (x)
    y = Loop ({bound}, {condition}, x) <body = round (int64 i, bool before, float[batch, 3] z)
      => (bool after, float[batch, 3] more)
      {{ one = Constant <value = float[1] {{1}}> () more = Add (z, one) after = {goes_on} }}>"""
    return body(nodes, weights="int64 most = {9223372036854775807}, bool yes = {1},")


DOUBLING = body(
    """grown = Loop (rounds, yes, x) <body = round (int64 i, bool before, float[batch, n] z)
      => (bool after, float[batch, m] more)
      { more = Concat <axis = 1> (z, z) after = Identity (before) }>
    top = ReduceMax <keepdims = 0> (grown)
    y = Add (x, top)""",
    weights="int64 rounds = {60}, bool yes = {1},",
)
"""A tensor of three numbers that doubles sixty times."""

ASKED_FOR = body(
    """top = ReduceMax <keepdims = 1> (x)
    many = Mul (top, million)
    size = Cast <to = 7> (many)
    flat = Reshape (size, one)
    filled = ConstantOfShape (flat)
    most = ReduceMax <keepdims = 0> (filled)
    y = Add (x, most)""",
    weights="float million = {1e12}, int64[1] one = {1},",
)
"""A tensor as large as the numbers that come in say."""

DIVIDING = body(
    """a = Unsqueeze (x, two)
    hidden = com.microsoft.Gelu (a)
    b = mine.spread <parts = 0> (hidden, kernel)
    y = ReduceMax <keepdims = 0> (b, two)""",
    weights="int64[1] two = {2}, float[3, 1, 1] kernel = {1, 1, 1},",
    opsets=', "com.microsoft" : 1, "mine" : 1',
    tail="""<domain: "mine", opset_import: ["" : 18]>
spread <parts> (a, k) => (b) { b = ConvTranspose <group: int = @parts> (a, k) }""",
)
"""A function hides the attribute that ONNX Runtime 1.31 divides by, and an operator that ONNX does not know hides
the shapes from inference."""


def functions(*bodies: str, call: str = "first") -> str:
    """The plain model that calls local functions of the domain ``mine``."""
    local = "\n".join(f'<domain: "mine", opset_import: ["" : 18, "mine" : 1, "acme" : 1]>\n{one}' for one in bodies)
    return body(f"y = mine.{call} (x)", opsets=', "mine" : 1', tail=local)


def nested(depth: int) -> str:
    """``If`` in the branch of an ``If``."""
    inner = "Identity (x)"
    for level in range(depth):
        then = f"a{level} () => (float[batch, 3] z{level}) {{ z{level} = {inner} }}"
        otherwise = f"b{level} () => (float[batch, 3] z{level}) {{ z{level} = Identity (x) }}"
        inner = f"If (yes) <then_branch = {then}, else_branch = {otherwise}>"
    return body(f"y = {inner}", weights="bool yes = {1},")


def endlessly_nested(levels: int = 60) -> bytes:
    """More levels than protobuf writes, so its bytes are put together by hand: a graph in an attribute in a node."""
    data = b""
    for _ in range(levels):
        attribute = _field(6, data)  # AttributeProto.g
        data = _field(1, _field(5, attribute))  # GraphProto.node, NodeProto.attribute
    return onnx.parser.parse_model(PLAIN).SerializeToString() + _field(7, data)  # ModelProto.graph


def _field(number: int, data: bytes) -> bytes:
    length, size = b"", len(data)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def external(
    location: str = "model.onnx.data", *, offset: int | str | None = None, length: int | None = None
) -> Change:
    """Moves the weights out of the file."""

    def change(model: Any) -> None:
        weights = model.graph.initializer[0]
        weights.ClearField("float_data")
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            if value is not None:
                weights.external_data.add(key=key, value=str(value))

    return change


def holding(size: int, name: str = "model.onnx.data") -> Callable[[Path], None]:
    """A file of so many bytes beside the model."""
    return lambda folder: _ignore((folder / name).write_bytes(bytes(size)))


def sparse(size: int) -> Callable[[Path], None]:
    """A file that claims a size and has nothing of it."""

    def files(folder: Path) -> None:
        with (folder / "model.onnx.data").open("wb") as file:
            file.truncate(size)

    return files


def linked_file(folder: Path) -> None:
    (folder / "model.onnx.data").symlink_to("/etc/passwd")


def hard_link(folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(36))
    (folder / "model.onnx.data").hardlink_to(folder / "secret")


def linked_folder(folder: Path) -> None:
    (folder / "sub").symlink_to("/etc")


def linked_devices(folder: Path) -> None:
    (folder / "sub").symlink_to("/dev")


def folder_for_file(folder: Path) -> None:
    (folder / "model.onnx.data").mkdir()


def pipe(name: str) -> Callable[[Path], None]:
    """A named pipe: whoever opens it waits for ever."""
    return lambda folder: os.mkfifo(folder / name)


def newer(model: Any) -> None:
    model.opset_import[0].version = 27


def weight(**fields: Any) -> Change:
    """Gives the weight other fields."""

    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        for name, value in fields.items():
            if isinstance(value, list):
                tensor.ClearField(name)
                getattr(tensor, name).extend(value)
            elif value is None:
                tensor.ClearField(name)
            else:
                setattr(tensor, name, value)

    return change


def set_to(**fields: Any) -> Change:
    """Gives the model's header other fields."""
    return lambda model: _ignore([setattr(model, name, value) for name, value in fields.items()])


def without(name: str) -> Change:
    """Takes the graph's inputs or outputs away."""
    return lambda model: model.graph.ClearField(name)


def twice_imported(model: Any) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 11))


def constant_input(model: Any) -> None:
    """All inputs are weights."""
    model.graph.initializer.append(helper.make_tensor("x", TensorProto.FLOAT, [1, 3], [1, 2, 3]))


def two_weights(model: Any) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def renamed(model: Any) -> None:
    model.graph.initializer[0].name = model.graph.node[0].input[1] = "../../../home/user/.bashrc"


def library(model: Any) -> None:
    model.metadata_props.add(key="runtime", value="./libevil.so")


def dense(size: int) -> Change:
    """Adds a sparse weight of one value that fills up to ``size`` of them."""

    def change(model: Any) -> None:
        values = helper.make_tensor("holes", TensorProto.FLOAT, [1], [1.0])
        indices = helper.make_tensor("at", TensorProto.INT64, [1], [0])
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [size]))

    return change


def _ignore(_: object) -> None:
    return None


GROWING = "\n".join(
    f'<domain: "mine", opset_import: ["" : 18, "mine" : 1]>\nf{level} (a) => (d) '
    + (
        "{ d = Relu (a) }"
        if level == 12
        else "{{ b = mine.f{0} (a) c = mine.f{0} (b) d = mine.f{0} (c) }}".format(level + 1)
    )
    for level in range(13)
)
"""Each function calls the next one three times."""
