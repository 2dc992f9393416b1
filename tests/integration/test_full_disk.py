"""A disk that takes no more for a moment: what a run has read and done is written as soon as there is room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.engine_bench import Setup, open_setup
from tests.fakes import says, use

from kairosd.core.events import Tier
from kairosd.core.json import JsonObject
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec
from kairosd.core.runs import Call, CallState, Run, RunState
from kairosd.errors import DiskFullError
from kairosd.ports import ToolAnswer, ToolContext

pytestmark = pytest.mark.anyio


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


@dataclass
class Hearsay:
    """A tool that only reads, and finds what somebody of `tier` wrote."""

    tier: Tier | None = None

    spec = ToolSpec("hear", "Hears.", {"type": "object", "properties": {"milliseconds": {"type": "integer"}}})
    permission = Permission.READ
    effect = False
    escalates = False

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        return ()

    def commands(self, arguments: JsonObject) -> None:
        return None

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        await asyncio.sleep(int(str(arguments.get("milliseconds", 0))) / 1000)
        return ToolAnswer("so they say", taint=self.tier)


async def test_no_result_of_a_strangers_word_is_on_disk_before_its_taint(setup: Setup) -> None:
    """Neither that of the call which lowered it, nor of one beside it that found it lowered already."""
    seen: list[Tier] = []

    async def update(real: Callable[..., Awaitable[None]], run: Run) -> None:
        await asyncio.sleep(0.1)
        await real(run)

    async def append(real: Callable[..., Awaitable[None]], run: str, *entries: JsonObject) -> None:
        if any(entry["kind"] == "result" for entry in entries):
            seen.append((await bench.run(run)).taint)
        await real(run, *entries)

    setup.tools = [Hearsay(Tier.PUBLIC)]  # type: ignore[list-item]
    setup.hooks = {"runs": {"update": update}, "transcripts": {"append": append}}
    setup.actor.add(says("", use("hear", milliseconds=30), use("hear", milliseconds=0)), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.advance(60)
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert seen
    assert set(seen) == {Tier.PUBLIC}


async def test_a_read_whose_row_the_disk_refused_is_written_before_the_next_prompt(setup: Setup) -> None:
    """And the request that was under way by then is not given up, nor made again."""
    refusals, before_third = [DiskFullError("the disk is full")], list[CallState]()

    def end_look(real: Callable[..., asyncio.Future[Call]], *given: object, **named: object) -> asyncio.Future[Call]:
        if not refusals:
            return real(*given, **named)
        loop = asyncio.get_running_loop()
        refused: asyncio.Future[Call] = loop.create_future()
        loop.call_later(0.02, refused.set_exception, refusals.pop())
        return refused

    async def third(_: object) -> object:
        (run,) = await bench.stores.runs.in_state(RunState.RUNNING)
        before_third.extend(call.state for call in await bench.stores.runs.calls(run.id))
        return says("done")

    async def second(_: object) -> object:
        await asyncio.sleep(0.1)  # it is still at it when the row fails
        return says("", use("bell"))

    setup.tools = [Hearsay()]  # type: ignore[list-item]
    setup.hooks = {"runs": {"end_look": end_look}}  # type: ignore[dict-item]
    setup.actor.add(says("", use("hear")), second, third)  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert len(setup.actor.prompts) == 3
    assert before_third == [CallState.SUCCEEDED, CallState.SUCCEEDED]


async def test_a_row_that_the_disk_refuses_beside_a_request_costs_no_request(setup: Setup) -> None:
    """What was answered is taken, and what could not be written is, before anything else is asked."""
    refusals: list[DiskFullError] = []
    seen: list[int] = []

    async def update(real: Callable[..., Awaitable[None]], run: Run) -> None:
        if refusals:
            raise refusals.pop()
        await real(run)

    async def first(_: object) -> object:
        refusals.append(DiskFullError("the disk is full"))
        return says("", use("hear"))

    async def second(_: object) -> object:
        await asyncio.sleep(0.1)
        seen.append(len(refusals))
        return says("done")

    setup.tools = [Hearsay()]  # type: ignore[list-item]
    setup.hooks = {"runs": {"update": update}}
    setup.actor.add(first, second)  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        assert [call.state for call in await bench.calls(run, "hear")] == [CallState.SUCCEEDED]
    assert len(setup.actor.prompts) == 2
    assert seen == [0]
