"""The outbox on the real store, with a clock that the test moves and screens that it can break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from tests.fakes import ManualClock

from kairosd.core.decisions import Decision, Verdict
from kairosd.core.events import Draft, Tier
from kairosd.core.notices import MAX_TRIES, Notice, NoticeDraft, NoticeState, QuietHours, Severity
from kairosd.core.runs import Approval, ApprovalState, Call, CallState, ParkedOn, Run, RunState, call_hash
from kairosd.engine.notices import TWICE, Channel, Outbox
from kairosd.errors import NotifierError, NotifierRefusedError
from kairosd.ports import Query, Stores
from kairosd.store.assembly import open_stores

pytestmark = pytest.mark.anyio

S = NoticeState
NIGHT = QuietHours(time(22, 0), time(7, 0))
EVENING = datetime(2026, 3, 2, 23, 0).astimezone().astimezone(UTC)  # 23:00 on the wall of this machine


@dataclass
class Screen:
    """A notifier the test can break. `seen` holds what arrived, in order."""

    name: str
    seen: list[Notice] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)  # raised one by one, before anything arrives
    broken: Exception | None = None
    has: bool | Exception = False
    gate: asyncio.Event | None = None
    opened: int = 0
    closed: bool = False

    async def deliver(self, notice: Notice) -> str:
        if self.gate:
            await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.broken:
            raise self.broken
        self.seen.append(notice)
        return f"receipt {len(self.seen)}"

    async def arrived(self, notice: Notice) -> bool:
        if isinstance(self.has, Exception):
            raise self.has
        return self.has

    async def close(self) -> None:
        self.closed = True

    def open(self) -> Screen:
        self.opened += 1
        return self

    @property
    def titles(self) -> list[str]:
        return [notice.title for notice in self.seen]


@dataclass
class Desk:
    """An outbox at work."""

    clock: ManualClock
    stores: Stores
    outbox: Outbox

    async def rows(self, state: NoticeState | None = None) -> list[Notice]:
        found = await self.stores.notices.find(Query(state=state.value if state else None))
        return sorted(found, key=lambda row: (row.created, row.id))

    async def states(self) -> dict[str, str]:
        return {row.title: row.state.value for row in await self.rows()}

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until `condition` (plain or async) holds; the store works in threads, so real time has to pass."""
        async with asyncio.timeout(20):
            while not await _value(condition):
                await asyncio.sleep(0.005)

    async def until_states(self, **wanted: str) -> None:
        async def reached() -> bool:
            # Every row: the channels of one notice reach a state one after the other.
            rows = await self.rows()
            return {row.title for row in rows} == set(wanted) and all(row.state == wanted[row.title] for row in rows)

        await self.until(reached)

    async def advance(self, seconds: float, condition: Callable[[], object]) -> None:
        """Moves time on in steps that let the outbox go back to sleep, until `condition` holds."""
        await self.clock.advance(seconds)
        await self.until(condition)


async def _value(condition: Callable[[], object]) -> object:
    value = condition()
    return await value if asyncio.iscoroutine(value) else value


def draft(title: str, severity: Severity = Severity.NORMAL, *, cause: str | None = None, key: str = "") -> NoticeDraft:
    return NoticeDraft(key or f"key:{title}", title, f"body of {title}", severity, cause=cause, workspace="w")


@asynccontextmanager
async def desk(
    folder: Path, *screens: Screen, quiet: QuietHours | None = None, clock: ManualClock | None = None, run: bool = True
) -> AsyncIterator[Desk]:
    clock = clock or ManualClock()
    opened = open_stores(
        folder / "kairos.db", folder / "journal", transcripts_folder=folder / "transcripts", clock=clock
    )
    opened.start()
    stores = opened.stores
    channels = [Channel(each.name, Severity.NORMAL, each.open, silent=each.name == "log") for each in screens]
    outbox = Outbox(stores.notices, stores.approvals, clock=clock, channels=channels, quiet=quiet)
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(outbox.run()) if run else None
            yield Desk(clock, stores, outbox)
            if task:
                task.cancel()
    finally:
        await outbox.close()
        await opened.close()


