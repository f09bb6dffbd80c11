"""Real things, only tiny: a classifier of 4 x 4 pictures by their colour, its model version, and encoded pictures."""

from __future__ import annotations

import io
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
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.session import LoadedModel, open_session

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
    model = LoadedModel(manifest, open_session(folder / MODEL_NAME, threads=1), threads=1)
    return write_golden(folder, manifest, inputs, model.run(inputs), tolerance)


def write_golden(
    folder: Path, manifest: ModelManifest, inputs: NDArray[Any], answers: NDArray[Any], tolerance: float = 1e-5
) -> ModelManifest:
    """Give a version these golden rows."""
    np.savez(folder / "rows.npz", inputs=inputs, answers=answers)
    proved = replace(manifest, golden=Golden.keep(folder / "rows.npz", folder, tolerance))
    write_json(folder / MANIFEST_NAME, proved.to_dict())
    return proved


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
