"""A command that merely lacks permission is answered with what to do instead; asked again, the owner is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine_bench import Setup, open_setup
from tests.fakes import says, use

from kairosd.core.events import Tier
from kairosd.core.messages import ToolUse
from kairosd.core.runs import CallState, ParkedOn, RunState

pytestmark = pytest.mark.anyio

REMOVE = use("shell", command="rm old.txt")
ASK = use("request_approval", command="rm old.txt", reason="nobody needs it")


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        made.workspace = 'level = "sandboxed"'
        made.write("old.txt", "old\n")
        yield made


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("rm old.txt", "it should go"),
        ("mkdir -p docs/api", "the tool write makes the folders"),
        ("touch new.txt", "the tool write"),
        ("find . -name '*.py' | xargs grep x", "name what it printed"),
        ("python3 -c 'print(1)'", "into a file with the tool write"),
        ("ruff check --fix .", "--diff"),
        ("curl https://example.org", "the tools read, glob, grep"),
        ("./run.sh", "python FILE"),
    ],
)
async def test_the_first_time_it_is_told_what_to_do_instead(setup: Setup, line: str, told: str) -> None:
    setup.actor.add(says("", use("shell", command=line)), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        (call,) = await bench.calls(run, "shell")
        assert call.state is CallState.DENIED
        assert call.result.startswith("refused: ")
        assert told in call.result
        assert "make the same call again" in call.result
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        assert await bench.notices() == [] or all("asks" not in one.title for one in await bench.notices())


async def test_the_same_call_again_asks_the_owner_also_after_a_restart(setup: Setup) -> None:
    setup.actor.add(says("", REMOVE), says("", use("bell")))
    setup.config = '[[policy.rules]]\nverdict = "ask"\ntool = "bell"\n'
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).parked_on is ParkedOn.APPROVAL, "the bell is asked about"
    setup.actor.add(says("", REMOVE))
    async with setup.running() as bench:
        await bench.answer(approve=False)
        first, again = await bench.calls(run, "shell")
        assert (first.state, again.state) == (CallState.DENIED, CallState.PARKED)
        assert "rm old.txt" in str((await bench.question())["question"])


async def test_two_of_them_in_one_turn_are_both_told(setup: Setup) -> None:
    setup.actor.add(says("", REMOVE, replace(REMOVE, id="second")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        assert [call.state for call in await bench.calls(run, "shell")] == [CallState.DENIED] * 2


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        ('[policy]\nask = ["rm"]\n', REMOVE),
        ('[[policy.rules]]\nverdict = "ask"\nargv = "rm"\n', REMOVE),
        ('[[policy.rules]]\nverdict = "ask"\ntool = "shell"\n', REMOVE),
        ("", use("shell", command="rm .github/workflows/ci.yml")),
        ("", use("shell", command="cat .env")),
        ("", ASK),
    ],
)
async def test_what_somebody_wants_to_be_asked_about_is_asked_at_once(
    setup: Setup, config: str, asked: ToolUse
) -> None:
    setup.config = config
    setup.write(".env", "KEY=x\n")
    setup.actor.add(says("", asked))
    async with setup.running() as bench:
        assert (await bench.run(await bench.tell())).parked_on is ParkedOn.APPROVAL
        await bench.question()


async def test_a_collaborators_words_never_end_in_a_question_but_by_a_reason(setup: Setup) -> None:
    """Nobody waits for the run that a comment has started."""

    async def tainted(real: object, run: str, now: object) -> object:
        started = await real(run, now)  # type: ignore[operator]
        return replace(started, taint=Tier.COLLABORATOR) if started else None

    setup.hooks = {"runs": {"start": tainted}}
    tests = use("shell", command="pytest -q")
    setup.actor.add(says("", tests), says("", tests), says("", ASK))
    async with setup.running() as bench:
        run = await bench.tell()
        first, again = await bench.calls(run, "shell")
        assert (first.state, again.state) == (CallState.DENIED, CallState.DENIED)
        assert "say what you could not check" in again.result
        (asked,) = await bench.calls(run, "request_approval")
        assert asked.state is CallState.PARKED
