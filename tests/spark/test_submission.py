# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.profile import ExecutionProfile, profile_named
from airflow_onnx_provider.spark.plan import ClusterFacts, InputFacts, ModelFacts, plan
from airflow_onnx_provider.spark.settings import MODEL_ARCHIVE, JobSettings
from airflow_onnx_provider.spark.submission import (
    SERIAL_GC,
    ExecutorEnvironment,
    Submission,
    kind_of,
    place,
    place_archive,
    prepare,
    spark_url,
    with_task_retries,
)
from tests.runtime.tiny import write_version

PROFILE = profile_named("cpu-throughput", decoder="scaled")
SETTINGS = JobSettings(
    run="2026-01-01-run-1",
    partition="2026-01-01",
    input_path="/data/catalogue",
    output_path="/data/predictions",
    model={"model": "/models/colours/0123", "digest": "0123"},
    plan=plan(ModelFacts(2**20), ClusterFacts("local[2]", 2), InputFacts(1200, 10**8, 1200), PROFILE).to_dict(),
    profile=PROFILE.to_dict(),
    top_k=3,
    raw=("scores",),
)
UPLOAD = {"spark.kubernetes.file.upload.path": "s3a://staging/spark"}


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "version"
    write_version(folder)
    return folder


def prepared(tmp_path: Path, model_folder: Path, **changes) -> Submission:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    given = {
        "plan_conf": {"spark.task.cpus": "1"},
        "master": "local[2]",
        "deploy_mode": "client",
        "hand_set": {},
    }
    return prepare(work, SETTINGS, model_folder=model_folder, **{**given, **changes})


def test_all_files_that_spark_submit_is_told_of_are_there(tmp_path: Path, model_folder: Path) -> None:
    made = prepared(tmp_path, model_folder)
    archive, name = made.archives.split("#")

    assert [Path(path).is_file() for path in (made.application, made.py_files, archive)] == [True] * 3
    assert name == MODEL_ARCHIVE
    assert "airflow_onnx_provider.spark.job" in Path(made.application).read_text()


def test_the_settings_travel_as_one_argument(tmp_path: Path, model_folder: Path) -> None:
    (argument,) = prepared(tmp_path, model_folder).arguments

    arrived = JobSettings(**json.loads(argument))
    assert replace(arrived, raw=tuple(arrived.raw)) == SETTINGS


def test_the_job_takes_its_numbers_from_the_plan() -> None:
    assert (SETTINGS.slots, SETTINGS.partitions) == (2, 6)
    assert (SETTINGS.execution.threads, SETTINGS.execution.batch_size) == (1, 8)


def test_the_rest_of_the_profile_is_the_users() -> None:
    assert SETTINGS.execution == ExecutionProfile(batch_size=8, decoder="scaled")


def test_the_archive_is_a_whole_model_version(tmp_path: Path, model_folder: Path) -> None:
    made = prepared(tmp_path, model_folder)
    with zipfile.ZipFile(made.archives.split("#")[0]) as archive:
        archive.extractall(tmp_path / "unpacked")

    manifest = ModelManifest.read(tmp_path / "unpacked")
    manifest.verify_files(tmp_path / "unpacked")
    assert manifest == ModelManifest.read(model_folder)


def test_only_what_the_version_names_is_shipped(tmp_path: Path, model_folder: Path) -> None:
    (model_folder / "notes.txt").write_text("private")
    with zipfile.ZipFile(prepared(tmp_path, model_folder).archives.split("#")[0]) as archive:
        assert sorted(archive.namelist()) == sorted(["manifest.json", *ModelManifest.read(model_folder).all_files])


def test_what_is_set_by_hand_wins(tmp_path: Path, model_folder: Path) -> None:
    by_hand = {"spark.task.cpus": "2", "spark.ui.showConsoleProgress": "true", "spark.executor.memory": "4g"}
    conf = prepared(tmp_path, model_folder, hand_set=by_hand).conf

    assert {name: conf[name] for name in by_hand} == by_hand


