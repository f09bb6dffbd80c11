# SPDX-License-Identifier: Apache-2.0
"""Audit the pinned versions against the published advisories; ``python release/audit.py [FILE]``.

It ends with 0: all were audited, and no advisory names one; 1: advisories, which are listed; 2: pip-audit refused its
input; 3: the advisories of all, or of the ones that are named, could not be reached, so that nothing is known of them.
pip-audit alone ends with 0 there, too.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

CLEAN, VULNERABLE, REFUSED, UNREACHABLE = 0, 1, 2, 3
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"
OFFLINE = re.compile(r"requests\.exceptions\.|ConnectionError|ServiceError|Could not connect")
"""How pip-audit says that a service does not answer: mostly by a traceback."""
NAMED = 10
"""So many names of distributions that were not audited are told."""


def verdict(output: str, errors: str = "") -> tuple[int, str]:
    """What pip-audit found, as an exit status and the lines to print.

    :param output: what it wrote with ``--format json``; no JSON: it failed
    :param errors: what it wrote beside that; its last line says why it failed
    """
    try:
        found = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        if OFFLINE.search(errors):
            return (
                UNREACHABLE,
                f"nothing was audited, the advisories cannot be reached: {errors.splitlines()[-1][:300]}",
            )
        said = [line for line in errors.splitlines() if line.startswith("ERROR")] or errors.splitlines()[-1:]
        return REFUSED, f"nothing was audited, pip-audit failed: {' '.join(said) or 'it said nothing'}"
    listed = [
        f"{one['name']} {one['version']}: {flaw['id']}{_mended(flaw.get('fix_versions') or [])}"
        for one in found
        for flaw in one.get("vulns", ())
    ]
    left = [one["name"] for one in found if "skip_reason" in one]
    if listed:
        return VULNERABLE, "\n".join(listed)
    if not found or len(left) == len(found):
        return UNREACHABLE, f"nothing was audited, the advisories cannot be reached for any of {len(found)} versions"
    if left:
        names = ", ".join(left[:NAMED]) + (", …" if len(left) > NAMED else "")
        return UNREACHABLE, f"{len(left)} of {len(found)} versions were not audited: {names}"
    return CLEAN, f"{len(found)} versions audited, no advisory names one"


def _mended(versions: list[str]) -> str:
    return f" (mended in {', '.join(versions)})" if versions else " (no version mends it)"


def main(arguments: list[str]) -> int:
    """Run pip-audit and say what it found."""
    path = Path(arguments[0]) if arguments else CONSTRAINTS
    command = [sys.executable, "-m", "pip_audit", "-r", path, "--no-deps", "--disable-pip", "--format", "json"]
    command += ["--progress-spinner", "off", "--desc", "off"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    status, text = verdict(done.stdout, done.stderr)
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
