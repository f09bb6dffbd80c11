# SPDX-License-Identifier: Apache-2.0
"""Answers of a standalone master's page."""

from __future__ import annotations

from typing import Any


def worker(
    name: str, cores: int, free: int, memory_free: int, *, state: str = "ALIVE", gpus: int = 0
) -> dict[str, Any]:
    """As Spark 4.2's ``JsonProtocol.writeWorkerInfo`` says it."""
    addresses = {"gpu": {"name": "gpu", "addresses": [str(one) for one in range(gpus)]}} if gpus else {}
    return {
        "id": f"worker-20260101000000-{name}-34567",
        "host": name,
        "port": 34567,
        "webuiaddress": f"http://{name}:8081",
        "cores": cores,
        "coresused": cores - free,
        "coresfree": free,
        "memory": 16384,
        "memoryused": 16384 - memory_free,
        "memoryfree": memory_free,
        "resources": addresses,
        "resourcesused": {},
        "resourcesfree": addresses,
        "state": state,
        "lastheartbeat": 1767225600000,
    }


def master(*workers: dict[str, Any], status: str = "ALIVE") -> dict[str, Any]:
    return {"/json/": {"url": "spark://a:7077", "workers": list(workers), "activeapps": [], "status": status}}
