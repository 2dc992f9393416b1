"""The dispatcher: starts queued runs, one a workspace, and ends them when told to."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from kairosd.core.budget import allowance_in, purse_of
from kairosd.core.levels import Ruling
from kairosd.core.runs import ENDED, Approval, ApprovalState, ParkedOn, Run, RunState
from kairosd.engine.repository import Place
from kairosd.engine.signals import Alarm
from kairosd.engine.supervise import contain
from kairosd.engine.tooling import Tooling
from kairosd.errors import StoreError, TransitionError

if TYPE_CHECKING:  # with the module comes what runs need: loaded when the first one begins
    from kairosd.engine.runs import Worker

log = logging.getLogger("kairosd.dispatch")

RETRY = 30  # seconds
# The disk is full, there are too many open files, or a module that is loaded late is being replaced.
NOT_NOW = (StoreError, OSError, ImportError)
WORKER = "kairosd.engine.runs"
STOPPED = "stopped by the owner"
UNWANTED = "the owner did not want it to go on"
UNENDED = (RunState.QUEUED, RunState.RUNNING, RunState.PARKED, RunState.INTERRUPTED)
RESUME_WITHIN = timedelta(hours=1)  # design §2: at rest for longer than this asks first


class Dispatcher:
    """Owns the running workers."""

    def __init__(
        self,
        tooling: Tooling,
        places: Mapping[str, Place],
        *,
        ended: Callable[[str], None],
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._t = tooling
        self._places = places
        self._ended = ended
        self._paused = paused
        self._alarm = Alarm(tooling.clock)
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self._refilled: set[str] = set()
        self._halted = False
        self._begun = False

    def wake(self) -> None:
        """A run was queued, or a workspace became free."""
        self._alarm.ring()

    async def run(self) -> None:
        """Starts runs until cancelled; then every running one is left to be resumed at the next start.

        Started again after it broke, it takes up first what broke with it.
        """
        if self._begun:
            await self.recover(alive=self._t.clock.now())
            for workspace in self._places:
                self._ended(workspace)
        self._begun = True
        async with asyncio.TaskGroup() as group:
            self._t.tasks.open(group, self._task_ended)
            while True:
                try:
                    for queued in await self._t.stores.runs.queued():
                        await self._start(queued, group)
                except NOT_NOW as error:
                    # What raised here would end every worker with it.
                    log.warning("no run can be started: %s", error)
                    await self._alarm.wait(self._t.clock.now() + timedelta(seconds=RETRY))
                else:
                    await self._alarm.wait()

    async def stop(self, run: str) -> list[str]:
        """Cancels one run in any unended state. Returns its id. Raises `TransitionError`."""
        wanted = [one for one in await self._t.stores.runs.in_state(*UNENDED) if one.id == run]
        if not wanted:
            raise TransitionError(f"{run} has ended already")
        for one in wanted:
            await self._cancel(one)
        return [one.id for one in wanted]

    def halt(self) -> list[str]:
        """Cancels every run's task now, and starts none before `cancel_all`. Writes nothing; the runs' ids."""
        self._halted = True
        self._t.tasks.stop()
        for run, task in self._workers.items():
            self._cancelled.add(run)
            task.cancel()
        return [*self._workers]

    async def cancel_all(self, until: datetime, *, reason: str) -> list[str]:
        """Writes down that every run made by `until` is cancelled, then goes on; the ids. Raises `StoreError`."""
        ended: list[str] = []
        for run in await self._t.stores.runs.in_state(*UNENDED):
            if run.created <= until:
                with contextlib.suppress(TransitionError):  # it had ended by itself: what was written stands
                    await self._t.ending.cancel(run, reason=reason)
                    ended.append(run.id)
                    self._ended(run.workspace)
        self._halted = False
        self.wake()
        return ended

    async def recover(self, *, alive: datetime | None = None) -> list[Run]:
        """What was interrupted goes on if that is recent, else the owner is asked.

        `alive` is when the runs were at work for certain; None = at boot, where the database knows.
        """
        now = self._t.clock.now()
        if alive is None and isinstance(seen := await self._t.stores.state.get("last_seen"), str):
            alive = datetime.fromisoformat(seen)
        await self._t.stores.tasks.recover(now)
        interrupted = await self._t.stores.runs.interrupt_running(now, alive=alive)
        for run in interrupted:
            await _spare_others(partial(self._take_up, run, now), run, failed=partial(self._fail, run))
        await self._review()
        return list(interrupted)

    async def _take_up(self, run: Run, now: datetime) -> None:
        if run.rested and now - run.rested > RESUME_WITHIN:
            ago = self._t.news.ago(run.rested)
            park = self._t.ending.stuck(run, f"It was interrupted {ago} ({run.rested:%Y-%m-%d %H:%M} UTC).")
            await self._t.stores.runs.park(run, ParkedOn.OWNER, approval=park.approval, notices=park.notices, now=now)
        else:
            await self._t.stores.runs.requeue(run.id, "it was interrupted", now=now)

    async def _fail(self, run: Run, reason: str) -> None:
        await self._t.give_up(run, RunState.FAILED, reason=reason)

    async def _review(self) -> None:
        """Judges every call that waits for the owner again: the rules may have changed since it was asked about."""
        for run in await self._t.stores.runs.in_state(RunState.PARKED):
            place = self._places.get(run.workspace)
            if run.parked_on is ParkedOn.APPROVAL and place is not None:
                await _spare_others(partial(self._review_questions, run, place), run, failed=_leave_open)

    async def _review_questions(self, run: Run, place: Place) -> None:
        for approval in await self._t.stores.approvals.of_run(run.id):
            if approval.state is not ApprovalState.OPEN or not approval.call:
                continue
            call = await self._t.stores.runs.get_call(approval.call)
            opinion = await self._worker(run, place).review(call)
            if opinion is not None and opinion.ruling is not Ruling.ASK:
                reason = f"its question needs no answer any more: {opinion.ruling.label}, {opinion.rule}"
                await self._t.stores.approvals.withdraw(approval.id, reason, now=self._t.clock.now())

    async def refill(self) -> None:
        """Lets runs go on that asked for money when there is room in their purse again: the question is withdrawn.

        One a purse, and the next when that one has begun: what it needs is reserved by its next turn, not before.
        """
        self._refilled &= {run.id for run in await self._t.stores.runs.queued()}
        for run in await self._t.stores.runs.in_state(RunState.PARKED):
            taken = {purse_of(one.trigger) for one in await self._t.stores.runs.queued() if one.id in self._refilled}
            if run.parked_on is not ParkedOn.PURSE or purse_of(run.trigger) in taken:
                continue
            for approval in await self._t.stores.approvals.of_run(run.id):
                asked = allowance_in(approval.id, approval.hash) if approval.state is ApprovalState.OPEN else None
                if asked and await self._t.asking.purses.suffices(run, asked):
                    with contextlib.suppress(TransitionError):  # answered in this moment
                        reason = "there is room in its purse again"
                        await self._t.stores.approvals.withdraw(approval.id, reason, now=self._t.clock.now())
                        self._refilled.add(run.id)
                        self.wake()

    async def _start(self, queued: Run, group: asyncio.TaskGroup) -> None:
        place = self._places.get(queued.workspace)
        if place is None:
            return  # its workspace is not configured now; it stays queued and `status` shows it
        if self._halted or (self._paused() and queued.trigger != "owner" and queued.started is None):
            return  # a call to the model that was under way when the owner paused has led to it
        importlib.import_module(WORKER)  # raises here, where the run is not yet on record as running
        started = await self._t.stores.runs.start(queued.id, self._t.clock.now())
        if started is not None and not self._halted:
            self._workers[started.id] = group.create_task(self._work(started, place))

    def _worker(self, run: Run, place: Place) -> Worker:
        made: Worker = importlib.import_module(WORKER).Worker(self._t, place, run=run)
        return made

    async def _work(self, run: Run, place: Place) -> None:
        worker: Worker | None = None

        async def work() -> None:
            nonlocal worker
            worker = self._worker(run, place)
            await self._drive(worker)

        def standing() -> Run:
            return run if worker is None else worker.run

        async def failed(reason: str) -> None:
            await self._end_surely(standing(), RunState.FAILED, reason=reason)

        try:
            await contain(work, f"run {run.id}", failed=failed)
        except asyncio.CancelledError:
            if run.id not in self._cancelled:
                raise
            if not self._halted:
                # The one place that shields: the state is written even though the task is being cancelled.
                await asyncio.shield(self._end_surely(standing(), RunState.CANCELLED, reason=STOPPED))
        finally:
            self._workers.pop(run.id, None)
            self._cancelled.discard(run.id)
            self._ended(run.workspace)
            self.wake()

    async def _end_surely(self, run: Run, state: RunState, *, reason: str) -> None:
        """Ends the run, however long that cannot be: one that stayed `running` would hold its workspace."""
        while not self._halted:
            try:
                return await self._t.give_up(run, state, reason=reason)
            except TransitionError:
                return None  # ended by somebody else meanwhile
            except NOT_NOW as error:
                log.warning("%s cannot be ended yet: %s", run.id, error)
                await self._t.clock.sleep(RETRY)
        return None

    def _task_ended(self, workspace: str) -> None:
        self._ended(workspace)
        self.wake()

    async def _drive(self, worker: Worker) -> None:
        while True:
            try:
                if (await self._t.stores.runs.get(worker.run.id)).state is not RunState.RUNNING:
                    return None  # stopped in the moment between its start and its worker
                if (denied := await self._denied(worker.run)) is None:
                    return await worker.drive()
                about_money = allowance_in(denied.id, denied.hash) is not None
                state = RunState.OVER_BUDGET if about_money else RunState.CANCELLED
                reason = "its purse was empty, and no more was allowed" if about_money else UNWANTED
                return await self._t.give_up(worker.run, state, reason=reason)
            except TransitionError:
                if (await self._t.stores.runs.get(worker.run.id)).state in ENDED:
                    return None  # ended by somebody else meanwhile: what they wrote stands
                raise
            except StoreError:
                # A full disk: all that was done is in the ledger, so the run is taken up again where it stopped.
                await self._t.clock.sleep(RETRY)

    async def _denied(self, run: Run) -> Approval | None:
        """The question this run was parked on, if it was about the run itself and the answer was no."""
        for approval in await self._t.stores.approvals.of_run(run.id):
            if not approval.call:
                return approval if approval.state in (ApprovalState.DENIED, ApprovalState.EXPIRED) else None
        return None

    async def _cancel(self, run: Run) -> None:
        self._t.tasks.stop(run.id)  # at once, whatever the worker is in the middle of
        task = self._workers.get(run.id)
        if task is None:
            await self._t.give_up(run, RunState.CANCELLED, reason=STOPPED)
            self._ended(run.workspace)
            return
        self._cancelled.add(run.id)
        task.cancel()
        await asyncio.wait([task], timeout=5)


async def _spare_others(
    work: Callable[[], Awaitable[None]], run: Run, *, failed: Callable[[str], Awaitable[None]]
) -> None:
    """Does `work` for `run`; where that breaks, only this run is the worse for it. Raises `StoreError`."""
    refused: list[StoreError] = []

    async def written() -> None:
        try:
            await work()
        except StoreError as error:
            refused.append(error)  # it will be the same for every run: whoever waits for the disk does it again

    await contain(written, f"run {run.id}", failed=failed)
    if refused:
        raise refused[0]


async def _leave_open(_reason: str) -> None:
    """The question stays as it is: it is judged again when the run goes on."""
