"""Real inputs for parity, calibration and accuracy, read with the executors' own preprocessing."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, RowError
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

LABELS_FILES = ("labels.csv", "_labels.csv")


@dataclass(frozen=True)
class LabelledSet:
    """Pictures with their true classes.

    :param tensors: ``uint8 [rows, height, width, 3]``
    :param classes: ``int64 [rows]``, positions in the model's labels
    """

    tensors: NDArray[np.uint8]
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """Real inputs of a model that takes pictures.

    :param tensors: ``uint8 [rows, height, width, 3]``
    :param pictures: the same rows before decoding; empty if only tensors were given
    """

    tensors: NDArray[np.uint8]
    pictures: tuple[bytes, ...]


def load_samples(path: Path, limit: int, preprocessing: ImagePreprocessing, purpose: str) -> Samples:
    """Up to ``limit`` inputs, spread evenly over what ``path`` holds; broken pictures are passed over.

    :param path: a folder of pictures (searched in its subfolders), or an ``.npy`` file of decoded tensors
    :param purpose: what they are for, as error messages call them, for example ``calibration``
    :raises BadInputError: if nothing usable is there
    """
    if path.suffix == ".npy" and path.is_file():
        return Samples(_load_tensors(path, limit, preprocessing, purpose), ())
    if not path.is_dir():
        raise BadInputError(f"{purpose}: {path} is neither a folder of pictures nor an .npy file")
    files = picture_files(path)
    tensors: list[NDArray[np.uint8]] = []
    pictures: list[bytes] = []
    order = np.random.default_rng(0).permutation(
        len(files)
    )  # a fixed draw, so that the same folder gives the same rows
    for index in order:
        if len(tensors) == limit:
            break
        try:
            picture = files[index].read_bytes()
            tensors.append(decode_image(picture, preprocessing))
        except (RowError, OSError):
            continue
        pictures.append(picture)
    if not tensors:
        raise BadInputError(
            f"{purpose}: no usable picture among the {len(files)} files of {path}. Give a folder with some real inputs."
        )
    return Samples(np.stack(tensors), tuple(pictures))


def load_labelled(path: Path, preprocessing: ImagePreprocessing, labels: tuple[str, ...]) -> LabelledSet:
    """All pictures that a folder's ``labels.csv`` (header ``file,label``) names.

    :raises BadInputError: if the file is missing, empty, names a missing or broken picture or an unknown label
    """
    listing = next((path / name for name in LABELS_FILES if (path / name).is_file()), None)
    if listing is None:
        raise BadInputError(f"labelled set: {path} has no {LABELS_FILES[0]} (a CSV file with the header file,label)")
    rows = _read_labels(listing)
    unknown = sorted({label for _, label in rows} - set(labels))
    if unknown:
        raise BadInputError(f"labelled set: {listing} has labels that the model does not know: {unknown[:5]}")
    tensors = []
    for name, _ in rows:
        try:
            tensors.append(decode_image((path / name).read_bytes(), preprocessing))
        except (RowError, OSError) as error:
            raise BadInputError(f"labelled set: {path / name}, named by {listing}, cannot be read: {error}") from error
    return LabelledSet(np.stack(tensors), np.array([labels.index(label) for _, label in rows], dtype=np.int64))


def _read_labels(listing: Path) -> list[tuple[str, str]]:
    try:
        with listing.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin a file with a byte order mark
            reader = csv.DictReader(file)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise BadInputError(f"labelled set: {listing} needs the header file,label, found {reader.fieldnames}")
            rows = [(row["file"], row["label"]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"labelled set: {listing} is no CSV file in UTF-8: {error}") from error
    if not rows:
        raise BadInputError(f"labelled set: {listing} names no picture")
    if short := next((number for number, row in enumerate(rows, 2) if None in row), None):
        raise BadInputError(f"labelled set: {listing}, line {short} has no label")
    return rows


def picture_files(path: Path) -> list[Path]:
    """Files below ``path`` in sorted order, without hidden ones (``.`` or ``_`` before any part of the name)."""
    return sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
        and file.name not in LABELS_FILES
    )


def digest_of_path(path: Path) -> str:
    """sha256 over the names and bytes of a file or of all files below a folder.

    :raises BadInputError: if there is nothing at ``path``
    """
    if not path.exists():
        raise BadInputError(f"{path} does not exist")
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        name = file.name if file is path else file.relative_to(path).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _load_tensors(path: Path, limit: int, preprocessing: ImagePreprocessing, purpose: str) -> NDArray[np.uint8]:
    try:
        tensors = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadInputError(f"{purpose}: {path} is no plain numpy array: {error}") from error
    if not isinstance(tensors, np.ndarray):
        raise BadInputError(f"{purpose}: {path} is no plain numpy array: it is an archive of arrays")
    if tensors.dtype != np.uint8 or tensors.shape[1:] != preprocessing.shape or not len(tensors):
        raise BadInputError(
            f"{purpose}: {path} must hold uint8 [rows, {preprocessing.height}, {preprocessing.width}, 3] with at "
            f"least one row, found {tensors.dtype} {list(tensors.shape)}"
        )
    return np.asarray(tensors[:: max(1, len(tensors) // limit)][:limit])
