"""The owner's desk: telling, following, stopping, explaining, and the shapes of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine_bench import Bench, Setup, open_setup
from tests.fakes import decides, says, use

from kairosd.core.decisions import Decision, Verdict
from kairosd.core.events import EventState, Tier
from kairosd.core.ids import mint
from kairosd.core.json import canonical
from kairosd.core.levels import Level
from kairosd.core.notices import NoticeState
from kairosd.core.runs import RunState
from kairosd.errors import NotFoundError, TransitionError, UsageError
from kairosd.ports import Query, Update

pytestmark = pytest.mark.anyio

ASK_BELL = '[[policy.rules]]\nverdict = "ask"\ntool = "bell"\n'
SHAPES = {  # design §12
    "events": "id source kind key delivery tier workspace received_at state tries decision",
    "decisions": "id verdict reason goal confidence price next_wake events run",
    "runs": "id state goal workspace trigger level taint turns tokens price started ended result checks branch",
}
STATUS = (
    "version pid state problems uptime_seconds models workspaces queue counters notices "
    "next_wake last_dream purses sizes channels"
)
COUNTERS = (
    "events decisions model_calls ticks_skipped runs tool_calls denied "
    "webhook_accepted webhook_rejected webhook_duplicate"
)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


async def collect(bench: Bench, run: str) -> list[Update]:
    async with asyncio.timeout(20):
        return [update async for update in bench.engine.desk.follow(run)]


async def busy_day(setup: Setup, bench: Bench) -> str:
    """A change that is acted upon, a question, a yes; the run's id."""
    setup.decider.add(decides("act", "ring the bell"))
    setup.actor.add(says("", use("bell")), says("done"))
    await bench.hint()
    await bench.answer()
    (run,) = await bench.stores.runs.find(Query())
    assert run.state is RunState.DONE_UNCHECKED
    return run.id


# Telling and following.


async def test_telling_starts_a_run_without_asking_whether(setup: Setup) -> None:
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        told = await bench.engine.desk.tell("  look  ", None, folder=str(setup.root / "src"))
        await bench.quiet()
        run = await bench.run(str(told["run"]))
        event = await bench.stores.events.get(str(told["event"]))
        assert (run.goal, run.taint, run.trigger) == ("look", Tier.OWNER, "owner")
        assert (event.state, event.decision) == (EventState.SETTLED, run.decision)
    assert setup.decider.prompts == []


async def test_telling_works_while_paused(setup: Setup) -> None:
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        await bench.engine.desk.pause("quiet please")
        assert (await bench.run(await bench.tell())).state is RunState.DONE_UNCHECKED
        assert (await bench.engine.desk.status())["state"] == "paused"


async def test_telling_asks_back_when_the_workspace_is_not_clear(setup: Setup) -> None:
    setup.second = True
    async with setup.running() as bench:
        desk = bench.engine.desk
        for name, folder in ((None, None), (None, "/nowhere"), ("liv", None)):
            with pytest.raises(UsageError) as refused:
                await desk.tell("look", name, folder=folder)
            assert "app" in str(refused.value)
            assert "lib" in str(refused.value)
        for text in ("", "   ", "x" * 20_001):
            with pytest.raises(UsageError):
                await desk.tell(text, "app", folder=None)
        assert await bench.stores.runs.find(Query()) == ()


async def test_following_from_the_start_sees_everything_up_to_the_end(setup: Setup) -> None:
    setup.actor.add(says("I shall ring. ", use("bell")), says("It rang."))
    setup.actor.held.clear()
    async with setup.running() as bench:
        run = await bench.tell()
        following = asyncio.get_running_loop().create_task(collect(bench, run))
        await asyncio.sleep(0.05)
        setup.actor.held.set()
        updates = await following
    assert [update.kind for update in updates] == ["text", "call", "result", "text", "ended"]
    assert updates[2].text == "the bell rang"
    assert {"state", "answer", "price", "code", "run", "branch", "patch"} <= updates[-1].data.keys()
    assert updates[-1].data["state"] == "done_unchecked"
    assert updates[-1].data["answer"] == "It rang."
    assert updates[-1].data["price"] == 300


async def test_who_comes_late_hears_what_was_said_so_far(setup: Setup) -> None:
    """The port's promise: what happened in a run so far and happens from now on."""
    setup.actor.add(says("I shall ring. ", use("bell")), says("", use("sleep", seconds=60, reason="rest")), says("end"))
    async with setup.running() as bench:
        run = await bench.tell()
        following = asyncio.get_running_loop().create_task(collect(bench, run))
        await asyncio.sleep(0.05)
        await bench.advance(60)
        updates = await following
    assert "".join(update.text for update in updates if update.kind == "text") == "I shall ring. end"
    assert updates[-1].kind == "ended"


