# SPDX-License-Identifier: Apache-2.0
"""The run report: one page per run that says whether to trust it, and why not.

Without Airflow: ``python -m airflow_onnx_provider.quality.report <output> <partition or run>`` writes the page and
prints where.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.pages.templates import templates
from airflow_onnx_provider.quality.reports import words
from airflow_onnx_provider.quality.reports.facts import RunFacts, gather
from airflow_onnx_provider.quality.reports.samples import Samples, take_samples
from airflow_onnx_provider.quality.reports.view import report_view
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import published_run


def write_report(layout: OutputLayout, run: str) -> Path:
    """Write a run's report to ``layout.report(run)``; an earlier one is replaced.

    It may be written whenever the run has finished: before the checks it says that the run was not judged, before
    publishing that it is not published.

    :raises SparkJobError: if there is no manifest of a finished run
    :raises BadInputError: if the record of its checks is none, or jinja2 or matplotlib is missing
    """
    facts = gather(layout, run)
    text = report_html(facts, take_samples(layout, facts))
    path = layout.report(run)
    _write(path, text)
    return path


def report_html(facts: RunFacts, samples: Samples | None = None) -> str:
    """The report as one page that needs nothing else: no script, no network; the same facts give the same bytes.

    :param samples: of the run's rows
    :raises BadInputError: if jinja2 or matplotlib is missing
    """
    environment = templates("airflow_onnx_provider.quality", "reports", "a run report")
    environment.filters["clean"] = words.clean
    environment.filters["whole"] = words.whole
    environment.filters["reason"] = lambda code: words.capital(words.reason(code))
    view = report_view(facts, samples or Samples({}, note="No rows were looked at."))
    return str(environment.get_template("report.html.jinja").render(report=view))


def _write(path: Path, text: str) -> None:
    """Write so that a reader sees the old page or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)  # mkstemp makes it private; other users of the folder must read it
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def find_run(layout: OutputLayout, name: str) -> str:
    """The run that a person means: its own name, or that of a partition whose published run it is.

    :raises BadInputError: if there is neither, naming what there is
    """
    if not name or Path(name).name != name:
        raise BadInputError(f"{name!r} names neither a partition nor a run: give a name, not a path")
    if layout.run_manifest(name).is_file():
        return name
    if published := published_run(layout, name):
        return published
    days = layout.published_partitions()
    said = f"{len(days)} published partitions from {days[0]} to {days[-1]}" if days else "no published partition"
    raise BadInputError(f"{layout.root} has neither a run nor a published partition {name}; it has {said}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_onnx_provider.quality.report", description="Write the report of a run"
    )
    parser.add_argument("output", type=Path, help="the output folder of the inference task")
    parser.add_argument("run", metavar="partition-or-run", help="a published partition, or the name of a run")
    given = parser.parse_args(arguments)
    layout = OutputLayout(given.output.absolute())
    try:
        print(write_report(layout, find_run(layout, given.run)))
    except OnnxProviderError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
