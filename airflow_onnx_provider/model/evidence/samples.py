# SPDX-License-Identifier: Apache-2.0
"""Real inputs for parity, calibration and accuracy, read with the executors' own preprocessing."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, RowError
from airflow_onnx_provider.model.evidence.columns import LABEL, draw, is_parquet, read_arrays, tensors_of
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

LABELS_FILES = ("labels.csv", "_labels.csv")

PICTURE_COLUMN = "image"
"""Column of a Parquet file with encoded pictures."""

EVERYTHING = 1 << 40


@dataclass(frozen=True)
class Samples:
    """Real inputs of a model.

    :param inputs: the graph's inputs by name, ``[rows, …]`` each; pictures are ``uint8 [rows, height, width, 3]``
    :param pictures: the same rows before decoding; empty if the model takes none, or only tensors were given
    """

    inputs: Mapping[str, NDArray[Any]]
    pictures: tuple[bytes, ...] = ()

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))

    def head(self, rows: int) -> Samples:
        """The first rows."""
        return Samples({name: values[:rows] for name, values in self.inputs.items()}, self.pictures[:rows])


@dataclass(frozen=True)
class LabelledSet:
    """Real inputs with their true classes.

    :param inputs: the graph's inputs by name, ``[rows, …]`` each
    :param classes: ``int64 [rows]``, positions in the model's labels
    """

    inputs: Mapping[str, NDArray[Any]]
    classes: NDArray[np.int64]

    @property
    def rows(self) -> int:
        return len(self.classes)


def load_samples(path: Path, limit: int, manifest: ModelManifest, purpose: str) -> Samples:
    """Up to ``limit`` inputs, drawn over all of what ``path`` holds; the same ``path`` always gives the same ones.

    For models that take pictures: a folder of pictures (searched in its subfolders; broken ones are passed over), an
    ``.npy`` file of decoded tensors, or Parquet with a column ``image`` of encoded pictures. For others: an ``.npz``
    file with an array an input, or Parquet with a column an input (lists are its further axes; an input
    ``[batch, features]`` may be all columns instead; token ids may have any length).

    :param purpose: what they are for, as error messages call them, for example ``calibration``
    :raises BadInputError: if nothing usable is there
    """
    if isinstance(manifest.preprocessing, ImagePreprocessing):
        return _load_pictures(path, limit, manifest, manifest.preprocessing, purpose)
    if is_parquet(path):
        inputs = tensors_of(draw(path, limit, purpose), manifest, purpose)
    else:
        arrays = read_arrays(path, manifest, purpose)
        inputs = {spec.name: _spread(arrays[spec.name], limit) for spec in manifest.inputs}
    return Samples(inputs)


def load_labelled(path: Path, manifest: ModelManifest) -> LabelledSet:
    """All rows with their true classes.

    For models that take pictures: a folder whose ``labels.csv`` (header ``file,label``) names them, or Parquet with the
    columns ``image`` and ``label``. For others: what :func:`load_samples` takes, with a column or array ``label``.
    Labels are names among the model's labels, or their positions.

    :raises BadInputError: if the file is missing, empty, names a missing or broken picture or an unknown label
    """
    if isinstance(manifest.preprocessing, ImagePreprocessing):
        return _load_labelled_pictures(path, manifest, manifest.preprocessing)
    purpose = "labelled set"
    if is_parquet(path):
        table = draw(path, EVERYTHING, purpose)
        if LABEL not in table.column_names:
            raise BadInputError(f"{purpose}: {path} has no column {LABEL!r}, only {table.column_names}")
        labels = np.asarray(table[LABEL].to_pylist())
        inputs = tensors_of(table.drop_columns([LABEL]), manifest, purpose)
    else:
        arrays = read_arrays(path, manifest, purpose)
        if LABEL not in arrays:
            raise BadInputError(f"{purpose}: {path} has no array {LABEL!r}, only {sorted(arrays)}")
        labels = arrays[LABEL]
        inputs = {spec.name: arrays[spec.name] for spec in manifest.inputs}
    return LabelledSet(inputs, _positions(labels, manifest.labels, path))


def _positions(labels: NDArray[Any], known: tuple[str, ...], path: Path) -> NDArray[np.int64]:
    if labels.dtype.kind in "iub":
        if len(labels) and (labels.min() < 0 or (known and labels.max() >= len(known))):
            raise BadInputError(
                f"labelled set: {path} has classes from {labels.min()} to {labels.max()}, the model "
                f"knows 0 to {len(known) - 1}"
            )
        return labels.astype(np.int64)
    names = [str(label) for label in labels]
    if unknown := sorted(set(names) - set(known)):
        raise BadInputError(f"labelled set: {path} has labels that the model does not know: {unknown[:5]}")
    return np.array([known.index(name) for name in names], dtype=np.int64)


def _load_pictures(
    path: Path, limit: int, manifest: ModelManifest, preprocessing: ImagePreprocessing, purpose: str
) -> Samples:
    name = manifest.inputs[0].name
    if path.suffix == ".npy" and path.is_file():
        return Samples({name: _load_tensors(path, limit, preprocessing, purpose)})
    if is_parquet(path):
        # Some may be broken: twice as many are drawn as are wanted.
        table = draw(path, 2 * limit, purpose)
        if PICTURE_COLUMN not in table.column_names:
            raise BadInputError(f"{purpose}: {path} has no column {PICTURE_COLUMN!r}, only {table.column_names}")
        candidates = [value.as_py() for value in table[PICTURE_COLUMN]]
        among = f"{len(candidates)} rows of {path}"
        return _decoded(name, candidates, preprocessing, limit=limit, purpose=purpose, among=among)
    if not path.is_dir():
        raise BadInputError(f"{purpose}: {path} is neither a folder of pictures, nor Parquet, nor an .npy file")
    files = picture_files(path)
    # a fixed draw, so that the same folder gives the same rows
    order = np.random.default_rng(0).permutation(len(files))
    shuffled = [files[index] for index in order]
    among = f"{len(files)} files of {path}"
    return _decoded(name, shuffled, preprocessing, limit=limit, purpose=purpose, among=among)


def _decoded(
    name: str,
    candidates: Sequence[Path | bytes | None],
    preprocessing: ImagePreprocessing,
    *,
    limit: int,
    purpose: str,
    among: str,
) -> Samples:
    tensors: list[NDArray[np.uint8]] = []
    pictures: list[bytes] = []
    for candidate in candidates:
        if len(tensors) == limit:
            break
        try:
            picture = candidate.read_bytes() if isinstance(candidate, Path) else candidate or b""
            tensors.append(decode_image(picture, preprocessing))
        except (RowError, OSError):
            continue
        pictures.append(picture)
    if not tensors:
        raise BadInputError(f"{purpose}: no usable picture among the {among}. Give a folder with some real inputs.")
    return Samples({name: np.stack(tensors)}, tuple(pictures))


def _load_labelled_pictures(path: Path, manifest: ModelManifest, preprocessing: ImagePreprocessing) -> LabelledSet:
    name = manifest.inputs[0].name
    if is_parquet(path) and not any((path / listing).is_file() for listing in LABELS_FILES):
        table = draw(path, EVERYTHING, "labelled set")
        if missing := {PICTURE_COLUMN, LABEL} - set(table.column_names):
            raise BadInputError(f"labelled set: {path} has no column {', '.join(sorted(missing))}")
        classes = _positions(np.asarray(table[LABEL].to_pylist()), manifest.labels, path)
        try:
            pixels = [decode_image(picture.as_py() or b"", preprocessing) for picture in table[PICTURE_COLUMN]]
        except RowError as error:
            raise BadInputError(f"labelled set: {path} has a picture that cannot be read: {error}") from error
        return LabelledSet({name: np.stack(pixels)}, classes)
    listing = next((path / name for name in LABELS_FILES if (path / name).is_file()), None)
    if listing is None:
        raise BadInputError(f"labelled set: {path} has no {LABELS_FILES[0]} (a CSV file with the header file,label)")
    rows = _read_labels(listing)
    classes = _positions(np.array([label for _, label in rows]), manifest.labels, listing)
    tensors = []
    for file, _ in rows:
        try:
            tensors.append(decode_image((path / file).read_bytes(), preprocessing))
        except (RowError, OSError) as error:
            raise BadInputError(f"labelled set: {path / file}, named by {listing}, cannot be read: {error}") from error
    return LabelledSet({name: np.stack(tensors)}, classes)


def _spread(values: NDArray[Any], limit: int) -> NDArray[Any]:
    return values[:: max(1, len(values) // limit)][:limit]


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
    return _spread(np.asarray(tensors), limit)
