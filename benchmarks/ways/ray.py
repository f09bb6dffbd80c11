# SPDX-License-Identifier: Apache-2.0
"""Ray Data: ``map_batches`` with one actor for each core."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa

from airflow_onnx_provider.runtime.cpu import available_cores
from benchmarks.ways import Pass, Way
from benchmarks.ways.peer import Peer
from benchmarks.works import Task

OBJECT_STORE_BYTES = 2**30
ROWS_PER_BATCH = 64
ACTORS_START_SECONDS = 120
"""Nothing is scored before all actors are ready, so that their start can be left out of a warm pass."""


class Actor:
    """Decodes and scores. Each answer carries the moment at which its batch arrived."""

    def __init__(self, folder: str) -> None:
        self._peer = Peer(folder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        best = self._peer.pictures(batch["image"])
        return {
            "key": batch["key"],
            "label": best[:, 0].astype("int64"),
            "score": best[:, 1],
            "began": [began] * len(best),
        }


class Ray:
    """Ray starts new actors for each pass, so a warm pass is timed from the moment at which the first batch arrives."""

    def start(self, task: Task) -> None:
        import ray

        # With as many CPUs as actors there is none left for reading, and the pass never ends.
        ray.init(
            num_cpus=2 * available_cores(),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
        )
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.wait_for_min_actors_s = ACTORS_START_SECONDS
        self._task = task
        self._warm = False

    def score(self, files: int | None) -> Pass:
        started = time.monotonic()
        table = self._scored(files)
        ended = time.monotonic()
        if self._warm:
            started = min(table["began"].unique().to_pylist())
        self._warm = True
        labels, scores = (table[name].to_numpy().sum() for name in ("label", "score"))
        return Pass(ended - started, len(table), int(labels), float(scores))

    def answers(self, files: int) -> pa.Table:
        return self._scored(files).drop_columns("began")

    def stop(self) -> None:
        import ray

        ray.shutdown()

    def _scored(self, files: int | None) -> pa.Table:
        import ray

        scored = ray.data.read_parquet(list(self._task.files[:files])).map_batches(
            Actor,
            fn_constructor_args=(self._task.model,),
            batch_size=ROWS_PER_BATCH,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=available_cores()),
        )
        return pa.concat_tables(list(scored.iter_batches(batch_format="pyarrow", batch_size=None)))


def way(_option: str) -> Way:
    return Ray()
