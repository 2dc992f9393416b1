"""Runs and their ledger of tool calls."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import bindparam, exists, func, insert, select, update

from kairosd.core.events import Tier
from kairosd.core.notices import Notice
from kairosd.core.runs import ENDED, INTERRUPTED, RUN_MOVES, Approval, Call, CallState, ParkedOn, Run, RunState
from kairosd.errors import NotFoundError, TransitionError
from kairosd.ports.stores import Query
from kairosd.store import notes
from kairosd.store.calls import insert_call, leave_calls, move_call, park_call
from kairosd.store.database import Database, Unit
from kairosd.store.notices import insert_notices
from kairosd.store.prepared import PreparedUpdate
from kairosd.store.questions import open_approval, open_questions, withdraw_approvals
from kairosd.store.records import CALLS, RUNS
from kairosd.store.schema import calls, runs
from kairosd.store.task_moves import has_running_task, stop_tasks

_INSERT = insert(runs)
_KEPT = ("taint", "level", "turns", "tokens", "price", "result", "checks", "branch", "patch", "commit", "base",
         "seconds", "rested", "rested_on", "escalated")  # fmt: skip
_UPDATE = PreparedUpdate(
    update(runs).where(runs.c.id == bindparam("run")).values({name: bindparam(f"new_{name}") for name in _KEPT})
)
_MOVED = ("state", "started", "ended", "parked_on")
_MOVE = (
    update(runs)
    .where(runs.c.id == bindparam("run"), runs.c.state == bindparam("was"))
    .values({name: bindparam(f"new_{name}") for name in (*_KEPT, *_MOVED)})
)


class RunStore:
    """Implements `ports.Runs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self, run: str, now: datetime) -> Run | None:
        def work(unit: Unit) -> Run | None:
            found = RUNS.get(unit.connection, run)
            rival = exists().where(runs.c.workspace == found.workspace, runs.c.state == RunState.RUNNING)
            if found.state is not RunState.QUEUED or unit.connection.scalar(rival.select()):
                return None
            # A resumed run keeps its first start: how long ago it began decides what a restart does with it.
            started = replace(found, state=RunState.RUNNING, started=found.started or now, parked_on=None)
            _move(unit, found, run=started)
            unit.note(notes.of_run("run.started", started, data={"goal": notes.short(started.goal)}), now)
            return started

        return await self._database.write(work)

    async def queued(self) -> tuple[Run, ...]:
        return await self.in_state(RunState.QUEUED)

    async def update(self, run: Run) -> None:
        await self._database.write(lambda unit: _update(unit, run))

    async def escalate(self, run: Run, *, now: datetime) -> None:
        def work(unit: Unit) -> None:
            again = RUNS.get(unit.connection, run.id).escalated
            _update(unit, run)
            if not again:
                unit.note(notes.of_run("run.escalated", run, data={"why": notes.short(run.escalated)}), now)

        await self._database.write(work)

    async def park(
        self, run: Run, on: ParkedOn, *, approval: Approval | None, notices: Sequence[Notice], now: datetime
    ) -> None:
        def work(unit: Unit) -> None:
            stored = RUNS.get(unit.connection, run.id)
            parked = replace(
                run, state=RunState.PARKED, started=stored.started, ended=None, parked_on=on, rested=run.rested or now,
                rested_on=run.rested_on or on.value,
            )  # fmt: skip
            _move(unit, stored, run=parked)
            unit.note(notes.of_run("run.parked", parked, data={"on": on.value}), now)
            if approval is not None:
                open_approval(unit, approval, now=now)
                if approval.call:
                    park_call(unit, approval, now=now)
            elif on is ParkedOn.APPROVAL and not open_questions(unit, run.id):
                # Answered in the moment between the run's look at it and this: nobody else would wake the run.
                requeue_run(unit, parked, reason="its question was answered meanwhile", now=now)
            elif on is ParkedOn.TASK and not has_running_task(unit, run.id):
                requeue_run(unit, parked, reason="its task has ended meanwhile", now=now)
            insert_notices(unit, notices, now=now)

        await self._database.write(work)

    async def requeue(self, run: str, reason: str, *, now: datetime) -> None:
        await self._database.write(
            lambda unit: requeue_run(unit, RUNS.get(unit.connection, run), reason=reason, now=now)
        )

    async def end(self, run: Run, notices: Sequence[Notice], *, now: datetime) -> None:
        if run.state not in ENDED:
            raise TransitionError(f"run {run.id} cannot end as {run.state}")

        def work(unit: Unit) -> None:
            stored = RUNS.get(unit.connection, run.id)
            ended = replace(run, started=stored.started, ended=run.ended or now, parked_on=None)
            _move(unit, stored, run=ended)
            unit.note(notes.ended(ended), now)
            leave_calls(unit, run.id, now=now)
            withdraw_approvals(unit, run.id, now=now)
            stop_tasks(unit, run.id, now=now)
            insert_notices(unit, notices, now=now)

        await self._database.write(work)

    async def interrupt_running(self, now: datetime, *, alive: datetime | None = None) -> tuple[Run, ...]:
        def work(unit: Unit) -> tuple[Run, ...]:
            for run in RUNS.all(unit.connection, runs.c.state == RunState.RUNNING):
                since = run.rested or min(now, _last_sign(unit, run, alive=alive))
                interrupted = replace(run, state=RunState.INTERRUPTED, rested=since, rested_on=INTERRUPTED)
                _move(unit, run, run=interrupted)
                unit.note(notes.of_run("run.interrupted", interrupted, data={}), now)
            return RUNS.all(unit.connection, runs.c.state == RunState.INTERRUPTED)

        return await self._database.write(work)

    async def call(self, call: Call, now: datetime) -> None:
        if call.state is not CallState.REQUESTED:
            raise TransitionError(f"call {call.id} begins as {CallState.REQUESTED}, not {call.state}")
        await self._database.write(lambda unit: insert_call(unit, call))

    async def move_call(self, call: Call, state: CallState, *, now: datetime, taint: Tier | None = None) -> Call:
        def work(unit: Unit) -> Call:
            if taint is not None:
                run = RUNS.get(unit.connection, call.run)
                _update(unit, replace(run, taint=min(run.taint, taint)))
            return move_call(unit, call, state=state, now=now)

        return await self._database.write(work)

    def end_look(self, call: Call, *, now: datetime) -> Future[Call]:
        return self._database.write_soon(lambda unit: move_call(unit, call, state=CallState.SUCCEEDED, now=now))

    async def calls(self, run: str) -> tuple[Call, ...]:
        found = await self._database.read(lambda reader: CALLS.all(reader, calls.c.run == run))
        return tuple(sorted(found, key=lambda call: (call.turn, call.position)))

    async def get_call(self, call: str) -> Call:
        return await self._database.read(lambda reader: CALLS.get(reader, call))

    async def get(self, run: str) -> Run:
        return await self._database.read(lambda reader: RUNS.get(reader, run))

    async def find(self, query: Query) -> tuple[Run, ...]:
        return await self._database.read(lambda reader: RUNS.newest(reader, query))

    async def in_state(self, *states: RunState) -> tuple[Run, ...]:
        return await self._database.read(lambda reader: RUNS.all(reader, runs.c.state.in_(states)))


def _update(unit: Unit, run: Run) -> None:
    values = {"run": run.id, **{f"new_{name}": getattr(run, name) for name in _KEPT}}
    if _UPDATE.run(unit.driver, values) != 1:
        raise NotFoundError(f"there is no run {run.id}")


def _last_sign(unit: Unit, run: Run, *, alive: datetime | None) -> datetime:
    """When the run was last at work for all we know: the daemon's last sign of life, its own start, or a call of it."""
    ends = select(func.max(calls.c.requested_at, type_=calls.c.requested_at.type),
                  func.max(calls.c.ended_at, type_=calls.c.ended_at.type)).where(calls.c.run == run.id)  # fmt: skip
    signs = (alive, run.started, *unit.connection.execute(ends).one())
    return max(sign for sign in signs if sign is not None)


def insert_run(unit: Unit, run: Run, *, now: datetime) -> None:
    """A new queued run."""
    if run.state is not RunState.QUEUED:
        raise TransitionError(f"run {run.id} begins as {RunState.QUEUED}, not {run.state}")
    unit.execute(_INSERT, RUNS.row(run))
    unit.note(notes.queued(run), now)


def requeue_run(unit: Unit, run: Run, *, reason: str, now: datetime) -> None:
    """parked / interrupted → queued. Raises `TransitionError`."""
    requeued = replace(run, state=RunState.QUEUED, parked_on=None)
    _move(unit, run, run=requeued)
    unit.note(notes.of_run("run.requeued", requeued, data={"reason": notes.short(reason)}), now)


def _move(unit: Unit, stored: Run, *, run: Run) -> None:
    if run.state not in RUN_MOVES.get(stored.state, frozenset()):
        raise TransitionError(f"run {run.id} is {stored.state} and cannot become {run.state}")
    values = {f"new_{name}": getattr(run, name) for name in (*_KEPT, *_MOVED)}
    unit.execute(_MOVE, {"run": stored.id, "was": stored.state, **values})
