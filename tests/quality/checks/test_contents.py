# SPDX-License-Identifier: Apache-2.0
"""What the one pass over the files finds, and which labels tables it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.quality.checks.contents import CELLS, Contents, read_contents
from airflow_onnx_provider.quality.verdict import Accuracy
from airflow_onnx_provider.spark.layout import OutputLayout
from tests.quality.days import CLASSES, Day, Row, write, write_labels

DAY = "2026-01-02"
NAN, INFINITY = float("nan"), float("inf")
ROWS: list[Row] = [("a", "bag", 0.9), ("b", "hat", 0.8), ("c", "hat", 0.7), ("d", "shoe", 0.6)]


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path / "predictions")


def contents(layout: OutputLayout, day: Day, labels: Path | str | None = None) -> Contents:
    manifest = day.stage(layout, DAY)
    return read_contents(layout, DAY, manifest.run, None if labels is None else str(labels))


def table(path: Path, **columns: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def test_a_row_is_counted_once_however_much_is_wrong_with_it(layout: OutputLayout) -> None:
    rows: list[Row] = [
        *ROWS,
        (None, None, None),
        (None, "hat", 0.5),
        ("e", "hat", NAN),
        ("f", None, INFINITY),
        ("g", "hat", -INFINITY),
    ]

    assert contents(layout, Day(rows=rows, broken=(("x", "empty_file"),))) == Contents(
        predicted=9, quarantined=1, duplicates=0, twice="", nulls=3, nans=1, infinite=2, unusable=5
    )


def test_a_key_counts_for_each_time_too_many(layout: OutputLayout) -> None:
    rows = [*ROWS, ("a", "bag", 0.9), ("a", "hat", 0.9), ("d", "shoe", 0.9)]
    found = contents(layout, Day(rows=rows, broken=(("b", "empty_file"),)))

    assert (found.duplicates, found.twice) == (4, "a")


def test_a_day_without_predictions_and_one_without_quarantine(layout: OutputLayout) -> None:
    day = Day(rows=ROWS, broken=())
    day.stage(layout, DAY)
    for file in layout.staging(f"run-{DAY}").glob("*/*.parquet"):
        if not pq.read_metadata(file).num_rows or file.parent.name == "predictions":
            file.unlink()

    assert read_contents(layout, DAY, f"run-{DAY}") == Contents(0, 0)


def test_keys_may_be_numbers_and_the_folder_may_hold_characters_of_patterns(tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path / "a [b] *c? 'd'")
    manifest = Day(broken=()).stage(layout, DAY)
    staging = layout.staging(manifest.run)
    write(staging / "predictions" / "part-0.parquet", [7, 8, 8], ["bag", "hat", "hat"], [0.9, 0.9, 0.9])
    write(staging / "predictions" / "part-1.parquet", [9], ["shoe"], [0.9])
    (staging / "quarantine" / "part-0.parquet").unlink()
    labels = layout.root / "labels.csv"
    labels.write_text("key,label\n7,bag\n9,hat\n")

    found = read_contents(layout, DAY, manifest.run, str(labels))

    assert (found.predicted, found.duplicates, found.twice) == (4, 1, "8")
    assert found.accuracy is not None
    assert (found.accuracy.rows, found.accuracy.correct) == (2, 1)


def test_a_publish_that_died_halfway_has_left_the_quarantine_in_staging(layout: OutputLayout) -> None:
    manifest = Day(rows=ROWS).publish(layout, DAY)
    left = layout.staging(manifest.run) / "quarantine"
    left.parent.mkdir(parents=True, exist_ok=True)
    layout.quarantine(DAY).rename(left)

    assert read_contents(layout, DAY, manifest.run) == Contents(4, 2)


rows = st.lists(
    st.tuples(st.sampled_from([*"abcdef", None]), st.sampled_from([*CLASSES, None]), st.sampled_from([0.5, NAN, None]))
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows, st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(CLASSES)))
def test_it_finds_what_a_plain_count_finds(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], truth: dict[str, str]
) -> None:
    root = tmp_path_factory.mktemp("day")
    labels = table(root / "labels.parquet", key=list(truth), label=list(truth.values()))
    if not truth:
        labels = write_labels(root / "labels.csv", [])
    found = contents(OutputLayout(root), Day(rows=rows, broken=()), labels)

    keys = Counter(key for key, _, _ in rows if key is not None)
    assert found.duplicates == sum(keys.values()) - len(keys)
    assert found.unusable == sum(None in row or row[2] != row[2] for row in rows)
    assert found.accuracy is not None
    assert found.accuracy.rows == len(set(keys) & set(truth))
    assert found.accuracy.missing == len(set(truth) - set(keys))
    assert sum(rows for _, _, rows in found.accuracy.confusion) == found.accuracy.rows
    assert found.accuracy.low <= found.accuracy.share <= found.accuracy.high + 1e-9


@pytest.mark.parametrize("many", [0, 1_000_000])
def test_keys_that_are_there_twice_are_counted_one_by_one_or_by_their_hashes(
    layout: OutputLayout, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr("airflow_onnx_provider.quality.checks.contents.MANY", many)
    keys = ["a", "b", "a", "c", "a", "b", None, None]

    found = contents(layout, Day(rows=[(key, "bag", 0.5) for key in keys], broken=()))

    assert found.duplicates == 3
    assert found.twice in {"a", "b"}


def test_accuracy_recall_and_confusion(layout: OutputLayout) -> None:
    labels = table(
        layout.root / "labels.parquet",
        key=["a", "b", "c", "d", "z", "x-1.jpg", None, "b2"],
        label=["bag", "hat", "bag", "bag", "hat", "hat", "hat", None],
    )

    found = contents(layout, Day(rows=ROWS), labels).accuracy

    assert found == Accuracy(
        rows=4,
        missing=2,  # of z nothing is known, and x-1.jpg is in quarantine
        correct=2,
        low=pytest.approx(0.1500, abs=1e-4),  # Wilson's interval for two of four
        high=pytest.approx(0.8500, abs=1e-4),
        recall={"bag": (1, 3), "hat": (1, 1)},
        confusion=(("bag", "bag", 1), ("bag", "hat", 1), ("bag", "shoe", 1), ("hat", "hat", 1)),
    )


def test_the_confusion_of_very_many_classes_keeps_its_largest_cells(layout: OutputLayout) -> None:
    rows: list[Row] = [(f"k{number}", f"class {number % 3000}", 0.9) for number in range(4000)]
    labels = table(layout.root / "labels.parquet", key=[key for key, _, _ in rows], label=[row[1] for row in rows])

    found = contents(layout, Day(rows=rows), labels).accuracy

    assert found is not None
    assert (found.correct, len(found.recall), len(found.confusion)) == (4000, 3000, CELLS)
    assert {rows for _, _, rows in found.confusion[:1000]} == {2}


def parquet_of_files(root: Path) -> Path:
    return table(root / "labels.parquet", file=["a", "b"], label=["bag", "bag"], looked_at_by=["x", "y"])


def folder_of_csv(root: Path) -> Path:
    write_labels(root / "labels" / "one.csv", [("a", "bag", 1.0)])
    write_labels(root / "labels" / "two.csv", [("b", "bag", 1.0)])
    (root / "labels" / "_SUCCESS").touch()
    return root / "labels"


def folder_of_parquet(root: Path) -> Path:
    table(root / "labels" / "one.parquet", key=["a"], label=["bag"])
    table(root / "labels" / "two.parquet", key=["b"], label=["bag"])
    (root / "labels" / "notes.txt").touch()
    return root / "labels"


def of_the_partition(root: Path) -> str:
    write_labels(root / f"ds={DAY}" / "_labels.csv", [("a", "bag", 1.0), ("b", "bag", 1.0)])
    return f"{root}/ds={{partition}}/_labels.csv"


def with_quotes_and_gaps(root: Path) -> Path:
    path = root / "labels.csv"
    path.write_text('file,note,label\na,"said ""bag"", twice",bag\nb,,bag\nc,nobody looked,\n\n')
    return path


@pytest.mark.parametrize(
    "labels", [parquet_of_files, folder_of_csv, folder_of_parquet, of_the_partition, with_quotes_and_gaps]
)
def test_forms_of_a_labels_table(layout: OutputLayout, labels: Callable[[Path], Path | str]) -> None:
    found = contents(layout, Day(rows=ROWS), labels(layout.root.parent)).accuracy

    assert found is not None
    assert (found.rows, found.missing, found.correct) == (2, 0, 1)


def nowhere(root: Path) -> Path:
    return root / "labels.csv"


def of_another_kind(root: Path) -> Path:
    return write_labels(root / "labels.txt", [])


def empty_folder(root: Path) -> Path:
    (root / "labels").mkdir()
    return root / "labels"


def mixed_folder(root: Path) -> Path:
    write_labels(root / "labels" / "one.csv", [])
    return table(root / "labels" / "two.parquet", key=["a"], label=["bag"]).parent


def without_labels(root: Path) -> Path:
    return table(root / "labels.parquet", key=["a"], category=["bag"])


def no_parquet(root: Path) -> Path:
    path = root / "labels.parquet"
    path.write_text("file,label\n")
    return path


def no_text(root: Path) -> Path:
    path = root / "labels.csv"
    path.write_bytes(b"file,label\na,b\xff\xfeg\n")
    return path


def at_odds(root: Path) -> Path:
    return table(root / "labels.parquet", key=["a", "b", "a"], label=["bag", "hat", "shoe"])


def a_url(root: Path) -> str:
    return "s3://bucket/labels.csv"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (nowhere, "labels: there is no .*labels.csv"),
        (of_another_kind, "labels.txt is neither a .csv nor a .parquet file"),
        (empty_folder, "holds neither .csv nor .parquet files"),
        (mixed_folder, "holds both .csv and .parquet files"),
        (without_labels, "needs the columns key and label, it has key, category"),
        (no_parquet, "labels.parquet cannot be read: "),
        (no_text, "labels.csv cannot be read: "),
        (at_odds, "calls 'a' both 'bag' and 'shoe'"),
        (a_url, "labels: s3://bucket/labels.csv is a URL"),
    ],
)
def test_a_labels_table_that_cannot_be_used(
    layout: OutputLayout, labels: Callable[[Path], Path | str], message: str
) -> None:
    layout.root.mkdir()
    with pytest.raises(BadInputError, match=message):
        contents(layout, Day(rows=ROWS), labels(layout.root.parent))
