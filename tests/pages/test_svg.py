# SPDX-License-Identifier: Apache-2.0
"""Plots inside a page."""

from __future__ import annotations

import re
import sys

import pytest

from airflow_onnx_provider.exceptions import MissingExtraError
from airflow_onnx_provider.pages.svg import drawing, inline, new_figure


def a_plot(name: str) -> str:
    with drawing("a page"):
        figure = new_figure(2, 2, "a page")
        figure.add_axes((0.2, 0.2, 0.7, 0.7)).bar([1, 2], [3, 4])
        return inline(figure, name)


def test_a_plot_takes_the_pages_colour_and_is_the_same_each_time() -> None:
    svg = a_plot("one")

    assert svg.startswith('<svg aria-hidden="true"')
    assert "currentColor" not in svg.split("<g", maxsplit=1)[0]
    assert svg == a_plot("one")
    assert "<style" not in svg
    assert "<metadata" not in svg


def test_two_plots_of_one_page_do_not_share_ids_and_each_finds_its_own() -> None:
    one, other = a_plot("one"), a_plot("other")

    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip((one, other), ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([\w-]+)', svg)) == own


def test_a_missing_matplotlib_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(
        MissingExtraError, match=r"^a page needs the extra report: pip install 'airflow-onnx-provider\[re"
    ):
        a_plot("one")
