# SPDX-License-Identifier: Apache-2.0
"""A standalone master, asked at its web page's ``/json/`` (Spark's ``deploy/JsonProtocol.scala``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_onnx_provider.hooks.capacity.access import Access, NotLeadingError, expecting, first_leading, host_of
from airflow_onnx_provider.spark.plan import ClusterFacts

WEB_PORT = 8080


def default_pages(master: str) -> tuple[str, ...]:
    """Where the pages of ``spark://a:7077,b:7077`` are unless somebody moved them."""
    return tuple(f"http://{host_of(one)}:{WEB_PORT}" for one in master.removeprefix("spark://").split(","))


def capacity(master: str, pages: Sequence[str], access: Access) -> ClusterFacts:
    """Free cores, memory and GPUs of the living workers of the master that leads.

    :param pages: web address of each master; all but one stand by
    :raises OnnxProviderError: if none of them answers as a master does
    """

    def ask(page: str) -> ClusterFacts:
        state = access.json(f"{page}/json/")
        with expecting(page, "a Spark master"):
            if state["status"] != "ALIVE":
                raise NotLeadingError(f"{page} is {state['status']}")
            return _facts(master, state)

    facts, said = first_leading(pages, ask)
    return facts or ClusterFacts(master, 0, healthy=False, note=f"no master is ALIVE: {said}")


def _facts(master: str, state: dict[str, Any]) -> ClusterFacts:
    workers = state["workers"]
    alive = [worker for worker in workers if worker["state"] == "ALIVE"]
    lost = len(workers) - len(alive)
    return ClusterFacts(
        master,
        cores=sum(worker["coresfree"] for worker in alive),
        memory_mb=sum(worker["memoryfree"] for worker in alive),
        executor_cores=max((worker["coresfree"] for worker in alive), default=0),
        executor_memory_mb=max((worker["memoryfree"] for worker in alive), default=0),
        gpus=sum(len(_gpus(worker)) for worker in alive),
        total_cores=sum(worker["cores"] for worker in alive),
        healthy=bool(alive),
        nodes=tuple((worker["coresfree"], worker["memoryfree"]) for worker in alive),
        note=f"{lost} of {len(workers)} workers {'is' if lost == 1 else 'are'} not alive" if lost else "",
    )


def _gpus(worker: dict[str, Any]) -> list[str]:
    """Addresses of the GPUs that no application has; Spark before 3.0 knows none."""
    return list(worker.get("resourcesfree", {}).get("gpu", {}).get("addresses", []))
