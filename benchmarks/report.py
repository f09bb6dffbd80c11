# SPDX-License-Identifier: Apache-2.0
"""What the turns say: medians and ranges, shares of the limit, ratios of ways, as a Markdown page."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from benchmarks.harness import Turn
from benchmarks.ways import TITLES
from benchmarks.works import WORKS, Work

Rate = Callable[[Turn], float]
Cell = tuple[str, str]
"""A work and a way."""

RATIOS: Mapping[str, tuple[Cell, Cell]] = {
    "product / predict_batch_udf, MobileNetV2": (("mobilenet", "product"), ("mobilenet", "predict_batch_udf")),
    "product / MLflow spark_udf, MobileNetV2": (("mobilenet", "product"), ("mobilenet", "mlflow")),
    "product / plain pandas_udf, MobileNetV2": (("mobilenet", "product"), ("mobilenet", "pandas_udf")),
    "product / Ray Data, MobileNetV2": (("mobilenet", "product"), ("mobilenet", "ray")),
    "int8 / fp32, ResNet50, product with decoding": (("resnet-int8", "product"), ("resnet", "product")),
    "int8 / fp32, MobileNetV2, product with decoding": (("mobilenet-int8", "product"), ("mobilenet", "product")),
    "scaled / full decoding, 4,000 x 3,000, product": (("large", "product-scaled"), ("large", "product")),
    "token budget / fixed batches, texts": (("texts", "product"), ("texts", "fixed")),
    "product / predict_batch_udf, table": (("table", "product"), ("table", "predict_batch_udf")),
    "product / limit, table": (("table", "product"), ("table", "limit")),
    "score_parquet / limit, table": (("table", "product-parquet"), ("table", "limit")),
    "product / limit, texts": (("texts", "product"), ("texts", "limit")),
}

NOTES = """\
All ways of a work run in turn, {rounds} rounds, the order rotated in each; median (least to greatest). All ways decode
with the same function and read the same Parquet files. `make bench` makes this page.

- **limit**: the same files, the same decode and the same model in one plain process a core, nothing in between.
- **warm**: a repeated pass of a way that has run before. **share**: of the limit's warm rate in the same round.
- **cold**: the first pass of a way that was just started. Starting the JVM or Ray does not count; starting Python
  workers and loading the model does. For the limit: starting Python, loading the model. **cold
  share**: of the limit's warm rate.
- **worker**: peak resident memory of the largest worker process. **all**: the sum over all processes of the way, the
  JVM or Ray included.
- **same labels**: share of rows with the limit's label.
- Slow ways score fewer rows in a pass; it is rates that are compared. Ray Data starts its actors anew in every pass;
  its warm time begins when the first batch reaches an actor.
"""

HEADER = (
    "| way | rows | warm rows/s | share | cold rows/s | cold share | worker | all | same labels |",
    "|---|---|---|---|---|---|---|---|---|",
)

HARDWARE = ("date", "cpu", "cores", "memory", "system")


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some measurements."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


def warm_rate(turn: Turn) -> float:
    """Rows a second of the warm pass."""
    return turn.rows / turn.warm


def cold_rate(turn: Turn) -> float:
    """Rows a second of the cold pass; the turn must have one."""
    return turn.rows / cast("float", turn.cold)


def of(turns: Sequence[Turn], work: str, way: str) -> list[Turn]:
    """A cell's turns, by round."""
    return sorted((turn for turn in turns if (turn.work, turn.way) == (work, way)), key=lambda turn: turn.round)


def share(above: Sequence[Turn], below: Sequence[Turn], rate: Rate = warm_rate) -> Spread | None:
    """One cell's rate over another one's warm rate, paired by round; None if no round has both."""
    beside = {turn.round: warm_rate(turn) for turn in below}
    pairs = [rate(turn) / beside[turn.round] for turn in above if turn.round in beside]
    return Spread.of(pairs) if pairs else None


def markdown(mode: str, machine: Mapping[str, str], turns: Sequence[Turn]) -> str:
    """The page."""
    rounds = 1 + max((turn.round for turn in turns), default=0)
    lines = [f"# Benchmark, {mode}", "", _machine(machine), "", NOTES.format(rounds=rounds)]
    for work in WORKS:
        lines += _table(work, turns)
    lines += ["## Ratios of warm rates, paired by round", "", "| ratio | median | range |", "|---|---|---|"]
    for title, (above, below) in RATIOS.items():
        if found := share(of(turns, *above), of(turns, *below)):
            lines.append(f"| {title} | {found.median:.2f} | {found.least:.2f} to {found.most:.2f} |")
    return "\n".join(lines) + "\n"


def _machine(machine: Mapping[str, str]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.items() if name not in HARDWARE)
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']} memory, {machine['system']}"
    return f"{machine['date']}. {where}. Versions: {versions}."


def _table(work: Work, turns: Sequence[Turn]) -> list[str]:
    limit = of(turns, work.name, "limit")
    cells = {way: of(turns, work.name, way) for way in work.ways}
    rows = [_row(TITLES[way], cell, limit) for way, cell in cells.items() if cell]
    return [f"## {work.title}", "", *HEADER, *rows, ""] if rows else []


def _row(title: str, cell: Sequence[Turn], limit: Sequence[Turn]) -> str:
    cold = [turn for turn in cell if turn.cold is not None]
    cells = [
        title,
        f"{cell[0].rows:,}",
        _rates([warm_rate(turn) for turn in cell]),
        _percent(share(cell, limit)),
        _rates([cold_rate(turn) for turn in cold]),
        _percent(share(cold, limit, cold_rate)),
        _mebibytes(max(turn.worker_bytes for turn in cell)),
        _mebibytes(max(turn.tree_bytes for turn in cell)),
        "".join(f"{turn.agreement:.1%}" for turn in cell if turn.agreement is not None),
    ]
    return f"| {' | '.join(cells)} |"


def _rates(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = Spread.of(values)
    digits = 1 if spread.median < 100 else 0
    return f"{spread.median:,.{digits}f} ({spread.least:,.{digits}f} to {spread.most:,.{digits}f})"


def _percent(spread: Spread | None) -> str:
    return f"{spread.median:.0%}" if spread else ""


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
