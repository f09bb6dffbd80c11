# SPDX-License-Identifier: Apache-2.0
"""Quantise a model, and keep the result only if it is accurate enough and faster on the CPU type that will run it."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.derive import derive
from airflow_onnx_provider.model.evidence.parity import Tensors
from airflow_onnx_provider.model.evidence.samples import (
    LabelledSet,
    Samples,
    digest_of_path,
    load_labelled,
    load_samples,
)
from airflow_onnx_provider.model.quantization.facts import read_facts, require_not_quantized
from airflow_onnx_provider.model.quantization.limits import QuantizeLimits
from airflow_onnx_provider.model.quantization.search import Found, Search
from airflow_onnx_provider.model.quantization.variants import Variant, Workshop
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.version import GOLDEN_ROWS, derived, keep_golden
from airflow_onnx_provider.runtime.cpu import cpu_type
from airflow_onnx_provider.runtime.golden import GoldenRows
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.session import import_onnxruntime

log = logging.getLogger(__name__)

GOLDEN_TOLERANCE = 0.02
"""For 8-bit and 4-bit graphs: a value near a rounding step may fall to the other side on another instruction set."""

HALF_TOLERANCE = 5e-3
"""For float16 graphs: about five times what one rounding of a number near 1 changes."""

READ_WHOLE = 1 << 28
"""Bytes of calibration data up to which their content decides whether they are the same; see :func:`_key_of`."""


def quantize(
    address: str,
    *,
    calibration: Path | None,
    labelled: Path | None,
    limits: QuantizeLimits,
    store: ModelStore,
    stage: Stage,
    cpu: str | None = None,
) -> dict[str, Any]:
    """Try the variants that ``limits.mode`` names and return the version that shall go on.

    :param calibration: real inputs without labels, as ``load_samples`` reads
        them; ``static`` and ``auto`` need them
    :param labelled: real inputs with labels, as ``load_labelled`` reads them
    :param cpu: type of the CPU that will run the model, as :func:`~airflow_onnx_provider.runtime.cpu.cpu_type` tells
        it; None: this machine's
    :return: ``model``, ``name``, ``version``, ``digest`` of the version that goes on, ``accepted``, ``variant``,
        ``reason``, ``measurements``, ``size_bytes``, ``from_store``
    :raises BadInputError: if the model, the calibration or the labelled set is missing, empty or unusable, the model
        is quantised already, or this machine's CPU is not ``cpu``
    """
    if limits.mode == "none":
        return _switched_off(address, store)
    here = cpu_type()
    if cpu and cpu != here:
        raise BadInputError(
            f"quantize: the model will run on {cpu!r}, but this task runs on {here!r}, whose speed says little about "
            "the other. Run the task on a machine of that type (queue=, or pool= with workers there)."
        )
    if labelled is None or (calibration is None and limits.mode in ("static", "auto")):
        raise BadInputError(
            f"quantize: mode {limits.mode} needs calibration (real inputs for the value ranges) and labelled (real "
            "inputs with labels)"
        )
    decides = {
        "calibration": _key_of(calibration) if calibration else None,
        "labelled": digest_of_path(labelled),
        "limits": asdict(limits),
        "cpu": here,
    }
    settings = {
        "calibration": str(calibration) if calibration else None,
        "labelled": str(labelled),
        "limits": asdict(limits),
        "cpu": here,
    }
    return derive(address, "quantize", decides=decides, settings=settings, store=store, stage=stage)


def quantize_in_child(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Make the variants, measure them beside the original, choose."""
    folder, work = Path(spec["folder"]), Path(spec["work"])
    limits = QuantizeLimits(**spec["limits"])
    manifest = ModelManifest.read(folder)
    facts = read_facts(folder / MODEL_NAME)
    require_not_quantized(facts, f"model {manifest.name} {manifest.version}")
    if facts.half and limits.mode == "float16":
        raise BadInputError(f"model {manifest.name} {manifest.version} has float16 weights already; give the original")
    if not manifest.labels and isinstance(manifest.preprocessing, ImagePreprocessing):
        raise BadInputError(f"quantize: model {manifest.name} needs labels; give them when converting")
    samples = None
    if spec["calibration"]:
        samples = load_samples(Path(spec["calibration"]), limits.calibration_rows, manifest, "calibration")
    labelled = load_labelled(Path(spec["labelled"]), manifest)
    log.info("calibration: %d rows, labelled: %d rows", samples.rows if samples else 0, labelled.rows)
    found = Search(folder, work, facts=facts, limits=limits, samples=samples, labelled=labelled).run()
    log.info("%s", found.reason)
    if found.chosen is not None:
        golden = samples.head(GOLDEN_ROWS) if samples else golden_inputs(folder, manifest, labelled)
        _finish(work, found.chosen, found=found, spec=spec, parent=manifest, samples=samples, golden=golden)
    return {
        "accepted": found.chosen is not None,
        "variant": found.measurement.variant,
        "reason": found.reason,
        "measurements": [measurement.to_dict() for measurement in found.measurements],
        "size_bytes": found.measurement.size_bytes,
        "labelled_rows": labelled.rows,
    }


