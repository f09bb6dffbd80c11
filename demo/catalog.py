# SPDX-License-Identifier: Apache-2.0
"""Draws the shop's catalogue: a folder of product pictures for each day.

    python -m demo.catalog --out DIR --day 2026-01-01 --day 2026-01-02 --pictures 1200 --seed 7

Each `DIR/ds=YYYY-MM-DD/` has the pictures, `_labels.csv` (`file,label` of a tenth of the sound ones) and an empty
`_SUCCESS`. A day appears whole or not at all.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path

from demo.drafts import whole_folder
from demo.labels import write_labels
from demo.orders import Batch, Order, plan
from demo.parallel import spread
from demo.seeds import Stream

LABELS = "_labels.csv"
MARKER = "_SUCCESS"
LABELLED = 0.1
"""The share of a day's sound pictures that somebody looked at and labelled."""


def day_folder(root: Path, day: date) -> Path:
    """Where a day's pictures are."""
    return root / f"ds={day.isoformat()}"


def is_complete(folder: Path) -> bool:
    """Whether the day has been drawn."""
    return (folder / MARKER).is_file()


def draw_day(root: Path, day: date, *, pictures: int, broken: int, seed: int, workers: int) -> Path:
    """Draw a day and give its folder; a day that is there already stays as it is.

    :param pictures: how many files, the broken ones included.
    :param workers: drawing processes; 1 draws in this one.
    :raises FileExistsError: the day's folder is there without its marker, so someone else made it.
    """
    folder = day_folder(root, day)
    if is_complete(folder):
        return folder
    orders = plan(Batch(seed, Stream.DAY, day.toordinal()), pictures, broken)
    with whole_folder(folder) as draft:
        for _ in spread(partial(_write_picture, draft), orders, workers):
            pass
        write_labels(draft / LABELS, _labelled(orders))
        (draft / MARKER).touch()
    return folder


def _write_picture(folder: Path, order: Order) -> None:
    (folder / order.file).write_bytes(order.data())


def _labelled(orders: list[Order]) -> list[Order]:
    """A random tenth of the sound pictures, in file order."""
    sound = [order for order in orders if order.breakage is None]
    # One past the last picture's index: a generator that no picture uses.
    rng = orders[0].batch.generator(len(orders) + 1)
    chosen = rng.choice(len(sound), round(len(sound) * LABELLED), replace=False)
    return [sound[place] for place in sorted(chosen)]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.catalog", description="Draw the shop's pictures, day by day.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the ds=… folders")
    parser.add_argument("--day", type=date.fromisoformat, action="append", required=True, help="YYYY-MM-DD; repeatable")
    parser.add_argument("--pictures", type=int, default=1200, help="files a day, broken ones included (%(default)s)")
    parser.add_argument("--broken", type=int, default=12, help="broken files a day (%(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="another seed gives another shop (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="drawing processes (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    for day in arguments.day:
        folder = day_folder(arguments.out, day)
        if is_complete(folder):
            print(f"{folder}: is there already, skipped; delete it to draw it again", flush=True)
            continue
        started = time.perf_counter()
        draw_day(
            arguments.out,
            day,
            pictures=arguments.pictures,
            broken=arguments.broken,
            seed=arguments.seed,
            workers=arguments.workers,
        )
        seconds = time.perf_counter() - started
        print(
            f"{folder}: {arguments.pictures} pictures, {arguments.broken} of them broken, {seconds:.1f} s", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
