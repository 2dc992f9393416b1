"""The control API of memory: a thin layer over what the owner can ask of it and of the dream."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from kairosd.core.json import JsonObject

STEPS_MOST = 1000
NOTES_MOST = 1_000_000  # characters of one file that is carried in


class _Steps(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=False)

    steps: Annotated[int, Field(ge=1, le=STEPS_MOST)] = 1


class DreamDesk(Protocol):
    """What the routes hand on; `engine/memory_desk.py` says what each promises."""

    async def now(self) -> JsonObject: ...
    async def generations(self) -> Any: ...
    async def show(self, number: int | None) -> JsonObject: ...
    async def diff(self, number: int | None) -> JsonObject: ...
    async def undo(self, steps: int) -> JsonObject: ...
    async def redo(self, steps: int) -> JsonObject: ...
    async def verify(self, number: int | None) -> JsonObject: ...
    async def proposals(self) -> Any: ...
    async def accept(self, identifier: str) -> JsonObject: ...
    async def reject(self, identifier: str) -> JsonObject: ...


class _Search(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=False)

    text: Annotated[str, Field(min_length=1, max_length=2000)]
    workspace: str | None = None
    layer: str = ""
    kind: str = ""
    when: str = ""
    trust: str = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 10


class _Notes(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=False)

    path: str
    text: Annotated[str, Field(max_length=NOTES_MOST)]
    workspace: str | None = None


class _Pin(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=False)

    pinned: bool


class KeepersDesk(Protocol):
    """What the routes hand on; `engine/keeping.py` says what each promises."""

    async def entries(self, workspace: str | None) -> Any: ...
    async def search(self, text: str, *, workspace: str | None, filters: JsonObject) -> JsonObject: ...
    async def why(self, identifier: str) -> JsonObject: ...
    async def blame(self, workspace: str | None) -> Any: ...
    async def history(self, identifier: str | None) -> Any: ...
    async def forget(self, identifier: str) -> JsonObject: ...
    async def pin(self, identifier: str, *, pinned: bool) -> JsonObject: ...
    async def export(self) -> JsonObject: ...
    async def carry_in(self, path: str, text: str, *, workspace: str | None) -> JsonObject: ...


def add_memory(app: FastAPI, desk: KeepersDesk) -> None:
    """Adds the routes below `/memory`."""

    @app.get("/memory")
    async def entries(workspace: str | None = None) -> Any:
        return await desk.entries(workspace)

    @app.get("/memory/blame")
    async def blame(workspace: str | None = None) -> Any:
        return await desk.blame(workspace)

    @app.get("/memory/history")
    async def history(entry: str | None = None) -> Any:
        return await desk.history(entry)

    @app.get("/memory/export")
    async def export() -> Any:
        return await desk.export()

    @app.post("/memory/search")
    async def search(asked: _Search) -> Any:
        filters = asked.model_dump(exclude={"text", "workspace"})
        return await desk.search(asked.text, workspace=asked.workspace, filters=filters)

    @app.post("/memory/import")
    async def carry_in(notes: _Notes) -> Any:
        return await desk.carry_in(notes.path, notes.text, workspace=notes.workspace)

    @app.get("/memory/{entry}/why")
    async def why(entry: str) -> Any:
        return await desk.why(entry)

    @app.delete("/memory/{entry}")
    async def forget(entry: str) -> Any:
        return await desk.forget(entry)

    @app.post("/memory/{entry}/pin")
    async def pin(entry: str, order: _Pin) -> Any:
        return await desk.pin(entry, pinned=order.pinned)


def add_dream(app: FastAPI, desk: DreamDesk) -> None:
    """Adds the routes below `/dream`."""
    _add_looks(app, desk)

    @app.post("/dream")
    async def now() -> Any:
        return await desk.now()

    @app.post("/dream/undo")
    async def undo(order: _Steps) -> Any:
        return await desk.undo(order.steps)

    @app.post("/dream/redo")
    async def redo(order: _Steps) -> Any:
        return await desk.redo(order.steps)

    @app.post("/dream/proposals/{proposal}/accept")
    async def accept(proposal: str) -> Any:
        return await desk.accept(proposal)

    @app.post("/dream/proposals/{proposal}/reject")
    async def reject(proposal: str) -> Any:
        return await desk.reject(proposal)


def _add_looks(app: FastAPI, desk: DreamDesk) -> None:
    @app.get("/dream")
    async def generations() -> Any:
        return await desk.generations()

    @app.get("/dream/show")
    async def show(number: int | None = None) -> Any:
        return await desk.show(number)

    @app.get("/dream/diff")
    async def diff(number: int | None = None) -> Any:
        return await desk.diff(number)

    @app.get("/dream/verify")
    async def verify(number: int | None = None) -> Any:
        return await desk.verify(number)

    @app.get("/dream/proposals")
    async def proposals() -> Any:
        return await desk.proposals()
