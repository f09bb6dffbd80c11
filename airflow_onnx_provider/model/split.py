# SPDX-License-Identifier: Apache-2.0
"""Cut a model into stages that each fit into less memory, and prove that the chain gives the whole model's answers.

Each stage is a model version of its own, ``<name>.stage-<number>-of-<count>``, so that it can be quantised, validated,
aliased, shipped and proved by its golden rows like any other model. Its inputs and outputs have the names that these
tensors have in the whole model: to run the chain, keep all tensors by name, give each stage the inputs that it names,
add its outputs. The first stage has the whole model's preprocessing, the one that gives the answer its labels. Each
stage's ``recipe["whole"]`` names the model it was cut from, whose manifest lists its stages under ``checks["split"]``.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.evidence.parity import Parity, ParityLimits, Tensors, require_parity
from airflow_onnx_provider.model.evidence.samples import Samples, digest_of_path, load_samples
from airflow_onnx_provider.model.evidence.trial import answers_of
from airflow_onnx_provider.model.quantization.facts import read_facts
from airflow_onnx_provider.model.splitting.cost import GraphCost, cost_of
from airflow_onnx_provider.model.splitting.extract import write_stages
from airflow_onnx_provider.model.splitting.plan import MIB, PlannedStage, plan
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.address import check_name
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.version import keep_golden, manifest_of
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.session import LoadedModel, open_session

log = logging.getLogger(__name__)

GOLDEN_ROWS = 8
GOLDEN_BYTES = 8 << 20
"""Tensors inside of a network are large: fewer golden rows are kept where they would take more than this."""

GOLDEN_TOLERANCE = 1e-4
"""Relative to the largest answer: inside of a network, numbers are no probabilities."""


@dataclass(frozen=True)
class SplitLimits:
    """What the stages must keep to.

    :param stages: how many; default: as few as the budget allows
    :param budget_mib: most memory of one stage in MiB: its weights and the peak of its activations at ``batch`` rows.
        What ONNX Runtime needs for itself comes on top: it packs the weights of convolutions anew. Measured with
        1.31: a ResNet50 of 107 MiB takes 256 MB, its stages of 13 to 39 MiB take 23 to 114 MB
    :param batch: rows of one run of the chain
    :param rows: real rows that the chain and the whole model are compared on
    :param max_difference: largest absolute difference of an answer
    """

    stages: int | None = None
    budget_mib: float | None = None
    batch: int = 1
    rows: int = 32
    max_difference: float = 1e-5

    def __post_init__(self) -> None:
        if self.stages is None and self.budget_mib is None:
            raise BadInputError("split: give stages (how many), budget_mib (memory of one), or both")
        if self.stages is not None and self.stages < 2:
            raise BadInputError(f"split: stages must be 2 or more, got {self.stages}")
        if self.batch < 1 or self.rows < 1 or (self.budget_mib is not None and not self.budget_mib > 0):
            raise BadInputError(
                f"split: batch, rows and budget_mib must be positive, got {self.batch}, {self.rows}, {self.budget_mib}"
            )


def split(address: str, *, inputs: Path, limits: SplitLimits, store: ModelStore, stage: Stage) -> dict[str, Any]:
    """Cut the version at ``address`` into stages; an earlier result is answered from the store.

    :param inputs: real inputs, as ``load_samples`` reads them. They also say
        how long axes other than the batch are taken to be
    :return: ``model``, ``name``, ``version``, ``digest`` of the whole; ``accepted`` (false if the whole keeps the
        budget), ``reason``, ``stages`` (in order: ``model``, ``name``, ``version``, ``digest`` and the cost table's
        row: ``nodes``, ``weights_mib``, ``activations_mib``, ``memory_mib``, ``macs_per_row``,
        ``transferred_bytes_per_row``, ``takes``, ``gives``, ``file_bytes``), ``parity``, ``from_store``
    :raises BadInputError: if the model or the inputs are missing, the model is quantised, or no plan keeps the limits
    :raises ValidationError: if the chain gives other answers than the whole
    """
    address = store.resolve(address)
    manifest = store.manifest(address)
    recipe = {"stage": "split", "model": manifest.digest, "inputs": digest_of_path(inputs), "limits": asdict(limits)}
    if remembered := _recalled(store, manifest.name, recipe):
        return remembered
    with tempfile.TemporaryDirectory(prefix="onnx-split-") as temporary, store.local(address) as folder:
        settings = {"folder": str(folder), "work": temporary, "inputs": str(inputs), "limits": asdict(limits)}
        verdict = stage.run("split", settings)
        stages = []
        for row in verdict["stages"]:
            made = ModelManifest.read(Path(temporary) / row["folder"])
            named = {"name": made.name, "version": made.version, "digest": made.digest}
            costs = {key: value for key, value in row.items() if key != "folder"}
            stages.append({"model": store.add(Path(temporary) / row["folder"], made), **named, **costs})
    result = {
        "model": address,
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        **verdict,
        "stages": stages,
    }
    kept = {key: result[key] for key in ("accepted", "reason", "parity")}
    listed = [{key: value for key, value in row.items() if key != "model"} for row in stages]
    store.record(address, lambda whole: replace(whole, checks={**whole.checks, "split": {**kept, "stages": listed}}))
    store.remember(manifest.name, recipe, result)
    return {**result, "from_store": False}


def split_in_child(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Plan, cut, run the chain beside the whole, and make each stage a whole version."""
    folder, work = Path(spec["folder"]), Path(spec["work"])
    limits = SplitLimits(**spec["limits"])
    whole = ModelManifest.read(folder)
    _require_not_quantized(folder / MODEL_NAME, whole)
    samples = load_samples(Path(spec["inputs"]), limits.rows, whole, "split inputs")
    cost = cost_of(folder / MODEL_NAME, limits.batch, _sizes(whole, samples))
    budget = None if limits.budget_mib is None else math.floor(limits.budget_mib * MIB)
    planned = plan(cost, stages=limits.stages, budget_bytes=budget)
    if len(planned) == 1:
        reason = f"the whole model takes {planned[0].memory_bytes / MIB:.1f} MiB and keeps the budget; nothing is split"
        return {"accepted": False, "reason": reason, "stages": [], "parity": None}
    names = [f"{whole.name}.stage-{number}-of-{len(planned)}" for number in range(1, len(planned) + 1)]
    folders = [work / check_name(name) for name in names]
    for target in folders:
        target.mkdir()
    write_stages(folder / MODEL_NAME, planned, [target / MODEL_NAME for target in folders])

    expected = answers_of(LoadedModel(whole, open_session(folder / MODEL_NAME)), samples.inputs, limits.batch)
    rows, tensors = [], dict(samples.inputs)
    for target, stage in zip(folders, planned, strict=True):
        row = {**stage.row(limits.batch), "file_bytes": sum(file.stat().st_size for file in target.iterdir())}
        manifest = _manifest(target, whole, stage, row, limits)
        taken = {name: tensors[name] for name in stage.takes}
        tensors |= answers_of(LoadedModel(manifest, open_session(target / MODEL_NAME)), taken, limits.batch)
        _keep_golden(target, manifest, taken, tensors, samples)
        tensors = {name: values for name, values in tensors.items() if cost.last_uses.get(name, 0) >= stage.stop}
        rows.append({"folder": target.name, **row})
        log.info("%s: %s", target.name, row)
    parity = require_parity(
        tensors, expected, ParityLimits(max_difference=limits.max_difference), f"the chain of {whole.name}'s stages"
    )
    return {
        "accepted": True,
        "reason": _reason(cost, planned, parity),
        "stages": rows,
        "parity": {"rows": samples.rows, **parity.to_dict()},
    }


