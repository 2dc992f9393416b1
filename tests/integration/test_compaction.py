"""Compaction in runs: long runs fit small windows, and the transcript, a restart and the caches never notice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from tests import engine_bench
from tests.engine_bench import Setup, open_setup
from tests.fakes import ScriptStep, says, use

from kairosd.core.messages import Message, Prompt, StreamPart
from kairosd.core.runs import RunState
from kairosd.core.tokens import estimate_message, estimate_prompt, estimate_text
from kairosd.engine.compactor import FAILURES_MAX
from kairosd.errors import ContextTooLongError, ModelProtocolError

pytestmark = pytest.mark.anyio

LINE = "the clapper of the bell swings against its rim and nobody hears it ring tonight\n"
LINES = 900
SUMMARY = "Done: notes were written. Found: the clapper swings. Next: finish."


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        made.write("big.txt", LINE * LINES)
        yield made


class Brain:
    """Reads on and on and writes notes, `turns` times, then says so.

    It is summed up as `summaries` say, then as SUMMARY. `hold` is cleared before it answers turn `hang_at`.
    """

    def __init__(self, turns: int, *, reads: int, note: int = 0) -> None:
        self.turns = turns
        self.reads = reads
        self.note = note
        self.hang_at = -1
        self.hold: asyncio.Event | None = None
        self.done = 0
        self.summed = 0
        self.summaries: list[ScriptStep] = []

    async def __call__(self, prompt: Prompt) -> Sequence[StreamPart] | Exception:
        if not prompt.tools:
            self.summed += 1
            step = self.summaries.pop(0) if self.summaries else says(SUMMARY)
            assert isinstance(step, (Sequence, Exception))
            return step
        if self.done == self.hang_at and self.hold:
            self.hold.clear()
            return says("never heard")
        if self.done == self.turns:
            return says("I have read it all.")
        self.done += 1
        first = [1 + (self.done * self.reads + number) * 7 % (LINES - 200) for number in range(self.reads)]
        uses = [use("read", path="big.txt", from_line=line) for line in first]
        notes = [use("write", path=f"notes/{self.done}.md", content="ring " * (self.note // 5))] if self.note else []
        return says(f"Now to line {first[0]}.", *uses, *notes)


def fits(prompt: Prompt, window: int) -> bool:
    return estimate_prompt(prompt) + prompt.max_tokens <= window


def is_whole(messages: Sequence[Message]) -> bool:
    pairs = zip(messages, [*messages[1:], Message("user")], strict=True)
    return all([one.id for one in asked.uses] == [one.id for one in answered.results] for asked, answered in pairs)


def turns_of(setup: Setup) -> list[Prompt]:
    return [prompt for prompt in setup.actor.prompts if prompt.tools]


def breaks(prompts: Sequence[Prompt]) -> int:
    """How often a prompt does not begin with the whole one before."""
    return sum(other.messages[: len(one.messages)] != one.messages for one, other in pairwise(prompts))


def said_in(setup: Setup) -> int:
    """Tokens of the longest thing a model could have been shown: the whole transcript."""
    (path,) = (setup.folder / "home/transcripts").iterdir()
    return sum(estimate_text(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    ("window", "reads", "note", "total", "most_breaks"),
    [(200_000, 10, 12_000, 2_000_000, 28), (8192, 2, 1000, 100_000, 38)],
)
async def test_a_run_far_longer_than_the_window_finishes(
    setup: Setup, window: int, reads: int, note: int, total: int, most_breaks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_bench, "PATIENCE", 120.0)  # hundreds of real calls
    setup.actor.context = window
    brain = Brain(38, reads=reads, note=note)
    setup.actor.add(*[brain] * 80)
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("read it all"))
    assert (run.state, run.result.splitlines()[0]) == (RunState.DONE_UNCHECKED, "I have read it all.")
    assert said_in(setup) >= total
    assert all(fits(prompt, window) for prompt in setup.actor.prompts)
    prompts = turns_of(setup)
    assert all(is_whole(prompt.messages) for prompt in prompts)
    assert all(prompt.messages[0].text.startswith("Goal: read it all") for prompt in prompts)
    assert all(prompt.messages[-1].results for prompt in prompts[1:])
    assert all((one.system, one.tools) == (prompts[0].system, prompts[0].tools) for one in prompts)
    # Beside all tools a small window has no room in which a summary would gain anything: a list of the calls must do.
    assert (SUMMARY if brain.summed else "earlier calls left out") in prompts[-1].messages[0].text
    assert brain.summed >= 1 or window == 8192
    assert breaks(prompts) <= most_breaks


async def test_a_summary_is_asked_without_tools_and_paid_for(setup: Setup) -> None:
    setup.actor.context = 12_000
    brain = Brain(20, reads=1, note=2000)
    setup.actor.add(*[brain] * 60)
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
        calls = await bench.stores.transcripts.read(run.id)
    asked = [prompt for prompt in setup.actor.prompts if not prompt.tools]
    assert len(asked) == brain.summed >= 1
    assert all(prompt.form is None and len(prompt.messages) == 1 for prompt in asked)
    assert run.tokens == 110 * len(setup.actor.prompts)
    assert run.turns == len(turns_of(setup)) == 21
    assert [entry["text"] for entry in calls if entry["kind"] == "summary"] == [SUMMARY] * brain.summed


@pytest.mark.parametrize(("window", "hang_at"), [(16_000, 20), (32_000, 20), (32_000, 21), (32_000, 22)])
async def test_after_a_restart_the_prompt_is_the_same_and_the_transcript_only_grows(
    setup: Setup, window: int, hang_at: int
) -> None:
    setup.actor.context = window
    brain = Brain(24, reads=1, note=2000)
    brain.hang_at, brain.hold = hang_at, setup.actor.held
    setup.actor.add(*[brain] * 80)
    async with setup.running() as bench:
        run = await bench.tell()
        before = setup.actor.prompts[-1]
    assert brain.summed >= 1
    assert SUMMARY in before.messages[0].text
    summed = brain.summed
    (path,) = (setup.folder / "home/transcripts").iterdir()
    written = path.read_bytes()
    brain.hang_at = -1
    setup.actor.held.set()
    setup.actor.prompts.clear()
    async with setup.running() as bench:
        await bench.quiet()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    again = setup.actor.prompts[0]
    assert replace(again, messages=()) == replace(before, messages=())
    assert again.messages[: len(before.messages)] == before.messages
    assert "you were away" in again.messages[-1].text  # all that is new
    assert len(again.messages) == len(before.messages) + 1
    assert path.read_bytes().startswith(written)
    assert len(path.read_bytes()) > len(written)
    kinds = [json.loads(line)["kind"] for line in written.splitlines()]
    assert kinds.count("summary") == summed
    full = [json.loads(line)["text"] for line in written.splitlines() if json.loads(line)["kind"] == "result"]
    assert sum("characters left out" in text or "was left out" in text for text in full) == 0


async def test_after_three_failed_summaries_no_more_are_asked_for_and_the_run_goes_on(setup: Setup) -> None:
    setup.actor.context = 12_000
    brain = Brain(30, reads=1, note=2000)
    brain.summaries = [ModelProtocolError("an empty answer"), says(" "), ContextTooLongError()]
    setup.actor.add(*[brain] * 80)
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
        entries = await bench.stores.transcripts.read(run.id)
    assert run.state is RunState.DONE_UNCHECKED
    assert brain.summed == FAILURES_MAX
    assert len([entry for entry in entries if entry.get("failed")]) == FAILURES_MAX
    prompts = turns_of(setup)
    assert all(fits(prompt, 12_000) and is_whole(prompt.messages) for prompt in prompts)
    assert "earlier calls left out" in prompts[-1].messages[0].text


async def test_a_prompt_that_the_provider_finds_too_long_is_asked_again_shorter(setup: Setup) -> None:
    brain = Brain(5, reads=2)
    setup.actor.add(*[brain] * 4, ContextTooLongError(), *[brain] * 10)
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
        notices = await bench.notices()
    assert run.state is RunState.DONE_UNCHECKED
    assert run.turns == 6
    refused, again = setup.actor.prompts[4:6]
    assert estimate_prompt(again) < estimate_prompt(refused)
    assert sum(map(estimate_message, again.messages)) <= sum(map(estimate_message, refused.messages)) // 2 + 200
    assert is_whole(again.messages)
    assert again.messages[0].text.startswith(refused.messages[0].text)
    assert all(estimate_prompt(later) < estimate_prompt(refused) for later in setup.actor.prompts[5:])
    assert not any("does not answer" in notice.title for notice in notices)


async def test_a_prompt_that_stays_too_long_ends_the_run_and_says_so(setup: Setup) -> None:
    setup.actor.add(Brain(1, reads=2), ContextTooLongError(fix="choose a larger one"), ContextTooLongError())
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
    assert run.state is RunState.FAILED
    assert "larger than the model's context window" in run.result


async def test_a_goal_that_alone_is_too_long_is_asked_once(setup: Setup) -> None:
    setup.actor.add(ContextTooLongError())
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("ring " * 100))
    assert (run.state, len(setup.actor.prompts)) == (RunState.FAILED, 1)


async def test_what_a_model_is_no_longer_shown_it_may_look_at_again(setup: Setup) -> None:
    setup.actor.context = 8192
    looks = [use("read", path="big.txt", from_line=1 + 100 * (number % 4)) for number in range(28)]
    setup.actor.add(*[says("", look) for look in looks], says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        told = await bench.results(run)
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert not any("just made this very call" in text for text in told)
