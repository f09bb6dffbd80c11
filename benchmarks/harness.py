# SPDX-License-Identifier: Apache-2.0
"""Runs a work: all its ways in turn, round by round, so that a machine that drifts slows all of them alike.

In the first rounds a way is started anew, and its first pass is the cold one. Later it stays, and before its turn it
scores a small part untimed, because Spark ends Python workers that were idle for a minute. A warm pass is therefore
always the second one or a later one of the same processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.environment import HOME
from benchmarks.memory import watched
from benchmarks.processes import Child
from benchmarks.ways import TITLES, Pass
from benchmarks.works import ARROW_ROWS, Task, Work

CHECKED_FILES = 2
"""Files whose answers are compared row by row, and that are scored untimed before a later turn."""

TOTALS_TOLERANCE = 1e-3
"""Largest relative difference between a pass's sums and those of the way's first pass."""

ALONE = frozenset({"ray"})
"""Ways that are started for each turn and stopped after it, because their daemons would take time from the others. They
have turns in the cold rounds only."""


class WrongAnswersError(Exception):
    """A way's answers are not the limit's, so its speed says nothing."""


@dataclass(frozen=True)
class Turn:
    """What one turn of a way gave.

    :param cold: seconds of the first pass, None if the way was not started anew
    :param warm: seconds of the warm pass
    :param worker_bytes: peak memory of one worker process
    :param tree_bytes: peak memory of all the way's processes together
    :param agreement: share of labels that are the limit's, where they were compared
    """

    work: str
    way: str
    round: int
    rows: int
    cold: float | None
    warm: float
    worker_bytes: int
    tree_bytes: int
    agreement: float | None


@dataclass
class Bench:
    """One work with its inputs.

    :param files: of its data set
    :param rounds: how often every way has its turn
    :param cold_rounds: in how many of them, from the first on, it is started anew
    """

    work: Work
    model: Path
    files: tuple[str, ...]
    rounds: int
    cold_rounds: int

    def __post_init__(self) -> None:
        self._children: dict[str, Child] = {}
        self._first: dict[str, Pass] = {}
        self._expected: pa.Table | None = None

    @property
    def turns(self) -> int:
        return sum(len(self._order(number)) for number in range(self.rounds))

    def run(self, say: Callable[[str], None]) -> Iterator[Turn]:
        """Give each turn when it is over.

        :raises WrongAnswersError: if a way's answers are not the limit's
        :raises ChildFailedError: if a way fails
        """
        try:
            for number in range(self.rounds):
                if number < self.cold_rounds:
                    say("start all ways")
                    self._stop_all()
                    self._start([way for way in self.work.ways if way not in ALONE])
                for way in self._order(number):
                    say(f"round {number + 1}/{self.rounds}, {TITLES[way]}")
                    yield self._turn(way, number)
            self._stop_all()
        finally:
            for child in self._children.values():
                child.kill()

    def _order(self, number: int) -> list[str]:
        ways = list(self.work.ways)
        rotated = ways[number % len(ways) :] + ways[: number % len(ways)]
        return [way for way in rotated if number < self.cold_rounds or way not in ALONE]

    def _start(self, ways: Sequence[str]) -> None:
        """Start them at once, and wait until all are ready."""
        for way in ways:
            child = self._children[way] = Child(way, HOME / "logs" / f"{self.work.name}-{way}.log")
            child.send("start", task=self._task(way).to_dict())
        for way in ways:
            self._children[way].reply()

    def _stop_all(self) -> None:
        while self._children:
            self._children.popitem()[1].stop()

    def _turn(self, way: str, number: int) -> Turn:
        fresh = number < self.cold_rounds
        if way in ALONE:
            self._start([way])
        child = self._children[way]
        with watched(child.pid) as peak:
            before = child.score(None if fresh else CHECKED_FILES)
            warm = child.score()
        if fresh:
            self._require_same(before, way)
        self._require_same(warm, way)
        agreement = self._agreement(child, way) if number == 0 else None
        if way in ALONE:
            self._children.pop(way).stop()
        cold = before.seconds if fresh else None
        return Turn(self.work.name, way, number, warm.rows, cold, warm.seconds, peak.worker, peak.tree, agreement)

    def _task(self, way: str) -> Task:
        data = self.work.data
        return Task(data.kind, str(self.model), self.files[: self.work.ways[way]], ARROW_ROWS[data.name])

    def _require_same(self, one: Pass, way: str) -> None:
        """Each pass scores every row, and gives what the first one gave."""
        rows = sum(pq.read_metadata(file).num_rows for file in self._task(way).files)
        first = self._first.setdefault(way, one)
        alike = np.allclose((one.labels, one.scores), (first.labels, first.scores), rtol=TOTALS_TOLERANCE, atol=0)
        if one.rows != rows or not alike:
            raise WrongAnswersError(f"{self.work.name}, {TITLES[way]}: {rows} rows and {first} expected, got {one}")

    def _agreement(self, child: Child, way: str) -> float:
        """Share of the first files' rows whose label is the limit's.

        :raises WrongAnswersError: if it is too low, or a score is another one
        """
        path = HOME / "answers.parquet"
        child.ask("answers", path=str(path), files=CHECKED_FILES)
        answers = pq.read_table(path).select(["key", "label", "score"]).sort_by("key")
        path.unlink()
        if self._expected is None:  # the limit, whose turn is the first
            self._expected = answers
        expected = self._expected
        if not answers["key"].equals(expected["key"].cast(answers["key"].type)):
            raise WrongAnswersError(f"{self.work.name}, {TITLES[way]}: not one answer for each key")
        same = answers["label"].to_numpy() == expected["label"].to_numpy()
        apart = np.abs(answers["score"].to_numpy() - expected["score"].to_numpy())[same].max(initial=0)
        if same.mean() < self.work.least_agreement or apart > self.work.score_tolerance:
            raise WrongAnswersError(
                f"{self.work.name}, {TITLES[way]}: {same.mean():.2%} of the labels are the limit's (at least "
                f"{self.work.least_agreement:.2%} must be), scores differ by up to {apart:.3g} "
                f"(at most {self.work.score_tolerance})"
            )
        return float(same.mean())
