# SPDX-License-Identifier: Apache-2.0
"""The run manifest: written by the Spark job, the only proof of its success."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import OnnxProviderError, SparkJobError, from_traceback
from airflow_onnx_provider.runtime.manifest import write_json

FORMAT = 1
SCORE_BINS = 20

ADDED = frozenset(
    {
        "carried",
        "tasks",
        "scoring",
        "replaces",
        "source",
        "latency_buckets",
        "slowest",
        "started",
        "finished",
        "replays",
    }
)
"""Fields that the first manifests did not have; those stay readable."""


@dataclass(frozen=True)
class RunManifest:
    """What one run did.

    :param run: the run's name
    :param partition: of the data
    :param output_path: the output folder
    :param model: address, name, version, digest and labels of the model
    :param plan: the plan as it was carried out
    :param rows_in: files that the driver listed
    :param predicted: rows in the staged predictions
    :param quarantined: reason to rows in the staged quarantine
    :param labels: label to predicted rows
    :param score_histogram: predicted rows per bin of width 0.05 from 0 to 1
    :param mean_score: mean of the predicted rows' scores, None without rows
    :param null_rows: predicted rows without a key or label, or with a score that is null or NaN
    :param latency_ms: P50, P90 and P99 of one ``session.run``
    :param seconds: ``load``, ``read``, ``decode``, ``inference``, ``wait`` (for a full batch) over all tasks, of which
        reading and decoding may go on beside inference; ``scoring``, ``job`` on the clock
    :param images_per_second: rows in divided by the scoring stage's time on the clock
    :param raw_images_per_second: same decode and model in plain processes on a sample, all slots together; 0.0 if
        those crashed
    :param raw_share: ``images_per_second``, carried rows left out, divided by ``raw_images_per_second``
    :param golden_difference: largest difference of the golden rows in any worker
    :param peak_memory_mb: most memory of any Python worker, in MiB
    :param runtimes: each pair of ONNX Runtime version and execution provider that scored rows
    :param provenance: versions of Python and Spark, Spark application and master
    :param files: staged Parquet files relative to the run's staging folder
    :param carried: predicted rows that have the answer which an earlier run gave to the same content
    :param tasks: ``count`` of Spark tasks, and ``median`` and ``largest`` of their ``rows``, ``bytes`` and ``seconds``
    :param scoring: what decides a row's answers beside its content and the model: provider, decoder, top_k, raw
    :param replaces: the run that was published when this one began, or None
    :param source: where the rows came from: ``folder`` of the day, ``key``, ``input`` and ``root`` as the job was told,
        and ``newest``, the latest change of an input file (ISO 8601, UTC)
    :param latency_buckets: pairs of an upper bound in seconds and the batches whose ``session.run`` took at most that
        and more than the bound before, sorted
    :param slowest: the Spark tasks that took longest, the slowest first: number as ``task``, ``rows``, ``bytes``,
        ``seconds``
    :param started: when the driver began (ISO 8601, UTC), empty in old manifests
    :param finished: when the books were counted, likewise
    :param replays: the published run whose quarantine this one scored again, or None
    """

    run: str
    partition: str
    output_path: str
    model: Mapping[str, Any]
    plan: Mapping[str, Any]
    rows_in: int
    predicted: int
    quarantined: Mapping[str, int]
    labels: Mapping[str, int]
    score_histogram: tuple[int, ...]
    mean_score: float | None
    null_rows: int
    latency_ms: Mapping[str, float]
    seconds: Mapping[str, float]
    images_per_second: float
    raw_images_per_second: float
    raw_share: float
    golden_difference: float
    peak_memory_mb: float
    runtimes: tuple[str, ...]
    provenance: Mapping[str, Any]
    files: tuple[str, ...] = field(default=())
    carried: int = 0
    tasks: Mapping[str, Any] = field(default_factory=dict)
    scoring: Mapping[str, Any] = field(default_factory=dict)
    replaces: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    latency_buckets: tuple[tuple[float, int], ...] = ()
    slowest: tuple[Mapping[str, Any], ...] = ()
    started: str = ""
    finished: str = ""
    replays: str | None = None

    @property
    def quarantined_rows(self) -> int:
        return sum(self.quarantined.values())

    def figures(self) -> dict[str, Any]:
        """The few figures that a person or a consumer of the partition wants to see."""
        return {
            "run": self.run,
            "partition": self.partition,
            "model": self.model["model"],
            "model_digest": self.model["digest"],
            "rows_in": self.rows_in,
            "predicted": self.predicted,
            "carried": self.carried,
            "quarantined": self.quarantined_rows,
            "mean_score": self.mean_score,
            "images_per_second": self.images_per_second,
            "raw_images_per_second": self.raw_images_per_second,
            "raw_share": self.raw_share,
        }

    def write(self, path: Path) -> None:
        """Write the manifest as JSON, atomically."""
        write_json(path, {"format": FORMAT, "state": "finished", **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> RunManifest:
        """Read a finished run's manifest.

        :raises SparkJobError: if there is none, it is no manifest, or the run failed
        """
        data = read_state(path)
        if data is None:
            raise SparkJobError(f"there is no run manifest at {path}: the job did not finish")
        if data.get("state") != "finished" or data.get("format") != FORMAT:
            raise SparkJobError(f"{path}: the run is {data.get('state')}: {data.get('error', 'no finished manifest')}")
        if missing := sorted(set(cls.__dataclass_fields__) - ADDED - set(data)):
            raise SparkJobError(f"{path} is no whole run manifest: it lacks {', '.join(missing)}")
        fields: dict[str, Any] = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**{**fields, **lists})


def read_state(path: Path) -> dict[str, Any] | None:
    """The manifest's JSON in whatever state the run left it, None if the job never wrote one.

    :raises SparkJobError: if it is not JSON
    """
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise SparkJobError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise SparkJobError(f"{path} is no run manifest: it holds a {type(data).__name__}")
    return data


def failure(path: Path, said: str) -> OnnxProviderError:
    """Why a run failed: the job's own error if it left one, else the last line of what spark-submit said.

    :param path: where the run's manifest would be
    :param said: by spark-submit
    """
    state = read_state(path)
    if state is not None:
        text = f"{state['class']}: {state['error']}"
        return from_traceback(f"{OnnxProviderError.__module__}.{text}") or SparkJobError(text)
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    return SparkJobError(f"the Spark job ended without a run manifest; the last thing it said: {last}")


def write_failure(path: Path, partition: str, error: Exception) -> None:
    """Leave the job's own words where the operator looks for its result."""
    said = {"class": type(error).__name__, "error": str(error)}
    write_json(path, {"format": FORMAT, "state": "failed", "partition": partition, **said})


def abandon(path: Path, partition: str, staging: Path) -> None:
    """Close the books of a run whose driver has died: what it staged is removed, and its manifest says so.

    A run that left a manifest has ended in its own way and is left alone.
    """
    if read_state(path) is None:
        shutil.rmtree(staging, ignore_errors=True)
        write_failure(path, partition, SparkJobError("the driver died before the run had ended"))
