"""TensorFlow and Keras as a source: ``.keras``, ``.h5`` and SavedModel folders of image classifiers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ConversionError
from airflow_onnx_provider.model.source import Predictor, SourceModel
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

INPUT_NAME = "image"
OUTPUT_NAME = "scores"


def to_onnx(source: SourceModel, path: Path, opset: int) -> dict[str, Any]:
    """Write ``source`` as ONNX: ``image: uint8 [batch, height, width, 3]`` → ``scores: float [batch, classes]``.

    Cast, scale and normalisation are part of the graph. tf2onnx goes on after an operator that it cannot express, so
    what it says of itself proves nothing: the caller must look at the graph.

    :return: ``converter`` and ``converter_version``, ``preprocessing`` as used
    :raises BadInputError: if the source cannot be opened safely
    :raises ConversionError: if tf2onnx gives up
    """
    tf = _import_tensorflow()
    import tf2onnx

    model, preprocessing = _open(source)

    def graph(image: Any) -> dict[str, Any]:
        return {OUTPUT_NAME: _scores(tf, model, image, preprocessing)}

    signature = [tf.TensorSpec((None, *preprocessing.shape), tf.uint8, name=INPUT_NAME)]
    try:
        tf2onnx.convert.from_function(
            tf.function(graph, input_signature=signature),
            input_signature=signature,
            opset=opset,
            output_path=str(path),
        )
    except Exception as error:  # tf2onnx and TensorFlow raise anything; the name of the model must come first
        raise ConversionError(
            f"{source.path}: tf2onnx could not convert it: {type(error).__name__}: {error}"
        ) from error
    return {
        "converter": "tf2onnx",
        "converter_version": tf2onnx.__version__,
        "framework_version": tf.__version__,
        "preprocessing": preprocessing.to_dict(),
    }


def open_predictor(source: SourceModel) -> Predictor:
    """The source model as a plain function ``uint8 [rows, height, width, 3]`` → ``float32 [rows, classes]``."""
    tf = _import_tensorflow()
    model, preprocessing = _open(source)

    def predict(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(_scores(tf, model, tf.constant(batch), preprocessing), dtype=np.float32)

    return predict


def _scores(tf: Any, model: Callable[[Any], Any], image: Any, preprocessing: ImagePreprocessing) -> Any:
    pixels = tf.cast(image, tf.float32)
    factor = [preprocessing.scale / std for std in preprocessing.std]
    offset = [-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)]
    if set(factor) != {1.0}:
        pixels = pixels * _by_channel(tf, factor)
    if any(offset):
        pixels = pixels + _by_channel(tf, offset)
    return model(pixels)


def _by_channel(tf: Any, values: list[float]) -> Any:
    """One number if the channels agree: over pixels, a broadcast of three takes several times as long."""
    return tf.constant(values[0] if len(set(values)) == 1 else values, tf.float32)


def _import_tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise BadInputError(
            "TensorFlow is not installed in this Python: pip install 'airflow-onnx-provider[tensorflow]', or name "
            "another one with python="
        ) from error
    return tf


def _open(source: SourceModel) -> tuple[Callable[[Any], Any], ImagePreprocessing]:
    if source.path.is_dir():
        return _open_saved_model(source)
    return _open_keras(source)


def _open_keras(source: SourceModel) -> tuple[Callable[[Any], Any], ImagePreprocessing]:
    import keras

    if source.path.suffix not in (".keras", ".h5", ".hdf5"):
        raise BadInputError(f"{source.path}: TensorFlow models end in .keras or .h5, or are SavedModel folders")
    try:
        model = keras.models.load_model(source.path, compile=False, safe_mode=True)
    except Exception as error:  # keras raises ValueError, OSError, TypeError, ... for a bad file
        raise BadInputError(f"{source.path} is not a Keras model that opens safely: {_first_line(error)}") from error
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise BadInputError(
            f"{source.path}: one input and one output are supported, "
            f"it has {len(model.inputs)} and {len(model.outputs)}"
        )
    preprocessing = _agreed(source, tuple(model.inputs[0].shape[1:]))
    return (lambda pixels: model(pixels, training=False)), preprocessing


def _open_saved_model(source: SourceModel) -> tuple[Callable[[Any], Any], ImagePreprocessing]:
    if not (source.path / "saved_model.pb").is_file():
        raise BadInputError(f"{source.path}: the folder is no SavedModel (it has no saved_model.pb)")
    if not source.trusted:
        raise BadInputError(
            f"{source.path}: a SavedModel is code that runs when it is used. If you made it or trust its author, "
            "say so with trusted_source=True; a .keras file needs no such trust."
        )
    tf = _import_tensorflow()
    try:
        loaded = tf.saved_model.load(str(source.path))
    except Exception as error:
        raise BadInputError(f"{source.path} is not a SavedModel that opens: {_first_line(error)}") from error
    signatures = loaded.signatures
    if "serving_default" not in signatures:
        raise BadInputError(f"{source.path}: no signature serving_default, it has {sorted(signatures)}")
    signature = signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    if len(inputs) != 1 or len(signature.structured_outputs) != 1:
        raise BadInputError(f"{source.path}: serving_default must have one input and one output")
    ((input_name, spec),) = inputs.items()
    ((output_name, _),) = signature.structured_outputs.items()
    preprocessing = _agreed(source, tuple(spec.shape[1:]))

    def model(pixels: Any, _owner: Any = loaded) -> Any:  # the loaded object owns the variables: keep it alive
        return signature(**{input_name: pixels})[output_name]

    return model, preprocessing


def _agreed(source: SourceModel, shape: tuple[int | None, ...]) -> ImagePreprocessing:
    """The preprocessing as given, filled up and compared with the model's own input shape."""
    if len(shape) != 3 or shape[2] != 3:
        raise BadInputError(
            f"{source.path}: expected an input [batch, height, width, 3], found [batch, {', '.join(map(str, shape))}]"
        )
    given = dict(source.preprocessing)
    for axis, size in zip(("height", "width"), shape[:2], strict=True):
        if size is None and axis not in given:
            raise BadInputError(f"{source.path}: the model leaves its {axis} open; give it in preprocessing")
        if size is not None and given.setdefault(axis, size) != size:
            raise BadInputError(f"{source.path}: preprocessing says {axis} {given[axis]}, the model takes {size}")
    return ImagePreprocessing.from_dict(given)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
