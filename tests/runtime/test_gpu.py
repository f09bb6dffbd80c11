# SPDX-License-Identifier: Apache-2.0
"""The runtime on a real GPU; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.profile import ExecutionProfile, profile_named
from airflow_onnx_provider.runtime.session import LoadedModel, load_model, open_session
from airflow_onnx_provider.runtime.task import METRICS, ScoringTask
from tests.runtime.tiny import plain_picture, write_onnx

HALF = """
<ir_version: 10, opset_import: ["" : 18]>
half (float16[batch, 8] x) => (float16[batch, 4] y)
<float[4] row = {0.5, 0.25, -0.5, 1}, int64[2] shape = {8, 4}>
{
  rows = Expand (row, shape)
  weights = Cast <to = 10> (rows)
  sums = MatMul (x, weights)
  y = Relu (sums)
}
"""


@pytest.fixture
def gpu(version: Path) -> ExecutionProfile:
    """The CUDA profile, if this ONNX Runtime can open a session with it."""
    profile = profile_named("cuda").on_device("0")
    try:
        open_session(version / "model.onnx", profile)
    except (BadInputError, RuntimeError) as error:  # without a driver ONNX Runtime's own exception, a RuntimeError
        pytest.skip(f"needs a GPU and onnxruntime-gpu (the extra 'gpu'): {str(error).splitlines()[0][:120]}")
    return profile


def test_the_gpu_gives_the_golden_answers(version: Path, gpu: ExecutionProfile) -> None:
    model = load_model(version, ModelManifest.read(version).digest, gpu)

    assert model.provider == "CUDAExecutionProvider"
    assert model.golden_difference <= 1e-5


def test_the_gpu_agrees_with_the_cpu_on_many_rows(version: Path, gpu: ExecutionProfile, model: LoadedModel) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (256, 4, 4, 3), dtype=np.uint8)

    on_gpu = LoadedModel(model.manifest, open_session(version / "model.onnx", gpu), gpu).run(rows)

    np.testing.assert_allclose(on_gpu, model.run(rows), atol=1e-4)


def test_half_precision_agrees_with_the_cpu(tmp_path: Path, gpu: ExecutionProfile) -> None:
    path = write_onnx(tmp_path / "half.onnx", HALF)
    rows = np.random.default_rng(2).normal(size=(64, 8)).astype(np.float16)

    (on_gpu,) = open_session(path, gpu).run(None, {"x": rows})
    (on_cpu,) = open_session(path).run(None, {"x": rows})

    np.testing.assert_allclose(on_gpu.astype(np.float32), on_cpu.astype(np.float32), atol=1e-2)


def test_a_whole_task_runs_on_the_gpu_with_a_pool_of_decoders(version: Path, gpu: ExecutionProfile) -> None:
    pictures = [plain_picture(((255, 0, 0), (0, 255, 0), (0, 0, 255))[number % 3]) for number in range(200)]
    columns = {"key": list(map(str, range(200))), "address": list(map(str, range(200))), "image": pictures}
    task = ScoringTask(str(version), ModelManifest.read(version).digest, gpu, from_bytes=True)

    found = [row for batch in task([pa.RecordBatch.from_pydict(columns)]) for row in batch.to_pylist()]

    rows = [row for row in found if row["outcome"] != METRICS]
    assert [row["label"] for row in rows] == [("red", "green", "blue")[number % 3] for number in range(200)]
    assert {row["execution_provider"] for row in rows} == {"CUDAExecutionProvider"}
