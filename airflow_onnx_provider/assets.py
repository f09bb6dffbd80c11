# SPDX-License-Identifier: Apache-2.0
"""Airflow Assets for models: what a DAG can be scheduled by when a model's version or alias changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow.sdk import Asset, AssetAlias

from airflow_onnx_provider.model.store.address import check_alias, check_name
from airflow_onnx_provider.runtime.manifest import ModelManifest

SCHEME = "x-onnx-model"  # Airflow leaves the URIs of schemes that begin with x- as they are
RECIPE_ITEMS = 20


def model_asset(name: str, alias: str | None = None) -> Asset:
    """The Asset that stands for a model, or for what an alias of it names; the same arguments give the same Asset.

    Give it as an outlet to the task that promotes, and as the schedule to the DAG that shall follow. Airflow makes an
    event of an outlet whenever its task succeeds; give the task any ``AssetAlias`` instead, and there is one of this
    Asset only when the model's alias has moved.

    :param name: of the model
    :param alias: None: the model as such
    :raises BadInputError: if a name cannot be one
    """
    parts = [check_name(name)] if alias is None else [check_name(name), check_alias(alias)]
    return Asset(name=f"onnx-model/{'@'.join(parts)}", uri=f"{SCHEME}://{'/'.join(parts)}", group="onnx-model")


def model_event_extra(manifest: ModelManifest) -> dict[str, Any]:
    """What an Asset's event tells about a version: small plain JSON.

    :return: ``name``, ``version``, ``digest``, ``opset``, ``recipe`` (the plain values of what was done to make it),
        ``scores``: as far as they were measured ``accuracy`` (0-1), ``speedup`` (over the original),
        ``images_per_second``, ``size_bytes``, and of the validation ``max_difference`` and ``label_agreement``
    """
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "opset": manifest.opset,
        "recipe": _plain(manifest.recipe),
        "scores": scores(manifest),
    }


def scores(manifest: ModelManifest) -> dict[str, float]:
    """The figures of a version, as far as its checks and measurements have them."""
    found: dict[str, float] = {}
    parity = [row for row in _rows((manifest.checks.get("parity") or {}).items()) if "max_difference" in row]
    if parity:
        found["max_difference"] = max(row["max_difference"] for row in parity)
        found["label_agreement"] = min(row.get("label_agreement", 1.0) for row in parity)
    if manifest.speed:
        found["images_per_second"] = max(row["images_per_second"] for row in manifest.speed)
    measured = _own_measurement(manifest)
    return found | {name: measured[name] for name in MEASURED if isinstance(measured.get(name), (int, float))}


MEASURED = ("accuracy", "speedup", "images_per_second", "size_bytes")


def _own_measurement(manifest: ModelManifest) -> Mapping[str, Any]:
    """What was measured of this very version: as the original of later stages, and by the stage that made it."""
    made_by = manifest.recipe.get("stage")
    found: dict[str, Any] = {}
    for stage, check in manifest.checks.items():
        if stage != made_by and isinstance(check, Mapping):
            rows = [row for row in check.get("measurements", ()) if row.get("variant") == "original"]
            found |= {name: value for row in rows for name, value in row.items() if name != "speedup"}
    check = manifest.checks.get(made_by) if isinstance(made_by, str) else None
    if isinstance(check, Mapping) and check.get("accepted"):
        others = [row for row in check.get("measurements", ()) if row.get("variant") != "original"]
        named = [row for row in others if row.get("variant") == manifest.recipe.get("variant")] or others
        found |= named[0] if len(named) == 1 else {}
    return found


def announce(context: Mapping[str, Any], outlets: Iterable[Any], extra: Mapping[str, Any], alias: str) -> None:
    """Put ``extra`` into the event of each of a task's Assets, those of other models and aliases left out.

    An ``AssetAlias`` gets an event of the alias's own Asset, if the alias has moved.

    :param context: the task's
    :param outlets: the task's
    :param extra: what :func:`model_event_extra` gave, and more: ``changed`` says whether the alias has moved
    """
    asset = model_asset(extra["name"], alias)
    own = {model_asset(extra["name"]).uri, asset.uri}
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            if extra["changed"]:
                context["outlet_events"][outlet].add(asset, extra=dict(extra))
        elif isinstance(outlet, Asset) and (outlet.uri in own or not outlet.uri.startswith(f"{SCHEME}://")):
            context["outlet_events"][outlet].extra.update(extra)


def _rows(items: Iterable[tuple[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for name, row in items if name.startswith("batch_") and isinstance(row, Mapping)]


def _plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    short = {
        name: value
        for name, value in recipe.items()
        if value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= 200)
    }
    return dict(list(short.items())[:RECIPE_ITEMS])
