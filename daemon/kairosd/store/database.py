"""The database: one thread that writes, in groups that share a commit, and one that reads.

Measured on a machine like CI's (design §5): synchronous SQLAlchemy on one thread makes 3,574 durable writes a second,
an async driver 314-485.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar, cast

from sqlalchemy import Connection, CursorResult, Engine, Executable, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from kairosd.core.journal import Note
from kairosd.errors import DiskFullError, StoreError
from kairosd.store.lines import Lines
from kairosd.store.prepared import PreparedInsert

T = TypeVar("T")

GROUP_MAX = 256  # requests a commit is shared by at most
BUSY_MILLISECONDS = 5000
SWITCH_SECONDS = 0.0005
SOON_SECONDS = 0.02  # what a kill may cost of what nobody waits for
WAL_BYTES = 16_000_000  # what the WAL file is cut back to after a checkpoint
BEGIN = "BEGIN IMMEDIATE"
CLOSED = "the database is closed"
READ_ONLY = {"kairos_read_only": True}
WRITER = {"kairos_writer": True}


class Unit:
    """One request's share of a transaction: statements, and lines for the journal."""

    def __init__(self, connection: Connection, lines: Lines) -> None:
        self.connection = connection
        self.driver = cast("sqlite3.Connection", connection.connection.driver_connection)
        self._lines = lines

    def execute(self, statement: Executable, parameters: Mapping[str, object] | None = None) -> CursorResult[object]:
        """Runs `statement` on the writer's connection."""
        return cast("CursorResult[object]", self.connection.execute(statement, parameters))

    def insert(self, statement: PreparedInsert, row: Mapping[str, object]) -> int:
        """`execute` without SQLAlchemy's share of the time; returns how many rows that made."""
        return statement.run(self.driver, row)

    def note(self, note: Note, moment: datetime) -> None:
        """Adds a journal line, durable with everything else in this unit or not at all."""
        self._lines.add(note, moment)


