"""Bringing journal file and database together at start, whatever a crash, a full disk or a hand left behind.

The mark says how far the file was known to be durable, the outbox what must follow. Whatever else is found is said in
a `repair` line: nothing is mended silently.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.dialects.sqlite import insert as insert_or

from kairosd.core.journal import GENESIS, Note, unsealed, verify_line
from kairosd.core.json import Json, canonical
from kairosd.errors import StoreError
from kairosd.frozen import frozen
from kairosd.store.journal_files import JournalFile, journal_files
from kairosd.store.lines import link
from kairosd.store.schema import journal_mark, outbox

MARK_ID = 1


@frozen
class Mark:
    """The last line on disk: its number and hash, its file (relative, empty = none) and that file's length in bytes."""

    seq: int = 0
    hash: str = GENESIS
    file: str = ""
    size: int = 0


@frozen
class Cut:
    """Bytes at the end of a file that are no whole lines."""

    file: JournalFile
    keep: int
    length: int
    sha256: str

    def repair(self) -> dict[str, Json]:
        return {"reason": "torn tail", "file": self.file.name, "bytes": self.length, "sha256": self.sha256}


@frozen
class Start:
    """Where the journal goes on, and the highest number in use."""

    mark: Mark
    last: int
    repairs: int


def load_mark(connection: Connection) -> Mark:
    """The mark on disk."""
    columns = (journal_mark.c.seq, journal_mark.c.hash, journal_mark.c.file, journal_mark.c.size)
    row = connection.execute(select(*columns)).one_or_none()
    return Mark() if row is None else Mark(int(row[0]), str(row[1]), str(row[2]), int(row[3]))


_NEW_MARK = insert_or(journal_mark)
_STORE_MARK = _NEW_MARK.on_conflict_do_update(
    index_elements=[journal_mark.c.id],
    set_={name: _NEW_MARK.excluded[name] for name in ("seq", "hash", "file", "size")},
)


def store_mark(connection: Connection, mark: Mark) -> None:
    """Records that the file is durable up to `mark`, and drops the outbox rows it covers."""
    values = {"id": MARK_ID, "seq": mark.seq, "hash": mark.hash, "file": mark.file, "size": mark.size}
    connection.execute(_STORE_MARK, values)
    connection.execute(delete(outbox).where(outbox.c.seq <= mark.seq))


def reconcile(folder: Path, connection: Connection, *, now: datetime) -> Start:
    """Finds where the journal goes on. To be called before anything writes, outside a transaction of the caller's.

    The repairs are committed before a torn tail is cut: a crash between the two says the same thing again, not nothing.
    Raises `StoreError` when a file can neither be read nor cut.
    """
    try:
        with connection.begin():
            start, cuts = _reconcile(folder, connection, now=now)
        for cut in cuts:
            _apply(cut)
    except OSError as error:
        raise StoreError(
            f"the journal cannot be opened: {error}", fix=f"make {folder} readable and writable"
        ) from error
    return start


def _reconcile(folder: Path, connection: Connection, *, now: datetime) -> tuple[Start, list[Cut]]:
    mark = load_mark(connection)
    rows = {int(seq): str(line) for seq, line in connection.execute(select(outbox).order_by(outbox.c.seq))}
    tail, cuts, altered = _find_tail(folder, mark)
    repairs: list[dict[str, Json]] = []
    if tail.hash == mark.hash:
        base = replace(tail, seq=mark.seq)
    elif tail.seq > mark.seq and _chained(rows, mark, last=tail.seq) == tail.hash:
        base = tail  # appended before the crash, and only the mark was missing
    elif tail.seq > mark.seq:
        unknown = {"first": mark.seq + 1, "last": tail.seq}
        repairs.append({"reason": "the journal holds lines the database does not know", "unknown": unknown})
        base, rows = tail, {seq + tail.seq: line for seq, line in rows.items()}
    else:
        lost = {"first": tail.seq + 1, "last": mark.seq}
        repairs.append({"reason": "lines that had been written are gone", "lost": lost, "head": mark.hash})
        base = replace(tail, seq=mark.seq)
    if altered:
        repairs.append(
            {"reason": "the last line is not the one that was written", "file": mark.file, "head": mark.hash}
        )
    repairs += [cut.repair() for cut in cuts]
    waiting = [line for seq, line in sorted(rows.items()) if seq > base.seq]
    fresh = [repair for repair in repairs if not any(_is_repair(line, repair) for line in waiting)]
    if base != mark:
        store_mark(connection, base)
    if fresh or base.seq > mark.seq:
        _renumber(connection, base.seq, repairs=fresh, waiting=waiting, now=now)
    return Start(base, base.seq + len(fresh) + len(waiting), len(fresh)), cuts


