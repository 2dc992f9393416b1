"""The promises of `ports/stores.py`, kept by the real stores on a real SQLite file."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.fakes import ManualClock, settle

from kairosd.core.budget import DAY, DEFAULT_CAPS, HOUR, Amount, Breach, Cap, Order, Purse, caps
from kairosd.core.decisions import Decision, Verdict
from kairosd.core.events import Draft, EventState, Tier
from kairosd.core.ids import mint
from kairosd.core.journal import Note
from kairosd.core.messages import Usage
from kairosd.core.notices import Notice, NoticeState, Severity
from kairosd.core.runs import (
    Approval,
    ApprovalState,
    Call,
    CallState,
    Grant,
    GrantState,
    ParkedOn,
    Run,
    RunState,
    call_hash,
)
from kairosd.core.workspaces import World
from kairosd.errors import AmbiguousIdError, DiskFullError, NotFoundError, StoreError, TransitionError, UsageError
from kairosd.ports.stores import Query
from kairosd.store.assembly import OpenStores, open_stores
from kairosd.store.database import Unit
from kairosd.store.journal_files import read_lines, verify
from kairosd.store.migrate import migrate

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
WIDE = DEFAULT_CAPS[Purse.TICK]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database at head, migrated once and copied for each test."""
    path = tmp_path_factory.mktemp("migrated") / "kairos.db"
    migrate(path)
    return path


@pytest.fixture
async def opened(tmp_path: Path, migrated: Path) -> AsyncIterator[OpenStores]:
    shutil.copy(migrated, tmp_path / "kairos.db")
    found = open_at(tmp_path)
    yield found
    await found.close()


def open_at(folder: Path) -> OpenStores:
    found = open_stores(
        folder / "kairos.db", folder / "journal", transcripts_folder=folder / "transcripts", clock=ManualClock(NOW)
    )
    found.start()
    return found


def draft(key: str, **more: object) -> Draft:
    values = {"source": "files", "kind": "changed", "key": key, "tier": Tier.LOCAL, "workspace": "app", **more}
    return Draft(**values)  # type: ignore[arg-type]


def decision(*events: str, **more: object) -> Decision:
    values: dict[str, object] = {
        "id": mint("d", NOW), "workspace": "app", "tier": Tier.LOCAL, "verdict": Verdict.ASKED, "reason": "",
        "goal": "", "confidence": 0, "price": None, "next_wake": None, "events": events, "run": None, "notice": None,
        "fingerprint": "f", "source": "files", "shadow": False, "asked_at": NOW,
    }  # fmt: skip
    return Decision(**{**values, **more})  # type: ignore[arg-type]


def new_run(**more: object) -> Run:
    values: dict[str, object] = {
        "id": mint("r", NOW), "state": RunState.QUEUED, "goal": "tidy up", "workspace": "app", "trigger": "files",
        "decision": None, "level": 1, "taint": Tier.LOCAL, "created": NOW,
    }  # fmt: skip
    return Run(**{**values, **more})  # type: ignore[arg-type]


def new_call(run: Run, *, position: int = 0, effect: bool = True) -> Call:
    return Call(
        id=mint("c", NOW), run=run.id, turn=1, position=position, tool="write", arguments={"path": "a.txt"},
        hash=call_hash("write", {"path": "a.txt"}), state=CallState.REQUESTED, requested_at=NOW, effect=effect,
    )  # fmt: skip


def question(call: Call, code: str = "bcdfg") -> Approval:
    return Approval(
        id=mint("a", NOW), code=code, state=ApprovalState.OPEN, run=call.run, call=call.id, workspace="app", hash="h",
        question="write a.txt?", rule="protected path", created=NOW, expires=NOW + timedelta(hours=1),
    )  # fmt: skip


def notice(key: str, channel: str = "ntfy", **more: object) -> Notice:
    values: dict[str, object] = {
        "id": mint("n", NOW), "key": key, "channel": channel, "title": "t", "body": "b", "severity": Severity.NORMAL,
        "state": NoticeState.QUEUED, "created": NOW, "due": NOW,
    }  # fmt: skip
    return Notice(**{**values, **more})  # type: ignore[arg-type]


async def queued_run(opened: OpenStores, **more: object) -> Run:
    """A run as the owner's word makes it."""
    run = new_run(**more)
    made = decision(verdict=Verdict.ACT)
    await opened.stores.events.add_direct(
        draft(run.id, source="owner"), replace(run, decision=made.id), decision=made, now=NOW
    )
    return await opened.stores.runs.get(run.id)


async def running_run(opened: OpenStores, **more: object) -> Run:
    run = await queued_run(opened, **more)
    started = await opened.stores.runs.start(run.id, NOW)
    assert started is not None
    return started


async def parked_run(opened: OpenStores, code: str = "bcdfg") -> tuple[Run, Call, Approval]:
    run = await running_run(opened)
    call = new_call(run)
    await opened.stores.runs.call(call, NOW)
    approval = question(call, code)
    await opened.stores.runs.park(
        run, ParkedOn.APPROVAL, approval=approval, notices=[notice(f"approval:{approval.id}")], now=NOW
    )
    return run, call, approval


async def journal(opened: OpenStores) -> list[Mapping[str, object]]:
    await opened.journal.drain()
    folder = opened.journal._folder
    assert verify(folder).problem is None
    return list(read_lines(folder))


async def kinds(opened: OpenStores) -> list[object]:
    return [line["kind"] for line in await journal(opened)]


async def together(opened: OpenStores, *writes: Awaitable[object]) -> list[object]:
    """Holds the writer until all `writes` wait for it, so that they share one commit."""
    entered, gate = threading.Event(), threading.Event()

    def hold(unit: Unit) -> None:
        entered.set()
        gate.wait(30)

    held = asyncio.get_running_loop().create_task(opened.database.write(hold))
    while not entered.is_set():
        await asyncio.sleep(0.001)
    waiting = asyncio.gather(*writes, return_exceptions=True)
    await settle()
    gate.set()
    await held
    return await waiting


