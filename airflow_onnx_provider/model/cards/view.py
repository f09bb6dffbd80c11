# SPDX-License-Identifier: Apache-2.0
"""A card's content, ready to be laid out: every value is text, every table has its headings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from airflow_onnx_provider.model.cards import words
from airflow_onnx_provider.model.cards.measured import (
    ORIGINAL,
    Step,
    Variant,
    number,
    own_measurement,
    parities_of,
    steps_of,
)
from airflow_onnx_provider.model.cards.verdict import Verdict, verdict_of
from airflow_onnx_provider.pages.table import Table
from airflow_onnx_provider.runtime.manifest import ModelManifest, TensorSpec

SHOWN_LABELS = 20
SHOWN_ROWS = 40
"""Rows of one table; a model with more inputs, or more measured speeds, says how many are left out."""


@dataclass(frozen=True)
class Box:
    """One stop of the lineage, and what was done to get there.

    :param by: the stage, empty for the first stop
    :param how: the stage's settings in words
    """

    title: str
    lines: tuple[str, ...]
    by: str = ""
    how: str = ""
    this: bool = False


@dataclass(frozen=True)
class StepView:
    """One stage's measurements.

    :param variants: for the charts
    """

    title: str
    outcome: str
    table: Table
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class CardView:
    """Everything that a card shows."""

    name: str
    version: str
    verdict: Verdict
    facts: tuple[tuple[str, str], ...]
    lineage: tuple[Box, ...]
    steps: tuple[StepView, ...]
    speed: Table | None
    parity: Table | None
    inputs: Table
    outputs: Table
    labels: tuple[str, ...]
    label_count: int
    preprocessing: str
    golden: str
    identity: Table


def card_view(
    manifest: ModelManifest,
    lineage: Sequence[ModelManifest],
    aliases: Sequence[str] | None,
    size_bytes: int | None = None,
) -> CardView:
    """Put a card's content together.

    :param lineage: the versions that it was made from, oldest first, with or without itself
    :param aliases: that point to it; None if nobody looked
    :param size_bytes: of its files; None if nobody looked
    """
    chain = [one for one in lineage if one.version != manifest.version] + [manifest]
    return CardView(
        name=words.clean(manifest.name),
        version=manifest.version,
        verdict=verdict_of(manifest, chain, aliases),
        facts=_facts(manifest, aliases, size_bytes),
        lineage=_lineage(chain, size_bytes),
        steps=_steps(chain),
        speed=_speed(manifest),
        parity=_parity(manifest),
        inputs=_tensors("Inputs", manifest.inputs),
        outputs=_tensors("Outputs", manifest.outputs),
        labels=tuple(words.clean(label) for label in manifest.labels[:SHOWN_LABELS]),
        label_count=len(manifest.labels),
        preprocessing=words.setting(manifest.preprocessing.to_dict()) if manifest.preprocessing else "",
        golden=_golden(manifest),
        identity=_identity(manifest),
    )


def _facts(
    manifest: ModelManifest, aliases: Sequence[str] | None, size_bytes: int | None
) -> tuple[tuple[str, str], ...]:
    own = own_measurement(manifest)
    size = size_bytes if size_bytes is not None else own.size_bytes if own else None
    where = ", ".join(sorted(words.clean(alias) for alias in aliases)) if aliases else "no alias"
    return (
        ("Size", words.size(size)),
        ("Accuracy", words.percent(own.accuracy if own else None)),
        ("Rows a second, one thread", words.rate(own.rows_per_second if own else None)),
        ("Opset", str(manifest.opset)),
        ("In use as", "not known" if aliases is None else where),
    )


def _lineage(chain: Sequence[ModelManifest], size_bytes: int | None) -> tuple[Box, ...]:
    first = chain[0]
    boxes = [_source(first)]
    if parent := first.origin.get("parent"):
        boxes.append(Box(words.clean(parent), ("no longer in the store",), by="made into"))
    for place, one in enumerate(chain):
        stage = one.recipe.get("stage") or ("quantize" if "quantize" in one.recipe else "")
        converted = "" if "parent" in one.origin else _converter(one)
        own = own_measurement(one) or (_beside(chain[place + 1]) if place + 1 < len(chain) else None)
        size = size_bytes if one is chain[-1] and size_bytes is not None else own.size_bytes if own else None
        lines = [words.size(size) if size is not None else "size not recorded"]
        lines += [f"accuracy {words.percent(own.accuracy if own else None)}"]
        lines += ["validated" if one.golden else "never validated"]
        boxes.append(
            Box(
                title=one.version,
                lines=tuple(lines),
                by=words.clean(stage or ("derive" if "parent" in one.origin else "convert")),
                how=", ".join(part for part in (converted, _how(one.recipe)) if part),
                this=one is chain[-1],
            )
        )
    return tuple(boxes)


def _how(recipe: Mapping[str, Any]) -> str:
    """A recipe's settings in a line; what the measurements tell, too, is left to them."""
    steps = recipe.get("steps")
    if isinstance(steps, list):
        kept = [one.get("step") for one in steps if isinstance(one, Mapping) and one.get("accepted")]
        return words.setting([next(iter(step)) for step in kept if isinstance(step, Mapping) and step])
    hidden = {"stage", "kind", "limits", "cpu", "cost", "whole"}
    told = {name: value for name, value in recipe.items() if name not in hidden and value not in ([], ())}
    for name, value in told.items():
        if isinstance(value, Mapping):
            told[name] = {key: part for key, part in value.items() if key != "sha256"}
    return words.setting(told)


