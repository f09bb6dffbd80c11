# SPDX-License-Identifier: Apache-2.0
"""Rows and pictures: picked from real files, kept below their folder, and never a reason to have no report."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from airflow_onnx_provider.quality.reports import pictures
from airflow_onnx_provider.quality.reports.facts import gather
from airflow_onnx_provider.quality.reports.pictures import LONGEST_SIDE, Inputs, Thumbnail, begins_with, thumbnail
from airflow_onnx_provider.quality.reports.rows import Row, best_rows, doubtful_rows, refused_rows
from airflow_onnx_provider.quality.reports.samples import take_samples
from airflow_onnx_provider.runtime import decode
from airflow_onnx_provider.spark.layout import OutputLayout
from tests.quality.reports.runs import draw, stage_rows

NAN = float("nan")


def a_file(folder: Path, **columns: Any) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "part-0.parquet")
    return [str(folder / "part-0.parquet")]


def encoded(size: tuple[int, int] = (64, 48), kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 20, 20)).save(file, kind, **options)
    return file.getvalue()


def shown(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return a_file(
        tmp_path / "ds=1 [odd]*",  # a pattern to those who take it for one
        key=["a", "b", "c", "d", None, "e"],
        label=["red", "red", "red", "blue", "blue", "blue"],
        score=[0.5, 0.9, 0.7, NAN, 0.1, 0.2],
    )


def test_the_surest_rows_of_some_labels(files: list[str]) -> None:
    assert best_rows(files, ["red", "nothing"], 2) == {"red": [Row("b", "red", 0.9), Row("c", "red", 0.7)]}


def test_the_least_sure_rows_are_usable_ones(files: list[str]) -> None:
    assert [row.key for row in doubtful_rows(files, 3)] == ["e", "a", "c"]


def test_keys_that_are_numbers(tmp_path: Path) -> None:
    files = a_file(tmp_path, key=[7, 8], label=["red", "red"], score=[0.5, 0.9])

    assert doubtful_rows(files, 1) == [Row("7", "red", 0.5)]


def test_the_first_rows_of_each_reason(tmp_path: Path) -> None:
    files = a_file(
        tmp_path,
        key=["c", "a", "b", "d"],
        stage=["decode"] * 4,
        reason=["empty_file", "empty_file", "empty_file", "not_an_image"],
        error=["x" * 5_000, "no bytes", None, "<b>"],
        address=["/a"] * 4,
        copy=[None, b"", b"12", b"%PDF"],
    )
    found = refused_rows(files, 2)

    assert {reason: [row.key for row in rows] for reason, rows in found.items()} == {
        "empty_file": ["a", "b"],
        "not_an_image": ["d"],
    }
    assert found["not_an_image"][0].copy == b"%PDF"
    assert found["empty_file"][1].error == ""


def test_a_quarantine_without_copies(tmp_path: Path) -> None:
    files = a_file(tmp_path, key=["a"], stage=["read"], reason=["unreadable"], error=["gone"], address=["/x"])

    assert refused_rows(files, 3)["unreadable"][0].copy is None


def test_a_small_picture_shows_the_whole_one_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    wide, turned = thumbnail(encoded((640, 320))), thumbnail(encoded((640, 320), "JPEG", exif=exif))

    assert shown(wide.uri).size == (LONGEST_SIDE, LONGEST_SIDE // 2)
    assert shown(turned.uri).size == (LONGEST_SIDE // 2, LONGEST_SIDE)


@pytest.mark.parametrize(
    ("data", "note"),
    [(b"", "empty file"), (b"<html>", "not an image"), (encoded()[:60], "broken image")],
)
def test_a_picture_that_cannot_be_shown_says_why(data: bytes, note: str) -> None:
    assert thumbnail(data) == Thumbnail(note=note)


def test_the_runtimes_limits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 100)

    assert thumbnail(encoded()).note == "too many pixels"


def test_noise_does_not_make_the_page_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_URI", 50)

    assert thumbnail(encoded()).note == "too detailed"


def test_a_medical_picture_stays_where_it_is() -> None:
    dicom = bytes(128) + b"DICM" + b"\x10\x00\x10\x00PN\x08\x00Doe^Jane"

    assert thumbnail(dicom) == Thumbnail(note="medical picture, not copied")
    assert begins_with(dicom) == "medical picture, not copied"


def test_nothing_outside_the_days_folder_is_read(tmp_path: Path) -> None:
    draw(tmp_path / "secret", ["s.png"])
    draw(tmp_path / "ds=1", ["a.png"])
    (tmp_path / "ds=1" / "link.png").symlink_to(tmp_path / "secret" / "s.png")
    inputs = Inputs({"folder": str(tmp_path / "ds=1")}, "1")
    keys = ["a.png", "../secret/s.png", str(tmp_path / "secret" / "s.png"), "link.png", "gone.png", "a\0.png"]
    found = inputs.thumbnails(keys)

    assert [key for key in keys if found[key].uri] == ["a.png"]
    assert [found[key].note for key in keys[1:4]] == ["outside the folder"] * 3
    assert found["gone.png"].note == "no longer there"


def test_a_file_that_is_too_large_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path, ["a.png"])
    monkeypatch.setattr(pictures, "MAX_BYTES", 10)

    assert Inputs({"folder": str(tmp_path)}, "1").thumbnails(["a.png"])["a.png"].note.startswith("larger than")


def test_pictures_end_when_their_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path, ["a.png", "b.png"])
    monkeypatch.setattr(pictures, "MAX_SECONDS", 0.0)
    found = Inputs({"folder": str(tmp_path)}, "1").thumbnails(["a.png", "b.png"])

    assert len(found) <= 1


@pytest.mark.parametrize("addresses", [False, True])
def test_pictures_of_a_day_of_parquet_files(tmp_path: Path, addresses: bool) -> None:
    draw(tmp_path / "pictures", [f"{number}.png" for number in range(40)])
    day = tmp_path / "catalog" / "ds=2026-01-01"
    cells = [f"{number}.png" for number in range(40)]
    cells[3] = "../../etc/passwd"
    data = [(tmp_path / "pictures" / name).read_bytes() if number != 3 else b"?" for number, name in enumerate(cells)]
    day.mkdir(parents=True)
    table = pa.table({"sku": list(range(40)), "picture": cells if addresses else data})
    pq.write_table(table, day / "part-0.parquet", row_group_size=16)
    source = {"folder": str(day), "key": "sku", "input": "picture"}
    root = str(tmp_path / "pictures") if addresses else None

    found = Inputs({**source, "root": root}, "2026-01-01").thumbnails(["0", "17", "3", "99"])

    assert sorted(found) == ["0", "17", "3"]
    assert shown(found["17"].uri).convert("RGB").getpixel((5, 5)) == pytest.approx((20, 200, 20), abs=12)
    assert found["3"].note == ("outside the folder" if addresses else "not an image")


def test_a_source_that_is_gone_leaves_no_pictures(tmp_path: Path) -> None:
    gone = {"folder": str(tmp_path / "ds=2026-01-01"), "key": "sku", "input": "picture", "root": None}

    assert Inputs(gone, "2026-01-01").thumbnails(["0"]) == {}
    assert Inputs({}, "2026-01-01").thumbnails(["0"]) == {}


def test_first_bytes_tell_what_a_file_is() -> None:
    assert begins_with(b"<html><head><title>404 Not Found") == "<html><head><title>404 N"
    assert begins_with(b"\xff\xd8JFIF") == "··JFIF"


def a_day(tmp_path: Path, **fields: Any) -> OutputLayout:
    folder = tmp_path / "ds=2026-01-01"
    draw(folder, ["a.png", "b.png"])
    (folder / "c.jpg").write_bytes(b"<html>")
    layout = OutputLayout(tmp_path / "out")
    refused = {"key": "c.jpg", "stage": "decode", "reason": "not_an_image", "error": "no", "address": "c.jpg"}
    rows = [("a.png", "red", 0.9), ("b.png", "green", 0.3)]
    stage_rows(layout, "one", rows, [refused], **{"source": {"folder": str(folder)}, **fields})
    return layout


def test_samples_of_a_day(tmp_path: Path) -> None:
    layout = a_day(tmp_path)
    samples = take_samples(layout, gather(layout, "one"))

    assert list(samples.by_label) == ["green", "red"]
    assert all(sample.picture.uri for some in samples.by_label.values() for sample in some)
    assert [sample.row.key for sample in samples.doubtful] == ["b.png", "a.png"]
    ((reason, (refused,)),) = samples.refused
    assert (reason, refused.begins) == ("not_an_image", "<html>")
    assert samples.note == ""


def test_an_old_run_has_rows_and_no_pictures(tmp_path: Path) -> None:
    layout = a_day(tmp_path, source={})
    samples = take_samples(layout, gather(layout, "one"))

    assert samples.doubtful[0].picture.note == "no picture"
    assert "older one" in samples.note


def test_damaged_rows_are_told_of(tmp_path: Path) -> None:
    layout = a_day(tmp_path)
    (layout.staging("one") / "predictions" / "part-0.parquet").write_bytes(b"PAR1 no more")
    samples = take_samples(layout, gather(layout, "one"))

    assert samples.note.startswith("the rows cannot be read")


def test_rows_that_are_gone_are_told_of(tmp_path: Path) -> None:
    layout = a_day(tmp_path)
    (layout.staging("one")).rename(tmp_path / "elsewhere")

    assert take_samples(layout, gather(layout, "one")).note == "No rows of this run are left."
