"""Asking a model: every call is recorded before it is made and priced after, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from kairosd.core.messages import Done, Prompt, TextDelta, ToolUse, Usage, UseBroken, UseReady
from kairosd.core.notices import NoticeDraft, Severity
from kairosd.core.pricing import Tariff, price
from kairosd.errors import ModelError, ModelProtocolError
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


class Asking:
    """Makes model calls, keeps their books, and knows which models are down."""

    def __init__(self, stores: Stores, clock: Clock, *, tariffs: Callable[[Model], Tariff | None], tell: Queue) -> None:
        self._calls = stores.model_calls
        self._clock = clock
        self._tariffs = tariffs
        self._tell = tell
        self.down: dict[str, tuple[datetime, str]] = {}

    async def ask(
        self, model: Model, prompt: Prompt, *, cause: str, role: str, on_text: Callable[[str], None] | None = None
    ) -> Reply:
        """One call for `cause` (a decision's or run's id). Raises `ModelError`; the call is settled in any case."""
        number = await self._calls.reserve(cause, role, model=model.model, now=self._clock.now())
        try:
            reply = await self._collect(model, prompt, on_text=on_text)
        except asyncio.CancelledError:
            now = self._clock.now()
            await asyncio.shield(self._calls.settle(number, Usage(), price=None, outcome="cancelled", now=now))
            raise
        except ModelError as error:
            await self._calls.settle(number, Usage(), price=None, outcome=type(error).__name__, now=self._clock.now())
            self._mark_down(model, error)
            raise
        await self._calls.settle(number, reply.usage, price=reply.price, outcome="ok", now=self._clock.now())
        self._mark_up(model)
        return reply

    async def _collect(self, model: Model, prompt: Prompt, *, on_text: Callable[[str], None] | None) -> Reply:
        text: list[str] = []
        uses: list[ToolUse | UseBroken] = []
        async with aclosing(model.stream(prompt)) as parts:
            async for part in parts:
                match part:
                    case TextDelta(words):
                        text.append(words)
                        if on_text:
                            on_text(words)
                    case UseReady(use):
                        uses.append(use)
                    case UseBroken():
                        uses.append(part)
                    case Done(stop, usage):
                        cost = price(usage, self._tariffs(model))
                        return Reply("".join(text), tuple(uses), stop, usage, cost)
        raise ModelProtocolError(f"{model.name} ended its stream without saying so")

    def _mark_down(self, model: Model, error: ModelError) -> None:
        if isinstance(error, ModelProtocolError) or model.name in self.down:
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
