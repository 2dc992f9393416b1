"""Resuming: a run goes on where it stopped, is told once for how long it was away, and asks first after an hour."""

from __future__ import annotations

import errno
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.engine_bench import Setup, open_setup
from tests.fakes import says, use

from kairosd.core.runs import INTERRUPTED, ApprovalState, ParkedOn, Run, RunState, call_hash
from kairosd.engine import runs
from kairosd.engine.news import News, describe_absence, span
from kairosd.engine.repository import Place
from kairosd.engine.runs import Worker
from kairosd.engine.tooling import Tooling
from kairosd.errors import StoreError
from kairosd.store.migrate import scripts_folder
from kairosd.store.upgrade import upgrade

pytestmark = pytest.mark.anyio

AWAY = "Kairos was interrupted"


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


def told(setup: Setup) -> list[str]:
    """What the daemon said in the newest prompt, besides goal and results."""
    return [message.text for message in setup.actor.prompts[-1].messages[1:] if message.role == "user" and message.text]


async def interrupted(setup: Setup, *, minutes: float, alive: bool = True) -> str:
    """A run that was killed in its call, and a daemon that is gone for so long; the run's id."""
    setup.actor.add(says("", use("bell")))
    setup.bell.stall = "after"
    async with setup.running() as bench:
        run = await bench.tell()
        if alive:
            await bench.advance(7200)  # of work
            await bench.stores.state.put("last_seen", setup.clock.now().isoformat(), note=None, now=setup.clock.now())
    setup.clock.jump(minutes * 60)
    setup.bell.stall = ""
    return run


async def test_a_run_is_told_once_for_how_long_it_was_away(setup: Setup) -> None:
    run = await interrupted(setup, minutes=42)
    setup.actor.add(says("", use("bell", note="2")), says("done"))
    async with setup.running() as bench:
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert [word for word in told(setup) if AWAY in word] == [
        f"[kairos] {AWAY}; you were away for 42 min. "
        "The workspace may have changed meanwhile: look again before you rely on what you saw."
    ]
    assert len(setup.bell.rung) == 2


async def test_each_interruption_is_told_by_itself(setup: Setup) -> None:
    run = await interrupted(setup, minutes=3)
    setup.actor.add(says("", use("bell", note="2")))
    setup.bell.stall = "after"
    async with setup.running() as bench:
        assert (await bench.run(run)).rested is None
        setup.clock.jump(60)
        await bench.stores.state.put("last_seen", setup.clock.now().isoformat(), note=None, now=setup.clock.now())
    setup.clock.jump(5 * 60)
    setup.bell.stall = ""
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    spans = [word.partition(AWAY)[2][:28] for word in told(setup)]
    assert spans == ["; you were away for 3 min. T", "; you were away for 5 min. T"]


async def test_long_work_that_was_interrupted_just_now_goes_on_unasked(setup: Setup) -> None:
    run = await interrupted(setup, minutes=1)
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        found = await bench.run(run)
    assert found.state is RunState.DONE_UNCHECKED, "it began two hours ago, and was alive a minute ago"


async def test_after_more_than_an_hour_the_owner_is_asked_and_the_run_told(setup: Setup) -> None:
    run = await interrupted(setup, minutes=192)
    async with setup.running() as bench:
        found = await bench.run(run)
        assert (found.state, found.parked_on) == (RunState.PARKED, ParkedOn.OWNER)
        assert "interrupted 3 h 12 min ago" in str((await bench.question())["question"])
        setup.clock.jump(20 * 3600)
        setup.actor.add(says("done"))
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    (word,) = told(setup)
    assert "away for 23 h 12 min" in word


async def test_a_run_without_a_sign_of_the_daemon_counts_from_its_last_call(setup: Setup) -> None:
    run = await interrupted(setup, minutes=30, alive=False)
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    (word,) = told(setup)
    assert "away for 30 min" in word


