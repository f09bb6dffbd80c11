# SPDX-License-Identifier: Apache-2.0
"""Draws a training set and trains the demo's classifier on it.

    python -m demo.train --out .demo/training

Writes `classifier.keras`, `labels.txt` (category names in output order), `labelled/` (held-out pictures and their
`labels.csv`), `calibration/` (some of the training pictures) and `metrics.json`. A folder that is complete is left
alone.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from demo.drafts import whole_folder
from demo.labels import write_labels
from demo.orders import Batch, Order, plan
from demo.parallel import spread
from demo.products import CATEGORIES
from demo.seeds import Stream

PREPROCESSING = ImagePreprocessing(height=96, width=96)
HELD_OUT = 600
CALIBRATION = 128
METRICS = "metrics.json"


def train(out: Path, seed: int, pictures: int, epochs: int, workers: int) -> dict[str, float]:
    """Draw, train, measure and write everything to `out`; give the metrics.

    :raises FileExistsError: `out` is there without its metrics.
    """
    started = time.perf_counter()
    orders = plan(Batch(seed, Stream.TRAINING, 0), pictures, 0)
    held_out = plan(Batch(seed, Stream.HELD_OUT, 0), HELD_OUT, 0)
    with whole_folder(out) as draft:
        labelled = draft / "labelled"
        labelled.mkdir()
        seen = _stacked(spread(_pixels, orders, workers))
        unseen = _stacked(spread(partial(_kept_pixels, labelled), held_out, workers))
        write_labels(labelled / "labels.csv", held_out)
        calibration = draft / "calibration"
        calibration.mkdir()
        for order in orders[:CALIBRATION]:
            (calibration / order.file).write_bytes(order.data())
        print(f"drew {pictures} + {HELD_OUT} pictures in {time.perf_counter() - started:.1f} s", flush=True)

        # TensorFlow is imported only now: the drawing processes import this module too and shall stay small.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import keras

        from demo import network

        keras.utils.set_random_seed(seed)
        model = network.build(PREPROCESSING.height, PREPROCESSING.width, len(CATEGORIES))
        network.fit(model, seen, _classes(orders), epochs, seed)
        metrics = {
            "held_out_accuracy": network.accuracy(model, unseen, _classes(held_out)),
            "epochs": epochs,
            "pictures": pictures,
            "held_out_pictures": HELD_OUT,
            "parameters": model.count_params(),
            "seconds": round(time.perf_counter() - started, 1),
        }
        model.save(draft / "classifier.keras")
        (draft / "labels.txt").write_text("".join(f"{category}\n" for category in CATEGORIES))
        (draft / METRICS).write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


def _pixels(order: Order) -> NDArray[np.uint8]:
    """A picture as the network will see it in production: encoded, then decoded; [height, width, 3]."""
    return decode_image(order.data(), PREPROCESSING)


def _kept_pixels(folder: Path, order: Order) -> NDArray[np.uint8]:
    """The same, with the file kept."""
    data = order.data()
    (folder / order.file).write_bytes(data)
    return decode_image(data, PREPROCESSING)


def _stacked(pictures: Iterator[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack(list(pictures))


def _classes(orders: Sequence[Order]) -> NDArray[np.int64]:
    """The index of each picture's category in the network's output; [N]."""
    return np.array([CATEGORIES.index(order.category) for order in orders], dtype=np.int64)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.train", description="Train the demo's classifier.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, such as .demo/training")
    parser.add_argument("--seed", type=int, default=1, help="of the pictures and of the training (%(default)s)")
    parser.add_argument("--pictures", type=int, default=3000, help="pictures to train on (%(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="rounds over them (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="drawing processes (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    if (arguments.out / METRICS).is_file():
        print(f"{arguments.out}: is there already, skipped; delete it to train again", flush=True)
        return 0
    metrics = train(arguments.out, arguments.seed, arguments.pictures, arguments.epochs, arguments.workers)
    print(f"held-out accuracy {metrics['held_out_accuracy']:.3f} after {metrics['seconds']} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
