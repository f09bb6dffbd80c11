# SPDX-License-Identifier: Apache-2.0
"""What the manifests of all ages say was measured; what they do not say is None, never a guess."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_onnx_provider.runtime.manifest import ModelManifest

ORIGINAL = "original"


@dataclass(frozen=True)
class Variant:
    """One row of a stage's measurements; what was not measured is None.

    :param name: ``original``, ``static``, ``float16``, …
    :param size_bytes: of the model's files
    :param accuracy: share of labelled rows with the right label, 0 to 1
    :param speedup: the original's time over this variant's, one thread
    :param rows_per_second: of this variant, one thread
    :param compressed_bytes: of the model's files when compressed
    :param max_difference: largest absolute difference of any output value from the original's
    :param label_agreement: share of rows with the original's label, 0 to 1
    :param goes_on: whether the stage chose it
    :param kept: of a stage that takes one step after the other: whether this one stayed; None where variants compete
    :param reason: the stage's own words about it, empty if it left none
    """

    name: str
    size_bytes: float | None
    accuracy: float | None
    speedup: float | None
    rows_per_second: float | None
    compressed_bytes: float | None
    max_difference: float | None
    label_agreement: float | None
    goes_on: bool
    kept: bool | None
    reason: str


@dataclass(frozen=True)
class Step:
    """A stage that measured variants beside an original.

    :param stage: ``optimize``, ``quantize``, ``prune``, …
    :param made_this: whether the version came out of it; otherwise the stage was tried on the version
    :param accepted: None where the manifest does not say
    :param reason: the stage's own words, empty if it left none
    :param labelled_rows: rows behind the accuracies
    """

    stage: str
    made_this: bool
    accepted: bool | None
    reason: str
    labelled_rows: int | None
    variants: tuple[Variant, ...]

    @property
    def original(self) -> Variant | None:
        """What the others were measured beside."""
        return next((variant for variant in self.variants if variant.name == ORIGINAL), None)

    @property
    def chosen(self) -> Variant | None:
        """The variant that goes on, None where the manifest does not say."""
        return next((variant for variant in self.variants if variant.goes_on), None)


def steps_of(manifest: ModelManifest) -> tuple[Step, ...]:
    """Each check of the manifest that holds measurements, the one that made the version first."""
    steps = [step for name, check in manifest.checks.items() if (step := _step(manifest, str(name), check))]
    return tuple(sorted(steps, key=lambda step: not step.made_this))


def own_measurement(manifest: ModelManifest) -> Variant | None:
    """How the version itself measured, None if it never was."""
    for step in steps_of(manifest):
        found = step.chosen if step.made_this else step.original
        if found is not None:
            return found
    return None


def parities_of(manifest: ModelManifest) -> dict[str, Mapping[str, Any]]:
    """``batch_1``, ``batch_2``, …, ``reference`` to the parity that was found; empty if it was never looked for."""
    parity = manifest.checks.get("parity")
    if not isinstance(parity, Mapping):
        return {}
    return {str(name): value for name, value in parity.items() if isinstance(value, Mapping)}


def worst_parity(manifest: ModelManifest) -> tuple[float | None, float | None]:
    """Over all batch sizes: the largest absolute difference from the source, the least label agreement."""
    found = [parity for name, parity in parities_of(manifest).items() if name.startswith("batch_")]
    differences = [number(parity.get("max_difference")) for parity in found]
    agreements = [number(parity.get("label_agreement")) for parity in found]
    return (
        max((value for value in differences if value is not None), default=None),
        min((value for value in agreements if value is not None), default=None),
    )


def number(value: Any) -> float | None:
    """A finite number, or None for everything else that JSON can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _step(manifest: ModelManifest, stage: str, check: Any) -> Step | None:
    found = check if isinstance(check, Mapping) else {"measurements": check}
    measurements = found.get("measurements")
    if not isinstance(measurements, Sequence) or isinstance(measurements, str):
        return None
    rows = [row for row in measurements if isinstance(row, Mapping) and "variant" in row]
    if not rows:
        return None
    reason = found["reason"] if isinstance(found.get("reason"), str) else ""
    # Older manifests name the stage by its key and keep a bare list, in the new version alone.
    made_this = manifest.recipe.get("stage") == stage or (isinstance(check, list) and stage in manifest.recipe)
    accepted = found.get("accepted") if isinstance(found.get("accepted"), bool) else None
    if made_this:
        accepted = True
    chosen = _chosen(manifest, stage, rows, reason) if made_this or accepted else None
    labelled = number(found.get("labelled_rows", rows[0].get("labelled_rows")))
    return Step(
        stage=stage,
        made_this=made_this,
        accepted=accepted,
        reason=reason,
        labelled_rows=int(labelled) if labelled is not None else None,
        variants=tuple(_variant(row, place == chosen) for place, row in enumerate(rows)),
    )


def _chosen(manifest: ModelManifest, stage: str, rows: Sequence[Mapping[str, Any]], reason: str) -> int | None:
    """The place of the row that goes on."""
    names = [str(row["variant"]) for row in rows]
    kept = [place for place, row in enumerate(rows) if row.get("accepted") is True and names[place] != ORIGINAL]
    if kept:  # each step starts from the one before: the last is what came out
        return kept[-1]
    said = [manifest.recipe.get("variant"), manifest.recipe.get(stage)]
    said += [match.group(1)] if (match := re.match(r"(\S+) goes on", reason)) else []
    named = [names.index(name) for name in said if isinstance(name, str) and name in names]
    others = [place for place, name in enumerate(names) if name != ORIGINAL]
    if named:
        return named[0]
    return others[0] if len(others) == 1 else None


def _variant(row: Mapping[str, Any], goes_on: bool) -> Variant:
    return Variant(
        name=str(row["variant"]),
        size_bytes=number(row.get("size_bytes")),
        accuracy=number(row.get("accuracy")),
        speedup=number(row.get("speedup")),
        rows_per_second=number(row.get("images_per_second", row.get("rows_per_second"))),
        compressed_bytes=number(row.get("compressed_bytes")),
        max_difference=number(row.get("max_difference")),
        label_agreement=number(row.get("label_agreement")),
        goes_on=goes_on,
        kept=row["accepted"] if isinstance(row.get("accepted"), bool) else None,
        reason=row["reason"] if isinstance(row.get("reason"), str) else "",
    )
