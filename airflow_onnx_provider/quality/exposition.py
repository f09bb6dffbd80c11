# SPDX-License-Identifier: Apache-2.0
"""A run's figures for Prometheus: a text file for node exporter, or a registry that can be pushed.

Figures of a batch run are gauges: they stand for the last run until the next one replaces them all. What would grow
with the days or with the catalogue is no label: the run and its partition are labels of ``onnx_run_info`` alone, and
labels of the predictions are left to the report.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_onnx_provider.exceptions import BadInputError, needs_extra
from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

PREFIX = "onnx_run_"
JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")

LATENCY_BOUNDS = tuple(round(10 ** (step / 8), 9) for step in range(-32, 13))
"""Upper bounds in seconds, eight a decade from 0.1 ms to 32 s. Each is a bound of the run manifest's finer buckets
(``runtime.metrics.BUCKETS_PER_DECADE``), so folding moves no batch to the wrong side of one."""

VERDICTS = {"passed": 0, "warned": 1, "failed": 2}


@dataclass(frozen=True)
class Figure:
    """One measure of a run.

    :param name: without a prefix, with its unit, as Prometheus names things: ``duration_seconds``
    :param meaning: for a person
    :param label: what its samples differ in, empty if there is only one
    :param samples: the label's value to a finite number; never empty
    """

    name: str
    meaning: str
    label: str
    samples: Mapping[str, float]


def figures_of(
    manifest: RunManifest, record: CheckRecord | None = None, published: float | None = None
) -> tuple[Figure, ...]:
    """All gauges of a run; those that were not measured are left out.

    :param record: what the checks said, None if the run was not judged
    :param published: when the output's newest publishing took place, in seconds since 1970
    """
    clock = {part: manifest.seconds.get(part) for part in ("scoring", "job")}
    workers = {part: manifest.seconds.get(part) for part in ("load", "read", "decode", "inference", "wait")}
    finished = datetime.fromisoformat(manifest.finished).timestamp() if manifest.finished else None
    passed = finished if record and record.verdict != "failed" else None
    good = max((one for one in (published, passed) if one), default=None)
    rows = {"predicted": manifest.predicted, "quarantined": manifest.quarantined_rows}
    rate = None if manifest.replays else manifest.images_per_second  # else that of a few rows
    found = (
        _by("outcome", "rows", "Rows by outcome; both together are the rows in", rows),
        _one("carried_rows", "Predicted rows whose answer was carried over", manifest.carried),
        _by("reason", "quarantined_rows", "Rows in quarantine by reason", manifest.quarantined),
        _one("images_per_second", "Rows in by the scoring stage's time on the clock", rate),
        _one(
            "raw_images_per_second", "The same in plain processes on a sample", manifest.raw_images_per_second or None
        ),
        _one("raw_speed_ratio", "Share of the raw speed that the run reached", manifest.raw_share or None),
        _by("part", "duration_seconds", "Time on the clock", clock),
        _by("part", "worker_seconds", "Time of all workers together; parts may go on side by side", workers),
        _one("peak_memory_bytes", "Most memory of any Python worker", manifest.peak_memory_mb * 2**20),
        _one("mean_score", "Mean confidence of the predicted rows", manifest.mean_score),
        _one("model_size_bytes", "Size of the model's files", manifest.model.get("size_bytes")),
        _one("finished_timestamp_seconds", "When the run's books were counted", finished),
        _one("last_good_timestamp_seconds", "When a run was last published, or has passed and will be", good),
        *(_judged(record) if record else ()),
    )
    return tuple(figure for figure in found if figure.samples)


def _judged(record: CheckRecord) -> Iterator[Figure]:
    """What the checks add."""
    passed = {one.name: float(one.passed) for one in record.results}
    measured = {one.name: one.value for one in record.results}
    yield _one("verdict", "0 passed, 1 warned, 2 failed", VERDICTS[record.verdict])
    yield _by("check", "check_passed", "1 if the check passed, else 0", passed)
    yield _by("check", "check_value", "What the check measured, drift among them", measured)
    yield _by("check", "check_limit", "What the check holds it to", {one.name: one.limit for one in record.results})
    if record.accuracy and record.accuracy.rows:
        bounds = {"low": record.accuracy.low, "measured": record.accuracy.share, "high": record.accuracy.high}
        yield _by("bound", "accuracy_ratio", "Right rows of the labelled ones, with the 95 % Wilson interval", bounds)
        yield _one("labelled_rows", "Predicted rows whose true label is known", record.accuracy.rows)


def _by(label: str, name: str, meaning: str, samples: Mapping[str, float | None]) -> Figure:
    known = {key: float(value) for key, value in samples.items() if value is not None and math.isfinite(value)}
    return Figure(name, meaning, label, known)


def _one(name: str, meaning: str, value: float | None) -> Figure:
    return _by("", name, meaning, {"": value})


def last_published(layout: OutputLayout) -> tuple[str, float] | None:
    """The newest published partition, and when any was published last (seconds since 1970); None if none was."""
    partitions = layout.published_partitions()
    if not partitions:
        return None
    return partitions[-1], max((layout.published(one) / RUN_FILE).stat().st_mtime for one in partitions)


def latency_histogram(manifest: RunManifest) -> list[tuple[str, int]]:
    """Upper bounds in seconds with the batches that took at most that, as Prometheus counts them.

    :return: one pair for each of :data:`LATENCY_BOUNDS` and ``+Inf``; empty if the manifest has no buckets
    """
    if not manifest.latency_buckets:
        return []
    counts = [0] * (len(LATENCY_BOUNDS) + 1)
    for bound, batches in manifest.latency_buckets:
        counts[bisect_left(LATENCY_BOUNDS, bound)] += batches
    return list(zip((*map(str, LATENCY_BOUNDS), "+Inf"), accumulate(counts), strict=True))


def model_name(manifest: RunManifest) -> str:
    """The model's name; manifests without it have it in the address."""
    return str(manifest.model.get("name") or Path(manifest.model["model"]).parent.name)


