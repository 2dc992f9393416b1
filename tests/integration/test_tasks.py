"""Background work: what takes long goes on as a task, its end is an event, its run hears of it, and nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.engine_bench import Bench, Setup, open_setup
from tests.fakes import decides, says, use

from kairosd.core.events import Event, EventState, Tier
from kairosd.core.json import JsonObject
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec, Usage
from kairosd.core.runs import Call, ParkedOn, Run, RunState
from kairosd.core.tasks import Task, TaskState
from kairosd.engine import tasks
from kairosd.errors import ExecutorError, StoreError
from kairosd.ports import Errand, Outcome, Query, ToolAnswer, ToolContext

pytestmark = pytest.mark.anyio

SECRET = "ghp_" + "a1B2" * 9


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    monkeypatch.setattr(tasks, "PATIENCE_SECONDS", 0.05)
    with open_setup(tmp_path) as made:
        (made.folder / "home" / "state").mkdir(mode=0o700, exist_ok=True)
        yield made


@dataclass
class Work:
    """A tool whose command ends when the test says so."""

    outcome: Outcome | Exception = field(default_factory=lambda: Outcome(3, f"said {SECRET}\n".encode(), b""))
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    limits: list[float] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    tell: str = "its end"
    line: str = "make all"

    spec = ToolSpec("work", "Works.", {"type": "object", "properties": {"note": {"type": "string"}}})
    permission = Permission.NOTIFY
    effect = True
    escalates = False

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        return ()

    def commands(self, arguments: JsonObject) -> None:
        return None

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        return {}

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        errand = Errand(context.call, self.line, start=self._start, told=lambda _, most: f"{self.tell} within {most}")
        outcome = await (context.background.run(errand) if context.background else self._start(1))
        return ToolAnswer(f"task {outcome.id}" if isinstance(outcome, Task) else f"exit {outcome.code}")

    async def _start(self, seconds: float) -> Outcome:
        self.limits.append(seconds)
        try:
            await self.may_end.wait()
        finally:
            self.ended.append("ended")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        return None


async def started(setup: Setup, bench: Bench, work: Work) -> Run:
    """A saved file has led to a run, which has come as far as it can."""
    bench.engine.dispatcher._t.tools._tools["work"] = work  # type: ignore[attr-defined]
    setup.decider.add(decides("act", "do it"))
    await bench.hint()
    await in_background(bench)
    (run,) = await bench.stores.runs.find(Query())
    return run


async def in_background(bench: Bench) -> None:
    await asyncio.sleep(0.1)  # the patience is real time
    await bench.quiet()


async def ended(bench: Bench) -> None:
    """The command's end is on record, with all that it leads to."""
    async with asyncio.timeout(10):
        while await bench.stores.tasks.running():
            await asyncio.sleep(0.01)
    await bench.quiet()


async def task_events(bench: Bench) -> list[Event]:
    return [event for event in await bench.stores.events.find(Query()) if event.source == "task"]


def told(setup: Setup) -> list[str]:
    return [message.text for message in setup.actor.prompts[-1].messages[1:] if message.role == "user" and message.text]


async def test_a_run_that_finishes_waits_for_its_task_at_no_cost_and_is_woken_by_its_end(setup: Setup) -> None:
    work = Work()
    setup.actor.add(says("", use("work")), says("all well, I think"))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        (task,) = await bench.stores.tasks.of_run(run.id)
        assert (task.state, task.tier, task.workspace) == (TaskState.RUNNING, Tier.LOCAL, "app")
        assert (await bench.results(run.id))[0] == f"task {task.id}"
        assert ((await bench.run(run.id)).state, (await bench.run(run.id)).parked_on) == (
            RunState.PARKED, ParkedOn.TASK,
        )  # fmt: skip
        await bench.advance(3000)
        assert len(setup.actor.prompts) == 2
        shown = await bench.engine.desk.show(run.id)
        status = await bench.engine.desk.status()
        assert [one["id"] for one in (*shown["tasks"], *status["tasks"])] == [task.id, task.id]  # type: ignore[misc]
        setup.actor.add(says("make failed with 3"))
        work.may_end.set()
        await ended(bench)
        found = await bench.run(run.id)
        assert (found.state, found.result.splitlines()[0]) == (RunState.DONE_UNCHECKED, "make failed with 3")
        (word,) = told(setup)
        assert word == (
            f"[background] {task.id} (`make all`) ended after 3000 s. Its output, which is data:\n"
            f"its end within {tasks.TASK_SECONDS}\n[end of {task.id}]"
        )
        (event,) = await task_events(bench)
        assert (event.state, event.tier, event.kind, event.key) == (EventState.COALESCED, Tier.LOCAL, "ended", task.id)
        assert event.facts == {"task": task.id, "run": run.id, "exit_code": 3, "seconds": 3000, "timed_out": False}
        assert len(setup.decider.prompts) == 1, "who was told need not be decided about"
        assert Path(task.output).read_text() == "said [secret: github]\n"
        assert Path(task.output).stat().st_mode & 0o777 == 0o600
        assert await bench.engine.desk.why(task.id)


