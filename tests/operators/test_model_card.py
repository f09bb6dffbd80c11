# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_onnx_provider.hooks.model_store import store_of
from airflow_onnx_provider.links import card_address
from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.operators.model_card import OnnxModelCardOperator
from tests.conftest import make_colour_model


@pytest.fixture
def model(tmp_path: Path) -> str:
    return make_colour_model(tmp_path)


def test_the_card_is_written_and_its_text_returned(model: str, context: dict[str, Any]) -> None:
    Aliases(store_of(model), "colours").point("production", Path(model).name, by="a test")

    result = OnnxModelCardOperator(task_id="card", model={"model": f"{Path(model).parent}@production"}).execute(context)

    assert (result["model"], result["name"], result["version"]) == (model, "colours", Path(model).name)
    assert result["card"] == f"{model}/card.html"
    assert "<h1>colours</h1>" in Path(result["card"]).read_text()
    assert result["markdown"] == (Path(model) / "card.md").read_text()
    assert len(json.dumps(result)) < 25_000, "it is an XCom"


def test_a_second_card_takes_the_place_of_the_first(model: str, context: dict[str, Any]) -> None:
    operator = OnnxModelCardOperator(task_id="card", model=model)
    (Path(model) / "card.html").write_text("an older one")

    assert operator.execute(context) == operator.execute(context)
    assert "an older one" not in (Path(model) / "card.html").read_text()


def test_the_task_links_to_the_page(model: str, context: dict[str, Any]) -> None:
    pushed: dict[str, str] = {}
    task = SimpleNamespace(xcom_push=pushed.__setitem__)

    OnnxModelCardOperator(task_id="card", model=model).execute({**context, "ti": task})

    assert pushed == {"card_link": card_address(model)}
    assert [link.xcom_key for link in OnnxModelCardOperator.operator_extra_links] == ["card_link"]


@pytest.mark.parametrize("model", ["/nowhere/colours/0123456789ab", "colours", {}])
def test_a_version_that_is_not_there_is_not_tried_again(model: Any, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="BadInputError"):
        OnnxModelCardOperator(task_id="card", model=model).execute(context)
