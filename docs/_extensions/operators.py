# SPDX-License-Identifier: Apache-2.0
"""Say with each operator and sensor which of its arguments are templates."""

from __future__ import annotations

from typing import Any


def add_template_fields(*event: Any) -> None:
    """Append the fields of the class to its docstring, whose lines come last in autodoc's event."""
    _, what, _, obj, _, lines = event
    fields = getattr(obj, "template_fields", None)
    if what == "class" and isinstance(fields, (list, tuple)) and fields:
        lines += ["", f"**Template fields**: {', '.join(f'``{field}``' for field in dict.fromkeys(fields))}.", ""]


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry."""
    app.connect("autodoc-process-docstring", add_template_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
