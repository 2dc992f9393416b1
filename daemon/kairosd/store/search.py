"""The index that search asks: SQLite's FTS5 in a file of its own. It is derived; what it holds is elsewhere too."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache, partial
from heapq import nlargest
from itertools import count, groupby
from pathlib import Path
from typing import Any

from kairosd.core.events import Tier
from kairosd.core.ranking import Candidate, ordered
from kairosd.core.search import AROUND, Columns, Found, Layer, Passage, Question, columns_of
from kairosd.core.texts import encodable
from kairosd.errors import StoreError
from kairosd.store.matching import TOKENS, Matcher, Matches

FORMAT = 5  # of the tables and texts: an index of another one is made anew
CANDIDATES = 100  # at least; twice as many as are wanted
HASH_BYTES = 8 << 20  # of new words that FTS5 holds before it writes a segment: few ones are sooner written and asked
MOMENTS = 256  # kept as they are written: those of a run's turns are the same
MORE = 4  # times as many as before are looked at next, where some are of other workspaces
PAGE_BYTES = 16 << 10  # of the file: passages are long, and a few large pages are sooner written and read than many
SEGMENTS = 8  # that FTS5 makes one of, twice its default: words are written over less often
SLICE = 2000  # passages that are looked at before others have their turn

_TABLES = f"""
    CREATE TABLE passages (
        id INTEGER PRIMARY KEY, layer TEXT NOT NULL, source TEXT NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL,
        scope TEXT NOT NULL, tier INTEGER NOT NULL, speaker TEXT NOT NULL, thread TEXT NOT NULL,
        position INTEGER NOT NULL, stale TEXT NOT NULL, aside TEXT NOT NULL, asks INTEGER NOT NULL,
        UNIQUE (layer, source)
    );
    CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
    CREATE INDEX passages_thread ON passages (thread, position) WHERE thread != '';
    CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE VIRTUAL TABLE words USING fts5 (own, asked, around, tokenize = '{TOKENS}');
    INSERT INTO words (words, rank) VALUES
        ('hashsize', {HASH_BYTES}), ('pgsz', {PAGE_BYTES - 100}), ('automerge', {SEGMENTS});
    CREATE VIRTUAL TABLE vocabulary USING fts5vocab (words, col);
