# SPDX-License-Identifier: Apache-2.0
"""Each extra really installs into a bare environment and brings what it is for; minutes, so apart from `make test`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package.extras import EXTRAS
from tests.package.features import WITH_ONNXRUNTIME
from tests.package.lacking import require_line, used
from tests.wheel import REPOSITORY, environment, install, uv

pytestmark = pytest.mark.extras

NAMES = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
VERSIONS = "from importlib.metadata import version; import pyspark; "
VERSIONS += "print(version('pyspark'), version('pyspark-client'), pyspark.__version__)"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """For an environment, which is gone after the test: some are of a GB."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="module")
def constraints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned versions but for Spark's, whose extras name their own."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    path = tmp_path_factory.mktemp("pins") / "constraints.txt"
    path.write_text("\n".join(line for line in lines if not line.startswith(("pyspark==", "pyspark-client=="))))
    return path


def output_of(python: Path, code: str, *arguments: str, home: Path) -> str:
    command = [python, "-c", code, *arguments]
    done = subprocess.run(command, cwd=home, env=environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("extra", [name for name in EXTRAS if name != "gpu"])
def test_an_extra_brings_what_it_is_for(wheel: Path, constraints: Path, folder: Path, extra: str) -> None:
    python = install(wheel, folder / "env", [extra], constraints)

    output_of(python, NAMES, *EXTRAS[extra], "airflow_onnx_provider.operators.convert", home=folder)
    if extra.startswith("spark"):
        assert len(set(output_of(python, VERSIONS, home=folder).split())) == 1
        assert (python.parent / "spark-submit").is_file()


@pytest.mark.parametrize("extra", ["spark", "spark-4-1", "spark-4-0"])
def test_without_constraints_sparks_two_halves_have_one_version(wheel: Path, folder: Path, extra: str) -> None:
    """pip would take the newest of each, and they share files."""
    python = install(wheel, folder / "env", [extra], constraints=None)

    assert len(set(output_of(python, VERSIONS, home=folder).split())) == 1


def test_the_gpu_extra_brings_cuda_and_no_second_runtime(wheel: Path, folder: Path) -> None:
    """Resolved only: it is several GB, and the image for GPUs installs it."""
    (folder / "in.txt").write_text(f"airflow-onnx-provider[gpu] @ {wheel.as_uri()}\n")
    resolved = uv("pip", "compile", "--quiet", "--no-header", "--no-annotate", folder / "in.txt")
    names = {line.partition("==")[0].partition(" ")[0] for line in resolved.splitlines()}

    assert "onnxruntime-gpu" in names
    assert "onnxruntime" not in names
    assert any(name.startswith("nvidia-cudnn") for name in names)
    assert any(name.startswith("nvidia-cuda-runtime") for name in names)


def test_with_onnxruntime_alone_what_needs_more_says_so(wheel: Path, folder: Path) -> None:
    python = install(wheel, folder / "env", ["cpu"])
    said = used(python, WITH_ONNXRUNTIME, folder)

    for name, feature in WITH_ONNXRUNTIME.items():
        require_line(said[name], feature.extra)


def test_a_type_checker_sees_the_types(bare: Path, folder: Path) -> None:
    """mypy of this environment over the bare one's packages; Airflow's own types are not what is looked at."""
    (folder / "mypy.ini").write_text("[mypy]\n[mypy-airflow.*]\nfollow_imports = skip\n")
    (folder / "mine.py").write_text(
        "from airflow_onnx_provider import ExecutionProfile\n"
        "reveal_type(ExecutionProfile(threads=2).threads)\n"
        "ExecutionProfile(threads='two')\n"
    )
    command = [sys.executable, "-m", "mypy", "--python-executable", str(bare), "--config-file", "mypy.ini", "mine.py"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)

    assert 'Revealed type is "int"' in done.stdout.replace("builtins.", ""), done.stdout + done.stderr
    assert 'Argument "threads" to "ExecutionProfile" has incompatible type "str"' in done.stdout
