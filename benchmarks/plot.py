# SPDX-License-Identifier: Apache-2.0
"""The results as one picture: for each work, each way's share of the limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Turn
from benchmarks.report import Spread, of, share, warm_rate
from benchmarks.ways import TITLES
from benchmarks.works import WORKS

PRODUCT, PEER = "#1f6fb2", "#b8bec6"
RIGHT_OF_LIMIT = 1.03
"""Where a bar's numbers stand, clear of the line at 100 %; longer bars are cut off."""


def draw(turns: Sequence[Turn], title: str, target: Path) -> None:
    """Horizontal bars with the range over the rounds as a line, and the rate beside each bar."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    works = [work for work in WORKS if of(turns, work.name, "limit")]
    bars = [[way for way in work.ways if way != "limit" and of(turns, work.name, way)] for work in works]
    figure, panels = plt.subplots(
        len(works),
        1,
        figsize=(9, 0.8 * len(works) + 0.32 * sum(map(len, bars))),
        sharex=True,
        squeeze=False,
        height_ratios=[len(ways) + 0.6 for ways in bars],
        layout="constrained",
    )
    for work, ways, panel in zip(works, bars, panels[:, 0], strict=True):
        limit = of(turns, work.name, "limit")
        for place, way in enumerate(ways):
            cell = of(turns, work.name, way)
            part = share(cell, limit)
            if part is None:
                continue
            panel.barh(place, part.median, color=PRODUCT if way.startswith("product") else PEER)
            panel.plot([part.least, part.most], [place, place], color="black", linewidth=1)
            rate = Spread.of([warm_rate(turn) for turn in cell]).median
            over = part.median > RIGHT_OF_LIMIT  # then the bar lies behind its numbers
            numbers = f"{part.median:.0%}  ({rate:,.0f}/s)"
            panel.text(RIGHT_OF_LIMIT, place, numbers, va="center", color="white" if over else "black")
        panel.set_yticks(range(len(ways)), [TITLES[way] for way in ways])
        panel.invert_yaxis()
        panel.axvline(1, color="black", linestyle=":")
        rate = Spread.of([warm_rate(turn) for turn in limit]).median
        panel.set_title(f"{work.title}: the limit is {rate:,.0f} rows/s", loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel(
        "share of the limit: the same decode and model in plain processes (warm, median and range)"
    )
    panels[-1, 0].xaxis.set_major_formatter("{x:.0%}")
    panels[-1, 0].set_xticks([tick / 5 for tick in range(6)])
    panels[-1, 0].set_xlim(0, 1.3)
    figure.suptitle(title)
    figure.savefig(target, dpi=130)
    plt.close(figure)
