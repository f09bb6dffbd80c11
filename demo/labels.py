# SPDX-License-Identifier: Apache-2.0
"""The file in which people wrote down what is on a picture."""

import csv
from collections.abc import Sequence
from pathlib import Path

from demo.orders import Order


def write_labels(path: Path, orders: Sequence[Order]) -> None:
    """Write a `file,label` line for each picture, under that header."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("file", "label"))
        rows.writerows((order.file, order.category) for order in orders)
