# SPDX-License-Identifier: Apache-2.0
"""The web application: every answer is for somebody whom Airflow knows, and only what this person may read.

Only Airflow's API server imports this module.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import urlencode

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_view
from airflow.models.dag import DagModel
from fastapi import Depends, FastAPI, HTTPException, Query, Request  # noqa: TID253
from fastapi.responses import HTMLResponse, JSONResponse, Response  # noqa: TID253
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException as StarletteHTTPException

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.links import PLUGIN_PREFIX
from airflow_onnx_provider.plugin import view
from airflow_onnx_provider.plugin.history import dags_with_runs, find_tasks, makers
from airflow_onnx_provider.plugin.roots import NotThereError, OutsideRootsError, Roots, check_run, output_roots
from airflow_onnx_provider.plugin.runs import RunRow, rows_of
from airflow_onnx_provider.plugin.stores import Shelf, known_stores, read_card, shelf_of

RUNS = 100
"""Most runs on one page."""

OWN = "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; form-action 'self'"
STORED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; sandbox allow-popups"
"""Pages from disk were written by jobs: whatever they hold, they run no script and have no rights of this server."""

FRAMES = "frame-ancestors 'self'"

HOW_TO_MAKE = (
    "OnnxReportOperator writes the report of a run, OnnxModelCardOperator the card of a model version; a report stays "
    "as long as the output folder keeps the run."
)

HEADERS = {
    "Content-Security-Policy": f"{OWN}; base-uri 'none'; {FRAMES}",
    "Cache-Control": "private, no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}

Text = Annotated[str, Query(max_length=4096)]


def readable_dags(user: GetUserDep, session: SessionDep) -> set[str]:
    """The DAGs whose results the user may read: figures of a run are what its tasks returned."""
    manager = get_auth_manager()
    if not manager.is_authorized_dag(method="GET", access_entity=DagAccessEntity.XCOM, user=user):
        return set()
    return manager.get_authorized_dag_ids(user=user, session=session)


def sees_models(user: GetUserDep) -> bool:
    """Whether the user may see models, which are Assets to Airflow."""
    return get_auth_manager().is_authorized_asset(method="GET", user=user)


def asked_for(dag: Text = "", day: Text = "", page: Annotated[int, Query(ge=1, le=10_000)] = 1) -> view.Asked:
    """What the address asks for."""
    return view.Asked(dag.strip(), day.strip(), page)


Asked = Annotated[view.Asked, Depends(asked_for)]
Dags = Annotated[set[str], Depends(readable_dags)]
Models = Annotated[bool, Depends(sees_models)]


def make_app() -> FastAPI:
    """The application. Its own documentation is off: FastAPI would show that to anybody."""
    app = FastAPI(
        title="ONNX",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
    )
    app.get("/", response_class=HTMLResponse)(page)
    app.get("/page.css")(style)
    app.get("/page.js")(script)
    app.get("/report", response_class=HTMLResponse)(report)
    app.get("/card", response_class=HTMLResponse)(card)
    app.get("/api/runs")(runs)
    app.get("/api/models")(models)
    app.middleware("http")(_with_headers)
    app.exception_handler(StarletteHTTPException)(_refusal)
    return app


def page(request: Request, session: SessionDep, dags: Dags, sees: Models, asked: Asked) -> HTMLResponse:
    """Runs and models."""
    rows, older, with_runs = _runs(session, dags, asked)
    shelves = _shelves(session) if sees else []
    base = request.scope.get("root_path", "").removesuffix(PLUGIN_PREFIX) + "/"
    roots = bool(output_roots().folders)
    return HTMLResponse(
        view.render(rows, shelves, asked=asked, dags=with_runs, roots=roots, older=older, base=base, sees_models=sees)
    )


def runs(session: SessionDep, dags: Dags, asked: Asked) -> dict[str, Any]:
    """What the page shows of runs, as JSON; ``older`` says whether a further ``page`` has some."""
    rows, older, _ = _runs(session, dags, asked)
    return {"runs": rows, "older": older}


def models(session: SessionDep, sees: Models) -> dict[str, Any]:
    """What the page shows of models, as JSON."""
    if not sees:
        raise HTTPException(403, "You may not read Assets, and models are Assets.")
    return {"stores": _shelves(session)}


def report(session: SessionDep, dags: Dags, output: Text, run: Text) -> HTMLResponse:
    """A run's report, for those who may read the DAG that made the run."""
    roots = output_roots()
    with _as_status():
        layout = roots.layout(output)
        _require_maker(session, dags, roots, output, check_run(run))
        return _stored(roots.read(layout.report(run)))