async def test_every_channel_gets_its_row_and_its_receipt(tmp_path: Path) -> None:
    phone, desktop = Screen("ntfy"), Screen("desktop")
    async with desk(tmp_path, phone, desktop) as at:
        await at.outbox.tell(draft("Build broken"))
        await at.until(lambda: phone.seen and desktop.seen)
        await at.until_states(**{"Build broken": "delivered"})
        rows = await at.rows()
        assert {row.channel for row in rows} == {"ntfy", "desktop"}
        assert all(row.receipt == "receipt 1" and row.tries == 1 and row.delivered_at for row in rows)
        await at.outbox.tell(draft("Build broken"))
        await at.outbox.tell(draft("too low", Severity.LOW))
        await at.outbox.tell(draft("last"))
        await at.until(lambda: len(phone.seen) == 2 and len(desktop.seen) == 2)
        assert phone.titles == ["Build broken", "last"], "a key is queued once, and the severity is obeyed"
    assert phone.closed
    assert desktop.opened == 1


async def test_rows_stored_in_somebody_elses_transaction_go_out_at_a_ring(tmp_path: Path) -> None:
    phone = Screen("ntfy")
    async with desk(tmp_path, phone) as at:
        rows = at.outbox.address(draft("from a run"))
        await at.stores.notices.queue(rows, at.clock.now())
        at.outbox.ring()
        await at.until(lambda: phone.titles == ["from a run"])


async def test_a_draft_without_a_transaction_is_stored_soon(tmp_path: Path) -> None:
    phone = Screen("ntfy")
    async with desk(tmp_path, phone) as at:
        at.outbox.queue(draft("model down"))
        await at.until(lambda: phone.titles == ["model down"])


async def test_a_temporary_failure_is_tried_again_with_back_off_and_then_recovers(tmp_path: Path) -> None:
    phone = Screen("ntfy", errors=[NotifierError("503", fix="wait"), NotifierError("503")])
    async with desk(tmp_path, phone) as at:
        start = at.clock.now()
        await at.outbox.tell(draft("a"))
        await at.until_states(a="failed")
        row = (await at.rows())[0]
        assert row.due == start + timedelta(seconds=30)
        assert at.outbox.problems() == ({"code": "notifier_ntfy", "text": "notifier ntfy: 503", "fix": "wait"},)
        await at.advance(31, lambda: not phone.errors)
        await at.until_states(a="failed")
        assert (await at.rows())[0].tries == 2
        await at.advance(121, lambda: phone.seen)
        await at.until_states(a="delivered")
        assert at.outbox.problems() == ()
        assert phone.seen[0].id == row.id


async def test_after_six_tries_a_notice_is_dead_and_the_next_one_goes_on(tmp_path: Path) -> None:
    phone = Screen("ntfy", broken=NotifierError("down"))
    async with desk(tmp_path, phone) as at:
        await at.outbox.tell(draft("a"))

        for tries in range(1, MAX_TRIES + 1):

            async def tried(wanted: int = tries) -> bool:
                row = (await at.rows())[0]
                return row.tries == wanted and row.state in (S.FAILED, S.DEAD)

            await at.until(tried)
            await at.clock.advance(7300)
        await at.until_states(a="dead")
        assert (await at.rows())[0].tries == MAX_TRIES
        phone.broken = None
        await at.outbox.tell(draft("b"))
        await at.clock.advance(400)
        await at.until(lambda: phone.titles == ["b"])


async def test_a_refusal_is_final_and_said(tmp_path: Path) -> None:
    phone = Screen("ntfy", errors=[NotifierRefusedError("401", fix="set a token")])
    async with desk(tmp_path, phone) as at:
        await at.outbox.tell(draft("a"))
        await at.until_states(a="dead")
        assert at.outbox.problems()[0]["fix"] == "set a token"
        await at.outbox.tell(draft("b"))
        await at.until_states(a="dead", b="delivered")
        assert at.outbox.problems() == ()


@pytest.mark.parametrize("how", ["hangs", "fails", "has a bug"])
async def test_one_dead_channel_never_blocks_the_others(tmp_path: Path, how: str) -> None:
    dead, desktop = Screen("ntfy"), Screen("desktop")
    dead.gate = asyncio.Event() if how == "hangs" else None
    dead.broken = {"fails": NotifierError("down"), "has a bug": RuntimeError("bug")}.get(how)
    async with desk(tmp_path, dead, desktop) as at:
        for number in range(60):  # more than one slice of due rows
            await at.outbox.tell(draft(f"n{number}"))
        await at.until(lambda: len(desktop.seen) == 60)
        if how == "has a bug":
            await at.until(at.outbox.problems)
            dead.broken = None
            await at.clock.advance(2)
            await at.until(lambda: len(dead.seen) == 60)


