"""Counting: what `status` shows, from indexes alone, and what is counted because it leaves no row."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Column, Connection, Table, func, select
from sqlalchemy.dialects.sqlite import insert

from kairosd.store.database import Unit
from kairosd.store.schema import calls, counters, decisions, events, model_calls, notices, runs

WEBHOOK_DUPLICATES = "webhook_duplicate"

_NEW = insert(counters)
_ADD_ONE = _NEW.on_conflict_do_update(index_elements=[counters.c.name], set_={"value": counters.c.value + 1})


def add_one(unit: Unit, name: str) -> None:
    """Counts one more of `name`, with the rest of the unit or not at all."""
    unit.execute(_ADD_ONE, {"name": name, "value": 1})


def count_all(connection: Connection) -> Mapping[str, int]:
    """Every counter of `status` (design §12): rows by state, sums of calls, notices."""
    by_event = _by_state(connection, events.c.state)
    by_run = _by_state(connection, runs.c.state)
    by_call = _by_state(connection, calls.c.state)
    by_notice = _by_state(connection, notices.c.state)
    kept = {str(name): int(value) for name, value in connection.execute(select(counters.c.name, counters.c.value))}
    webhooks = select(func.count()).select_from(events).where(events.c.body.is_not(None))
    return {
        "events": sum(by_event.values()),
        "decisions": _rows(connection, decisions),
        "model_calls": _rows(connection, model_calls),
        "runs": sum(by_run.values()),
        "tool_calls": sum(by_call.values()),
        "denied": by_call.get("denied", 0),
        "webhook_accepted": int(connection.scalar(webhooks) or 0),
        "webhook_duplicate": kept.get(WEBHOOK_DUPLICATES, 0),
        "pending": by_event.get("pending", 0) + by_event.get("claimed", 0),
        "parked": by_run.get("parked", 0),
        "dead": by_event.get("dead", 0),
        "notices_queued": sum(by_notice.get(state, 0) for state in ("queued", "attempting", "deferred")),
        "notices_delivered": by_notice.get("delivered", 0),
        "notices_failed": by_notice.get("failed", 0) + by_notice.get("dead", 0),
    }


def _by_state(connection: Connection, column: Column[object]) -> dict[str, int]:
    statement = select(column, func.count()).group_by(column)
    return {str(state): int(number) for state, number in connection.execute(statement)}


def _rows(connection: Connection, table: Table) -> int:
    return int(connection.scalar(select(func.count()).select_from(table)) or 0)
