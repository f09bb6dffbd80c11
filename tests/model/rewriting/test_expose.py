# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.graph import describe, require_sound
from airflow_onnx_provider.model.rewriting.expose import expose
from airflow_onnx_provider.runtime.session import open_session
from tests.runtime.tiny import write_onnx


def test_an_inner_tensor_becomes_an_output_after_the_models_own(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model.onnx")
    expose(path, ["colour", "scores"])
    require_sound(path)
    assert [(spec.name, spec.shape) for spec in describe(path).outputs] == [
        ("scores", ("batch", 3)),
        ("colour", ("batch", 3)),
    ]
    red = np.full((1, 4, 4, 3), (200, 0, 0), np.uint8)
    assert open_session(path).run(["colour"], {"image": red})[0].tolist() == [[200, 0, 0]]


def test_an_unknown_tensor_is_answered_with_those_that_are_there(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model.onnx")
    with pytest.raises(BadInputError, match="no inner tensor 'pool'.* its last ones are logits, colour, pixels"):
        expose(path, ["pool"])
