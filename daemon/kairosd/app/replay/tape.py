"""The tape: what one decision or run was answered, given again in order; what comes out otherwise is a difference."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast

from kairosd.app.replay.record import Exchange, Exchanges
from kairosd.core.exchanges import changed_sections, marks
from kairosd.core.json import Json, canonical
from kairosd.core.messages import Prompt, ToolUse, UseBroken
from kairosd.engine.asking import Reply
from kairosd.frozen import frozen
from kairosd.store.exchanges import is_as_written

TURNS = ("act", "summary")  # questions that belong to the turn to come
SHOWN_MAX = 600  # characters of each side of a difference
BRIEF_REST = 0.02  # real seconds: whoever sleeps lets go first what need not wait


class OffRecordError(Exception):
    """Today's code asked for something that is not on record."""


@frozen
class Difference:
    """Something came out otherwise. `step` orders the differences of one cause; `id` is the nearest thing's own."""

    step: tuple[int, int]
    id: str
    what: str
    recorded: str
    came_out: str


@frozen
class Part:
    """A stretch of work without a rest: the most it may ask, and when it was over.

    `cut` says that a crash or a stop was its end. Then `torn` is what was heard of an answer whose end never came,
    `spare` an answer that only the transcript has, and `taken` how many exchanges are used up in any case. `until` is
    the number of the journal line that ended it.
    """

    exchanges: Sequence[Exchange]
    ends: datetime
    cut: bool = False
    torn: tuple[str, Sequence[ToolUse | UseBroken]] | None = None
    spare: Reply | None = None
    until: int = 0
    taken: int = 0


class Tape:
    """Plays the parts of one cause. `ended` says that a part came to the end of its record."""

    def __init__(self, exchanges: Exchanges, cause: str) -> None:
        self.exchanges = exchanges
        self.cause = cause
        self.differences: list[Difference] = []
        self.ended = False
        self.over = asyncio.Event()
        self.turn = 0
        self._left: list[Exchange] = []
        self._part = Part((), datetime.fromtimestamp(0).astimezone())
        self._end = 0
        self.now = self._part.ends

    def open(self, part: Part) -> None:
        """Begins the next part."""
        self._part, self._left = part, list(part.exchanges)
        self._end = self.exchanges.position_at(part.ends.isoformat(timespec="microseconds").replace("+00:00", "Z"))
        self.ended, self.over = False, asyncio.Event()
        self.advance()

    def stop(self) -> None:
        """Here the record of the part ends."""
        self.ended = True
        self.over.set()

    @property
    def next(self) -> Exchange | None:
        return self._left[0] if self._left else None

    @property
    def torn(self) -> tuple[str, Sequence[ToolUse | UseBroken]] | None:
        return self._part.torn

    def take_spare(self) -> Reply | None:
        """The answer that a kill has kept off the record, once; it cannot be told what it was asked with."""
        spare, self._part = self._part.spare, replace(self._part, spare=None)
        return spare

    @property
    def cut(self) -> bool:
        return self._part.cut

    @property
    def left(self) -> Sequence[Exchange]:
        """What this part has not asked."""
        return self._left

    def advance(self) -> None:
        """Time goes on to the next question, or to the end of the part."""
        self.now = min(self._left[0].asked, self._part.ends) if self._left else self._part.ends

    def seen(self, *what: str) -> tuple[bool, Json]:
        """What was last seen of something, as the cause's next prompt knew it."""
        return self.exchanges.latest(what, min(self._left[0].position, self._end) if self._left else self._end)

    def ask(self, prompt: Prompt, model: str, *, role: str) -> Exchange | None:
        """The next exchange, compared with what is asked now; None where the record of this part ends."""
        if not self._left:
            return None
        exchange = self._left.pop(0)
        turn = {"turn": self.turn + (role in TURNS), "order": 1}
        entry, recorded = exchange.entry, exchange.entry.get("prompt")
        if not is_as_written(entry):
            answer = entry.get("reply", entry.get("error", ""))
            self.differ("reply", "as it was given, by its checksum", canonical(answer), **{**turn, "order": 0})
        if (entry.get("role"), entry.get("model")) != (role, model):
            self.differ("question", f"{entry.get('role')} to {entry.get('model')}", f"{role} to {model}", **turn)
        elif isinstance(recorded, Mapping) and (sections := changed_sections(recorded, marks(prompt))):
            shown = prompt.messages[-1].words if sections == ["last message"] and prompt.messages else ""
            told = f"{', '.join(sections)} differ{'s' if len(sections) == 1 else ''}"
            self.differ(f"prompt of {role}", "as hashed", f"{told}{': ' if shown else ''}{shown}", **turn)
        self.now = exchange.answered
        return exchange

    def differ(self, what: str, *sides: str, **at: int | str) -> None:
        """Notes a difference; `sides` are what was recorded and what came out.

        `turn` and `order` say where, `id` of what; each has a default.
        """
        recorded, came_out = sides
        step = (int(at.get("turn", self.turn)), int(at.get("order", 5)))
        name = str(at.get("id", self.cause))
        self.differences.append(Difference(step, name, what, recorded[:SHOWN_MAX], came_out[:SHOWN_MAX]))

    @property
    def first(self) -> Difference | None:
        return min(self.differences, key=lambda each: each.step, default=None)


async def play_until(
    work: Coroutine[object, object, object], rest: Callable[[asyncio.Task[None]], Awaitable[None]]
) -> Exception | None:
    """Has `work` done until `rest` returns, then gives it up; what it raised, if it did."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(cast("Coroutine[object, object, None]", work))
            await rest(task)
            task.cancel()
    except ExceptionGroup as several:
        return several.exceptions[0]
    return None


async def play(work: Coroutine[object, object, object], tape: Tape) -> Exception | None:
    """Has `work` done to its end, or to where the record ends."""

    async def rest(task: asyncio.Task[None]) -> None:
        task.add_done_callback(lambda _: tape.over.set())
        await tape.over.wait()

    return await play_until(work, rest)


class ReplayClock:
    """The clock of what is replayed: it stands where the tape stands, and whoever sleeps wakes at once."""

    def __init__(self) -> None:
        self.tape: Tape | None = None
        self._start = datetime.fromtimestamp(0).astimezone()

    def now(self) -> datetime:
        return self.tape.now if self.tape else self._start

    def monotonic(self) -> float:
        return (self.now() - self._start).total_seconds()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(BRIEF_REST if seconds > 0 else 0)

    async def sleep_until(self, moment: datetime) -> None:
        await asyncio.sleep(BRIEF_REST if moment > self.now() else 0)
