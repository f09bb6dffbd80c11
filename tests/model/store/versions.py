# SPDX-License-Identifier: Apache-2.0
"""Small model versions that differ, for tests of the store: what a model computes plays no part in it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, Golden, ModelManifest
from tests.runtime.tiny import manifest_of


def make_version(folder: Path, content: str, *, validated: bool = True, **fields: Any) -> ModelManifest:
    """A finished version in ``folder``, whose digest follows from ``content``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_NAME).write_text(content * 50)
    manifest = manifest_of(folder, **fields)
    if not validated:
        return manifest
    (folder / "rows.npz").write_text(f"golden rows of {content}")
    return manifest_of(folder, **{**fields, "golden": Golden.keep(folder / "rows.npz", folder, 1e-4)})


def add_version(store: ModelStore, content: str, **fields: Any) -> str:
    """Put such a version into the store, and give back its name."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = make_version(Path(folder), content, **fields)
        store.add(Path(folder), manifest)
    return manifest.version
