# SPDX-License-Identifier: Apache-2.0
"""The networks, with random weights from fixed seeds.

    python -m benchmarks.networks keras MobileNetV2 TARGET PARQUET...
    python -m benchmarks.networks int8 SOURCE TARGET PARQUET...

With random weights alone every photograph would get the same class, which would prove nothing about the ways. So the
last layer is set to the spread of its inputs over a few photographs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from benchmarks.datasets import FEATURES, MAX_TOKENS, VOCABULARY

OPSET = 18
IR_VERSION = 10
SAMPLES = 32
LOGIT_SPREAD = 1.5
PREPROCESSING = ImagePreprocessing(224, 224, scale=1 / 255)


def photographs(files: Sequence[str]) -> tuple[list[bytes], NDArray[np.uint8]]:
    """The first photographs of a data set, encoded and decoded."""
    groups = (group for file in files for group in pq.ParquetFile(file).iter_batches(16, columns=["image"]))
    encoded = list(islice((data for group in groups for data in group["image"].to_pylist()), SAMPLES))
    return encoded, np.stack([decode_image(data, PREPROCESSING) for data in encoded])


def write_keras(architecture: str, target: Path, samples: NDArray[np.uint8]) -> None:
    """A network of ``keras.applications`` as ONNX, by the product's own conversion."""
    import keras

    from airflow_onnx_provider.model.source import SourceModel

    keras.utils.set_random_seed(7)
    model = getattr(keras.applications, architecture)(weights=None)
    pixels = samples.astype(np.float32) / 255
    features = np.asarray(keras.Model(model.input, model.layers[-2].output)(pixels))
    kernel = np.random.default_rng(7).standard_normal((features.shape[1], model.output_shape[1])).astype(np.float32)
    kernel *= LOGIT_SPREAD / (features @ kernel).std(axis=0)
    model.layers[-1].set_weights([kernel, -features.mean(axis=0) @ kernel])
    source = SourceModel(str(target.with_suffix(".keras")), "tensorflow", PREPROCESSING.to_dict())
    model.save(source.path)
    try:
        source.module().to_onnx(source, target, OPSET)
    finally:
        source.path.unlink()


def write_int8(source: Path, target: Path, samples: NDArray[np.uint8]) -> None:
    """The static 8-bit variant, by the product's own quantisation."""
    from airflow_onnx_provider.model.frameworks.pictures import INPUT_NAME
    from airflow_onnx_provider.model.quantization.variants import Variant
    from airflow_onnx_provider.model.quantize import write_variant

    write_variant(Variant("static"), source, target, {INPUT_NAME: samples})


def write_table_network(target: Path) -> None:
    """100 columns → 128 → 64 → 10 classes."""
    sizes = (len(FEATURES), 128, 64, 10)
    rng = np.random.default_rng(7)
    weights: dict[str, NDArray[Any]] = {}
    lines, last = [], "features"
    for number, (rows, columns) in enumerate(pairwise(sizes)):
        weights[f"w{number}"] = rng.normal(0, np.sqrt(2 / rows), (rows, columns)).astype(np.float32)
        weights[f"b{number}"] = np.zeros(columns, np.float32)
        lines.append(f"g{number} = Gemm({last}, w{number}, b{number})")
        lines.append(f"r{number} = Relu(g{number})")
        last = f"r{number}"
    lines[-1] = "scores = Softmax<axis = -1>(g2)"
    _write(target, f"float[batch, {sizes[0]}] features", f"float[batch, {sizes[-1]}] scores", lines, weights)


