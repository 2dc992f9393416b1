"""Postponing: a batch that came to no verdict goes back into the inbox, and when it is looked at again."""

from __future__ import annotations

from datetime import datetime, timedelta

from kairosd.core.budget import purse_of
from kairosd.core.decisions import Decision
from kairosd.engine.breakers import Breakers
from kairosd.engine.purses import NoRoom, Purses
from kairosd.errors import ModelError, ModelUnavailableError, StoreError, TransitionError
from kairosd.ports import Clock, Stores

FIRST_RETRY = 15  # seconds; doubled up to LAST_RETRY while a model is down
LAST_RETRY = 600


class Postponing:
    """Gives batches of one initiative back. `decides` names the model that was asked."""

    def __init__(self, stores: Stores, clock: Clock, *, purses: Purses, breakers: Breakers, decides: str) -> None:
        self._events = stores.events
        self._clock = clock
        self._purses = purses
        self._breakers = breakers
        self._decides = decides
        self._failures = 0

    def passed(self) -> None:
        """A batch was decided."""
        self._failures = 0

    async def give_back(self, decision: Decision, *, stopping: bool) -> None:
        """A fault of ours: the events lose a try, so that a batch that always breaks ends up dead and not in a loop.

        With `stopping` it is no fault: Kairos was told to stop in the middle of it.
        """
        retry_at = self._clock.now() + timedelta(seconds=0 if stopping else FIRST_RETRY)
        why = "Kairos was stopped" if stopping else "something broke inside Kairos"
        while True:
            try:
                return await self._events.release(decision.id, why, retry_at=retry_at, blame=not stopping)
            except TransitionError:
                return None  # it was concluded, and Kairos stopped in the moment after: what was written stands
            except StoreError:
                if stopping:
                    return None  # the next start takes them up
                await self._clock.sleep(FIRST_RETRY)

    async def postpone(self, decision: Decision, error: ModelError | NoRoom) -> datetime:
        """The batch waits until the model is back or paid for; its events are not to blame and lose no try."""
        if isinstance(error, NoRoom):
            retry_at = self._purses.hold(purse_of(decision.source), error.breach)
        else:
            self._failures += 1
            delay = min(LAST_RETRY, FIRST_RETRY * 2 ** min(self._failures - 1, 10))
            if isinstance(error, ModelUnavailableError) and error.retry_after:
                delay = min(LAST_RETRY, error.retry_after)
            retry_at = self._clock.now() + timedelta(seconds=delay)
            if self._decides in self._breakers.down:
                # Free at once: another model decides, or the gate before the call holds the batch until one is back.
                now = self._clock.now()
                await self._events.release(decision.id, str(error), retry_at=now, blame=False)
                return self._breakers.away_until(self._decides) or now
        await self._events.release(decision.id, str(error), retry_at=retry_at, blame=False)
        return retry_at
