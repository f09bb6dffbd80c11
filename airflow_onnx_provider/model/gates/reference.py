# SPDX-License-Identifier: Apache-2.0
"""Gate: ONNX's own reference implementation gives the same answers, as far as it can be asked."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from airflow_onnx_provider.exceptions import ValidationError
from airflow_onnx_provider.model.evidence.parity import ParityLimits, Tensors, require_parity
from airflow_onnx_provider.model.evidence.trial import reference_answers
from airflow_onnx_provider.model.gates.limits import readable

DOMAINS = {"", "ai.onnx.ml"}
"""What the reference implementation knows."""

MODEL_BYTES = 1 << 30
"""Larger models are not given to it: it copies weights."""


@dataclass(frozen=True)
class Reference:
    """How much is asked of the reference.

    :param rows: real rows that it answers; 0 leaves it out
    :param seconds: time that it may take; it is written to be read, not to be fast
    """

    rows: int = 2
    seconds: float = 60.0


def require_agreement(
    path: Path,
    inputs: Tensors,
    answers: Tensors,
    *,
    domains: tuple[str, ...],
    limits: ParityLimits,
    asked: Reference,
) -> dict[str, Any]:
    """Compare ONNX Runtime's answers with the reference's, in the main thread of a process.

    :param inputs: real rows
    :param answers: ONNX Runtime's to these rows
    :param domains: of the graph's operators
    :return: the parity, or ``{"skipped": why}`` where the reference cannot be asked
    :raises ValidationError: if they differ by more than the limits
    """
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    reason = None
    if asked.rows < 1:
        reason = "no rows were asked for"
    elif foreign := sorted(set(domains) - DOMAINS):
        reason = f"it does not know operators of {', '.join(foreign)}"
    elif size > MODEL_BYTES:
        reason = f"the model has {readable(size)}, more than is given to it ({readable(MODEL_BYTES)})"
    if reason is not None:
        return {"skipped": reason}
    first = {name: values[: asked.rows] for name, values in inputs.items()}
    try:
        with _time_limit(asked.seconds):
            expected = reference_answers(path, first)
    except _TooSlowError:
        return {"skipped": f"it took more than {asked.seconds:g} s for {asked.rows} rows"}
    except (ValidationError, MemoryError) as error:
        return {"skipped": str(error) or "it needs more memory than there is"}
    ours = {name: answers[name][: asked.rows] for name in expected}
    what = f"{path} beside onnx.reference (leave that out with reference_rows=0 if you trust ONNX Runtime more)"
    return require_parity(ours, expected, limits, what).to_dict()


class _TooSlowError(BaseException):
    """No ``Exception``: the reference runs foreign graphs, and nothing on the way may take this for one of theirs."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise _TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
