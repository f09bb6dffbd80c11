# SPDX-License-Identifier: Apache-2.0
"""Days on which nothing is wrong raise no alarm, and a real change among them does.

What is in a day is decided by the demo's own generator, another seed each day. What the model says of a picture is
drawn from ``demo_answers.csv``: the answers of the demo's quantised model to the 1,188 sound pictures of one of its
days, by what is on them. ``python -m benchmarks.ordinary_days`` draws and scores every picture of thirty days instead.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from airflow_onnx_provider.quality.judge import judge
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from demo.orders import Batch, plan
from demo.products import CATEGORIES
from demo.seeds import Stream
from tests.quality.days import Day, Row

FIRST = date(2026, 1, 1)
REFERENCE = {"quarantine_rate": {"max": 0.05}, "mean_confidence": {"min": 0.6}, "label_drift": {"max": 0.2}}
"""What the reference DAG sets; all other limits are the defaults."""

RULES = ("previous", "same_weekday", "trailing:7")


@cache
def answers() -> dict[str, list[tuple[str, float]]]:
    """Category to what the model said of its pictures."""
    said = defaultdict(list)
    with (Path(__file__).parent / "demo_answers.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            said[row["category"]].append((row["label"], float(row["score"])))
    return dict(said)


def ordinary_day(number: int, pictures: int) -> Day:
    """A day of the demo's shop: a hundredth of the files is broken."""
    day = FIRST + timedelta(days=number)
    orders = plan(Batch(1000 + number, Stream.DAY, day.toordinal()), pictures, pictures // 100)
    chance = np.random.default_rng(number)
    rows: list[Row] = []
    for order in orders:
        if order.breakage is None:
            said = answers()[order.category]
            rows.append((order.file, *said[chance.integers(len(said))]))
    broken = [(order.file, order.breakage.name) for order in orders if order.breakage is not None]
    return Day(rows=rows, broken=broken, told={"model": {"model": "/m", "digest": "m", "labels": list(CATEGORIES)}})


def partition(number: int) -> str:
    return (FIRST + timedelta(days=number)).isoformat()


def test_the_answers_are_of_all_categories() -> None:
    assert set(answers()) == set(CATEGORIES)


@pytest.mark.parametrize("pictures", [1200, 100])
def test_thirty_ordinary_days_raise_no_alarm(tmp_path: Path, pictures: int) -> None:
    """With a hundred pictures a day chance alone brings a PSI of more than 0.2 on most of them."""
    layout = OutputLayout(tmp_path)
    beyond_the_limit = 0
    for number in range(30):
        manifest = ordinary_day(number, pictures).stage(layout, partition(number))
        for rule in RULES:
            record = judge(layout, manifest, REFERENCE, rule)
            assert (record.failed, record.grey) == ((), ()), f"{manifest.partition}, {rule}"
            beyond_the_limit += (record.value("label_drift") or 0) > 0.2
        publish(layout, manifest.partition, manifest.run)

    assert (beyond_the_limit > 0) == (pictures == 100)


def test_a_real_change_among_ordinary_days_is_seen(tmp_path: Path) -> None:
    """Shoes and bags are gone; the model has become less sure."""
    layout = OutputLayout(tmp_path)
    for number in range(7):
        ordinary_day(number, 1200).publish(layout, partition(number))
    day = ordinary_day(7, 1200)
    rows = [(key, str(label), score or 0.0) for key, label, score in day.rows]
    changes: dict[str, list[Row]] = {
        "label_drift": [row for row in rows if row[1] not in {"shoe", "bag"}],
        "confidence_drift": [(key, label, score * 0.9) for key, label, score in rows],
    }
    for name, changed in changes.items():
        manifest = day.but(rows=changed).stage(layout, partition(7), run=f"run-{name}")
        for rule in RULES:
            record = judge(layout, manifest, REFERENCE, rule)
            assert name in {one.name for one in record.failed}, f"{name}, {rule}: {record.results}"
