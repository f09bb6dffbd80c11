# SPDX-License-Identifier: Apache-2.0
import csv
import io
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from demo import catalog
from demo.catalog import draw_day, main
from demo.encodings import ERROR_PAGE, ORIENTATION_TAG, Breakage, Encoding, encode_jpeg
from demo.orders import Batch, plan
from demo.pictures import draw_picture
from demo.products import CATEGORIES
from demo.seeds import Stream, generator

DAY = date(2026, 1, 1)
PICTURES, BROKEN = 120, 8


@pytest.fixture(scope="module")
def day(tmp_path_factory) -> Path:
    return draw_day(tmp_path_factory.mktemp("catalog"), DAY, pictures=PICTURES, broken=BROKEN, seed=7, workers=1)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith("p-"))


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _decodes(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError):
        return False
    return True


def test_a_day_has_its_pictures_labels_and_marker(day):
    assert day.name == "ds=2026-01-01"
    assert len(_pictures(day)) == PICTURES
    assert {path.name for path in day.iterdir()} - {path.name for path in _pictures(day)} == {"_labels.csv", "_SUCCESS"}
    assert (day / "_SUCCESS").read_bytes() == b""


def test_exactly_the_broken_pictures_do_not_decode(day):
    broken = [path for path in _pictures(day) if not _decodes(path)]

    planned = [order.file for order in plan(Batch(7, Stream.DAY, DAY.toordinal()), PICTURES, BROKEN) if order.breakage]
    assert [path.name for path in broken] == planned
    assert len(planned) == BROKEN


