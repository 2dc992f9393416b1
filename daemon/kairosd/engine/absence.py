"""Absence: for how long the owner has not been seen, and an alarm that rings when they come back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from kairosd.ports import Clock, Query, Stores

OWNERS = frozenset({"owner", "files"})  # a told wish, and files saved in a workspace
LOOKED_AT = 500  # of the newest events and answers, at the start


class Absence:
    """Knows when the owner was last seen. What sees them says so (`seen`)."""

    def __init__(self, stores: Stores, clock: Clock) -> None:
        self._stores = stores
        self._clock = clock
        self._last = clock.now()
        self._back = asyncio.Event()

    async def recall(self) -> None:
        """At the start: when the owner was last seen before it, from the record."""
        now = self._clock.now()
        events = await self._stores.events.find(Query(limit=LOOKED_AT))
        moments = [event.received_at for event in events if event.source in OWNERS]
        answers = await self._stores.approvals.answers(now - timedelta(days=7))
        moments += [one.answered_at for one in answers if one.answered_at]
        oldest = min([event.received_at for event in events], default=now - timedelta(days=1))
        self._last = max(moments, default=oldest)

    def seen(self) -> None:
        """The owner is here now."""
        self._last = self._clock.now()
        self._back.set()

    def lasts(self, seconds: float) -> bool:
        """Whether the owner has not been seen for at least that long."""
        return self._clock.now() - self._last >= timedelta(seconds=seconds)

    async def ends(self) -> None:
        """Returns when the owner comes back, from this call on."""
        self._back.clear()
        await self._back.wait()
