# SPDX-License-Identifier: Apache-2.0
"""What an executor needs, looked at by its own Python before anything else is asked of it.

Only the standard library is used here, as the point is to find out what else there is.
"""

from __future__ import annotations

import importlib
import os
import platform
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError

NEEDED = {"numpy": "numpy", "pyarrow": "pyarrow", "PIL": "pillow", "onnxruntime": "onnxruntime"}
"""Modules, and the distributions that bring them."""


def look(folders: Sequence[str], output: str) -> dict[str, Any]:
    """What this Python has and sees.

    :param folders: that must be there
    :param output: folder that must be writable
    :return: ``host``, ``python``, ``versions`` (module to version) and ``lacks`` (sentences)
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    lacks, versions = [], {}
    for module, distribution in NEEDED.items():
        try:
            versions[module] = str(getattr(importlib.import_module(module), "__version__", "?"))
        except Exception as error:  # a broken binary raises whatever it likes
            lacks.append(f"{distribution} ({type(error).__name__}: {error})")
    lacks += [f"the folder {folder}, which must be mounted here" for folder in folders if not Path(folder).is_dir()]
    if not os.access(output, os.W_OK):
        lacks.append(f"the right to write to {output}" if Path(output).is_dir() else f"the folder {output}")
    return {
        "host": socket.gethostname(),
        "python": f"{sys.executable} {platform.python_version()}",
        "versions": versions,
        "lacks": lacks,
    }


def preflight(spark: Any, slots: int, folders: Sequence[str], output: str) -> list[dict[str, Any]]:
    """Have a worker in each slot look around.

    :return: what each said, one entry a host
    :raises BadInputError: in one line, what which executor lacks, and the way out
    """

    def task(numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
        for _ in numbers:
            yield look(folders, output)

    context = spark.sparkContext
    try:
        found = context.parallelize(range(slots), slots).mapPartitions(task).collect()
    except Exception as error:
        raise _no_python(str(error)) or error from None
    hosts = {one["host"]: one for one in found}
    lacking = [f"{one['host']} ({one['python']}) lacks {'; '.join(one['lacks'])}" for one in found if one["lacks"]]
    if lacking:
        raise BadInputError(
            f"an executor cannot run the job: {sorted(set(lacking))[0]}. Install it there, or name another "
            "interpreter with python=, a packed one with python_archive=, or an image="
        )
    return list(hosts.values())


def _no_python(said: str) -> BadInputError | None:
    """Spark's own words for a Python that is not there or does not fit, in one line; None for anything else."""
    for line in said.splitlines():
        if "Cannot run program" in line:
            start = line.index("Cannot run program")
            return BadInputError(
                f"an executor has no such Python: {line[start:].strip()}. Name its interpreter with python=, or in the "
                "connection's field python"
            )
        if "PYTHON_VERSION_MISMATCH" in line:
            start = line.index("PYTHON_VERSION_MISMATCH")
            return BadInputError(
                f"driver and executors run different Pythons: {line[start:].strip()[:300]}. Name one of the driver's "
                "version with python=, or ship one with python_archive="
            )
    return None
