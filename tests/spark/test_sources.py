from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.spark.sources import list_partition, readiness

DAY = "2026-01-01"


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


def test_hidden_files_and_folders_are_no_input(tmp_path: Path, day: Path) -> None:
    for name in ("_SUCCESS", ".a.png.part", "_temporary/c.jpg", ".snapshot/c.jpg", "shoes/_labels.csv"):
        write(day / name)

    assert list_partition(tmp_path, DAY).keys == ("a.png", "b.jpg")


def test_odd_but_valid_names_are_kept_as_they_are(tmp_path: Path) -> None:
    names = sorted(["ä ö.jpg", "a\nb.jpg", "100%.jpg", "a,b;c.jpg", "x" * 250])
    for name in names:
        write(tmp_path / f"ds={DAY}" / name)

    assert list(list_partition(tmp_path, DAY).keys) == names


def test_the_table_has_keys_and_absolute_addresses(tmp_path: Path, day: Path) -> None:
    table = list_partition(tmp_path, DAY).table()

    assert table.column_names == ["key", "address"]
    assert table.to_pylist()[0] == {"key": "a.png", "address": str(day / "a.png")}


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
