# SPDX-License-Identifier: Apache-2.0
"""Kubernetes, asked with its real client; the API server is a stand-in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.hooks.capacity.access import Access
from airflow_onnx_provider.hooks.capacity.kubernetes import capacity
from tests.conftest import set_connection
from tests.hooks.capacity.shapes_kubernetes import (
    FORBIDDEN,
    NODES,
    PODS,
    QUOTAS,
    TWO,
    cluster,
    container,
    listing,
    master,
    node,
    pod,
    quota,
)
from tests.hooks.capacity.standin import Answer, Asked, Certificates, Text, standing_in

ASK = Access("cluster")


def test_free_is_what_no_pod_holds() -> None:
    pods = [
        pod("n1", container("500m", "1Gi"), container("600m", "512Mi")),
        pod("n2", container("2", "4G", gpus=1)),
        pod("n2", container()),  # asks for nothing
        pod(None, container("64", "512Gi")),  # waits for a node
    ]
    with standing_in(cluster(TWO, pods)) as api:
        facts = capacity(master(api), ASK, None)
    assert facts.nodes == ((2, 14848), (5, (31500000 * 1024 - 4 * 10**9) // 2**20))
    assert (facts.cores, facts.total_cores, facts.gpus) == (7, 11, 1)
    assert facts.memory_mb == sum(memory or 0 for _, memory in facts.nodes)
    assert (facts.executor_cores, facts.executor_memory_mb) == (5, facts.nodes[1][1])
    assert (facts.healthy, facts.note) == (True, "")
    of_pods = next(asked for asked in api.asked if asked.path == PODS)
    assert of_pods.query["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed"


@pytest.mark.parametrize(
    ("spec", "cores"),
    [
        ({"initContainers": [container("3")]}, 3),  # runs alone before the containers: the larger counts
        ({"initContainers": [container("1"), container("1")]}, 2),
        ({"initContainers": [container("1", restartPolicy="Always")]}, 3),  # a sidecar goes on beside them
        ({"initContainers": [container("2", restartPolicy="Always"), container("3")]}, 5),
        ({"overhead": {"cpu": "250m", "memory": "120Mi"}}, 3),  # 2.25 cores are held: whole ones are free
        ({"resources": {"requests": {"cpu": "6"}}}, 6),  # of the whole pod, containers or not
    ],
)
def test_a_pod_holds_what_the_scheduler_reckons(spec: dict[str, Any], cores: int) -> None:
    with standing_in(cluster([node("n1", "8", "16Gi")], [pod("n1", container("2"), **spec)])) as api:
        assert capacity(master(api), ASK, None).cores == 8 - cores


def test_nodes_that_take_no_pods_do_not_count() -> None:
    def tainted(effect: str) -> dict[str, Any]:
        return {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": effect}]}

    nodes = [
        node("n1", "4", "16Gi"),
        node("n2", "4", "16Gi", unschedulable=True),
        node("n3", "4", "16Gi", ready="Unknown"),
        node("n4", "4", "16Gi", **tainted("NoSchedule")),
        node("n5", "4", "16Gi", **tainted("NoExecute")),
        node("n6", "4", "16Gi", **tainted("PreferNoSchedule")),
    ]
    with standing_in(cluster(nodes)) as api:
        facts = capacity(master(api), ASK, None)
    assert (facts.cores, facts.total_cores, facts.healthy) == (8, 8, True)
    assert facts.note == "4 of 6 nodes take no new pods (1 cordoned, 1 not ready, 2 tainted)"


def test_no_open_node_is_a_sick_cluster() -> None:
    with standing_in(cluster([node("n1", "4", "16Gi", ready="False")])) as api:
        facts = capacity(master(api), ASK, None)
    assert (facts.cores, facts.healthy, facts.note) == (0, False, "1 of 1 nodes take no new pods (1 not ready)")


def test_a_quota_leaves_less() -> None:
    hard = {"requests.cpu": "6", "limits.memory": "8Gi", "requests.nvidia.com/gpu": "1", "pods": "10"}
    used = {"requests.cpu": "1500m", "limits.memory": "2Gi", "requests.nvidia.com/gpu": "0", "pods": "3"}
    scoped = quota({"cpu": "0"}, {"cpu": "0"}, scopes=["BestEffort"])
    with standing_in(cluster(TWO, quotas=[quota(hard, used), scoped], namespace="nightly")) as api:
        facts = capacity(master(api), ASK, "nightly")
    assert (facts.cores, facts.memory_mb, facts.gpus, facts.total_cores) == (4, 6144, 1, 6)
    assert (facts.executor_cores, facts.executor_memory_mb, facts.nodes) == (4, 6144, ())
    assert facts.note == "the namespace nightly has a quota"


def test_a_wide_quota_changes_nothing() -> None:
    wide = quota({"cpu": "100", "memory": "1Ti"}, {"cpu": "10", "memory": "1Gi"})
    with standing_in(cluster(TWO, quotas=[wide])) as api:
        facts = capacity(master(api), ASK, None)
    assert (facts.cores, facts.total_cores, len(facts.nodes)) == (11, 11, 2)


def test_who_may_not_list_nodes_knows_the_quota_only() -> None:
    small = quota({"cpu": "6"}, {"cpu": "2"})
    for forbidden in (NODES, PODS):
        with standing_in(cluster(TWO, quotas=[small]) | {forbidden: FORBIDDEN}) as api:
            facts = capacity(master(api), ASK, None)
        assert (facts.cores, facts.total_cores, facts.memory_mb, facts.executor_cores) == (4, 6, None, None)
        assert facts.note.startswith("these credentials may not list the cluster's nodes and pods; ")


def test_who_may_list_nothing_knows_nothing() -> None:
    with standing_in({NODES: FORBIDDEN, PODS: FORBIDDEN, QUOTAS.format("default"): FORBIDDEN}) as api:
        facts = capacity(master(api), ASK, None)
    assert (facts.cores, facts.note) == (None, "these credentials may not list the cluster's nodes and pods")


def test_long_lists_come_in_pages() -> None:
    def page(asked: Asked) -> Answer:
        assert asked.query["limit"] == "500"
        first = "continue" not in asked.query
        return listing("NodeList", [TWO[0 if first else 1]], more="next" if first else "")

    with standing_in({**cluster(TWO), NODES: page}) as api:
        assert capacity(master(api), ASK, None).cores == 11


def test_a_token_opens_the_api_and_stays_secret() -> None:
    token = "s3cr3t-of-the-night"
    with standing_in(cluster(TWO), allow=lambda asked: asked.headers.get("authorization") == f"Bearer {token}") as api:
        assert capacity(master(api), Access("cluster", "bearer", secret=token), None).cores == 11
        with pytest.raises(BadInputError, match=r"refuses access \(401\) with auth 'bearer': check .*'cluster'") as no:
            capacity(master(api), Access("cluster", "bearer", secret=f"{token}-of-yesterday"), None)
    assert token not in str(no.value)


def test_certificates_of_both_sides(certificates: Certificates) -> None:
    ca, client = str(certificates.ca), str(certificates.client)
    with standing_in(cluster(TWO), tls=certificates.context(ask_client=True)) as api:
        with pytest.raises(BadInputError, match="not trusted here; put the path of its CA into verify"):
            capacity(master(api), ASK, None)
        with pytest.raises(OnnxProviderError, match="no answer"):
            capacity(master(api), Access("cluster", verify=ca), None)
        assert capacity(master(api), Access("cluster", verify=ca, cert=(client, client)), None).cores == 11
        short = f"k8s://{api.address.removeprefix('https://')}"  # Spark takes https for granted too
        assert capacity(short, Access("cluster", verify=ca, cert=(client, client)), None).cores == 11


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Text("", 503), "answers 503 Service Unavailable"),
        (Text("<html>login</html>"), "does not answer as Kubernetes does: JSONDecodeError"),
        ({"kind": "Status"}, "does not answer as Kubernetes does: KeyError 'items'"),
        (listing("NodeList", [node("n1", "many", "16Gi")]), "Invalid number format: many"),
    ],
)
def test_answers_that_cannot_be_read_can_be_waited_through(answer: Answer, message: str) -> None:
    with standing_in({**cluster(TWO), NODES: answer}) as api, pytest.raises(OnnxProviderError, match=message) as no:
        capacity(master(api), ASK, None)
    assert no.value.retryable


def test_nobody_there() -> None:
    with pytest.raises(OnnxProviderError, match=r"no answer from http://127\.0\.0\.1:9: .*refused"):
        capacity("k8s://http://127.0.0.1:9", ASK, None)


def test_kubernetes_knows_no_passwords() -> None:
    with pytest.raises(BadInputError, match="has auth 'basic'; Kubernetes takes 'bearer'"):
        capacity("k8s://https://127.0.0.1:9", Access("cluster", "basic", "nightly", "s3cr3t"), None)


def test_a_service_accounts_token_goes_to_its_own_cluster_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in {"token": "of-this-pod", "ca.crt": "of this cluster"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.2")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "9")
    with standing_in(cluster(TWO)) as elsewhere:
        capacity(master(elsewhere), ASK, None)
    assert not any("authorization" in asked.headers for asked in elsewhere.asked)
    with pytest.raises(OnnxProviderError, match=r"no answer from https://127\.0\.0\.2:9: "):
        capacity("k8s://https://kubernetes.default.svc", ASK, None)


def test_the_address_inside_needs_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(BadInputError, match="but this is no pod with a service account"):
        capacity("k8s://https://kubernetes.default.svc", ASK, None)


def test_a_kubernetes_connection_brings_its_own_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(
        cluster(TWO, namespace="nightly"), allow=lambda asked: asked.headers.get("authorization") == "Bearer its-own"
    ) as api:
        kube_config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": api.address}}],
            "users": [{"name": "u", "user": {"token": "its-own"}}],
        }
        extra = {"kube_config": json.dumps(kube_config), "namespace": "nightly"}
        set_connection(monkeypatch, "k8s", {"conn_type": "kubernetes", "extra": extra})
        facts = capacity("k8s://https://ignored", ASK, None, "k8s")
        assert facts.cores == 11
        # What that connection made the client's default is no default of ours.
        with pytest.raises(BadInputError, match="401"):
            capacity(master(api), ASK, None)


def test_a_kubernetes_connection_that_is_not_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_connection(monkeypatch, "web", {"conn_type": "http", "host": "web"})
    with pytest.raises(BadInputError, match="'web' has the type 'http', needed is kubernetes"):
        capacity("k8s://https://ignored", ASK, None, "web")
    extra = {"kube_config_path": str(tmp_path / "nowhere")}
    set_connection(monkeypatch, "lost", {"conn_type": "kubernetes", "extra": extra})
    with pytest.raises(BadInputError, match="the connection 'lost' cannot be used: "):
        capacity("k8s://https://ignored", ASK, None, "lost")


def test_without_the_client_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    with pytest.raises(BadInputError, match=r"pip install 'airflow-onnx-provider\[kubernetes\]'"):
        capacity("k8s://https://api", ASK, None)
