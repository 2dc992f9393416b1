"""Commands that go on in the background, each with the event that reports its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import insert

from kairosd.core.runs import ParkedOn, RunState
from kairosd.core.tasks import SOURCE, Task, TaskState, event_of
from kairosd.errors import TransitionError
from kairosd.ports.stores import Query
from kairosd.store import notes
from kairosd.store.database import Database, Unit
from kairosd.store.events import add_event, coalesce_pending
from kairosd.store.records import RUNS, TASKS
from kairosd.store.runs import requeue_run
from kairosd.store.schema import tasks
from kairosd.store.task_moves import has_running_task, move_task

_INSERT = insert(tasks)


class TaskStore:
    """Implements `ports.Tasks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, task: Task, now: datetime) -> None:
        if task.state is not TaskState.RUNNING:
            raise TransitionError(f"task {task.id} begins as {TaskState.RUNNING}, not {task.state}")

        def work(unit: Unit) -> None:
            unit.execute(_INSERT, TASKS.row(task))
            unit.note(notes.of_task(task), now)

        await self._database.write(work)

    async def end(self, task: Task, now: datetime) -> None:
        await self._database.write(lambda unit: _end(unit, task, now=now))

    async def recover(self, now: datetime) -> tuple[Task, ...]:
        def work(unit: Unit) -> tuple[Task, ...]:
            found = TASKS.all(unit.connection, tasks.c.state == TaskState.RUNNING)
            lost = tuple(replace(task, state=TaskState.LOST, ended=now) for task in found)
            for task in lost:
                _end(unit, task, now=now)
            return lost

        return await self._database.write(work)

    async def heard(self, task: str, *, now: datetime) -> None:
        reason = "its run was told and goes on with it"
        await self._database.write(lambda unit: coalesce_pending(unit, SOURCE, key=task, reason=reason, now=now))

    async def of_run(self, run: str) -> tuple[Task, ...]:
        return await self._database.read(lambda reader: TASKS.all(reader, tasks.c.run == run))

    async def running(self) -> tuple[Task, ...]:
        return await self._database.read(lambda reader: TASKS.all(reader, tasks.c.state == TaskState.RUNNING))

    async def get(self, task: str) -> Task:
        return await self._database.read(lambda reader: TASKS.get(reader, task))

    async def find(self, query: Query) -> tuple[Task, ...]:
        return await self._database.read(lambda reader: TASKS.newest(reader, query))


def _end(unit: Unit, task: Task, *, now: datetime) -> None:
    """The end, its event, and the run that waits for it alone: one transaction, so nobody decides in between."""
    move_task(unit, task, now=now)
    run = RUNS.get(unit.connection, task.run)
    # It shares the files with its run, which may have read a stranger's words since the task began.
    add_event(unit, event_of(replace(task, tier=min(task.tier, run.taint))), now=now)
    waits = run.state is RunState.PARKED and run.parked_on is ParkedOn.TASK
    if waits and not has_running_task(unit, run.id):
        requeue_run(unit, run, reason=f"{task.id} has ended", now=now)
