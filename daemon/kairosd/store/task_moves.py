"""Moves of tasks that happen inside another transition."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import bindparam, exists, select, update

from kairosd.core.tasks import TASK_MOVES, Task, TaskState
from kairosd.errors import TransitionError
from kairosd.store import notes
from kairosd.store.database import Unit
from kairosd.store.records import TASKS
from kairosd.store.schema import tasks

_NEW = ("state", "ended", "code", "timed_out", "result")
_MOVE = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"), tasks.c.state == TaskState.RUNNING)
    .values({name: bindparam(f"new_{name}") for name in _NEW})
)
_RUNNING = tasks.c.state == TaskState.RUNNING


def move_task(unit: Unit, moved: Task, *, now: datetime) -> None:
    """running → the state in `moved`. Raises `TransitionError` where it has ended before."""
    if moved.state not in TASK_MOVES[TaskState.RUNNING]:
        raise TransitionError(f"task {moved.id} cannot become {moved.state}")
    if unit.execute(_MOVE, {"task": moved.id, **{f"new_{name}": getattr(moved, name) for name in _NEW}}).rowcount != 1:
        raise TransitionError(f"task {moved.id} is not running any more")
    unit.note(notes.of_task(moved), now)


def stop_tasks(unit: Unit, run: str, *, now: datetime) -> None:
    """What a run that has ended had left running; its programs are ended by whoever ended the run."""
    for task in TASKS.all(unit.connection, tasks.c.run == run, _RUNNING):
        stopped = replace(task, state=TaskState.STOPPED, ended=now, result="its run has ended")
        move_task(unit, stopped, now=now)


def has_running_task(unit: Unit, run: str) -> bool:
    """Whether the run has something to wait for."""
    return bool(unit.connection.scalar(select(exists().where(tasks.c.run == run, _RUNNING))))
