# SPDX-License-Identifier: Apache-2.0
"""What is said of pip-audit's findings. The shapes are those of its JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from release.audit import CLEAN, REFUSED, UNREACHABLE, VULNERABLE, verdict

SOUND = {"name": "six", "version": "1.17.0", "vulns": []}
FLAWED = {
    "name": "flask",
    "version": "0.5",
    "vulns": [
        {"id": "PYSEC-2019-179", "fix_versions": ["1.0"], "aliases": ["CVE-2019-1010083"]},
        {"id": "PYSEC-2018-66", "fix_versions": [], "aliases": []},
    ],
}
UNKNOWN = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited: numpy (2.4.6)"}
OFFLINE = """Traceback (most recent call last):
  File "requests/adapters.py", line 729, in send
    raise ConnectionError(e, request=request)
requests.exceptions.ConnectionError: HTTPSConnectionPool(host='a.host', port=443): Max retries exceeded
"""
MALFORMED = """WARNING:pip_audit._cli:--no-deps is supported, but users are encouraged to fully hash their dependencies
ERROR:pip_audit._cli:requirement file x.txt contains invalid specifier at line 1: Invalid requirement
    no such line ===
       ^
"""


def found(*dependencies: dict[str, Any]) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


@pytest.mark.parametrize(
    ("output", "errors", "status", "said"),
    [
        (found(SOUND), "", CLEAN, "1 versions audited, no advisory names one"),
        (
            found(SOUND, FLAWED, UNKNOWN),
            "Found 2 known vulnerabilities in 1 package",
            VULNERABLE,
            "flask 0.5: PYSEC-2019-179 (mended in 1.0)\nflask 0.5: PYSEC-2018-66 (no version mends it)",
        ),
        (found(UNKNOWN), "No known vulnerabilities found", UNREACHABLE, "nothing was audited"),
        (
            found(SOUND, UNKNOWN),
            "No known vulnerabilities found",
            UNREACHABLE,
            "1 of 2 versions were not audited: numpy",
        ),
        (found(), "", UNREACHABLE, "nothing was audited"),
        ("", OFFLINE, UNREACHABLE, "cannot be reached: requests.exceptions.ConnectionError: HTTPSConnectionPool"),
        ("", MALFORMED, REFUSED, "pip-audit failed: ERROR:pip_audit._cli:requirement file x.txt contains invalid"),
        ("", "", REFUSED, "it said nothing"),
    ],
    ids=["clean", "flawed", "none known", "some unknown", "empty", "offline", "malformed", "silent"],
)
def test_each_end_has_a_status_of_its_own(output: str, errors: str, status: int, said: str) -> None:
    ended, text = verdict(output, errors)

    assert ended == status
    assert said in text
