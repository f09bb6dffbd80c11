# SPDX-License-Identifier: Apache-2.0
"""Processes that are killed at a chosen step of their work on the disk."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, PublishConflictError, PublishError
from airflow_onnx_provider.spark import swap

CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}
"""Audit events of Python before a step that changes the disk; opening counts if it is for writing."""

ERRORS = (PublishConflictError, PublishError, BadInputError)


def killed_at(step: int, below: Path, work: Callable[[], Any]) -> bool:
    """Do ``work`` in a process that is killed after ``step`` changes of the disk below a folder.

    :return: True if it was, False if it came to its end before
    :raises PublishError: or another error of ours, of the same class as in that process
    """

    def die_or_work() -> int:
        die_at(step, below)
        return outcome(work)

    ended = in_child(die_or_work)
    if ended > 0:
        raise_again(ended)
    assert ended in (0, -signal.SIGKILL)
    return ended != 0


def outcome(work: Callable[[], Any]) -> int:
    """0 if ``work`` succeeds, else the number of its error, for :func:`raise_again` in another process."""
    try:
        work()
    except ERRORS as error:
        return 1 + next(number for number, kind in enumerate(ERRORS) if isinstance(error, kind))
    return 0


def raise_again(ended: int) -> None:
    if 0 < ended <= len(ERRORS):
        raise ERRORS[ended - 1]("in a process of its own")


def in_child(work: Callable[[], int]) -> int:
    """Do ``work`` in a forked process; its result, or minus the signal that ended it."""
    return wait_for(fork(work))


def fork(work: Callable[[], int]) -> int:
    """Begin ``work`` in a process of its own, by its id."""
    if not (child := os.fork()):
        try:
            os._exit(work())
        finally:
            os._exit(99)
    return child


def wait_for(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at(step: int, below: Path) -> None:
    """Let this process change the disk below a folder ``step`` times and be killed by SIGKILL before the next one.

    A file that is opened for writing can be cut off before it exists and again before anything is written to it.
    ``renameat2`` raises no audit event, so the exchange is wrapped.
    """
    left = step

    def count() -> None:
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event not in CHANGES:
            return
        path, *rest = args
        if isinstance(path, str | Path) and Path(path).is_absolute() and not Path(path).is_relative_to(below):
            return
        if event == "open":
            flags = rest[1]
            if not isinstance(path, str | Path) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            count()
            if not left and not flags & os.O_EXCL:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY | flags & os.O_TRUNC))
        count()

    real = swap._exchange

    def exchange(one: Path, other: Path) -> bool:
        count()
        return real(one, other)

    swap._exchange = exchange
    sys.addaudithook(audit)
