# SPDX-License-Identifier: Apache-2.0
"""Kubernetes, asked through its API: what its nodes have, less what pods hold, within the namespace's quotas."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError, needs_extra
from airflow_onnx_provider.hooks.capacity.access import TIMEOUT_SECONDS, Access, expecting, host_of
from airflow_onnx_provider.hooks.capacity.fit import capped
from airflow_onnx_provider.hooks.connections import require_connection
from airflow_onnx_provider.spark.plan import ClusterFacts

GPU = "nvidia.com/gpu"
MIB = 2**20
SCALES = {"cpu": 1000, "memory": 1, GPU: 1}
"""Amounts are whole numbers here: thousandths of a core, bytes, GPUs."""

QUOTA_NAMES = {
    "cpu": ("cpu", "requests.cpu"),
    "memory": ("memory", "requests.memory", "limits.memory"),  # Spark's pods have a memory limit equal to the request
    GPU: (f"requests.{GPU}",),
}
UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"
PAGE = 500
EXAMPLE = '{"conn_type": "kubernetes", "extra": {"kube_config_path": "/home/airflow/.kube/config"}}'

Amounts = Counter[str]


def capacity(master: str, access: Access, namespace: str | None, kubernetes_conn_id: str | None = None) -> ClusterFacts:
    """Free cores, memory and GPUs of the nodes that take new pods, and no more than the namespace's quotas leave.

    Without the right to list nodes and pods the quotas alone say what is free.

    :param namespace: where executors run; default: that of the Kubernetes connection, else ``default``
    :param kubernetes_conn_id: connection of the type ``kubernetes`` to ask with; default: the master's address with
        the token and the CA in ``access``, or inside that cluster with the service account of this pod
    :raises MissingExtraError: if the client is not installed
    :raises BadInputError: if the API refuses the credentials
    :raises OnnxProviderError: if the API does not answer as Kubernetes does
    """
    with needs_extra("kubernetes", f"asking {master} what is free"):
        from kubernetes.client import ApiException, CoreV1Api
        from urllib3.exceptions import HTTPError
    client, namespace = _connect(master, access, namespace, kubernetes_conn_id)
    api, host = CoreV1Api(client), client.configuration.host
    try:
        with expecting(host, "Kubernetes"):
            nodes = _listed(api.list_node)
            pods = _listed(api.list_pod_for_all_namespaces, field_selector=UNFINISHED)
            quotas = _listed(api.list_namespaced_resource_quota, namespace)
            if nodes is None or pods is None:
                facts = ClusterFacts(master, None, note="these credentials may not list the cluster's nodes and pods")
            else:
                facts = _of_nodes(master, nodes, pods)
            return _within(facts, quotas or [], namespace)
    except ApiException as error:
        if error.status == 401:
            raise access.refused(host, error.status) from None
        raise OnnxProviderError(f"{host} answers {error.status} {error.reason}") from None
    except (HTTPError, OSError) as error:
        raise access.no_answer(host, error) from None


def _connect(master: str, access: Access, namespace: str | None, conn_id: str | None) -> tuple[Any, str]:
    from airflow.sdk.exceptions import AirflowException
    from kubernetes.client import ApiClient, Configuration
    from kubernetes.config import ConfigException, load_incluster_config

    if conn_id:
        require_connection(conn_id, ("kubernetes",), EXAMPLE)
        with needs_extra("kubernetes", f"the connection {conn_id!r}"):
            from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
        try:
            hook = KubernetesHook(conn_id=conn_id)
            with _default_settings_kept():
                return hook.api_client, namespace or hook.get_namespace() or "default"
        except (ConfigException, AirflowException) as error:
            raise BadInputError(f"the connection {conn_id!r} cannot be used: {access.clean(str(error))}") from None
    if access.auth not in {"none", "bearer"}:
        raise BadInputError(
            f"the connection {access.conn_id!r} has auth {access.auth!r}; Kubernetes takes 'bearer' (a token as the "
            "password), a client certificate in cert and key, or a kubernetes_conn_id"
        )
    host = master.removeprefix("k8s://")
    # Calling the class itself would hand out the last settings that anybody made default, token included.
    settings = type.__call__(Configuration, host=host if "://" in host else f"https://{host}")
    settings.retries = 0
    settings.verify_ssl = access.verify is not False
    settings.ssl_ca_cert = access.verify if isinstance(access.verify, str) else None
    if access.cert:
        settings.cert_file, settings.key_file = access.cert
    if access.auth == "bearer":
        settings.api_key["authorization"] = f"Bearer {access.secret}"
    elif not access.cert and _is_own_cluster(settings.host):
        try:
            load_incluster_config(client_configuration=settings)
        except ConfigException as error:
            raise BadInputError(
                f"{settings.host} is the address inside the cluster, but this is no pod with a service account "
                f"({error}); put a token into the connection {access.conn_id!r}, or name a kubernetes_conn_id"
            ) from None
    return ApiClient(settings), namespace or "default"


@contextmanager
def _default_settings_kept() -> Iterator[None]:
    """The hook makes its cluster and token the default of the whole process; other clients would send it elsewhere."""
    from kubernetes.client import Configuration

    before = Configuration._default
    try:
        yield
    finally:
        Configuration.set_default(before)


def _is_own_cluster(url: str) -> bool:
    """A service account's token goes to no other address than its own cluster's."""
    own = ("kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    return host_of(url) in {*own, os.environ.get("KUBERNETES_SERVICE_HOST")}


def _listed(call: Callable[..., Any], *where: str, **which: str) -> list[dict[str, Any]] | None:
    """Each item of a list call as plain JSON, page by page; None if these credentials may not list it."""
    from kubernetes.client import ApiException

    found: list[dict[str, Any]] = []
    more = None
    while True:
        try:
            # Plain JSON, because models of ten thousand pods take the client half a minute.
            page = call(
                *where, **which, limit=PAGE, _continue=more, _preload_content=False, _request_timeout=TIMEOUT_SECONDS
            )
        except ApiException as error:
            if error.status == 403:
                return None
            raise
        answer = json.loads(page.data)
        found += answer["items"]
        more = answer["metadata"].get("continue")
        if not more:
            return found


def _of_nodes(master: str, nodes: Sequence[dict[str, Any]], pods: Sequence[dict[str, Any]]) -> ClusterFacts:
    held: defaultdict[str, Amounts] = defaultdict(Counter)
    for pod in pods:
        if node := pod["spec"].get("nodeName"):
            held[node] += _requested(pod["spec"])
    closed = Counter(reason for reason in map(_closed, nodes) if reason)
    open_nodes = [node for node in nodes if not _closed(node)]
    total = [_amounts(node["status"]["allocatable"]) for node in open_nodes]
    free = [own - held[node["metadata"]["name"]] for node, own in zip(open_nodes, total, strict=True)]
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(closed.items()))
    return ClusterFacts(
        master,
        cores=sum(one["cpu"] // 1000 for one in free),
        memory_mb=sum(one["memory"] // MIB for one in free),
        executor_cores=max((one["cpu"] // 1000 for one in free), default=0),
        executor_memory_mb=max((one["memory"] // MIB for one in free), default=0),
        gpus=sum(one[GPU] for one in free),
        total_cores=sum(one["cpu"] // 1000 for one in total),
        healthy=bool(open_nodes),
        nodes=tuple((one["cpu"] // 1000, one["memory"] // MIB) for one in free),
        note=f"{closed.total()} of {len(nodes)} nodes take no new pods ({why})" if closed else "",
    )


def _closed(node: dict[str, Any]) -> str:
    """Why no new pod starts on a node, or an empty text."""
    if node["spec"].get("unschedulable"):
        return "cordoned"
    ready = next((one["status"] for one in node["status"]["conditions"] if one["type"] == "Ready"), "Unknown")
    if ready != "True":
        return "not ready"
    tainted = any(taint["effect"] in {"NoSchedule", "NoExecute"} for taint in node["spec"].get("taints") or [])
    return "tainted" if tainted else ""


def _requested(spec: dict[str, Any]) -> Amounts:
    """What the scheduler holds for a pod, by the rules of Kubernetes' page "Effective Pod requests and limits"."""
    peak, running = Amounts(), Amounts()
    for container in spec.get("initContainers") or []:
        own = _amounts((container.get("resources") or {}).get("requests"))
        peak |= running + own
        if container.get("restartPolicy") == "Always":  # a sidecar, which goes on beside those after it
            running += own
    for container in spec["containers"]:
        running += _amounts((container.get("resources") or {}).get("requests"))
    of_pod = _amounts((spec.get("resources") or {}).get("requests"))
    return Amounts({**(peak | running), **of_pod}) + _amounts(spec.get("overhead"))