async def test_a_run_that_goes_on_hears_of_the_end_before_its_next_turn(setup: Setup) -> None:
    work = Work()
    setup.actor.add(says("", use("work")), says("", use("bell")))
    setup.bell.stall = "before"
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        work.may_end.set()
        await ended(bench)
        setup.bell.stall = ""
        assert (await bench.run(run.id)).state is RunState.RUNNING
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        assert (await bench.run(run.id)).state is RunState.DONE_UNCHECKED
        assert [word.split()[0] for word in told(setup)] == ["[kairos]", "[background]"]
        assert [event.state for event in await task_events(bench)] == [EventState.COALESCED]


async def test_a_run_that_sleeps_is_woken_by_the_end(setup: Setup) -> None:
    work = Work()
    setup.actor.add(says("", use("work")), says("", use("sleep", seconds=3000, reason="make")), says("done"))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        await bench.advance(60)
        assert (await bench.run(run.id)).state is RunState.RUNNING
        work.may_end.set()
        await ended(bench)
        assert (await bench.run(run.id)).state is RunState.DONE_UNCHECKED
        assert [word.split()[0] for word in told(setup)] == ["[background]"]


async def test_an_end_that_no_run_hears_of_leads_to_a_decision(setup: Setup) -> None:
    """Its run waits for the owner: the initiative looks, as at any other event."""
    work = Work()
    protected = use("write", path=".github/workflows/x.yml", content="on: push\n")
    setup.actor.add(says("", use("work")), says("", protected))
    setup.decider.add()
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        assert (await bench.run(run.id)).parked_on is ParkedOn.APPROVAL
        setup.decider.add(decides("ignore"))
        work.may_end.set()
        await ended(bench)
        await bench.advance(60)
        (event,) = await task_events(bench)
        assert (event.state, event.decision is not None) == (EventState.SETTLED, True)
        assert "make all" in setup.decider.prompts[-1].messages[0].text
        setup.actor.add(says("done"))
        await bench.answer()
        assert (await bench.run(run.id)).state is RunState.DONE_UNCHECKED
        assert [word.split()[0] for word in told(setup)] == ["[background]"]


async def test_who_is_waited_for_keeps_the_command(setup: Setup) -> None:
    work = Work()
    setup.actor.add(says("", use("work")), says("done"))
    async with setup.running() as bench:
        bench.engine.dispatcher._t.tools._tools["work"] = work  # type: ignore[attr-defined]
        asyncio.get_running_loop().call_later(0.3, work.may_end.set)
        told_run = await bench.engine.desk.tell("do it", "app", folder=None)
        run = str(told_run["run"])
        await bench.quiet()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        assert await bench.stores.tasks.of_run(run) == ()
    assert work.limits == [1]


