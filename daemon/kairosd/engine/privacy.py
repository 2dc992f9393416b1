"""Privacy: which channels strangers are kept out of, as it was seen since the start (design §11)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import timedelta

from kairosd.core.json import JsonObject
from kairosd.engine.notices import Channel
from kairosd.errors import KairosError, NotifierRefusedError
from kairosd.ports import Clock

log = logging.getLogger("kairosd.privacy")

FIRST_RETRY, LAST_RETRY = timedelta(minutes=1), timedelta(hours=1)
UNSEEN = "it was not tried yet"


class Privacy:
    """Looks after each start, again while a server cannot be reached, and whenever it is asked to.

    `proven` and `refuted` hold the names of the channels that the last look saw closed and open; others read them.
    """

    def __init__(self, channels: Iterable[Channel], clock: Clock) -> None:
        self._channels = {channel.name: channel for channel in channels if channel.strangers is not None}
        self._clock = clock
        self._why = dict.fromkeys(self._channels, UNSEEN)
        self.proven: set[str] = set()
        self.refuted: set[str] = set()

    async def run(self) -> None:
        """Until each channel has been seen."""
        await asyncio.gather(*map(self._prove, self._channels))

    async def look(self, name: str) -> None:
        """Looks again; what was seen before holds until a look can tell. Raises `KairosError` where it cannot."""
        channel = self._channels.get(name)
        if channel is None or channel.strangers is None:
            return
        self._why[name] = await channel.strangers()
        channel.private = not self._why[name]
        if name in self.proven and not channel.private:
            log.warning("%s: it may say yes no more: %s", name, self._why[name])
        kept, dropped = (self.proven, self.refuted) if channel.private else (self.refuted, self.proven)
        kept.add(name)
        dropped.discard(name)

    def view(self) -> list[JsonObject]:
        """`{name, private, why}` of each channel that could be private; `why` says why it is not."""
        return [{"name": name, "private": name in self.proven, "why": why} for name, why in self._why.items()]

    async def _prove(self, name: str) -> None:
        pause, tried = FIRST_RETRY, self._channels[name].tried
        while name not in self.proven | self.refuted:
            try:
                await self.look(name)
            except NotifierRefusedError as error:
                self._why[name] = error.message
                break
            except KairosError as error:
                self._why[name] = error.message
                tried.set()
                await self._clock.sleep(pause.total_seconds())
                pause = min(2 * pause, LAST_RETRY)
        tried.set()
