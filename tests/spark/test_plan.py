# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError, ClusterBusyError
from airflow_onnx_provider.runtime.profile import PICTURES_PER_BATCH, ExecutionProfile, profile_named
from airflow_onnx_provider.spark.plan import (
    HAND_SET,
    LONG_TASK_SECONDS,
    MAX_ROWS_PER_TASK,
    MIN_ROWS_PER_TASK,
    ClusterFacts,
    InputFacts,
    ModelFacts,
    Plan,
    hand_set_of,
    plan,
)
from airflow_onnx_provider.spark.planning.by_hand import GPU_NAMES, PROPERTIES
from airflow_onnx_provider.spark.planning.memory import JVM_OVERHEAD_MB

MIB = 2**20
GIB = 2**30
CPU = ExecutionProfile()
CUDA = profile_named("cuda")
MODEL = ModelFacts(size_bytes=25 * MIB, images_per_second=250.0)
LAPTOP = ClusterFacts("local[2]", cores=2)
DAY = InputFacts(rows=2_000, bytes=100_000_000, files=2_000)
SERVERS = ClusterFacts(
    "spark://master:7077", 800, memory_mb=50 * 61_440, executor_cores=16, executor_memory_mb=61_440, total_cores=800
)
"""50 servers of 16 cores with 60 GiB free."""

CATALOGUE = InputFacts(rows=120_000_000, bytes=120_000_000 * 40_000, files=120_000_000, largest=4_000_000)
INT8 = ModelFacts(4_000_000, images_per_second=60.0, decode_included=True, batch_size=8)

models = st.builds(
    ModelFacts,
    st.integers(1, 2**36),
    st.none() | st.floats(0.01, 1e5),
    decode_included=st.booleans(),
    batch_size=st.none() | st.integers(1, 512),
    memory_mb=st.none() | st.floats(50, 50_000),
    arena=st.none() | st.booleans(),
)
days = st.builds(
    InputFacts,
    rows=st.integers(0, 200_000_000),
    bytes=st.integers(0, 2**45),
    files=st.integers(1, 200_000_000),
    largest=st.integers(0, 2**32),
)
profiles = st.sampled_from([CPU, CUDA, ExecutionProfile(threads=4, batch_size=1), profile_named("tensorrt")])


@st.composite
def clusters(draw: Any) -> ClusterFacts:
    """A local master, a cluster that lists its workers, one that gives totals, or one that does not say."""
    kind = draw(st.sampled_from(["local", "listed", "totals", "silent"]))
    gpus = draw(st.integers(0, 16))
    if kind == "silent":
        return ClusterFacts("yarn", None, gpus=gpus)
    workers = draw(st.lists(st.tuples(st.integers(0, 128), st.integers(0, 512 * 1024)), min_size=1, max_size=20))
    if kind == "local":
        cores = max(1, workers[0][0])
        memory = draw(st.none() | st.just(workers[0][1]))
        return ClusterFacts(f"local[{cores}]", cores, executor_memory_mb=memory, gpus=gpus)
    return ClusterFacts(
        "spark://master:7077",
        sum(cores for cores, _ in workers),
        memory_mb=sum(memory for _, memory in workers),
        executor_cores=max(cores for cores, _ in workers),
        executor_memory_mb=max(memory for _, memory in workers),
        gpus=gpus,
        nodes=tuple(workers) if kind == "listed" else (),
    )


@st.composite
def by_hand(draw: Any) -> dict[str, Any]:
    """Up to three values; more of them contradict each other most of the time."""
    names = draw(st.lists(st.sampled_from(HAND_SET), max_size=3, unique=True))
    numbers = st.integers(1, 8) | st.integers(1, 100_000)
    ways = st.sampled_from(["archive", "path", "object_store"])
    return {name: draw(ways if name == "model_travels" else numbers) for name in names}


def values(chosen: Plan) -> dict[str, Any]:
    return {decision.name: decision.value for decision in chosen.decisions}


def reason(chosen: Plan, name: str) -> str:
    return next(decision.reason for decision in chosen.decisions if decision.name == name)


# What each value is, on clusters that people have


