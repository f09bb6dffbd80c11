"""Links on a task in the Airflow UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

SPARK_UI_KEY = "spark_ui"
"""XCom key under which the address of the Spark application is pushed as soon as it is known."""


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
        address = XCom.get_value(ti_key=ti_key, key=SPARK_UI_KEY)
        return address if isinstance(address, str) else ""


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
