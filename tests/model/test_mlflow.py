# SPDX-License-Identifier: Apache-2.0
"""Models from a real MLflow server, and versions logged there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.mlflow import (
    DIGEST_TAG,
    FetchedModel,
    fetch_model,
    log_version,
)
from airflow_onnx_provider.model.mlflow_client import client_of, import_mlflow
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.operators.convert import OnnxConvertOperator
from airflow_onnx_provider.operators.log_to_mlflow import OnnxMlflowLogOperator
from airflow_onnx_provider.operators.validate import OnnxValidateOperator
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from tests.conftest import set_connection
from tests.model.mlflow_server import QUIET, mlflow_server
from tests.runtime.tiny import write_version

CHECKS = {
    "parity": {
        "rows": 32,
        "batch_1": {"max_difference": 1e-7, "label_agreement": 1.0},
        "batch_32": {"max_difference": 3e-7, "label_agreement": 0.97},
    },
    "quantize": {
        "accepted": True,
        "reason": "static goes on. …",
        "measurements": [
            {"variant": "original", "accuracy": 0.94, "speedup": 1.0, "size_bytes": 4000},
            {"variant": "static", "accuracy": 0.93, "speedup": 2.5, "images_per_second": 900.0, "size_bytes": 1000},
        ],
    },
}
ORIGIN = {"framework": "tensorflow", "source": "/data/a.keras", "parent": "0123456789ab"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture(autouse=True)
def environment(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def client(environment: None) -> Any:
    return client_of()


@pytest.fixture
def version(tmp_path: Path) -> tuple[ModelStore, str, ModelManifest]:
    """A measured int8 version in a store."""
    store = ModelStore(tmp_path / "store")
    manifest = write_version(
        tmp_path / "made", recipe={"stage": "quantize", "variant": "static"}, origin=ORIGIN, checks=CHECKS
    )
    return store, store.add(tmp_path / "made", manifest), manifest


def log_files(client: Any, files: Mapping[str, bytes], folder: Path) -> str:
    """Log these files as a run's artifacts; returns the run."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    run = client.create_run("0").info.run_id
    client.log_artifacts(run, str(folder), "model")
    client.set_terminated(run)
    return str(run)


def mlmodel(flavors: Mapping[str, Any], **more: Any) -> bytes:
    return yaml.safe_dump({"flavors": {"python_function": {"loader_module": "any"}, **flavors}, **more}).encode()


def register_booster(server: str, name: str, alias: str) -> str:
    """Register a small XGBoost model as MLflow's users do; returns its run."""
    mlflow = import_mlflow()
    import xgboost

    mlflow.set_tracking_uri(server)
    rows = xgboost.DMatrix(np.array([[0.0], [1.0]]), label=[0, 1])
    with mlflow.start_run() as run:
        mlflow.xgboost.log_model(
            xgboost.train({}, rows, 1), name="model", registered_model_name=name, pip_requirements=["xgboost"]
        )
    client_of().set_registered_model_alias(name, alias, "1")
    return str(run.info.run_id)


