# SPDX-License-Identifier: Apache-2.0
"""Operator: a trained model to ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.mlflow import mlflow_environment
from airflow_onnx_provider.hooks.model_store import OnnxModelStoreHook
from airflow_onnx_provider.operators.model import StageMixin, read_labels

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxConvertOperator(StageMixin, BaseOperator):
    """Convert a trained model of any framework to ONNX and keep it in a model store.

    A classifier of pictures becomes ``image: uint8 [batch, height, width, 3]`` → ``scores: float [batch, classes]``;
    cast, scale and normalisation are folded in. Other models keep their named and typed inputs and outputs. Every
    graph is run at batch sizes 1, 2 and 5 before it is kept. A source whose digest and settings are known is answered
    from the store.

    Returns ``model`` (address), ``name``, ``version``, ``digest`` (sha256), ``size_bytes``, ``opset``, ``from_store``.

    Fails without retry for a source that is missing, cannot be opened safely, or has a part that ONNX cannot express
    (the message lists every operator).

    :param source: file or folder of the trained model, on this worker, or ``models:/name@alias``, ``models:/name/3`` or
        ``runs:/<run>/<path>`` on an MLflow server. (templated)
    :param framework: what wrote it: ``tensorflow`` (``.keras``, ``.h5``, SavedModel folder), ``torch`` (a state_dict
        with ``factory``, ``.pt2``, TorchScript), ``sklearn`` (``.skops``, ``.joblib``, ``.pkl``), ``xgboost``
        (``.json``, ``.ubj``), ``lightgbm`` (``.txt``) or ``onnx``; a registered model says it itself. (templated)
    :param name: the model's name in the store. (templated)
    :param store: connection id of the type ``onnx_model_store``. (templated)
    :param preprocessing: ``height``, ``width`` (pixels; default: what the model takes), ``resize`` (``stretch`` or
        ``crop``), ``scale``, ``mean``, ``std`` as in ``ImagePreprocessing``; ``{"kind": "tokens", "input_ids": …}`` for
        token ids; ``{"kind": "columns"}`` for a model that takes pictures' shape but no pictures. (templated)
    :param labels: class names in output order, or a text file with one a line; default: those of a scikit-learn
        classifier, else none. (templated)
    :param inputs: for sources that do not say what they take, name to ``{"type": "float", "shape": ["batch", 10]}``; a
        name stands for an axis that varies. PyTorch gets them in this order. (templated)
    :param factory: ``package.module:function`` that gives the empty network of a PyTorch state_dict. (templated)
    :param signature: which signature of a SavedModel; default: ``serving_default``. (templated)
    :param embeddings: names of inner tensors that become outputs after the model's own, as ``raw`` columns of an
        inference; a wrong name is answered with the last ones that the graph has. (templated)
    :param opset: ONNX operator set; default: 18, and for an ONNX file the one that it has. tf2onnx writes 18 at most
    :param trusted_source: allow formats that run code when they are opened: SavedModel, pickles, TorchScript, ``.pt2``
    :param mlflow_conn_id: connection of the type ``http`` to that server; default: ``MLFLOW_TRACKING_URI``. (templated)
    :param python: interpreter that has the framework; default: this one. (templated)
    :param memory_mb: limit of the conversion's memory in MiB; default: none
    :param stage_timeout: seconds until the conversion is killed
    """

    template_fields: Sequence[str] = (
        "source",
        "framework",
        "name",
        "store",
        "preprocessing",
        "labels",
        "inputs",
        "factory",
        "signature",
        "embeddings",
        "mlflow_conn_id",
        "python",
    )

    def __init__(
        self,
        *,
        source: str,
        name: str,
        framework: str = "",
        store: str = OnnxModelStoreHook.default_conn_name,
        preprocessing: Mapping[str, Any] | None = None,
        labels: Sequence[str] | str | None = None,
        inputs: Mapping[str, Mapping[str, Any]] | None = None,
        factory: str | None = None,
        signature: str | None = None,
        embeddings: Sequence[str] = (),
        opset: int | None = None,
        trusted_source: bool = False,
        mlflow_conn_id: str | None = None,
        python: str | None = None,
        memory_mb: int | None = None,
        stage_timeout: float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.framework = framework
        self.name = name
        self.store = store
        self.preprocessing = preprocessing
        self.labels = labels
        self.inputs = inputs
        self.factory = factory
        self.signature = signature
        self.embeddings = embeddings
        self.opset = opset
        self.trusted_source = trusted_source
        self.mlflow_conn_id = mlflow_conn_id
        self.python = python
        self.memory_mb = memory_mb
        self.stage_timeout = stage_timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Convert, or answer from the store."""
        from airflow_onnx_provider.model.convert import convert
        from airflow_onnx_provider.model.source import SourceModel

        with no_retry_for_bad_input(), mlflow_environment(self.mlflow_conn_id or None):
            source = SourceModel(
                location=self.source,
                framework=self.framework,
                preprocessing=self.preprocessing or {},
                inputs=self.inputs or {},
                factory=self.factory or None,
                signature=self.signature or None,
                trusted=self.trusted_source,
            )
            result = convert(
                source,
                name=self.name,
                labels=read_labels(self.labels),
                embeddings=tuple(self.embeddings),
                opset=self.opset,
                store=OnnxModelStoreHook(self.store).get_conn(),
                stage=self._stage,
                memory_mb=self.memory_mb,
            )
        self.log.info(
            "%s %s: %.2f MB, %s",
            self.name,
            result["version"],
            result["size_bytes"] / 1e6,
            "unchanged, from the store" if result["from_store"] else f"converted from {self.source}",
        )
        return result
