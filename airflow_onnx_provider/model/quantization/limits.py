# SPDX-License-Identifier: Apache-2.0
"""What quantisation may cost and must bring, and how a variant is judged by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.quantization.variants import Calibration

Mode = Literal["static", "dynamic", "float16", "int4", "auto", "none"]


@dataclass(frozen=True)
class QuantizeLimits:
    """Which variants are tried, for how long, and when one is accepted.

    :param mode: ``static`` (8 bits, calibrated, suits convolutions), ``dynamic`` (8 bits, suits matrix products),
        ``float16``, ``int4`` (matrix products only), ``auto`` (the fastest acceptable one of all), ``none`` (the
        original goes on)
    :param max_accuracy_drop: accepted loss of accuracy on the labelled set, as a fraction (0.01: one point)
    :param min_speedup: least speed relative to the original, measured here in one process with one thread
    :param calibration_rows: rows that the value ranges of static variants are taken from
    :param calibrations: ways to take value ranges, tried in this order until one keeps the accuracy:
        ``minmax``, ``percentile``, ``entropy``
    :param budget_seconds: no further variant is begun after this time; the first one always is
    :param block_size: weights that share one scale in ``int4``: 16, 32, 64, 128 or 256
    :raises BadInputError: for a value that cannot be, naming it
    """

    mode: Mode = "auto"
    max_accuracy_drop: float = 0.01
    min_speedup: float = 1.0
    calibration_rows: int = 128
    calibrations: tuple[Calibration, ...] = get_args(Calibration)
    budget_seconds: float = 300.0
    block_size: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "calibrations", tuple(self.calibrations))  # JSON has lists
        if self.mode not in get_args(Mode):
            raise BadInputError(f"quantize: mode must be one of {', '.join(get_args(Mode))}, got {self.mode!r}")
        if not self.calibrations or not set(self.calibrations) <= set(get_args(Calibration)):
            raise BadInputError(
                f"quantize: calibrations must be some of {', '.join(get_args(Calibration))}, "
                f"got {list(self.calibrations)}"
            )
        if self.calibration_rows < 1:
            raise BadInputError(f"quantize: calibration_rows must be at least 1, got {self.calibration_rows}")
        if not self.budget_seconds > 0:
            raise BadInputError(f"quantize: budget_seconds must be more than 0, got {self.budget_seconds}")
        if self.block_size not in (16, 32, 64, 128, 256):
            raise BadInputError(f"quantize: block_size must be 16, 32, 64, 128 or 256, got {self.block_size}")

    def lost_too_much(self, original: Measurement, variant: Measurement) -> bool:
        """Whether the variant misses the bound on accuracy."""
        # Shares of the same rows: rounding must not decide about a bound that is just kept.
        return original.accuracy - variant.accuracy > self.max_accuracy_drop + 1e-9


@dataclass(frozen=True)
class Measurement:
    """What one variant showed on the labelled set and on this CPU.

    :param variant: ``original``, ``static``, ``static-percentile``, ``static-keep-2``, ``dynamic``, …
    :param accuracy: share of labelled rows with the right label
    :param speedup: original's time over this variant's, median of paired rounds
    :param images_per_second: rows a second, for models of every kind
    :param size_bytes: of all files of the model
    """

    variant: str
    accuracy: float
    speedup: float
    images_per_second: float
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def choose(
    measurements: Sequence[Measurement], limits: QuantizeLimits, remarks: Mapping[str, str] | None = None
) -> tuple[Measurement, str]:
    """The fastest variant that keeps both limits, else the original; and why, in words with the numbers.

    :param measurements: the original first
    :param remarks: what else there is to say about a variant, by name; also of those that were not measured
    """
    original, *variants = measurements
    left = dict(remarks or {})
    lines, accepted = [], []
    for variant in variants:
        saved = 1 - variant.size_bytes / original.size_bytes
        remark = f" ({left.pop(variant.variant)})" if variant.variant in left else ""
        facts = (
            f"{variant.variant}{remark}: accuracy {original.accuracy:.3f} → {variant.accuracy:.3f}, "
            f"{variant.speedup:.2f} times the speed, {saved:.0%} smaller"
        )
        faults = []
        if limits.lost_too_much(original, variant):
            drop = original.accuracy - variant.accuracy
            faults.append(f"loses {drop:.3f} (limit {limits.max_accuracy_drop:g})")
        if variant.speedup < limits.min_speedup:
            faults.append(f"is too slow (limit {limits.min_speedup:g})")
        lines.append(f"{facts}: {'rejected, ' + ' and '.join(faults) if faults else 'acceptable'}")
        if not faults:
            accepted.append(variant)
    lines += [f"{name}: {remark}" for name, remark in left.items()]
    best = max(accepted, key=lambda variant: variant.speedup, default=original)
    verdict = f"{best.variant} goes on" if accepted else "the original goes on"
    return best, f"{verdict}. {'; '.join(lines)}"