def card(session: SessionDep, sees: Models, model: Text) -> HTMLResponse:
    """A version's model card."""
    if not sees:
        raise HTTPException(403, "You may not read Assets, and models are Assets.")
    with _as_status():
        return _stored(read_card(known_stores(session), model))


def style() -> Response:
    """The page's style sheet."""
    return Response(_style(), media_type="text/css")


def script() -> Response:
    """The page's script."""
    return Response(_script(), media_type="text/javascript")


def _runs(session: Session, dags: set[str], asked: view.Asked) -> tuple[list[RunRow], bool, list[str]]:
    """Runs, whether there are older ones, and the DAGs that have any."""
    with_runs = sorted(dags & dags_with_runs(session))
    wanted = [dag for dag in with_runs if asked.dag in ("", dag)]
    tasks, older = find_tasks(session, wanted, day=asked.day or None, skip=(asked.page - 1) * RUNS, limit=RUNS)
    return rows_of(tasks, output_roots()), older, with_runs


def _shelves(session: Session) -> list[Shelf]:
    return [shelf_of(store) for store in known_stores(session)]


def _require_maker(session: Session, dags: set[str], roots: Roots, output: str, run: str) -> None:
    """Let those read a report who may read the DAG that made the run.

    A run that the database knows no more (its DAG run was deleted, its task was cleared) is for those who may read all
    DAGs.

    :raises OutsideRootsError: for the others
    """
    made_here = {dag for dag, folder in makers(session, run) if _same_folder(roots, folder, output)}
    allowed = made_here & dags if made_here else set(session.scalars(select(DagModel.dag_id))) <= dags
    if not allowed:
        raise OutsideRootsError("you may not read the DAG that made this run")


def _same_folder(roots: Roots, one: str, other: str) -> bool:
    try:
        return roots.inside(one) == roots.inside(other)
    except OutsideRootsError:
        return False


@contextmanager
def _as_status() -> Iterator[None]:
    """What was asked for badly, or is not there, as an answer of HTTP."""
    try:
        yield
    except OutsideRootsError as error:
        raise HTTPException(403, str(error)) from error
    except NotThereError as error:
        raise HTTPException(404, f"{error}. {HOW_TO_MAKE}") from error
    except BadInputError as error:
        raise HTTPException(404, str(error)) from error


def _stored(content: bytes) -> HTMLResponse:
    return HTMLResponse(content, headers={"Content-Security-Policy": f"{STORED}; base-uri 'none'; {FRAMES}"})


async def _with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await answer(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _refusal(request: Request, error: StarletteHTTPException) -> Response:
    """A page for a person, JSON for a program."""
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
    base = request.scope.get("root_path", "").removesuffix(PLUGIN_PREFIX)
    login = f"{base}/api/v2/auth/login?{urlencode({'next': str(request.url)})}" if error.status_code == 401 else ""
    page = view.render_refusal(error.status_code, str(error.detail), login)
    headers = {"Content-Security-Policy": f"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; {FRAMES}"}
    return HTMLResponse(page, error.status_code, headers)


@cache
def _style() -> str:
    return view.render_style()


@cache
def _script() -> str:
    return files("airflow_onnx_provider.plugin").joinpath("page.js").read_text(encoding="utf-8")
