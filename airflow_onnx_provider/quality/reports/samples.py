# SPDX-License-Identifier: Apache-2.0
"""What a run's report shows of the rows themselves: the surest ones of some labels, the most doubtful, the refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_onnx_provider.exceptions import SparkJobError
from airflow_onnx_provider.pages.words import clean
from airflow_onnx_provider.quality.reports.facts import RunFacts, row_folders
from airflow_onnx_provider.quality.reports.pictures import Inputs, Thumbnail, begins_with
from airflow_onnx_provider.quality.reports.rows import Refused, Row, best_rows, doubtful_rows, refused_rows
from airflow_onnx_provider.quality.reports.shares import label_shares, telling
from airflow_onnx_provider.spark.layout import OutputLayout

LABELS = 24
A_LABEL = 2
DOUBTFUL = 12
A_REASON = 3
REASONS = 12


@dataclass(frozen=True)
class Sample:
    """A predicted row and its picture."""

    row: Row
    picture: Thumbnail


@dataclass(frozen=True)
class RefusedSample:
    """A row in quarantine, and the first bytes of its input, or why they are not shown."""

    row: Refused
    begins: str


@dataclass(frozen=True)
class Samples:
    """Some of a run's rows.

    :param by_label: label to its surest rows
    :param doubtful: the rows with the lowest scores
    :param refused: reason to some of its rows
    :param note: why there are none, or none with a picture; empty if there are
    """

    by_label: dict[str, tuple[Sample, ...]]
    doubtful: tuple[Sample, ...] = ()
    refused: tuple[tuple[str, tuple[RefusedSample, ...]], ...] = ()
    note: str = ""


def take_samples(layout: OutputLayout, facts: RunFacts) -> Samples:
    """Pick rows of a run and make small pictures of them. Rows that cannot be read are no reason to have no report."""
    folders = row_folders(layout, facts.manifest, facts.place)
    inputs = Inputs(facts.manifest.source, facts.manifest.partition)
    predictions = folders.files(folders.predictions)
    labels = _telling_labels(facts)
    try:
        refused = _refused(folders.files(folders.quarantine), inputs)
        best = best_rows(predictions, labels, A_LABEL)
        doubtful = doubtful_rows(predictions, DOUBTFUL)
    except SparkJobError as error:
        return Samples({}, note=clean(error))
    if not predictions:
        return Samples({}, (), refused, "No rows of this run are left.")
    # The doubtful ones first: if the time runs out, these are what a person wants to see.
    keys = [row.key for row in (*doubtful, *(row for label in labels for row in best.get(label, ())))]
    pictures = inputs.thumbnails(list(dict.fromkeys(keys)))
    note = "" if inputs.known else "The run manifest does not say where the pictures are: the run is an older one."
    return Samples(
        {label: _shown(best[label], pictures) for label in labels if label in best},
        _shown(doubtful, pictures),
        refused,
        note,
    )


def _telling_labels(facts: RunFacts) -> list[str]:
    shares = label_shares(facts.manifest.labels, facts.before.labels)
    return [one.label for one in telling([one for one in shares if one.rows], LABELS)]


def _shown(rows: Sequence[Row], pictures: dict[str, Thumbnail]) -> tuple[Sample, ...]:
    return tuple(Sample(row, pictures.get(row.key, Thumbnail(note="no picture"))) for row in rows)


def _refused(files: Sequence[str], inputs: Inputs) -> tuple[tuple[str, tuple[RefusedSample, ...]], ...]:
    found = sorted(refused_rows(files, A_REASON).items())[:REASONS]
    return tuple((reason, tuple(_refused_sample(row, inputs) for row in rows)) for reason, rows in found)


def _refused_sample(row: Refused, inputs: Inputs) -> RefusedSample:
    data = row.copy if row.copy is not None else inputs.original(row.key)
    return RefusedSample(row, begins_with(data) if isinstance(data, bytes) else data)
