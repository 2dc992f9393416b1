"""The inbox: every event is durable before it is acknowledged, and wakes the one who decides about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from kairosd.core.events import Draft, Receipt
from kairosd.engine.absence import OWNERS, Absence
from kairosd.engine.initiative import Initiative
from kairosd.engine.signals import Alarm
from kairosd.errors import StoreError
from kairosd.ports import Clock, Stores


class Inbox:
    """Implements `Intake`: triggers and servers hand events in here."""

    def __init__(
        self, stores: Stores, clock: Clock, *, initiatives: Mapping[str | None, Initiative], absence: Absence
    ) -> None:
        self._events = stores.events
        self._clock = clock
        self._initiatives = initiatives
        self._absence = absence
        self._activity = Alarm(clock)

    async def submit(self, draft: Draft) -> Receipt:
        if draft.workspace not in self._initiatives:
            draft = replace(draft, workspace=None)  # nobody would ever look at it; without a workspace it may be told
        receipt = await self._events.add(draft, self._clock.now())
        if draft.source in OWNERS:
            self._absence.seen()
        if not receipt.duplicate:
            self.wake(draft.workspace)
        return receipt

    async def tick(self, workspace: str) -> bool:
        initiative = self._initiatives[workspace]
        due = initiative.next_wake
        draft = await initiative.notice_change()
        if draft is None:
            return False
        try:
            await self._events.add(draft, self._clock.now())
        except StoreError:
            initiative.next_wake = due  # the next tick tries again: nobody else would before a restart
            raise
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

    def wake_all(self) -> None:
        """Rouses every initiative: what they all need is back."""
        for initiative in self._initiatives.values():
            initiative.wake()

    def wake_set(self) -> None:
        """Lets the tick look again at when the next wake is due."""
        self._activity.ring()
