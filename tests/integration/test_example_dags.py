# SPDX-License-Identifier: Apache-2.0
"""The example DAGs, one after the other on one home: what pages quote is run here, on real data and a real Spark."""

from __future__ import annotations

import email
import json
import re
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from airflow.dag_processing.dagbag import DagBag

import airflow_onnx_provider
from airflow_onnx_provider.model.mlflow_client import client_of
from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.provider_info import get_provider_info
from airflow_onnx_provider.runtime.manifest import MODEL_NAME
from airflow_onnx_provider.spark.history import last_move
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest
from demo.environment import DAGS, REPOSITORY, airflow_environment
from tests.conftest import COLOURS
from tests.integration.conftest import draw, draw_day
from tests.model.mlflow_server import QUIET, mlflow_server

MODEL = "catalog_classifier"
PAGES = sorted((REPOSITORY / "docs" / "operators").glob("*.md"))
FRAMEWORKS = {
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "pyspark",
    "pandas",
    "numpy",
    "pyarrow",
    "PIL",
    "mlflow",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, colour_model: str) -> Path:
    """Training data with an ONNX model as the trained one, four days of pictures, and an Airflow with its database."""
    home = tmp_path_factory.mktemp("examples")
    training = home / "training"
    labels = draw(training / "labelled", 40)
    lines = ["file,label", *(f"{file},{label}" for file, label in labels.items())]
    (training / "labelled" / "labels.csv").write_text("\n".join(lines) + "\n")
    draw(training / "calibration", 16)
    (training / "labels.txt").write_text("\n".join(COLOURS) + "\n")
    shutil.copy(Path(colour_model) / MODEL_NAME, training / "classifier.onnx")
    for day in range(1, 5):
        draw_day(home, f"2026-01-0{day}")
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, env=airflow_environment(home), check=True, capture_output=True)
    return home


@pytest.fixture(scope="module")
def store(home: Path) -> ModelStore:
    return ModelStore(home / "models")


@pytest.fixture(scope="module")
def layout(home: Path) -> OutputLayout:
    return OutputLayout(home / "predictions")


AIRFLOW = """
import json, sys
from airflow.__main__ import main
for dag_id, day, conf in json.loads(sys.argv[1]):
    sys.argv = ["airflow", "dags", "test", dag_id, day, "-c", json.dumps(conf)]
    main()
"""
"""`airflow dags test` for one DAG after the other; a process for each would spend most of its time with starting."""


