"""Decide how a job runs before it runs, each value with its reason. Pure: numbers in, a plan out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.profile import PICTURES_PER_BATCH

WAVES = 3
"""Spark tasks per slot: enough that a slow task does not hold up the end, few enough that start-up costs stay small."""

MIN_ROWS_PER_TASK = 64
MAX_ROWS_PER_TASK = 20_000
MEMORY_OVERHEAD_FLOOR_MB = 1024

HAND_SET = ("slots", "task_cpus", "threads", "batch_size", "partitions", "executor_memory_overhead_mb")


@dataclass(frozen=True)
class ModelFacts:
    """What the planner knows of the model.

    :param size_bytes: of ``model.onnx``
    :param images_per_second: measured on one thread, or None if never measured
    :param decode_included: whether that measurement decoded pictures too
    :param batch_size: rows of a batch that were measured as the best of several, or None
    """

    size_bytes: int
    images_per_second: float | None = None
    decode_included: bool = False
    batch_size: int | None = None

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
        )


@dataclass(frozen=True)
class ClusterFacts:
    """What a cluster can give now.

    :param master: the master's URL
    :param slots: cores that are free, or None if the master does not say
    :param memory_mb: free memory in MiB over all workers, or None
    :param executor_cores: the most cores that one executor can have, or None
    """

    master: str
    slots: int | None
    memory_mb: int | None = None
    executor_cores: int | None = None


@dataclass(frozen=True)
class InputFacts:
    """What the planner knows of the day.

    :param files: pictures of the day
    :param bytes: their size together
    """

    files: int
    bytes: int


@dataclass(frozen=True)
class Decision:
    """One planned value and why it is so."""

    name: str
    value: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """All decisions of one run.

    :param decisions: in the order in which they were made
    :param estimate_seconds: of the scoring time, or None without a measurement
    :param estimate_of: what the measurement covers, in words
    """

    decisions: tuple[Decision, ...]
    estimate_seconds: float | None
    estimate_of: str = "inference alone, without decoding"

    def __getitem__(self, name: str) -> int:
        return next(decision.value for decision in self.decisions if decision.name == name)

    def spark_conf(self) -> dict[str, str]:
        """The plan as Spark properties."""
        return {
            "spark.task.cpus": str(self["task_cpus"]),
            "spark.executor.memoryOverhead": f"{self['executor_memory_overhead_mb']}m",
            "spark.sql.shuffle.partitions": str(self["partitions"]),
        }

    def table(self) -> str:
        """The plan for a log: name, value and reason in columns."""
        name = max(len(decision.name) for decision in self.decisions)
        value = max(len(str(decision.value)) for decision in self.decisions)
        lines = [f"{one.name:<{name}}  {one.value:>{value}}  {one.reason}" for one in self.decisions]
        if self.estimate_seconds is not None:
            lines.append(f"estimate: {self.estimate_seconds:.1f} s for {self.estimate_of}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "decisions": [asdict(decision) for decision in self.decisions],
            "estimate_seconds": self.estimate_seconds,
        }


def plan(model: ModelFacts, cluster: ClusterFacts, rows: InputFacts, hand_set: Mapping[str, int] | None = None) -> Plan:
    """Choose threads, batch, partitions and memory.

    :param hand_set: values that win over the planner's, by the names in :data:`HAND_SET`
    :raises BadInputError: for an unknown or impossible hand-set value, with the sum that shows why
    """
    given = dict(hand_set or {})
    if unknown := sorted(set(given) - set(HAND_SET)):
        raise BadInputError(f"plan: {', '.join(unknown)} cannot be set; there is: {', '.join(HAND_SET)}")
    if wrong := {name: value for name, value in given.items() if value < 1}:
        raise BadInputError(f"plan: values must be at least 1, got {wrong}")
    decisions: list[Decision] = []

    def decide(name: str, value: int, reason: str) -> int:
        if name in given:
            value, reason = given[name], f"set by hand (planned: {value}, {reason})"
        decisions.append(Decision(name, value, reason))
        return value

    task_cpus = decide("task_cpus", 1, "one core a task: pictures are many and independent")
    threads = decide("threads", task_cpus, "as many ONNX Runtime threads as the task has cores")
    if threads > task_cpus:
        raise BadInputError(
            f"plan: {threads} threads in a task of {task_cpus} cores would oversubscribe each core "
            f"{threads / task_cpus:.1f} times; set task_cpus={threads} or fewer threads"
        )
    slots = decide("slots", *_slots(cluster, task_cpus, given))
    if model.batch_size:
        decide("batch_size", model.batch_size, "measured as the best on this type of CPU")
    else:
        decide("batch_size", PICTURES_PER_BATCH, "small batches suit CPUs; constant shape keeps memory flat")
    decide("partitions", *_partitions(rows.files, slots))
    workers = min(slots, max(1, (cluster.executor_cores or slots) // task_cpus))
    model_mb = math.ceil(model.size_bytes / 2**20)
    decide(
        "executor_memory_overhead_mb",
        max(MEMORY_OVERHEAD_FLOOR_MB, 4 * model_mb * workers + MEMORY_OVERHEAD_FLOOR_MB // 2),
        f"Python workers live outside the JVM heap: {workers} in an executor, each with a model of {model_mb} MiB "
        "and its arena",
    )
    estimate = None
    if model.images_per_second:
        estimate = rows.files / (model.images_per_second * slots)
    covers = {"estimate_of": "decoding and inference"} if model.decode_included else {}
    return Plan(tuple(decisions), estimate, **covers)


def _slots(cluster: ClusterFacts, task_cpus: int, given: Mapping[str, int]) -> tuple[int, str]:
    if cluster.slots is None:
        if "slots" not in given:
            raise BadInputError(
                f"plan: {cluster.master} does not say how many cores are free; say with sizing={{'slots': …}} how many "
                f"tasks can run at once (executors times their cores, divided by {task_cpus} a task)"
            )
        return given["slots"], f"{cluster.master} does not say"
    if cluster.slots < task_cpus:
        raise BadInputError(
            f"plan: a task needs {task_cpus} cores, but {cluster.master} has {cluster.slots} free: no task could start"
        )
    return cluster.slots // task_cpus, f"{cluster.slots} free cores on {cluster.master}, {task_cpus} a task"


def _partitions(files: int, slots: int) -> tuple[int, str]:
    most = max(1, files // MIN_ROWS_PER_TASK)
    least = math.ceil(files / MAX_ROWS_PER_TASK)
    wanted = WAVES * slots
    if wanted > most:
        return most, f"{files} pictures, at least {MIN_ROWS_PER_TASK} a task"
    if wanted < least:
        return least, f"{files} pictures, at most {MAX_ROWS_PER_TASK} a task"
    return wanted, f"{WAVES} waves over {slots} slots"
