"""One turn: hears an answer while it comes, starts each call as soon as its block is complete, and keeps the order.

Calls that only read run side by side; any other waits for every call before it, and those after it wait for it.
Results go back in the order of the calls. Three rules hold whatever breaks:

1. What the model has asked for is in the transcript before an effect begins (`Conversation.put_down`).
2. An answer of which a whole call was heard is never asked for again: where its stream breaks off, the turn is what had
   come of it, and the run goes on from the results.
3. A call is found again by turn, position and hash, so after a crash an effect is continued, never made a second time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from kairosd.core.json import Json, JsonObject, without_floats
from kairosd.core.messages import ToolUse, UseBroken
from kairosd.core.texts import encodable
from kairosd.engine.asking import Reply
from kairosd.engine.circles import NOT_MADE, Earlier, Step, Steps
from kairosd.engine.conversation import Conversation, OpenUse, cut_reply, finish_entry, result_entry, turn_entry
from kairosd.engine.ledger import Park
from kairosd.engine.patience import GaveUpError, Publish
from kairosd.engine.purses import NoRoom
from kairosd.errors import KairosError
from kairosd.frozen import frozen
from kairosd.ports import Finish

READS_AT_ONCE = 8


@frozen
class Made:
    """What came of one call: what goes back to the model, and `stop` where the run cannot go on after it."""

    text: str = ""
    error: bool = False
    failed: bool = False
    evidence: str = ""
    finish: Finish | None = None
    stop: Exception | None = None
    told: bool = True

    @property
    def ends(self) -> bool:
        """Whether no later call of the turn is made."""
        return self.stop is not None or self.finish is not None


class Maker(Protocol):
    """Makes the calls of one run."""

    def is_alone(self, use: ToolUse | UseBroken) -> bool:
        """Whether nothing else may be under way meanwhile."""

    async def make(self, item: OpenUse, *, turn: int, earlier: Earlier) -> Made:
        """Makes one call of turn number `turn`. Raises what ends or parks the run."""


@dataclass
class _Call:
    item: OpenUse
    alone: bool
    after: tuple[_Call, ...]
    done: asyncio.Event = field(default_factory=asyncio.Event)
    made: Made | None = None


class Turn:
    """Hears one answer of `talk` and has its calls made by `maker`, inside of `calling`."""

    def __init__(self, talk: Conversation, maker: Maker, *, publish: Publish) -> None:
        self._talk = talk
        self._maker = maker
        self._publish = publish
        self._past = talk.memo.grown(Steps, talk.shown_whole, begin=Steps)
        self._number = talk.turn if talk.open_uses else talk.turn + 1
        self._room = asyncio.Semaphore(READS_AT_ONCE)
        self._calls: list[_Call] = []
        self._words = ""
        self._group: asyncio.TaskGroup
        self.begun = False

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Turn]:
        """Calls are made while this is open; leaving it early cancels them."""
        try:
            async with asyncio.TaskGroup() as self._group:
                yield self
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None  # the group wraps what its body or a call raised

    @property
    def fruitful(self) -> bool:
        """Whether a call has succeeded."""
        return any(call.made is not None and call.made.told and not call.made.error for call in self._calls)

    # What it hears of an answer that comes.

    def restart(self) -> None:
        self._words = ""

    def text(self, words: str) -> None:
        self._words += words
        self._publish("text", words, data={})

    def use(self, use: ToolUse | UseBroken) -> None:
        self.begun = True
        self._begin(OpenUse(len(self._calls), self._named(use)))

    # What the worker has it do.

    def do_beside(self, work: Coroutine[None, None, None]) -> None:
        """Has it done while the turn goes on; the turn does not end before it."""
        self._group.create_task(work)

    def resume(self) -> None:
        """Begins the calls that the last turn left open."""
        for item in self._talk.open_uses:
            self._begin(item)

    def cut(self) -> Reply:
        """The answer as far as it was heard."""
        return cut_reply(self._words, ())

    async def record(self, reply: Reply | None, model: str = "") -> None:
        """Puts the turn and its results into the transcript, in order, as they come. Raises what a call stopped for."""
        entries: list[JsonObject] = []
        if reply is not None:
            entries = [turn_entry(replace(reply, uses=tuple(call.item.use for call in self._calls)), model)]
        for call in self._calls:
            if not call.done.is_set():
                await self._talk.add(*entries)
                entries = []
                await call.done.wait()
            if call.made is None:
                break  # it was not begun: what came before it ended the turn
            entries += _entries(call.item, call.made)
            if call.made.stop is not None:
                await self._talk.add(*entries)
                await self._talk.sync()
                raise call.made.stop
            if call.made.finish is not None:
                break
        await self._talk.add(*entries)

    def _named(self, use: ToolUse | UseBroken) -> ToolUse | UseBroken:
        """As it is on disk, with an id of its own: some servers give every call of a turn the same, or none."""
        taken = {call.item.use.id for call in self._calls}
        name = encodable(use.id) or f"call_{self._number}"
        while name in taken:
            name = f"{name}_{len(self._calls)}"
        if isinstance(use, UseBroken):
            return replace(use, id=name)
        return ToolUse(name, encodable(use.name), _as_on_disk(use.arguments))

    def _begin(self, item: OpenUse) -> None:
        alone = self._maker.is_alone(item.use)
        after = self._calls if alone else [one for one in self._calls if one.alone][-1:]
        call = _Call(item, alone, after=tuple(after))
        self._calls.append(call)
        self._group.create_task(self._carry_out(call))

    async def _carry_out(self, call: _Call) -> None:
        try:
            for other in call.after:
                await other.done.wait()
            async with self._room:
                call.made = await self._outcome(call)
        finally:
            call.done.set()

    async def _outcome(self, call: _Call) -> Made | None:
        earlier = [one for one in self._calls if one.item.position < call.item.position]
        if any(one.made is not None and one.made.ends for one in earlier):
            return None
        if failed := next((one for one in earlier if one.made is not None and one.made.failed), None):
            told = f"{NOT_MADE}the {failed.item.use.name} before it failed; make it again if it is still right"
            return Made(told, error=True)
        try:
            if call.alone:
                uses = [one.item.use for one in (*earlier, call)]
                await self._talk.put_down(self._number, self._words, uses=uses)
            return await self._maker.make(call.item, turn=self._number, earlier=self._steps(earlier))
        except (Park, NoRoom, GaveUpError, KairosError) as stop:
            return Made(stop=stop, told=False)

    def _steps(self, earlier: Sequence[_Call]) -> Earlier:
        found = ((one.item.use, one.made is not None and not one.made.error) for one in earlier)
        return Earlier(self._past, tuple(Step(use, succeeded) for use, succeeded in found if isinstance(use, ToolUse)))


def _as_on_disk(arguments: Mapping[str, Json]) -> JsonObject:
    """What a restart will read: a call that it hashes otherwise would be another call, and made once more."""
    kept = without_floats(arguments)
    text = json.dumps(kept, ensure_ascii=False)
    return cast("JsonObject", kept if (clean := encodable(text)) == text else json.loads(clean))


def _entries(item: OpenUse, made: Made) -> list[JsonObject]:
    """In the transcript `finish` comes before its own result: a crash between them must not ask the model again."""
    finish = [finish_entry(made.finish)] if made.finish else []
    if not made.told:
        return finish
    return [*finish, result_entry(item.use.id, made.text, error=made.error, evidence=made.evidence)]
