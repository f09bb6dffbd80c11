# SPDX-License-Identifier: Apache-2.0
"""A way's own process, spoken to in JSON lines.

    python -m benchmarks.child WAY

Each line on standard input is a request with a ``do`` (start, score, answers, stop), each line on standard output its
reply. Everything else that the way and its libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict
from typing import Any

import pyarrow.parquet as pq

from benchmarks.ways import Way, opened
from benchmarks.works import Task


def main(name: str) -> None:
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)
        way = opened(name)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                reply = _done(way, request)
            except Exception as error:  # whatever a way raises is told; the harness ends the run
                traceback.print_exc()
                reply = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
            print(json.dumps(reply), file=replies, flush=True)
            if request["do"] == "stop":
                break
    os._exit(0)  # libraries' threads do not hold up the next way


def _done(way: Way, request: dict[str, Any]) -> dict[str, Any]:
    match request["do"]:
        case "start":
            way.start(Task.from_dict(request["task"]))
        case "score":
            return asdict(way.score(request["files"]))
        case "answers":
            pq.write_table(way.answers(request["files"]), request["path"])
        case "stop":
            way.stop()
    return {}


if __name__ == "__main__":
    main(sys.argv[1])
