# SPDX-License-Identifier: Apache-2.0
"""Operator: let an alias name a model version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.assets import announce, model_event_extra
from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import open_version
from airflow_onnx_provider.model.store.address import split_address
from airflow_onnx_provider.model.store.aliases import Aliases, Pointed
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.operators.model import ModelReference, address_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxPromoteOperator(BaseOperator):
    """Let an alias such as ``production`` name a model version; readers see the old one or the new one, never less.

    Every move is kept in the alias's history with the run that made it. Each Asset among the outlets gets an event with
    ``name``, ``version``, ``digest``, ``opset``, ``recipe``, ``scores``, ``model``, ``alias``, ``previous`` and
    ``changed``; Assets of ``model_asset`` for another model or alias get none of it. An ``AssetAlias`` among them gets
    an event of ``model_asset(name, alias)`` only if the alias has moved.

    Returns ``model`` (the version's address), ``name``, ``version``, ``digest``, ``alias``, ``previous`` (the version
    before, or None), ``changed`` (False if the alias named the version already).

    Fails without retry if there is no such version, it was never validated, its files are not what its manifest says,
    or ``expected`` does not hold.

    :param model: address, an address with an alias (``<store>/<name>@candidate``), or a model task's output.
        (templated)
    :param alias: what shall name it. (templated)
    :param expected: the version that the alias must name now, ``""`` for none yet; default: any. (templated)
    :param reason: for the history. (templated)
    """

    template_fields: Sequence[str] = ("model", "alias", "expected", "reason")

    def __init__(
        self,
        *,
        model: ModelReference,
        alias: str = "production",
        expected: str | None = None,
        reason: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.alias = alias
        self.expected = expected
        self.reason = reason

    def execute(self, context: Context) -> dict[str, Any]:
        """Move the alias, or find it there."""
        with no_retry_for_bad_input():
            store, address = open_version(address_of(self.model))
            _, name, version = split_address(address)
            pointed = Aliases(store, name).point(
                self.alias, version, by=mover(context), expected=self.expected, reason=self.reason or None
            )
            result = told(context, self.outlets, pointed, store=store, name=name, alias=self.alias)
        self.log.info(
            "%s@%s %s %s (%s before)",
            name,
            self.alias,
            "now names" if pointed.changed else "names already",
            version,
            result["previous"] or "nothing",
        )
        return result


def mover(context: Mapping[str, Any]) -> str:
    """Who moves an alias: ``<dag>/<run>/<task>``, with the index of a mapped task."""
    instance = context.get("ti")
    if instance is None:
        return str(context.get("run_id", "airflow"))
    index = getattr(instance, "map_index", -1)
    mapped = f"[{index}]" if isinstance(index, int) and index >= 0 else ""
    return f"{instance.dag_id}/{instance.run_id}/{instance.task_id}{mapped}"


def told(
    context: Any, outlets: Sequence[Any], pointed: Pointed, *, store: ModelStore, name: str, alias: str
) -> dict[str, Any]:
    """What a move's task returns; its Assets' events get it with the version's figures."""
    move = pointed.move
    address = f"{store.root}/{name}/{move.version}"
    result = {
        "model": address,
        "name": name,
        "version": move.version,
        "digest": move.digest,
        "alias": alias,
        "previous": move.previous,
        "changed": pointed.changed,
    }
    if outlets:
        announce(context, outlets, {**model_event_extra(store.manifest(address)), **result}, alias)
    return result
