"""Housekeeping: what must happen now and then although nothing happens. One timer, one wake-up a minute."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta

from kairosd.core.journal import Note
from kairosd.engine.dispatch import Dispatcher
from kairosd.engine.initiative import Initiative
from kairosd.ports import Clock, Stores

INTERVAL = 60  # seconds: how late an approval may expire
SUMMARY_EVERY = timedelta(hours=1)  # design §6: skipped ticks are one line an hour
ALIVE_EVERY = timedelta(minutes=10)  # how exactly the next start knows for how long it was away
SWEEP_EVERY = timedelta(days=1)


class Housekeeping:
    """Expires questions, lets runs go on whose purse has room again, sums up skipped ticks, and sweeps.

    It sweeps a minute after the start, then once a day.
    """

    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        *,
        dispatcher: Dispatcher,
        initiatives: Iterable[Initiative],
        sweep: Callable[[], Awaitable[None]],
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._dispatcher = dispatcher
        self._initiatives = tuple(initiatives)
        self._sweep = sweep
        self._told = 0

    async def run(self) -> None:
        """Works until cancelled."""
        summed = alive = self._clock.now()
        swept = summed - SWEEP_EVERY  # a machine that is never on for a whole day is swept too
        while True:
            await self._clock.sleep_until(self._clock.now() + timedelta(seconds=INTERVAL))
            now = self._clock.now()
            if await self._stores.approvals.expire(now):
                self._dispatcher.wake()
            await self._dispatcher.refill()
            if now - summed >= SUMMARY_EVERY:
                summed = now
                await self._sum_up(now)
            if now - alive >= ALIVE_EVERY:
                alive = now
                await self._stores.state.put("last_seen", now.isoformat(), note=None, now=now)
            if now - swept >= SWEEP_EVERY:
                swept = now
                await self._sweep()

    async def _sum_up(self, now: datetime) -> None:
        skipped = sum(initiative.ticks_skipped for initiative in self._initiatives)
        if skipped > self._told:
            note = Note("tick.skipped", data={"ticks": skipped - self._told})
            self._told = skipped
            await self._stores.state.note(note, now)
