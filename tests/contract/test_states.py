"""Every transition that design §2 does not name is refused and changes nothing, on the real stores."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.fakes import ManualClock

from kairosd.core.decisions import ANSWERS, Decision, Verdict
from kairosd.core.events import Draft, EventState, Tier
from kairosd.core.ids import mint
from kairosd.core.notices import NOTICE_MOVES, Notice, NoticeState, Severity
from kairosd.core.runs import (
    APPROVAL_MOVES,
    CALL_MOVES,
    ENDED,
    RUN_MOVES,
    Approval,
    ApprovalState,
    Call,
    CallState,
    ParkedOn,
    Run,
    RunState,
)
from kairosd.errors import TransitionError
from kairosd.ports.stores import Stores
from kairosd.store.assembly import OpenStores, open_stores
from kairosd.store.database import Unit
from kairosd.store.migrate import migrate

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TABLES = ("events", "decisions", "runs", "calls", "approvals", "notices", "outbox")


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database at head, migrated once and copied for each test."""
    path = tmp_path_factory.mktemp("migrated") / "kairos.db"
    migrate(path)
    return path


@pytest.fixture
async def opened(tmp_path: Path, migrated: Path) -> AsyncIterator[OpenStores]:
    shutil.copy(migrated, tmp_path / "kairos.db")
    # The journal's writer stays off, so that the outbox shows every line a refused move might have left.
    found = open_stores(
        tmp_path / "kairos.db",
        tmp_path / "journal",
        transcripts_folder=tmp_path / "transcripts",
        clock=ManualClock(NOW),
    )
    found.database.start()
    yield found
    found.database.close(5)
    found.engine.dispose()


@pytest.fixture
def stores(opened: OpenStores) -> Stores:
    return opened.stores


def a_run() -> Run:
    return Run(mint("r", NOW), RunState.QUEUED, "goal", "app", "files", None, 1, Tier.LOCAL, NOW)


def a_decision() -> Decision:
    return Decision(
        mint("d", NOW), "app", Tier.LOCAL, Verdict.ACT, "", "", 0, None, None, (), None, None, "", "owner", False, NOW
    )


async def force(opened: OpenStores, table: str, identifier: str, state: str) -> None:
    """Puts a row into `state`, whatever the rules say."""

    def work(unit: Unit) -> None:
        unit.execute(text(f"UPDATE {table} SET state = :state WHERE id = :id"), {"state": state, "id": identifier})

    await opened.database.write(work)


async def everything(opened: OpenStores) -> list[object]:
    def work(unit: Unit) -> list[object]:
        return [tuple(row) for table in TABLES for row in unit.execute(text(f"SELECT * FROM {table}"))]

    return await opened.database.write(work)


async def check(opened: OpenStores, allowed: bool, move: Callable[[], Awaitable[object]]) -> None:
    before = await everything(opened)
    if allowed:
        await move()
        assert await everything(opened) != before
    else:
        with pytest.raises(TransitionError):
            await move()
        assert await everything(opened) == before


async def in_store(stores: Stores) -> Run:
    run = a_run()
    await stores.events.add_direct(
        Draft("owner", "tell", run.id, Tier.OWNER, "app"), run, decision=a_decision(), now=NOW
    )
    return run


@pytest.mark.parametrize("was", RunState)
async def test_runs(opened: OpenStores, stores: Stores, was: RunState) -> None:
    async def fresh() -> Run:
        run = await in_store(stores)
        # Each run gets a workspace of its own: only one may be running in any.
        move = text("UPDATE runs SET state = :state, workspace = id WHERE id = :id")
        await opened.database.write(lambda unit: unit.execute(move, {"state": was, "id": run.id}).rowcount)
        return await stores.runs.get(run.id)

    moves = RUN_MOVES.get(was, frozenset())
    for state in RunState:
        run = await fresh()
        if state in ENDED:
            target = replace(run, state=state)
            await check(opened, state in moves, lambda target=target: stores.runs.end(target, (), now=NOW))
        elif state is RunState.PARKED:
            await check(
                opened,
                state in moves,
                lambda run=run: stores.runs.park(run, ParkedOn.OWNER, approval=None, notices=(), now=NOW),
            )
        elif state is RunState.QUEUED:
            await check(opened, state in moves, lambda run=run: stores.runs.requeue(run.id, "", now=NOW))
        elif state is RunState.RUNNING:
            started = await stores.runs.start(run.id, NOW)
            assert (started is not None) == (state in moves)
        else:
            await check(
                opened, False, lambda run=run, state=state: stores.runs.end(replace(run, state=state), (), now=NOW)
            )