async def test_a_resting_channel_does_not_burn_the_tries_of_what_waits_behind(tmp_path: Path) -> None:
    phone = Screen("ntfy", broken=NotifierError("down"))
    async with desk(tmp_path, phone) as at:
        await at.outbox.tell(draft("a"))
        await at.until_states(a="failed")
        await at.outbox.tell(draft("b"))
        await at.clock.advance(5)
        assert await at.states() == {"a": "failed", "b": "queued"}
        phone.broken = None
        await at.advance(40, lambda: len(phone.seen) == 2)


async def test_quiet_hours_defer_merge_into_one_digest_and_let_urgent_and_tests_through(tmp_path: Path) -> None:
    phone, log = Screen("ntfy"), Screen("log")
    async with desk(tmp_path, phone, log, quiet=NIGHT, clock=ManualClock(EVENING)) as at:
        for each in (draft("a"), draft("b", Severity.HIGH), draft("fire", Severity.URGENT), draft("t", key="test:1")):
            await at.outbox.tell(each)
        await at.until(lambda: set(phone.titles) == {"fire", "t"})
        await at.until(lambda: len(log.seen) == 4)
        deferred = [row for row in await at.rows(S.DEFERRED) if row.channel == "ntfy"]
        assert {row.title for row in deferred} == {"a", "b"}
        assert {row.due for row in deferred} == {EVENING + timedelta(hours=8)}
        await at.clock.advance(7.9 * 3600)
        assert len(phone.seen) == 2
        await at.advance(600, lambda: len(phone.seen) == 3)
        digest = phone.seen[-1]
        assert digest.title == "Kairos: 2 notices from the quiet hours"
        assert digest.severity is Severity.HIGH
        assert digest.body.index("body of b") < digest.body.index("body of a"), "the graver one first"
        assert all(row.id in digest.body for row in deferred)
        await at.until(lambda: _count(at, S.MERGED, 2))


async def _count(at: Desk, state: NoticeState, count: int) -> bool:
    return len(await at.rows(state)) == count


async def test_a_single_deferred_notice_goes_as_it_is(tmp_path: Path) -> None:
    phone = Screen("ntfy")
    async with desk(tmp_path, phone, quiet=NIGHT, clock=ManualClock(EVENING)) as at:
        await at.outbox.tell(draft("a"))
        await at.until_states(a="deferred")
        await at.advance(8.1 * 3600, lambda: phone.titles == ["a"])


@pytest.mark.parametrize("titles", ["ab", "abc"])
async def test_a_crash_while_a_digest_is_made_makes_no_second_one(tmp_path: Path, titles: str) -> None:
    phone = Screen("ntfy")
    async with desk(tmp_path, phone, quiet=NIGHT, clock=ManualClock(EVENING)) as at:
        for title in titles:
            await at.outbox.tell(draft(title))
        await at.until_states(**dict.fromkeys(titles, "deferred"))
        rows = await at.rows(S.DEFERRED)
        # As the crash leaves it: the digest is stored, one of them is merged.
        await at.stores.notices.queue(
            [replace(rows[0], id="n_" + "0" * 26, key=f"digest:{rows[0].due.isoformat()}", title="D", state=S.QUEUED)],
            at.clock.now(),
        )
        await at.stores.notices.move(replace(rows[0], state=S.MERGED), at.clock.now())
        await at.clock.advance(8.1 * 3600)
        await at.until(lambda: phone.titles == ["D"])
        await at.until_states(**dict.fromkeys(titles, "merged"), D="delivered")
        assert phone.titles == ["D"]


async def test_an_answered_question_is_dropped_not_delivered_in_the_morning(tmp_path: Path) -> None:
    phone = Screen("ntfy")
    async with desk(tmp_path, phone, quiet=NIGHT, clock=ManualClock(EVENING)) as at:
        approval = await _open_approval(at)
        await at.outbox.tell(draft("question", Severity.HIGH, cause=approval.id))
        await at.outbox.tell(draft("a"))
        await at.until_states(question="deferred", a="deferred")
        await at.stores.approvals.answer(approval.code, ApprovalState.DENIED, channel="socket", now=at.clock.now())
        await at.advance(8.1 * 3600, lambda: phone.titles == ["a"])
        await at.until_states(question="stale", a="delivered")


