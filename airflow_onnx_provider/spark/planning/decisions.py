# SPDX-License-Identifier: Apache-2.0
"""What was decided, in the forms that people, Spark and JSON need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_onnx_provider.spark.planning.by_hand import Value

MAX_TASK_FAILURES = 4
"""Spark's own default. What kills a worker is isolated when its task is tried again, so a second try must exist."""


@dataclass(frozen=True)
class Decision:
    """One planned value and why it is so."""

    name: str
    value: Value
    reason: str


@dataclass(frozen=True)
class Plan:
    """All decisions of one run.

    :param decisions: in the order in which they were made
    :param estimate_seconds: of the scoring time, or None without a measurement
    :param core_hours: of the slots for that time, or None
    :param estimate_of: what the measurement covers, in words
    :param rows: of the day
    :param properties: the plan as Spark properties
    """

    decisions: tuple[Decision, ...]
    estimate_seconds: float | None = None
    core_hours: float | None = None
    estimate_of: str = ""
    rows: int = 0
    properties: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return next(decision.value for decision in self.decisions if decision.name == name)

    def spark_conf(self) -> dict[str, str]:
        """The plan as Spark properties."""
        return dict(self.properties)

    def table(self) -> str:
        """The plan for a log: name, value and reason in columns, then the estimate."""
        name = max(len(decision.name) for decision in self.decisions)
        value = max(len(str(decision.value)) for decision in self.decisions)
        lines = [f"{one.name:<{name}}  {one.value:>{value}}  {one.reason}" for one in self.decisions]
        if self.estimate_seconds is None or self.core_hours is None:
            return "\n".join([*lines, f"estimate: none; {self.estimate_of}"])
        return "\n".join(
            [
                *lines,
                f"estimate: {duration(self.estimate_seconds)} for {self.estimate_of}, "
                f"{self.core_hours:,.2f} core-hours, {self.rows / self.estimate_seconds:,.0f} images/s",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return asdict(self) | {"decisions": [asdict(each) for each in self.decisions], "properties": self.spark_conf()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Inverse of :meth:`to_dict`."""
        return cls(**{**data, "decisions": tuple(Decision(**each) for each in data["decisions"])})


class Decisions:
    """The decisions so far. What is set by hand wins over what is planned."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.made: dict[str, Decision] = {}

    def decide(self, name: str, value: Value, reason: str) -> Any:
        if name in self.given:
            value, reason = self.given[name], f"set by hand (planned: {value}, {reason})"
        self.made[name] = Decision(name, value, reason)
        return value

    def __getitem__(self, name: str) -> Any:
        return self.made[name].value


def properties_of(made: Decisions, master: str, local: bool) -> dict[str, str]:
    """The decisions as Spark properties."""
    conf = {
        "spark.task.cpus": str(made["task_cpus"]),
        "spark.sql.shuffle.partitions": str(made["slots"]),  # counts and labels, never pictures
        "spark.sql.files.maxPartitionBytes": str(made["max_partition_bytes"]),
        "spark.sql.execution.arrow.maxBytesPerBatch": str(made["arrow_bytes"]),
        "spark.network.timeout": _time(made["network_timeout_s"]),
        "spark.executor.heartbeatInterval": _time(made["heartbeat_interval_s"]),
    }
    if local:
        return conf
    conf |= {
        "spark.executor.cores": str(made["executor_cores"]),
        "spark.executor.instances": str(made["executors"]),
        "spark.executor.memory": f"{made['executor_memory_mb']}m",
        "spark.executor.memoryOverhead": f"{made['executor_memory_overhead_mb']}m",
        "spark.task.maxFailures": str(MAX_TASK_FAILURES),
    }
    if master.startswith("spark://"):
        conf["spark.cores.max"] = str(made["max_executors"] * made["executor_cores"])
    if "task_gpus" in made.made:
        conf["spark.task.resource.gpu.amount"] = str(made["task_gpus"])
        conf["spark.executor.resource.gpu.amount"] = str(made["executor_gpus"])
    if {"min_executors", "max_executors"} & set(made.given):
        conf |= {
            "spark.dynamicAllocation.enabled": "true",
            "spark.dynamicAllocation.shuffleTracking.enabled": "true",
            "spark.dynamicAllocation.minExecutors": str(made["min_executors"]),
            "spark.dynamicAllocation.maxExecutors": str(made["max_executors"]),
        }
    return conf


def _time(seconds: float) -> str:
    return f"{int(seconds)}s" if float(seconds).is_integer() else f"{round(1000 * seconds)}ms"


def duration(seconds: float) -> str:
    """Seconds for a person."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
