# SPDX-License-Identifier: Apache-2.0
"""A CycloneDX software bill of materials of what a user installs; ``python release/sbom.py [EXTRA…]``.

Takes the wheel of this version from ``dist/`` (``python -m build --no-isolation``), installs it with the extras into a
bare environment as the README says, and writes ``dist/airflow_onnx_provider-<version>.cdx.json``: names, versions and
licences, and neither download addresses nor paths of the machine that wrote it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import airflow_onnx_provider

REPOSITORY = Path(__file__).parent.parent
DIST = REPOSITORY / "dist"
EXTRAS = ("cpu", "tensorflow", "optimize", "report", "spark")
"""The ones of the README."""

PROSE = ("description", "externalReferences")
PLACES = re.compile(r"://|[?&](download_url|vcs_url|repository_url)=|(^|[\s\"'=])/(home|root|tmp|opt|work|usr)/")
"""Addresses, and paths of a machine."""


def write_sbom(dist: Path, extras: tuple[str, ...] = EXTRAS) -> Path:
    """Write the bill of the wheel in ``dist`` beside it.

    :raises SystemExit: if there is no wheel of this version, or the bill would name a place
    """
    version = airflow_onnx_provider.__version__
    if not list(dist.glob(f"airflow_onnx_provider-{version}-*.whl")):
        raise SystemExit(f"no wheel of {version} in {dist}: python -m build --no-isolation first")
    target = dist / f"airflow_onnx_provider-{version}.cdx.json"
    with tempfile.TemporaryDirectory(prefix="onnx-sbom-") as folder:
        python = Path(folder) / "env" / "bin" / "python"
        _run("uv", "venv", "--quiet", "--python", sys.executable, python.parent.parent)
        # By name, not by path: an installer records the path that a wheel came from.
        chosen = f"airflow-onnx-provider[{','.join(extras)}]=={version}"
        limits = ("-c", REPOSITORY / "constraints.txt", "--find-links", dist)
        _run("uv", "pip", "install", "--quiet", "--python", python, *limits, chosen)
        options = ("--short-PURLs", "--output-reproducible", "--pyproject", REPOSITORY / "pyproject.toml")
        written = Path(folder) / "bill.json"
        _run("cyclonedx_py", "environment", *options, "--mc-type", "library", "-o", written, python)
        bill = without_prose(json.loads(written.read_text()))
    if found := places(bill):
        raise SystemExit(f"the bill holds what it must not: {', '.join(found[:5])}")
    target.write_text(json.dumps(bill, indent=1, ensure_ascii=False) + "\n")
    return target


def without_prose(value: Any) -> Any:
    """The bill without what projects say of themselves: descriptions, homepages, trackers, places to download from."""
    if isinstance(value, dict):
        return {key: without_prose(one) for key, one in value.items() if key not in PROSE}
    return [without_prose(one) for one in value] if isinstance(value, list) else value


def places(bill: dict[str, Any]) -> list[str]:
    """The bill's texts that name an address or a path of a machine, but for the address of its schema."""
    return sorted({text for text in _texts({**bill, "$schema": ""}) if PLACES.search(text)})


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [text for one in (value.values() if isinstance(value, dict) else value) for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def _run(module: str, *arguments: str | Path) -> None:
    links = {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]} if "PIP_FIND_LINKS" in os.environ else {}
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], env=links | os.environ, check=True)


if __name__ == "__main__":
    print(write_sbom(DIST, tuple(sys.argv[1:]) or EXTRAS))
