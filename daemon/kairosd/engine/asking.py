"""Asking a model: every call is recorded before it is made and priced after, whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from kairosd.core.budget import Payer
from kairosd.core.messages import Done, Prompt, TextDelta, ToolUse, Usage, UseBroken, UseReady
from kairosd.core.notices import NoticeDraft, Severity
from kairosd.core.pricing import Tariff, price
from kairosd.engine.purses import Purses
from kairosd.errors import ContextTooLongError, ModelError, ModelProtocolError, StoreError
from kairosd.ports import Clock, Model, Stores

Queue = Callable[[NoticeDraft], None]


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. `uses` holds broken calls too, in the order asked; `price` in micro-dollars, None = unknown."""

    text: str
    uses: tuple[ToolUse | UseBroken, ...]
    stop: str
    usage: Usage
    price: int | None

    @property
    def tokens(self) -> int:
        return (self.usage.input or 0) + (self.usage.output or 0) + self.usage.cache_read + self.usage.cache_write


class Cost:
    """Adds up prices in micro-dollars; one unknown makes the sum unknown."""

    def __init__(self) -> None:
        self.total: int | None = 0

    def add(self, price: int | None) -> None:
        self.total = None if price is None or self.total is None else self.total + price


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
    """Makes model calls, keeps their books, and knows which models are down."""

    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        *,
        purses: Purses,
        tariffs: Callable[[Model], Tariff | None],
        tell: Queue,
    ) -> None:
        self._calls = stores.model_calls
        self.purses = purses
        self._clock = clock
        self._tariffs = tariffs
        self._tell = tell
        self.down: dict[str, tuple[datetime, str]] = {}

    async def ask(
        self, model: Model, prompt: Prompt, *, payer: Payer, role: str, listener: Listener | None = None
    ) -> Reply:
        """One call that `payer` pays for. Raises `ModelError`, settled in any case; `NoRoom` where nothing is asked."""
        number = await self.purses.reserve(payer, prompt, role=role, model=model, tariff=self._tariffs(model))
        parts = _Parts(listener)
        try:
            reply = await self._collect(model, prompt, parts=parts)
        except asyncio.CancelledError:
            now = self._clock.now()
            # Raised from here it would take the place of the cancellation, and what was stopped would go on.
            with contextlib.suppress(StoreError):
                await asyncio.shield(self._calls.settle(number, Usage(), price=None, outcome="cancelled", now=now))
            raise
        except ModelError as error:
            # Refused or away before a word of it: nothing was worked out, so nothing is charged.
            nothing = not parts.begun and not isinstance(error, ModelProtocolError)
            usage, cost = (Usage(0, 0), 0) if nothing else (Usage(), None)
            outcome, now = type(error).__name__, self._clock.now()
            await self._calls.settle(number, usage, price=cost, outcome=outcome, now=now)
            self._mark_down(model, error)
            raise
        await self._calls.settle(number, reply.usage, price=reply.price, outcome="ok", now=self._clock.now())
        self._mark_up(model)
        return reply

    async def _collect(self, model: Model, prompt: Prompt, *, parts: _Parts) -> Reply:
        async with aclosing(model.stream(prompt)) as stream:
            async for part in stream:
                if isinstance(part, Done):
                    cost = price(part.usage, self._tariffs(model))
                    return Reply("".join(parts.text), tuple(parts.uses), part.stop, part.usage, cost)
                parts.take(part)
        raise ModelProtocolError(f"{model.name} ended its stream without saying so")

    def _mark_down(self, model: Model, error: ModelError) -> None:
        # A model that reads the prompt and finds fault with it is not away.
        if isinstance(error, (ModelProtocolError, ContextTooLongError)) or model.name in self.down:
            return
        now = self._clock.now()
        self.down[model.name] = (now, str(error))
        self._tell(
            NoticeDraft(
                key=f"model-down:{model.name}:{now:%Y%m%dT%H%M%S}",
                title=f"The model {model.name} does not answer",
                body=f"{error}\nEvents wait; nothing is lost.",
                severity=Severity.NORMAL,
            )
        )

    def _mark_up(self, model: Model) -> None:
        since = self.down.pop(model.name, None)
        if since:
            began = since[0]
            self._tell(
                NoticeDraft(
                    key=f"model-up:{model.name}:{began:%Y%m%dT%H%M%S}",
                    title=f"The model {model.name} answers again",
                    body=f"It had been away since {began:%H:%M} UTC.",
                    severity=Severity.LOW,
                )
            )
