# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.parquet import read_pieces
from airflow_onnx_provider.spark.sources import FileListing, RowListing, Source, readiness

DAY = "2026-01-01"


def list_partition(catalog: Path, partition: str) -> FileListing:
    listing = Source().list_partition(catalog, partition)
    assert isinstance(listing, FileListing)
    return listing


def write(path: Path, data: bytes = b"12345") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def day(tmp_path: Path) -> Path:
    folder = tmp_path / f"ds={DAY}"
    write(folder / "b.jpg")
    write(folder / "a.png", b"123")
    return folder


def test_files_are_listed_by_their_path_in_the_day(tmp_path: Path, day: Path) -> None:
    write(day / "shoes" / "new" / "c.webp", b"1")

    listing = list_partition(tmp_path, DAY)

    assert listing.keys == ("a.png", "b.jpg", "shoes/new/c.webp")
    assert (listing.folder, listing.bytes) == (day, 9)


def test_the_newest_input_is_told(tmp_path: Path, day: Path) -> None:
    for name, moment in (("a.png", 2_000_000_000), ("b.jpg", 1_000_000_000)):
        os.utime(day / name, (moment, moment))

    assert list_partition(tmp_path, DAY).newest == 2_000_000_000

    write_rows(tmp_path / "ds=2026-01-02" / "a.parquet")
    os.utime(tmp_path / "ds=2026-01-02" / "a.parquet", (1_500_000_000, 1_500_000_000))
    assert Source("sku", "jpeg").list_partition(tmp_path, "2026-01-02").newest == 1_500_000_000


def test_hidden_files_and_folders_are_no_input(tmp_path: Path, day: Path) -> None:
    for name in ("_SUCCESS", ".a.png.part", "_temporary/c.jpg", ".snapshot/c.jpg", "shoes/_labels.csv"):
        write(day / name)

    assert list_partition(tmp_path, DAY).keys == ("a.png", "b.jpg")


def test_odd_but_valid_names_are_kept_as_they_are(tmp_path: Path) -> None:
    names = sorted(["ä ö.jpg", "a\nb.jpg", "100%.jpg", "a,b;c.jpg", "x" * 250])
    for name in names:
        write(tmp_path / f"ds={DAY}" / name)

    assert list(list_partition(tmp_path, DAY).keys) == names


def test_the_shares_of_a_folder_are_lists_of_files_that_the_workers_read(tmp_path: Path, day: Path) -> None:
    shares = list_partition(tmp_path, DAY).shares(2, tmp_path / "work")

    rows = [batch.to_pylist() for share in shares for batch in read_pieces(share.pieces, ["key", "address"])]
    assert rows == [[{"key": name, "address": str(day / name)}] for name in ("a.png", "b.jpg")]
    assert [(share.rows, share.bytes) for share in shares] == [(1, 3), (1, 5)]