def _beside(child: ModelManifest) -> Variant | None:
    """How a parent measured when its child was made."""
    return next((step.original for step in steps_of(child) if step.made_this), None)


def _source(manifest: ModelManifest) -> Box:
    origin = manifest.origin
    source = origin.get("source")
    known = (_joined(origin, "framework", "framework_version"), f"sha256 {words.clean(origin['sha256'], 12)}"
             if "sha256" in origin else "")  # fmt: skip
    title = words.clean(PurePosixPath(str(source)).name or source) if source else "source not recorded"
    return Box(title, tuple(line for line in known if line))


def _converter(manifest: ModelManifest) -> str:
    return _joined(manifest.origin, "converter", "converter_version")


def _joined(origin: Mapping[str, Any], *names: str) -> str:
    return " ".join(words.clean(origin[name]) for name in names if origin.get(name))


def _steps(chain: Sequence[ModelManifest]) -> tuple[StepView, ...]:
    """The version's own steps first, then those that made the versions before it, newest first."""
    *ancestors, manifest = chain
    found = [(step, manifest) for step in steps_of(manifest)]
    found += [(step, one) for one in reversed(ancestors) for step in steps_of(one) if step.made_this]
    return tuple(_step(step, one) for step, one in found)


def _step(step: Step, of: ModelManifest) -> StepView:
    stage = words.clean(step.stage)
    title = f"{stage}: how {of.version} was chosen" if step.made_this else f"{stage}: tried on {of.version}"
    outcome = words.clean(step.reason, 1000) if step.reason else "The stage's own words were not recorded."
    optional: tuple[tuple[str, Callable[[Variant], float | None], Callable[[float | None], str]], ...] = (
        ("Compressed", lambda variant: variant.compressed_bytes, words.size),
        ("Largest difference", lambda variant: variant.max_difference, words.difference),
        ("Same label", lambda variant: variant.label_agreement, words.percent),
    )
    more = [column for column in optional if any(column[1](variant) is not None for variant in step.variants)]
    spoken = any(variant.reason for variant in step.variants)
    rows = tuple(
        (
            words.variant_name(variant.name) + _fate(variant),
            words.size(variant.size_bytes),
            words.percent(variant.accuracy),
            words.times(variant.speedup),
            words.rate(variant.rows_per_second),
            *(shown(value(variant)) for _, value, shown in more),
            *([words.clean(variant.reason)] if spoken else []),
        )
        for variant in step.variants
    )
    labelled = f"accuracy on {step.labelled_rows or 'an unrecorded number of'} labelled rows, "
    if all(variant.accuracy is None for variant in step.variants):
        labelled = ""
    return StepView(
        title=title,
        outcome=outcome,
        table=Table(
            caption=f"Variants of the stage {stage}; {labelled}speed with one thread",
            columns=(
                "Variant",
                "Size",
                "Accuracy",
                "Speed",
                "Rows a second",
                *(name for name, *_ in more),
                *(["In words"] if spoken else []),
            ),
            rows=rows[:SHOWN_ROWS],
            strong=tuple(index for index, variant in enumerate(step.variants) if variant.goes_on),
            left_out=max(0, len(rows) - SHOWN_ROWS),
        ),
        variants=step.variants[:SHOWN_ROWS],
    )


