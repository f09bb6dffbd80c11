# SPDX-License-Identifier: Apache-2.0
"""Heavy stages run in a child process, so that their memory goes back and a kill leaves nothing behind.

Run as ``python -m airflow_onnx_provider.model.stage NAME RESULT_FILE`` with the stage's settings as one JSON line on
standard input.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from airflow_onnx_provider import exceptions
from airflow_onnx_provider.bundle import write_bundle
from airflow_onnx_provider.exceptions import OnnxProviderError, StageError, StageSignalError, StageTimeoutError
from airflow_onnx_provider.model.scratch import lifelines, scratch_folder

STAGES = {
    "convert": "airflow_onnx_provider.model.convert:convert_in_child",
    "predict_source": "airflow_onnx_provider.model.validate:predict_source_in_child",
    "validate": "airflow_onnx_provider.model.validate:validate_in_child",
    "measure": "airflow_onnx_provider.model.measure:measure_in_child",
    "quantize": "airflow_onnx_provider.model.quantize:quantize_in_child",
    "optimize": "airflow_onnx_provider.model.optimize:optimize_in_child",
    "prune": "airflow_onnx_provider.model.prune:prune_in_child",
    "split": "airflow_onnx_provider.model.split:split_in_child",
}

REFUSALS = {"validate": "ValidationError", "convert": "ConversionError"}
"""What a stage that needs more memory than its limit ends with, if not with a plain bad input."""


OUT_OF_MEMORY = re.compile(r"MemoryError|ResourceExhausted|OOM|bad_alloc|[Ff]ailed to allocate|not enough memory")
"""How the frameworks say it, each in its own words."""

CHATTER = re.compile(r"I\d{4} |WARNING: All log messages before absl::InitializeLog")
"""TensorFlow's C++ side says these on every import, whatever its log level is set to."""


@dataclass
class Stage:
    """Runs stages one after the other in child processes.

    :param log: gets each line that a child prints, as it comes
    :param python: the interpreter to use; it needs the stage's libraries, not Airflow and not this package
    :param timeout: seconds until a child is killed
    """

    log: logging.Logger | Any
    python: str = sys.executable
    timeout: float = 3600.0
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)
    _killed: bool = field(default=False, repr=False)

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        """Run the stage ``name`` to its end.

        :param settings: plain JSON
        :param memory_mb: limit in MiB on the memory that the child may write to. Files that it maps do not count, nor
            does address space that it only reserves: TensorFlow reserves a lot of it.
        :return: what the stage returned
        :raises OnnxProviderError: the stage's own error, with its own class
        :raises StageError: if the child ended without a result
        """
        with scratch_folder("onnx-stage-") as folder:
            result = folder / "result.json"
            status = self._run_child(name, {"memory_mb": memory_mb, **settings}, result)
            if not result.exists():
                limit = f" Its limit is {memory_mb} MiB of memory." if memory_mb else ""
                ending = (
                    f"the {name} stage {_ending(status)} before it gave a result; the lines above are its own.{limit}"
                )
                raise StageError(ending) if status >= 0 else StageSignalError(ending, signal.Signals(-status).name)
            outcome = json.loads(result.read_text())
        if "error" in outcome:
            error: type[OnnxProviderError] = getattr(exceptions, outcome["class"], StageError)
            raise error(outcome["error"])
        return dict(outcome["result"])

    def kill(self) -> None:
        """End the running child and everything that it started; one that is about to start ends at once."""
        self._killed = True
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _run_child(self, name: str, settings: Mapping[str, Any], result: Path) -> int:
        self._killed = False
        try:
            process = subprocess.Popen(
                [self.python, "-m", __name__, name, str(result)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                pass_fds=lifelines(),
                env=_child_environment(self.python, result.parent),
            )
        except OSError as error:
            raise exceptions.BadInputError(f"python={self.python!r} cannot be started: {error}") from error
        self._process = process
        if self._killed:
            self.kill()
        timer = threading.Timer(self.timeout, self.kill)
        timer.start()
        try:
            try:
                _pipe(process.stdin).write(json.dumps(dict(settings)) + "\n")
                _pipe(process.stdin).flush()  # and stays open: its end tells the child that this process is gone
            except BrokenPipeError:
                pass  # the child died at once; its exit status says more
            for line in _pipe(process.stdout):
                if not CHATTER.match(line):
                    self.log.info("%s", line.rstrip())
            status = process.wait()
        finally:
            timed_out = not timer.is_alive()
            timer.cancel()
            self.kill()
            self._process = None
        if timed_out:
            raise StageTimeoutError(
                f"the {name} stage was killed after {self.timeout:.0f} s; raise its timeout if it needs more"
            )
        return status


def _child_environment(python: str, work: Path) -> dict[str, str]:
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
    if python == sys.executable:
        # A network's factory is found where the task itself would find it: Airflow adds the DAGs' folder, for one.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    else:
        # Another Python sees this package alone, not the site-packages around it.
        environment["PYTHONPATH"] = str(write_bundle(work / "bundle.zip", ("model", "runtime")))
    return environment


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:  # Popen gives a stream for each pipe it was asked for; its types cannot say so
        raise StageError("the stage's child process has no pipe")
    return stream


def _ending(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    name = signal.Signals(-status).name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _watch_parent() -> None:
    sys.stdin.read()  # returns when the parent is gone, however it went
    os.killpg(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run one stage and write ``{"result": …}`` or ``{"class": …, "error": …}`` to the result file."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    name, target = sys.argv[1], Path(sys.argv[2])
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_watch_parent, daemon=True).start()
    if memory_mb := settings.pop("memory_mb"):
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    module, function = STAGES[name].split(":")
    try:
        outcome = {"result": getattr(import_module(module), function)(settings)}
    except OnnxProviderError as error:
        limited = memory_mb and OUT_OF_MEMORY.search(str(error)) and "memory_mb" not in str(error)
        outcome = {
            "class": type(error).__name__,
            "error": f"{error} (its limit is {memory_mb} MiB of memory; raise memory_mb)" if limited else str(error),
        }
    except ImportError as error:
        lacks = f"{sys.executable} lacks what the {name} stage needs: {error}"
        outcome = {"class": "BadInputError", "error": f"{lacks}. Install it there, or name another Python with python="}
    except MemoryError:
        outcome = {
            "class": REFUSALS.get(name, "BadInputError"),
            "error": f"the {name} stage needs more than its {memory_mb} MiB of memory; raise memory_mb",
        }
    target.with_suffix(".part").write_text(json.dumps(outcome))
    target.with_suffix(".part").rename(target)


if __name__ == "__main__":
    main()
