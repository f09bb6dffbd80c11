# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/compatibility.md hold what the noxfile and pyproject.toml say: `make matrix` writes them."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.matrix import table

PROJECT = tomllib.loads((table.ROOT / "pyproject.toml").read_text())["project"]
NOXFILE = table.noxfile()
PAIRS = {pair.name: pair for pair in NOXFILE["PAIRS"]}


def shown(first: str) -> dict[str, dict[str, str]]:
    """A table of the page: row to column to text."""
    header, *rows = table.cells(table.PAGE.read_text(), first)
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


ENDED, HAD = shown("session"), shown("package")


def test_each_session_has_a_row_and_passed() -> None:
    assert list(ENDED) == table.sessions()
    assert {row["result"] for row in ENDED.values()} == {"passed"}


@pytest.mark.parametrize("name", PAIRS)
def test_a_session_had_what_it_was_asked_for(name: str) -> None:
    pair, row = PAIRS[name], ENDED[name]
    assert row["Python"].startswith(f"{pair.python}.")
    assert row["Airflow"].startswith(f"{pair.airflow}.")
    assert HAD["pyspark"][name] == HAD["pyspark-client"][name] == row["Spark"]
    asked = PROJECT["optional-dependencies"][pair.spark] if isinstance(pair.spark, str) else pair.spark
    assert f"pyspark=={row['Spark']}" in asked


def test_the_books_of_each_day_balance() -> None:
    for name in PAIRS:
        rows_in, _, predicted, _, quarantined = ENDED[name]["rows of the day"].replace(",", "").split()
        assert int(rows_in) == int(predicted) + int(quarantined) == 1200


def test_every_version_is_there_at_least_twice() -> None:
    names = list(PAIRS)
    for had in (
        [PAIRS[name].python for name in names],
        [PAIRS[name].airflow for name in names],
        [ENDED[name]["Spark"].rpartition(".")[0] for name in names],
    ):
        assert all(had.count(version) >= 2 for version in had)


def test_the_pythons_are_those_of_the_project() -> None:
    prefix = "Programming Language :: Python :: "
    named = {one.removeprefix(prefix) for one in PROJECT["classifiers"] if one.startswith(prefix)}
    assert named == {pair.python for pair in PAIRS.values()}
    assert PROJECT["requires-python"] == ">=3.11,<3.14"


def lower_bounds() -> dict[str, str]:
    """Package to lower bound, of what the project and the extras of the matrix ask for."""
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(line for extra in NOXFILE["EXTRAS"] for line in extras[extra])]
    bounds: dict[str, Any] = {}
    for requirement in map(Requirement, [*asked, *extras["spark-4-0"]]):
        for specifier in requirement.specifier:
            if specifier.operator == ">=":
                bounds[requirement.name] = specifier.version
    return bounds


@pytest.mark.parametrize(("package", "bound"), lower_bounds().items())
def test_the_lowest_session_had_each_lower_bound(package: str, bound: str) -> None:
    """A bound that nobody has run is a guess."""
    assert Version(HAD[package]["lowest"]) == Version(bound)


def test_a_session_without_a_result_writes_no_table(tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError, match="lowest"):
        table.read(tmp_path)


def test_what_is_around_the_tables_stays() -> None:
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    result = {"session": "lowest", "result": "failed", "seconds": 61}
    written = table.put(page, table.tables([result]))
    assert written.startswith("before\n")
    assert written.endswith(f"{table.END}\nafter\n")
    assert table.cells(written, "session")[1] == ["lowest", *"–" * 6, "1", "failed"]