def write_encoder(target: Path, layers: int = 4, width: int = 128, heads: int = 4, classes: int = 20) -> None:
    """A transformer encoder whose outputs are averaged over the tokens that the mask keeps."""
    rng = np.random.default_rng(7)

    def normal(*shape: int) -> NDArray[Any]:
        return rng.normal(0, 1 / np.sqrt(shape[0]), shape).astype(np.float32)

    weights: dict[str, NDArray[Any]] = {
        "words": rng.standard_normal((VOCABULARY, width), dtype=np.float32),
        "places": 0.3 * rng.standard_normal((MAX_TOKENS, width), dtype=np.float32),
        "ones": np.ones(width, np.float32),
        "one": np.ones(1, np.float32),
        "far": np.full(1, -10_000, np.float32),
        "root": np.full(1, np.sqrt(heads / width), np.float32),
        "zero": np.array([0]),
        "split": np.array([0, 0, heads, width // heads]),
        "join": np.array([0, 0, width]),
        "axis1": np.array([1]),
        "axis2": np.array([2]),
        "axes12": np.array([1, 2]),
        "head": 6 * normal(width, classes),
    }
    lines = [
        "length = Shape<start = 1, end = 2>(input_ids)",
        "place = Slice(places, zero, length)",
        "word = Gather(words, input_ids)",
        "x0 = Add(word, place)",
        "mask = Cast<to = 1>(attention_mask)",
        "gap = Sub(one, mask)",
        "gap4 = Unsqueeze(gap, axes12)",
        "bias = Mul(gap4, far)",
    ]
    for n in range(layers):
        for part, shape in {"q": 1, "k": 1, "v": 1, "o": 1, "up": 4}.items():
            weights[f"{part}w{n}"] = normal(width, width * shape)
        weights[f"downw{n}"] = normal(4 * width, width)
        lines.append(f"n{n} = LayerNormalization<axis = -1>(x{n}, ones)")
        for part, order in {"q": "[0, 2, 1, 3]", "k": "[0, 2, 3, 1]", "v": "[0, 2, 1, 3]"}.items():
            lines += [
                f"{part}a{n} = MatMul(n{n}, {part}w{n})",
                f"{part}b{n} = Reshape({part}a{n}, split)",
                f"{part}{n} = Transpose<perm = {order}>({part}b{n})",
            ]
        lines += [
            f"s{n} = MatMul(q{n}, k{n})",
            f"t{n} = Mul(s{n}, root)",
            f"m{n} = Add(t{n}, bias)",
            f"a{n} = Softmax<axis = -1>(m{n})",
            f"c{n} = MatMul(a{n}, v{n})",
            f"d{n} = Transpose<perm = [0, 2, 1, 3]>(c{n})",
            f"e{n} = Reshape(d{n}, join)",
            f"f{n} = MatMul(e{n}, ow{n})",
            f"y{n} = Add(x{n}, f{n})",
            f"h{n} = LayerNormalization<axis = -1>(y{n}, ones)",
            f"i{n} = MatMul(h{n}, upw{n})",
            f"j{n} = Relu(i{n})",
            f"l{n} = MatMul(j{n}, downw{n})",
            f"x{n + 1} = Add(y{n}, l{n})",
        ]
    lines += [
        f"z = LayerNormalization<axis = -1>(x{layers}, ones)",
        "mask3 = Unsqueeze(mask, axis2)",
        "kept = Mul(z, mask3)",
        "total = ReduceSum<keepdims = 0>(kept, axis1)",
        "count = ReduceSum<keepdims = 1>(mask, axis1)",
        "mean = Div(total, count)",
        "logits = MatMul(mean, head)",
        "scores = Softmax<axis = -1>(logits)",
    ]
    inputs = "int64[batch, sequence] input_ids, int64[batch, sequence] attention_mask"
    _write(target, inputs, f"float[batch, {classes}] scores", lines, weights)


def _write(target: Path, inputs: str, outputs: str, lines: list[str], weights: dict[str, NDArray[Any]]) -> None:
    import onnx
    from onnx import numpy_helper, parser

    header = f'<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>'
    model = parser.parse_model(f"{header} network ({inputs}) => ({outputs}) {{\n{chr(10).join(lines)}\n}}")
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))


def main(task: str, source: str, target: str, *files: str) -> None:
    _, samples = photographs(files)
    if task == "keras":
        write_keras(source, Path(target), samples)
    else:
        write_int8(Path(source), Path(target), samples)


if __name__ == "__main__":
    main(*sys.argv[1:])
