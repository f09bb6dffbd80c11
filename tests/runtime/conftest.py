# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from airflow_onnx_provider.runtime import session
from airflow_onnx_provider.runtime.manifest import MODEL_NAME
from airflow_onnx_provider.runtime.session import LoadedModel, open_session
from tests.runtime.tiny import write_version


@pytest.fixture(scope="session")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a validated model version; tests that change one make their own."""
    folder = tmp_path_factory.mktemp("version")
    write_version(folder)
    return folder


@pytest.fixture(scope="session")
def model(version: Path) -> LoadedModel:
    """The same version, opened on one thread."""
    return LoadedModel(session.ModelManifest.read(version), open_session(version / MODEL_NAME))
