"""Keeps the prompts of one run within its model's window; what was said stays whole in the transcript."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from kairosd.core.compaction import Messages
from kairosd.core.levels import Permission
from kairosd.core.messages import Prompt, ToolSpec, Usage
from kairosd.core.projection import Cuts, Kinds, Room, lightened, project, recent, shrunk
from kairosd.core.tokens import estimate, estimate_frame, estimate_message
from kairosd.engine.asking import Reply
from kairosd.engine.conversation import Conversation
from kairosd.engine.patience import Hearer
from kairosd.engine.summary import summary_prompt, summary_tokens
from kairosd.errors import ContextTooLongError, ModelProtocolError, ModelRefusedError
from kairosd.ports import Model, Tool

log = logging.getLogger("kairosd.runs")

FAILURES_MAX = 3  # summaries that fail in a row before no more are asked for
LEAST_GAIN = 4  # a summary has to free a quarter of the room, else it is not worth a call
LEAST_PERCENT, MOST_PERCENT = 25, 300  # how far an estimate is corrected by what a provider counts


class Ask(Protocol):
    """Asks until there is an answer."""

    async def __call__(self, model: Model, prompt: Prompt, *, role: str, listener: Hearer | None = None) -> Reply:
        """The answer. Raises `ModelError`, and `CutAnswerError` where there is a `listener`."""


class Compactor:
    """Makes every prompt of a run fit. One a run; `paid` is told of each summary's call."""

    def __init__(self, tools: Mapping[str, Tool], *, ask: Ask, paid: Callable[[Reply], None]) -> None:
        self._tools = tools
        self._ask = ask
        self._paid = paid
        self._percent = self._frame_percent = 100
        self._kinds: Kinds | None = None
        self._old: tuple[Cuts, Messages, int] = (Cuts(), (), 0)
        self._sizes: list[int] = []
        self._framed: tuple[str, tuple[ToolSpec, ...], int] | None = None

    async def turn(self, talk: Conversation, prompt: Prompt, *, model: Model, listener: Hearer) -> Reply:
        """One turn: `prompt` with the conversation as far as it fits. Asked again once when the provider finds it long.

        A prompt that has its messages already is asked as it is.

        Raises `CutAnswerError`, `ModelRefusedError`, and of it `ContextTooLongError` when the least that can be asked
        is too long.
        """
        if prompt.messages:
            return await self._ask(model, prompt, role="act", listener=listener)
        frame = self._frame(prompt)
        await self._fit(talk, model, frame=frame)
        fitted = self._filled(talk, prompt)
        try:
            reply = await self._ask(model, fitted, role="act", listener=listener)
        except ContextTooLongError:
            # It is longer than the window, whatever was estimated and whatever the window is said to be.
            self._percent = max(self._percent, model.context * 100 // max(1, frame + self._size(talk)))
            await self._halve(talk, min(self._room(model, frame).low, self._size(talk)) // 2)
            shorter = self._filled(talk, prompt)
            if shorter == fitted:
                raise
            fitted = shorter
            reply = await self._ask(model, fitted, role="act", listener=listener)
        self._learn(reply.usage, frame, talk=self._size(talk))
        return reply

    async def _halve(self, talk: Conversation, tokens: int) -> None:
        """Down to `tokens` at once, without a model: lighter stages first, then the last."""
        room, kinds = Room(tokens, tokens), self._of_tools()
        await talk.add_cuts(lightened(talk.messages, talk.cuts, kinds=kinds, room=room))
        if self._size(talk) > tokens:
            await talk.add_cuts(shrunk(talk.messages, talk.cuts, kinds=kinds, tokens=tokens))

    async def _fit(self, talk: Conversation, model: Model, *, frame: int) -> None:
        """Stage by stage until the conversation fits."""
        room = self._room(model, frame)
        if self._size(talk) <= room.high:
            return
        kinds = self._of_tools()
        await talk.add_cuts(lightened(talk.messages, talk.cuts, kinds=kinds, room=room))
        if self._size(talk) > room.low:
            await self._summarise(talk, model, room=room)
        if self._size(talk) > room.high:
            await talk.add_cuts(shrunk(talk.messages, talk.cuts, kinds=kinds, tokens=room.low))

    async def _summarise(self, talk: Conversation, model: Model, *, room: Room) -> None:
        messages, cuts = talk.messages, talk.cuts
        upto = recent(messages, kinds=self._of_tools(), room=room)
        rest = estimate((messages[0], *messages[upto:]))
        gain = self._size(talk) - rest - summary_tokens(model.context)
        if gain < room.high // LEAST_GAIN or upto <= cuts.summarise or talk.failed_summaries >= FAILURES_MAX:
            return None
        old = (messages[0], *messages[max(1, cuts.summarise) : upto])
        asked = summary_prompt(old, earlier=cuts.summary, window=model.context)
        try:
            reply = await self._ask(model, asked, role="summary")
        except (ModelProtocolError, ModelRefusedError) as error:
            return await self._failed(talk, str(error))
        self._paid(reply)
        text = reply.text.strip()[: 8 * asked.max_tokens]
        if not text:
            return await self._failed(talk, "the summary is empty")
        return await talk.add_summary(text, upto)

    async def _failed(self, talk: Conversation, reason: str) -> None:
        await talk.add_failed_summary(reason)
        log.warning("%d summaries of a run have failed in a row: %s", talk.failed_summaries, reason)

    def _filled(self, talk: Conversation, prompt: Prompt) -> Prompt:
        old, _ = self._projected(talk)
        tokens = self._frame(prompt) + self._size(talk)
        return replace(prompt, messages=(*old, *talk.shown_whole), tokens=tokens, memo=talk.memo)

    def _frame(self, prompt: Prompt) -> int:
        """Tokens of what stands before the messages; from turn to turn it is the same."""
        if self._framed is None or (self._framed[0], self._framed[1]) != (prompt.system, prompt.tools):
            self._framed = (prompt.system, prompt.tools, estimate_frame(prompt.system, prompt.tools))
        return self._framed[2]

    def _size(self, talk: Conversation) -> int:
        """Tokens of what is shown. Between two turns no message changes, so each is estimated once."""
        _, tokens = self._projected(talk)
        self._sizes += map(estimate_message, talk.messages[len(self._sizes) :])
        return tokens + sum(self._sizes[talk.cuts.furthest :])

    def _projected(self, talk: Conversation) -> tuple[Messages, int]:
        """What is shown of the messages that a stage covers; it changes only with the cuts."""
        cuts = talk.cuts
        if self._old[0] != cuts:
            made = project(talk.messages[: cuts.furthest], cuts, kinds=self._of_tools())
            self._old = (cuts, made, estimate(made))
        return self._old[1:]

    def _room(self, model: Model, frame: int) -> Room:
        return Room.of(model.context, frame * self._frame_percent // 100, percent=self._percent)

    def _learn(self, usage: Usage, frame: int, *, talk: int) -> None:
        """Corrects the estimates, `frame` and `talk`, by what the provider counted.

        The frame is also corrected downwards: a model driven by a schema is shown its tools much shorter.
        """
        counted = (usage.input or 0) + usage.cache_read + usage.cache_write
        if talk < frame and counted - talk >= frame * LEAST_PERCENT // 100:
            self._frame_percent = min(100, (counted - talk) * 100 // frame)
        self._percent = max(self._percent, min(MOST_PERCENT, counted * 100 // max(1, frame + talk)))

    def _of_tools(self) -> Kinds:
        if self._kinds is None:
            looks = {name for name, tool in self._tools.items() if tool.permission is Permission.READ}
            commands = {name for name, tool in self._tools.items() if tool.permission is Permission.READER}
            self._kinds = Kinds(frozenset(looks), frozenset(looks | commands))
        return self._kinds