async def test_a_run_that_waited_for_days_is_told_and_one_that_waited_a_moment_is_not(setup: Setup) -> None:
    setup.actor.add(says("", use("write", path=".github/workflows/a.yml", content="on: push\n")), says("done"))
    setup.actor.add(says("", use("write", path=".github/workflows/b.yml", content="on: push\n")), says("done"))
    async with setup.running() as bench:
        quick = await bench.tell()
        await bench.answer()
        assert (await bench.run(quick)).state is RunState.DONE_UNCHECKED
        assert told(setup) == []
        slow = await bench.tell()
        await bench.advance(20 * 3600)
    async with setup.running() as bench:
        await bench.answer()
        assert (await bench.run(slow)).state is RunState.DONE_UNCHECKED
        (word,) = told(setup)
    assert word.startswith("[kairos] You were away for 20 h 1 s, waiting for an answer.")


async def test_an_absence_is_not_told_twice_when_the_next_turn_dies_as_well(setup: Setup) -> None:
    run = await interrupted(setup, minutes=10)
    setup.actor.add(says("never heard"))
    setup.actor.held.clear()
    async with setup.running():
        pass  # told, and killed before the turn came
    setup.actor.held.set()
    setup.clock.jump(60)
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        entries = await bench.stores.transcripts.read(run)
    spans = [str(entry["text"]).partition("away for ")[2][:6] for entry in entries if "about" in entry]
    assert spans == ["10 min", "1 min."]


def test_absences_in_words() -> None:
    assert [span(timedelta(seconds=each)) for each in (0, 59, 60, 11520, 90061)] == [
        "a moment", "59 s", "1 min", "3 h 12 min", "1 d 1 h",
    ]  # fmt: skip


# What must not stay behind.


async def test_a_broken_run_whose_end_the_disk_refuses_is_ended_when_there_is_room(setup: Setup) -> None:
    full = [True]

    async def end(real, *given: object, **named: object) -> object:  # type: ignore[no-untyped-def]
        if full[0]:
            raise StoreError("the disk is full")
        return await real(*given, **named)

    async def broken(_: object) -> list[object]:
        raise ZeroDivisionError("a bug")

    setup.failures, setup.hooks = True, {"runs": {"end": end}}
    setup.actor.add(broken)
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state is RunState.RUNNING
        full[0] = False
        await bench.advance(60)
        found = await bench.run(run)
        assert found.state is RunState.FAILED
        assert "something broke inside Kairos" in found.result
        setup.actor.add(says("the workspace is free again"))
        assert (await bench.run(await bench.tell())).state is RunState.DONE_UNCHECKED


