"""What a dream remembers of the ones before it: when, how often the same batch failed, and until when it rests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, replace
from datetime import datetime, timedelta

from kairosd.core.json import Json
from kairosd.frozen import frozen
from kairosd.ports import Clock, Stores

KEY = "dream"
FIRST_REST, LAST_REST = timedelta(minutes=15), timedelta(hours=12)
TRIES = 3  # of the same group; then what cannot be learned is put aside and the later ones go on


@frozen
class DreamState:
    """`last` is the last dream that came to its end, `tries` how often each group has failed since."""

    last: str = ""
    rests_until: str = ""
    failures: int = 0
    tries: Mapping[str, int] = field(default_factory=dict)
    story: str = ""  # the last day that was told
    narrated: str = ""  # the last day that a model was asked to tell

    @staticmethod
    def of(record: Mapping[str, Json]) -> DreamState:
        texts = {name: str(record.get(name) or "") for name in ("last", "rests_until", "story", "narrated")}
        failures, told = record.get("failures"), record.get("tries")
        tries = {name: n for name, n in told.items() if isinstance(n, int)} if isinstance(told, Mapping) else {}
        return DreamState(**texts, failures=failures if isinstance(failures, int) else 0, tries=tries)

    def rests(self, now: datetime) -> bool:
        return bool(self.rests_until) and datetime.fromisoformat(self.rests_until) > now

    def since(self, now: datetime) -> timedelta:
        """How long ago the last dream was; a first one is always due."""
        return now - datetime.fromisoformat(self.last) if self.last else timedelta.max


class DreamRecord:
    """The state on disk."""

    def __init__(self, stores: Stores, clock: Clock) -> None:
        self._state = stores.state
        self._clock = clock

    async def read(self) -> DreamState:
        found = await self._state.get(KEY)
        return DreamState.of(found) if isinstance(found, Mapping) else DreamState()

    async def write(self, state: DreamState) -> None:
        told: Mapping[str, Json] = asdict(state)
        await self._state.put(KEY, told, note=None, now=self._clock.now())

    async def ended(self) -> None:
        """A dream came to its end."""
        state = await self.read()
        now = self._clock.now().isoformat()
        await self.write(replace(state, last=now, rests_until="", failures=0, tries={}))

    async def failed(self, group: str) -> int:
        """A group could not be learned from; how often by now. The next try comes after a rest that grows.

        Each group counts by itself: were only the last one counted, two in one batch would fail in turn for ever.
        """
        state = await self.read()
        tries = {**state.tries, group: state.tries.get(group, 0) + 1} if group else state.tries
        rest = min(LAST_REST, FIRST_REST * 2 ** min(state.failures, 10))
        until = (self._clock.now() + rest).isoformat()
        await self.write(replace(state, rests_until=until, failures=state.failures + 1, tries=tries))
        return tries.get(group, 0)
