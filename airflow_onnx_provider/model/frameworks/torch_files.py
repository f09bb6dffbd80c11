# SPDX-License-Identifier: Apache-2.0
"""What PyTorch keeps in files, opened: weights with the factory of their network, exported programs, TorchScript."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, needs_extra
from airflow_onnx_provider.model.frameworks.pictures import Shape
from airflow_onnx_provider.model.source import OTHER_PYTHON, SourceModel

KINDS = {"exported": "an ExportedProgram", "script": "a TorchScript archive"}

WEIGHTS = ("state_dict", "model_state_dict")
"""Keys under which training scripts keep the weights in a checkpoint."""


def import_torch() -> Any:
    """PyTorch, set up for exporting.

    :raises MissingExtraError: if it is not installed
    """
    with needs_extra("torch", "a PyTorch model", OTHER_PYTHON):
        import torch
    torch.backends.mha.set_fastpath_enabled(False)  # a fused kernel of inference that ONNX has no operator for
    return torch


def open_module(torch: Any, source: SourceModel) -> tuple[Any, dict[str, tuple[Any, Shape]]]:
    """The network of a source, and what it takes: name to torch type and shape ``[batch, …]``.

    :raises BadInputError: if the file cannot be opened, or not safely
    """
    if not source.path.is_file():
        raise BadInputError(f"{source.location}: PyTorch models are files: a state_dict, .pt2 or TorchScript")
    kind = kind_of(source.path)
    if kind == "weights":
        return _of_weights(torch, source), _given_inputs(torch, source)
    if not source.trusted:
        raise BadInputError(
            f"{source.location}: {KINDS[kind]} can run code when it is opened or used. If you made it or trust its "
            "author, say so with trusted_source=True; a state_dict with factory= needs no such trust."
        )
    return _opened(torch, source, kind)


def kind_of(path: Path) -> str:
    """``exported``, ``script`` or ``weights``, by what is in the file: its name proves nothing."""
    if path.suffix == ".pt2":
        return "exported"
    if not zipfile.is_zipfile(path):
        return "weights"
    with zipfile.ZipFile(path) as archive:
        names = {name.rsplit("/", 1)[-1] for name in archive.namelist()}
    return "script" if "constants.pkl" in names else "exported" if "archive_format" in names else "weights"


def _of_weights(torch: Any, source: SourceModel) -> Any:
    try:
        found = torch.load(source.path, map_location="cpu", weights_only=not source.trusted)
    except Exception as error:
        raise BadInputError(
            f"{source.location} does not open as weights alone: {readable(error)}. Save model.state_dict(); a pickled "
            "module is code, and is opened only with trusted_source=True."
        ) from error
    if isinstance(found, torch.nn.Module):
        return found.eval()
    found = next((found[key] for key in WEIGHTS if isinstance(found, Mapping) and key in found), found)
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise BadInputError(f"{source.location} holds no state_dict (names to tensors)")
    network = _network_of(torch, source)
    try:
        network.load_state_dict(found)
    except RuntimeError as error:
        raise BadInputError(f"{source.location} does not fit the network of {source.factory}: {error}") from error
    return network.eval()


def _network_of(torch: Any, source: SourceModel) -> Any:
    if not source.factory or source.factory.count(":") != 1:
        raise BadInputError(
            f"{source.location} holds weights alone: name the function that gives the empty network with "
            f"factory='package.module:function', got {source.factory!r}"
        )
    module, function = source.factory.split(":")
    try:
        network = getattr(import_module(module), function)()
    except Exception as error:  # the user's own code
        raise BadInputError(f"factory {source.factory}: {type(error).__name__}: {error}") from error
    if not isinstance(network, torch.nn.Module):
        raise BadInputError(f"factory {source.factory} gave a {type(network).__name__}, not a torch.nn.Module")
    return network


def _opened(torch: Any, source: SourceModel, kind: str) -> tuple[Any, dict[str, tuple[Any, Shape]]]:
    try:
        if kind == "script":
            return torch.jit.load(str(source.path), map_location="cpu").eval(), _given_inputs(torch, source)
        program = torch.export.load(str(source.path))
    except Exception as error:
        raise BadInputError(f"{source.location} is not {KINDS[kind]} that opens: {readable(error)}") from error
    placeholders = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    inputs: dict[str, tuple[Any, Shape]] = {}
    for name in program.graph_signature.user_inputs:
        value = placeholders.get(name)
        if not isinstance(value, torch.Tensor):
            raise BadInputError(f"{source.location}: its input {name} is no tensor")
        if value.ndim and isinstance(value.shape[0], int):
            raise BadInputError(
                f"{source.location}: the program was exported with the fixed batch size {value.shape[0]}; export it "
                "with dynamic_shapes that leave the first axis open"
            )
        named = source.inputs.get(name, {}).get("shape", ())
        axes = [axis if isinstance(axis, int) else _axis(named, name, index) for index, axis in enumerate(value.shape)]
        inputs[name] = (value.dtype, axes)
    return program.module(), inputs


def _axis(named: Sequence[Any], name: str, index: int) -> str:
    given = named[index] if index < len(named) else None
    return "batch" if index == 0 else given if isinstance(given, str) else f"{name}_{index}"


def _given_inputs(torch: Any, source: SourceModel) -> dict[str, tuple[Any, Shape]]:
    found: dict[str, tuple[Any, Shape]] = {}
    for name, spec in source.inputs.items():
        kind = getattr(torch, str(spec.get("type")), None)
        shape = spec.get("shape")
        if not isinstance(kind, torch.dtype) or not shape or not isinstance(shape[0], str):
            raise BadInputError(
                f"inputs: {name} needs a type that torch has and a shape with a named first axis, such as "
                f'{{"type": "float", "shape": ["batch", 10]}}, got {dict(spec)}'
            )
        found[name] = (kind, list(shape))
    return found


def readable(error: Exception) -> str:
    """An error of PyTorch in one line."""
    lines = [re.sub(r"\x1b\[\d+m", "", line).strip() for line in str(error).splitlines()]
    return f"{type(error).__name__}: {next(filter(None, lines), '')}"
