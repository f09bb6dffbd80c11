# SPDX-License-Identifier: Apache-2.0
"""Small bar charts of variants as SVG that takes the page's own text colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_onnx_provider.model.cards import words
from airflow_onnx_provider.model.cards.measured import Variant
from airflow_onnx_provider.pages.svg import CHOSEN, OTHER, drawing, inline, new_figure

PAGE = "a model card"
WIDTH, BAR, MARGIN = 3.6, 0.3, 0.42
"""Inches; an SVG inch is 72 pixels."""


@dataclass(frozen=True)
class Measure:
    """One thing that a chart shows.

    :param value: of a variant, in the unit of the axis; None where it was not measured
    :param shown: the value in words
    """

    title: str
    value: Callable[[Variant], float | None]
    shown: Callable[[float | None], str]


MEASURES = (
    Measure("Size (shorter is better)", lambda variant: variant.size_bytes, words.size),
    Measure("Accuracy (longer is better)", lambda variant: variant.accuracy, words.percent),
    Measure("Speed (longer is better)", lambda variant: variant.speedup, words.times),
)


def charts(variants: Sequence[Variant]) -> list[tuple[str, str]]:
    """One chart a measure that at least one variant has: its description in words, and its SVG.

    :raises BadInputError: if matplotlib is not installed
    """
    found = []
    for measure in MEASURES:
        if any(measure.value(variant) is not None for variant in variants):
            values = ", ".join(
                f"{words.variant_name(variant.name)} {measure.shown(measure.value(variant))}" for variant in variants
            )
            found.append((f"{measure.title}: {values}", _chart(measure, variants)))
    return found


def _chart(measure: Measure, variants: Sequence[Variant]) -> str:
    values = [measure.value(variant) for variant in variants]
    largest = max((value for value in values if value is not None), default=0) or 1
    with drawing(PAGE, **{"svg.hashsalt": "model card"}):
        figure = new_figure(WIDTH, MARGIN + BAR * 2 * len(variants), PAGE)
        axes = figure.add_axes((0.02, 0.0, 0.96, 1 - MARGIN / figure.get_figheight()))
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(len(variants), 0)
        figure.text(0.02, 1 - 0.2 / figure.get_figheight(), measure.title, fontweight="bold", va="center")
        for place, (variant, value) in enumerate(zip(variants, values, strict=True)):
            _bar(axes, place, variant, (value or 0) / largest, measure.shown(value))
        return inline(figure)


def _bar(axes: Any, place: int, variant: Variant, share: float, shown: str) -> None:
    weight = "bold" if variant.goes_on else "normal"
    name = f"{words.clean(words.variant_name(variant.name), 28)}{' (goes on)' if variant.goes_on else ''}"
    axes.text(0, place + 0.26, name, va="center", fontweight=weight)
    axes.text(1, place + 0.26, shown, va="center", ha="right", fontweight=weight)
    axes.barh(place + 0.68, max(0.0, share), height=0.28, color=CHOSEN if variant.goes_on else OTHER, clip_on=False)
