# SPDX-License-Identifier: Apache-2.0
"""MLflow as a place where trained models come from, and as a place where versions and what was measured are logged.

Nothing of a fetched model is opened here but its ``MLmodel`` file, which is YAML: no pickle, no code of its own.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.cards.measured import own_measurement, worst_parity
from airflow_onnx_provider.model.mlflow_client import client_of, import_mlflow, mlflow_errors, public, registry_of
from airflow_onnx_provider.model.store.address import check_name
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME, MODEL_NAME, ModelManifest, checked_relative, size_of

log = logging.getLogger(__name__)

MLMODEL = "MLmodel"

KERAS_FILES = ("model.keras", "model.h5", "model")
"""What MLflow's tensorflow and keras flavors call a network in their data folder; the last is a SavedModel."""

FLAVORS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "onnx": ("onnx", ("data",), ()),
    "tensorflow": ("tensorflow", ("data", "saved_model_dir"), KERAS_FILES),
    "keras": ("tensorflow", ("data",), KERAS_FILES),
    "pytorch": ("torch", ("model_data",), ("model.pt2", "model.pth")),
    "sklearn": ("sklearn", ("pickled_model",), ()),
    "xgboost": ("xgboost", ("data",), ()),
    "lightgbm": ("lightgbm", ("data",), ()),
}
"""MLflow's flavor to our framework, the flavor's keys that hold the path, and the file's names if that is a folder."""

DIGEST_TAG = "onnx.digest"
PARAMETER_CHARACTERS = 500
"""Longer values of parameters are cut: servers of MLflow 1 and 2 refuse them."""

REGISTERED = re.compile(r"models:/(?P<name>[^/@:]+)(?:@(?P<alias>[A-Za-z0-9_.-]+)|/(?P<version>\d+))")
BY_ID = re.compile(r"models:/m-[0-9a-f]+")
OF_RUN = re.compile(r"runs:/(?P<run>[0-9A-Za-z_-]+)/[^@?#]+")


@dataclass(frozen=True)
class FetchedModel:
    """A model that was brought from MLflow.

    :param path: the framework's own file or folder
    :param framework: this package's name for the framework
    :param uri: address that always means the same model: an alias is resolved
    :param run_id: the run that made it, if MLflow says
    :param version: of the registered model, None for a model of a run
    """

    path: Path
    framework: str
    uri: str
    run_id: str | None
    version: str | None


def fetch_model(uri: str, folder: Path) -> FetchedModel:
    """Bring a model's files from MLflow into ``folder``, and find the file that its framework wrote.

    Whether that file may be opened is for the framework's module to decide: pickles and code need ``trusted``.

    The server is that of the environment variable ``MLFLOW_TRACKING_URI``; credentials come from MLflow's own
    variables, too.

    :param uri: ``models:/<name>@<alias>`` (resolved once), ``models:/<name>/<version>``, ``models:/m-<id>`` or
        ``runs:/<run>/<path>``
    :raises BadInputError: if MLflow has no such model, or one of a flavor that cannot be converted
    """
    client = client_of()
    pinned, run_id, number = _resolve(client, uri)
    import_mlflow()
    from mlflow.artifacts import download_artifacts

    folder.mkdir(parents=True, exist_ok=True)
    with mlflow_errors(f"{pinned} cannot be fetched"):
        home = Path(
            download_artifacts(
                artifact_uri=pinned,
                dst_path=str(folder),
                tracking_uri=client.tracking_uri,
                registry_uri=registry_of(client.tracking_uri),
            )
        )
    described = _mlmodel(home, pinned)
    path, framework = _own_file(home, described, pinned)
    log.info("%s is a model of the framework %s", pinned, framework)
    return FetchedModel(path, framework, pinned, run_id or described.get("run_id"), number)


def log_version(
    store: ModelStore, address: str, tracking_uri: str, experiment: str, register_as: str | None = None
) -> dict[str, Any]:
    """Log an ONNX version, with what is known of it, as a run with a model that ``mlflow.onnx`` can load.

    The run has the opset, the source and the recipe as parameters; accuracy, speed, size and parity as metrics; the
    digest and the parent as tags. The same version logged again finds its run by the digest, and adds what has become
    known since.

    :param tracking_uri: the server
    :param experiment: the experiment's name; it is made if there is none
    :param register_as: ``<name>`` of a registered model that gets the version, or ``<name>@<alias>`` to point the
        alias to it, too
    :return: ``run_id``, ``model_uri``, ``registered`` (its name or None), ``model_version`` (its number or None),
        ``alias``, ``run_url`` (empty if the server has no pages), ``new`` (False: found)
    :raises BadInputError: for a version, a name or credentials that will not do
    """
    name, alias = _registered_name(register_as)
    address = store.resolve(address)
    manifest = store.manifest(address)
    client = client_of(tracking_uri)
    with mlflow_errors(f"{manifest.name} {manifest.version} cannot be logged"):
        experiment_id = _experiment(client, experiment)
        run = _finished_run(client, experiment_id, manifest.digest)
        new = run is None
        if run is None:
            run = _new_run(client, experiment_id, store, address, manifest)
        _log_facts(client, run, manifest)
        model_uri = run.data.tags["onnx.model_uri"]
        number = _register(client, name, model_uri, run.info.run_id, manifest) if name else None
        if name and alias:
            client.set_registered_model_alias(name, alias, number)
    page = f"{public(tracking_uri).rstrip('/')}/#/experiments/{experiment_id}/runs/{run.info.run_id}"
    return {
        "run_id": run.info.run_id,
        "model_uri": model_uri,
        "registered": name,
        "model_version": number,
        "alias": alias,
        "run_url": page if tracking_uri.startswith(("http://", "https://")) else "",
        "new": new,
    }