async def _open_approval(at: Desk) -> Approval:
    now, arguments = at.clock.now(), {"path": ".env"}
    run = Run(
        id="r_" + "1" * 26, state=RunState.QUEUED, goal="g", workspace="w", trigger="owner", decision=None, level=1,
        taint=Tier.OWNER, created=now,
    )  # fmt: skip
    call = Call(
        id="c_" + "1" * 26, run=run.id, turn=1, position=0, tool="read", arguments=arguments,
        hash=call_hash("read", arguments), state=CallState.REQUESTED, requested_at=now, effect=False,
    )  # fmt: skip
    approval = Approval(
        id="a_" + "1" * 26, code="bcdfg", state=ApprovalState.OPEN, run=run.id, call=call.id, workspace="w",
        hash="h", question="Read .env?", rule="secret", created=now, expires=now + timedelta(days=1),
    )  # fmt: skip
    decision = Decision(
        id="d_" + "1" * 26, workspace="w", tier=Tier.OWNER, verdict=Verdict.ACT, reason="owner asked", goal="g",
        confidence=100, price=0, next_wake=None, events=(), run=run.id, notice=None, fingerprint="", source="owner",
        shadow=False, asked_at=now, concluded_at=now,
    )  # fmt: skip
    await at.stores.events.add_direct(Draft("owner", "message", "k", Tier.OWNER, "w"), run, decision=decision, now=now)
    started = await at.stores.runs.start(run.id, now)
    assert started is not None
    await at.stores.runs.call(call, now)
    await at.stores.runs.park(started, ParkedOn.APPROVAL, approval=approval, notices=[], now=now)
    return approval


async def _interrupted(folder: Path, *, tries: int = 1) -> None:
    """Leaves a row as a crash in the middle of an attempt does."""
    async with desk(folder, Screen("ntfy"), run=False) as at:
        rows = at.outbox.address(draft("a"))
        await at.stores.notices.queue(rows, at.clock.now())
        await at.stores.notices.move(replace(rows[0], state=S.ATTEMPTING, tries=tries), at.clock.now())


async def test_after_a_crash_what_arrived_is_not_sent_again(tmp_path: Path) -> None:
    await _interrupted(tmp_path)
    phone = Screen("ntfy", has=True)
    async with desk(tmp_path, phone) as at:
        await at.until_states(a="delivered")
        assert phone.seen == []


async def test_after_a_crash_what_did_not_arrive_is_sent_once_as_it_is(tmp_path: Path) -> None:
    await _interrupted(tmp_path)
    phone = Screen("ntfy", has=False)
    async with desk(tmp_path, phone) as at:
        await at.until_states(a="delivered")
        assert [(row.id, row.body) for row in phone.seen] == [((await at.rows())[0].id, "body of a")]


async def test_after_a_crash_a_screen_that_cannot_tell_gets_it_again_and_it_says_so(tmp_path: Path) -> None:
    await _interrupted(tmp_path)
    phone = Screen("ntfy", has=NotifierError("no list"))
    async with desk(tmp_path, phone) as at:
        await at.until_states(a="delivered")
        assert [row.body for row in phone.seen] == ["body of a" + TWICE]


async def test_a_notice_that_crashes_the_daemon_each_time_is_buried(tmp_path: Path) -> None:
    await _interrupted(tmp_path, tries=MAX_TRIES)
    phone = Screen("ntfy")
    async with desk(tmp_path, phone) as at:
        await at.until_states(a="dead")
        assert phone.seen == []


async def test_an_attempt_whose_answer_was_lost_is_not_repeated(tmp_path: Path) -> None:
    phone = Screen("ntfy", errors=[NotifierError("the answer never came")], has=True)
    async with desk(tmp_path, phone) as at:
        await at.outbox.tell(draft("a"))
        await at.until_states(a="failed")
        await at.clock.advance(31)
        await at.until_states(a="delivered")
        assert phone.seen == []