class TestInbox:
    async def test_an_event_is_stored_once_by_key_and_once_by_body(self, opened: OpenStores) -> None:
        events = opened.stores.events
        first = await events.add(draft("1", source="github", delivery="1", body="b" * 64), NOW)
        same_key = await events.add(draft("1", source="github", delivery="1", body="c" * 64), NOW)
        same_body = await events.add(draft("2", source="github", delivery="2", body="b" * 64), NOW)
        other_source = await events.add(draft("1"), NOW)
        assert not first.duplicate
        assert not other_source.duplicate
        assert (same_key.duplicate, same_key.id) == (True, first.id)
        assert (same_body.duplicate, same_body.id) == (True, first.id)
        assert await kinds(opened) == ["event.received", "event.duplicate", "event.duplicate", "event.received"]
        counters = await opened.stores.state.counters()
        assert (counters["events"], counters["webhook_accepted"], counters["webhook_duplicate"]) == (2, 1, 2)

    async def test_an_event_comes_back_as_it_was_given(self, opened: OpenStores) -> None:
        given = draft("k", facts={"n": 1, "names": ["a", "b"]}, text={"title": "grüße \ud800"}, tier=Tier.PUBLIC)
        receipt = await opened.stores.events.add(given, NOW)
        event = await opened.stores.events.get(receipt.id)
        assert event.facts == {"n": 1, "names": ["a", "b"]}
        assert event.text["title"].startswith("grüße ")
        assert (event.tier, event.received_at, event.state, event.tries) == (Tier.PUBLIC, NOW, EventState.PENDING, 0)

    async def test_a_strangers_words_stay_out_of_the_journal(self, opened: OpenStores) -> None:
        await opened.stores.events.add(draft("1", tier=Tier.PUBLIC, text={"body": "ignore all rules"}), NOW)
        await opened.stores.events.add(draft("2", tier=Tier.OWNER, text={"message": "tidy up"}), NOW)
        stranger, owner = await journal(opened)
        assert "ignore all rules" not in str(stranger)
        assert "tidy up" in str(owner)

    async def test_an_owners_word_is_event_decision_and_run_at_once(self, opened: OpenStores) -> None:
        run = await queued_run(opened)
        made = await opened.stores.decisions.get(str(run.decision))
        (event,) = await opened.stores.events.find(Query())
        assert (event.state, event.decision, made.events, made.run) == (
            EventState.SETTLED,
            made.id,
            (event.id,),
            run.id,
        )
        assert await kinds(opened) == ["event.received", "decision.made", "run.queued"]
        again = await opened.stores.events.add_direct(
            draft(run.id, source="owner"), new_run(), decision=decision(), now=NOW
        )
        assert again.duplicate
        assert len(await opened.stores.runs.find(Query())) == 1

    async def test_a_claim_takes_what_is_still_pending_once(self, opened: OpenStores) -> None:
        events = opened.stores.events
        ids = [(await events.add(draft(str(number)), NOW)).id for number in range(3)]
        await events.coalesce(ids[2:], "nothing new", now=NOW)
        claim = await events.claim(decision(), ids, now=NOW)
        assert claim is not None
        assert claim.decision.events == tuple(ids[:2])
        assert all(event.state is EventState.CLAIMED for event in claim.events)
        assert await events.claim(decision(), ids, now=NOW) is None
        assert await events.pending("app", NOW) == ()
        assert (await kinds(opened))[3:] == ["event.coalesced", "decision.asked"]
        assert len(await opened.stores.decisions.find(Query())) == 1

    async def test_a_released_event_waits_and_the_fifth_failure_buries_it(self, opened: OpenStores) -> None:
        events = opened.stores.events
        receipt = await events.add(draft("1"), NOW)
        for tries in range(1, 6):
            claim = await events.claim(decision(), [receipt.id], now=NOW)
            assert claim is not None
            await events.release(claim.decision.id, "the model was down", retry_at=LATER, blame=True)
            event = await events.get(receipt.id)
            assert (event.tries, event.error) == (tries, "the model was down")
            if tries < 5:
                assert event.state is EventState.PENDING
                assert event.decision is None
                assert await events.pending("app", NOW) == ()
                assert await events.next_due("app", NOW) == LATER
                assert [due.id for due in await events.pending("app", LATER)] == [receipt.id]
        assert event.state is EventState.DEAD
        assert event.decision == claim.decision.id
        assert (await opened.stores.decisions.get(claim.decision.id)).verdict is Verdict.UNUSABLE
        revived = await events.retry(receipt.id, NOW)
        assert (revived.state, revived.tries, revived.error) == (EventState.PENDING, 0, None)
        with pytest.raises(TransitionError):
            await events.retry(receipt.id, NOW)
        assert (await kinds(opened))[-3:] == ["decision.made", "event.dead", "event.retried"]

    async def test_a_release_without_blame_costs_no_try(self, opened: OpenStores) -> None:
        receipt = await opened.stores.events.add(draft("1"), NOW)
        claim = await opened.stores.events.claim(decision(), [receipt.id], now=NOW)
        assert claim is not None
        await opened.stores.events.release(claim.decision.id, "busy", retry_at=LATER, blame=False)
        assert (await opened.stores.events.get(receipt.id)).tries == 0
        with pytest.raises(TransitionError):
            await opened.stores.events.release(claim.decision.id, "busy", retry_at=LATER, blame=False)

    async def test_a_start_gives_back_what_was_claimed(self, opened: OpenStores) -> None:
        receipt = await opened.stores.events.add(draft("1"), NOW)
        claim = await opened.stores.events.claim(decision(), [receipt.id], now=NOW)
        assert claim is not None
        assert await opened.stores.events.recover(NOW) == 1
        assert await opened.stores.events.recover(NOW) == 0
        (event,) = await opened.stores.events.pending("app", NOW)
        assert event.tries == 1
        assert (await opened.stores.decisions.get(claim.decision.id)).verdict is Verdict.UNUSABLE

    async def test_events_of_no_workspace_are_a_queue_of_their_own(self, opened: OpenStores) -> None:
        await opened.stores.events.add(draft("1", workspace=None), NOW)
        await opened.stores.events.add(draft("2"), NOW)
        assert [event.key for event in await opened.stores.events.pending(None, NOW)] == ["1"]
        assert [event.key for event in await opened.stores.events.pending("app", NOW)] == ["2"]

    async def test_ids_may_be_shortened_while_they_are_unique(self, opened: OpenStores) -> None:
        receipt = await opened.stores.events.add(draft("1"), NOW)
        await opened.stores.events.add(draft("2"), NOW)
        assert (await opened.stores.events.get(receipt.id[:-1].upper())).id == receipt.id
        with pytest.raises(AmbiguousIdError):
            await opened.stores.events.get("e_")
        for unknown in ("e_zzzz", "", "%"):
            with pytest.raises(NotFoundError):
                await opened.stores.events.get(unknown)

    async def test_a_listing_is_newest_first_and_filtered(self, opened: OpenStores) -> None:
        for number in range(4):
            await opened.stores.events.add(draft(str(number)), NOW + timedelta(seconds=number))
        find = opened.stores.events.find
        assert [event.key for event in await find(Query(limit=2))] == ["3", "2"]
        assert [event.key for event in await find(Query(since=NOW + timedelta(seconds=3)))] == ["3"]
        assert await find(Query(state="dead")) == ()
        assert await find(Query(state="nonsense")) == ()
        assert await find(Query(workspace="other")) == ()


