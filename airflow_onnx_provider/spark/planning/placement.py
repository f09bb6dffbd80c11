# SPDX-License-Identifier: Apache-2.0
"""How many executors of which size a cluster can hold, and which of these to take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, ClusterBusyError, OnnxProviderError
from airflow_onnx_provider.spark.planning.facts import ClusterFacts
from airflow_onnx_provider.spark.planning.memory import HEAP_MB, LEAST_HEAP_MB, WorkerMemory

MAX_EXECUTOR_CORES = 16
"""An executor takes a worker whole, so that the model comes to each worker once, but not more cores than these: all
its tasks are lost with it."""

UNKNOWN_EXECUTOR_CORES = 4
"""Where the master does not say how large a worker is: YARN's own default for the most cores of a container."""


@dataclass(frozen=True)
class Room:
    """Where executors may be placed.

    :param cluster: what is free
    :param task_cpus: cores of a Spark task
    :param worker: memory of one Python worker
    :param given: what was set by hand
    :param heap_mb: of each executor's JVM
    :param task_gpus: GPUs of a Spark task, 0 on the CPU
    :param executor_gpus: GPUs of an executor
    """

    cluster: ClusterFacts
    task_cpus: int
    worker: WorkerMemory
    given: Mapping[str, Any]
    heap_mb: int
    task_gpus: float = 0
    executor_gpus: int = 0

    def tasks(self, cores: int) -> int:
        """Tasks that an executor of so many cores runs at once."""
        by_cores = cores // self.task_cpus
        return min(by_cores, tasks_on(self.executor_gpus, self.task_gpus)) if self.task_gpus else by_cores

    def overhead_mb(self, cores: int) -> int:
        """MiB beside the heap of such an executor."""
        by_hand = self.given.get("executor_memory_overhead_mb")
        return int(by_hand) if by_hand else self.worker.overhead(self.tasks(cores))

    def memory_mb(self, cores: int) -> int:
        """MiB of such an executor, heap included."""
        return self.heap_mb + self.overhead_mb(cores)

    @property
    def _least(self) -> int:
        """Cores of the smallest executor: of one task, or of all tasks that its GPUs take."""
        return self.task_cpus * (tasks_on(self.executor_gpus, self.task_gpus) if self.task_gpus else 1)

    @property
    def largest(self) -> int:
        """Cores that one executor may have at most."""
        free = self.cluster.cores
        if self.cluster.local and free is not None:
            return free
        known = max((cores for cores, _ in self.cluster.nodes), default=self.cluster.executor_cores)
        size = max(UNKNOWN_EXECUTOR_CORES, self._least, self.given.get("executor_cores", 0))
        size = size if known is None else known
        return size if free is None else min(size, free)

    @property
    def sizes(self) -> list[int]:
        """Cores that an executor could have, smallest first."""
        if by_hand := self.given.get("executor_cores"):
            return [by_hand]
        if self.cluster.local:
            return [self.largest]
        if self.task_gpus:
            return [self._least]
        return list(
            range(self.task_cpus, max(self.task_cpus, min(MAX_EXECUTOR_CORES, self.largest)) + 1, self.task_cpus)
        )

    def _nodes(self) -> list[tuple[int, int | None, float]]:
        """Free cores, free memory and count of workers; without a list all are taken to be as large as the largest."""
        if self.cluster.nodes and not self.cluster.local:
            return [(cores, memory, 1) for cores, memory in self.cluster.nodes]
        memory = self.cluster.executor_memory_mb
        if self.cluster.cores is None:
            return [(self.largest, memory, math.inf)]
        if self.largest < 1:
            return []
        whole, rest = divmod(self.cluster.cores, self.largest)
        return [(self.largest, memory, whole), (rest, memory, 1)]

    def possible(self, cores: int, by_memory: bool = True) -> float:
        """Executors of so many cores that the cluster can hold now; infinite if it does not say."""
        need = self.memory_mb(cores) if by_memory else 0
        held = sum(
            count * min(free // cores, free_mb // need if need and free_mb is not None else math.inf)
            for free, free_mb, count in self._nodes()
            if free >= cores
        )
        if self.cluster.local:
            held = min(held, 1)
        if need and self.cluster.memory_mb is not None:
            held = min(held, self.cluster.memory_mb // need)
        if self.task_gpus and self.cluster.cores is not None:
            held = min(held, self.cluster.gpus // self.executor_gpus)
        return float(held)

    def count(self, cores: int, by_memory: bool = True) -> float:
        """Executors of so many cores to reckon with: those that were set by hand, if they can be had."""
        possible = self.possible(cores, by_memory)
        if by_hand := self.given.get("executors"):
            return int(by_hand) if by_hand <= possible else 0
        return min(possible, float(self.given.get("max_executors", math.inf)))

    def most_tasks(self, by_memory: bool = True) -> float:
        """Tasks that can run at once."""
        return max(self.count(cores, by_memory) * self.tasks(cores) for cores in self.sizes)

    def place(self, slots: int) -> tuple[int, int]:
        """Number and cores of the executors for so many tasks at once: few executors, then few idle cores.

        The number may be any that was set by hand; the tasks must fit, see :meth:`most_tasks`.
        """
        found = []
        for cores in self.sizes:
            executors = self.given.get("executors") or math.ceil(slots / self.tasks(cores))
            if executors <= self.count(cores) and executors * self.tasks(cores) >= slots:
                found.append((executors, executors * cores, cores))
        executors, _, cores = min(found)
        return executors, cores

    def refuse(self) -> OnnxProviderError:
        """Why not a single task can start, with the sum; a busy cluster may have room for a later try."""
        busy = (self.cluster.cores or 0) < self.task_cpus <= (self.cluster.total_cores or 0)
        kind = ClusterBusyError if busy else BadInputError
        return kind(f"plan: {self._lack_of_cores() or self._lack_of_room()}")

    def _lack_of_cores(self) -> str:
        cluster, cores = self.cluster, self.sizes[0]
        if cluster.cores is not None and cluster.cores < self.task_cpus:
            note = f" ({cluster.note})" if cluster.note else ""
            return (
                f"a task needs {self.task_cpus} cores, but {cluster.master} has {cluster.cores} free: no task could "
                f"start{note}"
            )
        if cores < self.task_cpus:
            return (
                f"an executor of {cores} cores cannot run a task of {self.task_cpus}; set executor_cores="
                f"{self.task_cpus} or more"
            )
        if self.largest < cores:
            what = "an executor" if "executor_cores" in self.given else "a task"
            return f"{what} needs {cores} cores, but the largest worker of {cluster.master} has {self.largest} free"
        return ""

    def _lack_of_room(self) -> str:
        cluster, cores, number = self.cluster, self.sizes[0], self.given.get("executors", 1)
        if cluster.local and number > 1:
            return f"{cluster.master} is one process, not {number} executors; leave executors out"
        if cluster.cores is not None and number * cores > cluster.cores:
            return (
                f"{number} executors of {cores} cores need {number * cores}, but {cluster.master} has {cluster.cores} "
                "free"
            )
        if self.most_tasks(by_memory=False) < 1:
            wanted, free = (
                f"{number} executors of {cores} cores",
                f"{cluster.cores} cores, {self.largest} on one worker",
            )
            if self.task_gpus:
                wanted, free = f"{wanted} and {self.executor_gpus} GPUs", f"{free}, and {cluster.gpus} GPUs"
            return f"{wanted} do not fit on {cluster.master}, which has {free} free"
        beside = "set by hand" if "executor_memory_overhead_mb" in self.given else self.worker.sum(self.tasks(cores))
        all_ = f" ({number} executors: {number * self.memory_mb(cores):,} MiB)" if number > 1 else ""
        return f"{self.memory_words(cores)}{all_}; beside the heap: {beside}. {self._way_out()}"

    def memory_words(self, cores: int) -> str:
        """What an executor of so many cores needs and what there is, in words."""
        here = [memory for _, memory in self.cluster.nodes if memory is not None]
        largest, total = max(here, default=self.cluster.executor_memory_mb), self.cluster.memory_mb
        have = [f"the largest worker has {largest:,} MiB free"] if largest is not None else []
        have += [f"{total:,} MiB are free in all"] if total is not None else []
        return (
            f"an executor of {cores} core{'s' if cores > 1 else ''} needs {self.heap_mb:,} MiB heap + "
            f"{self.overhead_mb(cores):,} MiB beside it = {self.memory_mb(cores):,} MiB, and "
            f"on {self.cluster.master} {' and '.join(have)}"
        )

    def _way_out(self) -> str:
        if self.cluster.local:
            return f"Run fewer tasks at once (local[{max(1, (self.cluster.cores or 1) // 2)}]) or take a smaller model"
        return "Take larger workers or a smaller model, or set executor_memory_overhead_mb if you measured less"


def tasks_on(gpus: int, per_task: float) -> int:
    """Tasks that share these GPUs at once. A part of a GPU is never put together from two, as with Spark."""
    if per_task < 1:
        return gpus * math.floor(1 / per_task + 1e-9)
    return int(gpus // per_task)


def room(cluster: ClusterFacts, worker: WorkerMemory, given: Mapping[str, Any], **task: Any) -> Room:
    """The room with Spark's own heap, or with half of it where nothing else fits.

    :param task: cores and GPUs of a task and an executor, as :class:`Room` has them
    :raises BadInputError: if not a single task can start
    :raises ClusterBusyError: if one could, were nobody else there
    """
    heaps = (given["executor_memory_mb"],) if "executor_memory_mb" in given else (HEAP_MB, LEAST_HEAP_MB)
    rooms = [Room(cluster, worker=worker, given=given, heap_mb=heap, **task) for heap in heaps]
    found = next((each for each in rooms if each.most_tasks() >= 1), None)
    if found is None:
        raise rooms[-1].refuse()
    return found