def test_a_dangling_link_is_a_row_too(tmp_path: Path, day: Path) -> None:
    (day / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")

    listing = list_partition(tmp_path, DAY)

    assert listing.keys == ("a.png", "b.jpg", "gone.jpg")
    assert listing.bytes == 8


def test_a_link_to_a_file_counts_with_the_files_size(tmp_path: Path, day: Path) -> None:
    (day / "link.jpg").symlink_to(write(tmp_path / "elsewhere.jpg", bytes(100)))

    assert list_partition(tmp_path, DAY).bytes == 108


def test_a_linked_folder_that_leads_back_up_does_not_go_on_for_ever(tmp_path: Path, day: Path) -> None:
    (day / "up").symlink_to(day)

    assert list_partition(tmp_path, DAY).keys == ("a.png", "b.jpg", "up")


def test_a_missing_catalogue(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="missing does not exist, or is no folder"):
        list_partition(tmp_path / "missing", DAY)


def test_a_missing_day_says_which_days_there_are(tmp_path: Path) -> None:
    for name in ("2025-12-31", "2025-11-30", "2026-02-01"):
        (tmp_path / f"ds={name}").mkdir()

    with pytest.raises(
        BadInputError, match=r"has no ds=2026-01-01; it has 3 partitions from ds=2025-11-30 to ds=2026-02-01"
    ):
        list_partition(tmp_path, DAY)


def test_a_missing_day_of_an_empty_catalogue(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="it has no partition at all"):
        list_partition(tmp_path, DAY)


def test_an_empty_day(tmp_path: Path) -> None:
    write(tmp_path / f"ds={DAY}" / "_SUCCESS", b"")

    with pytest.raises(BadInputError, match="is empty: there is nothing to predict"):
        list_partition(tmp_path, DAY)


def test_a_name_that_is_no_text(tmp_path: Path, day: Path) -> None:
    write(Path(os.fsdecode(os.fsencode(day) + b"/shoe-\xff.jpg")))

    with pytest.raises(BadInputError, match=r"is not valid UTF-8: 'shoe-\\udcff.jpg'; rename it"):
        list_partition(tmp_path, DAY)


def test_a_name_that_is_no_text_can_be_told_to_a_person(tmp_path: Path, day: Path) -> None:
    write(Path(os.fsdecode(os.fsencode(day) + b"/f-\xff/shoe.jpg")))

    with pytest.raises(BadInputError) as caught:
        list_partition(tmp_path, DAY)
    assert str(caught.value).encode()  # a log file takes UTF-8 only


def test_a_named_pipe_is_no_file_to_wait_for(tmp_path: Path, day: Path) -> None:
    """Whoever opens a pipe waits for its writer, so a Spark task that reads one would never end."""
    os.mkfifo(day / "pipe.jpg")

    assert "pipe.jpg" not in list_partition(tmp_path, DAY).keys


def set_age(folder: Path, seconds: float, now: float) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (now - seconds, now - seconds), follow_symlinks=False)


NOW = 2_000_000_000.0


def test_a_day_that_is_not_there_is_not_complete(tmp_path: Path) -> None:
    found = readiness(tmp_path / "later", "_SUCCESS", 60, NOW)

    assert (found.complete, found.seen) == (False, f"{tmp_path / 'later'} does not exist")


def test_the_marker_makes_the_day_complete(day: Path) -> None:
    before = readiness(day, "_SUCCESS", 60, NOW)
    write(day / "_SUCCESS", b"")
    after = readiness(day, "_SUCCESS", 60, NOW)

    assert (before.complete, before.seen) == (False, f"{day / '_SUCCESS'} is not there yet")
    assert (after.complete, after.seen) == (True, f"{day / '_SUCCESS'} is there")


@pytest.mark.parametrize(("age", "complete"), [(59, False), (60, True), (3600, True), (-5, False)])
def test_without_a_marker_a_quiet_day_is_complete(day: Path, age: float, complete: bool) -> None:
    set_age(day, age, NOW)

    found = readiness(day, None, 60, NOW)

    assert found.complete is complete
    assert found.seen == f"{day} holds 2 files and has been quiet for {max(age, 0)} s"


def test_one_new_file_in_a_subfolder_is_noise(day: Path) -> None:
    write(day / "shoes" / "c.jpg")
    set_age(day, 3600, NOW)
    os.utime(day / "shoes" / "c.jpg", (NOW - 1, NOW - 1))

    assert readiness(day, None, 60, NOW).complete is False


def test_a_file_that_was_moved_in_with_its_old_date_is_noise_in_a_subfolder_too(day: Path) -> None:
    """`cp -p` and `rsync -t` keep old dates; only the folder that took the file in is new."""
    write(day / "shoes" / "c.jpg")
    set_age(day, 3600, NOW)
    os.utime(day / "shoes", (NOW - 1, NOW - 1))

    assert readiness(day, None, 60, NOW).complete is False


def test_a_quiet_day_without_files_is_not_complete(tmp_path: Path) -> None:
    write(tmp_path / "day" / ".part")
    set_age(tmp_path / "day", 3600, NOW)

    assert readiness(tmp_path / "day", None, 60, NOW).complete is False


def test_a_dangling_link_is_looked_at_without_following_it(day: Path) -> None:
    (day / "gone.jpg").symlink_to("nowhere")
    set_age(day, 3600, NOW)

    assert readiness(day, None, 60, NOW).complete is True


