"""Fakes of the ports, for tests that need a world they can steer. Each passes the contract tests of its port."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta


class ManualClock:
    """A clock that moves when a test says so: `advance` wakes every sleeper whose time has come, in order."""

    def __init__(self, start: datetime = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)) -> None:
        self._now = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        await self.sleep_until(self._now + timedelta(seconds=seconds))

    async def sleep_until(self, moment: datetime) -> None:
        if moment <= self._now:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (moment, self._count, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Moves time on by `seconds`, letting everything that wakes on the way run."""
        target = self._now + timedelta(seconds=seconds)
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            moment, _, future = heapq.heappop(self._sleepers)
            self._step(max(moment, self._now))
            if not future.done():
                future.set_result(None)
            await settle()
        self._step(target)

    def jump(self, seconds: float) -> None:
        """Moves the wall without waking anybody, as a suspend or a set clock does."""
        self._now += timedelta(seconds=seconds)

    def _step(self, moment: datetime) -> None:
        self._elapsed += (moment - self._now).total_seconds()
        self._now = moment


async def settle(rounds: int = 20) -> None:
    """Lets every task that can run do so."""
    for _ in range(rounds):
        await asyncio.sleep(0)
