"""Records and rows: a record's fields are its table's columns, so that one description serves both ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, Table, select

from kairosd.core.decisions import Decision
from kairosd.core.events import Event
from kairosd.core.notices import Notice
from kairosd.core.runs import Approval, Call, Grant, Run
from kairosd.core.tasks import Task
from kairosd.errors import AmbiguousIdError, NotFoundError
from kairosd.ports.stores import Query
from kairosd.store import schema

R = TypeVar("R", bound=Event | Decision | Run | Call | Approval | Notice | Grant | Task)

AFTER_EVERY_ID = "~"  # sorts after every character an id may hold


class Kind(Generic[R]):
    """One kind of record: its table, what it is called, and the columns a listing is filtered by."""

    def __init__(self, record: type[R], table: Table, *, moment: str, state: str = "state") -> None:
        self._make: Callable[..., R] = record
        self.table = table
        self.name = record.__name__.lower()
        self._moment = table.c[moment]
        self._state = table.c[state]
        self.names = tuple(field.name for field in fields(record))
        self._columns = tuple(table.c[name] for name in self.names)

    def select(self, *where: ColumnElement[bool]) -> Select[tuple[object, ...]]:
        """Every record that fits, oldest first."""
        return select(*self._columns).where(*where).order_by(self.table.c.number)

    def row(self, record: R) -> dict[str, object]:
        """The columns of `record`."""
        return {name: getattr(record, name) for name in self.names}

    def all(self, connection: Connection, *where: ColumnElement[bool], limit: int | None = None) -> tuple[R, ...]:
        """Every record that fits, oldest first."""
        rows = connection.execute(self.select(*where).limit(limit))
        return tuple(self._make(*row) for row in rows)

    def latest(self, connection: Connection, *where: ColumnElement[bool], by: str, limit: int) -> tuple[R, ...]:
        """At most `limit` records that fit, those with the greatest `by` first."""
        ordered = self.select(*where).order_by(None).order_by(self.table.c[by].desc())
        return tuple(self._make(*row) for row in connection.execute(ordered.limit(limit)))

    def newest(self, connection: Connection, query: Query) -> tuple[R, ...]:
        """The listing `query` asks for, newest first."""
        table = self.table.c
        where: list[ColumnElement[bool]] = []
        if query.state is not None:
            # Compared as text: a state nobody has heard of lists nothing instead of failing.
            where.append(self._state == query.state)
        if query.workspace is not None and "workspace" in table:
            where.append(table.workspace == query.workspace)
        if query.since is not None:
            where.append(self._moment >= query.since)
        if query.shadow and "shadow" in table:
            where.append(table.shadow)
        if query.prefix:
            where.append(table.id.between(query.prefix, query.prefix + AFTER_EVERY_ID))
        statement = select(*self._columns).where(*where).order_by(table.number.desc()).limit(query.limit)
        return tuple(self._make(*row) for row in connection.execute(statement))

    def get(self, connection: Connection, text: str) -> R:
        """The record with this id or unique start of one. Raises `NotFoundError`, `AmbiguousIdError`."""
        start = text.strip().lower()
        found: tuple[R, ...] = ()
        if start:
            found = self.all(connection, self.table.c.id.between(start, start + AFTER_EVERY_ID), limit=2)
        if not found:
            raise NotFoundError(f"there is no {self.name} {text!r}", fix="see `kairos journal` for ids")
        if len(found) > 1:
            raise AmbiguousIdError(f"more than one {self.name} starts with {text!r}", fix="give more of the id")
        return found[0]


EVENTS = Kind(Event, schema.events, moment="received_at")
DECISIONS = Kind(Decision, schema.decisions, moment="asked_at", state="verdict")
RUNS = Kind(Run, schema.runs, moment="created")
CALLS = Kind(Call, schema.calls, moment="requested_at")
APPROVALS = Kind(Approval, schema.approvals, moment="created")
GRANTS = Kind(Grant, schema.grants, moment="created")
TASKS = Kind(Task, schema.tasks, moment="created")
NOTICES = Kind(Notice, schema.notices, moment="created")