def golden_inputs(folder: Path, manifest: ModelManifest, labelled: LabelledSet) -> Samples:
    """The inputs of a version's golden rows, or some labelled ones if it has none."""
    if manifest.golden is None:
        return Samples(labelled.inputs).head(GOLDEN_ROWS)
    golden = GoldenRows.load(folder / manifest.golden.file, manifest)
    return Samples(golden.inputs, golden.pictures)


def write_variant(variant: Variant, source: Path, target: Path, calibration: Tensors | None = None) -> None:
    """Write one quantised variant of an ONNX file, whatever it is worth.

    :param calibration: inputs ``[rows, …]`` by name; static variants take their value ranges from them
    :raises ConversionError: if the graph has no such variant
    """
    import_onnxruntime()
    with tempfile.TemporaryDirectory(prefix="onnx-variant-") as work:
        Workshop(source, Path(work), calibration).write(variant, target)


def _switched_off(address: str, store: ModelStore) -> dict[str, Any]:
    manifest = store.manifest(address)
    return {
        "model": address,
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "accepted": False,
        "variant": "original",
        "reason": "quantisation is switched off (mode none)",
        "measurements": [],
        "from_store": False,
    }


def _key_of(path: Path) -> str:
    """What tells one set of calibration data from another.

    A few rows are drawn from what may be a catalogue of terabytes, which nobody wants to read for that: above
    :data:`READ_WHOLE` bytes the names, sizes and times of the files stand for their content.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        facts = [(file.relative_to(path).as_posix(), file.stat()) for file in files]
        if sum(stat.st_size for _, stat in facts) > READ_WHOLE:
            lines = (f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n" for name, stat in facts)
            return hashlib.sha256("".join(lines).encode()).hexdigest()
    return digest_of_path(path)


def _digest_of(samples: Samples) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(samples.inputs.items()):
        digest.update(f"{name}\0{values.dtype}\0{values.shape}\0".encode())
        digest.update(str(values.tolist()).encode() if values.dtype == object else values.tobytes())
    return digest.hexdigest()


def _finish(
    work: Path,
    variant: Variant,
    *,
    found: Found,
    spec: Mapping[str, Any],
    parent: ModelManifest,
    samples: Samples | None,
    golden: Samples,
) -> None:
    """Make the variant's folder a whole model version: golden rows and a manifest."""
    folder = work / variant.name
    recipe: dict[str, Any] = {
        "stage": "quantize",
        "variant": variant.name,
        "kind": variant.kind,
        "limits": spec["limits"],
        "cpu": spec["cpu"],
    }
    if variant.kind == "static" and samples:
        rows = {"method": variant.calibration, "rows": samples.rows, "sha256": _digest_of(samples)}
        recipe |= {"calibration": rows, "kept_in_float": list(variant.kept)}
    if variant.kind == "int4":
        recipe["block_size"] = variant.block_size
    speed = {
        "cpu": spec["cpu"],
        "threads": 1,
        "batch": found.batch,
        "images_per_second": found.measurement.images_per_second,
        "decode_included": False,
    }
    manifest = derived(folder, parent, recipe=recipe, speed=[speed])
    tolerance = HALF_TOLERANCE if variant.kind == "float16" else GOLDEN_TOLERANCE
    keep_golden(folder, manifest, golden.inputs, tolerance, golden.pictures)
