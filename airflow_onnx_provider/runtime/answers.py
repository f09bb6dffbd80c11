# SPDX-License-Identifier: Apache-2.0
"""What is kept of a model's answers: label and score, the best k, raw outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.manifest import ModelManifest, TensorSpec
from airflow_onnx_provider.runtime.tensors import output_type, to_arrow

TOP_K = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())]))


@dataclass(frozen=True)
class Answers:
    """Which columns a scored row gets.

    :param labels: class names in output order; without them a class is called by its number
    :param scores: the output ``float [batch, classes]`` that label and score are taken from, or None
    :param top_k: how many of the best classes to list, 0 for none
    :param raw: outputs to keep whole
    """

    labels: tuple[str, ...]
    scores: TensorSpec | None
    top_k: int
    raw: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, manifest: ModelManifest, top_k: int = 0, raw: Sequence[str] = ()) -> Answers:
        """The answers of a model: label and score from its first ``float [batch, classes]`` output.

        A model with neither labels nor such an output, or one without labels whose raw outputs are asked for (an
        embedding is no classification), gives no label.

        :raises BadInputError: for an unknown output, one without a fixed shape or a Spark type, or nothing to keep
        """
        outputs = {spec.name: spec for spec in manifest.outputs}
        if unknown := sorted(set(raw) - set(outputs)):
            raise BadInputError(f"model {manifest.name}: there is no output {unknown}; it has {sorted(outputs)}")
        kept = tuple(outputs[name] for name in raw)
        for spec in kept:
            output_type(spec)
            if open_axes := [axis for axis in spec.shape[1:] if isinstance(axis, str)]:
                raise BadInputError(
                    f"model {manifest.name}: the output {spec.name} {list(spec.shape)} cannot be a column: its "
                    f"axis {open_axes[0]} has no fixed size"
                )
        scores = next((spec for spec in manifest.outputs if spec.type == "float" and len(spec.shape) == 2), None)
        if not manifest.labels and kept and not top_k:
            scores = None
        if scores is None and not kept:
            raise BadInputError(
                f"model {manifest.name}: no output is float [batch, classes], so there is no label; name outputs "
                f"to keep with raw={sorted(outputs)}"
            )
        if scores is None and top_k:
            raise BadInputError(f"model {manifest.name}: top_k needs an output float [batch, classes]")
        classes = scores.shape[1] if scores else 0
        if manifest.labels and isinstance(classes, int) and scores and classes != len(manifest.labels):
            raise BadInputError(f"model {manifest.name}: {classes} classes, but {len(manifest.labels)} labels")
        if top_k < 0 or (isinstance(classes, int) and scores and top_k > classes):
            raise BadInputError(f"model {manifest.name}: top_k must lie between 0 and its {classes} classes: {top_k}")
        return cls(manifest.labels, scores, top_k, kept)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """What the session is asked for, each once."""
        names = [self.scores.name] if self.scores else []
        return tuple(dict.fromkeys([*names, *(spec.name for spec in self.raw)]))

    @property
    def fields(self) -> list[pa.Field]:
        """The columns, in order; a raw output's column is called like the output."""
        fields = []
        if self.scores:
            fields += [pa.field("label", pa.string()), pa.field("score", pa.float32())]
        if self.top_k:
            fields.append(pa.field("top_k", TOP_K))
        return [*fields, *(pa.field(spec.name, output_type(spec)) for spec in self.raw)]

    def reduced(self, outputs: Sequence[NDArray[Any]], rows: int) -> dict[str, NDArray[Any]]:
        """One batch's outputs without its padding, as arrays ``[rows, …]`` that are small enough to keep."""
        named = {name: values[:rows] for name, values in zip(self.outputs, outputs, strict=True)}
        kept = {f"raw:{spec.name}": named[spec.name] for spec in self.raw}
        if self.scores:
            scores = named[self.scores.name]
            best = scores.argmax(axis=1)
            kept |= {"best": best.astype(np.int32), "score": scores[np.arange(rows), best]}
            if self.top_k:
                order = np.argsort(-scores, axis=1, kind="stable")[:, : self.top_k]
                kept |= {"top": order.astype(np.int32), "top_score": np.take_along_axis(scores, order, axis=1)}
        return kept

    def columns(self, kept: Mapping[str, NDArray[Any]], missing: NDArray[np.bool_] | None) -> list[pa.Array]:
        """The columns of :attr:`fields`.

        :param kept: what :meth:`reduced` gave, all rows of an Arrow batch
        :param missing: rows without an answer, or None if all have one
        """
        arrays = []
        if self.scores:
            arrays += [self._names(kept["best"]), pa.array(kept["score"], pa.float32())]
        if self.top_k:
            rows, listed = kept["top"].shape  # fewer than asked for if the model turns out to have fewer classes
            best = pa.StructArray.from_arrays(
                [self._names(kept["top"].ravel()), pa.array(kept["top_score"].ravel(), pa.float32())],
                fields=list(TOP_K.value_type),
            )
            offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(listed)
            arrays.append(pa.ListArray.from_arrays(offsets, best, type=TOP_K))
        arrays += [to_arrow(kept[f"raw:{spec.name}"], spec) for spec in self.raw]
        if missing is None:
            return arrays
        present = pa.array(~missing)
        return [pc.if_else(present, array, pa.scalar(None, array.type)) for array in arrays]

    def _names(self, classes: NDArray[np.int32]) -> pa.Array:
        if self.labels:
            return self._label_array.take(pa.array(classes))
        return pa.array(classes).cast(pa.string())

    @cached_property
    def _label_array(self) -> pa.Array:
        return pa.array(self.labels, pa.string())
