"""What every model call used and cost, written down before it is made; what it counts for holds room in its purse.

`charged_price` and `charged_tokens` are what a call counts for: at worst until it is settled, then what it took. So
whatever a crash leaves open still counts, and no second book can disagree with this one.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, and_, bindparam, func, insert, or_, select, update

from kairosd.core.budget import Amount, Booking, Breach, Cap, Caps, Order, breach_of, fits
from kairosd.core.journal import Note, stamp
from kairosd.core.json import Json, JsonObject
from kairosd.core.messages import Usage
from kairosd.errors import TransitionError
from kairosd.ports.stores import Spending, Used
from kairosd.store.costs import sum_up
from kairosd.store.database import Database, Unit
from kairosd.store.prepared import PreparedInsert, PreparedSelect, PreparedUpdate, driver_of
from kairosd.store.schema import model_calls

OK = "ok"
LOST = "lost"  # the outcome of a call that a crash cut off
EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))

_INSERT = PreparedInsert(
    insert(model_calls),
    ("cause", "role", "model", "reserved_at", "purse", "charged_price", "charged_tokens"),
)
_SETTLE = PreparedUpdate(
    update(model_calls)
    .where(model_calls.c.number == bindparam("call_number"), model_calls.c.outcome.is_(None))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in ("settled_at", "input", "output", "cache_read", "cache_write", "price", "outcome",
                         "charged_price", "charged_tokens")
        }
    )
)  # fmt: skip
_STORED = PreparedSelect(
    select(
        model_calls.c.cause, model_calls.c.role, model_calls.c.model, model_calls.c.purse,
        model_calls.c.charged_price, model_calls.c.charged_tokens,
    ).where(model_calls.c.number == bindparam("call_number"))
)  # fmt: skip
# A call counts from its beginning until a window after its end: whenever in between it was billed, the cap holds.
# The purse stands in both halves, else SQLite looks through all that was ever paid from it.
_OF_PURSE = model_calls.c.purse == bindparam("of_purse")
_COUNTS = or_(
    and_(_OF_PURSE, model_calls.c.settled_at > bindparam("since"), model_calls.c.settled_at < bindparam("until")),
    and_(_OF_PURSE, model_calls.c.settled_at.is_(None)),
)
_SUMS = select(
    func.coalesce(func.sum(model_calls.c.charged_price), 0), func.coalesce(func.sum(model_calls.c.charged_tokens), 0)
).where(_COUNTS)
_COUNTED = PreparedSelect(_SUMS)
_HELD = PreparedSelect(_SUMS.where(model_calls.c.outcome.is_(None)))
_BOOKINGS = (
    select(model_calls.c.settled_at, model_calls.c.charged_price, model_calls.c.charged_tokens)
    .where(_COUNTS)
    .order_by(model_calls.c.settled_at.nulls_last(), model_calls.c.number)
)


class ModelCallStore:
    """Implements `ports.ModelCalls`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, order: Order, caps: Caps, *, now: datetime) -> int | Breach:
        values = {
            "cause": order.cause, "role": order.role, "model": order.model, "reserved_at": now, "purse": order.purse,
            "charged_price": order.worst.price, "charged_tokens": order.worst.tokens,
        }  # fmt: skip

        def work(unit: Unit) -> int | Breach:
            if breach := _breach(unit.connection, order, caps=caps, now=now):
                return breach
            return _INSERT.execute(unit.driver, values).lastrowid or 0

        return await self._database.write(work)

    async def settle(self, number: int, usage: Usage, *, price: int | None, outcome: str, now: datetime) -> None:
        await self._database.write(
            lambda unit: _settle(unit, number, used=_used(usage, price, outcome=outcome), now=now)
        )

    def settle_soon(self, number: int, usage: Usage, *, price: int | None, outcome: str, now: datetime) -> Future[None]:
        used = _used(usage, price, outcome=outcome)
        return self._database.write_soon(lambda unit: _settle(unit, number, used=used, now=now))

    async def recover(self, now: datetime) -> int:
        def work(unit: Unit) -> int:
            unsettled = select(model_calls.c.number).where(model_calls.c.outcome.is_(None))
            numbers = [int(row[0]) for row in unit.connection.execute(unsettled)]
            for number in numbers:
                _settle(unit, number, used=_used(Usage(), None, outcome=LOST), now=now)
            return len(numbers)

        return await self._database.write(work)

    async def of(self, cause: str) -> tuple[JsonObject, ...]:
        statement = select(model_calls).where(model_calls.c.cause == cause).order_by(model_calls.c.number)
        rows = await self._database.read(lambda reader: reader.execute(statement).mappings().all())
        return tuple({str(name): _json(value) for name, value in row.items()} for row in rows)

    async def breach(self, order: Order, caps: Caps, *, now: datetime) -> Breach | None:
        return await self._database.read(lambda reader: _breach(reader, order, caps=caps, now=now))

    async def used(self, purses: Mapping[str, Caps], now: datetime) -> Mapping[str, tuple[Used, ...]]:
        return await self._database.read(
            lambda reader: {
                purse: tuple(_counting(reader, purse, cap=cap, now=now) for cap in caps)
                for purse, caps in purses.items()
            }
        )

    async def costs(self, by: str, *, since: datetime, limit: int) -> tuple[Spending, ...]:
        return await self._database.read(lambda reader: sum_up(reader, by, since=since, limit=limit))


