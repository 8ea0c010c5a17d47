"""The API and the status page: which address answers what. `python -m refresh_pipelines.service.api` serves it.

Nothing here opens the warehouse. What is shown is at most some seconds old (`board`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Any, cast

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from refresh_pipelines import log
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.orchestration.instance import open_instance
from refresh_pipelines.problems import did_you_mean
from refresh_pipelines.service.answers import HEADERS, Refused, answer, install_errors, tagged
from refresh_pipelines.service.auth import Access, Gate
from refresh_pipelines.service.board import Board, View
from refresh_pipelines.service.changes import ask_for_run, switch
from refresh_pipelines.service.jobs import jobs_of, schedule_of
from refresh_pipelines.service.metrics import exposition, schedules_by_state
from refresh_pipelines.service.models import (
    ChangedSchedule,
    Health,
    JobPage,
    OneRun,
    OneSchedule,
    OneSource,
    PauseBody,
    Refusal,
    RunBody,
    SchedulerStatus,
    SourceItem,
    SourcePage,
)
from refresh_pipelines.service.page import POLICY, page
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.states import STATES, all_well

MOST = 500
_REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal} for status in (400, 401, 403, 404, 405, 409, 422, 500, 503)
}
_CHANGE: dict[int | str, dict[str, Any]] = {
    **_REFUSED,
    **{status: {"model": Refusal} for status in (411, 413, 415)},
}
router = APIRouter(responses=_REFUSED)

Name = Annotated[str, Path(description="`source` or `group/source`", max_length=200)]
Limit = Annotated[int, Query(ge=1, le=MOST, description="how many at most")]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="how many to pass over")]


def _board(request: Request) -> Board:
    return cast("Board", request.app.state.board)


Asked = Annotated[Board, Depends(_board)]


@router.get("/healthz", response_model=Health)
def healthz(request: Request) -> Response:
    """Whether the process answers. Asks nothing and needs no token."""
    return answer(request, Health())


@router.get("/readyz", response_model=Health)
def readyz(request: Request, board: Asked) -> Response:
    """Whether Dagster's history can be read and a daemon looks; 503 if not. Without the token it does not say why."""
    problems: list[str] = []
    try:
        board.ask_instance()
        life = board.view().life
        problems += filter(None, (life.problem, life.sentence(board.clock())))
    except RefreshError as error:
        problems.append(str(error))
    access = cast("Access", request.app.state.access)
    told = problems if access.shows_token(request.headers.raw) else []
    return answer(request, Health(ok=not problems, problems=told), 503 if problems else 200)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(board: Asked) -> Response:
    """For Prometheus."""
    view = board.view()
    text = exposition(view, board.totals(view), board.clock())
    return Response(text, headers=HEADERS, media_type=CONTENT_TYPE_LATEST)


@router.get("/", response_class=Response, responses={200: {"content": {"text/html": {}}}})
def status_page(request: Request, board: Asked) -> Response:
    """The status page."""
    text = page(board.view(), schedules_enabled=board.settings.schedules_enabled)
    shown = tagged(request, text.encode(), "text/html; charset=utf-8")
    shown.headers["Content-Security-Policy"] = POLICY
    return shown


@router.get("/api/scheduler/status", response_model=SchedulerStatus)
def scheduler_status(request: Request, board: Asked) -> Response:
    """How the daemon is doing, and how many schedules and sources are in which state."""
    view, now = board.view(), board.clock()
    message = view.life.problem or view.life.sentence(now)
    found = SchedulerStatus(
        ok=not message,
        running=not message,
        message=message,
        heartbeat=view.life.text,
        schedules_enabled=board.settings.schedules_enabled,
        schedules=schedules_by_state(view),
        sources={state: view.states.count(state) for state in STATES},
        queue_length=view.queued,
        runs_in_progress=view.running,
        next_run_time=min((item.next_run_at for item in view.items if item.next_run_at), default=None),
    )
    return answer(request, found)


@router.get("/api/scheduler/jobs", response_model=JobPage)
def scheduler_jobs(request: Request, board: Asked, limit: Limit = 100, offset: Offset = 0) -> Response:
    """What requests runs: the schedule or sensor of each source."""
    view = board.view()
    found = jobs_of(view, board.settings)
    some, rest = found[offset : offset + limit], _after(len(found), limit, offset)
    return answer(
        request, JobPage(ok=view.ok, items=some, total=len(found), limit=limit, offset=offset, next_offset=rest)
    )


@router.get("/api/sources", response_model=SourcePage)
def sources(
    request: Request, board: Asked, limit: Limit = 100, offset: Offset = 0, group: Annotated[str | None, Query()] = None
) -> Response:
    """The sources as `refresh status --json` has them, by group and source."""
    view = board.view()
    found = [item for item in view.items if group in (None, item.group)]
    some, rest = found[offset : offset + limit], _after(len(found), limit, offset)
    return answer(
        request, SourcePage(ok=view.ok, items=some, total=len(found), limit=limit, offset=offset, next_offset=rest)
    )


