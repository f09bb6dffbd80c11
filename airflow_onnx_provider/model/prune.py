# SPDX-License-Identifier: Apache-2.0
"""Set a model's smallest weights to zero, as many as its accuracy allows; it then compresses better."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.derive import derive
from airflow_onnx_provider.model.evidence.samples import LabelledSet, digest_of_path, load_labelled
from airflow_onnx_provider.model.evidence.trial import accuracy
from airflow_onnx_provider.model.quantization.facts import read_facts
from airflow_onnx_provider.model.quantization.speed import executors_batch, speed_beside
from airflow_onnx_provider.model.quantization.variants import LARGEST
from airflow_onnx_provider.model.quantize import golden_inputs
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.version import derived, keep_golden
from airflow_onnx_provider.runtime.cpu import cpu_type
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest, size_of
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.session import LoadedModel, import_onnxruntime, open_session

log = logging.getLogger(__name__)

PRUNED_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

STEPS = tuple(percent / 100 for percent in range(5, 100, 5))
"""What ``auto`` chooses among."""

GOLDEN_TOLERANCE = 1e-4
"""For fp32 graphs: CPUs and thread counts change sums in the last digits only."""


@dataclass(frozen=True)
class PruneLimits:
    """How much is pruned.

    :param sparsity: share of the weights of convolutions and matrix products that become zero, more than 0 and less
        than 1; ``auto``: the largest multiple of 0.05 that keeps the accuracy
    :param max_accuracy_drop: accepted loss of accuracy on the labelled set, as a fraction (0.01: one point)
    :raises BadInputError: for a sparsity that cannot be
    """

    sparsity: float | Literal["auto"] = "auto"
    max_accuracy_drop: float = 0.01

    def __post_init__(self) -> None:
        if self.sparsity != "auto" and not 0 < self.sparsity < 1:
            raise BadInputError(f"prune: sparsity must lie between 0 and 1, or be 'auto', got {self.sparsity!r}")


@dataclass(frozen=True)
class _Tried:
    folder: Path
    sparsity: float
    measurement: dict[str, Any]


def prune(
    address: str, *, labelled: Path | None, limits: PruneLimits, store: ModelStore, stage: Stage
) -> dict[str, Any]:
    """Prune the version at ``address`` and return the version that shall go on.

    :param labelled: real inputs with labels, as ``load_labelled`` reads them
    :return: ``model``, ``name``, ``version``, ``digest`` of the version that goes on, ``accepted``, ``variant``,
        ``reason``, ``measurements``, ``size_bytes``, ``from_store``
    :raises BadInputError: if the model or the labelled set is missing or unusable, or the model is quantised
    """
    if labelled is None:
        raise BadInputError("prune: give labelled (real inputs with labels), which decide what may be pruned")
    decides = {"labelled": digest_of_path(labelled), "limits": asdict(limits), "cpu": cpu_type()}
    settings = {"labelled": str(labelled), "limits": asdict(limits), "cpu": cpu_type()}
    return derive(address, "prune", decides=decides, settings=settings, store=store, stage=stage)


def prune_in_child(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Prune, measure beside the original, decide."""
    folder, work = Path(spec["folder"]), Path(spec["work"])
    manifest = ModelManifest.read(folder)
    what = f"model {manifest.name} {manifest.version}"
    if quantized := read_facts(folder / MODEL_NAME).quantized:
        raise BadInputError(
            f"prune: {what} is quantised (it has {', '.join(quantized)}); prune the original and quantise the result"
        )
    if size_of(folder, manifest) > LARGEST:
        raise BadInputError(f"prune: {what} is larger than 2 GB, which one ONNX file cannot hold")
    if not manifest.labels and isinstance(manifest.preprocessing, ImagePreprocessing):
        raise BadInputError(f"prune: model {manifest.name} needs labels; give them when converting")
    labelled = load_labelled(Path(spec["labelled"]), manifest)
    bench = _Bench(folder, work, manifest, labelled, PruneLimits(**spec["limits"]))
    chosen = bench.search()
    reason = bench.reason(chosen)
    log.info("%s", reason)
    if chosen is not None:
        _finish(chosen, spec=spec, parent=manifest, bench=bench)
    measurement = chosen.measurement if chosen else bench.baseline
    return {
        "accepted": chosen is not None,
        "variant": measurement["variant"],
        "reason": reason,
        "measurements": [bench.baseline, *(tried.measurement for tried in bench.tried)],
        "size_bytes": measurement["size_bytes"],
        "labelled_rows": labelled.rows,
    }


