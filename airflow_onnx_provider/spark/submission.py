"""The files and properties that one spark-submit needs."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from airflow_onnx_provider.bundle import write_bundle
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME, ModelManifest
from airflow_onnx_provider.spark.settings import MODEL_ARCHIVE, JobSettings

MAIN = """from airflow_onnx_provider.spark.job import main

main()
"""

# Spark logs a screenful of INFO lines a second; a person on call needs warnings and what the job itself says.
LOG4J2 = """rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %p %c{1}: %m%n
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
logger.loopback.name = org.apache.spark.util.Utils
logger.loopback.level = error
"""


SERIAL_GC = "-XX:+UseSerialGC"
"""The JVM only moves keys and labels here; its parallel collectors would take the cores from the Python workers."""


@dataclass(frozen=True)
class Submission:
    """What spark-submit is called with.

    :param application: the driver's main
    :param py_files: the package's Spark floors as a zip
    :param archives: the model version, unpacked as :data:`MODEL_ARCHIVE` on the driver and each executor
    :param arguments: of the application
    :param conf: Spark properties
    """

    application: str
    py_files: str
    archives: str
    arguments: tuple[str, ...]
    conf: Mapping[str, str]


def prepare(
    work: Path,
    settings: JobSettings,
    *,
    model_folder: Path,
    plan_conf: Mapping[str, str],
    python: str | None,
    master: str,
    deploy_mode: str,
    hand_set: Mapping[str, str],
) -> Submission:
    """Write the files into ``work`` and collect the properties.

    :param work: a folder that lives as long as the job
    :param model_folder: a model version on this machine
    :param python: interpreter on the executors, None for the cluster's own (locally: this one)
    :param master: the master's URL
    :param deploy_mode: ``client`` if the driver runs here, ``cluster`` if it cannot see this machine's files
    :param hand_set: Spark properties of the user, which win
    """
    main = work / "catalog_inference.py"
    main.write_text(MAIN)
    log4j2 = work / "log4j2.properties"
    log4j2.write_text(LOG4J2)
    archive = _zip_model(work / "model.zip", model_folder)
    conf = {
        **plan_conf,
        "spark.executorEnv.ORT_DISABLE_TELEMETRY": "1",
        "spark.executorEnv.OMP_NUM_THREADS": "1",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.ui.showConsoleProgress": "false",
    }
    if deploy_mode == "client":
        conf["spark.pyspark.driver.python"] = sys.executable
    if python is not None or master.startswith("local"):
        conf["spark.pyspark.python"] = python or sys.executable
    conf |= hand_set
    conf.setdefault("spark.driver.extraJavaOptions", SERIAL_GC)
    conf.setdefault("spark.executor.extraJavaOptions", SERIAL_GC)
    if deploy_mode == "client":
        conf["spark.driver.extraJavaOptions"] += f" -Dlog4j2.configurationFile={log4j2.as_uri()}"
    return Submission(
        application=str(main),
        py_files=str(write_bundle(work / "airflow_onnx_provider.zip", ("runtime", "spark"))),
        archives=f"{archive}#{MODEL_ARCHIVE}",
        arguments=(json.dumps(asdict(settings)),),
        conf=conf,
    )


def _zip_model(target: Path, folder: Path) -> Path:
    manifest = ModelManifest.read(folder)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for relative in [MANIFEST_NAME, *manifest.all_files]:
            archive.write(folder / relative, relative)
    return target
