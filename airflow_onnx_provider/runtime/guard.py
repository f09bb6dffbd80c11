# SPDX-License-Identifier: Apache-2.0
"""Scoring that outlives native crashes: in a child process, whose death is traced to the row that it died on.

Nothing in Python can catch a segmentation fault of a decoder or of ONNX Runtime. Here it ends a child process; the rows
that the child was given are divided among fresh ones until the row is found that kills on its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from importlib import import_module
from typing import IO, Any, Protocol

import pyarrow as pa

from airflow_onnx_provider.exceptions import OnnxProviderError, from_traceback
from airflow_onnx_provider.runtime.outcomes import QUARANTINED

STAGE = "native"
CRASH, HANG = "native_crash", "native_hang"

LEAST_SHARE = 0.1
"""Share of the patience for a whole chunk that even a single row gets."""

HEADER = struct.Struct(">cQ")
TASK, ROWS, ANSWER, ERROR = b"T", b"R", b"A", b"E"


class Task(Protocol):
    """What :func:`survive` knows of :class:`~airflow_onnx_provider.runtime.task.ScoringTask`.

    In the child it is made anew with its class method ``from_dict``.
    """

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def kept(self) -> tuple[pa.Field, ...]: ...

    def to_dict(self) -> dict[str, Any]: ...

    def input_of(self, row: pa.RecordBatch, /) -> Mapping[str, pa.Array]: ...

    def __call__(self, batches: Iterable[pa.RecordBatch], /) -> Iterator[pa.RecordBatch]: ...


class Death(Exception):  # noqa: N818  # not an error of the package: it never leaves this module
    """A child process ended without an answer.

    :param reason: :data:`CRASH` or :data:`HANG`
    :param said: how it ended, in words
    :param fresh: whether it had been given no rows before
    """

    def __init__(self, reason: str, said: str, *, fresh: bool) -> None:
        super().__init__(said)
        self.reason = reason
        self.fresh = fresh


def survive(
    task: Task,
    batches: Iterable[pa.RecordBatch],
    *,
    chunk_rows: int = 256,
    patience_seconds: float = 300.0,
    most_crashes: int = 16,
) -> Iterator[pa.RecordBatch]:
    """Do the task in a child process, and quarantine the rows that it dies on.

    Every row leaves once. A row is blamed only if a fresh child that was given nothing else died on it; it leaves with
    the stage ``native`` and the reason ``native_crash`` or ``native_hang``. The child ends with the generator, and
    with this process however that ends.

    :param chunk_rows: rows that a child is given at once
    :param patience_seconds: for loading the model, and for a whole chunk; fewer rows get their share of it, at least
        :data:`LEAST_SHARE`
    :param most_crashes: rows that may be blamed
    :return: the task's batches; its rows of metrics come once for each time that it was called
    :raises OnnxProviderError: the task's own error; or that a child died before its first row, or on too many rows:
        then it is the machine or the model
    """
    with closing(Attempts(task, chunk_rows, patience_seconds, most_crashes)) as attempts:
        yield from attempts.load()
        for batch in batches:
            for start in range(0, batch.num_rows, chunk_rows):
                yield from divided(batch.slice(start, chunk_rows), attempts.score, attempts.blame)


def divided(
    rows: pa.RecordBatch,
    score: Callable[[pa.RecordBatch], list[pa.RecordBatch]],
    blame: Callable[[pa.RecordBatch, Death], pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """What ``score`` gives for the rows; if it dies, for each half of them; for a single row, what ``blame`` says."""
    try:
        answer = score(rows)
    except Death as death:
        if rows.num_rows > 1:
            half = rows.num_rows // 2
            yield from divided(rows.slice(0, half), score, blame)
            yield from divided(rows.slice(half), score, blame)
        elif death.fresh:
            yield blame(rows, death)
        else:  # what earlier rows left behind in the child may have killed it
            yield from divided(rows, score, blame)
    else:
        yield from answer


class Attempts:
    """One child after the other, and the count of the rows that were blamed."""

    def __init__(self, task: Task, chunk_rows: int, patience_seconds: float, most_crashes: int) -> None:
        self._task, self._chunk_rows = task, chunk_rows
        self._patience, self._most_crashes = patience_seconds, most_crashes
        self._child: Child | None = None
        self._blamed = 0

    def load(self) -> list[pa.RecordBatch]:
        """Start a child and let it do the task for no rows, so that it opens and proves the model."""
        self._child = Child()
        kind = type(self._task)
        told = json.dumps([kind.__module__, kind.__qualname__, self._task.to_dict()])
        try:
            return self._child.ask(TASK, told.encode(), self._patience)
        except Death as death:
            raise OnnxProviderError(
                f"the worker process {death} before its first row: look at the model, the memory and the libraries of "
                "this machine"
            ) from None

    def score(self, rows: pa.RecordBatch) -> list[pa.RecordBatch]:
        """What the task gives for these rows.

        :raises Death: if the child died; the next call has a fresh one
        """
        answer = [] if self._child else self.load()
        assert self._child is not None  # noqa: S101  # load() has made it
        patience = self._patience * max(rows.num_rows / self._chunk_rows, LEAST_SHARE)
        try:
            return answer + self._child.ask(ROWS, packed([rows], rows.schema), patience)
        except Death:
            self._child = None
            raise

    def blame(self, row: pa.RecordBatch, death: Death) -> pa.RecordBatch:
        """The outcome of a row that killed its child."""
        self._blamed += 1
        if self._blamed > self._most_crashes:
            raise OnnxProviderError(
                f"the worker process {death}, and on {self._most_crashes} rows before: so many are no fault of rows; "
                "look at the model and the libraries of this machine"
            )
        error = f"the worker process {death} on this row"
        told = {"outcome": QUARANTINED, "stage": STAGE, "reason": death.reason, "error": error}
        columns = {name: pa.array([value], pa.string()) for name, value in told.items()}
        columns |= {kept.name: row.column(kept.name) for kept in self._task.kept}
        if death.reason == CRASH:  # reading what a child hung on might hang as well
            columns |= self._task.input_of(row)
        schema = self._task.schema
        arrays = [columns[each.name] if each.name in columns else pa.nulls(1, each.type) for each in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def close(self) -> None:
        """Leave no child behind."""
        if self._child:
            self._child.end()


class Child:
    """A process that runs :func:`main`.

    It answers through a pipe of its own, so that nothing that a library prints comes between. Through another pipe
    nothing is ever sent: when this process ends, it closes, and the kernel ends the child whatever that is doing.
    """

    def __init__(self) -> None:
        answers, write = os.pipe()
        closes, alive = os.pipe()
        self._answers, self._alive = os.fdopen(answers, "rb"), os.fdopen(alive, "wb")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", __name__, str(write), str(closes)],
                stdin=subprocess.PIPE,
                stdout=2,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
                pass_fds=(write, closes),
            )
        finally:
            os.close(write)
            os.close(closes)
        self._asked = 0

    def ask(self, kind: bytes, data: Any, patience: float) -> list[pa.RecordBatch]:
        """Send a message and wait for its answer. A child that does not give one is ended.

        :param patience: seconds to wait before the child is killed
        :raises Death: if the child died or was killed
        :raises OnnxProviderError: the error that the task raised
        """
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(patience, give_up)
        timer.start()
        answer = None
        try:
            with suppress(BrokenPipeError):
                send(self._process.stdin, kind, data)
                answer = receive(self._answers)
        finally:
            timer.cancel()
            timer.join()
            if answer is None or answer[0] == ERROR or late.is_set():
                self.end()
        fresh, self._asked = self._asked <= 1, self._asked + 1
        if late.is_set():
            raise Death(HANG, f"gave no answer within {patience:g} s and was killed", fresh=fresh)
        if answer is None:
            raise Death(CRASH, _how_it_ended(self._process.returncode), fresh=fresh)
        if answer[0] == ERROR:
            raise _told(answer[1].decode())
        return unpacked(answer[1])

    def end(self) -> None:
        """Kill the process, if it still lives, and wait for its end."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._answers, self._alive):
            if stream:
                with suppress(BrokenPipeError):  # what it was sent and never read
                    stream.close()


