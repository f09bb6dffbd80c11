# SPDX-License-Identifier: Apache-2.0
"""Rewrite a model step by step; keep each step only if the answers stay, and write down what it gained."""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import ValidationError
from airflow_onnx_provider.model.derive import derive
from airflow_onnx_provider.model.evidence.parity import ParityLimits, Tensors, require_parity
from airflow_onnx_provider.model.evidence.samples import digest_of_path, load_samples
from airflow_onnx_provider.model.evidence.trial import speed_batch
from airflow_onnx_provider.model.graph import ALLOWED_DOMAINS, require_sound
from airflow_onnx_provider.model.quantization.speed import executors_batch, speed_beside
from airflow_onnx_provider.model.rewriting.forms import Form, Proof, answers_in_batches, fixed_batch
from airflow_onnx_provider.model.rewriting.offline import TIED
from airflow_onnx_provider.model.rewriting.preprocessing import layout_of, normalised
from airflow_onnx_provider.model.rewriting.steps import (
    PIXELS,
    FoldPreprocessing,
    Graph,
    Simplify,
    Step,
    StepRequest,
    read_steps,
    step_to_dict,
)
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.version import GOLDEN_ROWS, derived, keep_golden
from airflow_onnx_provider.runtime.cpu import cpu_type
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME, ModelManifest, TensorSpec, size_of, write_json
from airflow_onnx_provider.runtime.session import LoadedModel, open_session

log = logging.getLogger(__name__)

GOLDEN_TOLERANCE = 1e-4
"""For fp32 graphs: CPUs and thread counts change sums in the last digits only."""

LAYOUT_DOMAIN = "com.microsoft.nchwc"
"""Operators that the level ``all`` writes for CPUs with wide vectors."""

LOADS = 3

NO_SLOWER = 0.95
"""A step that shall only gain must show at least this share of the original's speed."""

FASTER = 1.05
"""Less than this is no gain that a person would notice."""

MEASUREMENTS = 3
"""On a busy machine a single one may be 20 % off in either direction."""


def optimize(
    address: str,
    *,
    inputs: Path,
    steps: Sequence[StepRequest],
    limits: ParityLimits,
    store: ModelStore,
    stage: Stage,
) -> dict[str, Any]:
    """Rewrite the version at ``address`` and return the version that shall go on.

    A step that breaks a limit, or that this model does not allow, is left out with its reason; the form before it goes
    on to the next step.

    :param inputs: real inputs, as ``load_samples`` reads them; for the step
        ``preprocessing``, pictures
    :param steps: in order, see :data:`~airflow_onnx_provider.model.rewriting.steps.STEPS`
    :param limits: how far answers may be from the original's
    :return: ``model``, ``name``, ``version``, ``digest`` of the version that goes on, ``accepted`` (any step was),
        ``variant`` (the accepted steps), ``reason``, ``measurements`` (the original and each step: ``variant``,
        ``accepted``, ``reason``, ``size_bytes``, ``nodes``, ``load_seconds``, ``load_speedup``, ``speedup``,
        ``images_per_second``, ``max_difference``, ``label_agreement``), ``size_bytes``, ``from_store``
    :raises BadInputError: if the model or the inputs are missing, or a step is asked for what cannot be
    """
    wanted = [step_to_dict(step) for step in read_steps(steps)]
    cpu = cpu_type()
    shared = {"steps": wanted, "limits": asdict(limits), "cpu": cpu}
    return derive(
        address,
        "optimize",
        decides={**shared, "inputs": digest_of_path(inputs)},
        settings={**shared, "inputs": str(inputs)},
        store=store,
        stage=stage,
    )


