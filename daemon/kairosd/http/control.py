"""The control API: what the CLI asks of the daemon, over the unix socket. A thin layer over the `Desk` port."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kairosd.core.channels import SOCKET
from kairosd.core.json import JsonObject
from kairosd.errors import (
    AlreadyRunningError,
    ChannelError,
    CheckoutError,
    ConfigError,
    KairosError,
    NotFoundError,
    TransitionError,
    UsageError,
)
from kairosd.http.following import HEARTBEAT_SECONDS, Following
from kairosd.ports import Desk
from kairosd.ports import Query as Listing

CHANNEL = SOCKET  # design §11: the strongest channel; only this user's processes can open it
VERSION_HEADER = "X-Kairos-Version"
LISTING_MAX = 10_000
_STATUS: tuple[tuple[type[KairosError], int], ...] = (
    (NotFoundError, 404),
    (UsageError, 400),
    (TransitionError, 409),
    (ChannelError, 403),
    (AlreadyRunningError, 409),
    (ConfigError, 409),
    (CheckoutError, 409),
)


class _Request(BaseModel):
    # Built at once, whatever the libraries' own models do: pydantic warns of the alias that FastAPI puts on every
    # parameter, and FastAPI hushes that only while it defines the route.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=False)


class _Tell(_Request):
    text: Annotated[str, Field(max_length=100_000)]
    workspace: str | None = None
    folder: str | None = None


class _Pause(_Request):
    reason: Annotated[str, Field(max_length=500)] = ""


class _Stop(_Request):
    run: str | None = None


class _Answer(_Request):
    approve: bool
    always: bool = False


class _Workspace(_Request):
    path: Annotated[str, Field(pattern=r"^/")]
    name: str | None = None


class _Level(_Request):
    level: Literal["observe", "suggest", "sandboxed", "project", "open"]


class _Mode(_Request):
    mode: Literal["on", "shadow"]


class _Rating(_Request):
    id: str
    rating: Literal["useful", "noise", "missed"]


class _Undo(_Request):
    dry_run: bool = False


class _Filter(_Request):
    state: str | None = None
    workspace: str | None = None
    since: AwareDatetime | None = None
    prefix: str | None = None
    limit: Annotated[int, Field(ge=1, le=LISTING_MAX)] = 100
    shadow: bool = False


class _Since(_Request):
    since: AwareDatetime


class _Shadow(_Since):
    workspace: str | None = None


class _Costs(_Request):
    by: Literal["day", "trigger", "workspace", "run", "model"] = "day"
    since: AwareDatetime
    limit: Annotated[int, Field(ge=1, le=LISTING_MAX)] = 100


def build_control(desk: Desk, version: str, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> FastAPI:
    """The control API over `desk`.

    Every answer carries `X-Kairos-Version`; every refusal is `{error, fix, exit_code, version}`, where `exit_code` is
    what the CLI exits with. While a followed run is silent, an empty line goes out every `heartbeat_seconds`.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Versioned, version=version)
    _add_refusals(app, version)
    _add_questions(app, desk)
    _add_following(app, desk, heartbeat_seconds=heartbeat_seconds)
    _add_orders(app, desk)
    _add_verdicts(app, desk)
    _add_appraisal(app, desk)
    _add_workspaces(app, desk)
    return app


def _add_questions(app: FastAPI, desk: Desk) -> None:
    @app.get("/status")
    async def status() -> Any:
        return await desk.status()

    @app.get("/list/{kind}")
    async def listing(kind: str, wanted: Annotated[_Filter, Query()]) -> Any:
        query = Listing(wanted.state, wanted.workspace, wanted.since, wanted.prefix, wanted.limit, wanted.shadow)
        return await desk.listing(kind, query)

    @app.get("/costs")
    async def costs(wanted: Annotated[_Costs, Query()]) -> Any:
        return await desk.costs(wanted.by, since=wanted.since, limit=wanted.limit)

    @app.get("/show/{identifier}")
    async def show(identifier: str) -> Any:
        return await desk.show(identifier)

    @app.get("/why/{identifier}")
    async def why(identifier: str) -> Any:
        return await desk.why(identifier)


def _add_following(app: FastAPI, desk: Desk, *, heartbeat_seconds: float) -> None:
    @app.get("/runs/{run}/follow")
    async def follow(run: str) -> Following:
        def refuse(error: KairosError) -> JSONResponse:
            return _refusal(error, app.state.version)

        return Following(desk.follow(run), refuse, heartbeat_seconds=heartbeat_seconds)


