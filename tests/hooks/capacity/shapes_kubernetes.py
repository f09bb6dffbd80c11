# SPDX-License-Identifier: Apache-2.0
"""Answers of a Kubernetes API server, shaped as in the API reference."""

from __future__ import annotations

import json
from typing import Any

from tests.hooks.capacity.standin import Answer, StandIn, Text

NODES, PODS = "/api/v1/nodes", "/api/v1/pods"
QUOTAS = "/api/v1/namespaces/{}/resourcequotas"


def listing(kind: str, items: list[dict[str, Any]], more: str = "") -> dict[str, Any]:
    metadata = {"resourceVersion": "10245", **({"continue": more} if more else {})}
    return {"kind": kind, "apiVersion": "v1", "metadata": metadata, "items": items}


def node(name: str, cpu: str, memory: str, gpus: int = 0, ready: str = "True", **spec: Any) -> dict[str, Any]:
    """A Node of the API reference, without what nobody looks at."""
    size = {"cpu": cpu, "memory": memory, "pods": "110", "ephemeral-storage": "47093746742"}
    if gpus:
        size["nvidia.com/gpu"] = str(gpus)
    conditions = [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}]
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"podCIDR": "10.244.0.0/24", **spec},
        "status": {"capacity": size, "allocatable": size, "conditions": conditions},
    }


def container(cpu: str = "", memory: str = "", gpus: int = 0, **more: Any) -> dict[str, Any]:
    asked = {"cpu": cpu, "memory": memory, "nvidia.com/gpu": str(gpus) if gpus else ""}
    return {"name": "main", "resources": {"requests": {k: v for k, v in asked.items() if v}}, **more}


def pod(on: str | None, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    place = {"nodeName": on} if on else {}
    return {"metadata": {"name": "one"}, "spec": {**place, "containers": list(containers), **spec}, "status": {}}


def quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "team"}, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used}}


def cluster(
    nodes: list[dict[str, Any]],
    pods: list[dict[str, Any]] | None = None,
    quotas: list[dict[str, Any]] | None = None,
    namespace: str = "default",
) -> dict[str, Answer]:
    return {
        NODES: listing("NodeList", nodes),
        PODS: listing("PodList", pods or []),
        QUOTAS.format(namespace): listing("ResourceQuotaList", quotas or []),
    }


def master(api: StandIn) -> str:
    return f"k8s://{api.address}"


FORBIDDEN = Text(json.dumps({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403}), 403)
TWO = [node("n1", "4", "16Gi"), node("n2", "7910m", "31500000Ki", gpus=2)]
