# SPDX-License-Identifier: Apache-2.0
"""A run's figures through Airflow's own stats: StatsD, Datadog or OpenTelemetry, as ``[metrics]`` says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from airflow.sdk.configuration import conf
from airflow.sdk.observability.stats import Stats  # 3.3's functions in a form that 3.2 has as well

from airflow_onnx_provider.quality.exposition import figures_of, model_name, require_job
from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.run_manifest import RunManifest

PREFIX = "onnx.run"


def emit(manifest: RunManifest, record: CheckRecord | None, job: str) -> int:
    """Send all figures of a run: times on the clock as timings, everything else as gauges.

    Where tags are carried (OpenTelemetry, Datadog, StatsD in InfluxDB's way) a figure is ``onnx.run.rows`` with the
    tags ``onnx_job``, ``model`` and its own, such as ``outcome``. Plain StatsD drops tags, so there they are part of
    the name, without the model: ``onnx.run.<job>.rows.predicted``.

    :return: how many were sent; Airflow drops them silently if no backend is switched on
    :raises BadInputError: if ``job`` will not do
    """
    common = {"onnx_job": require_job(job), "model": model_name(manifest)}
    tagged = _carries_tags()
    sent = 0

    def send(name: str, own: Mapping[str, str], value: float) -> None:
        nonlocal sent
        path = (PREFIX, name) if tagged else (PREFIX, job, name, *map(_part, own.values()))
        tags = {**common, **own}
        if name == "duration_seconds":
            Stats.timing(".".join(path), timedelta(seconds=value), tags=tags)
        else:
            Stats.gauge(".".join(path), value, tags=tags)
        sent += 1

    for figure in figures_of(manifest, record):
        for key, value in figure.samples.items():
            send(figure.name, {figure.label: key} if figure.label else {}, value)
    for percentile, milliseconds in manifest.latency_ms.items():
        send("batch_latency_seconds", {"percentile": percentile}, milliseconds / 1000)
    return sent


def _carries_tags() -> bool:
    """Whether the backend that Airflow would take, in its own order, keeps tags."""
    datadog, statsd, influx = (
        conf.getboolean("metrics", name, fallback=False)
        for name in ("statsd_datadog_enabled", "statsd_on", "statsd_influxdb_enabled")
    )
    return datadog or influx or not statsd


def _part(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)
