# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wheel import REPOSITORY, environment


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of Airflow's, to be copied."""
    home = tmp_path_factory.mktemp("migrated")
    variables = environment(home, AIRFLOW__CORE__LOAD_EXAMPLES="False")
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=variables, check=True, capture_output=True)
    return home / "airflow.db"


@pytest.fixture(scope="session")
def pythons(migrated: Path) -> Iterator[str]:
    """The address at which pages get their Python."""
    address, program = migrated.with_name("pythons"), Path(__file__).with_name("interpreter.py")
    variables = environment(migrated.parent, AIRFLOW__CORE__LOAD_EXAMPLES="False")
    with subprocess.Popen([sys.executable, program, REPOSITORY, address], env=variables) as process:
        while not address.exists() and process.poll() is None:
            time.sleep(0.1)
        yield str(address)
        process.terminate()
