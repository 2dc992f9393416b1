"""Small durable facts about the daemon itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import cast

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from kairosd.core.journal import Note, stamp
from kairosd.core.json import Json
from kairosd.store.counting import count_all
from kairosd.store.database import Database, Unit
from kairosd.store.journal import JournalWriter
from kairosd.store.schema import state

TOUCHED = "touched"  # the key that proves the database still takes writes

_NEW = insert(state)
_PUT = _NEW.on_conflict_do_update(
    index_elements=[state.c.key], set_={"value": _NEW.excluded.value, "changed_at": _NEW.excluded.changed_at}
)


class StateStore:
    """Implements `ports.State`."""

    def __init__(self, database: Database, journal: JournalWriter | None = None) -> None:
        self._database = database
        self._journal = journal

    async def get(self, key: str) -> Json:
        statement = select(state.c.value).where(state.c.key == key)
        return await self._database.read(lambda reader: cast("Json", reader.scalar(statement)))

    async def put(self, key: str, value: Json, *, note: Note | None, now: datetime) -> None:
        def work(unit: Unit) -> None:
            unit.execute(_PUT, {"key": key, "value": value, "changed_at": now})
            if note is not None:
                unit.note(note, now)

        await self._database.write(work)

    async def note(self, note: Note, now: datetime) -> None:
        await self._database.write(lambda unit: unit.note(note, now))

    async def drain(self) -> None:
        if self._journal is not None:
            await self._journal.drain()

    async def counters(self) -> Mapping[str, int]:
        return await self._database.read(count_all)

    async def touch(self, now: datetime) -> None:
        await self.put(TOUCHED, stamp(now), note=None, now=now)
