# SPDX-License-Identifier: Apache-2.0
"""Temporary folders that vanish with the work, even if the process that made them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_lifelines: set[int] = set()


def lifelines() -> tuple[int, ...]:
    """Descriptors that a child process inherits if it writes into scratch folders: they stay until it is gone too."""
    return tuple(_lifelines)


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A new temporary folder, removed at the end of the block.

    A killed process removes nothing, so a shell waits on a pipe that ends with this process and with the children
    that were given :func:`lifelines`, and removes what is left then. It is in a session of its own: a signal to this
    process's group passes it by.

    :param prefix: of the folder's name, for a person who sees it
    """
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as temporary:
        cleaner = subprocess.Popen(
            ["/bin/sh", "-c", 'cat; rm -rf -- "$1"', "scratch", temporary],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        with cleaner:
            lifeline = cleaner.stdin.fileno() if cleaner.stdin else -1
            _lifelines.add(lifeline)
            try:
                yield Path(temporary)
            finally:
                _lifelines.discard(lifeline)
                os.killpg(cleaner.pid, signal.SIGKILL)  # this process lives, and removes the folder itself
