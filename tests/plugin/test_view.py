# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_onnx_provider.plugin.stores import Shelf
from airflow_onnx_provider.plugin.view import Asked, render, render_style, sparkline


def page(**changed: object) -> str:
    given: dict[str, object] = {"asked": Asked(), "dags": [], "roots": True, "older": False, "base": "/", **changed}
    return render([], given.pop("shelves", []), **given)  # type: ignore[arg-type]


def test_nothing_at_all_reads_well() -> None:
    shown = page(roots=False)
    assert "No run of inference yet" in shown
    assert "AIRFLOW__ONNX__OUTPUT_ROOTS" in shown
    assert "No model store." in shown


def test_a_store_in_trouble_says_so_and_the_others_are_shown() -> None:
    shown = page(shelves=[Shelf("one", trouble="OSError: <gone>"), Shelf("two")])
    assert "Store one: OSError: &lt;gone&gt;" in shown
    assert "Store two holds no model yet." in shown


def test_a_further_page_keeps_what_was_asked() -> None:
    assert "No such run" in page(asked=Asked(dag="a&b", page=2))
    assert page(asked=Asked(), older=True).count("Older runs") == 0, "there are no runs here at all"


def test_the_style_needs_nothing_from_elsewhere() -> None:
    assert "url(" not in render_style()
    assert "prefers-color-scheme: dark" in render_style()


def test_a_sparkline_says_in_words_what_it_draws() -> None:
    spark = sparkline([("2026-01-01", 0.0), ("2026-01-02", 0.4), ("2026-01-03", 0.1)], 0.2)
    assert spark is not None
    assert spark.points == "3.0,33.0 80.0,3.0 157.0,25.5"
    assert (spark.last, spark.limit) == ((157.0, 25.5), 18.0)
    assert spark.words == "Label drift of 3 days since 2026-01-01: 0.000 to 0.400, last 0.100; allowed are 0.200"


@pytest.mark.parametrize("drifts", [[], [("2026-01-01", 0.1)]])
def test_one_day_is_no_line(drifts: list[tuple[str, float]]) -> None:
    assert sparkline(drifts, None) is None


def test_days_without_any_drift_are_a_flat_line() -> None:
    spark = sparkline([("a", 0.0), ("b", 0.0)], None)
    assert spark is not None
    assert (spark.points, spark.limit) == ("3.0,33.0 157.0,33.0", None)
