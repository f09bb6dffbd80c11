# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG inside a page: they take its text colour, in light and in dark, and need nothing else."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_onnx_provider.exceptions import needs_extra

INK = "#010203"
"""Stands for the text colour; the page replaces it by its own."""
CHOSEN, OTHER = "#2f81c7", "#8a8f98"
WARM, FRESH = "#c4741a", "#2f9468"
"""All have a contrast of at least 3 to 1 on white and on near-black."""

REFERENCE = re.compile(r'(?:xlink:href="|url\()#(\w+)(?="|\))')
"""What in matplotlib's SVG points to another element of it."""


def new_figure(width: float, height: float, page: str) -> Any:
    """An empty figure.

    :param width: in inches; an SVG inch is 72 pixels
    :param height: likewise
    :param page: what is made, for the error
    :raises MissingExtraError: if matplotlib is not installed
    """
    with needs_extra("report", page):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure


@contextmanager
def drawing(page: str, **settings: Any) -> Iterator[None]:
    """Settings under which figures are made and inlined.

    :param page: what is made, for the error, and as the salt of its ids: the same page has the same ones each time
    :param settings: matplotlib's, beside these
    :raises MissingExtraError: if matplotlib is not installed
    """
    with needs_extra("report", page):
        import matplotlib as mpl
    own: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": page,
        "text.parse_math": False,  # a name is no formula
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 10,
        "text.color": INK,
    }
    with mpl.rc_context({**own, **settings}):
        yield


def inline(figure: Any, name: str = "") -> str:
    """A figure as an ``svg`` element. It is silent to those who listen: the page says in words what it shows.

    :param name: of the plot on its page; the ids that the plot itself refers to begin with it
    """
    file = io.StringIO()
    figure.savefig(
        file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # it would style the page
    referred = {old: f"{name}-{number}" for number, old in enumerate(dict.fromkeys(REFERENCE.findall(svg)))}
    # Ids would meet those of the next chart.
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{referred[found[1]]}"' if found[1] in referred else "", svg)
    svg = REFERENCE.sub(lambda found: found[0].replace(found[1], referred[found[1]]), svg)
    svg = re.sub(r"font-family: [^;]*; ", "", svg)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows the names
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
