"""What the initiative remembers of each workspace."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert

from kairosd.core.journal import Note
from kairosd.core.workspaces import World
from kairosd.store.database import Database, Unit
from kairosd.store.prepared import PreparedSelect, driver_of
from kairosd.store.schema import worlds

_FIELDS = tuple(field.name for field in fields(World))
_STORED = PreparedSelect(select(*(worlds.c[name] for name in _FIELDS)).where(worlds.c.workspace == bindparam("of")))
_NEW = insert(worlds)
_PUT = _NEW.on_conflict_do_update(
    index_elements=[worlds.c.workspace],
    set_={name: _NEW.excluded[name] for name in _FIELDS if name != "workspace"},
)


class WorldStore:
    """Implements `ports.Worlds`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, workspace: str) -> World | None:
        rows = await self._database.read(lambda reader: _STORED.rows(driver_of(reader), {"of": workspace}))
        return World(*rows[0]) if rows else None

    async def put(self, world: World, note: Note | None, *, now: datetime) -> None:
        def work(unit: Unit) -> None:
            put_world(unit, world)
            if note is not None:
                unit.note(note, now)

        await self._database.write(work)


def put_world(unit: Unit, world: World) -> None:
    """Replaces the row of the world's workspace."""
    unit.execute(_PUT, {name: getattr(world, name) for name in _FIELDS})