def _resolve(client: Any, uri: str) -> tuple[str, str | None, str | None]:
    """(address without an alias, run, version)."""
    if run := OF_RUN.fullmatch(uri):
        return uri, run["run"], None
    if BY_ID.fullmatch(uri):
        return uri, None, None
    named = REGISTERED.fullmatch(uri)
    if not named:
        raise BadInputError(
            f"{uri!r} is no address of a model in MLflow; give models:/<name>@<alias>, models:/<name>/<version> or "
            "runs:/<run>/<path>"
        )
    with mlflow_errors(f"there is no {uri} at {public(client.tracking_uri)}"):
        if named["alias"]:
            found = client.get_model_version_by_alias(named["name"], named["alias"])
        else:
            found = client.get_model_version(named["name"], named["version"])
    return f"models:/{found.name}/{found.version}", found.run_id or None, str(found.version)


def _mlmodel(home: Path, uri: str) -> dict[str, Any]:
    import yaml

    path = home / MLMODEL
    if not path.is_file():
        raise BadInputError(f"{uri} is no model: it has no {MLMODEL} file. Give the address of a logged model")
    try:
        described = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(f"the {MLMODEL} file of {uri} cannot be read: {error}") from error
    if not isinstance(described, dict) or not isinstance(described.get("flavors"), dict):
        raise BadInputError(f"the {MLMODEL} file of {uri} names no flavors")
    return described


def _own_file(home: Path, described: Mapping[str, Any], uri: str) -> tuple[Path, str]:
    flavors = described["flavors"]
    for flavor, (framework, keys, names) in FLAVORS.items():
        settings = flavors.get(flavor)
        if not isinstance(settings, Mapping):
            continue
        relative = next((settings[key] for key in keys if isinstance(settings.get(key), str)), None)
        if relative is None:
            raise BadInputError(f"{uri}: its flavor {flavor} does not say where the model lies ({' or '.join(keys)})")
        path = home / checked_relative(relative)
        if path.is_dir():
            path = next((path / name for name in names if (path / name).exists()), path)
        # A link in an artifact store that is a plain folder could lead anywhere.
        if not path.exists() or not path.resolve().is_relative_to(home.resolve()):
            raise BadInputError(f"{uri}: its flavor {flavor} names {relative}, which is not among its files")
        return path, framework
    raise BadInputError(
        f"{uri} has the flavors {', '.join(sorted(map(str, flavors))) or 'none'}; one of these is needed: "
        f"{', '.join(FLAVORS)}. Log the model with its framework's own flavor"
    )


def _experiment(client: Any, name: str) -> str:
    from mlflow import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another task was first
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise BadInputError(f"the MLflow experiment {name!r} was deleted; restore it or name another")
    return str(found.experiment_id)


def _finished_run(client: Any, experiment_id: str, digest: str) -> Any:
    # Only a finished run has its model; one that broke off is left as it is.
    condition = f"tags.`{DIGEST_TAG}` = '{digest}' and attributes.status = 'FINISHED'"
    found = client.search_runs([experiment_id], condition, max_results=1, order_by=["attributes.start_time ASC"])
    return found[0] if found else None


def _new_run(client: Any, experiment_id: str, store: ModelStore, address: str, manifest: ModelManifest) -> Any:
    tags = {
        DIGEST_TAG: manifest.digest,
        "onnx.version": manifest.version,
        "onnx.address": public(address),
        **({"onnx.parent": str(manifest.origin["parent"])} if "parent" in manifest.origin else {}),
    }
    run_id = client.create_run(experiment_id, tags=tags, run_name=f"{manifest.name} {manifest.version}").info.run_id
    try:
        with store.local(address) as folder:
            model_uri = _log_model(client, experiment_id, run_id, folder, manifest)
            client.log_metric(run_id, "size_bytes", size_of(folder, manifest))
        client.set_tag(run_id, "onnx.model_uri", model_uri)
        client.set_terminated(run_id, "FINISHED")
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    return client.get_run(run_id)


