# SPDX-License-Identifier: Apache-2.0
"""YARN, asked through the ResourceManager's REST API (Hadoop's ``ResourceManagerRest.html``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.capacity.access import Access, NotLeadingError, entries, expecting, first_leading
from airflow_onnx_provider.hooks.capacity.fit import capped
from airflow_onnx_provider.spark.plan import ClusterFacts

GPU = "yarn.io/gpu"
LOST = {"lostNodes": "lost", "unhealthyNodes": "unhealthy"}


def capacity(master: str, pages: Sequence[str], access: Access, queue: str | None = None) -> ClusterFacts:
    """Free cores, memory and GPUs, from the ResourceManager that is active.

    :param pages: web address of each ResourceManager; all but one stand by
    :param queue: if given, no more than what the capacity scheduler still grants this queue and those above it
    :raises BadInputError: if there is no such queue
    :raises OnnxProviderError: if none of them answers as a ResourceManager does
    """

    def ask(page: str) -> ClusterFacts:
        api = f"{page}/ws/v1/cluster"
        with expecting(page, "a ResourceManager"):
            info = access.json(f"{api}/info")["clusterInfo"]  # the one page that a standby does not redirect
            state = info.get("haState", "ACTIVE") if info["state"] == "STARTED" else info["state"]
            if state != "ACTIVE":
                raise NotLeadingError(f"{page} is {state}")
            metrics = access.json(f"{api}/metrics")["clusterMetrics"]
            nodes = entries(access.json(f"{api}/nodes", states="RUNNING")["nodes"], "node")
            facts = _facts(master, metrics, nodes)
            return _limited(facts, queue, metrics, access.json(f"{api}/scheduler")) if queue else facts

    facts, said = first_leading(pages, ask)
    return facts or ClusterFacts(master, 0, healthy=False, note=f"no ResourceManager is ACTIVE: {said}")


def _facts(master: str, metrics: dict[str, Any], nodes: list[dict[str, Any]]) -> ClusterFacts:
    lost = [f"{metrics[name]} {word}" for name, word in LOST.items() if metrics[name]]
    nodes = [node for node in nodes if not node.get("nodeLabels")]  # others take only who asks for their label
    free = tuple((max(0, node["availableVirtualCores"]), max(0, node["availMemoryMB"])) for node in nodes)
    return ClusterFacts(
        master,
        cores=max(0, metrics["availableVirtualCores"]),
        memory_mb=max(0, metrics["availableMB"]),
        executor_cores=max((cores for cores, _ in free), default=0),
        executor_memory_mb=max((memory for _, memory in free), default=0),
        gpus=sum(map(_gpus, nodes)),
        total_cores=metrics["totalVirtualCores"],
        healthy=bool(nodes),
        nodes=free,
        note=f"nodes: {', '.join(lost)}" if lost else "" if nodes else "no node is running",
    )


def _gpus(node: dict[str, Any]) -> int:
    resources = (node.get("availableResource") or {}).get("resourceInformations")
    return sum(int(one["value"]) for one in entries(resources, "resourceInformation") if one["name"] == GPU)


def _limited(facts: ClusterFacts, name: str, metrics: dict[str, Any], answer: dict[str, Any]) -> ClusterFacts:
    """Cut the facts down to what the queue may still take; limits on a single user are not looked at."""
    scheduler = answer["scheduler"]["schedulerInfo"]
    if scheduler.get("type") != "capacityScheduler":
        unread = f"the limits of the queue {name} are not read from a {scheduler.get('type')}"
        return capped(facts, cores=None, memory_mb=None, total_cores=None, note=unread)
    chains = list(_chains(scheduler, ()))
    path = f".{name.removeprefix('root.')}"
    chain = next((one for one in chains if ("." + ".".join(q["queueName"] for q in one)).endswith(path)), None)
    if chain is None:
        raise BadInputError(f"YARN has no queue {name!r}; it has: {', '.join(one[-1]['queueName'] for one in chains)}")

    def left(total: int, used: str) -> int:
        spare = [total * one["absoluteMaxCapacity"] / 100 - one["resourcesUsed"][used] for one in chain]
        return max(0, int(min(spare)))

    share = chain[-1]["absoluteMaxCapacity"]
    closed = [f"the queue {one['queueName']} is {one['state']}" for one in chain if one["state"] != "RUNNING"]
    bounded = capped(
        facts,
        cores=left(metrics["totalVirtualCores"], "vCores"),
        memory_mb=left(metrics["totalMB"], "memory"),
        total_cores=int(metrics["totalVirtualCores"] * share / 100),
        note=", ".join(closed) or f"the queue {name} may have {share:g} % of the cluster",
    )
    return replace(bounded, healthy=facts.healthy and not closed)


def _chains(parent: dict[str, Any], above: tuple[dict[str, Any], ...]) -> Iterator[tuple[dict[str, Any], ...]]:
    """Each queue below the root with those above it, the root itself left out."""
    for queue in entries(parent.get("queues"), "queue"):
        chain = (*above, queue)
        yield chain
        yield from _chains(queue, chain)
