# SPDX-License-Identifier: Apache-2.0
"""How many replaced versions of a partition stay: as a function and as a command line.

``python -m airflow_onnx_provider.spark.retention <output> --keep 3``. Run manifests, checks and reports of versions
that go are kept: they are small, and they say what readers saw.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.spark.history import REMOVED, Move, kept, moment, moves, record, way_back
from airflow_onnx_provider.spark.layout import OutputLayout, check_partition, local_path
from airflow_onnx_provider.spark.publish import base_run
from airflow_onnx_provider.spark.rollback import person
from airflow_onnx_provider.spark.swap import changing, interrupted

COMMAND = "python -m airflow_onnx_provider.spark.retention"


def check_keep(keep: float) -> int:
    """Return ``keep`` if a history can have so many versions.

    :raises BadInputError: otherwise
    """
    if not keep >= 0 or keep % 1:
        raise BadInputError(f"a history cannot keep {keep:g} versions; give 0, 1, 2 …")
    return int(keep)


def surplus(layout: OutputLayout, partition: str, keep: int) -> tuple[str, ...]:
    """The runs of the history that :func:`prune` would remove, the least needed first; nothing is changed.

    Those stay longest that rollbacks lead back to, the nearest first, then those that were replaced last. What a
    cut-off publishing or rollback is about stays in any case.

    :param keep: versions that stay in the history, beside the published one
    :raises BadInputError: if it cannot be so many
    """
    check_keep(keep)
    there, current = kept(layout, partition), base_run(layout, check_partition(partition))
    way = way_back(layout, partition, current) if current else ()
    left = {move.replaced: number for number, move in enumerate(moves(layout, partition))}
    others = sorted((run for run in there if run not in way), key=lambda run: left.get(run, -1), reverse=True)
    cut_off = interrupted(layout, partition)
    busy = (cut_off.run, cut_off.replaced) if cut_off else ()
    return tuple(run for run in reversed([*way, *others][keep:]) if run not in busy)


def prune(layout: OutputLayout, partition: str, keep: int, *, by: str = "") -> tuple[str, ...]:
    """Remove what :func:`surplus` names from the history, and write it down.

    A version leaves the history in one step, so that no rollback finds half of it; what a crash leaves of it is
    removed by the next call.

    :param by: who does it, for the log
    :return: the runs that were removed
    :raises BadInputError: as :func:`surplus`
    :raises PublishError: if the system refuses a step
    """
    if not surplus(layout, partition, keep) and not _leaving(layout, partition):
        return ()
    with changing(layout, partition, f"the history of {partition} is not pruned yet"):
        for run in surplus(layout, partition, keep):
            gone = layout.discarded(partition, run)
            gone.parent.mkdir(parents=True, exist_ok=True)
            layout.history(partition, run).rename(gone)
        leaving = _leaving(layout, partition)
        for gone in leaving:
            move = Move(REMOVED, gone.name, None, by, f"{keep} are kept", moment(), key=f"removed {gone.name}")
            record(layout, partition, move)
            shutil.rmtree(gone)
    return tuple(gone.name for gone in leaving)


def _leaving(layout: OutputLayout, partition: str) -> tuple[Path, ...]:
    return tuple(sorted(layout.discarded(partition, "any").parent.glob("*")))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Remove replaced versions of partitions")
    parser.add_argument("output", help="output folder, below which ds=<partition> lies")
    parser.add_argument("--keep", type=int, required=True, metavar="N", help="replaced versions of a partition to keep")
    parser.add_argument("--partition", help="such as 2026-01-31; default: all")
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed; change nothing")
    given = parser.parse_args(arguments)
    failed, total = False, 0
    try:
        layout = OutputLayout(local_path(given.output, "output"))
        if not layout.root.is_dir():
            raise BadInputError(f"{layout.root} is no folder")
        partitions = [check_partition(given.partition)] if given.partition else layout.partitions_with_history()
    except OnnxProviderError as error:
        print(error, file=sys.stderr)
        return 1
    for partition in partitions:
        try:
            wanted = surplus(layout, partition, given.keep)
            sizes = {run: _megabytes(layout.history(partition, run)) for run in wanted}
            removed = wanted if given.dry_run else prune(layout, partition, given.keep, by=person())
        except OnnxProviderError as error:  # the others do not wait for this one
            print(error, file=sys.stderr)
            failed = True
            continue
        for run in removed:
            print(f"{partition}  {run}  {sizes.get(run, 0.0):.1f} MB")
        total += len(removed)
    print(f"{'would be removed' if given.dry_run else 'removed'}: {total}")
    return int(failed)


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


if __name__ == "__main__":
    sys.exit(main())
