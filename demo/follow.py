# SPDX-License-Identifier: Apache-2.0
"""Airflow's console log, cut down to what a person wants to follow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

RECORD_STARTS = re.compile(r"^\d{4}-\d\d-\d\dT\S+ \[(?P<level>\w+) *\] ")
TASK_STARTS = re.compile(r"\[DAG TEST\] starting task_id=(\w+)")
LOGGER = re.compile(r"\s*\[(?P<logger>[\w.]+)\] .*?loc=\S+\s*$", re.DOTALL)
OURS = "airflow_onnx_provider"
NOISE = re.compile(
    r"Spark-Submit cmd|incubator modules"
    r"|absl::|oneDNN|cpu_feature_guard|^To enable the following instructions"
    r"|^Using (opset|tensorflow)|^Computed 0|^Optimizing ONNX|^After optimization|^Quantization parameters"
)


def records(lines: Iterable[str]) -> Iterator[str]:
    """Join the lines of each log record; a record starts with a time and a level."""
    record: list[str] = []
    for line in lines:
        if RECORD_STARTS.match(line) and record:
            yield "".join(record)
            record = []
        record.append(line)
    if record:
        yield "".join(record)


def readable(record: str) -> str | None:
    """What to show of a record, or None: tasks as they start, the provider's own words, and errors."""
    if task := TASK_STARTS.search(record):
        return f"{task[1]}"
    start = RECORD_STARTS.match(record)
    if start is None:
        return None
    text = record[start.end() :]
    logger = LOGGER.search(text)
    if start["level"] in ("error", "critical"):
        return _indented(text)
    if logger is None or OURS not in logger["logger"]:
        return None
    message = text[: logger.start()].strip()
    return None if not message or NOISE.search(message) else _indented(message)


def _indented(text: str) -> str:
    return "\n".join(f"    {line.rstrip()}" for line in text.strip().splitlines())
