"""The outbox of notices: one row a channel."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, update
from sqlalchemy.dialects.sqlite import insert

from kairosd.core.notices import NOTICE_MOVES, Notice, NoticeState
from kairosd.errors import TransitionError
from kairosd.ports.stores import Query
from kairosd.store import notes
from kairosd.store.database import Database, Unit
from kairosd.store.records import NOTICES
from kairosd.store.schema import notices

_INSERT = insert(notices).on_conflict_do_nothing(index_elements=[notices.c.key, notices.c.channel])
_MOVED = ("title", "body", "severity", "state", "due", "tries", "receipt", "error", "delivered_at")
_MOVE = (
    update(notices)
    .where(notices.c.id == bindparam("notice"))
    .values({name: bindparam(f"new_{name}") for name in _MOVED})
)


class NoticeStore:
    """Implements `ports.Notices`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def queue(self, notices: Sequence[Notice], now: datetime) -> None:
        if notices:
            await self._database.write(lambda unit: insert_notices(unit, notices, now=now))

    async def move(self, notice: Notice, now: datetime) -> None:
        def work(unit: Unit) -> None:
            stored = NOTICES.get(unit.connection, notice.id)
            if notice.state not in NOTICE_MOVES.get(stored.state, frozenset()):
                raise TransitionError(f"notice {notice.id} is {stored.state} and cannot become {notice.state}")
            unit.execute(_MOVE, {"notice": stored.id, **{f"new_{name}": getattr(notice, name) for name in _MOVED}})
            unit.note(notes.of_notice(notice), now)

        await self._database.write(work)

    async def recover(self, now: datetime) -> tuple[Notice, ...]:
        attempting = notices.c.state == NoticeState.ATTEMPTING
        return await self._database.read(lambda reader: NOTICES.all(reader, attempting))

    async def get(self, notice: str) -> Notice:
        return await self._database.read(lambda reader: NOTICES.get(reader, notice))

    async def find(self, query: Query) -> tuple[Notice, ...]:
        return await self._database.read(lambda reader: NOTICES.newest(reader, query))


def insert_notices(unit: Unit, wanted: Sequence[Notice], *, now: datetime) -> None:
    """Queues those whose key is new on their channel."""
    for notice in wanted:
        if unit.execute(_INSERT, NOTICES.row(notice)).rowcount:
            unit.note(notes.of_notice(notice), now)
