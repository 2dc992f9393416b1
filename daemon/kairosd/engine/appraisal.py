"""Appraisal: what the owner thinks of what Kairos did, and which triggers may act by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from kairosd.core.decisions import Decision
from kairosd.core.events import Event, EventState
from kairosd.core.journal import Note
from kairosd.core.json import JsonObject
from kairosd.core.modes import Modes
from kairosd.core.ratings import Calibration, Rating, check_decision, check_event
from kairosd.engine.views import calibration_view
from kairosd.engine.why import cause_of, find
from kairosd.errors import TransitionError, UsageError
from kairosd.frozen import frozen
from kairosd.ports import Clock, Stores


@frozen
class Appraisal:
    """`edit` writes a trigger's mode into the configuration."""

    stores: Stores
    clock: Clock
    modes: Modes
    edit: Callable[[str, str], None]

    async def rate(self, identifier: str, rating: Rating) -> JsonObject:
        """Rates the decision that anything of its chain leads back to. Raises `UsageError`, `NotFoundError`."""
        subject = await self._subject(identifier)
        if isinstance(subject, Decision):
            check_decision(subject, rating)
        else:
            check_event(subject, rating)
        was = await self.stores.ratings.put(subject.id, rating, workspace=subject.workspace or "", now=self.clock.now())
        about = subject.goal or subject.reason if isinstance(subject, Decision) else f"{subject.source} {subject.kind}"
        return {
            "id": subject.id, "rating": rating.value, "was": was.value if was else None, "trigger": subject.source,
            "about": about, "shadow": isinstance(subject, Decision) and subject.shadow,
        }  # fmt: skip

    async def _subject(self, identifier: str) -> Decision | Event:
        thing = await find(self.stores, identifier)
        while not isinstance(thing, Decision):
            if isinstance(thing, Event):
                # A dead event keeps the decision that could not be had.
                decided = thing.decision if thing.state is not EventState.DEAD else None
                return await self.stores.decisions.get(decided) if decided else thing
            cause = cause_of(thing)
            if not cause:
                raise UsageError(f"{thing.id} goes back to no decision", fix=f"kairos why {thing.id}")
            thing = await find(self.stores, cause)
        return thing

    async def calibration(self, since: datetime) -> Sequence[JsonObject]:
        """What each trigger's decisions since then came to, the busiest first."""
        return [calibration_view(row) for row in await self.stores.ratings.calibrate(since)]

    async def triggers(self, since: datetime, workspace: str | None) -> Sequence[JsonObject]:
        """Every trigger with its mode, and what it would have done in the shadow since then."""
        found = {
            row.trigger: row for row in await self.stores.ratings.calibrate(since, workspace=workspace, shadow=True)
        }
        empty = (0,) * 10
        rows = [found.get(name) or Calibration(name, *empty) for name in self.modes.triggers]
        return [{"mode": self.modes.of(row.trigger), **calibration_view(row)} for row in rows]

    async def set_mode(self, trigger: str, mode: str) -> JsonObject:
        """Writes the mode into the configuration; nothing is changed where it holds already. Raises `UsageError`."""
        if trigger not in self.modes.triggers:
            raise UsageError(f"there is no trigger {trigger}", fix=f"one of {', '.join(self.modes.triggers)}")
        if self.modes.off:
            raise TransitionError("the initiative is off: no trigger decides anything", fix='[initiative] mode = "on"')
        was = self.modes.of(trigger)
        if was != mode:
            self.edit(trigger, mode)
            note = Note("trigger.mode", data={"trigger": trigger, "mode": mode, "was": was})
            await self.stores.state.note(note, self.clock.now())
        return {"trigger": trigger, "mode": mode, "was": was}
