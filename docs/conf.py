# SPDX-License-Identifier: Apache-2.0
"""How Sphinx makes the site: `make docs`. It needs no network, and neither do the pages.

The theme is the one of PySpark and pandas; Airflow's own theme is not on PyPI.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

# Operators are imported for their docstrings, and Airflow makes its home where it is imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="onnx-docs-airflow-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
sys.path[:0] = [str(Path(__file__).parent / "_extensions"), str(Path(__file__).parents[1])]

from airflow_onnx_provider import __version__  # noqa: E402

project = "airflow-onnx-provider"
copyright = "the authors of airflow-onnx-provider; licence: Apache-2.0"  # noqa: A001  # Sphinx's name for it
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "commands", "operators"]
exclude_patterns = ["_*"]
nitpicky = True
# Names of other packages are not looked up: that would need the network.
nitpick_ignore_regex = [("py:.*", r"(?!airflow_onnx_provider).*")]
nitpick_ignore = [("py:class", "airflow_onnx_provider.model.store.storage.StorePath")]  # a Path, or one like it

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 80

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": []}