def _told(text: str) -> OnnxProviderError:
    """The error that a child's traceback ends with; one that is not the package's keeps the traceback as a note."""
    if known := from_traceback(text):
        return known
    error = OnnxProviderError(f"scoring in a child process failed: {text.strip().splitlines()[-1]}")
    error.add_note(text)
    return error


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = next((one.name for one in signal.Signals if one == -code), f"signal {-code}")
    return f"died with {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def packed(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Any:
    """Batches as a buffer, an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def unpacked(data: bytes) -> list[pa.RecordBatch]:
    """Inverse of :func:`packed`."""
    return list(pa.ipc.open_stream(data))


def send(stream: Any, kind: bytes, data: Any) -> None:
    """Write one message: its kind, its length, its bytes."""
    stream.write(HEADER.pack(kind, len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[bytes, bytes] | None:
    """Read one message, None if there is no more or only a part of one."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    kind, length = HEADER.unpack(header)
    data = stream.read(length)
    return (kind, data) if len(data) == length else None


def main() -> None:
    """Answer messages from standard input until it ends: first the task, then rows."""
    write, closes = map(int, sys.argv[1:])
    _end_with_parent(closes)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # crashes are expected
    task: Any = None
    with os.fdopen(write, "wb") as answers:
        while message := receive(sys.stdin.buffer):
            kind, data = message
            try:
                if kind == TASK:
                    module, name, told = json.loads(data)
                    task = getattr(import_module(module), name).from_dict(told)
                batches = [] if kind == TASK else unpacked(data)
                send(answers, ANSWER, packed(task(batches), task.schema))
            except Exception:
                send(answers, ERROR, traceback.format_exc().encode())


def _end_with_parent(pipe: int) -> None:
    """Let the kernel end this process, even in the middle of native code, when the pipe's other side closes."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)


if __name__ == "__main__":
    main()