def test_a_file_that_goes_away_during_the_look_is_no_error(day: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fills the day renames parts into place while the sensor looks."""
    real = os.scandir

    class Vanishing:
        def __init__(self, path: Any) -> None:
            with real(path) as entries:
                self.entries = list(entries)
            (day / "a.png").unlink(missing_ok=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *caught: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Vanishing)

    assert readiness(day, None, 60, NOW).complete is True  # b.jpg is as old as a year before 2033


def write_rows(path: Path, rows: int = 10, row_group_size: int = 4, **columns: Any) -> Path:
    given = {"sku": [f"sku-{number}" for number in range(rows)], "jpeg": [b"x" * 100] * rows} | columns
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(given), path, row_group_size=row_group_size)
    return path


def rows_of(catalog: Path, **source: str) -> RowListing:
    listing = Source(**source).list_partition(catalog, DAY)
    assert isinstance(listing, RowListing)
    return listing


def test_rows_of_parquet_files_with_the_pictures_in_them(tmp_path: Path) -> None:
    write_rows(tmp_path / f"ds={DAY}" / "a.parquet")
    write_rows(tmp_path / f"ds={DAY}" / "more" / "b.parquet", rows=3)
    write_rows(tmp_path / f"ds={DAY}" / "_half.parquet")

    listing = rows_of(tmp_path, key="sku", input="jpeg")

    assert (listing.rows, listing.files, listing.key_type, listing.from_bytes) == (13, 2, "string", True)
    assert listing.columns == {"key": "sku", "image": "jpeg"}
    assert sum(share.rows for share in listing.shares(5, tmp_path)) == 13


def test_rows_of_parquet_files_with_addresses(tmp_path: Path) -> None:
    write_rows(tmp_path / f"ds={DAY}" / "a.parquet", sku=list(range(10)), jpeg=["shoes/a.jpg"] * 10)

    listing = rows_of(tmp_path, key="sku", input="jpeg", root="/data/images")

    assert (listing.key_type, listing.from_bytes, listing.columns) == (
        "int64",
        False,
        {"key": "sku", "address": "jpeg"},
    )


@pytest.mark.parametrize(
    ("source", "columns", "said"),
    [
        ({"key": "id", "input": "jpeg"}, {}, "has no column id; it has sku, jpeg"),
        (
            {"key": "sku", "input": "jpeg"},
            {"jpeg": ["a.jpg"] * 10},
            "holds addresses: say with root below which",
        ),
        ({"key": "sku", "input": "jpeg", "root": "/data"}, {}, "holds the pictures themselves, so root has no meaning"),
        ({"key": "sku", "input": "jpeg"}, {"jpeg": [1] * 10}, "jpeg is int64; it must hold encoded pictures"),
        ({"key": "sku", "input": "jpeg"}, {"sku": [0.5] * 10}, "the key sku is double; a key must be a string or"),
    ],
)
def test_columns_that_do_not_fit(tmp_path: Path, source: dict[str, str], columns: dict[str, Any], said: str) -> None:
    write_rows(tmp_path / f"ds={DAY}" / "a.parquet", **columns)

    with pytest.raises(BadInputError, match=said):
        Source(**source).list_partition(tmp_path, DAY)


def test_pictures_where_parquet_files_were_announced(tmp_path: Path, day: Path) -> None:
    with pytest.raises(BadInputError, match="key and input name columns of Parquet files, but .* holds something else"):
        Source("sku", "jpeg").list_partition(tmp_path, DAY)


def test_parquet_files_without_a_row(tmp_path: Path) -> None:
    write_rows(tmp_path / f"ds={DAY}" / "a.parquet", rows=0)

    with pytest.raises(BadInputError, match="holds no row: there is nothing to predict"):
        Source("sku", "jpeg").list_partition(tmp_path, DAY)


@pytest.mark.parametrize("source", [{"key": "sku"}, {"input": "jpeg"}, {"root": "/data"}])
def test_half_a_source(source: dict[str, str]) -> None:
    with pytest.raises(BadInputError, match="give both, or neither|name the columns with key and input"):
        Source(**source)


def test_samples_come_from_all_over_the_day(tmp_path: Path) -> None:
    names = [f"{number:02d}" for number in range(40)]
    write_rows(tmp_path / f"ds={DAY}" / "a.parquet", rows=40, jpeg=[name.encode() for name in names])

    first, second = rows_of(tmp_path, key="sku", input="jpeg").samples(2, rows=10)

    assert list(first.pictures()) == [b"00", b"01", b"08", b"09", b"16", b"17", b"24", b"25", b"32", b"33"]
    assert not set(first.pictures()) & set(second.pictures())