def require_job(job: str) -> str:
    """Return ``job`` if it can be a label and a file's name.

    :raises BadInputError: otherwise
    """
    if not JOB.fullmatch(job):
        raise BadInputError(f"job: {job!r} cannot name the series: use up to 60 letters, digits, _ and -")
    return job


def registry_of(
    manifest: RunManifest, record: CheckRecord | None, job: str, published: float | None = None
) -> CollectorRegistry:
    """Everything that Prometheus shall know of a run.

    Each series has the labels ``onnx_job`` and ``model``; the batch latency is a histogram.

    :param job: short name of the daily job, the same every day
    :param published: as in :func:`figures_of`
    :raises BadInputError: if ``job`` will not do
    :raises MissingExtraError: without the extra ``prometheus``
    """
    require_job(job)
    with needs_extra("prometheus", "telling Prometheus"):
        from prometheus_client import CollectorRegistry
    registry = CollectorRegistry()
    registry.register(_Run(manifest, figures_of(manifest, record, published), job))
    return registry


class _Run:
    """A collector, as prometheus_client calls what gives it metrics."""

    def __init__(self, manifest: RunManifest, figures: tuple[Figure, ...], job: str) -> None:
        self._manifest, self._figures = manifest, figures
        self._common = {"onnx_job": job, "model": model_name(manifest)}

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

        names, values = list(self._common), list(self._common.values())
        version = str(self._manifest.model.get("version") or Path(self._manifest.model["model"]).name)
        info = GaugeMetricFamily(
            f"{PREFIX}info", "Which run the figures are of; always 1", labels=[*names, "run", "partition", "version"]
        )
        info.add_metric([*values, self._manifest.run, self._manifest.partition, version], 1)
        yield info
        for figure in self._figures:
            own = [figure.label] if figure.label else []
            family = GaugeMetricFamily(f"{PREFIX}{figure.name}", figure.meaning, labels=[*names, *own])
            for key, value in figure.samples.items():
                family.add_metric([*values, *([key] if own else [])], value)
            yield family
        if buckets := latency_histogram(self._manifest):
            latency = HistogramMetricFamily(
                f"{PREFIX}batch_latency_seconds", "Time of one session.run of this run", labels=names
            )
            latency.add_metric(values, buckets, self._manifest.seconds.get("inference", 0.0))
            yield latency


def write_textfile(folder: Path, job: str, registry: CollectorRegistry) -> Path:
    """Write ``<folder>/<job>.prom`` for node exporter's textfile collector, atomically; the folder is made if need be.

    :raises OSError: if it cannot be written
    """
    from prometheus_client import write_to_textfile

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{job}.prom"
    write_to_textfile(str(path), registry)
    return path
