# SPDX-License-Identifier: Apache-2.0
"""A run beside earlier days and beside labelled rows: labels, scores, accuracy."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_onnx_provider.pages.table import Table
from airflow_onnx_provider.quality.reports import words
from airflow_onnx_provider.quality.reports.facts import RunFacts
from airflow_onnx_provider.quality.reports.plots import Plot, confusion_plot, labels_plot, scores_plot
from airflow_onnx_provider.quality.reports.shares import confusion_of, label_shares, mixed_up, telling

SHOWN_LABELS = 20
SHOWN_CONFUSED = 25

BANDS = ((0.95, 1.0), (0.8, 0.95), (0.5, 0.8), (0.0, 0.5))
"""Scores that the table of scores puts together; their ends are ends of the histogram's bins."""


@dataclass(frozen=True)
class LabelsView:
    """Labels now and before."""

    said: str
    plot: Plot
    table: Table


@dataclass(frozen=True)
class ScoresView:
    """Scores now and before."""

    plot: Plot
    table: Table


@dataclass(frozen=True)
class AccuracyView:
    """Labelled rows."""

    said: str
    plot: Plot | None
    plot_note: str
    recall: Table
    mistakes: Table | None


def compared_of(facts: RunFacts) -> str:
    """With what the run is compared."""
    before = facts.before
    if not before.partitions:
        return "There is no earlier day to compare with."
    days = words.listed([words.clean(one) for one in before.partitions[:10]])
    more = f" and {len(before.partitions) - 10} more" if len(before.partitions) > 10 else ""
    return f"Before: {words.clean(before.rule)} – {days}{more}."


def labels_of(facts: RunFacts) -> LabelsView | None:
    """Labels now and before; None if no row was predicted."""
    shares = label_shares(facts.manifest.labels, facts.before.labels)
    if not shares:
        return None
    compared = bool(facts.before.partitions)
    shown = telling(shares, SHOWN_LABELS)
    rest = len(shares) - len(shown)
    held = sum(one.share for one in shares) - sum(one.share for one in shown)
    told = f"{words.count(len(facts.manifest.labels), 'label')} were predicted."
    if rest:
        moved = " and those that moved most" if compared else ""
        told += f" Shown are the most frequent{moved}; {words.count(rest)} more have {words.percent(held)} of the rows."
    columns: tuple[str, ...] = ("Label", "Rows", "Share")
    rows = [(words.clean(one.label, 60), words.count(one.rows), words.percent(one.share)) for one in shown]
    if not compared:
        table = Table("Rows by label", columns, tuple(rows), left_out=rest, numbers=(1, 2))
    else:
        wide = tuple(
            (*row, words.percent(one.before), words.points(one.change)) for row, one in zip(rows, shown, strict=True)
        )
        columns = (*columns, "Before", "Points")
        table = Table("Rows by label, and the change in percentage points", columns, wide, left_out=rest,
                      numbers=(1, 2, 3, 4))  # fmt: skip
    return LabelsView(told, labels_plot(shown, compared), table)


def scores_of(facts: RunFacts) -> ScoresView | None:
    """Scores now and before; None if no row was predicted."""
    now, before = facts.manifest.score_histogram, facts.before.score_histogram
    if not sum(now):
        return None
    compared = sum(before) > 0
    rows = []
    for low, high in BANDS:
        bins = slice(round(low * len(now)), round(high * len(now)))
        name = f"{low:g} to {high:g}" if low else f"below {high:g}"
        held = (name, words.count(sum(now[bins])), words.share(sum(now[bins]), sum(now)))
        rows.append((*held, words.share(sum(before[bins]), sum(before))) if compared else held)
    columns = ("Score", "Rows", "Share", *(["Before"] if compared else []))
    return ScoresView(
        scores_plot(now, before),
        Table("Rows by score", columns, tuple(rows), numbers=tuple(range(1, len(columns)))),
    )


def accuracy_of(facts: RunFacts) -> AccuracyView | None:
    """Labelled rows; None if there were none."""
    known = facts.record.accuracy if facts.record else None
    if known is None or not known.rows:
        return None
    missing = f" {words.count(known.missing, 'labelled row')} had no prediction." if known.missing else ""
    said = (
        f"{words.count(known.correct)} of {words.count(known.rows, 'labelled row')} are right: "
        f"{words.percent(known.share)}, with 95 % confidence between {words.percent(known.low)} and "
        f"{words.percent(known.high)}.{missing}"
    )
    recalls = sorted(known.recall.items(), key=lambda one: (one[1][0] / max(1, one[1][1]), -one[1][1], one[0]))
    recall = Table(
        "Found of each label, the worst first",
        ("True label", "Right", "Labelled", "Found"),
        tuple(
            (words.clean(label, 60), words.count(right), words.count(rows), words.share(right, rows))
            for label, (right, rows) in recalls[:SHOWN_CONFUSED]
        ),
        left_out=max(0, len(recalls) - SHOWN_CONFUSED),
        numbers=(1, 2, 3),
    )
    confusion = confusion_of(known, SHOWN_CONFUSED)
    rest = confusion.all_labels - len(confusion.labels)
    wrong = mixed_up(known)
    mistakes = Table(
        "Most frequent mistakes",
        ("True label", "Taken for", "Rows"),
        tuple((words.clean(true, 60), words.clean(as_, 60), words.count(rows)) for true, as_, rows in wrong[:10]),
        left_out=max(0, len(wrong) - 10),
        numbers=(2,),
    )
    return AccuracyView(
        said,
        confusion_plot(confusion) if confusion.cells else None,
        f"The {len(confusion.labels)} labels with the most mistakes; {words.count(rest)} more are not shown."
        if rest
        else "",
        recall,
        mistakes if wrong else None,
    )
