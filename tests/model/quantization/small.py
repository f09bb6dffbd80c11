# SPDX-License-Identifier: Apache-2.0
"""Small models of every kind as versions, whose right labels are their own answers: nothing has to be trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.model.version import write_version
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.session import open_session

LABELS = ("a", "b", "c", "d")
WIDTH = 64


def write_graph(path: Path, inputs: str, lines: str, weights: dict[str, NDArray[Any]]) -> Path:
    """A graph in ONNX's text form; its weights are given as arrays."""
    import onnx
    from onnx import numpy_helper

    header = '<ir_version: 10, opset_import: ["" : 18]>'
    model = onnx.parser.parse_model(f"{header} network ({inputs}) => (float[batch, 4] scores) {{ {lines} }}")
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in weights.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return values / np.float32(np.sqrt(shape[0]))


def write_perceptron(path: Path) -> Path:
    """Three matrix products over plain columns."""
    lines = """
      a = MatMul (features, first)
      b = Relu (a)
      c = MatMul (b, second)
      d = Relu (c)
      logits = MatMul (d, third)
      scores = Softmax <axis = -1> (logits)
    """
    weights = {
        "first": 2 * normal(0, 8, WIDTH),
        "second": 2 * normal(1, WIDTH, WIDTH),
        "third": 2 * normal(2, WIDTH, 4),
    }
    return write_graph(path, "float[batch, 8] features", lines, weights)


def write_fragile(path: Path) -> Path:
    """A perceptron whose first column is large and counts for nothing: eight bits for all of them leave the others
    almost none."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(write_perceptron(path)))
    first = next(tensor for tensor in model.graph.initializer if tensor.name == "first")
    values = numpy_helper.to_array(first).copy()
    values[0] = 0
    first.CopyFrom(numpy_helper.from_array(values, "first"))
    onnx.save(model, str(path))
    return path


def columns(rows: int, seed: int = 5, first: float = 1.0) -> dict[str, NDArray[Any]]:
    """Rows for both; ``first`` is the size of the first column."""
    features = np.random.default_rng(seed).standard_normal((rows, 8), dtype=np.float32)
    features[:, 0] *= np.float32(first)
    return {"features": features}


def write_tokens(path: Path) -> Path:
    """A table of vectors, their mean over the tokens of a row, two matrix products."""
    lines = """
      vectors = Gather (table, ids)
      real = Cast <to = 1> (mask)
      column = Unsqueeze (real, two)
      kept = Mul (vectors, column)
      sums = ReduceSum <keepdims = 0> (kept, one)
      counts = ReduceSum <keepdims = 1> (real, one)
      means = Div (sums, counts)
      a = MatMul (means, first)
      b = Relu (a)
      logits = MatMul (b, second)
      scores = Softmax <axis = -1> (logits)
    """
    weights = {
        "table": np.random.default_rng(3).standard_normal((50, WIDTH), dtype=np.float32),
        "first": 2 * normal(1, WIDTH, WIDTH),
        "second": 4 * normal(2, WIDTH, 4),
        "one": np.array([1]),
        "two": np.array([2]),
    }
    return write_graph(path, "int64[batch, length] ids, int64[batch, length] mask", lines, weights)


def right_answers(path: Path, inputs: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    scores: NDArray[Any] = open_session(path).run(["scores"], inputs)[0]
    return scores.argmax(axis=1).astype(np.int64)


def version(folder: Path, onnx: Path, golden: dict[str, NDArray[Any]], **fields: Any) -> ModelManifest:
    """Make ``folder`` a whole version of the model."""
    rows = {name: values[:4] for name, values in golden.items()}
    return write_version(onnx, folder, name="small", golden=rows, labels=LABELS, **fields)


def operators(path: Path) -> set[str]:
    import onnx

    return {node.op_type for node in onnx.load(str(path)).graph.node}
