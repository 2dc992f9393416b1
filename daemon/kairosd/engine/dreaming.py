"""When to dream: the gates, cheapest first, the morning's story, and the end of a dream when the owner comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

from kairosd.core.budget import Purse
from kairosd.core.journal import Note
from kairosd.core.notices import NoticeDraft, Severity
from kairosd.core.runs import RunState
from kairosd.core.story import story_of
from kairosd.engine.absence import Absence
from kairosd.engine.dream_state import DreamRecord
from kairosd.engine.purses import Purses
from kairosd.engine.supervise import contain
from kairosd.errors import TransitionError
from kairosd.frozen import frozen
from kairosd.ports import Clock, JournalLines, Stores

if TYPE_CHECKING:  # loaded when somebody dreams
    from kairosd.engine.dream import Dream, Told
    from kairosd.engine.narration import Narration

log = logging.getLogger("kairosd.dream")

LOOK_EVERY = timedelta(minutes=10)
STORY_HOUR = 6  # local: what was done in the night is told in the morning


@frozen
class Habits:
    """`[dream]`: seconds of the owner's absence, seconds between two dreams, and how much that is new makes one due."""

    idle_seconds: int
    every_seconds: int
    entries: int
    enabled: bool = True


class Dreamer:
    """Dreams when every gate is open; `now` dreams when the owner says so."""

    def __init__(self, dream: Dream, gates: Gates, *, morning: Morning) -> None:
        self._stores = gates.stores
        self._clock = gates.clock
        self._dream = dream
        self._gates = gates
        self._morning = morning
        self._busy = asyncio.Lock()
        self.last: str | None = None  # when the last dream came to its end

    async def run(self) -> None:
        """Looks every ten minutes, until cancelled."""
        await self._gates.absence.recall()
        await self._remember_last()
        while True:
            await self._clock.sleep_until(self._clock.now() + LOOK_EVERY)
            await contain(self._look, "dream", failed=self._failed)

    async def now(self) -> Told:
        """A dream that the owner asked for: it waits for nobody, and their coming back does not end it.

        Raises `TransitionError` while another one is under way.
        """
        if self._busy.locked():
            raise TransitionError("a dream is under way", fix="kairos dream show")
        async with self._busy:
            told = await self._dream.dream()
        await self._remember_last()
        return told

    async def _look(self) -> None:
        await self._morning.tell()
        if await self._gates.closed(self._dream) or self._busy.locked():
            return
        async with self._busy:
            await self._until_back()
        await self._remember_last()

    async def _until_back(self) -> None:
        """Dreams until done, or until the owner is back: then it ends at once, and memory is as it was."""
        async with asyncio.TaskGroup() as group:
            dreaming = group.create_task(self._dream.dream())
            back = group.create_task(self._gates.absence.ends())
            await asyncio.wait([dreaming, back], return_when=asyncio.FIRST_COMPLETED)
            cut = not dreaming.done()
            dreaming.cancel()
            back.cancel()
        if cut:
            note = Note("dream.stopped", data={"reason": "you came back"})
            await self._stores.state.note(note, self._clock.now())

    async def _remember_last(self) -> None:
        self.last = (await DreamRecord(self._stores, self._clock).read()).last or None

    async def _failed(self, reason: str) -> None:
        await DreamRecord(self._stores, self._clock).failed("")
        await self._stores.state.note(Note("dream.stopped", data={"reason": reason[:500]}), self._clock.now())


@frozen
class Gates:
    """What must be so for a dream to begin by itself."""

    stores: Stores
    clock: Clock
    absence: Absence
    habits: Habits
    purses: Purses
    paused: Callable[[], bool]

    async def closed(self, dream: Dream) -> str:
        """The first gate that is closed, in words; empty = all are open. Costs no model call."""
        if not self.habits.enabled or self.paused():
            return "paused" if self.habits.enabled else "switched off"
        if not self.absence.lasts(self.habits.idle_seconds):
            return "the owner is here"
        if await self.stores.runs.in_state(RunState.QUEUED, RunState.RUNNING):
            return "a run is under way"
        state = await DreamRecord(self.stores, self.clock).read()
        if state.rests(self.clock.now()):
            return "the last one failed"
        if await self.purses.is_empty(Purse.DREAM):
            return "the purse is empty"
        due = state.since(self.clock.now()) >= timedelta(seconds=self.habits.every_seconds)
        new = await dream.unlearned(self.habits.entries)
        if new < self.habits.entries and not (due and new):
            return "nothing much is new"
        # Looking takes its time, and they may have come back in it.
        return "" if self.absence.lasts(self.habits.idle_seconds) else "the owner is here"


class Morning:
    """Tells the day before as a story, once, whether or not there is a model."""

    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        *,
        journal: JournalLines,
        tell: Callable[[NoticeDraft], Awaitable[None]],
        narration: Narration,
    ) -> None:
        self._narration = narration
        self._record = DreamRecord(stores, clock)
        self._clock = clock
        self._journal = journal
        self._tell = tell

    async def tell(self) -> None:
        """Queues yesterday's story as a notice, after six in the morning; a day without anything is passed over.

        Where that fails it is tried again, but no model is asked twice about one day.
        """
        now = self._clock.now().astimezone()
        day = now.date() - timedelta(days=1)
        state = await self._record.read()
        if now.hour < STORY_HOUR or state.story >= day.isoformat():
            return
        text = await self._story(day, narrated=state.narrated >= day.isoformat())
        if text:
            title = f"{day:%A}, {day.isoformat()}"
            await self._tell(NoticeDraft(key=f"story:{day}", title=title, body=text, severity=Severity.LOW))
        await self._record.write(replace(await self._record.read(), story=day.isoformat()))

    async def _story(self, day: date, *, narrated: bool) -> str:
        """The story of a day as Markdown, with a model also as prose. What is written down first holds at a crash."""
        story = story_of(day.isoformat(), await asyncio.to_thread(self._journal.of_day, day))
        if narrated:
            return story.text()
        await self._record.write(replace(await self._record.read(), narrated=day.isoformat()))
        return story.text(await self._narration.prose(story))