def _log_model(client: Any, experiment_id: str, run_id: str, folder: Path, manifest: ModelManifest) -> str:
    """Log the version's files as MLflow's flavor ``onnx`` lays them out; the graph is not opened for it."""
    from mlflow.entities import LoggedModelOutput

    logged = client.create_logged_model(
        experiment_id, name=manifest.name, source_run_id=run_id, tags={DIGEST_TAG: manifest.digest}, model_type="onnx"
    )
    with tempfile.TemporaryDirectory(prefix="onnx-mlflow-") as temporary:
        home = Path(temporary)
        for relative in [MANIFEST_NAME, *manifest.all_files]:
            (home / relative).parent.mkdir(parents=True, exist_ok=True)
            (home / relative).symlink_to(folder / relative)  # a copy of a large model is not needed
        _write_mlmodel(home, manifest, run_id, logged.model_id)
        client.log_model_artifacts(logged.model_id, str(home))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return f"models:/{logged.model_id}"


def _write_mlmodel(home: Path, manifest: ModelManifest, run_id: str, model_id: str) -> None:
    from mlflow.models import Model

    model = Model(artifact_path=manifest.name, run_id=run_id, model_id=model_id, metadata={DIGEST_TAG: manifest.digest})
    requirements = [f"{name}=={installed}" for name in ("onnx", "onnxruntime") if (installed := _installed(name))]
    (home / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))
    model.add_flavor("onnx", onnx_version=_installed("onnx"), data=MODEL_NAME, providers=["CPUExecutionProvider"])
    model.add_flavor("python_function", loader_module="mlflow.onnx", data=MODEL_NAME)
    model.signature = _signature(manifest)
    model.save(str(home / MLMODEL))


def _signature(manifest: ModelManifest) -> Any:
    """MLflow's form of the inputs and outputs; None if numpy has no such type."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    names = {"float": "float32", "double": "float64", "string": "object"}
    try:
        schemas = [
            Schema(
                [
                    TensorSpec(
                        np.dtype(names.get(spec.type, spec.type)),
                        tuple(axis if isinstance(axis, int) else -1 for axis in spec.shape),
                        spec.name,
                    )
                    for spec in specs
                ]
            )
            for specs in (manifest.inputs, manifest.outputs)
        ]
    except TypeError:
        return None
    return ModelSignature(*schemas)


def _log_facts(client: Any, run: Any, manifest: ModelManifest) -> None:
    """Add what the run does not say yet."""
    from mlflow.entities import Metric, Param

    params = {name: value for name, value in _params(manifest).items() if name not in run.data.params}
    now = int(run.info.start_time)
    metrics = [
        Metric(name, value, now, 0) for name, value in _metrics(manifest).items() if run.data.metrics.get(name) != value
    ]
    if params or metrics:
        client.log_batch(run.info.run_id, metrics, [Param(name, value) for name, value in params.items()])


def _params(manifest: ModelManifest) -> dict[str, str]:
    facts: dict[str, Any] = {"name": manifest.name, "opset": manifest.opset}
    facts |= {
        name: manifest.origin[name]
        for name in ("framework", "framework_version", "converter", "converter_version", "source", "sha256")
        if name in manifest.origin
    }
    facts |= {f"recipe.{name}": value for name, value in manifest.recipe.items()}
    return {
        re.sub(r"[^\w\-. /]", "_", name)[:250]: _text(value)[:PARAMETER_CHARACTERS] for name, value in facts.items()
    }


def _text(value: Any) -> str:
    return public(value) if isinstance(value, str) else json.dumps(value)


def _metrics(manifest: ModelManifest) -> dict[str, float]:
    own = own_measurement(manifest)
    difference, agreement = worst_parity(manifest)
    found = {
        "accuracy": own.accuracy if own else None,
        "speedup": own.speedup if own else None,
        "rows_per_second": own.rows_per_second if own else None,
        "parity_max_difference": difference,
        "parity_label_agreement": agreement,
    }
    return {name: value for name, value in found.items() if value is not None}


def _register(client: Any, name: str, model_uri: str, run_id: str, manifest: ModelManifest) -> str:
    from mlflow import MlflowException

    for found in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
        return str(found.version)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {DIGEST_TAG: manifest.digest, "onnx.version": manifest.version}
    made = client.create_model_version(name, model_uri, run_id, tags, model_id=model_uri.removeprefix("models:/"))
    return str(made.version)


def _registered_name(register_as: str | None) -> tuple[str | None, str | None]:
    if not register_as:
        return None, None
    name, _, alias = register_as.partition("@")
    return check_name(name), check_name(alias) if "@" in register_as else None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
