"""The record of exchanges on disk: one file a day, appended to by a thread of its own, read by `kairos replay`."""

from __future__ import annotations

import json
import logging
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import cast

from kairosd.core.exchanges import FORMAT, mark, scrubbed
from kairosd.core.journal import file_name, stamp
from kairosd.core.json import Json, JsonObject, canonical
from kairosd.core.secrets import Scrubber
from kairosd.core.texts import encodable
from kairosd.ports.world import Clock
from kairosd.store.durable import sync_folder

log = logging.getLogger("kairosd.exchanges")

GATHER_SECONDS = 0.02  # what comes within is written at once: a thread that is woken by each entry delays who made it
PAUSE_SECONDS = 0.5  # between syncs: what a power cut takes is said to be missing, and nothing rests on it
SYNC_EVERY = int(PAUSE_SECONDS / GATHER_SECONDS)  # batches, while one follows the other
SUM = "sum"  # of the entry without it: a changed one is told from what was written


class ExchangeWriter:
    """Implements `Recorder` on `folder`. Neither the loop nor an answer ever waits for the disk.

    `scrub` takes known secrets out of every text. A disk that takes no more costs entries, as does an answer that is
    too deep to be written again; that is logged once.
    """

    def __init__(self, folder: Path, clock: Clock, *, scrub: Scrubber) -> None:
        self._folder = folder
        self._clock = clock
        self._scrub = scrub
        self._queue: queue.SimpleQueue[Callable[[], JsonObject] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="kairos-exchanges", daemon=True)
        self._known: dict[tuple[str, ...], str] = {}
        self._day: date | None = None
        self._failed = False
        self._closing = threading.Event()
        self._lock = threading.Lock()  # tools are witnessed on threads of their own
        self._life = secrets.token_hex(4)  # of this process: where another follows, the one before had ended

    def put(self, make: Callable[[], JsonObject]) -> None:
        with self._lock:
            if self._thread.ident is None:
                self._thread.start()
        self._queue.put(make)

    def saw(self, *what: str, value: Json) -> None:
        now, found = self._clock.now(), mark(value)
        day = now.astimezone().date()
        with self._lock:
            if day != self._day:
                self._known, self._day = {}, day  # every day's file tells all that its prompts rest on
            is_known = self._known.get(what) == found
            self._known[what] = found
        if not is_known:
            self.put(lambda: {"kind": "saw", "t": stamp(now), "what": list(what), "value": value})

    def close(self, timeout: float = 2.0) -> None:
        """Writes what is left and ends the thread; waits at most `timeout` seconds."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._closing.set()
            self._thread.join(timeout)

    def _run(self) -> None:
        unsynced: set[Path] = set()
        batches, last = 0, False
        while not last:
            try:
                item = self._queue.get(timeout=PAUSE_SECONDS if unsynced else None)
                self._closing.wait(GATHER_SECONDS)
                last = self._append_all(item, unsynced)
                batches += 1
            except queue.Empty:
                batches = SYNC_EVERY
            if last or batches >= SYNC_EVERY:
                for path in unsynced:
                    self._sync(path)
                unsynced.clear()
                batches = 0

    def _append_all(self, item: Callable[[], JsonObject] | None, touched: set[Path]) -> bool:
        """Appends `item` and all that waits behind it; whether that was the last."""
        while item is not None:
            if path := self._append(item):
                touched.add(path)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return False
        return True

    def _append(self, make: Callable[[], JsonObject]) -> Path | None:
        try:
            entry = cast(
                "JsonObject", scrubbed({**make(), "v": FORMAT, "life": self._life}, lambda text: self._scrub(text).text)
            )
            line = encodable(canonical({**entry, SUM: mark(entry)})).encode("utf-8") + b"\n"
            day = datetime.fromisoformat(str(entry["t"])).astimezone().date()
            path = self._folder / file_name(day)
            _append(path, line, home=self._folder)
        except (OSError, RecursionError, ValueError, TypeError) as error:  # an answer may be too deep to be written
            if not self._failed:
                log.warning("exchanges are not put on record: %s (kairos replay will say what is missing)", error)
            self._failed = True
            return None
        self._failed = False
        return path

    def _sync(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("%s is not on disk yet: %s", path, error)


def read_exchanges(folder: Path, first: date, *, last: date) -> Iterator[JsonObject]:
    """The entries from day `first` to day `last`, in the order they were made.

    A line that is torn or no JSON is an entry of kind `damaged`. Raises `OSError`.
    """
    day = first
    while day <= last:
        path = folder / file_name(day)
        if path.exists():
            for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
                if line:
                    yield _read(line, path, number=number)
        day += timedelta(days=1)


def is_as_written(entry: JsonObject) -> bool:
    """Whether nobody has changed the entry since."""
    return entry.get(SUM) == mark({name: value for name, value in entry.items() if name != SUM})


def _read(line: bytes, path: Path, *, number: int) -> JsonObject:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"kind": "damaged", "where": f"{path}:{number}"}


def _append(path: Path, line: bytes, *, home: Path) -> None:
    is_new = not path.exists()
    if is_new:
        for folder in (home, path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        end = os.fstat(descriptor).st_size
        if end and os.pread(descriptor, 1, end - 1) != b"\n":
            line = b"\n" + line  # a kill has torn the last one: it stays, as a line of its own
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)
