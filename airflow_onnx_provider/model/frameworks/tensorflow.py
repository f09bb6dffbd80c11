# SPDX-License-Identifier: Apache-2.0
"""TensorFlow and Keras as a source: ``.keras``, ``.h5`` and SavedModel folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ConversionError, needs_extra
from airflow_onnx_provider.model.frameworks.pictures import (
    INPUT_NAME,
    OUTPUT_NAME,
    Shape,
    agreed,
    factor_and_offset,
    other_preprocessing,
    takes_pictures,
)
from airflow_onnx_provider.model.source import OTHER_PYTHON, Predictor, SourceModel
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class _Network:
    """A network as a function of named tensors.

    :param call: tensors by name in and out
    :param inputs: name to TensorFlow type and shape ``[batch, …]``, None for an axis that varies
    :param preprocessing: as folded into ``call``, for a network that takes pictures
    """

    call: Callable[[Mapping[str, Any]], dict[str, Any]]
    inputs: Mapping[str, tuple[Any, Shape]]
    preprocessing: ImagePreprocessing | None = None


def to_onnx(source: SourceModel, path: Path, opset: int) -> dict[str, Any]:
    """Write ``source`` as ONNX.

    A classifier of pictures becomes ``image: uint8 [batch, height, width, 3]`` → ``scores: float [batch, classes]``,
    with cast, scale and normalisation in the graph. Any other network keeps its inputs' and outputs' names and types.
    tf2onnx goes on after an operator that it cannot express, so what it says of itself proves nothing: the caller
    must look at the graph.

    :return: ``converter`` and ``converter_version``, ``framework_version``, ``preprocessing`` as used (or None)
    :raises BadInputError: if the source cannot be opened safely
    :raises ConversionError: if tf2onnx gives up
    """
    tf = _import_tensorflow()
    import onnx

    with needs_extra("tensorflow", "converting a TensorFlow model", OTHER_PYTHON):
        import tf2onnx

    network = _open(source)
    signature = [tf.TensorSpec((None, *shape[1:]), kind, name=name) for name, (kind, shape) in network.inputs.items()]
    try:
        function, outputs = _frozen(tf, network, signature)
        model, _ = tf2onnx.convert.from_function(
            function, input_signature=signature, opset=opset, custom_op_handlers={"Erfc": (_erfc, [])}
        )
    except Exception as error:  # tf2onnx and TensorFlow raise anything; the name of the model must come first
        raise ConversionError(
            f"{source.location}: tf2onnx could not convert it: {type(error).__name__}: {error}"
        ) from error
    if extra := sorted({value.name for value in model.graph.input} - set(network.inputs)):
        raise ConversionError(f"{source.location}: tf2onnx made inputs of inner constants: {', '.join(extra)}")
    declared = {value.name: value for value in model.graph.output}
    del model.graph.output[:]
    model.graph.output.extend(declared[name] for name in outputs)  # TensorFlow sorts them by name
    onnx.save(model, str(path))
    return {
        "converter": "tf2onnx",
        "converter_version": tf2onnx.__version__,
        "framework_version": tf.__version__,
        "preprocessing": network.preprocessing.to_dict() if network.preprocessing else other_preprocessing(source),
    }


def _frozen(tf: Any, network: _Network, signature: list[Any]) -> tuple[Any, list[str]]:
    """The network with its weights, and all else that it captured, as constants.

    tf2onnx itself freezes variables only: the constants of a Normalization layer would become inputs.

    :return: a ``tf.function``, and the names of its outputs in the network's order
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    names = list(network.inputs)
    order: list[str] = []

    def call(*tensors: Any) -> dict[str, Any]:
        answers = network.call(dict(zip(names, tensors, strict=True)))
        order[:] = answers
        return {name: tf.identity(answer) for name, answer in answers.items()}

    concrete = tf.function(call, input_signature=signature).get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)

    def constant(*tensors: Any) -> dict[str, Any]:
        return dict(zip(sorted(order), frozen(*tensors), strict=True))

    return tf.function(constant, input_signature=signature), order


def _erfc(ctx: Any, node: Any, name: str, _args: list[Any]) -> None:
    """``1 - erf(x)`` for the operator of the exact GELU, which tf2onnx does not know."""
    from tf2onnx import utils

    shapes, kinds = node.output_shapes, node.output_dtypes
    one = ctx.make_const(f"{name}__one", np.array(1, utils.map_onnx_to_numpy_type(kinds[0])))
    ctx.remove_node(node.name)
    erf = ctx.make_node("Erf", [node.input[0]], shapes=shapes, dtypes=kinds)
    ctx.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output, shapes=shapes, dtypes=kinds)


