# SPDX-License-Identifier: Apache-2.0
"""Memory stays flat: ten times the rows, the same peak."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.runtime.tiny import encoded, write_version

WORKER = """
import sys
from pathlib import Path
import pyarrow as pa
from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.runtime.scorer import score_rows
from airflow_onnx_provider.runtime.session import load_model

folder, picture, batches = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), int(sys.argv[3])
manifest = ModelManifest.read(folder)

def arriving():
    for number in range(batches):  # every one a copy of its own, as it comes out of a socket
        keys = pa.array([f"{number}/{row}" for row in range(50)])
        yield pa.record_batch({"key": keys, "image": pa.array([picture] * 50)})

metrics = TaskMetrics()
left = sum(
    batch.num_rows
    for batch in score_rows(
        arriving(),
        load_model(folder, manifest.digest),
        columns={"image": ("image",)},
        kept=[pa.field("key", pa.string())],
        answers=Answers.of(manifest),
        metrics=metrics,
    )
)
assert left == metrics.rows == 50 * batches
print(metrics.peak_memory_mb)
"""


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 150 kB, so that rows that were kept would show."""
    path = tmp_path_factory.mktemp("picture") / "noise.jpg"
    path.write_bytes(encoded(Image.effect_noise((480, 360), 90), "JPEG", quality=95))
    return path


def peak(folder: Path, picture: Path, batches: int) -> float:
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(folder), str(picture), str(batches)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def test_ten_times_the_rows_need_no_more_memory(picture: Path, tmp_path: Path) -> None:
    write_version(tmp_path)
    assert peak(tmp_path, picture, 40) <= 1.1 * peak(tmp_path, picture, 4)
