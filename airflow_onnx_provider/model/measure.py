# SPDX-License-Identifier: Apache-2.0
"""Measure a model version where it will run, and keep what was found in its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.evidence.samples import load_samples
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.sweep import Space, sweep

PICTURES = 64


def measure(address: str, *, pictures: Path | None, space: Space, store: ModelStore, stage: Stage) -> dict[str, Any]:
    """Sweep the space on this machine, in a child process, and record the speeds for this type of CPU.

    :param pictures: a folder of the catalogue's pictures, for models that take pictures
    :return: the version's ``model``, ``name``, ``version``, ``digest``, ``cpu``, and ``best`` (the fastest a core)
    :raises BadInputError: if the model or the pictures are missing, or the model was never validated
    """
    address = store.resolve(address)
    manifest = store.manifest(address)
    if isinstance(manifest.preprocessing, ImagePreprocessing) and pictures is None:
        raise BadInputError(f"measure: {address} takes pictures; give a folder with some of the catalogue's")
    with store.local(address) as folder:
        settings = {
            "folder": str(folder),
            "pictures": str(pictures) if pictures else None,
            "space": asdict(space),
        }
        found = stage.run("measure", settings)["speeds"]
    record_speeds(address, found, store)
    return {
        "model": address,
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "cpu": found[0]["cpu"],
        "best": found[0],
    }


def record_speeds(address: str, speeds: Sequence[Mapping[str, Any]], store: ModelStore) -> None:
    """Put measurements into the version's manifest, in the place of older ones of the same types of CPU."""
    measured = {speed["cpu"] for speed in speeds}

    def with_speeds(manifest: ModelManifest) -> ModelManifest:
        others = [row for row in manifest.speed if row["cpu"] not in measured]
        return replace(manifest, speed=(*others, *speeds))

    store.record(address, with_speeds)


def measure_in_child(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The sweep itself, which loads and frees many sessions."""
    folder = Path(spec["folder"])
    manifest = ModelManifest.read(folder)
    pictures: tuple[bytes, ...] = ()
    if spec["pictures"]:
        samples = load_samples(Path(spec["pictures"]), PICTURES, manifest, "measurement")
        pictures = samples.pictures
    return {"speeds": sweep(folder, manifest.digest, pictures, Space.from_dict(spec["space"]))}
