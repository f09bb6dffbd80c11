# SPDX-License-Identifier: Apache-2.0
"""An inference run as it is asked for: everything that can be wrong is looked at, and the run is planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.hooks.spark_cluster import SparkClusterHook
from airflow_onnx_provider.hooks.spark_submit import find_spark_submit, require_java
from airflow_onnx_provider.operators.submitting import spark_properties
from airflow_onnx_provider.partition import partition_of
from airflow_onnx_provider.runtime.cpu import cpu_type
from airflow_onnx_provider.runtime.manifest import ModelManifest, require_scorable, size_of
from airflow_onnx_provider.runtime.profile import ExecutionProfile, profile_of
from airflow_onnx_provider.spark.layout import OutputLayout, local_path
from airflow_onnx_provider.spark.plan import ClusterFacts, InputFacts, ModelFacts, Plan, hand_set_of, plan
from airflow_onnx_provider.spark.settings import JobSettings
from airflow_onnx_provider.spark.sources import Source

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_onnx_provider.operators.spark_inference import OnnxSparkInferenceOperator


@dataclass(frozen=True)
class InferenceRequest:
    """What is to be scored, by which model, where, and how.

    :param address: of the model version
    :param folder: where that lies on this machine
    :param manifest: of the model version
    :param catalog: folder with ``ds=<partition>`` below it
    :param partition: of the data
    :param source: where the day's rows are
    :param layout: of the output folder
    :param cluster: what was free when it was asked
    :param profile: how the model runs
    :param plan: all values, with their reasons
    """

    address: str
    folder: Path
    manifest: ModelManifest
    catalog: Path
    partition: str
    source: Source
    layout: OutputLayout
    cluster: ClusterFacts
    profile: ExecutionProfile
    plan: Plan

    @classmethod
    def asked_by(
        cls,
        operator: OnnxSparkInferenceOperator,
        context: Context,
        source: Source,
        address: str,
        folder: Path,
        *,
        waiting: bool,
    ) -> InferenceRequest:
        """From an operator's rendered arguments.

        :param source: where the rows are
        :param address: of the model version, which lies in ``folder``
        :param waiting: for a job that runs already, so that what it holds of the cluster counts as free
        :raises OnnxProviderError: as :func:`cluster_for_job` and :meth:`of` do
        """
        cluster = cluster_for_job(operator.conn_id)
        return cls.of(
            address=address,
            folder=folder,
            catalog=local_path(operator.input_path, "input_path"),
            partition=partition_of(context, operator.partition),
            source=source,
            layout=OutputLayout(local_path(operator.output_path, "output_path")),
            cluster=cluster.when_idle() if waiting else cluster,
            profile=profile_of(operator.profile),
            sizing=operator.sizing or {},
            conf=spark_properties(operator),
        )

    @classmethod
    def of(
        cls,
        *,
        address: str,
        folder: Path,
        catalog: Path,
        partition: str,
        source: Source,
        layout: OutputLayout,
        cluster: ClusterFacts,
        profile: ExecutionProfile,
        sizing: Mapping[str, Any],
        conf: Mapping[str, str],
    ) -> InferenceRequest:
        """Look, before a JVM starts, at all that a run needs, and plan it.

        :param cluster: what it can give
        :param sizing: values that win over the planner's, by their names in the plan
        :param conf: Spark properties of the user, which win as well
        :raises BadInputError: naming what is missing, unusable or contradictory
        """
        manifest = ModelManifest.read(folder)
        require_scorable(manifest)
        if manifest.golden is None:
            raise BadInputError(f"{address} was never validated; put an OnnxValidateOperator before inference")
        listing = source.list_partition(catalog, partition)
        layout.require_writable()
        chosen = plan(
            ModelFacts.of(size_of(folder, manifest), manifest.best_speed(cpu_type())),
            cluster,
            InputFacts(rows=listing.rows, bytes=listing.bytes, files=listing.files, largest=listing.largest),
            profile,
            hand_set_of(sizing, conf),
            store_url=address if "://" in address else "",
        )
        return cls(address, folder, manifest, catalog, partition, source, layout, cluster, profile, chosen)

    def settings(self, run: str, **rest: Any) -> JobSettings:
        """What the job is told.

        :param run: the run's name
        :param rest: further fields of the settings
        """
        return JobSettings(
            run=run,
            partition=self.partition,
            input_path=str(self.catalog),
            output_path=str(self.layout.root),
            model={
                "model": self.address,
                "name": self.manifest.name,
                "version": self.manifest.version,
                "digest": self.manifest.digest,
                "size_bytes": size_of(self.folder, self.manifest),
            },
            plan=self.plan.to_dict(),
            profile=self.profile.to_dict(),
            source={"key": self.source.key, "input": self.source.input, "root": self.source.root},
            model_folder=str(self.folder) if self.plan["model_travels"] == "path" else None,
            **rest,
        )


def cluster_for_job(conn_id: str) -> ClusterFacts:
    """What the cluster can give now to a job that this machine submits.

    :param conn_id: Spark connection
    :raises BadInputError: if this machine has no spark-submit or no Java, or the connection is missing or unusable
    :raises OnnxProviderError: if the cluster does not answer, or takes no applications now
    """
    find_spark_submit()
    require_java()
    cluster = SparkClusterHook(conn_id).capacity()
    if not cluster.healthy:
        raise OnnxProviderError(f"{cluster.master} takes no applications now: {cluster.note}")
    return cluster
