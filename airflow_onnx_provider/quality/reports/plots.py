# SPDX-License-Identifier: Apache-2.0
"""A report's plots as SVG, each with its words for those who do not see it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from airflow_onnx_provider.pages.svg import CHOSEN, FRESH, INK, OTHER, WARM, drawing, inline, new_figure
from airflow_onnx_provider.quality.reports import words
from airflow_onnx_provider.quality.reports.measures import TimeSpent
from airflow_onnx_provider.quality.reports.shares import Confusion, LabelShare

PAGE = "a run report"
WIDTH = 4.3
"""Inches of a plot: on a telephone it is shown at about its own size, so its letters stay readable."""

SETTINGS = {
    "font.size": 9,
    "axes.edgecolor": OTHER,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "legend.frameon": False,
    "grid.color": OTHER,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
}


@dataclass(frozen=True)
class Plot:
    """A plot.

    :param words: what it shows, in words
    :param svg: the element
    """

    words: str
    svg: str


@contextmanager
def _axes(height: float, box: tuple[float, float, float, float]) -> Iterator[tuple[Any, Any]]:
    """A figure with one pair of axes.

    :param height: inches
    :param box: inches that stay free: left, bottom, right, top
    """
    left, bottom, right, top = box
    with drawing(PAGE, **SETTINGS):
        figure = new_figure(WIDTH, height, PAGE)
        width = (WIDTH - left - right) / WIDTH
        yield figure, figure.add_axes((left / WIDTH, bottom / height, width, (height - bottom - top) / height))


def labels_plot(shares: Sequence[LabelShare], compared: bool) -> Plot:
    """Share of the rows of each label, beside its share before."""
    names = [words.clean(one.label, 18) for one in shares]
    places = range(len(shares))
    height = 0.75 + 0.25 * len(shares)
    left = _room(names)
    with _axes(height, (left, 0.3, 0.4, 0.4)) as (figure, axes):
        axes.barh(places, [one.share * 100 for one in shares], height=0.62, color=CHOSEN, label="this run")
        if compared:
            befores = [one.before * 100 for one in shares]
            axes.vlines(befores, [place - 0.42 for place in places], [place + 0.42 for place in places], color=INK,
                        linewidth=1.8, label="before")  # fmt: skip
        for place, one in enumerate(shares):
            end = max(one.share, one.before if compared else 0.0) * 100
            axes.annotate(words.percent(one.share).replace(" %", ""), (end, place), (4, 0), va="center",
                          textcoords="offset points", fontsize=8)  # fmt: skip
        axes.set_yticks(places, names)
        axes.set_ylim(len(shares) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(left=0)
        axes.spines["left"].set_visible(False)
        _percent_axis(axes.xaxis, 5)
        axes.xaxis.grid(True)
        axes.set_axisbelow(True)
        _key(figure, axes, left)
        svg = inline(figure, "labels")
    told = [
        f"{words.clean(one.label, 40)} {words.percent(one.share)}"
        + (f" (before {words.percent(one.before)})" if compared else "")
        for one in shares
    ]
    return Plot(f"Share of the rows by label: {', '.join(told)}", svg)


def _room(names: Sequence[str], size: float = 9) -> float:
    """Inches that the longest of these names takes beside the axes, at so many points a letter's height."""
    return 0.15 + 0.62 * size / 72 * max(map(len, names))


def _key(figure: Any, axes: Any, left: float) -> None:
    """What the colours mean: this run first."""
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda place: names[place] != "this run")
    figure.legend(
        [handles[place] for place in order], [names[place] for place in order], loc="upper left",
        bbox_to_anchor=((left - 0.05) / WIDTH, 1), ncols=2, borderaxespad=0, handlelength=1.2,
    )  # fmt: skip


