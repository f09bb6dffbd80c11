from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.profile import PICTURES_PER_BATCH
from airflow_onnx_provider.spark.plan import (
    HAND_SET,
    MAX_ROWS_PER_TASK,
    MEMORY_OVERHEAD_FLOOR_MB,
    MIN_ROWS_PER_TASK,
    ClusterFacts,
    InputFacts,
    ModelFacts,
    plan,
)

MODEL = ModelFacts(size_bytes=25 * 2**20, images_per_second=250.0)
LAPTOP = ClusterFacts("local[2]", slots=2)
DAY = InputFacts(files=2_000, bytes=100_000_000)

models = st.builds(
    ModelFacts,
    st.integers(1, 2**32),
    st.none() | st.floats(0.1, 1e5),
    decode_included=st.booleans(),
    batch_size=st.none() | st.integers(1, 512),
)
days = st.builds(InputFacts, st.integers(0, 200_000_000), st.integers(0, 2**45))


def test_a_plan_for_a_laptop() -> None:
    chosen = plan(MODEL, LAPTOP, DAY)

    assert {decision.name: decision.value for decision in chosen.decisions} == {
        "task_cpus": 1,
        "threads": 1,
        "slots": 2,
        "batch_size": PICTURES_PER_BATCH,
        "partitions": 6,
        "executor_memory_overhead_mb": MEMORY_OVERHEAD_FLOOR_MB,
    }
    assert chosen.estimate_seconds == pytest.approx(2_000 / (250 * 2))


def test_every_value_has_its_reason() -> None:
    chosen = plan(MODEL, LAPTOP, DAY)

    assert [decision.name for decision in chosen.decisions if not decision.reason] == []
    assert {decision.name for decision in chosen.decisions} == set(HAND_SET)


def test_a_plan_as_spark_properties() -> None:
    assert plan(MODEL, LAPTOP, DAY, {"task_cpus": 2, "partitions": 5}).spark_conf() == {
        "spark.task.cpus": "2",
        "spark.executor.memoryOverhead": "1024m",
        "spark.sql.shuffle.partitions": "5",
    }


def test_the_table_shows_names_values_reasons_and_the_estimate() -> None:
    lines = plan(MODEL, LAPTOP, DAY).table().splitlines()

    assert lines[4].split()[:2] == ["partitions", "6"]
    assert lines[4].endswith("3 waves over 2 slots")
    assert lines[-1] == "estimate: 4.0 s for inference alone, without decoding"


def test_a_measured_batch_size_is_planned() -> None:
    chosen = plan(ModelFacts(2**20, 250.0, batch_size=16), LAPTOP, DAY)

    assert chosen["batch_size"] == 16
    assert "measured as the best on this type of CPU" in chosen.table()


def test_an_unmeasured_model_gives_no_estimate() -> None:
    chosen = plan(ModelFacts(size_bytes=1), LAPTOP, DAY)

    assert chosen.to_dict()["estimate_seconds"] is None
    assert "estimate" not in chosen.table()


@given(models, st.integers(1, 10_000), days, st.integers(1, 64), st.integers(1, 64))
def test_no_plan_oversubscribes_a_core(
    model: ModelFacts, cores: int, day: InputFacts, task_cpus: int, threads: int
) -> None:
    cluster = ClusterFacts("spark://master:7077", cores)
    sizing = {"task_cpus": task_cpus, "threads": threads}
    if task_cpus > cores or threads > task_cpus:
        with pytest.raises(BadInputError):
            plan(model, cluster, day, sizing)
    else:
        chosen = plan(model, cluster, day, sizing)
        assert chosen["threads"] * chosen["slots"] <= chosen["task_cpus"] * chosen["slots"] <= cores
        assert chosen["slots"] >= 1


@given(models, st.integers(1, 10_000), days)
def test_tasks_are_neither_tiny_nor_huge(model: ModelFacts, cores: int, day: InputFacts) -> None:
    partitions = plan(model, ClusterFacts("spark://master:7077", cores), day)["partitions"]

    assert partitions >= 1
    assert math.ceil(day.files / partitions) <= MAX_ROWS_PER_TASK
    assert partitions == 1 or day.files / partitions >= MIN_ROWS_PER_TASK


