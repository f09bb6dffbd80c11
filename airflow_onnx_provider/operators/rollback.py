# SPDX-License-Identifier: Apache-2.0
"""Operator: let an alias name what it named before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import OnnxModelStoreHook
from airflow_onnx_provider.model.store.aliases import Aliases, Pointed
from airflow_onnx_provider.operators.promote import mover, told

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxRollbackOperator(BaseOperator):
    """Let an alias name the version that it named before; a second rollback goes one step further back.

    A retry, or a clear, of a task whose rollback holds still does not go back once more. Each Asset among the outlets
    gets an event as with ``OnnxPromoteOperator``.

    Returns ``model`` (the address of the version that is back), ``name``, ``version``, ``digest``, ``alias``,
    ``previous`` (the version that was left), ``changed``.

    Fails without retry if the alias never named another version, that version is not in the store any more, or
    ``expected`` does not hold.

    :param name: of the model. (templated)
    :param alias: which to roll back. (templated)
    :param store: connection id of the type ``onnx_model_store``. (templated)
    :param expected: the version to leave, which the alias must name now; default: any. (templated)
    :param reason: for the history. (templated)
    """

    template_fields: Sequence[str] = ("name", "alias", "store", "expected", "reason")

    def __init__(
        self,
        *,
        name: str,
        alias: str = "production",
        store: str = OnnxModelStoreHook.default_conn_name,
        expected: str | None = None,
        reason: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.alias = alias
        self.store = store
        self.expected = expected
        self.reason = reason

    def execute(self, context: Context) -> dict[str, Any]:
        """Move the alias back, or find that this run did."""
        with no_retry_for_bad_input():
            store = OnnxModelStoreHook(self.store).get_conn()
            aliases, by = Aliases(store, self.name), mover(context)
            last = aliases.last(self.alias)
            if last and last.restores is not None and last.by == by:
                pointed = Pointed(last, changed=False)
            else:
                pointed = aliases.rollback(
                    self.alias, by=by, expected=self.expected or None, reason=self.reason or None
                )
            result = told(context, self.outlets, pointed, store=store, name=self.name, alias=self.alias)
        self.log.info(
            "%s@%s %s %s; it named %s before",
            self.name,
            self.alias,
            "is back at" if pointed.changed else "was brought back by this run already, to",
            result["version"],
            result["previous"],
        )
        return result