@router.get("/api/sources/{name:path}/schedule", response_model=OneSchedule)
def schedule(request: Request, board: Asked, name: Name) -> Response:
    """The schedule of a source and its next five fires."""
    view = board.view()
    item, spec = _loaded(view, name)
    return answer(request, OneSchedule(item=schedule_of(spec, item, view.at, board.settings)))


@router.post("/api/sources/{name:path}/schedule/enable", response_model=ChangedSchedule, responses=_CHANGE)
def enable(request: Request, board: Asked, name: Name) -> Response:
    """Start a paused schedule again, as `refresh resume` does."""
    return _switched(request, board, name, on=True)


@router.post("/api/sources/{name:path}/schedule/disable", response_model=ChangedSchedule, responses=_CHANGE)
def disable(request: Request, board: Asked, name: Name, body: PauseBody | None = None) -> Response:
    """Stop a schedule until it is enabled again, as `refresh pause` does."""
    return _switched(request, board, name, on=False, reason=body.reason if body else "")


@router.post("/api/sources/{name:path}/run", response_model=OneRun, status_code=202, responses=_CHANGE)
def run(request: Request, board: Asked, name: Name, body: RunBody | None = None) -> Response:
    """Queue a run, which the daemon launches when there is room for it."""
    view = board.view()
    _, spec = _loaded(view, name)
    queued = ask_for_run(board, view, spec, body or RunBody())
    return answer(request, OneRun(item=queued, message=view.life.sentence(board.clock())), 202)


# Last of all: a name may hold a slash, and would swallow what follows it.
@router.get("/api/sources/{name:path}", response_model=OneSource)
def source(request: Request, board: Asked, name: Name) -> Response:
    """One source."""
    view = board.view()
    item = _found(view, name)
    state = view.states[view.items.index(item)]
    return answer(request, OneSource(ok=all_well([item.model_dump()], [state]), state=state, item=item))


def _switched(request: Request, board: Board, name: str, *, on: bool, reason: str = "") -> Response:
    _, spec = _loaded(board.view(), name)
    changed = switch(board, spec, on=on, reason=reason)
    view = board.view()
    item, spec = _loaded(view, name)
    return answer(request, ChangedSchedule(changed=changed, item=schedule_of(spec, item, view.at, board.settings)))


def _after(total: int, limit: int, offset: int) -> int | None:
    return offset + limit if offset + limit < total else None


def _found(view: View, name: str) -> SourceItem:
    """Return the item of `source` or `group/source`; of two with one stem the one that can be loaded."""
    found = [item for item in view.items if name in (item.name, item.source)]
    if found:
        return min(found, key=lambda item: item.incident == "broken_yaml")
    known = [item.name if "/" in name else item.source for item in view.items]
    hint = did_you_mean(name[:100], known)
    todo = f"{hint[:1].upper()}{hint[1:]}" if hint else "/api/sources lists them."
    raise Refused(404, f"no source is called {name[:100]!r}", todo=todo)


def _loaded(view: View, name: str) -> tuple[SourceItem, SourceSpec]:
    """Return a source that can be loaded. Raises Refused for another."""
    item = _found(view, name)
    spec = view.spec(item.source)
    if spec is None or item.incident == "broken_yaml":
        raise Refused(409, f"the YAML of {item.name} has problems", todo="Run `refresh check`.")
    return item, spec


def create_app(board: Board, access: Access) -> FastAPI:
    """Return the application over a board, behind its gate."""
    # Its own pages for documentation load scripts from elsewhere.
    app = FastAPI(title="refresh_pipelines", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.board, app.state.access = board, access
    app.include_router(router)
    install_errors(app)
    app.add_middleware(Gate, access=access)
    return app


def serve(settings: Settings, host: str, port: int, say: Callable[[str], None] = lambda _: None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        say: told where, once.

    Raises:
        SettingsError: others could reach it, and no token is set.
        InternalError: Dagster's history cannot be used.
    """
    access = Access.of(settings, host)
    with closing(_Opened(settings)) as opened:
        app = create_app(Board(settings, opened.instance), access)
        say(f"API and status page: http://{host}:{port}/ (Ctrl-C stops it)")
        uvicorn.run(
            app,
            host=host.strip("[]"),
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            # Nobody's word about another address counts.
            proxy_headers=False,
            limit_concurrency=100,
            timeout_graceful_shutdown=5,
        )


class _Opened:
    def __init__(self, settings: Settings) -> None:
        self.instance = open_instance(settings)

    def close(self) -> None:
        self.instance.dispose()


def main() -> None:
    """Serve where the settings say."""
    try:
        settings = Settings.load()
        log.configure(settings)
        serve(settings, settings.api_bind, settings.api_port)
    except (RefreshError, SettingsError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
