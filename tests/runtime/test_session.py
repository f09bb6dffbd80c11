# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError, GoldenMismatchError
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME, MODEL_NAME, ModelManifest, write_json
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.runtime.session import (
    LoadedModel,
    _require_one_build,
    import_onnxruntime,
    load_model,
    open_session,
)
from tests.runtime.tiny import golden_file, write_golden, write_version

pytestmark = pytest.mark.usefixtures("fresh_worker")


def test_a_session_uses_the_cores_it_was_given_and_does_not_spin(version: Path) -> None:
    session = open_session(version / MODEL_NAME, ExecutionProfile(threads=2))
    options = session.get_session_options()

    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_an_execution_provider_that_is_not_there_is_no_silent_fall_back(version: Path) -> None:
    with pytest.raises(BadInputError, match=r"asked for ROCMExecutionProvider, but this ONNX Runtime has only \['"):
        open_session(version / MODEL_NAME, ExecutionProfile("ROCMExecutionProvider"))


def test_importing_onnxruntime_leaves_nothing_in_the_users_home(tmp_path: Path) -> None:
    code = """
import os
from airflow_onnx_provider.runtime.session import import_onnxruntime
import_onnxruntime()
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "1"
    assert list(tmp_path.rglob("*")) == []


def test_a_model_is_opened_proved_and_kept(version: Path) -> None:
    digest = ModelManifest.read(version).digest
    model = load_model(version, digest)

    assert model.run(np.zeros((2, 4, 4, 3), dtype=np.uint8)) == pytest.approx(np.full((2, 3), 1 / 3))
    assert 0 <= model.golden_difference <= 1e-5
    assert (model.input_name, model.output_name) == ("image", "scores")
    assert load_model(version, digest) is model


def test_another_profile_is_another_session(version: Path) -> None:
    digest = ModelManifest.read(version).digest
    one = load_model(version, digest)
    two = load_model(version, digest, ExecutionProfile(threads=2))

    assert two is not one
    assert load_model(version, digest, ExecutionProfile(threads=2)) is two
    assert two.session.get_session_options().intra_op_num_threads == 2


def test_another_digest_than_the_expected_is_refused(version: Path) -> None:
    with pytest.raises(BadInputError, match=r"expected the model 000000000000…, but .* holds"):
        load_model(version, "0" * 64)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    digest = write_version(tmp_path).digest
    (tmp_path / MODEL_NAME).write_bytes((tmp_path / MODEL_NAME).read_bytes() + b"\0")

    with pytest.raises(DigestMismatchError, match="model.onnx is not the file that was recorded"):
        load_model(tmp_path, digest)


def test_changed_golden_rows_are_refused(tmp_path: Path) -> None:
    manifest = write_version(tmp_path)
    np.savez(
        tmp_path / golden_file(manifest), inputs=np.zeros((1, 4, 4, 3), np.uint8), answers=np.zeros((1, 3), np.float32)
    )

    with pytest.raises(DigestMismatchError, match=r"golden/\w+.npz"):
        load_model(tmp_path, manifest.digest)


def test_a_model_that_was_never_validated_is_refused(tmp_path: Path) -> None:
    manifest = replace(write_version(tmp_path), golden=None)
    write_json(tmp_path / MANIFEST_NAME, manifest.to_dict())

    with pytest.raises(BadInputError, match="was never validated.*Put an OnnxValidateOperator before inference"):
        load_model(tmp_path, manifest.digest)


@pytest.mark.parametrize("wrong", [0.5, np.nan], ids=["off by a half", "not a number"])
def test_other_golden_answers_are_refused_with_the_numbers(tmp_path: Path, wrong: float) -> None:
    manifest = write_version(tmp_path)
    inputs = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    answers = np.full((2, 3), 1 / 3, dtype=np.float32)
    answers[1, 2] += wrong
    write_golden(tmp_path, manifest, inputs, answers)

    with pytest.raises(GoldenMismatchError, match=r"differ by (0\.5|nan) on this machine \(accepted: 1e-05\)"):
        load_model(tmp_path, manifest.digest)


def test_a_model_that_was_refused_is_not_kept(tmp_path: Path) -> None:
    manifest = write_version(tmp_path)
    write_golden(tmp_path, manifest, np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 3), np.float32))
    with pytest.raises(GoldenMismatchError):
        load_model(tmp_path, manifest.digest)

    write_json(tmp_path / MANIFEST_NAME, manifest.to_dict())

    assert load_model(tmp_path, manifest.digest).golden_difference <= 1e-5


def test_a_model_that_takes_no_pictures_has_no_preprocessing(model: LoadedModel) -> None:
    tabular = replace(model, manifest=replace(model.manifest, preprocessing=None))

    with pytest.raises(BadInputError, match="has no image preprocessing"):
        _ = tabular.manifest.image_preprocessing


def test_provenance_is_what_onnxruntime_says_of_itself(model: LoadedModel) -> None:
    import onnxruntime

    assert (model.runtime_version, model.provider) == (onnxruntime.__version__, "CPUExecutionProvider")


def test_two_builds_of_onnx_runtime_in_one_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu"):
        info = tmp_path / f"{name}-1.31.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    _require_one_build.cache_clear()

    with pytest.raises(BadInputError, match=r"onnxruntime and onnxruntime-gpu are both installed"):
        import_onnxruntime()
