# SPDX-License-Identifier: Apache-2.0
"""Where to cut a graph into stages: by dynamic programming over its costs, within a memory budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.splitting.cost import GraphCost

MIB = 1 << 20

WIDTHS = (1, 2, 4, 8)
"""Tensors that may cross a cut: more are tried only where fewer do not do."""

WORTH_WIDER_CUTS = 1.25
"""Cuts of more tensors must make the most expensive stage this many times cheaper."""

FLOPS_PER_BYTE = 100
"""A byte that goes from one stage to the next costs as much as so many operations: a core does some 50 billion
operations a second, and columns go through Arrow and a shuffle with some 500 MB a second."""

SLACK = 1.05
"""Among plans whose most expensive stage is within this of the cheapest, the one that transfers least is taken."""

MAX_CUTS = 800
"""Of a graph with more places to cut, the ones that transfer least are looked at."""


@dataclass(frozen=True)
class PlannedStage:
    """A run of nodes between two cuts. All bytes are at the batch size of the plan.

    :param start: place of its first node in ``GraphCost.nodes``
    :param stop: place after its last
    :param takes: inputs of the graph and tensors of earlier stages that it reads
    :param gives: tensors that later stages read, and outputs of the graph
    :param weight_bytes: of all weights that it reads; a weight that two stages read counts in both
    :param activation_bytes: the most that exist at one time, its inputs all along
    :param transferred_bytes: of everything that must be kept for later stages and the answer once it is done
    """

    start: int
    stop: int
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    weight_bytes: int
    activation_bytes: int
    macs: int
    flops: int
    transferred_bytes: int

    @property
    def memory_bytes(self) -> int:
        return self.weight_bytes + self.activation_bytes

    def row(self, batch: int) -> dict[str, Any]:
        """A line of the cost table: MiB at this batch size, MACs and transferred bytes a row of input."""
        return {
            "nodes": self.stop - self.start,
            "weights_mib": round(self.weight_bytes / MIB, 3),
            "activations_mib": round(self.activation_bytes / MIB, 3),
            "memory_mib": round(self.memory_bytes / MIB, 3),
            "macs_per_row": self.macs // batch,
            "transferred_bytes_per_row": self.transferred_bytes // batch,
            "takes": list(self.takes),
            "gives": list(self.gives),
        }


def plan(cost: GraphCost, *, stages: int | None = None, budget_bytes: int | None = None) -> tuple[PlannedStage, ...]:
    """Cut a graph so that the most expensive stage is as cheap as can be.

    A stage's cost is its operations and what is transferred at both of its ends. Cuts that one tensor crosses are
    preferred. ONNX Runtime's own working memory is not counted in a stage's memory.

    :param stages: how many; default: as few as the budget allows, which may be one
    :param budget_bytes: most memory of any stage: its weights and the peak of its activations
    :raises BadInputError: if the graph cannot be cut so often, or no plan keeps the budget: then with the smallest
        budget that one can keep
    """
    crossing = _crossing(cost)
    best = _Cuts(cost, crossing, WIDTHS[-1])
    _require_possible(best, stages, budget_bytes)
    count = stages or (1 if budget_bytes is None else best.fewest(budget_bytes))
    least = best.cheapest(count, budget_bytes)
    for width in WIDTHS:
        cuts = best if width == WIDTHS[-1] else _Cuts(cost, crossing, width)
        if (cheapest := cuts.cheapest(count, budget_bytes)) <= WORTH_WIDER_CUTS * least:
            places = cuts.chosen(count, budget_bytes, cheapest * SLACK)
            break
    return tuple(_stage(cost, crossing, start, stop) for start, stop in pairwise(places))


def _require_possible(cuts: _Cuts, stages: int | None, budget: int | None) -> None:
    most = len(cuts.places) - 1
    if stages is not None and (stages > most or cuts.cheapest(stages, None) == math.inf):
        raise BadInputError(f"split: the graph has places for {most} stages at most, not for {stages}")
    if budget is None:
        return
    smallest = cuts.smallest_budget(stages)
    if budget < smallest:
        among = f"in {stages} stages" if stages else "in any number of stages"
        raise BadInputError(
            f"split: no plan keeps a budget of {budget / MIB:.2f} MiB; the smallest possible {among} at a batch of "
            f"{cuts.cost.batch} is {math.ceil(smallest / MIB * 100) / 100:.2f} MiB. A smaller batch takes less"
        )


def _crossing(cost: GraphCost) -> list[list[str]]:
    """For each place before a node, and the end: the tensors that exist already and are still needed."""
    last, live = cost.last_uses, {name: -1 for name in cost.inputs if name in cost.last_uses}
    rows = [list(live)]
    for place, node in enumerate(cost.nodes):
        live.update(dict.fromkeys(node.gives, place))
        live = {name: made for name, made in live.items() if last[name] > place}
        rows.append(list(live))
    return rows


class _Cuts:
    """The places where at most ``width`` tensors cross, and what each run between two of them costs."""

    def __init__(self, cost: GraphCost, crossing: Sequence[Sequence[str]], width: int) -> None:
        self.cost = cost
        final = len(cost.nodes)
        outputs = set(cost.outputs)
        sent = [sum(cost.activations[name] for name in names) for names in crossing]
        narrow = [
            place
            for place in range(1, final)
            # Finished outputs wait beside the chain and need no further stage.
            if 0 < len(set(crossing[place]) - outputs) <= width
        ]
        narrow = sorted(sorted(narrow, key=lambda place: sent[place])[:MAX_CUTS])
        self.places = [0, *narrow, final]
        self.sent = np.array([sent[place] for place in self.places], float)
        flops = np.cumsum([0, *(node.flops for node in cost.nodes)])[self.places].astype(float)
        ends = np.where(np.isin(self.places, (0, final)), 0.0, self.sent)  # the model's own inputs and outputs are free
        self.price = flops[None, :] - flops[:, None] + FLOPS_PER_BYTE * (ends[None, :] + ends[:, None])
        self.memory = np.stack([self._memory_from(place) for place in self.places])
        self.price[~np.isfinite(self.memory)] = np.inf

    def _memory_from(self, start: int) -> NDArray[np.float64]:
        """Memory of the runs from one place to every other; infinite where there is no run, or it reads no input."""
        cost, wanted = self.cost, {place: index for index, place in enumerate(self.places)}
        row = np.full(len(self.places), np.inf)
        made: set[str] = set()
        taken: set[str] = set()
        weights: set[str] = set()
        inputs = weight_bytes = peak = 0
        for place, live in enumerate(cost.live_bytes(start), start):
            node = cost.nodes[place]
            for name in node.takes:
                if name not in made and name not in taken:
                    taken.add(name)
                    inputs += cost.activations[name]
            for name in node.weights:
                if name not in weights:
                    weights.add(name)
                    weight_bytes += cost.weights[name]
            made.update(node.gives)
            peak = max(peak, live)
            if place + 1 in wanted and taken:
                row[wanted[place + 1]] = weight_bytes + inputs + peak
        return row

    def _edges(self, budget: int | None) -> NDArray[np.float64]:
        return self.price if budget is None else np.where(self.memory <= budget, self.price, np.inf)

    def fewest(self, budget: int) -> int:
        """The least number of stages that keeps the budget; infinite plans were refused before."""
        reach = np.full(len(self.places), np.inf)
        reach[0] = 0
        allowed = self.memory <= budget
        for place in range(1, len(self.places)):
            reach[place] = min((reach[:place][allowed[:place, place]] + 1).tolist(), default=np.inf)
        return int(reach[-1])

    def cheapest(self, stages: int, budget: int | None) -> float:
        """The price of the most expensive stage of the best plan; infinite if there is none."""
        edges = self._edges(budget)
        best = edges[0]
        for _ in range(stages - 1):
            best = np.min(np.maximum(best[:, None], edges), axis=0)
        return float(best[-1])

    def smallest_budget(self, stages: int | None) -> float:
        """The memory of the largest stage of the plan where that is smallest."""
        best = self.memory[0].copy()
        if stages is None:
            for place in range(1, len(self.places)):
                best[place] = min(best[place], float(np.min(np.maximum(best[:place], self.memory[:place, place]))))
            return float(best[-1])
        for _ in range(stages - 1):
            best = np.min(np.maximum(best[:, None], self.memory), axis=0)
        return float(best[-1])

    def chosen(self, stages: int, budget: int | None, most: float) -> list[int]:
        """Of the plans without a stage dearer than ``most``, the places of the one that transfers least."""
        edges = self._edges(budget)
        step = np.where(edges <= most, self.sent[None, :], np.inf)
        totals, origins = [step[0]], []
        for _ in range(stages - 1):
            through = totals[-1][:, None] + step
            origins.append(np.argmin(through, axis=0))
            totals.append(np.min(through, axis=0))
        path = [len(self.places) - 1]
        for origin in reversed(origins):
            path.append(int(origin[path[-1]]))
        return [self.places[index] for index in [0, *reversed(path)]]


def _stage(cost: GraphCost, crossing: Sequence[Sequence[str]], start: int, stop: int) -> PlannedStage:
    nodes = cost.nodes[start:stop]
    made = dict.fromkeys(name for node in nodes for name in node.gives)
    takes = tuple(dict.fromkeys(name for node in nodes for name in node.takes if name not in made))
    weights = {name for node in nodes for name in node.weights}
    live = [bytes_ for _, bytes_ in zip(nodes, cost.live_bytes(start), strict=False)]
    return PlannedStage(
        start=start,
        stop=stop,
        takes=takes,
        gives=tuple(name for name in made if cost.last_uses[name] >= stop),
        weight_bytes=sum(cost.weights[name] for name in weights),
        activation_bytes=sum(cost.activations[name] for name in takes) + max(live),
        macs=sum(node.macs for node in nodes),
        flops=sum(node.flops for node in nodes),
        transferred_bytes=sum(cost.activations[name] for name in crossing[stop]),
    )
