# SPDX-License-Identifier: Apache-2.0
"""What a Spark executor needs, read from pyproject.toml: ``requirements.py cpu`` or ``requirements.py gpu``."""

import re
import sys
import tomllib
from pathlib import Path

FLOOR = {"numpy", "pillow", "pyarrow"}
"""Of the package's own dependencies, those of its runtime floor."""

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
wanted = [line for line in project["dependencies"] if re.split(r"[\[<>=~!; ]", line)[0] in FLOOR]
wanted += [line for line in extras["spark"] if line.startswith("pyspark==")]
print("\n".join([*wanted, *extras[sys.argv[1]], *extras["dicom"]]))
