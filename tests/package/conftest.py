# SPDX-License-Identifier: Apache-2.0
"""The wheel, built once, and environments that hold it and little else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import wheel as built


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the sdist that lies beside it."""
    return built.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def sdist(wheel: Path) -> Path:
    (path,) = wheel.parent.glob("*.tar.gz")
    return path


@pytest.fixture(scope="session")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and its core dependencies, no extra."""
    return built.install(wheel, tmp_path_factory.mktemp("bare") / "env")