def _breach(connection: Connection, order: Order, *, caps: Caps, now: datetime) -> Breach | None:
    windows, driver = {cap: _window(order.purse, cap, now=now) for cap in caps}, driver_of(connection)
    if all(fits(Amount(*_COUNTED.rows(driver, window)[0]), order.worst, cap=cap) for cap, window in windows.items()):
        return None
    books = {
        cap: [Booking(at or now, Amount(price, tokens)) for at, price, tokens in connection.execute(_BOOKINGS, window)]
        for cap, window in windows.items()
    }
    return breach_of(order, books)


def _counting(connection: Connection, purse: str, *, cap: Cap, now: datetime) -> Used:
    window, driver = _window(purse, cap, now=now), driver_of(connection)
    ((price, tokens),) = _COUNTED.rows(driver, window)
    held = Amount(*_HELD.rows(driver, window)[0])
    return Used(cap, Amount(price - (held.price or 0), tokens - held.tokens), held)


def _window(purse: str, cap: Cap, *, now: datetime) -> dict[str, object]:
    # Forward too: after the clock was set back, what was spent "later" still counts, yet not for ever.
    since, until = (now - cap.span, now + cap.span) if cap.span else EVER
    return {"of_purse": purse, "since": since, "until": until}


def _settle(unit: Unit, number: int, *, used: Mapping[str, Json], now: datetime) -> None:
    found = _STORED.rows(unit.driver, {"call_number": number})
    if not found:
        raise TransitionError(f"model call {number} was never made")
    cause, role, model, purse, held_price, held_tokens = found[0]
    told = dict(used)
    if told["price"] is None and told["outcome"] != OK:
        told["price"] = held_price
    tokens = _counted(used)
    values = {
        "call_number": number, "new_settled_at": now, **{f"new_{name}": value for name, value in told.items()},
        "new_charged_price": held_price if told["price"] is None else told["price"],
        "new_charged_tokens": held_tokens if tokens is None else tokens,
    }  # fmt: skip
    if _SETTLE.run(unit.driver, values) != 1:
        raise TransitionError(f"model call {number} was settled before")
    about = {"number": number, "role": role, "model": model, "purse": purse}
    unit.note(Note("model.call", cause=cause, data={**about, **told}), now)


def _counted(used: Mapping[str, Json]) -> int | None:
    counts = [used[name] for name in ("input", "output", "cache_read", "cache_write")]
    known = [each for each in counts if isinstance(each, int)]
    return sum(known) if len(known) == len(counts) else None


def _used(usage: Usage, price: int | None, *, outcome: str) -> dict[str, Json]:
    return {
        "input": usage.input, "output": usage.output, "cache_read": usage.cache_read, "cache_write": usage.cache_write,
        "price": price, "outcome": outcome,
    }  # fmt: skip


def _json(value: object) -> Json:
    if isinstance(value, datetime):
        return stamp(value)
    return value if value is None or isinstance(value, (int, str)) else str(value)
