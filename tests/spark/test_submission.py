from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.profile import ExecutionProfile, profile_named
from airflow_onnx_provider.spark.plan import ClusterFacts, InputFacts, ModelFacts, plan
from airflow_onnx_provider.spark.settings import MODEL_ARCHIVE, JobSettings
from airflow_onnx_provider.spark.submission import SERIAL_GC, Submission, prepare
from tests.runtime.tiny import write_version

SETTINGS = JobSettings(
    run="2026-01-01-run-1",
    partition="2026-01-01",
    input_path="/data/catalogue",
    output_path="/data/predictions",
    model={"model": "/models/colours/0123", "digest": "0123"},
    plan=plan(ModelFacts(2**20), ClusterFacts("local[2]", 2), InputFacts(1200, 10**8)).to_dict(),
    profile=profile_named("cpu-throughput", decoder="scaled").to_dict(),
    top_k=3,
    raw=("scores",),
)


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
        "python": None,
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


def test_telemetry_is_off_on_every_executor(tmp_path: Path, model_folder: Path) -> None:
    assert prepared(tmp_path, model_folder).conf["spark.executorEnv.ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize(
    ("master", "python", "expected"),
    [
        ("local[2]", None, sys.executable),
        ("local[2]", "/opt/python", "/opt/python"),
        ("spark://m:7077", None, None),
        ("spark://m:7077", "/opt/python", "/opt/python"),
    ],
)
def test_which_python_the_executors_use(
    tmp_path: Path, model_folder: Path, master: str, python: str | None, expected: str | None
) -> None:
    conf = prepared(tmp_path, model_folder, master=master, python=python).conf

    assert conf.get("spark.pyspark.python") == expected


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


def test_a_driver_elsewhere_is_not_pointed_to_this_machine(tmp_path: Path, model_folder: Path) -> None:
    conf = prepared(tmp_path, model_folder, master="yarn", deploy_mode="cluster").conf

    assert "spark.pyspark.driver.python" not in conf
    assert conf["spark.driver.extraJavaOptions"] == SERIAL_GC
