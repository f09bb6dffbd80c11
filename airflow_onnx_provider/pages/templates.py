# SPDX-License-Identifier: Apache-2.0
"""Templates of pages: what comes from data is only text, and what is not there is an error."""

from __future__ import annotations

from typing import Any

from airflow_onnx_provider.exceptions import needs_extra


def templates(package: str, folder: str, page: str) -> Any:
    """A jinja2 environment for the templates in one folder of a package, and those that all pages share.

    The shared ones are ``table.html.jinja``, a macro that lays out a :class:`~airflow_onnx_provider.pages.table.Table`,
    and ``looks.css.jinja``, the colours and shapes. Names, labels and reasons were written by others: whatever goes
    into a template whose name ends with ``html.jinja`` is escaped.

    :param package: that has the templates
    :param folder: in it
    :param page: what is made, for the error
    :raises MissingExtraError: if jinja2 is missing
    """
    with needs_extra("report", page):
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
    own, shared = PackageLoader(package, folder), PackageLoader("airflow_onnx_provider", "pages")
    return Environment(
        loader=ChoiceLoader([own, shared]),
        autoescape=select_autoescape(("html.jinja",)),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
