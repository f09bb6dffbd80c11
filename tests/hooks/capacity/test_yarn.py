# SPDX-License-Identifier: Apache-2.0
"""YARN, asked through the ResourceManager's REST API."""

from __future__ import annotations

import pytest

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.hooks.capacity.access import Access
from airflow_onnx_provider.hooks.capacity.yarn import capacity
from tests.hooks.capacity.shapes_yarn import NODES, TREE, manager, node, scheduler, standby_of
from tests.hooks.capacity.standin import Answer, Text, standing_in

ASK = Access("cluster")


def test_free_over_the_cluster_and_on_its_largest_nodes() -> None:
    with standing_in(manager(*NODES)) as here:
        facts = capacity("yarn", [here.address], ASK)
    assert (facts.cores, facts.total_cores, facts.memory_mb, facts.gpus) == (12, 16, 24576, 2)
    assert (facts.executor_cores, facts.executor_memory_mb) == (7, 16384)
    assert facts.nodes == ((7, 8192), (5, 16384))
    assert (facts.healthy, facts.note) == (True, "")
    assert here.asked[-1].query == {"states": "RUNNING"}


def test_lost_and_unhealthy_nodes_are_told() -> None:
    with standing_in(manager(*NODES, lostNodes=1, unhealthyNodes=2)) as here:
        facts = capacity("yarn", [here.address], ASK)
    assert (facts.healthy, facts.note) == (True, "nodes: 1 lost, 2 unhealthy")


def test_no_running_node_is_a_sick_cluster() -> None:
    with standing_in(manager(availableVirtualCores=0, availableMB=0)) as here:
        facts = capacity("yarn", [here.address], ASK)
    assert (facts.cores, facts.healthy, facts.note) == (0, False, "no node is running")


def test_nodes_with_a_label_are_for_others() -> None:
    with standing_in(manager(*NODES, node("n3", 64, 262144, gpus=8, nodeLabels=["gpu"]))) as here:
        facts = capacity("yarn", [here.address], ASK)
    assert (facts.executor_cores, facts.executor_memory_mb, facts.gpus) == (7, 16384, 2)


def test_oversubscribed_cores_are_none_not_fewer() -> None:
    """YARN's default calculator counts memory only, so that cores can be given away more than once."""
    with standing_in(manager(node("n1", -3, 8192), availableVirtualCores=-3)) as here:
        facts = capacity("yarn", [here.address], ASK)
    assert (facts.cores, facts.executor_cores, facts.nodes) == (0, 0, ((0, 8192),))


def test_the_active_one_of_two_is_asked() -> None:
    with standing_in(manager(*NODES)) as active, standing_in(standby_of(active.address)) as standby:
        facts = capacity("yarn", [standby.address, active.address], ASK)
    assert facts.cores == 12
    assert [one.path for one in standby.asked] == ["/ws/v1/cluster/info"]


def test_only_the_standby_answers() -> None:
    with standing_in(standby_of("http://127.0.0.1:9")) as standby:
        facts = capacity("yarn", ["http://127.0.0.1:9", standby.address], ASK)
    assert (facts.cores, facts.healthy) == (0, False)
    assert "no ResourceManager is ACTIVE: no answer from http://127.0.0.1:9" in facts.note
    assert f"{standby.address} is STANDBY" in facts.note


def test_one_that_falls_back_to_standby_between_two_questions() -> None:
    changed = manager(*NODES) | {"/ws/v1/cluster/nodes": standby_of("http://127.0.0.1:9")["/ws/v1/cluster/nodes"]}
    with standing_in(changed) as here, pytest.raises(OnnxProviderError, match="nodes answers 307") as no:
        capacity("yarn", [here.address], ASK)
    assert no.value.retryable


def test_nobody_answers() -> None:
    with pytest.raises(OnnxProviderError, match=r"127\.0\.0\.1:9/ws/v1/cluster/info: .*; no answer from http://127"):
        capacity("yarn", ["http://127.0.0.1:9", "http://127.0.0.1:9"], ASK)


def test_wrong_credentials_end_it_at_once() -> None:
    with (
        standing_in(manager(*NODES), allow=lambda asked: asked.query.get("user.name") == "nightly") as here,
        standing_in(manager(*NODES)) as other,
    ):
        with pytest.raises(BadInputError, match=r"refuses access \(401\) with auth 'none'"):
            capacity("yarn", [here.address, other.address], ASK)
        facts = capacity("yarn", [here.address], Access("cluster", "simple", login="nightly"))
    assert facts.cores == 12
    assert not other.asked


@pytest.mark.parametrize("answer", [{"clusterMetrics": {"totalMB": 1}}, {"apps": None}, Text("[1, 2]")])
def test_a_manager_that_says_something_else(answer: Answer) -> None:
    pages = manager(*NODES) | {"/ws/v1/cluster/metrics": answer}
    with (
        standing_in(pages) as here,
        pytest.raises(OnnxProviderError, match="does not answer as a ResourceManager does"),
    ):
        capacity("yarn", [here.address], ASK)


@pytest.mark.parametrize(
    ("name", "cores", "memory_mb", "total"),
    [
        ("a1", 3, 6144, 4),  # 25 % of 16 cores and 32768 MiB, less what the queue itself holds
        ("root.a.a1", 3, 6144, 4),
        ("a2", 6, 12288, 8),  # its own half, less what its parent's queues hold
        ("b", 12, 24576, 16),  # all that is free
    ],
)
def test_a_queue_takes_no_more_than_it_and_those_above_it_may(
    name: str, cores: int, memory_mb: int, total: int
) -> None:
    with standing_in(manager(*NODES) | TREE) as here:
        facts = capacity("yarn", [here.address], ASK, name)
    assert (facts.cores, facts.memory_mb, facts.total_cores, facts.healthy) == (cores, memory_mb, total, True)
    assert (facts.executor_cores, facts.executor_memory_mb) == (min(7, cores), min(16384, memory_mb))
    assert facts.nodes == (NODES and ((7, 8192), (5, 16384)) if name == "b" else ())


def test_a_stopped_queue_takes_nothing() -> None:
    with standing_in(manager(*NODES) | TREE) as here:
        facts = capacity("yarn", [here.address], ASK, "b1")
    assert (facts.healthy, facts.note) == (False, "the queue b1 is STOPPED")


def test_a_queue_that_is_not_there() -> None:
    with (
        standing_in(manager(*NODES) | TREE) as here,
        pytest.raises(BadInputError, match="no queue 'c'; it has: a, a1, a2"),
    ):
        capacity("yarn", [here.address], ASK, "c")


def test_other_schedulers_are_not_read() -> None:
    with standing_in(manager(*NODES) | scheduler(kind="fairScheduler")) as here:
        facts = capacity("yarn", [here.address], ASK, "a")
    assert (facts.cores, facts.note) == (12, "the limits of the queue a are not read from a fairScheduler")
