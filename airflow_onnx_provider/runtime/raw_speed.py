"""The yardstick: the same decode and the same model in plain processes, without Spark in between."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from airflow_onnx_provider.exceptions import OnnxProviderError, RowError, from_traceback
from airflow_onnx_provider.runtime.batching import BatchBuffer
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.scorer import read_picture
from airflow_onnx_provider.runtime.session import LoadedModel, load_model

MAX_SECONDS = 5.0
TIMEOUT_SECONDS = 120.0


def images_per_second(addresses: Sequence[str], model: LoadedModel, batch_size: int) -> float:
    """Read, decode and score in a plain loop, as fast as one process can.

    Broken pictures count as work done, as they do in the job. Stops after :data:`MAX_SECONDS`.

    :param addresses: paths of pictures on this machine
    :return: pictures a second, 0.0 for no pictures
    """
    preprocessing = model.preprocessing
    buffer = BatchBuffer(batch_size, preprocessing.shape, np.uint8)
    done = 0
    started = time.perf_counter()
    for address in addresses:
        with contextlib.suppress(RowError):
            buffer.add(address, decode_image(read_picture(address), preprocessing))
        if buffer.full:
            model.run(buffer.tensor)
            buffer.take_keys()
        done += 1
        if time.perf_counter() - started > MAX_SECONDS:
            break
    if buffer.rows:
        model.run(buffer.tensor)
    return done / (time.perf_counter() - started) if done else 0.0


def measure_in_child(addresses: Sequence[str], folder: Path, digest: str, threads: int, batch_size: int) -> float:
    """Run :func:`images_per_second` in a fresh process of this Python.

    :raises OnnxProviderError: the child's own error, or the end of what it printed
    """
    spec = {
        "addresses": list(addresses),
        "folder": str(folder),
        "digest": digest,
        "threads": threads,
        "batch_size": batch_size,
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(spec),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        check=False,
    )
    if done.returncode:
        raise from_traceback(done.stderr) or OnnxProviderError(
            f"measuring the raw speed failed: {done.stderr.strip()[-500:]}"
        )
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Read the measurement's settings as JSON from standard input, print pictures a second."""
    spec = json.load(sys.stdin)
    model = load_model(Path(spec["folder"]), spec["digest"], spec["threads"])
    images_per_second(spec["addresses"][: 2 * spec["batch_size"]], model, spec["batch_size"])  # warm up
    print(images_per_second(spec["addresses"], model, spec["batch_size"]))


if __name__ == "__main__":
    main()
