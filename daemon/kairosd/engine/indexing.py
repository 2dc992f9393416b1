"""Keeps the search index up with memory, journal and transcripts: when somebody searches, never by the clock.

The journal leads. Its lines are read on from where the index stands, and a line that says a run has rested or ended
brings in that run's transcript. So an idle day costs nothing, and a broken index is only made anew; so is one that has
read lines which the journal has no more, as after a crash that tore some off or where an older copy was put in place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from kairosd.core.expiry import set_aside
from kairosd.core.findable import of_entry, of_line, of_transcript, run_of
from kairosd.core.json import Json, digest
from kairosd.core.memory import Generation
from kairosd.core.runs import Run
from kairosd.core.search import Answers, Layer, Passage, Question
from kairosd.errors import NotFoundError, StoreError
from kairosd.ports import Clock, Index, JournalLines, MemoryStore, Runs, Transcript

BATCH = 2000  # journal lines between two commits
PATIENCE_SECONDS = 2.0  # what a search waits for the index; it answers with what is there then
RESTING = frozenset({"run.ended", "run.parked", "run.interrupted"})
JOURNAL_MARK, MEMORY_MARK, FORGOTTEN_MARK, REBUILD_MARK = "journal", "memory", "forgotten", "rebuild"

Line = Mapping[str, Json]


class Record(Protocol):
    """What of the stores an index is made of."""

    @property
    def runs(self) -> Runs: ...
    @property
    def transcripts(self) -> Transcript: ...


class Indexer:
    """Searches, and keeps what it searches fresh. One a daemon."""

    def __init__(
        self, index: Index, record: Record, *, journal: JournalLines, memory: MemoryStore, clock: Clock
    ) -> None:
        self._index = index
        self._record = record
        self._journal = journal
        self._memory = memory
        self._clock = clock
        self._turn = asyncio.Lock()

    async def search(self, question: Question) -> Answers:
        """The best answers. Raises `StoreError`."""
        behind = not await self.catch_up(PATIENCE_SECONDS)
        today = self._clock.now().astimezone().date()
        return Answers(await asyncio.to_thread(self._index.search, question, today=today), behind)

    async def catch_up(self, seconds: float | None = None, progress: Callable[[int], None] | None = None) -> bool:
        """Reads what is new, for at most about `seconds`; False = there is more. `progress` hears journal numbers."""
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(seconds):  # in real time: a thread is waited for
                await self._turn.acquire()
        except TimeoutError:
            return False
        try:
            marks = await asyncio.to_thread(self._index.marks)
            lines = await self._later(mark := marks.get(JOURNAL_MARK, ""))
            if lines is None:
                await asyncio.to_thread(self._index.clear)
                marks, lines = {}, await self._later(mark := "")
            await self._entries(marks)
            while lines:
                if not await self._lines(lines, mark):
                    return False  # another process makes the index anew: on from where that one stands
                mark = _mark(lines[-1])
                if progress is not None:
                    progress(_number(mark))
                if seconds is not None and self._clock.monotonic() - began > seconds:
                    return False
                lines = await self._later(mark)
            if marks.get(REBUILD_MARK):
                # Whole again, also where the one that began it was stopped: the next one begins from nothing.
                await asyncio.to_thread(self._index.put, (), {REBUILD_MARK: ""})
        finally:
            self._turn.release()
        return True

    async def rebuild(self, progress: Callable[[int], None] | None = None) -> Mapping[str, int]:
        """Makes the index anew from what is on disk, or goes on with that; passages by layer."""
        async with self._turn:
            try:
                marks = await asyncio.to_thread(self._index.marks)
            except StoreError:
                marks = await asyncio.to_thread(self._index.marks)  # a damaged index has been taken away
            if not marks.get(REBUILD_MARK):
                await asyncio.to_thread(self._index.clear)
                await asyncio.to_thread(self._index.put, (), {REBUILD_MARK: "begun"})
        while not await self.catch_up(progress=progress):
            pass
        return await asyncio.to_thread(self._index.counts)

    @contextlib.asynccontextmanager
    async def echoes(self, says: Callable[[Passage], bool]) -> AsyncIterator[list[str]]:
        """The journal lines and turns that `says` holds of; every one is looked at. Nothing is added until the end."""
        while not await self.catch_up():
            pass
        async with self._turn:
            yield await asyncio.to_thread(self._index.saying, (Layer.JOURNAL, Layer.TRANSCRIPT), says)

    async def drop(self, sources: Sequence[str]) -> None:
        """What was forgotten is found no more."""
        async with self._turn:
            await self._drop(sources)

    async def expire(self, runs: Sequence[str]) -> None:
        """The transcripts of `runs` are deleted: what they said is found no more."""
        async with self._turn:
            await asyncio.to_thread(self._index.drop_threads, runs)
            await asyncio.to_thread(self._index.purge)

    def close(self) -> None:
        """Closes the index's file; a search opens it again."""
        self._index.close()

    async def _later(self, mark: str) -> Sequence[Line] | None:
        """The journal's next lines after that of `mark`; None where it has not that line any more."""
        if not mark:
            return await asyncio.to_thread(self._journal.after, 0, limit=BATCH)
        lines = await asyncio.to_thread(self._journal.after, _number(mark) - 1, limit=BATCH + 1)
        return lines[1:] if lines and _mark(lines[0]) == mark else None

    async def _entries(self, marks: Mapping[str, str]) -> None:
        generation = await asyncio.to_thread(self._memory.load)
        mark = f"{generation.number} {generation.digest}"
        if marks.get(MEMORY_MARK) != mark:
            entries = [of_entry(entry) for entry in generation.entries]
            archive = await asyncio.to_thread(self._memory.archive, generation)
            gone = set_aside(generation, archive)
            entries += [replace(of_entry(entry), aside=past.ended) for past in gone if (entry := past.entry)]
            await asyncio.to_thread(self._index.replace, Layer.MEMORY, entries, marks={MEMORY_MARK: mark})
        hidden = _hidden(generation)
        if marks.get(FORGOTTEN_MARK) != hidden:  # whoever made it forget may have been stopped before the index
            await self._drop(forgotten(generation))
            await asyncio.to_thread(self._index.put, (), {FORGOTTEN_MARK: hidden})

    async def _drop(self, sources: Sequence[str]) -> None:
        await asyncio.to_thread(self._index.drop, sources)
        await asyncio.to_thread(self._index.drop_threads, [one for one in sources if one.startswith("r_")])
        await asyncio.to_thread(self._index.purge)  # `replace` may have taken them out, but not their words

    async def _lines(self, lines: Sequence[Line], after: str) -> bool:
        """Adds what the lines say to an index that has been read up to `after`; False = it has not."""
        about = [await self._run_of(line) for line in lines]
        runs = await self._runs(set(filter(None, about)))
        taints = {name: run.taint for name, run in runs.items()}
        named = zip(lines, about, strict=True)
        told = [(passage, run) for line, run in named if (passage := of_line(line, taints)) is not None]
        rested = sorted(runs.keys() & {str(line.get("id")) for line in lines if line.get("kind") in RESTING})
        for name in rested:
            told += [(passage, name) for passage in await self._transcript(runs[name])]
        memory = await asyncio.to_thread(self._memory.load)
        hidden = set(forgotten(memory))
        kept = [passage for passage, run in told if hidden.isdisjoint((passage.source, run))]
        now = {JOURNAL_MARK: _mark(lines[-1])}
        over = {JOURNAL_MARK: after, FORGOTTEN_MARK: _hidden(memory)}  # it may have been made to forget meanwhile
        return await asyncio.to_thread(self._index.put, kept, now, over=over, whole=rested)

    async def _transcript(self, run: Run) -> list[Passage]:
        entries = await self._record.transcripts.read(run.id)
        at = run.started or run.created
        return list(of_transcript(run.id, entries, workspace=run.workspace, taint=run.taint, at=at))

    async def _run_of(self, line: Line) -> str:
        """The id of the run that a line tells of; what a call asked the owner names that call alone."""
        run, cause = run_of(line), str(line.get("cause"))
        if not run and cause.startswith("c_"):
            with contextlib.suppress(NotFoundError):
                return (await self._record.runs.get_call(cause)).run
        return run

    async def _runs(self, names: set[str]) -> dict[str, Run]:
        found = {}
        for name in names:
            try:
                found[name] = await self._record.runs.get(name)
            except NotFoundError:
                continue  # of another home's journal, or long gone
        return found


def _hidden(generation: Generation) -> str:
    """A mark of what it was made to forget."""
    return digest([[past.id, *past.sources] for past in generation.history if past.entry is None])


def forgotten(generation: Generation) -> list[str]:
    """The sources of what the owner made Kairos forget, which would say it still; of a run all that tells of it."""
    return [source for past in generation.history if past.entry is None for source in past.sources]


def _mark(line: Line) -> str:
    """What tells a line from any other, also from one that has its number in another journal."""
    return f"{line.get('seq')} {line.get('hash', '')}"


def _number(mark: str) -> int:
    return int(mark.partition(" ")[0] or 0)