def optimize_in_child(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Take step after step, each compared and measured beside the original."""
    folder, work = Path(spec["folder"]), Path(spec["work"])
    parent, steps = ModelManifest.read(folder), read_steps(spec["steps"])
    limits = ParityLimits(**spec["limits"])
    form = Form(folder, parent)
    proof = _first_proof(form, steps, Path(spec["inputs"]), limits.inputs)
    bench = Bench(form, proof)
    kept = bench.measure(form, proof)
    measurements, accepted = [kept], []
    for number, step in enumerate(steps):
        target = work / f"step-{number}"
        target.mkdir()
        request = step_to_dict(step)
        try:
            made, next_proof, numbers = _take(step, form, proof, target, limits)
            if isinstance(step, Simplify | Graph):
                gain = bench.measure_gain(made, next_proof, before=kept)
            else:
                gain = bench.measure(made, next_proof)
        except ValidationError as error:
            measurement = {"variant": step.name, "accepted": False, "reason": str(error), "step": request}
        else:
            reason = _gain(measurements[0], gain) + (f"; {next_proof.note}" if next_proof.note else "")
            measurement = {**gain, "variant": step.name, "accepted": True, "reason": reason, **numbers, "step": request}
            form, proof, kept = made, replace(next_proof, note=""), measurement
            accepted.append(step)
        log.info("%s: %s", json.dumps(request), measurement["reason"])
        measurements.append(measurement)
    variant = "+".join(step.name for step in accepted) or "original"
    reason = _reason(measurements)
    if accepted:
        form = replace(form, folder=form.folder.rename(work / variant))
        reason += _finish(form, proof, parent, spec, measurements)
    return {
        "accepted": bool(accepted),
        "variant": variant,
        "reason": reason,
        "measurements": measurements,
        "size_bytes": next(row for row in reversed(measurements) if row["accepted"])["size_bytes"],
    }


@dataclass(frozen=True)
class Bench:
    """Measures forms beside the original, on one thread of this CPU.

    :param original: with the rows that it takes in ``rows``
    """

    original: Form
    rows: Proof

    def measure(self, form: Form, proof: Proof) -> dict[str, Any]:
        """Bytes, nodes, seconds to load, speed beside the original (each in batches of its own)."""
        import onnx

        theirs = _Fed.of(form, proof)
        ours = _Fed.of(self.original, self.rows, theirs.batch)
        speedup, rate = speed_beside(ours, theirs, theirs.fed)
        return {
            "variant": "original",
            "accepted": True,
            "size_bytes": size_of(form.folder, form.manifest),
            "nodes": len(onnx.load(str(form.path), load_external_data=False).graph.node),
            **_loading(self.original.path, form.path),
            "speedup": 1.0 if form is self.original else round(speedup * theirs.batch / ours.batch, 3),
            "images_per_second": round(rate, 1),
            "batch": theirs.batch,
        }

    def measure_gain(self, form: Form, proof: Proof, before: Mapping[str, Any]) -> dict[str, Any]:
        """The best of a few measurements of a step that changes nothing but the graph's form.

        :param before: the measurement of the form that the step began with
        :raises ValidationError: if each of them shows it to be slower, or it has gained nothing at all
        """
        gain = self.measure(form, proof)
        for _ in range(MEASUREMENTS - 1):
            if gain["speedup"] < NO_SLOWER:
                gain = max(gain, self.measure(form, proof), key=lambda one: float(one["speedup"]))
        if gain["speedup"] < NO_SLOWER:
            raise ValidationError(
                f"makes it slower: {gain['speedup']:.2f} times the original's speed in the best of {MEASUREMENTS} "
                "measurements"
            )
        as_large = all(gain[name] >= before[name] for name in ("nodes", "size_bytes"))
        if as_large and gain["speedup"] < before["speedup"] * FASTER:
            raise ValidationError(
                f"gains nothing: {gain['nodes']} nodes, {gain['speedup']:.2f} times the original's speed"
            )
        return gain


@dataclass(frozen=True)
class _Fed(LoadedModel):
    """A model that scores rows of its own, whatever it is given: a form may take other inputs than the original."""

    fed: Tensors = field(default_factory=dict)

    @classmethod
    def of(cls, form: Form, proof: Proof, rows: int | None = None) -> _Fed:
        """:param rows: of its batch, unless that is fixed; default: as many as the executors take"""
        inputs = {spec.name: proof.inputs[spec.name] for spec in form.manifest.inputs}
        rows = fixed_batch(form.manifest) or rows
        batch = speed_batch(inputs, rows) if rows else executors_batch(form.manifest, inputs)
        return cls(form.manifest, form.open().session, fed=batch)

    @property
    def batch(self) -> int:
        return len(next(iter(self.fed.values())))

    def answer(self, feeds: Tensors, outputs: Sequence[str]) -> list[NDArray[Any]]:  # noqa: ARG002
        return super().answer(self.fed, outputs)


def _first_proof(form: Form, steps: Sequence[Step], inputs: Path, rows: int) -> Proof:
    """The original's answers to real rows; to a model that shall take pictures, the floats made of pictures."""
    manifest = form.manifest
    folding = next((step for step in steps if isinstance(step, FoldPreprocessing)), None)
    if folding is None:
        samples = load_samples(inputs, rows, manifest, "optimise inputs")
        return Proof(samples.inputs, answers_in_batches(form, samples.inputs), samples.pictures)
    preprocessing = folding.pictures(manifest)
    takes = manifest.inputs[0]
    pictures = replace(manifest, preprocessing=preprocessing, inputs=(TensorSpec(PIXELS, "uint8", ()),))
    samples = load_samples(inputs, rows, pictures, "optimise inputs")
    floats = normalised(samples.inputs[PIXELS], preprocessing, layout_of(takes, folding.layout), takes.type)
    given = {takes.name: floats, **samples.inputs}
    return Proof(given, answers_in_batches(form, given), samples.pictures)


def _take(
    step: Step, form: Form, proof: Proof, folder: Path, limits: ParityLimits
) -> tuple[Form, Proof, dict[str, float]]:
    made = step.rewrite(form, folder)
    if made.manifest.files == form.manifest.files:
        raise ValidationError("changes nothing")
    tied = isinstance(step, Graph) and step.level in TIED
    require_sound(made.path, (*ALLOWED_DOMAINS, LAYOUT_DOMAIN) if tied else ALLOWED_DOMAINS)
    next_proof = step.proof(proof, form, made, limits)
    sizes = {fixed_batch(made.manifest)} if fixed_batch(made.manifest) else {1, 2, next_proof.rows}
    worst: dict[str, float] = {}
    for size in sorted(filter(None, sizes)):
        answers = answers_in_batches(made, next_proof.inputs, size)
        found = require_parity(answers, next_proof.answers, limits, f"at batch size {size}")
        worst = {
            "max_difference": max(found.max_difference, worst.get("max_difference", 0.0)),
            "label_agreement": min(found.label_agreement, worst.get("label_agreement", 1.0)),
        }
    return made, next_proof, worst


def _finish(
    form: Form,
    proof: Proof,
    parent: ModelManifest,
    spec: Mapping[str, Any],
    measurements: Sequence[Mapping[str, Any]],
) -> str:
    """Make the last form a whole version. Returns what else there is to say about it."""
    taken = [row for row in measurements[1:] if row["accepted"]]
    tied = any(row["step"].get("graph", {}).get("level") in TIED for row in taken)
    recipe = {
        "stage": "optimize",
        "variant": taken[-1]["variant"],
        "steps": [
            {"step": row["step"], "accepted": row["accepted"], "reason": row["reason"]} for row in measurements[1:]
        ],
        **({"tied_to": spec["cpu"]} if tied else {}),
    }
    speed = {
        "cpu": spec["cpu"],
        "threads": 1,
        "batch": taken[-1]["batch"],
        "images_per_second": taken[-1]["images_per_second"],
        "decode_included": False,
    }
    manifest = derived(form.folder, parent, recipe=recipe, speed=[speed])
    manifest = replace(manifest, preprocessing=form.manifest.preprocessing)
    batch = fixed_batch(manifest)
    if batch not in {None, 1}:
        write_json(form.folder / MANIFEST_NAME, manifest.to_dict())
        return (
            f". It takes {batch} rows at a time and no other number, so it has no golden rows, which are scored one at "
            "a time: the executors here cannot run it"
        )
    rows = {spec.name: proof.inputs[spec.name][:GOLDEN_ROWS] for spec in manifest.inputs}
    tolerance = max(GOLDEN_TOLERANCE, parent.golden.tolerance if parent.golden else 0.0)
    pictures = proof.pictures[:GOLDEN_ROWS] if manifest.preprocessing else ()
    keep_golden(form.folder, manifest, rows, tolerance, pictures)
    return ""


def _loading(original: Path, form: Path) -> dict[str, float]:
    """Seconds to load, and the original's over them, in turn: a drifting machine slows both."""
    pairs = [(_load_seconds(original), _load_seconds(form)) for _ in range(LOADS)]
    ratio = 1.0 if form == original else statistics.median(ours / theirs for ours, theirs in pairs)
    return {
        "load_seconds": round(statistics.median(theirs for _, theirs in pairs), 4),
        "load_speedup": round(ratio, 2),
    }


def _load_seconds(path: Path) -> float:
    before = time.perf_counter()
    open_session(path)
    return time.perf_counter() - before


def _gain(original: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return (
        f"{now['speedup']:.2f} times the original's speed, loads {now['load_speedup']:.2f} times as fast, "
        f"{original['nodes']} → {now['nodes']} nodes, "
        f"{original['size_bytes'] / 1e6:.2f} → {now['size_bytes'] / 1e6:.2f} MB"
    )


def _reason(measurements: Sequence[Mapping[str, Any]]) -> str:
    steps = measurements[1:]
    words = [f"{row['variant']}: {'' if row['accepted'] else 'left out, '}{row['reason']}" for row in steps]
    goes_on = "the rewritten model goes on" if any(row["accepted"] for row in steps) else "the original goes on"
    return f"{goes_on}. {'; '.join(words)}"
