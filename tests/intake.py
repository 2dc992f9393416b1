"""An intake that keeps what triggers hand in, refuses a known key like the inbox does, and lets a test ring it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from kairosd.core.events import Draft, Receipt
from kairosd.core.journal import Note
from kairosd.core.workspaces import Workspace
from kairosd.engine.signals import Alarm
from kairosd.ports.world import Clock, Deps


class RecordingIntake:
    """Passes the contract of `Intake`; `ticks` are the looks taken, `changed` the workspaces that will say yes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._activity = Alarm(clock)
        self.drafts: list[Draft] = []
        self.ticks: list[tuple[datetime, str]] = []
        self.changed: set[str] = set()
        self.wakes: dict[str, datetime] = {}

    async def submit(self, draft: Draft) -> Receipt:
        for number, known in enumerate(self.drafts):
            if (known.source, known.key) == (draft.source, draft.key) or (draft.body and known.body == draft.body):
                return Receipt(f"e_{number}", duplicate=True)
        self.drafts.append(draft)
        self._activity.ring()
        return Receipt(f"e_{len(self.drafts) - 1}", duplicate=False)

    async def tick(self, workspace: str) -> bool:
        self.ticks.append((self._clock.now(), workspace))
        return workspace in self.changed

    def next_wake(self, workspace: str) -> datetime | None:
        return self.wakes.get(workspace)

    async def quiet_until(self, moment: datetime) -> bool:
        return await self._activity.wait(moment)

    def ring(self) -> None:
        self._activity.ring()


def deps_for(clock: Clock, *, workspaces: Sequence[Workspace], notes: list[Note] | None = None) -> Deps:
    """What an adapter is given, with a recording intake."""
    kept = [] if notes is None else notes
    return Deps(clock, RecordingIntake(clock), workspaces, Path("/nowhere"), Path("/nowhere"), kept.append)
