# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.graph import describe, require_sound
from airflow_onnx_provider.model.rewriting.top_k import add_argmax, add_top_k
from airflow_onnx_provider.runtime.session import open_session
from tests.runtime.tiny import FEATURES, write_onnx

ROWS = np.array([[1, 0, 0], [0, 2, 0], [0, 0, 0]], np.float32)


def test_the_best_classes_are_further_outputs(tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "a.onnx", FEATURES)
    add_top_k(source, tmp_path / "b.onnx", "scores", 2, keep_scores=True)

    require_sound(tmp_path / "b.onnx")
    names = [spec.name for spec in describe(tmp_path / "b.onnx").outputs]
    assert names == ["scores", "both", "best", "top_labels", "top_scores"]
    answers = dict(zip(names, open_session(tmp_path / "b.onnx").run(None, {"features": ROWS}), strict=True))
    assert answers["top_labels"].tolist() == [[0, 2], [1, 2], [0, 1]]  # of equal scores, the first classes
    np.testing.assert_array_equal(
        answers["top_scores"], np.take_along_axis(answers["scores"], answers["top_labels"], axis=1)
    )


def test_instead_of_the_scores(tmp_path: Path) -> None:
    add_top_k(write_onnx(tmp_path / "a.onnx", FEATURES), tmp_path / "b.onnx", "scores", 1, keep_scores=False)

    assert [spec.name for spec in describe(tmp_path / "b.onnx").outputs] == ["both", "best", "top_labels", "top_scores"]
    assert describe(tmp_path / "b.onnx").outputs[2].shape == ("batch", 1)


def test_more_than_there_are_classes(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="k must lie between 1 and the model's 3 classes, got 4"):
        add_top_k(write_onnx(tmp_path / "a.onnx", FEATURES), tmp_path / "b.onnx", "scores", 4, keep_scores=True)


def test_a_name_that_the_graph_uses_already(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="it has a tensor best already"):
        add_argmax(write_onnx(tmp_path / "a.onnx", FEATURES), tmp_path / "b.onnx", "scores")
