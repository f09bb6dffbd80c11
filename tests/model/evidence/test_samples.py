# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.evidence.samples import digest_of_path, load_labelled, load_samples, picture_files
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.manifest import ModelManifest, TensorSpec
from tests.runtime.tiny import LABELS, PREPROCESSING, plain_picture

MANIFEST = ModelManifest(
    name="colours",
    files={},
    inputs=(TensorSpec("image", "uint8", ("batch", 4, 4, 3)),),
    outputs=(TensorSpec("scores", "float", ("batch", 3)),),
    opset=18,
    domains=("",),
    preprocessing=PREPROCESSING,
    labels=LABELS,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures with their labels."""
    (tmp_path / "a.png").write_bytes(plain_picture((250, 0, 0)))
    (tmp_path / "b.png").write_bytes(plain_picture((0, 0, 250)))
    (tmp_path / "labels.csv").write_text("file,label\na.png,red\nb.png,blue\n")
    return tmp_path


def samples(path: Path, limit: int = 8) -> np.ndarray:
    return load_samples(path, limit, MANIFEST, "calibration").inputs["image"]


def test_pictures_become_what_an_executor_would_make_of_them(pictures: Path) -> None:
    tensors = samples(pictures, 100)
    expected = [decode_image(file.read_bytes(), PREPROCESSING) for file in pictures.glob("*.png")]

    assert (tensors.shape, tensors.dtype) == ((12, 4, 4, 3), np.uint8)
    assert sorted(tensor.tobytes() for tensor in tensors) == sorted(tensor.tobytes() for tensor in expected)


def test_the_pictures_are_kept_beside_their_tensors(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = load_samples(folder, 8, MANIFEST, "calibration")

    assert np.array_equal(found.inputs["image"], [decode_image(picture, PREPROCESSING) for picture in found.pictures])
    assert len(found.pictures) == 2


def test_decoded_tensors_have_no_pictures(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((2, 4, 4, 3), np.uint8))

    assert load_samples(tmp_path / "rows.npy", 8, MANIFEST, "calibration").pictures == ()


def test_the_same_folder_gives_the_same_rows(pictures: Path) -> None:
    assert np.array_equal(samples(pictures, 5), samples(pictures, 5))
    assert len(samples(pictures, 5)) == 5


def test_broken_pictures_are_passed_over(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "gone.png").symlink_to("nowhere")

    assert len(samples(folder)) == 2


def test_pictures_of_a_parquet_catalogue_are_drawn_over_all_its_files(tmp_path: Path) -> None:
    for day in range(4):
        rows = [plain_picture((day * 60, number, 0)) for number in range(10)]
        (tmp_path / f"ds={day}").mkdir()
        pq.write_table(pa.table({"image": [b"broken", None, *rows]}), tmp_path / f"ds={day}" / "a.parquet")

    drawn = samples(tmp_path, 12)

    assert len(drawn) == 12
    assert len({int(picture[0, 0, 0]) for picture in drawn}) >= 3
    assert np.array_equal(drawn, samples(tmp_path, 12))


@pytest.mark.parametrize("files", [[], ["notes.txt"]])
def test_a_folder_without_a_usable_picture(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).write_text("no picture")

    with pytest.raises(BadInputError, match=rf"calibration: no usable picture among the {len(files)} files"):
        samples(tmp_path)


def test_what_is_neither_folder_nor_array(tmp_path: Path) -> None:
    with pytest.raises(
        BadInputError, match=r"calibration: .*missing is neither a folder of pictures, nor Parquet, nor an .npy"
    ):
        samples(tmp_path / "missing")


def test_hidden_files_and_label_lists_are_no_pictures(folder: Path) -> None:
    for name in ("_labels.csv", ".hidden.png", "_old/c.png", "new/.part/c.png", "new/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1")

    assert [str(file.relative_to(folder)) for file in picture_files(folder)] == ["a.png", "b.png", "new/c.png"]


def test_decoded_tensors_are_taken_from_the_whole_file(tmp_path: Path) -> None:
    rows = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    np.save(tmp_path / "rows.npy", rows)

    assert samples(tmp_path / "rows.npy", 5)[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8]
    assert len(samples(tmp_path / "rows.npy", 7)) == 7
    assert len(samples(tmp_path / "rows.npy", 100)) == 10


@pytest.mark.parametrize(
    "rows",
    [np.zeros((2, 4, 4, 3), np.float32), np.zeros((2, 4, 5, 3), np.uint8), np.zeros((0, 4, 4, 3), np.uint8)],
    ids=["type", "shape", "no rows"],
)
def test_tensors_of_another_kind(tmp_path: Path, rows: np.ndarray) -> None:
    np.save(tmp_path / "rows.npy", rows)

    with pytest.raises(BadInputError, match=r"must hold uint8 \[rows, 4, 4, 3\] with at least one row, found"):
        samples(tmp_path / "rows.npy")


def test_an_array_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)

    with pytest.raises(BadInputError, match="is no plain numpy array"):
        samples(tmp_path / "rows.npy")


@pytest.mark.parametrize("data", [b"", b"no array", b"\x93NUMPY\x01\0", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_array(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "rows.npy").write_bytes(data)

    with pytest.raises(BadInputError, match=r"rows\.npy is no plain numpy array"):
        samples(tmp_path / "rows.npy")


def labelled(folder: Path) -> list[int]:
    return load_labelled(folder, MANIFEST).classes.tolist()


def test_labelled_pictures_have_their_class_in_the_models_order(folder: Path) -> None:
    found = load_labelled(folder, MANIFEST)

    assert found.classes.tolist() == [0, 2]
    assert found.inputs["image"][:, 0, 0].tolist() == [[250, 0, 0], [0, 0, 250]]


def test_labelled_pictures_may_lie_in_parquet(tmp_path: Path) -> None:
    pictures = [plain_picture((250, 0, 0)), plain_picture((0, 0, 250))]
    pq.write_table(pa.table({"image": pictures, "label": ["red", "blue"]}), tmp_path / "a.parquet")

    found = load_labelled(tmp_path, MANIFEST)
    colours = {0: [250, 0, 0], 2: [0, 0, 250]}
    assert sorted(found.classes.tolist()) == [0, 2]
    assert found.inputs["image"][:, 0, 0].tolist() == [colours[label] for label in found.classes.tolist()]

    pq.write_table(pa.table({"image": [b"broken"], "label": ["red"]}), tmp_path / "a.parquet")
    with pytest.raises(BadInputError, match="has a picture that cannot be read"):
        labelled(tmp_path)
    pq.write_table(pa.table({"image": pictures}), tmp_path / "a.parquet")
    with pytest.raises(BadInputError, match="has no column label"):
        labelled(tmp_path)


def test_further_columns_and_orders_are_fine(folder: Path) -> None:
    (folder / "labels.csv").write_text("price,label,file\n9.99,blue,b.png\n")

    assert labelled(folder) == [2]


def test_a_spreadsheets_csv_with_its_byte_order_mark(folder: Path) -> None:
    (folder / "labels.csv").write_bytes(b"\xef\xbb\xbffile,label\r\na.png,red\r\n")

    assert labelled(folder) == [0]


def test_the_list_may_be_hidden_from_readers_of_the_folder(folder: Path) -> None:
    (folder / "labels.csv").rename(folder / "_labels.csv")

    assert labelled(folder) == [0, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"needs the header file,label, found None"),
        (b"name,class\na.png,red\n", r"needs the header file,label, found \['name', 'class'\]"),
        (b"file,label\n", r"names no picture"),
        (b"file,label\na.png,purple\nb.png,blue\n", r"has labels that the model does not know: \['purple'\]"),
        (b"file,label\nc.png,red\n", r"c\.png, named by .*labels\.csv, cannot be read"),
        (b"file,label\nlabels.csv,red\n", r"labels\.csv, named by .*, cannot be read: no known picture format"),
        (b"file,label\na.png\nb.png,purple\n", r"labels\.csv"),
        (b"file,label\n\xe4.png,red\n", r"labels\.csv"),
    ],
    ids=["empty", "header", "no rows", "unknown label", "missing", "no picture", "short row", "latin-1"],
)
def test_a_list_that_cannot_be_used(folder: Path, content: bytes, message: str) -> None:
    (folder / "labels.csv").write_bytes(content)

    with pytest.raises(BadInputError, match=f"labelled set: .*{message}"):
        labelled(folder)


def test_a_labelled_set_without_a_list(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"has no labels.csv \(a CSV file with the header file,label\)"):
        labelled(tmp_path)


def test_a_digest_follows_names_and_bytes_and_nothing_else(folder: Path) -> None:
    before = digest_of_path(folder)
    os.utime(folder / "a.png", (0, 0))
    assert digest_of_path(folder) == before

    (folder / "a.png").rename(folder / "c.png")
    renamed = digest_of_path(folder)
    (folder / "c.png").write_bytes(b"other")

    assert len({before, renamed, digest_of_path(folder)}) == 3


def test_a_digest_tells_where_one_file_ends_and_the_next_begins(tmp_path: Path) -> None:
    for folder, files in {"one": {"a": b"12", "b": b"3"}, "two": {"a": b"1", "b": b"23"}}.items():
        (tmp_path / folder).mkdir()
        for name, data in files.items():
            (tmp_path / folder / name).write_bytes(data)

    assert digest_of_path(tmp_path / "one") != digest_of_path(tmp_path / "two")


def test_a_digest_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="missing does not exist"):
        digest_of_path(tmp_path / "missing")
