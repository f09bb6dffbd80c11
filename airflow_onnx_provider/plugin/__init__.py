# SPDX-License-Identifier: Apache-2.0
"""The page in Airflow's navigation: models, runs by day, reports and model cards, behind Airflow's login.

Every component of Airflow imports this module, so it imports nothing itself; the first request builds the web
application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk.plugins_manager import AirflowPlugin

from airflow_onnx_provider.links import PLUGIN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Scope]]
    Send = Callable[[Scope], Awaitable[None]]


class LazyApp:
    """An ASGI application that costs nothing until somebody asks it something."""

    _app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._app is None:
            from airflow_onnx_provider.plugin.web import make_app

            self._app = make_app()
        await self._app(scope, receive, send)


def _icon(colour: str) -> str:
    bars = "".join(
        f"<rect x='{x}' y='{y}' width='4' height='{20 - y}' rx='1'/>" for x, y in ((3, 12), (10, 7), (17, 3))
    )
    # The white line shows on the dark ground that Airflow gives to the entry that is chosen.
    look = f"fill='{colour}' stroke='#fff' stroke-width='0.8'"
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' {look}>{bars}</svg>"
    return f"data:image/svg+xml,{quote(svg)}"


class OnnxPlugin(AirflowPlugin):
    """A web application below ``/onnx``, and an entry in the navigation that shows it."""

    name = "onnx"
    fastapi_apps = [{"name": "onnx", "app": LazyApp(), "url_prefix": PLUGIN_PREFIX}]  # noqa: RUF012  # as Airflow declares it
    external_views = [  # noqa: RUF012
        {
            "name": "ONNX",
            # Without a slash in front: it follows Airflow when that is served below a path of its own.
            "href": f"{PLUGIN_PREFIX.lstrip('/')}/",
            "destination": "nav",
            "url_route": "onnx",
            "icon": _icon("#3f3f46"),
            "icon_dark_mode": _icon("#e4e4e7"),
        }
    ]
