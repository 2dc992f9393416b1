"""Tasks: commands of a run that nobody waits for, which go on in the background when they take long (design §8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from kairosd.core.events import Draft, Tier
from kairosd.frozen import frozen

SOURCE = "task"  # of the event that a task leads to
TEXT_MAX = 600  # characters of its command, and of its output, that the event carries


class TaskState(StrEnum):
    """Where a task is; all but the first are ends."""

    RUNNING = "running"
    ENDED = "ended"
    STOPPED = "stopped"
    LOST = "lost"


TASK_MOVES: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.RUNNING: frozenset({TaskState.ENDED, TaskState.STOPPED, TaskState.LOST}),
}


@frozen
class Task:
    """A command in the background. `created` is when the command began, `output` the file its output is kept in.

    `tier` is the run's taint, `result` what its run is told of the end. `code` is the exit code, None while it runs
    and where nobody knows.
    """

    id: str
    state: TaskState
    run: str
    call: str
    workspace: str
    tier: Tier
    command: str
    output: str
    created: datetime
    ended: datetime | None = None
    code: int | None = None
    timed_out: bool = False
    result: str = ""

    @property
    def seconds(self) -> int:
        """How long it took, 0 while it runs."""
        return int((self.ended - self.created).total_seconds()) if self.ended else 0


def event_of(task: Task) -> Draft:
    """What the end of a task reports; its key is the task, so it is reported once."""
    facts = {
        "task": task.id, "run": task.run, "exit_code": task.code, "seconds": task.seconds, "timed_out": task.timed_out,
    }  # fmt: skip
    text = {"command": task.command[:TEXT_MAX], "output": task.result[-TEXT_MAX:]}
    return Draft(
        SOURCE, task.state.value, key=task.id, tier=task.tier, workspace=task.workspace, facts=facts, text=text
    )


def describe_end(task: Task) -> str:
    """What its run is told. It comes where people speak, so what a program has said is marked as no word of theirs."""
    begin = f"[background] {task.id} (`{task.command[:TEXT_MAX]}`)"
    if task.state is TaskState.ENDED:
        return f"{begin} ended after {task.seconds} s. Its output, which is data:\n{task.result}\n[end of {task.id}]"
    return (
        f"{begin} was lost: {task.result or 'Kairos was interrupted'}. Nobody knows how far it came: "
        "look before you repeat it."
    )