def _fate(variant: Variant) -> str:
    if variant.goes_on:
        return " (goes on)"
    if variant.kept is None or variant.name == ORIGINAL:
        return ""
    return " (kept)" if variant.kept else " (not kept)"


def _speed(manifest: ModelManifest) -> Table | None:
    if not manifest.speed:
        return None
    decoded: dict[Any, str] = {True: "yes", False: "no"}
    rows = tuple(
        (
            words.clean(row.get("cpu", "not recorded")),
            words.clean(row.get("threads", "not recorded")),
            words.clean(row.get("batch", "not recorded")),
            words.clean(row.get("decoder", "not recorded")),
            decoded.get(row.get("decode_included", ""), "not recorded"),
            words.rate(number(row.get("images_per_second"))),
        )
        for row in manifest.speed
    )
    return Table(
        caption="Rows or pictures a second, as measured",
        columns=("CPU", "Threads", "Batch", "Decoder", "Decoding included", "Rows a second"),
        rows=rows[:SHOWN_ROWS],
        left_out=max(0, len(rows) - SHOWN_ROWS),
    )


def _parity(manifest: ModelManifest) -> Table | None:
    parities = parities_of(manifest)
    if not parities:
        return None
    rows = tuple(
        (
            words.clean(name.replace("_", " ")),
            words.difference(number(parity.get("max_difference"))),
            words.difference(number(parity.get("max_relative_difference"))),
            words.percent(number(parity.get("label_agreement"))),
            words.clean(f"skipped: {parity['skipped']}" if "skipped" in parity else ""),
        )
        for name, parity in parities.items()
    )
    count = manifest.checks["parity"].get("rows")
    return Table(
        caption=f"Agreement with the source on {words.clean(count) if count else 'an unrecorded number of'} rows",
        columns=("Beside", "Largest difference", "Largest relative difference", "Same label", "Note"),
        rows=rows[:SHOWN_ROWS],
        left_out=max(0, len(rows) - SHOWN_ROWS),
    )


def _tensors(caption: str, specs: Sequence[TensorSpec]) -> Table:
    rows = tuple(
        (words.clean(spec.name), words.clean(spec.type), " × ".join(words.clean(axis) for axis in spec.shape) or "one")
        for spec in specs
    )
    return Table(caption, ("Name", "Type", "Shape"), rows[:SHOWN_ROWS], left_out=max(0, len(rows) - SHOWN_ROWS))


def _golden(manifest: ModelManifest) -> str:
    if manifest.golden is None:
        return "There are none."
    return (
        f"{manifest.golden.file}; every load must give the same answers within {manifest.golden.tolerance:g} "
        "(absolute difference of any output value)."
    )


def _identity(manifest: ModelManifest) -> Table:
    origin = [
        (name, words.setting(manifest.origin[name]))
        for name in ("source", "sha256", "framework", "framework_version", "converter", "converter_version", "trusted")
        if name in manifest.origin
    ]
    rows = [
        ("name", words.clean(manifest.name)),
        ("version", manifest.version),
        ("digest", manifest.digest),
        *((f"sha256 of {words.clean(file)}", words.clean(sha)) for file, sha in manifest.all_files.items()),
        *(("source sha256" if name == "sha256" else name.replace("_", " "), value) for name, value in origin),
        ("parent", words.clean(manifest.origin.get("parent", "none"))),
        ("recipe", words.setting(dict(manifest.recipe)) or "not recorded"),
    ]
    return Table(
        "Names, digests and origin",
        ("What", "Value"),
        tuple(rows[:SHOWN_ROWS]),
        left_out=max(0, len(rows) - SHOWN_ROWS),
    )
