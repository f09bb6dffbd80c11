# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a scoring task: its rows say what happens to the process that scores them."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from airflow_onnx_provider.exceptions import BadInputError


@dataclass(frozen=True)
class BrittleTask:
    """Scores rows of a key and a word; each call of it ends with a row of metrics.

    :param load: the word that loading the model meets
    """

    load: str = "fine"

    schema = pa.schema(
        [
            pa.field("key", pa.int64()),
            pa.field("outcome", pa.string(), nullable=False),
            *(pa.field(name, pa.string()) for name in ("word", "stage", "reason", "error", "metrics")),
            pa.field("process", pa.int64()),
        ]
    )
    kept = (pa.field("key", pa.int64()),)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BrittleTask:
        return cls(**data)

    def input_of(self, row: pa.RecordBatch) -> dict[str, pa.Array]:
        return {}

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        meet(self.load)
        for batch in batches:
            for word in batch["word"].to_pylist():
                meet(word)
            rows = [{**row, "outcome": "predicted", "process": os.getpid()} for row in batch.to_pylist()]
            yield pa.RecordBatch.from_pylist(rows, schema=self.schema)
        yield pa.RecordBatch.from_pylist([{"outcome": "metrics", "metrics": "{}"}], schema=self.schema)


def meet(word: str) -> None:
    match word:
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(7)
        case "hang":  # as native code may, without giving the interpreter back
            print("hanging", flush=True)
            ctypes.PyDLL(None).sleep(1000)
        case "raise":
            raise BadInputError("the task says no")
        case "surprise":
            raise KeyError("unforeseen")
        case "print":
            print("some library talks", flush=True)
            os.write(1, b"and another\n")


def rows_of(*words: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"key": list(range(len(words))), "word": list(words)})
