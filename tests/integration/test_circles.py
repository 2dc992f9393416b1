"""A run that goes round in circles: what counts as the same call again, what does not, and over a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine_bench import Setup, open_setup
from tests.fakes import ScriptStep, says, use

from kairosd.core.messages import ToolUse
from kairosd.core.runs import RunState
from kairosd.core.workspaces import Workspace
from kairosd.engine.circles import FIRST_TOLD, MAX_REPEATS
from kairosd.engine.commands import changes
from kairosd.tools import shell

pytestmark = pytest.mark.anyio

READ = use("read", path="README.md")
LIST = use("glob", pattern="*")
TOLD = "just made this very call"


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


def write(number: int) -> ToolUse:
    return use("write", path=f"{number}.txt", content="x")


def round_and_round(setup: Setup, *calls: ToolUse, times: int) -> None:
    for _ in range(times):
        setup.actor.add(*(says("", use(call.name, **call.arguments)) for call in calls))


async def test_two_calls_in_turn_are_a_circle(setup: Setup) -> None:
    round_and_round(setup, READ, LIST, times=MAX_REPEATS)
    async with setup.running() as bench:
        run = await bench.tell()
        told = await bench.results(run)
        found = await bench.run(run)
    assert [TOLD in text for text in told] == [False] * 2 * (FIRST_TOLD - 1) + [True] * (len(told) - 4)
    assert (found.state, found.turns) == (RunState.FAILED, 2 * MAX_REPEATS - 1)
    assert "the same call 6 times: read" in found.result


async def test_so_are_several_calls_of_one_turn(setup: Setup) -> None:
    setup.actor.add(says("", *(use("read", path="README.md") for _ in range(MAX_REPEATS))))
    async with setup.running() as bench:
        run = await bench.tell()
        assert [TOLD in text for text in await bench.results(run)] == [False, False, True, True, True]
        assert (await bench.run(run)).state is RunState.FAILED


async def test_calls_of_a_tool_that_is_not_there_are_a_circle_too(setup: Setup) -> None:
    round_and_round(setup, use("fly"), LIST, times=MAX_REPEATS)
    async with setup.running() as bench:
        found = await bench.run(await bench.tell())
    assert (found.state, found.turns) == (RunState.FAILED, 2 * MAX_REPEATS - 1)


async def test_looking_again_after_a_change_is_no_circle(setup: Setup) -> None:
    for number in range(MAX_REPEATS + 1):
        setup.actor.add(says("", use("read", path="README.md"), write(number)))
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        assert not any(TOLD in text for text in await bench.results(run))
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED


async def test_a_change_that_failed_changed_nothing(setup: Setup) -> None:
    wrong = use("edit", path="README.md", old="not in it", new="x")
    round_and_round(setup, READ, wrong, times=MAX_REPEATS)
    async with setup.running() as bench:
        found = await bench.run(await bench.tell())
    assert (found.state, found.turns) == (RunState.FAILED, 2 * MAX_REPEATS - 1)


async def test_an_effect_does_not_excuse_itself(setup: Setup) -> None:
    round_and_round(setup, use("bell", note="1"), READ, times=MAX_REPEATS)
    async with setup.running() as bench:
        found = await bench.run(await bench.tell())
    assert "the same call 6 times: bell" in found.result
    assert len(setup.bell.rung) == FIRST_TOLD - 1


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("git status", False),
        ("cat README.md | head -3; pytest -q", False),
        ("mkdir -p new", True),
        ("pytest -q && mkdir new", True),
        ("unheard-of", True),
        ("echo $(id)", False),
    ],
)
def test_of_commands_those_that_read_or_run_the_workspaces_tests_change_nothing(line: str, changed: bool) -> None:
    workspace = Workspace("app", Path("/app"))
    assert changes(shell.build(), {"command": line}, workspace=workspace) is changed


async def test_a_restart_does_not_begin_to_count_anew(setup: Setup) -> None:
    round_and_round(setup, READ, LIST, times=FIRST_TOLD)

    async def holding(_prompt: object) -> ScriptStep:
        setup.actor.held.clear()
        return says("never said")

    setup.actor.add(holding)
    async with setup.running() as bench:
        run = await bench.tell()
    setup.actor.held.set()
    round_and_round(setup, READ, LIST, times=MAX_REPEATS)
    async with setup.running() as bench:
        await bench.quiet()
        found = await bench.run(run)
    assert found.state is RunState.FAILED
    assert found.turns == 2 * MAX_REPEATS - 1
