"""Answers from afar: when a channel is listened to, what counts of what it says, and what a broken one costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.engine_bench import Bench, Setup, open_setup
from tests.fakes import says, settle, use

from kairosd.core.notices import Severity
from kairosd.core.runs import ApprovalState
from kairosd.engine.notices import Channel
from kairosd.engine.privacy import Privacy
from kairosd.errors import NotifierError
from kairosd.ports import Heard, Query

pytestmark = pytest.mark.anyio

PROTECTED = use("write", path=".github/workflows/x.yml", content="on: push\n")
ASK_BELL = '[[policy.rules]]\nverdict = "ask"\ntool = "bell"\n'
OPEN = "whoever knows its topic may write to it"


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


@dataclass
class Topic:
    """A transport that keeps what was said, tells it from a message on, and breaks when the test says so.

    `forgetful` = it knows no message by its id, and tells them all again.
    """

    forgetful: bool = False
    said: list[Heard | Exception] = field(default_factory=list)
    since: list[str] = field(default_factory=list)
    listeners: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, what: str | Exception, at: datetime) -> None:
        self.said.append(what if isinstance(what, Exception) else Heard(f"m{len(self.said)}", what, at))
        self.more.set()

    async def answers(self, since: str) -> AsyncGenerator[Heard, None]:
        self.since.append(since)
        self.listeners += 1
        try:
            known = [one.id for one in self.said if isinstance(one, Heard)]
            told = {*known[: known.index(since) + 1]} if since in known and not self.forgetful else set[str]()
            while True:
                for one in tuple(self.said):
                    if isinstance(one, Exception):
                        self.said.remove(one)
                        raise one
                    if one.id not in told:
                        told.add(one.id)
                        yield one
                self.more.clear()
                await self.more.wait()
        finally:
            self.listeners -= 1


@asynccontextmanager
async def listening(setup: Setup, topic: Topic, *, tried: bool = True) -> AsyncIterator[tuple[Bench, Channel]]:
    """The engine with an ear on the topic, as the channel `ntfy`."""
    channel = Channel("ntfy", Severity.LOW, lambda: None, answers=topic.answers)  # type: ignore[arg-type, return-value]
    setup.channels = [channel]
    if tried:
        channel.tried.set()
    async with setup.running() as bench, heard_by(bench, topic):
        yield bench, channel


@asynccontextmanager
async def heard_by(bench: Bench, topic: Topic) -> AsyncIterator[None]:
    work = asyncio.ensure_future(bench.engine.replies.run(bench.engine.desk.answer))
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert topic.listeners == 0


async def asked(bench: Bench) -> str:
    bench.setup.actor.add(says("", PROTECTED), says("done"))
    await bench.tell()
    return str((await bench.question())["code"])


async def moves(bench: Bench) -> None:
    """Threads and tasks have had their turn."""
    for _ in range(20):
        await settle()
        await asyncio.sleep(0.005)
    await bench.quiet()


async def states(bench: Bench) -> list[ApprovalState]:
    return [one.state for one in reversed(await bench.stores.approvals.find(Query()))]


async def test_a_channel_is_listened_to_only_while_a_question_is_open(setup: Setup) -> None:
    topic = Topic()
    async with listening(setup, topic) as (bench, _):
        await moves(bench)
        assert topic.since == []
        code = await asked(bench)
        await moves(bench)
        assert topic.listeners == 1
        topic.say(f"no {code}", setup.clock.now())
        await moves(bench)
        assert await states(bench) == [ApprovalState.DENIED]
        assert topic.listeners == 0
        await asked(bench)
        await moves(bench)
        assert topic.listeners == 1
        await bench.answer(False)
        await moves(bench)
        assert topic.listeners == 0


async def test_what_was_said_before_the_question_or_heard_already_does_nothing(setup: Setup) -> None:
    topic = Topic()
    async with listening(setup, topic) as (bench, _):
        code = await asked(bench)
        now = setup.clock.now()
        topic.say(f"no {code}", now - timedelta(seconds=5))
        topic.say("hello", now)
        await moves(bench)
        assert await states(bench) == [ApprovalState.OPEN]
        topic.say(f"no {code}", now)
        topic.say(f"no {code}", now)
        await moves(bench)
        other = await asked(bench)
        await moves(bench)
        topic.say(f"no {code}", setup.clock.now())
        await moves(bench)
        assert await states(bench) == [ApprovalState.DENIED, ApprovalState.OPEN]
        topic.say(f"no {other}", setup.clock.now())
        await moves(bench)
        assert await states(bench) == [ApprovalState.DENIED, ApprovalState.DENIED]


async def test_a_transport_that_breaks_is_tried_again_from_where_it_was_ever_slower(setup: Setup) -> None:
    topic = Topic()
    async with listening(setup, topic) as (bench, channel):
        code = await asked(bench)
        topic.say("hello", setup.clock.now())
        await moves(bench)
        for _ in range(3):
            topic.say(NotifierError("it cannot be reached"), setup.clock.now())
            topic.more.set()
            await moves(bench)
            assert channel.deaf is not None
            await bench.advance(4)
            await moves(bench)
        assert topic.since[0].isdigit()
        assert topic.since[1:] == ["m0", "m0", "m0"]
        topic.say(f"no {code}", setup.clock.now())
        await moves(bench)
        assert await states(bench) == [ApprovalState.DENIED]
        assert channel.deaf is None


async def test_a_yes_that_does_not_count_is_told_once(setup: Setup) -> None:
    topic = Topic()
    setup.privacy.proven.add("ntfy")
    async with listening(setup, topic) as (bench, _):
        code = await asked(bench)
        topic.say(f"yes {code}", setup.clock.now())
        topic.say(f"allow {code}", setup.clock.now())
        await moves(bench)
        assert await states(bench) == [ApprovalState.OPEN]
        told = {one.key: one.body for one in await bench.notices() if one.key.startswith("refused:ntfy:a_")}
    assert [f"kairos approve {code}" in body for body in told.values()] == [True]


async def test_nothing_is_heard_before_it_was_tried_who_else_may_speak(setup: Setup) -> None:
    topic = Topic()
    async with listening(setup, topic, tried=False) as (bench, channel):
        code = await asked(bench)
        topic.say(f"no {code}", setup.clock.now())
        await moves(bench)
        assert topic.since == []
        channel.tried.set()
        await moves(bench)
        assert await states(bench) == [ApprovalState.DENIED]


# Who else may speak, and since when.


@dataclass
class Looks:
    """What each look at the channel sees: words, or an error; the last one again and again."""

    seen: list[str | Exception]

    async def __call__(self) -> str:
        found = self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]
        if isinstance(found, Exception):
            raise found
        return found


@asynccontextmanager
async def looked_at(
    setup: Setup, topic: Topic, *seen: str | Exception, place: str = "here"
) -> AsyncIterator[tuple[Bench, Channel]]:
    """A start of the engine with an ear on the topic, whose strangers are looked for."""
    channel = Channel("ntfy", Severity.LOW, lambda: None, strangers=Looks([*seen]), answers=topic.answers, place=place)  # type: ignore[arg-type, return-value]
    setup.channels, setup.config = [channel], ASK_BELL
    setup.privacy = Privacy([channel], setup.clock)
    proving = asyncio.ensure_future(setup.privacy.run())
    async with setup.running() as bench, heard_by(bench, topic):
        await moves(bench)
        yield bench, channel
    proving.cancel()
    await asyncio.gather(proving, return_exceptions=True)


async def rings(bench: Bench) -> str:
    """The code of a question about a call that a phone may allow."""
    bench.setup.actor.add(says("", use("bell")), says("done"))
    await bench.tell()
    return str((await bench.question())["code"])


@pytest.mark.parametrize("forgetful", [False, True])
async def test_a_yes_that_was_refused_does_not_count_after_the_next_start(setup: Setup, forgetful: bool) -> None:
    topic = Topic(forgetful)
    async with looked_at(setup, topic, OPEN) as (bench, _):
        code = await rings(bench)
        await bench.advance(10)
        topic.say(f"yes {code}", setup.clock.now())
        await moves(bench)
        assert await states(bench) == [ApprovalState.OPEN]
    await setup.clock.advance(60)
    async with looked_at(setup, topic, "") as (bench, channel):
        await moves(bench)
        assert channel.private
        assert await states(bench) == [ApprovalState.OPEN]
        assert setup.bell.rung == []
        await bench.advance(10)
        topic.say(f"yes {code}", setup.clock.now())
        await moves(bench)
        assert len(setup.bell.rung) == 1


@pytest.mark.parametrize(("place", "counts"), [("here", True), ("elsewhere", False)])
async def test_a_yes_given_while_kairos_was_away_counts_where_strangers_were_kept_out_before(
    setup: Setup, place: str, counts: bool
) -> None:
    topic = Topic()
    async with looked_at(setup, topic, "") as (bench, _):
        code = await rings(bench)
    await setup.clock.advance(60)
    topic.say(f"yes {code}", setup.clock.now())
    await setup.clock.advance(60)
    async with looked_at(setup, topic, "", place=place) as (bench, _):
        await moves(bench)
        assert len(setup.bell.rung) == int(counts)
        told = [one.body for one in await bench.notices() if one.key.startswith("refused:")]
        assert {"before ntfy was seen to be closed" in body for body in told} == ({True} if not counts else set())


async def test_a_topic_that_was_opened_says_no_more_yes_and_still_no(setup: Setup) -> None:
    topic = Topic()
    async with looked_at(setup, topic, "", OPEN) as (bench, channel):
        assert channel.private
        code = await rings(bench)
        await bench.advance(10)
        topic.say(f"yes {code}", setup.clock.now())
        await moves(bench)
        assert (channel.private, setup.privacy.proven) == (False, set())
        assert await states(bench) == [ApprovalState.OPEN]
        topic.say(f"no {code}", setup.clock.now())
        await moves(bench)
        assert await states(bench) == [ApprovalState.DENIED]
    await setup.clock.advance(60)
    async with looked_at(setup, topic, "") as (bench, _):
        code = await rings(bench)
        topic.say(f"yes {code}", setup.clock.now())
        await moves(bench)
        assert setup.bell.rung == [], "closed anew, it is not closed for long"


async def test_a_yes_waits_until_it_is_seen_who_else_may_speak(setup: Setup) -> None:
    topic, away = Topic(), NotifierError("it cannot be reached")
    async with looked_at(setup, topic, "") as (bench, _):
        code = await rings(bench)
    await setup.clock.advance(60)
    async with looked_at(setup, topic, away, away, away, "") as (bench, _):
        topic.say(f"yes {code}", setup.clock.now())
        await moves(bench)
        assert await states(bench) == [ApprovalState.OPEN]
        for _ in range(8):
            await bench.advance(1)
            await moves(bench)
        assert len(setup.bell.rung) == 1


async def test_a_look_that_never_succeeds_does_not_hold_up_a_no(setup: Setup) -> None:
    topic = Topic()
    async with looked_at(setup, topic, NotifierError("429")) as (bench, _):
        code = await rings(bench)
        topic.say(f"yes {code}", setup.clock.now())
        topic.say(f"no {code}", setup.clock.now())
        await moves(bench)
        assert await states(bench) == [ApprovalState.DENIED]


# What is said too often.


@pytest.mark.parametrize(("apart", "heard"), [(3600, True), (2, False)])
async def test_typos_count_as_guesses_by_when_they_were_said(setup: Setup, apart: int, heard: bool) -> None:
    topic = Topic()
    async with looked_at(setup, topic, "") as (bench, _):
        code = await rings(bench)
    for guess in ("bbbbb", "ccccc", "ddddd", "fffff", "ggggg"):
        await setup.clock.advance(apart)
        topic.say(f"yes {guess}", setup.clock.now())
    topic.say(f"no {code}", setup.clock.now())
    async with looked_at(setup, topic, "") as (bench, _):
        await moves(bench)
        assert await states(bench) == [ApprovalState.DENIED if heard else ApprovalState.OPEN]


async def test_a_flood_of_refused_answers_is_told_once_and_keeps_nothing(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    topic, queued = Topic(), 0

    async def count(real: Callable[..., Awaitable[object]], *given: object) -> object:
        nonlocal queued
        queued += 1
        return await real(*given)

    setup.hooks["notices"] = {"queue": count}
    async with looked_at(setup, topic, OPEN) as (bench, _):
        code = await rings(bench)
        before = queued
        with caplog.at_level(logging.INFO, logger="kairosd.replies"):
            for _ in range(50):
                topic.say(f"yes {code}", setup.clock.now())
                topic.say("no bbbbb", setup.clock.now())
            await moves(bench)
        assert len([one for one in caplog.records if one.name == "kairosd.replies"]) == 1
        assert queued - before == 2, "the refusal, and that the channel is silenced"
        assert bench.outbox._drafts == []