class TestDecisions:
    async def test_a_conclusion_is_verdict_events_run_notice_and_world_at_once(self, opened: OpenStores) -> None:
        stores = opened.stores
        receipt = await stores.events.add(draft("1"), NOW)
        claim = await stores.events.claim(decision(), [receipt.id], now=NOW)
        assert claim is not None
        run = new_run(decision=claim.decision.id)
        made = replace(claim.decision, verdict=Verdict.ACT, goal="tidy up", reason="it is untidy", next_wake=LATER)
        world = World("app", fingerprint="f2")
        await stores.decisions.conclude(made, world, run=run, notices=[notice("n")], now=NOW)
        stored = await stores.decisions.get(made.id)
        assert (stored.verdict, stored.run, stored.next_wake) == (Verdict.ACT, run.id, LATER)
        assert (await stores.events.get(receipt.id)).state is EventState.SETTLED
        assert [queued.id for queued in await stores.runs.queued()] == [run.id]
        assert await stores.worlds.get("app") == world
        assert len(await stores.notices.find(Query())) == 1
        assert (await kinds(opened))[2:] == ["decision.made", "run.queued", "notice.queued"]

    async def test_a_second_conclusion_changes_nothing(self, opened: OpenStores) -> None:
        stores = opened.stores
        receipt = await stores.events.add(draft("1"), NOW)
        claim = await stores.events.claim(decision(), [receipt.id], now=NOW)
        assert claim is not None
        ignored = replace(claim.decision, verdict=Verdict.IGNORE)
        await stores.decisions.conclude(ignored, None, run=None, notices=(), now=NOW)
        before = await kinds(opened)
        acted = replace(claim.decision, verdict=Verdict.ACT)
        with pytest.raises(TransitionError):
            await stores.decisions.conclude(acted, None, run=new_run(), notices=[notice("n")], now=NOW)
        assert (await stores.decisions.get(ignored.id)).verdict is Verdict.IGNORE
        assert await stores.runs.queued() == ()
        assert await stores.notices.find(Query()) == ()
        assert await kinds(opened) == before