def write_pruned(source: Path, target: Path, sparsity: float) -> int:
    """Write an ONNX file with the smallest weights of all convolutions and matrix products together set to zero.

    Biases, and what other operators compute with, stay as they are.

    :param sparsity: share of these weights, 0 to 1
    :return: how many weights there are
    :raises BadInputError: if there are none
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(source))
    used = {name for node in model.graph.node if node.op_type in PRUNED_OPERATORS for name in node.input[:2]}
    tensors = [
        tensor
        for tensor in model.graph.initializer
        if tensor.name in used
        and len(tensor.dims) > 1
        and tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    ]
    if not tensors:
        raise BadInputError(f"prune: {source.name} has no convolution or matrix product with constant float weights")
    weights = [numpy_helper.to_array(tensor) for tensor in tensors]
    threshold = _threshold([np.abs(values).ravel() for values in weights], sparsity)
    for tensor, values in zip(tensors, weights, strict=True):
        kept = np.where(np.abs(values) > threshold, values, values.dtype.type(0))
        tensor.CopyFrom(numpy_helper.from_array(kept, tensor.name))
    onnx.save(model, str(target))
    return sum(values.size for values in weights)


def compressed_size(files: list[Path]) -> int:
    """Bytes of the files as zlib (and gzip, and zip) compress them."""
    size = 0
    for path in files:
        compressor = zlib.compressobj()
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                size += len(compressor.compress(chunk))
        size += len(compressor.flush())
    return size


def _threshold(magnitudes: list[NDArray[Any]], sparsity: float) -> float:
    """The magnitude that ``sparsity`` of all weights do not exceed."""
    together = np.concatenate(magnitudes).astype(np.float32)
    position = max(0, round(sparsity * together.size) - 1)
    return float(np.partition(together, position)[position])


class _Bench:
    """Prunes to a sparsity and measures what comes of it."""

    def __init__(
        self, folder: Path, work: Path, manifest: ModelManifest, labelled: LabelledSet, limits: PruneLimits
    ) -> None:
        import_onnxruntime()
        self._folder, self._work, self._manifest = folder, work, manifest
        self.labelled, self._limits = labelled, limits
        self._original = LoadedModel(manifest, open_session(folder / MODEL_NAME))
        self._batch = executors_batch(manifest, labelled.inputs)
        self.baseline: dict[str, Any] = {
            "variant": "original",
            "accuracy": accuracy(self._original, labelled),
            "size_bytes": size_of(folder, manifest),
            "compressed_bytes": compressed_size([folder / file for file in manifest.files]),
        }
        self.tried: list[_Tried] = []
        self.weights = 0

    @property
    def batch_rows(self) -> int:
        return len(next(iter(self._batch.values())))

    def search(self) -> _Tried | None:
        """The most pruned variant that keeps the accuracy and compresses better, with its speed, or None."""
        if self._limits.sparsity != "auto":
            best = self._try(float(self._limits.sparsity))
        else:
            best, low, high = None, 0, len(STEPS)  # accuracy falls with sparsity, so the best step is found by halving
            while low < high:
                middle = (low + high) // 2
                if tried := self._try(STEPS[middle]):
                    best, low = tried, middle + 1
                else:
                    high = middle
        if best is not None:
            model = LoadedModel(self._manifest, open_session(best.folder / MODEL_NAME))
            for measurement, other in ((self.baseline, self._original), (best.measurement, model)):
                speedup, rows = speed_beside(self._original, other, self._batch)
                measurement["speedup"] = 1.0 if other is self._original else round(speedup, 3)
                measurement["images_per_second"] = round(rows, 1)
        return best

    def reason(self, chosen: _Tried | None) -> str:
        before, lines = self.baseline, []
        for tried in self.tried:
            now = tried.measurement
            drop = before["accuracy"] - now["accuracy"]
            faults = [f"loses {drop:.3f} (limit {self._limits.max_accuracy_drop:g})"] if self._lost(now) else []
            if now["compressed_bytes"] >= before["compressed_bytes"]:
                faults.append("does not compress better")
            lines.append(
                f"{now['variant']}: accuracy {before['accuracy']:.3f} → {now['accuracy']:.3f}, compressed "
                f"{before['compressed_bytes']:,} → {now['compressed_bytes']:,} bytes: "
                f"{'rejected, ' + ' and '.join(faults) if faults else 'acceptable'}"
            )
        if chosen is None:
            return f"the original goes on. {'; '.join(lines)}"
        now = chosen.measurement
        saved = 1 - now["compressed_bytes"] / before["compressed_bytes"]
        return (
            f"{now['variant']} goes on: {chosen.sparsity:.0%} of {self.weights:,} weights are zero. The gain is in the "
            f"compressed size, {saved:.0%} smaller. The file itself has {now['size_bytes']:,} bytes (before: "
            f"{before['size_bytes']:,}), and ONNX Runtime gains no speed, because it computes with zeros as with any "
            f"number (measured: {now['speedup']:.2f} times the speed). {'; '.join(lines)}"
        )

    def _try(self, sparsity: float) -> _Tried | None:
        """None if it is not good enough."""
        folder = self._work / f"pruned-{sparsity * 100:.4g}"
        folder.mkdir()
        self.weights = write_pruned(self._folder / MODEL_NAME, folder / MODEL_NAME, sparsity)
        model = LoadedModel(self._manifest, open_session(folder / MODEL_NAME))
        measurement: dict[str, Any] = {
            "variant": folder.name,
            "accuracy": accuracy(model, self.labelled),
            "size_bytes": (folder / MODEL_NAME).stat().st_size,
            "compressed_bytes": compressed_size([folder / MODEL_NAME]),
        }
        log.info("%s: accuracy %.3f", folder.name, measurement["accuracy"])
        tried = _Tried(folder, sparsity, measurement)
        self.tried.append(tried)
        better = measurement["compressed_bytes"] < self.baseline["compressed_bytes"]
        return tried if better and not self._lost(measurement) else None

    def _lost(self, measurement: Mapping[str, Any]) -> bool:
        # Shares of the same rows: rounding must not decide about a bound that is just kept.
        drop: float = self.baseline["accuracy"] - measurement["accuracy"]
        return drop > self._limits.max_accuracy_drop + 1e-9


def _finish(chosen: _Tried, *, spec: Mapping[str, Any], parent: ModelManifest, bench: _Bench) -> None:
    """Make the chosen variant's folder a whole model version: golden rows and a manifest."""
    recipe = {
        "stage": "prune",
        "variant": chosen.measurement["variant"],
        "sparsity": chosen.sparsity,
        "weights": bench.weights,
        "limits": spec["limits"],
        "cpu": spec["cpu"],
    }
    speed = {
        "cpu": spec["cpu"],
        "threads": 1,
        "batch": bench.batch_rows,
        "images_per_second": chosen.measurement["images_per_second"],
        "decode_included": False,
    }
    golden = golden_inputs(Path(spec["folder"]), parent, bench.labelled)
    manifest = derived(chosen.folder, parent, recipe=recipe, speed=[speed])
    keep_golden(chosen.folder, manifest, golden.inputs, GOLDEN_TOLERANCE, golden.pictures)
