# SPDX-License-Identifier: Apache-2.0
"""A trained model as its framework wrote it, and the door to the module that knows the framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError
from airflow_onnx_provider.model.evidence.samples import digest_of_path
from airflow_onnx_provider.model.scratch import scratch_folder
from airflow_onnx_provider.runtime.manifest import ModelManifest

_ROOM = "airflow_onnx_provider.model.frameworks"

FRAMEWORKS = {
    "tensorflow": f"{_ROOM}.tensorflow",
    "torch": f"{_ROOM}.torch",
    "sklearn": f"{_ROOM}.sklearn",
    "xgboost": f"{_ROOM}.xgboost",
    "lightgbm": f"{_ROOM}.lightgbm",
    "onnx": f"{_ROOM}.onnx",
}
"""Framework name to the module that converts it; a new framework is a module and a line here."""

MLFLOW = ("models:/", "runs:/")
"""What the address of a model on an MLflow server begins with."""

OTHER_PYTHON = ", or name another Python with python="
"""The other way out where the Python that a stage runs in lacks a framework."""

Predictor = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]
"""A source model as a plain function: arrays ``[rows, …]`` in and out, named as the ONNX graph's inputs and outputs."""


@dataclass(frozen=True)
class SourceModel:
    """What is to be converted.

    :param location: the model's file or folder, or ``models:/name@alias``, ``models:/name/3`` or
        ``runs:/<run>/<path>`` on an MLflow server
    :param framework: a key of :data:`FRAMEWORKS`; may be empty for a registered model, which says it itself
    :param preprocessing: fields of ``ImagePreprocessing`` (height and width may be left to the model);
        ``{"kind": "tokens", …}`` for ``TokenPreprocessing``; ``{"kind": "columns"}`` for neither; empty: one input
        ``[batch, height, width, 3]`` is taken for pictures, everything else for columns
    :param inputs: for sources that do not say what they take: name to ``{"type": "float", "shape": ["batch", 10]}``,
        with ONNX's type names and a name for each axis that varies
    :param factory: ``package.module:function`` that gives the empty network of a state_dict
    :param signature: which signature of a SavedModel; default ``serving_default``
    :param trusted: whether formats that run code when opened are allowed
    :param registered: where a fetched model came from: ``source`` (its numbered address), ``run_id``, …
    """

    location: str
    framework: str
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    factory: str | None = None
    signature: str | None = None
    trusted: bool = False
    registered: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "location", str(self.location))

    @property
    def is_registered(self) -> bool:
        """Whether it has to be fetched from an MLflow server first."""
        return self.location.startswith(MLFLOW)

    @property
    def path(self) -> Path:
        """The file or folder on this machine.

        :raises BadInputError: for a registered model that was not fetched
        """
        if self.is_registered:
            raise BadInputError(f"{self.location} lies in a registry; it has a path only while it is fetched")
        return Path(self.location)

    @property
    def sha256(self) -> str:
        """Digest of the file, or of all files of the folder.

        :raises BadInputError: if there is nothing
        """
        if not self.path.exists():
            raise BadInputError(
                f"the model {self.path} does not exist; give the path of a trained model on this worker"
            )
        return digest_of_path(self.path)

    def require_digest(self, expected: str) -> None:
        """Make sure that this is still the source that was converted.

        :raises DigestMismatchError: if it has changed since
        """
        if self.sha256 != expected:
            raise DigestMismatchError(
                f"the source {self.registered.get('source', self.path)} changed since it was converted; "
                "run the convert task again"
            )

    @contextmanager
    def fetched(self) -> Iterator[SourceModel]:
        """The same source with a path on this machine; a copy from a registry is removed afterwards.

        :raises BadInputError: if the registry does not have it, or it is of another framework than was said
        """
        if not self.is_registered:
            yield self
            return
        from airflow_onnx_provider.model.mlflow import fetch_model

        with scratch_folder("onnx-source-") as folder:
            found = fetch_model(self.location, folder)
            if self.framework and self.framework != found.framework:
                raise BadInputError(
                    f"{self.location} is a {found.framework} model, not {self.framework}; leave framework out"
                )
            registered = {"source": found.uri, "run_id": found.run_id, "registered_version": found.version}
            yield replace(self, location=str(found.path), framework=found.framework, registered=registered)

    def module(self) -> Any:
        """The module with ``to_onnx`` and ``open_predictor``.

        :raises BadInputError: for an unknown framework
        """
        if self.framework not in FRAMEWORKS:
            raise BadInputError(f"framework {self.framework!r} is not supported; there is: {', '.join(FRAMEWORKS)}")
        return import_module(FRAMEWORKS[self.framework])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, as it travels to a child process."""
        return {
            "location": self.location,
            "framework": self.framework,
            "preprocessing": dict(self.preprocessing),
            "inputs": {name: dict(spec) for name, spec in self.inputs.items()},
            "factory": self.factory,
            "signature": self.signature,
            "trusted": self.trusted,
            "registered": dict(self.registered),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SourceModel:
        """Inverse of :meth:`to_dict`."""
        return cls(**data)

    def to_origin(self) -> dict[str, Any]:
        """What a manifest's ``origin`` keeps of it, so that :meth:`from_origin` finds it again."""
        kept = self.to_dict()
        location, registered = kept.pop("location"), kept.pop("registered")
        return {**kept, "source": location if self.is_registered else str(self.path.resolve()), **registered}

    @classmethod
    def from_origin(cls, manifest: ModelManifest) -> SourceModel:
        """The source that a model version, or the version it was derived from, was converted from.

        :raises BadInputError: if the manifest names none
        """
        origin = manifest.origin
        if "source" not in origin or "framework" not in origin:
            raise BadInputError(
                f"{manifest.name} {manifest.version} was not converted from a model of a framework, "
                "so there is no source to compare with"
            )
        # Manifests of earlier versions keep the source's preprocessing only as the model's own.
        own = manifest.preprocessing.to_dict() if manifest.preprocessing else {"kind": "columns"}
        return cls(
            location=origin["source"],
            framework=origin["framework"],
            preprocessing=origin.get("preprocessing", own),
            inputs=origin.get("inputs", {}),
            factory=origin.get("factory"),
            signature=origin.get("signature"),
            trusted=origin.get("trusted", False),
        )