def test_options_of_the_users_driver_stay_beside_ours(tmp_path: Path, model_folder: Path) -> None:
    conf = prepared(tmp_path, model_folder, hand_set={"spark.driver.extraJavaOptions": "-Xss4m"}).conf
    options = conf["spark.driver.extraJavaOptions"].split()

    log4j2 = (tmp_path / "work" / "log4j2.properties").as_uri()
    assert sorted(options) == [f"-Dlog4j2.configurationFile={log4j2}", "-Xss4m"]
    assert conf["spark.executor.extraJavaOptions"] == SERIAL_GC


TARGETS = {
    "local": {"master": "local[2]", "deploy_mode": "client"},
    "standalone": {"master": "spark://m:7077", "deploy_mode": "client"},
    "yarn client": {"master": "yarn", "deploy_mode": "client"},
    "yarn cluster": {"master": "yarn", "deploy_mode": "cluster"},
    "kubernetes client": {"master": "k8s://https://k:6443", "deploy_mode": "client"},
    "kubernetes cluster": {"master": "k8s://https://k:6443", "deploy_mode": "cluster", "hand_set": UPLOAD},
}
DRIVER_ENVIRONMENT = {
    # In client mode spark-submit's own environment has it.
    "yarn client": "spark.yarn.appMasterEnv.ORT_DISABLE_TELEMETRY",
    "yarn cluster": "spark.yarn.appMasterEnv.ORT_DISABLE_TELEMETRY",
    "kubernetes client": "spark.kubernetes.driverEnv.ORT_DISABLE_TELEMETRY",
    "kubernetes cluster": "spark.kubernetes.driverEnv.ORT_DISABLE_TELEMETRY",
}


