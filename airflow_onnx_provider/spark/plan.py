# SPDX-License-Identifier: Apache-2.0
"""Decide how a job runs before it runs, each value with its reason. Pure: numbers in, a plan out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.profile import PICTURES_PER_BATCH, ExecutionProfile
from airflow_onnx_provider.spark.planning.by_hand import HAND_SET, Value, checked, hand_set_of
from airflow_onnx_provider.spark.planning.decisions import Decision, Decisions, Plan, duration, properties_of
from airflow_onnx_provider.spark.planning.facts import ClusterFacts, InputFacts, ModelFacts
from airflow_onnx_provider.spark.planning.memory import HEAP_MB, WorkerMemory
from airflow_onnx_provider.spark.planning.placement import (
    MAX_EXECUTOR_CORES,
    UNKNOWN_EXECUTOR_CORES,
    Room,
    room,
    tasks_on,
)

__all__ = ["HAND_SET", "ClusterFacts", "Decision", "InputFacts", "ModelFacts", "Plan", "hand_set_of", "plan"]

WAVES = 3
"""Spark tasks per slot: enough that a slow task does not hold up the end, few enough that start-up costs stay small."""

SHORT_TASK_SECONDS = 30
"""Below this, two waves do."""

LONG_TASK_SECONDS = 300
"""A task that is lost is scored again from its start, so long ones are cut into more waves."""

MIN_ROWS_PER_TASK = 64
MAX_ROWS_PER_TASK = 20_000
MAX_BYTES_PER_TASK = 1 << 30
"""These two bound the tasks of a model whose speed nobody measured."""

START_SECONDS = 3.0
"""Python workers, Spark's first use of Arrow and Parquet, and the model, in a cold pass."""

TASK_SECONDS = 0.04
"""What a Spark task with a warm Python worker costs beside its rows: 25 to 40 ms were measured."""

MIB = 1 << 20
MOST_ARROW_MIB = 64
"""Spark's own limit of an Arrow batch."""

ARROW_MODEL_BATCHES = 4
ARROW_COPIES = 4
"""An Arrow batch is in the JVM as rows, as Arrow, and on its way to and from Python."""

GPU_BATCH = 64
MOST_FEED_CORES = 16
"""One Python process feeds a GPU; it has one interpreter for its decode threads."""

NETWORK_BYTES_PER_SECOND = 50_000_000
"""Taken for granted, not measured: what one driver sends to all its executors together."""

ARCHIVE_SECONDS = 300
"""Longer than this, no driver should ship a model."""

NETWORK_TIMEOUT_S = 120
HEARTBEAT_S = 10
"""Spark's own defaults."""


def plan(
    model: ModelFacts,
    cluster: ClusterFacts,
    rows: InputFacts,
    profile: ExecutionProfile | None = None,
    hand_set: Mapping[str, Value] | None = None,
    *,
    store_url: str = "",
) -> Plan:
    """Choose threads, batch, executors, memory, partitions, timeouts and the model's way to the executors.

    :param profile: where its threads and batch say something, they go before the planner's; default: CPU throughput
    :param hand_set: values that win over all others, by the names in :data:`HAND_SET`
    :param store_url: of the model store; a folder's path, or a URL such as ``s3://…``
    :raises BadInputError: for an unknown or impossible hand-set value, and for a plan that the cluster cannot hold,
        with the sum that shows why
    """
    profile = profile or ExecutionProfile()
    gpu = profile.on_gpu
    made = Decisions(checked(hand_set or {}, with_gpu=gpu))
    if gpu:
        _gpus(made, cluster, profile)
    else:
        _cpus(made, cluster, profile)
    _batches(made, model, cluster, rows, profile)
    arena = profile.arena and model.arena is not False
    worker = WorkerMemory.of(model, rows, made["batch_size"], made["arrow_bytes"], arena=arena, gpu=gpu)
    gpu_share = {name: made[name] for name in ("task_gpus", "executor_gpus") if gpu}
    place = room(cluster, worker, made.given, task_cpus=made["task_cpus"], **gpu_share)
    _executors(made, place, rows)
    rate = None if gpu or not model.images_per_second else model.images_per_second * made["threads"]
    _partitions(made, rows, rate)
    _dynamic(made, cluster)
    shipping = _travel(made, model, cluster, store_url)
    _timeouts(made, shipping)
    decisions = tuple(made.made.values())
    properties = properties_of(made, cluster.master, local=cluster.local)
    if rate is None:
        why = (
            "speeds are measured on CPUs so far"
            if gpu
            else "this model was never measured on this type of CPU; OnnxMeasureOperator does that"
        )
        return Plan(decisions, estimate_of=why, rows=rows.rows, properties=properties)
    waves = math.ceil(made["partitions"] / made["slots"])
    a_task = math.ceil(rows.rows / made["partitions"]) / rate + TASK_SECONDS
    seconds = START_SECONDS + shipping + waves * a_task
    return Plan(
        decisions,
        estimate_seconds=round(seconds, 3),
        core_hours=round(made["slots"] * made["task_cpus"] * seconds / 3600, 6),
        estimate_of="decoding and inference" if model.decode_included else "inference alone, without decoding",
        rows=rows.rows,
        properties=properties,
    )