def test_every_breakage_takes_its_turn(day):
    orders = plan(Batch(7, Stream.DAY, DAY.toordinal()), PICTURES, BROKEN)
    broken = {order.file: order.breakage for order in orders if order.breakage}

    assert Counter(broken.values()) == dict.fromkeys(Breakage, BROKEN // len(Breakage))
    for file, breakage in broken.items():
        data = (day / file).read_bytes()
        start = {
            Breakage.EMPTY: b"",
            Breakage.TEXT: ERROR_PAGE,
            Breakage.TRUNCATED_JPEG: b"\xff\xd8\xff",
            Breakage.TRUNCATED_PNG: b"\x89PNG",
        }[breakage]
        assert data.startswith(start)
        assert bool(data) == (breakage is not Breakage.EMPTY)


def test_formats_modes_sizes_and_extensions_vary(day):
    formats, modes, longest, extensions = Counter(), Counter(), [], Counter()
    for path in filter(_decodes, _pictures(day)):
        extensions[path.suffix] += 1
        with Image.open(path) as image:
            formats[image.format] += 1
            modes[image.format, image.mode] += 1
            longest.append(max(image.size))

    sound = PICTURES - BROKEN
    assert formats["JPEG"] / sound == pytest.approx(0.7, abs=0.02)
    assert formats["PNG"] / sound == pytest.approx(0.15, abs=0.02)
    assert formats["WEBP"] / sound == pytest.approx(0.15, abs=0.02)
    assert {("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P")} <= set(
        modes
    )
    assert min(longest) >= 200
    assert max(longest) <= 1200
    assert sorted(longest)[sound // 2] < 600
    assert {".jpg", ".JPG", ".png", ".webp"} <= set(extensions)


def test_all_eight_orientations_occur(day):
    seen = set()
    for path in filter(_decodes, _pictures(day)):
        with Image.open(path) as image:
            seen.add(image.getexif().get(ORIENTATION_TAG))

    assert seen == {None, *range(1, 9)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_applying_the_orientation_gives_the_upright_picture(orientation):
    picture = draw_picture("mug", (96, 64), generator(1, Stream.DAY, 0, 1))
    data = encode_jpeg(picture, Encoding.JPEG, orientation, generator(1, Stream.DAY, 0, 2))
    plain = encode_jpeg(picture, Encoding.JPEG, None, generator(1, Stream.DAY, 0, 2))

    with Image.open(io.BytesIO(data)) as stored, Image.open(io.BytesIO(plain)) as upright:
        assert stored.size == ((96, 64) if orientation < 5 else (64, 96))
        turned = ImageOps.exif_transpose(stored)
        difference = [abs(a - b) for a, b in zip(turned.tobytes(), upright.convert("RGB").tobytes(), strict=True)]
    # JPEG rounds a turned picture a little differently; a wrongly turned one is tens of levels off.
    assert sum(difference) / len(difference) < 5


def test_a_tenth_of_the_sound_pictures_is_labelled_truly(day):
    with (day / "_labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    truth = {order.file: order.category for order in plan(Batch(7, Stream.DAY, DAY.toordinal()), PICTURES, BROKEN)}
    assert list(rows[0]) == ["file", "label"]
    assert len({row["file"] for row in rows}) == len(rows) == round((PICTURES - BROKEN) / 10)
    assert all(_decodes(day / row["file"]) and truth[row["file"]] == row["label"] for row in rows)
    assert {row["label"] for row in rows} <= set(CATEGORIES)


def test_same_seed_same_bytes_with_any_number_of_workers(tmp_path):
    alone = draw_day(tmp_path / "alone", DAY, pictures=40, broken=4, seed=1, workers=1)
    shared = draw_day(tmp_path / "shared", DAY, pictures=40, broken=4, seed=1, workers=2)

    assert _contents(alone) == _contents(shared)


def test_other_days_and_other_seeds_draw_other_pictures(tmp_path):
    settings = {"pictures": 12, "broken": 0, "workers": 1}
    first = draw_day(tmp_path, DAY, seed=1, **settings)
    next_day = draw_day(tmp_path, date(2026, 1, 2), seed=1, **settings)
    other_shop = draw_day(tmp_path / "other", DAY, seed=2, **settings)

    drawn = [path.read_bytes() for folder in (first, next_day, other_shop) for path in _pictures(folder)]
    assert len(set(drawn)) == 36


def test_the_mix_of_categories_hardly_changes_from_day_to_day():
    for number in range(5):
        counts = Counter(order.category for order in plan(Batch(7, Stream.DAY, number), 1200, 12))
        assert set(counts) == set(CATEGORIES)
        assert all(0.06 < count / 1200 < 0.14 for count in counts.values())


def test_a_day_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    seen_before_labels = []

    def fail(path, orders):
        seen_before_labels.append(([child.name for child in path.parent.iterdir()], catalog.is_complete(path.parent)))
        assert not (tmp_path / "ds=2026-01-01").exists()
        raise OSError("disk full")

    monkeypatch.setattr(catalog, "write_labels", fail)
    with pytest.raises(OSError, match="disk full"):
        draw_day(tmp_path, DAY, pictures=5, broken=1, seed=1, workers=1)

    ((files, complete),) = seen_before_labels
    assert len(files) == 5
    assert not complete
    assert list(tmp_path.iterdir()) == []


def test_a_complete_day_is_left_alone(tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--day", "2026-01-01", "--pictures", "6", "--broken", "1", "--workers", "1"]
    assert main(arguments) == 0
    assert "6 pictures, 1 of them broken" in capsys.readouterr().out
    (tmp_path / "ds=2026-01-01" / "p-000001.jpg").write_bytes(b"mine")

    assert main([*arguments, "--seed", "8"]) == 0

    assert "skipped" in capsys.readouterr().out
    assert (tmp_path / "ds=2026-01-01" / "p-000001.jpg").read_bytes() == b"mine"


def test_a_folder_of_somebody_else_is_not_touched(tmp_path):
    (tmp_path / "ds=2026-01-01").mkdir()
    (tmp_path / "ds=2026-01-01" / "holiday.jpg").write_bytes(b"mine")

    with pytest.raises(FileExistsError, match="move it away"):
        draw_day(tmp_path, DAY, pictures=5, broken=1, seed=1, workers=1)

    assert (tmp_path / "ds=2026-01-01" / "holiday.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize(("pictures", "broken"), [(0, 0), (5, 6), (5, -1)])
def test_impossible_counts_are_refused(pictures, broken):
    with pytest.raises(ValueError, match="cannot be drawn"):
        plan(Batch(1, Stream.DAY, 1), pictures, broken)
