# SPDX-License-Identifier: Apache-2.0
"""Rows of Parquet files and numpy archives as the inputs of a model that takes plain columns or token ids."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.parquet import read_pieces, row_groups
from airflow_onnx_provider.runtime.preprocessing import TokenPreprocessing
from airflow_onnx_provider.runtime.tensors import NUMPY_TYPES, read_tensor, require_feedable

LABEL = "label"
"""Column or array with the true classes."""


def is_parquet(path: Path) -> bool:
    """Whether ``path`` is a Parquet file, or a folder with one somewhere below it."""
    return bool(_parquet_files(path))


def draw(path: Path, limit: int, purpose: str) -> pa.Table:
    """Up to ``limit`` rows, drawn evenly over all files; the same files always give the same rows.

    :param purpose: what they are for, as error messages call them
    :raises BadInputError: if a file is no Parquet, or there is no row
    """
    try:
        pieces = row_groups(map(str, _parquet_files(path)))
        ends = np.cumsum([piece.rows for piece in pieces])
        total = int(ends[-1]) if len(ends) else 0
        if not total:
            raise BadInputError(f"{purpose}: {path} has no rows")
        chosen = np.sort(np.random.default_rng(0).permutation(total)[:limit])
        wanted: dict[int, list[int]] = defaultdict(list)
        for row, group in zip(chosen.tolist(), np.searchsorted(ends, chosen, side="right").tolist(), strict=True):
            wanted[group].append(row - (int(ends[group]) - pieces[group].rows))
        columns = pq.read_schema(pieces[0].path).names
        tables = []
        for group, rows in wanted.items():
            piece = pieces[group].part(rows[0], rows[-1] + 1)
            seen = rows[0]
            for batch in read_pieces([piece], columns):
                here = [row - seen for row in rows if seen <= row < seen + batch.num_rows]
                tables.append(pa.table(batch.take(pa.array(here, pa.int64()))))
                seen += batch.num_rows
        table = pa.concat_tables(tables)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise BadInputError(f"{purpose}: {path} cannot be read as Parquet: {error}") from error
    # In file order, neighbours are alike; the first rows of what is drawn are to be a fair sample as well.
    return table.take(pa.array(np.random.default_rng(1).permutation(table.num_rows)))


def tensors_of(table: pa.Table, manifest: ModelManifest, purpose: str) -> dict[str, NDArray[Any]]:
    """The rows as the model's inputs: a column an input, or all columns as the features of its one input.

    :raises BadInputError: for a missing column, a type that does not fit, or a value that no tensor can hold
    """
    if isinstance(manifest.preprocessing, TokenPreprocessing):
        return _tokens(table, manifest.preprocessing, purpose)
    found = {}
    for spec in manifest.inputs:
        names = [spec.name]
        if spec.name not in table.column_names:
            names = [name for name in table.column_names if name != LABEL]
            if len(manifest.inputs) > 1 or spec.shape[1:] != (len(names),):
                raise BadInputError(
                    f"{purpose}: there is no column {spec.name!r} for the input {spec.name}: {spec.type} "
                    f"{list(spec.shape)}, only {table.column_names}"
                )
        columns = {name: table[name].combine_chunks() for name in names}
        try:
            require_feedable(spec, {name: column.type for name, column in columns.items()})
        except BadInputError as error:
            raise BadInputError(f"{purpose}: {error}") from error
        found[spec.name], faults = read_tensor(spec, columns)
        if faults:
            row, fault = next(iter(faults.items()))
            raise BadInputError(f"{purpose}: row {row}: {fault} ({len(faults)} rows have such faults)")
    return found


def read_arrays(path: Path, manifest: ModelManifest, purpose: str) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file, those that the model takes in the types that it takes.

    :raises BadInputError: if the file is no such archive, an input is missing, or an array does not fit
    """
    wanted = ", ".join(f"{spec.name}: {spec.type} {list(spec.shape)}" for spec in manifest.inputs)
    if path.suffix != ".npz" or not path.is_file():
        raise BadInputError(f"{purpose}: {path} is neither Parquet nor an .npz file; the model takes {wanted}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, EOFError, OSError) as error:
        raise BadInputError(f"{purpose}: {path} is no plain numpy archive: {error}") from error
    rows = {len(values) if values.ndim else 0 for values in arrays.values()}
    if missing := [spec.name for spec in manifest.inputs if spec.name not in arrays]:
        raise BadInputError(f"{purpose}: {path} lacks the arrays {missing}; the model takes {wanted}")
    if len(rows) != 1 or not min(rows):
        raise BadInputError(f"{purpose}: the arrays of {path} must have the same number of rows, at least 1: {rows}")
    for spec in manifest.inputs:
        arrays[spec.name] = _fitting(arrays[spec.name], spec.type, spec.shape, f"{purpose}: {path}, {spec.name}")
    return arrays


def _fitting(values: NDArray[Any], kind: str, shape: tuple[int | str, ...], what: str) -> NDArray[Any]:
    same = values.ndim == len(shape) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(shape[1:], values.shape[1:], strict=True)
    )
    if not same:
        raise BadInputError(f"{what}: found the shape {list(values.shape)}, the model takes {list(shape)}")
    if kind not in NUMPY_TYPES:
        raise BadInputError(f"{what}: the model takes {kind}, which arrays cannot hold")
    wanted = NUMPY_TYPES[kind]
    texts = wanted.kind == "O" and values.dtype.kind in "OUS"
    if not texts and not np.can_cast(values.dtype, wanted, "same_kind"):
        raise BadInputError(f"{what}: found {values.dtype}, the model takes {kind}")
    cast = values.astype(wanted)
    if wanted.kind in "iu" and not np.array_equal(cast, values):
        raise BadInputError(f"{what}: some numbers do not fit into the model's {kind}")
    return cast


def _tokens(table: pa.Table, preprocessing: TokenPreprocessing, purpose: str) -> dict[str, NDArray[Any]]:
    name = preprocessing.input_ids
    if name not in table.column_names:
        raise BadInputError(f"{purpose}: there is no column {name!r} with token ids, only {table.column_names}")
    rows = [row[: preprocessing.max_length] for row in table[name].to_pylist()]
    if not all(rows):
        raise BadInputError(f"{purpose}: the column {name} has a row without tokens")
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), preprocessing.pad_id, np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return {name: ids, **({preprocessing.attention_mask: mask} if preprocessing.attention_mask else {})}


def _parquet_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix in (".parquet", ".pq") else []
    if not path.is_dir():
        return []
    return sorted(
        file
        for file in path.rglob("*.parquet")
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    )
