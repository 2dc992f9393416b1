"""The boot event: how long the daemon was away and what that interrupted. It is recorded and costs no model call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kairosd.core.events import Draft, Tier
from kairosd.core.journal import stamp
from kairosd.core.json import Json
from kairosd.ports.world import Deps, Trigger

LISTED = 20  # interrupted runs named in the event; the count says how many there were


def build(
    _section: object, deps: Deps, *, last_seen: datetime | None = None, interrupted: Sequence[str] = ()
) -> Trigger:
    """Tells once that the daemon started. `last_seen` is its last sign of life; `interrupted` the runs it left."""
    return Boot(deps, last_seen=last_seen, interrupted=tuple(interrupted))


class Boot:
    """Submits its one event and is done."""

    name = "boot"

    def __init__(self, deps: Deps, *, last_seen: datetime | None, interrupted: tuple[str, ...]) -> None:
        self._deps = deps
        self._last_seen = last_seen
        self._interrupted = interrupted
        self._started = deps.clock.now()

    async def run(self) -> None:
        away = self._started - self._last_seen if self._last_seen else None
        facts: dict[str, Json] = {
            "first": away is None,
            "away_seconds": max(0, int(away.total_seconds())) if away else 0,
            "interrupted": len(self._interrupted),
            "runs": list(self._interrupted[:LISTED]),
        }
        # The key is the moment of this start: a trigger that the supervisor starts again adds no second event.
        key = f"boot:{stamp(self._started)}"
        await self._deps.intake.submit(Draft(source="boot", kind="boot", key=key, tier=Tier.LOCAL, facts=facts))
