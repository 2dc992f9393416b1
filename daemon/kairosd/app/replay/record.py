"""The record of one home, read without a daemon: journal, rows, transcripts, exchanges. Nothing is written to it."""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import cast

from kairosd.core.json import Json, JsonObject
from kairosd.errors import ConfigError, NotFoundError, UsageError
from kairosd.frozen import frozen
from kairosd.store.exchanges import read_exchanges
from kairosd.store.journal_files import journal_files, read_lines
from kairosd.wire import Home

Row = Mapping[str, "None | int | str"]

BUSY_SECONDS = 2.0
PARTS = 400  # ids in one query: SQLite takes 32,766, older ones 999


@frozen
class Exchange:
    """One question to a model. `position` is its place in the record."""

    position: int
    entry: JsonObject

    @property
    def asked(self) -> datetime:
        return datetime.fromisoformat(str(self.entry["asked"]))

    @property
    def answered(self) -> datetime:
        return datetime.fromisoformat(str(self.entry["t"]))


@dataclass
class Exchanges:
    """What is on record of some days, by what it is about. `lives` says when each daemon's first entry was made."""

    of: dict[str, list[Exchange]] = field(default_factory=lambda: defaultdict(list))
    damaged: list[str] = field(default_factory=list)
    first: datetime | None = None
    _seen: dict[tuple[str, ...], list[tuple[int, Json]]] = field(default_factory=lambda: defaultdict(list))
    _moments: list[tuple[str, int]] = field(default_factory=list)
    size: int = 0
    lives: dict[str, str] = field(default_factory=dict)

    def add(self, entry: JsonObject) -> None:
        position, self.size = self.size, self.size + 1
        moment = entry.get("t")
        if isinstance(moment, str):
            self.first = self.first or datetime.fromisoformat(moment)
            self._moments.append((moment, position))
            self.lives.setdefault(str(entry.get("life")), moment)
        match entry:
            case {"kind": "asked", "cause": str() as cause, "asked": str(), "t": str()}:
                self.of[cause].append(Exchange(position, entry))
            case {"kind": "saw", "what": list() as what, "value": value}:
                self._seen[tuple(map(str, what))].append((position, value))
            case {"kind": "damaged", "where": str() as where}:
                self.damaged.append(where)

    def latest(self, what: tuple[str, ...], before: int) -> tuple[bool, Json]:
        """Whether, and what, was last seen of `what` before that position."""
        found = self._seen.get(what, [])
        index = bisect_left(found, before, key=lambda each: each[0])
        return (True, found[index - 1][1]) if index else (False, None)

    def last(self, *start: str) -> Iterable[tuple[tuple[str, ...], Json]]:
        """Everything seen whose name begins like that, as it was last."""
        for what, found in self._seen.items():
            if what[: len(start)] == start:
                yield what, found[-1][1]

    def position_at(self, moment: str) -> int:
        """The position of the first entry made after that moment."""
        index = bisect_right(self._moments, moment, key=lambda each: each[0])
        return self._moments[index][1] if index < len(self._moments) else self.size


class Record:
    """What one home has kept. Raises `ConfigError` where the database cannot be read."""

    def __init__(self, place: Home) -> None:
        self.place = place
        if not place.database.is_file():
            raise ConfigError(f"there is no record here: {place.database} is missing", fix="kairos init")
        self._connection = sqlite3.connect(
            f"{place.database.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS
        )
        self._connection.row_factory = sqlite3.Row
        self._days: dict[str, date] = {}

    def close(self) -> None:
        self._connection.close()

    def rows(self, query: str, *values: object) -> list[Row]:
        """The rows of a query. Raises `ConfigError`."""
        try:
            with closing(self._connection.execute(query, values)) as cursor:
                return [dict(row) for row in cursor.fetchall()]
        except sqlite3.Error as error:
            raise ConfigError(f"{self.place.database} cannot be read: {error}", fix="kairos doctor") from error

    def by_id(self, table: str, ids: Iterable[str]) -> dict[str, Row]:
        """Rows of `table`, by their ids."""
        wanted, found = list(dict.fromkeys(ids)), {}
        for start in range(0, len(wanted), PARTS):
            part = wanted[start : start + PARTS]
            marks = ",".join("?" * len(part))
            for row in self.rows(f"SELECT * FROM {table} WHERE id IN ({marks}) ORDER BY number", *part):
                found[str(row["id"])] = row
        return found

    def find_one(self, table: str, prefix: str) -> Row:
        """The one row whose id begins like that. Raises `NotFoundError`, `UsageError`."""
        found = self.rows(f"SELECT * FROM {table} WHERE id >= ? AND id < ? LIMIT 2", prefix, f"{prefix}~")
        if not found:
            raise NotFoundError(f"there is no {prefix}", fix="kairos runs and kairos decisions list them")
        if len(found) > 1:
            raise UsageError(f"more than one starts with {prefix}", fix="give more of it")
        return found[0]

    def lines(self, first: date, last: date) -> list[JsonObject]:
        """The journal's lines of those days. Raises `UsageError` for a line that is not JSON."""
        try:
            found: list[JsonObject] = []
            for file in journal_files(self.place.journal):
                if first <= file.day <= last:
                    lines = list(read_lines(self.place.journal, file.day, last=file.day))
                    self._days.update((str(line["hash"]), file.day) for line in lines)
                    found += lines
            return found
        except ValueError as error:
            raise UsageError(f"the journal is damaged: {error}", fix="kairos journal verify") from error

    def newest(self) -> date:
        """The last day of the journal."""
        files = journal_files(self.place.journal)
        return files[-1].day if files else date.min

    def day_of(self, line: JsonObject) -> date:
        """The day whose file has this line: a clock that was set back does not reopen a day."""
        return self._days[str(line["hash"])]

    def exchanges(self, first: date, last: date) -> Exchanges:
        """What is on record of those days, and of the one before: a day's first prompts may rest on it."""
        found = Exchanges()
        for entry in read_exchanges(self.place.exchanges, first - timedelta(days=1), last=last):
            found.add(entry)
        return found

    def transcript(self, run: str) -> Sequence[JsonObject]:
        """A run's transcript; a torn last line is left out."""
        path = Path(self.place.transcripts / f"{run}.jsonl")
        if not path.exists():
            return ()
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        return [cast("JsonObject", json.loads(line)) for line in whole.splitlines()]


def local_day(moment: str) -> date:
    """The local day of a recorded moment, as the journal counts days."""
    return datetime.fromisoformat(moment).astimezone().date()
