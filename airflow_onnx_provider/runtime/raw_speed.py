# SPDX-License-Identifier: Apache-2.0
"""The yardstick: the same decode and the same model in plain processes, without Spark in between."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import OnnxProviderError, RowError, from_traceback
from airflow_onnx_provider.runtime.addresses import read_address
from airflow_onnx_provider.runtime.batching import Rebatcher
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.parquet import Piece, read_pieces
from airflow_onnx_provider.runtime.pictures import read_picture
from airflow_onnx_provider.runtime.profile import PICTURES_PER_BATCH, ExecutionProfile
from airflow_onnx_provider.runtime.session import LoadedModel, load_model

MAX_SECONDS = 5.0
TIMEOUT_SECONDS = 120.0
WARM_UP_ROWS = 16
TOLD_ROWS = 64


def images_per_second(
    pictures: Iterable[str | bytes],
    model: LoadedModel,
    max_seconds: float = MAX_SECONDS,
    tell: Callable[[float], None] | None = None,
) -> float:
    """Read, decode and score in a plain loop, as fast as one process can.

    Broken pictures count as work done, as they do in the job.

    :param pictures: encoded ones, or paths of their files on this machine
    :param max_seconds: when to stop
    :param tell: is given the rate so far, now and then
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
        if tell and done % TOLD_ROWS == 0:
            tell(done / (time.perf_counter() - started))
        if time.perf_counter() - started > max_seconds:
            break
    for batch in rebatcher.rest(constant_shape=model.profile.constant_shape):
        model.run(batch.feeds[name])
    return done / (time.perf_counter() - started) if done else 0.0


@dataclass(frozen=True)
class Sample:
    """Pictures of a day: files, or cells of Parquet files.

    :param addresses: paths of files
    :param pieces: of Parquet files
    :param column: theirs, with pictures or addresses
    :param root: below which such addresses lie
    """

    addresses: tuple[str, ...] = ()
    pieces: tuple[Piece, ...] = ()
    column: str = ""
    root: str | None = None

    def pictures(self) -> Iterator[str | bytes]:
        """Paths, or encoded pictures; one that cannot be read is one without bytes."""
        yield from self.addresses
        for batch in read_pieces(self.pieces, [self.column]):
            for cell in batch.column(0):
                try:
                    yield read_address(cell.as_py(), self.root) if self.root and cell.is_valid else cell.as_py() or b""
                except RowError:
                    yield b""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sample:
        """Inverse of ``dataclasses.asdict``."""
        pieces = tuple(Piece(**piece) for piece in data["pieces"])
        return cls(tuple(data["addresses"]), pieces, data["column"], data["root"])


def measure_in_child(sample: Sample, folder: Path, digest: str, profile: ExecutionProfile) -> float:
    """Run :func:`images_per_second` in a fresh process of this Python.

    A picture may crash that process natively. Then what it had reached until there counts, 0.0 if that was nothing.

    :raises OnnxProviderError: the child's own error, or the end of what it printed
    """
    spec = {
        "sample": asdict(sample),
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
    told = [float(line) for line in done.stdout.splitlines()]
    if done.returncode < 0:
        return told[-1] if told else 0.0
    if done.returncode:
        raise from_traceback(done.stderr) or OnnxProviderError(
            f"measuring the raw speed failed: {done.stderr.strip()[-500:]}"
        )
    return told[-1]


def main() -> None:
    """Read the measurement's settings as JSON from standard input, print pictures a second."""
    spec = json.load(sys.stdin)
    profile = ExecutionProfile.from_dict(spec["profile"])
    model = load_model(Path(spec["folder"]), spec["digest"], profile)
    sample = Sample.from_dict(spec["sample"])
    images_per_second(islice(sample.pictures(), WARM_UP_ROWS), model)
    print(images_per_second(sample.pictures(), model, tell=lambda rate: print(rate, flush=True)))


if __name__ == "__main__":
    main()
