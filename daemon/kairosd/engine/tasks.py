"""Background work: a command of a run that nobody waits for goes on as a task, and reports by an event (design §8).

A task keeps the sandbox it was started in, and works in its run's checkout. So it belongs to its run: the run may go
on beside it, but is not concluded before it has ended and the run has heard of it; a run that has nothing else to do is
parked meanwhile, at no cost. Whatever else ends the run ends its tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from kairosd.core.ids import mint
from kairosd.core.runs import Run
from kairosd.core.secrets import Scrubber
from kairosd.core.tasks import Task, TaskState
from kairosd.engine.signals import Alarm
from kairosd.engine.supervise import contain
from kairosd.errors import ExecutorError, KairosError, StoreError, ToolError, TransitionError
from kairosd.frozen import frozen
from kairosd.ports import Clock, Errand, Files, Outcome, Stores

log = logging.getLogger("kairosd.tasks")

PATIENCE_SECONDS = 15.0  # design §8: what takes longer moves to the background
USUAL_SECONDS = 120  # of a command that cannot, since there are too many tasks
TASK_SECONDS = 3600  # of one that can, where its run asked for no other limit
TASKS_MAX = 4  # commands of runs that nobody waits for, at the same time
OUTPUT_MAX = 2_100_000  # characters of the output that the file keeps
RESULT_MAX = 16_000  # characters that the row keeps
STORE_RETRY = 30  # seconds
END_SECONDS = 6.0  # in which a command that is cancelled has ended
FOLDER = "tasks"


@dataclass(slots=True, eq=False)
class _Job:
    """One command on its way. With a `task` it is in the background; `answer` is how it ended."""

    run: Run
    errand: Errand
    seconds: int
    began: datetime
    answer: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    task: Task | None = None
    handle: asyncio.Task[None] | None = None


class Tasks:
    """All commands of runs that nobody waits for. They live in the dispatcher's task group: they end with it.

    `state` is the folder that gets `tasks/<id>.txt` with the output of each.
    """

    def __init__(self, stores: Stores, clock: Clock, *, files: Files, state: Path, scrub: Scrubber) -> None:
        self._tasks = stores.tasks
        self._clock = clock
        self._files = files
        self._state = state
        self._scrub = scrub
        self._group: asyncio.TaskGroup | None = None
        self._ended: Callable[[str], None] = lambda _: None
        self._jobs: set[_Job] = set()
        self._alarms: dict[str, Alarm] = {}

    def open(self, group: asyncio.TaskGroup, ended: Callable[[str], None]) -> None:
        """Where commands live from now on, and who hears in which workspace a task has ended."""
        self._group, self._ended = group, ended

    def of(self, run: Run) -> RunTasks | None:
        """For the tools of a run; None for one that the owner waits for."""
        return None if run.trigger == "owner" else RunTasks(self, run)

    async def rest(self, run: str, seconds: int) -> None:
        """Sleeps for a run that asked for it, until something of it in the background has ended."""
        alarm = self._alarms.setdefault(run, Alarm(self._clock))
        await alarm.wait(self._clock.now() + timedelta(seconds=seconds))

    def stop(self, run: str | None = None) -> None:
        """Ends the commands of `run`, or all, now. Writes nothing: a run's end stops its tasks in the record."""
        for job in tuple(self._jobs):
            if job.handle is not None and run in (None, job.run.id):
                job.handle.cancel()

    async def end(self, run: str) -> None:
        """Ends the commands of `run`; returns when they have ended, or do not in time."""
        self.stop(run)
        if handles := [job.handle for job in self._jobs if job.handle is not None and job.run.id == run]:
            await asyncio.wait(handles, timeout=END_SECONDS)

    async def carry(self, run: Run, errand: Errand) -> Outcome | Task:
        """See `ports.Background`."""
        if self._group is None or len(self._jobs) >= TASKS_MAX:
            return await errand.start(errand.seconds or USUAL_SECONDS)
        job = _Job(run, errand, errand.seconds or TASK_SECONDS, self._clock.now())
        work, failed = partial(self._work, job), partial(self._break, job)
        job.handle = self._group.create_task(contain(work, f"a command of {run.id}", failed=failed))
        self._jobs.add(job)
        job.handle.add_done_callback(lambda _: self._jobs.discard(job))
        try:
            await asyncio.wait((job.handle,), timeout=PATIENCE_SECONDS)
            if not job.handle.done():
                return await self._move_on(job)
        finally:
            if job.task is None and not job.handle.done():  # nobody would ever hear of its end
                job.handle.cancel()
                await asyncio.wait((job.handle,))
        if not job.answer.done():
            raise asyncio.CancelledError  # its run is being stopped
        return job.answer.result()

    async def _move_on(self, job: _Job) -> Task:
        now = self._clock.now()
        name = mint("t", now)
        task = Task(
            id=name, state=TaskState.RUNNING, run=job.run.id, call=job.errand.call, workspace=job.run.workspace,
            tier=job.run.taint, command=self._scrub(job.errand.command).text,
            output=str(self._state / FOLDER / f"{name}.txt"),
            created=job.began,
        )  # fmt: skip
        try:
            await self._tasks.begin(task, now)
        except asyncio.CancelledError:
            await self._forsake(job, task)
            raise
        job.task = task
        if job.answer.done():  # it ended while its row was written
            await self._report(job, task)
        return task

    async def _forsake(self, job: _Job, task: Task) -> None:
        """A row that may be there all the same must not hold its run for ever, unless that is being stopped anyway."""
        if job.handle is not None and not job.handle.cancelling():
            lost = replace(task, state=TaskState.LOST, ended=self._clock.now())
            with contextlib.suppress(TransitionError, StoreError):  # no row, or no disk: a restart finds it
                await asyncio.shield(self._tasks.end(lost, self._clock.now()))

    async def _work(self, job: _Job) -> None:
        try:
            outcome = await job.errand.start(job.seconds)
        except KairosError as error:
            job.answer.set_exception(error)
            job.answer.exception()  # whoever waits still gets it; in the background nobody does
        else:
            job.answer.set_result(outcome)
        if job.task is not None:
            await self._report(job, job.task)

    async def _break(self, job: _Job, reason: str) -> None:
        if job.task is not None:  # nobody waits for the answer, and telling it may be what broke
            job.answer = asyncio.get_running_loop().create_future()
        if not job.answer.done():
            job.answer.set_exception(ExecutorError(reason))
            job.answer.exception()
        if job.task is not None:
            await self._report(job, job.task)

    async def _report(self, job: _Job, task: Task) -> None:
        """Writes the output and the end of the task, however long the disk is full."""
        ended = await asyncio.to_thread(self._close, job, task)
        while True:
            try:
                await self._tasks.end(ended, self._clock.now())
            except TransitionError:
                return None  # its run has ended meanwhile, and it with it
            except StoreError as error:
                log.warning("the end of %s is not on record yet: %s", task.id, error)
                await self._clock.sleep(STORE_RETRY)
            else:
                self._alarms.setdefault(task.run, Alarm(self._clock)).ring()
                return self._ended(task.workspace)

    def _close(self, job: _Job, task: Task) -> Task:
        now = self._clock.now()
        error = job.answer.exception()
        if error is not None:
            return replace(task, state=TaskState.LOST, ended=now, result=self._scrub(str(error)).text[:RESULT_MAX])
        outcome = job.answer.result()
        told = self._scrub(job.errand.told(outcome, job.seconds)).text[:RESULT_MAX]
        said = "\n".join(part.decode(errors="replace") for part in (outcome.stdout, outcome.stderr) if part)
        content = self._scrub(said[:OUTPUT_MAX]).text.encode(errors="replace")
        try:
            self._files.replace(self._state, f"{FOLDER}/{task.id}.txt", content=content, mode=0o600)
        except ToolError as problem:
            log.warning("the output of %s is not kept: %s", task.id, problem)
        return replace(
            task, state=TaskState.ENDED, ended=now, code=outcome.code, timed_out=outcome.timed_out, result=told
        )


@frozen
class RunTasks:
    """Implements `Background` for one run."""

    tasks: Tasks
    owner: Run

    async def run(self, errand: Errand) -> Outcome | Task:
        return await self.tasks.carry(self.owner, errand)
