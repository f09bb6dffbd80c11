# SPDX-License-Identifier: Apache-2.0
"""The files and properties that one spark-submit needs, on each kind of cluster."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from airflow_onnx_provider.bundle import write_bundle
from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME, ModelManifest
from airflow_onnx_provider.spark.settings import MODEL_ARCHIVE, JobSettings

Kind = Literal["local", "standalone", "yarn", "kubernetes"]

MAIN = """from airflow_onnx_provider.spark.job import main

main()
"""

LOG4J2_NAME = "log4j2.properties"
# Spark logs a screenful of INFO lines a second; a person on call needs warnings and what the job itself says.
LOG4J2 = """rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %p %c{1}: %m%n
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
logger.loopback.name = org.apache.spark.util.Utils
logger.loopback.level = error
"""

GPU_SCRIPT_NAME = "find_gpus.sh"
GPU_SCRIPT = """#!/usr/bin/env bash
found=$(nvidia-smi --query-gpu=index --format=csv,noheader | sed 's/.*/"&"/' | paste -sd, -)
echo "{\\"name\\": \\"gpu\\", \\"addresses\\": [$found]}"
"""
GPU_SCRIPT_OF_IMAGES = "/opt/spark/examples/src/main/scripts/getGpusResources.sh"
"""Where Spark's own images have the script that names an executor's GPUs; a shipped file would arrive too late."""

SERIAL_GC = "-XX:+UseSerialGC"
"""The JVM only moves keys and labels here; its parallel collectors would take the cores from the Python workers."""

ENVIRONMENT_ARCHIVE = "environment"
"""Folder name under which ``--archives`` unpacks a packed Python environment."""

TASK_ATTEMPTS = 4
"""A row that kills its worker is looked for in the task's next attempts; four are Spark's own default."""

UPLOAD_PATH = "spark.kubernetes.file.upload.path"

COMMON = {
    "spark.executorEnv.ORT_DISABLE_TELEMETRY": "1",
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.ui.showConsoleProgress": "false",
    "spark.task.maxFailures": str(TASK_ATTEMPTS),
    # A native crash then leaves a Python traceback in the task's error; the first is for RDDs, the second for SQL.
    "spark.python.worker.faulthandler.enabled": "true",
    "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
}


@dataclass(frozen=True)
class ExecutorEnvironment:
    """How executors, and a driver in cluster mode, get their Python; at most one of the three.

    None of them: the cluster's own ``python3``, and for ``local`` masters this one.

    :param python: the interpreter's path on the executors
    :param archive: a packed environment (venv-pack, conda-pack), as a path on this machine or a URL
    :param image: a container image whose ``python3`` has the packages (Kubernetes, or YARN with its Docker runtime)
    :raises BadInputError: if more than one is given
    """

    python: str | None = None
    archive: str | None = None
    image: str | None = None

    def __post_init__(self) -> None:
        given = [field.name for field in fields(self) if getattr(self, field.name)]
        if len(given) > 1:
            raise BadInputError(f"executors get their Python in one way: give only one of {' and '.join(given)}")


@dataclass(frozen=True)
class Submission:
    """What spark-submit is called with. Lists have commas between their entries, as on its command line.

    :param application: the driver's main
    :param py_files: the package's Spark floors as a zip
    :param files: for the working folder of the driver and each executor
    :param archives: unpacked there, each as the name behind its ``#``
    :param arguments: of the application
    :param conf: Spark properties
    """

    application: str
    py_files: str
    files: str
    archives: str
    arguments: tuple[str, ...]
    conf: Mapping[str, str]


def prepare(
    work: Path,
    settings: JobSettings,
    *,
    model_folder: Path,
    plan_conf: Mapping[str, str],
    master: str,
    deploy_mode: str,
    hand_set: Mapping[str, str],
    model_travels: str = "archive",
    model_archive: str = "",
    environment: ExecutorEnvironment | None = None,
) -> Submission:
    """Write the files into ``work`` and collect the properties.

    :param work: a folder that lives as long as the job
    :param model_folder: a model version on this machine
    :param master: the master's URL
    :param deploy_mode: ``client`` if the driver runs here, ``cluster`` if it cannot see this machine's files
    :param hand_set: Spark properties of the user, which win
    :param model_travels: ``archive`` (shipped from here), ``path`` (not at all: ``settings.model_folder`` names it) or
        ``object_store`` (Spark fetches ``model_archive``)
    :param model_archive: URL that :func:`place_archive` gave
    :param environment: the executors' Python
    :raises BadInputError: for what this kind of cluster cannot do
    """
    kind, environment = kind_of(master), environment or ExecutorEnvironment()
    _require_possible(kind, deploy_mode, environment, hand_set)
    main, log4j2 = work / "catalog_inference.py", work / LOG4J2_NAME
    main.write_text(MAIN)
    log4j2.write_text(LOG4J2)
    conf = {**COMMON, **_driver_conf(kind, deploy_mode), **_python_conf(kind, deploy_mode, environment), **plan_conf}
    files = [str(log4j2)] if kind == "yarn" and deploy_mode == "cluster" else []
    if "spark.executor.resource.gpu.amount" in {*conf, *hand_set} and kind in {"yarn", "kubernetes"}:
        conf |= _gpu_conf(kind)
        if kind == "yarn":
            files.append(str(_write_gpu_script(work)))
    conf |= hand_set
    conf.setdefault("spark.driver.extraJavaOptions", SERIAL_GC)
    conf.setdefault("spark.executor.extraJavaOptions", SERIAL_GC)
    if deploy_mode == "client" or kind == "yarn":
        address = log4j2.as_uri() if deploy_mode == "client" else LOG4J2_NAME
        conf["spark.driver.extraJavaOptions"] += f" -Dlog4j2.configurationFile={address}"
    archives = _model_archives(work, model_folder, model_travels, model_archive)
    if environment.archive:
        archives.append(f"{spark_url(environment.archive)}#{ENVIRONMENT_ARCHIVE}")
    return Submission(
        application=str(main),
        py_files=str(write_bundle(work / "airflow_onnx_provider.zip", ("runtime", "spark"))),
        files=",".join(files),
        archives=",".join(archives),
        arguments=(json.dumps(asdict(settings)),),
        conf=conf,
    )


def kind_of(master: str) -> Kind:
    """What kind of cluster a master's URL names.

    :raises BadInputError: for one that this package does not know
    """
    starts: dict[str, Kind] = {"local": "local", "spark://": "standalone", "yarn": "yarn", "k8s://": "kubernetes"}
    for start, kind in starts.items():
        if master.startswith(start):
            return kind
    raise BadInputError(
        f"the master {master!r} is none of local[N], spark://host:port, yarn and k8s://https://host:port; "
        "put one of them into the Spark connection's host"
    )


def with_task_retries(master: str) -> str:
    """Give ``local``, ``local[N]`` and ``local[*]`` the task attempts of a cluster; other masters stay as they are.

    In local mode Spark ignores ``spark.task.maxFailures`` and gives one attempt, unless the master is ``local[N,F]``.
    """
    found = re.fullmatch(r"local(?:\[\s*(\d+|\*)\s*\])?", master)
    return f"local[{found[1] or 1},{TASK_ATTEMPTS}]" if found else master


def spark_url(address: str) -> str:
    """A store's address in the scheme of Spark's file systems (``s3://`` is ``s3a://``); paths stay as they are."""
    found = re.fullmatch(r"(s3|s3a|s3n|gs|gcs)://(?:[^/@]*@)?(.+)", address)  # Airflow puts a connection before the @
    return f"{'s3a' if found[1].startswith('s3') else 'gs'}://{found[2]}" if found else address


def place_archive(home: Any, model_folder: Path) -> str:
    """Put a model version as a zip beside its store's versions, once; many jobs then fetch the same file.

    The zip is ``<home>/_archives/<version>-<digest of the manifest>.zip``: a version whose manifest has learnt more, as
    by a validation, gets another zip. Old ones stay until somebody deletes them; no job needs them again.

    :param home: the model's folder in the store, ``<store>/<name>``, as a ``pathlib.Path`` or an object-storage path
    :param model_folder: the version on this machine
    :return: the URL for Spark
    """
    known = hashlib.sha256((model_folder / MANIFEST_NAME).read_bytes()).hexdigest()[:12]
    target = home / "_archives" / f"{ModelManifest.read(model_folder).version}-{known}.zip"
    if not target.exists():
        with tempfile.TemporaryDirectory(prefix="onnx-archive-") as work:
            put_file(_zip_model(Path(work) / target.name, model_folder), target)
    return spark_url(str(target))


def place(submission: Submission, folder: Any) -> Submission:
    """Copy this machine's files of a submission to where a cluster can read them.

    :param folder: a mounted folder or an object-storage path, of this run alone
    :return: the submission with the new addresses
    """

    def placed(addresses: str) -> str:
        return ",".join(_placed(address, folder) for address in addresses.split(",") if address)

    return replace(
        submission,
        application=placed(submission.application),
        py_files=placed(submission.py_files),
        files=placed(submission.files),
        archives=placed(submission.archives),
    )


def put_file(source: Path, target: Any) -> None:
    """Copy a file so that nobody sees half of it.

    :param target: a ``pathlib.Path`` or an object-storage path
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(target, Path):
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as partial:
            partial.close()
            shutil.copyfile(source, partial.name)
            Path(partial.name).chmod(0o644)
            Path(partial.name).replace(target)
        return
    try:
        with source.open("rb") as read, target.open("wb") as write:
            shutil.copyfileobj(read, write, 1 << 22)
    except BaseException:
        target.unlink(missing_ok=True)  # closing an object's file uploads what there is of it
        raise


def _placed(address: str, folder: Any) -> str:
    path, mark, name = address.partition("#")
    if "://" in path:
        return address
    target = folder / Path(path).name
    put_file(Path(path), target)
    return spark_url(str(target)) + mark + name


def _require_possible(
    kind: Kind, deploy_mode: str, environment: ExecutorEnvironment, hand_set: Mapping[str, str]
) -> None:
    if deploy_mode == "cluster" and kind in {"local", "standalone"}:
        raise BadInputError(
            f"Spark has no cluster deploy mode for Python on a {kind} master; set deploy-mode to client in the Spark "
            "connection or deploy_mode='client'"
        )
    if environment.image and kind in {"local", "standalone"}:
        raise BadInputError(
            f"a {kind} master starts no containers, so it cannot use image {environment.image!r}; give python (a path "
            "on the workers) or archive instead"
        )
    if environment.archive and kind == "local":
        raise BadInputError("a local master works in this machine's folders; give python instead of archive")
    if kind == "kubernetes" and deploy_mode == "cluster" and not hand_set.get(UPLOAD_PATH):
        raise BadInputError(
            "a driver in a pod cannot see this machine's files; say where they are uploaded to, a file system that "
            f"this machine and the pods can reach: conf={{'{UPLOAD_PATH}': 's3a://bucket/folder'}}"
        )


def _driver_conf(kind: Kind, deploy_mode: str) -> dict[str, str]:
    """Quiet logs, telemetry off and one attempt, where that is not a matter of spark-submit's own environment."""
    if kind == "yarn":
        # Whether to try again is Airflow's to decide; YARN would run a refused job twice.
        return {"spark.yarn.appMasterEnv.ORT_DISABLE_TELEMETRY": "1", "spark.yarn.maxAppAttempts": "1"}
    if kind == "kubernetes":
        conf = {"spark.kubernetes.driverEnv.ORT_DISABLE_TELEMETRY": "1"}
        if deploy_mode == "cluster":
            # In a pod the JVM is up before any shipped file is there, so a log4j2 file cannot do it.
            conf |= {"spark.log.level": "WARN", "spark.kubernetes.report.interval": "10s"}
        return conf
    return {}


def _python_conf(kind: Kind, deploy_mode: str, environment: ExecutorEnvironment) -> dict[str, str]:
    conf = {}
    if deploy_mode == "client":
        conf["spark.pyspark.driver.python"] = sys.executable
    if environment.archive:
        conf["spark.pyspark.python"] = f"./{ENVIRONMENT_ARCHIVE}/bin/python"
    elif environment.python or kind == "local":
        conf["spark.pyspark.python"] = environment.python or sys.executable
    elif environment.image and kind == "kubernetes":
        conf["spark.kubernetes.container.image"] = environment.image
    elif environment.image:
        for receiver in ("spark.yarn.appMasterEnv", "spark.executorEnv"):
            conf[f"{receiver}.YARN_CONTAINER_RUNTIME_TYPE"] = "docker"
            conf[f"{receiver}.YARN_CONTAINER_RUNTIME_DOCKER_IMAGE"] = environment.image
    return conf


def _gpu_conf(kind: Kind) -> dict[str, str]:
    """How an executor learns which GPUs it has; a standalone worker tells its executors itself."""
    prefix = "spark.executor.resource.gpu"
    if kind == "yarn":
        return {f"{prefix}.discoveryScript": f"./{GPU_SCRIPT_NAME}"}
    return {f"{prefix}.vendor": "nvidia.com", f"{prefix}.discoveryScript": GPU_SCRIPT_OF_IMAGES}


def _write_gpu_script(work: Path) -> Path:
    script = work / GPU_SCRIPT_NAME
    script.write_text(GPU_SCRIPT)
    script.chmod(0o755)
    return script


def _model_archives(work: Path, folder: Path, travels: str, url: str) -> list[str]:
    """Entries of ``--archives`` for the model.

    YARN unpacks archives for containers alone, so a driver in client mode finds the manifest beside its main.
    """
    if travels == "path":
        return []
    if travels == "object_store" and not url:
        raise BadInputError("a model that travels by object store must be placed there first: model_archive is empty")
    beside = work / MODEL_ARCHIVE
    beside.mkdir(exist_ok=True)
    shutil.copyfile(folder / MANIFEST_NAME, beside / MANIFEST_NAME)
    return [f"{url if travels == 'object_store' else _zip_model(work / 'model.zip', folder)}#{MODEL_ARCHIVE}"]


def _zip_model(target: Path, folder: Path) -> Path:
    manifest = ModelManifest.read(folder)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for relative in [MANIFEST_NAME, *manifest.all_files]:
            archive.write(folder / relative, relative)
    return target
