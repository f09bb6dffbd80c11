# SPDX-License-Identifier: Apache-2.0
"""The wheel in an environment with nothing but its core dependencies: what Airflow finds, and what DAG files can do."""

from __future__ import annotations

import json
import subprocess
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest

import airflow_onnx_provider
from tests.package.extras import EXTRAS
from tests.wheel import REPOSITORY, environment

SUFFIXES = {".py", ".jinja", ".js", ".typed"}


@pytest.fixture(scope="module")
def seen(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow sees of the provider in the bare environment."""
    home = tmp_path_factory.mktemp("airflow")
    done = subprocess.run(
        [bare, "-P", Path(__file__).with_name("seen.py")],
        cwd=home,
        env=environment(home, AIRFLOW__CORE__LOAD_EXAMPLES="True"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def contents(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_it_holds_the_package_its_types_and_its_example_dags_and_nothing_else(wheel: Path) -> None:
    info = f"airflow_onnx_provider-{airflow_onnx_provider.__version__}.dist-info"
    names = contents(wheel)

    assert {name.split("/")[0] for name in names} == {"airflow_onnx_provider", info}
    package = {name.removeprefix("airflow_onnx_provider/") for name in names if not name.startswith(info)}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "airflow_onnx_provider", "dags"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    moved = {name.replace("dags/", "example_dags/", 1) if name.startswith("dags/") else name for name in tracked}
    assert package == {name.removeprefix("airflow_onnx_provider/") for name in moved}
    assert {Path(name).suffix for name in package} == SUFFIXES
    assert "py.typed" in package


def test_its_metadata_name_the_licence_the_version_and_the_extras(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(path).decode())

    assert metadata["Version"] == airflow_onnx_provider.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == set(EXTRAS), "each has a line in extras.py"
    assert not any("://" in line or "@" in line for line in metadata.get_all("Requires-Dist", []))


def test_each_public_name_works_without_any_extra(seen: dict[str, Any], bare: Path) -> None:
    assert seen["file"].startswith(str(bare.parent.parent)), "not the checkout"
    assert seen["names"] == dict.fromkeys(airflow_onnx_provider.__all__, True)
    assert not {"onnxruntime", "tensorflow", "torch", "matplotlib", "py4j"} & set(seen["imported"])


def test_airflow_lists_the_provider_with_its_version(seen: dict[str, Any]) -> None:
    (found,) = (one for one in seen["providers"] if one["package_name"] == "airflow-onnx-provider")
    assert found["version"] == airflow_onnx_provider.__version__


def test_airflow_finds_the_plugin(seen: dict[str, Any]) -> None:
    (found,) = (one for one in seen["plugins"] if one["name"] == "onnx")
    assert f"airflow-onnx-provider=={airflow_onnx_provider.__version__}" in found["source"]
    assert [view["name"] for view in found["external_views"]] == ["ONNX"]


def test_the_ui_has_the_connections_forms(seen: dict[str, Any]) -> None:
    store, cluster = seen["forms"]["onnx_model_store"], seen["forms"]["spark_cluster"]

    assert store["hook_name"] == "ONNX model store"
    assert list(store["extra_fields"]) == ["root", "storage_conn_id"]
    assert store["standard_fields"]["host"]["hidden"]
    assert cluster["standard_fields"]["host"]["title"] == "Master"
    assert cluster["extra_fields"]["deploy-mode"]["schema"]["enum"] == ["client", "cluster"]


def test_load_examples_finds_the_dags_and_they_parse_without_any_extra(seen: dict[str, Any], bare: Path) -> None:
    assert seen["examples"]["path"].startswith(str(bare.parent.parent))
    assert seen["examples"]["errors"] == {}
    assert {"catalog_image_classification", "rollback_catalog_day"} <= set(seen["examples"]["dags"])
