"""Quantise a model, and keep the result only if it is accurate enough and faster on this CPU."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.graph import describe
from airflow_onnx_provider.model.samples import LabelledSet, Samples, digest_of_path, load_labelled, load_samples
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store import ModelStore
from airflow_onnx_provider.model.validate import GOLDEN_ROWS, run_in_batches
from airflow_onnx_provider.model.version import keep_golden
from airflow_onnx_provider.runtime.cpu import cpu_type
from airflow_onnx_provider.runtime.manifest import (
    MODEL_NAME,
    ModelManifest,
    sha256_of_file,
)
from airflow_onnx_provider.runtime.session import LoadedModel, import_onnxruntime, open_session

log = logging.getLogger(__name__)

Mode = Literal["static", "dynamic", "auto", "none"]

SPEED_BATCH = 8
SPEED_ROUNDS = 30
SCORING_BATCH = 32
GOLDEN_TOLERANCE = 0.02
"""For int8 graphs: a value near a rounding step may fall to the other side on another instruction set."""

QUANTIZED_OPERATORS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv"})


@dataclass(frozen=True)
class QuantizeLimits:
    """When a quantised variant is accepted.

    :param mode: ``static`` (calibrated, suits convolutions), ``dynamic`` (suits matrix products), ``auto`` (the faster
        acceptable one of both), ``none`` (the original goes on)
    :param max_accuracy_drop: accepted loss of accuracy on the labelled set, as a fraction (0.01: one point)
    :param min_speedup: least speed relative to the original, measured here in one process with one thread
    :param calibration_rows: pictures that the value ranges are taken from
    """

    mode: Mode = "auto"
    max_accuracy_drop: float = 0.01
    min_speedup: float = 1.0
    calibration_rows: int = 128

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise BadInputError(f"quantize: mode must be one of {', '.join(get_args(Mode))}, got {self.mode!r}")


@dataclass(frozen=True)
class Measurement:
    """What one variant showed on the labelled set and on this CPU.

    :param variant: ``original``, ``static`` or ``dynamic``
    :param accuracy: share of labelled rows with the right label
    :param speedup: original's time over this variant's, median of paired rounds
    :param size_bytes: of ``model.onnx``
    """

    variant: str
    accuracy: float
    speedup: float
    images_per_second: float
    size_bytes: int


def quantize(
    address: str,
    *,
    calibration: Path | None,
    labelled: Path | None,
    limits: QuantizeLimits,
    store: ModelStore,
    stage: Stage,
) -> dict[str, Any]:
    """Try the variants that ``limits.mode`` names and return the version that shall go on.

    :param calibration: folder of real pictures, labels not needed
    :param labelled: folder of pictures with a ``labels.csv``
    :return: ``model``, ``name``, ``version``, ``digest``, ``accepted``, ``reason``, ``measurements``, ``from_store``
    :raises BadInputError: if the model, the calibration or the labelled set is missing, empty or already quantised
    """
    manifest = store.manifest(address)
    original = {"model": address, "name": manifest.name, "version": manifest.version, "digest": manifest.digest}
    if limits.mode == "none":
        reason = "quantisation is switched off (mode none)"
        return {
            **original,
            "accepted": False,
            "variant": "original",
            "reason": reason,
            "measurements": [],
            "from_store": False,
        }
    if calibration is None or labelled is None:
        raise BadInputError(
            "quantize: give calibration (a folder of pictures) and labelled (the same with a labels.csv)"
        )
    cpu = cpu_type()
    recipe = {
        "stage": "quantize",
        "model": manifest.digest,
        "calibration": digest_of_path(calibration),
        "labelled": digest_of_path(labelled),
        "limits": asdict(limits),
        "cpu": cpu,
    }
    if remembered := store.recall(manifest.name, recipe):
        return {**remembered, "from_store": True}
    with tempfile.TemporaryDirectory(prefix="onnx-quantize-") as temporary, store.local(address) as folder:
        settings = {
            "folder": str(folder),
            "work": temporary,
            "calibration": str(calibration),
            "labelled": str(labelled),
            "limits": asdict(limits),
            "cpu": cpu,
        }
        verdict = stage.run("quantize", settings)
        result = {**original, **verdict}
        if verdict["accepted"]:
            chosen = Path(temporary) / verdict["variant"]
            accepted = ModelManifest.read(chosen)
            result |= {
                "model": store.add(chosen, accepted),
                "version": accepted.version,
                "digest": accepted.digest,
            }
    store.remember(manifest.name, recipe, result)
    return {**result, "from_store": False}


def quantize_in_child(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Make the variants, measure them beside the original, choose."""
    folder, work = Path(spec["folder"]), Path(spec["work"])
    limits = QuantizeLimits(**spec["limits"])
    manifest = ModelManifest.read(folder)
    _require_not_quantized(folder / MODEL_NAME)
    preprocessing = manifest.image_preprocessing
    if not manifest.labels:
        raise BadInputError(f"quantize: model {manifest.name} needs labels; give them when converting")
    samples = load_samples(Path(spec["calibration"]), limits.calibration_rows, preprocessing, "calibration")
    labelled = load_labelled(Path(spec["labelled"]), preprocessing, manifest.labels)
    log.info("calibration: %d pictures, labelled: %d pictures", len(samples.tensors), len(labelled.classes))

    original = LoadedModel(manifest, open_session(folder / MODEL_NAME))
    baseline = _measure("original", folder, original, original, labelled)
    measurements = [baseline]
    for variant in ("static", "dynamic") if limits.mode == "auto" else (limits.mode,):
        target = work / variant
        target.mkdir()
        log.info("making the %s variant", variant)
        write_variant(variant, folder / MODEL_NAME, target / MODEL_NAME, manifest.inputs[0].name, samples.tensors)
        candidate = LoadedModel(manifest, open_session(target / MODEL_NAME))
        measurements.append(_measure(variant, target, candidate, original, labelled))
    chosen, reason = choose(measurements, limits)
    log.info("%s", reason)
    if chosen.variant != "original":
        _finish(
            work / chosen.variant,
            parent=manifest,
            spec=spec,
            measurements=measurements,
            chosen=chosen,
            samples=samples,
        )
    return {
        "accepted": chosen.variant != "original",
        "variant": chosen.variant,
        "reason": reason,
        "measurements": [asdict(measurement) for measurement in measurements],
        "size_bytes": chosen.size_bytes,
    }


