# SPDX-License-Identifier: Apache-2.0
"""What a job needs, held against what a cluster has free."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.capacity.fit import Needs, capped, describe
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.spark.plan import ClusterFacts, InputFacts, ModelFacts, plan

CLUSTER = ClusterFacts("spark://m:7077", 8, 16384, 4, 8192, gpus=1, total_cores=16, nodes=((4, 8192), (4, 8192)))


def plain(**values: Any) -> dict[str, Any]:
    """A plan's plain form."""
    return {"decisions": [{"name": name, "value": value, "reason": "so"} for name, value in values.items()]}


PLAN: Any = plain(
    task_cpus=2, slots=4, executors=2, executor_cores=4, executor_memory_mb=1024, executor_memory_overhead_mb=3072
)
NEEDS = Needs(cores=8, memory_mb=8192, executor_cores=4, executor_memory_mb=4096)


@pytest.mark.parametrize(
    "given_as", [PLAN, {"plan": PLAN, "dry_run": True}, json.dumps(PLAN), json.dumps({"plan": PLAN})]
)
def test_needs_of_a_plan_in_each_of_its_forms(given_as: Any) -> None:
    assert Needs.of_plan(given_as) == NEEDS


def test_gpus_of_a_plan() -> None:
    assert Needs.of_plan(plain(task_cpus=4, slots=2, executors=2, executor_gpus=1)).gpus == 2


@pytest.mark.parametrize("no_plan", ["", "not JSON", "[]", {}, {"plan": None}, plain(slots=3), 7])
def test_what_is_no_plan(no_plan: Any) -> None:
    with pytest.raises(BadInputError, match=r"plan: expected a dry run's output \(task.output\) or its JSON"):
        Needs.of_plan(no_plan)


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ({}, ""),
        ({"cores": 7}, "8 cores needed, 7 free"),
        (
            {"memory_mb": 4000, "executor_memory_mb": 4000},
            "8192 MiB needed, 4000 free, 4096 MiB on one worker needed, 4000",
        ),
        ({"executor_cores": 3}, "4 cores on one worker needed, 3 free"),
        ({"memory_mb": None, "executor_memory_mb": None}, ""),  # a local master does not say
        ({"healthy": False, "note": "no master is ALIVE"}, "not healthy: no master is ALIVE"),
        ({"healthy": False, "cores": 0, "total_cores": 0}, "not healthy: it takes no applications"),
    ],
)
def test_lacking_now(change: dict[str, Any], lacking: str) -> None:
    assert NEEDS.lacking(replace(CLUSTER, **change)).startswith(lacking)
    assert bool(NEEDS.lacking(replace(CLUSTER, **change))) == bool(lacking)


def test_gpus_are_waited_for() -> None:
    assert Needs(gpus=2).lacking(CLUSTER) == "2 GPUs needed, 1 free"


def test_waiting_for_more_than_there_is_never_helps() -> None:
    with pytest.raises(BadInputError, match="20 cores are needed and spark://m:7077 has 16 altogether, 4 too few:"):
        Needs(cores=20).lacking(CLUSTER)
    with pytest.raises(BadInputError, match=r"yarn does not say what is free \(no web_address\): there is nothing"):
        Needs(cores=1).lacking(ClusterFacts("yarn", None, note="no web_address"))


def test_a_plan_for_a_cluster_fits_on_it() -> None:
    made = plan(ModelFacts(14 << 20), CLUSTER, InputFacts(100_000, 10 << 30, 100_000), ExecutionProfile())
    assert Needs.of_plan(made.to_dict()).lacking(CLUSTER) == ""
    busy = replace(CLUSTER, cores=1, executor_cores=1, nodes=((1, 8192),))
    assert "cores needed, 1 free" in Needs.of_plan(made.to_dict()).lacking(busy)


amounts = st.none() | st.integers(0, 1000)


@given(cores=amounts, memory_mb=amounts, total=amounts)
def test_a_bound_never_adds(cores: int | None, memory_mb: int | None, total: int | None) -> None:
    cut = capped(CLUSTER, cores=cores, memory_mb=memory_mb, total_cores=total, note="a quota")
    for name, bound in {"cores": cores, "executor_cores": cores, "memory_mb": memory_mb, "total_cores": total}.items():
        was = getattr(CLUSTER, name)
        assert getattr(cut, name) == (was if bound is None else min(was, bound))
    assert cut.nodes in {(), CLUSTER.nodes}


def test_described_for_a_person() -> None:
    assert describe(CLUSTER) == "spark://m:7077: 8 of 16 cores free, 16384 MiB free memory, 1 free GPU"
    assert describe(ClusterFacts("local[2]", 2, total_cores=2)) == "local[2]: 2 of 2 cores free"
    assert describe(ClusterFacts("yarn", None, note="no web_address")) == "yarn: free cores unknown (no web_address)"
