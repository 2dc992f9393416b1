"""Purses: no model call is made that its purse has no room for at worst; whoever asked waits, or asks the owner."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from kairosd.core.budget import (
    Allowance,
    Breach,
    Caps,
    Order,
    Payer,
    Purse,
    allowance_for,
    allowance_in,
    asked_of,
    money,
    purse_of,
    refill_of,
    worst_case,
)
from kairosd.core.events import Event
from kairosd.core.json import JsonObject
from kairosd.core.messages import Prompt, Usage
from kairosd.core.notices import NoticeDraft
from kairosd.core.pricing import Tariff
from kairosd.core.runs import Approval, ApprovalState, Run
from kairosd.errors import StoreError, TransitionError
from kairosd.frozen import frozen
from kairosd.ports import Clock, Model, Stores, Used

log = logging.getLogger("kairosd.purses")

LOOK_AGAIN = timedelta(minutes=5)  # calls under way give back what they did not take, so room may come early


class NoRoom(Exception):
    """Raised out of a model call that was not made: no error, whoever asked for it waits."""

    spent: tuple[int, int | None] | None = None  # as `ModelError.spent`

    def __init__(self, breach: Breach) -> None:
        self.breach = breach
        super().__init__(breach.text())


@frozen
class Taken:
    """What became of a call: `ok` or the error's class; where nobody counted, what was reserved stays taken."""

    outcome: str
    usage: Usage = Usage()
    price: int | None = None


@frozen
class Wish:
    """What a run asks the owner for: words, and what a yes is bound to."""

    question: str
    bound: str


class Purses:
    """Reserves what calls may cost, and knows what is left. `caps` has every purse."""

    def __init__(
        self, stores: Stores, clock: Clock, *, caps: Mapping[Purse, Caps], tell: Callable[[NoticeDraft], None]
    ) -> None:
        self._calls = stores.model_calls
        self._clock = clock
        self._caps = caps
        self._tell = tell
        self._empty: dict[Purse, Breach] = {}
        self._unsettled: dict[int, Taken] = {}
        self._booking: dict[int, Future[None]] = {}

    async def reserve(self, payer: Payer, prompt: Prompt, *, role: str, model: Model, tariff: Tariff | None) -> int:
        """Holds room for one call, in the purse or in what the owner allowed beyond it; its number. Raises `NoRoom`."""
        await self._settle_late()
        worst, now = worst_case(prompt, tariff), self._clock.now()
        sources = [(payer.purse.value, self._caps[payer.purse])]
        sources += [(allowed.approval, (allowed.cap,)) for allowed in payer.allowances]
        refused: Breach | None = None
        for name, caps in sources:
            order = Order(payer.cause, role, model.model, purse=name, worst=worst)
            found = await self._reserve(order, caps, now=now)
            if not isinstance(found, Breach):
                return found
            refused = refused or found
        assert refused is not None
        raise NoRoom(refused)

    def book(self, number: int, taken: Taken) -> None:
        """`settle` without waiting: before the next call's reservation, and with it where that comes at once."""
        self._unsettled[number] = taken
        now = self._clock.now()
        try:
            booking = self._calls.settle_soon(number, taken.usage, price=taken.price, outcome=taken.outcome, now=now)
        except StoreError as error:
            _log_unsettled(number, error)
            return
        self._booking[number] = booking
        booking.add_done_callback(partial(self._booked, number))

    def _booked(self, number: int, booking: Future[None]) -> None:
        self._booking.pop(number, None)
        error = None if booking.cancelled() else booking.exception()
        if error is not None:
            _log_unsettled(number, error)
        elif not booking.cancelled():
            self._unsettled.pop(number, None)

    async def settle(self, number: int, taken: Taken) -> None:
        """Books what a call took. What cannot be written now is written before the next look into a purse.

        Once it has begun, being cancelled does not keep it from being written.
        """
        self._unsettled[number] = taken
        await self._settle_late()

    async def _settled(self) -> None:
        """Before a look: what is on its way is waited for. A write is not, it comes after it in any case."""
        if self._booking:
            await asyncio.wait(list(self._booking.values()))
        await self._settle_late()

    async def _settle_late(self) -> None:
        """Writes what could not be written, the newest first: one who is cancelled here has written their own."""
        for number in [one for one in reversed(self._unsettled) if one not in self._booking]:
            taken, settled = self._unsettled.pop(number, None), False
            if taken is None:
                continue  # somebody else is at it
            try:
                now = self._clock.now()
                await self._calls.settle(number, taken.usage, price=taken.price, outcome=taken.outcome, now=now)
                settled = True
            except TransitionError:
                settled = True  # written by a try that was cut off
            except StoreError as error:
                _log_unsettled(number, error)
                return
            finally:
                if not settled:
                    self._unsettled[number] = taken

    async def _reserve(self, order: Order, caps: Caps, *, now: datetime) -> int | Breach:
        made: list[int] = []
        written = asyncio.Event()

        async def write() -> int | Breach:
            try:
                found = await self._calls.reserve(order, caps, now=now)
                made.extend([] if isinstance(found, Breach) else [found])
                return found
            finally:
                written.set()

        try:
            return await asyncio.shield(write())
        except asyncio.CancelledError:
            # Stopped while it was written down: nothing was asked, so nothing may stay reserved.
            await written.wait()
            for number in made:
                await self.settle(number, Taken("cancelled", Usage(0, 0), 0))
            raise

    async def affordable(self, events: Sequence[Event]) -> tuple[list[Event], datetime | None]:
        """Those events whose purse is not known to be empty, and when to look for the others again (None = never)."""
        waits = {purse: await self._wait(purse) for purse in {purse_of(event.source) for event in events}}
        soonest = min((moment for moment in waits.values() if moment), default=None)
        return [event for event in events if waits[purse_of(event.source)] is None], soonest

    async def is_empty(self, purse: Purse) -> bool:
        """Whether what was last refused would be refused again."""
        return await self._wait(purse) is not None

    async def _wait(self, purse: Purse) -> datetime | None:
        if (refused := self._empty.get(purse)) is None:
            return None
        await self._settled()
        now = self._clock.now()
        order = Order("", "", "", purse=purse.value, worst=refused.need)
        found = await self._calls.breach(order, self._caps[purse], now=now)
        if found is None:
            if self._empty.get(purse) is refused:  # while it was looked up another may have said so, or been refused
                del self._empty[purse]
            return None
        return look_again(found, now)

    def hold(self, purse: Purse, breach: Breach) -> datetime:
        """What `purse` pays for waits, and the owner is told once a day; returns when to look again."""
        now = self._clock.now()
        self._empty[purse] = breach
        every = f"_per_{breach.cap.name}"
        key = f"{'dollars' if breach.by_money else 'tokens'}{every}"
        self._tell(
            NoticeDraft(
                key=f"purse:{purse}:{breach.cap.name}:{now:%Y-%m-%d}",
                title=f"The purse {purse} is empty: what it pays for waits",
                body=(
                    f"{breach.text()} {_when(breach, now)}\nNothing is lost. What you ask for with `kairos tell` has a "
                    f"purse of its own. To allow more: [budget.{purse}] {key} in the configuration, then kairos reload."
                ),
            )
        )
        return look_again(breach, now)

    def wish(self, run: Run, breach: Breach) -> Wish:
        """What `run` asks for when it may not go on."""
        purse = purse_of(run.trigger)
        cap = allowance_for(breach, self._caps[purse][0])
        more = f"{cap.tokens:,} tokens" if breach.need.price is None else f"{money(cap.price)} / {cap.tokens:,} tokens"
        when = _when(breach, self._clock.now())
        return Wish(f"{breach.text()} {when} Allow another {more} for this run?", asked_of(cap, breach.need))

    async def suffices(self, run: Run, asked: Allowance) -> bool:
        """Whether by now the run's own purse has room for what the owner was asked for."""
        await self._settled()
        purse = purse_of(run.trigger)
        worst = refill_of(asked, self._caps[purse])
        if worst is None:
            return False
        order = Order(run.id, "", "", purse=purse.value, worst=worst)
        return await self._calls.breach(order, self._caps[purse], now=self._clock.now()) is None

    async def quarters_left(self, purse: Purse) -> int:
        """How much of its tightest cap a purse still holds, in quarters rounded to the nearest: 0 to 4."""
        caps = self._caps[purse]
        found = await self._calls.used({purse.value: caps}, self._clock.now())
        return min(map(_quarters, found[purse.value]), default=4)

    async def view(self) -> JsonObject:
        """What `status` says: per purse and window what is spent, reserved and allowed."""
        await self._settled()
        found = await self._calls.used({purse.value: caps for purse, caps in self._caps.items()}, self._clock.now())
        return {purse: {each.cap.name: _view(each) for each in used} for purse, used in found.items()}


