# SPDX-License-Identifier: Apache-2.0
"""Advice in words: rules over the measured numbers. Each rule quotes the number that it speaks of, or says nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from airflow_onnx_provider.quality.reports import words
from airflow_onnx_provider.quality.reports.facts import RunFacts
from airflow_onnx_provider.quality.reports.measures import below, number
from airflow_onnx_provider.quality.reports.shares import label_shares, mixed_up, moved
from airflow_onnx_provider.quality.reports.speed_advice import SPEED_RULES
from airflow_onnx_provider.quality.reports.verdict import LEVELS, Remark

MOVED = 0.05
"""Label drift from which the report says which labels moved."""

DOUBTFUL, MANY_DOUBTFUL = 0.5, 0.1
"""A score below the first is doubtful; from this share of doubtful rows on, the report speaks of them."""

MANY_QUARANTINED, DOMINATING = 0.001, 0.5
WIDE = 0.03
"""Half of a 95 % interval of the accuracy from which more labelled rows are asked for."""

LEAST_RECALL, LEAST_LABELLED = 0.7, 5


def advice(facts: RunFacts) -> list[Remark]:
    """What stands out, and what to do about it, the gravest first."""
    found = [remark for rule in (*RULES, *SPEED_RULES) for remark in rule(facts)]
    return sorted(found, key=lambda remark: LEVELS.index(remark.level))


def baseline(facts: RunFacts) -> Iterator[Remark]:
    """What the comparison with earlier days is worth."""
    before = facts.before
    if before.missing:
        yield Remark(
            "info",
            f"The figures of {words.listed([words.clean(one) for one in before.missing[:7]])}, with which the checks "
            "compared, can no longer be read.",
        )
    if not before.partitions:
        if not before.missing:
            yield Remark("info", "There is no earlier day to compare with: whether anything drifted is not known.")
        return
    digest = facts.manifest.model.get("digest")
    if digest and before.digests and digest not in before.digests:
        yield Remark(
            "info",
            "The days before were scored by another version of the model: what looks like drift may be the new "
            "model's own opinion.",
        )


def drift(facts: RunFacts) -> Iterator[Remark]:
    """Which labels moved."""
    if not facts.before.partitions:
        return
    shares = label_shares(facts.manifest.labels, facts.before.labels)
    total = moved(shares)
    gone = [one for one in shares if not one.rows and one.before >= 0.01]
    for one in gone[:3]:
        yield Remark(
            "care",
            f"No row is {words.quoted(one.label)} any more, which was {words.percent(one.before)} of the rows before.",
        )
    if total < MOVED:
        return
    most = sorted(shares, key=lambda one: -abs(one.change))[:3]
    told = [
        f"{words.quoted(one.label)} from {words.percent(one.before)} to {words.percent(one.share)}"
        for one in most
        if one.change
    ]
    part = moved(most) / total
    yield Remark(
        "care",
        f"{words.percent(total)} of the rows moved to another label: {words.listed(told)} "
        f"{'is' if len(told) == 1 else 'are'} {words.percent(part)} of that. Look at their pictures below: has the "
        "catalogue changed, or does the model see it otherwise?",
    )


def confidence(facts: RunFacts) -> Iterator[Remark]:
    """Many doubtful rows."""
    share = below(facts.manifest.score_histogram, DOUBTFUL)
    if share is None or share < MANY_DOUBTFUL:
        return
    before = below(facts.before.score_histogram, DOUBTFUL) if facts.before.partitions else None
    beside = f" (before: {words.percent(before)})" if before is not None else ""
    yield Remark(
        "care" if before is None or share > 1.2 * before else "info",
        f"{words.percent(share)} of the rows have a score below {DOUBTFUL:g}{beside}. If it is always the same kind of "
        "picture, the model lacks examples of it.",
    )


def quarantine(facts: RunFacts) -> Iterator[Remark]:
    """One reason that explains most of the quarantine."""
    manifest = facts.manifest
    rows = manifest.quarantined_rows
    if not rows or rows < MANY_QUARANTINED * manifest.rows_in:
        return
    code, most = max(manifest.quarantined.items(), key=lambda one: (one[1], one[0]))
    if len(manifest.quarantined) > 1 and most < DOMINATING * rows:
        return
    hints = {
        "broken_image": "Ask who delivers them whether uploads are cut off.",
        "empty_file": "Ask who delivers them whether the day was read before it was complete.",
        "not_an_image": "Their first bytes, below, often tell what they are, such as a saved error page.",
        "unreadable": "Check the rights and the network between the executors and the catalogue.",
        "model_error": "The model itself fails on them: validate it with such a picture.",
        "native_crash": "Report the picture to the decoder's or the runtime's makers; it stays out meanwhile.",
    }
    yield Remark(
        "info",
        f"{words.percent(most / rows)} of the quarantine ({words.count(most)} of {words.count(rows, 'row')}) are "
        f"{words.reason(code)}. {hints.get(code, '')}".rstrip(),
    )


def accuracy(facts: RunFacts) -> Iterator[Remark]:
    """What is known of the accuracy, and how well."""
    known = facts.record.accuracy if facts.record else None
    if facts.record is None:
        return
    if known is None or not known.rows:
        yield Remark("info", "No row of the day was labelled, so the accuracy is not known.")
        return
    if (half := (known.high - known.low) / 2) > WIDE:
        # The normal approximation of a share's 95 % interval, solved for its rows.
        needed = round(1.96**2 * max(known.share * (1 - known.share), 0.01) / 0.02**2, -1)
        yield Remark(
            "info",
            f"{words.count(known.rows, 'labelled row')} tell the accuracy to within {half * 100:.0f} points; about "
            f"{words.count(needed)} would tell it to within 2.",
        )
    weak = sorted(
        (right / rows, label, right, rows)
        for label, (right, rows) in known.recall.items()
        if rows >= LEAST_LABELLED and right / rows < LEAST_RECALL
    )
    if weak:
        told = [f"{words.quoted(label)} ({right} of {rows})" for _, label, right, rows in weak[:3]]
        more = f" and {len(weak) - 3} more labels" if len(weak) > 3 else ""
        yield Remark("care", f"The model often misses {words.listed(told)}{more}: fewer than 7 in 10 are found.")
    if (wrong := mixed_up(known)) and wrong[0][2] > 2:
        true, predicted, rows = wrong[0]
        yield Remark(
            "info",
            f"The most frequent mistake: {words.count(rows, 'row')} of {words.quoted(true)} taken for "
            f"{words.quoted(predicted)}.",
        )


def golden(facts: RunFacts) -> Iterator[Remark]:
    """Whether every worker computed what the accepted model computes."""
    difference = number(facts.manifest.golden_difference)
    if difference is None:
        return
    if not difference:
        yield Remark("good", "Every worker gave exactly the golden answers before it scored a row.")
    else:
        yield Remark(
            "good",
            f"Every worker gave the golden answers within their tolerance; the largest difference was "
            f"{words.difference(difference)}.",
        )


def provenance(facts: RunFacts) -> Iterator[Remark]:
    """Rows that were not simply scored in this run, and several runtimes in one."""
    manifest = facts.manifest
    if manifest.carried:
        yield Remark(
            "info",
            f"{words.count(manifest.carried)} of {words.count(manifest.predicted, 'predicted row')} "
            f"({words.percent(manifest.carried / max(1, manifest.predicted))}) have the answer that an earlier run "
            "gave to the same content with the same model.",
        )
    if manifest.replays:
        yield Remark("info", f"This run scored the quarantine of run {words.clean(manifest.replays)} again.")
    if len(manifest.runtimes) > 1:
        yield Remark(
            "care",
            f"The rows were scored by {len(manifest.runtimes)} different runtimes: "
            f"{words.listed([words.clean(one) for one in manifest.runtimes[:4]])}. Answers may differ a little.",
        )


RULES: Sequence[Callable[[RunFacts], Iterator[Remark]]] = (
    drift,
    confidence,
    quarantine,
    accuracy,
    baseline,
    provenance,
    golden,
)
