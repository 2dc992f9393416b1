"""The tick: one timer for all workspaces that asks whether a world changed, ever more rarely while none does.

Design §6: paced by the model through `wait` (a workspace's next wake), else backing off from `min_seconds` over
5, 10, 20, 40 and 60 minutes to `max_seconds`; any event starts the back-off again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from kairosd.config.sections import TickSection
from kairosd.ports.world import Deps, Trigger

BACKOFF = tuple(minutes * 60 for minutes in (5, 10, 20, 40, 60))  # seconds, design §6
FAR = timedelta(days=1)  # how long a disabled tick sleeps when no wake is set; setting one rouses it


def build(section: TickSection, deps: Deps) -> Trigger:
    """The tick over all workspaces of `deps`. With `enabled = false` it still serves the wakes that a `wait` set."""
    steps = ladder(section.min_seconds, section.max_seconds) if section.enabled else ()
    return Tick(deps, steps)


def ladder(min_seconds: int, max_seconds: int) -> tuple[int, ...]:
    """The waits in seconds, shortest first: `min_seconds`, the steps of the back-off between, `max_seconds`."""
    longest = max(min_seconds, max_seconds)
    return tuple(sorted({min_seconds, longest, *(step for step in BACKOFF if min_seconds < step < longest)}))


class Tick:
    """Looks at every workspace when its pace says so, and at one whose wake is due."""

    name = "tick"

    def __init__(self, deps: Deps, steps: Sequence[int]) -> None:
        self._clock = deps.clock
        self._intake = deps.intake
        self._names = [workspace.name for workspace in deps.workspaces]
        self._steps = steps
        self._level = 0
        self._served: dict[str, datetime] = {}

    async def run(self) -> None:
        self._level = 0
        due = self._next()
        while True:
            wakes = self._wakes()
            if await self._intake.quiet_until(min([due, *wakes.values()])):
                # An event shortens the wait and never stretches it: one busy workspace must not starve the others.
                self._level = 0
                due = min(due, self._next())
                continue
            now = self._clock.now()
            for name, moment in wakes.items():
                if moment <= now:
                    self._served[name] = moment
                    await self._intake.tick(name)
            if due <= now:
                await self._look()
                due = self._next()

    async def _look(self) -> None:
        if not self._steps:
            return
        changed = [await self._intake.tick(name) for name in self._names]
        self._level = 0 if any(changed) else min(self._level + 1, len(self._steps) - 1)

    def _next(self) -> datetime:
        wait = timedelta(seconds=self._steps[self._level]) if self._steps else FAR
        return self._clock.now() + wait

    def _wakes(self) -> dict[str, datetime]:
        """The wakes still to serve: one that its owner did not clear must not turn the loop into a spin."""
        found = {name: self._intake.next_wake(name) for name in self._names}
        return {name: wake for name, wake in found.items() if wake is not None and wake != self._served.get(name)}
