# SPDX-License-Identifier: Apache-2.0
"""What to do with a version, in words: rules over what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from airflow_onnx_provider.model.cards import words
from airflow_onnx_provider.model.cards.measured import (
    ORIGINAL,
    Step,
    Variant,
    own_measurement,
    parities_of,
    steps_of,
    worst_parity,
)
from airflow_onnx_provider.runtime.manifest import ModelManifest

Level = Literal["stop", "care", "good", "info"]
LEVELS: tuple[Level, ...] = ("stop", "care", "good", "info")

HEADLINES = {
    "stop": "Do not use this version",
    "care": "Usable, with reservations",
    "good": "Ready to use",
    "info": "Ready to use",
}

OWN_DOMAIN = "com.microsoft"
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", OWN_DOMAIN})
NEWEST_OPSET = 26
"""Of ONNX Runtime 1.31; seen in its error message for newer ones."""

WORTH_IT = 1.2
"""Speed-up from which the card recommends the kind of CPU that it was measured on."""


@dataclass(frozen=True)
class Remark:
    """One sentence or two of the verdict."""

    level: Level
    text: str


@dataclass(frozen=True)
class Verdict:
    """What to do, and why.

    :param level: of the gravest remark
    :param remarks: the gravest first
    """

    level: Level
    remarks: tuple[Remark, ...]

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        return HEADLINES[self.level]


def verdict_of(
    manifest: ModelManifest, lineage: Sequence[ModelManifest], aliases: Sequence[str] | None = None
) -> Verdict:
    """Judge a version by its manifest and those it was made from.

    :param lineage: the versions that it was made from, oldest first, with or without itself
    :param aliases: that point to it; None if nobody looked
    """
    ancestors = [one for one in lineage if one.version != manifest.version]
    remarks = [
        *_proof(manifest, ancestors),
        *_own_step(manifest),
        *_tried(manifest),
        *_unmeasured(manifest),
        *_runtime(manifest),
        *_aliases(aliases),
    ]
    remarks.sort(key=lambda remark: LEVELS.index(remark.level))
    return Verdict(remarks[0].level if remarks[0].level in ("stop", "care") else "good", tuple(remarks))


def _proof(manifest: ModelManifest, ancestors: Sequence[ModelManifest]) -> Iterator[Remark]:
    if manifest.golden is None:
        yield Remark(
            "stop",
            "Was never validated: it has no golden rows, so executors refuse it, and nothing shows that it answers as "
            "its source does. Run the validate task on it first.",
        )
    if parities_of(manifest):
        yield _parity(manifest, "Agrees with its source")
    elif proved := next((one for one in reversed(ancestors) if parities_of(one)), None):
        remark = _parity(proved, f"The version {proved.version}, from which it was made, agrees with the source")
        yield Remark("care" if remark.level == "care" else "info", remark.text)
    elif manifest.golden is not None:
        yield Remark("care", "Was never compared with its source; only its own golden answers are kept.")


def _parity(manifest: ModelManifest, subject: str) -> Remark:
    difference, agreement = worst_parity(manifest)
    parity = manifest.checks["parity"]
    rows = f" on {parity['rows']} rows" if isinstance(parity.get("rows"), int) else ""
    sizes = [name.removeprefix("batch_") for name in parities_of(manifest) if name.startswith("batch_")]
    at = f" at batch sizes {words.clean(', '.join(sizes))}" if sizes else ""
    facts = [f"largest difference {words.difference(difference)}" if difference is not None else ""]
    facts += [f"the same label for {words.percent(agreement)} of them" if agreement is not None else ""]
    said = ", ".join(fact for fact in facts if fact)
    level: Level = "care" if agreement is not None and agreement < 1 else "good"
    if level == "care" and any(step.made_this and _kept_accuracy(step) for step in steps_of(manifest)):
        level = "info"  # a rounded model names some rows otherwise; what counts is how many it names rightly
    return Remark(level, f"{subject}{rows}{at}: {said or 'the numbers are not recorded'}.")


def _own_step(manifest: ModelManifest) -> Iterator[Remark]:
    step = next((one for one in steps_of(manifest) if one.made_this), None)
    if step is None or step.original is None:
        return
    original, chosen = step.original, step.chosen
    if chosen is None:
        yield Remark("info", f"{step.stage}: which of the measured variants this is, is not recorded.")
        return
    slower = chosen.speedup is not None and chosen.speedup < 1 and step.stage != "prune"
    parent = manifest.origin.get("parent")
    yield Remark(
        "care" if slower else "good",
        f"{_subject(step, chosen)}: "
        f"{_gain(chosen, original, step, f'of {words.clean(parent)}' if parent else 'of the original')}.",
    )
    if chosen.name.split("-")[0] == "static" and chosen.speedup is not None and chosen.speedup >= WORTH_IT:
        cpus = sorted({words.clean(row["cpu"]) for row in manifest.speed if isinstance(row.get("cpu"), str)})
        measured = f", such as {' and '.join(cpus)}, where it was measured" if cpus else ""
        yield Remark(
            "info",
            "Use it on CPUs with 8-bit dot products (VNNI: Intel from Cascade Lake on, AMD from Zen 4 on)"
            f"{measured}. On older ones measure first: 8-bit sums can saturate there, and be no faster.",
        )
    if step.stage == "prune":
        yield Remark("info", "Pruning saves space where files are compressed; ONNX Runtime is no faster for it.")
    for other in step.variants:
        if other.name != ORIGINAL and not other.goes_on and other.kept is not True:
            yield Remark("info", _not_chosen(other, step, manifest))


def _gain(chosen: Variant, original: Variant, step: Step, beside: str) -> str:
    speed = f"{words.times(chosen.speedup)} the speed {beside}" if chosen.speedup is not None else "speed not measured"
    loss = _loss(chosen, original)
    rows = f"{step.labelled_rows} labelled rows" if step.labelled_rows else "labelled rows (how many is not recorded)"
    lost = f" {words.points(loss)} on {rows}" if loss is not None else ", accuracy not measured"
    saved = ""
    if chosen.size_bytes is not None and original.size_bytes:
        share = 1 - chosen.size_bytes / original.size_bytes
        saved = f", {abs(share):.0%} {'smaller' if share >= 0 else 'larger'}".replace("%", " %")
    return f"{speed}{lost}{saved}"


def _subject(step: Step, chosen: Variant) -> str:
    kept = [words.variant_name(one.name) for one in step.variants if one.kept and one.name != ORIGINAL]
    return f"Rewritten ({', '.join(kept)})" if kept else _capital(words.variant_name(chosen.name))


def _not_chosen(other: Variant, step: Step, manifest: ModelManifest) -> str:
    name = _capital(words.variant_name(other.name))
    if other.reason:
        return f"{name} was not kept: {words.clean(other.reason)}"
    original = step.original
    loss = _loss(other, original) if original else None
    limits = manifest.recipe.get("limits")
    allowed = limits.get("max_accuracy_drop") if isinstance(limits, dict) else None
    if loss is not None and isinstance(allowed, int | float) and loss > allowed:
        return f"{name} was rejected: it loses {loss * 100:.1f} points of accuracy ({allowed * 100:.1f} were allowed)."
    if other.speedup is None:
        return f"{name} was not chosen; its speed was not measured."
    if other.speedup < 1:
        return f"{name} was rejected: it has {words.times(other.speedup)} the speed."
    return f"{name} was not chosen: it has {words.times(other.speedup)} the speed."


def _tried(manifest: ModelManifest) -> Iterator[Remark]:
    for step in steps_of(manifest):
        if step.made_this:
            continue
        stage = words.clean(step.stage)
        if step.accepted:
            yield Remark("info", f"A better version was made from this one ({stage}). {words.clean(step.reason, 600)}")
        elif step.accepted is False:
            yield Remark(
                "info", f"{_capital(stage)} was tried and found nothing better. {words.clean(step.reason, 600)}"
            )
        else:
            yield Remark("info", f"{_capital(stage)} was tried; how it ended is not recorded.")


def _unmeasured(manifest: ModelManifest) -> Iterator[Remark]:
    own = own_measurement(manifest)
    if own is None or own.accuracy is None:
        yield Remark("info", "Its accuracy was not measured on labelled rows.")
    if not manifest.speed:
        yield Remark("info", "Its speed was not measured on any type of CPU; run the measure task where it will run.")


def _runtime(manifest: ModelManifest) -> Iterator[Remark]:
    foreign = sorted(words.clean(domain) for domain in manifest.domains if domain not in KNOWN_DOMAINS)
    if manifest.opset > NEWEST_OPSET:
        yield Remark("care", f"Opset {manifest.opset}: ONNX Runtime 1.31 takes {NEWEST_OPSET} at most.")
    elif foreign:
        yield Remark(
            "care",
            f"Opset {manifest.opset}, and operators of {', '.join(foreign)}, which only some runtimes have.",
        )
    elif OWN_DOMAIN in manifest.domains:
        yield Remark("info", f"Opset {manifest.opset}, and operators that ONNX Runtime has and other runtimes lack.")
    else:
        yield Remark("info", f"Opset {manifest.opset}, standard operators only.")
    fixed = [spec for spec in manifest.inputs if spec.shape and isinstance(spec.shape[0], int)]
    if fixed:
        yield Remark("care", f"Takes exactly {fixed[0].shape[0]} rows at a time (input {words.clean(fixed[0].name)}).")
    if manifest.origin.get("trusted") is True:
        yield Remark("care", "Its source is of a kind that may run code when it is opened, and was trusted by hand.")


def _aliases(aliases: Sequence[str] | None) -> Iterator[Remark]:
    if aliases:
        named = " and ".join(words.clean(alias) for alias in sorted(aliases))
        yield Remark("info", f"In use as {named}.")
    elif aliases is not None:
        yield Remark("info", "No alias points to it.")


def _loss(variant: Variant, original: Variant) -> float | None:
    if variant.accuracy is None or original.accuracy is None:
        return None
    return original.accuracy - variant.accuracy


def _kept_accuracy(step: Step) -> bool:
    chosen, original = step.chosen, step.original
    return chosen is not None and original is not None and _loss(chosen, original) is not None


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
