# SPDX-License-Identifier: Apache-2.0
"""The limit: the same decode and the same model in plain processes, one for each core, with nothing in between.

Every pass reads the Parquet files, as all ways do. A cold one starts the processes and opens the model, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from airflow_onnx_provider.runtime.batching import TokenRows, cut_by_tokens
from airflow_onnx_provider.runtime.cpu import available_cores
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.preprocessing import TokenPreprocessing
from airflow_onnx_provider.runtime.profile import PICTURES_PER_BATCH, ROWS_PER_BATCH, ExecutionProfile
from airflow_onnx_provider.runtime.session import open_session
from benchmarks.datasets import FEATURES
from benchmarks.ways import Pass, Way
from benchmarks.works import Task

Best = tuple[NDArray[Any], NDArray[Any]]
"""Class numbers and scores of some rows."""


def way(_option: str) -> Way:
    return Limit()


class Limit:
    def start(self, task: Task) -> None:
        self._task = task
        self._workers: list[tuple[Any, Connection]] = []

    def score(self, files: int | None) -> Pass:
        started = time.perf_counter()
        parts = self._ask("score", files)
        rows, labels, scores = (sum(column) for column in zip(*parts, strict=True))
        return Pass(time.perf_counter() - started, rows, labels, scores)

    def answers(self, files: int) -> pa.Table:
        return pa.concat_tables(self._ask("answers", files))

    def stop(self) -> None:
        for process, pipe in self._workers:
            pipe.send(None)
            process.join()

    def _ask(self, what: str, files: int | None) -> list[Any]:
        if not self._workers:
            self._workers = [self._worker(number) for number in range(available_cores())]
        for number, (_, pipe) in enumerate(self._workers):
            mine = range(number, files or len(self._task.files), len(self._workers))
            pipe.send((what, len(mine)))
        return [pipe.recv() for _, pipe in self._workers]

    def _worker(self, number: int) -> tuple[Any, Connection]:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        files = self._task.files[number :: available_cores()]
        process = context.Process(target=_serve, args=(theirs, self._task, files), daemon=True)
        process.start()
        theirs.close()
        return process, ours


def _serve(pipe: Connection, task: Task, files: tuple[str, ...]) -> None:
    manifest = ModelManifest.read(Path(task.model))
    session = open_session(Path(task.model) / MODEL_NAME)

    def best(*tensors: NDArray[Any]) -> Best:
        (scores,) = session.run(None, dict(zip((spec.name for spec in manifest.inputs), tensors, strict=True)))
        labels = scores.argmax(axis=1)
        return labels, scores[np.arange(len(labels)), labels]

    score = _SCORED_BY[task.kind]
    while (asked := pipe.recv()) is not None:
        what, count = asked
        tables = (pq.read_table(file, use_threads=False).combine_chunks() for file in files[:count])
        parts = [score(table, manifest, best) for table in tables]
        if what == "answers":
            keys = pa.concat_arrays([pq.read_table(file)["key"].combine_chunks() for file in files[:count]])
            labels, scores = _joined(iter(parts))
            pipe.send(pa.table({"key": keys, "label": labels, "score": scores.astype(np.float64)}))
        else:
            sums = [(np.int64(len(labels)), labels.sum(), scores.sum(dtype=np.float64)) for labels, scores in parts]
            pipe.send([sum(column).item() for column in zip(*sums, strict=True)])


def _pictures(table: pa.Table, manifest: ModelManifest, best: Any) -> Best:
    column, preprocessing = table["image"], manifest.image_preprocessing
    batch = np.empty((PICTURES_PER_BATCH, *preprocessing.shape), np.uint8)

    def batches() -> Iterator[Best]:
        for start in range(0, len(column), PICTURES_PER_BATCH):
            part = column.slice(start, PICTURES_PER_BATCH)
            for place, data in enumerate(part):
                batch[place] = decode_image(data.as_py(), preprocessing)
            yield best(batch[: len(part)])

    return _joined(batches())


def _rows(table: pa.Table, _manifest: ModelManifest, best: Any) -> Best:
    columns = [table[name].to_numpy() for name in FEATURES]
    starts = range(0, len(table), ROWS_PER_BATCH)
    return _joined(
        best(np.stack([column[start : start + ROWS_PER_BATCH] for column in columns], axis=1)) for start in starts
    )


def _texts(table: pa.Table, manifest: ModelManifest, best: Any) -> Best:
    pre = cast("TokenPreprocessing", manifest.preprocessing)
    column = table["tokens"].chunk(0)
    offsets = column.offsets.to_numpy().astype(np.int64)
    lengths = np.diff(offsets)
    rows = TokenRows(column.values.to_numpy(), offsets[:-1], lengths, np.arange(len(lengths)))
    labels, scores = np.empty(len(lengths), np.int64), np.empty(len(lengths), np.float32)
    for chosen, width in cut_by_tokens(lengths, ExecutionProfile().token_budget, pre.max_length):
        ids, real = rows.padded(chosen, width, pre.pad_id)
        labels[chosen], scores[chosen] = best(ids.astype(np.int64), real.astype(np.int64))
    return labels, scores


def _joined(parts: Iterator[Best]) -> Best:
    labels, scores = zip(*parts, strict=True)
    return np.concatenate(labels), np.concatenate(scores)


_SCORED_BY = {"images": _pictures, "tabular": _rows, "tokens": _texts}