def test_a_registered_model_becomes_a_proved_version(
    server: str, tmp_path: Path, context: dict[str, Any], connections: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = register_booster(server, "ranks", "production")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    set_connection(monkeypatch, "mlflow_a", {"conn_type": "http", "host": server})
    np.savez(tmp_path / "rows.npz", features=np.array([[0.0], [0.4], [1.0]], np.float32))

    made = OnnxConvertOperator(
        task_id="convert", source="models:/ranks@production", name="ranks", mlflow_conn_id="mlflow_a"
    ).execute(context)
    proved = OnnxValidateOperator(
        task_id="validate", model=made, inputs=str(tmp_path / "rows.npz"), mlflow_conn_id="mlflow_a"
    ).execute(context)

    origin = ModelManifest.read(Path(made["model"])).origin
    assert (origin["source"], origin["run_id"], origin["framework"]) == ("models:/ranks/1", run, "xgboost")
    assert proved["checks"]["batch_2"]["max_difference"] < 1e-6


def test_a_registered_model_is_fetched_by_its_alias(server: str, tmp_path: Path) -> None:
    run = register_booster(server, "scores", "candidate")

    fetched = fetch_model("models:/scores@candidate", tmp_path)

    import xgboost

    assert fetched == FetchedModel(fetched.path, "xgboost", "models:/scores/1", run, "1")
    assert fetched.path.is_relative_to(tmp_path)
    assert xgboost.Booster(model_file=fetched.path).num_features() == 1


LAID_OUT = {
    "onnx": ("onnx", {"data": "model.onnx"}, "model.onnx"),
    "keras of tensorflow": ("tensorflow", {"data": "data", "model_type": "keras"}, "data/model.keras"),
    "h5 of tensorflow": ("tensorflow", {"data": "data", "model_type": "keras"}, "data/model.h5"),
    "saved model": ("tensorflow", {"saved_model_dir": "tf2model"}, "tf2model/saved_model.pb"),
    "keras": ("keras", {"data": "data"}, "data/model.keras"),
    "exported program": ("pytorch", {"model_data": "data"}, "data/model.pt2"),
    "pickled network": ("pytorch", {"model_data": "data"}, "data/model.pth"),
    "pickled pipeline": ("sklearn", {"pickled_model": "model.pkl"}, "model.pkl"),
    "xgboost": ("xgboost", {"data": "model.ubj", "model_class": "xgboost.core.Booster"}, "model.ubj"),
    "lightgbm": ("lightgbm", {"data": "model.lgb"}, "model.lgb"),
}
OURS = {"keras": "tensorflow", "pytorch": "torch"}


@pytest.mark.parametrize("kind", LAID_OUT)
def test_the_framework_s_own_file_is_found_and_not_opened(kind: str, client: Any, tmp_path: Path) -> None:
    flavor, settings, file = LAID_OUT[kind]
    canary = tmp_path / "ran"
    foreign = f"import pathlib; pathlib.Path({str(canary)!r}).touch()".encode()
    described = mlmodel({flavor: {**settings, "code": "code"}})
    files = {"MLmodel": described, file: b"\x80\x04no pickle", "code/own.py": foreign, "data/keras_module.txt": b"own"}
    run = log_files(client, files, tmp_path / "logged")

    fetched = fetch_model(f"runs:/{run}/model", tmp_path / "fetched")

    assert (fetched.framework, fetched.run_id, fetched.version) == (OURS.get(flavor, flavor), run, None)
    assert fetched.uri == f"runs:/{run}/model"
    found = fetched.path / "saved_model.pb" if fetched.path.is_dir() else fetched.path
    assert found.read_bytes() == b"\x80\x04no pickle"
    assert found.relative_to(tmp_path / "fetched").as_posix().endswith(file)
    assert not canary.exists()


REFUSED = {
    "a flavor that cannot be converted": (
        mlmodel({"prophet": {"data": "model.pr"}}),
        r"has the flavors prophet, python_function; one of these is needed: onnx, tensorflow, keras, pytorch",
    ),
    "a path that leaves the folder": (mlmodel({"onnx": {"data": "../../secret"}}), "would leave its folder"),
    "a file that is not there": (mlmodel({"onnx": {"data": "other.onnx"}}), "names other.onnx, which is not among"),
    "no path": (mlmodel({"onnx": {}}), "does not say where the model lies"),
    "an object in the yaml": (b"flavors: !!python/object/apply:os.system ['true']", "cannot be read"),
    "no flavors": (b"a: b", "names no flavors"),
    "flavors that are no mapping": (b"flavors: [onnx]", "names no flavors"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_used_is_refused_with_its_reason(kind: str, client: Any, tmp_path: Path) -> None:
    described, reason = REFUSED[kind]
    run = log_files(client, {"MLmodel": described, "model.onnx": b"x"}, tmp_path / "logged")

    with pytest.raises(BadInputError, match=reason):
        fetch_model(f"runs:/{run}/model", tmp_path / "fetched")


def test_artifacts_without_a_model(client: Any, tmp_path: Path) -> None:
    run = log_files(client, {"notes.txt": b"x"}, tmp_path / "logged")

    with pytest.raises(BadInputError, match="is no model: it has no MLmodel file"):
        fetch_model(f"runs:/{run}/model", tmp_path / "fetched")
    with pytest.raises(BadInputError, match="cannot be fetched"):
        fetch_model(f"runs:/{run}/other", tmp_path / "fetched")


@pytest.mark.parametrize("uri", ["models:/nothing@production", "models:/nothing/3", "runs:/0123/model"])
def test_a_model_that_is_not_there(uri: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"there is no models:/nothing|cannot be fetched"):
        fetch_model(uri, tmp_path)


@pytest.mark.parametrize("uri", ["models:/a", "models:/a/latest", "models:/a@b/../c", "s3://a/b", "runs:/x"])
def test_what_is_no_address(uri: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is no address of a model in MLflow; give models:/<name>@<alias>"):
        fetch_model(uri, tmp_path)


def test_without_a_server_the_message_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")

    with pytest.raises(BadInputError, match="MLFLOW_TRACKING_URI, or give mlflow_conn_id"):
        fetch_model("models:/a@b", tmp_path)


def test_a_version_is_logged_with_what_is_known_of_it(
    client: Any, version: tuple[ModelStore, str, ModelManifest], server: str
) -> None:
    store, address, manifest = version

    logged = log_version(store, address, server, "digits", "digits@candidate")

    run = client.get_run(logged["run_id"])
    assert run.data.tags[DIGEST_TAG] == manifest.digest
    assert run.data.tags["onnx.parent"] == "0123456789ab"
    assert run.data.params["opset"] == "18"
    assert run.data.params["recipe.variant"] == "static"
    assert run.data.metrics == {
        "accuracy": 0.93,
        "speedup": 2.5,
        "rows_per_second": 900.0,
        "size_bytes": (Path(address) / MODEL_NAME).stat().st_size,
        "parity_max_difference": 3e-7,
        "parity_label_agreement": 0.97,
    }
    assert (logged["registered"], logged["model_version"], logged["alias"]) == ("digits", "1", "candidate")
    assert client.get_model_version_by_alias("digits", "candidate").tags[DIGEST_TAG] == manifest.digest
    assert logged["run_url"] == f"{server}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"


def test_what_was_logged_comes_back_and_runs_in_mlflow(
    version: tuple[ModelStore, str, ModelManifest], server: str, tmp_path: Path
) -> None:
    store, address, manifest = version
    log_version(store, address, server, "round trip", "round_trip")

    fetched = fetch_model("models:/round_trip/1", tmp_path / "fetched")

    assert fetched.framework == "onnx"
    assert fetched.path.read_bytes() == (Path(address) / MODEL_NAME).read_bytes()
    assert json.loads((fetched.path.parent / "manifest.json").read_bytes())["digest"] == manifest.digest
    mlflow = import_mlflow()
    scored = mlflow.pyfunc.load_model(str(fetched.path.parent)).predict(np.zeros((2, 4, 4, 3), np.uint8))
    assert scored["scores"].shape == (2, 3)


def test_the_same_version_twice_is_one_run_that_learns(
    client: Any, version: tuple[ModelStore, str, ModelManifest], server: str, tmp_path: Path
) -> None:
    _, address, manifest = version
    bare = ModelStore(tmp_path / "bare")
    bare_address = bare.add(tmp_path / "made", replace(manifest, checks={}))
    first = log_version(bare, bare_address, server, "twice")
    measured, _, _ = version

    second = log_version(measured, address, server, "twice", "twice")
    third = log_version(measured, address, server, "twice", "twice@production")

    assert (first["new"], second["new"], third["new"]) == (True, False, False)
    assert first["run_id"] == second["run_id"] == third["run_id"]
    assert second["model_version"] == third["model_version"] == "1"
    assert client.get_run(first["run_id"]).data.metrics["accuracy"] == 0.93
    assert len(client.get_metric_history(first["run_id"], "accuracy")) == 1
    assert client.get_model_version_by_alias("twice", "production").version == "1"


def test_a_log_that_broke_off_is_not_taken_for_the_version(
    client: Any,
    version: tuple[ModelStore, str, ModelManifest],
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, address, _ = version
    monkeypatch.setattr("airflow_onnx_provider.model.mlflow._write_mlmodel", full_disk)
    with pytest.raises(OSError, match="full"):
        log_version(store, address, server, "broken off")
    monkeypatch.undo()

    logged = log_version(store, address, server, "broken off")

    runs = client.search_runs([client.get_experiment_by_name("broken off").experiment_id])
    assert {run.info.run_id: run.info.status for run in runs}[logged["run_id"]] == "FINISHED"
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]


def full_disk(*_: Any) -> None:
    raise OSError("the disk is full")


@pytest.mark.parametrize("name", ["a' or name != 'b", "a/b", "a@", "@production"])
def test_a_name_that_cannot_be_registered(
    name: str, version: tuple[ModelStore, str, ModelManifest], server: str
) -> None:
    with pytest.raises(BadInputError, match="cannot name a model"):
        log_version(version[0], version[1], server, "names", name)


def test_a_password_in_the_address_is_not_shown(
    version: tuple[ModelStore, str, ModelManifest], server: str, tmp_path: Path
) -> None:
    with_password = server.replace("://", "://me:secret@")

    logged = log_version(version[0], version[1], with_password, "secrets")
    assert "secret" not in json.dumps({**logged, "experiment": ""})
    with pytest.raises(BadInputError) as refused:
        fetch_from(with_password, tmp_path)
    assert "secret" not in str(refused.value)


def fetch_from(tracking_uri: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", tracking_uri)
        fetch_model("models:/nothing@production", folder)


def test_the_operator_logs_to_the_server_of_its_connection(
    version: tuple[ModelStore, str, ModelManifest],
    server: str,
    context: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, port = server.removeprefix("http://").split(":")
    set_connection(monkeypatch, "mlflow", {"conn_type": "http", "host": host, "port": int(port)})
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    operator = OnnxMlflowLogOperator(
        task_id="log",
        model={"model": version[1]},
        experiment="tasks",
        register_as="tasks@production",
        mlflow_conn_id="mlflow",
    )

    first, second = operator.execute(context), operator.execute(context)

    assert (first["model"], first["name"], first["model_version"]) == (version[1], "colours", "1")
    assert first["run_url"].startswith(f"{server}/#/experiments/")
    assert second == {**first, "new": False}
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_importing_mlflow_starts_no_telemetry() -> None:
    program = (
        "import os, sys; os.environ.pop('MLFLOW_DISABLE_TELEMETRY', None); os.environ.pop('DO_NOT_TRACK', None)\n"
        "from airflow_onnx_provider.model.mlflow_client import import_mlflow; import_mlflow()\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "print(get_telemetry_client(), 'onnxruntime' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert said.stdout.split() == ["None", "False"]