class TestRuns:
    async def test_one_run_at_a_time_holds_a_workspace(self, opened: OpenStores) -> None:
        first, second = await queued_run(opened), await queued_run(opened)
        elsewhere = await queued_run(opened, workspace="other")
        started = await opened.stores.runs.start(first.id, NOW)
        assert started is not None
        assert (started.state, started.started) == (RunState.RUNNING, NOW)
        assert await opened.stores.runs.start(second.id, NOW) is None
        assert await opened.stores.runs.start(first.id, NOW) is None
        assert await opened.stores.runs.start(elsewhere.id, NOW) is not None

    async def test_the_database_itself_refuses_a_second_running_run(self, opened: OpenStores) -> None:
        await running_run(opened)
        rival = await queued_run(opened)

        def force(unit: Unit) -> None:
            unit.execute(text("UPDATE runs SET state = 'running' WHERE id = :id"), {"id": rival.id})

        with pytest.raises(StoreError):
            await opened.database.write(force)

    async def test_update_keeps_the_counters_and_not_the_state(self, opened: OpenStores) -> None:
        run = await running_run(opened)
        changed = replace(run, turns=3, tokens=70, price=None, taint=Tier.PUBLIC, base="abc", state=RunState.DONE)
        await opened.stores.runs.update(changed)
        assert await opened.stores.runs.get(run.id) == replace(changed, state=RunState.RUNNING)

    async def test_a_parked_run_waits_for_its_answer(self, opened: OpenStores) -> None:
        run, call, approval = await parked_run(opened)
        parked = await opened.stores.runs.get(run.id)
        assert (parked.state, parked.parked_on) == (RunState.PARKED, ParkedOn.APPROVAL)
        stored_call = await opened.stores.runs.get_call(call.id)
        assert (stored_call.state, stored_call.rule) == (CallState.PARKED, "protected path")
        answered = await opened.stores.approvals.answer("BcDfG", ApprovalState.APPROVED, channel="socket", now=LATER)
        assert (answered.id, answered.channel, answered.answered_at) == (approval.id, "socket", LATER)
        assert (await opened.stores.runs.get(run.id)).state is RunState.QUEUED
        resumed = await opened.stores.runs.start(run.id, LATER)
        assert resumed is not None
        assert resumed.started == NOW
        assert (await kinds(opened))[3:] == [
            "run.started", "run.parked", "approval.opened", "call.parked", "notice.queued", "approval.answered",
            "run.requeued", "run.started",
        ]  # fmt: skip

    async def test_a_call_may_be_asked_about_again(self, opened: OpenStores) -> None:
        run, call, approval = await parked_run(opened)
        approvals = opened.stores.approvals
        await approvals.answer(approval.id, ApprovalState.APPROVED, channel="socket", now=NOW)
        await approvals.move(approval.id, ApprovalState.STALE, now=NOW)
        started = await opened.stores.runs.start(run.id, NOW)
        assert started is not None
        second = question(call, "vwxzb")
        await opened.stores.runs.park(started, ParkedOn.APPROVAL, approval=second, notices=(), now=NOW)
        assert await approvals.of_call(call.id) == second
        assert [one.id for one in await approvals.of_run(run.id)] == [second.id, approval.id]

    async def test_a_question_about_the_run_itself_names_no_call(self, opened: OpenStores) -> None:
        run = await running_run(opened)
        about = replace(question(new_call(run)), call="")
        await opened.stores.runs.park(run, ParkedOn.OWNER, approval=about, notices=(), now=NOW)
        assert await opened.stores.approvals.of_run(run.id) == (about,)

    async def test_the_end_withdraws_what_was_still_asked(self, opened: OpenStores) -> None:
        run, _, approval = await parked_run(opened)
        ended = replace(run, state=RunState.CANCELLED, result="stopped by the owner")
        await opened.stores.runs.end(ended, [notice("run")], now=LATER)
        stored = await opened.stores.runs.get(run.id)
        assert (stored.state, stored.ended, stored.parked_on) == (RunState.CANCELLED, LATER, None)
        assert (await opened.stores.approvals.get(approval.code)).state is ApprovalState.WITHDRAWN
        assert (await kinds(opened))[-3:] == ["run.ended", "approval.withdrawn", "notice.queued"]
        with pytest.raises(TransitionError):
            await opened.stores.approvals.answer(approval.code, ApprovalState.APPROVED, channel="socket", now=LATER)

    async def test_a_start_finds_what_was_interrupted(self, opened: OpenStores) -> None:
        run = await running_run(opened)
        for _ in range(2):
            (found,) = await opened.stores.runs.interrupt_running(LATER)
            assert (found.id, found.state) == (run.id, RunState.INTERRUPTED)
        await opened.stores.runs.requeue(run.id, "Kairos was restarted", now=LATER)
        assert [one.id for one in await opened.stores.runs.queued()] == [run.id]
        assert (await kinds(opened))[-2:] == ["run.interrupted", "run.requeued"]

    async def test_calls_come_back_in_the_order_of_their_turn(self, opened: OpenStores) -> None:
        run = await running_run(opened)
        second, first = new_call(run, position=1), new_call(run)
        for call in (second, first):
            await opened.stores.runs.call(call, NOW)
        assert [call.id for call in await opened.stores.runs.calls(run.id)] == [first.id, second.id]

    async def test_a_read_only_call_may_be_written_with_its_outcome(self, opened: OpenStores) -> None:
        run = await running_run(opened)
        call = replace(new_call(run, effect=False), result="secret content of a file")
        moved = await opened.stores.runs.move_call(call, CallState.SUCCEEDED, now=LATER)
        assert await opened.stores.runs.get_call(call.id) == moved
        line = (await journal(opened))[-1]
        assert (line["kind"], line["cause"], line["ws"]) == ("call.succeeded", run.id, "app")
        assert "secret content" not in str(line)


class TestApprovals:
    async def test_an_overdue_question_expires_and_the_run_hears_it(self, opened: OpenStores) -> None:
        run, _, approval = await parked_run(opened)
        assert await opened.stores.approvals.expire(NOW) == ()
        after = approval.expires
        with pytest.raises(TransitionError, match="expired"):
            await opened.stores.approvals.answer(approval.code, ApprovalState.APPROVED, channel="socket", now=after)
        (expired,) = await opened.stores.approvals.expire(after)
        assert expired.state is ApprovalState.EXPIRED
        assert (await opened.stores.runs.get(run.id)).state is RunState.QUEUED
        assert (await kinds(opened))[-2:] == ["approval.expired", "run.requeued"]

    async def test_a_code_names_the_open_question(self, opened: OpenStores) -> None:
        old_run, _, old = await parked_run(opened)
        await opened.stores.approvals.answer(old.code, ApprovalState.DENIED, channel="socket", now=NOW)
        await opened.stores.runs.start(old_run.id, NOW)
        await opened.stores.runs.end(replace(old_run, state=RunState.FAILED), (), now=NOW)
        _, _, new = await parked_run(opened)
        assert (await opened.stores.approvals.get(new.code)).id == new.id
        assert (await opened.stores.approvals.get(old.id)).id == old.id
        with pytest.raises(NotFoundError):
            await opened.stores.approvals.get("zzzzz")

    async def test_two_channels_at_once_are_one_answer(self, opened: OpenStores) -> None:
        run, _, approval = await parked_run(opened)
        store = opened.stores.approvals
        yes = store.answer(approval.code, ApprovalState.APPROVED, channel="socket", now=LATER)
        no = store.answer(approval.code, ApprovalState.DENIED, channel="ntfy", now=LATER)
        answers = await together(opened, no, yes)
        assert [type(one) for one in answers] == [Approval, TransitionError]
        assert (await store.get(approval.id)).channel == "ntfy"
        assert (await kinds(opened)).count("approval.answered") == 1
        assert (await opened.stores.runs.get(run.id)).state is RunState.QUEUED

    async def test_a_withdrawn_question_wakes_its_run_and_takes_no_answer(self, opened: OpenStores) -> None:
        run, _, approval = await parked_run(opened)
        await opened.stores.approvals.withdraw(approval.id, "denied now", now=LATER)
        assert (await opened.stores.runs.get(run.id)).state is RunState.QUEUED
        assert (await kinds(opened))[-2:] == ["approval.withdrawn", "run.requeued"]
        with pytest.raises(TransitionError):
            await opened.stores.approvals.withdraw(approval.id, "again", now=LATER)
        with pytest.raises(TransitionError):
            await opened.stores.approvals.answer(approval.id, ApprovalState.APPROVED, channel="socket", now=LATER)

    async def test_answers_come_newest_first_and_what_expired_is_none(self, opened: OpenStores) -> None:
        store, runs = opened.stores.approvals, opened.stores.runs
        for number, code in enumerate(("bbbbb", "ccccc", "ddddd")):
            run, _, approval = await parked_run(opened, code)
            if number == 1:
                await store.expire(approval.expires)
            else:
                await store.answer(code, ApprovalState.DENIED, channel="socket", now=NOW + timedelta(minutes=number))
            await runs.start(run.id, NOW)
            await runs.end(replace(run, state=RunState.FAILED), (), now=NOW)
        assert [one.code for one in await store.answers(NOW - timedelta(days=1))] == ["ddddd", "bbbbb"]
        assert [one.code for one in await store.answers(NOW)] == ["ddddd"]

    async def test_a_run_that_rests_on_a_question_answered_meanwhile_goes_on(self, opened: OpenStores) -> None:
        run, _, approval = await parked_run(opened)
        await opened.stores.runs.requeue(run.id, "for a test", now=NOW)
        started = await opened.stores.runs.start(run.id, NOW)
        assert started is not None
        await opened.stores.approvals.answer(approval.code, ApprovalState.APPROVED, channel="socket", now=NOW)
        await opened.stores.runs.park(started, ParkedOn.APPROVAL, approval=None, notices=(), now=NOW)
        assert (await opened.stores.runs.get(run.id)).state is RunState.QUEUED