def test_a_plan_for_a_laptop() -> None:
    chosen = plan(ModelFacts(MIB), LAPTOP, InputFacts(1_200, 96_000_000, 1_200), CPU)

    assert values(chosen) == {
        "task_cpus": 1,
        "threads": 1,
        "decode_threads": 1,
        "batch_size": PICTURES_PER_BATCH,
        "arrow_bytes": 3 * MIB,  # 4 model batches of 8 pictures of 80 kB
        "slots": 2,
        "executors": 1,
        "executor_cores": 2,
        "executor_memory_mb": 1024,
        "executor_memory_overhead_mb": 384 + 2 * 2 * (200 + 3 + 75 + 24 + 6),
        "partitions": 6,
        "max_partition_bytes": 16_000_000,
        "min_executors": 1,
        "max_executors": 1,
        "model_travels": "archive",
        "network_timeout_s": 120,
        "heartbeat_interval_s": 10,
    }
    assert not [name for name in chosen.spark_conf() if name.startswith(("spark.executor.mem", "spark.executor.inst"))]


def test_a_hundred_and_twenty_million_pictures_on_fifty_servers() -> None:
    began = time.perf_counter()
    chosen = plan(INT8, SERVERS, CATALOGUE, CPU)
    assert time.perf_counter() - began < 0.1  # a second is asked for

    slots = 50 * 16
    assert (chosen["slots"], chosen["task_cpus"], chosen["threads"]) == (slots, 1, 1)
    assert (chosen["executors"], chosen["executor_cores"]) == (50, 16)

    a_slot = 120_000_000 / slots / 60  # pictures of a slot over pictures a second: 2,500 s
    waves = math.ceil(a_slot / LONG_TASK_SECONDS)  # 9 waves of at most 300 s
    assert (a_slot, waves) == (2_500, 9)
    assert chosen["partitions"] == waves * slots == 7_200

    share = math.ceil(120_000_000 * 40_000 / 7_200)  # 667 MB of a task, which is streamed, never held
    assert chosen["max_partition_bytes"] == share == 666_666_667

    worker = 200 + 10 + 75 + 24 + 39 + 4  # Python, 2.5 x 4 MiB, arena, batches, ten times 4 MB decoded, Arrow
    assert chosen["executor_memory_overhead_mb"] == 384 + 16 * 2 * worker == 11_648
    assert chosen["executor_memory_mb"] + 11_648 <= 61_440

    rows_a_task = math.ceil(120_000_000 / 7_200)
    shipping = 50 * 4_000_000 / 50_000_000
    seconds = 3 + shipping + waves * (rows_a_task / 60 + 0.04)
    assert chosen.estimate_seconds == pytest.approx(seconds) == pytest.approx(2_507.4, abs=0.1)  # 41 min 47 s
    assert chosen.core_hours == pytest.approx(800 * seconds / 3600, rel=1e-4)
    assert 120_000_000 / seconds / 50 > 900  # images a second and server
    assert chosen.table().splitlines()[-1] == (
        "estimate: 41 min 47 s for decoding and inference, 557.20 core-hours, 47,858 images/s"
    )
    page = Path(__file__).parents[2] / "docs/planning.md"
    assert chosen.table() in page.read_text(), "the page shows another plan"


def test_a_model_of_four_gigabytes_takes_memory_time_and_another_way() -> None:
    model, day = ModelFacts(4 * GIB, images_per_second=2.0), InputFacts(1_000_000, 40 * 10**9, 1_000_000)
    chosen = plan(model, SERVERS, day, CPU, store_url="s3://models/large")

    worker = 200 + 4096 * 5 // 2 + 75 + 24 + 4
    assert chosen["slots"] == 100  # two a server: 1024 + 384 + 2 x 2 x 10,543 = 43,580 of 61,440 MiB
    assert chosen["executor_memory_overhead_mb"] == 384 + 2 * 2 * worker == 42_556
    assert "memory holds 100 tasks of 800" in reason(chosen, "slots")
    assert "task_cpus=8 would use the idle cores" in reason(chosen, "slots")
    assert chosen["model_travels"] == "object_store"
    assert chosen["network_timeout_s"] == math.ceil(2 * 4 * GIB / 50e6) == 172
    assert chosen["heartbeat_interval_s"] == 14
    assert plan(model, SERVERS, day, CPU, store_url="/data/models")["model_travels"] == "path"
    assert plan(model, SERVERS, day, CPU, {"task_cpus": 8})["threads"] == 8