def _within(facts: ClusterFacts, quotas: Sequence[dict[str, Any]], namespace: str) -> ClusterFacts:
    """No more than the quotas leave; those with a scope count other pods and are passed over."""
    most: defaultdict[str, list[int]] = defaultdict(list)
    left: defaultdict[str, list[int]] = defaultdict(list)
    for quota in quotas:
        if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
            continue
        hard, used = quota["status"].get("hard") or {}, quota["status"].get("used") or {}
        for kind, names in QUOTA_NAMES.items():
            for name in (name for name in names if name in hard):
                most[kind].append(_amount(kind, hard[name]))
                left[kind].append(max(0, most[kind][-1] - _amount(kind, used.get(name, 0))))
    bounded = capped(
        facts,
        cores=min(left["cpu"]) // 1000 if left["cpu"] else None,
        memory_mb=min(left["memory"]) // MIB if left["memory"] else None,
        total_cores=min(most["cpu"]) // 1000 if most["cpu"] else None,
        note=f"the namespace {namespace} has a quota" if any(most.values()) else "",
    )
    return replace(bounded, gpus=min(facts.gpus, *left[GPU])) if left[GPU] else bounded


def _amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    return Amounts({kind: _amount(kind, (quantities or {})[kind]) for kind in SCALES if kind in (quantities or {})})


def _amount(kind: str, quantity: Any) -> int:
    from kubernetes.utils.quantity import parse_quantity

    return int(parse_quantity(quantity) * SCALES[kind])