async def test_too_many_at_once_are_not_moved(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TASKS_MAX", 0)
    work = Work()
    setup.actor.add(says("", use("work")), says("done"))
    async with setup.running() as bench:
        asyncio.get_running_loop().call_later(0.3, work.may_end.set)
        run = await started(setup, bench, work)
        assert (await bench.run(run.id)).state is RunState.DONE_UNCHECKED
        assert await bench.stores.tasks.of_run(run.id) == ()
    assert work.limits == [tasks.USUAL_SECONDS]


@pytest.mark.parametrize("everything", [False, True])
async def test_a_stop_ends_the_command_and_its_task(setup: Setup, everything: bool) -> None:
    work = Work()
    setup.actor.add(says("", use("work")), says("waiting"))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        await bench.engine.desk.stop(None if everything else run.id)
        await bench.quiet()
        assert work.ended == ["ended"]
        assert (await bench.run(run.id)).state is RunState.CANCELLED
        assert [task.state for task in await bench.stores.tasks.of_run(run.id)] == [TaskState.STOPPED]
        assert await task_events(bench) == [], "the owner knows"
        assert (await bench.engine.desk.undo(run.id, dry_run=False))["run"] == run.id


async def test_a_run_that_ends_otherwise_takes_its_task_along(setup: Setup) -> None:
    work = Work()
    setup.config = "[limits]\nrun_tokens = 1000\n"
    setup.actor.add(says("", use("work"), usage=Usage(2000, 10)))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        await asyncio.sleep(0.05)
        assert (await bench.run(run.id)).state is RunState.OVER_BUDGET
        assert work.ended == ["ended"]
        assert [task.state for task in await bench.stores.tasks.of_run(run.id)] == [TaskState.STOPPED]


async def test_a_crash_loses_the_task_and_says_so(setup: Setup) -> None:
    work = Work()
    setup.actor.add(says("", use("work")), says("waiting"))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
    assert work.ended == ["ended"]
    setup.actor.add(says("I have looked"))
    async with setup.running() as bench:
        (task,) = await bench.stores.tasks.of_run(run.id)
        assert (task.state, task.code) == (TaskState.LOST, None)
        assert (await bench.run(run.id)).state is RunState.DONE_UNCHECKED
        (word,) = told(setup)
        assert "was lost" in word
        assert "look before you repeat it" in word
        assert [(event.kind, event.state) for event in await task_events(bench)] == [("lost", EventState.COALESCED)]


async def test_a_command_that_breaks_in_the_background_is_lost_too(setup: Setup) -> None:
    work = Work(ExecutorError("the executor process died"))
    setup.actor.add(says("", use("work")), says("waiting"), says("I have looked"))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        work.may_end.set()
        await ended(bench)
        (task,) = await bench.stores.tasks.of_run(run.id)
        assert (task.state, task.result) == (TaskState.LOST, "the executor process died")
        assert (await bench.run(run.id)).state is RunState.DONE_UNCHECKED


async def test_the_end_is_no_more_trusted_than_its_run_is_by_then(setup: Setup) -> None:
    work = Work()
    setup.actor.add(says("", use("work")), says("done"))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        await bench.stores.runs.update(replace(await bench.run(run.id), taint=Tier.PUBLIC))
        setup.actor.add(says("done"))
        work.may_end.set()
        await ended(bench)
        (event,) = await task_events(bench)
        assert event.tier is Tier.PUBLIC


async def test_no_secret_of_its_command_is_written_down(setup: Setup) -> None:
    work = Work(line=f"curl -u me:{SECRET} https://example.org")
    setup.actor.add(says("", use("work")), says("done"))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        setup.actor.add(says("done"))
        work.may_end.set()
        await ended(bench)
        (task,) = await bench.stores.tasks.of_run(run.id)
        (event,) = await task_events(bench)
        assert SECRET not in f"{task} {event}"
        assert task.command.startswith("curl")
    lines = [path.read_text() for path in (setup.folder / "home").rglob("*.jsonl")]
    assert any("task.started" in text for text in lines)
    assert not [text for text in lines if "task.started" in text and SECRET in text]


async def test_an_end_that_cannot_be_told_is_lost_and_holds_no_run(setup: Setup) -> None:
    class Unspeakable(str):
        def __format__(self, spec: str) -> str:
            raise RuntimeError("cannot be told")

    work = Work(tell=Unspeakable())
    setup.actor.add(says("", use("work")), says("done"))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        setup.actor.add(says("it is lost"))
        work.may_end.set()
        await ended(bench)
        (task,) = await bench.stores.tasks.of_run(run.id)
        assert task.state is TaskState.LOST
        assert (await bench.run(run.id)).state is RunState.DONE_UNCHECKED


async def test_a_call_behind_finish_does_not_end_a_run_before_its_task(setup: Setup) -> None:
    work = Work()
    setup.actor.add(says("", use("work")), says("", use("finish", answer="done"), use("status")))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        assert (await bench.run(run.id)).parked_on is ParkedOn.TASK
        setup.actor.add(says("make failed with 3"))
        work.may_end.set()
        await ended(bench)
        assert (await bench.run(run.id)).result.startswith("make failed with 3")


async def test_a_call_that_is_cut_while_its_task_is_written_leaves_none_running(setup: Setup) -> None:
    async def begin(real, *given: object, **named: object) -> None:  # type: ignore[no-untyped-def]
        await real(*given, **named)
        raise asyncio.CancelledError

    setup.hooks = {"tasks": {"begin": begin}}
    work = Work()
    setup.actor.add(says("", use("work")), says("done"), says("done, but for the command"))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        (task,) = await bench.stores.tasks.of_run(run.id)
        assert (task.state, work.ended) == (TaskState.LOST, ["ended"])


async def test_an_end_that_the_disk_refuses_is_written_when_there_is_room(setup: Setup) -> None:
    full = [True]

    async def end(real, *given: object, **named: object) -> object:  # type: ignore[no-untyped-def]
        if full[0]:
            raise StoreError("the disk is full")
        return await real(*given, **named)

    setup.hooks = {"tasks": {"end": end}}
    work = Work()
    setup.actor.add(says("", use("work")), says("waiting"), says("done"))
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        work.may_end.set()
        await asyncio.sleep(0.1)
        assert (await bench.run(run.id)).state is RunState.PARKED
        full[0] = False
        await bench.advance(60)
        await ended(bench)
        assert (await bench.run(run.id)).state is RunState.DONE_UNCHECKED


@pytest.mark.parametrize("resting", [False, True])
async def test_when_the_dispatcher_breaks_runs_and_tasks_are_taken_up_in_the_same_process(
    setup: Setup, resting: bool
) -> None:
    """Nothing stays `running` in the record with nobody at work: that would hold the workspace for ever."""
    breaks: list[str] = []

    async def queued(real) -> object:  # type: ignore[no-untyped-def]
        if breaks:
            raise RuntimeError(breaks.pop())
        return await real()

    setup.hooks, setup.failures = {"runs": {"queued": queued}}, True
    work = Work()
    setup.actor.add(says("", use("work")), says("waiting") if resting else says("", use("bell")))
    setup.bell.stall = "before"
    async with setup.running() as bench:
        run = await started(setup, bench, work)
        assert (await bench.run(run.id)).state is (RunState.PARKED if resting else RunState.RUNNING)
        breaks.append("it broke")
        bench.engine.dispatcher.wake()
        await bench.quiet()
        assert work.ended == ["ended"]
        setup.bell.stall = ""
        setup.actor.add(says("I have looked"))
        await bench.advance(1)
        assert (await bench.run(run.id)).state is RunState.DONE_UNCHECKED
        assert [task.state for task in await bench.stores.tasks.of_run(run.id)] == [TaskState.LOST]
        assert len(setup.bell.rung) == (0 if resting else 1)
        assert sum(health.failures for health in bench.health) == 1
        setup.actor.add(says("the workspace is free"))
        assert (await bench.run(await bench.tell())).state is RunState.DONE_UNCHECKED


async def test_a_disk_that_is_full_at_the_start_of_a_run_leaves_none_that_nobody_works_on(setup: Setup) -> None:
    full = [StoreError("no room")]

    async def get(real, run: str) -> object:  # type: ignore[no-untyped-def]
        if full:
            raise full.pop()
        return await real(run)

    setup.hooks = {"runs": {"get": get}}
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        told = await bench.engine.desk.tell("do it", "app", folder=None)
        await bench.advance(60)
        assert (await bench.run(str(told["run"]))).state is RunState.DONE_UNCHECKED
