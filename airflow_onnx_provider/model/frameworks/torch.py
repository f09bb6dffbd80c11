# SPDX-License-Identifier: Apache-2.0
"""PyTorch as a source: a state_dict with the factory of its network, an ExportedProgram (``.pt2``), TorchScript."""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ConversionError, MissingExtraError, needs_extra
from airflow_onnx_provider.model.frameworks.pictures import (
    INPUT_NAME,
    OUTPUT_NAME,
    Shape,
    agreed,
    factor_and_offset,
    other_preprocessing,
)
from airflow_onnx_provider.model.frameworks.torch_files import import_torch, kind_of, open_module, readable
from airflow_onnx_provider.model.source import OTHER_PYTHON, Predictor, SourceModel
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

OLDEST_OPSET = 18
"""What torch's exporter writes at least, whatever it is asked for."""

LARGE = 1_500_000_000
"""Bytes of weights above which they are written beside the graph at once."""

EXAMPLE_ROWS = 2
EXAMPLE_SIZES = (7, 32, 224)
"""Tried for axes that vary: a network of pictures does not take the shortest."""


@dataclass(frozen=True)
class _Network:
    """A module that takes and gives flat tuples of tensors.

    :param module: a ``torch.nn.Module``
    :param inputs: name to torch type and shape ``[batch, …]``, a name for each axis that varies
    :param outputs: names of what it gives
    :param examples: one small batch that it takes
    """

    module: Any
    inputs: Mapping[str, tuple[Any, Shape]]
    outputs: Sequence[str]
    examples: tuple[Any, ...]
    preprocessing: ImagePreprocessing | None


def to_onnx(source: SourceModel, path: Path, opset: int) -> dict[str, Any]:
    """Write ``source`` as ONNX.

    With picture preprocessing the graph takes ``image: uint8 [batch, height, width, 3]``; cast, scale, normalisation
    and the change to channels first are in it. Otherwise inputs keep the names, types and axes that were given.

    :return: ``converter`` and ``converter_version``, ``framework_version``, ``preprocessing`` as used (or None)
    :raises BadInputError: if the source cannot be opened safely, or the inputs do not fit the network
    :raises ConversionError: if torch's exporter gives up, with every operator that it lacks
    """
    torch = import_torch()
    network = _open(source)
    export = _export_script if kind_of(source.path) == "script" else _export
    if export is _export and opset < OLDEST_OPSET:
        raise ConversionError(f"{source.location}: torch's exporter writes opset {OLDEST_OPSET} at least, not {opset}")
    try:
        with _quiet():
            export(torch, network, path, opset)
    except ConversionError as error:
        raise ConversionError(f"{source.location} {error}") from error
    except MissingExtraError:
        raise
    except Exception as error:  # the exporter raises whatever the network and the compiler raise
        raise ConversionError(f"{source.location}: torch's exporter could not convert it: {readable(error)}") from error
    return {
        "converter": "torch.onnx",
        "converter_version": torch.__version__,
        "framework_version": torch.__version__,
        "preprocessing": network.preprocessing.to_dict() if network.preprocessing else other_preprocessing(source),
    }


def open_predictor(source: SourceModel) -> Predictor:
    """The source model as a plain function of named arrays."""
    torch = import_torch()
    network = _open(source)

    def predict(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        tensors = [torch.as_tensor(np.asarray(inputs[name]), dtype=kind) for name, (kind, _) in network.inputs.items()]
        with torch.inference_mode(), _quiet():
            answers = network.module(*tensors)
        return {name: answer.numpy() for name, answer in zip(network.outputs, answers, strict=True)}

    return predict


def _export(torch: Any, network: _Network, path: Path, opset: int) -> None:
    with needs_extra("torch", "converting a PyTorch model", OTHER_PYTHON):
        import onnxscript  # noqa: F401  # torch's exporter needs it and does not bring it

    # Names, not Dim objects: an axis that turns out to be fixed is then found when the graph runs, in plain words.
    axes = tuple(
        {index: axis for index, axis in enumerate(shape) if isinstance(axis, str)}
        for _, shape in network.inputs.values()
    )

    def export(**more: Any) -> Any:
        return torch.onnx.export(
            network.module,
            network.examples,
            dynamo=True,
            dynamic_shapes=(axes,),
            opset_version=opset,
            input_names=list(network.inputs),
            output_names=list(network.outputs),
            verbose=False,
            **more,
        )

    try:
        program = export()
    except torch.onnx.OnnxExporterError as error:
        with tempfile.TemporaryDirectory(prefix="onnx-report-") as folder:
            try:
                export(report=True, artifacts_dir=folder)
            except torch.onnx.OnnxExporterError:
                text = "".join(file.read_text(errors="replace") for file in sorted(Path(folder).glob("*.md")))
        lacking = sorted(set(re.findall(r"^- `([\w.:]+)`: +No (?:decompositions|ONNX function)", text, re.MULTILINE)))
        if lacking:
            raise ConversionError(f"cannot be converted: ONNX has no operator for {', '.join(lacking)}") from error
        raise
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.module.state_dict().values())
    program.save(str(path), external_data=size > LARGE)


