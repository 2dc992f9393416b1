"""Questions to the owner, and the first answer to each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from kairosd.core.ids import is_id
from kairosd.core.runs import Approval, ApprovalState, Grant, RunState
from kairosd.errors import NotFoundError, TransitionError
from kairosd.ports.stores import Query
from kairosd.store.database import Database, Unit
from kairosd.store.grants import open_grant
from kairosd.store.questions import move_approval
from kairosd.store.records import APPROVALS, RUNS
from kairosd.store.runs import requeue_run
from kairosd.store.schema import approvals, runs

ANSWERS_MAX = 200

_ANSWERS = (ApprovalState.APPROVED, ApprovalState.DENIED)
_USES = (ApprovalState.USED, ApprovalState.STALE)


class ApprovalStore:
    """Implements `ports.Approvals`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answer(
        self, code: str, verdict: ApprovalState, *, channel: str, now: datetime, grant: Grant | None = None
    ) -> Approval:
        if verdict not in _ANSWERS:
            raise TransitionError(f"{verdict} is not an answer")

        def work(unit: Unit) -> Approval:
            stored = _by_code_or_id(unit.connection, code)
            if stored.state is ApprovalState.OPEN and stored.expires <= now:
                raise TransitionError(f"approval {stored.code} has expired")
            answered = replace(stored, state=verdict, answered_at=now, channel=channel)
            move_approval(unit, stored, moved=answered, now=now)
            if grant is not None:
                if verdict is not ApprovalState.APPROVED or not stored.exact or grant.exact != stored.exact:
                    raise TransitionError(f"approval {stored.code} cannot be granted for always")
                open_grant(unit, replace(grant, approval=stored.id), now=now)
            _wake_run(unit, stored, reason=f"the owner answered: {verdict}", now=now)
            return answered

        return await self._database.write(work)

    async def move(self, approval: str, state: ApprovalState, *, now: datetime) -> Approval:
        if state not in _USES:
            raise TransitionError(f"an approval becomes {state} in another way")

        def work(unit: Unit) -> Approval:
            stored = APPROVALS.get(unit.connection, approval)
            return move_approval(unit, stored, moved=replace(stored, state=state), now=now)

        return await self._database.write(work)

    async def expire(self, now: datetime) -> tuple[Approval, ...]:
        overdue = (approvals.c.state == ApprovalState.OPEN, approvals.c.expires <= now)
        # Asked of the reader first: nothing is written, and nothing synced, while no question is overdue.
        if not await self._database.read(lambda reader: APPROVALS.all(reader, *overdue, limit=1)):
            return ()

        def work(unit: Unit) -> tuple[Approval, ...]:
            expired = []
            for stored in APPROVALS.all(unit.connection, *overdue):
                expired.append(move_approval(unit, stored, moved=replace(stored, state=ApprovalState.EXPIRED), now=now))
                _wake_run(unit, stored, reason="its question expired without an answer", now=now)
            return tuple(expired)

        return await self._database.write(work)

    async def withdraw(self, approval: str, reason: str, *, now: datetime) -> None:
        def work(unit: Unit) -> None:
            stored = APPROVALS.get(unit.connection, approval)
            if stored.state is not ApprovalState.OPEN:
                raise TransitionError(f"approval {stored.code} is {stored.state} already")
            move_approval(unit, stored, moved=replace(stored, state=ApprovalState.WITHDRAWN), now=now)
            _wake_run(unit, stored, reason=reason, now=now)

        await self._database.write(work)

    async def answers(self, since: datetime) -> tuple[Approval, ...]:
        answered = approvals.c.answered_at > since
        return await self._database.read(
            lambda reader: APPROVALS.latest(reader, answered, by="answered_at", limit=ANSWERS_MAX)
        )

    async def of_call(self, call: str) -> Approval | None:
        found = await self._database.read(lambda reader: APPROVALS.all(reader, approvals.c.call == call))
        return found[-1] if found else None

    async def of_run(self, run: str) -> tuple[Approval, ...]:
        found = await self._database.read(lambda reader: APPROVALS.all(reader, approvals.c.run == run))
        return tuple(reversed(found))

    async def get(self, approval: str) -> Approval:
        return await self._database.read(lambda reader: _by_code_or_id(reader, approval))

    async def find(self, query: Query) -> tuple[Approval, ...]:
        return await self._database.read(lambda reader: APPROVALS.newest(reader, query))


def _by_code_or_id(connection: Connection, text: str) -> Approval:
    """A code names its open question; codes of closed ones may have been given again, so the newest counts."""
    if is_id(text.strip().lower(), "a"):
        return APPROVALS.get(connection, text)
    found = APPROVALS.all(connection, approvals.c.code == text.strip())
    if not found:
        raise NotFoundError(f"there is no question {text!r}", fix="see `kairos approvals`")
    still_open = [approval for approval in found if approval.state is ApprovalState.OPEN]
    return still_open[0] if still_open else found[-1]


def _wake_run(unit: Unit, approval: Approval, *, reason: str, now: datetime) -> None:
    for run in RUNS.all(unit.connection, runs.c.id == approval.run, runs.c.state == RunState.PARKED):
        requeue_run(unit, run, reason=reason, now=now)
