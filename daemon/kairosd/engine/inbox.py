"""The inbox: every event is durable before it is acknowledged, and wakes the one who decides about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from kairosd.core.events import Draft, Receipt
from kairosd.engine.initiative import Initiative
from kairosd.engine.signals import Alarm
from kairosd.ports import Clock, Stores


class Inbox:
    """Implements `Intake`: triggers and servers hand events in here."""

    def __init__(self, stores: Stores, clock: Clock, *, initiatives: Mapping[str | None, Initiative]) -> None:
        self._events = stores.events
        self._clock = clock
        self._initiatives = initiatives
        self._activity = Alarm(clock)

    async def submit(self, draft: Draft) -> Receipt:
        if draft.workspace not in self._initiatives:
            draft = replace(draft, workspace=None)  # nobody would ever look at it; without a workspace it may be told
        receipt = await self._events.add(draft, self._clock.now())
        if not receipt.duplicate:
            self.wake(draft.workspace)
        return receipt

    async def tick(self, workspace: str) -> bool:
        initiative = self._initiatives[workspace]
        draft = await initiative.notice_change()
        if draft is None:
            return False
        await self._events.add(draft, self._clock.now())
        initiative.wake()
        return True

    def next_wake(self, workspace: str) -> datetime | None:
        return self._initiatives[workspace].next_wake

    async def quiet_until(self, moment: datetime) -> bool:
        return await self._activity.wait(moment)

    def wake(self, workspace: str | None) -> None:
        """Rouses the initiative of `workspace`, and the tick's back-off."""
        self._activity.ring()
        initiative = self._initiatives.get(workspace) or self._initiatives[None]
        initiative.wake()

    def wake_set(self) -> None:
        """Lets the tick look again at when the next wake is due."""
        self._activity.ring()
