"""The one writer of the journal: appends what transactions left in the outbox, exactly once and in order."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from kairosd.core.journal import file_name, journal_day
from kairosd.errors import JournalBrokenError, StoreError
from kairosd.store.database import Caught, Database, Unit, translated
from kairosd.store.durable import sync_folder
from kairosd.store.journal_files import journal_files
from kairosd.store.lines import link, moment_of
from kairosd.store.recovery import Mark, store_mark
from kairosd.store.schema import outbox

BATCH_MAX = 1000  # lines appended with one sync
PAUSE_SECONDS = 0.2  # after a batch: a busy hour is synced five times a second and not after every commit
RETRY_SECONDS = 30  # between tries while the disk is full

_NEXT = (
    select(outbox.c.seq, outbox.c.line).where(outbox.c.seq > bindparam("after")).order_by(outbox.c.seq).limit(BATCH_MAX)
)

_RESTART = "restart Kairos: it says in the journal what it found"


class Line(NamedTuple):
    """A row of the outbox."""

    seq: int
    text: str


class JournalWriter:
    """Runs on a thread of its own, which sleeps until the database has committed lines.

    Nothing waits for it to acknowledge an event: a line that is in the outbox is durable already.
    `problem` says why lines are not written at the moment, None = they are.
    """

    def __init__(self, folder: Path, mark: Mark) -> None:
        self._folder = folder
        self._mark = mark
        self._recorded = mark
        self._database: Database | None = None
        self._queue: queue.SimpleQueue[Future[None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="kairos-journal", daemon=True)
        self._hurry = threading.Event()
        self._stopping = False
        self._newest: date | None = None
        self._open: date | None = None  # the day this batch is being written to
        self._own = ""  # the file this process has written to
        self.problem: str | None = None

    @property
    def head(self) -> tuple[int, str]:
        """Number and hash of the last line on disk: the anchor that is told outside."""
        return self._mark.seq, self._mark.hash

    def start(self, database: Database) -> None:
        """Starts the thread; what an earlier life left in the outbox is written first."""
        self._database = database
        files = journal_files(self._folder)
        self._newest = files[-1].day if files else None
        self._thread.start()
        self.wake()

    def wake(self) -> None:
        """Says that there are new lines. From any thread; never blocks."""
        self._queue.put(None)

    async def drain(self) -> None:
        """Returns once every line committed before the call is on disk. Raises `StoreError` when that fails."""
        done: Future[None] = Future()
        self._queue.put(done)
        self._hurry.set()
        await asyncio.wrap_future(done)

    def close(self, timeout: float) -> None:
        """Writes what is left and ends the thread; waits at most `timeout` seconds."""
        if self._thread.is_alive():
            self._stopping = True
            self.wake()
            self._hurry.set()
            self._thread.join(timeout)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            self._hurry.wait(PAUSE_SECONDS)
            self._hurry.clear()
            waiting = self._wait()
            stopping = self._stopping
            with Caught() as caught:
                self._catch_up()
            error = caught.error
            self.problem = None if error is None else f"the journal cannot be written: {error}"
            for done in waiting:
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error if isinstance(error, StoreError) else StoreError(self.problem))

    def _wait(self) -> list[Future[None]]:
        """Sleeps until woken, or until a failed try is due again; takes all that waits."""
        # Real seconds on purpose: it is a disk that is waited for, not a moment of anybody's day.
        timeout = None if self.problem is None else RETRY_SECONDS
        waiting: list[Future[None] | None] = []
        try:
            waiting.append(self._queue.get(timeout=timeout))
            while True:
                waiting.append(self._queue.get_nowait())
        except queue.Empty:
            return [item for item in waiting if item is not None and item.set_running_or_notify_cancel()]

    def _catch_up(self) -> None:
        database = self._database
        if database is None:
            raise StoreError("the journal's writer was not started")
        full = True
        while full:
            lines = database.read_from_thread(self._next_lines).result()
            self._open = None  # `gc` may have packed it since
            for day, group in groupby(lines, key=self._day_of):
                self._append(day, list(group))
            if self._recorded != self._mark:
                self._record(database)
            full = len(lines) == BATCH_MAX

    def _next_lines(self, connection: Connection) -> list[Line]:
        return [Line(int(row[0]), str(row[1])) for row in connection.execute(_NEXT, {"after": self._mark.seq})]

    def _record(self, database: Database) -> None:
        mark = self._mark

        def work(unit: Unit) -> None:
            store_mark(unit.connection, mark)

        database.write_from_thread(work).result()
        self._recorded = mark

    def _day_of(self, line: Line) -> date:
        day = journal_day(moment_of(line.text), self._newest)
        if day == self._open:
            return day
        if not (self._folder / file_name(day)).exists() and (self._folder / f"{file_name(day)}.gz").exists():
            day += timedelta(days=1)  # packed already: a past day is never reopened
        self._newest = self._open = day
        return day

    def _append(self, day: date, lines: Sequence[Line]) -> None:
        """Appends `lines` durably.

        What a failed try left behind the mark is overwritten by the next; what is found there the first time is not.
        """
        name = file_name(day)
        path = self._folder / name
        mark = self._mark if self._mark.file == name else replace(self._mark, file=name, size=0)
        texts, head = [], mark.hash
        for line in lines:
            text, head = link(line.text, head)
            texts.append(f"{text}\n")
        content = "".join(texts).encode("utf-8")
        own, self._own = self._own == name, name
        _write(path, content, offset=mark.size, own=own)
        self._mark = Mark(lines[-1].seq, head, name, mark.size + len(content))


def _write(path: Path, content: bytes, *, offset: int, own: bool) -> None:
    is_new = not path.exists()
    if is_new:
        _make_folder(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size < offset:
            raise JournalBrokenError(f"{path} is shorter than what was written", fix=_RESTART)
        if size > offset and not own:
            raise JournalBrokenError(f"{path} holds more than was written", fix=_RESTART)
        os.ftruncate(descriptor, offset)
        done = 0
        while done < len(content):
            done += os.pwrite(descriptor, content[done:], offset + done)
        os.fdatasync(descriptor)
    except OSError as error:
        raise translated(error) from error
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    for each in (folder.parent, folder):
        if not each.exists():
            each.mkdir(mode=0o700)
            sync_folder(each.parent)
