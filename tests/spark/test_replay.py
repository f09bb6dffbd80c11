# SPDX-License-Identifier: Apache-2.0
"""The base of a replay, and where its quarantined rows are now."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError, PublishConflictError, PublishError
from airflow_onnx_provider.runtime.parquet import read_pieces
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from airflow_onnx_provider.spark.replay import Base
from airflow_onnx_provider.spark.sources import Listing, Source
from airflow_onnx_provider.spark.staged import rows_in
from tests.spark.staging import a_manifest, stage, stage_and_publish, tree

DAY = "2026-01-01"
FILES, PICTURES, ADDRESSES = Source(), Source("sku", "jpeg"), Source("sku", "at", "/images")
SCORING = {"provider": "CPUExecutionProvider", "decoder": "full", "top_k": 0, "raw": []}


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path / "predictions")


def write_rows(path: Path, row_group_size: int = 3, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def published_day(
    layout: OutputLayout, predicted: Mapping[Any, str], quarantined: Mapping[Any, str | None], **fields: Any
) -> Base:
    """Publish a day whose run quarantined these keys at these addresses."""
    stage(layout, "base")
    keys = pa.array([*predicted, *quarantined])
    for part, rows in (("predictions", predicted), ("quarantine", quarantined)):
        path = layout.staging("base") / part / "part-0.parquet"
        columns = {"key": pa.array(list(rows), keys.type), "address": pa.array(list(rows.values()), pa.string())}
        pq.write_table(pa.table(columns), path)
    books = {"rows_in": len(keys), "predicted": len(predicted), "quarantined": {"not_an_image": len(quarantined)}}
    a_manifest("base", layout, **(books | fields)).write(layout.run_manifest("base"))
    publish(layout, DAY, "base")
    return Base.published(layout, DAY)


def rows_of(listing: Listing, work: Path) -> list[dict[str, Any]]:
    """What the workers would read of all shares."""
    pieces = [piece for share in listing.shares(2, work) for piece in share.pieces]
    rows = [row for batch in read_pieces(pieces, list(listing.columns)) for row in batch.to_pylist()]
    assert len(rows) == listing.rows
    return sorted(rows, key=lambda row: str(row["key"]))


def test_quarantined_files_are_looked_for_where_the_day_is(tmp_path: Path, layout: OutputLayout) -> None:
    day = write_files(tmp_path / f"ds={DAY}", {"good.jpg": b"1", "shoes/b.jpg": b"123"})
    base = published_day(layout, {"good.jpg": ""}, {"shoes/b.jpg": "/old/b.jpg", "a.jpg": "/old/a.jpg"})

    listing = base.source(FILES, None).list_partition(tmp_path, DAY)

    assert (listing.rows, listing.bytes, listing.largest, listing.read_folders) == (2, 3, 3, (day,))
    assert listing.newest == (day / "shoes/b.jpg").stat().st_mtime
    assert rows_of(listing, tmp_path / "work") == [
        {"key": "a.jpg", "address": f"{day}/a.jpg"},
        {"key": "shoes/b.jpg", "address": f"{day}/shoes/b.jpg"},
    ]


def test_what_is_repaired_elsewhere_wins(tmp_path: Path, layout: OutputLayout) -> None:
    day = write_files(tmp_path / f"ds={DAY}", {"a.jpg": b"1", "b.jpg": b"1"})
    base = published_day(layout, {}, {"a.jpg": "", "b.jpg": ""})
    repaired = write_files(tmp_path / "repaired", {"a.jpg": b"1234", "_notes.txt": b""})

    listing = base.source(FILES, str(repaired)).list_partition(tmp_path, DAY)
    assert [row["address"] for row in rows_of(listing, tmp_path / "work")] == [f"{repaired}/a.jpg", f"{day}/b.jpg"]
    assert (listing.bytes, listing.folder, listing.read_folders) == (5, day, (day, repaired))

    write_files(repaired, {"b.jpg": b"1"})
    assert base.source(FILES, str(repaired)).list_partition(tmp_path, DAY).read_folders == (repaired,)


def test_keys_that_are_not_in_quarantine_are_named(tmp_path: Path, layout: OutputLayout) -> None:
    base = published_day(layout, {"good.jpg": ""}, {"a.jpg": ""})
    repaired = write_files(tmp_path / "repaired", {f"{number}.jpg": b"" for number in range(7)} | {"a.jpg": b""})

    with pytest.raises(BadInputError, match=r"repaired has the keys '0\.jpg', .*'4\.jpg' and 2 more, which the day's"):
        base.source(FILES, str(repaired)).list_partition(tmp_path, DAY)
    with pytest.raises(BadInputError, match="repaired: .*/nowhere is no folder with files under the quarantined keys"):
        base.source(FILES, str(tmp_path / "nowhere")).list_partition(tmp_path, DAY)


def test_quarantined_pictures_of_parquet_files_are_gathered_by_their_keys(tmp_path: Path, layout: OutputLayout) -> None:
    """Wherever they stand now; of row groups without one only the keys are read."""
    day = tmp_path / f"ds={DAY}"
    jpegs = [f"picture {number}".encode() for number in range(10)]
    write_rows(day / "a.parquet", jpeg=jpegs, sku=pa.array(range(10), pa.int32()))
    repaired = write_rows(tmp_path / "fix.parquet", sku=[3], jpeg=[b"repaired"])
    base = published_day(layout, {0: ""}, {3: "x#3", 8: "x#8", 99: "x#99", None: "x#5"})

    listing = base.source(PICTURES, str(repaired)).list_partition(tmp_path, DAY)

    assert (listing.key_type, listing.from_bytes, listing.folder, listing.read_folders) == ("int64", True, day, ())
    assert rows_of(listing, tmp_path / "work") == [
        {"key": 3, "image": b"repaired", "address": f"{repaired}#0"},
        {"key": 8, "image": b"picture 8", "address": f"{day}/a.parquet#8"},
        {"key": 99, "image": None, "address": "x#99"},
        {"key": None, "image": None, "address": "x#5"},
    ]


def test_where_all_is_repaired_elsewhere_the_day_is_not_needed(tmp_path: Path, layout: OutputLayout) -> None:
    base = published_day(layout, {"a": ""}, {"b": "", "c": ""})
    write_rows(tmp_path / "fix" / "1.parquet", sku=["b"], jpeg=[b"b"])
    write_rows(tmp_path / "fix" / "2.parquet", sku=["c"], jpeg=[b"c"])

    listing = base.source(PICTURES, str(tmp_path / "fix")).list_partition(tmp_path, DAY)

    assert [row["image"] for row in rows_of(listing, tmp_path / "work")] == [b"b", b"c"]


def test_addresses_of_parquet_files_are_taken_as_the_day_has_them_now(tmp_path: Path, layout: OutputLayout) -> None:
    write_rows(tmp_path / f"ds={DAY}" / "a.parquet", at=["a.jpg", "mended.jpg"], sku=["a", "b"])
    base = published_day(layout, {"a": ""}, {"b": "../b.jpg", "gone": "gone.jpg"})

    listing = base.source(ADDRESSES, None).list_partition(tmp_path, DAY)

    assert not listing.from_bytes
    assert rows_of(listing, tmp_path / "work") == [
        {"key": "b", "address": "mended.jpg"},
        {"key": "gone", "address": "gone.jpg"},
    ]


@pytest.mark.parametrize(
    ("repaired", "said"),
    [
        (
            {"sku": ["b", "z", None], "jpeg": [b""] * 3},
            "fix.parquet has the keys 'z', None, which the day's quarantine",
        ),
        ({"sku": [1], "jpeg": [b""]}, "fix.parquet has the key '1', which"),
        ({"sku": ["b"], "jpeg": ["b.jpg"]}, "jpeg holds addresses: say with root"),
        ({"sku": ["b"], "png": [b""]}, "has no column jpeg; it has sku, png"),
        ({"sku": ["b", "b"], "jpeg": [b""] * 2}, "has the key 'b' more than once, and a replay tells rows by their"),
    ],
)
def test_repaired_rows_that_do_not_fit(
    tmp_path: Path, layout: OutputLayout, repaired: dict[str, Any], said: str
) -> None:
    write_rows(tmp_path / f"ds={DAY}" / "a.parquet", jpeg=[b"", b""], sku=["a", "b"])
    base = published_day(layout, {"a": ""}, {"b": ""})
    write_rows(tmp_path / "fix.parquet", **repaired)

    with pytest.raises(BadInputError, match=said):
        base.source(PICTURES, str(tmp_path / "fix.parquet")).list_partition(tmp_path, DAY).shares(1, tmp_path / "work")


def test_repaired_addresses_where_the_day_holds_pictures(tmp_path: Path, layout: OutputLayout) -> None:
    write_rows(tmp_path / f"ds={DAY}" / "a.parquet", at=[b"", b""], sku=["b", "c"])
    write_rows(tmp_path / "fix.parquet", at=["b.jpg"], sku=["b"])
    base = published_day(layout, {}, {"b": "", "c": ""})

    with pytest.raises(BadInputError, match="at holds the pictures themselves, so root has no meaning"):
        base.source(ADDRESSES, str(tmp_path / "fix.parquet")).list_partition(tmp_path, DAY)


def test_numbers_that_are_no_keys_of_the_quarantine(tmp_path: Path, layout: OutputLayout) -> None:
    write_rows(tmp_path / "fix.parquet", sku=["shoe"], jpeg=[b""])
    base = published_day(layout, {1: ""}, {2: ""})

    with pytest.raises(BadInputError, match="fix.parquet: the key sku is string, but the quarantine has int64: "):
        base.source(PICTURES, str(tmp_path / "fix.parquet")).list_partition(tmp_path, DAY)


def test_a_key_that_was_predicted_and_quarantined(tmp_path: Path, layout: OutputLayout) -> None:
    write_rows(tmp_path / f"ds={DAY}" / "a.parquet", row_group_size=1, jpeg=[b"", b""], sku=["a", "a"])
    base = published_day(layout, {"a": ""}, {"a": ""})

    with pytest.raises(BadInputError, match="ds=2026-01-01 has the key 'a' more than once"):
        base.source(PICTURES, None).list_partition(tmp_path, DAY).shares(1, tmp_path / "work")


def test_a_key_that_was_quarantined_twice(tmp_path: Path, layout: OutputLayout) -> None:
    base = published_day(layout, {}, {"a": "", "b": ""})
    pq.write_table(pa.table({"key": ["a", "a"], "address": ["", ""]}), base.quarantine / "part-0.parquet")

    with pytest.raises(BadInputError, match="has the key 'a' more than once, .*make the keys unique and run the day"):
        base.source(PICTURES, None).list_partition(tmp_path, DAY)


def test_many_rows_are_gathered_in_row_groups_of_even_bytes(
    tmp_path: Path, layout: OutputLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_onnx_provider.spark.quarantined.GATHERED_BYTES", 2_000)
    write_rows(tmp_path / f"ds={DAY}" / "a.parquet", 1, sku=list(range(40)), jpeg=[bytes(500)] * 40)
    base = published_day(layout, {}, dict.fromkeys(range(40), ""))

    shares = base.source(PICTURES, None).list_partition(tmp_path, DAY).shares(4, tmp_path / "work")

    assert [share.rows for share in shares] == [10] * 4
    assert pq.read_metadata(tmp_path / "work" / "rows.parquet").num_row_groups == 10


def test_a_day_that_is_not_published_says_which_are(layout: OutputLayout) -> None:
    with pytest.raises(BadInputError, match="has no published ds=2026-01-01 .*; publish it first"):
        Base.published(layout, DAY)
    stage_and_publish(layout, "run-1", partition="2026-01-05")
    with pytest.raises(BadInputError, match="published are 1 partitions from 2026-01-05 to 2026-01-05"):
        Base.published(layout, DAY)


def test_a_publishing_that_was_cut_off_is_finished_first(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1")
    layout.journal(DAY).write_text('{"run": "run-2", "replaces": "run-1"}')

    with pytest.raises(PublishError, match="publishing run run-2 was cut off; run its publish task again"):
        Base.published(layout, DAY)


def test_a_quarantine_that_lost_a_file(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1")
    (layout.quarantine(DAY) / "part-0.parquet").unlink()

    with pytest.raises(BadInputError, match="holds 0 rows, but run run-1 quarantined 1; run the day again"):
        Base.published(layout, DAY)


def test_another_run_was_published_meanwhile(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2")

    with pytest.raises(PublishConflictError, match="the replay is of run run-1, but run run-2 of 2026-01-01 was publi"):
        Base.unchanged(layout, DAY, "run-1")
    assert Base.unchanged(layout, DAY, "run-2").manifest.run == "run-2"


@pytest.mark.parametrize("links", [True, False])
def test_predictions_are_taken_over_byte_for_byte(
    layout: OutputLayout, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    stage_and_publish(layout, "run-1")
    if not links:

        def refuse(*paths: Any) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
    target = layout.staging("run-2") / "predictions"

    Base.published(layout, DAY).take_over(target)

    published = layout.published(DAY) / "part-0.parquet"
    assert tree(target) == {"part-0.parquet": published.read_bytes()}
    assert (target / "part-0.parquet").samefile(published) is links


def test_files_of_one_name_get_along(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1")
    target = write_files(layout.staging("run-2") / "predictions", {})
    target.mkdir(parents=True)
    pq.write_table(pa.table({"key": pa.array([], pa.string())}), target / "part-0.parquet")

    Base.published(layout, DAY).take_over(target)

    assert sorted(path.name for path in target.iterdir()) == ["part-0.parquet", "run-1-part-0.parquet"]


def test_what_is_taken_over_is_counted(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1")
    base = Base.published(layout, DAY)
    pq.write_table(pa.table({"key": ["c"]}), layout.published(DAY) / "stray.parquet")

    with pytest.raises(BadInputError, match="holds 3 rows, but run run-1 predicted 2; score the whole day again"):
        base.take_over(layout.staging("run-2"))


def test_a_run_that_is_published_while_rows_are_taken_over(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1")
    base = Base.published(layout, DAY)
    stage_and_publish(layout, "run-2")

    with pytest.raises(PublishConflictError, match="run-1, but run run-2"):
        base.take_over(layout.staging("run-3"))


def test_other_columns_than_the_replay_would_have(layout: OutputLayout) -> None:
    base = published_day(layout, {"a": ""}, {"b": ""})

    base.require_columns(["key", "address"])
    with pytest.raises(BadInputError, match="has the columns key, address, but the replay's rows have key, label; sco"):
        base.require_columns(["key", "label"])


def test_one_model_and_one_way_of_scoring(layout: OutputLayout) -> None:
    base = published_day(layout, {}, {"b": ""}, scoring=SCORING)
    same = {"model": "/models/colours/0123", "digest": "0123"}

    base.require_same(same, SCORING)
    with pytest.raises(BadInputError, match="by /models/colours/0123 .* would be by /m/2 .*no day mixes models; leave"):
        base.require_same({"model": "/m/2", "digest": "4567"}, SCORING)
    with pytest.raises(BadInputError, match="'top_k': 0.*, the replay would be with .*'top_k': 3.*score the whole day"):
        base.require_same(same, SCORING | {"top_k": 3})


def test_a_manifest_that_does_not_tell_how_rows_were_scored(layout: OutputLayout) -> None:
    base = published_day(layout, {}, {"b": ""})

    assert base.profile == {}
    with pytest.raises(BadInputError, match="scored with settings that its manifest does not tell, the replay"):
        base.require_same({"model": "/models/colours/0123", "digest": "0123"}, SCORING)


@pytest.mark.parametrize(
    ("provider", "name"),
    [("CPUExecutionProvider", "cpu-throughput"), ("CUDAExecutionProvider", "cuda"), ("SomeProvider", None)],
)
def test_the_profile_is_one_like_the_published_runs(layout: OutputLayout, provider: str, name: str | None) -> None:
    scoring = SCORING | {"provider": provider, "decoder": "scaled"}
    base = published_day(layout, {}, {"b": ""}, scoring=scoring)

    assert base.profile == ({"name": name, "decoder": "scaled"} if name else {})


def test_contents_are_kept_where_the_base_has_them(layout: OutputLayout) -> None:
    base = published_day(layout, {"a": ""}, {"b": ""})
    assert not base.keeps_contents

    pq.write_table(pa.table({"key": ["a"], "content_sha256": [b"1"]}), layout.published(DAY) / "part-0.parquet")
    assert base.keeps_contents


def test_the_newest_input_is_the_days_or_a_repaired_one(layout: OutputLayout) -> None:
    base = published_day(layout, {}, {"b": ""}, source={"newest": "1970-01-01T00:01:40+00:00"})

    assert (base.newest(50.0), base.newest(200.0)) == (100.0, 200.0)


@settings(max_examples=40)
@given(
    rows=st.lists(st.tuples(st.booleans(), st.sampled_from(["broken", "in place", "elsewhere", "gone"])), min_size=1),
    source=st.sampled_from([FILES, PICTURES]),
)
def test_the_books_balance_whichever_rows_are_repaired(rows: list[tuple[bool, str]], source: Source) -> None:
    """Each row is predicted by the base or in its quarantine; of the latter some are repaired, here or there."""
    with tempfile.TemporaryDirectory() as name:
        root, fates = Path(name), {f"{number}": fate for number, (good, fate) in enumerate(rows) if not good}
        predicted = {f"{number}": "" for number, (good, _) in enumerate(rows) if good}
        layout, day, elsewhere = OutputLayout(root / "predictions"), root / f"ds={DAY}", root / "repaired"
        base = published_day(layout, predicted, dict.fromkeys(fates, "there"))
        if not fates:
            return
        here = {key: b"broken" if fate in ("broken", "elsewhere") else b"good" for key, fate in fates.items()}
        here = {key: data for key, data in here.items() if fates[key] != "gone"} | dict.fromkeys(predicted, b"good")
        there = {key: b"good" for key, fate in fates.items() if fate == "elsewhere"}
        for folder, pictures in ((day, here), (elsewhere, there)):
            if source is FILES:
                folder.mkdir()
                write_files(folder, pictures)
            elif pictures:
                write_rows(folder / "rows.parquet", sku=list(pictures), jpeg=list(pictures.values()))
        if source is PICTURES and not here:
            return  # a day without a row is refused

        listing = base.source(source, str(elsewhere) if there else None).list_partition(root, DAY)
        found = rows_of(listing, root / "work")
        now = [row["key"] for row in found if _bytes_of(row) == b"good"]
        target = layout.staging("replay") / "predictions"
        base.take_over(target)
        pq.write_table(pa.table({"key": pa.array(now, pa.string())}), target / "new.parquet")
        books = base.whole({"rows_in": listing.rows, "carried": 0, "predicted": rows_in(target)})

    assert sorted(row["key"] for row in found) == sorted(fates), "each quarantined row has one outcome again"
    assert set(now) == {key for key, fate in fates.items() if fate in ("in place", "elsewhere")}
    assert books["rows_in"] == len(rows) == books["predicted"] + len(found) - len(now)
    assert books["predicted"] == books["carried"] + len(now)


def _bytes_of(row: Mapping[str, Any]) -> bytes | None:
    if "image" in row:
        return row["image"]
    return Path(row["address"]).read_bytes() if Path(row["address"]).exists() else None