def scores_plot(now: Sequence[int], before: Sequence[int]) -> Plot:
    """Distribution of the scores, beside that of the baseline."""
    total, total_before = sum(now) or 1, sum(before)
    shares = [rows / total * 100 for rows in now]
    edges = [place / len(now) for place in range(len(now) + 1)]
    with _axes(2.4, (0.5, 0.5, 0.15, 0.4)) as (figure, axes):
        axes.bar(edges[:-1], shares, width=0.88 / len(now), align="edge", color=CHOSEN, label="this run")
        if total_before and len(before) == len(now):
            axes.stairs([rows / total_before * 100 for rows in before], edges, color=INK, linewidth=1.4, label="before")
        axes.set_xlim(0, 1)
        axes.set_xlabel("score of the predicted label")
        _percent_axis(axes.yaxis, 6)
        axes.yaxis.grid(True)
        axes.set_axisbelow(True)
        _key(figure, axes, 0.5)
        svg = inline(figure, "scores")
    quarters = [sum(shares[start : start + len(now) // 4]) for start in range(0, len(now), max(1, len(now) // 4))]
    told = ", ".join(
        f"{share:.1f} % of the rows from {place / 4:g} to {(place + 1) / 4:g}" for place, share in enumerate(quarters)
    )
    return Plot(f"Distribution of the scores: {told}", svg)


PARTS = (("read", FRESH), ("decode", WARM), ("inference", CHOSEN))


def time_plot(spent: TimeSpent) -> Plot:
    """Where the time went: the work, the model's threads, the job on the clock."""
    bars: list[tuple[str, list[tuple[str, float, str]]]] = [
        ("Work of all tasks", [(name, getattr(spent, name) or 0.0, colour) for name, colour in PARTS])
    ]
    if spent.waiting is not None:
        scored = ("inference", spent.inference or 0.0, CHOSEN)
        bars.append(("Scoring threads", [scored, ("wait for a batch", spent.wait or 0.0, OTHER)]))
    if spent.scoring and spent.job:
        clock = [("scoring", spent.scoring, CHOSEN), ("start, proof, writing", spent.job - spent.scoring, OTHER)]
        bars.append(("Job on the clock", clock))
    told = []
    with _axes(0.1 + 0.72 * len(bars), (0.05, 0.02, 0.05, 0.02)) as (figure, axes):
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(len(bars), 0)
        for place, (title, parts) in enumerate(bars):
            total = sum(value for _, value, _ in parts) or 1.0
            axes.text(0, place + 0.16, title, va="center", fontweight="bold")
            axes.text(1, place + 0.16, words.seconds(total), va="center", ha="right")
            _stack(axes, place + 0.45, [(value / total, colour) for _, value, colour in parts])
            _legend(axes, place + 0.75, [(f"{name} {_whole(value / total)}", colour) for name, value, colour in parts])
            shares = ", ".join(f"{name} {words.percent(value / total)}" for name, value, _ in parts)
            told.append(f"{title}, {words.seconds(total)}: {shares}")
        svg = inline(figure, "time")
    return Plot(f"Where the time went. {'. '.join(told)}", svg)


def _whole(share: float) -> str:
    return "<1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def _stack(axes: Any, height: float, parts: Sequence[tuple[float, str]]) -> None:
    left = 0.0
    for share, colour in parts:
        axes.barh(height, share, left=left, height=0.22, color=colour)
        left += share


def _legend(axes: Any, height: float, parts: Sequence[tuple[str, str]]) -> None:
    """Words with a square of their colour, from left to right; a letter is about 5.1 points wide."""
    left = 0.0
    for text, colour in parts:
        axes.plot([left + 0.008], [height], marker="s", markersize=5, color=colour, linestyle="none", clip_on=False)
        axes.text(left + 0.025, height, text, va="center", fontsize=8.5)
        left += 0.06 + len(text) * 5.1 / 72 / WIDTH


def latency_plot(buckets: Sequence[tuple[float, int]], percentiles: Sequence[tuple[str, float]]) -> Plot:
    """Histogram of how long one ``session.run`` took, on a logarithmic axis.

    :param buckets: upper bound in seconds, and batches
    :param percentiles: name and milliseconds
    """
    bounds = [bound * 1000 for bound, _ in buckets]
    batches = [rows for _, rows in buckets]
    factor = 10 ** (1 / 40)  # the width of a bucket, see runtime.metrics
    with _axes(2.2, (0.6, 0.5, 0.15, 0.3)) as (figure, axes):
        axes.bar([bound / factor for bound in bounds], batches, width=[bound - bound / factor for bound in bounds],
                 align="edge", color=CHOSEN)  # fmt: skip
        axes.set_xscale("log")
        top = max(batches)
        axes.set_ylim(0, top * 1.02)
        before = 0.0
        for name, value in percentiles:
            axes.axvline(value, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            near = before and math.log10(value / before) < 0.1 * math.log10(bounds[-1] * factor / bounds[0])
            if not near:
                axes.annotate(name, (value, top * 1.02), (0, 4), textcoords="offset points", ha="center",
                              annotation_clip=False)  # fmt: skip
                before = value
        axes.xaxis.set_major_locator(_log_ticks())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("milliseconds of one batch")
        axes.set_ylabel("batches")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.grid(True)
        axes.set_axisbelow(True)
        svg = inline(figure, "latency")
    told = ", ".join(f"{name} {words.seconds(value / 1000)}" for name, value in percentiles)
    least, most = words.seconds(bounds[0] / 1000), words.seconds(bounds[-1] / 1000)
    return Plot(f"Latency of {words.count(sum(batches), 'batch', 'batches')}, from {least} to {most}: {told}", svg)


def _log_ticks() -> Any:
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(1, 2, 5))


def confusion_plot(confusion: Confusion) -> Plot:
    """Labelled rows by true and by predicted label; the deeper the colour, the larger the share of the true label."""
    labels = confusion.labels
    names = [words.clean(label, 14) for label in labels]
    size = len(labels)
    rows_of = {true: sum(rows for (row, _), rows in confusion.cells.items() if row == true) or 1 for true in labels}
    small = 8 if size <= 15 else 6.5
    room = _room(names, small) + 0.2
    with _axes(WIDTH, (room, 0.05, 0.05, room)) as (figure, axes):
        for (true, predicted), rows in confusion.cells.items():
            x, y = labels.index(predicted), labels.index(true)
            share = rows / rows_of[true]
            colour = CHOSEN if true == predicted else WARM
            axes.add_patch(_cell(x, y, colour, 0.25 + 0.5 * share))
            if size <= 15:
                axes.text(x + 0.5, y + 0.5, f"{rows:,}", ha="center", va="center", fontsize=small)
        axes.set_xlim(0, size)
        axes.set_ylim(size, 0)
        axes.set_xticks([place + 0.5 for place in range(size)], names, rotation=90, fontsize=small)
        axes.set_yticks([place + 0.5 for place in range(size)], names, fontsize=small)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.set_ylabel("true label")
        axes.set_xlabel("predicted label")
        axes.xaxis.set_label_position("top")
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.hlines(range(size + 1), 0, size, color=OTHER, linewidth=0.4, alpha=0.5)
        axes.vlines(range(size + 1), 0, size, color=OTHER, linewidth=0.4, alpha=0.5)
        svg = inline(figure, "confusion")
    right = sum(rows for (true, predicted), rows in confusion.cells.items() if true == predicted)
    total = sum(confusion.cells.values())
    return Plot(f"Confusion of {size} labels: {words.count(right)} of {words.count(total)} rows on the diagonal", svg)


def _cell(x: float, y: float, colour: str, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, facecolor=colour, alpha=alpha, linewidth=0)


def _percent_axis(axis: Any, most: int) -> None:
    """At most so many parts, each with its number."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most))
    axis.set_major_formatter(lambda value, _: f"{value:g} %")