def grant(approval: Approval, **more: object) -> Grant:
    values: dict[str, object] = {
        "id": mint("g", NOW), "state": GrantState.ACTIVE, "workspace": "app", "tool": "write", "exact": "x" * 64,
        "question": "write a.txt?", "taint": Tier.LOCAL, "approval": approval.id, "channel": "socket", "created": NOW,
    }  # fmt: skip
    return Grant(**{**values, **more})  # type: ignore[arg-type]


async def granted(opened: OpenStores, code: str = "bcdfg", **more: object) -> Grant:
    run = await running_run(opened)
    call = new_call(run)
    await opened.stores.runs.call(call, NOW)
    asked = replace(question(call, code), exact="x" * 64, guarded=False)
    await opened.stores.runs.park(run, ParkedOn.APPROVAL, approval=asked, notices=(), now=NOW)
    made = grant(asked, **more)
    await opened.stores.approvals.answer(code, ApprovalState.APPROVED, channel="socket", now=NOW, grant=made)
    await opened.stores.runs.start(run.id, NOW)
    await opened.stores.runs.end(replace(run, state=RunState.FAILED), (), now=NOW)
    return made


class TestGrants:
    async def test_a_grant_comes_with_its_answer_and_is_journalled(self, opened: OpenStores) -> None:
        made = await granted(opened)
        assert await opened.stores.grants.get(made.id[:9]) == made
        assert await opened.stores.grants.find(Query(state="active")) == (made,)
        told = [line for line in await journal(opened) if line["kind"] == "grant.made"]
        assert [(line["id"], line["cause"], line["ws"]) for line in told] == [(made.id, made.approval, "app")]

    async def test_it_is_matched_by_workspace_tool_and_hash_only(self, opened: OpenStores) -> None:
        made, store = await granted(opened), opened.stores.grants
        run = new_run()
        assert await store.match(run, "write", exact="x" * 64) == made
        assert await store.match(replace(run, taint=Tier.OWNER), "write", exact="x" * 64) == made
        assert await store.match(replace(run, taint=Tier.COLLABORATOR), "write", exact="x" * 64) is None
        assert await store.match(replace(run, workspace="lib"), "write", exact="x" * 64) is None
        assert await store.match(run, "edit", exact="x" * 64) is None
        assert await store.match(run, "write", exact="y" * 64) is None

    async def test_uses_are_counted_until_it_is_revoked(self, opened: OpenStores) -> None:
        made, store = await granted(opened), opened.stores.grants
        await store.use(made.id, "c_1", now=LATER)
        used = await store.use(made.id, "c_2", now=LATER)
        assert (used.uses, used.used_at) == (2, LATER)
        await store.revoke(made.id, now=LATER)
        assert await store.match(new_run(), "write", exact="x" * 64) is None
        for again in (store.use(made.id, "c_3", now=LATER), store.revoke(made.id, now=LATER)):
            with pytest.raises(TransitionError):
                await again
        assert (await kinds(opened))[-3:] == ["grant.used", "grant.used", "grant.revoked"]
        with pytest.raises(NotFoundError):
            await store.revoke("g_0000", now=LATER)

    async def test_of_two_for_the_same_call_the_wider_one_stands(self, opened: OpenStores) -> None:
        await granted(opened)
        assert len(await opened.stores.grants.find(Query())) == 1
        narrow = await granted(opened, "ccccc", taint=Tier.OWNER)
        wide = await granted(opened, "ddddd", taint=Tier.COLLABORATOR)
        found = {one.id: one.state for one in await opened.stores.grants.find(Query())}
        assert narrow.id not in found
        assert found[wide.id] is GrantState.ACTIVE
        assert sorted(found.values()) == [GrantState.ACTIVE, GrantState.REVOKED]

    async def test_no_grant_without_a_yes_to_exactly_that(self, opened: OpenStores) -> None:
        _, _, approval = await parked_run(opened)
        for verdict, made in (
            (ApprovalState.APPROVED, grant(approval)), (ApprovalState.DENIED, grant(approval, exact="")),
        ):  # fmt: skip
            with pytest.raises(TransitionError, match="for always"):
                await opened.stores.approvals.answer(approval.code, verdict, channel="socket", now=NOW, grant=made)
        assert (await opened.stores.approvals.get(approval.id)).state is ApprovalState.OPEN
        assert await opened.stores.grants.find(Query()) == ()


