# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from airflow_onnx_provider.runtime.overlap import ahead


def counted(until: int, made: list[int]) -> Iterator[int]:
    """Numbers, each noted when it is made, and at the end that the source was closed."""
    try:
        for number in range(until):
            made.append(number)
            yield number
    finally:
        made.append(-1)


def eventually(condition: Callable[[], bool], seconds: float = 2.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def feeding() -> bool:
    return any(thread.name == "feed" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert eventually(lambda: not feeding())


def test_all_items_in_their_order() -> None:
    assert list(ahead(iter(range(500)))) == list(range(500))


def test_nothing_comes_of_nothing() -> None:
    assert list(ahead(iter(()))) == []


def test_the_items_are_made_in_another_thread() -> None:
    (maker,) = ahead(threading.current_thread() for _ in range(1))

    assert maker is not threading.current_thread()


def test_an_error_comes_in_its_place() -> None:
    def source() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("the third is broken")

    items = ahead(source())

    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="the third is broken"):
        next(items)


def test_an_item_may_be_none() -> None:
    assert list(ahead(iter([None, 0, None]))) == [None, 0, None]


def test_one_item_is_ready_and_one_is_under_way_while_one_is_used() -> None:
    made: list[int] = []
    items = ahead(counted(100, made))
    next(items)

    assert eventually(lambda: made == [0, 1, 2])
    time.sleep(0.25)
    assert made == [0, 1, 2], "the buffers of a batch that is in use would be filled again"
    items.close()  # type: ignore[attr-defined]


def test_work_goes_on_while_an_item_is_used() -> None:
    next_one_made = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        next_one_made.set()
        yield 2

    for item in ahead(source()):
        assert item == 2 or next_one_made.wait(5)


def test_who_stops_early_stops_and_closes_the_source() -> None:
    made: list[int] = []
    items = ahead(counted(10**9, made))
    next(items)
    items.close()  # type: ignore[attr-defined]

    assert eventually(lambda: made[-1] == -1)
    assert len(made) <= 5


def test_who_fails_on_an_item_stops_the_source_too() -> None:
    made: list[int] = []

    def consume() -> None:
        for _ in ahead(counted(10**9, made)):
            raise KeyError("scoring failed")

    with pytest.raises(KeyError):
        consume()
    assert eventually(lambda: made[-1] == -1)