@pytest.mark.parametrize("was", CallState)
async def test_calls(opened: OpenStores, stores: Stores, was: CallState) -> None:
    run = await in_store(stores)
    moves = CALL_MOVES.get(was, frozenset())
    for state in CallState:
        call = Call(mint("c", NOW), run.id, 1, 0, "write", {}, "", CallState.REQUESTED, NOW, True)
        await stores.runs.call(call, NOW)
        await force(opened, "calls", call.id, was)
        await check(opened, state in moves, lambda call=call, state=state: stores.runs.move_call(call, state, now=NOW))
    # A call that is not on disk yet moves from the state it claims to have.
    unseen = Call(mint("c", NOW), run.id, 1, 0, "write", {}, "", was, NOW, True)
    for state in CallState:
        if state not in moves:
            await check(opened, False, lambda state=state: stores.runs.move_call(unseen, state, now=NOW))
    if was is not CallState.REQUESTED:
        await check(opened, False, lambda: stores.runs.call(unseen, NOW))


@pytest.mark.parametrize("was", ApprovalState)
async def test_approvals(opened: OpenStores, stores: Stores, was: ApprovalState) -> None:
    moves = APPROVAL_MOVES.get(was, frozenset())
    answers, uses = (ApprovalState.APPROVED, ApprovalState.DENIED), (ApprovalState.USED, ApprovalState.STALE)
    for number, state in enumerate(ApprovalState):
        run = await in_store(stores)
        alone = text("UPDATE runs SET workspace = id WHERE id = :id")
        await opened.database.write(lambda unit, run=run, sql=alone: unit.execute(sql, {"id": run.id}).rowcount)
        started = await stores.runs.start(run.id, NOW)
        assert started is not None
        code = f"bcdf{'ghjklmn'[number]}"
        approval = Approval(
            mint("a", NOW), code, ApprovalState.OPEN, run.id, "", "app", "", "?", "", NOW, NOW + timedelta(hours=1)
        )
        await stores.runs.park(started, ParkedOn.APPROVAL, approval=approval, notices=(), now=NOW)
        await force(opened, "approvals", approval.id, was)
        allowed = state in moves
        answer = lambda one=approval, state=state: stores.approvals.answer(one.code, state, channel="socket", now=NOW)  # noqa: E731
        move = lambda one=approval, state=state: stores.approvals.move(one.id, state, now=NOW)  # noqa: E731
        await check(opened, allowed and state in answers, answer)
        if not allowed or state not in answers:
            await check(opened, allowed and state in uses, move)


@pytest.mark.parametrize("was", NoticeState)
async def test_notices(opened: OpenStores, stores: Stores, was: NoticeState) -> None:
    for state in NoticeState:
        notice = Notice(mint("n", NOW), f"{state}", "ntfy", "", "", Severity.LOW, NoticeState.QUEUED, NOW, NOW)
        await stores.notices.queue([notice], NOW)
        await force(opened, "notices", notice.id, was)
        target = replace(notice, state=state)
        allowed = state in NOTICE_MOVES.get(was, frozenset())
        await check(opened, allowed, lambda target=target: stores.notices.move(target, NOW))


@pytest.mark.parametrize("was", EventState)
async def test_events(opened: OpenStores, stores: Stores, was: EventState) -> None:
    receipt = await stores.events.add(Draft("files", "changed", "1", Tier.LOCAL, "app"), NOW)
    await force(opened, "events", receipt.id, was)
    before = await everything(opened)
    if was is not EventState.PENDING:
        claimed = await stores.events.claim(a_decision(), [receipt.id], now=NOW)
        await stores.events.coalesce([receipt.id], "", now=NOW)
        assert claimed is None
        assert await everything(opened) == before
    await check(opened, was is EventState.DEAD, lambda: stores.events.retry(receipt.id, NOW))


@pytest.mark.parametrize("verdict", Verdict)
async def test_decisions(opened: OpenStores, stores: Stores, verdict: Verdict) -> None:
    receipt = await stores.events.add(Draft("files", "changed", "1", Tier.LOCAL, "app"), NOW)
    claim = await stores.events.claim(a_decision(), [receipt.id], now=NOW)
    assert claim is not None
    made = replace(claim.decision, verdict=verdict)
    conclude = lambda: stores.decisions.conclude(made, None, run=None, notices=(), now=NOW)  # noqa: E731
    await check(opened, verdict in ANSWERS, conclude)
    if verdict in ANSWERS:
        await check(opened, False, conclude)
        await check(opened, False, lambda: stores.events.release(made.id, "", retry_at=NOW, blame=True))
