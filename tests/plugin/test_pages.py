# SPDX-License-Identifier: Apache-2.0
"""The plugin inside Airflow's own API server: who may see what, what is refused, and how it looks in a browser."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_onnx_provider.links import PLUGIN_PREFIX
from airflow_onnx_provider.plugin import OnnxPlugin
from tests.browser import SIZES, THEMES, chromium, fits, page_of
from tests.plugin.api_server import ApiServer, api_server
from tests.plugin.days import BROKEN, CATALOG, CORRUPT, DAYS, FAILED, HOSTILE, SECRET, WARNED, run_of, store_connection

LAST = DAYS[-1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plugin")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[ApiServer]:
    """Two weeks of runs; what lies below ``predictions`` is open to the pages, ``elsewhere`` is not."""
    (home / "elsewhere").mkdir()
    (home / "predictions").mkdir()
    (home / "predictions" / "way-out").symlink_to(home / "elsewhere")
    settings = {
        "AIRFLOW__ONNX__OUTPUT_ROOTS": f"\n{home / 'predictions'}, {home / 'not-there'}",
        "AIRFLOW_CONN_ONNX_MODEL_STORE_DEFAULT": store_connection(home),
        "AIRFLOW_CONN_SOMETHING_ELSE": "no connection at all",
    }
    with api_server(home, **settings) as server:
        yield server


def ask(server: ApiServer, path: str, user: str | None = "viewer", **asked: str) -> requests.Response:
    return requests.get(
        f"{server.address}{PLUGIN_PREFIX}{path}", params=asked, headers=server.headers(user), timeout=30
    )


def report_of(home: Path, dag: str = CATALOG, day: str = LAST) -> dict[str, str]:
    folder = {CATALOG: "catalog", SECRET: "prices"}[dag]
    return {"output": str(home / "predictions" / folder), "run": run_of(dag, day)}


def card_of(home: Path, version: str = "production") -> dict[str, str]:
    return {"model": f"{home / 'models'}/products@{version}"}


ROUTES = ("/", "/page.css", "/page.js", "/api/runs", "/api/models", "/report", "/card")


def test_every_route_is_in_the_list_above() -> None:
    from fastapi.routing import APIRoute

    from airflow_onnx_provider.plugin.web import make_app

    routes = make_app().routes
    assert {route.path for route in routes if isinstance(route, APIRoute)} == set(ROUTES)
    assert all(isinstance(route, APIRoute) for route in routes), "nothing else, such as FastAPI's own documentation"


@pytest.mark.parametrize("path", ROUTES)
def test_nobody_comes_in_without_airflows_login(server: ApiServer, home: Path, path: str) -> None:
    asked = {**report_of(home), **card_of(home)}
    assert ask(server, path, None, **asked).status_code == 401
    assert ask(server, path, None).status_code == 401
    assert ask(server, path, "stranger", **asked).status_code == 403
    forged = {"Authorization": "Bearer " + server.tokens["viewer"][:-4] + "AAAA"}
    url = f"{server.address}{PLUGIN_PREFIX}{path}"
    assert requests.get(url, headers=forged, timeout=30).status_code == 403
    assert requests.get(url, cookies={"_token": "forged"}, timeout=30).status_code in (401, 403)
    assert requests.get(url, params=asked, cookies={"_token": server.tokens["viewer"]}, timeout=30).status_code == 200


def test_a_person_without_a_login_is_shown_the_way_to_it(server: ApiServer) -> None:
    page = requests.get(f"{server.address}{PLUGIN_PREFIX}/", headers={"Accept": "text/html"}, timeout=30)
    assert (page.status_code, "/api/v2/auth/login?next=" in page.text) == (401, True)


def test_each_run_has_its_verdict_and_figures(server: ApiServer) -> None:
    runs = {(run["dag_id"], run["day"]): run for run in ask(server, "/api/runs").json()["runs"]}

    assert len(runs) == 2 * len(DAYS) + 1
    assert runs[CATALOG, LAST]["outcome"] == "passed"
    assert runs[CATALOG, LAST]["rows_in"] == runs[CATALOG, LAST]["predicted"] + runs[CATALOG, LAST]["quarantined"]
    assert (runs[CATALOG, LAST]["published"], runs[CATALOG, LAST]["report"]) == (True, True)
    assert (runs[CATALOG, WARNED]["outcome"], runs[CATALOG, WARNED]["concerns"]) == ("warned", ["label_drift"])
    assert (runs[CATALOG, FAILED]["outcome"], runs[CATALOG, FAILED]["drift"]) == ("failed", 0.31)
    assert runs[CATALOG, FAILED]["published"] is False
    assert (runs[CATALOG, BROKEN]["outcome"], runs[CATALOG, BROKEN]["run"]) == ("job failed", "")
    assert runs[CATALOG, CORRUPT]["outcome"] == "verdict unreadable"
    assert (runs[HOSTILE, DAYS[0]]["refused"], runs[HOSTILE, DAYS[0]]["report"]) == (True, False)


def test_the_page_can_be_asked_for_a_dag_and_a_day(server: ApiServer) -> None:
    runs = ask(server, "/api/runs", dag=CATALOG, day=WARNED).json()
    assert [(run["dag_id"], run["day"]) for run in runs["runs"]] == [(CATALOG, WARNED)]
    assert ask(server, "/api/runs", day="1999-01-01").json() == {"runs": [], "older": False}
    assert ask(server, "/api/runs", page="2").json() == {"runs": [], "older": False}
    assert "No such run" in ask(server, "/", dag="<b>nothing</b>").text
    assert ask(server, "/", page="0").status_code == 422


def test_a_reader_sees_what_its_dags_made_and_nothing_else(server: ApiServer, home: Path) -> None:
    runs = ask(server, "/api/runs", "reader").json()["runs"]
    assert {run["dag_id"] for run in runs} == {CATALOG}
    assert SECRET not in re.sub("<section class=.models.*", "", ask(server, "/", "reader").text, flags=re.DOTALL)
    assert ask(server, "/api/runs", "reader", dag=SECRET).json()["runs"] == []
    assert ask(server, "/report", "reader", **report_of(home)).status_code == 200
    assert ask(server, "/report", "reader", **report_of(home, SECRET)).status_code == 403


def test_a_run_that_the_database_forgot_is_for_those_who_read_all_dags(server: ApiServer, home: Path) -> None:
    asked = report_of(home) | {"run": "forgotten"}
    (home / "predictions" / "catalog" / "_reports" / "forgotten.html").write_text("<h1>forgotten</h1>")
    assert ask(server, "/report", "viewer", **asked).text == "<h1>forgotten</h1>"
    assert ask(server, "/report", "reader", **asked).status_code == 403


def test_who_may_not_read_results_or_assets_sees_none(server: ApiServer, home: Path) -> None:
    assert ask(server, "/api/runs", "clerk").json()["runs"] == []
    assert ask(server, "/report", "clerk", **report_of(home)).status_code == 403
    assert ask(server, "/api/models", "clerk").status_code == 403
    assert ask(server, "/card", "clerk", **card_of(home)).status_code == 403
    assert "products" not in ask(server, "/", "clerk").text


def test_models_have_their_versions_aliases_and_scores(server: ApiServer, home: Path) -> None:
    (store,) = ask(server, "/api/models").json()["stores"]
    assert (store["store"], [model["name"] for model in store["models"]]) == (
        "onnx_model_store_default",
        ["price_tags", "products"],
    )
    best, original = store["models"][1]["versions"]
    assert (best["aliases"], best["made"]) == (["candidate", "production"], "quantize: static int8")
    assert (best["accuracy"], best["size_bytes"], best["images_per_second"]) == (0.939, 25_800_000, 84.1)
    assert (original["aliases"], original["accuracy"], original["card"]) == ([], 0.942, False)

    shown = ask(server, "/card", model=best["address"])
    assert "<h1>products</h1>" in shown.text
    assert ask(server, "/card", **card_of(home)).text == shown.text
    missing = ask(server, "/card", model=original["address"])
    assert (missing.status_code, "OnnxModelCardOperator" in missing.text) == (404, True)


def test_reports_and_cards_come_without_rights(server: ApiServer, home: Path) -> None:
    for page in (ask(server, "/report", **report_of(home)), ask(server, "/card", **card_of(home))):
        policy = page.headers["Content-Security-Policy"]
        assert page.status_code == 200
        assert "default-src 'none'" in policy
        assert "sandbox" in policy
        assert "script-src" not in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["X-Frame-Options"] == "SAMEORIGIN"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert page.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "output",
    [
        "/etc",
        "/",
        "",
        "relative",
        "~",
        "{home}",
        "{home}/elsewhere",
        "{home}/predictions-and-more",
        "{home}/predictions/way-out",
        "{home}/predictions/../elsewhere",
        "{home}/predictions/catalog/../../elsewhere",
        "{home}/predictions/%2e%2e/elsewhere",
        "file:///etc",
        "http://127.0.0.1/",
        "{home}/predictions/catalog\0",
        "{home}/predictions/" + "x/" * 1500,
    ],
)
def test_no_way_leads_out_of_the_folders(server: ApiServer, home: Path, output: str) -> None:
    asked = {"output": output.replace("{home}", str(home)), "run": f"{DAYS[0]}-strange-0badc0de"}
    answer = ask(server, "/report", **asked)
    assert answer.status_code in (403, 404)
    assert "Report of" not in answer.text


@pytest.mark.parametrize(
    "run",
    ["", ".", "..", "../../elsewhere/_reports/x", "/etc/passwd", "a/b", "a\0b", "a\nb", "..%2f..", "x" * 300, "é"],
)
def test_no_name_of_a_run_leads_elsewhere(server: ApiServer, home: Path, run: str) -> None:
    answer = ask(server, "/report", **(report_of(home) | {"run": run}))
    assert answer.status_code == 404


def test_a_report_that_is_no_file_of_its_own_folder_is_not_opened(server: ApiServer, home: Path) -> None:
    reports = home / "predictions" / "catalog" / "_reports"
    (home / "elsewhere" / "private.html").write_text("private")
    (reports / "linked.html").symlink_to(home / "elsewhere" / "private.html")
    (reports / "folder.html").mkdir()
    os.mkfifo(reports / "pipe.html")
    assert ask(server, "/report", **(report_of(home) | {"run": "linked"})).status_code == 403
    assert ask(server, "/report", **(report_of(home) | {"run": "folder"})).status_code == 404
    assert ask(server, "/report", **(report_of(home) | {"run": "pipe"})).status_code == 404
    missing = ask(server, "/report", **(report_of(home) | {"run": "missing"}))
    assert (missing.status_code, "OnnxReportOperator" in missing.text) == (404, True)


@pytest.mark.parametrize(
    "model",
    [
        "{home}/elsewhere/products/0123456789ab",
        "{home}/models/../elsewhere/products/0123456789ab",
        "/etc/products/0123456789ab",
        "{home}/models/products/../../elsewhere",
        "{home}/models/products@nothing",
        "products",
        "",
        "{home}/models\0/products/0123456789ab",
        "s3://user:secret@bucket/products/0123456789ab",
    ],
)
def test_no_address_of_a_model_leads_out_of_the_stores(server: ApiServer, home: Path, model: str) -> None:
    answer = ask(server, "/card", model=model.replace("{home}", str(home)))
    assert answer.status_code in (403, 404)
    assert "secret" not in answer.text


def test_names_from_others_are_text(server: ApiServer) -> None:
    page = ask(server, "/")
    assert HOSTILE not in page.text
    assert html.escape(HOSTILE) in page.text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]


def test_airflow_lists_the_plugin(server: ApiServer) -> None:
    (entry,) = (one for one in entry_points(group="airflow.plugins") if one.value.startswith("airflow_onnx_provider"))
    assert entry.load() is OnnxPlugin
    listed = requests.get(f"{server.address}/api/v2/plugins", headers=server.headers("viewer"), timeout=30).json()
    (plugin,) = (one for one in listed["plugins"] if one["name"] == "onnx")
    assert [view["url_route"] for view in plugin["external_views"]] == ["onnx"]
    errors = requests.get(f"{server.address}/api/v2/plugins/importErrors", headers=server.headers("viewer"), timeout=30)
    assert errors.json()["import_errors"] == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
def test_in_a_browser(server: ApiServer, browser: Any, size: str, theme: str) -> None:
    with page_of(browser, size, theme, extra_http_headers=server.headers("viewer")) as page:
        page.goto(f"{server.address}{PLUGIN_PREFIX}/")
        assert fits(page)
        assert page.get_by_text("job failed").first.is_visible()
        assert page.get_by_role("img", name="Label drift of 13 days").is_visible()
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 26)"
        assert dark == (theme == "dark")
        page.get_by_label(f"Report of {LAST}").first.click()
        assert page.get_by_role("heading", name=f"Report of {LAST}").is_visible(), "one click"


def test_framed_by_airflow_it_follows_its_theme_and_leads_out(server: ApiServer, browser: Any) -> None:
    """The frame as Airflow makes it: it may not lead the window elsewhere, so the window's own document has to."""
    address = f"{server.address}{PLUGIN_PREFIX}/"
    frame = f"<iframe sandbox='allow-scripts allow-same-origin allow-forms' src='{address}' width=1200 height=800>"
    with page_of(browser, extra_http_headers=server.headers("viewer")) as page:
        page.route(
            "**/plugin/onnx", lambda route: route.fulfill(body=f"<html class=dark>{frame}", content_type="text/html")
        )
        page.route(
            "**/runs/**", lambda route: route.fulfill(body="<h1>a run of Airflow</h1>", content_type="text/html")
        )
        page.goto(f"{server.address}/plugin/onnx")
        inner = page.frame_locator("iframe")
        inner.get_by_label(f"Airflow run of {LAST}").first.wait_for()
        assert inner.locator("body").evaluate("one => getComputedStyle(one).backgroundColor") == "rgb(18, 21, 26)"
        page.evaluate("document.documentElement.className = 'light'")
        page.wait_for_function(
            "getComputedStyle(frames[0].document.body).backgroundColor === 'rgb(246, 247, 249)'", timeout=5000
        )
        inner.get_by_label(f"Airflow run of {LAST}").first.click()
        page.get_by_role("heading", name="a run of Airflow").wait_for()
        assert re.search(rf"/dags/({CATALOG}|{SECRET})/runs/scheduled__{LAST}T00%3A00%3A00%2B00%3A00", page.url)
