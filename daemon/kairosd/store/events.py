"""The inbox on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from kairosd.core.decisions import Decision, Verdict
from kairosd.core.events import MAX_TRIES, Draft, Event, EventState, Receipt
from kairosd.core.ids import mint
from kairosd.core.json import Encoded, Json, canonical
from kairosd.core.runs import Run
from kairosd.errors import TransitionError
from kairosd.ports.stores import Claim, Query
from kairosd.ports.world import Clock
from kairosd.store import notes
from kairosd.store.counting import WEBHOOK_DUPLICATES, add_one
from kairosd.store.database import Database, Unit
from kairosd.store.decisions import close_unusable
from kairosd.store.prepared import PreparedInsert
from kairosd.store.records import DECISIONS, EVENTS
from kairosd.store.runs import insert_run
from kairosd.store.schema import decisions, events

_INSERT = PreparedInsert(insert_or(events).on_conflict_do_nothing(), (*EVENTS.names, "body"))
_KNOWN = (
    select(events.c.id)
    .where(or_(and_(events.c.source == bindparam("source"), events.c.key == bindparam("key")),
               events.c.body == bindparam("body")))
    .limit(1)
)  # fmt: skip
_MOVE = (
    update(events)
    .where(events.c.id == bindparam("event"))
    .values(
        state=bindparam("to"), decision=bindparam("by"), tries=bindparam("tried"), error=bindparam("why"),
        retry_at=bindparam("at"),
    )
)  # fmt: skip
_INSERT_DECISION = insert(decisions)
_PENDING = events.c.state == EventState.PENDING


class EventStore:
    """Implements `ports.Events`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, draft: Draft, now: datetime) -> Receipt:
        return await self._database.write(lambda unit: add_event(unit, draft, now=now))

    async def add_direct(self, draft: Draft, run: Run, *, decision: Decision, now: datetime) -> Receipt:
        event = replace(_event(draft, now), state=EventState.SETTLED, decision=decision.id)
        made = replace(decision, events=(event.id,), run=run.id)

        def work(unit: Unit) -> Receipt:
            receipt = _add(unit, event, draft=draft, now=now)
            if not receipt.duplicate:
                unit.execute(_INSERT_DECISION, DECISIONS.row(made))
                unit.note(notes.made(made), now)
                insert_run(unit, run, now=now)
            return receipt

        return await self._database.write(work)

    async def next_due(self, workspace: str | None, now: datetime) -> datetime | None:
        statement = select(func.min(events.c.retry_at, type_=events.c.retry_at.type)).where(
            _PENDING, events.c.workspace.is_not_distinct_from(workspace), events.c.retry_at > now
        )
        return await self._database.read(lambda reader: cast("datetime | None", reader.scalar(statement)))

    async def pending(self, workspace: str | None, now: datetime) -> tuple[Event, ...]:
        place = events.c.workspace.is_not_distinct_from(workspace)
        return await self._database.read(lambda reader: EVENTS.all(reader, _PENDING, place, _due(now)))

    async def claim(self, decision: Decision, events: Sequence[str], *, now: datetime) -> Claim | None:
        def work(unit: Unit) -> Claim | None:
            taken = []
            for event in _those(unit.connection, events, state=EventState.PENDING):
                claimed = replace(event, state=EventState.CLAIMED, decision=decision.id)
                _move(unit, claimed)
                taken.append(claimed)
            if not taken:
                return None
            asked = replace(decision, verdict=Verdict.ASKED, events=tuple(event.id for event in taken))
            unit.execute(_INSERT_DECISION, DECISIONS.row(asked))
            unit.note(notes.asked(asked), now)
            return Claim(asked, tuple(taken))

        return await self._database.write(work)

    async def coalesce(self, events: Sequence[str], reason: str, *, now: datetime) -> None:
        def work(unit: Unit) -> None:
            for event in _those(unit.connection, events, state=EventState.PENDING):
                _move(unit, replace(event, state=EventState.COALESCED))
                unit.note(notes.of_event("event.coalesced", event, data={"reason": notes.short(reason)}), now)

        await self._database.write(work)

    async def release(self, decision: str, error: str, *, retry_at: datetime, blame: bool) -> None:
        now = self._clock.now()

        def work(unit: Unit) -> None:
            close_unusable(unit, DECISIONS.get(unit.connection, decision), reason=error, now=now)
            for event in EVENTS.all(unit.connection, events.c.decision == decision, _CLAIMED):
                tries = event.tries + 1 if blame else event.tries
                _give_back(unit, replace(event, error=error), now=now, tries=tries, retry_at=retry_at)

        await self._database.write(work)

    async def recover(self, now: datetime) -> int:
        reason = "Kairos was interrupted before it had decided"

        def work(unit: Unit) -> int:
            for decision in DECISIONS.all(unit.connection, decisions.c.verdict == Verdict.ASKED):
                close_unusable(unit, decision, reason=reason, now=now)
            claimed = EVENTS.all(unit.connection, _CLAIMED)
            for event in claimed:
                _give_back(unit, replace(event, error=reason), now=now, tries=event.tries + 1, retry_at=None)
            return len(claimed)

        return await self._database.write(work)

    async def retry(self, event: str, now: datetime) -> Event:
        def work(unit: Unit) -> Event:
            found = EVENTS.get(unit.connection, event)
            if found.state is not EventState.DEAD:
                raise TransitionError(f"event {found.id} is {found.state}: only a dead event is retried")
            revived = replace(found, state=EventState.PENDING, decision=None, tries=0, error=None)
            _move(unit, revived)
            unit.note(notes.of_event("event.retried", found, data={}), now)
            return revived

        return await self._database.write(work)

    async def get(self, event: str) -> Event:
        return await self._database.read(lambda reader: EVENTS.get(reader, event))

    async def find(self, query: Query) -> tuple[Event, ...]:
        return await self._database.read(lambda reader: EVENTS.newest(reader, query))