def open_predictor(source: SourceModel) -> Predictor:
    """The source model as a plain function of named arrays."""
    tf = _import_tensorflow()
    network = _open(source)

    def predict(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        tensors = {name: tf.constant(inputs[name], kind) for name, (kind, _) in network.inputs.items()}
        return {name: np.asarray(answer) for name, answer in network.call(tensors).items()}

    return predict


def _import_tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with needs_extra("tensorflow", "a TensorFlow or Keras model", OTHER_PYTHON):
        import tensorflow as tf
    return tf


def _open(source: SourceModel) -> _Network:
    network = _open_saved_model(source) if source.path.is_dir() else _open_keras(source)
    shapes = [shape for _, shape in network.inputs.values()]
    if not takes_pictures(source, shapes):
        return network
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] != 3:
        found = ", ".join(f"{name} {_readable(shape)}" for name, (_, shape) in network.inputs.items())
        raise BadInputError(
            f"{source.location}: for pictures, one input [batch, height, width, 3] is expected, found {found}. "
            "Leave preprocessing out for a model that takes columns."
        )
    return _of_pictures(source, network, shapes[0])


def _of_pictures(source: SourceModel, network: _Network, shape: Shape) -> _Network:
    tf = _import_tensorflow()
    preprocessing = agreed(source, shape[1], shape[2])
    factor, offset = factor_and_offset(preprocessing)
    ((inner, (kind, _)),) = network.inputs.items()

    def call(tensors: Mapping[str, Any]) -> dict[str, Any]:
        pixels = tf.cast(tensors[INPUT_NAME], kind)
        if factor:
            pixels = pixels * tf.constant(factor, kind)
        if offset:
            pixels = pixels + tf.constant(offset, kind)
        answers = network.call({inner: pixels})
        return {OUTPUT_NAME: next(iter(answers.values()))} if len(answers) == 1 else answers

    return _Network(call, {INPUT_NAME: (tf.uint8, (None, *preprocessing.shape))}, preprocessing)


def _open_keras(source: SourceModel) -> _Network:
    tf = _import_tensorflow()
    import keras

    if source.path.suffix not in (".keras", ".h5", ".hdf5"):
        raise BadInputError(f"{source.location}: TensorFlow models end in .keras or .h5, or are SavedModel folders")
    try:
        model = keras.models.load_model(source.path, compile=False, safe_mode=True)
    except Exception as error:  # keras raises ValueError, OSError, TypeError, ... for a bad file
        raise BadInputError(
            f"{source.location} is not a Keras model that opens safely: {_first_line(error)}"
        ) from error
    if not getattr(model, "inputs", None):
        raise BadInputError(
            f"{source.location}: the Keras model does not say what it takes; call it once before it is saved, or "
            "export it as a SavedModel"
        )
    names = _distinct([tensor.name for tensor in model.inputs])
    if isinstance(model, keras.Sequential):
        outputs, structure = _distinct([model.layers[-1].name]), model.inputs[0]
    else:
        outputs, structure = _distinct(model.output_names), model.input

    def call(tensors: Mapping[str, Any]) -> dict[str, Any]:
        answers = model(keras.tree.pack_sequence_as(structure, [tensors[name] for name in names]), training=False)
        return dict(zip(outputs, keras.tree.flatten(answers), strict=True))

    inputs = {
        name: (tf.as_dtype(tensor.dtype), tuple(tensor.shape)) for name, tensor in zip(names, model.inputs, strict=True)
    }
    return _Network(call, inputs)


def _open_saved_model(source: SourceModel) -> _Network:
    if not (source.path / "saved_model.pb").is_file():
        raise BadInputError(f"{source.location}: the folder is no SavedModel (it has no saved_model.pb)")
    if not source.trusted:
        raise BadInputError(
            f"{source.location}: a SavedModel is code that runs when it is used. If you made it or trust its author, "
            "say so with trusted_source=True; a .keras file needs no such trust."
        )
    tf = _import_tensorflow()
    try:
        loaded = tf.saved_model.load(str(source.path))
    except Exception as error:
        raise BadInputError(f"{source.location} is not a SavedModel that opens: {_first_line(error)}") from error
    wanted = source.signature or DEFAULT_SIGNATURE
    if wanted not in loaded.signatures:
        raise BadInputError(
            f"{source.location}: no signature {wanted}, it has {sorted(loaded.signatures)}; choose one with signature="
        )
    signature = loaded.signatures[wanted]
    inputs = {
        name: (spec.dtype, tuple(spec.shape) if spec.shape.rank is not None else ())
        for name, spec in signature.structured_input_signature[1].items()
    }

    def call(tensors: Mapping[str, Any], _owner: Any = loaded) -> dict[str, Any]:
        return dict(signature(**tensors))  # the loaded object owns the variables: keep it alive

    return _Network(call, inputs)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that columns can have, each once."""
    plain = [re.sub(r"\W", "_", name) for name in names]
    return [name if plain.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(plain)]


def _readable(shape: Shape) -> str:
    return f"[batch, {', '.join(map(str, shape[1:]))}]"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
