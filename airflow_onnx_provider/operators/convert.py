"""Operator: a trained model to ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import OnnxModelStoreHook
from airflow_onnx_provider.model.graph import DEFAULT_OPSET
from airflow_onnx_provider.operators.model import StageMixin

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxConvertOperator(StageMixin, BaseOperator):
    """Convert a trained image classifier to ONNX and keep it in a model store.

    The graph takes ``image: uint8 [batch, height, width, 3]`` and gives ``scores: float [batch, classes]``; cast,
    scale and normalisation are folded in. A source whose digest and settings are known is answered from the store.

    Returns ``model`` (address), ``name``, ``version``, ``digest`` (sha256), ``size_bytes``, ``from_store``.

    Fails without retry for a source that is missing, cannot be opened safely, or has a part that ONNX cannot express.

    :param source: file or folder of the trained model, on this worker. (templated)
    :param framework: what wrote it: ``tensorflow`` (``.keras``, ``.h5``, SavedModel folder). (templated)
    :param name: the model's name in the store. (templated)
    :param store: connection id of the type ``onnx_model_store``. (templated)
    :param preprocessing: ``height``, ``width`` (pixels; default: what the model takes), ``resize`` (``stretch`` or
        ``crop``), ``scale``, ``mean``, ``std`` as in ``ImagePreprocessing``. (templated)
    :param labels: class names in output order, or a text file with one a line. (templated)
    :param embeddings: names of inner tensors that become outputs after ``scores``, as ``raw`` columns of an inference;
        a wrong name is answered with the last ones that the graph has. (templated)
    :param opset: ONNX operator set; tf2onnx writes 18 at most
    :param trusted_source: allow formats that run code when they are opened, such as SavedModel
    :param python: interpreter that has the framework; default: this one. (templated)
    """

    template_fields: Sequence[str] = (
        "source",
        "framework",
        "name",
        "store",
        "preprocessing",
        "labels",
        "embeddings",
        "python",
    )

    def __init__(
        self,
        *,
        source: str,
        framework: str,
        name: str,
        store: str = OnnxModelStoreHook.default_conn_name,
        preprocessing: Mapping[str, Any] | None = None,
        labels: Sequence[str] | str | None = None,
        embeddings: Sequence[str] = (),
        opset: int = DEFAULT_OPSET,
        trusted_source: bool = False,
        python: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.framework = framework
        self.name = name
        self.store = store
        self.preprocessing = preprocessing
        self.labels = labels
        self.embeddings = embeddings
        self.opset = opset
        self.trusted_source = trusted_source
        self.python = python

    def execute(self, context: Context) -> dict[str, Any]:
        """Convert, or answer from the store."""
        from airflow_onnx_provider.model.convert import convert
        from airflow_onnx_provider.model.source import SourceModel

        with no_retry_for_bad_input():
            source = SourceModel(Path(self.source), self.framework, self.preprocessing or {}, self.trusted_source)
            store = OnnxModelStoreHook(self.store).get_conn()
            result = convert(
                source,
                name=self.name,
                labels=read_labels(self.labels),
                embeddings=tuple(self.embeddings),
                opset=self.opset,
                store=store,
                stage=self._stage,
            )
        self.log.info(
            "%s %s: %.2f MB, %s",
            self.name,
            result["version"],
            result["size_bytes"] / 1e6,
            "unchanged, from the store" if result["from_store"] else f"converted from {self.source}",
        )
        return result


def read_labels(labels: Sequence[str] | str | None) -> tuple[str, ...]:
    """Class names from a list, or from a text file with one a line.

    :raises BadInputError: if the file cannot be read, is empty, or a label comes twice
    """
    if labels is None:
        return ()
    if isinstance(labels, str):
        try:
            labels = [line.strip() for line in Path(labels).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"labels: {error}; give a list, or a text file with one label a line") from error
    if not labels or len(set(labels)) != len(labels):
        raise BadInputError(f"labels: expected different names, one a class, got {list(labels)[:5]}")
    return tuple(labels)
