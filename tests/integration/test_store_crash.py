"""What survives a crash: a real process is killed while it writes, and journal and database are made to disagree."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.fakes import ManualClock

from kairosd.core.events import Draft, Tier
from kairosd.core.journal import Note
from kairosd.core.json import canonical
from kairosd.errors import StoreError
from kairosd.store.assembly import OpenStores, open_stores
from kairosd.store.journal_files import journal_files, read_lines, verify
from kairosd.store.recovery import load_mark

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
KILLS = 10

CHILD = """
import asyncio, os, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from kairosd.core.events import Draft, Tier
from kairosd.store.assembly import open_stores

home, life = Path(sys.argv[1]), sys.argv[2]

class Clock:
    # Each life is a day, so that kills fall around the change of files too.
    def now(self):
        return datetime(2026, 3, 2, 12, tzinfo=UTC) + timedelta(days=int(life))

async def feed(stores, clock, worker):
    for number in range(100_000):
        key = f"{life}-{worker}-{number}"
        receipt = await stores.events.add(Draft("files", "changed", key, Tier.LOCAL, "app", {"n": number}), clock.now())
        os.write(1, f"{receipt.id}\\n".encode())

async def main():
    clock = Clock()
    opened = open_stores(
        home / "kairos.db", home / "journal", transcripts_folder=home / "transcripts", clock=clock
    )
    opened.start()
    await asyncio.gather(*(feed(opened.stores, clock, worker) for worker in range(4)))

