# SPDX-License-Identifier: Apache-2.0
"""What all triggers share: look, sleep, look again, until something is there or the time is over."""

from __future__ import annotations

import asyncio
import inspect
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any, TypedDict

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_onnx_provider.exceptions import OnnxProviderError


class Look(TypedDict):
    """What one look found, as plain JSON; also the payload of a trigger's event.

    ``done``: whether the waiting is over; ``seen``: in words; ``found``: what the sensor returns when it is over;
    ``error``: why waiting cannot help, or empty.
    """

    done: bool
    seen: str
    found: dict[str, Any]
    error: str


def patient(look: Callable[..., Look], *arguments: Any) -> Look:
    """Look once; trouble that may pass counts as "not yet".

    :raises OnnxProviderError: if waiting cannot help
    """
    try:
        return look(*arguments)
    except OnnxProviderError as error:
        if not error.retryable:
            raise
        return Look(done=False, seen=str(error), found={}, error="")


class WaitingTrigger(BaseTrigger):
    """Fires once: when what it waits for is there, when waiting cannot help, or when the time is over.

    The event's payload is a :class:`Look`. A subclass says how to look; each argument of its constructor is kept as an
    attribute of the same name, by which the triggerer makes it anew.

    :param poke_interval: seconds between two looks
    :param deadline: when to give up, seconds since the epoch
    """

    def __init__(self, poke_interval: float, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.poke_interval = poke_interval
        self.deadline = deadline

    @abstractmethod
    def look(self) -> Look:
        """Look once, in a thread off the triggerer's event loop.

        :raises OnnxProviderError: if it cannot look; waiting goes on where a retry can help
        """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, from which the triggerer makes it anew."""
        arguments = list(inspect.signature(type(self)).parameters)
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in arguments}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, sleep, look again.

        That waiting cannot help must be said twice: an Airflow API that is away for a moment looks like a connection
        that does not exist.
        """
        said = ""
        while True:
            try:
                look = await asyncio.to_thread(patient, self.look)
            except OnnxProviderError as error:
                look = Look(done=False, seen="", found={}, error=f"{type(error).__name__}: {error}")
            if look["done"] or (said and look["error"] == said) or time.time() >= self.deadline:
                yield TriggerEvent(look)  # type: ignore[no-untyped-call]
                return
            said = look["error"]
            self.log.info("%s", look["seen"] or said)
            await asyncio.sleep(min(self.poke_interval, max(0.1, self.deadline - time.time())))
