# SPDX-License-Identifier: Apache-2.0
"""How much memory a child's processes hold while it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

INTERVAL = 0.05
SEARCH_INTERVAL = 0.5
"""Looking through all processes costs milliseconds, so new ones are looked for less often."""

WORKERS = ("pyspark.daemon", "ray::Map", "spawn_main")
"""What the command lines of worker processes contain: Spark's, Ray's actors, the limit's."""


@dataclass
class Peak:
    """Largest resident memory seen, in bytes: of one worker process, and of all the child's processes together."""

    worker: int = 0
    tree: int = 0


@contextmanager
def watched(pid: int) -> Iterator[Peak]:
    """Watch a process and its descendants while the block runs."""
    peak, done = Peak(), threading.Event()
    thread = threading.Thread(target=_watch, args=(psutil.Process(pid), peak, done), daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _watch(root: psutil.Process, peak: Peak, done: threading.Event) -> None:
    family: list[tuple[psutil.Process, bool]] = []
    searched = 0.0
    while not done.wait(INTERVAL):
        if time.monotonic() - searched > SEARCH_INTERVAL:
            family, searched = _family(root), time.monotonic()
        held = [(_resident(process), worker) for process, worker in family]
        peak.tree = max(peak.tree, sum(size for size, _ in held))
        peak.worker = max(peak.worker, *(size for size, worker in held if worker), 0)


def _family(root: psutil.Process) -> list[tuple[psutil.Process, bool]]:
    found = []
    for process in _descendants(root):
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        found.append((process, any(mark in line for mark in WORKERS)))
    return found


def _descendants(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
