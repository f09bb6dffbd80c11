# SPDX-License-Identifier: Apache-2.0
"""Operator: log a model version to MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.mlflow import mlflow_environment
from airflow_onnx_provider.hooks.model_store import open_version
from airflow_onnx_provider.operators.model import ModelReference, address_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxMlflowLogOperator(BaseOperator):
    """Log a version, its parameters and what was measured to an MLflow server, and register it if asked.

    The same version is logged once: a later try finds the run by the version's digest and adds what has become known
    since. Needs the extra ``mlflow``.

    Returns ``model``, ``name``, ``version``, ``digest``, ``run_id``, ``model_uri``, ``registered``, ``model_version``,
    ``alias``, ``run_url``, ``new``.

    Fails without retry if the version, the experiment or the connection will not do; a server that cannot be reached
    is tried again.

    :param model: address (an alias is resolved once), or a model task's output. (templated)
    :param experiment: name of the MLflow experiment; it is made if there is none. (templated)
    :param register_as: ``<name>`` of a registered model that gets the version, or ``<name>@<alias>`` to point the
        alias to it, too. (templated)
    :param mlflow_conn_id: connection of the type ``http`` with the server's address and credentials; default: MLflow's
        own environment variables, such as ``MLFLOW_TRACKING_URI``. (templated)
    """

    template_fields: Sequence[str] = ("model", "experiment", "register_as", "mlflow_conn_id")

    def __init__(
        self,
        *,
        model: ModelReference,
        experiment: str,
        register_as: str | None = None,
        mlflow_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.experiment = experiment
        self.register_as = register_as
        self.mlflow_conn_id = mlflow_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Log, or find it logged."""
        from airflow_onnx_provider.model.mlflow import log_version

        with no_retry_for_bad_input(), mlflow_environment(self.mlflow_conn_id or None) as server:
            if not server:
                raise BadInputError("no MLflow server is named: give mlflow_conn_id, or set MLFLOW_TRACKING_URI")
            store, address = open_version(address_of(self.model))
            manifest = store.manifest(address)
            logged = log_version(store, address, server, self.experiment, self.register_as or None)
        self.log.info("%s %s is run %s", manifest.name, manifest.version, logged["run_url"] or logged["run_id"])
        return {
            "model": address,
            "name": manifest.name,
            "version": manifest.version,
            "digest": manifest.digest,
            **logged,
        }
