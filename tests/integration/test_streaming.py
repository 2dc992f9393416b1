"""Streaming: calls start while the model still talks, over real sockets; and whatever breaks, no effect comes twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests import servers
from tests.engine_bench import Hooks, Setup, forever, open_setup
from tests.fakes import ManualClock, says, use
from tests.servers import ModelServer, Reply, Request

from kairosd.config import ModelSection
from kairosd.core.events import Tier
from kairosd.core.json import JsonObject
from kairosd.core.levels import Permission
from kairosd.core.messages import Done, Prompt, StreamPart, TextDelta, ToolSpec, ToolUse, Usage, UseBroken
from kairosd.core.runs import Call, CallState, RunState
from kairosd.engine.turns import READS_AT_ONCE
from kairosd.errors import ModelError, ModelProtocolError, ModelRefusedError, ModelUnavailableError, ToolError
from kairosd.models import anthropic, openai
from kairosd.models.deps import ModelDeps
from kairosd.ports import Model, ToolAnswer, ToolContext

pytestmark = pytest.mark.anyio

PROVIDERS = {"anthropic": anthropic.build, "openai": openai.build}
SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "hold": {"type": "integer"}, "fail": {"type": "boolean"}},
}


@dataclass(frozen=True)
class Span:
    """One call from its beginning to its end, by the clock that the server stamps with."""

    name: str
    began: float
    ended: float

    def overlaps(self, other: Span) -> bool:
        return self.began < other.ended and other.began < self.ended


@dataclass
class Timed:
    """A tool that takes `hold` milliseconds of real time and writes down when; an effect rings a bell that stays rung.

    `together`: that many calls wait for each other, so all of them must be under way at once.
    """

    spec: ToolSpec
    effect: bool
    permission: Permission
    escalates: bool = False
    together: int = 0
    spans: list[Span] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    rung: list[str] = field(default_factory=list)
    stall: str = ""

    def __post_init__(self) -> None:
        self._all = asyncio.Event()

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        return ()

    def commands(self, arguments: JsonObject) -> None:
        return None

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        return {}

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        began = time.monotonic()
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.stall == "before":
                await forever()
            if self.together:
                if self.under_way >= self.together:
                    self._all.set()
                async with asyncio.timeout(5):
                    await self._all.wait()
            await asyncio.sleep(int(str(arguments.get("hold", 0))) / 1000)
            if self.effect:
                self.rung.append(context.call)
            if self.stall == "after":
                await forever()
        finally:
            self.under_way -= 1
            self.spans.append(Span(str(arguments.get("name", "")), began, time.monotonic()))
        if arguments.get("fail"):
            raise ToolError("it broke")
        return ToolAnswer(f"{self.spec.name} {arguments.get('name', '')}")

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        return call.id in self.rung if self.effect else False


def look() -> Timed:
    return Timed(ToolSpec("look", "Looks.", SCHEMA), False, Permission.READ)


def ring() -> Timed:
    return Timed(ToolSpec("ring", "Rings.", SCHEMA), True, Permission.NOTIFY)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


class Served:
    """A real model over a real socket, with what the bench asks of its scripted one."""

    unexpected = waiting = 0
    thinking = 0
    by_schema = False

    def __init__(self, model: Model) -> None:
        self.inner = model
        self.name, self.provider, self.model, self.context = model.name, model.provider, model.model, model.context
        self.held = asyncio.Event()
        self.held.set()
        self.stream = model.stream


def served(setup: Setup, server: ModelServer, provider: str = "anthropic") -> None:
    base = server.url if provider == "anthropic" else f"{server.url}/v1"
    section = ModelSection(provider=provider, model="claude-haiku-4-5", base_url=base)
    deps = ModelDeps(ManualClock(), "key", Path("/nowhere"), jitter=lambda _: 0.0)
    setup.actor = Served(PROVIDERS[provider]("actor", section, deps=deps))  # type: ignore[assignment]


async def told(setup: Setup, *tools: Timed, state: RunState = RunState.DONE_UNCHECKED) -> tuple[str, list[JsonObject]]:
    """Runs to the end; the run and its transcript."""
    setup.tools = list(tools)
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state is state
        entries = list(await bench.stores.transcripts.read(run))
    close = getattr(setup.actor, "inner", None)
    if close is not None:
        await close.close()
    return run, entries


def first_then_words(reply: Reply) -> object:
    return lambda request: reply if request.turns == 0 else Reply(text="done")


def results(entries: Sequence[JsonObject]) -> list[str]:
    return [str(entry["text"]) for entry in entries if entry["kind"] == "result"]


def sent_at(server: ModelServer, mark: str) -> float:
    return next(moment for moment, data in server.sent if mark in data)


# While the model talks.


@pytest.mark.parametrize(("provider", "last"), [("anthropic", "message_stop"), ("openai", "[DONE]")])
@pytest.mark.parametrize("effect", [False, True])
async def test_a_call_starts_before_the_model_has_finished(
    setup: Setup, provider: str, last: str, effect: bool
) -> None:
    tool, other = (ring(), look()) if effect else (look(), ring())
    uses = [(tool.spec.name, {"name": "one"}), (other.spec.name, {"name": "two words and some more"})]
    async with ModelServer(first_then_words(Reply(uses=uses, drip=0.01))) as server:  # type: ignore[arg-type]
        served(setup, server, provider)
        await told(setup, tool, other)
        end = sent_at(server, last)
    assert tool.spans[0].ended < end - 0.02
    assert len(tool.spans) == len(other.spans) == 1


async def test_eight_reads_overlap_and_never_more(setup: Setup) -> None:
    looks = look()
    looks.together = READS_AT_ONCE
    uses = [("look", {"name": str(number), "hold": 5}) for number in range(20)]
    async with ModelServer(first_then_words(Reply(uses=uses))) as server:  # type: ignore[arg-type]
        served(setup, server)
        _, entries = await told(setup, looks)
    assert looks.most == READS_AT_ONCE == 8
    assert results(entries) == [f"look {number}" for number in range(20)]


async def test_two_effects_never_overlap_with_anything(setup: Setup) -> None:
    looks, rings = look(), ring()
    names = ["look", "look", "ring", "ring", "look", "look", "ring", "look"]
    uses = [(name, {"name": str(number), "hold": 30}) for number, name in enumerate(names)]
    async with ModelServer(first_then_words(Reply(uses=uses))) as server:  # type: ignore[arg-type]
        served(setup, server)
        _, entries = await told(setup, looks, rings)
    spans = {span.name: span for span in (*looks.spans, *rings.spans)}
    for ringing in rings.spans:
        assert not [other for other in spans.values() if other is not ringing and ringing.overlaps(other)]
    assert [span.name for span in rings.spans] == ["2", "3", "6"]
    assert spans["0"].overlaps(spans["1"])
    assert spans["1"].ended <= spans["2"].began
    assert spans["3"].ended <= spans["4"].began
    assert results(entries) == [f"{name} {number}" for number, name in enumerate(names)]


async def test_results_go_back_in_the_order_of_the_calls_whichever_ends_first(setup: Setup) -> None:
    uses = [("look", {"name": str(number), "hold": 10 * (6 - number)}) for number in range(6)]
    async with ModelServer(first_then_words(Reply(uses=uses))) as server:  # type: ignore[arg-type]
        served(setup, server)
        _, entries = await told(setup, look())
        sent = server.asked[-1].body["messages"][-1]["content"]
    assert results(entries) == [f"look {number}" for number in range(6)]
    assert [block["content"] for block in sent if block["type"] == "tool_result"] == results(entries)


# What fails in a turn.


async def test_a_failed_shell_call_cancels_what_the_turn_asked_for_after_it(setup: Setup) -> None:
    looks = look()
    uses = [use("look", name="before"), use("shell", command="git status"), use("look", name="after"), use("bell")]
    setup.actor.add(says("", *uses), says("done"))
    run, entries = await told(setup, looks)
    found = results(entries)
    assert found[0] == "look before"
    assert "programs cannot be run here" in found[1]
    assert all(text.startswith("not made: the shell before it failed") for text in found[2:])
    assert [span.name for span in looks.spans] == ["before"]
    assert setup.bell.rung == []
    async with setup.running() as bench:
        assert [call.tool for call in await bench.stores.runs.calls(run)] == ["look", "shell"]


async def test_another_failed_call_cancels_nothing(setup: Setup) -> None:
    rings = ring()
    setup.actor.add(says("", use("look", fail=True), use("ring", fail=True), use("ring", name="2")), says("done"))
    _, entries = await told(setup, look(), rings)
    assert results(entries) == ["it broke", "it broke", "ring 2"]


async def test_what_was_not_made_may_be_asked_for_again_without_being_called_a_circle(setup: Setup) -> None:
    for number in range(4):
        setup.actor.add(says("", use("shell", command=f"git log -{number + 1}"), use("look", name="x")))
    setup.actor.add(says("", use("look", name="x")), says("done"))
    _, entries = await told(setup, look())
    assert results(entries)[-1] == "look x"


async def test_broken_arguments_go_back_once_for_each_call(setup: Setup) -> None:
    reply = Reply(uses=[("look", {"name": "a"})], raw_uses=[("look", '{"name": "b'), ("ring", "[1]")])
    rings = ring()
    async with ModelServer(first_then_words(reply)) as server:  # type: ignore[arg-type]
        served(setup, server)
        _, entries = await told(setup, look(), rings)
        blocks = [each for each in server.asked[-1].body["messages"][-1]["content"] if each["type"] == "tool_result"]
    assert [bool(block.get("is_error")) for block in blocks] == [False, True, True]
    assert all("send the arguments as one JSON object" in text for text in results(entries)[1:])
    assert rings.spans == []


@pytest.mark.parametrize("name", ["same", ""])
async def test_calls_with_the_same_id_are_told_apart(setup: Setup, name: str) -> None:
    uses = [ToolUse(name, "look", {"name": "1"}), UseBroken(name, "look", "cut"), ToolUse(name, "ring", {"name": "2"})]
    setup.actor.add(says("", *uses), says("done"))
    _, entries = await told(setup, look(), ring())
    asked, answered = setup.actor.prompts[1].messages[-2:]
    ids = [each.id for each in asked.uses]
    assert len(set(ids)) == 3
    assert all(ids)
    assert [result.id for result in answered.results] == ids
    assert [result.text.split(";")[0] for result in answered.results] == ["look 1", "look: cut", "ring 2"]
    assert len(results(entries)) == 3


# Streams that break off.


@pytest.mark.parametrize("effect", [False, True])
@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_a_stream_cut_after_a_whole_call_is_a_turn_and_nothing_is_asked_or_done_twice(
    setup: Setup, provider: str, effect: bool
) -> None:
    tool = ring() if effect else look()
    uses = [(tool.spec.name, {"name": "one", "hold": 20}), ("glob", {"pattern": "never whole"})]

    def respond(request: Request) -> Reply:
        if request.turns:
            return Reply(text="done")
        whole = Reply(text="Now then.", uses=uses)
        events = (servers._anthropic if provider == "anthropic" else servers._openai)(request, whole)
        second = next(at for at, (_, data) in enumerate(events) if '"glob"' in data)
        return replace(whole, cut_after=second + 1)

    async with ModelServer(respond) as server:
        served(setup, server, provider)
        run, entries = await told(setup, tool)
        asked = len(server.asked)
    turn = entries[-3]
    assert turn["kind"] == "turn"
    assert (turn["cut"], turn["text"], turn["price"]) == (True, "Now then.", None)
    assert [each["name"] for each in turn["uses"]] == [tool.spec.name]  # type: ignore[union-attr, index, call-overload]
    assert results(entries) == [f"{tool.spec.name} one"]
    assert len(tool.spans) == 1
    assert asked == 2
    async with setup.running() as bench:
        found = await bench.run(run)
    assert (found.turns, found.price) == (2, None)


async def test_a_stream_cut_before_a_whole_call_is_asked_for_again(setup: Setup) -> None:
    looks, tries = look(), []

    def respond(request: Request) -> Reply:
        tries.append(request)
        if len(tries) == 1:
            return Reply(text="Now then.", uses=[("look", {"name": "half"})], cut_after=6)
        return Reply(text="Now then.", uses=[("look", {"name": "whole"})]) if not request.turns else Reply(text="done")

    async with ModelServer(respond) as server:
        served(setup, server)
        setup.tools = [looks]
        async with setup.running() as bench:
            run = await bench.tell()
            await bench.advance(60)
            assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
            entries = await bench.stores.transcripts.read(run)
        await setup.actor.inner.close()  # type: ignore[attr-defined]
    assert [span.name for span in looks.spans] == ["whole"]
    assert [entry["text"] for entry in entries if entry["kind"] == "turn"] == ["Now then.", "done"]


class Cut:
    """A scripted answer that gives its parts and then waits for ever, or fails."""

    def __init__(self, *parts: StreamPart, error: Exception | None = None) -> None:
        self.parts = parts
        self.error = error


def breaking(setup: Setup, cut: Cut) -> None:
    """The first answer is `cut`; the model says `done` to whatever follows."""
    inner = setup.actor.stream

    async def stream(prompt: Prompt):  # type: ignore[no-untyped-def]
        if setup.actor.prompts:
            async for part in inner(prompt):
                yield part
            return
        setup.actor.prompts.append(prompt)
        for part in cut.parts:
            yield part
        if cut.error is not None:
            await asyncio.sleep(0.05)
            raise cut.error
        await forever()

    setup.actor.stream = stream  # type: ignore[method-assign]
    setup.actor.add(says("done"))


def calls_of(*uses: ToolUse) -> tuple[StreamPart, ...]:
    return says("Well.", *uses)[:-1]  # type: ignore[return-value]


@pytest.mark.parametrize("stall", ["", "before", "after"])
async def test_a_kill_in_the_middle_of_a_stream_repeats_and_loses_no_effect(setup: Setup, stall: str) -> None:
    rings = ring()
    rings.stall = stall
    breaking(setup, Cut(*calls_of(use("look", name="1"), use("ring", name="2"))))
    looks = look()
    setup.tools = [rings, looks]
    async with setup.running() as bench:
        run = str((await bench.engine.desk.tell("do it", "app", folder=None))["run"])
        await asyncio.sleep(0.4)
        kinds = [entry["kind"] for entry in await bench.stores.transcripts.read(run)]
        assert kinds == ["said", "digest", "asked"]
    rings.stall = ""
    async with setup.running() as bench:
        found = await bench.run(run)
        calls = [call for call in await bench.stores.runs.calls(run) if call.tool == "ring"]
        entries = await bench.stores.transcripts.read(run)
    assert len(setup.actor.prompts) == 2
    assert found.state is RunState.DONE_UNCHECKED
    assert [call.state for call in calls] == [CallState.SUCCEEDED]
    assert rings.rung == [calls[0].id]
    turn = next(entry for entry in entries if entry["kind"] == "turn")
    assert (turn["cut"], turn["text"]) == (True, "Well.")
    assert len(results(entries)) == 2
    assert found.turns == 2


def hanging(store: str, method: str, *, at: Callable[..., bool], first: bool) -> Hooks:
    """Hooks with which the first call of `method` that `at` is true of hangs: before it is done, or right after."""

    async def hook(real: object, *given: object, **named: object) -> object:
        if first and at(*given):
            await forever()
        found = await real(*given, **named)  # type: ignore[operator]
        if at(*given):
            await forever()
        return found

    return {store: {method: hook}}


def is_put_down(_run: object, *entries: object) -> bool:
    return any(entry["kind"] == "asked" for entry in entries)  # type: ignore[index]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("store", "method", "at"),
    [
        ("transcripts", "append", is_put_down),
        ("transcripts", "sync", lambda _: True),
        ("runs", "call", lambda call, _: call.tool == "ring"),
        ("runs", "move_call", lambda call, state: call.tool == "ring" and state is CallState.INTENDED),
        ("runs", "move_call", lambda call, state: call.tool == "ring" and state is CallState.SUCCEEDED),
    ],
)
async def test_killed_at_any_step_of_a_call_in_mid_stream_an_effect_happens_once(
    setup: Setup, store: str, method: str, at: Callable[..., bool], first: bool
) -> None:
    asked = says("Well.", use("look", name="1"), use("ring", name="2"))
    breaking(setup, Cut(*asked[:-1]))  # type: ignore[arg-type]
    rings = ring()
    setup.tools, setup.hooks = [rings, look()], hanging(store, method, at=at, first=first)
    async with setup.running() as bench:
        run = str((await bench.engine.desk.tell("work", "app", folder=None))["run"])
        await asyncio.sleep(0.3)
        had = await bench.stores.transcripts.read(run)
    setup.hooks = {}
    if not any(entry["kind"] == "asked" for entry in had):
        setup.actor.script.appendleft(asked)  # nothing was done about it: the model is asked again
    async with setup.running() as bench:
        await bench.quiet()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        (call,) = [one for one in await bench.stores.runs.calls(run) if one.tool == "ring"]
    assert rings.rung == [call.id]
    assert call.state is CallState.SUCCEEDED
    assert len(setup.actor.script) == 0


@pytest.mark.parametrize(
    "error", [ModelUnavailableError("gone"), ModelProtocolError("nonsense"), ModelRefusedError("the key was revoked")]
)
async def test_whatever_error_ends_a_stream_after_an_effect_the_effect_is_a_turns(
    setup: Setup, error: ModelError
) -> None:
    rings = ring()
    breaking(setup, Cut(*calls_of(use("ring", name="1")), error=error))
    _, entries = await told(setup, rings)
    assert len(rings.rung) == 1
    assert len(setup.actor.prompts) == 2
    assert results(entries) == ["ring 1"]


async def test_a_run_stopped_in_the_middle_of_a_stream_begins_nothing_more(setup: Setup) -> None:
    rings = ring()
    breaking(setup, Cut(*calls_of(use("ring", name="1", hold=300), use("ring", name="2"))))
    setup.tools = [rings]
    async with setup.running() as bench:
        run = str((await bench.engine.desk.tell("do it", "app", folder=None))["run"])
        await asyncio.sleep(0.2)
        await bench.engine.desk.stop(run)
        assert (await bench.run(run)).state is RunState.CANCELLED
        await asyncio.sleep(0.3)
    assert rings.rung == []
    assert [span.name for span in rings.spans] == ["1"]
    setup.actor.script.clear()


async def test_a_question_in_the_middle_of_a_stream_parks_after_it_and_keeps_what_came_before(setup: Setup) -> None:
    setup.config = '[[policy.rules]]\nverdict = "ask"\ntool = "bell"\n'
    looks = look()
    setup.actor.add(says("", use("look", name="1"), use("bell"), use("look", name="2")), says("done"))
    setup.tools = [looks]
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state is RunState.PARKED
        assert await bench.results(run) == ["look 1"]
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        assert await bench.results(run) == ["look 1", "the bell rang", "look 2"]
    assert len(setup.bell.rung) == 1


async def test_a_read_that_is_asked_about_waits_for_the_owner_and_is_made_once(setup: Setup) -> None:
    setup.config = '[[policy.rules]]\nverdict = "ask"\ntool = "look"\n'
    looks = look()
    setup.actor.add(says("", use("look", name="1")), says("done"))
    setup.tools = [looks]
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state is RunState.PARKED
        await bench.answer()
        assert await bench.results(run) == ["look 1"]
    assert len(looks.spans) == 1


async def test_nothing_after_finish_is_made(setup: Setup) -> None:
    looks = look()
    setup.actor.add(says("", use("finish", answer="all done"), use("look", name="late"), use("bell")))
    run, entries = await told(setup, looks)
    assert looks.spans == []
    assert setup.bell.rung == []
    assert len(results(entries)) == 1


async def test_turns_are_counted_by_the_transcript_whatever_a_crash_cut_off(setup: Setup) -> None:
    async def update(_real: object, _run: object) -> None:
        """The row never gets there."""

    async def holding(_prompt: Prompt) -> object:
        setup.actor.held.clear()
        return says("never heard")

    setup.hooks, setup.tools = {"runs": {"update": update}}, [look()]
    setup.actor.add(says("", use("look", name="1")), holding)  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).turns == 0
    setup.hooks = {}
    setup.actor.held.set()
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        await bench.quiet()
        assert (await bench.run(run)).turns == 2


@dataclass
class Command(Timed):
    """A command that ends, and fails."""

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        self.rung.append(context.call)
        return ToolAnswer("[exit 1]\n[no output]", failed=True)


class Rumour(Timed):
    """An effect that shows what a stranger wrote."""

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        return replace(await super().run(arguments, context), taint=Tier.PUBLIC)


async def test_what_an_effect_has_read_taints_its_run_in_the_transaction_of_its_outcome(setup: Setup) -> None:
    setup.actor.add(says("", use("rumour", name="1")), says("done"))
    setup.tools = [Rumour(ToolSpec("rumour", "Tells.", SCHEMA), True, Permission.NOTIFY)]
    setup.hooks = hanging("runs", "move_call", at=lambda _, state: state is CallState.SUCCEEDED, first=False)
    async with setup.running() as bench:
        run = str((await bench.engine.desk.tell("work", "app", folder=None))["run"])
        await asyncio.sleep(0.3)
        assert (await bench.calls(run, "rumour"))[0].state is CallState.SUCCEEDED
        assert (await bench.run(run)).taint is Tier.PUBLIC


async def test_a_run_that_is_stopped_in_the_middle_of_an_effect_leaves_it_unknown(setup: Setup) -> None:
    rings = ring()
    rings.stall = "after"
    setup.actor.add(says("", use("ring", name="1")), says("done"))
    setup.tools = [rings]
    async with setup.running() as bench:
        run = str((await bench.engine.desk.tell("work", "app", folder=None))["run"])
        await asyncio.sleep(0.3)
        assert (await bench.calls(run, "ring"))[0].state is CallState.INTENDED
        await bench.engine.desk.stop(run)
        assert (await bench.run(run)).state is RunState.CANCELLED
        assert (await bench.calls(run, "ring"))[0].state is CallState.UNKNOWN


async def test_an_answer_is_paid_for_while_its_calls_still_take_their_time(setup: Setup) -> None:
    slow = look()
    slow.stall = "before"
    setup.actor.add(says("", use("grep", pattern="x"), use("look", name="1")), says("done"))
    setup.tools = [slow]
    async with setup.running() as bench:
        run = str((await bench.engine.desk.tell("work", "app", folder=None))["run"])
        await asyncio.sleep(0.3)
        assert [row["outcome"] for row in await bench.stores.model_calls.of(run)] == ["ok"]
        assert [call.state for call in await bench.calls(run, "grep")] == [CallState.SUCCEEDED]


async def test_what_a_failed_command_cancels_stays_cancelled_over_a_kill(setup: Setup) -> None:
    command, rings = Command(ToolSpec("shell", "Runs.", SCHEMA), True, Permission.NOTIFY), ring()
    setup.actor.add(says("", use("shell", name="1"), use("ring", name="2")), says("done"))
    setup.tools = [command, rings]

    def has_ended(call: Call, state: CallState) -> bool:
        return call.tool == "shell" and state is CallState.SUCCEEDED

    setup.hooks = hanging("runs", "move_call", at=has_ended, first=False)
    async with setup.running() as bench:
        run = str((await bench.engine.desk.tell("work", "app", folder=None))["run"])
        await asyncio.sleep(0.3)
    setup.hooks = {}
    async with setup.running() as bench:
        await bench.quiet()
        _, told = results(await bench.stores.transcripts.read(run))
    assert (len(command.rung), rings.rung) == (1, [])
    assert told.startswith("not made: the shell before it failed")


async def test_reads_that_are_all_asked_about_have_one_row_each(setup: Setup) -> None:
    for number in range(3):
        setup.write(f"{number}.pem", "a key")
    setup.actor.add(says("", *(use("read", path=f"{number}.pem") for number in range(3))), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        for answered in range(3):
            rows = [call.state for call in await bench.calls(run, "read")]
            assert rows[answered] is CallState.PARKED
            await bench.answer()
            await bench.quiet()
        rows = [call.state for call in await bench.calls(run, "read")]
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert rows == [CallState.SUCCEEDED] * 3


async def test_words_that_were_cut_are_no_answer_and_a_refusal_is_none_either(setup: Setup) -> None:
    setup.actor.add((TextDelta("First I"), Done("length", Usage(9, 9))), says("", use("bell")), says("done"))
    setup.actor.add((TextDelta("I will not."), Done("refusal", Usage(9, 9))))
    async with setup.running() as bench:
        went_on, refused = await bench.run(await bench.tell()), await bench.run(await bench.tell())
    assert (went_on.state, went_on.result, went_on.turns) == (RunState.DONE_UNCHECKED, "done", 3)
    assert (refused.state, refused.result) == (RunState.FAILED, "the model refuses: I will not.")


@pytest.mark.parametrize("stall", ["before", "after"])
async def test_a_call_whose_words_cannot_be_stored_is_the_same_after_a_kill(setup: Setup, stall: str) -> None:
    rings = ring()
    rings.stall = stall
    breaking(setup, Cut(*calls_of(ToolUse("\ud800", "ring", {"name": "half a sign: \ud83d"}))))
    setup.tools = [rings]
    async with setup.running() as bench:
        run = str((await bench.engine.desk.tell("work", "app", folder=None))["run"])
        await asyncio.sleep(0.3)
    rings.stall = ""
    async with setup.running() as bench:
        await bench.quiet()
        calls = [call.id for call in await bench.stores.runs.calls(run)]
    assert rings.rung == calls
    assert len(calls) == 1