@pytest.mark.parametrize("target", TARGETS)
def test_telemetry_is_off_on_every_executor_and_driver(tmp_path: Path, model_folder: Path, target: str) -> None:
    conf = prepared(tmp_path, model_folder, **TARGETS[target]).conf

    assert conf["spark.executorEnv.ORT_DISABLE_TELEMETRY"] == "1"
    assert [key for key in conf if "ORT_DISABLE" in key and not key.startswith("spark.executorEnv")] == (
        [DRIVER_ENVIRONMENT[target]] if target in DRIVER_ENVIRONMENT else []
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_native_crash_leaves_a_traceback_and_is_tried_again(tmp_path: Path, model_folder: Path, target: str) -> None:
    conf = prepared(tmp_path, model_folder, **TARGETS[target]).conf

    assert conf["spark.sql.execution.pyspark.udf.faulthandler.enabled"] == "true"
    assert conf["spark.python.worker.faulthandler.enabled"] == "true"
    assert conf["spark.task.maxFailures"] == "4"


DRIVER, EXECUTORS = "spark.pyspark.driver.python", "spark.pyspark.python"


@pytest.mark.parametrize(
    ("target", "environment", "expected"),
    [
        ("local", {}, {DRIVER: sys.executable, EXECUTORS: sys.executable}),
        ("local", {"python": "/opt/python"}, {DRIVER: sys.executable, EXECUTORS: "/opt/python"}),
        ("standalone", {}, {DRIVER: sys.executable}),
        ("standalone", {"python": "/opt/python"}, {DRIVER: sys.executable, EXECUTORS: "/opt/python"}),
        ("standalone", {"archive": "/e.tgz"}, {DRIVER: sys.executable, EXECUTORS: "./environment/bin/python"}),
        ("yarn client", {"archive": "/e.tgz"}, {DRIVER: sys.executable, EXECUTORS: "./environment/bin/python"}),
        ("yarn cluster", {"archive": "/e.tgz"}, {EXECUTORS: "./environment/bin/python"}),
        ("yarn cluster", {"python": "/opt/python"}, {EXECUTORS: "/opt/python"}),
        ("kubernetes cluster", {"archive": "/e.tgz"}, {EXECUTORS: "./environment/bin/python"}),
        ("kubernetes cluster", {"image": "repo/onnx:1"}, {}),
        ("kubernetes client", {"image": "repo/onnx:1"}, {DRIVER: sys.executable}),
    ],
)
def test_which_python_runs_where(
    tmp_path: Path, model_folder: Path, target: str, environment: dict[str, str], expected: dict[str, str]
) -> None:
    """An archive is unpacked for executors, and for a driver in cluster mode, but not for a driver here."""
    made = prepared(tmp_path, model_folder, **TARGETS[target], environment=ExecutorEnvironment(**environment))

    assert {key: made.conf[key] for key in (DRIVER, EXECUTORS) if key in made.conf} == expected
    assert ("/e.tgz#environment" in made.archives.split(",")) == ("archive" in environment)


def test_an_image_on_kubernetes(tmp_path: Path, model_folder: Path) -> None:
    environment = ExecutorEnvironment(image="repo/onnx:1")
    conf = prepared(tmp_path, model_folder, **TARGETS["kubernetes cluster"], environment=environment).conf

    assert conf["spark.kubernetes.container.image"] == "repo/onnx:1"


def test_an_image_on_yarn(tmp_path: Path, model_folder: Path) -> None:
    """Hadoop's DockerContainers page: the container's own environment chooses the runtime and the image."""
    environment = ExecutorEnvironment(image="repo/onnx:1")
    conf = prepared(tmp_path, model_folder, **TARGETS["yarn cluster"], environment=environment).conf

    for receiver in ("spark.yarn.appMasterEnv", "spark.executorEnv"):
        assert conf[f"{receiver}.YARN_CONTAINER_RUNTIME_TYPE"] == "docker"
        assert conf[f"{receiver}.YARN_CONTAINER_RUNTIME_DOCKER_IMAGE"] == "repo/onnx:1"


def test_there_is_one_way_to_a_python() -> None:
    with pytest.raises(BadInputError, match="only one of python and image"):
        ExecutorEnvironment(python="/opt/python", image="repo/onnx:1")


@pytest.mark.parametrize(
    ("changes", "way_out"),
    [
        ({"master": "spark://m:7077", "deploy_mode": "cluster"}, "set deploy-mode to client"),
        ({"master": "local[2]", "deploy_mode": "cluster"}, "set deploy-mode to client"),
        ({"master": "spark://m:7077", "environment": ExecutorEnvironment(image="i")}, "give python"),
        ({"environment": ExecutorEnvironment(archive="/e.tgz")}, "give python instead"),
        ({"master": "k8s://https://k:6443", "deploy_mode": "cluster"}, "spark.kubernetes.file.upload.path"),
        ({"master": "mesos://m:5050"}, "spark://host:port"),
        ({"master": "yarn", "model_travels": "object_store"}, "must be placed there first"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused_with_the_way_out(
    tmp_path: Path, model_folder: Path, changes: dict[str, object], way_out: str
) -> None:
    with pytest.raises(BadInputError, match=way_out):
        prepared(tmp_path, model_folder, **changes)


@pytest.mark.parametrize(
    ("master", "expected"),
    [
        ("local", "local[1,4]"),
        ("local[2]", "local[2,4]"),
        ("local[*]", "local[*,4]"),
        ("local[2,1]", "local[2,1]"),
        ("local[2, 7]", "local[2, 7]"),
        ("spark://m:7077", "spark://m:7077"),
        ("local-cluster[2,1,1024]", "local-cluster[2,1,1024]"),
        ("yarn", "yarn"),
    ],
)
def test_a_local_master_retries_tasks_unless_told_otherwise(master: str, expected: str) -> None:
    assert with_task_retries(master) == expected


def test_kinds_of_clusters() -> None:
    assert [kind_of(target["master"]) for target in TARGETS.values()] == [
        "local",
        "standalone",
        "yarn",
        "yarn",
        "kubernetes",
        "kubernetes",
    ]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://models/colours/1.zip", "s3a://models/colours/1.zip"),
        ("s3://aws_default@models/colours/1.zip", "s3a://models/colours/1.zip"),
        ("s3a://models/1.zip", "s3a://models/1.zip"),
        ("gs://google@models/1.zip", "gs://models/1.zip"),
        ("abfss://box@account.dfs.core.windows.net/1.zip", "abfss://box@account.dfs.core.windows.net/1.zip"),
        ("hdfs://n/1.zip", "hdfs://n/1.zip"),
        ("/models/1.zip", "/models/1.zip"),
    ],
)
def test_addresses_for_sparks_file_systems(address: str, expected: str) -> None:
    assert spark_url(address) == expected


def test_a_model_on_a_shared_path_is_not_shipped(tmp_path: Path, model_folder: Path) -> None:
    assert prepared(tmp_path, model_folder, **TARGETS["standalone"], model_travels="path").archives == ""


def test_a_model_from_an_object_store_is_fetched_by_spark(tmp_path: Path, model_folder: Path) -> None:
    url = "s3a://models/colours/_archives/0123-abc.zip"
    made = prepared(tmp_path, model_folder, **TARGETS["standalone"], model_travels="object_store", model_archive=url)

    assert made.archives == f"{url}#{MODEL_ARCHIVE}"


def test_a_driver_here_finds_the_manifest_beside_its_main(tmp_path: Path, model_folder: Path) -> None:
    """YARN unpacks archives in containers alone, and a driver in client mode is in none."""
    made = prepared(tmp_path, model_folder, **TARGETS["yarn client"])
    beside = Path(made.application).parent / MODEL_ARCHIVE

    assert ModelManifest.read(beside) == ModelManifest.read(model_folder)


def test_an_archive_is_placed_once_and_anew_when_the_manifest_learns(tmp_path: Path, model_folder: Path) -> None:
    home = tmp_path / "store" / "colours"
    first = place_archive(home, model_folder)
    written = Path(first).stat().st_mtime_ns

    assert place_archive(home, model_folder) == first
    assert Path(first).stat().st_mtime_ns == written
    with zipfile.ZipFile(first) as archive:
        archive.extractall(tmp_path / "fetched")
    assert ModelManifest.read(tmp_path / "fetched") == ModelManifest.read(model_folder)

    manifest = model_folder / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    assert place_archive(home, model_folder) != first
    assert sorted(path.suffix for path in (home / "_archives").iterdir()) == [".zip", ".zip"]


def test_an_archive_on_an_object_store(model_folder: Path) -> None:
    """fsspec's memory file system stands in for an object store, through the paths that Airflow uses."""
    from upath import UPath

    home = UPath("memory://models/colours")
    address = place_archive(home, model_folder)

    assert address.startswith("memory://")
    assert UPath(address).exists()


def test_a_submissions_files_are_placed_for_pods(tmp_path: Path, model_folder: Path) -> None:
    made = prepared(tmp_path, model_folder, **TARGETS["kubernetes cluster"])
    there = place(made, tmp_path / "bucket")

    assert there.application == str(tmp_path / "bucket" / "catalog_inference.py")
    assert there.archives == f"{tmp_path}/bucket/model.zip#{MODEL_ARCHIVE}"
    assert Path(there.py_files).read_bytes() == Path(made.py_files).read_bytes()
    assert (there.files, there.conf, there.arguments) == ("", made.conf, made.arguments)


def test_a_bundle_holds_the_floors_of_the_cluster_alone(tmp_path: Path, model_folder: Path) -> None:
    with zipfile.ZipFile(prepared(tmp_path, model_folder).py_files) as bundle:
        floors = {name.split("/")[1] for name in bundle.namelist()}

    assert floors == {"__init__.py", "bundle.py", "exceptions.py", "runtime", "spark"}


def test_the_bundle_imports_where_neither_airflow_nor_this_package_is_installed(
    tmp_path: Path, model_folder: Path
) -> None:
    """An executor has numpy, pyarrow, onnxruntime and Pillow; `onnx`, Airflow and frameworks are out of its reach."""
    made = prepared(tmp_path, model_folder)
    code = f"""
import sys
absent = {{"airflow", "onnx", "tensorflow", "keras", "tf2onnx", "pandas", "psutil", "requests"}}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"an executor has no {{name}}", name=name)
sys.meta_path.insert(0, Absent())
sys.path[:] = [path for path in sys.path if path != {str(Path.cwd())!r}]
import airflow_onnx_provider
from airflow_onnx_provider.runtime import manifest, raw_speed, scorer, session
from airflow_onnx_provider.spark import job, publish, sources
print(airflow_onnx_provider.__file__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": made.py_files},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(made.py_files)


def test_a_driver_on_yarn_gets_the_log_settings_shipped(tmp_path: Path, model_folder: Path) -> None:
    """Running on YARN, "Debugging your Application": upload the file with --files, name it without a path."""
    made = prepared(tmp_path, model_folder, **TARGETS["yarn cluster"])

    assert "spark.pyspark.driver.python" not in made.conf
    assert made.files == str(tmp_path / "work" / "log4j2.properties")
    assert made.conf["spark.driver.extraJavaOptions"] == (f"{SERIAL_GC} -Dlog4j2.configurationFile=log4j2.properties")
    assert made.conf["spark.yarn.maxAppAttempts"] == "1"


def test_a_driver_in_a_pod_is_quiet_by_a_property(tmp_path: Path, model_folder: Path) -> None:
    """The pod's JVM is up before Spark has fetched any file, so a log4j2 file would come too late."""
    made = prepared(tmp_path, model_folder, **TARGETS["kubernetes cluster"])

    assert made.files == ""
    assert made.conf["spark.log.level"] == "WARN"
    assert made.conf["spark.driver.extraJavaOptions"] == SERIAL_GC


@pytest.mark.parametrize(
    ("target", "found_by"),
    [
        ("standalone", None),
        ("yarn cluster", "./find_gpus.sh"),
        ("kubernetes cluster", "/opt/spark/examples/src/main/scripts/getGpusResources.sh"),
    ],
)
def test_how_an_executor_learns_its_gpus(tmp_path: Path, model_folder: Path, target: str, found_by: str | None) -> None:
    conf = {"spark.executor.resource.gpu.amount": "1", "spark.task.resource.gpu.amount": "1"}
    made = prepared(tmp_path, model_folder, plan_conf=conf, **TARGETS[target])

    assert made.conf.get("spark.executor.resource.gpu.discoveryScript") == found_by
    assert made.conf.get("spark.executor.resource.gpu.vendor") == ("nvidia.com" if "kube" in target else None)
    assert ("find_gpus.sh" in made.files) == (target == "yarn cluster")


def test_the_gpu_script_speaks_sparks_json(tmp_path: Path, model_folder: Path) -> None:
    """A stand-in for nvidia-smi says what the real one says on a machine with two GPUs."""
    made = prepared(
        tmp_path, model_folder, plan_conf={"spark.executor.resource.gpu.amount": "2"}, **TARGETS["yarn cluster"]
    )
    stand_in = tmp_path / "bin" / "nvidia-smi"
    stand_in.parent.mkdir()
    stand_in.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    stand_in.chmod(0o755)
    (script,) = (name for name in made.files.split(",") if name.endswith(".sh"))
    environment = {**os.environ, "PATH": f"{stand_in.parent}:{os.environ['PATH']}"}
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == {"name": "gpu", "addresses": ["0", "1"]}