def _add_orders(app: FastAPI, desk: Desk) -> None:
    @app.post("/tell", status_code=202)
    async def tell(order: _Tell) -> Any:
        return await desk.tell(order.text, order.workspace, folder=order.folder)

    @app.post("/events/{event}/retry")
    async def retry(event: str) -> Any:
        return await desk.retry(event)

    @app.post("/pause")
    async def pause(order: Annotated[_Pause | None, Body()] = None) -> Any:
        return await desk.pause(order.reason if order else "")

    @app.post("/resume")
    async def resume() -> Any:
        return await desk.resume()

    @app.post("/stop")
    async def stop(order: _Stop) -> Any:
        return await desk.stop(order.run)

    @app.post("/reload")
    async def reload() -> Any:
        return await desk.reload()

    @app.post("/notices/test")
    async def test_notice() -> Any:
        return await desk.test_notice()


def _add_verdicts(app: FastAPI, desk: Desk) -> None:
    @app.post("/approvals/{code}")
    async def answer(code: str, order: _Answer) -> Any:
        return await desk.answer(code, approve=order.approve, channel=CHANNEL, always=order.always)

    @app.delete("/grants/{grant}")
    async def revoke(grant: str) -> Any:
        return await desk.revoke(grant)

    @app.post("/runs/{run}/undo")
    async def undo(run: str, order: _Undo) -> Any:
        return await desk.undo(run, dry_run=order.dry_run)


def _add_appraisal(app: FastAPI, desk: Desk) -> None:
    @app.get("/calibration")
    async def calibration(wanted: Annotated[_Since, Query()]) -> Any:
        return await desk.calibration(wanted.since)

    @app.post("/ratings")
    async def rate(order: _Rating) -> Any:
        return await desk.rate(order.id, order.rating)

    @app.get("/triggers")
    async def triggers(wanted: Annotated[_Shadow, Query()]) -> Any:
        return await desk.triggers(wanted.since, wanted.workspace)

    @app.post("/triggers/{trigger}/mode")
    async def set_trigger(trigger: str, order: _Mode) -> Any:
        return await desk.set_trigger(trigger, order.mode)


def _add_workspaces(app: FastAPI, desk: Desk) -> None:
    @app.get("/workspaces")
    async def workspaces() -> Any:
        return await desk.workspaces()

    @app.post("/workspaces")
    async def add(order: _Workspace) -> Any:
        return await desk.set_workspace(order.name or PurePosixPath(order.path).name, order.path)

    @app.delete("/workspaces/{name}")
    async def remove(name: str) -> Any:
        return await desk.set_workspace(name, None)

    @app.post("/workspaces/{name}/trust")
    async def trust(name: str) -> Any:
        return await desk.trust(name)

    @app.post("/workspaces/{name}/level")
    async def set_level(name: str, order: _Level) -> Any:
        return await desk.set_level(name, order.level)


def _add_refusals(app: FastAPI, version: str) -> None:
    app.state.version = version

    async def refused(_: Request, error: Exception) -> JSONResponse:
        return _refusal(error if isinstance(error, KairosError) else KairosError(str(error)), version)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        found = error.errors() if isinstance(error, RequestValidationError) else ()
        problems = "; ".join(f"{'.'.join(map(str, one['loc'][1:])) or 'request'}: {one['msg']}" for one in found)
        return _refusal(UsageError(problems or "the request is malformed"), version)

    async def unknown(request: Request, error: Exception) -> JSONResponse:
        code = error.status_code if isinstance(error, HTTPException) else 404
        refusal = KairosError(
            f"the daemon has no {request.method} {request.url.path}", fix="are CLI and daemon of the same version?"
        )
        return JSONResponse(_form(refusal, version), status_code=code)

    async def broken(_: Request, error: Exception) -> JSONResponse:
        # Outermost: what is made here passes no middleware on its way out. The server logs the traceback.
        refusal = KairosError(f"the daemon failed: {type(error).__name__}", fix="its log has the details")
        return JSONResponse(_form(refusal, version), status_code=500, headers={VERSION_HEADER: version})

    app.add_exception_handler(KairosError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(Exception, broken)


def _refusal(error: KairosError, version: str) -> JSONResponse:
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    return JSONResponse(_form(error, version), status_code=status)


def _form(error: KairosError, version: str) -> JsonObject:
    return {"error": error.message, "fix": error.fix, "exit_code": error.exit_code, "version": version}


class _Versioned:
    """Adds the version to every answer; as plain ASGI, since Starlette's own base class would buffer streams."""

    def __init__(self, app: ASGIApp, version: str) -> None:
        self._app = app
        self._header = (VERSION_HEADER.lower().encode("latin-1"), version.encode("latin-1"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self._header]
            await send(message)

        await self._app(scope, receive, stamped)
