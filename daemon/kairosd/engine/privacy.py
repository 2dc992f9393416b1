"""Privacy: which channels strangers are kept out of, as it was seen since the start (design §11)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta

from kairosd.core.json import JsonObject
from kairosd.engine.notices import Channel, Strangers
from kairosd.errors import KairosError, NotifierRefusedError
from kairosd.ports import Clock

FIRST_RETRY, LAST_RETRY = timedelta(minutes=1), timedelta(hours=1)
UNSEEN = "it was not tried yet"


class Privacy:
    """Looks once after each start, and again while a server cannot be reached.

    `proven` holds the names of the channels that were seen to be closed; it grows while others read it.
    """

    def __init__(self, channels: Iterable[Channel], clock: Clock) -> None:
        self._channels = [channel for channel in channels if channel.strangers is not None]
        self._clock = clock
        self._why = {channel.name: UNSEEN for channel in self._channels}
        self.proven: set[str] = set()

    async def run(self) -> None:
        """Until each channel has been seen."""
        await asyncio.gather(*(self._prove(one, one.strangers) for one in self._channels if one.strangers is not None))

    def view(self) -> list[JsonObject]:
        """`{name, private, why}` of each channel that could be private; `why` says why it is not."""
        return [{"name": name, "private": name in self.proven, "why": why} for name, why in self._why.items()]

    async def _prove(self, channel: Channel, look: Strangers) -> None:
        pause, name = FIRST_RETRY, channel.name
        while True:
            try:
                self._why[name] = await look()
            except NotifierRefusedError as error:
                self._why[name] = error.message
            except KairosError as error:
                self._why[name] = error.message
                channel.tried.set()
                await self._clock.sleep(pause.total_seconds())
                pause = min(2 * pause, LAST_RETRY)
                continue
            if not self._why[name]:
                self.proven.add(name)
                channel.private = True
            channel.tried.set()
            return
