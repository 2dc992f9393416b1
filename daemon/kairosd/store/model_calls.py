"""What every model call used and cost, written down before it is made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import bindparam, insert, select, update

from kairosd.core.journal import Note, stamp
from kairosd.core.json import Json, JsonObject
from kairosd.core.messages import Usage
from kairosd.errors import TransitionError
from kairosd.store.database import Database, Unit
from kairosd.store.schema import model_calls

LOST = "lost"  # the outcome of a call that a crash cut off

_INSERT = insert(model_calls)
_SETTLE = (
    update(model_calls)
    .where(model_calls.c.number == bindparam("call_number"), model_calls.c.outcome.is_(None))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in ("settled_at", "input", "output", "cache_read", "cache_write", "price", "outcome")
        }
    )
)
_NAMES = select(model_calls.c.cause, model_calls.c.role, model_calls.c.model)


class ModelCallStore:
    """Implements `ports.ModelCalls`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, cause: str, role: str, *, model: str, now: datetime) -> int:
        values = {"cause": cause, "role": role, "model": model, "reserved_at": now}

        def work(unit: Unit) -> int:
            key = unit.execute(_INSERT, values).inserted_primary_key
            return int(key[0]) if key else 0

        return await self._database.write(work)

    async def settle(self, number: int, usage: Usage, *, price: int | None, outcome: str, now: datetime) -> None:
        await self._database.write(
            lambda unit: _settle(unit, number, used=_used(usage, price, outcome=outcome), now=now)
        )

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


def _settle(unit: Unit, number: int, *, used: Mapping[str, Json], now: datetime) -> None:
    values = {"call_number": number, "new_settled_at": now, **{f"new_{name}": value for name, value in used.items()}}
    if unit.execute(_SETTLE, values).rowcount != 1:
        raise TransitionError(f"model call {number} was settled before, or never made")
    cause, role, model = unit.connection.execute(_NAMES.where(model_calls.c.number == number)).one()
    unit.note(Note("model.call", cause=cause, data={"number": number, "role": role, "model": model, **used}), now)


def _used(usage: Usage, price: int | None, *, outcome: str) -> dict[str, Json]:
    return {
        "input": usage.input, "output": usage.output, "cache_read": usage.cache_read, "cache_write": usage.cache_write,
        "price": price, "outcome": outcome,
    }  # fmt: skip


def _json(value: object) -> Json:
    if isinstance(value, datetime):
        return stamp(value)
    return value if value is None or isinstance(value, (int, str)) else str(value)
