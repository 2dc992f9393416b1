"""Standing grants: the owner's yes to one exact call, for as long as it is not revoked."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import bindparam, insert, update

from kairosd.core.runs import Grant, GrantState, Run
from kairosd.errors import TransitionError
from kairosd.ports.stores import Query
from kairosd.store import notes
from kairosd.store.database import Database, Unit
from kairosd.store.records import GRANTS
from kairosd.store.schema import grants

_INSERT = insert(grants)
_MOVED = ("state", "uses", "used_at", "revoked_at")
_MOVE = (
    update(grants)
    .where(grants.c.id == bindparam("grant"), grants.c.state == GrantState.ACTIVE)
    .values({name: bindparam(f"new_{name}") for name in _MOVED})
)


class GrantStore:
    """Implements `ports.Grants`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def match(self, run: Run, tool: str, *, exact: str) -> Grant | None:
        found = await self._database.read(
            lambda reader: GRANTS.all(
                reader,
                grants.c.workspace == run.workspace,
                grants.c.exact == exact,
                grants.c.tool == tool,
                grants.c.state == GrantState.ACTIVE,
            )
        )
        return next((grant for grant in found if run.taint >= grant.taint), None)

    async def use(self, grant: str, call: str, *, now: datetime) -> Grant:
        def work(unit: Unit) -> Grant:
            stored = GRANTS.get(unit.connection, grant)
            return _move(unit, replace(stored, uses=stored.uses + 1, used_at=now), kind="used", cause=call, now=now)

        return await self._database.write(work)

    async def revoke(self, grant: str, *, now: datetime) -> Grant:
        def work(unit: Unit) -> Grant:
            stored = GRANTS.get(unit.connection, grant)
            revoked = replace(stored, state=GrantState.REVOKED, revoked_at=now)
            return _move(unit, revoked, kind="revoked", cause=stored.approval, now=now)

        return await self._database.write(work)

    async def get(self, grant: str) -> Grant:
        return await self._database.read(lambda reader: GRANTS.get(reader, grant))

    async def find(self, query: Query) -> tuple[Grant, ...]:
        return await self._database.read(lambda reader: GRANTS.newest(reader, query))


def open_grant(unit: Unit, grant: Grant, *, now: datetime) -> None:
    """A new grant. One that a less trusted run could not have used gives way to it; an equal one stays."""
    same = (grants.c.workspace == grant.workspace, grants.c.exact == grant.exact, grants.c.state == GrantState.ACTIVE)
    for stored in GRANTS.all(unit.connection, *same):
        if stored.taint <= grant.taint:
            return
        replaced = replace(stored, state=GrantState.REVOKED, revoked_at=now)
        _move(unit, replaced, kind="replaced", cause=grant.id, now=now)
    unit.execute(_INSERT, GRANTS.row(grant))
    unit.note(notes.of_grant("made", grant, cause=grant.approval), now)


def _move(unit: Unit, moved: Grant, *, kind: str, cause: str, now: datetime) -> Grant:
    values = {f"new_{name}": getattr(moved, name) for name in _MOVED}
    if unit.execute(_MOVE, {"grant": moved.id, **values}).rowcount != 1:
        raise TransitionError(f"grant {moved.id} was revoked before")
    unit.note(notes.of_grant(kind, moved, cause=cause), now)
    return moved
