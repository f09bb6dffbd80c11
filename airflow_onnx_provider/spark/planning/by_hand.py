# SPDX-License-Identifier: Apache-2.0
"""What people set by hand: the planner's names, and Spark properties that mean the same."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError

Value = int | float | str

GPU_NAMES = ("task_gpus", "executor_gpus")
TRAVELS = ("archive", "path", "object_store")
"""How a model reaches the executors: shipped by Spark, read from the store's folder, fetched from the store's URL."""

HAND_SET = (
    "task_cpus",
    "threads",
    "decode_threads",
    *GPU_NAMES,
    "batch_size",
    "arrow_bytes",
    "slots",
    "executors",
    "executor_cores",
    "executor_memory_mb",
    "executor_memory_overhead_mb",
    "partitions",
    "max_partition_bytes",
    "min_executors",
    "max_executors",
    "model_travels",
    "network_timeout_s",
    "heartbeat_interval_s",
)
"""Names of all decisions, in the order in which they are made; each can be set by hand."""

_LEAST = {"decode_threads": 0, "task_gpus": 0.01, "heartbeat_interval_s": 0.001}
_FRACTIONS = ("task_gpus", "network_timeout_s", "heartbeat_interval_s")
_SIZES = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _number(name: str, given: Any) -> int | float:
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = float("nan")
    if isinstance(given, bool) or not math.isfinite(value):
        raise BadInputError(f"plan: {name} must be a number, got {given!r}")
    return int(given) if isinstance(given, int) else int(value) if value.is_integer() else value


def _size(unit: int) -> Callable[[str, Any], int]:
    """Reader of Spark's sizes, such as ``4g``; the result and a number without a unit count units of ``2**unit``."""

    def read(name: str, given: Any) -> int:
        found = re.fullmatch(r"(\d+)(?:([kmgtp])b?|b)?", text := str(given).strip().lower())
        if not found:
            raise BadInputError(f"plan: {name}={given!r} is no size; Spark takes whole numbers with b, k, m, g, t or p")
        bare = text.isdigit()
        shift = unit if bare else _SIZES[found[2] or ""]
        return int(found[1]) << shift >> unit

    return read


def _time(default: str) -> Callable[[str, Any], int | float]:
    """Reader of Spark's times, such as ``120s``, in seconds; a number without a unit has the given one."""

    def read(name: str, given: Any) -> int | float:
        found = re.fullmatch(r"(\d+)(us|ms|s|m|min|h|d)?", str(given).strip().lower())
        if not found:
            raise BadInputError(f"plan: {name}={given!r} is no time; Spark takes whole numbers with ms, s, m, h or d")
        return _number(name, int(found[1]) * _SECONDS[found[2] or default])

    return read


PROPERTIES: Mapping[str, tuple[str, Callable[[str, Any], int | float]]] = {
    "spark.task.cpus": ("task_cpus", _number),
    "spark.task.resource.gpu.amount": ("task_gpus", _number),
    "spark.executor.resource.gpu.amount": ("executor_gpus", _number),
    "spark.executor.instances": ("executors", _number),
    "spark.executor.cores": ("executor_cores", _number),
    "spark.executor.memory": ("executor_memory_mb", _size(20)),
    "spark.executor.memoryOverhead": ("executor_memory_overhead_mb", _size(20)),
    "spark.sql.files.maxPartitionBytes": ("max_partition_bytes", _size(0)),
    "spark.sql.execution.arrow.maxBytesPerBatch": ("arrow_bytes", _size(0)),
    "spark.network.timeout": ("network_timeout_s", _time("s")),
    "spark.executor.heartbeatInterval": ("heartbeat_interval_s", _time("ms")),
    "spark.dynamicAllocation.minExecutors": ("min_executors", _number),
    "spark.dynamicAllocation.maxExecutors": ("max_executors", _number),
}
"""Spark property to decision and reader. Units without a suffix are those of Spark's own configuration entries."""


def hand_set_of(sizing: Mapping[str, Any], conf: Mapping[str, Any]) -> dict[str, Value]:
    """What is set by hand, from an operator's sizing and from Spark properties that mean the same.

    The bounds of dynamic allocation count only where ``spark.dynamicAllocation.enabled`` is true, as for Spark itself.

    :param sizing: decision to value; numbers may be text, as templates give them
    :param conf: Spark properties; those that decide nothing here are passed over
    :raises BadInputError: for a value that Spark could not read, or one that is set twice and differs
    """
    found: dict[str, Value] = {
        name: str(value) if name == "model_travels" else _number(name, value) for name, value in sizing.items()
    }
    dynamic = str(conf.get("spark.dynamicAllocation.enabled", "")).lower() == "true"
    for key, (name, read) in PROPERTIES.items():
        if key not in conf or (key.startswith("spark.dynamicAllocation.") and not dynamic):
            continue
        value = read(key, conf[key])
        if found.setdefault(name, value) != value:
            raise BadInputError(
                f"plan: sizing says {name}={found[name]}, but conf says {key}={conf[key]}; leave one of them out"
            )
    if dynamic:
        found.setdefault("min_executors", 1)
    return found


def checked(given: Mapping[str, Any], *, with_gpu: bool) -> dict[str, Any]:
    """The same values, if each has a known name and a possible value.

    :param with_gpu: whether the profile computes on a GPU
    :raises BadInputError: otherwise
    """
    if unknown := sorted(set(given) - set(HAND_SET)):
        raise BadInputError(f"plan: {', '.join(unknown)} cannot be set; there is: {', '.join(HAND_SET)}")
    if not with_gpu and (stray := sorted(set(given) & set(GPU_NAMES))):
        raise BadInputError(f"plan: {', '.join(stray)} cannot be set for a CPU profile; use 'cuda'")
    travels = given.get("model_travels", "archive")
    if travels not in TRAVELS:
        raise BadInputError(f"plan: model_travels must be one of {', '.join(TRAVELS)}, got {travels!r}")
    numbers = {name: _number(name, value) for name, value in given.items() if name != "model_travels"}
    if wrong := {name: value for name, value in numbers.items() if value < _LEAST.get(name, 1)}:
        raise BadInputError(f"plan: values must be at least 1, got {wrong}")
    if wrong := {name: value for name, value in numbers.items() if value % 1 and not _fraction(name, value)}:
        raise BadInputError(f"plan: values must be whole numbers, got {wrong}")
    return {**given, **numbers}


def _fraction(name: str, value: float) -> bool:
    """Whether a decision may have this fraction; Spark shares one GPU among tasks, but gives none one and a half."""
    return name in _FRACTIONS and not (name == "task_gpus" and value > 1)
