# SPDX-License-Identifier: Apache-2.0
"""A new model version from an old one: the flow that optimising, quantising and pruning share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_onnx_provider.model.scratch import scratch_folder
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import ModelManifest

VERDICT = ("accepted", "reason", "measurements", "labelled_rows")
"""What both versions' manifests keep of a stage's verdict."""


def derive(
    address: str,
    stage_name: str,
    *,
    decides: Mapping[str, Any],
    settings: Mapping[str, Any],
    store: ModelStore,
    stage: Stage,
) -> dict[str, Any]:
    """Try to make a better version of the one at ``address``; an earlier result is answered from the store.

    The stage runs in a child process. It finds the parent version, verified, in ``folder``, and leaves what it accepts
    as a whole version (model, manifest, golden rows) in ``work/<variant>``. Its verdict is a dict with ``accepted``,
    ``variant`` (``original`` if not accepted), ``reason`` (in words, with the numbers), ``measurements`` (a dict a
    variant, the original first), ``size_bytes``, and ``labelled_rows`` where there are any. Both versions' manifests
    keep it under ``checks[stage_name]``.

    :param stage_name: a key of :data:`~airflow_onnx_provider.model.stage.STAGES`
    :param decides: plain JSON: all that decides the result beside the model, such as digests of inputs and limits
    :param settings: plain JSON for the stage, beside ``folder`` and ``work``
    :return: ``model``, ``name``, ``version``, ``digest`` of the version that goes on, the verdict, and ``from_store``
    :raises OnnxProviderError: the stage's own error
    """
    address = store.resolve(address)
    manifest = store.manifest(address)
    recipe = {"stage": stage_name, "model": manifest.digest, **decides}
    if remembered := store.recall(manifest.name, recipe):
        return {**remembered, "from_store": True}
    with scratch_folder(f"onnx-{stage_name}-") as work, store.local(address) as folder:
        verdict = stage.run(stage_name, {**settings, "folder": str(folder), "work": str(work)})
        kept = {stage_name: {key: verdict[key] for key in VERDICT if key in verdict}}
        store.record(address, lambda parent: replace(parent, checks={**parent.checks, **kept}))
        goes_on, chosen = address, manifest
        if verdict["accepted"]:
            made = work / verdict["variant"]
            chosen = ModelManifest.read(made)
            chosen = replace(chosen, checks={**chosen.checks, **kept})
            goes_on = store.add(made, chosen)
    result = {
        "model": goes_on,
        "name": chosen.name,
        "version": chosen.version,
        "digest": chosen.digest,
        **verdict,
    }
    store.remember(manifest.name, recipe, result)
    return {**result, "from_store": False}
