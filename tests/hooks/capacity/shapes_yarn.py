# SPDX-License-Identifier: Apache-2.0
"""Answers of a ResourceManager, shaped as in Hadoop's own documentation of its REST API."""

from __future__ import annotations

from typing import Any

from tests.hooks.capacity.standin import Answer, Text


def node(host: str, cores: int, memory_mb: int, gpus: int = 0, **more: Any) -> dict[str, Any]:
    """As Hadoop 3's ``/ws/v1/cluster/nodes`` says it."""
    kinds = {"memory-mb": memory_mb, "vcores": cores, "yarn.io/gpu": gpus}
    information = [{"name": name, "resourceType": "COUNTABLE", "value": value} for name, value in kinds.items()]
    return {
        "rack": "/default-rack",
        "state": "RUNNING",
        "id": f"{host}:45454",
        "nodeHostName": host,
        "nodeHTTPAddress": f"{host}:8042",
        "healthReport": "",
        "numContainers": 1,
        "availMemoryMB": memory_mb,
        "availableVirtualCores": cores,
        "availableResource": {
            "memory": memory_mb,
            "vCores": cores,
            "resourceInformations": {"resourceInformation": information},
        },
        **more,
    }


def queue(
    name: str, most: float, used: tuple[int, int] = (0, 0), *below: Any, state: str = "RUNNING"
) -> dict[str, Any]:
    """As the capacity scheduler says it; used are cores and MiB."""
    own = {
        "queueName": name,
        "absoluteMaxCapacity": most,
        "resourcesUsed": {"memory": used[1], "vCores": used[0]},
        "state": state,
    }
    return {**own, "queues": {"queue": list(below)}} if below else {**own, "type": "capacitySchedulerLeafQueueInfo"}


def manager(*nodes: dict[str, Any], ha: str = "ACTIVE", **metrics: int) -> dict[str, Any]:
    """A ResourceManager's pages, with the examples of Hadoop's own documentation for what nobody looks at."""
    known = {
        "appsPending": 0,
        "availableMB": 24576,
        "allocatedMB": 8192,
        "availableVirtualCores": 12,
        "allocatedVirtualCores": 4,
        "totalMB": 32768,
        "totalVirtualCores": 16,
        "totalNodes": 2,
        "lostNodes": 0,
        "unhealthyNodes": 0,
        "activeNodes": 2,
    }
    info = {"id": 1324053971963, "startedOn": 1324053971963, "state": "STARTED", "haState": ha}
    return {
        "/ws/v1/cluster/info": {"clusterInfo": info},
        "/ws/v1/cluster/metrics": {"clusterMetrics": {**known, **metrics}},
        "/ws/v1/cluster/nodes": {"nodes": {"node": list(nodes)} if nodes else None},
    }


def scheduler(*queues: dict[str, Any], kind: str = "capacityScheduler") -> dict[str, Any]:
    info = {
        "type": kind,
        "capacity": 100.0,
        "maxCapacity": 100.0,
        "queueName": "root",
        "queues": {"queue": list(queues)},
    }
    return {"/ws/v1/cluster/scheduler": {"scheduler": {"schedulerInfo": info}}}


NODES = (node("n1", 7, 8192), node("n2", 5, 16384, gpus=2))


def standby_of(active: str) -> dict[str, Answer]:
    """As ``RMWebAppFilter`` answers: everything but ``/info`` is redirected, with these words."""
    away = Text("This is standby RM. The redirect url is: /ws/v1/cluster/metrics", 307, {"Location": active})
    return {**manager(ha="STANDBY"), "/ws/v1/cluster/metrics": away, "/ws/v1/cluster/nodes": away}


TREE = scheduler(
    queue("a", 50.0, (2, 4096), queue("a1", 25.0, (1, 2048)), queue("a2", 50.0)),
    queue("b", 100.0, (2, 4096), queue("b1", 100.0, state="STOPPED")),
)
