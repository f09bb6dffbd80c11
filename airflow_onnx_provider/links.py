# SPDX-License-Identifier: Apache-2.0
"""Links on a task in the Airflow UI, and the addresses of the plugin's pages that they lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import attrs
from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

SPARK_UI_KEY = "spark_ui"
"""XCom key under which the address of the Spark application is pushed as soon as it is known."""

REPORT_KEY = "report_link"
"""XCom key of the address of a run's report."""

CARD_KEY = "card_link"
"""XCom key of the address of a version's model card."""

PLUGIN_PREFIX = "/onnx"
"""Where the API server has the pages of :mod:`airflow_onnx_provider.plugin`."""


@attrs.define()
class SparkUILink(BaseOperatorLink):
    """Where to look at the task's Spark application, as long as it runs and, where the cluster keeps it, afterwards.

    Airflow shows what lies under :attr:`xcom_key`, so the link is there from the submission on.
    """

    @property
    def name(self) -> str:
        """Text of the button."""
        return "Spark UI"

    @property
    def xcom_key(self) -> str:
        """The key that the operator pushes."""
        return SPARK_UI_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  # Airflow gives it
        """The pushed address, or nothing. Airflow calls this when the task has ended, and stores the answer again."""
        return _pushed(ti_key, SPARK_UI_KEY)


@attrs.define()
class ReportLink(BaseOperatorLink):
    """The report of the run that the task wrote or is about, behind Airflow's login."""

    @property
    def name(self) -> str:
        """Text of the button."""
        return "Report"

    @property
    def xcom_key(self) -> str:
        """The key that the operator pushes."""
        return REPORT_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  # Airflow gives it
        """The pushed address, or nothing."""
        return _pushed(ti_key, REPORT_KEY)


@attrs.define()
class ModelCardLink(BaseOperatorLink):
    """The card of the model version that the task made or describes, behind Airflow's login."""

    @property
    def name(self) -> str:
        """Text of the button."""
        return "Model card"

    @property
    def xcom_key(self) -> str:
        """The key that the operator pushes."""
        return CARD_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  # Airflow gives it
        """The pushed address, or nothing."""
        return _pushed(ti_key, CARD_KEY)


def _pushed(ti_key: TaskInstanceKey, key: str) -> str:
    address = XCom.get_value(ti_key=ti_key, key=key)
    return address if isinstance(address, str) else ""


def report_address(output_path: str, run: str) -> str:
    """Where the API server shows a run's report, if the output folder is below one of its ``[onnx] output_roots``.

    :param output_path: the output folder
    :param run: the run's name
    :return: a URL below ``[api] base_url``; where that is not set, a path on whatever host serves Airflow
    """
    return _page("report", output=output_path, run=run)


def card_address(model: str) -> str:
    """Where the API server shows a version's model card, if it knows the store.

    :param model: the version's address
    :return: as :func:`report_address`
    """
    return _page("card", model=model)


def _page(page: str, **named: str) -> str:
    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base}{PLUGIN_PREFIX}/{page}?{urlencode(named, safe='/', quote_via=quote)}"


def application_address(
    application: str, driver_ui: str, *, master: str, web_address: str = "", history_address: str = ""
) -> str:
    """Where to look at a Spark application: of the addresses that are known, the one that lives longest.

    :param application: its id, such as ``app-20260101000000-0001`` or ``application_1767225600000_0001``
    :param driver_ui: web address that the driver gives itself; it ends with the driver
    :param master: the master's URL
    :param web_address: of the standalone master or of YARN's ResourceManager
    :param history_address: of the Spark history server
    :return: a URL, or nothing if none is known
    """
    web, history = web_address.rstrip("/"), history_address.rstrip("/")
    if history:
        return f"{history}/history/{application}"
    if web and master.startswith("spark://"):
        return f"{web}/app/?appId={application}"
    if web and master.startswith("yarn"):
        return f"{web}/cluster/app/{application}"
    return driver_ui if driver_ui.startswith(("http://", "https://")) else ""