class TestNotices:
    async def test_a_key_is_told_once_a_channel(self, opened: OpenStores) -> None:
        await opened.stores.notices.queue([notice("k"), notice("k"), notice("k", "desktop")], NOW)
        await opened.stores.notices.queue([notice("k")], LATER)
        assert [one.channel for one in await opened.stores.notices.find(Query())] == ["desktop", "ntfy"]
        assert await kinds(opened) == ["notice.queued"] * 2

    async def test_a_notice_moves_to_its_receipt(self, opened: OpenStores) -> None:
        late = notice("late", due=LATER)
        await opened.stores.notices.queue([late], NOW)
        assert await opened.stores.notices.find(Query(state="queued")) == (late,)
        await opened.stores.notices.move(replace(late, state=NoticeState.ATTEMPTING, tries=1), LATER)
        assert await opened.stores.notices.find(Query(state="queued")) == ()
        (attempting,) = await opened.stores.notices.recover(LATER)
        delivered = replace(attempting, state=NoticeState.DELIVERED, receipt="id 7", delivered_at=LATER)
        await opened.stores.notices.move(delivered, LATER)
        assert await opened.stores.notices.get(late.id) == delivered
        counters = await opened.stores.state.counters()
        assert (counters["notices_queued"], counters["notices_delivered"]) == (0, 1)


