"""The yardstick: the same decode and the same model in plain processes, without Spark in between."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from airflow_onnx_provider.exceptions import OnnxProviderError, RowError, from_traceback
from airflow_onnx_provider.runtime.batching import Rebatcher
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.pictures import read_picture
from airflow_onnx_provider.runtime.profile import PICTURES_PER_BATCH, ExecutionProfile
from airflow_onnx_provider.runtime.session import LoadedModel, load_model

MAX_SECONDS = 5.0
TIMEOUT_SECONDS = 120.0
WARM_UP_ROWS = 16


def images_per_second(pictures: Iterable[str | bytes], model: LoadedModel, max_seconds: float = MAX_SECONDS) -> float:
    """Read, decode and score in a plain loop, as fast as one process can.

    Broken pictures count as work done, as they do in the job.

    :param pictures: encoded ones, or paths of their files on this machine
    :param max_seconds: when to stop
    :return: pictures a second, 0.0 for no pictures
    """
    preprocessing, name = model.manifest.image_preprocessing, model.input_name
    size = model.profile.batch_size or PICTURES_PER_BATCH
    rebatcher = Rebatcher(size, {name: preprocessing.shape}, {name: "uint8"}, buffers=1)
    done = 0
    started = time.perf_counter()
    for picture in pictures:
        with contextlib.suppress(RowError):
            data = read_picture(picture) if isinstance(picture, str) else picture
            rebatcher.place(name)[...] = decode_image(data, preprocessing, model.profile.decoder)
            for batch in rebatcher.placed(done):
                model.run(batch.feeds[name])
        done += 1
        if time.perf_counter() - started > max_seconds:
            break
    for batch in rebatcher.rest(constant_shape=model.profile.constant_shape):
        model.run(batch.feeds[name])
    return done / (time.perf_counter() - started) if done else 0.0


def measure_in_child(addresses: Sequence[str], folder: Path, digest: str, profile: ExecutionProfile) -> float:
    """Run :func:`images_per_second` in a fresh process of this Python.

    :raises OnnxProviderError: the child's own error, or the end of what it printed
    """
    spec = {
        "addresses": list(addresses),
        "folder": str(folder),
        "digest": digest,
        "profile": profile.to_dict(),
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
    profile = ExecutionProfile.from_dict(spec["profile"])
    model = load_model(Path(spec["folder"]), spec["digest"], profile)
    images_per_second(spec["addresses"][:WARM_UP_ROWS], model)
    print(images_per_second(spec["addresses"], model))


if __name__ == "__main__":
    main()
