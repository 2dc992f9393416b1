"""The emergency stop: first what is in memory and what runs as a process, then the record, however long that takes.

Nothing here waits for the database before it acts: another process may hold its lock, or the disk be full. Until the
record is written a small file, the mark, says at the next start what is still to be recorded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

from kairosd.core.journal import Note
from kairosd.core.json import JsonObject
from kairosd.engine.dispatch import Dispatcher
from kairosd.engine.signals import Alarm
from kairosd.errors import StoreError, ToolError
from kairosd.frozen import frozen
from kairosd.ports import Clock, Files, Stores

log = logging.getLogger("kairosd.stopping")

REASON = "stopped by the owner"
ANSWER_SECONDS = 0.5  # what an answer waits for programs and record; with the mark it stays below a second
MARK_SECONDS = 0.2
RETRY_SECONDS = 0.5


@frozen
class Reins:
    """What the stop pulls at. `mark` is its file; `end_programs` kills every job and everything that these started."""

    stores: Stores
    clock: Clock
    files: Files
    mark: Path
    dispatcher: Dispatcher
    end_programs: Callable[[], Awaitable[None]]
    pause: Callable[[bool], None]


class EmergencyStop:
    """Ends everything at once and pauses."""

    def __init__(self, reins: Reins) -> None:
        self._r = reins
        self._alarm = Alarm(reins.clock)
        self._since: datetime | None = None
        self._recorded = asyncio.Event()
        self._ended: list[str] = []

    @property
    def pending(self) -> bool:
        """Whether a stop is not on record yet."""
        return self._since is not None

    async def pull(self) -> JsonObject:
        """Stops all runs, kills their programs and pauses: `{stopped, recorded, marked}`, within a second.

        Without `recorded` the database could not be written yet: `run` goes on trying, and `marked` says whether a
        restart would know.
        """
        self._r.pause(True)
        stopped = self._r.dispatcher.halt()
        self._since = self._r.clock.now()
        self._recorded.clear()
        self._alarm.ring()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.gather(self._r.end_programs(), self._recorded.wait())
        except TimeoutError:
            log.warning("stopped; the record is still to be written")
        if not self.pending:
            return {"stopped": list(self._ended), "recorded": True, "marked": False}
        return {"stopped": stopped, "recorded": False, "marked": await self._set_mark()}

    async def run(self) -> None:
        """Writes down what was stopped, until it is written; forever."""
        while True:
            await self._alarm.wait()
            while self._since is not None:
                try:
                    await self._record(self._since)
                except StoreError as error:
                    log.warning("the stop is not on record yet: %s", error)
                    await self._r.clock.sleep(RETRY_SECONDS)

    async def recover(self) -> None:
        """At boot, before anything is resumed: carries out a stop that the last daemon could not write down."""
        if await asyncio.to_thread(self._r.files.mode, self._r.mark.parent, self._r.mark.name) is not None:
            self._r.pause(True)
            await self._record(self._r.clock.now())

    async def _record(self, since: datetime) -> None:
        now = self._r.clock.now()
        await self._r.stores.state.put("paused", REASON, note=Note("daemon.paused", data={"reason": REASON}), now=now)
        self._ended = await self._r.dispatcher.cancel_all(since, reason=REASON)
        self._since = None
        self._recorded.set()
        await self._take_mark_away()

    async def _set_mark(self) -> bool:
        try:
            async with asyncio.timeout(MARK_SECONDS):
                await asyncio.to_thread(self._r.files.replace, self._r.mark.parent, self._r.mark.name, content=b"")
        except (TimeoutError, ToolError) as error:
            log.warning("a restart would not know of the stop: %s", error)
            return False
        if not self.pending:  # written down in the meantime, and what it would have removed was not there yet
            await self._take_mark_away()
        return True

    async def _take_mark_away(self) -> None:
        try:
            await asyncio.to_thread(self._r.files.remove, self._r.mark.parent, self._r.mark.name)
        except ToolError as error:
            log.warning("the next start will stop and pause once more: %s", error)
