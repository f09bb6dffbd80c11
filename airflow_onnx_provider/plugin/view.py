# SPDX-License-Identifier: Apache-2.0
"""The page's content, ready to be laid out: every value is text, every address is whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from urllib.parse import quote, urlencode

from airflow_onnx_provider.pages import words
from airflow_onnx_provider.pages.templates import templates
from airflow_onnx_provider.plugin.runs import RunRow, Stream, streams_of
from airflow_onnx_provider.plugin.stores import Shelf

SPARK_WIDTH, SPARK_HEIGHT, SPARK_EDGE = 160.0, 36.0, 3.0

LEVELS = {
    "passed": ("good", "✓"),
    "warned": ("care", "!"),
    "failed": ("stop", "✕"),
    "job failed": ("stop", "✕"),
    "verdict unreadable": ("care", "?"),
    "at work": ("info", "…"),
    "not judged": ("info", "·"),
}
"""Outcome to its colour and its mark; the word itself always stands beside them."""


@dataclass(frozen=True)
class Spark:
    """A small plot of shares.

    :param points: of the line, as SVG has it
    :param last: the newest point
    :param limit: height of the limit's line, None without one
    :param words: what the plot shows
    """

    points: str
    last: tuple[float, float]
    limit: float | None
    words: str


@dataclass(frozen=True)
class Asked:
    """What the page was asked for.

    :param day: a partition, or empty
    :param page: from 1, the newest runs
    """

    dag: str = ""
    day: str = ""
    page: int = 1


def drift(value: float) -> str:
    """A drift is a plain number: whether it is a share depends on the check's metric."""
    return f"{value:.3f}"


def sparkline(drifts: Sequence[tuple[str, float]], limit: float | None) -> Spark | None:
    """Plot the days' drift, None for less than two days.

    :param drifts: (day, label drift), oldest first
    """
    if len(drifts) < 2:
        return None
    values = [value for _, value in drifts]
    top = max([*values, limit or 0.0]) or 1.0
    step = (SPARK_WIDTH - 2 * SPARK_EDGE) / (len(values) - 1)

    def height(value: float) -> float:
        return round(SPARK_HEIGHT - SPARK_EDGE - (SPARK_HEIGHT - 2 * SPARK_EDGE) * value / top, 1)

    places = [(round(SPARK_EDGE + number * step, 1), height(value)) for number, value in enumerate(values)]
    said = f"Label drift of {len(values)} days since {words.clean(drifts[0][0])}: "
    said += f"{drift(min(values))} to {drift(max(values))}, last {drift(values[-1])}"
    return Spark(
        points=" ".join(f"{x},{y}" for x, y in places),
        last=places[-1],
        limit=None if limit is None else height(limit),
        words=said + ("" if limit is None else f"; allowed are {drift(limit)}"),
    )


def render(
    rows: Sequence[RunRow],
    shelves: Sequence[Shelf],
    *,
    asked: Asked,
    dags: Sequence[str],
    roots: bool,
    older: bool,
    base: str,
    sees_models: bool = True,
) -> str:
    """The page.

    :param rows: newest day first
    :param shelves: the stores that the user may see
    :param dags: that can be asked for
    :param roots: whether any folder is open to the page
    :param older: whether there is a further page
    :param base: path of the API server, with a slash at its end
    :param sees_models: whether the user may read Assets, which models are to Airflow
    """
    environment = templates("airflow_onnx_provider", "plugin", "the page")
    environment.filters.update(clean=words.clean, drift=drift, percent=words.percent, rate=words.rate, size=words.size)
    environment.filters["count"] = lambda value: "–" if value is None else words.count(value)
    return str(
        environment.get_template("page.html.jinja").render(
            asked=asked,
            dags=dags,
            roots=roots,
            hidden=sorted({row.output_path for row in rows if row.refused}),
            days=[(day, weekday(day), list(of)) for day, of in groupby(rows, key=lambda row: row.day)],
            streams=[] if asked.day else [(one, _spark(one)) for one in streams_of(rows)],
            shelves=shelves,
            sees_models=sees_models,
            older=query(dag=asked.dag, day=asked.day, page=str(asked.page + 1)) if older else "",
            level=lambda outcome: LEVELS[outcome][0],
            mark=lambda outcome: LEVELS[outcome][1],
            report=lambda row: query("report", output=row.output_path, run=row.run),
            card=lambda model: query("card", model=model),
            airflow=lambda row: f"{base}dags/{quote(row.dag_id, safe='')}/runs/{quote(row.run_id, safe='')}",
        )
    )


def render_style() -> str:
    """The page's style sheet."""
    return str(templates("airflow_onnx_provider", "plugin", "the page").get_template("page.css.jinja").render())


def render_refusal(status: int, said: str, login: str = "") -> str:
    """A page that says why there is no other.

    :param login: address of Airflow's login, empty if that would not help
    """
    environment = templates("airflow_onnx_provider", "plugin", "the page")
    return str(environment.get_template("refusal.html.jinja").render(status=status, said=said, login=login))


def query(page: str = "", **asked: str) -> str:
    """A relative address; what is empty is left out."""
    return f"{page}?{urlencode({name: value for name, value in asked.items() if value}, safe='/')}"


def weekday(day: str) -> str:
    """The day of the week of a partition that is a date, else nothing."""
    try:
        return f"{date.fromisoformat(day):%A}"
    except ValueError:
        return ""


def _spark(stream: Stream) -> Spark | None:
    return sparkline(stream.drifts, stream.latest.drift_limit)
