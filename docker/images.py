# SPDX-License-Identifier: Apache-2.0
"""Builds the images with buildah, without a container engine, and runs the demo's day inside them.

``python3 docker/images.py --help``. A base image that cannot be pulled is replaced by a stand-in of the same shape,
made from Debian packages. Spark's master and two workers run from the Spark image, Airflow from its own as its own
user, all on this machine's loopback; the day's books are read from the published run manifest. Everything lies below
``.images/`` and is removed at the end.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".images"
DAY = "2026-01-01"
DAG = "catalog_image_classification"
MARK = f"IMAGES_RUN={os.getpid()}"
AIRFLOW_USER = "50000:0"
NEEDED = {"buildah": "buildah", "debootstrap": "debootstrap"}
STAND_IN = {
    "release": "bookworm",
    "packages": "ca-certificates,curl,dumb-init,netcat-openbsd,python3-pip,python3-venv",
}
# What Python's own and Airflow's own images have and a bare Debian has not.
AS_PYTHON = """
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED /var/cache/apt/archives/*.deb
ln -s python3 /usr/bin/python
echo 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };' > /etc/apt/apt.conf.d/docker-clean
"""
AS_AIRFLOW = """
useradd --uid 50000 --gid 0 --create-home --shell /bin/bash airflow
chmod g=u /etc/passwd /home/airflow
python3 -m venv /home/airflow/.local
install -d -o airflow -g 0 -m 775 /opt/airflow /opt/airflow/dags /opt/airflow/logs
chown -R airflow:0 /home/airflow
cat > /entrypoint <<'END'
#!/bin/bash
umask 0002
case ${1:-} in bash|python|airflow) exec "$@" ;; *) exec airflow "$@" ;; esac
END
chmod 755 /entrypoint
"""


def main() -> None:
    """Build, run, tell, clean up."""
    options = arguments()
    require_tools()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    started = time.monotonic()
    HOME.mkdir(exist_ok=True)
    (HOME / ".gitignore").write_text("*\n")
    try:
        airflow, spark = build_all(options)
        if not options.no_run:
            run_day(airflow, spark, options.pictures)
        print(f"\n{sizes()}\n{time.monotonic() - started:.0f} s in all", flush=True)
    finally:
        end_all()
        if not options.keep:
            clean_up()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--airflow-base", help="BASE of the Airflow image; default: the Dockerfile's, else a stand-in")
    parser.add_argument("--spark-base", help="BASE of the Spark images; likewise")
    parser.add_argument("--gpu", action="store_true", help="build the GPU image too: some 5 GB, and not run here")
    parser.add_argument("--no-run", action="store_true", help="only build")
    parser.add_argument("--keep", action="store_true", help="leave .images/ as it is, for a look at it or a next time")
    parser.add_argument("--pictures", type=int, default=1200, help="of the day (%(default)s)")
    return parser.parse_args()


def require_tools() -> None:
    """Root is needed for chroot isolation and debootstrap."""
    missing = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    if missing:
        sys.exit(f"The images are built with {' and '.join(missing)}: sudo apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        sys.exit("The images are built in a chroot, which only root may enter: sudo python3 docker/images.py")


# Building


def build_all(options: argparse.Namespace) -> tuple[str, str]:
    """Build the images; gives the names of Airflow's and of Spark's for CPUs."""
    airflow_base = base_of("airflow", options.airflow_base)
    spark_base = base_of("spark", options.spark_base)
    airflow = build("airflow", "airflow-onnx", airflow_base)
    spark = build("spark", "spark-onnx", spark_base)
    if options.gpu:
        build("spark", "spark-onnx-gpu", spark_base, "EXTRA=gpu")
    return airflow, spark


def base_of(image: str, given: str | None) -> str:
    """The base that was given, or the Dockerfile's own; a stand-in for the latter if it cannot be pulled."""
    dockerfile = (ROOT / "docker" / image / "Dockerfile").read_text()
    own = str(re.search(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE)[1])  # type: ignore[index]
    address = given or f"docker.io/{own if '/' in own else f'library/{own}'}"
    if buildah("pull", "--quiet", address, check=False) is not None:
        return address
    if given:
        sys.exit(f"{given} cannot be pulled")
    say(f"{own} cannot be pulled: a stand-in made from Debian packages takes its place")
    return stand_in(image)


@cache
def stand_in(image: str) -> str:
    """A base with Debian's Python in the shape of Python's own slim image, or of Airflow's."""
    name = f"localhost/stand-in-{image}"
    if exists(name):
        return name
    if image == "airflow":
        container = text("from", stand_in("spark"))
        inside(container, "sh", "-ec", AS_AIRFLOW)
        path = "/home/airflow/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        settings = ["--user", "airflow", "--env", f"PATH={path}", "--env", "AIRFLOW_HOME=/opt/airflow"]
        buildah("config", *settings, "--workingdir", "/opt/airflow", "--entrypoint", '["/entrypoint"]', container)
    else:
        tree = HOME / "debian"
        given = ["--variant=minbase", f"--include={STAND_IN['packages']}", STAND_IN["release"]]
        logged("debootstrap", "debootstrap", *given, str(tree))
        container = text("from", "scratch")
        buildah("copy", "--quiet", container, str(tree), "/")
        shutil.rmtree(tree)
        inside(container, "sh", "-ec", AS_PYTHON)
    buildah("commit", "--quiet", "--rm", container, name)
    return name


def build(image: str, name: str, base: str, *build_arguments: str) -> str:
    """One image from its Dockerfile, in Docker's format, which knows health checks."""
    if exists(name):
        return name
    started = time.monotonic()
    given = [word for one in (f"BASE={base}", *build_arguments) for word in ("--build-arg", one)]
    folder = ROOT / "docker" / image
    where = ["--file", str(folder / "Dockerfile"), "--ignorefile", str(folder / "Dockerfile.dockerignore")]
    whole = ["--layers=false", "--format", "docker", "--pull-never", *where, "--tag", name, *given, *host_settings()]
    logged(name, *buildah_command("build", *whole, str(ROOT)))
    say(f"{name} built on {base} in {time.monotonic() - started:.0f} s")
    return name


@cache
def host_settings() -> tuple[str, ...]:
    """How pip and apt reach their registries from here, mounted into the build and no part of the image."""
    found = said_by(sys.executable, "-m", "pip", "config", "list")
    lines: dict[str, str] = {}
    mounts: dict[Path, str] = {}
    for key, written in re.findall(r"^(\S+?)='(.*)'$", found, re.MULTILINE):
        value = ast.literal_eval(f"'{written}'")
        for path in map(Path, re.findall(r"(?:file://)?(/[^\s,]+)", value)):
            if path.is_file():
                mounts[path] = f"/mnt/host/{path.name}"
                value = value.replace(str(path), mounts[path])
            elif path.is_dir():
                whole = path.parent if path.name == "simple" else path  # an index, with its files beside it
                mounts[whole] = str(whole)
        lines[key.rpartition(".")[2]] = value
    apt = said_by("apt-config", "dump")
    files = {
        "pip.conf": ("/etc/pip.conf", "[global]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())),
        "apt.conf": ("/etc/apt/apt.conf.d/99host", "".join(re.findall(r"^Acquire::https?::.*\n", apt, re.MULTILINE))),
    }
    for name, (target, content) in files.items():
        (HOME / name).write_text(content)
        mounts[HOME / name] = target
    return tuple(f"--volume={source}:{target}:ro" for source, target in mounts.items())


# The day


def run_day(airflow: str, spark: str, pictures: int) -> None:
    """The demo's day in the images, on a cluster of the Spark image."""
    data = HOME / "data"
    data.mkdir()
    os.chown(data, 50000, 0)
    data.chmod(0o2775)
    seen = [f"--volume={data}:/data", f"--volume={ROOT / 'demo'}:/opt/demo/demo:ro", "--workingdir=/opt/demo"]
    container = text("from", "--pull-never", airflow)
    with cluster(spark, data) as (master, page):
        spark_cluster = {"conn_type": "spark_cluster", "host": "spark://127.0.0.1", "port": master}
        store = {"conn_type": "onnx_model_store", "extra": {"root": "/data/models"}}
        settings = {
            "AIRFLOW__CORE__DAGS_FOLDER": example_dags(container),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(spark_cluster | {"extra": {"web_address": page}}),
            "AIRFLOW_CONN_ONNX_MODEL_STORE_DEFAULT": json.dumps(store),
            "CATALOG_HOME": "/data",
        }
        where = [*seen, f"--user={AIRFLOW_USER}", *(f"--env={key}={value}" for key, value in settings.items())]
        for command in (
            ["python", "-m", "demo.train", "--out", "/data/training"],
            ["python", "-m", "demo.catalog", "--out", "/data/catalog", "--day", DAY, "--pictures", str(pictures)],
            ["airflow", "db", "migrate"],
            ["airflow", "dags", "test", DAG, DAY],
        ):
            say(" ".join(command))
            started = time.monotonic()
            run = buildah_command("run", *where, container, "--", "/entrypoint", *command)
            logged(f"{command[0]}-{command[2]}", *run)
            print(f"   {time.monotonic() - started:.0f} s", flush=True)
        on_cluster = applications(page)
        print(inside(container, "python", "-m", "demo.summary", "--home", "/data", "--partition", DAY, options=where))
    balance(data / "predictions" / f"ds={DAY}" / "_run.json", on_cluster)


def example_dags(container: str) -> str:
    """Where the wheel put the example DAGs."""
    find = "import importlib.util as u; print(u.find_spec('airflow_onnx_provider').submodule_search_locations[0])"
    return f"{(inside(container, 'python', '-c', find) or '').strip()}/example_dags"


@contextlib.contextmanager
def cluster(image: str, data: Path) -> Iterator[tuple[int, str]]:
    """A master and two workers of the image; gives the master's port and its page."""
    port, page, *pages = free_ports(4)
    container = text("from", "--pull-never", image)
    address = f"http://127.0.0.1:{page}"
    with contextlib.ExitStack() as stack:

        def role(name: str, *command: str, **variables: Any) -> None:
            given = [f"--env={key}={value}" for key, value in {"SPARK_DAEMON_MEMORY": "256m", **variables}.items()]
            where = [f"--volume={data}:/data", f"--user={AIRFLOW_USER}", *given]
            whole = buildah_command("run", *where, container, "--", "/opt/entrypoint.sh", *command)
            stack.enter_context(running(name, *whole))
            check = ["/opt/health.py", command[0]]
            wait_for(name, lambda: inside(container, *check, options=given, check=False) is not None)

        role("spark-master", "master", "--host", "127.0.0.1", "--port", str(port), SPARK_MASTER_WEBUI_PORT=page)
        for number, its_page in enumerate(pages, 1):
            work = f"/opt/spark/work-dir/worker-{number}"
            size = ["--cores", "1", "--memory", "2g", "--work-dir", work]
            # An address of its own, as on a machine of its own.
            its = {"SPARK_WORKER_WEBUI_PORT": its_page, "SPARK_LOCAL_IP": f"127.0.0.{number + 1}"}
            role(f"spark-worker-{number}", "worker", *size, f"spark://127.0.0.1:{port}", **its)
        say(f"Spark from {image}: a master and {len(pages)} workers at {address}")
        yield port, address


def applications(page: str) -> list[str]:
    """What the master says of the applications that it had."""
    connection = http.client.HTTPConnection(page.removeprefix("http://"), timeout=10)
    connection.request("GET", "/json/")
    said = json.load(connection.getresponse())
    return [f"{one['name']}: {one['state']}" for one in (*said["activeapps"], *said["completedapps"])]


def balance(manifest: Path, on_cluster: list[str]) -> None:
    """Rows in = rows predicted + rows quarantined, in the published manifest, and the cluster did it."""
    run = json.loads(manifest.read_text())
    rows, predicted, quarantined = run["rows_in"], run["predicted"], sum(run["quarantined"].values())
    if rows != predicted + quarantined or not predicted:
        sys.exit(f"The books do not balance: {rows} rows in, {predicted} predicted, {quarantined} quarantined")
    if not on_cluster or not all(state.endswith("FINISHED") for state in on_cluster):
        sys.exit(f"The cluster did not finish the day: {on_cluster or 'it had no application'}")
    say(f"books balanced: {rows} rows in = {predicted} predicted + {quarantined} quarantined")
    say(f"on the cluster: {'; '.join(on_cluster)}")


# buildah


def buildah_command(verb: str, *given: str) -> list[str]:
    """The command line, with a storage of its own."""
    isolation = ["--isolation", "chroot"] if verb in {"build", "run", "from"} else []
    # A name that this machine's loopback knows, and a mark by which what was started is found again.
    known = ["--hostname", "localhost", "--env", MARK] if verb == "run" else []
    return ["buildah", *store(driver()), verb, *isolation, *known, *given]


def store(driver: str) -> list[str]:
    """Where images and containers lie."""
    return ["--root", str(HOME / "storage"), "--runroot", str(HOME / "run"), "--storage-driver", driver]


@cache
def driver() -> str:
    """Layers lie above each other if this kernel lets us mount them so; else each is a copy of all below it."""
    trial = ["sh", "-c", 'container=$("$@" from scratch) && "$@" mount "$container" && "$@" rm "$container"', "trial"]
    done = subprocess.run([*trial, "buildah", *store("overlay")], capture_output=True, check=False)
    return os.environ.get("STORAGE_DRIVER") or ("overlay" if done.returncode == 0 else "vfs")


def buildah(verb: str, *given: str, check: bool = True) -> str | None:
    """What it printed; None if it failed and that is allowed."""
    done = subprocess.run(buildah_command(verb, *given), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    if check:
        sys.exit(f"buildah {verb} {' '.join(given)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return None


def text(verb: str, *given: str) -> str:
    """Its one word of answer."""
    return (buildah(verb, *given) or "").strip()


def inside(container: str, *command: str, options: list[str] | None = None, check: bool = True) -> str | None:
    """Run a command in a container."""
    return buildah("run", *(options or []), container, "--", *command, check=check)


def exists(name: str) -> bool:
    """Whether the image is in the storage."""
    return buildah("inspect", "--type", "image", name, check=False) is not None


def sizes() -> str:
    """The images and how large they are."""
    return (buildah("images", "--format", "{{.Name}}  {{.Size}}") or "").replace("localhost/", "").strip()


def clean_up() -> None:
    """Remove all containers, images and data."""
    buildah("rm", "--all", check=False)
    shutil.rmtree(HOME, ignore_errors=True)


# Processes


def say(line: str) -> None:
    print(f"== {line}", flush=True)


def said_by(*command: str) -> str:
    """What a program prints; nothing if it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def logged(name: str, *command: str) -> None:
    """Run a command with its output in a file; show the file's end if it fails."""
    log = HOME / f"{name}.log"
    with log.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:1])} failed ({name}):\n{log.read_text()[-4000:]}")


@contextlib.contextmanager
def running(name: str, *command: str) -> Iterator[None]:
    """A process beside this one until the block ends; what it started in a container does not end with it by itself."""
    with (HOME / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        end_all()
        process.wait()


def end_all() -> None:
    """End every process that was started in a container by this one."""
    for sign, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
        deadline = time.monotonic() + patience
        while (left := marked()) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, sign)
            time.sleep(0.5)


def marked() -> list[int]:
    """Living processes with this run's mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if MARK.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def wait_for(name: str, well: Any, seconds: float = 60) -> None:
    """Until its health check passes."""
    deadline = time.monotonic() + seconds
    while not well():
        if time.monotonic() > deadline:
            sys.exit(f"{name} is not healthy after {seconds:.0f} s:\n{(HOME / f'{name}.log').read_text()[-2000:]}")
        time.sleep(2)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    main()
