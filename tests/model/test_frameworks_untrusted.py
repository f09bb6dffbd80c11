# SPDX-License-Identifier: Apache-2.0
"""Files that run code when they are opened: none does so by default. A canary file would prove it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.source import SourceModel


class Sneaky:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.canary,))


def pickled(folder: Path, canary: Path) -> SourceModel:
    (folder / "model.pkl").write_bytes(pickle.dumps(Sneaky(canary)))
    return SourceModel(str(folder / "model.pkl"), "sklearn")


def joblibbed(folder: Path, canary: Path) -> SourceModel:
    import joblib

    joblib.dump(Sneaky(canary), folder / "model.joblib")
    return SourceModel(str(folder / "model.joblib"), "sklearn")


def unknown_type(folder: Path, canary: Path) -> SourceModel:
    from sklearn.preprocessing import FunctionTransformer
    from skops import io

    io.dump(FunctionTransformer(func=Path.touch, kw_args={"self": canary}), folder / "model.skops")
    return SourceModel(str(folder / "model.skops"), "sklearn")


def poisoned_weights(folder: Path, canary: Path) -> SourceModel:
    import torch

    torch.save({"weight": torch.zeros(2), "extra": Sneaky(canary)}, folder / "weights.pt")
    return SourceModel(str(folder / "weights.pt"), "torch", factory="tests.model.networks:cnn")


def pickled_module(folder: Path, canary: Path) -> SourceModel:
    (folder / "module.pth").write_bytes(pickle.dumps(Sneaky(canary)))
    return SourceModel(str(folder / "module.pth"), "torch", factory="tests.model.networks:cnn")


def script(folder: Path, canary: Path) -> SourceModel:
    import torch

    from tests.model.networks import Gate

    torch.jit.script(Gate()).save(str(folder / "weights.pt"))
    inputs = {"x": {"type": "float", "shape": ["batch", 6]}}
    return SourceModel(str(folder / "weights.pt"), "torch", inputs=inputs)


def program(folder: Path, canary: Path, *, trusted: bool = False) -> SourceModel:
    """An ExportedProgram whose sample inputs are a pickle; torch opens them when the archive says so."""
    import torch

    from tests.model.networks import Gate

    made = torch.export.export(Gate(), (torch.zeros(2, 6),))
    torch.export.save(made, folder / "whole.pt2")
    with zipfile.ZipFile(folder / "whole.pt2") as whole, zipfile.ZipFile(folder / "model.pt2", "w") as changed:
        for name in whole.namelist():
            data = whole.read(name)
            if "sample_inputs" in name or name.endswith(".pt"):
                data = pickle.dumps(Sneaky(canary))
            changed.writestr(name, data.replace(b'"use_pickle": false', b'"use_pickle": true'))
    return SourceModel(str(folder / "model.pt2"), "torch", trusted=trusted)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pickled, r"a pickle runs code when it is opened.*trusted_source=True; a \.skops file"),
        (joblibbed, r"a pickle runs code when it is opened"),
        (unknown_type, r"holds types that skops does not trust: .*pathlib.*trusted_source=True"),
        (poisoned_weights, r"does not open as weights alone: .*Save model\.state_dict\(\)"),
        (pickled_module, r"does not open as weights alone: .*trusted_source=True"),
        (script, r"a TorchScript archive can run code .*trusted_source=True; a state_dict with factory="),
        (program, r"an ExportedProgram can run code when it is opened .*trusted_source=True"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_code_in_a_source_does_not_run(tmp_path: Path, make: Callable[[Path, Path], SourceModel], message: str) -> None:
    canary = tmp_path / "canary"
    source = make(tmp_path, canary)

    with pytest.raises(BadInputError, match=message):
        source.module().to_onnx(source, tmp_path / "model.onnx", 18)
    with pytest.raises(BadInputError, match=message):
        source.module().open_predictor(source)
    assert not canary.exists()
    assert not (tmp_path / "model.onnx").exists()


def test_the_canary_sings_when_a_pickle_is_opened(tmp_path: Path) -> None:
    """Otherwise its silence proves nothing."""
    source = pickled(tmp_path, tmp_path / "canary")
    trusting = SourceModel(source.location, "sklearn", trusted=True)

    with pytest.raises(BadInputError, match="the NoneType does not say what it takes"):
        trusting.module().to_onnx(trusting, tmp_path / "model.onnx", 18)
    assert (tmp_path / "canary").exists()