"""
_FIELDS = "layer, source, at, kind, scope, tier, speaker, thread, position, stale, aside"


class SearchIndex:
    """One index file; `path` None keeps it in memory. Blocks: call it in a thread. Safe to share between threads.

    Every method raises `StoreError` when the file cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._matcher = Matcher()

    def put(
        self,
        passages: Iterable[Passage],
        marks: Mapping[str, str],
        *,
        over: Mapping[str, str] | None = None,
        whole: Collection[str] = (),
    ) -> bool:
        """Adds passages, in place of those with the same source, and remembers `marks`, in one transaction.

        Of the threads that are `whole`, the passages are all there is: others of them go. False, and nothing is
        changed, where the marks are not `over` any more: somebody else writes too.
        """
        with self._writing() as connection:
            known = dict(connection.execute("SELECT name, value FROM marks")) if over else {}
            if over and any(known.get(name, "") != value for name, value in over.items()):
                return False
            listed = list({(one.layer, one.source): one for one in passages}.values())
            for thread in filter(None, whole):
                _delete(connection, "thread = ?", values=(thread,))
            changed = _alone(one for one in listed if not one.thread)
            threaded = sorted((one for one in listed if one.thread), key=lambda one: (one.thread, one.position))
            for _, group in groupby(threaded, key=lambda one: one.thread):
                changed += _beside(connection, list(group))
            _store(connection, changed)
            connection.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", list(marks.items()))
            return True

    def replace(self, layer: Layer, passages: Iterable[Passage], *, marks: Mapping[str, str]) -> None:
        """Makes `passages`, which stand alone, all that there is of `layer`; writes what differs."""
        with self._writing() as connection:
            fresh = {passage.source: passage for passage in passages}
            for known in _load(connection, "layer = ?", values=(layer.value,)):
                if known.source not in fresh:
                    _delete(connection, "layer = ? AND source = ?", values=(layer.value, known.source))
                elif fresh[known.source] == known:
                    del fresh[known.source]
            _store(connection, _alone(fresh.values()))
            connection.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", list(marks.items()))

    def drop(self, sources: Sequence[str]) -> int:
        """Takes passages out; how many there were. Their neighbours keep no word of them."""
        with self._writing() as connection:
            threads: set[str] = set()
            gone = 0
            known = f"{_among(tuple(Layer))} AND source = ?"  # without the layer every row would be looked at
            for source in sources:
                values = [*(layer.value for layer in Layer), source]
                ask = f"SELECT DISTINCT thread FROM passages WHERE {known}"
                threads.update(thread for (thread,) in connection.execute(ask, values))
                gone += _delete(connection, known, values=values)
            for thread in filter(None, threads):
                left = _load(connection, "thread = ? AND thread != '' ORDER BY position", values=(thread,))
                _store(connection, list(zip(left, columns_of(left), strict=True)))
        if gone:
            self.purge()
        return gone

    def drop_threads(self, threads: Sequence[str]) -> None:
        """Takes whole threads out."""
        with self._writing() as connection:
            gone = sum(_delete(connection, "thread = ?", values=(thread,)) for thread in filter(None, threads))
        if gone:
            self.purge()

    def saying(self, layers: Collection[Layer], says: Callable[[Passage], bool]) -> list[str]:
        """The sources of those passages of `layers` that `says` holds of; every one is looked at."""
        found: list[str] = []
        for begin in count(0, SLICE):
            with self._reading() as connection:
                (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM passages").fetchone()
                asked = f"passages.id > ? AND passages.id <= ? AND {_among(layers)}"
                part = _load(connection, asked, values=(begin, begin + SLICE, *layers))
            found += [one.source for one in part if says(one)]
            if begin + SLICE >= last:
                break
        return found

    def purge(self) -> None:
        """Takes the words of what was deleted out of the file too: FTS5 and the log of writes keep them for a while."""
        with self._using() as connection:
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")
            connection.execute("PRAGMA wal_checkpoint (TRUNCATE)")

    def marks(self) -> dict[str, str]:
        """What was remembered with the passages: how far each source of them has been read."""
        with self._using() as connection:
            return dict(connection.execute("SELECT name, value FROM marks"))

    def counts(self) -> dict[str, int]:
        """Passages by layer."""
        with self._using() as connection:
            return dict(connection.execute("SELECT layer, count(*) FROM passages GROUP BY layer"))

    def clear(self) -> None:
        """Forgets everything."""
        with self._writing() as connection:
            for table in ("words", "texts", "passages", "marks"):
                connection.execute(f"DELETE FROM {table}")

    def search(self, question: Question, *, today: date) -> list[Found]:
        """The best answers, best first; `today` is the local day that "yesterday" is understood by."""
        with self._reading() as connection:
            if not (words := question.words):
                return []
            found = self._candidates(connection, self._matcher.matches(connection, words), question=question)
            best = ordered(found, question, today=today, text_of=partial(_text, connection))
            return [Found(_load(connection, "id = ?", values=(one.number,))[0], one.score) for one in best]

    def close(self) -> None:
        """Closes the file; the next call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _candidates(self, connection: sqlite3.Connection, found: Matches, *, question: Question) -> list[Candidate]:
        """The best candidates that the question lets in; mostly they are among the best of all, sooner asked for."""
        wanted = max(CANDIDATES, 2 * question.limit)
        conditions, values = _conditions(question)
        rows: list[Any] = []
        for part in _best_first(found.scores, first=wanted):
            rows += connection.execute(
                "SELECT passages.id, asks, speaker, at, thread FROM json_each(?) AS one "
                f"CROSS JOIN passages ON passages.id = one.value WHERE {conditions}",
                (json.dumps(part), *values),
            )
            if len(rows) >= wanted:
                break
        rows = sorted(rows, key=lambda row: -found.scores[row[0]])[:wanted]
        lengths = _lengths(connection, {row[4] for row in rows})
        return [
            Candidate(
                number, found.scores[number], asks, speaker, datetime.fromisoformat(at),
                thread, lengths[thread], found.held(number),
            )
            for number, asks, speaker, at, thread in rows
        ]  # fmt: skip

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._opened()
            except sqlite3.Error as error:
                if _damaged(error):
                    self._discard()
                    raise StoreError("the search index was damaged and begins anew", fix="ask again") from error
                raise StoreError(f"the search index cannot be used: {error}", fix="kairos memory reindex") from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the index, whatever another process writes meanwhile."""
        with self._using() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                self._matcher.forget()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            place = str(self._path) if self._path else ":memory:"
            self._connection = connection = sqlite3.connect(
                place, isolation_level=None, check_same_thread=False, timeout=10
            )
            try:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # a file that is there keeps its own
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")  # a lost tail is read again
                connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is not in the file either
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version != FORMAT:
                    _make(connection)
            except sqlite3.Error:
                self._connection = None
                connection.close()
                raise
        return self._connection

    def _discard(self) -> None:
        """Takes the file away: all it held is elsewhere too, and is read again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for ending in ("", "-wal", "-shm") if self._path else ():
            Path(f"{self._path}{ending}").unlink(missing_ok=True)


def _damaged(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _make(connection: sqlite3.Connection) -> None:
    for table in ("vocabulary", "words", "texts", "passages", "marks"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {FORMAT}; COMMIT;")


def _conditions(question: Question) -> tuple[str, list[object]]:
    parts: list[str] = ["tier >= ?"]
    values: list[object] = [question.tier.value]
    for column, allowed in (("scope", question.scopes), ("layer", [each.value for each in question.layers])):
        parts.append(f"{column} IN ({', '.join('?' * len(allowed))})")
        values += allowed
    if question.kinds:
        parts.append(f"kind IN ({', '.join('?' * len(question.kinds))})")
        values += question.kinds
    if question.span is not None:
        parts.append("at < ?")
        values.append(_midnight(question.span.last + timedelta(days=1)))
        if question.span.first is not None:
            parts.append("at >= ?")
            values.append(_midnight(question.span.first))
    return " AND ".join(parts), values


def _among(layers: Collection[Layer]) -> str:
    return f"layer IN ({', '.join('?' * len(layers))})"


def _midnight(day: date) -> str:
    return _moment(datetime.combine(day, time()).astimezone())


@lru_cache(MOMENTS)
def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _alone(passages: Iterable[Passage]) -> list[tuple[Passage, Columns]]:
    return [(passage, columns_of([passage])[0]) for passage in passages]


def _beside(connection: sqlite3.Connection, fresh: Sequence[Passage]) -> list[tuple[Passage, Columns]]:
    """Passages of one thread in their order, and those beside them that are known, whose surroundings they are."""
    named = {passage.source for passage in fresh}
    near = (fresh[0].thread, fresh[0].position - 2 * AROUND, fresh[-1].position + 2 * AROUND)
    known = _load(connection, "thread = ? AND thread != '' AND position BETWEEN ? AND ?", values=near)
    beside = [passage for passage in known if passage.source not in named]
    whole = sorted([*beside, *fresh], key=lambda one: one.position)
    first, last = fresh[0].position - AROUND, fresh[-1].position + AROUND
    return [each for each in zip(whole, columns_of(whole), strict=True) if first <= each[0].position <= last]


def _row(passage: Passage) -> tuple[object, ...]:
    return (
        passage.layer.value, passage.source, _moment(passage.at), passage.kind, passage.scope,
        passage.tier.value, encodable(passage.speaker), passage.thread, passage.position,
        str(passage.stale or ""), str(passage.aside or ""),
    )  # fmt: skip


def _store(connection: sqlite3.Connection, changed: Sequence[tuple[Passage, Columns]]) -> None:
    """Adds passages with what is indexed for each, in place of those with the same source."""
    named = json.dumps([(passage.layer.value, passage.source) for passage, _ in changed])
    same = "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
    _delete(connection, f"(layer, source) IN {same}", values=(named,))
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM passages").fetchone()
    numbered = list(enumerate(changed, start=last + 1))
    connection.executemany(
        f"INSERT INTO passages (id, asks, {_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(number, each.asks, *_row(passage)) for number, (passage, each) in numbered],
    )
    texts = [(number, encodable(passage.text)) for number, (passage, _) in numbered]
    connection.executemany("INSERT INTO texts VALUES (?, ?)", texts)
    words = [(number, *map(encodable, (each.own, each.asked, each.around))) for number, (_, each) in numbered]
    connection.executemany("INSERT INTO words (rowid, own, asked, around) VALUES (?, ?, ?, ?)", words)


def _best_first(scores: Mapping[int, float], *, first: int) -> Iterator[list[int]]:
    """Numbers by their scores, best first: the `first` few, then ever longer parts."""
    yield nlargest(first, scores, key=scores.__getitem__)
    if len(scores) > first:
        numbers = sorted(scores, key=scores.__getitem__, reverse=True)
        while part := numbers[first : first * (1 + MORE)]:
            yield part
            first *= 1 + MORE


def _lengths(connection: sqlite3.Connection, threads: Collection[str]) -> dict[str, int]:
    """How many passages each thread has, as its positions tell."""
    last = "SELECT max(position) FROM passages WHERE thread = one.value AND thread != ''"
    asked = f"SELECT value, coalesce(({last}), 0) + 1 FROM json_each(?) AS one"
    return dict(connection.execute(asked, (json.dumps(list(threads)),)))


def _text(connection: sqlite3.Connection, number: int) -> str:
    (text,) = connection.execute("SELECT text FROM texts WHERE id = ?", (number,)).fetchone()
    return str(text)


def _load(connection: sqlite3.Connection, where: str, *, values: Sequence[object]) -> list[Passage]:
    rows = connection.execute(f"SELECT text, {_FIELDS} FROM passages JOIN texts USING (id) WHERE {where}", values)
    return [_passage(row) for row in rows]


def _passage(row: Sequence[Any]) -> Passage:
    text, layer, source, at, kind, scope, tier, speaker, thread, position, *days = row
    moment = datetime.fromisoformat(at)
    stale, aside = (date.fromisoformat(day) if day else None for day in days)
    return Passage(Layer(layer), source, text, moment, kind, scope, Tier(tier), speaker, thread, position, stale, aside)


def _delete(connection: sqlite3.Connection, where: str, *, values: Sequence[object]) -> int:
    numbers = connection.execute(f"SELECT id FROM passages WHERE {where}", values).fetchall()
    for table, key in (("words", "rowid"), ("texts", "id"), ("passages", "id")) if numbers else ():
        connection.executemany(f"DELETE FROM {table} WHERE {key} = ?", numbers)
    return len(numbers)
