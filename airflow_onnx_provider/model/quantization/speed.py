# SPDX-License-Identifier: Apache-2.0
"""Speed of a variant beside its original, in batches like the executors'."""

from __future__ import annotations

import time

from airflow_onnx_provider.model.evidence.parity import Tensors
from airflow_onnx_provider.model.evidence.trial import SPEED_ROUNDS, paired_speedup, speed_batch
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing, TokenPreprocessing
from airflow_onnx_provider.runtime.profile import BYTES_PER_BATCH, PICTURES_PER_BATCH, ROWS_PER_BATCH, TOKENS_PER_BATCH
from airflow_onnx_provider.runtime.session import LoadedModel

SPEED_SECONDS = 5.0
"""A slow pair of models is timed in fewer rounds than ``trial.SPEED_ROUNDS``, to stay
near this."""

FEWEST_ROUNDS = 7


def executors_batch(manifest: ModelManifest, inputs: Tensors) -> Tensors:
    """One batch of the size that executors score this kind of model with, made of the given rows."""
    return speed_batch(inputs, _rows_of_a_batch(manifest, inputs))


def speed_beside(original: LoadedModel, variant: LoadedModel, batch: Tensors) -> tuple[float, float]:
    """Time both in turn.

    :return: the original's time over the variant's (median of paired rounds), the variant's rows a second
    """
    before = time.perf_counter()
    paired_speedup(original, variant, batch, 1)  # each runs three times: twice to warm up, once measured
    once = (time.perf_counter() - before) / 3
    rounds = max(FEWEST_ROUNDS, min(SPEED_ROUNDS, int(SPEED_SECONDS / max(once, 1e-6))))
    return paired_speedup(original, variant, batch, rounds)


def _rows_of_a_batch(manifest: ModelManifest, inputs: Tensors) -> int:
    if manifest.inputs and isinstance(manifest.inputs[0].shape[0], int):
        return manifest.inputs[0].shape[0]
    if isinstance(manifest.preprocessing, ImagePreprocessing):
        return PICTURES_PER_BATCH
    if isinstance(manifest.preprocessing, TokenPreprocessing):
        longest = int(inputs[manifest.preprocessing.input_ids].shape[1])
        return max(1, TOKENS_PER_BATCH // max(1, longest))
    row_bytes = sum(values.nbytes // max(1, len(values)) for values in inputs.values())
    return max(1, min(ROWS_PER_BATCH, BYTES_PER_BATCH // max(1, row_bytes)))
