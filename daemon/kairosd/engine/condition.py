"""How the daemon is: its state, and what is wrong with the fix for each, as `status` shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from kairosd.core.json import JsonObject
from kairosd.engine.supervise import Health
from kairosd.ports import Clock

Report = Callable[[], Iterable[JsonObject]]

# A part that failed counts as a problem for this long after its last failure.
RECENT_SECONDS = 600


class Condition:
    """Gathers problems: those that were set and not cleared, those that parts report when asked, and failing parts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.started = clock.now()
        self.state = "starting"
        self.paused = False
        self.counters: dict[str, int] = {"webhook_rejected": 0}
        self._set: dict[str, JsonObject] = {}
        self._harmless: set[str] = set()
        self._reports: list[Report] = []
        self._health: list[Health] = []

    def pause(self, on: bool) -> None:
        """From now on there is no initiative, or there is again."""
        self.paused = on

    def set(self, code: str, text: str, *, fix: str, degrades: bool = True) -> None:
        """Something is wrong until `clear(code)`; without `degrades` it is only worth knowing."""
        self._harmless.discard(code) if degrades else self._harmless.add(code)
        self._set[code] = {"code": code, "text": text, "fix": fix}

    def clear(self, code: str) -> None:
        """It is right again; fine also when it never was wrong."""
        self._set.pop(code, None)

    def count(self, name: str) -> None:
        """One more of what only this process knows; what is on disk is counted there."""
        if name in self.counters:
            self.counters[name] += 1

    def ask(self, report: Report) -> None:
        """Asks `report` for problems each time the condition is wanted."""
        self._reports.append(report)

    def watch(self, name: str) -> Health:
        """The health record of a supervised part."""
        health = Health(name)
        self._health.append(health)
        return health

    @property
    def shown_state(self) -> str:
        """`starting`, `ready`, `paused`, `degraded` or `stopping` (design §12)."""
        if self.state != "ready":
            return self.state
        if self.paused:
            return "paused"
        return "degraded" if any(one["code"] not in self._harmless for one in self.problems()) else "ready"

    def problems(self) -> list[JsonObject]:
        """`{code, text, fix}`, in the order they came up."""
        found = [*self._set.values()]
        for report in self._reports:
            found += report()
        return found + [_failing(health) for health in self._health if self._failed_lately(health)]

    def _failed_lately(self, health: Health) -> bool:
        return health.failed_at is not None and _age(health.failed_at, self._clock) < RECENT_SECONDS

    def view(self) -> JsonObject:
        """The part of `status` that the condition knows."""
        return {
            "state": self.shown_state,
            "problems": self.problems(),
            "uptime_seconds": int(_age(self.started, self._clock)),
        }


def _age(moment: datetime, clock: Clock) -> float:
    return (clock.now() - moment).total_seconds()


def _failing(health: Health) -> JsonObject:
    text = f"{health.name} failed {health.failures} times: {health.last_error}"
    return {"code": "part_failing", "text": text, "fix": "it is started again by itself; the daemon's log says more"}