def test_a_gpu_has_one_task_and_its_share_of_the_cores() -> None:
    cluster = ClusterFacts("yarn", 64, 256 * 1024, executor_cores=32, executor_memory_mb=128 * 1024, gpus=8)
    chosen = plan(MODEL, cluster, CATALOGUE, CUDA)

    assert (chosen["slots"], chosen["task_gpus"], chosen["executor_gpus"], chosen["executors"]) == (8, 1, 1, 8)
    assert (chosen["task_cpus"], chosen["decode_threads"], chosen["threads"], chosen["batch_size"]) == (8, 7, 1, 64)
    assert chosen.estimate_seconds is None  # what was measured on a CPU says nothing of a GPU
    conf = chosen.spark_conf()
    assert (conf["spark.task.resource.gpu.amount"], conf["spark.executor.resource.gpu.amount"]) == ("1", "1")
    assert (conf["spark.task.cpus"], conf["spark.executor.cores"]) == ("8", "8")


def test_tasks_may_share_a_gpu_by_hand() -> None:
    cluster = ClusterFacts("yarn", 16, gpus=2)
    chosen = plan(MODEL, cluster, CATALOGUE, CUDA, {"task_gpus": 0.5})

    assert (chosen["slots"], chosen["task_cpus"], chosen["executor_cores"], chosen["executors"]) == (4, 4, 8, 2)
    assert chosen.spark_conf()["spark.task.resource.gpu.amount"] == "0.5"


def test_a_local_master_runs_one_task_on_each_of_its_gpus() -> None:
    chosen = plan(MODEL, ClusterFacts("local[64]", 64, gpus=2), CATALOGUE, CUDA)

    assert (chosen["slots"], chosen["task_cpus"], chosen["executors"], chosen["executor_gpus"]) == (2, 32, 1, 2)


def test_a_cpu_plan_speaks_of_no_gpu() -> None:
    assert not set(GPU_NAMES) & set(values(plan(MODEL, replace(SERVERS, gpus=4), DAY, CPU)))


def test_one_fat_and_several_thin_workers_are_all_used() -> None:
    thin = [(4, 8 * 1024)] * 4
    nodes = ((16, 64 * 1024), *thin)
    cluster = ClusterFacts("spark://m:7077", 32, 96 * 1024, 16, 64 * 1024, nodes=nodes)

    chosen = plan(INT8, cluster, CATALOGUE, CPU)
    assert (chosen["slots"], chosen["executors"], chosen["executor_cores"]) == (32, 8, 4)

    unlisted = plan(INT8, replace(cluster, nodes=()), CATALOGUE, CPU)  # two workers of 16 cores, as far as one can know
    assert (unlisted["slots"], unlisted["executors"], unlisted["executor_cores"]) == (32, 2, 16)


def test_executors_shrink_until_their_memory_fits_the_largest_worker() -> None:
    small = replace(SERVERS, memory_mb=50 * 8_192, executor_memory_mb=8_192)
    chosen = plan(INT8, small, CATALOGUE, CPU)

    assert chosen["executor_memory_mb"] + chosen["executor_memory_overhead_mb"] <= 8_192
    assert chosen["slots"] == 450  # nine a server: 1024 + 384 + 9 x 2 x 352 = 7,744 MiB
    assert "memory holds 450 tasks of 800" in reason(chosen, "slots")


def test_a_worker_with_little_memory_gets_a_smaller_heap() -> None:
    cluster = ClusterFacts("spark://m:7077", 2, 4_096, executor_cores=1, executor_memory_mb=2_048)

    assert plan(ModelFacts(MIB), cluster, DAY, CPU)["executor_memory_mb"] == 1024  # 1024 + 384 + 2 x 306 fit
    assert plan(ModelFacts(40 * MIB), cluster, DAY, CPU)["executor_memory_mb"] == 512


def test_a_measured_peak_counts_more_than_a_rule_of_thumb() -> None:
    chosen = plan(replace(INT8, memory_mb=227.3), LAPTOP, DAY, CPU)

    assert chosen["executor_memory_overhead_mb"] == 384 + 2 * 2 * (228 + 4)
    assert "228 measured + 4 Arrow" in reason(chosen, "executor_memory_overhead_mb")


