# SPDX-License-Identifier: Apache-2.0
"""The data sets as Parquet, made once and kept: photographs, a table of floats, token arrays."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_onnx_provider.runtime.cpu import available_cores
from benchmarks.environment import HOME
from benchmarks.photographs import photograph
from benchmarks.works import FILES, Data

FEATURES = tuple(f"f{number:03d}" for number in range(100))
VOCABULARY = 8000
MAX_TOKENS = 256
MEDIAN_TOKENS = 24
ROW_GROUP = {"images": 64, "tabular": 65_536, "tokens": 65_536}


def prepared(data: Data, *, quick: bool) -> tuple[str, ...]:
    """The data set's files, drawn now if they are not there."""
    rows = data.quick_rows if quick else data.rows
    folder = HOME / "data" / f"{data.name}-{rows}"
    if not folder.is_dir():
        print(f"  drawing {rows:,} rows of {data.name} …", flush=True)
        started = time.perf_counter()
        draft = folder.with_name(f".{folder.name}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        with ProcessPoolExecutor(available_cores(), mp_context=get_context("spawn")) as pool:
            list(pool.map(partial(_write_file, data, rows // FILES, draft), range(FILES)))
        draft.rename(folder)
        print(f"  … in {time.perf_counter() - started:.0f} s", flush=True)
    return tuple(str(file) for file in sorted(folder.glob("*.parquet")))


def _write_file(data: Data, rows: int, folder: Path, number: int) -> None:
    table = _photographs(data, rows, number) if data.kind == "images" else _DRAWN_AS[data.kind](rows, number)
    pq.write_table(
        table,
        folder / f"{number}.parquet",
        row_group_size=16 if data.size[0] > 1000 else ROW_GROUP[data.kind],
        compression="none",
        use_dictionary=False,
    )


def _photographs(data: Data, rows: int, number: int) -> pa.Table:
    numbers = range(number * rows, (number + 1) * rows)
    return pa.table(
        {
            "key": [f"{data.name}/{one:06d}.jpg" for one in numbers],
            "image": [photograph(one, data.size) for one in numbers],
        }
    )


def _table(rows: int, number: int) -> pa.Table:
    values = np.random.default_rng((number, rows)).standard_normal((len(FEATURES), rows), dtype=np.float32)
    keys = pa.array(np.arange(number * rows, (number + 1) * rows))
    return pa.table({"key": keys, **{name: pa.array(column) for name, column in zip(FEATURES, values, strict=True)}})


def _texts(rows: int, number: int) -> pa.Table:
    """Lengths as texts have them: many short ones and a long tail."""
    rng = np.random.default_rng((number, rows, 2))
    lengths = rng.lognormal(np.log(MEDIAN_TOKENS), 0.8, rows).round().clip(4, MAX_TOKENS).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    tokens = rng.integers(1, VOCABULARY, offsets[-1], dtype=np.int32)
    keys = pa.array(np.arange(number * rows, (number + 1) * rows))
    return pa.table({"key": keys, "tokens": pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens))})


_DRAWN_AS = {"tabular": _table, "tokens": _texts}
