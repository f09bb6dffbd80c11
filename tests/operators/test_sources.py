# SPDX-License-Identifier: Apache-2.0
"""What a day may consist of, each on a real local Spark: rows with pictures, with addresses, very many, very large."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import COLOURS, Day
from tests.operators.test_spark_inference import rows, run_day

pytestmark = [pytest.mark.usefixtures("connections"), pytest.mark.spark]

TOMORROW = {"params": {"partition": "2026-01-02"}}
NO_LIMITS: dict[str, Any] = {"quarantine_rate": {"max": 1.0}, "label_drift": None, "mean_confidence": None}


def day_of(tmp_path: Path, partition: str = "2026-01-01") -> Path:
    folder = tmp_path / "catalog" / f"ds={partition}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def picture(number: int, kind: str = "PNG", size: tuple[int, int] = (20, 20)) -> bytes:
    """A picture that differs from those of other numbers, in one of the four colours."""
    image = Image.new("RGB", size, list(COLOURS.values())[number % 4])
    image.putpixel((0, 0), (number % 256, number // 256 % 256, 7))
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def colour(number: int) -> str:
    return list(COLOURS)[number % 4]


def manifest(published: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads((Path(published["path"]) / "_run.json").read_text()))


def test_rows_of_parquet_files_with_the_pictures_in_them(
    tmp_path: Path, colour_model: str, context: dict[str, Any]
) -> None:
    images = [picture(number) for number in range(300)]
    images[7], images[211] = b"broken", None
    table = pa.table({"address": pa.array(range(300)), "jpeg": pa.array(images, pa.binary())})  # any name will do
    pq.write_table(table.slice(0, 200), day_of(tmp_path) / "a.parquet", row_group_size=64)
    pq.write_table(table.slice(200), day_of(tmp_path) / "b.parquet")

    run_day(tmp_path, colour_model, context, {"key": "address", "input": "jpeg"}, **NO_LIMITS)

    published = rows(tmp_path / "predictions" / "ds=2026-01-01")
    assert {row["key"]: row["label"] for row in published} == {n: colour(n) for n in range(300) if n not in (7, 211)}
    quarantine = rows(tmp_path / "predictions" / "_quarantine" / "ds=2026-01-01")
    told = ("key", "reason", "address", "bytes", "copy")
    assert [tuple(row[name] for name in told) for row in quarantine] == [
        (7, "not_an_image", f"{day_of(tmp_path)}/a.parquet#7", 6, b"broken"),
        (211, "null_input", f"{day_of(tmp_path)}/b.parquet#11", None, None),
    ]


def test_rows_of_parquet_files_with_addresses_below_a_root(
    tmp_path: Path, colour_model: str, context: dict[str, Any]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(150):
        (images / f"{number}.png").write_bytes(picture(number))
    addresses = [f"{number}.png" for number in range(150)]
    addresses[3] = "../secret.png"
    (tmp_path / "secret.png").write_bytes(picture(3))
    skus = [f"sku-{number:03d}" for number in range(150)]
    pq.write_table(pa.table({"sku": skus, "file": addresses}), day_of(tmp_path) / "a.parquet")

    source = {"key": "sku", "input": "file", "root": str(images)}
    run_day(tmp_path, colour_model, context, source, **NO_LIMITS)

    published = rows(tmp_path / "predictions" / "ds=2026-01-01")
    assert {row["key"]: row["label"] for row in published} == {skus[n]: colour(n) for n in range(150) if n != 3}
    (outside,) = rows(tmp_path / "predictions" / "_quarantine" / "ds=2026-01-01")
    assert (outside["key"], outside["reason"], outside["address"]) == ("sku-003", "outside_root", "../secret.png")


def test_a_day_that_is_mostly_like_the_one_before_is_mostly_carried_over(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    """95 % of the pictures are unchanged: the same rows, of which a twentieth is scored."""
    for partition, changed in (("2026-01-01", 0), ("2026-01-02", 1000)):
        for number in range(400):
            data = picture(number + (changed if number < 20 else 0))
            (day_of(tmp_path, partition) / f"{number:03d}.png").write_bytes(data)
    predictions = tmp_path / "predictions"
    first = run_day(tmp_path, colour_model, context, {"incremental": True}, **NO_LIMITS)
    assert first["carried"] == 0

    second = run_day(tmp_path, colour_model, context | TOMORROW, {"incremental": "True"}, **NO_LIMITS)
    carried_over = rows(predictions / "ds=2026-01-02")
    assert (second["rows_in"], second["predicted"], second["carried"]) == (400, 400, 380)

    full = run_day(tmp_path, colour_model, context | TOMORROW, {"incremental": False}, **NO_LIMITS)
    assert full["carried"] == 0
    scored = rows(predictions / "ds=2026-01-02")
    same = ("key", "label", "score", "model_digest", "runtime_version", "execution_provider")
    assert [[row[name] for name in same] for row in carried_over] == [[row[name] for name in same] for row in scored]


def require_even(published: dict[str, Any], tasks: int) -> None:
    """No task holds more than twice of what the median one does, in rows and in bytes."""
    found = manifest(published)["tasks"]
    assert found["count"] >= tasks
    for what in ("rows", "bytes"):
        assert found[what]["largest"] <= 2 * found[what]["median"], found


def test_ten_thousand_small_files_make_even_tasks(tmp_path: Path, colour_model: str, context: dict[str, Any]) -> None:
    variants = [picture(number) for number in range(64)]
    for number in range(10_000):
        folder = day_of(tmp_path) / f"{number % 10}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number:05d}.png").write_bytes(variants[number % 64])

    published = run_day(tmp_path, colour_model, context, **NO_LIMITS)

    assert published["predicted"] == 10_000
    require_even(published, tasks=4)


def test_one_file_of_two_gigabytes_in_one_row_group_makes_even_tasks(
    tmp_path: Path, colour_model: str, context: dict[str, Any]
) -> None:
    size = 590
    pixels = np.zeros((size, size, 3), np.uint8)
    images = []
    for number in range(8):
        pixels[:] = list(COLOURS.values())[number % 4]
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "BMP")
        images.append(stream.getvalue())
    rows_in = 2_000
    table = pa.table({"sku": list(range(rows_in)), "bmp": [images[number % 8] for number in range(rows_in)]})
    path = day_of(tmp_path) / "day.parquet"
    # A page is the least that can be read; pyarrow would put 1,024 pictures into one.
    pages = {"write_batch_size": 8, "use_dictionary": False}
    pq.write_table(table, path, row_group_size=rows_in, compression="none", **pages)
    del table
    assert path.stat().st_size > 2e9
    assert pq.read_metadata(path).num_row_groups == 1

    published = run_day(tmp_path, colour_model, context, {"key": "sku", "input": "bmp"}, **NO_LIMITS)

    path.unlink()
    assert published["predicted"] == rows_in
    require_even(published, tasks=4)
    assert manifest(published)["peak_memory_mb"] < 500, "no worker holds the row group"
