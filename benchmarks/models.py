# SPDX-License-Identifier: Apache-2.0
"""The model versions that the works score, made once and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from airflow_onnx_provider.model.version import write_version
from airflow_onnx_provider.runtime.preprocessing import TokenPreprocessing
from benchmarks import networks
from benchmarks.datasets import FEATURES, MAX_TOKENS
from benchmarks.environment import HOME, child_environment

ARCHITECTURES = {"mobilenet": "MobileNetV2", "mobilenet_large": "MobileNetV2", "resnet": "ResNet50"}
GOLDEN_ROWS = 4
FLOAT_TOLERANCE, INT8_TOLERANCE = 1e-4, 0.02
TOKENS = TokenPreprocessing("input_ids", "attention_mask", MAX_TOKENS)


def prepared(model: str, files: Sequence[str]) -> Path:
    """The model version's folder, made now if it is not there.

    :param files: of the data set that the model's golden and calibration rows are taken from
    """
    folder = HOME / "models" / model
    if not folder.is_dir():
        print(f"  making the model {model} …", flush=True)
        started = time.perf_counter()
        draft = folder.with_name(f".{model}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _MADE_BY.get(model, _photographic)(model, draft, files)
        draft.rename(folder)
        print(f"  … in {time.perf_counter() - started:.0f} s", flush=True)
    return folder


def _photographic(model: str, folder: Path, files: Sequence[str]) -> None:
    """TensorFlow and quantisation need gigabytes, so each gets a process of its own."""
    source = folder.parent / f".{model}.onnx"
    base, _, variant = model.partition("-")
    if variant:
        _child(variant, str(prepared(base, files) / "model.onnx"), str(source), *files)
    else:
        _child("keras", ARCHITECTURES[model], str(source), *files)
    encoded, decoded = networks.photographs(files)
    write_version(
        source,
        folder,
        name=model,
        golden={"image": decoded[:GOLDEN_ROWS]},
        preprocessing=networks.PREPROCESSING,
        tolerance=INT8_TOLERANCE if variant else FLOAT_TOLERANCE,
        pictures=encoded[:GOLDEN_ROWS],
    )
    source.unlink()


def _child(*arguments: str) -> None:
    command = [sys.executable, "-m", "benchmarks.networks", *arguments]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[1:])} failed:\n{done.stderr[-3000:]}")


def _table(model: str, folder: Path, files: Sequence[str]) -> None:
    source = folder / "source.onnx"
    networks.write_table_network(source)
    rows = pq.ParquetFile(files[0]).read_row_group(0, columns=list(FEATURES)).slice(0, GOLDEN_ROWS)
    write_version(source, folder, name=model, golden={"features": np.stack(rows.columns, axis=1)})
    source.unlink()


def _encoder(model: str, folder: Path, files: Sequence[str]) -> None:
    source = folder / "source.onnx"
    networks.write_encoder(source)
    shortest = pq.ParquetFile(files[0]).read_row_group(0)["tokens"].slice(0, GOLDEN_ROWS).to_pylist()
    width = min(map(len, shortest))
    ids = np.array([row[:width] for row in shortest], np.int64)
    golden = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    write_version(source, folder, name=model, golden=golden, preprocessing=TOKENS)
    source.unlink()


_MADE_BY = {"table": _table, "encoder": _encoder}
