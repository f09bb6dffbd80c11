# SPDX-License-Identifier: Apache-2.0
"""The search for the fastest variant that is accurate enough, within a budget of time."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import ConversionError, MissingExtraError, ValidationError
from airflow_onnx_provider.model.evidence.samples import LabelledSet, Samples
from airflow_onnx_provider.model.evidence.trial import accuracy
from airflow_onnx_provider.model.quantization.facts import GraphFacts
from airflow_onnx_provider.model.quantization.limits import Measurement, QuantizeLimits, choose
from airflow_onnx_provider.model.quantization.sensitivity import rank_by_loss
from airflow_onnx_provider.model.quantization.speed import executors_batch, speed_beside
from airflow_onnx_provider.model.quantization.variants import Kind, Variant, Workshop
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.session import LoadedModel, open_session

log = logging.getLogger(__name__)

SENSITIVITY_ROWS = 32


@dataclass(frozen=True)
class Found:
    """What a search ended with.

    :param chosen: the variant that goes on, None for the original
    :param measurement: its numbers
    :param measurements: of all that were measured, the original first
    :param reason: in words, with the numbers
    :param batch: rows of the batch that speed was measured with
    """

    chosen: Variant | None
    measurement: Measurement
    measurements: tuple[Measurement, ...]
    reason: str
    batch: int


class Search:
    """Makes variants one after the other and measures each beside the original.

    Every kind is tried in the order of its promise for this graph. If static variants lose too much with each way of
    calibrating, the nodes that lose most are kept in float: one, then two, four, … up to half of them.

    :param folder: the original version
    :param work: an empty folder; each variant comes to lie in ``work/<its name>/model.onnx``
    :param samples: calibration rows; not needed without static variants
    """

    def __init__(
        self,
        folder: Path,
        work: Path,
        *,
        facts: GraphFacts,
        limits: QuantizeLimits,
        samples: Samples | None,
        labelled: LabelledSet,
    ) -> None:
        self._folder, self._work, self._facts, self._limits = folder, work, facts, limits
        self._manifest = ModelManifest.read(folder)
        self._samples, self._labelled = samples, labelled
        self._batch = executors_batch(self._manifest, labelled.inputs)
        shared = work / "shared"
        shared.mkdir()
        self._workshop = Workshop(folder / MODEL_NAME, shared, samples.inputs if samples else None)
        self._original = LoadedModel(self._manifest, open_session(folder / MODEL_NAME))
        self._measurements: list[Measurement] = []
        self._tried: dict[str, Variant] = {}
        self._remarks: dict[str, str] = {}
        self._untried: list[str] = []
        self._end = time.monotonic() + limits.budget_seconds

    def run(self) -> Found:
        """Try what the limits name, and choose."""
        self._measurements.append(self._measure("original", self._folder, self._original))
        for kind in kinds_to_try(self._facts, self._limits):
            if kind == "static":
                self._try_calibrations()
            else:
                self._try(Variant(kind, block_size=self._limits.block_size))
        self._keep_sensitive_nodes()
        best, reason = choose(self._measurements, self._limits, self._remarks)
        if self._untried:
            reason += (
                f"; the budget of {self._limits.budget_seconds:g} s was spent before {', '.join(self._untried)} "
                "could be tried"
            )
        rows = len(next(iter(self._batch.values())))
        return Found(self._tried.get(best.variant), best, tuple(self._measurements), reason, rows)

    def _try_calibrations(self) -> None:
        for calibration in self._limits.calibrations:
            variant = Variant("static", calibration)
            measurement = self._try(variant)
            if measurement and not self._lost_too_much(measurement):
                return
            if measurement is None and variant.name in self._remarks:
                return  # other value ranges do not change what the graph does not allow

    def _keep_sensitive_nodes(self) -> None:
        static = [one for one in self._measurements if one.variant in self._tried and self._is_static(one)]
        if not static or self._samples is None or not all(map(self._lost_too_much, static)):
            return
        best = max(static, key=lambda one: one.accuracy)
        calibration = self._tried[best.variant].calibration
        left = self._end - time.monotonic()
        if left <= 0:
            self._untried.append("keeping sensitive nodes in float")
            return
        log.info("the static variants lose too much; measuring what each node loses")
        rows = self._samples.head(SENSITIVITY_ROWS).inputs
        ranked = rank_by_loss(self._workshop, calibration, self._original, rows, left / 2)
        count = 1
        while count <= len(ranked) // 2:
            measurement = self._try(Variant("static", calibration, kept=tuple(ranked[:count])))
            if not measurement or not self._lost_too_much(measurement):
                return
            count *= 2

    def _try(self, variant: Variant) -> Measurement | None:
        if self._tried and time.monotonic() >= self._end:
            self._untried.append(variant.name)
            return None
        self._tried[variant.name] = variant
        log.info("making the variant %s", variant.name)
        target = self._work / variant.name
        target.mkdir()
        try:
            self._workshop.write(variant, target / MODEL_NAME)
            model = LoadedModel(self._manifest, _opened(target / MODEL_NAME))
            measurement = self._measure(variant.name, target, model)
        except (ImportError, MissingExtraError) as error:
            if self._limits.mode != "auto":
                raise
            self._remarks[variant.name] = f"cannot be made: {error}"
        except (ConversionError, ValidationError) as error:
            self._remarks[variant.name] = f"cannot be made: {error}"
        else:
            self._measurements.append(measurement)
            if variant.kept:
                self._remarks[variant.name] = f"in float: {', '.join(variant.kept)}"
            return measurement
        log.info("%s: %s", variant.name, self._remarks[variant.name])
        return None

    def _measure(self, variant: str, folder: Path, model: LoadedModel) -> Measurement:
        share = accuracy(model, self._labelled)
        speedup, rows_per_second = speed_beside(self._original, model, self._batch)
        measurement = Measurement(
            variant=variant,
            accuracy=share,
            speedup=1.0 if model is self._original else round(speedup, 3),
            images_per_second=round(rows_per_second, 1),
            size_bytes=sum(file.stat().st_size for file in folder.glob(f"{MODEL_NAME}*")),
        )
        log.info("%s: accuracy %.3f, %.2f times the speed", variant, share, measurement.speedup)
        return measurement

    def _lost_too_much(self, measurement: Measurement) -> bool:
        return self._limits.lost_too_much(self._measurements[0], measurement)

    def _is_static(self, measurement: Measurement) -> bool:
        return self._tried[measurement.variant].kind == "static"


def kinds_to_try(facts: GraphFacts, limits: QuantizeLimits) -> tuple[Kind, ...]:
    """Kinds of variants in the order of their promise: the first to be tried are what a small budget pays for.

    Convolutions gain from static quantisation and lose from dynamic. Matrix products gain from both, and dynamic
    depends on no calibration. Four bits save most where weights are large; float16 saves half, and CPUs compute in
    float all the same.
    """
    if limits.mode == "none":
        return ()
    if limits.mode != "auto":
        return (limits.mode,)
    if facts.convolutional:
        kinds: tuple[Kind, ...] = ("static", "dynamic", "float16")
    else:
        kinds = ("dynamic", "static", "int4", "float16")
    return tuple(kind for kind in kinds if not (kind == "float16" and facts.half))


def _opened(path: Path) -> Any:
    try:
        return open_session(path)
    except MissingExtraError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common public class
        raise ConversionError(f"ONNX Runtime cannot load it: {error}") from error
