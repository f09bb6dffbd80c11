# SPDX-License-Identifier: Apache-2.0
"""A run in a few lines, for a chat or a mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_onnx_provider.quality.alerts import Change
from airflow_onnx_provider.quality.exposition import model_name
from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.run_manifest import RunManifest

LONGEST = 600


@dataclass(frozen=True)
class RunMessage:
    """What is said of a run.

    :param subject: model, partition and verdict
    :param lines: what else there is to say, the most urgent first
    :param link: address of the report, or empty
    """

    subject: str
    lines: tuple[str, ...]
    link: str = ""

    @property
    def text(self) -> str:
        """Plain text of at most :data:`LONGEST` characters; what is cut off is the least urgent, never the link."""
        return _fit([self.subject, *self.lines], self.link)

    @property
    def markdown(self) -> str:
        """The same with the subject in bold and the rest as a list."""
        return _fit([f"**{self.subject}**", "", *(f"- {line}" for line in self.lines)], self.link)

    def __str__(self) -> str:
        return self.text


def message_of(
    manifest: RunManifest,
    record: CheckRecord | None,
    changed: Sequence[Change] = (),
    link: str = "",
    error: BaseException | str | None = None,
) -> RunMessage:
    """What to say of a finished run.

    :param record: what the checks said, None if the run was not judged
    :param changed: alerts that this run raised or cleared
    :param link: address of its report
    :param error: what a task of it failed with; left out if that is the failed checks, which are listed anyway
    """
    verdict = record.verdict if record else "not judged"
    told = [] if error is None or verdict == "failed" else [str(error)]
    lines = [
        *told,
        *(str(one) for one in changed),
        *(str(one) for one in (record.failed if record else ())),
        _rows(manifest),
        _speed(manifest),
        *_quality(record),
    ]
    subject = f"{model_name(manifest)} {manifest.partition}: {'failed' if told else verdict}"
    return RunMessage(subject, tuple(lines), link)


def _rows(manifest: RunManifest) -> str:
    said = f"{manifest.rows_in:,} rows in, {manifest.predicted:,} predicted"
    if not manifest.quarantined_rows:
        return f"{said}, none quarantined"
    most = sorted(manifest.quarantined.items(), key=lambda one: -one[1])[:3]
    reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in most)
    return f"{said}, {manifest.quarantined_rows:,} quarantined ({reasons})"


def _speed(manifest: RunManifest) -> str:
    said = f"{manifest.images_per_second:,.0f} images/s"
    if manifest.raw_images_per_second:
        said += f", {manifest.raw_share:.0%} of the raw speed"
    return f"{said}, batch P99 {manifest.latency_ms['p99']:.3g} ms" if "p99" in manifest.latency_ms else said


def _quality(record: CheckRecord | None) -> list[str]:
    if record is None:
        return []
    lines = []
    drift = {one.name.replace("_", " "): one.value for one in record.results if one.name.endswith("_drift")}
    if measured := ", ".join(f"{name} {value:.3g}" for name, value in drift.items() if value is not None):
        lines.append(f"{measured} (baseline: {record.baseline})")
    if record.accuracy and record.accuracy.rows:
        right = record.accuracy
        lines.append(
            f"accuracy {right.share:.2%} ({right.low:.2%} to {right.high:.2%}) on {right.rows:,} labelled rows"
        )
    return lines


def _fit(lines: Sequence[str], link: str) -> str:
    text, end = "\n".join(lines), f"\n{link}" if link else ""
    room = LONGEST - len(end)
    return (text if len(text) <= room else f"{text[: room - 1]}…") + end