class Caught:
    """Holds what a block raised, for the one who waits for its outcome. `SystemExit` and the like pass through."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Caught:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> bool:
        self.error = error if isinstance(error, Exception) else None
        return self.error is not None


@dataclass(slots=True)
class _Request:
    work: Callable[[Unit], object]
    future: asyncio.Future[object] | Future[object]
    loop: asyncio.AbstractEventLoop | None
    result: object = None
    error: Exception | None = None


@dataclass(slots=True)
class _Group(Generic[T]):
    requests: list[T] = field(default_factory=list)
    last: bool = False


def open_engine(path: Path) -> Engine:
    """An engine whose transactions begin the moment we say so: `BEGIN IMMEDIATE`, or `BEGIN` for a reader."""

    def connect() -> sqlite3.Connection:
        # Without isolation_level=None the driver begins and commits by itself, and an outer rollback keeps rows.
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_MILLISECONDS / 1000, cached_statements=256
        )
        for pragma in (
            "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", f"busy_timeout = {BUSY_MILLISECONDS}",
            f"journal_size_limit = {WAL_BYTES}",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("kairos_writer"):
        connection.exec_driver_sql("BEGIN" if options.get("kairos_read_only") else BEGIN)


class Database:
    """Runs units of work on the database's own threads.

    `last_line` is the highest journal number in use; `on_lines` is called on the writer's thread after each commit
    that added lines to the outbox.
    """

    def __init__(self, engine: Engine, last_line: int, *, on_lines: Callable[[], None]) -> None:
        self._engine = engine
        self._lines = Lines(last_line)
        self._on_lines = on_lines
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="kairos-writer", daemon=True)
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kairos-reader")
        self._reader: Connection | None = None
        self._soon: list[_Request] = []  # of the one event loop that the daemon has
        self._open = False

    def start(self) -> None:
        """Starts the threads."""
        # They and the event loop hand the interpreter over ten times sooner: 1.4 times as many webhooks a second.
        sys.setswitchinterval(SWITCH_SECONDS)
        self._open = True
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Commits what was asked for, then ends the threads; waits at most `timeout` seconds for the writer."""
        if not self._open:
            return
        self._hand_over_soon()
        self._open = False
        self._queue.put(None)
        self._thread.join(timeout)
        self._readers.submit(self._close_reader)
        self._readers.shutdown(wait=not self._thread.is_alive())

    async def write(self, work: Callable[[Unit], T]) -> T:
        """Runs `work` in a transaction that is on disk when this returns. What it raises is raised here, alone.

        `work` may be run a second time, after all that it did was undone: it changes nothing but the database.
        A caller that is cancelled meanwhile leaves the whole of its work done or none of it. Raises `DiskFullError`
        when nothing more can be made durable (it may be tried again), `StoreError` for other faults of the database.
        """
        self._demand_open()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        # After what the loop has to do anyway: the writer wakes once for all of it, and does not fight for the
        # interpreter with those who still prepare theirs. Measured a fifth less CPU for a webhook.
        loop.call_soon(self._hand_over, _Request(work, future, loop))
        return cast("T", await future)

    def write_soon(self, work: Callable[[Unit], T]) -> asyncio.Future[T]:
        """`write` for what nobody waits for yet: it shares the next one's commit, or has its own after a moment."""
        self._demand_open()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        if not self._soon:
            loop.call_later(SOON_SECONDS, self._hand_over_soon)
        self._soon.append(_Request(work, future, loop))
        return cast("asyncio.Future[T]", future)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` on the reader's connection, in a short transaction of its own. Raises `StoreError`."""
        return await asyncio.wrap_future(self.read_from_thread(work))

    def write_from_thread(self, work: Callable[[Unit], T]) -> Future[T]:
        """`write` for a caller without an event loop."""
        self._demand_open()
        future: Future[object] = Future()
        self._queue.put(_Request(work, future, None))
        return cast("Future[T]", future)

    def read_from_thread(self, work: Callable[[Connection], T]) -> Future[T]:
        """`read` for a caller without an event loop."""
        self._demand_open()
        return self._readers.submit(self._read, work)

    def _demand_open(self) -> None:
        if not self._open:
            raise StoreError(CLOSED)

    def _hand_over_soon(self) -> None:
        soon, self._soon = self._soon, []
        for request in soon:
            self._hand_over(request)

    def _hand_over(self, request: _Request) -> None:
        if self._soon:
            self._hand_over_soon()
        if self._open:
            self._queue.put(request)
        else:
            request.error = StoreError(CLOSED)
            _settle(request)

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            if self._reader is None:
                self._reader = self._engine.connect().execution_options(**READ_ONLY)
                self._reader.exec_driver_sql("PRAGMA query_only = ON")
                self._reader.rollback()
            with self._reader.begin():
                return work(self._reader)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise translated(error) from error

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _run(self) -> None:
        unit: Unit | None = None
        group = _Group[_Request]()
        while not group.last:
            group = self._take()
            with Caught() as caught:
                unit = unit or self._connect()
                self._commit(unit, group.requests)
            if caught.error is not None:
                # A failed COMMIT can leave the driver's transaction open: only a new connection surely begins anew.
                _close(unit)
                unit = None
                self._lines.cut(0)
                for request in group.requests:
                    request.error = translated(caught.error)
            _resolve(group.requests)
            if self._lines.committed():
                self._on_lines()
        _close(unit)

    def _connect(self) -> Unit:
        """The writer's connection. To SQLAlchemy it is in one endless transaction: its own cost a group 12 µs."""
        connection = self._engine.connect().execution_options(**WRITER)
        connection.begin()
        return Unit(connection, self._lines)

    def _take(self) -> _Group[_Request]:
        """Sleeps until there is a request, then takes all that wait: they share one commit."""
        group = _Group[_Request]()
        item = self._queue.get()
        while item is not None:
            group.requests.append(item)
            if len(group.requests) >= GROUP_MAX or self._queue.empty():
                return group
            item = self._queue.get()
        group.last = True
        return group

    def _commit(self, unit: Unit, requests: Sequence[_Request]) -> None:
        if not requests:
            return
        unit.driver.execute(BEGIN)
        if not self._run_all(unit, requests):
            unit.driver.execute("ROLLBACK")
            unit.driver.execute(BEGIN)
            for request in requests:
                self._run_alone(unit, request)
        self._lines.store(unit.driver)
        unit.driver.execute("COMMIT")

    def _run_all(self, unit: Unit, requests: Sequence[_Request]) -> bool:
        """Whether all went well. Hardly ever does one fail, and savepoints cost a fifth of the webhooks a second."""
        with Caught() as caught:
            for request in requests:
                request.result = request.work(unit)
        if caught.error is None:
            return True
        _demand_transaction(unit, caught.error)
        self._lines.cut(0)
        return False

    def _run_alone(self, unit: Unit, request: _Request) -> None:
        """Runs `request` so that it fails alone."""
        kept = len(self._lines)
        unit.driver.execute("SAVEPOINT request")
        with Caught() as caught:
            request.result = request.work(unit)
        if caught.error is not None:
            _demand_transaction(unit, caught.error)
            unit.driver.execute("ROLLBACK TO request")
            self._lines.cut(kept)
            request.error = translated(caught.error)
        unit.driver.execute("RELEASE request")


def _demand_transaction(unit: Unit, error: Exception) -> None:
    if not unit.driver.in_transaction:
        # A full disk may end the whole transaction: then nothing of the group stands.
        raise translated(error) from error


def _close(unit: Unit | None) -> None:
    if unit is not None:
        with contextlib.suppress(SQLAlchemyError, sqlite3.Error):  # what led here is told to those who wait
            unit.connection.close()


def _resolve(requests: Sequence[_Request]) -> None:
    """Tells every caller; the callers of one event loop in a single wake-up."""
    loops: dict[asyncio.AbstractEventLoop, list[_Request]] = {}
    for request in requests:
        if request.loop is None:
            _settle(request)
        else:
            loops.setdefault(request.loop, []).append(request)
    for loop, waiting in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle_all, waiting)


def _settle_all(requests: Sequence[_Request]) -> None:
    for request in requests:
        _settle(request)


def _settle(request: _Request) -> None:
    if request.future.cancelled():
        return
    if request.error is not None:
        request.future.set_exception(request.error)
    else:
        request.future.set_result(request.result)


def translated(error: Exception) -> Exception:
    """A fault of the database as one of ours; anything else as it is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return DiskFullError(f"the database cannot be written: {cause}", fix="make room on its disk")
        damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        return StoreError(f"the database refused: {cause}", fix="kairos doctor database" if damaged else None)
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"the disk is full: {cause}", fix="make room on its disk")
    if isinstance(cause, SQLAlchemyError):
        return StoreError(f"the database refused: {cause}")
    return error