class TestBooks:
    async def test_every_model_call_is_settled_once(self, opened: OpenStores) -> None:
        calls = opened.stores.model_calls
        order = Order("d_1", "decide", "m", purse="tick", worst=Amount(90, 50))
        first = await calls.reserve(order, WIDE, now=NOW)
        assert isinstance(first, int)
        await calls.reserve(order, WIDE, now=NOW)
        await calls.settle(first, Usage(10, 5, 1, 2), price=42, outcome="ok", now=LATER)
        with pytest.raises(TransitionError):
            await calls.settle(first, Usage(), price=None, outcome="ok", now=LATER)
        assert await calls.recover(LATER) == 1
        assert await calls.recover(LATER) == 0
        ok, lost = await calls.of("d_1")
        assert (ok["outcome"], ok["price"], ok["input"], ok["cache_write"]) == ("ok", 42, 10, 2)
        assert (lost["outcome"], lost["price"]) == ("lost", 90)
        assert await kinds(opened) == ["model.call", "model.call"]

    async def test_what_a_call_may_take_is_held_and_the_rest_given_back(self, opened: OpenStores) -> None:
        calls, tight = opened.stores.model_calls, caps((100, 1000), (150, 1000))
        big = Order("r_1", "act", "m", purse="tick", worst=Amount(60, 10))
        first = await calls.reserve(big, tight, now=NOW)
        assert isinstance(first, int)
        refused = await calls.reserve(big, tight, now=NOW)
        assert isinstance(refused, Breach)
        assert (refused.cap.span, refused.used, refused.need) == (HOUR, Amount(60, 10), Amount(60, 10))
        assert refused.frees_at == NOW + HOUR
        assert await calls.breach(big, tight, now=NOW) == refused
        other = replace(big, purse="owner")
        assert isinstance(await calls.reserve(other, tight, now=NOW), int)
        await calls.settle(first, Usage(5, 1), price=40, outcome="ok", now=NOW)
        assert isinstance(await calls.reserve(big, tight, now=NOW), int)
        (hour, _) = (await calls.used({"tick": tight}, NOW))["tick"]
        assert (hour.spent, hour.reserved) == (Amount(40, 6), Amount(60, 10))

    async def test_a_window_rolls_and_one_under_way_counts_however_old(self, opened: OpenStores) -> None:
        calls, tight = opened.stores.model_calls, caps((100, 1000), (190, 1000))
        order = Order("r_1", "act", "m", purse="tick", worst=Amount(60, 10))
        first = await calls.reserve(order, tight, now=NOW)
        assert isinstance(first, int)
        assert isinstance(await calls.reserve(order, tight, now=NOW + 3 * HOUR), Breach)
        await calls.settle(first, Usage(1, 1), price=60, outcome="ok", now=NOW + 3 * HOUR)
        assert isinstance(await calls.reserve(order, tight, now=NOW + 4 * HOUR - timedelta(seconds=1)), Breach)
        # Set back by less than a window the clock gives nothing away; by more, it blocks nothing for ever.
        assert isinstance(await calls.reserve(order, tight, now=NOW + 2 * HOUR + timedelta(seconds=1)), Breach)
        assert await calls.breach(order, tight, now=NOW - DAY) is None
        for hours in (4, 5):
            number = await calls.reserve(order, tight, now=NOW + hours * HOUR)
            assert isinstance(number, int)
            await calls.settle(number, Usage(1, 1), price=60, outcome="ok", now=NOW + hours * HOUR)
        refused = await calls.reserve(order, tight, now=NOW + 6 * HOUR)
        assert isinstance(refused, Breach)
        assert (refused.cap.span, refused.frees_at) == (DAY, NOW + 3 * HOUR + DAY)

    async def test_tokens_count_alone_where_no_price_is_known(self, opened: OpenStores) -> None:
        calls, tight = opened.stores.model_calls, caps((0, 100), (0, 100))
        order = Order("r_1", "act", "m", purse="tick", worst=Amount(None, 60))
        first = await calls.reserve(order, tight, now=NOW)
        assert isinstance(first, int)
        refused = await calls.reserve(order, tight, now=NOW)
        assert isinstance(refused, Breach)
        assert not refused.by_money
        await calls.settle(first, Usage(), price=None, outcome="ok", now=NOW)  # nobody counted: it stays as reserved
        assert isinstance(await calls.reserve(order, tight, now=NOW), Breach)
        (row,) = await calls.of("r_1")
        assert (row["price"], row["charged_price"], row["charged_tokens"]) == (None, None, 60)

    async def test_an_allowance_is_a_purse_without_a_window(self, opened: OpenStores) -> None:
        calls, once = opened.stores.model_calls, (Cap(None, 100, 100),)
        order = Order("r_1", "act", "m", purse="a_1", worst=Amount(60, 10))
        assert isinstance(await calls.reserve(order, once, now=NOW), int)
        refused = await calls.reserve(order, once, now=NOW + 1000 * DAY)
        assert isinstance(refused, Breach)
        assert refused.frees_at is None

    async def test_callers_at_once_do_not_share_the_same_room(self, opened: OpenStores) -> None:
        order = Order("r_1", "act", "m", purse="tick", worst=Amount(30, 10))
        tight = caps((100, 1000), (100, 1000))
        made = await asyncio.gather(*(opened.stores.model_calls.reserve(order, tight, now=NOW) for _ in range(16)))
        assert sum(isinstance(one, int) for one in made) == 3

    async def test_costs_are_summed_up_by_what_was_asked(self, opened: OpenStores) -> None:
        calls, stores = opened.stores.model_calls, opened.stores
        run, *_ = await parked_run(opened)
        decision = (await stores.decisions.find(Query()))[0].id

        async def call(cause: str, model: str, price: int | None, *, at: datetime) -> None:
            order = Order(cause, "act", model, purse="file", worst=Amount(price, 500))
            number = await calls.reserve(order, WIDE, now=at)
            assert isinstance(number, int)
            await calls.settle(number, Usage(10, 5, 100, 1), price=price, outcome="ok", now=at)

        await call(decision, "quick", 7, at=NOW)
        await call(run.id, "strong", 50, at=NOW)
        await call(run.id, "unheard-of", None, at=NOW + 2 * DAY)
        await call("d_gone", "quick", 3, at=NOW - DAY)
        await calls.reserve(Order(run.id, "act", "strong", "file", worst=Amount(9, 9)), WIDE, now=NOW)

        async def shown(by: str, since: datetime = NOW) -> list[tuple[str, int, int | None]]:
            return [(row.key, row.calls, row.price) for row in await calls.costs(by, since=since, limit=10)]

        days = [f"{(NOW + number * DAY).astimezone():%Y-%m-%d}" for number in (0, 2)]
        assert await shown("day") == [(days[1], 1, None), (days[0], 2, 57)]
        assert await shown("model") == [("strong", 1, 50), ("quick", 1, 7), ("unheard-of", 1, None)]
        assert await shown("model", NOW - DAY) == [("strong", 1, 50), ("quick", 2, 10), ("unheard-of", 1, None)]
        assert await shown("run") == [(run.id, 3, 57)]
        assert await shown("workspace", NOW - DAY) == [("app", 3, 57), ("", 1, 3)]
        assert [key for key, _, _ in await shown("trigger", NOW - DAY)] == [run.trigger, "file"]
        (row,) = await calls.costs("run", since=NOW, limit=10)
        assert (row.label, row.input, row.cache_read, row.unpriced_calls, row.unpriced_tokens) == (
            run.goal,
            30,
            300,
            1,
            116,
        )
        with pytest.raises(UsageError):
            await calls.costs("mood", since=NOW, limit=10)

    async def test_facts_about_the_daemon_are_kept(self, opened: OpenStores) -> None:
        state = opened.stores.state
        assert await state.get("paused") is None
        await state.put("paused", {"since": "now", "by": "owner"}, note=Note("daemon.paused"), now=NOW)
        await state.put("paused", False, note=None, now=NOW)
        await state.note(Note("daemon.started"), NOW)
        await state.touch(NOW)
        assert await state.get("paused") is False
        assert await kinds(opened) == ["daemon.paused", "daemon.started"]

    async def test_a_world_is_replaced(self, opened: OpenStores) -> None:
        worlds = opened.stores.worlds
        assert await worlds.get("app") is None
        await worlds.put(World("app", "1"), Note("workspace.looked", workspace="app"), now=NOW)
        await worlds.put(World("app", "2", next_wake="x"), None, now=NOW)
        assert await worlds.get("app") == World("app", "2", next_wake="x")

    async def test_status_counts_what_there_is(self, opened: OpenStores) -> None:
        run, call, _ = await parked_run(opened)
        await opened.stores.events.add(draft("1"), NOW)
        await opened.stores.runs.move_call(call, CallState.DENIED, now=NOW)
        counters = await opened.stores.state.counters()
        wanted = {"events": 2, "decisions": 1, "runs": 1, "tool_calls": 1, "denied": 1, "pending": 1, "parked": 1}
        assert {name: counters[name] for name in wanted} == wanted


class TestTranscripts:
    async def test_entries_come_back_verbatim_and_in_order(self, opened: OpenStores, tmp_path: Path) -> None:
        run = mint("r", NOW)
        entries = ({"role": "user", "text": "line\nbreak\r\u2028"}, {"role": "assistant", "uses": []})
        for entry in entries:
            await opened.stores.transcripts.append(run, entry)
        assert await opened.stores.transcripts.read(run) == entries
        assert (tmp_path / "transcripts" / f"{run}.jsonl").stat().st_mode & 0o777 == 0o600
        assert await opened.stores.transcripts.read(mint("r", NOW)) == ()

    async def test_a_torn_last_line_is_left_out_and_cut(self, opened: OpenStores, tmp_path: Path) -> None:
        run = mint("r", NOW)
        await opened.stores.transcripts.append(run, {"n": 1})
        path = tmp_path / "transcripts" / f"{run}.jsonl"
        with path.open("ab") as file:
            file.write(b'{"n":2,"text":"' + b"x" * 200_000)
        assert await opened.stores.transcripts.read(run) == ({"n": 1},)
        await opened.stores.transcripts.append(run, {"n": 3})
        assert await opened.stores.transcripts.read(run) == ({"n": 1}, {"n": 3})

    async def test_only_a_runs_id_names_a_file(self, opened: OpenStores) -> None:
        with pytest.raises(NotFoundError):
            await opened.stores.transcripts.append("../kairos", {})