async def test_following_after_the_end_gets_the_end(setup: Setup) -> None:
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        last = (await collect(bench, run))[-1]
    assert (last.kind, last.data["answer"], last.data["state"]) == ("ended", "done", "done_unchecked")


async def test_following_ends_with_the_code_when_the_run_asks(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")))
    setup.actor.held.clear()
    async with setup.running() as bench:
        run = await bench.tell()
        following = asyncio.get_running_loop().create_task(collect(bench, run))
        await asyncio.sleep(0.05)
        setup.actor.held.set()
        live = (await following)[-1]
        late = (await collect(bench, run))[-1]
        code = (await bench.question())["code"]
    for last in (live, late):
        assert (last.kind, last.data["state"], last.data["code"]) == ("parked", "parked", code)


async def test_following_what_is_not_there_is_refused(setup: Setup) -> None:
    async with setup.running() as bench:
        with pytest.raises(NotFoundError):
            await collect(bench, "r_" + "0" * 26)


# Stopping.


async def test_stopping_one_run_ends_it_and_the_next_begins(setup: Setup) -> None:
    setup.actor.add(says("never"), says("second"))
    setup.actor.held.clear()
    async with setup.running() as bench:
        first, second = await bench.tell("first"), await bench.tell("second")
        assert await bench.engine.desk.stop(first) == {"stopped": [first]}
        setup.actor.held.set()
        await bench.quiet()
        assert (await bench.run(first)).state is RunState.CANCELLED
        assert (await bench.run(second)).result == "second"
        assert (await collect(bench, first))[-1].data["state"] == "cancelled"
        with pytest.raises(TransitionError):
            await bench.engine.desk.stop(first)
        assert (await bench.engine.desk.status())["state"] == "ready"


async def test_stopping_everything_ends_every_run_and_pauses(setup: Setup) -> None:
    setup.config = ASK_BELL
    setup.second = True
    setup.actor.add(says("", use("bell")), says("never"))
    async with setup.running() as bench:
        parked = await bench.tell()
        setup.actor.held.clear()
        running, queued = await bench.tell(), await bench.tell()
        stopped = await bench.engine.desk.stop(None)
        await bench.quiet()
        assert set(stopped["stopped"]) == {parked, running, queued}  # type: ignore[arg-type]
        for run in (parked, running, queued):
            assert (await bench.run(run)).state is RunState.CANCELLED
        assert (await bench.engine.desk.status())["state"] == "paused"
        assert await bench.stores.approvals.find(Query(state="open")) == ()


async def test_a_run_stopped_in_the_moment_it_starts_does_nothing_more(setup: Setup) -> None:
    async def start(real: object, run: str, now: object) -> object:
        started = await real(run, now)  # type: ignore[operator]
        await bench.engine.desk.stop(run)
        return started

    setup.hooks = {"runs": {"start": start}}
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state is RunState.CANCELLED
    assert setup.actor.prompts == []


async def test_a_model_call_cut_off_by_a_stop_is_settled(setup: Setup) -> None:
    setup.actor.add(says("never"))
    setup.actor.held.clear()
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.engine.desk.stop(run)
        (call,) = await bench.stores.model_calls.of(run)
    assert call["outcome"] == "cancelled"
    assert call["price"] == call["charged_price"] > 150  # type: ignore[operator]


# Explaining.


async def test_why_says_where_a_runs_work_went(setup: Setup) -> None:
    setup.actor.add(says("", use("write", path="a.txt", content="x\n")), says("added"))
    async with setup.running() as bench:
        (link, *_) = await bench.engine.desk.why(await bench.tell("add a.txt"))
    assert link["detail"] == "added — landed: kairos/add-a-txt (a.txt)"


async def test_why_goes_from_anything_back_to_the_event(setup: Setup) -> None:
    setup.config = ASK_BELL
    async with setup.running() as bench:
        run = await busy_day(setup, bench)
        desk, stores = bench.engine.desk, bench.stores
        (event,) = await stores.events.find(Query())
        (decision,) = await stores.decisions.find(Query())
        (approval,) = await stores.approvals.find(Query())
        (call,) = await bench.calls(run)
        asked, told = await bench.notices()
        tail = [run, decision.id, event.id]

        async def ids(identifier: str) -> list[object]:
            return [link["id"] for link in await desk.why(identifier)]

        assert await ids(told.id) == [told.id, *tail]
        assert await ids(call.id) == [call.id, *tail]
        assert await ids(asked.id) == [asked.id, approval.id, call.id, *tail]
        assert await ids(approval.id) == [approval.id, call.id, *tail]
        assert await ids(approval.code) == [approval.id, call.id, *tail]
        assert await ids(event.id) == [event.id]
        links = await desk.why(told.id)
        assert {"id", "kind", "at", "title", "detail", "price"} == links[0].keys()
        assert [link["price"] for link in links] == [0, 300, 150, 0]
        assert "because of act" in str(links[2]["detail"])
        with pytest.raises(NotFoundError):
            await desk.why("nonsense")
        with pytest.raises(NotFoundError):
            await desk.why("r_" + "0" * 26)


# Shapes.


async def test_listings_have_the_promised_fields_and_the_newest_first(setup: Setup) -> None:
    setup.config = ASK_BELL
    async with setup.running() as bench:
        run = await busy_day(setup, bench)
        await bench.advance(60)
        setup.actor.add(says("done"))
        later = await bench.tell()
        desk = bench.engine.desk
        for kind, fields in SHAPES.items():
            rows = await desk.listing(kind, Query())
            assert rows
            for row in rows:
                assert set(fields.split()) <= row.keys()
                canonical(row)  # JSON, and no floats
        assert [row["id"] for row in await desk.listing("runs", Query())] == [later, run]
        assert [row["id"] for row in await desk.listing("runs", Query(limit=1))] == [later]
        (approval,) = await desk.listing("approvals", Query())
        assert {"id", "code", "state", "run", "question", "rule", "expires"} <= approval.keys()
        assert await desk.listing("notices", Query(workspace="lib")) == []
        with pytest.raises(NotFoundError):
            await desk.listing("secrets", Query())


async def test_showing_a_run_has_its_calls_and_how_to_merge_it(setup: Setup) -> None:
    setup.actor.add(says("", use("write", path="a.txt", content="a")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell("Add a file")
        shown = await bench.engine.desk.show(run)
    assert shown["merge"] == "git merge kairos/add-a-file"
    assert [call["tool"] for call in shown["calls"]] == ["write", "land"]  # type: ignore[index, call-overload, union-attr]
    assert [call["price"] for call in shown["model_calls"]] == [150, 150]  # type: ignore[index, call-overload, union-attr]


async def test_each_kind_of_thing_can_be_shown(setup: Setup) -> None:
    setup.config = ASK_BELL
    async with setup.running() as bench:
        run = await busy_day(setup, bench)
        stores = bench.stores
        things = [*await stores.events.find(Query()), *await stores.decisions.find(Query())]
        things += [*await stores.approvals.find(Query()), *await stores.notices.find(Query()), *await bench.calls(run)]
        for thing in things:
            assert (await bench.engine.desk.show(thing.id))["id"] == thing.id


async def test_status_has_the_promised_fields_and_counts(setup: Setup) -> None:
    setup.config = ASK_BELL
    async with setup.running() as bench:
        await busy_day(setup, bench)
        await bench.tick()
        status = await bench.engine.desk.status()
    assert set(STATUS.split()) <= status.keys()
    counters = status["counters"]
    assert set(COUNTERS.split()) <= counters.keys()  # type: ignore[union-attr]
    wanted = {"events": 1, "decisions": 1, "model_calls": 3, "runs": 1, "tool_calls": 1, "ticks_skipped": 1}
    assert {name: counters[name] for name in wanted} == wanted  # type: ignore[index, call-overload]
    assert status["queue"] == {"pending": 0, "parked": 0, "dead": 0}


async def test_a_dead_event_is_revived_and_looked_at(setup: Setup) -> None:
    setup.decider.add(decides("ignore"))
    async with setup.running() as bench:
        await bench.engine.desk.pause("")
        event = await bench.submit("schedule", "due")
        for _ in range(5):
            claim = await bench.stores.events.claim(_asked(bench), [event.id], now=setup.clock.now())
            assert claim is not None
            await bench.stores.events.release(claim.decision.id, "boom", retry_at=setup.clock.now(), blame=True)
        assert (await bench.engine.desk.status())["queue"]["dead"] == 1  # type: ignore[index, call-overload]
        await bench.engine.desk.resume()
        await bench.engine.desk.retry(event.id)
        await bench.advance(60)
        assert (await bench.stores.events.get(event.id)).state is EventState.SETTLED
        with pytest.raises(TransitionError):
            await bench.engine.desk.retry(event.id)


def _asked(bench: Bench) -> Decision:
    now = bench.setup.clock.now()
    return Decision(
        mint("d", now), "app", Tier.LOCAL, Verdict.ASKED, "", "", 0, None, None, (), None, None, "", "x", False, now
    )


async def test_trust_is_told_and_journalled(setup: Setup) -> None:
    setup.write("KAIROS.md", "Be brief.")
    async with setup.running() as bench:
        desk = bench.engine.desk
        assert not (await desk.workspaces())[0]["trusted"]
        assert (await desk.trust("app"))["files"] == ["KAIROS.md"]
        assert (await desk.workspaces())[0]["trusted"]
        with pytest.raises(UsageError):
            await desk.trust("nowhere")


# Levels.


async def test_a_level_is_written_into_the_file_and_journalled(setup: Setup) -> None:
    async with setup.running() as bench:
        desk = bench.engine.desk
        told = await desk.set_level("app", "sandboxed")
        assert told == {"workspace": "app", "level": "sandboxed", "was": "suggest", "changed": []}
        assert 'level = "sandboxed"' in bench.ground.place.config.read_text()
        for name, level in (("nowhere", "observe"), ("nowhere", "open")):
            with pytest.raises(UsageError):
                await desk.set_level(name, level)
    assert "workspace.level" in journal(setup)


async def test_open_lasts_for_the_daemons_life_and_no_run_under_way_gets_it(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    setup.config = ASK_BELL
    setup.actor.add(says("", use("bell")), says("", use("bell")), says("done"), says("done"))
    async with setup.running() as bench:
        desk = bench.engine.desk
        before = await bench.tell()
        text = bench.ground.place.config.read_text()
        assert (await desk.set_level("app", "open"))["was"] == "suggest"
        assert bench.ground.place.config.read_text() == text
        assert (await desk.workspaces())[0]["level"] == "open"
        assert (await desk.status())["workspaces"][0]["level"] == "open"  # type: ignore[index, call-overload]
        await bench.answer()
        after = await bench.tell()
        assert [(await bench.run(run)).level for run in (before, after)] == [Level.SUGGEST, Level.OPEN]
        assert bench.engine.terms.ceiling(await bench.run(after)) is Level.OPEN
    async with setup.running() as bench:
        assert (await bench.engine.desk.workspaces())[0]["level"] == "suggest"
        assert bench.engine.terms.ceiling(await bench.run(after)) is Level.SUGGEST
    assert "workspace.level" in journal(setup)


async def test_a_level_that_is_set_ends_open(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    async with setup.running() as bench:
        desk = bench.engine.desk
        await desk.set_level("app", "open")
        assert (await desk.set_level("app", "suggest"))["was"] == "open"
        assert (await desk.workspaces())[0]["level"] == "suggest"


async def test_open_is_refused_as_root(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    async with setup.running() as bench:
        with pytest.raises(UsageError, match="root"):
            await bench.engine.desk.set_level("app", "open")
        assert (await bench.engine.desk.workspaces())[0]["level"] == "suggest"


async def test_a_broken_policy_file_of_a_trusted_workspace_is_told_once(setup: Setup) -> None:
    setup.write(".kairos.toml", "[policy")
    setup.workspace = "trusted = true"
    setup.actor.add(says("done"), says("done"))
    async with setup.running() as bench:
        await bench.tell()
        await bench.tell()
        titles = [notice.title for notice in await bench.notices()]
    assert [title for title in titles if ".kairos.toml" in title] == ["app: its .kairos.toml is broken"]


def journal(setup: Setup) -> str:
    return "".join(file.read_text() for file in (setup.folder / "home/state/journal").rglob("*.jsonl"))


async def test_an_undo_tells_of_the_questions_that_have_left_the_machine(setup: Setup) -> None:
    setup.config += ASK_BELL
    async with setup.running() as bench:
        run = await busy_day(setup, bench)
        notices = bench.stores.notices
        (asked,) = [one for one in await notices.find(Query()) if one.cause.startswith("a_")]
        for state in (NoticeState.ATTEMPTING, NoticeState.DELIVERED):
            asked = replace(asked, state=state)
            await notices.move(asked, setup.clock.now())
        left = (await bench.engine.desk.undo(run, dry_run=True))["left_the_machine"]
    assert f"notice {asked.id} to screen (no receipt)" in list(left)  # type: ignore[call-overload]
