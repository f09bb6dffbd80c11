# SPDX-License-Identifier: Apache-2.0
"""What the planner is told: of the model, the cluster and the day. Numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class ModelFacts:
    """What the planner knows of the model.

    :param size_bytes: of ``model.onnx`` and the data beside it
    :param images_per_second: rows a second, measured on one thread of the type of CPU in question; None: never measured
    :param decode_included: whether that measurement decoded pictures too
    :param batch_size: rows of a batch that were measured as the best of several, or None
    :param memory_mb: measured peak of one worker process in MiB, or None
    :param arena: whether the fastest measurement had ONNX Runtime's arena on, or None
    """

    size_bytes: int
    images_per_second: float | None = None
    decode_included: bool = False
    batch_size: int | None = None
    memory_mb: float | None = None
    arena: bool | None = None

    @classmethod
    def of(cls, size_bytes: int, best: Mapping[str, Any] | None) -> ModelFacts:
        """From the fastest measurement that the model's manifest has for the CPU in question, if it has one."""
        if best is None:
            return cls(size_bytes)
        return cls(
            size_bytes,
            images_per_second=best["images_per_second"] / best["threads"],
            decode_included=best.get("decode_included", False),
            batch_size=best["batch"] if "decoder" in best else None,  # quantisation measures one size only
            memory_mb=best.get("memory_mb"),
            arena=best.get("arena"),
        )


@dataclass(frozen=True)
class ClusterFacts:
    """What a cluster can give now.

    :param master: the master's URL
    :param cores: free now, or None if the master does not say
    :param memory_mb: free memory in MiB over all workers, or None
    :param executor_cores: most free cores on one worker, or None
    :param executor_memory_mb: most free memory in MiB on one worker, or None
    :param gpus: free now
    :param total_cores: cores of all workers that are alive, busy or not, or None
    :param healthy: whether the cluster is alive and takes applications
    :param note: what a person should know, for example ``2 of 3 workers are dead``
    :param nodes: free cores and free memory in MiB (or None) of each worker; empty: all count as large as the largest
    """

    master: str
    cores: int | None
    memory_mb: int | None = None
    executor_cores: int | None = None
    executor_memory_mb: int | None = None
    gpus: int = 0
    total_cores: int | None = None
    healthy: bool = True
    note: str = ""
    nodes: tuple[tuple[int, int | None], ...] = ()

    @property
    def local(self) -> bool:
        """Whether driver and tasks share one process on this machine."""
        return self.master.startswith("local") and not self.master.startswith("local-cluster")

    def when_idle(self) -> ClusterFacts:
        """The same cluster with all of its cores free, as far as it says how many there are."""
        idle = ClusterFacts(self.master, self.total_cores or self.cores, total_cores=self.total_cores)
        return replace(idle, gpus=self.gpus, healthy=self.healthy, note=self.note)


@dataclass(frozen=True)
class InputFacts:
    """What the planner knows of the day.

    :param rows: files of pictures, or rows of Parquet files
    :param bytes: their encoded size together
    :param files: files in which they lie
    :param largest: bytes of the largest piece that cannot be divided, such as one picture; 0: unknown
    """

    rows: int
    bytes: int
    files: int
    largest: int = 0