class TestGroups:
    async def test_a_poison_request_fails_alone_and_takes_no_number(self, opened: OpenStores) -> None:
        def poison(unit: Unit) -> None:
            unit.execute(text("INSERT INTO state VALUES ('poison', '1', '')"))
            unit.note(Note("poison"), NOW)
            raise ValueError("not today")

        def float_line(unit: Unit) -> None:
            unit.note(Note("poison", data={"x": 0.5}), NOW)  # type: ignore[dict-item]

        add = opened.stores.events.add
        outcomes = await together(
            opened, *(add(draft(f"a{number}"), NOW) for number in range(10)), opened.database.write(poison),
            opened.database.write(float_line), *(add(draft(f"b{number}"), NOW) for number in range(10)),
        )  # fmt: skip
        assert [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [ValueError, ValueError]
        assert len(await opened.stores.events.find(Query())) == 20
        assert await opened.stores.state.get("poison") is None
        assert [line["seq"] for line in await journal(opened)] == list(range(1, 21))

    async def test_a_failed_commit_leaves_nothing_and_the_next_one_works(self, opened: OpenStores) -> None:
        def dangle(unit: Unit) -> None:
            # A deferred foreign key is checked by the COMMIT itself, which therefore fails.
            unit.execute(text("CREATE TABLE parent (id INTEGER PRIMARY KEY)"))
            unit.execute(text("CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"))
            unit.execute(text("INSERT INTO child VALUES (7)"))

        same_group = opened.stores.events.add(draft("same group"), NOW)
        outcomes = await together(opened, opened.database.write(dangle), same_group)
        assert [type(outcome) for outcome in outcomes] == [StoreError, StoreError]
        assert await opened.stores.events.find(Query()) == ()
        await opened.stores.events.add(draft("after"), NOW)
        assert [line["seq"] for line in await journal(opened)] == [1]

    async def test_a_full_disk_is_said_and_recovered_from(self, opened: OpenStores) -> None:
        await opened.stores.events.add(draft("before"), NOW)
        full = await opened.database.write(lambda unit: unit.execute(text("PRAGMA page_count")).scalar_one())
        await opened.database.write(lambda unit: unit.execute(text(f"PRAGMA max_page_count = {full}")).scalar_one())
        big = {"body": "x" * 300_000}
        with pytest.raises(DiskFullError):
            await opened.stores.events.add(draft("too much", text=big), NOW)
        await opened.database.write(lambda unit: unit.execute(text("PRAGMA max_page_count = 100000")).scalar_one())
        await opened.stores.events.add(draft("after", text=big), NOW)
        assert [event.key for event in await opened.stores.events.find(Query())] == ["after", "before"]
        assert [line["seq"] for line in await journal(opened)] == [1, 2]

    async def test_thirty_one_callers_share_one_commit(self, opened: OpenStores) -> None:
        statements: list[str] = []
        await opened.database.write(lambda unit: unit.driver.set_trace_callback(statements.append))
        await together(opened, *(opened.stores.events.add(draft(str(number)), NOW) for number in range(31)))
        # One for the tracing, one for the request that held the writer, one for the thirty-one, perhaps the journal's
        # mark behind them.
        assert 3 <= statements.count("COMMIT") <= 4

    async def test_what_nobody_waits_for_goes_before_the_next_write_and_with_it(self, opened: OpenStores) -> None:
        statements: list[str] = []
        await opened.database.write(lambda unit: unit.driver.set_trace_callback(statements.append))
        await asyncio.sleep(0.05)
        statements.clear()
        soon = opened.database.write_soon(lambda unit: unit.note(Note("soon"), NOW))
        await opened.database.write(lambda unit: unit.note(Note("next"), NOW))
        assert soon.done()
        assert statements.count("COMMIT") == 1
        assert [line["kind"] for line in await journal(opened)] == ["soon", "next"]

    async def test_what_nobody_waits_for_is_written_by_itself_and_fails_alone(self, opened: OpenStores) -> None:
        def poison(unit: Unit) -> None:
            unit.note(Note("poison"), NOW)
            raise ValueError("not today")

        failing = opened.database.write_soon(poison)
        last = opened.database.write_soon(lambda unit: unit.note(Note("soon"), NOW))
        with pytest.raises(ValueError, match="not today"):
            await failing
        await last
        assert [line["kind"] for line in await journal(opened)] == ["soon"]

    async def test_what_nobody_waits_for_is_written_when_the_store_is_closed(self, tmp_path: Path) -> None:
        opened = open_at(tmp_path)
        opened.database.write_soon(lambda unit: unit.execute(text("INSERT INTO state VALUES ('soon', '1', '')")))
        await opened.close()
        with sqlite3.connect(tmp_path / "kairos.db") as connection:
            assert connection.execute("SELECT count(*) FROM state WHERE key = 'soon'").fetchone() == (1,)
        connection.close()

    async def test_a_cancelled_caller_leaves_a_whole_write_or_none(self, opened: OpenStores) -> None:
        task = asyncio.get_running_loop().create_task(opened.stores.events.add(draft("1"), NOW))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await opened.stores.events.add(draft("2"), NOW)
        assert len(await opened.stores.events.find(Query())) == len(await journal(opened))

    async def test_the_reader_cannot_write(self, opened: OpenStores) -> None:
        with pytest.raises(StoreError):
            await opened.database.read(lambda reader: reader.execute(text("DELETE FROM events")).rowcount)

    async def test_a_closed_store_says_so(self, tmp_path: Path) -> None:
        opened = open_at(tmp_path)
        await opened.stores.events.add(draft("1"), NOW)
        await opened.close()
        with pytest.raises(StoreError, match="closed"):
            await opened.stores.events.add(draft("2"), NOW)
        with sqlite3.connect(tmp_path / "kairos.db") as connection:
            assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
        connection.close()