def test_no_arena_is_less_memory() -> None:
    def overhead(profile: ExecutionProfile) -> int:
        return plan(MODEL, LAPTOP, DAY, profile)["executor_memory_overhead_mb"]

    assert overhead(CPU) - overhead(ExecutionProfile(arena=False)) == 2 * 2 * 75


def test_a_small_day_takes_no_more_of_a_cluster_than_it_can_use() -> None:
    chosen = plan(MODEL, SERVERS, InputFacts(1_200, 10**8, 1_200), CPU)

    assert chosen["slots"] == chosen["partitions"] == 1_200 // MIN_ROWS_PER_TASK == 18
    assert (chosen["executors"], chosen["executor_cores"]) == (2, 9)
    assert chosen.spark_conf()["spark.cores.max"] == "18"


def test_short_tasks_are_fewer_and_long_ones_more() -> None:
    def waves(rate: float | None) -> float:
        chosen = plan(ModelFacts(MIB, rate), LAPTOP, InputFacts(20_000, 10**9, 20_000), CPU)
        return chosen["partitions"] / chosen["slots"]

    assert waves(1_000) == 2  # 10 s of work a slot
    assert waves(None) == 3
    assert waves(100) == 3  # 100 s
    assert waves(1) == math.ceil(10_000 / LONG_TASK_SECONDS)


def test_ten_thousand_small_files_and_one_large_one_get_even_shares() -> None:
    small = plan(ModelFacts(MIB), LAPTOP, InputFacts(10_000, 400_000_000, 10_000, 60_000), CPU)
    large = plan(ModelFacts(MIB), LAPTOP, InputFacts(20_000, 2 * 10**9, 1, 250_000), CPU)

    assert (small["partitions"], small["max_partition_bytes"]) == (6, math.ceil(400_000_000 / 6))
    assert (large["partitions"], large["max_partition_bytes"]) == (6, math.ceil(2 * 10**9 / 6))


def test_a_piece_that_cannot_be_divided_bounds_the_share_from_below() -> None:
    chosen = plan(ModelFacts(MIB), LAPTOP, InputFacts(600, 6_000_000, 600, 5_000_000), CPU)

    assert chosen["max_partition_bytes"] == 5_000_000
    assert "cannot be divided" in reason(chosen, "max_partition_bytes")


def test_arrow_batches_follow_the_rows_and_the_heap() -> None:
    def arrow(row_bytes: int, cluster: ClusterFacts) -> int:
        return plan(MODEL, cluster, InputFacts(10**6, 10**6 * row_bytes, 100), CPU)["arrow_bytes"]

    assert arrow(400, SERVERS) == MIB
    assert arrow(100_000, SERVERS) == 4 * MIB
    assert arrow(10_000_000, SERVERS) == 16 * MIB  # a heap of 1 GiB, 4 copies, 16 tasks
    assert arrow(10_000_000, LAPTOP) == 64 * MIB


def test_a_latency_profile_gives_a_task_its_cores_as_far_as_a_worker_has_them() -> None:
    profile = ExecutionProfile(threads=8, batch_size=1)

    chosen = plan(MODEL, SERVERS, CATALOGUE, profile)
    assert (chosen["task_cpus"], chosen["threads"], chosen["slots"], chosen["batch_size"]) == (8, 8, 100, 1)
    assert plan(MODEL, SERVERS, CATALOGUE, profile, {"task_cpus": 2})["threads"] == 2
    assert plan(MODEL, ClusterFacts("spark://m:7077", 4, executor_cores=4), DAY, profile)["task_cpus"] == 4


def test_a_measured_batch_size_is_planned() -> None:
    chosen = plan(ModelFacts(MIB, 250.0, batch_size=16), LAPTOP, DAY, CPU)

    assert chosen["batch_size"] == 16
    assert reason(chosen, "batch_size") == "measured as the best on this type of CPU"


# The forms of a plan


def test_the_table_shows_names_values_reasons_and_the_estimate() -> None:
    lines = plan(MODEL, LAPTOP, DAY, CPU).table().splitlines()

    assert lines[0] == "task_cpus                           1  one core a task: rows are many and independent"
    assert lines[-1] == "estimate: 7.1 s for inference alone, without decoding, 0.00 core-hours, 282 images/s"


def test_an_unmeasured_model_gives_no_estimate_but_says_how_to_get_one() -> None:
    chosen = plan(ModelFacts(1), LAPTOP, DAY, CPU)

    assert (chosen.estimate_seconds, chosen.core_hours) == (None, None)
    assert chosen.table().endswith(
        "estimate: none; this model was never measured on this type of CPU; OnnxMeasureOperator does that"
    )


