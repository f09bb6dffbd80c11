# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/compatibility.md, from what each session of the matrix wrote: `python -m tests.matrix.table`."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compatibility.md"
RESULTS = ROOT / ".matrix" / "results"
BEGIN, END = "<!-- what make matrix wrote: begin -->", "<!-- end -->"

PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-apache-spark",
    "pyspark",
    "pyspark-client",
    "onnxruntime",
    "onnx",
    "tensorflow-cpu",
    "keras",
    "tf2onnx",
    "onnxslim",
    "onnxconverter-common",
    "onnx-ir",
    "protobuf",
    "numpy",
    "pyarrow",
    "pandas",
    "scipy",
    "duckdb",
    "pillow",
    "jinja2",
    "matplotlib",
    "prometheus-client",
    "psutil",
    "requests",
    "apache-airflow-providers-cncf-kubernetes",
    "apache-airflow-providers-openlineage",
    "pydicom",
)
"""Whose versions are shown, in this order."""


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    cells = [tuple(header), *map(tuple, rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def outcome(result: Mapping[str, Any]) -> tuple[str, ...]:
    """The row of one session: its name, the four that were put together, its tests, its day, its minutes, its end."""
    versions, tests, books = (result.get(part, {}) for part in ("versions", "tests", "books"))
    had = [versions.get(name, "–") for name in ("apache-airflow", "python", "pyspark", "java")]
    passed = f"{tests['passed']:,}, {tests['skipped']} skipped" if tests else "–"
    day = f"{books['rows_in']:,} = {books['predicted']:,} + {books['quarantined']}" if books else "–"
    return (f"`{result['session']}`", *had, passed, day, f"{result['seconds'] / 60:.0f}", result["result"])


def tables(results: Iterable[Mapping[str, Any]]) -> str:
    """What goes between the markers: how each session ended, and the versions that it had."""
    results = list(results)
    ended = table(
        ["session", "Airflow", "Python", "Spark", "Java", "tests passed", "rows of the day", "minutes", "result"],
        map(outcome, results),
    )
    pairs = [one for one in results if "versions" in one]
    had = table(
        ["package", *(f"`{one['session']}`" for one in pairs)],
        [[package, *(one["versions"].get(package, "–") for one in pairs)] for package in PACKAGES],
    )
    return f"{ended}\n\n{had}"


@cache
def noxfile() -> dict[str, Any]:
    """What the noxfile defines; run once, since nox keeps a list of all sessions that it ever met."""
    return runpy.run_path(str(ROOT / "noxfile.py"))


def sessions() -> list[str]:
    """The sessions of the noxfile that have a result, in their order."""
    return [*(pair.name for pair in noxfile()["PAIRS"]), "extras"]


def read(folder: Path) -> list[dict[str, Any]]:
    """The results of all sessions.

    :raises FileNotFoundError: if one has not ended
    """
    return [json.loads((folder / f"{name}.json").read_text()) for name in sessions()]


def put(page: str, text: str) -> str:
    """The page with the text between its markers."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END, 1)[1]}"


def cells(page: str, first: str) -> list[list[str]]:
    """The rows of the page's table whose header begins so, as plain texts; the header is the first."""
    lines = page.split(BEGIN)[1].split(END, 1)[0].splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[begin:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip(" `") for cell in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


if __name__ == "__main__":
    PAGE.write_text(put(PAGE.read_text(), tables(read(RESULTS))))
