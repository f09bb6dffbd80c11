# SPDX-License-Identifier: Apache-2.0
"""How far two models' answers to the same rows are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import ValidationError

Tensors = Mapping[str, NDArray[Any]]
"""Name of an input or output to its tensor ``[rows, …]``."""

SMALLEST = 1e-6
"""Expected values below this count as this when a difference is divided by them."""


@dataclass(frozen=True)
class ParityLimits:
    """How far a model may be from what it was made from.

    :param inputs: rows to compare (N of the batch sizes 1, 2 and N)
    :param max_difference: largest absolute difference of any number of any output
    :param max_relative_difference: largest difference relative to the expected number, or None for no such limit
    :param min_label_agreement: share of rows that must get the same label
    """

    inputs: int = 32
    max_difference: float = 1e-4
    max_relative_difference: float | None = None
    min_label_agreement: float = 1.0


@dataclass(frozen=True)
class Parity:
    """What a comparison found; the worst output counts.

    :param max_difference: largest absolute difference of a number
    :param max_relative_difference: largest difference divided by the size of the expected number
    :param label_agreement: share of rows with the same label, 0 to 1; 1 where nothing is a label
    """

    max_difference: float
    max_relative_difference: float
    label_agreement: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    def faults(self, limits: ParityLimits) -> list[str]:
        """The limits that are broken, in words; NaN breaks a limit."""
        relative = limits.max_relative_difference
        faults = []
        if not self.max_difference <= limits.max_difference:
            faults.append(f"numbers differ by up to {self.max_difference:.3g} (limit {limits.max_difference:.3g})")
        if relative is not None and not self.max_relative_difference <= relative:
            faults.append(
                f"relative to what is expected by up to {self.max_relative_difference:.3g} (limit {relative:.3g})"
            )
        if self.label_agreement < limits.min_label_agreement:
            faults.append(f"{self.label_agreement:.1%} of the labels agree (limit {limits.min_label_agreement:.1%})")
        return faults


def compare(answers: Tensors, expected: Tensors) -> Parity:
    """Compare the outputs that ``expected`` names, which are those of the model that is believed.

    A float output ``[rows, n > 1]`` gives a row the label of its largest number; integers and texts are labels
    themselves; other float outputs have no label. Equal infinities and two NaNs count as equal.

    :raises ValidationError: for an output that is missing, or of another shape
    """
    differences, relatives, agreements = [0.0], [0.0], [1.0]
    for name, wanted in expected.items():
        if name not in answers:
            raise ValidationError(f"there is no output {name!r}; there is: {', '.join(sorted(answers))}")
        found = answers[name]
        if found.shape != wanted.shape:
            raise ValidationError(f"the output {name} has the shape {found.shape}, expected is {wanted.shape}")
        if wanted.dtype.kind == "f":
            difference, relative = _differences(found.astype(np.float64), wanted.astype(np.float64))
            differences.append(difference)
            relatives.append(relative)
            if wanted.ndim == 2 and wanted.shape[1] > 1:
                agreements.append(float(np.mean(found.argmax(axis=1) == wanted.argmax(axis=1))))
        else:
            same = found.astype(str) == wanted.astype(str) if wanted.dtype.kind in "OSU" else found == wanted
            agreements.append(float(np.mean(same.reshape(len(same), -1).all(axis=1))) if len(same) else 1.0)
    return Parity(float(np.max(differences)), float(np.max(relatives)), min(agreements))


def require_parity(answers: Tensors, expected: Tensors, limits: ParityLimits, what: str) -> Parity:
    """Compare, and refuse what breaks a limit.

    :param what: whose answers these are, as an error calls it
    :raises ValidationError: with every broken limit and its number
    """
    try:
        parity = compare(answers, expected)
    except ValidationError as error:
        raise ValidationError(f"{what}: {error}") from error
    if faults := parity.faults(limits):
        raise ValidationError(f"{what}: {' and '.join(faults)}")
    return parity


def _differences(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> tuple[float, float]:
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity
        difference = np.where(same, 0.0, np.abs(found - wanted))
        relative = difference / np.maximum(np.abs(wanted), SMALLEST)
    return float(np.max(difference, initial=0.0)), float(np.max(relative, initial=0.0))