def answers_of_chain(stages: Sequence[LoadedModel], inputs: Tensors, size: int) -> dict[str, NDArray[Any]]:
    """What a chain of stages answers, ``size`` rows at a time: every tensor that a stage gives, by name.

    The inputs are among them: one may be an output of the whole as well.

    :param stages: in order
    :param inputs: the whole model's inputs, ``[rows, …]`` each
    """
    tensors = dict(inputs)
    for stage in stages:
        taken = {spec.name: tensors[spec.name] for spec in stage.manifest.inputs}
        tensors |= answers_of(stage, taken, size)
    return tensors


def _recalled(store: ModelStore, name: str, recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    result = store.recall(name, recipe)
    if result is None:
        return None
    root = result["model"].rsplit("/", 2)[0]  # the store may have moved since
    stages = [{**row, "model": f"{root}/{row['name']}/{row['version']}"} for row in result["stages"]]
    try:
        for row in stages:
            store.manifest(row["model"])
    except BadInputError:
        return None  # a stage was removed meanwhile
    return {**result, "stages": stages, "from_store": True}


def _require_not_quantized(path: Path, manifest: ModelManifest) -> None:
    if found := read_facts(path).quantized:
        raise BadInputError(
            f"{manifest.name} {manifest.version} is quantised (it has {', '.join(found)}), and then there is hardly a "
            "place where one tensor crosses: split the original, then quantise each stage"
        )


def _sizes(manifest: ModelManifest, samples: Samples) -> dict[str, int]:
    """How long the rows are along the axes that have no fixed size."""
    sizes = {}
    for spec in manifest.inputs:
        for place, (axis, size) in enumerate(zip(spec.shape, samples.inputs[spec.name].shape, strict=True)):
            sizes[f"{spec.name}[{place}]"] = size
            if isinstance(axis, str):
                sizes[axis] = size
    return sizes


def _manifest(
    folder: Path, whole: ModelManifest, stage: PlannedStage, row: Mapping[str, Any], limits: SplitLimits
) -> ModelManifest:
    first = {spec.name for spec in whole.inputs} <= set(stage.takes)
    last = whole.outputs[0].name in stage.gives
    number, _, count = folder.name.rpartition(".stage-")[2].split("-")
    return manifest_of(
        folder,
        name=folder.name,
        preprocessing=whole.preprocessing if first else None,
        labels=whole.labels if last else (),
        origin={**whole.origin, "parent": whole.version},
        recipe={
            "stage": "split",
            "whole": {"name": whole.name, "version": whole.version, "digest": whole.digest},
            "number": int(number),
            "of": int(count),
            "budget_mib": limits.budget_mib,
            "batch": limits.batch,
            "cost": dict(row),
        },
    )


def _keep_golden(folder: Path, manifest: ModelManifest, taken: Tensors, answers: Tensors, samples: Samples) -> None:
    given = [answers[spec.name] for spec in manifest.outputs]
    row_bytes = sum(values[:1].nbytes for values in [*taken.values(), *given])
    rows = max(1, min(GOLDEN_ROWS, samples.rows, GOLDEN_BYTES // max(1, row_bytes)))
    largest = max((float(np.max(np.abs(values))) for values in given if values.dtype.kind == "f"), default=0.0)
    inputs = {name: values[:rows] for name, values in taken.items()}
    pictures = samples.pictures[:rows] if manifest.preprocessing else ()
    keep_golden(folder, manifest, inputs, GOLDEN_TOLERANCE * max(1.0, largest), pictures)


def _reason(cost: GraphCost, planned: Sequence[PlannedStage], parity: Parity) -> str:
    whole = (cost.weight_bytes + cost.peak_activation_bytes) / MIB
    largest = max(stage.memory_bytes for stage in planned) / MIB
    return (
        f"{len(planned)} stages: the largest takes {largest:.1f} MiB of the whole's {whole:.1f} at a batch of "
        f"{cost.batch}, the dearest does {max(stage.flops for stage in planned) / cost.flops:.0%} of the operations; "
        f"answers differ by up to {parity.max_difference:.3g}"
    )
