"""Prompts: a prefix equal byte for byte over turns, midnight and runs, what breaks it named, and a digest behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.engine_bench import Bench, Setup, open_setup
from tests.fakes import says, use

from kairosd.core.exchanges import marks
from kairosd.core.levels import Level
from kairosd.core.memo import Memo
from kairosd.core.messages import Prompt
from kairosd.core.runs import RunState
from kairosd.core.toolsets import TOOL_SETS, choose
from kairosd.models.anthropic import _Messages
from kairosd.models.openai import ChatCompletions

pytestmark = pytest.mark.anyio

BROKEN = "prompt.prefix_broken"
LIMITS = "[limits]\nrun_turns = 100\n"


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        made.config = LIMITS
        yield made


def wire(prompt: Prompt, provider: str) -> dict[str, Any]:
    """The request as its bytes say it: keys in the order in which they are sent."""
    dialect = _Messages("m", "k") if provider == "anthropic" else ChatCompletions("m", "k")
    return dict(json.loads(dialect.call(prompt, frozenset()).content))


def prefix_bytes(prompt: Prompt, provider: str) -> str:
    """What stands before the conversation, as it is sent."""
    body = wire(prompt, provider)
    system = body["system"] if provider == "anthropic" else body["messages"][0]
    return json.dumps([body["tools"], system, body["max_tokens"]])


def journal(setup: Setup, kind: str) -> list[dict[str, Any]]:
    files = (setup.folder / "home/state/journal").rglob("*.jsonl")
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [line["data"] for line in map(json.loads, lines) if line["kind"] == kind]


def busy(setup: Setup, turns: int) -> None:
    """A run of so many turns, that looks at something else each time."""
    for number in range(turns - 1):
        setup.actor.add(says("", use("grep", pattern=f"bell {number}")))
    setup.actor.add(says("done"))


async def ended(bench: Bench, goal: str = "add a note") -> str:
    run = await bench.tell(goal)
    assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    return run


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_the_prefix_is_byte_equal_over_fifty_turns_over_midnight_and_over_runs(
    setup: Setup, provider: str
) -> None:
    setup.write("KAIROS.md", "Be brief.\n")
    setup.workspace = "trusted = true"
    async with setup.running() as bench:
        await bench.engine.desk.trust("app")
        busy(setup, 51)
        await ended(bench, "first")
        setup.clock.jump(86_400)  # another day
        busy(setup, 3)
        await ended(bench, "second")
    async with setup.running() as bench:
        busy(setup, 3)
        await ended(bench, "third")
    prompts = setup.actor.prompts
    assert len(prompts) == 57
    assert len({prefix_bytes(prompt, provider) for prompt in prompts}) == 1
    assert "Be brief." in prompts[0].system
    assert journal(setup, BROKEN) == []


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_each_prompt_of_a_run_begins_with_all_of_the_one_before(setup: Setup, provider: str) -> None:
    busy(setup, 12)
    async with setup.running() as bench:
        await ended(bench)
    sent = [wire(prompt, provider)["messages"] for prompt in setup.actor.prompts]
    plain = [json.dumps(messages).replace(', "cache_control": {"type": "ephemeral"}', "") for messages in sent]
    assert all(later.startswith(earlier[:-1]) for earlier, later in zip(plain, plain[1:], strict=False))


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_a_request_is_the_same_bytes_whether_the_ones_before_it_were_written_or_not(
    setup: Setup, provider: str
) -> None:
    """Each message is written once, also where compaction changes the ones before it."""
    setup.write("bells.txt", "bell\n" * 4000)
    setup.actor.context = 8192
    setup.actor.add(says("first", use("grep", pattern="bell"), use("read", path="bells.txt")))
    busy(setup, 12)
    async with setup.running() as bench:
        await ended(bench)
    dialect = _Messages("m", "k") if provider == "anthropic" else ChatCompletions("m", "k")
    prompts = setup.actor.prompts
    assert len({id(prompt.memo) for prompt in prompts}) == 1
    assert any(later.messages[:2] != prompts[0].messages[:2] for later in prompts[1:])
    for prompt in (*prompts, *reversed(prompts)):
        alone = replace(prompt, memo=Memo())
        assert dialect.call(prompt, frozenset()).content == dialect.call(alone, frozenset()).content
        assert marks(prompt) == marks(alone)


async def test_calls_come_back_in_the_order_they_were_written_also_after_a_restart(setup: Setup) -> None:
    setup.bell.stall = "before"
    setup.actor.add(says("", use("grep", pattern="bell", path="."), use("bell", note="x")), says("done"))
    async with setup.running() as bench:
        await bench.tell()
    setup.bell.stall = ""
    async with setup.running() as bench:
        await bench.quiet()
    first, _ = setup.actor.prompts[-1].messages[1].uses
    assert list(first.arguments) == ["pattern", "path"]


async def test_a_planted_break_is_named_by_its_section_once(setup: Setup) -> None:
    setup.workspace = "trusted = true"
    setup.write("KAIROS.md", "Be brief.\n")
    async with setup.running() as bench:
        await bench.engine.desk.trust("app")

        async def rewritten(_prompt: Prompt) -> object:
            setup.write("KAIROS.md", "Be long.\n")
            await bench.engine.desk.trust("app")
            return says("", use("grep", pattern="x"))

        setup.actor.add(says("", use("grep", pattern="y")), rewritten, says("", use("bell")), says("done"))  # type: ignore[arg-type]
        run = await ended(bench)
    (found,) = journal(setup, BROKEN)
    assert (found["sections"], found["role"], found["tool_set"]) == (["instructions"], "act", "work")
    assert run
    assert "Be brief." in setup.actor.prompts[1].system
    assert "Be long." in setup.actor.prompts[2].system


async def test_a_break_over_a_restart_is_named_too_and_other_prefixes_are_none(setup: Setup) -> None:
    busy(setup, 2)
    async with setup.running() as bench:
        await ended(bench)
    setup.bell.spec = replace(setup.bell.spec, description="Rings loudly.")
    busy(setup, 2)
    async with setup.running() as bench:
        await ended(bench)
    assert [each["sections"] for each in journal(setup, BROKEN)] == [["tools"]]
    setup.workspace = 'level = "observe"'
    busy(setup, 2)
    async with setup.running() as bench:
        await ended(bench)
    assert len(journal(setup, BROKEN)) == 1


async def test_a_run_keeps_the_tools_it_began_with(setup: Setup) -> None:
    setup.workspace = 'level = "sandboxed"'
    setup.bell.stall = "before"
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        await bench.tell("add a note")
    setup.bell.stall, setup.workspace = "", 'level = "observe"'
    async with setup.running() as bench:
        await bench.quiet()
    first, second = setup.actor.prompts
    assert first.tools == second.tools
    assert "write" in {tool.name for tool in first.tools}


async def test_a_lowered_level_counts_for_the_tools_of_a_run_that_has_not_begun(setup: Setup) -> None:
    setup.workspace = 'level = "sandboxed"'
    setup.actor.held.clear()
    setup.actor.add(says("never heard"), says("one"), says("two"))
    async with setup.running() as bench:
        await bench.tell("first")
        await bench.tell("second")
        await bench.engine.desk.set_level("app", "observe")
    setup.workspace = 'level = "observe"'
    setup.actor.held.set()
    async with setup.running() as bench:
        await bench.quiet()
    by_goal = {prompt.messages[0].text: prompt for prompt in setup.actor.prompts}
    assert "write" not in {tool.name for tool in by_goal["Goal: second"].tools}


def test_there_are_at_most_four_tool_sets_and_every_level_has_one() -> None:
    assert len(TOOL_SETS) <= 4
    assert {choose(level) for level in Level} <= set(TOOL_SETS)


# The digest.


async def test_the_workspace_is_shown_behind_the_goal_and_again_only_when_it_changed(setup: Setup) -> None:
    looks: list[str] = []

    async def described(*_given: object, **_named: object) -> str:
        return looks[-1]

    looks.append("branch main, nothing changed")
    async with setup.running() as bench:
        for place in bench.engine.dispatcher._places.values():
            place.repository.describe = described  # type: ignore[method-assign]

        async def later(_prompt: Prompt) -> object:
            await bench.setup.clock.advance(61)
            return says("", use("grep", pattern="again"))

        async def changed(_prompt: Prompt) -> object:
            looks.append("branch main, one file changed")
            await bench.setup.clock.advance(61)
            return says("", use("grep", pattern="once more"))

        setup.actor.add(says("", use("grep", pattern="x")), later, changed, says("done"))  # type: ignore[arg-type]
        await ended(bench)
    shown = [[message.digest for message in prompt.messages if message.digest] for prompt in setup.actor.prompts]
    assert [len(each) for each in shown] == [1, 1, 1, 2]
    assert "nothing changed" in setup.actor.prompts[0].messages[0].digest
    assert "one file changed" in setup.actor.prompts[3].messages[-1].digest
    assert setup.actor.prompts[3].messages[: len(setup.actor.prompts[2].messages)] == setup.actor.prompts[2].messages
