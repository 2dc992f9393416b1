"""A database to be thrown away, in which recorded things happen once more."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from kairosd.app.replay.record import Row
from kairosd.core.json import JsonObject
from kairosd.frozen import frozen
from kairosd.ports import Clock, Stores
from kairosd.store.assembly import stores_over
from kairosd.store.database import Caught, Database, Unit, translated
from kairosd.store.lines import Lines
from kairosd.store.schema import metadata
from kairosd.wire import Home

T = TypeVar("T")


class Memory(Database):
    """A database in memory that does its work at once, where it is asked; its journal lines are dropped.

    Hundreds of causes with a dozen requests each: handing every one to another thread would be most of the time.
    """

    def __init__(self) -> None:
        engine = create_engine("sqlite://", poolclass=StaticPool)
        super().__init__(engine, 0, on_lines=lambda: None)
        metadata.create_all(engine)
        self._connection = engine.connect()
        self._dropped = Lines(0)

    async def write(self, work: Callable[[Unit], T]) -> T:
        return self._do(lambda connection: work(Unit(connection, self._dropped)))

    def write_soon(self, work: Callable[[Unit], T]) -> asyncio.Future[T]:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        done.set_result(self._do(lambda connection: work(Unit(connection, self._dropped))))
        return done

    async def read(self, work: Callable[[Connection], T]) -> T:
        return self._do(work)

    def _do(self, work: Callable[[Connection], T]) -> T:
        done: list[T] = []
        with Caught() as caught, self._connection.begin():
            done.append(work(self._connection))
        self._dropped.cut(0)
        if caught.error is not None:
            raise translated(caught.error) from caught.error
        return done[0]

    def forget(self) -> None:
        """Closes it, and all is gone."""
        self._connection.close()
        self._engine.dispose()


class Transcripts:
    """Implements `ports.Transcript` in memory."""

    def __init__(self) -> None:
        self._entries: dict[str, list[JsonObject]] = {}

    async def append(self, run: str, *entries: JsonObject) -> None:
        self._entries.setdefault(run, []).extend(entries)

    async def sync(self, run: str) -> None:
        """Nothing of it is ever on a disk."""

    async def read(self, run: str) -> tuple[JsonObject, ...]:
        return tuple(self._entries.get(run, ()))

    def clear(self) -> None:
        self._entries.clear()


@frozen
class Scratch:
    """A home that is thrown away, and its stores. Whatever writes beside the stores writes there."""

    place: Home
    stores: Stores
    transcripts: Transcripts
    _database: Memory

    async def clear(self) -> None:
        """Forgets everything."""

        def work(unit: Unit) -> None:
            for table in metadata.tables:
                unit.driver.execute(f"DELETE FROM {table}")

        self.transcripts.clear()
        await self._database.write(work)

    async def put(self, table: str, rows: Sequence[Row], **instead: object) -> None:
        """Inserts rows as they were recorded, with other values where they are given."""
        if not rows:
            return
        known = {column.name for column in metadata.tables[table].columns}
        made = [{**{name: row[name] for name in row if name in known}, **instead} for row in rows]

        def work(unit: Unit) -> None:
            for row in made:
                names = ",".join(f'"{name}"' for name in row)
                marks = ",".join("?" * len(row))
                unit.driver.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))

        await self._database.write(work)

    async def change(self, table: str, identifier: str, **values: object) -> None:
        """Sets columns of one row."""
        sets = ",".join(f'"{name}" = ?' for name in values)
        given = (*values.values(), identifier)

        def work(unit: Unit) -> None:
            unit.connection.exec_driver_sql(f"UPDATE {table} SET {sets} WHERE id = ?", given)

        await self._database.write(work)

    async def all(self, table: str) -> list[Row]:
        """Every row, oldest first."""

        def work(unit: Unit) -> list[Row]:
            found = unit.connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY number")
            return [dict(row) for row in found.mappings()]

        return await self._database.write(work)


@contextmanager
def scratch_home(clock: Clock) -> Iterator[Scratch]:
    """A scratch home; what little is not in memory lies in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="kairos-replay-") as name:
        folder, database, transcripts = Path(name), Memory(), Transcripts()
        try:
            stores = stores_over(database, folder / "blobs", transcripts_folder=folder, clock=clock)
            place = Home(folder / "config.toml", folder, data=folder, run=folder, is_default=False)
            yield Scratch(place, replace(stores, transcripts=transcripts), transcripts, database)
        finally:
            database.forget()
