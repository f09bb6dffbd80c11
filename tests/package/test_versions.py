# SPDX-License-Identifier: Apache-2.0
"""One version of this package everywhere, and versions of others that fit together."""

from __future__ import annotations

import re
from importlib.metadata import version

import airflow_onnx_provider
from tests.wheel import REPOSITORY


def test_the_version_stands_in_one_place() -> None:
    """The package's own; the wheel, ``airflow providers`` and the docs take it from there (``test_wheel.py``)."""
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", airflow_onnx_provider.__version__)
    pyproject = (REPOSITORY / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in pyproject
    assert not re.search(r"^version\s*=", pyproject, re.MULTILINE)


def test_the_changelog_begins_with_this_version_or_what_comes_after_it() -> None:
    first = re.search(r"^## (.+)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1].split()[0].strip("[]") in (airflow_onnx_provider.__version__, "Unreleased")


def test_the_docs_take_the_version_from_the_package() -> None:
    configuration = (REPOSITORY / "docs" / "conf.py").read_text()
    assert "__version__" in configuration
    assert not re.search(r"(version|release)\s*=\s*[\"']\d", configuration)


def test_pyspark_and_pyspark_client_have_one_version() -> None:
    """They share files: any other pair is a mixture in the order of installation."""
    assert version("pyspark") == version("pyspark-client")


def test_constraints_name_versions_and_no_addresses() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert len(pinned) > 100
    assert all("==" in line for line in pinned)
    assert not any("://" in line or "@" in line or "--" in line for line in lines)
