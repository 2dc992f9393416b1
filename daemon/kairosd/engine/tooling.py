"""Tooling: what every run works with, and the row of one run as it stands."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from kairosd.core.budget import Payer
from kairosd.core.events import Tier
from kairosd.core.notices import NoticeDraft
from kairosd.core.runs import Call, Run, RunState
from kairosd.engine.asking import Asking
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.hints import Hints
from kairosd.engine.quarantine import Quarantine
from kairosd.engine.signals import Feed
from kairosd.engine.tasks import Tasks
from kairosd.errors import TransitionError
from kairosd.frozen import frozen
from kairosd.ports import Clock, Files, Model, Runs, Sandbox, Stores, Tool

if TYPE_CHECKING:  # loaded when the first run begins
    from kairosd.engine.ending import Ending
    from kairosd.engine.ledger import Ledger
    from kairosd.engine.limits import Limits
    from kairosd.engine.news import News
    from kairosd.engine.outlets import Outlets
    from kairosd.engine.prefixes import PrefixWatch


@frozen
class Tooling:
    """What every run works with. `model` is the one that goes on with a run now."""

    stores: Stores
    clock: Clock
    asking: Asking
    model: Callable[[Run], Model]
    files: Files
    sandbox: Sandbox
    tools: Mapping[str, Tool]
    ledger: Ledger
    checkouts: Checkouts
    ending: Ending
    quarantine: Quarantine
    limits: Limits
    feed: Feed
    tasks: Tasks
    remembering: Hints
    news: News
    tell: Callable[[NoticeDraft], Awaitable[None]]
    author: Callable[[], Awaitable[tuple[str, str]]]
    prefixes: PrefixWatch
    outlets: Outlets

    async def give_up(self, run: Run, state: RunState, *, reason: str) -> None:
        """Ends a run that did not reach its goal, once its commands have ended."""
        await self.tasks.end(run.id)
        await self.ending.give_up(run, state, reason=reason)


@frozen
class Look:
    """The row of a call that only read, while it is `writing`; `again` writes it where that has failed."""

    writing: Future[Call]
    again: Callable[[], Awaitable[Call]]

    @property
    def failed(self) -> bool:
        return self.writing.done() and (self.writing.cancelled() or self.writing.exception() is not None)

    async def written(self) -> None:
        """Returns when it is stored, by a second try if need be. Raises `StoreError`."""
        await asyncio.wait([self.writing])
        if self.failed:
            with suppress(TransitionError):  # it was written after all
                await self.again()


class Standing:
    """A run as it stands: every change of its row goes through here, since several calls may be under way at once."""

    def __init__(self, runs: Runs, run: Run, *, payer: Payer, outlets: Outlets) -> None:
        self._runs = runs
        self._outlets = outlets
        self.run = run
        self.payer = payer
        self._saved = run
        self._owed: list[Look] = []
        self._saving = asyncio.Lock()
        self._behind = False

    def count_turns(self, turns: int) -> None:
        """As many as the transcript holds."""
        self.run = replace(self.run, turns=turns)

    def pay(self, tokens: int, price: int | None) -> None:
        """Adds what a model call took; a price nobody knows makes the sum unknown."""
        total = None if price is None or self.run.price is None else self.run.price + price
        self.run = replace(self.run, tokens=self.run.tokens + tokens, price=total)

    async def taint(self, tier: Tier) -> None:
        """The run has read what somebody of `tier` wrote. What its commands reach is no more than that leaves it."""
        if tier < self.run.taint:
            self.run = replace(self.run, taint=tier)
            await self._outlets.follow(self.run)
        if tier < self._saved.taint:  # also where another call lowered it, and it is not stored yet
            await self.save()

    async def work_in(self, snapshot: str) -> None:
        """The run has a checkout from now on."""
        self.run = replace(self.run, base=snapshot)
        await self.save()

    def owe(self, look: Look) -> None:
        """The row of a call that is being written beside."""
        look.writing.add_done_callback(lambda _: look.failed)  # seen, also where the run ends before `save`
        self._owed.append(look)

    async def save(self) -> None:
        """Stores the row where it has changed; returns when those of its calls are stored too.

        What raises `StoreError` here is stored by the next `save`.
        """
        async with self._saving:
            self._behind, owed = True, tuple(self._owed)
            if owed or self.run != self._saved:
                saved = self.run
                await self._runs.update(saved)
                self._saved = saved
            for look in owed:
                await look.written()
                self._owed.remove(look)
            self._behind = False

    async def catch_up(self) -> None:
        """`save` where something could not be stored. Raises `StoreError`."""
        if self._behind or any(look.failed for look in self._owed):
            await self.save()
