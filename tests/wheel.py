# SPDX-License-Identifier: Apache-2.0
"""The package as a user gets it: an sdist, a wheel made from that sdist, and bare environments with the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def build(into: Path) -> Path:
    """Build the sdist, and the wheel from the sdist, into a folder.

    :return: the wheel's path; the sdist lies beside it
    """
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", into, REPOSITORY)
    (wheel,) = into.glob("*.whl")
    return wheel


def install(
    wheel: Path,
    into: Path,
    extras: Iterable[str] = (),
    constraints: Path | None = REPOSITORY / "constraints.txt",
    also: Iterable[str] = (),
) -> Path:
    """Install the wheel into a new environment and into nothing else.

    :param wheel: from :func:`build`
    :param into: the environment's folder, made here
    :param extras: of the package, such as ``cpu``
    :param constraints: None: whatever fits, as for a user who names no constraints
    :param also: further requirements
    :return: the environment's Python
    """
    uv("venv", "--quiet", "--python", sys.executable, into)
    python = into / "bin" / "python"
    limits = ("-c", constraints) if constraints else ()
    chosen = f"airflow-onnx-provider[{','.join(extras)}] @ {wheel.as_uri()}"
    uv("pip", "install", "--quiet", "--python", python, *limits, chosen, *also)
    return python


def uv(*arguments: str | Path) -> str:
    """What this environment's uv prints."""
    return _run(sys.executable, "-m", "uv", *arguments)


def environment(home: Path | None = None, **others: str) -> dict[str, str]:
    """This process's environment without what would lead to this project, and without Airflow's settings.

    :param home: Airflow's, if it is wanted
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
    return kept | {"ORT_DISABLE_TELEMETRY": "1"} | ({"AIRFLOW_HOME": str(home)} if home else {}) | others


def _run(*command: str | Path) -> str:
    # Where pip is told of a torch without CUDA, uv is told too.
    links = {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]} if "PIP_FIND_LINKS" in os.environ else {}
    done = subprocess.run([*map(str, command)], env=links | environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