def test_a_plan_as_spark_properties() -> None:
    assert plan(MODEL, LAPTOP, DAY, CPU, {"partitions": 5}).spark_conf() == {
        "spark.task.cpus": "1",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.files.maxPartitionBytes": "20000000",
        "spark.sql.execution.arrow.maxBytesPerBatch": str(2 * MIB),
        "spark.network.timeout": "120s",
        "spark.executor.heartbeatInterval": "10s",
    }
    assert plan(INT8, SERVERS, CATALOGUE, CPU).spark_conf() == {
        "spark.task.cpus": "1",
        "spark.sql.shuffle.partitions": "800",
        "spark.sql.files.maxPartitionBytes": "666666667",
        "spark.sql.execution.arrow.maxBytesPerBatch": str(2 * MIB),
        "spark.network.timeout": "120s",
        "spark.executor.heartbeatInterval": "10s",
        "spark.executor.cores": "16",
        "spark.executor.instances": "50",
        "spark.executor.memory": "1024m",
        "spark.executor.memoryOverhead": "11648m",
        "spark.task.maxFailures": "4",
        "spark.cores.max": "800",
    }


def test_dynamic_allocation_is_bounded_where_it_is_switched_on() -> None:
    fixed = plan(INT8, SERVERS, CATALOGUE, CPU)
    assert (fixed["min_executors"], fixed["max_executors"]) == (50, 50)
    assert not [name for name in fixed.spark_conf() if "dynamicAllocation" in name]

    conf = {"spark.dynamicAllocation.enabled": "true", "spark.dynamicAllocation.maxExecutors": "20"}
    chosen = plan(INT8, SERVERS, CATALOGUE, CPU, hand_set_of({}, conf))
    assert (chosen["min_executors"], chosen["max_executors"], chosen["executors"], chosen["slots"]) == (1, 20, 20, 320)
    assert chosen.spark_conf()["spark.dynamicAllocation.minExecutors"] == "1"
    assert chosen.spark_conf()["spark.dynamicAllocation.shuffleTracking.enabled"] == "true"


# What holds for every plan


@given(models, clusters(), days, profiles, by_hand())
def test_every_plan_keeps_its_promises_or_is_refused(
    model: ModelFacts, cluster: ClusterFacts, day: InputFacts, profile: ExecutionProfile, sizing: dict[str, Any]
) -> None:
    try:
        chosen = plan(model, cluster, day, profile, sizing)
    except BadInputError as error:
        assert str(error).startswith("plan: ")  # noqa: PT017
        return
    got = values(chosen)

    on_gpu = profile.provider != CPU.provider
    assert list(got) == sorted(got, key=list(got).index)
    assert set(got) == set(HAND_SET) - (set() if on_gpu else set(GPU_NAMES))
    assert [decision.name for decision in chosen.decisions if not decision.reason] == []
    assert {name: got[name] for name in sizing} == sizing
    for decision in chosen.decisions:
        assert decision.reason.startswith("set by hand (planned: ") == (decision.name in sizing)

    assert 1 <= got["threads"] <= got["task_cpus"] <= got["executor_cores"]
    assert 1 <= got["slots"] * got["task_cpus"] <= got["executors"] * got["executor_cores"]
    if cluster.cores is not None:
        assert got["executors"] * got["executor_cores"] <= cluster.cores
    if on_gpu and cluster.cores is not None:
        assert got["executors"] * got["executor_gpus"] <= cluster.gpus
        assert got["slots"] * got["task_gpus"] <= cluster.gpus
    if cluster.executor_memory_mb is not None:
        assert got["executor_memory_mb"] + got["executor_memory_overhead_mb"] <= cluster.executor_memory_mb
    if cluster.memory_mb is not None:
        memory = got["executor_memory_mb"] + got["executor_memory_overhead_mb"]
        assert got["executors"] * memory <= cluster.memory_mb

    assert 1 <= got["partitions"] <= max(1, day.rows)
    assert got["partitions"] * got["max_partition_bytes"] >= day.bytes
    assert got["heartbeat_interval_s"] < got["network_timeout_s"]
    assert got["min_executors"] <= got["max_executors"]
    assert got["executors"] <= got["max_executors"]
    for name, value in chosen.spark_conf().items():
        assert re.fullmatch(r"\d+(\.\d+)?|\d+(m|s|ms)|true", value), (name, value)
    assert Plan.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen
    assert len(chosen.table().splitlines()) == len(chosen.decisions) + 1


