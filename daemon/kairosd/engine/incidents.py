"""Incidents: the owner is told once that a model is away, and once that it is back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

from kairosd.core.journal import Note
from kairosd.core.json import Json
from kairosd.core.notices import NoticeDraft
from kairosd.errors import StoreError
from kairosd.frozen import frozen
from kairosd.ports import Clock, State

log = logging.getLogger("kairosd.models")

STORED_AS = "incidents"
SAME_WITHIN = timedelta(minutes=10)  # what breaks again so soon was never whole


@frozen
class Incident:
    """`broke` is when it broke the last time: later than `since` where it was back for a moment."""

    since: datetime
    broke: datetime
    ended: datetime | None = None


class Incidents:
    """Which models are away, as the owner knows it; kept in the database, so that a restart tells nothing twice."""

    def __init__(self, state: State, clock: Clock, *, tell: Callable[[NoticeDraft], Awaitable[None]]) -> None:
        self._state = state
        self._clock = clock
        self._tell = tell
        self._incidents: dict[str, Incident] = {}
        self._loaded = False
        self._storing = asyncio.Lock()

    async def load(self) -> None:
        """Reads those of an earlier daemon, once. Raises `StoreError`."""
        async with self._storing:
            if not self._loaded:
                stored = await self._state.get(STORED_AS)
                self._incidents = _parsed(stored) if isinstance(stored, dict) else {}
                self._loaded = True

    async def begin(self, model: str, reason: str, *, instead: str | None) -> None:
        """`model` is away. Told unless the owner knows: then it is still, or again within minutes, the same incident.

        `instead` is the model that answers meanwhile, if one does.
        """
        now, known = self._clock.now(), self._incidents.get(model)
        if known is None or (known.ended and now - known.ended > SAME_WITHIN):
            incident = Incident(now, now)
        elif known.ended:
            incident = replace(known, broke=now, ended=None)
        elif known.broke > known.since and now - known.broke > SAME_WITHIN:
            # The last word the owner had was that it is back, and now it stays away: that is news.
            incident = Incident(known.broke, known.broke)
        else:
            incident = known
        meanwhile = f"Meanwhile {instead} is asked." if instead else "Events and runs wait; nothing is lost."
        draft = NoticeDraft(
            key=f"model-down:{model}:{incident.since:%Y%m%dT%H%M%S}",
            title=f"The model {model} does not answer",
            body=f"{reason}\n{meanwhile}",
        )
        try:
            # Stored first: after a crash in between it is told under the same key, which is told once.
            await self._store(model, incident, note=Note("model.down", data={"name": model, "reason": reason}))
            await self._tell(draft)
        except StoreError as error:
            log.warning("the owner is not told that %s does not answer: %s", model, error)

    async def end(self, model: str) -> None:
        """`model` answers; told if it had been away."""
        known = self._incidents.get(model)
        if known is None or known.ended:
            return
        now = self._clock.now()
        draft = NoticeDraft(
            key=f"model-up:{model}:{known.since:%Y%m%dT%H%M%S}",
            title=f"The model {model} answers again",
            body=f"It had been away since {known.since:%H:%M} UTC.",
        )
        try:
            await self._tell(draft)
            await self._store(model, replace(known, ended=now), note=Note("model.up", data={"name": model}))
        except StoreError as error:
            log.warning("the owner is not told that %s answers again: %s", model, error)

    async def _store(self, model: str, incident: Incident, *, note: Note) -> None:
        async with self._storing:
            incidents = {**self._incidents, model: incident}
            if incidents != self._incidents:
                await self._state.put(STORED_AS, _stored(incidents), note=note, now=self._clock.now())
                self._incidents = incidents


def _stored(incidents: dict[str, Incident]) -> dict[str, Json]:
    return {
        name: {
            "since": one.since.isoformat(), "broke": one.broke.isoformat(),
            "ended": one.ended.isoformat() if one.ended else None,
        }
        for name, one in incidents.items()
    }  # fmt: skip


def _parsed(stored: dict[str, Json]) -> dict[str, Incident]:
    found: dict[str, Incident] = {}
    for name, one in stored.items():
        if isinstance(one, dict):
            ended = datetime.fromisoformat(str(one["ended"])) if one["ended"] else None
            since, broke = (datetime.fromisoformat(str(one[key])) for key in ("since", "broke"))
            found[name] = Incident(since, broke, ended)
    return found
