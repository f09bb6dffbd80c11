# SPDX-License-Identifier: Apache-2.0
"""A way in a process of its own, seen from the harness."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, cast

import psutil

from benchmarks.environment import child_environment
from benchmarks.ways import TITLES, Pass

STOP_SECONDS = 10.0


class ChildFailedError(Exception):
    """A way raised an error or ended."""


class Child:
    """Starts at once. In a session of its own, so that Ctrl-C reaches only the harness, which then ends its children.

    :param log: file for everything that the way and its libraries print
    """

    def __init__(self, way: str, log: Path) -> None:
        self._way, self._log = way, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.child", way],
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._process, self._requests, self._replies = (
            process,
            cast("IO[str]", process.stdin),
            cast("IO[str]", process.stdout),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def score(self, files: int | None = None) -> Pass:
        """One pass over the first files of the task, None: over all."""
        return Pass(**self.ask("score", files=files))

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the reply.

        :raises ChildFailedError: with the way's own error and the place of its log
        """
        self.send(do, **request)
        return self.reply()

    def send(self, do: str, **request: Any) -> None:
        """Send a request; its reply must be taken before the next one."""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"do": do, **request}), file=self._requests, flush=True)

    def reply(self) -> dict[str, Any]:
        """Wait for the reply to the last request.

        :raises ChildFailedError: with the way's own error and the place of its log
        """
        line = self._replies.readline()
        reply: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in reply:
            raise ChildFailedError(f"{TITLES[self._way]}: {reply['error']}\nIts log: {self._log}")
        return reply

    def stop(self) -> None:
        """Ask it to stop, then end whatever is left of it."""
        family = self._family()
        with contextlib.suppress(ChildFailedError, subprocess.TimeoutExpired):
            self.ask("stop")
            self._process.wait(STOP_SECONDS)
        self._end(family)

    def kill(self) -> None:
        self._end(self._family())

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            return [*root.children(recursive=True), root]
        return []

    def _end(self, family: list[psutil.Process]) -> None:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # psutil compares start times, so a number that was given anew is left alone
        self._process.wait()