@given(models, clusters(), days, profiles)
def test_what_is_planned_without_a_hand_is_sensible(
    model: ModelFacts, cluster: ClusterFacts, day: InputFacts, profile: ExecutionProfile
) -> None:
    try:
        got = values(chosen := plan(model, cluster, day, profile))
    except BadInputError:
        return
    assert got["slots"] <= got["partitions"] or day.rows < MIN_ROWS_PER_TASK  # every slot has work
    assert got["partitions"] == 1 or day.rows / got["partitions"] >= MIN_ROWS_PER_TASK
    assert got["partitions"] % got["slots"] == 0  # whole waves
    assert got["max_partition_bytes"] >= max(MIB, day.largest)
    assert MIB <= got["arrow_bytes"] <= 64 * MIB
    assert (got["network_timeout_s"], got["heartbeat_interval_s"]) >= (120, 10)
    assert got["executor_memory_overhead_mb"] > JVM_OVERHEAD_MB
    if chosen.estimate_seconds is not None:
        cores = got["slots"] * got["task_cpus"]
        assert chosen.core_hours == pytest.approx(cores * chosen.estimate_seconds / 3600, rel=1e-2, abs=1e-5)
    elif got["partitions"] > got["slots"] * 3:
        assert day.rows / got["partitions"] <= MAX_ROWS_PER_TASK * got["task_cpus"]


@given(st.integers(1, 10_000), days, st.integers(1, 64), st.integers(1, 64))
def test_no_plan_oversubscribes_a_core(cores: int, day: InputFacts, task_cpus: int, threads: int) -> None:
    cluster, sizing = ClusterFacts("spark://master:7077", cores), {"task_cpus": task_cpus, "threads": threads}
    if task_cpus > cores or threads > task_cpus:
        with pytest.raises(BadInputError):
            plan(MODEL, cluster, day, CPU, sizing)
    else:
        chosen = plan(MODEL, cluster, day, CPU, sizing)
        assert chosen["threads"] * chosen["slots"] <= chosen["task_cpus"] * chosen["slots"] <= cores


# What people set by hand


def test_the_reason_of_a_hand_set_value_keeps_the_planned_one() -> None:
    chosen = plan(ModelFacts(MIB), LAPTOP, DAY, CPU, {"partitions": 50})

    assert reason(chosen, "partitions").startswith("set by hand (planned: 6, 3 waves over 2 slots; ")


