# SPDX-License-Identifier: Apache-2.0
"""A standalone master, asked at its web page."""

from __future__ import annotations

import pytest

from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.hooks.capacity.access import Access
from airflow_onnx_provider.hooks.capacity.standalone import capacity, default_pages
from tests.hooks.capacity.shapes_standalone import master, worker
from tests.hooks.capacity.standin import standing_in

MASTER = "spark://a:7077,b:7077"
ASK = Access("cluster")


def test_free_is_what_living_workers_have() -> None:
    page = master(
        worker("w1", 4, 3, 6144, gpus=2),
        worker("w2", 8, 4, 8192, gpus=1),
        worker("w3", 8, 8, 16384, state="DEAD", gpus=4),
    )
    with standing_in(page) as here:
        facts = capacity(MASTER, [here.address], ASK)
    assert (facts.cores, facts.total_cores, facts.memory_mb, facts.gpus) == (7, 12, 14336, 3)
    assert (facts.executor_cores, facts.executor_memory_mb) == (4, 8192)
    assert facts.nodes == ((3, 6144), (4, 8192))
    assert (facts.healthy, facts.note) == (True, "1 of 3 workers is not alive")


def test_a_master_without_workers_is_not_healthy() -> None:
    with standing_in(master()) as here:
        facts = capacity(MASTER, [here.address], ASK)
    assert (facts.cores, facts.total_cores, facts.executor_cores, facts.healthy) == (0, 0, 0, False)


def test_of_several_masters_the_one_alive_is_taken() -> None:
    with standing_in(master(status="STANDBY")) as a, standing_in(master(worker("w1", 2, 2, 1024))) as b:
        facts = capacity(MASTER, ["http://127.0.0.1:9", a.address, b.address], ASK)
    assert (facts.cores, facts.healthy) == (2, True)


@pytest.mark.parametrize("status", ["STANDBY", "RECOVERING", "COMPLETING_RECOVERY"])
def test_none_alive_is_a_sick_cluster(status: str) -> None:
    with standing_in(master(worker("w1", 2, 2, 1024), status=status)) as here:
        facts = capacity(MASTER, [here.address, "http://127.0.0.1:9"], ASK)
    assert (facts.cores, facts.healthy) == (0, False)
    assert facts.note.startswith(f"no master is ALIVE: {here.address} is {status}; no answer from http://127.0.0.1:9")


def test_a_page_of_something_else() -> None:
    with (
        standing_in({"/json/": {"jobs": []}}) as here,
        pytest.raises(OnnxProviderError, match="does not answer as a Spark master does: KeyError 'status'") as no,
    ):
        capacity(MASTER, [here.address], ASK)
    assert no.value.retryable


def test_where_pages_are_by_default() -> None:
    assert default_pages(MASTER) == ("http://a:8080", "http://b:8080")
