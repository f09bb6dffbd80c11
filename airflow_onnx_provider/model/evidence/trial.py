# SPDX-License-Identifier: Apache-2.0
"""Run a model on given rows: its answers, its accuracy, its speed beside another's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.evidence.parity import Tensors
from airflow_onnx_provider.model.evidence.samples import LabelledSet
from airflow_onnx_provider.runtime.session import LoadedModel

SCORING_BATCH = 32
SPEED_BATCH = 8
SPEED_ROUNDS = 30
FLOATS = ("float", "double", "float16", "bfloat16")


def answers_of(model: LoadedModel, inputs: Tensors, size: int) -> dict[str, NDArray[Any]]:
    """All outputs to all rows, ``size`` rows at a time (the last batch may be smaller).

    :return: output name to ``[rows, …]``
    :raises ValidationError: if ONNX Runtime cannot run this batch size
    """
    outputs = [spec.name for spec in model.manifest.outputs]
    try:
        batches = [model.answer(batch, outputs) for batch in batches_of(inputs, size)]
        return {name: np.concatenate([batch[index] for batch in batches]) for index, name in enumerate(outputs)}
    except Exception as error:  # ONNX Runtime's exceptions have no common public class
        raise ValidationError(f"{model.manifest.name} does not run at batch size {size}: {error}") from error


def batches_of(inputs: Tensors, size: int) -> Iterator[dict[str, NDArray[Any]]]:
    """The rows in batches of ``size``; the last one may be smaller."""
    rows = len(next(iter(inputs.values())))
    for start in range(0, rows, size):
        yield {name: values[start : start + size] for name, values in inputs.items()}


def accuracy(model: LoadedModel, labelled: LabelledSet, size: int = SCORING_BATCH) -> float:
    """Share of labelled rows whose largest score is that of the right class, 0 to 1.

    The scores are the first float output ``[rows, classes]``.

    :raises BadInputError: if the model has no such output
    """
    scores = next((spec.name for spec in model.manifest.outputs if spec.type in FLOATS and len(spec.shape) == 2), None)
    if scores is None:
        raise BadInputError(f"{model.manifest.name} has no output float [rows, classes], so it has no accuracy")
    found = answers_of(model, labelled.inputs, size)[scores]
    return float(np.mean(found.argmax(axis=1) == labelled.classes))


def paired_speedup(
    original: LoadedModel, candidate: LoadedModel, inputs: Tensors, rounds: int = SPEED_ROUNDS
) -> tuple[float, float]:
    """Time both models in turn on the same batch, so that a drifting machine slows both.

    :param inputs: one batch; both models take it
    :return: median of the paired ratios (original's time over the candidate's), candidate's rows a second
    """
    ours = [spec.name for spec in original.manifest.outputs]
    theirs = [spec.name for spec in candidate.manifest.outputs]
    for _ in range(2):
        original.answer(inputs, ours)
        candidate.answer(inputs, theirs)
    ratios, seconds = [], []
    for _ in range(rounds):
        before = time.perf_counter()
        original.answer(inputs, ours)
        between = time.perf_counter()
        candidate.answer(inputs, theirs)
        after = time.perf_counter()
        ratios.append((between - before) / (after - between))
        seconds.append(after - between)
    rows = len(next(iter(inputs.values())))
    return statistics.median(ratios), rows / statistics.median(seconds)


def speed_batch(inputs: Tensors, rows: int = SPEED_BATCH) -> dict[str, NDArray[Any]]:
    """One batch of exactly ``rows`` rows, made of the given ones."""
    return {name: np.resize(values, (rows, *values.shape[1:])) for name, values in inputs.items()}


def reference_answers(path: Path, inputs: Tensors) -> dict[str, NDArray[Any]]:
    """The answers of ONNX's own reference implementation, which is slow and written to be read.

    :param path: an ONNX file
    :raises ValidationError: if the reference cannot run the graph, for example for operators of other domains
    """
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(str(path))
        answers = evaluator.run(None, dict(inputs))
    except Exception as error:  # it raises what its numpy code raises
        raise ValidationError(f"onnx.reference cannot run {path.name}: {type(error).__name__}: {error}") from error
    return {name: np.asarray(answer) for name, answer in zip(evaluator.output_names, answers, strict=True)}