@pytest.mark.parametrize(
    ("sizing", "message"),
    [
        ({"threads": 4}, r"4 threads in a task of 1 cores would oversubscribe each core 4\.0 times; set task_cpus=4"),
        ({"task_cpus": 3}, r"a task needs 3 cores, but local\[2\] has 2 free"),
        ({"batch_size": 0}, r"values must be at least 1, got {'batch_size': 0}"),
        ({"slots": 1.5}, r"values must be whole numbers, got {'slots': 1.5}"),
        ({"slots": "many"}, r"slots must be a number, got 'many'"),
        ({"slots": True}, r"slots must be a number, got True"),
        ({"slots": math.inf}, r"slots must be a number, got inf"),
        ({"cores": 4}, r"cores cannot be set; there is: task_cpus, threads"),
        ({"task_gpus": 1}, r"task_gpus cannot be set for a CPU profile"),
        ({"slots": 3}, r"3 slots of 1 cores need 3, but local\[2\] has 2 free; set slots=2 or fewer"),
        ({"task_cpus": 2, "executor_cores": 1}, r"an executor of 1 cores cannot run a task of 2; set executor_cores=2"),
        ({"executor_cores": 4}, r"an executor needs 4 cores, but the largest worker of local\[2\] has 2 free"),
        ({"executors": 10}, r"local\[2\] is one process, not 10 executors"),
        ({"partitions": 3_000}, r"3000 partitions for 2000 rows leave 1000 empty"),
        (
            {"partitions": 2, "max_partition_bytes": MIB},
            r"2 partitions of at most 1,048,576 bytes hold 2,097,152, but the",
        ),
        ({"heartbeat_interval_s": 90, "network_timeout_s": 60}, r"a heartbeat every 90 s is not within .* 60 s; set"),
        ({"model_travels": "pigeon"}, r"model_travels must be one of archive, path, object_store, got 'pigeon'"),
        ({"model_travels": "object_store"}, r"needs a model store with a URL such as s3://…, but it is a folder"),
        ({"min_executors": 3, "max_executors": 1}, r"dynamic allocation between 3 and 1 executors cannot hold 1"),
    ],
)
def test_a_contradiction_is_refused_with_its_numbers(sizing: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        plan(MODEL, LAPTOP, DAY, CPU, sizing)


@pytest.mark.parametrize(
    ("sizing", "message"),
    [
        ({"executors": 100, "executor_cores": 16}, r"100 executors of 16 cores need 1600, but .* has 800 free"),
        (
            {"executors": 200, "executor_memory_mb": 20_000},
            r"\(200 executors: 4,202,000 MiB\); beside the heap: 1 task x",
        ),
        ({"executors": 2, "executor_cores": 4, "slots": 10}, r"10 slots, but .* executors of one size take 8 tasks"),
        (
            {"executor_memory_overhead_mb": 70_000},
            r"1 core needs 512 MiB heap \+ 70,000 .* = 70,512 MiB, and .* 61,440",
        ),
        ({"executor_memory_mb": 61_440}, r"needs 61,440 MiB heap \+ 1,010 MiB beside it = 62,450 MiB"),
    ],
)
def test_a_cluster_refuses_what_it_cannot_hold_with_the_sum(sizing: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        plan(INT8, SERVERS, replace(CATALOGUE, largest=0), CPU, sizing)


def test_a_model_that_no_worker_can_hold_is_refused_with_the_sum() -> None:
    small = ClusterFacts("spark://m:7077", 4, 8_192, executor_cores=4, executor_memory_mb=8_192)

    with pytest.raises(
        BadInputError,
        match=r"needs 512 MiB heap \+ 21,\d+ MiB beside it = 21,982 MiB, and on spark://m:7077 the largest worker has "
        r"8,192 MiB free .*10240 model.*Take larger workers or a smaller model",
    ):
        plan(ModelFacts(4 * GIB), small, DAY, CPU)


def test_a_local_master_with_too_little_memory_says_how_to_run_fewer_tasks() -> None:
    with pytest.raises(BadInputError, match=r"Run fewer tasks at once \(local\[1\]\)"):
        plan(ModelFacts(GIB), replace(LAPTOP, executor_memory_mb=8_192), DAY, CPU)


def test_a_cluster_without_free_cores_is_refused_with_what_the_master_says() -> None:
    busy = ClusterFacts("spark://busy:7077", 0, note="2 of 3 workers are dead")
    with pytest.raises(BadInputError, match=r"spark://busy:7077 has 0 free: no task could start \(2 of 3 workers are"):
        plan(MODEL, busy, DAY, CPU)


def test_a_gpu_profile_needs_a_gpu() -> None:
    with pytest.raises(BadInputError, match=r"CUDAExecutionProvider needs 1 GPU a task, but spark://.* has 0 free"):
        plan(MODEL, SERVERS, DAY, CUDA)
    with pytest.raises(BadInputError, match=r"a task needs 2 GPUs, but an executor has 1; set executor_gpus=2"):
        plan(MODEL, replace(SERVERS, gpus=4), DAY, CUDA, {"task_gpus": 2, "executor_gpus": 1})


def test_a_cluster_that_gives_no_numbers_needs_slots_or_executors() -> None:
    yarn = ClusterFacts("yarn", None)

    with pytest.raises(BadInputError, match=r"yarn does not say how many cores are free; say with sizing="):
        plan(MODEL, yarn, CATALOGUE, CPU)
    assert plan(MODEL, yarn, CATALOGUE, CPU, {"slots": 16})["slots"] == 16
    assert plan(MODEL, yarn, CATALOGUE, CPU, {"slots": 16})["executors"] == 4
    by_executors = plan(MODEL, yarn, CATALOGUE, CPU, {"executors": 10, "executor_cores": 8})
    assert (by_executors["slots"], by_executors["executors"]) == (80, 10)


def test_a_path_is_no_way_from_an_object_store() -> None:
    with pytest.raises(BadInputError, match=r"model_travels='path' needs a model store in a folder, but it is s3://m"):
        plan(MODEL, SERVERS, DAY, CPU, {"model_travels": "path"}, store_url="s3://m")


def test_spark_properties_say_the_same_as_the_planners_names() -> None:
    conf = {
        "spark.task.cpus": "2",
        "spark.task.resource.gpu.amount": "0.5",
        "spark.executor.resource.gpu.amount": "1",
        "spark.executor.instances": 4,
        "spark.executor.cores": "8",
        "spark.executor.memory": "4g",
        "spark.executor.memoryOverhead": "3000",
        "spark.sql.files.maxPartitionBytes": "128MB",
        "spark.sql.execution.arrow.maxBytesPerBatch": "8388608",
        "spark.network.timeout": "10min",
        "spark.executor.heartbeatInterval": "20000",
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "2",
        "spark.dynamicAllocation.maxExecutors": "9",
        "spark.app.name": "mine",
    }
    assert set(PROPERTIES) < set(conf)
    assert hand_set_of({"batch_size": "16", "model_travels": "path"}, conf) == {
        "batch_size": 16,
        "model_travels": "path",
        "task_cpus": 2,
        "task_gpus": 0.5,
        "executor_gpus": 1,
        "executors": 4,
        "executor_cores": 8,
        "executor_memory_mb": 4096,
        "executor_memory_overhead_mb": 3000,
        "max_partition_bytes": 128 * MIB,
        "arrow_bytes": 8 * MIB,
        "network_timeout_s": 600,
        "heartbeat_interval_s": 20,
        "min_executors": 2,
        "max_executors": 9,
    }


def test_the_bounds_of_dynamic_allocation_mean_nothing_while_it_is_off() -> None:
    assert hand_set_of({}, {"spark.dynamicAllocation.maxExecutors": "9"}) == {}
    assert hand_set_of({}, {"spark.dynamicAllocation.enabled": "true"}) == {"min_executors": 1}


@pytest.mark.parametrize(
    ("sizing", "conf", "message"),
    [
        ({"task_cpus": 2}, {"spark.task.cpus": "4"}, r"sizing says task_cpus=2, but conf says spark\.task\.cpus=4"),
        ({}, {"spark.executor.memory": "1.5g"}, r"spark\.executor\.memory='1\.5g' is no size"),
        ({}, {"spark.network.timeout": "soon"}, r"spark\.network\.timeout='soon' is no time"),
        ({}, {"spark.executor.cores": "four"}, r"spark\.executor\.cores must be a number, got 'four'"),
        ({"slots": None}, {}, r"slots must be a number, got None"),
    ],
)
def test_what_spark_could_not_read_or_is_said_twice_is_refused(
    sizing: dict[str, Any], conf: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        hand_set_of(sizing, conf)


@given(by_hand())
def test_a_plans_own_properties_set_by_hand_give_the_same_plan(sizing: dict[str, Any]) -> None:
    first = plan(INT8, SERVERS, CATALOGUE, CPU)
    again = plan(INT8, SERVERS, CATALOGUE, CPU, hand_set_of({}, first.spark_conf()))

    assert values(again) == values(first)


# What is known of the model


def test_what_was_measured_on_several_threads_counts_for_each_core() -> None:
    best = {"images_per_second": 300.0, "threads": 2, "batch": 4, "decoder": "full", "decode_included": True}
    assert ModelFacts.of(1_000, best) == ModelFacts(1_000, 150.0, decode_included=True, batch_size=4)
    more = {**best, "arena": False, "memory_mb": 240.5}
    assert ModelFacts.of(1_000, more) == ModelFacts(1_000, 150.0, True, 4, memory_mb=240.5, arena=False)


def test_one_batch_size_alone_is_no_choice() -> None:
    only = {"images_per_second": 300.0, "threads": 1, "batch": 8, "decode_included": False}
    assert ModelFacts.of(1_000, only).batch_size is None
    assert ModelFacts.of(1_000, None) == ModelFacts(1_000)


def test_a_busy_cluster_is_worth_another_try() -> None:
    with pytest.raises(ClusterBusyError, match="spark://busy:7077 has 0 free: no task could start"):
        plan(MODEL, ClusterFacts("spark://busy:7077", 0, total_cores=64), DAY)