asyncio.run(main())
"""


def open_at(folder: Path, now: datetime = NOW) -> OpenStores:
    found = open_stores(
        folder / "kairos.db", folder / "journal", transcripts_folder=folder / "transcripts", clock=ManualClock(now)
    )
    found.start()
    return found


async def fill(folder: Path, notes: int, *, now: datetime = NOW) -> None:
    """One life that notes some lines and ends in order."""
    opened = open_at(folder, now)
    for number in range(notes):
        await opened.stores.state.note(Note("daemon.test", data={"n": number}), now)
    await opened.journal.drain()
    await opened.close()


async def reopen(folder: Path, *, now: datetime = NOW) -> list[dict[str, object]]:
    """The next life: starts, notes one line, ends. Returns every line, after the chain has been checked."""
    await fill(folder, 1, now=now)
    verified = verify(folder / "journal")
    assert verified.problem is None
    return [dict(line) for line in read_lines(folder / "journal")]


def newest(folder: Path) -> Path:
    return journal_files(folder / "journal")[-1].path


async def in_database(folder: Path, statements: Callable[[OpenStores], object]) -> None:
    opened = open_stores(
        folder / "kairos.db", folder / "journal", transcripts_folder=folder / "transcripts", clock=ManualClock(NOW)
    )
    statements(opened)
    opened.engine.dispose()


async def test_killed_while_it_writes_nothing_acknowledged_is_lost_or_told_twice(tmp_path: Path) -> None:
    chance = random.Random(20260302)
    acknowledged: set[str] = set()
    for life in range(KILLS):
        acknowledged |= await asyncio.to_thread(one_life, tmp_path, life, chance.randint(1, 250))
    after = NOW + timedelta(days=KILLS)
    opened = open_at(tmp_path, after)
    await opened.journal.drain()
    stored = await opened.database.read(lambda reader: set(reader.scalars(text("SELECT id FROM events"))))
    left = await opened.database.read(lambda reader: reader.scalar(text("SELECT count(*) FROM outbox")))
    await opened.close()
    lines = list(read_lines(tmp_path / "journal"))
    verified = verify(tmp_path / "journal")
    assert len(acknowledged) > KILLS
    assert acknowledged <= stored
    assert left == 0
    assert verified.problem is None
    assert verified.lost == 0
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    told = [line["id"] for line in lines if line["kind"] == "event.received"]
    assert len(told) == len(set(told))
    assert set(told) == stored


def one_life(home: Path, life: int, enough: int) -> set[str]:
    """Runs the child until it has acknowledged `enough` events, then kills it. Returns what was acknowledged."""
    with subprocess.Popen([sys.executable, "-c", CHILD, str(home), str(life)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        seen = [child.stdout.readline() for _ in range(enough)]
        child.send_signal(signal.SIGKILL)
        seen += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    return {line.decode().strip() for line in seen if line.endswith(b"\n")}


async def test_a_torn_tail_is_cut_and_its_hash_kept(tmp_path: Path) -> None:
    await fill(tmp_path, 3)
    torn = b'{"cause":"","data":{"n":4'
    with newest(tmp_path).open("ab") as file:
        file.write(torn)
    assert verify(tmp_path / "journal").problem is not None
    lines = await reopen(tmp_path)
    assert [line["kind"] for line in lines] == ["daemon.test"] * 3 + ["repair", "daemon.test"]
    repair = {"reason": "torn tail", "file": newest(tmp_path).relative_to(tmp_path / "journal").as_posix()}
    assert lines[3]["data"] == {**repair, "bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}


async def test_a_tail_torn_in_a_new_days_file_is_cut_too(tmp_path: Path) -> None:
    await fill(tmp_path, 2)
    tomorrow = newest(tmp_path).with_name("2026-03-03.jsonl")
    tomorrow.write_bytes(b"\0" * 100)
    lines = await reopen(tmp_path, now=NOW + timedelta(days=1))
    assert [line["kind"] for line in lines] == ["daemon.test", "daemon.test", "repair", "daemon.test"]
    assert newest(tmp_path) == tomorrow


async def test_a_crash_between_the_repair_and_the_cut_says_it_once(tmp_path: Path) -> None:
    await fill(tmp_path, 3)
    torn = b"half a line"
    with newest(tmp_path).open("ab") as file:
        file.write(torn)
    opened = open_stores(
        tmp_path / "kairos.db",
        tmp_path / "journal",
        transcripts_folder=tmp_path / "transcripts",
        clock=ManualClock(NOW),
    )
    opened.engine.dispose()  # the repair is committed; the process ends before its line is written
    with newest(tmp_path).open("ab") as file:
        file.write(torn)  # … and before the tail was cut
    lines = await reopen(tmp_path)
    assert [line["kind"] for line in lines].count("repair") == 1


async def test_lines_whose_mark_was_not_committed_are_not_written_twice(tmp_path: Path) -> None:
    await fill(tmp_path, 5)
    opened = open_at(tmp_path)
    rows: list[tuple[int, str]] = []
    # What the database looked like before the last append was recorded: mark at 5, three rows in the outbox.
    mark = await opened.database.read(load_mark)
    for number in range(3):
        await opened.stores.state.note(Note("daemon.test", data={"late": number}), NOW)
    await opened.close()
    for line in list(read_lines(tmp_path / "journal"))[5:]:
        bare = {key: value for key, value in line.items() if key not in ("prev", "hash")}
        rows.append((int(str(line["seq"])), _outbox_line(bare)))

    def rewind(found: OpenStores) -> None:
        with found.engine.begin() as connection:
            connection.execute(text("DELETE FROM outbox"))
            for seq, line in rows:
                connection.execute(text("INSERT INTO outbox VALUES (:seq, :line)"), {"seq": seq, "line": line})
            values = {"seq": mark.seq, "hash": mark.hash, "file": mark.file, "size": mark.size}
            connection.execute(text("UPDATE journal_mark SET seq=:seq, hash=:hash, file=:file, size=:size"), values)

    await in_database(tmp_path, rewind)
    lines = await reopen(tmp_path)
    assert [line["seq"] for line in lines] == list(range(1, 10))
    assert [line["kind"] for line in lines] == ["daemon.test"] * 9


async def test_a_part_of_a_batch_in_the_file_is_finished_not_repeated(tmp_path: Path) -> None:
    await test_lines_whose_mark_was_not_committed_are_not_written_twice(tmp_path)
    opened = open_at(tmp_path)
    mark = await opened.database.read(load_mark)
    for number in range(3):
        await opened.stores.state.note(Note("daemon.test", data={"later": number}), NOW)
    await opened.close()
    path = newest(tmp_path)
    written = path.read_bytes().splitlines(keepends=True)
    bare = [{key: value for key, value in line.items() if key not in ("prev", "hash")}
            for line in read_lines(tmp_path / "journal")][mark.seq :]  # fmt: skip
    path.write_bytes(b"".join(written[:-2]) + written[-2][:40])

    def rewind(found: OpenStores) -> None:
        with found.engine.begin() as connection:
            connection.execute(text("DELETE FROM outbox"))
            for line in bare:
                row = {"seq": line["seq"], "line": _outbox_line(line)}
                connection.execute(text("INSERT INTO outbox VALUES (:seq, :line)"), row)
            values = {"seq": mark.seq, "hash": mark.hash, "file": mark.file, "size": mark.size}
            connection.execute(text("UPDATE journal_mark SET seq=:seq, hash=:hash, file=:file, size=:size"), values)

    opened = open_stores(
        tmp_path / "kairos.db", tmp_path / "spare", transcripts_folder=tmp_path / "transcripts", clock=ManualClock(NOW)
    )
    rewind(opened)
    opened.engine.dispose()
    lines = await reopen(tmp_path)
    told = [line["data"] for line in lines if line["kind"] == "daemon.test"]
    assert [data for data in told if "later" in str(data)] == [{"later": number} for number in range(3)]
    assert [line["kind"] for line in lines].count("repair") == 1


async def test_lines_that_are_gone_are_said_to_be_gone(tmp_path: Path) -> None:
    await fill(tmp_path, 6)
    path = newest(tmp_path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    lines = await reopen(tmp_path)
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 7, 8]
    assert lines[4]["kind"] == "repair"
    assert dict(lines[4]["data"])["lost"] == {"first": 5, "last": 6}  # type: ignore[call-overload]
    verified = verify(tmp_path / "journal")
    assert (verified.lost, verified.repairs) == (2, 1)
    assert verify(tmp_path / "journal").problem is None
    assert len(await reopen(tmp_path)) == 7  # and it is said once


async def test_a_journal_that_is_gone_altogether_is_said_to_be_gone(tmp_path: Path) -> None:
    await fill(tmp_path, 3)
    newest(tmp_path).unlink()
    opened = open_at(tmp_path)
    await opened.journal.drain()
    await opened.close()
    (line,) = read_lines(tmp_path / "journal")
    assert (line["kind"], line["seq"], line["prev"]) == ("repair", 4, "0" * 64)


async def test_a_lost_database_goes_on_behind_the_journal_it_finds(tmp_path: Path) -> None:
    await fill(tmp_path, 3)
    for file in tmp_path.glob("kairos.db*"):
        file.unlink()
    lines = await reopen(tmp_path)
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[3]["kind"] == "repair"


async def test_an_altered_last_line_is_said_and_not_cut(tmp_path: Path) -> None:
    await fill(tmp_path, 3)
    path = newest(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"n":2', b'"n":7'))
    await fill(tmp_path, 1)
    lines = list(read_lines(tmp_path / "journal"))
    assert [line["kind"] for line in lines] == ["daemon.test"] * 3 + ["repair", "daemon.test"]
    problem = verify(tmp_path / "journal").problem
    assert problem is not None
    assert (problem.line, problem.problem) == (3, "its hash does not match its content")


async def test_a_journal_that_cannot_be_written_holds_nothing_up(tmp_path: Path) -> None:
    opened = open_at(tmp_path)
    (tmp_path / "journal" / "2026").write_text("a file where the year's folder should be")
    receipt = await opened.stores.events.add(Draft("files", "changed", "1", Tier.LOCAL, "app"), NOW)
    with pytest.raises(StoreError):
        await opened.journal.drain()
    assert opened.journal.problem is not None
    assert (await opened.stores.events.get(receipt.id)).id == receipt.id
    (tmp_path / "journal" / "2026").unlink()
    await opened.stores.state.note(Note("daemon.test"), NOW)
    await opened.journal.drain()
    assert opened.journal.problem is None
    assert [line["seq"] for line in read_lines(tmp_path / "journal")] == [1, 2]
    await opened.close()


async def test_a_file_somebody_else_wrote_to_is_not_overwritten(tmp_path: Path) -> None:
    await fill(tmp_path, 1)
    opened = open_stores(
        tmp_path / "kairos.db",
        tmp_path / "journal",
        transcripts_folder=tmp_path / "transcripts",
        clock=ManualClock(NOW),
    )
    with newest(tmp_path).open("ab") as file:
        file.write(b"a stranger's line\n")
    opened.start()
    await opened.stores.state.note(Note("daemon.test"), NOW)
    with pytest.raises(StoreError, match="holds more"):
        await opened.journal.drain()
    assert newest(tmp_path).read_bytes().endswith(b"a stranger's line\n")
    await opened.close()


def _outbox_line(line: dict[str, object]) -> str:
    from_core = {**line, "prev": ""}
    return canonical(from_core)  # type: ignore[arg-type]