def choose(measurements: list[Measurement], limits: QuantizeLimits) -> tuple[Measurement, str]:
    """The fastest variant that keeps both limits, else the original; and why, in words with the numbers.

    :param measurements: the original first
    """
    original, *variants = measurements
    lines, accepted = [], []
    for variant in variants:
        drop = original.accuracy - variant.accuracy
        saved = 1 - variant.size_bytes / original.size_bytes
        facts = (
            f"{variant.variant}: accuracy {original.accuracy:.3f} → {variant.accuracy:.3f}, "
            f"{variant.speedup:.2f} times the speed, {saved:.0%} smaller"
        )
        faults = []
        if drop > limits.max_accuracy_drop:
            faults.append(f"loses {drop:.3f} (limit {limits.max_accuracy_drop:g})")
        if variant.speedup < limits.min_speedup:
            faults.append(f"is too slow (limit {limits.min_speedup:g})")
        lines.append(f"{facts}: {'rejected, ' + ' and '.join(faults) if faults else 'acceptable'}")
        if not faults:
            accepted.append(variant)
    best = max(accepted, key=lambda variant: variant.speedup, default=original)
    verdict = f"{best.variant} goes on" if accepted else "the original goes on"
    return best, f"{verdict}. {'; '.join(lines)}"


def paired_speedup(
    original: LoadedModel, candidate: LoadedModel, batch: NDArray[np.uint8], rounds: int
) -> tuple[float, float]:
    """Time both models in turn on the same batch, so that a drifting machine slows both.

    :return: median of the paired ratios (original's time over the candidate's), candidate's pictures a second
    """
    for model in (original, candidate):
        model.run(batch)
        model.run(batch)
    ratios, seconds = [], []
    for _ in range(rounds):
        before = time.perf_counter()
        original.run(batch)
        between = time.perf_counter()
        candidate.run(batch)
        after = time.perf_counter()
        ratios.append((between - before) / (after - between))
        seconds.append(after - between)
    return statistics.median(ratios), len(batch) / statistics.median(seconds)


