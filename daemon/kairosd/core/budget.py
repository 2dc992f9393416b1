"""Budgets: what each kind of trigger may spend, what a call may cost at worst, and when an empty purse fills again.

Windows roll: an hour is the last 60 minutes by the wall clock, a day the last 24 hours. A calendar's day would let two
days' money go around midnight, would mean something else after a journey, and would make everything wait for 00:00;
with rolling windows the moment at which there is room again is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from kairosd.core.messages import Prompt, ToolSpec, Usage
from kairosd.core.pricing import Tariff, price
from kairosd.core.tokens import estimate_frame, estimate_prompt
from kairosd.frozen import frozen

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MARGIN_PERCENT = 25  # over the estimate, which is at most 14 % too low where it was measured (core/tokens.py)
PROVIDER_TOKENS = 500  # what a provider itself puts before a prompt with tools: Anthropic says up to 346
DOLLAR = 1_000_000  # micro-dollars
ALLOWED_SHARE = 4  # a run that asks is allowed a quarter of what its purse holds an hour
ALLOWED_CALLS = 4  # and no less than this many calls, so that a yes is not asked for again at once
ASKED = "purse"  # how the hash of a question about money begins


class Purse(StrEnum):
    """Who made Kairos spend it. What is not foreseen here (a trigger of the owner's own making) is `tick`."""

    OWNER = "owner"
    TICK = "tick"
    FILE = "file"
    WEBHOOK = "webhook"
    SCHEDULE = "schedule"
    DREAM = "dream"


_SOURCES = {"files": Purse.FILE, **{purse.value: purse for purse in Purse}}


def purse_of(source: str) -> Purse:
    """The purse of a decision's source or a run's trigger."""
    return _SOURCES.get(source, Purse.TICK)


@frozen
class Amount:
    """Micro-dollars (None = nobody knows the price) and tokens."""

    price: int | None
    tokens: int


@frozen
class Cap:
    """At most `price` micro-dollars and at most `tokens` within any `span`; None = altogether."""

    span: timedelta | None
    price: int
    tokens: int

    @property
    def name(self) -> str:
        """How people call its span; empty where there is none."""
        return "" if self.span is None else {HOUR: "hour", DAY: "day"}.get(self.span, str(self.span))


Caps = tuple[Cap, ...]


def caps(hour: tuple[int, int], day: tuple[int, int]) -> Caps:
    """Caps from (micro-dollars, tokens) an hour and a day."""
    return (Cap(HOUR, *hour), Cap(DAY, *day))


# Generous for who is there and waits, tight for what nobody watches. Whole dollars, millions of tokens.
DEFAULT_CAPS: Mapping[Purse, Caps] = MappingProxyType(
    {
        Purse.OWNER: caps((10 * DOLLAR, 20_000_000), (40 * DOLLAR, 80_000_000)),
        Purse.TICK: caps((1 * DOLLAR, 2_000_000), (3 * DOLLAR, 8_000_000)),
        Purse.FILE: caps((1 * DOLLAR, 2_000_000), (3 * DOLLAR, 8_000_000)),
        Purse.WEBHOOK: caps((1 * DOLLAR, 2_000_000), (3 * DOLLAR, 8_000_000)),
        Purse.SCHEDULE: caps((2 * DOLLAR, 4_000_000), (6 * DOLLAR, 12_000_000)),
        Purse.DREAM: caps((1 * DOLLAR, 2_000_000), (2 * DOLLAR, 4_000_000)),
    }
)


@frozen
class Allowance:
    """What the owner is asked to allow one run beyond its purse, whose `need` for one call was too much.

    `approval` is the question, and the name that what is allowed is booked under.
    """

    approval: str
    cap: Cap
    need: Amount


@frozen
class Payer:
    """Who a model call is for: a decision's or run's id, its purse, and what the owner allowed beyond that."""

    cause: str
    purse: Purse
    allowances: tuple[Allowance, ...] = ()


@frozen
class Order:
    """A model call about to be made. `purse` is a purse's name or an allowance's; `worst` what it may cost."""

    cause: str
    role: str
    model: str
    purse: str
    worst: Amount


@frozen
class Breach:
    """Why a call may not be made: `used` (spent or reserved) and `need` together are more than `cap`.

    `frees_at` is when there will be room by itself; None = never, since one call is more than the cap.
    """

    purse: str
    cap: Cap
    used: Amount
    need: Amount
    frees_at: datetime | None

    @property
    def by_money(self) -> bool:
        """Whether it is the money that does not suffice, and not the tokens."""
        return (self.used.price or 0) + (self.need.price or 0) > self.cap.price

    def text(self) -> str:
        """The breach as a sentence for the owner."""
        if self.by_money:
            used, cap, need = (money(each) for each in (self.used.price or 0, self.cap.price, self.need.price or 0))
        else:
            used, cap, need = (f"{each:,} tokens" for each in (self.used.tokens, self.cap.tokens, self.need.tokens))
        every = f" in any {self.cap.name}" if self.cap.span else ""
        return (
            f"The purse {self.purse} may spend {cap}{every}, {used} of it are spent or reserved, "
            f"and the next model call may take up to {need}."
        )


@frozen
class Booking:
    """What a model call that ended `at` counts for; one under way counts its worst case, and as ending now."""

    at: datetime
    amount: Amount


def breach_of(order: Order, books: Mapping[Cap, Sequence[Booking]]) -> Breach | None:
    """The cap that stands longest in the way of `order`; None when there is room.

    `books` holds every cap, and what counts against it, oldest first.
    """
    found: Breach | None = None
    for cap, counted in books.items():
        used = total(each.amount for each in counted)
        if fits(used, order.worst, cap=cap):
            continue
        breach = Breach(order.purse, cap, used, order.worst, _frees_at(order.worst, cap, books=counted))
        if found is None or breach.frees_at is None or (found.frees_at and breach.frees_at > found.frees_at):
            found = breach
    return found


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum; a price that is not known counts as nothing, since its tokens count."""
    price = tokens = 0
    for each in amounts:
        price += each.price or 0
        tokens += each.tokens
    return Amount(price, tokens)


def worst_case(prompt: Prompt, tariff: Tariff | None) -> Amount:
    """The most that a call with `prompt` takes: more than the estimate, none of it cached, and the longest answer."""
    form = [ToolSpec(prompt.form.name, prompt.form.description, prompt.form.schema)] if prompt.form else []
    estimated = estimate_prompt(prompt) + estimate_frame("", form)
    given = -(-estimated * (100 + MARGIN_PERCENT) // 100) + PROVIDER_TOKENS
    # A prompt is written to a cache at more than the plain price, where a provider has one.
    answer = prompt.max_tokens + prompt.thinking
    dearest = (Usage(given, answer), Usage(0, answer, 0, given))
    prices = [known for usage in dearest if (known := price(usage, tariff)) is not None]
    return Amount(max(prices, default=None), given + answer)


def allowance_for(breach: Breach, hourly: Cap) -> Cap:
    """What the owner is asked to allow: a quarter of the hour's purse, and at least some calls."""
    price, tokens = (ALLOWED_CALLS * each for each in (breach.need.price or 0, breach.need.tokens))
    return Cap(None, max(price, hourly.price // ALLOWED_SHARE), max(tokens, hourly.tokens // ALLOWED_SHARE))


def asked_of(cap: Cap, need: Amount) -> str:
    """What a question about money is bound to, in place of a call's hash: exactly what a yes allows, and what for."""
    return f"{ASKED}:{cap.price}:{cap.tokens}:{need.price or 0}:{need.tokens}"


def allowance_in(approval: str, bound: str) -> Allowance | None:
    """The allowance that `asked_of` wrote into a question; None for a question about something else."""
    kind, *parts = bound.split(":")
    if kind != ASKED or len(parts) != 4:
        return None
    price, tokens, *need = map(int, parts)
    return Allowance(approval, Cap(None, price, tokens), Amount(*need))


def refill_of(asked: Allowance, caps: Sequence[Cap]) -> Amount | None:
    """How much room a purse must have for a run that asked to go on without an answer; None = it never will.

    As much as was asked for, so that it does not ask again at once, or all that the purse ever holds.
    """
    if not all(fits(Amount(0, 0), asked.need, cap=cap) for cap in caps):
        return None
    prices, tokens = ([each.price for each in caps], [each.tokens for each in caps])
    return Amount(min(asked.cap.price, *prices), min(asked.cap.tokens, *tokens))


def money(micro: int) -> str:
    """Micro-dollars as people read them: whole cents, or as many digits as it takes."""
    text = f"{micro // DOLLAR}.{micro % DOLLAR:06d}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"${whole}.{part.ljust(2, '0')}"


def fits(used: Amount, need: Amount, *, cap: Cap) -> bool:
    """Whether `need` still goes into `cap` beside what is used."""
    return (used.price or 0) + (need.price or 0) <= cap.price and used.tokens + need.tokens <= cap.tokens


def _frees_at(need: Amount, cap: Cap, *, books: Sequence[Booking]) -> datetime | None:
    if cap.span is None or not fits(Amount(0, 0), need, cap=cap):
        return None
    left = total(each.amount for each in books)
    for each in books:
        left = Amount((left.price or 0) - (each.amount.price or 0), left.tokens - each.amount.tokens)
        if fits(left, need, cap=cap):
            return each.at + cap.span
    return None