def _find_tail(folder: Path, mark: Mark) -> tuple[Mark, list[Cut], bool]:
    """The last whole line on disk, what is torn behind it, and whether the line at the mark is another one now."""
    cuts: list[Cut] = []
    for file in reversed(journal_files(folder)):
        size = 0 if file.packed else file.path.stat().st_size
        known = file.name == mark.file and (file.packed or size >= mark.size)
        altered = known and _last_hash(file, mark.size) != mark.hash
        if file.packed:
            # Packed by `gc` because its day is over: nothing can have been torn, and nothing may follow.
            return (mark if known else _scan(file, 0, before=Mark())[0]), cuts, altered
        tail, keep = _scan(file, mark.size, before=mark) if known else _scan(file, 0, before=Mark())
        if keep < size:
            cuts.append(_cut(file, keep))
        if tail.seq:
            return tail, cuts, altered
    return Mark(), cuts, False


def _scan(file: JournalFile, start: int, *, before: Mark) -> tuple[Mark, int]:
    """The last line from byte `start` on that is whole and true to its own hash, and where it ends."""
    tail, offset = before, start
    with file.open() as lines:
        lines.seek(start)
        for raw in lines:
            offset += len(raw)
            checked = _check(raw)
            if checked is not None:
                tail = Mark(checked[1], checked[0], file.name, offset)
    return tail, tail.size if tail.file == file.name else start


def _check(raw: bytes) -> tuple[str, int] | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        text = raw[:-1].decode("utf-8")
        line = json.loads(text)
    except ValueError:
        return None
    previous = line.get("prev") if isinstance(line, dict) else None
    checked = verify_line(text, str(previous), sequence=None)
    return None if isinstance(checked, str) else checked


def _last_hash(file: JournalFile, size: int) -> str:
    """The hash of the line that ends at byte `size`; a packed file is read to its end."""
    last = b""
    with file.open() as lines:
        if not file.packed:
            return _hash_of(_line_before(lines.read(size)))
        for raw in lines:
            last = raw
    return _hash_of(last)


def _line_before(content: bytes) -> bytes:
    return content[content.rfind(b"\n", 0, max(0, len(content) - 1)) + 1 :]


def _hash_of(raw: bytes) -> str:
    checked = _check(raw)
    return checked[0] if checked else ""


def _chained(rows: Mapping[int, str], mark: Mark, *, last: int) -> str:
    """The hash the file's line `last` must have if the outbox rows after the mark were appended."""
    head = mark.hash
    for seq in range(mark.seq + 1, last + 1):
        if seq not in rows:
            return ""
        _, head = link(rows[seq], head)
    return head


def _cut(file: JournalFile, keep: int) -> Cut:
    with file.path.open("rb") as content:
        content.seek(keep)
        torn = content.read()
    return Cut(file, keep, len(torn), hashlib.sha256(torn).hexdigest())


def _apply(cut: Cut) -> None:
    with cut.file.path.open("r+b") as content:
        content.truncate(cut.keep)
        content.flush()
        os.fsync(content.fileno())


def _is_repair(line: str, data: Mapping[str, Json]) -> bool:
    found = json.loads(line)
    return bool(found["kind"] == "repair" and found["data"] == data)


def _renumber(
    connection: Connection, base: int, *, repairs: list[dict[str, Json]], waiting: list[str], now: datetime
) -> None:
    """Puts the repairs before all that still waits. None of it was in a file, so nobody has seen its numbers."""
    fresh = [{**unsealed(0, now, note=Note("repair", data=data)), "prev": ""} for data in repairs]
    lines = [*fresh, *(json.loads(line) for line in waiting)]
    connection.execute(delete(outbox))
    if lines:
        numbered = enumerate(lines, start=base + 1)
        connection.execute(insert(outbox), [{"seq": n, "line": canonical({**line, "seq": n})} for n, line in numbered])