def dags_test(home: Path, *runs: tuple[str, str, dict[str, Any]], **environment: str) -> str:
    """Run DAGs, each given by its id, its day and its conf; gives what they said."""
    done = subprocess.run(
        [sys.executable, "-c", AIRFLOW, json.dumps(runs)],
        env=airflow_environment(home, master="local[2]") | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def labels_of(folder: Path) -> dict[str, str]:
    return {row["key"]: row["label"] for row in pq.read_table(folder, columns=["key", "label"]).to_pylist()}


RIGHT = {f"p-{number:04d}.jpg": list(COLOURS)[number % len(COLOURS)] for number in range(40)}


@pytest.mark.spark
def test_a_trained_model_goes_to_production_once_it_has_passed_its_trial(
    home: Path, store: ModelStore, layout: OutputLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (layout.root / "_runs").mkdir(parents=True)
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    conf = {
        "model": f"{home}/training/classifier.onnx",
        "framework": "onnx",
        "quantization": "float16",
        "sparsity": 0.5,
        "stages": 2,
        "max_accuracy_drop": 0.3,
        "experiment": "catalog",
        "runs": str(layout.root),
    }
    with mlflow_server(tmp_path) as server:
        said = dags_test(
            home,
            ("model_to_candidate", "2026-01-01", conf),
            ("candidate_to_production", "2026-01-01", {"since": "2026-01-01T00:00:00Z"}),
            MLFLOW_TRACKING_URI=server,
        )
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        registered = client_of().get_model_version_by_alias(MODEL, "candidate")

    candidate = Aliases(store, MODEL).version("candidate")
    assert candidate is not None
    manifest = store.manifest(f"{store.root}/{MODEL}/{candidate}")
    assert {speed["batch"] for speed in manifest.speed} == {1, 4, 8, 16}
    assert (store.root / MODEL / candidate / "card.html").is_file()
    assert registered.tags["onnx.digest"] == manifest.digest
    assert pruned(store) in store.versions(MODEL)
    assert {f"{MODEL}.stage-{number}-of-2" for number in (1, 2)} <= set(store.names())
    assert f"{candidate} stays: " in said, "the collection says why"

    assert Aliases(store, MODEL).version("production") == candidate
    trial = OutputLayout(home / "trials").published("2026-01-01")
    assert labels_of(trial) == RIGHT
    assert RunManifest.read(trial / "_run.json").model["version"] == candidate
    assert not (home / "predictions" / "ds=2026-01-01").exists(), "readers see nothing of the trial"


def pruned(store: ModelStore) -> str:
    recipes = {version: store.manifest(f"{store.root}/{MODEL}/{version}").recipe for version in store.versions(MODEL)}
    (found,) = [version for version, recipe in recipes.items() if recipe.get("stage") == "prune"]
    return found


@pytest.mark.spark
def test_a_day_step_by_step_and_a_mail_about_its_quarantine(home: Path, layout: OutputLayout) -> None:
    with mailbox() as (port, mails):
        extra = {"from_email": "airflow@example.com", "disable_ssl": True, "disable_tls": True}
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
        dags_test(
            home,
            ("catalog_day_step_by_step", "2026-01-02", {}),
            CATALOG_MAIL="team@example.com",
            AIRFLOW_CONN_SMTP_DEFAULT=json.dumps(connection),
        )

    published = layout.published("2026-01-02")
    manifest = RunManifest.read(published / "_run.json")
    assert labels_of(published) == RIGHT
    assert (manifest.rows_in, manifest.predicted, manifest.quarantined_rows) == (41, 40, 1)
    (slots,) = [one for one in manifest.plan["decisions"] if one["name"] == "slots"]
    assert (slots["value"], slots["reason"][:11]) == (1, "set by hand"), "half of local[2]"
    assert "top_k" in pq.read_schema(next(published.glob("*.parquet"))).names
    assert layout.report(manifest.run).is_file()
    assert f'version="{manifest.model["version"]}"' in (home / "metrics" / "catalog.prom").read_text()
    (mail,) = mails
    assert mail["To"] == "team@example.com"
    assert "RAISED quarantine_rate: 0.02439, threshold 0.02" in body(mail)


@pytest.mark.spark
def test_a_day_is_repaired_and_taken_back(home: Path, layout: OutputLayout) -> None:
    published, day = layout.published("2026-01-02"), {"partition": "2026-01-02"}
    before = contents(published)
    repaired = home / "repaired"
    draw(repaired, 1)
    (repaired / "p-0000.jpg").rename(repaired / "x-0.jpg")

    dags_test(
        home,
        ("repair_catalog_day", "2026-01-20", {**day, "repaired": str(repaired)}),
        ("rollback_catalog_day", "2026-01-20", {**day, "reason": "the picture is not ours"}),
    )

    assert contents(published) == before
    last = last_move(layout, "2026-01-02")
    assert last is not None
    assert last.reason == "the picture is not ours"
    left = layout.history("2026-01-02", str(last.replaced))
    assert labels_of(left) == {**RIGHT, "x-0.jpg": "red"}
    manifest = RunManifest.read(layout.run_manifest(str(last.replaced)))
    assert (manifest.rows_in, manifest.carried, manifest.quarantined_rows) == (41, 40, 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.spark
def test_several_days_get_one_model_and_production_goes_back(
    home: Path, store: ModelStore, layout: OutputLayout
) -> None:
    aliases = Aliases(store, MODEL)
    good, bad = aliases.version("production"), pruned(store)
    aliases.point("production", bad, by="somebody")

    days = {"first": "2026-01-03", "last": "2026-01-04", "model": f"{store.root}/{MODEL}@candidate"}
    dags_test(
        home,
        ("several_catalog_days", "2026-01-20", days),
        ("rollback_model", "2026-01-20", {"expected": bad, "reason": "it calls grey red"}),
    )

    runs = [RunManifest.read(layout.published(day) / "_run.json") for day in ("2026-01-03", "2026-01-04")]
    assert [(run.partition, run.predicted, run.quarantined_rows, run.model["version"]) for run in runs] == [
        ("2026-01-03", 40, 1, good),
        ("2026-01-04", 40, 1, good),
    ]
    last = aliases.last("production")
    assert last is not None
    assert (last.version, last.previous, last.reason) == (good, bad, "it calls grey red")


@contextmanager
def mailbox() -> Iterator[tuple[int, list[email.message.Message]]]:
    """A stand-in for a mail server: its port, and what it was sent."""
    got: list[email.message.Message] = []

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 mailbox\r\n")
            while line := self.rfile.readline().strip().upper():
                if line == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    got.append(email.message_from_bytes(b"".join(iter(self.rfile.readline, b".\r\n"))))
                self.wfile.write(b"221 bye\r\n" if line == b"QUIT" else b"250 good\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1], got
        server.shutdown()


def body(mail: email.message.Message) -> str:
    return "".join(part.get_payload(decode=True).decode() for part in mail.walk() if not part.is_multipart())


def test_they_import_no_framework() -> None:
    code = (
        "import json, runpy, sys\nfor path in sys.argv[1:]: runpy.run_path(path)\nprint(json.dumps(list(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *map(str, DAGS.glob("*.py"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "airflow_onnx_provider.operators.spark_inference" in loaded
    assert FRAMEWORKS.isdisjoint(loaded)


def test_each_tells_what_it_does_and_what_its_fields_mean() -> None:
    bag = DagBag(DAGS)
    assert bag.import_errors == {}
    assert sorted(bag.dags) == sorted(path.stem for path in DAGS.glob("*.py"))
    for dag in bag.dags.values():
        assert (dag.doc_md or "").startswith("### ")
        for name in dag.params:
            schema = dag.params.get_param(name).schema
            assert schema.get("title"), f"{dag.dag_id}: {name}"
            assert dag.params.get_param(name).description, f"{dag.dag_id}: {name}"


QUOTE = re.compile(
    r"```\{literalinclude\} (?P<file>\S+)\n(?:(?!```).*\n)*?:start-after: \"\[START (?P<start>\w+)\]\"\n"
    r":end-before: \"\[END (?P<end>\w+)\]\"\n",
)
REGION = re.compile(r"# \[START (\w+)\]\n(.*?)# \[END \1\]", re.DOTALL)

USED = [name for name in airflow_onnx_provider.__all__ if re.search(r"(Operator|Sensor|Hook|Notifier)$", name)]
ELSEWHERE = {"plan_only": "dry_run"}
"""Fields of another name than their argument, as every operator has a method of that name."""


def regions() -> dict[tuple[Path, str], str]:
    return {(path, name): code for path in DAGS.glob("*.py") for name, code in REGION.findall(path.read_text())}


def quoted(page: Path, text: str) -> dict[tuple[Path, str], str]:
    """The regions that a page's text quotes."""
    known, found = regions(), list(QUOTE.finditer(text))
    assert text.count("{literalinclude}") == len(found), f"{page.name}: a quote in another form"
    assert all(match["start"] == match["end"] for match in found)
    keys = [((page.parent / match["file"]).resolve(), match["start"]) for match in found]
    return {key: known[key] for key in keys}


def section_of(name: str) -> tuple[str, Path]:
    """The text below the heading of that name, up to the next one of its rank."""
    for page in PAGES:
        for part in re.split(r"^(?=## )", page.read_text(), flags=re.MULTILINE):
            if part.startswith("## ") and f"`{name}`" in part.partition("\n")[0]:
                return part, page
    raise AssertionError(f"no page below docs/operators has a section on {name}")


def test_every_region_is_on_a_page() -> None:
    assert set(regions()) == {key for page in PAGES for key in quoted(page, page.read_text())}


@pytest.mark.parametrize("name", [*USED, "onnx_batch_inference"])
def test_each_has_a_section_with_a_quote_of_its_use(name: str) -> None:
    section, page = section_of(name)
    assert any(f"{name}(" in code for code in quoted(page, section).values())
    assert "**What can go wrong**" in section
    assert f"`{name}`" in (page.parent / "index.md").read_text()


@pytest.mark.parametrize("name", [name for name in USED if name.endswith(("Operator", "Sensor"))])
def test_each_section_names_the_fields_that_are_templated(name: str) -> None:
    operator = getattr(airflow_onnx_provider, name)
    inherited = {field for base in operator.__bases__ for field in getattr(base, "template_fields", ())}
    own = set(operator.template_fields) - inherited
    named = re.search(r"^\*\*Templated\*\*: (.*?)\n\n", section_of(name)[0], re.MULTILINE | re.DOTALL)
    assert named is not None
    assert set(re.findall(r"`([a-z_]+)`", named[1])) == {ELSEWHERE.get(field, field) for field in own}


@pytest.mark.parametrize("path", get_provider_info()["extra-links"])
def test_each_link_has_a_section(path: str) -> None:
    section, page = section_of(path.rpartition(".")[2])
    assert quoted(page, section)