@given(models, st.integers(2, 10_000), days, st.dictionaries(st.sampled_from(HAND_SET), st.integers(2, 10_000)))
def test_what_is_set_by_hand_wins_and_shows_what_was_planned(
    model: ModelFacts, cores: int, day: InputFacts, sizing: dict[str, int]
) -> None:
    sizing.pop("task_cpus", None)  # these two can contradict the rest; they have their own tests
    sizing.pop("threads", None)
    chosen = plan(model, ClusterFacts("spark://master:7077", cores), day, sizing)

    for decision in chosen.decisions:
        by_hand = decision.name in sizing
        assert decision.reason.startswith("set by hand (planned: ") == by_hand
        assert not by_hand or decision.value == sizing[decision.name]


def test_the_reason_of_a_hand_set_value_keeps_the_planned_one() -> None:
    chosen = plan(MODEL, LAPTOP, DAY, {"partitions": 50})

    decision = next(decision for decision in chosen.decisions if decision.name == "partitions")
    assert decision.reason == "set by hand (planned: 6, 3 waves over 2 slots)"


@pytest.mark.parametrize(
    ("sizing", "message"),
    [
        ({"threads": 4}, r"4 threads in a task of 1 cores would oversubscribe each core 4\.0 times; set task_cpus=4"),
        ({"task_cpus": 3}, r"a task needs 3 cores, but local\[2\] has 2 free"),
        ({"batch_size": 0}, r"values must be at least 1, got {'batch_size': 0}"),
        ({"cores": 4}, r"cores cannot be set; there is: slots, task_cpus, threads"),
    ],
)
def test_a_contradiction_is_refused_with_its_numbers(sizing: dict[str, int], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        plan(MODEL, LAPTOP, DAY, sizing)


def test_a_cluster_without_free_cores_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"spark://busy:7077 has 0 free: no task could start"):
        plan(MODEL, ClusterFacts("spark://busy:7077", 0), DAY)


def test_a_cluster_that_gives_no_numbers_needs_slots() -> None:
    yarn = ClusterFacts("yarn", None)

    with pytest.raises(BadInputError, match=r"yarn does not say how many cores are free; say with sizing="):
        plan(MODEL, yarn, DAY)
    assert plan(MODEL, yarn, DAY, {"slots": 16})["slots"] == 16


def test_memory_follows_the_model_on_the_machine_it_runs_on() -> None:
    small = plan(ModelFacts(2**20), LAPTOP, DAY)["executor_memory_overhead_mb"]
    large = plan(ModelFacts(2**30), LAPTOP, DAY)["executor_memory_overhead_mb"]

    assert small == MEMORY_OVERHEAD_FLOOR_MB
    assert large >= 2 * 1024  # two workers, a GiB of weights each


def test_a_hundred_and_twenty_million_pictures_are_planned_at_once() -> None:
    began = time.perf_counter()
    chosen = plan(MODEL, ClusterFacts("spark://master:7077", 800), InputFacts(120_000_000, 10**13))

    assert time.perf_counter() - began < 0.1
    assert chosen["partitions"] == 6_000
    assert chosen.estimate_seconds == pytest.approx(600)


def test_what_was_measured_on_several_threads_counts_for_each_core() -> None:
    best = {"images_per_second": 300.0, "threads": 2, "batch": 4, "decoder": "full", "decode_included": True}
    assert ModelFacts.of(1_000, best) == ModelFacts(1_000, 150.0, decode_included=True, batch_size=4)


def test_one_batch_size_alone_is_no_choice() -> None:
    only = {"images_per_second": 300.0, "threads": 1, "batch": 8, "decode_included": False}
    assert ModelFacts.of(1_000, only).batch_size is None
    assert ModelFacts.of(1_000, None) == ModelFacts(1_000)