def _log_unsettled(number: int, error: BaseException) -> None:
    log.warning("model call %d holds its worst case until it can be settled: %s", number, error)


def payer_of(run: Run, approvals: Sequence[Approval]) -> Payer:
    """Who pays for a run: its trigger's purse, then what the owner allowed it."""
    said_yes = [one for one in approvals if one.state is ApprovalState.APPROVED]
    allowed = [found for one in reversed(said_yes) if (found := allowance_in(one.id, one.hash))]
    return Payer(run.id, purse_of(run.trigger), tuple(allowed))


def look_again(breach: Breach, now: datetime) -> datetime:
    """When a call that was refused may be tried again."""
    return min(breach.frees_at or now + LOOK_AGAIN, now + LOOK_AGAIN)


def _when(breach: Breach, now: datetime) -> str:
    if breach.frees_at is None:
        return "One call is more than it ever holds."
    minutes = max(1, -(-int((breach.frees_at - now).total_seconds()) // 60))
    return f"There is room again in {f'{minutes} min' if minutes < 120 else f'{-(-minutes // 60)} h'} at the latest."


def _quarters(used: Used) -> int:
    price = (used.spent.price or 0) + (used.reserved.price or 0)
    tokens = used.spent.tokens + used.reserved.tokens
    shares = [(used.cap.price, price), (used.cap.tokens, tokens)]
    # A purse that is meant to hold nothing is empty.
    return min(max(0, round(4 * (cap - taken) / cap)) if cap else 0 for cap, taken in shares)


def _view(used: Used) -> JsonObject:
    return {
        "spent": used.spent.price, "reserved": used.reserved.price, "limit": used.cap.price,
        "tokens": used.spent.tokens, "tokens_reserved": used.reserved.tokens, "tokens_limit": used.cap.tokens,
    }  # fmt: skip
