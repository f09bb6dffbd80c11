# SPDX-License-Identifier: Apache-2.0
"""Operator: write a version's model card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import open_version
from airflow_onnx_provider.links import CARD_KEY, ModelCardLink, card_address
from airflow_onnx_provider.operators.model import ModelReference, address_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxModelCardOperator(BaseOperator):
    """Write ``card.html`` and ``card.md`` beside a version in its store.

    They tell what it is, where it comes from, what was measured, and what to do with it. The page needs nothing else:
    no script, no network. The files are no part of the version; its digest stays, and a later card takes the place of
    an earlier one. The task's button "Model card" opens the page. Needs the extra ``report``.

    Returns ``model``, ``name``, ``version``, ``digest``, ``card`` (address of the page) and ``markdown`` (the text,
    20 kB at most).

    Fails without retry if there is no such version.

    :param model: address (an alias is resolved once), or a model task's output. (templated)
    """

    template_fields: Sequence[str] = ("model",)
    operator_extra_links = (ModelCardLink(),)

    def __init__(self, *, model: ModelReference, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the card."""
        from airflow_onnx_provider.model.card import write_card

        with no_retry_for_bad_input():
            store, address = open_version(address_of(self.model))
            manifest = store.manifest(address)
            card = write_card(store, address)
        self.log.info("the card of %s %s is %s", manifest.name, manifest.version, card.html)
        if (task := context.get("ti")) is not None:
            task.xcom_push(CARD_KEY, card_address(address))
        return {
            "model": address,
            "name": manifest.name,
            "version": manifest.version,
            "digest": manifest.digest,
            "card": card.html,
            "markdown": card.text,
        }
