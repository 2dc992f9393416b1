"""What was spent, summed up by day, trigger, workspace, run or model. Calls under way are not spent yet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, select

from kairosd.errors import UsageError
from kairosd.ports.stores import Spending
from kairosd.store.schema import decisions, model_calls, runs

_GROUPS: Mapping[str, ColumnElement[str]] = {
    # SQLite's local time is the process's own, as everywhere that times are shown.
    "day": func.date(model_calls.c.reserved_at, "localtime"),
    "trigger": func.coalesce(runs.c.trigger, decisions.c.source, func.nullif(model_calls.c.purse, ""), "unknown"),
    "workspace": func.coalesce(runs.c.workspace, decisions.c.workspace, ""),
    # What a decision took belongs to the run it led to.
    "run": func.coalesce(runs.c.id, decisions.c.run, ""),
    "model": model_calls.c.model,
}
_MADE = model_calls.outerjoin(runs, runs.c.id == model_calls.c.cause).outerjoin(
    decisions, decisions.c.id == model_calls.c.cause
)
# A call that was refused before anything came of it counts for nothing and needs no price.
_UNPRICED = and_(model_calls.c.price.is_(None), model_calls.c.charged_tokens > 0)


def _sum(column: ColumnElement[int]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)


_PRICE = func.sum(model_calls.c.price)
_SUMS: Mapping[str, ColumnElement[Any]] = {
    "calls": func.count(),
    "price": _PRICE,
    "input": _sum(model_calls.c.input),
    "output": _sum(model_calls.c.output),
    "cache_read": _sum(model_calls.c.cache_read),
    "cache_write": _sum(model_calls.c.cache_write),
    "unpriced_calls": _sum(case((_UNPRICED, 1), else_=0)),
    "unpriced_tokens": _sum(case((_UNPRICED, model_calls.c.charged_tokens), else_=0)),
}


def sum_up(connection: Connection, by: str, *, since: datetime, limit: int) -> tuple[Spending, ...]:
    """The groups: days newest first, others dearest first. Raises `UsageError` for a `by` there is not."""
    key = _GROUPS.get(by)
    if key is None:
        raise UsageError(f"costs are not summed up by {by!r}", fix=f"one of {', '.join(_GROUPS)}")
    order = [key.desc()] if by == "day" else [_PRICE.desc().nulls_last(), func.sum(model_calls.c.charged_tokens).desc()]
    statement = (
        select(key.label("key"), *(column.label(name) for name, column in _SUMS.items()))
        .select_from(_MADE)
        .where(model_calls.c.reserved_at >= since, model_calls.c.outcome.is_not(None))
        .group_by(key)
        .order_by(*order, key)
        .limit(limit)
    )
    rows = connection.execute(statement).mappings().all()
    goals = _goals(connection, [row["key"] for row in rows]) if by == "run" else {}
    return tuple(Spending(**row, label=goals.get(row["key"], "")) for row in rows)


def _goals(connection: Connection, ids: list[str]) -> dict[str, str]:
    found = connection.execute(select(runs.c.id, runs.c.goal).where(runs.c.id.in_(ids)))
    return {identifier: goal for identifier, goal in found}
