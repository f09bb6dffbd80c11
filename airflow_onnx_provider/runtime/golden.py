# SPDX-License-Identifier: Apache-2.0
"""Golden rows: a few real inputs with the answers of the accepted model, by which every other load of it is proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.runtime.manifest import ModelManifest

INPUT, OUTPUT, PICTURE = "input:", "output:", "picture:"


@dataclass(frozen=True)
class GoldenRows:
    """What the golden file of a model version holds.

    :param inputs: model input to tensor ``[rows, …]``
    :param answers: model output to tensor ``[rows, …]``
    :param pictures: the same rows before decoding, for models that take pictures; may be empty
    """

    inputs: Mapping[str, NDArray[Any]]
    answers: Mapping[str, NDArray[Any]]
    pictures: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def rows(self) -> int:
        return max((len(rows) for rows in self.inputs.values()), default=0)

    def save(self, path: Path) -> None:
        """Write an npz file that needs no pickle: texts are kept as fixed-width unicode."""
        arrays = {INPUT + name: _plain(rows) for name, rows in self.inputs.items()}
        arrays |= {OUTPUT + name: _plain(rows) for name, rows in self.answers.items()}
        arrays |= {f"{PICTURE}{number}": np.frombuffer(data, np.uint8) for number, data in enumerate(self.pictures)}
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # numpy counts its own flag among them

    @classmethod
    def load(cls, path: Path, manifest: ModelManifest) -> GoldenRows:
        """Read a golden file; one from before models had several inputs names its rows ``inputs`` and ``answers``."""
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: _runnable(file[name]) for name in file.files}
        if set(arrays) == {"inputs", "answers"}:
            return cls({manifest.inputs[0].name: arrays["inputs"]}, {manifest.outputs[0].name: arrays["answers"]})
        return cls(_part(arrays, INPUT), _part(arrays, OUTPUT), tuple(_part(arrays, PICTURE).values()))


def largest_difference(answers: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest absolute difference of two answers; texts and shapes that differ are infinitely far apart."""
    if answers.shape != expected.shape:
        return float("inf")
    if object in (answers.dtype, expected.dtype):
        return 0.0 if (answers == expected).all() else float("inf")
    found, wanted = answers.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        difference = np.abs(found - wanted)
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    return float(np.max(np.where(same, 0.0, difference), initial=0.0))


def _plain(rows: NDArray[Any]) -> NDArray[Any]:
    return rows.astype(np.str_) if rows.dtype == object else rows


def _runnable(rows: NDArray[Any]) -> NDArray[Any]:
    return rows.astype(object) if rows.dtype.kind == "U" else rows


def _part(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, Any]:
    found = {name.removeprefix(prefix): rows for name, rows in arrays.items() if name.startswith(prefix)}
    return {name: rows.tobytes() for name, rows in found.items()} if prefix == PICTURE else found