async def test_a_run_whose_worker_cannot_be_made_ends_and_no_other_with_it(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runs.Worker

    def make(tooling: Tooling, place: Place, *, run: Run) -> Worker:
        if run.workspace == "app":
            raise OSError(errno.EMFILE, "too many open files")
        return real(tooling, place, run=run)

    monkeypatch.setattr(runs, "Worker", make)
    setup.second = setup.failures = True
    setup.actor.held.clear()
    setup.actor.add(says("lib is done"), says("app is done"))
    async with setup.running() as bench:
        other = str((await bench.engine.desk.tell("do it", "lib", folder=None))["run"])
        await bench.quiet()
        found = await bench.run(await bench.tell())
        assert found.state is RunState.FAILED
        assert "too many open files" in found.result
        setup.actor.held.set()
        await bench.quiet()
        assert (await bench.run(other)).result == "lib is done"
        monkeypatch.undo()
        assert (await bench.run(await bench.tell())).result == "app is done"
    assert len(setup.actor.prompts) == 2


async def test_no_run_begins_whose_parts_cannot_be_loaded_and_those_under_way_go_on(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.second = True
    setup.actor.held.clear()
    setup.actor.add(says("lib is done"), says("app is done"))
    async with setup.running() as bench:
        other = str((await bench.engine.desk.tell("do it", "lib", folder=None))["run"])
        await bench.quiet()
        monkeypatch.setitem(sys.modules, "kairosd.engine.runs", None)  # its import fails from now on
        run = await bench.tell()
        assert (await bench.run(run)).state is RunState.QUEUED
        setup.actor.held.set()
        await bench.quiet()
        assert (await bench.run(other)).result == "lib is done"
        monkeypatch.undo()
        await bench.advance(60)
        assert (await bench.run(run)).result == "app is done"
    assert len(setup.actor.prompts) == 2


async def test_an_interrupted_run_that_nobody_can_be_asked_about_keeps_no_other_down(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ago(*_: object) -> str:
        raise ImportError("no module named news")

    run = await interrupted(setup, minutes=120)
    monkeypatch.setattr(News, "ago", ago)
    setup.actor.add(says("later"))
    async with setup.running() as bench:
        found = await bench.run(run)
        assert found.state is RunState.FAILED
        assert "no module named news" in found.result
        assert (await bench.run(await bench.tell())).result == "later"


async def test_room_for_one_lets_one_run_go_on(setup: Setup) -> None:
    """Two that wait for the same purse: the second is let go when the first has begun, not for the same money."""
    setup.second = True
    setup.config = "[budget.owner]\ndollars_per_hour = 0.02\n"
    async with setup.running() as bench:
        first = await bench.tell()
        second = str((await bench.engine.desk.tell("do it", "lib", folder=None))["run"])
        await bench.quiet()
        assert [(await bench.run(run)).parked_on for run in (first, second)] == [ParkedOn.PURSE, ParkedOn.PURSE]

        async def suffices(*_: object) -> bool:
            return True

        bench.engine.asking.purses.suffices = suffices  # type: ignore[method-assign]
        await bench.engine.dispatcher.refill()
        states = [one.state for run in (first, second) for one in await bench.stores.approvals.of_run(run)]
        assert sorted(states) == [ApprovalState.OPEN, ApprovalState.WITHDRAWN]


# The next version of the code.


async def test_a_run_parked_by_the_version_before_goes_on_after_days(setup: Setup) -> None:
    """Rows and transcript as the schema of 0004 had them; the database is migrated by the start."""
    home, run, call, approval = setup.folder / "home", "r_0", "c_0", "a_0"
    (home / "kairos.db").unlink()
    upgrade(home / "kairos.db", scripts_folder(), revision="0004")
    day = "2026-03-02T07:00:00.000000Z"
    with closing(sqlite3.connect(home / "kairos.db")) as old, old:
        old.execute(
            "INSERT INTO runs (id, state, goal, workspace, trigger, level, taint, created, started, turns, tokens, "
            "price, result, checks, parked_on) VALUES (?, 'parked', 'do it', 'app', 'owner', 1, 'owner', ?, ?, 1, 9, "
            "0, '', '[]', 'owner')",
            (run, day, day),
        )
        old.execute(
            "INSERT INTO calls (id, run, turn, position, tool, arguments, hash, state, requested_at, effect, "
            "provider_id, result, rule) VALUES (?, ?, 1, 0, 'bell', '{}', ?, 'intended', ?, 1, 'u1', '', '')",
            (call, run, call_hash("bell", {}), day),
        )
        old.execute(
            "INSERT INTO approvals (id, code, state, run, call, workspace, hash, question, rule, created, expires) "
            "VALUES (?, 'bcdfg', 'open', ?, '', 'app', ?, 'go on?', 'stuck', ?, '2099-01-01T00:00:00.000000Z')",
            (approval, run, run, day),
        )
    (home / "transcripts").mkdir()
    entries = [
        {"kind": "said", "text": "Goal: do it"},
        {"kind": "turn", "text": "", "uses": [{"id": "u1", "name": "bell", "arguments": {}}], "model": "m",
         "tokens": 9, "price": 0},
    ]  # fmt: skip
    (home / "transcripts" / f"{run}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        await bench.answer()
        found = await bench.run(run)
        assert (found.state, found.result.splitlines()[0]) == (RunState.DONE_UNCHECKED, "done")
        assert [one.state.value for one in await bench.calls(run)] == ["succeeded"]
    assert setup.bell.rung == [call], "its probe told that it had not happened"


def test_a_short_rest_is_no_news(setup: Setup) -> None:
    now = setup.clock.now()
    run = Run(
        id="r", state=RunState.RUNNING, goal="", workspace="app", trigger="owner", decision=None, level=0, taint=None,  # type: ignore[arg-type]
        created=now, rested=now, rested_on="approval",
    )  # fmt: skip
    later = now + timedelta(minutes=9)
    assert describe_absence(run, later) == ""
    assert describe_absence(run, now + timedelta(minutes=11)) != ""
    assert describe_absence(replace(run, rested_on=INTERRUPTED), now) != ""
    assert describe_absence(replace(run, rested_on=ParkedOn.TASK.value), now + timedelta(days=3)) == ""
