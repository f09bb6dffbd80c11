# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks`: prepare what is missing, run every work, write the page, the picture and the numbers."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from airflow_onnx_provider.runtime.manifest import write_json
from benchmarks import datasets, models
from benchmarks.environment import HOME, REPOSITORY, machine, require_ready
from benchmarks.harness import Bench, Turn, WrongAnswersError
from benchmarks.plot import draw
from benchmarks.processes import ChildFailedError
from benchmarks.report import markdown, warm_rate
from benchmarks.works import WORKS, Work

RESULTS = HOME / "results"
PUBLISHED = REPOSITORY / "docs" / "benchmarks"
ROUNDS, QUICK_ROUNDS = 5, 1
QUICK_WORKS = ("mobilenet", "table", "texts")
"""One of each kind: starting six ways costs more than scoring a few rows with them."""

COLD_ROUNDS = {"mobilenet": 3}
"""Works whose ways are started anew more often than once, for a range of cold passes too."""


def main(arguments: argparse.Namespace) -> None:
    require_ready()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the children too, as Ctrl-C does
    mode = "quick" if arguments.quick else "full"
    started = time.perf_counter()
    print("== Prepare data and models", flush=True)
    benches = [_prepared(work, quick=arguments.quick) for work in WORKS if work.name in arguments.works]
    turns: list[Turn] = []
    facts = machine()
    try:
        _run(benches, turns, lambda: _keep(mode, facts, turns))
    except (ChildFailedError, WrongAnswersError) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; what was measured so far is kept.")
    finally:
        if turns:
            page = markdown(mode, facts, turns)
            (RESULTS / f"{mode}.md").write_text(page)
            draw(turns, f"{facts['cpu']}, {facts['cores']} cores", RESULTS / f"{mode}.png")
            print(f"\n{page}\nAll of it is in {RESULTS.relative_to(REPOSITORY)}/{mode}.*", flush=True)
    print(f"{(time.perf_counter() - started) / 60:.0f} minutes in all")
    if arguments.publish:
        PUBLISHED.mkdir(parents=True, exist_ok=True)
        for kind in ("md", "json", "png"):
            shutil.copyfile(RESULTS / f"{mode}.{kind}", PUBLISHED / f"{mode}.{kind}")
        print(f"Copied to {PUBLISHED.relative_to(REPOSITORY)}/")


def _prepared(work: Work, *, quick: bool) -> Bench:
    files = datasets.prepared(work.data, quick=quick)
    model = models.prepared(work.model, files)
    rounds = QUICK_ROUNDS if quick else ROUNDS
    return Bench(work, model, files, rounds, 1 if quick else COLD_ROUNDS.get(work.name, 1))


def _run(benches: Sequence[Bench], turns: list[Turn], keep: Callable[[], None]) -> None:
    every = sum(bench.turns for bench in benches)
    started = time.perf_counter()
    for bench in benches:
        print(f"\n== {bench.work.title}", flush=True)
        for turn in bench.run(lambda what: print(f"  {what} …", flush=True)):
            turns.append(turn)
            keep()
            left = (time.perf_counter() - started) / len(turns) * (every - len(turns)) / 60
            cold = f", cold {turn.rows / turn.cold:,.0f}" if turn.cold else ""
            print(f"    {warm_rate(turn):,.0f} rows/s{cold} (about {left:.0f} min left)", flush=True)


def _keep(mode: str, facts: dict[str, str], turns: Sequence[Turn]) -> None:
    """After every turn, so that nothing is lost when the run is stopped."""
    write_json(RESULTS / f"{mode}.json", {"mode": mode, "machine": facts, "turns": [asdict(turn) for turn in turns]})


def _arguments() -> argparse.Namespace:
    names = [work.name for work in WORKS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="This product beside its peers and the limit."
    )
    parser.add_argument("--quick", action="store_true", help=f"one round on fewer rows, by default {QUICK_WORKS}")
    parser.add_argument("--works", nargs="+", choices=names, metavar="WORK", help=f"only: {', '.join(names)}")
    parser.add_argument("--publish", action="store_true", help="copy the results to docs/benchmarks/")
    arguments = parser.parse_args()
    arguments.works = arguments.works or (QUICK_WORKS if arguments.quick else names)
    return arguments


if __name__ == "__main__":
    main(_arguments())
