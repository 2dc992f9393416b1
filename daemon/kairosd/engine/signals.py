"""Waking and telling: an alarm that a task sleeps on, and a feed that followers of a run listen to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from kairosd.ports import Clock, Update

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUE_MAX = 1000  # updates a slow follower may lag behind before it is dropped


class Alarm:
    """Sleeps without polling until somebody rings, or until a moment of the Clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wakes the sleeper, or the next one if nobody sleeps now."""
        self._rung.set()

    async def wait(self, until: datetime | None = None) -> bool:
        """Returns True when rung, False when `until` came first."""
        if until is None:
            await self._rung.wait()
        elif not self._rung.is_set():
            await self._first(until)
        rung = self._rung.is_set()
        self._rung.clear()
        return rung

    async def _first(self, until: datetime) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._rung.wait()), group.create_task(self._clock.sleep_until(until))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()


class Feed:
    """Hands what happens in a run to everyone who follows it. Nothing is kept: the transcript and the rows are."""

    def __init__(self) -> None:
        self._followers: dict[str, list[asyncio.Queue[Update | None]]] = {}

    def publish(self, run: str, update: Update) -> None:
        """Never blocks: a follower that lags too far behind is ended instead of slowing the run."""
        for queue in self._followers.get(run, []):
            if queue.qsize() < QUEUE_MAX:
                queue.put_nowait(update)
            elif queue.qsize() == QUEUE_MAX:
                queue.put_nowait(None)

    def close(self) -> None:
        """Ends every follower: the daemon stops, and nothing more will be published."""
        for queues in self._followers.values():
            for queue in queues:
                queue.put_nowait(None)

    @contextmanager
    def subscribe(self, run: str) -> Iterator[AsyncIterator[Update]]:
        """Updates published from now on; ends when the follower was dropped."""
        queue: asyncio.Queue[Update | None] = asyncio.Queue()
        self._followers.setdefault(run, []).append(queue)
        try:
            yield _drain(queue)
        finally:
            self._followers[run].remove(queue)
            if not self._followers[run]:
                del self._followers[run]


async def _drain(queue: asyncio.Queue[Update | None]) -> AsyncIterator[Update]:
    while (update := await queue.get()) is not None:
        yield update
