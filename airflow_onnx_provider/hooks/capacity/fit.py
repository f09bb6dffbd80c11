# SPDX-License-Identifier: Apache-2.0
"""What a job needs, held against what a cluster has free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.spark.plan import ClusterFacts


@dataclass(frozen=True)
class Needs:
    """What must be free together before a job starts.

    :param cores: over all workers
    :param memory_mb: MiB over all workers
    :param gpus: over all workers
    :param executor_cores: on one worker, for the largest piece that cannot be divided
    :param executor_memory_mb: MiB on one worker, likewise
    """

    cores: int = 0
    memory_mb: int = 0
    gpus: int = 0
    executor_cores: int = 0
    executor_memory_mb: int = 0

    @classmethod
    def of_plan(cls, plan: Mapping[str, Any] | str) -> Needs:
        """From a plan's plain form, from a task's output that has one under ``plan``, or from either's JSON.

        Cores are slots times cores of a task; memory is that of all executors, overhead included.

        :raises BadInputError: if it is no plan
        """
        try:
            found = json.loads(plan) if isinstance(plan, str) else plan
            decisions = found.get("plan", found)["decisions"]
            value = {decision["name"]: decision["value"] for decision in decisions}
            memory_mb = value.get("executor_memory_mb", 0) + value.get("executor_memory_overhead_mb", 0)
            executors = value.get("executors", 1)
            return cls(
                cores=value["slots"] * value["task_cpus"],
                memory_mb=executors * memory_mb,
                gpus=executors * int(value.get("executor_gpus", 0)),
                executor_cores=value.get("executor_cores", 0),
                executor_memory_mb=memory_mb,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInputError(
                "plan: expected a dry run's output (task.output) or its JSON, "
                f"got {str(plan)[:80]!r} ({type(error).__name__}: {error})"
            ) from None

    def lacking(self, cluster: ClusterFacts) -> str:
        """What the cluster has too little of now, with both numbers, or an empty text if the job fits.

        :raises BadInputError: if waiting cannot help: the whole cluster is too small, or does not say what is free
        """
        if not cluster.healthy:
            return f"not healthy: {cluster.note or 'it takes no applications'}"
        if cluster.cores is None:
            raise BadInputError(
                f"{cluster.master} does not say what is free{f' ({cluster.note})' if cluster.note else ''}: there is "
                "nothing to wait for"
            )
        if cluster.total_cores is not None and self.cores > cluster.total_cores:
            raise BadInputError(
                f"{self.cores} cores are needed and {cluster.master} has {cluster.total_cores} altogether, "
                f"{self.cores - cluster.total_cores} too few{f' ({cluster.note})' if cluster.note else ''}: "
                "waiting cannot help, plan with fewer slots"
            )
        pairs = (
            (self.cores, cluster.cores, "cores"),
            (self.memory_mb, cluster.memory_mb, "MiB"),
            (self.gpus, cluster.gpus, "GPUs"),
            (self.executor_cores, cluster.executor_cores, "cores on one worker"),
            (self.executor_memory_mb, cluster.executor_memory_mb, "MiB on one worker"),
        )
        return ", ".join(
            f"{need} {what} needed, {free} free" for need, free, what in pairs if free is not None and need > free
        )


def capped(
    cluster: ClusterFacts, *, cores: int | None, memory_mb: int | None, total_cores: int | None, note: str
) -> ClusterFacts:
    """No more than a queue or a quota leaves.

    :param cores: that may still be taken, or None if it bounds none
    :param memory_mb: MiB, likewise
    :param total_cores: that it grants altogether, likewise
    :param note: what the bound is
    """
    on_one = cluster.executor_cores, cluster.executor_memory_mb
    cut = replace(
        cluster,
        cores=_least(cluster.cores, cores),
        memory_mb=_least(cluster.memory_mb, memory_mb),
        total_cores=_least(cluster.total_cores, total_cores),
        executor_cores=None if on_one[0] is None else _least(on_one[0], cores),
        executor_memory_mb=None if on_one[1] is None else _least(on_one[1], memory_mb),
        note="; ".join(filter(None, (cluster.note, note))),
    )
    # Single workers may have more than the whole application may take.
    return cut if (cut.cores, cut.memory_mb) == (cluster.cores, cluster.memory_mb) else replace(cut, nodes=())


def _least(*amounts: int | None) -> int | None:
    return min((one for one in amounts if one is not None), default=None)


def describe(cluster: ClusterFacts) -> str:
    """What is free, for a person: ``spark://host:7077: 7 of 16 cores free, 14336 MiB free memory, 2 free GPUs``."""
    total = "" if cluster.total_cores is None else f" of {cluster.total_cores}"
    parts = ["free cores unknown" if cluster.cores is None else f"{cluster.cores}{total} cores free"]
    if cluster.memory_mb is not None:
        parts.append(f"{cluster.memory_mb} MiB free memory")
    if cluster.gpus:
        parts.append(f"{cluster.gpus} free GPU{'s' if cluster.gpus > 1 else ''}")
    note = f" ({cluster.note})" if cluster.note else ""
    return f"{cluster.master}: {', '.join(parts)}{note}"
