# SPDX-License-Identifier: Apache-2.0
"""Real things, only tiny: a classifier of 4 x 4 pictures by their colour, its model version, and encoded pictures.

And one model for each other kind of input: features, texts beside numbers, token ids.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from airflow_onnx_provider.runtime.manifest import (
    MANIFEST_NAME,
    MODEL_NAME,
    Golden,
    ModelManifest,
    TensorSpec,
    sha256_of_file,
    write_json,
)
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing, TokenPreprocessing
from airflow_onnx_provider.runtime.session import LoadedModel, load_model, open_session

PREPROCESSING = ImagePreprocessing(height=4, width=4)
LABELS = ("red", "green", "blue")

CLASSIFIER = """
<ir_version: 10, opset_import: ["" : 18]>
colours (uint8[batch, 4, 4, 3] image) => (float[batch, 3] scores)
<float[3, 3] weights = {0.02, 0, 0, 0, 0.02, 0, 0, 0, 0.02}, int64[2] axes = {1, 2}>
{
  pixels = Cast <to = 1> (image)
  colour = ReduceMean <keepdims = 0> (pixels, axes)
  logits = MatMul (colour, weights)
  scores = Softmax <axis = -1> (logits)
}
"""
"""Softmax over the mean red, green and blue of a picture: each row's scores depend on that row alone."""

FEATURES = """
<ir_version: 10, opset_import: ["" : 18]>
iris (float[batch, 3] features) => (float[batch, 3] scores, float[batch, 2, 3] both, int64[batch] best)
<float[3, 3] weights = {2, -1, 0.5, -1, 2, 0.5, 0.5, 0.5, 1}, int64[1] one = {1}>
{
  logits = MatMul (features, weights)
  scores = Softmax <axis = -1> (logits)
  a = Unsqueeze (logits, one)
  b = Unsqueeze (scores, one)
  both = Concat <axis = 1> (a, b)
  best = ArgMax <axis = 1, keepdims = 0> (scores)
}
"""
"""Three features, three classes; beside the scores an output of two axes and the best class as a number."""

OFFERS = """
<ir_version: 10, opset_import: ["" : 18, "ai.onnx.ml" : 2]>
offers (float[batch, 2] price, string[batch] shop) => (float[batch, 2] scores, string[batch] said)
<int64[1] one = {1}>
{
  known = ai.onnx.ml.LabelEncoder <keys_strings = ["north", "south"], values_floats = [1.0, -2.0]> (shop)
  column = Unsqueeze (known, one)
  logits = Mul (price, column)
  scores = Softmax <axis = -1> (logits)
  said = Identity (shop)
}
"""
"""A pair of numbers and a text in; scores and the text again out."""

VOCABULARY = 20

TEXTS = f"""
<ir_version: 10, opset_import: ["" : 18]>
texts (int64[batch, length] ids, int64[batch, length] mask) => (float[batch, 3] scores)
<float[{VOCABULARY}, 3] table = {{{", ".join(f"{(number * 7) % 11 / 4}" for number in range(VOCABULARY * 3))}}},
 int64[1] one = {{1}}, int64[1] two = {{2}}>
{{
  vectors = Gather (table, ids)
  real = Cast <to = 1> (mask)
  column = Unsqueeze (real, two)
  kept = Mul (vectors, column)
  sums = ReduceSum <keepdims = 0> (kept, one)
  counts = ReduceSum <keepdims = 1> (real, one)
  means = Div (sums, counts)
  scores = Softmax <axis = -1> (means)
}}
"""
"""The mean of the tokens' vectors: padding that the mask does not hide changes the answer. An id that the table does
not have makes the whole batch fail."""

TOKENS = TokenPreprocessing("ids", "mask", max_length=12, pad_id=3)


def write_onnx(path: Path, text: str = CLASSIFIER) -> Path:
    """Write a model in ONNX's text form as a binary file, unchecked."""
    import onnx

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


def manifest_of(folder: Path, **fields: Any) -> ModelManifest:
    """A manifest of ``folder/model.onnx``, a classifier of three colours."""
    given: dict[str, Any] = {
        "name": "colours",
        "files": {MODEL_NAME: sha256_of_file(folder / MODEL_NAME)},
        "inputs": (TensorSpec("image", "uint8", ("batch", 4, 4, 3)),),
        "outputs": (TensorSpec("scores", "float", ("batch", 3)),),
        "opset": 18,
        "domains": ("",),
        "preprocessing": PREPROCESSING,
        "labels": LABELS,
    }
    return ModelManifest(**{**given, **fields})


def write_version(folder: Path, tolerance: float = 1e-5, **fields: Any) -> ModelManifest:
    """Make ``folder`` a whole model version with golden rows, and return its manifest."""
    write_onnx(folder / MODEL_NAME)
    manifest = manifest_of(folder, **fields)
    inputs = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    model = LoadedModel(manifest, open_session(folder / MODEL_NAME))
    return write_golden(folder, manifest, inputs, model.run(inputs), tolerance)


def write_golden(
    folder: Path, manifest: ModelManifest, inputs: NDArray[Any], answers: NDArray[Any], tolerance: float = 1e-5
) -> ModelManifest:
    """Give a version these golden rows."""
    np.savez(folder / "rows.npz", inputs=inputs, answers=answers)
    proved = replace(manifest, golden=Golden.keep(folder / "rows.npz", folder, tolerance))
    write_json(folder / MANIFEST_NAME, proved.to_dict())
    return proved


def version_of(folder: Path, text: str, golden: Mapping[str, Any], **fields: Any) -> ModelManifest:
    """Make ``folder`` a whole version of any model, with these rows as the golden ones."""
    from airflow_onnx_provider.model import version

    onnx = write_onnx(folder / "source" / "a.onnx", text)
    rows = {name: np.asarray(values) for name, values in golden.items()}
    return version.write_version(onnx, folder, **{"name": "tiny", "golden": rows, **fields})


def loaded(folder: Path, text: str, golden: Mapping[str, Any], **fields: Any) -> LoadedModel:
    """The same, opened and proved."""
    return load_model(folder, version_of(folder, text, golden, **fields).digest)


def golden_file(manifest: ModelManifest) -> str:
    """Where a version's golden rows lie in its folder."""
    assert manifest.golden is not None
    return manifest.golden.file


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture's bytes in the given format."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def plain_picture(colour: tuple[int, int, int], size: tuple[int, int] = (4, 4)) -> bytes:
    """A PNG of one colour."""
    return encoded(Image.new("RGB", size, colour))
