# SPDX-License-Identifier: Apache-2.0
"""A submission as a ``SparkApplication`` for the Kubeflow Spark operator on Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.spark.submission import UPLOAD_PATH, Submission

DAY_SECONDS = 86_400
GPU_PROPERTY = "spark.executor.resource.gpu"
GPU_DEVICE = "gpu"
OWN_FIELDS = {
    "cores": ("cores", int),
    "memory": ("memory", str),
    "memoryOverhead": ("memoryOverhead", str),
    "instances": ("instances", int),
    "extraJavaOptions": ("javaOptions", str),
}
"""Spark property behind ``spark.driver.`` or ``spark.executor.`` to the resource's own field, and the field's type."""

BOUNDS = ("initialExecutors", "minExecutors", "maxExecutors")


def spark_application(
    submission: Submission,
    *,
    name: str,
    namespace: str = "default",
    image: str | None = None,
    service_account: str | None = None,
    spark_version: str | None = None,
    time_to_live_seconds: int = DAY_SECONDS,
) -> dict[str, Any]:
    """The same job as spark-submit would start, as a resource of ``sparkoperator.k8s.io/v1beta2``.

    Properties that the resource has fields for move into them; the others stand in ``sparkConf``. It is never
    restarted: whether to try again is Airflow's to decide, and each try is a run of its own.

    :param submission: prepared for a Kubernetes master in cluster mode, with its files placed where pods can read them
        (:func:`airflow_onnx_provider.spark.submission.place`)
    :param name: of the resource, unique in its namespace
    :param image: container image; default: ``spark.kubernetes.container.image`` of the submission
    :param service_account: of the driver, which starts the executors; default: that of the submission, else the
        namespace's own
    :param spark_version: of the image; default: of the pyspark here
    :param time_to_live_seconds: after its end, until the operator deletes the resource
    :raises BadInputError: if there is no image, or a file of the submission is on this machine only
    """
    conf = dict(submission.conf)
    image = conf.pop("spark.kubernetes.container.image", None) if image is None else image
    if not image:
        raise BadInputError("a SparkApplication needs a container image: give image or ExecutorEnvironment(image=…)")
    account = conf.pop("spark.kubernetes.authenticate.driver.serviceAccountName", None)
    for handled in (UPLOAD_PATH, "spark.kubernetes.namespace", "spark.kubernetes.report.interval"):
        conf.pop(handled, None)
    deps = {"pyFiles": submission.py_files, "files": submission.files, "archives": submission.archives}
    lists = {field: addresses.split(",") for field, addresses in deps.items() if addresses}
    _require_remote([submission.application, *(address for addresses in lists.values() for address in addresses)])
    spec: dict[str, Any] = {
        "type": "Python",
        "pythonVersion": "3",
        "mode": "cluster",
        "sparkVersion": spark_version or metadata.version("pyspark"),
        "image": image,
        "mainApplicationFile": submission.application,
        "arguments": list(submission.arguments),
        "deps": lists,
        "restartPolicy": {"type": "Never"},
        "timeToLiveSeconds": time_to_live_seconds,
        "driver": _pod(conf, "driver", "spark.kubernetes.driverEnv."),
        "executor": _pod(conf, "executor", "spark.executorEnv."),
    }
    if service_account or account:
        spec["driver"]["serviceAccount"] = service_account or account
    if gpus := conf.get(f"{GPU_PROPERTY}.amount"):
        # Spark hands addresses to tasks by its own properties, which therefore stay in sparkConf.
        vendor = conf.get(f"{GPU_PROPERTY}.vendor", "nvidia.com")
        spec["executor"]["gpu"] = {"name": f"{vendor}/{GPU_DEVICE}", "quantity": int(gpus)}
    if dynamic := _dynamic_allocation(conf):
        spec["dynamicAllocation"] = dynamic
    return {
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "SparkApplication",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**spec, "sparkConf": conf},
    }


def to_yaml(resource: Mapping[str, Any]) -> str:
    """A resource as ``kubectl apply -f -`` takes it."""
    import yaml

    return str(yaml.safe_dump(dict(resource), sort_keys=False, width=120, allow_unicode=True))


def _pod(conf: dict[str, str], role: str, env_prefix: str) -> dict[str, Any]:
    """Move a role's properties out of ``conf`` into the fields of its pod."""
    pod: dict[str, Any] = {}
    for ending, (field, kind) in OWN_FIELDS.items():
        if (value := conf.pop(f"spark.{role}.{ending}", None)) is not None:
            pod[field] = kind(value)
    env = {key: conf.pop(key) for key in sorted(conf) if key.startswith(env_prefix)}
    if env:
        pod["env"] = [{"name": key.removeprefix(env_prefix), "value": value} for key, value in env.items()]
    return pod


def _dynamic_allocation(conf: dict[str, str]) -> dict[str, Any] | None:
    prefix = "spark.dynamicAllocation."
    if conf.get(f"{prefix}enabled", "").lower() != "true":
        return None
    del conf[f"{prefix}enabled"]
    bounds = {name: int(conf.pop(prefix + name)) for name in BOUNDS if prefix + name in conf}
    return {"enabled": True, **bounds}


def _require_remote(addresses: list[str]) -> None:
    here = [address for address in addresses if "://" not in address or address.startswith("file://")]
    if here:
        raise BadInputError(
            f"the Spark operator's pods cannot see {', '.join(here)} of this machine; place the submission's files in "
            "an object store first, or name files of the image with local://"
        )
