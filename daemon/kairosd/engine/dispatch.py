"""The dispatcher: starts queued runs, one a workspace, and ends them when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from kairosd.core.runs import ENDED, ApprovalState, ParkedOn, Run, RunState
from kairosd.engine.repository import Place
from kairosd.engine.runs import Tooling, Worker
from kairosd.engine.signals import Alarm
from kairosd.engine.supervise import contain
from kairosd.errors import StoreError, TransitionError

STORE_RETRY = 30  # seconds
RESUME_WITHIN = timedelta(hours=1)  # design §2: interrupted longer ago than this asks first


class Dispatcher:
    """Owns the running workers."""

    def __init__(self, tooling: Tooling, places: Mapping[str, Place], *, ended: Callable[[str], None]) -> None:
        self._t = tooling
        self._places = places
        self._ended = ended
        self._alarm = Alarm(tooling.clock)
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()

    def wake(self) -> None:
        """A run was queued, or a workspace became free."""
        self._alarm.ring()

    async def run(self) -> None:
        """Starts runs until cancelled; then every running one is left to be resumed at the next start."""
        async with asyncio.TaskGroup() as group:
            while True:
                for queued in await self._t.stores.runs.queued():
                    await self._start(queued, group)
                await self._alarm.wait()

    async def stop(self, run: str | None) -> list[str]:
        """Cancels one run (any unended state) or all. Returns the ids. Raises `TransitionError`."""
        states = (RunState.QUEUED, RunState.RUNNING, RunState.PARKED, RunState.INTERRUPTED)
        open_runs = await self._t.stores.runs.in_state(*states)
        wanted = [one for one in open_runs if run is None or one.id == run]
        if run is not None and not wanted:
            raise TransitionError(f"{run} has ended already")
        for one in wanted:
            await self._cancel(one)
        return [one.id for one in wanted]

    async def recover(self) -> list[Run]:
        """At boot: what was interrupted goes on if that is recent, else the owner is asked."""
        now = self._t.clock.now()
        interrupted = await self._t.stores.runs.interrupt_running(now)
        for run in interrupted:
            if run.started and now - run.started > RESUME_WITHIN:
                reason = f"It was interrupted a while ago (started {run.started:%Y-%m-%d %H:%M} UTC)."
                park = self._t.ending.stuck(run, reason)
                await self._t.stores.runs.park(
                    run, ParkedOn.OWNER, approval=park.approval, notices=park.notices, now=now
                )
            else:
                await self._t.stores.runs.requeue(run.id, "Kairos was restarted", now=now)
        return list(interrupted)

    async def _start(self, queued: Run, group: asyncio.TaskGroup) -> None:
        place = self._places.get(queued.workspace)
        if place is None:
            return  # its workspace is not configured now; it stays queued and `status` shows it
        started = await self._t.stores.runs.start(queued.id, self._t.clock.now())
        # Stopped in the moment between its start and its worker: the row says so, and no worker begins.
        if started is not None and (await self._t.stores.runs.get(started.id)).state is RunState.RUNNING:
            self._workers[started.id] = group.create_task(self._work(started, place))

    async def _work(self, run: Run, place: Place) -> None:
        worker = Worker(self._t, place, run=run)

        async def failed(reason: str) -> None:
            await self._t.ending.give_up(worker.run, RunState.FAILED, reason=reason)

        try:
            await contain(partial(self._drive, worker), f"run {run.id}", failed=failed)
        except asyncio.CancelledError:
            if run.id not in self._cancelled:
                raise
            # The one place that shields: the state is written even though the task is being cancelled.
            await asyncio.shield(self._t.ending.give_up(worker.run, RunState.CANCELLED, reason="stopped by the owner"))
        finally:
            self._workers.pop(run.id, None)
            self._cancelled.discard(run.id)
            self._ended(run.workspace)
            self.wake()

    async def _drive(self, worker: Worker) -> None:
        while True:
            try:
                if not await self._denied(worker.run):
                    return await worker.drive()
                reason = "the owner did not want it to go on"
                return await self._t.ending.give_up(worker.run, RunState.CANCELLED, reason=reason)
            except TransitionError:
                if (await self._t.stores.runs.get(worker.run.id)).state in ENDED:
                    return None  # ended by somebody else meanwhile: what they wrote stands
                raise
            except StoreError:
                # A full disk: all that was done is in the ledger, so the run is taken up again where it stopped.
                await self._t.clock.sleep(STORE_RETRY)

    async def _denied(self, run: Run) -> bool:
        """Whether the question this run was parked on, if it was about the run itself, was answered with no."""
        for approval in await self._t.stores.approvals.of_run(run.id):
            if not approval.call:
                return approval.state in (ApprovalState.DENIED, ApprovalState.EXPIRED)
        return False

    async def _cancel(self, run: Run) -> None:
        task = self._workers.get(run.id)
        if task is None:
            await self._t.ending.give_up(run, RunState.CANCELLED, reason="stopped by the owner")
            self._ended(run.workspace)
            return
        self._cancelled.add(run.id)
        task.cancel()
        await asyncio.wait([task], timeout=5)