def _export_script(torch: Any, network: _Network, path: Path, opset: int) -> None:
    traced = torch.jit.trace(network.module, network.examples, check_trace=False)
    names = [*network.inputs, *network.outputs]
    axes: dict[str, dict[int, str]] = {name: {0: "batch"} for name in names}
    for name, (_, shape) in network.inputs.items():
        axes[name].update({index: axis for index, axis in enumerate(shape) if isinstance(axis, str)})
    try:
        torch.onnx.export(
            traced,
            network.examples,
            str(path),
            dynamo=False,
            dynamic_axes=axes,
            opset_version=opset,
            input_names=list(network.inputs),
            output_names=list(network.outputs),
        )
    except torch.onnx.errors.UnsupportedOperatorError as error:
        from torch.onnx.utils import unconvertible_ops

        _, lacking = unconvertible_ops(traced, network.examples, opset_version=opset)
        raise ConversionError(
            f"cannot be converted: ONNX has no operator for {', '.join(sorted(set(lacking)))}"
        ) from error


def _open(source: SourceModel) -> _Network:
    torch = import_torch()
    return _flat(torch, source, *open_module(torch, source))


def _flat(torch: Any, source: SourceModel, network: Any, inputs: dict[str, tuple[Any, Shape]]) -> _Network:
    """The network with its pictures' preprocessing, and with tuples of tensors for whatever it takes and gives."""
    preprocessing = _pictures(source, inputs)
    if preprocessing:
        inputs = {INPUT_NAME: (torch.uint8, ["batch", *preprocessing.shape])}
    if not inputs:
        raise BadInputError(
            f"{source.location} does not say what it takes; give inputs, such as "
            '{"x": {"type": "float", "shape": ["batch", 10]}}, or preprocessing with height and width for pictures'
        )
    only = OUTPUT_NAME if preprocessing else "output"
    module = _wrapper(torch, network, preprocessing, only)
    failure: Exception | None = None
    for size in EXAMPLE_SIZES:
        examples = _examples(torch, inputs, size)
        try:
            with torch.no_grad(), _quiet():
                named = _named(torch, module.answers(*examples), only)
        except BadInputError:
            raise
        except Exception as error:  # the user's own code
            failure = failure or error
            continue
        return _Network(module, inputs, list(named), examples, preprocessing)
    raise BadInputError(
        f"{source.location} does not take {_described(inputs)}: {readable(failure) if failure else ''}"
    ) from failure


def _pictures(source: SourceModel, inputs: Mapping[str, tuple[Any, Shape]]) -> ImagePreprocessing | None:
    if not source.preprocessing or source.preprocessing.get("kind") in ("columns", "tokens"):
        return None
    if not inputs:
        return agreed(source, None, None)
    shapes = [shape for _, shape in inputs.values()]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3:
        raise BadInputError(
            f"{source.location}: for pictures, one input [batch, 3, height, width] is expected, found "
            f"{_described(inputs)}. Leave preprocessing out for a model that takes columns."
        )
    return agreed(source, shapes[0][2], shapes[0][3])


def _wrapper(torch: Any, network: Any, preprocessing: ImagePreprocessing | None, only: str) -> Any:
    factor, offset = factor_and_offset(preprocessing) if preprocessing else ([], [])

    class Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("factor", torch.tensor(factor).reshape(-1, 1, 1))
            self.register_buffer("offset", torch.tensor(offset).reshape(-1, 1, 1))

        def answers(self, *tensors: Any) -> Any:
            if preprocessing is None:
                return self.network(*tensors)
            pixels = tensors[0].permute(0, 3, 1, 2).to(torch.float32)
            if factor:
                pixels = pixels * self.factor
            if offset:
                pixels = pixels + self.offset
            return self.network(pixels)

        def forward(self, *tensors: Any) -> Any:
            return tuple(_named(torch, self.answers(*tensors), only).values())

    module = Flat()
    module.training = False  # not eval(): the module of an exported program refuses it
    return module


def _named(torch: Any, answers: Any, only: str) -> dict[str, Any]:
    if isinstance(answers, torch.Tensor):
        return {only: answers}
    if isinstance(answers, Mapping):
        named = dict(answers)
    elif hasattr(answers, "_asdict"):
        named = answers._asdict()
    elif isinstance(answers, (tuple, list)):
        named = {f"output_{index}": answer for index, answer in enumerate(answers)}
    else:
        named = {only: answers}
    named = {name: answer for name, answer in named.items() if answer is not None}
    if wrong := [name for name, answer in named.items() if not isinstance(answer, torch.Tensor)]:
        raise BadInputError(f"the network's answers {', '.join(map(str, wrong))} are no tensors")
    return named


def _examples(torch: Any, inputs: Mapping[str, tuple[Any, Shape]], size: int) -> tuple[Any, ...]:
    names = sorted({axis for _, shape in inputs.values() for axis in shape[1:] if isinstance(axis, str)})
    sizes = {name: size + index for index, name in enumerate(names)}  # all different, so that none is taken for another
    examples = []
    for kind, shape in inputs.values():
        full = (EXAMPLE_ROWS, *(sizes[axis] if isinstance(axis, str) else axis for axis in shape[1:]))
        examples.append(torch.ones(full, dtype=kind))
    return tuple(examples)


def _described(inputs: Mapping[str, tuple[Any, Shape]]) -> str:
    return ", ".join(
        f"{name}: {str(kind).removeprefix('torch.')} {list(shape)}" for name, (kind, shape) in inputs.items()
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter and its passes say of themselves."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnx_ir", "onnxscript")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
