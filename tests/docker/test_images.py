# SPDX-License-Identifier: Apache-2.0
"""What can be said of the images, the compose file and the Kubernetes files without building or starting them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
KUBERNETES = DOCKER / "kubernetes"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"secrets", "airflow-init", "demo-data", "demo-day"}
DOCKERFILES = {name: (DOCKER / name / "Dockerfile").read_text() for name in ("airflow", "spark")}
PINS = {
    name: version
    for name, version, marker in re.findall(
        r"^([\w.-]+)==([^\s;]+)(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
    if ">= '3.12'" not in marker
}


def loaded(path: Path) -> ModuleType:
    """A script of `docker/` as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resources(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text()))


# Dockerfiles


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_ends_as_a_user_with_a_number_that_is_not_root(name: str) -> None:
    """Kubernetes' runAsNonRoot believes numbers only."""
    *_, last = re.findall(r"^USER (\S+)$", DOCKERFILES[name], re.MULTILINE)
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILES[name], re.MULTILINE))

    assert int(re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], last)) > 0


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_a_dockerfile_copies_is_there_and_not_ignored(name: str) -> None:
    ignored = (DOCKER / name / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", DOCKERFILES[name], re.MULTILINE)

    assert "*" in ignored
    assert copies
    for source in " ".join(copies).split():
        assert (ROOT / source).exists(), source
        assert let_in & {source, *map(str, Path(source).parents)}, source


def test_the_bases_are_pinned_and_as_new_as_what_is_tested() -> None:
    bases = {name: re.search(r"^ARG BASE=(\S+)$", text, re.MULTILINE)[1] for name, text in DOCKERFILES.items()}  # type: ignore[index]
    python = re.search(r"python(3\.\d+)$", bases["airflow"])[1]  # type: ignore[index]

    assert bases["airflow"] == f"apache/airflow:slim-{PINS['apache-airflow']}-python{python}"
    assert re.fullmatch(rf"python:{re.escape(python)}\.\d+-slim-bookworm", bases["spark"]), (
        "driver's and executors' Python"
    )


def test_the_extras_of_the_airflow_image_exist_and_are_what_the_example_dag_needs() -> None:
    extras = set(re.search(r"^ARG EXTRAS=(\S+)$", DOCKERFILES["airflow"], re.MULTILINE)[1].split(","))  # type: ignore[index]
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert extras <= set(known)
    assert extras >= {"cpu", "tensorflow", "report", "prometheus", "spark"}


@pytest.mark.parametrize(("extra", "runtime"), [("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu")])
def test_an_executor_gets_the_floor_and_one_runtime_and_each_has_a_pin(extra: str, runtime: str) -> None:
    script = [sys.executable, str(DOCKER / "spark" / "requirements.py"), extra]
    lines = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    names = {re.split(r"[\[=><]", line)[0]: line for line in lines if line}
    gpu_pins = dict(
        re.findall(r"^([\w-]+)==(\S+)$", (DOCKER / "spark" / "gpu-constraints.txt").read_text(), re.MULTILINE)
    )

    assert set(names) == {"numpy", "pillow", "pyarrow", "pyspark", "pydicom", runtime}
    assert set(names) <= {*PINS, *gpu_pins}
    assert names["pyspark"] == f"pyspark=={PINS['pyspark']}"
    assert gpu_pins["onnxruntime-gpu"] == PINS["onnxruntime"]


@pytest.mark.parametrize("path", sorted(DOCKER.rglob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_the_script_that_names_gpus_is_where_the_submission_looks_for_it() -> None:
    from airflow_onnx_provider.spark.submission import GPU_SCRIPT_OF_IMAGES

    assert f"gpus.sh {GPU_SCRIPT_OF_IMAGES}\n" in DOCKERFILES["spark"]


# The compose file


def test_the_platform_is_complete() -> None:
    airflow = {f"airflow-{part}" for part in ("api-server", "scheduler", "triggerer", "dag-processor", "init")}

    assert airflow | {"postgres", "spark-master", "spark-worker", "prometheus", "grafana", "demo-data"} <= set(SERVICES)
    assert SERVICES["spark-worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_healthy_or_ends_and_names_what_exists(name: str) -> None:
    service = SERVICES[name]

    assert ("healthcheck" in service) != (name in ONCE)
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    for other, how in (service.get("depends_on") or {}).items():
        expected = "service_completed_successfully" if other in ONCE else "service_healthy"
        assert how == {"condition": expected}, other
        assert other in SERVICES
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (DOCKER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "a trial is for this machine alone"
    if "build" in service:
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    else:
        assert re.search(r":v?\d+\.\d+", service["image"]), "pinned"


def test_scripts_that_services_run_are_mounted_where_they_are_called() -> None:
    for service in SERVICES.values():
        words = service.get("command") or []
        for word in (word for word in words if word.endswith(".py")):
            called = Path(service.get("working_dir", "/")) / word
            mounted = {target for _, target, *_ in (one.split(":") for one in service["volumes"])}
            assert str(called) in mounted


def test_prometheus_scrapes_services_of_the_file_and_the_dag_writes_where_the_exporter_reads() -> None:
    scrapes = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {
        target.split(":")[0]
        for scrape in scrapes
        for config in scrape["static_configs"]
        for target in config["targets"]
    }
    home = SERVICES["airflow-scheduler"]["environment"]["CATALOG_HOME"]

    assert targets <= set(SERVICES)
    assert f"--collector.textfile.directory={home}/metrics" in SERVICES["node-exporter"]["command"]
    assert 'f"{HOME}/metrics"' in (ROOT / "dags" / "catalog_image_classification.py").read_text()


def test_the_connections_parse_and_name_services() -> None:
    environment = SERVICES["airflow-scheduler"]["environment"]
    spark = json.loads(environment["AIRFLOW_CONN_SPARK_DEFAULT"])

    assert spark["conn_type"] == "spark_cluster"
    assert spark["host"].removeprefix("spark://") in SERVICES
    assert json.loads(environment["AIRFLOW_CONN_ONNX_MODEL_STORE_DEFAULT"])["extra"]["root"] == "/data/models"


def test_no_file_has_a_password() -> None:
    """Passwords come from the environment or are drawn; a value in the compose file is empty, a command or a file."""
    secret = re.compile(r"password|secret|fernet|jwt|token", re.IGNORECASE)
    for service in SERVICES.values():
        for name, value in (service.get("environment") or {}).items():
            if secret.search(name):
                assert re.fullmatch(rf"\$\{{{name}:-\}}|cat /secrets/\w+|/secrets/[\w.]+", value), f"{name}={value}"


def test_passwords_are_drawn_once_and_the_environment_goes_before(tmp_path: Path) -> None:
    def drawn(variables: dict[str, str]) -> dict[str, str]:
        command = [sys.executable, str(DOCKER / "passwords.py"), str(tmp_path)]
        subprocess.run(command, env={"PATH": "/usr/bin:/bin", **variables}, check=True)
        return {file.name: file.read_text() for file in tmp_path.iterdir()}

    first = drawn({"GRAFANA_PASSWORD": "mine"})

    assert drawn({}) == first
    assert first["grafana_password"] == "mine"
    assert first["postgres_password"] in first["sql_alchemy_conn"]
    assert len(set(first.values())) == 7
    assert all((file.stat().st_mode & 0o007) == 0 for file in (tmp_path, *tmp_path.iterdir()))


def test_a_password_may_hold_what_addresses_are_made_of(tmp_path: Path) -> None:
    command = [sys.executable, str(DOCKER / "passwords.py"), str(tmp_path)]
    subprocess.run(command, env={"PATH": "/usr/bin:/bin", "POSTGRES_PASSWORD": "p@ss/w:rd%1"}, check=True)
    address = make_url((tmp_path / "sql_alchemy_conn").read_text())

    assert (address.password, address.host, address.database) == ("p@ss/w:rd%1", "postgres", "airflow")


# Kubernetes


def test_the_spark_application_is_what_the_package_makes() -> None:
    made = loaded(KUBERNETES / "spark_application.py").example()

    assert (KUBERNETES / "spark-application.yaml").read_text() == made, (
        "run: python docker/kubernetes/spark_application.py > docker/kubernetes/spark-application.yaml"
    )


def test_the_operators_own_models_take_the_spark_application() -> None:
    models = pytest.importorskip("kubeflow_spark_api.models", reason="kubeflow-spark-api is not installed")
    (resource,) = resources("spark-application.yaml")

    assert models.SparkV1beta2SparkApplication.from_dict(resource).to_dict() == resource


@pytest.mark.parametrize("name", ["rbac.yaml", "storage.yaml", "spark.yaml"])
def test_kubernetes_own_models_take_the_resources_and_drop_nothing(name: str) -> None:
    client = pytest.importorskip("kubernetes.client", reason="the Kubernetes client is not installed")
    api = client.ApiClient()
    for resource in resources(name):
        model = api._ApiClient__deserialize(resource, f"V1{resource['kind']}")
        assert api.sanitize_for_serialization(model) == resource


def test_what_the_values_name_is_in_the_other_files() -> None:
    values = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
    there = {
        (one["kind"], one["metadata"]["name"])
        for name in ("rbac.yaml", "storage.yaml", "spark.yaml")
        for one in resources(name)
    }
    (application,) = resources("spark-application.yaml")
    guide = (ROOT / "docs" / "images.md").read_text()

    for account in (values["workers"]["kubernetes"], values["triggerer"]):
        assert ("ServiceAccount", account["serviceAccount"]["name"]) in there
    assert ("ServiceAccount", application["spec"]["driver"]["serviceAccount"]) in there
    assert ("PersistentVolumeClaim", values["logs"]["persistence"]["existingClaim"]) in there
    for volume in values["volumes"]:
        named = (
            ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
            if "persistentVolumeClaim" in volume
            else ("ConfigMap", volume["configMap"]["name"])
        )
        assert named in there
    for secret in (
        {one["secretName"] for one in values["secret"]}
        | {values[key] for key in ("fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName")}
        | {values["data"]["metadataSecretName"]}
    ):
        assert secret in guide
    assert values["airflowVersion"] == PINS["apache-airflow"]


def test_all_resources_are_in_one_namespace_and_use_one_spark_image() -> None:
    namespaced = [
        one
        for path in KUBERNETES.glob("*.yaml")
        if path.name != "values.yaml"
        for one in resources(path.name)
        if not one["kind"].startswith("Cluster")
    ]
    (config,) = resources("spark.yaml")
    (application,) = resources("spark-application.yaml")

    assert {one["metadata"]["namespace"] for one in namespaced} == {"onnx"}
    assert application["spec"]["image"] in config["data"]["spark-defaults.conf"]
    assert application["spec"]["sparkVersion"] == PINS["pyspark"]
