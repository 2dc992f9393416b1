"""Decisions and what followed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import bindparam, update

from kairosd.core.decisions import ANSWERS, Decision, Verdict
from kairosd.core.events import EventState
from kairosd.core.notices import Notice
from kairosd.core.runs import Run
from kairosd.core.workspaces import World
from kairosd.errors import TransitionError
from kairosd.ports.stores import Query
from kairosd.store import notes
from kairosd.store.database import Database, Unit
from kairosd.store.notices import insert_notices
from kairosd.store.records import DECISIONS
from kairosd.store.runs import insert_run
from kairosd.store.schema import decisions, events
from kairosd.store.worlds import put_world

_CONCLUDED = ("verdict", "reason", "goal", "confidence", "price", "next_wake", "run", "notice", "fingerprint", "shadow",
              "concluded_at", "model", "escalated")  # fmt: skip
_CONCLUDE = (
    update(decisions)
    .where(decisions.c.id == bindparam("decision"), decisions.c.verdict == Verdict.ASKED)
    .values({name: bindparam(f"new_{name}") for name in _CONCLUDED})
)
_SETTLE = (
    update(events)
    .where(events.c.decision == bindparam("by"), events.c.state == EventState.CLAIMED)
    .values(state=EventState.SETTLED, error=None)
)


class DecisionStore:
    """Implements `ports.Decisions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def conclude(
        self, decision: Decision, world: World | None, *, run: Run | None, notices: Sequence[Notice], now: datetime
    ) -> None:
        if decision.verdict not in ANSWERS:
            raise TransitionError(f"decision {decision.id} cannot end as {decision.verdict}")
        made = replace(decision, concluded_at=decision.concluded_at or now)
        if run is not None:
            made = replace(made, run=run.id)

        def work(unit: Unit) -> None:
            asked = DECISIONS.get(unit.connection, made.id)
            _store(unit, replace(made, events=asked.events), now=now)
            if unit.execute(_SETTLE, {"by": made.id}).rowcount != len(asked.events):
                raise TransitionError(f"decision {made.id} does not hold all of its events any more")
            if run is not None:
                insert_run(unit, run, now=now)
            insert_notices(unit, notices, now=now)
            if world is not None:
                put_world(unit, world)

        await self._database.write(work)

    async def get(self, decision: str) -> Decision:
        return await self._database.read(lambda reader: DECISIONS.get(reader, decision))

    async def find(self, query: Query) -> tuple[Decision, ...]:
        return await self._database.read(lambda reader: DECISIONS.newest(reader, query))


def close_unusable(unit: Unit, decision: Decision, *, reason: str, now: datetime) -> None:
    """asked → unusable. Raises `TransitionError` when it has an answer."""
    _store(unit, replace(decision, verdict=Verdict.UNUSABLE, reason=reason, concluded_at=now), now=now)


def _store(unit: Unit, decision: Decision, *, now: datetime) -> None:
    values = {f"new_{name}": getattr(decision, name) for name in _CONCLUDED}
    if unit.execute(_CONCLUDE, {**values, "decision": decision.id}).rowcount != 1:
        raise TransitionError(f"decision {decision.id} has been concluded before")
    unit.note(notes.made(decision), now)