def _cpus(made: Decisions, cluster: ClusterFacts, profile: ExecutionProfile) -> None:
    wanted, reason = profile.threads, "one core a task: rows are many and independent"
    if wanted > 1:
        most = min(filter(None, (cluster.executor_cores, cluster.cores, wanted)))
        reason = f"the profile computes each batch on {wanted} cores"
        wanted, reason = most, reason if most == wanted else f"{reason}; the largest worker has {most}"
    cores = made.decide("task_cpus", wanted, reason)
    planned = min(profile.threads, cores) if profile.threads > 1 else cores
    threads = made.decide("threads", planned, "as many ONNX Runtime threads as the task has cores")
    _require_cores_for(threads, cores)
    beside = "decoding overlaps with inference on the task's cores" if profile.decode_threads else "the profile says so"
    made.decide("decode_threads", profile.decode_threads, beside)


def _require_cores_for(threads: int, cores: int) -> None:
    if threads > cores:
        raise BadInputError(
            f"plan: {threads} threads in a task of {cores} cores would oversubscribe each core "
            f"{threads / cores:.1f} times; set task_cpus={threads} or fewer threads"
        )


def _gpus(made: Decisions, cluster: ClusterFacts, profile: ExecutionProfile) -> None:
    gpus, cores = cluster.gpus, cluster.cores
    if cores is not None and gpus < 1:
        raise BadInputError(
            f"plan: {profile.provider} needs 1 GPU a task, but {cluster.master} has {gpus} free; use workers "
            "with GPUs, or a CPU profile"
        )
    per_task = made.decide("task_gpus", 1, "one session a GPU: two would share its memory and wait for each other")
    wanted = (gpus, "all of the local master") if cluster.local else (math.ceil(per_task), "as many as one task needs")
    per_executor = made.decide("executor_gpus", *wanted)
    tasks = tasks_on(per_executor, per_task)
    if tasks < 1:
        raise BadInputError(
            f"plan: a task needs {per_task} GPUs, but an executor has {per_executor}; set executor_gpus={per_task}"
        )
    if cores is None:
        share, why = profile.decode_threads + 1, f"{cluster.master} does not say; the profile's decode threads, and one"
    else:
        at_once = max(1, tasks_on(gpus, per_task))
        share = max(1, min(filter(None, (cluster.executor_cores, cores // at_once)), default=1))
        why = f"{cores} free cores feed {at_once} tasks on {gpus} GPUs"
        if share > MOST_FEED_CORES and not cluster.local:  # a local master would start a second task on the rest
            share, why = MOST_FEED_CORES, f"{why}; {MOST_FEED_CORES} each at most"
    task_cpus = made.decide("task_cpus", share, why)
    threads = made.decide("threads", min(profile.threads, task_cpus), "the GPU computes")
    _require_cores_for(threads, task_cpus)
    feed = max(1, task_cpus - 1) if profile.decode_threads else 0
    made.decide("decode_threads", feed, "the task's other cores decode for its GPU" if feed else "the profile says so")


def _batches(
    made: Decisions, model: ModelFacts, cluster: ClusterFacts, rows: InputFacts, profile: ExecutionProfile
) -> None:
    gpu = profile.on_gpu
    if profile.batch_size:
        batch, reason = profile.batch_size, "the profile's"
    elif gpu:
        batch, reason = GPU_BATCH, "a GPU needs large batches"
    elif model.batch_size:
        batch, reason = model.batch_size, "measured as the best on this type of CPU"
    else:
        batch, reason = PICTURES_PER_BATCH, "small batches suit CPUs; constant shape keeps memory flat"
    batch = made.decide("batch_size", batch, reason)
    mean = rows.bytes / max(1, rows.rows)
    known = cluster.executor_cores or cluster.cores or UNKNOWN_EXECUTOR_CORES
    cores = made.given.get("executor_cores") or (known if cluster.local else min(MAX_EXECUTOR_CORES, known))
    most_tasks = max(1, cores // made["task_cpus"])
    heap = made.given.get("executor_memory_mb", HEAP_MB)
    share = max(1, min(MOST_ARROW_MIB, heap // (ARROW_COPIES * most_tasks)))
    wanted = math.ceil(ARROW_MODEL_BATCHES * batch * mean / MIB)
    made.decide(
        "arrow_bytes",
        max(1, min(share, wanted)) * MIB,
        f"{ARROW_MODEL_BATCHES} model batches of {batch} rows of {mean / 1000:,.1f} kB; at most {share} MiB, for a "
        f"heap of {heap} MiB holds {ARROW_COPIES} copies for {most_tasks} tasks",
    )


def _executors(made: Decisions, place: Room, rows: InputFacts) -> None:
    cluster, task_cpus = place.cluster, place.task_cpus
    slots = made.decide("slots", *_slots(made.given, place, rows))
    if cluster.cores is not None and slots * task_cpus > cluster.cores:
        raise BadInputError(
            f"plan: {slots} slots of {task_cpus} cores need {slots * task_cpus}, but {cluster.master} has "
            f"{cluster.cores} free; set slots={cluster.cores // task_cpus} or fewer"
        )
    if slots > place.most_tasks():
        raise BadInputError(f"plan: {slots} slots, but {_limit(place)}")
    number, cores = place.place(slots)
    each = place.tasks(cores)
    whole = "a local master is one process with all its cores"
    made.decide("executors", number, whole if cluster.local else f"{slots} slots, {each} an executor")
    few = f"as few executors as fit, for the model comes to each; a worker has up to {place.largest} free"
    made.decide("executor_cores", cores, whole if cluster.local else few)
    heap = "the JVM's heap, which holds keys and labels, no pictures"
    made.decide("executor_memory_mb", place.heap_mb, f"{heap}; here spark.driver.memory" if cluster.local else heap)
    made.decide("executor_memory_overhead_mb", place.worker.overhead(each), place.worker.sum(each))


def _slots(given: Mapping[str, Any], place: Room, rows: InputFacts) -> tuple[int, str]:
    """Tasks at once: what the cluster holds, but no more than there is work for."""
    cluster, most = place.cluster, place.most_tasks()
    note = f" ({cluster.note})" if cluster.note else ""
    if math.isinf(most):
        if "slots" not in given:
            raise BadInputError(
                f"plan: {cluster.master} does not say how many cores are free{note}; say with sizing={{'slots': …}} "
                f"how many tasks can run at once (executors times their cores, divided by {place.task_cpus} a task)"
            )
        return given["slots"], f"{cluster.master} does not say"
    if by_hand := given.get("partitions"):
        return min(int(most), by_hand), f"{by_hand} partitions set by hand; {int(most)} could run{note}"
    busy = max(1, rows.rows // MIN_ROWS_PER_TASK)
    if busy < most:
        return busy, f"{rows.rows:,} rows, at least {MIN_ROWS_PER_TASK} a task; {int(most)} could run{note}"
    return int(most), _limit(place) + note


def _limit(place: Room) -> str:
    """What bounds the tasks that run at once, in words."""
    cluster, most = place.cluster, int(place.most_tasks())
    if most < (without := place.most_tasks(by_memory=False)):
        words = f"memory holds {most} tasks of {without:,.0f}; {place.memory_words(place.sizes[0])}"
        cores = place.task_cpus * int(without // most)
        return f"{words}; task_cpus={cores} would use the idle cores" if cores > place.task_cpus else words
    if place.task_gpus:
        return f"{cluster.gpus} free GPUs on {cluster.master} take {most} tasks"
    if cluster.cores is None:
        return f"{place.given.get('executors')} executors take {most} tasks"
    words = f"{cluster.cores} free cores on {cluster.master}, {place.task_cpus} a task"
    return words if most == cluster.cores // place.task_cpus else f"{words}; executors of one size take {most} tasks"


def _partitions(made: Decisions, rows: InputFacts, rate: float | None) -> None:
    slots = made["slots"]
    count, reason = _waves(rows, slots, made["task_cpus"], rate)
    if limit := made.given.get("max_partition_bytes"):
        by_bytes = min(max(1, rows.rows), math.ceil(rows.bytes / limit))
        if by_bytes > count:
            count, reason = by_bytes, f"{rows.bytes:,} bytes, at most {limit:,} a task"
    count = made.decide("partitions", count, reason)
    if count > max(1, rows.rows):
        raise BadInputError(f"plan: {count} partitions for {rows.rows} rows leave {count - rows.rows} empty; set fewer")
    share = max(MIB, math.ceil(rows.bytes / count), rows.largest)
    what = "the largest piece, which cannot be divided" if share == rows.largest else "a partition's even share"
    largest = made.decide("max_partition_bytes", share, f"{what} of {rows.bytes:,} bytes in {rows.files:,} files")
    if largest * count < rows.bytes:
        raise BadInputError(
            f"plan: {count} partitions of at most {largest:,} bytes hold {largest * count:,}, but the day has "
            f"{rows.bytes:,}; set more partitions or a larger max_partition_bytes"
        )


def _waves(rows: InputFacts, slots: int, task_cpus: int, rate: float | None) -> tuple[int, str]:
    """Partitions: whole waves over the slots, so that none is idle at the end."""
    most = max(1, rows.rows // MIN_ROWS_PER_TASK)
    if most <= slots:
        return most, f"{rows.rows:,} rows, at least {MIN_ROWS_PER_TASK} a task"
    if rate is None:
        least = max(rows.rows / MAX_ROWS_PER_TASK, rows.bytes / MAX_BYTES_PER_TASK) / task_cpus
        waves = max(WAVES, math.ceil(least / slots))
        why = f"never measured: at most {MAX_ROWS_PER_TASK:,} rows and 1 GiB a core of a task"
    else:
        each = rows.rows / slots / rate
        few = 2 if each / WAVES < SHORT_TASK_SECONDS else WAVES
        waves = max(few, math.ceil(each / LONG_TASK_SECONDS))
        why = f"{rate:,.1f} rows/s a slot make {duration(each / min(waves, most // slots))} a task"
    waves = min(waves, most // slots)
    return waves * slots, f"{waves} waves over {slots} slots; {why}"


def _dynamic(made: Decisions, cluster: ClusterFacts) -> None:
    executors, given = made["executors"], made.given
    if not {"min_executors", "max_executors"} & set(given):
        made.decide("min_executors", executors, "dynamic allocation is off")
        made.decide("max_executors", executors, "dynamic allocation is off")
        return
    least = made.decide("min_executors", 1, "dynamic allocation gives idle executors back")
    most = made.decide("max_executors", max(executors, least), "no more than the slots need")
    if least > most or executors > most:
        raise BadInputError(
            f"plan: dynamic allocation between {least} and {most} executors cannot hold {executors}; set max_executors="
            f"{max(least, executors)} or fewer of the others"
        )
    cores = most * made["executor_cores"]
    if cluster.cores is not None and cores > cluster.cores:
        raise BadInputError(
            f"plan: {most} executors of {made['executor_cores']} cores need {cores}, but {cluster.master} has "
            f"{cluster.cores} free"
        )


def _travel(made: Decisions, model: ModelFacts, cluster: ClusterFacts, store_url: str) -> float:
    """Decide how the model travels; give the seconds that takes."""
    executors, remote = made["executors"], "://" in store_url and not store_url.startswith("file://")
    alone = model.size_bytes / NETWORK_BYTES_PER_SECOND
    seconds = alone * executors
    sum_ = f"{model.size_bytes / 1e6:,.1f} MB to {executors} executors at 50 MB/s from one driver take {seconds:,.1f} s"
    if cluster.local:
        planned, reason = "archive", "a local master copies it on this machine"
    elif seconds <= ARCHIVE_SECONDS:
        planned, reason = "archive", sum_
    elif remote:
        planned, reason = "object_store", f"{sum_}; each executor fetches it from {store_url}"
    else:
        planned, reason = "path", f"{sum_}; the executors read it from the store's folder, which they must see"
    way = made.decide("model_travels", planned, reason)
    if way == "object_store" and not remote:
        raise BadInputError(
            "plan: model_travels='object_store' needs a model store with a URL such as s3://…, but it is "
            f"{store_url or 'a folder'}; use 'archive' or 'path'"
        )
    if way == "path" and remote:
        raise BadInputError(
            f"plan: model_travels='path' needs a model store in a folder, but it is {store_url}; use 'archive' or "
            "'object_store'"
        )
    return 0.0 if cluster.local else seconds if way == "archive" else alone


def _timeouts(made: Decisions, shipping: float) -> None:
    by_hand = made.given.get("heartbeat_interval_s", 0)
    wanted = max(NETWORK_TIMEOUT_S, math.ceil(2 * shipping), math.ceil(2 * by_hand))
    usual = wanted == NETWORK_TIMEOUT_S
    reason = "Spark's default is enough" if usual else "twice the time that shipping takes or a heartbeat waits"
    timeout = made.decide("network_timeout_s", wanted, f"{reason}: the model needs {shipping:.1f} s on its way")
    beats = min(max(HEARTBEAT_S, timeout // 12), max(1, timeout // 2))
    beat = made.decide("heartbeat_interval_s", beats, "a twelfth of the network timeout, as with Spark's defaults")
    if beat >= timeout:
        raise BadInputError(
            f"plan: a heartbeat every {beat} s is not within the network timeout of {timeout} s; set "
            f"network_timeout_s={math.ceil(12 * beat)} or a shorter heartbeat_interval_s"
        )
