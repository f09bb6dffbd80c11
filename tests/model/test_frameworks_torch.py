# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError, ConversionError
from airflow_onnx_provider.model.source import SourceModel

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")

VECTOR = {"x": {"type": "float", "shape": ["batch", 6]}}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    from tests.model.networks import Cnn

    torch.save(Cnn().state_dict(), tmp_path / "cnn.pt")
    return tmp_path / "cnn.pt"


def to_onnx(source: SourceModel, opset: int = 18) -> Any:
    return source.module().to_onnx(source, Path(source.location).with_name("model.onnx"), opset)


def test_every_operator_that_onnx_lacks_is_listed(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "rare.pt")
    source = SourceModel(str(tmp_path / "rare.pt"), "torch", inputs=VECTOR, factory="tests.model.networks:rare")

    with pytest.raises(ConversionError, match=r"no operator for aten\.special_airy_ai\.default, prims\.bessel_j0"):
        to_onnx(source)


def test_so_is_it_for_a_script(tmp_path: Path) -> None:
    from tests.model.networks import Rare

    torch.jit.script(Rare()).save(str(tmp_path / "rare.pt"))
    source = SourceModel(str(tmp_path / "rare.pt"), "torch", inputs=VECTOR, trusted=True)

    with pytest.raises(ConversionError, match=r"no operator for aten::special_airy_ai, aten::special_bessel_j0"):
        to_onnx(source)


def test_a_program_of_a_fixed_batch_size(tmp_path: Path) -> None:
    from tests.model.networks import Gate

    torch.export.save(torch.export.export(Gate(), (torch.zeros(2, 6),)), tmp_path / "gate.pt2")

    with pytest.raises(BadInputError, match="exported with the fixed batch size 2; export it with dynamic_shapes"):
        to_onnx(SourceModel(str(tmp_path / "gate.pt2"), "torch", trusted=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factory": None}, r"holds weights alone: name the function that gives the empty network with factory="),
        ({"factory": "tests.model.networks"}, r"factory='package\.module:function', got 'tests\.model\.networks'"),
        ({"factory": "tests.model.nowhere:cnn"}, r"factory tests\.model\.nowhere:cnn: ModuleNotFoundError"),
        ({"factory": "tests.model.networks:no_network"}, r"gave a str, not a torch\.nn\.Module"),
        ({"factory": "tests.model.networks:encoder"}, r"does not fit the network of tests\.model\.networks:encoder"),
        ({"preprocessing": {}}, r"does not say what it takes; give inputs, .* or preprocessing with height and width"),
        ({"preprocessing": {}, "inputs": {"x": {"type": "float", "shape": [1, 3, 8, 8]}}}, r"a named first axis"),
        ({"preprocessing": {}, "inputs": {"x": {"type": "text", "shape": ["batch", 3]}}}, r"a type that torch has"),
        ({"preprocessing": {}, "inputs": VECTOR}, r"does not take x: float32 \['batch', 6\]: RuntimeError"),
        ({"inputs": VECTOR}, r"for pictures, one input \[batch, 3, height, width\] is expected"),
        ({"preprocessing": {"scale": 2}}, r"the model leaves its height open; give it in preprocessing"),
    ],
)
def test_settings_that_do_not_fit(weights: Path, changes: dict[str, Any], message: str) -> None:
    given = {"preprocessing": {"height": 8, "width": 8}, "factory": "tests.model.networks:cnn", **changes}

    with pytest.raises(BadInputError, match=message):
        to_onnx(SourceModel(str(weights), "torch", **given))


def test_an_opset_that_the_exporter_would_silently_raise(weights: Path) -> None:
    source = SourceModel(str(weights), "torch", {"height": 8, "width": 8}, factory="tests.model.networks:cnn")

    with pytest.raises(ConversionError, match="writes opset 18 at least, not 17"):
        to_onnx(source, 17)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pt", b"no archive", r"does not open as weights alone"),
        ("a.pt2", b"no archive", r"is not an ExportedProgram that opens"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)

    with pytest.raises(BadInputError, match=message):
        to_onnx(SourceModel(str(tmp_path / name), "torch", trusted=name == "a.pt2"))
