# SPDX-License-Identifier: Apache-2.0
"""Measure a model on the machines that will run it: a tiny Spark job, one task in each slot at once."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.sweep import Space, sweep


def measure(
    spark: Any, model: str | Path, *, slots: int, pictures: Sequence[bytes] = (), space: Space | None = None
) -> list[dict[str, Any]]:
    """Sweep the space in ``slots`` workers at the same time, so that each is measured beside busy neighbours.

    Give what it returns to :func:`airflow_onnx_provider.model.measure.record_speeds` to keep it in the store.

    :param model: folder of a validated model version that the workers see under the same path
    :param slots: tasks that run at once
    :param pictures: some of the catalogue's, encoded, for models that take pictures
    :return: for each type of CPU and combination the median over its workers, fastest a core first
    """
    folder = Path(model).absolute()
    digest = ModelManifest.read(folder).digest
    tried = space or Space()

    def task(numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
        for _ in numbers:
            yield from sweep(folder, digest, pictures, tried)

    # An RDD of as many elements as slots has one in each partition; a repartitioned frame may put two into one.
    found = spark.sparkContext.parallelize(range(slots), slots).mapPartitions(task).collect()
    groups: defaultdict[tuple[Any, ...], list[float]] = defaultdict(list)
    for speed in found:
        rate = speed.pop("images_per_second")
        groups[tuple(speed.items())].append(rate)
    speeds = [{**dict(key), "images_per_second": statistics.median(rates)} for key, rates in groups.items()]
    return sorted(speeds, key=lambda speed: -speed["images_per_second"] / speed["threads"])
