# SPDX-License-Identifier: Apache-2.0
"""Each feature without its extra: one line that names the extra."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError, MissingExtraError, from_traceback, needs_extra
from airflow_onnx_provider.model.quantization.variants import Variant
from airflow_onnx_provider.model.quantize import write_variant
from airflow_onnx_provider.model.rewriting.simplify import simplify
from airflow_onnx_provider.runtime.manifest import MODEL_NAME
from tests.conftest import make_colour_model
from tests.package.features import WITH_NOTHING
from tests.package.lacking import require_line, used


@pytest.fixture(scope="module")
def said(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What each feature ended with where no extra is installed."""
    return used(bare, WITH_NOTHING, tmp_path_factory.mktemp("features"))


@pytest.mark.parametrize("feature", WITH_NOTHING)
def test_a_missing_extra_is_one_line_that_names_it(said: dict[str, dict[str, str]], feature: str) -> None:
    require_line(said[feature], WITH_NOTHING[feature].extra)


def test_simplifying_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Path(make_colour_model(tmp_path)) / MODEL_NAME
    monkeypatch.setitem(sys.modules, "onnxslim", None)

    with pytest.raises(MissingExtraError, match=r"^the step simplify needs the extra optimize: pip install"):
        simplify(model, tmp_path / MODEL_NAME)


def test_the_variant_float16_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Path(make_colour_model(tmp_path)) / MODEL_NAME
    monkeypatch.setitem(sys.modules, "onnxconverter_common.float16", None)

    with pytest.raises(MissingExtraError, match=r"^the variant float16 needs the extra optimize: pip install"):
        write_variant(Variant("float16"), model, tmp_path / MODEL_NAME)


def test_the_line_says_which_python_lacks_what_and_the_other_way_out() -> None:
    with pytest.raises(MissingExtraError) as caught, needs_extra("torch", "a model", ", or name another Python"):
        import no_such_framework  # noqa: F401

    assert str(caught.value).startswith(
        "a model needs the extra torch: pip install 'airflow-onnx-provider[torch]', or name another Python (/"
    )
    assert str(caught.value).endswith("python: No module named 'no_such_framework')")


def test_a_library_that_breaks_in_many_lines_is_told_in_its_first() -> None:
    with (
        pytest.raises(MissingExtraError, match=r": numpy failed to import\)$"),
        needs_extra("cpu", "it"),
    ):
        raise ImportError("numpy failed to import\n\nA module that was compiled …")


def test_it_keeps_its_class_across_processes() -> None:
    found = from_traceback("airflow_onnx_provider.exceptions.MissingExtraError: x needs the extra cpu: …")

    assert type(found) is MissingExtraError
    assert isinstance(found, BadInputError), "no retry helps"
