"""A trained model as its framework wrote it, and the door to the module that knows the framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError
from airflow_onnx_provider.model.samples import digest_of_path

FRAMEWORKS = {"tensorflow": "airflow_onnx_provider.model.frameworks.tensorflow"}
"""Framework name to the module that converts it; a new framework is a module and a line here."""

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class SourceModel:
    """What is to be converted.

    :param path: the model's file or folder
    :param framework: a key of :data:`FRAMEWORKS`
    :param preprocessing: fields of ``ImagePreprocessing``; height and width may be left to the model
    :param trusted: whether formats that run code when opened are allowed
    """

    path: Path
    framework: str
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    trusted: bool = False

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
                f"the source {self.path} changed since it was converted; run the convert task again"
            )

    def module(self) -> Any:
        """The module with ``to_onnx`` and ``open_predictor``.

        :raises BadInputError: for an unknown framework
        """
        if self.framework not in FRAMEWORKS:
            raise BadInputError(f"framework {self.framework!r} is not supported; there is: {', '.join(FRAMEWORKS)}")
        return import_module(FRAMEWORKS[self.framework])
