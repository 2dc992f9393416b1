"""Statements for the hot ways: compiled once, and run by the driver.

SQLAlchemy spends 25 µs on running an insert that takes SQLite 15, and a webhook needs two, a turn of a run nine such
statements. The tables stay the only description: the SQL, the order of the columns and what is done to each value come
from them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Insert, Select, Table, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeEngine

_DIALECT = sqlite.dialect(paramstyle="qmark")


class PreparedInsert:
    """`statement`, for rows that give exactly the columns `names`."""

    def __init__(self, statement: Insert, names: Sequence[str]) -> None:
        compiled = statement.compile(dialect=_DIALECT, column_keys=list(names))
        table = cast("Table", statement.table)
        self._sql = str(compiled)
        self._columns = tuple((name, _bind(table.c[name].type)) for name in compiled.positiontup or ())

    def run(self, driver: sqlite3.Connection, row: Mapping[str, object]) -> int:
        """Inserts `row`; returns how many rows that made. Raises `ValueError` for a value that no column can hold."""
        return self.execute(driver, row).rowcount

    def execute(self, driver: sqlite3.Connection, row: Mapping[str, object]) -> sqlite3.Cursor:
        """`run`, for who wants the number of the row."""
        return driver.execute(self._sql, self._values(row))

    def run_all(self, driver: sqlite3.Connection, rows: Iterable[Mapping[str, object]]) -> None:
        """Inserts all `rows`."""
        driver.executemany(self._sql, map(self._values, rows))

    def _values(self, row: Mapping[str, object]) -> list[object]:
        return [bind(row[name]) for name, bind in self._columns]


class _Prepared:
    """A statement whose values are all named parameters, or written in it."""

    def __init__(self, statement: Select[Any] | Update) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        binds = [(name, compiled.binds[name]) for name in compiled.positiontup or ()]
        self._sql = str(compiled)
        self._fixed = {name: bind.value for name, bind in binds if not bind.required}
        self._binds = tuple((name, _bind(bind.type)) for name, bind in binds)

    def _execute(self, driver: sqlite3.Connection, values: Mapping[str, object]) -> sqlite3.Cursor:
        given = {**self._fixed, **values}
        return driver.execute(self._sql, [bind(given[name]) for name, bind in self._binds])


class PreparedUpdate(_Prepared):
    """`statement`, an update."""

    def run(self, driver: sqlite3.Connection, values: Mapping[str, object]) -> int:
        """Updates; returns how many rows that changed."""
        return self._execute(driver, values).rowcount


class PreparedSelect(_Prepared):
    """`statement`, a select."""

    def __init__(self, statement: Select[Any]) -> None:
        super().__init__(statement)
        self._results = tuple(_result(column.type) for column in statement.selected_columns)

    def rows(self, driver: sqlite3.Connection, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """What it finds."""
        found = self._execute(driver, values).fetchall()
        return [tuple(read(value) for read, value in zip(self._results, row, strict=True)) for row in found]


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection behind `connection`."""
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def _bind(kind: TypeEngine[Any]) -> Callable[[object], object]:
    return kind.bind_processor(_DIALECT) or _as_it_is


def _result(kind: TypeEngine[Any]) -> Callable[[object], object]:
    return kind.result_processor(_DIALECT, None) or _as_it_is


def _as_it_is(value: object) -> object:
    return value
