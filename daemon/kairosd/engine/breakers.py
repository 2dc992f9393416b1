"""Breakers: an endpoint that fails is left alone for a while, by everybody, and another model answers in its place.

A breaker opens after three requests in a row that brought no answer: one cut stream happens every day and two when a
provider deploys, while three, with waits between them, are an outage. A request that a client has tried again by itself
counts as often as it was tried; a key that is refused, and a wait that the server itself asks for, open it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from kairosd.engine.incidents import Incidents
from kairosd.engine.signals import Alarm
from kairosd.errors import (
    ContextTooLongError,
    EmptyAnswerError,
    EndpointRefusedError,
    ModelError,
    ModelProtocolError,
    ModelUnavailableError,
)
from kairosd.frozen import frozen
from kairosd.ports import Clock

OPENS_AFTER = 3
FIRST_WAIT, LAST_WAIT = 30.0, 300.0  # seconds between two probes; one request in 5 minutes is nobody's storm
ASKED_WAIT = 3600.0  # the most that a server's Retry-After is believed
PROBE_WAIT = 15.0  # seconds after which those who wait for another's probe look again
TOLD_WAIT = 300.0  # a server that wants less is busy and not away: no incident for the owner


@dataclass(slots=True)
class Breaker:
    """One endpoint. `failures` are requests in a row without an answer, `until` is set while it is open."""

    failures: int = 0
    opened: int = 0
    until: datetime | None = None
    probed: bool = False
    error: ModelError | None = None

    def free_at(self, now: datetime) -> datetime | None:
        """When it may be asked; None = now."""
        if self.until is None:
            return None
        if self.probed:
            return max(self.until, now + timedelta(seconds=PROBE_WAIT))
        return self.until if self.until > now else None


@frozen
class Attempt:
    """A call that was let through; `probe` says whether it is the one that an open breaker is tried with."""

    model: str
    probe: bool


class Breakers:
    """The breakers of all models, by the NAME of `[models.NAME]`; `fallbacks` maps a name to its stand-in's.

    `jitter` turns seconds and a seed into a random part of them; `back` is called when a model answers again.
    """

    def __init__(
        self,
        clock: Clock,
        incidents: Incidents,
        *,
        fallbacks: Mapping[str, str],
        jitter: Callable[[float, str], float],
        back: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._incidents = incidents
        self._fallbacks = fallbacks
        self._jitter = jitter
        self._back = back
        self._breakers: dict[str, Breaker] = {}
        self._resting: set[Alarm] = set()

    @property
    def down(self) -> Mapping[str, str]:
        """Why the models that do not answer now do not."""
        return {name: str(one.error) for name, one in self._breakers.items() if one.until is not None}

    def choose(self, name: str) -> str:
        """Who is to be asked for `name` now: itself, else the first stand-in that may be, else whoever may soonest.

        One that refuses the key is not waited for where another is only away.
        """
        now = self._clock.now()

        def wait(one: str) -> tuple[bool, datetime]:
            breaker = self._of(one)
            free_at = breaker.free_at(now)
            return free_at is not None and isinstance(breaker.error, EndpointRefusedError), free_at or now

        return min(self._chain(name), key=wait)

    def instead(self, name: str) -> str | None:
        """Who answers for `name` while it is down; None where it is not, or nobody does."""
        down = self.down
        return next((one for one in self._chain(name) if one not in down), None) if name in down else None

    def away_until(self, name: str) -> datetime | None:
        """When `name` or a stand-in of it may be asked; None = now."""
        return self._of(self.choose(name)).free_at(self._clock.now())

    def admit(self, name: str) -> Attempt:
        """Lets a call of `name` through, which has to end in `passed`, `failed` or `left`.

        Raises what opened the breaker while it is open; its first call after that is the only one until it has ended.
        """
        one, now = self._of(name), self._clock.now()
        free_at = one.free_at(now)
        if free_at is not None:
            raise _again(one.error, (free_at - now).total_seconds())
        one.probed = one.until is not None
        return Attempt(name, one.probed)

    def left(self, attempt: Attempt) -> None:
        """The call ended without saying anything about the endpoint; the next one may be the probe."""
        if attempt.probe:
            self._of(attempt.model).probed = False

    async def passed(self, attempt: Attempt) -> None:
        """The endpoint answers."""
        one = self._of(attempt.model)
        closed = one.until is not None
        self._breakers[attempt.model] = Breaker()
        await self._incidents.end(attempt.model)
        if closed:
            for alarm in self._resting:
                alarm.ring()
            self._back()

    async def failed(self, attempt: Attempt, error: ModelError) -> None:
        """The call ended in `error`, which is told how long to wait if that is known."""
        if _answers(error):
            return await self.passed(attempt)
        one = self._of(attempt.model)
        asked = error.retry_after if isinstance(error, ModelUnavailableError) else None
        one.failures += error.tries if isinstance(error, ModelUnavailableError) else 1
        lost = one.failures >= OPENS_AFTER or isinstance(error, EndpointRefusedError)
        if attempt.probe or (one.until is None and (lost or asked)):
            wait = self._wait(attempt.model, one.opened, asked=asked)
            one.opened += 1
            one.until, one.probed, one.error = self._clock.now() + timedelta(seconds=wait), False, error
            if lost or wait >= TOLD_WAIT:
                await self._incidents.begin(attempt.model, str(error), instead=self.instead(attempt.model))
        if one.until is not None and isinstance(error, ModelUnavailableError):
            error.retry_after = max(0.0, (one.until - self._clock.now()).total_seconds())
        return None

    async def load(self) -> None:
        """Reads what an earlier daemon has told the owner. Raises `StoreError`."""
        await self._incidents.load()

    async def rest(self, seconds: float) -> None:
        """Waits so long, and less when a model is back meanwhile."""
        alarm = Alarm(self._clock)
        self._resting.add(alarm)
        try:
            await alarm.wait(self._clock.now() + timedelta(seconds=seconds))
        finally:
            self._resting.discard(alarm)

    def _wait(self, name: str, opened: int, *, asked: float | None) -> float:
        seed = f"{name} {self._clock.now().isoformat()}"
        longest = min(LAST_WAIT, FIRST_WAIT * 2.0 ** min(opened, 10))
        wait = longest / 2 + self._jitter(longest / 2, seed)
        if asked is not None:
            asked = min(asked, ASKED_WAIT)
            wait = max(wait, asked + self._jitter(asked / 10, seed))
        return wait

    def _chain(self, name: str) -> Iterator[str]:
        while name:
            yield name
            name = self._fallbacks.get(name, "")

    def _of(self, name: str) -> Breaker:
        return self._breakers.setdefault(name, Breaker())


def _answers(error: ModelError) -> bool:
    """Whether a failed call proves that the endpoint is at work: it read the prompt and found fault with it."""
    if isinstance(error, ModelProtocolError):
        return not isinstance(error, EmptyAnswerError)
    return isinstance(error, ContextTooLongError)


def _again(error: ModelError | None, seconds: float) -> ModelError:
    """The error of an open breaker, for a call that is not made."""
    text = f"{error} (asked again in {max(1, round(seconds))} s)"
    if isinstance(error, EndpointRefusedError):
        return EndpointRefusedError(text)
    return ModelUnavailableError(text, retry_after=seconds)
