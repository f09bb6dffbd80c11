# SPDX-License-Identifier: Apache-2.0
"""Advice on speed, tasks and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from airflow_onnx_provider.quality.reports import words
from airflow_onnx_provider.quality.reports.facts import RunFacts
from airflow_onnx_provider.quality.reports.measures import Memory, Spread, TimeSpent, decision, number
from airflow_onnx_provider.quality.reports.verdict import Remark

BOUND = 0.5
"""Share of the work from which one part sets the pace."""

SHORT_SECONDS = 60.0
"""A scoring stage this short says little about speed: tasks start, models load, and it is over."""

RAW, FULL = 0.8, 0.95
SKEWED, TAIL = 1.5, 5.0
TIGHT, LOOSE = 0.9, 0.35


def work(facts: RunFacts) -> Iterator[Remark]:
    """The part of the work that sets the pace."""
    spent = TimeSpent.of(facts.manifest)
    shares = {part: spent.share_of_work(getattr(spent, part)) or 0.0 for part in ("read", "decode", "inference")}
    part = max(shares, key=lambda name: shares[name])
    if shares[part] < BOUND:
        return
    taken = words.percent(shares[part])
    waits = f", and the model waits {words.percent(spent.waiting)} of its time for pictures" if spent.waiting else ""
    if part == "decode":
        way = (
            'let the profile decode large JPEGs scaled down ("decoder": "scaled"; the pixels change a little, so '
            "measure the accuracy again), or have smaller pictures delivered"
            if facts.manifest.scoring.get("decoder", "full") == "full"
            else "have smaller pictures delivered"
        )
        yield Remark(
            "info",
            f"Decoding takes {taken} of the work, the model {words.percent(shares['inference'])}{waits}: a faster "
            f"model would change little. For more speed {way}.",
        )
    elif part == "read":
        yield Remark(
            "info",
            f"Reading takes {taken} of the work{waits}: pack the day into Parquet files, or bring it nearer to the "
            "executors.",
        )
    else:
        yield Remark(
            "info",
            f"The model takes {taken} of the work: a quantised version, or a GPU, is what would speed up the day.",
        )


def waiting(facts: RunFacts) -> Iterator[Remark]:
    """The model waits though neither reading nor decoding alone is most of the work."""
    spent = TimeSpent.of(facts.manifest)
    shares = [spent.share_of_work(part) or 0.0 for part in (spent.read, spent.decode, spent.inference)]
    if spent.waiting is not None and spent.waiting >= BOUND and max(shares) < BOUND:
        yield Remark(
            "info",
            f"The model waits {words.percent(spent.waiting)} of its time for full batches: reading and decoding "
            "together set the pace.",
        )


def raw_speed(facts: RunFacts) -> Iterator[Remark]:
    """The share of raw ONNX Runtime speed, and what it is worth on a day this short."""
    manifest, spent = facts.manifest, TimeSpent.of(facts.manifest)
    if not manifest.raw_images_per_second:
        yield Remark("info", "The raw speed could not be measured beside this run, so its share is not known.")
        return
    share, scoring = manifest.raw_share, spent.scoring
    if share >= FULL:
        yield Remark("good", f"The run reached {words.percent(share)} of raw ONNX Runtime speed: Spark costs next to "
                     "nothing.")  # fmt: skip
    elif share < RAW and scoring is not None and scoring < SHORT_SECONDS:
        yield Remark(
            "info",
            f"The run reached {words.percent(share)} of raw ONNX Runtime speed, but scoring took only "
            f"{words.seconds(scoring)}: on a day this short the start of each task weighs most.",
        )
    elif share < RAW:
        yield Remark(
            "care",
            f"The run reached only {words.percent(share)} of raw ONNX Runtime speed. Were other jobs on the same "
            "machines? Are the tasks even? The slowest ones are listed below.",
        )


def start_up(facts: RunFacts) -> Iterator[Remark]:
    """Most of the job was not scoring."""
    spent = TimeSpent.of(facts.manifest)
    if spent.scoring is None or not spent.job or spent.job < 10 or spent.scoring > spent.job / 2:
        return
    yield Remark(
        "info",
        f"Of the job's {words.seconds(spent.job)} on the clock, {words.seconds(spent.scoring)} were scoring "
        f"({words.percent(spent.scoring / spent.job)}); the rest is Spark's start, the proof of the model, the measure "
        "of raw speed, and writing.",
    )


def spread(facts: RunFacts) -> Iterator[Remark]:
    """Tasks that are few or uneven."""
    tasks, slots = Spread.of(facts.manifest), number(decision(facts.manifest, "slots"))
    if tasks is None:
        return
    if slots and tasks.count < slots:
        yield Remark(
            "care" if tasks.count < slots / 2 else "info",
            f"Only {words.count(tasks.count, 'Spark task')} for {words.count(slots, 'slot')}: the rest of the cluster "
            "stood idle. Ask for more partitions, or fewer cores.",
        )
    if tasks.count > 1 and tasks.longest > SKEWED * tasks.median and tasks.longest - tasks.median > 1:
        yield Remark(
            "care" if tasks.longest > 2 * SKEWED * tasks.median else "info",
            f"The longest Spark task took {tasks.longest / tasks.median:.1f} times the median "
            f"({words.seconds(tasks.longest)} against {words.seconds(tasks.median)}). {_cause(facts)}",
        )


def _cause(facts: RunFacts) -> str:
    """Whether the longest task had more to do than others, as far as the manifest tells."""
    largest = {
        name: number(values.get("largest"))
        for name in ("rows", "bytes")
        if isinstance(values := facts.manifest.tasks.get(name), dict)
    }
    longest = next(iter(facts.manifest.slowest), None)
    if longest is None:
        return "If it is always the same machine, look there."
    heaviest = any(largest.get(name) and number(longest.get(name)) == largest[name] for name in ("rows", "bytes"))
    return (
        "It also had the most to do: ask for more partitions."
        if heaviest
        else "It did not have more to do than others: look at the machine that it ran on."
    )


def latency(facts: RunFacts) -> Iterator[Remark]:
    """A long tail."""
    middle, tail = (number(facts.manifest.latency_ms.get(name)) for name in ("p50", "p99"))
    if middle and tail and tail > TAIL * middle:
        yield Remark(
            "info",
            f"One batch in a hundred took more than {tail / middle:.1f} times the median ({words.seconds(tail / 1000)} "
            f"against {words.seconds(middle / 1000)}): other processes take cores away, or threads are "
            "oversubscribed.",
        )


def memory(facts: RunFacts) -> Iterator[Remark]:
    """Memory that is tight, or far from used."""
    used = Memory.of(facts.manifest)
    if used is None:
        return
    share = used.needed / used.given
    told = (
        f"{words.count(used.workers, 'worker')} of {facts.manifest.peak_memory_mb:,.0f} MiB at most took "
        f"{words.percent(share)} of the {used.given:,.0f} MiB that an executor has beside its heap"
    )
    if share > TIGHT:
        yield Remark("care", f"Memory is tight: {told}. A larger picture could get the executor killed; give it more.")
    elif share < LOOSE:
        yield Remark("info", f"Memory to spare: {told}.")


SPEED_RULES: Sequence[Callable[[RunFacts], Iterator[Remark]]] = (
    raw_speed,
    work,
    waiting,
    spread,
    start_up,
    latency,
    memory,
)
