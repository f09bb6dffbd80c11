# SPDX-License-Identifier: Apache-2.0
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import published_run
from airflow_onnx_provider.spark.run_manifest import RunManifest
from tests.docs.around import DATA, add_classifier, add_connections, add_pictures, picture

add_classifier()
add_connections()
day = DATA / "catalog" / "ds=2026-01-31"
add_pictures(day)
(day / "broken.png").write_bytes(b"no picture")
(DATA / "repaired").mkdir()
(DATA / "repaired" / "broken.png").write_bytes(picture(1))


def after() -> None:
    layout = OutputLayout(DATA / "predictions")
    run = published_run(layout, "2026-01-31")
    manifest = RunManifest.read(layout.run_manifest(run))
    assert (manifest.rows_in, manifest.predicted) == (25, 25)
    assert manifest.replays
