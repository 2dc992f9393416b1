"""Asking a model: every call is recorded before it is made and priced after, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from kairosd.core.budget import Payer
from kairosd.core.messages import Done, NeedsRoomError, Prompt, TextDelta, ToolUse, Usage, UseBroken, UseReady
from kairosd.core.pricing import Tariff, price
from kairosd.engine.breakers import Breakers
from kairosd.engine.purses import NoRoom, Purses, Taken
from kairosd.errors import ModelError, ModelProtocolError, ModelUnavailableError
from kairosd.frozen import frozen
from kairosd.ports import Model

OK = "ok"  # the outcome of a call that was answered


@frozen
class Reply:
    """A whole answer. `uses` holds broken calls too, in the order asked; `price` in micro-dollars, None = unknown.

    `before` is what an earlier request for the same answer took: `usage` is this answer's own, `price` of both.
    """

    text: str
    uses: tuple[ToolUse | UseBroken, ...]
    stop: str
    usage: Usage
    price: int | None
    before: Usage = Usage(0, 0)

    @property
    def tokens(self) -> int:
        """Of both requests, as far as the provider counted them."""
        return _tokens(self.usage) + _tokens(self.before)


class Cost:
    """Adds up tokens, and prices in micro-dollars; one unknown makes the sum of these unknown."""

    def __init__(self) -> None:
        self.total: int | None = 0
        self.tokens = 0

    def add(self, price: int | None, tokens: int = 0) -> None:
        self.total = None if price is None or self.total is None else self.total + price
        self.tokens += tokens


class Listener(Protocol):
    """Hears an answer while it comes. Neither method may raise or block."""

    def text(self, words: str) -> None:
        """Some more of its prose."""

    def use(self, use: ToolUse | UseBroken) -> None:
        """A call whose block is complete; more of the answer may follow."""


class _Parts:
    """What has come of an answer so far; `begun` says whether anything has."""

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener
        self.begun = False
        self.text: list[str] = []
        self.uses: list[ToolUse | UseBroken] = []

    def take(self, part: TextDelta | UseReady | UseBroken) -> None:
        self.begun = True
        match part:
            case TextDelta(words):
                self.text.append(words)
                if self._listener:
                    self._listener.text(words)
            case UseReady(use):
                self._add(use)
            case UseBroken():
                self._add(part)

    def _add(self, use: ToolUse | UseBroken) -> None:
        self.uses.append(use)
        if self._listener:
            self._listener.use(use)


class Asking:
    """Makes model calls and keeps their books; a model whose breaker is open is not asked."""

    def __init__(self, purses: Purses, breakers: Breakers, *, tariffs: Callable[[Model], Tariff | None]) -> None:
        self.purses = purses
        self.breakers = breakers
        self._tariffs = tariffs

    async def ask(
        self, model: Model, prompt: Prompt, *, payer: Payer, role: str, listener: Listener | None = None
    ) -> Reply:
        """One call that `payer` pays for. Raises `ModelError`, settled in any case; `NoRoom` where nothing is asked.

        The `ModelUnavailableError` of a model that is left alone for now says in `retry_after` for how long.
        """
        await self.breakers.load()
        attempt = self.breakers.admit(model.name)
        try:
            reply = await self._with_room(model, prompt, payer=payer, role=role, listener=listener)
        except ModelError as error:
            await self.breakers.failed(attempt, error)
            raise
        else:
            await self.breakers.passed(attempt)
            return reply
        finally:
            self.breakers.left(attempt)

    async def _with_room(
        self, model: Model, prompt: Prompt, *, payer: Payer, role: str, listener: Listener | None
    ) -> Reply:
        """A model that needs room to think says so once, in an answer that is charged like any other."""
        try:
            return await self._once(model, prompt, payer=payer, role=role, listener=listener)
        except NeedsRoomError as needs:
            cost = Cost()
            cost.add(price(needs.usage, self._tariffs(model)))
            try:
                reply = await self._once(model, prompt, payer=payer, role=role, listener=listener)
            except (ModelError, NoRoom) as error:
                error.spent = (_tokens(needs.usage), cost.total)
                raise
            cost.add(reply.price)
            return replace(reply, price=cost.total, before=needs.usage)

    async def _once(self, model: Model, prompt: Prompt, *, payer: Payer, role: str, listener: Listener | None) -> Reply:
        """One request, with a reservation of its own that is settled whatever becomes of it."""
        # It may learn meanwhile, by another call, that it needs more: what is sent is what was reserved.
        prompt = replace(prompt, thinking=model.thinking)
        number = await self.purses.reserve(payer, prompt, role=role, model=model, tariff=self._tariffs(model))
        parts, taken = _Parts(listener), Taken("broken")
        try:
            reply = await self._collect(model, prompt, parts=parts)
            taken = Taken(OK, reply.usage, reply.price)
        except asyncio.CancelledError:
            taken = Taken("cancelled")
            raise
        except NeedsRoomError as needs:
            taken = Taken(type(needs).__name__, needs.usage, price(needs.usage, self._tariffs(model)))
            raise
        except ModelError as error:
            taken = Taken(type(error).__name__)
            if not parts.begun and not _has_worked(error):
                taken = replace(taken, usage=Usage(0, 0), price=0)
            raise
        finally:
            if taken.outcome == OK and reply.uses:
                self.purses.book(number, taken)  # the next reservation comes at once, and takes this along
            else:
                await self.purses.settle(number, taken)
        return reply

    async def _collect(self, model: Model, prompt: Prompt, *, parts: _Parts) -> Reply:
        async with aclosing(model.stream(prompt)) as stream:
            async for part in stream:
                if isinstance(part, Done):
                    cost = price(part.usage, self._tariffs(model))
                    return Reply("".join(parts.text), tuple(parts.uses), part.stop, part.usage, cost)
                parts.take(part)
        raise ModelProtocolError(f"{model.name} ended its stream without saying so")


def _has_worked(error: ModelError) -> bool:
    """Whether a provider may charge for it: who refuses, or is away before a word, has worked nothing out."""
    return isinstance(error, ModelProtocolError) or (isinstance(error, ModelUnavailableError) and error.worked)


def _tokens(usage: Usage) -> int:
    return (usage.input or 0) + (usage.output or 0) + usage.cache_read + usage.cache_write
