# SPDX-License-Identifier: Apache-2.0
"""Checks of the run itself: its books, its rows and its speed."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_onnx_provider.quality.checks.finding import Figures, Finding, at_least, at_most, limit_of, some
from airflow_onnx_provider.quality.checks.settings import Options

REPLAYED = "not judged: a replay scores a few rows of the day, which tell nothing of its speed"


def row_books(figures: Figures, _options: Options) -> Finding:
    manifest, contents = figures.manifest, figures.contents
    quarantined = manifest.quarantined_rows
    off = (
        abs(manifest.rows_in - manifest.predicted - quarantined)
        + abs(manifest.predicted - contents.predicted)
        + abs(quarantined - contents.quarantined)
    )
    return at_most(
        off,
        0,
        0,
        f"{manifest.rows_in} rows in = predicted + quarantined, in the run manifest and in the files",
        f"{manifest.predicted} + {quarantined} in the manifest, "
        f"{contents.predicted} + {contents.quarantined} in the files",
    )


def unique_keys(figures: Figures, options: Options) -> Finding:
    limit, found = limit_of(options), figures.contents.duplicates
    expected = f"at most {limit:g} rows with the key of another row"
    return at_most(
        found, limit, options.tolerance, expected, f"{found}" + (f", such as {figures.contents.twice}" if found else "")
    )


def quarantine_rate(figures: Figures, options: Options) -> Finding:
    """The rate of all, and of each reason that has a limit of its own; an empty day counts as quarantined."""
    limit, quarantined = limit_of(options), figures.manifest.quarantined
    rows_in = figures.manifest.rows_in
    rate = figures.manifest.quarantined_rows / rows_in if rows_in else 1.0
    reasons = ", ".join(f"{reason} {rows}" for reason, rows in sorted(quarantined.items()))
    expected = [f"at most {limit:.2%} of the rows"]
    held = [(rate, limit)]
    for reason, own in options.each.items():
        expected.append(f"{own:.2%} {reason}")
        held.append((quarantined.get(reason, 0) / rows_in if rows_in else 0.0, own))
    return Finding(
        ", ".join(expected),
        f"{rate:.2%}" + (f" ({reasons})" if reasons else ""),
        passed=all(share <= own + options.tolerance for share, own in held),
        value=rate,
        limit=limit,
        grey=any(share > own for share, own in held),
    )


def nulls(figures: Figures, options: Options) -> Finding:
    limit, contents = limit_of(options), figures.contents
    kinds = {"null": contents.nulls, "NaN": contents.nans, "infinite": contents.infinite}
    listed = ", ".join(f"{rows} {kind}" for kind, rows in kinds.items() if rows)
    expected = f"at most {limit:g} rows with a null, or a score that is NaN or infinite"
    actual = f"{contents.unusable}" + (f" ({listed})" if listed else "")
    return at_most(contents.unusable, limit, options.tolerance, expected, actual)


def unknown_labels(figures: Figures, options: Options) -> Finding:
    limit, known = limit_of(options), set(figures.manifest.model.get("labels") or ())
    unknown = {one: rows for one, rows in sorted(figures.manifest.labels.items()) if known and one not in known}
    found = sum(unknown.values())
    listed = some([f"{label!r} {rows}" for label, rows in unknown.items()])
    expected = f"at most {limit:g} rows with a label that the model does not have"
    return at_most(found, limit, options.tolerance, expected, f"{found}" + (f" ({listed})" if listed else ""))


def mean_confidence(figures: Figures, options: Options) -> Finding:
    limit, mean = limit_of(options), figures.manifest.mean_score
    expected = f"a mean score of at least {limit:.3f}"
    if mean is None:
        return Finding(expected, "no predicted row", passed=False, limit=limit)
    return at_least(mean, limit, options.tolerance, expected, f"{mean:.3f}")


def freshness(figures: Figures, options: Options) -> Finding:
    limit = limit_of(options)
    expected = f"input files of which the newest is at most {limit:g} hours old at the end of the run"
    newest = _moment(figures.manifest.source.get("newest"))
    finished = _moment(figures.manifest.finished)
    if newest is None or finished is None:
        return Finding(expected, "the run manifest does not say how old they are", passed=False, limit=limit)
    hours = (finished - newest).total_seconds() / 3600
    return at_most(hours, limit, options.tolerance, expected, f"{hours:.1f} hours ({newest:%Y-%m-%d %H:%M} UTC)")


def throughput(figures: Figures, options: Options) -> Finding:
    limit, rate = limit_of(options), figures.manifest.images_per_second
    expected = f"at least {limit:g} images a second"
    if figures.manifest.replays:
        return Finding(expected, REPLAYED, limit=limit)
    return at_least(rate, limit, options.tolerance, expected, f"{rate:.1f}")


def latency(figures: Figures, options: Options) -> Finding:
    limit = limit_of(options)
    expected = f"at most {limit:g} ms for a batch ({options.choice.upper()})"
    if figures.manifest.replays:
        return Finding(expected, REPLAYED, limit=limit)
    spent = figures.manifest.latency_ms.get(options.choice)
    if spent is None:
        return Finding(expected, "no batch ran: all answers were carried over, or there was no row", limit=limit)
    return at_most(spent, limit, options.tolerance, expected, f"{spent:.1f} ms")


def _moment(text: object) -> datetime | None:
    """A moment of the run manifest; None if there is none."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