def _require_not_quantized(path: Path) -> None:
    import onnx

    found = {node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node} & QUANTIZED_OPERATORS
    if found:
        raise BadInputError(f"{path} is already quantised (it has {', '.join(sorted(found))}); give the original")


def _measure(
    variant: str, folder: Path, model: LoadedModel, original: LoadedModel, labelled: LabelledSet
) -> Measurement:
    answers = run_in_batches(model, labelled.tensors, SCORING_BATCH)
    batch = np.resize(labelled.tensors, (SPEED_BATCH, *labelled.tensors.shape[1:]))
    speedup, images_per_second = paired_speedup(original, model, batch, SPEED_ROUNDS)
    return Measurement(
        variant=variant,
        accuracy=float(np.mean(answers.argmax(axis=1) == labelled.classes)),
        speedup=1.0 if model is original else round(speedup, 3),
        images_per_second=round(images_per_second, 1),
        size_bytes=(folder / MODEL_NAME).stat().st_size,
    )


def write_variant(variant: str, source: Path, target: Path, input_name: str, samples: NDArray[np.uint8]) -> None:
    """Write the 8-bit form of a graph.

    :param variant: ``static`` or ``dynamic``
    :param samples: inputs ``[rows, …]`` that the value ranges of ``static`` are taken from
    """
    import_onnxruntime()
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_name("prepared.onnx")
    try:
        # Folds batch normalisation into the convolutions, which can be quantised only then.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        _name_nodes(prepared)  # nodes are kept from quantisation by name
        if variant == "dynamic":
            quantize_dynamic(str(prepared), str(target), weight_type=QuantType.QInt8)
            return
        quantize_static(
            str(prepared),
            str(target),
            _calibration_reader(input_name, samples),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            # Eight bits round the small probabilities of many classes to zero.
            nodes_to_exclude=_nodes_of_type(prepared, "Softmax"),
        )
    finally:
        prepared.unlink(missing_ok=True)


def _name_nodes(path: Path) -> None:
    import onnx

    model = onnx.load(str(path))
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    onnx.save(model, str(path))


def _nodes_of_type(path: Path, op_type: str) -> list[str]:
    import onnx

    return [node.name for node in onnx.load(str(path)).graph.node if node.op_type == op_type]


def _calibration_reader(input_name: str, samples: NDArray[np.uint8]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rows: Iterator[NDArray[np.uint8]] = iter(samples)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            row = next(self._rows, None)
            return None if row is None else {input_name: row[np.newaxis]}

    return Reader()


def _finish(
    folder: Path,
    *,
    parent: ModelManifest,
    spec: Mapping[str, Any],
    measurements: list[Measurement],
    chosen: Measurement,
    samples: Samples,
) -> None:
    """Make ``folder`` a whole model version: golden rows and a manifest."""
    facts = describe(folder / MODEL_NAME)
    manifest = replace(
        parent,
        files={MODEL_NAME: sha256_of_file(folder / MODEL_NAME)},
        inputs=facts.inputs,
        outputs=facts.outputs,
        opset=facts.opset,
        domains=facts.domains,
        origin={**parent.origin, "parent": parent.version},
        recipe={"quantize": chosen.variant, "calibration_rows": len(samples.tensors), "limits": spec["limits"]},
        checks={"quantize": [asdict(measurement) for measurement in measurements]},
        speed=(
            {
                "cpu": spec["cpu"],
                "threads": 1,
                "batch": SPEED_BATCH,
                "images_per_second": chosen.images_per_second,
                "decode_included": False,
            },
        ),
        golden=None,
    )
    inputs = {manifest.inputs[0].name: samples.tensors[:GOLDEN_ROWS]}
    keep_golden(folder, manifest, inputs, GOLDEN_TOLERANCE, samples.pictures[:GOLDEN_ROWS])