_CLAIMED = events.c.state == EventState.CLAIMED


def add_event(unit: Unit, draft: Draft, *, now: datetime) -> Receipt:
    """A new event, unless its key is known."""
    return _add(unit, _event(draft, now), draft=draft, now=now)


def coalesce_pending(unit: Unit, source: str, *, key: str, reason: str, now: datetime) -> None:
    """Takes the event with this key out, if nobody has claimed it yet."""
    for event in EVENTS.all(unit.connection, events.c.source == source, events.c.key == key, _PENDING):
        _move(unit, replace(event, state=EventState.COALESCED))
        unit.note(notes.of_event("event.coalesced", event, data={"reason": notes.short(reason)}), now)


def _event(draft: Draft, now: datetime) -> Event:
    return Event(
        id=mint("e", now), source=draft.source, kind=draft.kind, key=draft.key, tier=draft.tier,
        workspace=draft.workspace, facts=draft.facts, text=draft.text, delivery=draft.delivery, received_at=now,
        state=EventState.PENDING, tries=0, decision=None,
    )  # fmt: skip


def _add(unit: Unit, event: Event, *, draft: Draft, now: datetime) -> Receipt:
    """One statement tells new from known: no look before the leap, and no error to recover from."""
    facts = Encoded(canonical(event.facts))
    if unit.insert(_INSERT, {**EVENTS.row(event), "body": draft.body, "facts": facts}):
        unit.note(notes.received(event, facts), now)
        return Receipt(event.id, duplicate=False)
    names = {"source": draft.source, "key": draft.key, "body": draft.body}
    known = str(unit.connection.execute(_KNOWN, names).scalar_one())
    if draft.delivery is not None:
        add_one(unit, WEBHOOK_DUPLICATES)
    again = replace(event, id=known, decision=None)
    unit.note(notes.of_event("event.duplicate", again, data={"source": draft.source, "key": draft.key}), now)
    return Receipt(known, duplicate=True)


def _due(now: datetime) -> ColumnElement[bool]:
    return or_(events.c.retry_at.is_(None), events.c.retry_at <= now)


def _those(connection: Connection, wanted: Sequence[str], *, state: EventState) -> tuple[Event, ...]:
    return EVENTS.all(connection, events.c.id.in_(list(wanted)), events.c.state == state)


def _give_back(unit: Unit, event: Event, *, now: datetime, tries: int, retry_at: datetime | None) -> None:
    """claimed → pending, or dead; `event.error` says why and `tries` how often by now."""
    dead = tries >= MAX_TRIES
    # A dead event keeps its decision, so that `why` still finds what was tried last.
    state, decision = (EventState.DEAD, event.decision) if dead else (EventState.PENDING, None)
    _move(unit, replace(event, state=state, tries=tries, decision=decision), retry_at=None if dead else retry_at)
    data: dict[str, Json] = {"error": notes.short(event.error or ""), "tries": tries}
    if not dead:
        data["retry_at"] = notes.moment(retry_at)
    unit.note(notes.of_event("event.dead" if dead else "event.released", event, data=data), now)


def _move(unit: Unit, event: Event, *, retry_at: datetime | None = None) -> None:
    values = {"event": event.id, "to": event.state, "by": event.decision, "tried": event.tries, "why": event.error}
    unit.execute(_MOVE, {**values, "at": retry_at})
