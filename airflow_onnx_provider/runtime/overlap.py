# SPDX-License-Identifier: Apache-2.0
"""Work done ahead in a thread of its own, so that reading and decoding go on while a batch is scored."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TypeVar

Item = TypeVar("Item")

_END = object()


def ahead(source: Iterator[Item]) -> Generator[Item]:
    """The items of ``source``, made in another thread: one is ready while the last one is being used.

    An error of ``source`` is raised here, in its place. When this iterator is closed early the thread stops at its
    next item.
    """
    ready: queue.Queue[object] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def work() -> None:
        try:
            for item in source:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:  # to be raised where it is waited for
            put(error)

    thread = threading.Thread(target=work, name="feed", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        with suppress(queue.Empty):
            ready.get_nowait()
