# SPDX-License-Identifier: Apache-2.0
"""Commands of pages that cannot run in a test as they stand, and what is done in their place.

``docker``, ``helm``, ``kubectl``, ``apt-get`` and ``spark-class`` are stand-ins: they look at their arguments and at
the files that they are given, and do nothing. ``make`` is asked what it would do. ``pip`` and ``python -m venv`` are
done by uv: for real in an environment that the page has made, as a resolution without a download in the tests' own.
``airflow standalone`` runs until it answers.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

UV = Path(sys.executable).with_name("uv")
STATE = Path(os.environ["PAGE_STATE"])
VERBS = {
    "docker": {"build", "compose", "run", "exec", "ps", "logs", "pull", "push"},
    "helm": {"upgrade", "install", "repo", "template", "uninstall"},
    "kubectl": {"apply", "create", "delete", "get", "logs", "describe", "port-forward", "rollout"},
    "apt-get": {"update", "install"},
}


def main() -> int:
    name, *given = sys.argv[1:]
    beyond = [path for path in os.environ["PATH"].split(os.pathsep) if Path(path) != STATE / "bin"]
    if name == "sudo":
        return subprocess.call(given)
    if name == "make":
        return subprocess.call(["make", "--dry-run", *given], env={**os.environ, "PATH": os.pathsep.join(beyond)})
    if name in {"python", "python3"}:
        return python(given)
    if name == "pip":
        return pip(given, dry=True)
    if name == "airflow-standalone":
        return standalone(given[0])
    if name == "spark-class":
        look_at_spark(*given)
    else:
        look_at(name, given)
    print(f"{name}: a stand-in; the arguments and files are there and parse")
    return 0


def look_at(name: str, given: list[str]) -> None:
    """Is the verb known, are the files there, and are they YAML where they say so?"""
    words = [word for word in given if not word.startswith("-")]
    assert set(words[:1]) & VERBS[name], f"{name}: unknown verb in {given}"
    for flag, value in zip(given, [*given[1:], ""], strict=True):
        if flag in {"-f", "--file", "--filename", "--values"} and name != "apt-get":
            file = Path(value)
            assert file.is_file(), f"{name}: no file {value}"
            if file.suffix in {".yml", ".yaml"}:
                assert all(isinstance(part, dict) for part in yaml.safe_load_all(file.read_text()) if part is not None)
        if flag == "--build-arg":
            dockerfile = Path(given[given.index("-f") + 1]) if "-f" in given else Path(given[-1]) / "Dockerfile"
            assert re.search(rf"^ARG {value.partition('=')[0]}\b", dockerfile.read_text(), re.M), f"no ARG for {value}"
    if name == "docker" and words[0] == "build":
        assert Path(given[-1]).is_dir(), f"docker build: no folder {given[-1]}"
    if name == "docker" and words[0] == "compose":
        _, file, verb, *rest = words
        services = yaml.safe_load(Path(file).read_text())["services"]
        assert verb in {"up", "down", "ps", "logs", "exec", "build"}, f"docker compose: unknown verb {verb}"
        assert not rest or rest[0] in services, f"docker compose: no service {rest[0]}"


def look_at_spark(program: str, *given: str) -> None:
    """Is it a program of Spark's that takes these options? Its own usage text says so."""
    own = Path(sys.executable).parent
    path = f"{own}{os.pathsep}{os.environ['PATH']}"  # spark-class finds its Spark by the first python3 there
    command = [own / "spark-class", program, "--help"]
    asked = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    usage = asked.stdout + asked.stderr
    assert "Usage:" in usage, f"{program}: {usage}"
    unknown = [option for option in given if option.startswith("--") and option not in usage]
    assert not unknown, f"{program} does not know {unknown}"


def python(given: list[str]) -> int:
    """The page's Python; an environment that it makes is one of uv's, with a pip that is uv's."""
    if given[:2] == ["-m", "pip"]:
        return pip(given[2:], dry=True)
    if given[:2] != ["-m", "venv"]:
        real = os.environ["PAGE_PYTHON"]
        os.execv(real, [real, *given])  # noqa: S606
    made = Path(given[-1]).absolute()
    done = subprocess.call([UV, "venv", "--quiet", "--python", os.environ["PAGE_PYTHON"], made])
    wrapper = f'#!/bin/sh\nverb=$1; shift\nexec {UV} pip "$verb" --python {made}/bin/python "$@"\n'
    for pip_ in (made / "bin" / "pip", made / "bin" / "pip3"):
        pip_.write_text(wrapper)
        pip_.chmod(0o755)
    return done


def pip(given: list[str], *, dry: bool) -> int:
    """``pip install`` of the tests' own environment: resolved for real, nothing is changed."""
    assert given[0] == "install", f"pip {given[0]}: only install is known"
    return subprocess.call([UV, "pip", "install", "--dry-run", "--python", sys.executable, *given[1:]])


def standalone(airflow: str, seconds: int = 180) -> int:
    """Start ``airflow standalone``, wait until its API server says that all of it is healthy, and end it.

    By Ctrl-C, and what that leaves is killed: Airflow often waits for ever for one of its processes, as the page says.
    """
    sys.path.append(str(Path(__file__).parents[2]))  # here, because a page's commands must not find the checkout
    from demo import standalone as demo

    url = "http://localhost:{}/api/v2/monitor/health".format(os.environ.get("AIRFLOW__API__PORT", "8080"))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background ignore it
    with demo.standalone(os.environ, airflow=airflow) as process:
        for _ in range(seconds):
            time.sleep(1)
            assert process.poll() is None, "airflow standalone ended by itself"
            try:
                said = json.load(urllib.request.urlopen(url, timeout=2))  # noqa: S310
            except (urllib.error.URLError, OSError, ValueError):
                continue
            if all(
                (said[part] or {}).get("status") == "healthy" for part in ("scheduler", "dag_processor", "triggerer")
            ):
                return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
