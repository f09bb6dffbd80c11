# SPDX-License-Identifier: Apache-2.0
"""The directive ``command``: what a module's command line says of itself.

``:::{command} airflow_onnx_provider.spark.rollback`` puts the output of ``--help`` on the page.
"""

from __future__ import annotations

import contextlib
import io
import os
from importlib import import_module
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive


class Command(Directive):
    """Calls the module's ``main(["--help"])`` when the page is built, so that the page cannot grow old."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The text, as one block."""
        os.environ["COLUMNS"] = "100"
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            import_module(self.arguments[0]).main(["--help"])
        text = said.getvalue()
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry."""
    app.add_directive("command", Command)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
